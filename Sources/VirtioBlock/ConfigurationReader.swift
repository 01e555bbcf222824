/// How a driver reads the device-specific configuration space (VIRTIO 1.4, 2.5): what the
/// transport offers, without saying which transport it is.
public protocol ConfigurationReader: ~Copyable {
  /// What can go wrong on the way; `Never` where nothing can.
  associatedtype Failure: Error

  /// Reads the little-endian field of `width` bytes (1, 2, 4 or 8) at `offset`.
  mutating func readConfiguration(at offset: Int, width: Int) throws(Failure) -> UInt64
}
