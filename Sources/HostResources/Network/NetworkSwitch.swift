import CHostNetwork
import CLinux
public import LinuxSupport
import VirtioNet

/// A learning switch inside a back-end: it connects front-ends with each other and with uplinks
/// (taps, sockets).
///
/// A front-end's port has one address, and every frame of it has to come from that address; where
/// stations behind uplinks are is learnt. No port waits for another: what a receiver has no room
/// for is dropped and counted there. All calls may come from any thread.
@safe
public final class NetworkSwitch: @unchecked Sendable {
  private let monitor: OpaquePointer
  private let clock: @Sendable () -> UInt64
  private var ports: [SwitchPort?]
  private var table: AddressTable
  private var taps: [(name: String, port: Int)] = []

  /// Ports a switch has at most.
  public static var portLimit: Int { 64 }
  /// Places for stations behind uplinks, and seconds without a frame after which one is forgotten.
  static var tableSize: Int { 1024 }
  static var lifetime: UInt64 { 300 }

  /// A switch without ports. `clock` gives microseconds that never go back.
  init(clock: @escaping @Sendable () -> UInt64) {
    unsafe monitor = cl_monitor_create()
    self.clock = clock
    ports = Array(repeating: nil, count: Self.portLimit)
    table = AddressTable(count: Self.tableSize, lifetime: Self.lifetime * 1_000_000)
  }

  /// A switch without ports.
  public convenience init() { self.init(clock: { cl_monotonic_ns() / 1000 }) }

  deinit { unsafe cl_monitor_destroy(monitor) }

  @inline(never)
  private func locked<Result>(_ body: () -> Result) -> Result {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return body()
  }

  // MARK: Ports

  /// Makes a port for a front-end; `nil` when its address is no station's or another port's, or
  /// when there are too many ports. `leave` is called when the host ends.
  ///
  /// - Parameter wakeDescriptor: the event that is signalled when a frame has come.
  public func join(
    _ options: SwitchPortOptions, wakeDescriptor: Int32,
    leave: @escaping @Sendable () -> Void = {}
  ) -> SwitchPortHost? {
    let now = clock()
    let port = SwitchPort(options, wakeDescriptor: wakeDescriptor, uplink: nil, now: now)
    let index: Int? = locked {
      guard options.address.isStation, owner(of: options.address) == nil,
        let free = ports.firstIndex(where: { $0 == nil })
      else { return nil }
      ports[free] = port
      return free
    }
    guard let index else { return nil }
    return SwitchPortHost(self, index, port) { [self] in
      remove(port: index)
      leave()
    }
  }

  private func remove(port index: Int) {
    locked {
      ports[index] = nil
      table.forget(port: index)
    }
  }

  /// A front-end's driver has come or gone.
  func setActive(port index: Int, _ isActive: Bool) {
    locked { ports[index]?.setActive(isActive) }
  }

  /// Gives a port another address; whether it may have it.
  func setAddress(port index: Int, _ address: MACAddress) -> Bool {
    let now = clock()
    return locked {
      guard let port = ports[index] else { return false }
      if address != port.options.address {
        guard port.options.mayChangeAddress, address.isStation,
          owner(of: address) ?? index == index, table.port(of: address, now: now) == nil
        else { return false }
      }
      port.address = address
      return true
    }
  }

  /// Whether a port's device shows a link.
  func isLinkUp(port index: Int) -> Bool { locked { ports[index]?.isLinkUp ?? false } }

  /// Takes the link of the front-end whose port has this first address away, or gives it back;
  /// whether there is such a port.
  func setLink(of address: MACAddress, isUp: Bool) -> Bool {
    locked {
      let found = ports.first {
        $0.map { !$0.isUplink && $0.options.address == address } ?? false
      }
      guard let found, let port = found else { return false }
      port.setLink(isUp: isUp)
      return true
    }
  }

  /// What was counted about each tap.
  func tapCounters() -> [(name: String, counters: SwitchPortCounters)] {
    locked { taps.map { ($0.name, ports[$0.port]?.counters ?? SwitchPortCounters()) } }
  }

  /// Ports for front-ends there are.
  public var frontendCount: Int {
    locked { ports.count { $0.map { !$0.isUplink } ?? false } }
  }

  /// Connects the tap of that name, which is made when there is none; nothing when it is connected
  /// already.
  public func connect(tap name: String) throws(SystemError) {
    guard !locked({ taps.contains { $0.name == name } }) else { return }
    let index = try connect(try Descriptor(unsafe chn_tap(name)))
    locked { taps.append((name, index)) }
  }

  /// Connects a socket that keeps frames apart, or a tap; returns the port's number.
  @discardableResult
  public func connect(_ descriptor: consuming Descriptor) throws(SystemError) -> Int {
    let now = clock()
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    guard let index = ports.firstIndex(where: { $0 == nil }) else {
      throw SystemError(SystemError.busy)
    }
    let uplink = try SwitchUplink(descriptor) { [self] frame, offload in
      receive(index, frame, offload)
    }
    let options = SwitchPortOptions(address: .none)
    // Its first frame waits for the monitor. The uplink keeps the switch until finish().
    try uplink.start()
    ports[index] = SwitchPort(options, wakeDescriptor: -1, uplink: uplink, now: now)
    return index
  }

  /// Ends the uplinks and their threads.
  public func finish() {
    let uplinks = locked { ports.compactMap { $0?.uplink } }
    for uplink in uplinks { uplink.finish() }
    locked {
      for index in ports.indices where ports[index]?.isUplink == true { ports[index] = nil }
      taps = []
    }
  }

  /// What was counted about a port; zero for one that is not there.
  public func counters(port index: Int) -> SwitchPortCounters {
    locked { ports[index]?.counters ?? SwitchPortCounters() }
  }

  // MARK: Frames

  private func owner(of address: MACAddress) -> Int? {
    ports.firstIndex { $0.map { $0.owns(address) } ?? false }
  }

  private func receive(_ index: Int, _ frame: Span<UInt8>, _ offload: FrameOffload?) {
    if let offload {
      _ = forward(from: index, frame, offload)
    } else {
      locked { ports[index]?.counters.malformed &+= 1 }
    }
  }

  /// Takes a frame of a port; whether it was passed on to where it belongs, if anywhere.
  func forward(from index: Int, _ frame: Span<UInt8>, _ offload: FrameOffload) -> Bool {
    let now = clock()
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    guard let port = ports[index] else { return false }
    port.counters.framesIn &+= 1
    let target = MACAddress(frame, at: 0)
    let source = MACAddress(frame, at: 6)
    // A front-end is who it is; an uplink may be anybody but a front-end.
    guard
      port.isUplink
        ? source.isStation && owner(of: source) == nil
        : source == port.address && port.isLinkUp
    else {
      port.counters.spoofed &+= 1
      return false
    }
    guard port.bucket.take(frame.count, now: now) else {
      port.counters.overRate &+= 1
      return false
    }
    if port.isUplink { table.learn(source, port: index, now: now) }
    if !target.isMulticast, let one = owner(of: target) ?? table.port(of: target, now: now) {
      // What is for the side it comes from is there already.
      guard one != index, let receiver = ports[one] else { return true }
      guard mayTalk(port, receiver) else {
        port.counters.isolated &+= 1
        return false
      }
      receiver.deliver(frame, offload)
      return true
    }
    for other in ports.indices where other != index {
      guard let receiver = ports[other], mayTalk(port, receiver) else { continue }
      // A front-end with its own address wants no stranger's frames: only uplinks may hide one.
      guard target.isMulticast || receiver.isUplink else { continue }
      receiver.deliver(frame, offload)
    }
    return true
  }

  private func mayTalk(_ one: SwitchPort, _ other: SwitchPort) -> Bool {
    !(one.options.isIsolated && other.options.isIsolated)
  }

  /// Takes the next frame for a front-end.
  func take(
    port index: Int, into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload
  ) -> Int {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return ports[index]?.queue?.pop(into: &bytes, &offload) ?? 0
  }
}
