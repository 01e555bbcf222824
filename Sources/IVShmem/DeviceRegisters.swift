public import SharedMemory

/// The register page of an ivshmem-v2 device (BAR 0). 32-bit accesses only.
///
/// Specification: ivshmem-v2, "Register Region".
public struct DeviceRegisters: Sendable {
  /// The registers, their offsets, and whether they can be read and written.
  public enum Register: Int, Sendable {
    /// The peer's own id; read-only.
    case id = 0x00
    /// The number of peers the link has room for; read-only.
    case maximumPeers = 0x04
    /// Bit 0: deliver interrupts to this peer. Cleared by each delivery in one-shot mode.
    case interruptControl = 0x08
    /// Bits 31:16 target id, 15:0 vector; write-only.
    case doorbell = 0x0c
    /// The own state, copied to the state table.
    case state = 0x10
  }

  private let page: RegisterRegion

  /// Wraps a mapped register page of at least 0x14 bytes.
  public init(page: RegisterRegion) {
    precondition(page.count >= 0x14, "the register page is too small")
    self.page = page
  }

  /// Reads one register.
  public func read(_ register: Register) -> UInt32 { page.read32(register.rawValue) }

  /// Writes one register.
  public func write(_ value: UInt32, to register: Register) {
    page.write32(value, at: register.rawValue)
  }

  /// The doorbell value that raises `vector` at `peer`.
  public static func doorbell(_ vector: Vector, at peer: PeerID) -> UInt32 {
    UInt32(peer.rawValue) << 16 | UInt32(vector.rawValue)
  }
}
