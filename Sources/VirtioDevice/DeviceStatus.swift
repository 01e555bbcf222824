public import SharedMemory

/// The device status register as a set of bits (VIRTIO 1.4, 2.1).
public struct DeviceStatus: BitSet, Sendable {
  /// The register's low byte.
  public let rawValue: UInt8

  /// Wraps a set of bits.
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The driver has noticed the device.
  public static let acknowledge = DeviceStatus(rawValue: 1)
  /// The driver knows how to drive the device.
  public static let driver = DeviceStatus(rawValue: 2)
  /// The driver is set up; queues may be used.
  public static let driverOK = DeviceStatus(rawValue: 4)
  /// The features are agreed; the device shows this bit only when it accepts them.
  public static let featuresOK = DeviceStatus(rawValue: 8)
  /// The device has met an error it cannot recover from; set by the device alone.
  public static let needsReset = DeviceStatus(rawValue: 64)
  /// The driver has given up.
  public static let failed = DeviceStatus(rawValue: 128)
}
