/// The numbers of the entropy device (VIRTIO 1.4, 5.4).
public enum EntropyFormat {
  /// VIRTIO device type.
  public static let deviceID: UInt32 = 4
}
