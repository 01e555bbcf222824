import SharedMemory

/// What a driver knows of one port, and its buffers.
struct ConsoleDriverPort: BitwiseCopyable {
  var isAdded = false
  var isConsole = false
  var isHostOpen = false
  /// Whether the user of the driver has it open.
  var isOpen = false
  /// Messages that wait for a buffer.
  var owesReady = false
  var owesOpen = false
  var size = ConsoleSize.unknown
  var nameCount = 0
  /// The receive buffer that is being read: which, how far, how much it holds; -1 for none.
  var reading = -1
  var position = 0
  var count = 0
  /// Transmit buffers that are free, one bit each.
  var freeBuffers: UInt64 = 0
  /// Numbers transmit buffers in the order they were filled.
  var nextOrder: UInt32 = 0

  // Copies, no compound assignments into the driver's table: with -sanitize=thread the compiler of
  // Swift 6.3 dies of those.

  /// With transmit buffer `token` filled as the last one.
  func taking(_ token: Int) -> ConsoleDriverPort {
    var port = self
    port.nextOrder &+= 1
    port.freeBuffers &= ~(1 << UInt64(token))
    return port
  }

  /// With transmit buffer `token` free.
  func freeing(_ token: Int) -> ConsoleDriverPort {
    var port = self
    port.freeBuffers |= 1 << UInt64(token)
    return port
  }
}

/// A transmit buffer: how full it is and when it was filled.
struct ConsoleDriverBuffer: BitwiseCopyable {
  var count = 0
  var order: UInt32 = 0
}

/// What a console driver counts; never reset.
public struct ConsoleDriverCounters: Equatable, Sendable {
  /// Bytes read from ports.
  public var bytesReceived: UInt64 = 0
  /// Bytes written to ports and put into buffers.
  public var bytesSent: UInt64 = 0
  /// Buffers given to the device again after it was restarted.
  public var resubmitted: UInt64 = 0
  /// Control messages of the device.
  public var messages: UInt64 = 0
  /// Of those: too short, unknown, or for a port that is not there.
  public var badMessages: UInt64 = 0
}

/// Bytes of a console driver's memory.
public struct ConsoleDriverLayout: Equatable, Sendable {
  /// Ports the driver handles, 1 ... ``ConsoleFormat/portLimit``.
  public let ports: Int
  /// Buffers a port in each direction, 1 ... 64.
  public let depth: Int
  /// Bytes of a buffer.
  public let bufferSize: Int

  /// States the sizes.
  public init(ports: Int, depth: Int, bufferSize: Int) {
    precondition(ports > 0 && ports <= ConsoleFormat.portLimit)
    precondition(depth > 0 && depth <= 64 && bufferSize > 0 && bufferSize <= 1 << 20)
    self.ports = ports
    self.depth = depth
    self.bufferSize = bufferSize
  }

  /// Control messages under way in each direction.
  static var controlDepth: Int { 16 }
  /// Bytes between control messages to the device, and from it.
  static var outStride: Int { 16 }
  static var inStride: Int { 128 }

  /// Bytes the driver needs where it may write and the device may read.
  public var outBytes: Int { ports * depth * bufferSize + Self.controlDepth * Self.outStride }
  /// Bytes the driver needs where the device may write.
  public var inBytes: Int { ports * depth * bufferSize + Self.controlDepth * Self.inStride }
  /// Queues the driver uses of a device with several ports.
  public var queueCount: Int { 2 * ports + 2 }
  /// Descriptors the driver needs in every queue.
  public var queueSize: Int { max(depth, Self.controlDepth) }
}
