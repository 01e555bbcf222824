import Glibc
import LinuxSupport
import Testing
import VhostUser
import VirtioBlock
import VirtioDevice

/// The messages that the device sends by itself.
@Suite struct VhostUserChannelTests {
  /// Two ends of a socket; the device gets the second, the first is closed by the caller.
  static func pair() throws -> (Int32, Int32) {
    var ends: (Int32, Int32) = (-1, -1)
    let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
      unsafe socketpair(
        AF_UNIX, Int32(SOCK_STREAM.rawValue), 0,
        bytes.baseAddress?.assumingMemoryBound(to: Int32.self))
    }
    guard result == 0 else { throw SystemError(errno) }
    return ends
  }

  /// Bytes that wait at our end.
  static func waiting(_ number: Int32) -> Int {
    var bytes = [UInt8](repeating: 0, count: 256)
    return unsafe max(0, recv(number, &bytes, bytes.count, Int32(MSG_DONTWAIT)))
  }

  /// SeaBIOS reads a disk without having agreed on FLUSH: the cache mode changes when it starts and
  /// when it stops. A front-end knows that, and QEMU 11.1's generic device dies of the message.
  @Test func whatTheFrontEndDoesItselfIsNoNews() throws {
    var rig = try VhostRig.make()
    try rig.send(.getFeatures)
    let offered = rig.replyWord(0)
    let (ours, theirs) = try Self.pair()
    defer { close(ours) }
    try rig.send(.setProtocolFeatures, split(VhostRig.protocolFeatures))
    try rig.send(.setBackendChannel, descriptors: [theirs])
    try rig.send(.setOwner)
    try rig.send(.setFeatures, split(offered & ~FeatureSet.blockFlush.rawValue))
    try rig.giveMemory()
    _ = try rig.driverQueue(0)
    try rig.enable(0)
    try rig.run()
    #expect(Self.waiting(ours) == 0)
    try rig.send(.getVringBase, [0, 0])
    try rig.run()
    #expect(Self.waiting(ours) == 0)
    // The driver switches the cache by itself (VIRTIO 1.4, 5.2.5.1).
    try rig.send(.setFeatures, split(offered))
    try rig.enable(0)
    let writeback: [UInt8] = [32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    try rig.send(raw: VhostUserRequest.setConfiguration.rawValue, writeback)
    try rig.run()
    #expect(Self.waiting(ours) == 0)
  }

  /// QEMU's structure for the inflight region ends in 4 bytes of padding, and it takes no reply of
  /// another size than its own.
  @Test(arguments: [20, 24]) func theInflightReplyIsAsLongAsTheQuestion(_ size: Int) throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let words: [UInt32] = [0, 0, 0, 0, 2 | 64 << 16, 0]
    try rig.send(.getInflight, Array(words[..<(size / 4)]))
    #expect(rig.reply.size == size)
  }
}
