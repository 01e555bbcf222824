import IVShmem

/// The messages between a peer and the simulator's server: fixed little-endian words over a
/// SEQPACKET socket, one message a packet.
///
/// Peer to server: {kind, value}. Server to peer: a welcome with descriptors, then one reply to
/// each request.
public enum SimulatorMessage {
  /// First word of a hello: "cmS1".
  public static let magic: UInt32 = 0x3153_6d63
  /// Words of every request: magic or kind, value.
  public static let requestWords = 2
  /// Words of a welcome.
  public static let welcomeWords = 16
  /// Asks for any free peer id.
  public static let anyPeer: UInt32 = .max
  /// Asks to look from outside: everything read-only, nobody's peer.
  public static let observer: UInt32 = .max - 1

  /// What a peer asks for.
  public enum Request: UInt32, Sendable {
    /// Write State; answered when the table shows it and armed peers were interrupted.
    case writeState = 1
    /// Read State.
    case readState = 2
    /// Text about the link, for `ivshmem-sim status`.
    case status = 3
    /// On a connection that joined before and was kept open: the welcome and its descriptors once
    /// more, for another process. State and everything else stay as they are. The value comes back
    /// in the welcome: what is answered to an earlier process may lie before it.
    case rejoin = 4
  }

  /// How a connection starts, or goes on.
  enum Start: Equatable {
    /// As this peer, or as any that is free.
    case join(PeerID?)
    /// As nobody.
    case observe
    /// As the peer that this connection joined as; the answer has to bear this mark.
    case rejoin(UInt32)

    /// The first message.
    var words: InlineArray<2, UInt32> {
      switch self {
      case .join(let peer):
        [SimulatorMessage.magic, peer.map { UInt32($0.rawValue) } ?? SimulatorMessage.anyPeer]
      case .observe: [SimulatorMessage.magic, SimulatorMessage.observer]
      case .rejoin(let mark): [Request.rejoin.rawValue, mark]
      }
    }
  }

  /// How the server answers a hello.
  public enum Welcome: UInt32, Sendable {
    /// Welcome; descriptors follow.
    case ok = 0
    /// The id is taken.
    case busy = 1
    /// The link has no such peer.
    case noSuchPeer = 2
    /// The hello was not understood.
    case badHello = 3
  }

  /// Bits of the flags word of a welcome.
  public enum Flag {
    /// Each delivery clears Interrupt Control.
    public static let oneShot: UInt32 = 1
    /// Pretend the memory cannot be pinned.
    public static let unpinnable: UInt32 = 2
    /// Pretend the memory is Device memory.
    public static let strictAlignment: UInt32 = 4
    /// All sections are in one descriptor: each lies at its offset in the link, not at 0.
    public static let oneDescriptor: UInt32 = 8
  }

  /// Words of the welcome: result, id, maxPeers, vectors, flags, holder pid, then three 64-bit
  /// sizes (state table, R/W section, output section).
  public enum WelcomeWord {
    /// How the server answers.
    public static let result = 0
    /// The peer's id.
    public static let id = 1
    /// Peers the link has room for.
    public static let maxPeers = 2
    /// Vectors a peer.
    public static let vectors = 3
    /// Bits of ``Flag``.
    public static let flags = 4
    /// Who holds a busy peer.
    public static let holder = 5
    /// Low word of the state table size; the high one follows.
    public static let stateTable = 6
    /// Low word of the R/W section size.
    public static let readWrite = 8
    /// Low word of the output section size.
    public static let output = 10
    /// PCI class code of the peer's device; 0 when the link has none.
    public static let deviceClass = 12
    /// The mark of a request to rejoin, else 0.
    public static let mark = 13
  }
}

/// The page that stands for the hypervisor: Interrupt Control and counters of every peer, in a
/// cache line each.
///
/// Every peer maps it writable, because the doorbell goes straight from process to process. It is
/// trust, not protection: it stands for code that runs inside the hypervisor, and no protocol
/// above it ever reads it.
public enum HypervisorPage {
  /// Bytes of a peer's line.
  public static let lineSize = 128
  /// u32: Interrupt Control, bit 0.
  public static let armed = 0
  /// u32: a ``Delivery``.
  public static let delivery = 4
  /// u64: doorbells and state changes delivered to this peer.
  public static let delivered = 64
  /// u64: those that were dropped because the peer was not armed.
  public static let dropped = 72
  /// What a delivery does to Interrupt Control of the peer.
  public enum Delivery {
    /// What the link's flags say.
    public static let asLink: UInt32 = 0
    /// It stays as it is.
    public static let lasting: UInt32 = 1
    /// It is cleared.
    public static let oneShot: UInt32 = 2
    /// Whether it is cleared.
    public static func disarms(_ word: UInt32, link: Bool) -> Bool {
      word == asLink ? link : word == oneShot
    }
  }

  /// Bytes of the page for a number of peers.
  public static func size(maxPeers: Int) -> Int { (maxPeers * lineSize + 4095) & ~4095 }
}
