import CFDT

/// The version of libfdt's format that is read.
public enum FlattenedTree {
  /// Whether `blob` is a flattened device tree that libfdt accepts whole.
  public static func isValid(_ blob: [UInt8]) -> Bool {
    unsafe blob.withUnsafeBytes { bytes in
      guard bytes.count >= 40, let start = bytes.baseAddress else { return false }
      return unsafe fdt_check_full(start, bytes.count) == 0
    }
  }
}
