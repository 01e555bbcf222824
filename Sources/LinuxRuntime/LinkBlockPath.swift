import CLinux
import CommandOptions
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A block device of an ivshmem link.
struct LinkBlockPath: BlockPath, ~Copyable {
  private var front: BlockFrontend<HostPlatform>

  /// Joins the link.
  init(_ link: LinkSpecification, slot: Int, depth: Int) throws(ClientError) {
    try self.init(Self.join(link), link, slot: slot, depth: depth)
  }

  /// Joins a link as its front-end; how to talk on it is not yet decided.
  static func join(_ link: LinkSpecification) throws(ClientError) -> HostPlatform {
    do throws(UsageError) {
      return try openPeer(link, side: .frontEnd)
    } catch { throw .usage(error) }
  }

  /// Takes over a link that was joined.
  init(
    _ platform: consuming HostPlatform, _ link: LinkSpecification, slot: Int, depth: Int
  ) throws(ClientError) {
    front = try Self.open(platform, link, slot, depth)
    front.frontend.start()
  }

  private static func open(
    _ platform: consuming HostPlatform, _ link: LinkSpecification, _ slot: Int, _ depth: Int
  ) throws(ClientError) -> BlockFrontend<HostPlatform> {
    let native = try openNative(platform, link)
    var arena = PrivateMemory.arena(4 << 20)
    do throws(BlockFrontendError) {
      return try BlockFrontend(
        frontend: Frontend(link: native), slot: slot, depth: UInt32(depth), arena: &arena)
    } catch { throw .failed("setting up the front-end: \(error)") }
  }

  private static func openNative(
    _ platform: consuming HostPlatform, _ link: LinkSpecification
  ) throws(ClientError) -> NativeLink<HostPlatform> {
    do throws(UsageError) {
      return try makeNativeLink(platform, link, side: .frontEnd)
    } catch { throw .usage(error) }
  }

  var configuration: BlockConfiguration { front.configuration }
  var features: FeatureSet { front.features }
  var region: SharedRegion { front.frontend.link.region }
  var notificationCount: UInt64 { front.frontend.link.counters.doorbells }
  var resubmittedCount: UInt64 { front.counters.resubmitted }
  var hasCompletion: Bool { front.hasCompletion }
  var wakeDescriptor: Int32 { front.frontend.link.platform.localWake.descriptor }

  mutating func allocateForReading(_ count: Int) -> BufferSegment? {
    front.allocateForReading(count)
  }

  mutating func allocateForWriting(_ count: Int) -> BufferSegment? {
    front.allocateForWriting(count)
  }

  mutating func connect(until deadline: UInt64) throws(ClientError) {
    let seconds = (deadline - min(deadline, cl_monotonic_ns())) / 1_000_000_000
    do throws(BlockFrontendError) {
      try front.connect(until: Instant(nanoseconds: deadline))
    } catch {
      guard case .frontend(let cause) = error else {
        throw .failed("setting up the device: \(error)")
      }
      throw frontendFailure(
        cause, front.frontend.link.reason, seconds: seconds,
        wanting: DeviceKind(id: BlockFormat.deviceID, name: "a block device"))
    }
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    do throws(FrontendError) {
      try front.frontend.waitForLink(until: Instant(nanoseconds: deadline))
    } catch {
      throw cl_stop_requested() != 0 ? .interrupted : .failed("the back-end did not come back")
    }
  }

  mutating func submit(
    _ type: BlockRequestType, sector: UInt64, data: BufferSegment, token: UInt32
  ) throws(ClientError) {
    do throws(BlockFrontendError) {
      try front.submit(type, sector: sector, data: data, token: token)
    } catch { throw .failed("submitting a request: \(error)") }
  }

  mutating func publish() { front.publish() }

  mutating func nextCompletion() throws(ClientError) -> PathCompletion? {
    do throws(BlockFrontendError) {
      guard let done = try front.nextCompletion() else { return nil }
      return PathCompletion(token: done.token, status: done.status, data: done.data)
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  mutating func isLost() -> Bool { front.step() }

  mutating func sleep() -> PathWait {
    switch front.sleep(until: nil) {
    case .event, .deadline: .event
    case .interrupted: .interrupted
    case .gone: .gone
    }
  }

  mutating func leave() { front.frontend.leave() }
}
