import CHostConsole
import CLinux
public import VirtioNet

/// What one port of a switch may do.
public struct SwitchPortOptions: Equatable, Sendable {
  /// The address the port has at first, and after each reset of its device. Nobody else gets it.
  public var address: MACAddress
  /// Whether the driver may take another address that is free; frames of the port have to come from
  /// the address it has at the moment.
  public var mayChangeAddress = false
  /// Whether it may not talk to other isolated ports, only to uplinks and to ports that are not.
  public var isIsolated = false
  /// Bytes a second its front-end may send; 0 for no limit.
  public var bytesPerSecond: UInt64 = 0
  /// Bytes of the largest packet, in ``NetFormat/mtuRange``.
  public var mtu = 1500

  /// A port for a front-end with this address.
  public init(address: MACAddress) { self.address = address }
}

/// What is counted about a port of a switch; never reset.
public struct SwitchPortCounters: Equatable, Sendable {
  /// Frames that came in through the port and were looked at.
  public var framesIn: UInt64 = 0
  /// Frames that went out through it.
  public var framesOut: UInt64 = 0
  /// Frames in whose source address is not the port's to use.
  public var spoofed: UInt64 = 0
  /// Frames in beyond the port's rate.
  public var overRate: UInt64 = 0
  /// Frames in for ports that this one may not talk to.
  public var isolated: UInt64 = 0
  /// Frames in with a wrong header, or no frames at all.
  public var malformed: UInt64 = 0
  /// Frames out for which there was no room.
  public var overflows: UInt64 = 0
  /// Frames out for a front-end while its driver, or its link, was not there.
  public var absent: UInt64 = 0

  /// All zero.
  public init() {}
}

/// One port: a front-end's, with a queue, or an uplink.
@safe
final class SwitchPort {
  let options: SwitchPortOptions
  /// The address it has now.
  var address: MACAddress
  /// Whether its device shows a link.
  private(set) var isLinkUp = true
  let queue: FrameQueue?
  let uplink: SwitchUplink?
  let wakeDescriptor: Int32
  let news: UnsafeMutablePointer<UInt32>
  var bucket: TokenBucket
  var counters = SwitchPortCounters()
  /// Whether a front-end's driver is there.
  private var isActive = false

  /// Bytes and frames that wait for a front-end at most: as many frames as a kernel keeps for a
  /// device, and half as many of the largest ones as a driver may have under way.
  private static var queueBytes: Int { 2 << 20 }
  private static var queueFrames: Int { 1024 }
  /// The smallest burst: two of the largest frames.
  private static var smallestBurst: UInt64 { 2 * UInt64(NetFormat.frameLimit) }

  @inline(never)
  init(_ options: SwitchPortOptions, wakeDescriptor: Int32, uplink: SwitchUplink?, now: UInt64) {
    self.options = options
    address = options.address
    self.wakeDescriptor = wakeDescriptor
    self.uplink = uplink
    queue = uplink == nil ? FrameQueue(bytes: Self.queueBytes, frames: Self.queueFrames) : nil
    unsafe news = .allocate(capacity: 1)
    unsafe news.initialize(to: 0)
    bucket = TokenBucket(
      rate: options.bytesPerSecond, burst: max(Self.smallestBurst, options.bytesPerSecond / 10),
      now: now)
  }

  deinit { unsafe news.deallocate() }

  var isUplink: Bool { uplink != nil }

  /// Whether frames of this port have to come from `address`, or may not come from others.
  func owns(_ address: MACAddress) -> Bool {
    !isUplink && (address == self.address || address == options.address)
  }

  /// Takes the link away or gives it back; the device is told.
  func setLink(isUp: Bool) {
    isLinkUp = isUp
    unsafe chc_bits_add(news, 1)
    _ = cl_event_signal(wakeDescriptor)
  }

  /// Notes whether the driver is there; nothing of one is for the next.
  func setActive(_ isActive: Bool) {
    self.isActive = isActive
    if !isActive, let queue { counters.absent &+= UInt64(queue.removeAll()) }
  }

  /// Sends a frame out of this port; nobody is waited for.
  func deliver(_ frame: Span<UInt8>, _ offload: FrameOffload) {
    let isDone: Bool
    if let queue {
      guard isActive, isLinkUp else {
        counters.absent &+= 1
        return
      }
      isDone = queue.push(frame, offload)
      // One that was not empty has been told before.
      if queue.count == 1, isDone {
        unsafe chc_bits_add(news, 1)
        _ = cl_event_signal(wakeDescriptor)
      }
    } else {
      isDone = uplink?.write(frame, offload) ?? false
    }
    if isDone { counters.framesOut &+= 1 } else { counters.overflows &+= 1 }
  }
}

/// A front-end's end of a switch port.
public struct SwitchPortHost: NetHost, ~Copyable {
  private let owner: NetworkSwitch
  private let index: Int
  private let port: SwitchPort
  private let leave: @Sendable () -> Void

  @inline(never)
  init(
    _ owner: NetworkSwitch, _ index: Int, _ port: SwitchPort, leave: @escaping @Sendable () -> Void
  ) {
    self.owner = owner
    self.index = index
    self.port = port
    self.leave = leave
  }

  deinit { leave() }

  /// The port's.
  public var address: MACAddress { port.options.address }
  /// The port's.
  public var mtu: Int { port.options.mtu }
  /// The device of each receiver does what its driver does not.
  public var takesOffloads: Bool { true }
  /// Up as long as the operator has not taken it down.
  public var isLinkUp: Bool { owner.isLinkUp(port: index) }
  /// What the switch has counted about the port.
  public var counters: SwitchPortCounters { owner.counters(port: index) }

  /// Whether a frame has come.
  public mutating func takeEvents() -> Bool { unsafe chc_bits_take(port.news) != 0 }
  /// A switch that forgets floods.
  public mutating func takeAnnouncementRequest() -> Bool { false }
  /// Begins or ends to keep frames.
  public mutating func setActive(_ isActive: Bool) { owner.setActive(port: index, isActive) }
  /// Wakes the device's own thread.
  public func requestLook() { _ = cl_event_signal(port.wakeDescriptor) }
  /// The next frame for this port.
  public mutating func receive(
    into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload
  ) -> Int { owner.take(port: index, into: &bytes, &offload) }
  /// Gives the switch a frame, which never waits: a slow receiver must not hold its senders back.
  public mutating func send(_ frame: Span<UInt8>, _ offload: FrameOffload) -> NetSend {
    owner.forward(from: index, frame, offload) ? .taken : .dropped
  }
  /// Always the port's first address; another one only where the port may change it, when no other
  /// port has it and no station behind an uplink uses it.
  public mutating func setAddress(_ address: MACAddress) -> Bool {
    owner.setAddress(port: index, address)
  }
}
