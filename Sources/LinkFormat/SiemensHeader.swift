/// Where everything lies in the header of the Siemens dialect, at the start of the read/write
/// section. `docs/siemens.md` holds the same table; a test compares them.
///
/// There is no specification: the Linux driver `virtio_ivshmem` is what decides.
public enum SiemensHeader {
  /// The revision that is in use.
  public static let revision: UInt32 = 1
  /// The State of a side that takes part; every other value is "not there".
  public static let ready: UInt32 = 1
  /// Where the configuration space of the device starts.
  public static let configuration = 0x4c
  /// The bank that ``Field/queueSelector`` switches: these offsets belong to one queue.
  public static let bank = 0x20..<0x40

  /// The fields; a write transaction names one by its offset.
  public enum Field: Int, Sendable {
    /// u32, back-end: ``SiemensHeader/revision``.
    case revision = 0x00
    /// u32, back-end: bytes of the header with the configuration space.
    case size = 0x04
    /// u32: 0, or the offset the front-end has just written; the back-end clears it.
    case writeTransaction = 0x08
    /// u32, back-end: offered features, the word chosen by the next field.
    case deviceFeatures = 0x0c
    /// u32, front-end.
    case deviceFeaturesSelector = 0x10
    /// u32, front-end: accepted features, the word chosen by the next field.
    case driverFeatures = 0x14
    /// u32, front-end.
    case driverFeaturesSelector = 0x18
    /// u32, front-end: which queue the bank shows.
    case queueSelector = 0x1c
    /// u16: the back-end shows the maximum, the front-end overwrites it with its choice.
    case queueSize = 0x20
    /// u16, back-end: the vector the front-end rings for this queue.
    case queueDeviceVector = 0x22
    /// u16, front-end: the vector the back-end rings for this queue.
    case queueDriverVector = 0x24
    /// u16: 1 makes the queue, 0 stops it.
    case queueEnable = 0x26
    /// u64, front-end: the descriptor table, from the start of the section.
    case queueDescriptors = 0x28
    /// u64, front-end: the available ring.
    case queueDriver = 0x30
    /// u64, front-end: the used ring.
    case queueDevice = 0x38
    /// u8: bit 0 is set by the back-end before a configuration interrupt, cleared by the front-end.
    case configurationEvent = 0x40
    /// u8: bit 0 is set by the back-end before a queue interrupt, cleared by the front-end.
    case queueEvent = 0x41
    /// u32: device status; both write.
    case deviceStatus = 0x44
    /// u32, back-end: odd while the configuration changes.
    case configurationGeneration = 0x48
  }
}
