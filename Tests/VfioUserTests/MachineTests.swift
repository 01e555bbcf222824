import CLinux
import Foundation
import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import SimulatorPeer
import Testing
import VfioUser

/// A client that plays QEMU's sequence against the simulator, with processes as the other peers.
@Suite struct MachineTests {
  static let command: UInt64 = 4

  /// From connection to a guest whose driver has MSI-X and bus mastering on.
  static func start(
    _ client: ScriptedClient, vectors: Int = 1, isOneShot: Bool = false
  ) throws -> [ScriptedEvent] {
    try client.agree()
    #expect(try client.write(7, command, [0x06, 0]).error == 0)
    if isOneShot { #expect(try client.write(7, 0x43, [1]).error == 0) }
    var events: [ScriptedEvent] = []
    for vector in 0..<vectors {
      let event = try ScriptedEvent()
      let reply = try client.setInterrupts(
        0x24, 2, UInt32(vector), 1, [event.descriptor.number])
      #expect(reply.error == 0)
      events.append(event)
    }
    return events
  }

  @Test func whatQEMUAsksIsAnswered() throws {
    let server = try MachineServer(machines: [1]) { $0.vectorCount = 2 }
    let client = try server.client(1)
    let version = try client.agree()
    #expect(version.error == 0 && version.word(0) == 0)
    #expect(version.payload.last == 0)
    // QEMU reads the reply into the buffer of its proposal, which is longer than this.
    #expect(version.payload.count < 190)
    let text = Data(version.payload[4..<version.payload.count - 1])
    let json = try JSONSerialization.jsonObject(with: text)
    #expect(json is [String: Any])
    #expect(try client.ask(.mapMemory, [UInt8](repeating: 0, count: 32)).header.size == 16)
    let unmap = words(24, 0, 0, 1, 0, 2)
    #expect(try client.ask(.unmapMemory, unmap).payload == unmap)
    let info = try client.ask(.deviceInfo, words(16, 0, 0, 0))
    #expect(info.payload == words(16, 3, 9, 5))
    for region in UInt32(0)..<9 {
      let reply = try client.ask(.regionInfo, words(32, 0, region, 0, 0, 0, 0, 0))
      let sizes: [UInt32: UInt64] = [0: 4096, 1: 512, 2: 65536, 7: 256]
      let size = sizes[region] ?? 0
      #expect(reply.word(8) == region && reply.long(16) == size, "region \(region)")
      #expect(reply.word(4) == (size == 0 ? 0 : region == 2 ? 7 : 3))
      #expect(reply.descriptors.count == (region == 2 ? 1 : 0))
      for descriptor in reply.descriptors { cl_close(descriptor) }
    }
    for kind in UInt32(0)..<5 {
      let reply = try client.ask(.interruptInfo, words(16, 0, kind, 0))
      #expect(reply.payload == words(16, kind == 2 ? 9 : 0, kind, kind == 2 ? 2 : 0))
    }
    #expect(try client.ask(.reset).error == 0)
  }

  /// Our own decoder, which boards use, finds all it needs in configuration space.
  @Test func configurationSpaceIsThatOfAnIVShmemDevice() throws {
    let server = try MachineServer(machines: [1]) {
      $0.vectorCount = 3
      $0.readWriteSize = 8192
      $0.machines[0].deviceClass = 0xff_8002
    }
    let client = try server.client(1)
    try client.agree()
    let bytes = try client.configuration()
    #expect(little(bytes, 0, 4) == 0x4106_110a)
    #expect(Array(bytes[9...11]) == [0x02, 0x80, 0xff])
    #expect(bytes[0x06] & 0x18 == 0x10 && bytes[0x34] == 0x40 && bytes[0x3d] == 0)
    #expect(Array(bytes[0x40...0x43]) == [0x09, 0x60, 0x18, 0])
    #expect(little(bytes, 0x44, 4) == 4096)
    #expect(little(bytes, 0x48, 8) == 8192)
    #expect(little(bytes, 0x50, 8) == 1 << 14)
    #expect(Array(bytes[0x60...0x63]) == [0x11, 0, 2, 0])
    #expect(little(bytes, 0x64, 4) == 1 && little(bytes, 0x68, 4) == 0x101)
    #expect(bytes[0x18] == 0x0c && bytes[0x80...].allSatisfy { $0 == 0xff })
  }

  @Test func doorbellsAndStatesPassBetweenProcessAndMachine() throws {
    let server = try MachineServer(machines: [1]) { $0.vectorCount = 2 }
    let client = try server.client(1)
    let events = try Self.start(client, vectors: 2)
    var process = try server.process(0)
    #expect(try client.register(0) == 1)
    #expect(try client.register(4) == 2)
    // Not armed: dropped.
    process.ringDoorbell(Vector(1), at: PeerID(1))
    #expect(try client.register(8) == 0)
    #expect(!events[1].isSignalled)
    try client.setRegister(8, 1)
    process.ringDoorbell(Vector(1), at: PeerID(1))
    #expect(events[1].fires())
    #expect(!events[0].isSignalled)
    // The guest has not chosen one-shot mode, whatever the link's processes have.
    #expect(try client.register(8) == 1)
    process.writeState(7)
    #expect(events[0].fires())
    // The other way.
    process.setInterruptsEnabled(true)
    try client.setRegister(0x10, 9)
    #expect(try client.register(0x10) == 9)
    #expect(process.region.state(of: PeerID(1), in: process.geometry) == 9)
    let later = process.now().advanced(byNanoseconds: 60_000_000_000)
    #expect(process.wait(until: later) == .event)
    #expect(process.interruptsEnabled() == false)
    try client.setRegister(0x0c, 0)
    #expect(process.wait(until: Instant(nanoseconds: 0)) == .deadline)
    process.setInterruptsEnabled(true)
    try client.setRegister(0x0c, 1)
    #expect(process.wait(until: later) == .event)
    // A vector that is not there, a peer that is not there.
    process.setInterruptsEnabled(true)
    try client.setRegister(0x0c, 2)
    try client.setRegister(0x0c, 5 << 16)
    #expect(process.interruptsEnabled() == true)
  }

  @Test func oneShotIsTheGuestsChoice() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    let events = try Self.start(client, isOneShot: true)
    var process = try server.process(0)
    try client.setRegister(8, 1)
    process.ringDoorbell(.zero, at: PeerID(1))
    #expect(events[0].fires())
    #expect(try client.register(8) == 0)
    process.ringDoorbell(.zero, at: PeerID(1))
    #expect(try client.register(8) == 0)
    #expect(!events[0].isSignalled)
    let counts = process.interruptCounts(of: PeerID(1))
    #expect(counts.delivered == 1 && counts.dropped == 1)
  }

  /// Jailhouse sends no message of a function that is no bus master; one-shot disarms all the same.
  @Test func withoutBusMasterMessagesAreLost() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    let events = try Self.start(client, isOneShot: true)
    #expect(try client.write(7, Self.command, [0x02, 0]).error == 0)
    var process = try server.process(0)
    try client.setRegister(8, 1)
    process.ringDoorbell(.zero, at: PeerID(1))
    while try client.register(8) == 1 {}
    try client.setRegister(8, 0)
    #expect(!events[0].isSignalled)
  }

  @Test func machinesRingEachOther() throws {
    let server = try MachineServer(machines: [0, 2]) { $0.maxPeers = 3 }
    let (a, b) = (try server.client(0), try server.client(2))
    let (atA, atB) = (try Self.start(a), try Self.start(b))
    var process = try server.process(1)
    try a.setRegister(8, 1)
    try b.setRegister(8, 1)
    process.setInterruptsEnabled(true)
    try a.setRegister(0x0c, 2 << 16)
    #expect(atB[0].fires() && !atA[0].isSignalled)
    try b.setRegister(0x10, 3)
    #expect(atA[0].fires() && !atB[0].isSignalled)
    #expect(process.wait(until: process.now().advanced(byNanoseconds: 60_000_000_000)) == .event)
    #expect(process.region.state(of: PeerID(2), in: process.geometry) == 3)
  }

  /// A guest that reboots: State 0, deaf, no one-shot; the others hear of it and go on.
  @Test func aResetIsSeenByTheOthers() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    let events = try Self.start(client, isOneShot: true)
    var process = try server.process(0)
    try client.setRegister(8, 1)
    try client.setRegister(0x10, 4)
    process.setInterruptsEnabled(true)
    try client.ask(.reset)
    let later = process.now().advanced(byNanoseconds: 60_000_000_000)
    #expect(process.wait(until: later) == .event)
    #expect(process.region.state(of: PeerID(1), in: process.geometry) == 0)
    #expect(try client.register(8) == 0 && client.register(0x10) == 0)
    #expect(try client.configuration()[0x43] == 0)
    // The same connection goes on.
    #expect(try client.write(7, Self.command, [0x06, 0]).error == 0)
    try client.setRegister(8, 1)
    process.writeState(5)
    #expect(events[0].fires())
  }

  /// A machine that is killed: State 0 for the others, its place is free for the next one.
  @Test func aKilledMachineIsReplaced() throws {
    let server = try MachineServer(machines: [1])
    var process = try server.process(0)
    for round in UInt32(1)...3 {
      let client = try server.client(1)
      let events = try Self.start(client)
      // An interrupt of an earlier life is not seen.
      #expect(!events[0].isSignalled)
      try client.setRegister(8, 1)
      process.writeState(round)
      #expect(events[0].fires())
      process.setInterruptsEnabled(true)
      try client.setRegister(0x10, round)
      let later = process.now().advanced(byNanoseconds: 60_000_000_000)
      #expect(process.wait(until: later) == .event)
      process.setInterruptsEnabled(true)
      process.ringDoorbell(.zero, at: PeerID(1))
      _ = consume client
      #expect(process.wait(until: later) == .event)
      #expect(process.region.state(of: PeerID(1), in: process.geometry) == 0)
    }
  }

  @Test func aTakenPlaceIsRefused() throws {
    let server = try MachineServer(machines: [1])
    let process = try server.process(1)
    let refused = try server.client(1)
    #expect(try refused.agree().error == 16)
    var descriptors: [Int32] = []
    #expect(throws: ScriptedError.closed) { try refused.receive(1, &descriptors) }
    _ = consume process
    let first = try server.client(1)
    // The process has left before this is answered: its socket was closed before.
    #expect(try first.agree().error == 0)
    let second = try server.client(1)
    #expect(try second.agree().error == 16)
    #expect(throws: SimulatorPeerError.self) { _ = try server.process(1) }
    #expect(try first.register(0) == 1)
    // Who asks for any place does not get a machine's.
    let any = try SimulatorPeer(socketPath: server.path)
    #expect(any.peerID == PeerID(0))
    #expect(throws: SimulatorPeerError.self) { _ = try SimulatorPeer(socketPath: server.path) }
  }

  /// INTx: a level that waits for its unmasking, with the status bit that shared lines need.
  @Test func theLineIsMaskedUntilItIsTakenBack() throws {
    let server = try MachineServer(machines: [1]) { $0.machines[0].hasLine = true }
    let client = try server.client(1)
    try client.agree()
    let bytes = try client.configuration()
    #expect(bytes[0x3d] == 1 && bytes[0x41] == 0 && bytes[0x60] == 0x11)
    #expect(try client.ask(.interruptInfo, words(16, 0, 0, 0)).payload == words(16, 7, 0, 1))
    let event = try ScriptedEvent()
    #expect(try client.setInterrupts(0x24, 0, 0, 1, [event.descriptor.number]).error == 0)
    #expect(try client.write(7, Self.command, [0x02, 0]).error == 0)
    var process = try server.process(0)
    try client.setRegister(8, 1)
    process.ringDoorbell(.zero, at: PeerID(1))
    #expect(event.fires())
    #expect(try client.configuration()[6] & 8 == 8)
    // Masked: remembered once.
    process.ringDoorbell(.zero, at: PeerID(1))
    process.writeState(1)
    #expect(try client.register(8) == 1)
    #expect(!event.isSignalled)
    #expect(try client.setInterrupts(0x11, 0, 0, 1).error == 0)
    #expect(event.fires())
    #expect(try client.setInterrupts(0x11, 0, 0, 1).error == 0)
    #expect(!event.isSignalled)
    #expect(try client.configuration()[6] & 8 == 0)
    // Switched off in the command register: lost.
    #expect(try client.write(7, Self.command, [0x02, 0x04]).error == 0)
    process.writeState(2)
    #expect(!event.isSignalled)
    #expect(try client.write(7, Self.command, [0x02, 0]).error == 0)
    #expect(!event.isSignalled)
    process.writeState(3)
    #expect(event.fires())
  }

  /// With INTx QEMU traps the memory: reads and writes go through the server, with the rights the
  /// peer has.
  @Test func trappedMemoryKeepsTheRights() throws {
    let server = try MachineServer(machines: [1]) { $0.readWriteSize = 4096 }
    let client = try server.client(1)
    try client.agree()
    let process = try server.process(0)
    let geometry = process.geometry
    let (mine, theirs) = (geometry.output(of: PeerID(1)), geometry.output(of: PeerID(0)))
    let (before, firstWord) = (process.region.load32(theirs.lowerBound), process.region.load32(0))
    #expect(try client.write(2, UInt64(mine.lowerBound), words(1, 2)).error == 0)
    #expect(process.region.load64(mine.lowerBound) == 0x2_0000_0001)
    #expect(try client.write(2, UInt64(mine.lowerBound) + 3, [5]).error == 0)
    #expect(process.region.load32(mine.lowerBound) == 0x0500_0001)
    #expect(try client.write(2, UInt64(geometry.readWrite.lowerBound), [1, 2, 3]).error == 0)
    #expect(process.region.load8(geometry.readWrite.lowerBound + 2) == 3)
    for offset in [0, theirs.lowerBound, theirs.upperBound - 2] {
      #expect(try client.write(2, UInt64(offset), words(0x5555_5555)).error == 0)
    }
    #expect(process.region.load32(theirs.lowerBound) == before)
    #expect(process.region.load32(0) == firstWord)
    process.region.store32(77, at: theirs.lowerBound + 8)
    #expect(try client.read(2, UInt64(theirs.lowerBound) + 8, 4).word(16) == 77)
    // The BAR is larger than the sections, and not a byte more than that.
    #expect(try client.read(2, 65536 - 8, 8).error == 0)
    #expect(try client.read(2, 65536 - 4, 8).error == 22)
  }

  /// What a machine writes through its mapping is what processes see.
  @Test func theMappedMemoryIsTheLinks() throws {
    let server = try MachineServer(machines: [1])
    let client = try server.client(1)
    try client.agree()
    let info = try client.ask(.regionInfo, words(32, 0, 2, 0, 0, 0, 0, 0))
    let memory = try #require(info.descriptors.first)
    defer { cl_close(memory) }
    let process = try server.process(0)
    let mine = process.geometry.output(of: PeerID(1))
    let bytes: [UInt8] = [1, 2, 3, 4]
    let written = unsafe bytes.withUnsafeBytes { data in
      unsafe data.baseAddress.map { unsafe cl_write_at(memory, $0, 4, Int64(mine.lowerBound)) } ?? 0
    }
    #expect(written == 4)
    #expect(process.region.load32(mine.lowerBound) == 0x0403_0201)
    #expect(cl_truncate(memory, 4096) < 0)
  }

  /// Without BAR 2 the capability names the address, and the memory is a file.
  @Test func aFixedAddressIsInTheCapability() throws {
    var file = ""
    do {
      let server = try MachineServer(machines: [1]) {
        file = $0.machines[0].path + ".memory"
        $0.memoryPath = file
        $0.machines[0].address = 0x4f00_0000
      }
      let client = try server.client(1)
      try client.agree()
      let bytes = try client.configuration()
      #expect(bytes[0x42] == 0x20 && little(bytes, 0x58, 8) == 0x4f00_0000)
      #expect(bytes[0x18] == 0)
      let info = try client.ask(.regionInfo, words(32, 0, 2, 0, 0, 0, 0, 0))
      #expect(info.long(16) == 0 && info.descriptors.isEmpty)
      let process = try server.process(0)
      process.region.store32(0x1234, at: process.geometry.output(of: PeerID(0)).lowerBound)
      let data = try Data(contentsOf: URL(fileURLWithPath: file))
      #expect(data.count == 1 << 20)
      #expect(data[4096] == 0x34 && data[4097] == 0x12)
    }
    #expect(!FileManager.default.fileExists(atPath: file))
  }
}
