import CWatch
import Foundation
import FuzzTargets
import IVShmem
import SharedMemory
import Simulator
import Testing

/// The instruments of the other tests: a guard that lets everything pass proves nothing.
@Suite struct InstrumentTests {
  static func link() throws -> ScheduledLink {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: 4096, outputSize: 4096)
    return try ScheduledLink(guarding: geometry, seed: 1)
  }

  /// A store that a peer has no right to ends the process.
  @Test func rightsAreEnforced() async {
    await #expect(processExitsWith: .signal(SIGSEGV)) {
      let link = try InstrumentTests.link()
      link.views[0].store32(1, at: 0)
    }
    await #expect(processExitsWith: .signal(SIGSEGV)) {
      let link = try InstrumentTests.link()
      link.views[0].store32(1, at: link.geometry.output(of: PeerID(1)).lowerBound)
    }
    await #expect(processExitsWith: .success) {
      let link = try InstrumentTests.link()
      link.views[1].store32(1, at: link.geometry.output(of: PeerID(1)).lowerBound)
      link.views[1].store32(2, at: link.geometry.readWrite.lowerBound)
      let seen = link.views[0].load32(link.geometry.output(of: PeerID(1)).lowerBound)
      precondition(seen == 1)
    }
  }

  /// Words, table fields, copies, fills and register writes are steps; other memory is not.
  @Test func stepsAreCounted() throws {
    let link = try Self.link()
    let own = link.views[1]
    own.watch(side: 1)
    defer { cw_watch_end() }
    own.store8(1, at: 4096)
    own.store64Releasing(1, at: 4104)
    let table: SharedTable<8> = try #require(own.table(at: 4096, entryCount: 8))
    table.store16(3, 1)
    #expect(cw_steps(1) == 3)
    own.fill(own.ownRange(4096..<4096 + 1025), with: 7)
    #expect(cw_steps(1) == 6)
    let bytes = [UInt8](repeating: 9, count: 512)
    own.copy(bytes.span, into: own.ownRange(4096..<4608))
    #expect(cw_steps(1) == 7)
    var peer = ScheduledPeer(link: link, peerID: PeerID(1))
    peer.writeState(5)
    peer.setInterruptsEnabled(true)
    peer.ringDoorbell(.zero, at: PeerID(0))
    #expect(cw_steps(1) == 10)
    link.region.store32(1, at: 4096)
    link.views[0].store32(1, at: 4096)
    #expect(cw_steps(1) == 10 && cw_steps(0) == 0)
    _ = own.load64(4096)
    #expect(cw_accesses(1) > cw_steps(1))
  }

  /// From its last step on a side stores nothing: not a word, not the rest of a copy, no register.
  @Test func theDeadStoreNothing() throws {
    let link = try Self.link()
    let own = link.views[1]
    own.watch(side: 1, dyingBefore: 4)
    defer { cw_watch_end() }
    own.store32(1, at: 4096)
    own.fill(own.ownRange(4100..<4100 + 1536), with: 7)
    #expect(cw_is_dead(1) == 1)
    #expect(own.load8(4100 + 1023) == 7)
    #expect(own.load8(4100 + 1024) == 0)
    own.store32(9, at: 4096)
    #expect(own.load32(4096) == 1)
    var peer = ScheduledPeer(link: link, peerID: PeerID(1))
    peer.writeState(5)
    #expect(peer.readState() == 0)
    cw_set_last(1, 0)
    peer.writeState(5)
    #expect(peer.readState() == 5)
  }

  /// Where AddressSanitizer looks, what was forbidden is refused.
  @Test(.enabled(if: cw_has_sanitizer() != 0)) func bansAreEnforced() async {
    await #expect(processExitsWith: .failure) {
      let link = try InstrumentTests.link()
      link.views[0].forbid(0..<link.region.count)
      _ = link.views[0].load32(4096)
    }
    await #expect(processExitsWith: .success) {
      let link = try InstrumentTests.link()
      link.views[0].forbid(0..<link.region.count)
      link.views[0].allow(4096..<4100)
      _ = link.views[0].load32(4096)
    }
  }

  /// While a device works on a chain, nothing else of the memory is its own.
  @Test(.enabled(if: cw_has_sanitizer() != 0)) func aStrayingDeviceIsSeen() async {
    await #expect(processExitsWith: .failure) {
      let fuzzer = try BackendFuzzer()
      fuzzer.strays = true
      try fuzzer.run([1])
    }
    await #expect(processExitsWith: .success) { try BackendFuzzer().run([1]) }
  }

  /// While a driver works, nothing of the memory but its rings and buffers is its own.
  @Test(.enabled(if: cw_has_sanitizer() != 0)) func aStrayingDriverIsSeen() async {
    await #expect(processExitsWith: .failure) {
      let fuzzer = try FrontendFuzzer()
      fuzzer.strays = true
      try fuzzer.run([1, 0, 9, 9, 9, 9])
    }
    await #expect(processExitsWith: .failure) {
      let fuzzer = try DriverFuzzer(.block)
      fuzzer.strays = true
      try fuzzer.run([1, 0, 9, 9, 9, 9])
    }
    await #expect(processExitsWith: .failure) {
      let fuzzer = try DriverFuzzer(.network)
      fuzzer.strays = true
      try fuzzer.run([1, 0, 9, 9, 9, 9])
    }
    await #expect(processExitsWith: .failure) {
      let fuzzer = try DriverFuzzer(.console)
      fuzzer.strays = true
      try fuzzer.run([1, 0, 9, 9, 9, 9])
    }
    await #expect(processExitsWith: .failure) {
      let fuzzer = try DriverFuzzer(.entropy)
      fuzzer.strays = true
      try fuzzer.run([1, 0, 9, 9, 9, 9])
    }
    await #expect(processExitsWith: .success) { try DriverFuzzer(.console).run([1, 0, 9, 9]) }
    await #expect(processExitsWith: .success) { try DriverFuzzer(.entropy).run([1, 0, 9, 9]) }
  }
}
