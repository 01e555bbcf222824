import CLinux
import IVShmem
import LinuxSupport

extension SimulatorPeer {
  /// Descriptors as they arrived.
  struct Numbers {
    var numbers: InlineArray<128, Int32> = InlineArray(repeating: -1)
    var count = 0
  }

  struct Greeting {
    var words: InlineArray<16, UInt32>
    var descriptors: Numbers
  }

  @safe struct Mapping {
    let reservation: UnsafeMutableRawPointer
    let reservationSize: Int
    let page: UnsafeMutableRawPointer
    let pageSize: Int
  }

  @inline(never)
  static func close(_ descriptors: inout Numbers) {
    for index in 0..<descriptors.count { cl_close(descriptors.numbers[index]) }
    descriptors.count = 0
  }

  /// Reaches the server.
  static func connect(_ path: String) throws(SimulatorPeerError) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor(unsafe cl_connect(path))
    } catch { throw .noServer(error) }
  }

  /// What the server handed over, checked and mapped.
  @safe struct Joined {
    let geometry: LinkGeometry
    let peerID: PeerID
    let vectorCount: UInt16
    let flags: UInt32
    let deviceClass: UInt32
    let mapping: Mapping
    let events: InlineArray<128, Int32>
  }

  /// Joins the link; every descriptor that is not kept is closed, also when something fails.
  static func join(
    _ socket: borrowing Descriptor, _ start: SimulatorMessage.Start
  ) throws(SimulatorPeerError) -> Joined {
    let asObserver = start == .observe
    let welcome = try greet(socket, start)
    var descriptors = welcome.descriptors
    func word(_ index: Int) -> UInt32 { welcome.words[index] }
    func long(_ index: Int) -> UInt64 { UInt64(word(index)) | UInt64(word(index + 1)) << 32 }
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: word(SimulatorMessage.WelcomeWord.maxPeers),
        stateTableSize: long(SimulatorMessage.WelcomeWord.stateTable),
        readWriteSize: long(SimulatorMessage.WelcomeWord.readWrite),
        outputSize: long(SimulatorMessage.WelcomeWord.output))
    } catch {
      close(&descriptors)
      throw .geometry(error)
    }
    let id = word(SimulatorMessage.WelcomeWord.id)
    let vectors = word(SimulatorMessage.WelcomeWord.vectors)
    let peers = Int(geometry.maxPeers)
    let outputs = geometry.outputSize > 0 ? peers : 0
    let first = 2 + (geometry.readWriteSize > 0 ? 1 : 0) + outputs
    let eventCount = asObserver ? 0 : peers * Int(vectors)
    guard id < geometry.maxPeers, vectors > 0, vectors <= 16,
      descriptors.count == first + eventCount
    else {
      close(&descriptors)
      throw .badWelcome(descriptors.count)
    }
    let mapping: Mapping
    do throws(SystemError) {
      mapping = try map(
        geometry, asObserver ? nil : PeerID(UInt16(id)), descriptors,
        isOne: word(SimulatorMessage.WelcomeWord.flags) & SimulatorMessage.Flag.oneDescriptor != 0)
    } catch {
      close(&descriptors)
      throw .mapping(error)
    }
    for index in 0..<first { cl_close(descriptors.numbers[index]) }
    var events = InlineArray<128, Int32>(repeating: -1)
    for index in first..<descriptors.count { events[index - first] = descriptors.numbers[index] }
    return Joined(
      geometry: geometry, peerID: PeerID(UInt16(id)), vectorCount: UInt16(vectors),
      flags: word(SimulatorMessage.WelcomeWord.flags),
      deviceClass: word(SimulatorMessage.WelcomeWord.deviceClass), mapping: mapping, events: events)
  }

  /// Says hello and takes the welcome with its descriptors.
  static func greet(
    _ socket: borrowing Descriptor, _ start: SimulatorMessage.Start
  ) throws(SimulatorPeerError) -> Greeting {
    let wanted: PeerID?
    if case .join(let peer) = start { wanted = peer } else { wanted = nil }
    var greeting = Greeting(words: InlineArray(repeating: 0), descriptors: Numbers())
    var mark: UInt32 = 0
    if case .rejoin(let number) = start {
      mark = number
      // Answers that earlier holders of the connection did not live to take. The server gives up
      // a peer that lets too many lie.
      for _ in 0..<leftoverLimit where receive(socket, &greeting, isWaiting: false) < 0 { break }
    }
    var hello = start.words
    // SAFETY: eight bytes are eight bytes.
    let sent = unsafe withUnsafeMutablePointer(to: &hello) {
      unsafe cl_send(socket.number, $0, 8, nil, 0)
    }
    guard sent == 8 else { throw .noServer(SystemError(Int32(truncatingIfNeeded: -sent))) }
    var got = receive(socket, &greeting, isWaiting: true)
    if mark != 0 {
      for _ in 0..<leftoverLimit
      where got == 8 || got == 64 && greeting.words[SimulatorMessage.WelcomeWord.mark] != mark {
        got = receive(socket, &greeting, isWaiting: true)
      }
    }
    guard got == 64 else {
      close(&greeting.descriptors)
      throw .badWelcome(got)
    }
    switch SimulatorMessage.Welcome(
      rawValue: greeting.words[SimulatorMessage.WelcomeWord.result])
    {
    case .ok: return greeting
    case .busy:
      throw .busy(
        wanted, holder: Int32(bitPattern: greeting.words[SimulatorMessage.WelcomeWord.holder]))
    case .noSuchPeer: throw .noSuchPeer(wanted)
    case .badHello, nil: throw .badWelcome(got)
    }
  }

  /// The most messages to an earlier holder that are passed over: more than a socket holds.
  private static var leftoverLimit: Int { 64 }

  /// Takes one message, in place of what `greeting` had; its size or -errno.
  private static func receive(
    _ socket: borrowing Descriptor, _ greeting: inout Greeting, isWaiting: Bool
  ) -> Int {
    close(&greeting.descriptors)
    var count: UInt32 = 0
    var got = -4
    while got == -4 {
      // SAFETY: the buffers have the stated sizes; cl_receive bounds the descriptors.
      got = unsafe withUnsafeMutablePointer(to: &greeting.words) { words in
        unsafe withUnsafeMutablePointer(to: &greeting.descriptors.numbers) { numbers in
          unsafe cl_receive(
            socket.number, words, 64,
            UnsafeMutableRawPointer(numbers).assumingMemoryBound(to: Int32.self), &count,
            isWaiting ? 0 : 0x40)  // MSG_DONTWAIT
        }
      }
    }
    greeting.descriptors.count = Int(count)
    return got
  }

  /// Maps the hypervisor's page, then every section at its place with its rights, between guards.
  ///
  /// - Parameter isOne: the sections' descriptors stand for all of the memory.
  static func map(
    _ geometry: LinkGeometry, _ own: PeerID?, _ descriptors: Numbers, isOne: Bool
  ) throws(SystemError) -> Mapping {
    let pageSize = HypervisorPage.size(maxPeers: Int(geometry.maxPeers) + 1)
    var error: Int32 = 0
    guard let page = unsafe cl_reserve(pageSize, &error) else { throw SystemError(error) }
    let size = geometry.totalSize + 2 * guardSize
    guard let reservation = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    _ = try SystemError.check(
      unsafe cl_map_at(page, pageSize, own == nil ? 0 : 1, descriptors.numbers[0]))
    var next = 1
    func map(_ section: Range<Int>, isWritable: Bool) throws(SystemError) {
      // SAFETY: every section lies inside the reservation, as the geometry was checked.
      let place = unsafe reservation + guardSize + section.lowerBound
      _ = try SystemError.check(
        unsafe cl_map_view_at(
          place, section.count, isWritable ? 1 : 0, descriptors.numbers[next],
          isOne ? UInt64(section.lowerBound) : 0))
      next += 1
    }
    try map(0..<geometry.stateTableSize, isWritable: false)
    if geometry.readWriteSize > 0 { try map(geometry.readWrite, isWritable: own != nil) }
    if geometry.outputSize > 0 {
      for peer in 0..<UInt16(geometry.maxPeers) {
        try map(geometry.output(of: PeerID(peer)), isWritable: PeerID(peer) == own)
      }
    }
    return unsafe Mapping(
      reservation: reservation, reservationSize: size, page: page, pageSize: pageSize)
  }
}
