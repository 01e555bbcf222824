/// The processor architecture of a configuration (byte 5 of a revision 14 file).
public enum Architecture: UInt8, Sendable, CaseIterable {
  /// x86-64.
  case x86 = 0
  /// 32-bit Arm.
  case arm = 1
  /// 64-bit Arm.
  case arm64 = 2
}

/// The revisions of the binary format that are understood.
public enum FormatRevision: UInt16, Sendable, CaseIterable {
  /// Six-byte signature, no architecture; read as a courtesy.
  case thirteen = 13
  /// Five-byte signature and an architecture byte.
  case fourteen = 14
}
