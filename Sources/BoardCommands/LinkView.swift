import CLinux
import CommandOptions
import LinkFormat
import LinkNames
import LinuxPCI
import LinuxSupport
import ToolSupport

/// A look at a link that changes nothing: from the simulator's side, through sysfs where the device
/// has its memory in BAR 2, or through the process that has the link.
///
/// No node of a device is opened: on `uio_ivshmem` its closing would reset the state of the peer.
struct LinkView: ~Copyable {
  private enum Source: ~Copyable {
    case simulated(LinkObserver)
    case function(FunctionObserver)
    case owner(OwnerView)
  }

  private let source: Source
  /// Where what is shown comes from, for people.
  let origin: String
  /// Where the sections lie.
  let geometry: LinkGeometry
  /// The own peer id of who or what is looked through; `nil` for the simulator.
  let ownID: PeerID?
  /// Vectors a peer has; `nil` when unknown.
  let vectorCount: UInt16?

  /// Bytes that one look may copy; the control socket gives no more.
  private static var lookLimit: Int { 4096 }

  /// Opens the look, or says why there is none.
  static func open(
    _ target: LinkTarget, _ given: CommandOptions
  ) throws(ClientError) -> LinkView {
    switch target.place {
    case .simulator(let path):
      if let control = target.control {
        if let owner = OwnerView.open(control, path) { return LinkView(owner) }
        throw .usage(
          UsageError("--control \(control): no ivshmem-backend with the link \(path) answers there")
        )
      }
      let observer: LinkObserver
      do throws(UsageError) {
        observer = try LinkObserver.open("sim:\(path)")
      } catch { throw .usage(error) }
      let geometry = observer.geometry
      return LinkView(
        source: .simulated(observer), origin: "the simulator", geometry: geometry, ownID: nil,
        vectorCount: nil)
    case .function(let address): return try open(address, target, given)
    }
  }

  private static func open(
    _ address: PCIAddress, _ target: LinkTarget, _ given: CommandOptions
  ) throws(ClientError) -> LinkView {
    if let path = target.control {
      if let owner = OwnerView.open(path, "\(address)") { return LinkView(owner) }
      throw .usage(
        UsageError("--control \(path): no ivshmem-backend with the link \(address) answers there"))
    }
    if let owner = OwnerView.find("\(address)") { return LinkView(owner) }
    let discovery = try BoardOptions.discovery(given)
    let device = try BoardOptions.device(at: address, discovery)
    let reason: String
    do throws(WindowError) {
      let observer = try FunctionObserver(device, files: discovery.files)
      let own = PeerID(UInt16(truncatingIfNeeded: observer.registers.id))
      let geometry = observer.geometry
      return LinkView(
        source: .function(observer), origin: "sysfs", geometry: geometry, ownID: own,
        vectorCount: device.vectorCount)
    } catch { reason = error.text }
    let holders = NodeHolders(of: device.function.nodePaths, files: discovery.files)
    let who =
      holders.processes.isEmpty
      ? "no ivshmem-backend says that it has it"
      : "\(processText(holders.processes[0])) has it and no control socket was found"
    throw .failed(
      "\(address): cannot be looked at without opening its node, which would reset the peer's state"
        + " when closed: \(reason); \(who) (--control PATH)")
  }

  private init(
    source: consuming Source, origin: String, geometry: LinkGeometry, ownID: PeerID?,
    vectorCount: UInt16?
  ) {
    self.source = source
    self.origin = origin
    self.geometry = geometry
    self.ownID = ownID
    self.vectorCount = vectorCount
  }

  private init(_ owner: consuming OwnerView) {
    let origin = "the back-end at \(owner.path)"
    let geometry = owner.geometry
    let ownID = owner.peerID
    let count = owner.vectorCount
    self.init(
      source: .owner(owner), origin: origin, geometry: geometry, ownID: ownID, vectorCount: count)
  }

  /// Whole words of the shared memory, each loaded once; offsets from the start of the state table.
  ///
  /// - Throws: when whoever is asked is gone.
  func bytes(_ offset: Int, _ count: Int) throws(ClientError) -> [UInt8] {
    guard offset >= 0, offset & 3 == 0, count > 0, count & 3 == 0,
      offset <= geometry.totalSize - count
    else { return [] }
    var all: [UInt8] = []
    all.reserveCapacity(count)
    while all.count < count {
      let size = min(Self.lookLimit, count - all.count)
      let part: [UInt8]?
      let at = offset + all.count
      switch source {
      case .simulated(let observer):
        part = observer.words(at, size)
      case .function(let observer):
        part = observer.words(at, size)
      case .owner(let owner): part = owner.look(at, size)
      }
      guard let part, part.count == size else {
        throw .failed("\(origin) does not answer any more")
      }
      all += part
    }
    return all
  }

  /// One word.
  func word(_ offset: Int) throws(ClientError) -> UInt32 {
    Words(try bytes(offset, 4)).word32(0)
  }

  /// The states of peers, at most `limit` of them.
  func states(limit: Int) throws(ClientError) -> [UInt32] {
    let count = min(Int(geometry.maxPeers), limit)
    let words = Words(try bytes(0, 4 * count))
    return (0..<count).map { words.word32(4 * $0) }
  }

  /// Interrupts delivered to and dropped at a peer; the simulator alone counts them.
  func interruptCounts(of peer: PeerID) -> (delivered: UInt64, dropped: UInt64)? {
    switch source {
    case .simulated(let observer): observer.interruptCounts(of: peer)
    case .function: nil
    case .owner: nil
    }
  }

  /// Where the rings of the native protocol lie; `nil` where the owner is not asked.
  var ringPlaces: [RingPlace]? {
    switch source {
    case .owner(let owner): owner.rings()
    case .simulated: nil
    case .function: nil
    }
  }

  /// Bytes at any offset, a copy of the words around them; empty when they are not all inside.
  func anyBytes(_ offset: Int, _ count: Int) throws(ClientError) -> [UInt8] {
    guard offset >= 0, count > 0, count <= 1 << 20, offset <= geometry.totalSize - count else {
      return []
    }
    let start = offset & ~3
    let words = try bytes(start, (offset + count - start + 3) & ~3)
    guard words.count >= offset - start + count else { return [] }
    return Array(words[(offset - start)..<(offset - start + count)])
  }

  /// The registers now; `nil` where only the owner may read them.
  var registers: RegisterPicture? {
    switch source {
    case .function(let observer): observer.currentRegisters
    case .simulated: nil
    case .owner: nil
    }
  }
}

/// A back-end process that shows the memory of its link.
struct OwnerView: ~Copyable {
  private static var patience: UInt64 { 2_000_000_000 }
  static var folder: String { "/run/ivshmem-backend" }

  let path: String
  let geometry: LinkGeometry
  let peerID: PeerID
  let vectorCount: UInt16
  private let name: String
  private let socket: Descriptor

  /// Asks the back-end at a control socket for a link; `nil` when it has none of that name.
  static func open(_ path: String, _ name: String) -> OwnerView? {
    let number = unsafe cl_connect_stream(path)
    guard number >= 0 else { return nil }
    let connection = Descriptor(owning: Int32(truncatingIfNeeded: number))
    guard
      let answer = try? ControlQuestion.ask(connection, "link \(name)", patience: Self.patience),
      answer.hasPrefix("{\"ok\":true"), let id = JSONField.number("id", answer),
      let peers = JSONField.number("maxPeers", answer),
      let table = JSONField.number("stateTable", answer),
      let shared = JSONField.number("readWrite", answer),
      let output = JSONField.number("output", answer),
      let vectors = JSONField.number("vectors", answer),
      let geometry = try? LinkGeometry(
        maxPeers: UInt32(clamping: peers), stateTableSize: table, readWriteSize: shared,
        outputSize: output),
      id < UInt64(geometry.maxPeers)
    else { return nil }
    return OwnerView(
      path: path, geometry: geometry, peerID: PeerID(UInt16(truncatingIfNeeded: id)),
      vectorCount: UInt16(clamping: vectors), name: name, socket: connection)
  }

  private init(
    path: String, geometry: LinkGeometry, peerID: PeerID, vectorCount: UInt16, name: String,
    socket: consuming Descriptor
  ) {
    self.path = path
    self.geometry = geometry
    self.peerID = peerID
    self.vectorCount = vectorCount
    self.name = name
    self.socket = socket
  }

  /// Looks for the back-end that has a link among those that run as services.
  static func find(_ name: String) -> OwnerView? {
    for entry in HostFiles().entries(folder) ?? [] where entry.hasSuffix(".control") {
      if let found = OwnerView.open("\(folder)/\(entry)", name) { return found }
    }
    return nil
  }

  /// Where the rings lie, as their drivers have said; only the owner knows.
  func rings() -> [RingPlace] {
    guard let answer = try? ControlQuestion.ask(socket, "rings \(name)", patience: Self.patience)
    else { return [] }
    return RingPlace.parse(answer)
  }

  /// Whole words; `nil` when the owner does not answer any more.
  func look(_ offset: Int, _ count: Int) -> [UInt8]? {
    guard
      let answer = try? ControlQuestion.ask(
        socket, "look \(offset) \(count)" + (name.isEmpty ? "" : " \(name)"),
        patience: Self.patience),
      let text = JSONField.string("bytes", answer), let bytes = bytesOf(hex: text)
    else { return nil }
    return bytes
  }
}

/// Little-endian words of a copy; 0 behind its end.
struct Words {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func byte(_ at: Int) -> UInt8 { at >= 0 && at < bytes.count ? bytes[at] : 0 }
  func word16(_ at: Int) -> UInt16 { UInt16(byte(at)) | UInt16(byte(at &+ 1)) << 8 }
  func word32(_ at: Int) -> UInt32 { UInt32(word16(at)) | UInt32(word16(at &+ 2)) << 16 }
  func word64(_ at: Int) -> UInt64 { UInt64(word32(at)) | UInt64(word32(at &+ 4)) << 32 }
}
