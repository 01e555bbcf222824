import CLinux
import IVShmem
import LinuxSupport
import Simulator
import VfioUser

/// Virtual machines that are played by bytes, against the simulator's server with all its rules: a
/// machine with MSI-X, one with INTx, and a process that must not notice.
///
/// Everything is in one thread: a message is sent, the server takes a step, its answer is read.
public final class VfioUserFuzzer {
  /// Messages that were sent, over all runs.
  public private(set) var messages: UInt64 = 0
  /// Answers without an error.
  public private(set) var successes: UInt64 = 0
  /// Connections that the server ended.
  public private(set) var ends: UInt64 = 0
  /// What was played, for people.
  public var summary: String {
    "\(messages) messages, \(successes) carried out, \(ends) connections ended"
  }

  /// Whether nothing else in this process opens descriptors, so that one left open shows.
  public var isAlone = false

  private let server: SimulatorServer
  private let paths: [String]
  private let process: Descriptor
  private var state: UInt32 = 0
  /// What the process got with its welcome, memory and events.
  private var shared: [Int32] = []
  private let section: [UInt8]
  private let event: Descriptor
  private let noEvent: Descriptor
  private let lowestFree: Int32

  private final class Socket {
    let descriptor: Descriptor
    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
  }
  private var sockets: [Socket?] = [nil, nil]

  private static let vectors = 2

  /// Makes the link and lets the process join.
  public init() throws {
    let base = "/tmp/cellmate-fuzz-\(cl_process_id())-\(cl_random())"
    paths = ["\(base).vm1", "\(base).vm2"]
    var options = SimulatorOptions()
    options.maxPeers = 3
    options.outputSize = 4096
    options.vectorCount = UInt32(Self.vectors)
    options.machines = [
      MachineOptions(peer: 1, path: paths[0]), MachineOptions(peer: 2, path: paths[1]),
    ]
    options.machines[1].hasLine = true
    server = try SimulatorServer(path: base, options: options) { _ in }
    process = try Descriptor(unsafe cl_connect(base))
    event = try Descriptor(cl_eventfd())
    noEvent = try Descriptor(unsafe cl_memfd("cellmate-fuzz"))
    _ = server.step(timeout: 0)
    var (answer, numbers) = try Self.ask(process.number, [0x3153_6d63, 0], 64, server)
    guard answer.count == 64, numbers.count == 5 + 3 * Self.vectors else {
      throw FuzzFailure("the process was not welcome: \(answer.count) bytes")
    }
    shared = numbers
    section = Self.output(of: numbers[2])
    numbers = []
    lowestFree = Self.nextNumber
  }

  deinit { for number in shared { cl_close(number) } }

  /// The number that the next descriptor gets: it rises when one was not closed.
  private static var nextNumber: Int32 {
    let number = Int32(truncatingIfNeeded: cl_duplicate(0))
    cl_close(number)
    return number
  }

  /// The process's output section, read by its descriptor.
  private static func output(of memory: Int32) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 4096)
    _ = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_read_at(memory, base, 4096, 4096)
    }
    return bytes
  }

  // MARK: The process

  private static func ask(
    _ number: Int32, _ words: [UInt32], _ count: Int, _ server: SimulatorServer
  ) throws(FuzzFailure) -> ([UInt8], [Int32]) {
    let sent = unsafe words.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cl_send(number, base, bytes.count, nil, 0)
    }
    guard sent == 8 else { throw FuzzFailure("the process lost its connection") }
    // Machines that have much to say get their turns first.
    for _ in 0..<64 {
      guard server.step(timeout: 0) else { throw FuzzFailure("the server has stopped") }
      let (bytes, numbers, result) = receive(number, count)
      if result > 0 { return (bytes, numbers) }
      guard result == -Int(SystemError.tryAgain) else {
        throw FuzzFailure("the process lost its connection: \(result)")
      }
    }
    throw FuzzFailure("the process got no answer")
  }

  private static func receive(_ number: Int32, _ count: Int) -> ([UInt8], [Int32], Int) {
    var bytes = [UInt8](repeating: 0, count: count)
    var numbers = [Int32](repeating: -1, count: Int(CL_MAX_FDS))
    var arrived: UInt32 = 0
    let result = unsafe bytes.withUnsafeMutableBytes { data in
      unsafe numbers.withUnsafeMutableBufferPointer { fds in
        guard let base = data.baseAddress, let first = fds.baseAddress else { return 0 }
        return unsafe cl_receive(
          number, base, count, first, &arrived, 0x40)  // MSG_DONTWAIT
      }
    }
    return (Array(bytes[..<max(0, result)]), Array(numbers[..<Int(arrived)]), result)
  }

  private func writeState(_ value: UInt32) throws(FuzzFailure) {
    _ = try Self.ask(process.number, [1, value], 8, server)
    state = value
  }

  // MARK: A run

  /// Plays one input, from connection to disconnection.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws(FuzzFailure) {
    var input = FuzzInput(bytes: bytes)
    var current = 0
    // Bounded, so that an input of any length ends.
    for _ in 0..<400 where !input.isAtEnd {
      let kind = input.byte()
      if sockets[current] == nil { connect(current) }
      switch kind & 15 {
      case 0...5: sendRequest(current, &input)
      case 6: sendAnything(current, &input)
      case 7: sendPart(current, &input)
      case 8: setUp(current)
      case 9: sockets[current] = nil
      case 10: current = Int(kind >> 4 & 1)
      case 11: try writeState(input.word())
      case 12: ringFromProcess(input.byte())
      case 13: for _ in 0..<Int(input.byte() & 31) { sendRequest(current, &input, reads: false) }
      case 14: fillEvent()
      default: connectBeside(current)
      }
      step(2)
      drain(current)
    }
    try finish()
  }

  private func step(_ count: Int) { for _ in 0..<count { _ = server.step(timeout: 0) } }

  /// Everybody leaves: nothing of them is left, and the process is as it was.
  private func finish() throws(FuzzFailure) {
    sockets = [nil, nil]
    step(8)
    _ = cl_set_nonblocking(event.number)
    cl_event_take(event.number)
    let (answer, _) = try Self.ask(process.number, [2, 0], 8, server)
    guard answer.count == 8 else { throw FuzzFailure("an answer of \(answer.count) bytes") }
    let seen = (4..<8).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32(answer[$1]) }
    guard seen == state else { throw FuzzFailure("the process's State is \(seen), not \(state)") }
    guard Self.output(of: shared[2]) == section else {
      throw FuzzFailure("the process's section was overwritten")
    }
    guard isAlone else { return }
    let next = Self.nextNumber
    guard next == lowestFree else {
      throw FuzzFailure("descriptor \(lowestFree) is still open, the next one is \(next)")
    }
  }
}

// MARK: - What a machine does

extension VfioUserFuzzer {
  private func connect(_ machine: Int) {
    let result = unsafe cl_connect_stream(paths[machine])
    guard result >= 0 else { return }
    sockets[machine] = Socket(Descriptor(owning: Int32(result)))
    step(1)
  }

  /// Another connection to the same place, which says its version and goes.
  private func connectBeside(_ machine: Int) {
    let result = unsafe cl_connect_stream(paths[machine])
    guard result >= 0 else { return }
    let socket = Descriptor(owning: Int32(result))
    step(1)
    let message = VfioUserHeader(id: 1, command: 1, size: 20).bytes + [0, 0, 0, 0]
    _ = Self.send(socket.number, message, [])
    step(2)
  }

  private static func send(_ number: Int32, _ bytes: [UInt8], _ passed: [Int32]) -> Int {
    unsafe bytes.withUnsafeBytes { data in
      unsafe passed.withUnsafeBufferPointer { fds in
        guard let base = data.baseAddress else { return 0 }
        return unsafe cl_send(number, base, data.count, fds.baseAddress, UInt32(fds.count))
      }
    }
  }

  private func send(_ machine: Int, _ bytes: [UInt8], _ passed: [Int32] = []) {
    guard let socket = sockets[machine] else { return }
    messages += 1
    let result = Self.send(socket.descriptor.number, bytes, passed)
    // A stream that takes a part only is one that is full: the rest would be another message.
    if result != bytes.count { sockets[machine] = nil }
  }

  /// Takes what was answered, and closes what came along.
  private func drain(_ machine: Int) {
    guard let socket = sockets[machine] else { return }
    for _ in 0..<64 {
      let (bytes, numbers, result) = Self.receive(socket.descriptor.number, 4096)
      for number in numbers { cl_close(number) }
      if result == 0 {
        ends += 1
        sockets[machine] = nil
      }
      guard result > 0 else { return }
      let header = VfioUserHeader(bytes)
      if header.flags == 1 { successes += 1 }
      step(1)
    }
  }

  private func words(_ values: [UInt32]) -> [UInt8] {
    values.flatMap { value in
      (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
    }
  }

  private func message(_ command: VfioUserCommand, _ payload: [UInt8]) -> [UInt8] {
    VfioUserHeader(id: 1, command: command.rawValue, size: UInt32(16 + payload.count)).bytes
      + payload
  }

  /// Connection, version, one interrupt, bus master.
  private func setUp(_ machine: Int) {
    send(machine, message(.version, [0, 0, 0, 0]))
    let kind: UInt32 = machine == 0 ? 2 : 0
    send(machine, message(.setInterrupts, words([20, 0x24, kind, 0, 1])), [event.number])
    send(machine, message(.write, words([4, 0, 7, 2]) + [6, 0]))
    send(machine, message(.write, words([8, 0, 0, 4, 1])))
    step(4)
  }

  /// A request whose fields are near the truth.
  private func request(_ input: inout FuzzInput) -> (bytes: [UInt8], passed: [Int32]) {
    let choice = input.byte()
    let commands = VfioUserCommand.allCases
    let command = commands[Int(choice) % commands.count]
    let region = UInt32(input.byte())
    let small = UInt32(input.byte())
    var payload: [UInt8]
    var passed: [Int32] = []
    switch command {
    case .version: payload = [UInt8(region & 1), 0, UInt8(small & 3), 0]
    case .mapMemory: payload = words([32, 0, 0, 0, 0, 0, small, 0])
    case .unmapMemory: payload = words([24, region & 1, 0, 0, small, 0])
    case .deviceInfo: payload = words([16, 0, 0, 0])
    case .regionInfo: payload = words([small, 0, region % 10, 0, 0, 0, 0, 0])
    case .interruptInfo: payload = words([16, 0, region % 6, 0])
    case .setInterrupts:
      payload = words([20, small & 0x3f, region % 6, region >> 6, UInt32(input.byte() & 3)])
      payload += [small & 1 == 0 ? 1 : 0, 1, 0]
    case .read: payload = words([small << 2 | region >> 6, 0, region % 10, UInt32(input.byte())])
    case .write:
      let count = 1 << (input.byte() & 3)
      payload = words([small << 2 & 0x3ff | region >> 6, 0, region % 10, UInt32(count)])
      for _ in 0..<count { payload.append(input.byte()) }
    case .reset: payload = []
    }
    // The region is larger than what a byte reaches.
    if choice & 0x80 != 0, payload.count >= 16 {
      let place = Int(input.byte()) % payload.count
      payload[place] = input.byte()
    }
    for _ in 0..<Int(choice >> 5 & 3) {
      passed.append(region & 16 == 0 ? event.number : noEvent.number)
    }
    let header = VfioUserHeader(
      id: UInt16(small), command: command.rawValue, size: UInt32(16 + payload.count),
      flags: region & 32 == 0 ? 0 : 0x10)
    return (header.bytes + payload, passed)
  }

  private func sendRequest(_ machine: Int, _ input: inout FuzzInput, reads: Bool = true) {
    let (bytes, passed) = request(&input)
    send(machine, bytes, passed)
    if reads { step(1) }
  }

  /// A header of any words, with fewer bytes behind it than it says or with more.
  private func sendAnything(_ machine: Int, _ input: inout FuzzInput) {
    let header = VfioUserHeader(
      id: input.half(), command: input.half() & 31, size: input.word() & 0x8001_00ff,
      flags: UInt32(input.byte()))
    let count = Int(input.byte() & 127)
    let payload = (0..<count).map { _ in input.byte() }
    send(machine, header.bytes + payload)
  }

  /// A request in two parts, with something between them.
  private func sendPart(_ machine: Int, _ input: inout FuzzInput) {
    let (bytes, passed) = request(&input)
    let count = 1 + Int(input.byte()) % (bytes.count - 1)
    send(machine, Array(bytes[..<count]), passed)
    step(1)
    if input.byte() & 3 == 0 { return sockets[machine] = nil }
    drain(machine)
    send(machine, Array(bytes[count...]))
  }

  /// What a process does that rings a machine, armed or not.
  private func ringFromProcess(_ choice: UInt8) {
    let first = 5 + (1 + Int(choice & 1)) * Self.vectors
    _ = cl_event_signal(shared[first + Int(choice >> 1 & 1)])
  }

  /// The counter of the eventfd is full and its writers block.
  private func fillEvent() {
    _ = cl_set_nonblocking(event.number)
    cl_event_take(event.number)
    var most = UInt64.max - 1
    _ = unsafe cl_write_all(event.number, &most, 8)
    _ = cl_set_blocking(event.number)
  }
}
