import CVolatile

/// A page of 32-bit device registers: each access is exactly one single-register load or store.
///
/// Under Jailhouse every access to the ivshmem register page traps, and any other instruction
/// form parks the CPU (docs/porting.md, "Registers"). Never use ``SharedRegion`` for such a page.
@safe
public struct RegisterRegion: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  /// Length of the page in bytes.
  public let count: Int

  /// Takes over a mapping of a register page; the caller promises that it stays mapped.
  @unsafe
  public init(unsafeBase base: UnsafeMutableRawPointer, count: Int) {
    unsafe self.base = base
    self.count = count
  }

  /// Reads the register at `offset`, which is our own constant.
  public func read32(_ offset: Int) -> UInt32 {
    precondition(offset >= 0 && offset <= count &- 4 && offset & 3 == 0)
    // SAFETY: inside the page, aligned; the accessor is one `ldr`/`mov`.
    return UInt32(littleEndian: unsafe cv_register_read32(base + offset))
  }

  /// Writes the register at `offset`, which is our own constant.
  public func write32(_ value: UInt32, at offset: Int) {
    precondition(offset >= 0 && offset <= count &- 4 && offset & 3 == 0)
    // SAFETY: inside the page, aligned; the accessor is one `str`/`mov`.
    unsafe cv_register_write32(base + offset, value.littleEndian)
  }
}
