import CLinux
public import IVShmem
public import LinuxSupport
import SharedMemory
import SimulatorPeer

/// Why a simulated link could not be offered.
public enum SimulatorServerError: Error, Equatable {
  /// Another server answers on this socket.
  case inUse(path: String)
  /// The socket, or memory for the sections, could not be made.
  case system(SystemError, doing: String)
  /// The sizes make no link.
  case geometry(GeometryError)
}

/// The hypervisor for processes and virtual machines: owns the sections and the state table of one
/// link and lets peers join over Unix sockets.
///
/// Doorbells between processes do not pass through it. One thread runs it; a broken or hostile
/// peer loses its connection and nothing else happens.
public final class SimulatorServer {
  let options: SimulatorOptions
  let geometry: LinkGeometry
  let log: (String) -> Void
  private let path: String
  private let listener: Descriptor
  let page: Section
  let memory: LinkMemory
  private(set) var events: [Int32] = []
  private var clients: [Int32: ClientState] = [:]
  /// The process that is each peer.
  var holders: [Int32?]
  /// State of each peer, as it was written. The table shows it; a machine can overwrite the table.
  private(set) var stateWords: [UInt32]
  private(set) var machines: [Machine] = []
  private let stop: Descriptor

  /// What is known about a connection; the descriptor is closed when it is forgotten.
  final class ClientState {
    let socket: Descriptor
    var peer: Int?
    init(_ socket: consuming Descriptor) { self.socket = socket }
  }

  /// The most connections at a time: a flood is refused, not served.
  static let clientLimit = 64

  /// Creates the link and its socket at `path`; a socket that a dead server left is replaced.
  public init(
    path: String, options: SimulatorOptions, log: @escaping (String) -> Void
  ) throws(SimulatorServerError) {
    self.path = path
    self.options = options
    self.log = log
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: options.maxPeers, stateTableSize: 4096, readWriteSize: options.readWriteSize,
        outputSize: options.outputSize)
    } catch { throw .geometry(error) }
    listener = try Self.listen(path)
    let peers = Int(geometry.maxPeers)
    holders = Array(repeating: nil, count: peers)
    stateWords = Array(repeating: 0, count: peers)
    do throws(SystemError) {
      stop = try Descriptor(cl_eventfd())
      page = try Section(name: "hypervisor", size: HypervisorPage.size(maxPeers: peers + 1))
      memory = try LinkMemory(geometry, for: options)
      for _ in 0..<peers * Int(options.vectorCount) {
        events.append(Int32(try SystemError.check(cl_eventfd())))
      }
    } catch {
      _ = unsafe cl_unlink(path)
      throw .system(error, doing: "making the shared memory")
    }
    fillSections()
    do throws(SimulatorServerError) {
      for machine in options.machines { machines.append(try Machine(machine, of: self)) }
    } catch {
      _ = unsafe cl_unlink(path)
      throw error
    }
  }

  deinit {
    for event in events { cl_close(event) }
    _ = unsafe cl_unlink(path)
  }

  private static func listen(_ path: String) throws(SimulatorServerError) -> Descriptor {
    var result = unsafe cl_listen(path)
    if result == -98 {  // EADDRINUSE
      let probe = unsafe cl_connect(path)
      if probe >= 0 {
        cl_close(Int32(probe))
        throw .inUse(path: path)
      }
      let gone = unsafe cl_unlink_socket(path)
      result = gone < 0 ? gone : unsafe cl_listen(path)
    }
    do throws(SystemError) {
      return try Descriptor(result)
    } catch { throw .system(error, doing: "listening on \(path)") }
  }

  private func fillSections() {
    guard case .garbage(let seed) = options.contents else { return }
    var state = seed
    for section in memory.sections { section.scramble(&state) }
    guard options.hasStaleStates else { return }
    memory.states.scramble(&state)
    for peer in holders.indices { stateWords[peer] = memory.states.load32(at: 4 * peer) }
  }

  /// Ends ``run()`` from another thread or a signal handler.
  public var stopEvent: Int32 { stop.number }

  // MARK: Loop

  /// Serves until ``stopEvent`` is signalled.
  public func run() {
    while step() {}
    // Peers that sleep learn that the machine is gone.
    page.store32(1, at: Int(geometry.maxPeers) * HypervisorPage.lineSize)
    for event in events { _ = cl_event_offer(event) }
    _ = unsafe cl_unlink(path)
    for machine in machines { machine.removeSocket() }
  }

  /// Waits for one round of events; `false` when asked to stop.
  ///
  /// - Parameter timeout: how long, in nanoseconds; negative: until something happens.
  public func step(timeout: Int64 = -1) -> Bool {
    var entries = [
      cl_poll_entry(fd: stop.number, events: 1, revents: 0),
      cl_poll_entry(fd: listener.number, events: 1, revents: 0),
    ]
    for number in clients.keys {
      entries.append(cl_poll_entry(fd: number, events: 1, revents: 0))
    }
    let waits = machineWaits()
    let firstWait = entries.count
    for wait in waits { entries.append(wait.entry) }
    let ready = unsafe entries.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_poll_ns(base, UInt32(buffer.count), timeout)
    }
    if ready < 0 { return ready == -4 }
    if entries[0].revents != 0 { return false }
    for entry in entries[2..<firstWait] where entry.revents != 0 { serve(entry.fd) }
    for (index, wait) in waits.enumerated() where entries[firstWait + index].revents != 0 {
      serve(wait)
    }
    if entries[1].revents != 0 { accept() }
    return true
  }

  private func accept() {
    let result = cl_accept(listener.number)
    guard result >= 0 else { return }
    let client = ClientState(Descriptor(owning: Int32(result)))
    guard clients.count < Self.clientLimit else {
      log("refused a connection: \(Self.clientLimit) are open already")
      return
    }
    clients[Int32(result)] = client
  }

  private func serve(_ number: Int32) {
    guard let client = clients[number] else { return }
    var words: [UInt32] = [0, 0]
    var numbers = [Int32](repeating: -1, count: 128)
    var count: UInt32 = 0
    let got = unsafe words.withUnsafeMutableBytes { bytes -> Int in
      unsafe numbers.withUnsafeMutableBufferPointer { fds in
        guard let data = bytes.baseAddress, let list = fds.baseAddress else { return -22 }
        return unsafe cl_receive(number, data, 8, list, &count, 0)
      }
    }
    for index in 0..<Int(count) { cl_close(numbers[index]) }
    if got == -11 { return }  // EAGAIN: somebody else's wake-up
    guard got == 8, count == 0 else {
      return drop(client, got == 0 ? "left" : "sent \(got) bytes, expected 8")
    }
    if client.peer == nil {
      welcome(client, words)
    } else {
      answer(client, words)
    }
  }

  private func drop(_ client: ClientState, _ why: String) {
    if let peer = client.peer {
      log("peer \(peer) (pid \(holders[peer] ?? 0)) \(why)")
      bury(peer)
    } else {
      log("a connection \(why)")
    }
    clients[client.socket.number] = nil
  }

  /// Nobody is this peer any more.
  func bury(_ peer: Int) {
    holders[peer] = nil
    setArmed(peer, false)
    setState(peer, 0)
  }

  // MARK: Joining

  private func welcome(_ client: ClientState, _ words: [UInt32]) {
    let pid = cl_peer_pid(client.socket.number)
    guard words[0] == SimulatorMessage.magic else {
      reply(client, .badHello, holder: 0)
      return drop(client, "(pid \(pid)) said 0x\(String(words[0], radix: 16)) for a hello")
    }
    if answerStatus(client.socket.number, words[1]) {
      clients[client.socket.number] = nil
      return
    }
    if words[1] == SimulatorMessage.observer { return reply(client, .ok, holder: 0) }
    let wanted: Int? = words[1] == SimulatorMessage.anyPeer ? nil : Int(words[1])
    if let wanted, wanted >= holders.count {
      reply(client, .noSuchPeer, holder: 0)
      return drop(client, "(pid \(pid)) wants peer \(wanted) of \(holders.count)")
    }
    // A place that waits for a machine is taken by those alone who ask for it.
    let free = holders.indices.first { peer in
      holders[peer] == nil && !machines.contains { $0.peer == peer }
    }
    guard let peer = wanted ?? free, holders[peer] == nil else {
      let holder = wanted.flatMap { holders[$0] } ?? 0
      reply(client, .busy, holder: holder)
      return drop(client, "(pid \(pid)) wants a peer that pid \(holder) holds")
    }
    client.peer = peer
    holders[peer] = pid
    prepare(peer)
    reply(client, .ok, holder: 0)
    log("peer \(peer) joined (pid \(pid))")
  }

  /// A peer that joins starts like a cell: not armed, state 0, no event pending; its start may
  /// throw away what the others stored.
  func prepare(_ peer: Int) {
    setArmed(peer, false)
    for vector in 0..<Int(options.vectorCount) {
      _ = cl_event_try(events[peer * Int(options.vectorCount) + vector])
    }
    guard options.overwritesAtStart, geometry.outputSize > 0 else { return }
    var state = UInt64(cl_random())
    for other in holders.indices where other != peer {
      let index = (geometry.readWriteSize > 0 ? 1 : 0) + other
      memory.sections[index].scramble(&state, limit: 4096)
    }
  }

  private func reply(
    _ client: ClientState, _ result: SimulatorMessage.Welcome, holder: Int32, mark: UInt32 = 0
  ) {
    var words = [UInt32](repeating: 0, count: SimulatorMessage.welcomeWords)
    words[SimulatorMessage.WelcomeWord.result] = result.rawValue
    words[SimulatorMessage.WelcomeWord.holder] = UInt32(bitPattern: holder)
    var numbers: [Int32] = []
    var opened: [Int32] = []
    if result == .ok {
      words[SimulatorMessage.WelcomeWord.id] = UInt32(client.peer ?? 0)
      words[SimulatorMessage.WelcomeWord.maxPeers] = geometry.maxPeers
      words[SimulatorMessage.WelcomeWord.vectors] = options.vectorCount
      words[SimulatorMessage.WelcomeWord.flags] = flags
      words[SimulatorMessage.WelcomeWord.deviceClass] = deviceClass(of: client.peer)
      words[SimulatorMessage.WelcomeWord.mark] = mark
      func set(_ size: Int, _ word: Int) {
        words[word] = UInt32(truncatingIfNeeded: size)
        words[word + 1] = UInt32(truncatingIfNeeded: size >> 32)
      }
      set(geometry.stateTableSize, SimulatorMessage.WelcomeWord.stateTable)
      set(geometry.readWriteSize, SimulatorMessage.WelcomeWord.readWrite)
      set(geometry.outputSize, SimulatorMessage.WelcomeWord.output)
      (numbers, opened) = descriptors(for: client.peer)
    }
    let sent = unsafe words.withUnsafeBytes { bytes -> Int in
      unsafe numbers.withUnsafeBufferPointer { fds in
        guard let data = bytes.baseAddress else { return -22 }
        return unsafe cl_send(
          client.socket.number, data, bytes.count, fds.baseAddress, UInt32(fds.count))
      }
    }
    for number in opened { cl_close(number) }
    if sent != words.count * 4, result == .ok { drop(client, "could not be welcomed (\(sent))") }
  }

  /// As in the shipped configurations: peer 0 is the back-end of a virtio link, peer 1 the
  /// front-end.
  func deviceClass(of peer: Int?) -> UInt32 {
    guard let peer, let type = options.virtioDevice else { return 0 }
    return (peer == 0 ? 0xff_c000 : 0xff_8000) | UInt32(type)
  }

  private var flags: UInt32 {
    (options.isOneShot ? SimulatorMessage.Flag.oneShot : 0)
      | (options.isUnpinnable ? SimulatorMessage.Flag.unpinnable : 0)
      | (options.hasStrictAlignment ? SimulatorMessage.Flag.strictAlignment : 0)
      | (memory.whole != nil ? SimulatorMessage.Flag.oneDescriptor : 0)
  }

  /// What a peer gets: the hypervisor's page, the state table to read, each section with the
  /// rights the peer has, all events. A section somebody else writes comes as a descriptor that
  /// was opened for reading, which the kernel maps no other way.
  private func descriptors(for peer: Int?) -> (all: [Int32], opened: [Int32]) {
    var numbers: [Int32] = []
    var opened: [Int32] = []
    func readOnly(_ section: Section) {
      let number = section.openReadOnly()
      if number >= 0 { opened.append(number) }
      numbers.append(number >= 0 ? number : section.number)
    }
    // An observer, which is nobody's peer, may write nothing at all.
    if peer == nil { readOnly(page) } else { numbers.append(page.number) }
    let sections = memory.sections
    readOnly(memory.states)
    var index = 0
    if geometry.readWriteSize > 0 {
      if peer == nil { readOnly(sections[0]) } else { numbers.append(sections[0].number) }
      index = 1
    }
    if geometry.outputSize > 0 {
      for owner in holders.indices {
        if owner == peer {
          numbers.append(sections[index + owner].number)
        } else {
          readOnly(sections[index + owner])
        }
      }
    }
    return (peer == nil ? numbers : numbers + events, opened)
  }

  // MARK: Requests

  private func answer(_ client: ClientState, _ words: [UInt32]) {
    guard let peer = client.peer else { return }
    guard let request = SimulatorMessage.Request(rawValue: words[0]) else {
      return drop(client, "asked for \(words[0]), which is no request")
    }
    var value: UInt32 = 0
    switch request {
    case .writeState: setState(peer, words[1])
    case .rejoin: return self.reply(client, .ok, holder: 0, mark: words[1])
    case .readState, .status: value = stateWords[peer]
    }
    var reply: [UInt32] = [words[0], value]
    let sent = unsafe reply.withUnsafeMutableBytes { bytes -> Int in
      guard let data = bytes.baseAddress else { return -22 }
      return unsafe cl_send(client.socket.number, data, 8, nil, 0)
    }
    if sent != 8 { drop(client, "does not take its answers (\(sent))") }
  }

  /// ivshmem-v2: the state goes into the table; a changed value interrupts every other peer that
  /// is armed.
  func setState(_ peer: Int, _ value: UInt32) {
    memory.states.store32(value, at: 4 * peer)
    guard stateWords[peer] != value else { return }
    stateWords[peer] = value
    for other in holders.indices where other != peer && holders[other] != nil {
      interrupt(other, 0)
    }
  }

  /// Delivers to a peer that is armed; the caller has checked that there is such a peer.
  func interrupt(_ peer: Int, _ vector: UInt16) {
    guard UInt32(vector) < options.vectorCount else { return }
    let line = peer * HypervisorPage.lineSize
    let disarms = HypervisorPage.Delivery.disarms(
      page.load32(at: line + HypervisorPage.delivery), link: options.isOneShot)
    let wasArmed =
      disarms
      ? page.exchange32(0, at: line + HypervisorPage.armed)
      : page.load32(at: line + HypervisorPage.armed)
    guard wasArmed & 1 != 0 else {
      page.count(at: line + HypervisorPage.dropped)
      return
    }
    page.count(at: line + HypervisorPage.delivered)
    if deliver(vector, toMachine: peer) { return }
    _ = cl_event_offer(events[peer * Int(options.vectorCount) + Int(vector)])
  }

  func isArmed(_ peer: Int) -> Bool {
    page.load32(at: peer * HypervisorPage.lineSize + HypervisorPage.armed) & 1 != 0
  }

  func setArmed(_ peer: Int, _ isArmed: Bool) {
    _ = page.exchange32(
      isArmed ? 1 : 0, at: peer * HypervisorPage.lineSize + HypervisorPage.armed)
  }
}
