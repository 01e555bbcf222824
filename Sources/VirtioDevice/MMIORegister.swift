/// The registers of virtio-mmio version 2 (VIRTIO 1.4, 4.2.2), which are the operations of the
/// native transport as well. The one table: the specification page is tested against it.
public enum MMIORegister: Int, Sendable {
  /// 'virt', little endian.
  case magicValue = 0x000
  /// 2.
  case version = 0x004
  /// VIRTIO device type.
  case deviceID = 0x008
  /// Vendor of the device implementation.
  case vendorID = 0x00c
  /// Offered features, the word chosen by ``deviceFeaturesSelector``.
  case deviceFeatures = 0x010
  /// Which 32-bit word ``deviceFeatures`` shows.
  case deviceFeaturesSelector = 0x014
  /// Accepted features, the word chosen by ``driverFeaturesSelector``.
  case driverFeatures = 0x020
  /// Which 32-bit word ``driverFeatures`` sets.
  case driverFeaturesSelector = 0x024
  /// Which queue the queue registers mean.
  case queueSelector = 0x030
  /// The largest size of the selected queue; 0 when there is no such queue.
  case queueSizeMax = 0x034
  /// The size the driver chose.
  case queueSize = 0x038
  /// 1: the queue may be used; reads the device's own view.
  case queueReady = 0x044
  /// A queue has new buffers; local, never a transaction.
  case queueNotify = 0x050
  /// Why the device interrupted; local, never a transaction.
  case interruptStatus = 0x060
  /// Clears bits of ``interruptStatus``; local, never a transaction.
  case interruptAcknowledge = 0x064
  /// Device status; a write is a request, a read shows what the device accepted.
  case status = 0x070
  /// Address of the descriptor table, low half.
  case queueDescriptorLow = 0x080
  /// Address of the descriptor table, high half.
  case queueDescriptorHigh = 0x084
  /// Address of the available ring, low half.
  case queueDriverLow = 0x090
  /// Address of the available ring, high half.
  case queueDriverHigh = 0x094
  /// Address of the used ring, low half.
  case queueDeviceLow = 0x0a0
  /// Address of the used ring, high half.
  case queueDeviceHigh = 0x0a4
  /// Which shared memory region the four registers below mean; no device here has one.
  case sharedMemorySelector = 0x0ac
  /// Length of the shared memory region, low half.
  case sharedMemoryLengthLow = 0x0b0
  /// Length of the shared memory region, high half.
  case sharedMemoryLengthHigh = 0x0b4
  /// Address of the shared memory region, low half.
  case sharedMemoryBaseLow = 0x0b8
  /// Address of the shared memory region, high half.
  case sharedMemoryBaseHigh = 0x0bc
  /// Write 1: reset the selected queue alone.
  case queueReset = 0x0c0
  /// Changes whenever the configuration space has changed.
  case configurationGeneration = 0x0fc

  /// How a driver may use a register.
  public enum Access: Sendable {
    /// Read only.
    case read
    /// Write only.
    case write
    /// Both.
    case readWrite
  }

  /// How a driver may use this register.
  public var access: Access {
    switch self {
    case .magicValue, .version, .deviceID, .vendorID, .deviceFeatures, .queueSizeMax,
      .interruptStatus, .sharedMemoryLengthLow, .sharedMemoryLengthHigh, .sharedMemoryBaseLow,
      .sharedMemoryBaseHigh, .configurationGeneration:
      .read
    case .deviceFeaturesSelector, .driverFeatures, .driverFeaturesSelector, .queueSelector,
      .queueSize, .queueNotify, .interruptAcknowledge, .queueDescriptorLow, .queueDescriptorHigh,
      .queueDriverLow, .queueDriverHigh, .queueDeviceLow, .queueDeviceHigh, .sharedMemorySelector:
      .write
    case .queueReady, .status, .queueReset: .readWrite
    }
  }

  /// Where the configuration space starts.
  public static let configurationStart = 0x100
  /// How many bytes of configuration space the native transport can show.
  public static let configurationLimit = 0x100
  /// The value of ``magicValue``.
  public static let magic: UInt32 = 0x7472_6976
}
