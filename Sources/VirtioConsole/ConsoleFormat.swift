public import VirtioDevice

/// The numbers of the console device (VIRTIO 1.4, 5.3).
public enum ConsoleFormat {
  /// VIRTIO device type.
  public static let deviceID: UInt32 = 3
  /// Ports a device may have: each has two queues, the control queues are two more.
  public static let portLimit = DeviceLimits.queues / 2 - 1
  /// Bytes of a control message: port, event, value.
  public static let messageSize = 8
  /// Bytes of a port's name that are used; the specification sets no limit.
  public static let nameLimit = 64
  /// Where the emergency register lies in the configuration space, four bytes (VIRTIO 1.4, 5.3.4).
  /// It is written by itself, with or without a ``ConsoleDriver``: no queue is needed for it.
  public static let emergencyRegister = 8
  /// Bytes of configuration space (VIRTIO 1.4, 5.3.4).
  public static let configurationSize = 12
}

/// What a queue of a console device is for (VIRTIO 1.4, 5.3.2).
public enum ConsoleQueue: Equatable, Sendable {
  /// From the device to the driver, port by number.
  case receive(port: Int)
  /// From the driver to the device, port by number.
  case transmit(port: Int)
  /// Control messages of the device.
  case controlReceive
  /// Control messages of the driver.
  case controlTransmit

  /// What queue `index` (0 or more) is for.
  public init(index: Int) {
    switch index {
    case 0: self = .receive(port: 0)
    case 1: self = .transmit(port: 0)
    case 2: self = .controlReceive
    case 3: self = .controlTransmit
    default: self = index & 1 == 0 ? .receive(port: index / 2 - 1) : .transmit(port: index / 2 - 1)
    }
  }

  /// The queue's number.
  public var index: Int {
    switch self {
    case .receive(let port): port == 0 ? 0 : 2 * port + 2
    case .transmit(let port): port == 0 ? 1 : 2 * port + 3
    case .controlReceive: 2
    case .controlTransmit: 3
    }
  }
}

/// What a control message says (VIRTIO 1.4, 5.3.6.2).
public enum ConsoleEvent: UInt16, Sendable {
  /// Driver: it is ready for the device's ports (value 1), or failed (0).
  case deviceReady = 0
  /// Device: there is this port.
  case portAdd = 1
  /// Device: the port is gone.
  case portRemove = 2
  /// Driver: the port is ready (1), or could not be set up (0).
  case portReady = 3
  /// Device: the port is a console for people.
  case consolePort = 4
  /// Device: the terminal's size follows.
  case resize = 5
  /// Either: somebody has the port open (1), or nobody has (0).
  case portOpen = 6
  /// Device: the port's name follows.
  case portName = 7
}

/// The fixed part of a control message (VIRTIO 1.4, 5.3.6.2).
public struct ConsoleMessage: Equatable, Sendable {
  /// Which port; all ones where none is meant.
  public var port: UInt32
  /// The event's number, known or not.
  public var event: UInt16
  /// What the event says.
  public var value: UInt16

  /// The port number that means none.
  public static var noPort: UInt32 { .max }

  /// States a message.
  public init(port: UInt32, event: ConsoleEvent, value: UInt16) {
    self.port = port
    self.event = event.rawValue
    self.value = value
  }

  /// Reads the first ``ConsoleFormat/messageSize`` of `bytes`.
  public init(_ bytes: Span<UInt8>) {
    func word(_ start: Int, _ width: Int) -> UInt32 {
      var value: UInt32 = 0
      for index in (0..<width).reversed() { value = value << 8 | UInt32(bytes[start + index]) }
      return value
    }
    port = word(0, 4)
    event = UInt16(truncatingIfNeeded: word(4, 2))
    value = UInt16(truncatingIfNeeded: word(6, 2))
  }

  /// Byte `index` (0 ..< 8) of the message.
  public func byte(at index: Int) -> UInt8 {
    let all = UInt64(port) | UInt64(event) << 32 | UInt64(value) << 48
    return UInt8(truncatingIfNeeded: all >> UInt64(8 * index))
  }
}

/// The size of a terminal in characters.
public struct ConsoleSize: Equatable, Sendable, BitwiseCopyable {
  /// Characters of a line.
  public var columns: UInt16
  /// Lines.
  public var rows: UInt16

  /// States a size; 0 stands for unknown.
  public init(columns: UInt16, rows: UInt16) {
    self.columns = columns
    self.rows = rows
  }

  /// Nothing known.
  public static let unknown = ConsoleSize(columns: 0, rows: 0)

  /// The four bytes of a RESIZE message, columns first (VIRTIO 1.4, 5.3.6.2). Linux up to 6.14
  /// reads them the other way round.
  func byte(at index: Int) -> UInt8 {
    let word = index < 2 ? columns : rows
    return UInt8(truncatingIfNeeded: word >> UInt16(8 * (index & 1)))
  }
}

extension FeatureSet {
  /// VIRTIO_CONSOLE_F_SIZE (0).
  public static let consoleSize = bit(0)
  /// VIRTIO_CONSOLE_F_MULTIPORT (1).
  public static let consoleMultiport = bit(1)
  /// VIRTIO_CONSOLE_F_EMERG_WRITE (2).
  public static let consoleEmergencyWrite = bit(2)
}
