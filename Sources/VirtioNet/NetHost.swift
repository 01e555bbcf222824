/// What became of a frame that a host was given.
public enum NetSend: Equatable, Sendable {
  /// It was taken.
  case taken
  /// There is no room now; the host wakes the device's thread when there is.
  case full
  /// It was dropped, and counted where it was dropped.
  case dropped
}

/// What is behind a network device: a tap, a socket, a port of a switch.
///
/// Nothing here blocks. Whenever something may have changed, the host wakes the device's thread
/// through the wake-up it was made with. All calls come from one thread.
public protocol NetHost: ~Copyable {
  /// The address the device has at first; constant.
  var address: MACAddress { get }
  /// Bytes of the largest packet behind the Ethernet header, in ``NetFormat/mtuRange``; constant.
  var mtu: Int { get }
  /// Whether frames may be sent with work left undone; constant.
  var takesOffloads: Bool { get }
  /// Whether there is a link.
  var isLinkUp: Bool { get }
  /// Whether anything may have changed since the last call: a frame came, room came, the link
  /// changed. Cheap: it is asked in every look.
  mutating func takeEvents() -> Bool
  /// Whether the network has forgotten where the device is; once a time.
  mutating func takeAnnouncementRequest() -> Bool
  /// The driver has come, or gone: while it is away, frames for it are dropped and not kept, and
  /// those that wait are dropped too.
  mutating func setActive(_ isActive: Bool)
  /// Asks for another look soon: the device has put something off.
  func requestLook()
  /// Reads the next frame and what is undone in it, which fits the frame; returns its length, 0
  /// when there is none now. `bytes` has room for ``NetFormat/frameLimit``; a longer frame is
  /// dropped and counted by the host.
  mutating func receive(
    into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload
  ) -> Int
  /// Sends a frame whose offload was checked against it.
  mutating func send(_ frame: Span<UInt8>, _ offload: FrameOffload) -> NetSend
  /// The driver wants another address, a station's; whether it may have it.
  mutating func setAddress(_ address: MACAddress) -> Bool
}
