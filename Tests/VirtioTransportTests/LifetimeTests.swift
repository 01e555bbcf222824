import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioDevice
import VirtioTransport
import Virtqueue

@testable import DeviceRuntime

/// What goes before what when a back-end goes.
@Suite struct LifetimeTests {
  /// Sees whether the link's memory is there when a device goes.
  final class Witness {
    weak var link: ScheduledLink?
    var memoryWasThere: Bool?
  }

  /// Goes with its device.
  final class Token {
    let witness: Witness
    init(_ witness: Witness) { self.witness = witness }
    deinit { witness.memoryWasThere = witness.link != nil }
  }

  struct EmptyDevice: DeviceModel, ~Copyable {
    let token: Token
    var deviceID: UInt32 { 42 }
    var queueCount: Int { 1 }
    var maximumQueueSize: QueueSize {
      guard let size = QueueSize(8) else { preconditionFailure("8 is a size") }
      return size
    }
    var maximumChainLength: Int { 4 }
    var offeredFeatures: FeatureSet { FeatureSet() }
    var configurationSize: Int { 0 }
    func configurationByte(at offset: Int) -> UInt8 { 0 }
    mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool { false }
    mutating func start(features: FeatureSet) {}
    func canServe(queue: Int) -> Bool { false }
    mutating func serve(
      _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
      on queue: inout DeviceQueue, in region: SharedRegion
    ) { queue.complete(chain, written: 0) }
    mutating func nextCompletion() -> DeviceCompletion? { nil }
    var inFlightCount: Int { 0 }
    mutating func stop() {}
    mutating func takeConfigurationChange() -> Bool { false }
  }

  final class Holder {
    let backend: Backend<ScheduledPeer, EmptyDevice>
    init(_ backend: consuming Backend<ScheduledPeer, EmptyDevice>) { self.backend = backend }
  }

  /// A back-end that is the last to have its link.
  static func hold(_ witness: Witness, _ base: UnsafeMutableRawPointer) throws -> Holder {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: 0x18000, outputSize: 0)
    let link = try ScheduledLink(guarding: geometry, seed: 1)
    witness.link = link
    let plan = try LinkPlan(side: .backEnd, own: PeerID(0), peer: PeerID(1), geometry: geometry)
    let native = NativeLink(platform: ScheduledPeer(link: link, peerID: PeerID(0)), plan: plan)
    var arena = unsafe PrivateArena(unsafeBase: base, count: 1 << 20)
    guard var backend = Backend<ScheduledPeer, EmptyDevice>(link: native, arena: &arena),
      backend.add(EmptyDevice(token: Token(witness)), at: 0, arena: &arena)
    else { preconditionFailure("the books hold a back-end") }
    return Holder(backend)
  }

  /// A worker of a disk moves bytes until its host has joined it.
  @Test func devicesGoBeforeTheMemoryTheyWorkOn() throws {
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { unsafe base.deallocate() }
    let witness = Witness()
    var holder: Holder? = unsafe try Self.hold(witness, base)
    #expect(holder != nil && witness.memoryWasThere == nil)
    holder = nil
    #expect(witness.memoryWasThere == true)
    #expect(witness.link == nil)
  }
}
