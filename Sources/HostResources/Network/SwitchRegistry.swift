import CLinux
public import LinuxSupport
public import VirtioNet

/// Why a network device cannot be connected.
public enum SwitchError: Error, Equatable, Sendable {
  /// Another port of the switch has the address, or the switch is full.
  case noPort
  /// The tap cannot be opened.
  case tap(SystemError)
}

/// The switches of this process by name: one is there as long as a front-end's port is.
@safe
public final class SwitchRegistry: @unchecked Sendable {
  /// The one of this process.
  public static let shared = SwitchRegistry()

  private let monitor: OpaquePointer
  /// A few: looked through, which needs less of the library than a dictionary does. A switch of one
  /// port alone has no name.
  private var all: [(name: String?, owner: NetworkSwitch)] = []

  /// None.
  public init() { unsafe monitor = cl_monitor_create() }

  deinit { unsafe cl_monitor_destroy(monitor) }

  /// Makes a port at the switch `name`, or at one of its own, and connects a tap to it.
  ///
  /// - Parameter wakeDescriptor: the event that is signalled when a frame has come.
  @inline(never)
  public func join(
    _ options: SwitchPortOptions, name: String?, tap: String?, wakeDescriptor: Int32
  ) throws(SwitchError) -> SwitchPortHost {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    let known = name == nil ? nil : all.first { $0.name == name }
    let owner = known?.owner ?? NetworkSwitch()
    if let tap {
      do throws(SystemError) {
        try owner.connect(tap: tap)
      } catch { throw .tap(error) }
    }
    let host = owner.join(options, wakeDescriptor: wakeDescriptor) { [self] in
      leave(owner)
    }
    guard let host else {
      if owner.frontendCount == 0 { owner.finish() }
      throw .noPort
    }
    if known == nil { all.append((name, owner)) }
    return host
  }

  /// A port has gone; the last one takes the switch with it.
  private func leave(_ owner: NetworkSwitch) {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    guard owner.frontendCount == 0 else { return }
    if let index = all.firstIndex(where: { $0.owner === owner }) { all.remove(at: index) }
    owner.finish()
  }

  /// Takes the link of the front-end whose device has this first address away, or gives it back;
  /// whether there is one.
  public func setLink(of address: MACAddress, isUp: Bool) -> Bool {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    var isThere = false
    for entry in all where entry.owner.setLink(of: address, isUp: isUp) { isThere = true }
    return isThere
  }

  /// What was counted about every tap, with the name of its switch.
  public func forEachTap(_ body: (_ owner: String, _ tap: String, SwitchPortCounters) -> Void) {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    for entry in all {
      for tap in entry.owner.tapCounters() { body(entry.name ?? "", tap.name, tap.counters) }
    }
  }

  /// Names of the switches there are.
  public var count: Int {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return all.count { $0.name != nil }
  }
}
