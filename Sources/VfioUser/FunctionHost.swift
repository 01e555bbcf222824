/// The link behind a PCI function: what the hypervisor does when a guest touches a register. The
/// rules for states and doorbells live there, once, for all kinds of peers.
public protocol FunctionHost: AnyObject {
  /// A client has said who it is; `false`: somebody else is this peer.
  func begin() -> Bool
  /// The function is as after power-on: State 0, not armed, no interrupt pending.
  func reset()
  /// The own State.
  var state: UInt32 { get set }
  /// The own Interrupt Control, bit 0.
  var isArmed: Bool { get set }
  /// Whether each delivery clears Interrupt Control, as the guest has chosen.
  func setOneShot(_ isOneShot: Bool)
  /// The Doorbell register; `vector` is below the own vectors.
  func ring(_ vector: UInt16, at peer: UInt16)
  /// Reads shared memory for a guest that does not map it; the range is inside the region.
  func readMemory(at offset: Int, count: Int) -> [UInt8]
  /// Writes shared memory; what the peer may not write is left alone.
  func writeMemory(_ data: [UInt8], at offset: Int)
}

/// What a PCI function of a link looks like.
public struct FunctionDescription: Sendable {
  /// Which peer it is.
  public var peer: UInt16
  /// Peers the link has room for.
  public var maxPeers: UInt32
  /// Vectors of MSI-X, 1 to 16; 0: INTx.
  public var vectors: UInt16
  /// The 24 bits of the class code.
  public var classCode: UInt32
  /// Bytes of the state table.
  public var stateTableSize: UInt32
  /// Bytes of the read/write section.
  public var readWriteSize: UInt64
  /// Bytes of each output section.
  public var outputSize: UInt64
  /// Bytes of BAR 2, a power of two; 0: there is none and ``baseAddress`` counts.
  public var memoryBarSize: UInt64
  /// Where the sections lie in the guest, if there is no BAR 2.
  public var baseAddress: UInt64?

  /// Describes a function.
  public init(
    peer: UInt16, maxPeers: UInt32, vectors: UInt16, classCode: UInt32, stateTableSize: UInt32,
    readWriteSize: UInt64, outputSize: UInt64, memoryBarSize: UInt64, baseAddress: UInt64? = nil
  ) {
    self.peer = peer
    self.maxPeers = maxPeers
    self.vectors = vectors
    self.classCode = classCode
    self.stateTableSize = stateTableSize
    self.readWriteSize = readWriteSize
    self.outputSize = outputSize
    self.memoryBarSize = memoryBarSize
    self.baseAddress = baseAddress
  }
}
