import SharedMemory
import Virtqueue

/// Messages a port still has to send to the driver. They are facts, not a queue: what changes
/// twice before the driver gave a buffer is told once.
struct ConsoleNotices: BitSet, BitwiseCopyable {
  let rawValue: UInt8

  static var add: ConsoleNotices { ConsoleNotices(rawValue: 1) }
  static var console: ConsoleNotices { ConsoleNotices(rawValue: 2) }
  static var name: ConsoleNotices { ConsoleNotices(rawValue: 4) }
  static var resize: ConsoleNotices { ConsoleNotices(rawValue: 8) }
  static var open: ConsoleNotices { ConsoleNotices(rawValue: 16) }
  static var remove: ConsoleNotices { ConsoleNotices(rawValue: 32) }

  /// The one to send next: in the order in which a driver can understand them.
  var first: ConsoleNotices {
    ConsoleNotices(rawValue: rawValue & (~rawValue &+ 1))
  }
}

/// One port of a console device.
struct ConsolePort: BitwiseCopyable {
  /// Whether the device has this port now.
  var isPresent = true
  /// Whether the driver was told of it.
  var isAnnounced = false
  /// Whether the driver has set it up.
  var isReady = false
  /// Whether somebody has it open at the driver's end.
  var isDriverOpen = false
  /// Whether somebody is at the host's end.
  var isHostOpen = false
  var size = ConsoleSize.unknown
  var notices = ConsoleNotices()
  /// Bytes of the host that wait for the driver: where they start and how many they are.
  var waitingStart = 0
  var waitingCount = 0
  /// A chain of the driver that waits for the host.
  var isHolding = false
  var isCancelled = false
  var ticket = ChainTicket.none
  var segmentCount = 0
  var segment = 0
  var offset = 0
}
