import CLinux
import Foundation
import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import SimulatorPeer
import Testing
import VfioUser

/// Clients that lie, stall, flood and vanish: each may hurt itself, and nobody else.
@Suite struct HostileClientTests {
  /// The server answers others, and their link is as it was.
  static func isWell(_ server: MachineServer, _ process: inout SimulatorPeer) throws {
    process.writeState(process.readState() &+ 1)
    #expect(process.region.state(of: process.peerID, in: process.geometry) == process.readState())
    let other = try server.client(1)
    #expect(try other.agree().error == 0)
    #expect(try other.register(4) == 2)
  }

  static func isClosed(_ client: ScriptedClient) -> Bool {
    var descriptors: [Int32] = []
    // An error of an answer that came before may lie there.
    for _ in 0..<64 {
      do { _ = try client.receive(1, &descriptors) } catch ScriptedError.closed {
        return true
      } catch { return false }
    }
    return false
  }

  static var openDescriptors: Int {
    (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? -1
  }

  /// Sizes that are no message end the connection.
  @Test(arguments: [0, 15, UInt32(VfioUserFormat.messageLimit) + 1, 0x8000_0000, .max])
  func wrongSizesEndTheConnection(size: UInt32) throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    try client.agree()
    _ = client.sendRaw(VfioUserHeader(id: 1, command: 9, size: size).bytes)
    #expect(Self.isClosed(client))
    try Self.isWell(server, &process)
  }

  @Test func aReplyToNothingEndsTheConnection() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    try client.agree()
    try client.send(13, flags: 1)
    #expect(Self.isClosed(client))
    try Self.isWell(server, &process)
  }

  @Test func whoDoesNotSayTheVersionFirstIsLetGo() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    for command in VfioUserCommand.allCases where command != .version {
      let client = try server.client(1)
      try client.send(command.rawValue, [UInt8](repeating: 1, count: 40))
      #expect(Self.isClosed(client))
    }
    let wrong = try server.client(1)
    #expect(try wrong.ask(.version, [1, 0, 0, 0]).error == 95)
    #expect(Self.isClosed(wrong))
    try Self.isWell(server, &process)
  }

  @Test func aSecondVersionIsAnError() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    try client.agree()
    #expect(try client.agree().error == 22)
    #expect(try client.register(0) == 1)
  }

  /// A message in pieces, byte by byte, is a message; half of one is nothing to anybody else.
  @Test func halfMessagesStopNobody() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    try client.agree()
    let message =
      VfioUserHeader(id: 7, command: 9, size: 32).bytes + words(4, 0, 0, 4)
    for (index, byte) in message.enumerated() {
      #expect(client.sendRaw([byte]) == 1)
      if index == 10 || index == 20 { process.writeState(UInt32(index)) }
    }
    let reply = try client.receiveReply()
    #expect(reply.header.id == 7 && reply.word(16) == 2)
    _ = client.sendRaw(Array(message[..<20]))
    _ = consume client
    // Its place is free as soon as it is buried.
    while process.region.state(of: PeerID(1), in: process.geometry) != 0 {}
    try Self.isWell(server, &process)
  }

  /// Descriptors that nobody asked for are closed; nobody else's tests open any in this process.
  @Test func descriptorsDoNotPileUp() async {
    await #expect(processExitsWith: .success) { try HostileClientTests.sendDescriptors() }
  }

  static func sendDescriptors() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    try client.agree()
    let event = try ScriptedEvent()
    let before = Self.openDescriptors
    for round in 0..<50 {
      let number = event.descriptor.number
      let list = [Int32](repeating: number, count: 1 + round % VfioUserFormat.descriptorLimit)
      #expect(try client.ask(.mapMemory, [UInt8](repeating: 0, count: 32), list).error == 0)
      #expect(try client.ask(.reset, [], list).error == 0)
      // More or fewer eventfds than interrupts.
      #expect(
        try client.setInterrupts(0x24, 2, 0, 1, list).error == (list.count == 1 ? 0 : 22))
      #expect(try client.setInterrupts(0x24, 2, 0, 1).error == 0)
    }
    #expect(openDescriptors == before)
  }

  @Test func tooManyDescriptorsEndTheConnection() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    try client.agree()
    let event = try ScriptedEvent()
    let many = [Int32](repeating: event.descriptor.number, count: 17)
    try client.send(13, [], many)
    #expect(Self.isClosed(client))
    try Self.isWell(server, &process)
  }

  /// A socket, a file, a pipe in the place of an eventfd is refused: a write to it could block.
  @Test func onlyEventfdsAreTaken() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    try client.agree()
    let file = try Descriptor(unsafe cl_memfd("no-eventfd"))
    #expect(try client.setInterrupts(0x24, 2, 0, 1, [file.number]).error == 22)
    #expect(try client.setInterrupts(0x24, 2, 0, 1, [client.socket.number]).error == 22)
    #expect(try client.register(0) == 1)
  }

  /// An eventfd whose counter is full and that blocks: the interrupt is pending anyway, and the
  /// server does not wait.
  @Test func aFullEventfdBlocksNobody() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    let events = try MachineTests.start(client)
    let number = events[0].descriptor.number
    var most: UInt64 = .max - 1
    #expect(unsafe cl_write_all(number, &most, 8) == 0)
    #expect(cl_set_blocking(number) >= 0)
    try client.setRegister(8, 1)
    for state in UInt32(1)...3 { process.writeState(state) }
    #expect(try client.register(4) == 2)
    _ = cl_set_nonblocking(number)
  }

  /// A client that sends and never reads stalls itself.
  @Test func aClientThatDoesNotReadStallsItself() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    try client.agree()
    _ = cl_set_nonblocking(client.socket.number)
    let message =
      VfioUserHeader(id: 7, command: 9, size: 32).bytes
      + words(0, 0, 2, 65536 / 2)
    var sent = 0
    // Until the kernel takes no more: the server has stopped reading.
    while client.sendRaw(message) == message.count { sent += 1 }
    #expect(sent > 0)
    for state in UInt32(1)...100 { process.writeState(state) }
    #expect(process.readState() == 100)
    // The State of the stalled one is its own affair; its end is seen.
    _ = cl_set_blocking(client.socket.number)
    #expect(try client.receiveReply().payload.count == 16 + 32768)
    _ = consume client
    while process.region.state(of: PeerID(1), in: process.geometry) != 0 {}
    try Self.isWell(server, &process)
  }

  /// Requests that want no reply come as fast as they can, and others get their turn.
  @Test func aFloodLeavesRoomForOthers() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    let events = try MachineTests.start(client)
    try client.setRegister(8, 1)
    for round in UInt32(0)..<2000 {
      try client.send(
        VfioUserCommand.write.rawValue, words(0x10, 0, 0, 4) + words(round), flags: 0x10)
      if round % 100 == 0 { process.writeState(round + 1) }
    }
    #expect(try client.register(0x10) == 1999)
    #expect(events[0].isSignalled)
    try process.isStateOfOther(1999)
  }

  /// Connections that say nothing are replaced by newer ones; the peer is not.
  @Test func idleConnectionsTakeNoPlace() throws {
    let server = try MachineServer(machines: [1])
    let first = try server.client(1)
    try first.agree()
    var idle: [ScriptedClient] = []
    for _ in 0..<20 { idle.append(try server.client(1)) }
    #expect(Self.isClosed(idle[0]))
    #expect(try first.register(0) == 1)
    idle = []
    _ = consume first
    let next = try server.client(1)
    #expect(try next.agree().error == 0)
  }

  /// A machine may write anything into its mapping, the state table too: the State registers and
  /// what they cause stay what was written to them.
  @Test func aScribbledStateTableMovesNoRegister() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    let client = try server.client(1)
    let events = try MachineTests.start(client)
    try client.setRegister(8, 1)
    process.writeState(5)
    #expect(events[0].fires())
    let info = try client.ask(.regionInfo, words(32, 0, 2, 0, 0, 0, 0, 0))
    let memory = try #require(info.descriptors.first)
    defer { cl_close(memory) }
    let garbage = [UInt8](repeating: 0xaa, count: 4096)
    let written = unsafe garbage.withUnsafeBytes { data in
      unsafe data.baseAddress.map { unsafe cl_write_at(memory, $0, 4096, 0) } ?? 0
    }
    #expect(written == 4096)
    #expect(process.readState() == 5)
    process.writeState(5)
    #expect(process.region.state(of: PeerID(0), in: process.geometry) == 5)
    #expect(!events[0].isSignalled)
  }
}

extension SimulatorPeer {
  func isStateOfOther(_ value: UInt32) throws {
    #expect(region.state(of: PeerID(1), in: geometry) == value)
  }
}
