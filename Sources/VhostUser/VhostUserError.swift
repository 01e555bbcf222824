public import LinuxSupport
public import Virtqueue

/// Why a connection to a front-end ends: what was seen and what was expected.
public enum VhostUserError: Error, Equatable, Sendable {
  /// The front-end closed the connection; `inMessage` when it had sent a part of one.
  case closed(inMessage: Bool)
  /// The flags of a header do not name version 1, or call a request a reply.
  case badHeader(request: UInt32, flags: UInt32)
  /// A payload longer than any message has.
  case tooLong(request: UInt32, size: UInt32)
  /// A payload shorter than the message needs.
  case tooShort(request: UInt32, size: UInt32, needed: Int)
  /// A request that is not known, or whose protocol feature was not agreed.
  case unknown(request: UInt32)
  /// Too many or too few descriptors came with a message.
  case descriptors(request: UInt32, seen: Int, expected: Int)
  /// A kick, call or error descriptor that is no eventfd.
  case notAnEvent(request: UInt32)
  /// A queue the device does not have.
  case noSuchQueue(UInt32, count: Int)
  /// A queue size that is no power of two, or larger than the device's.
  case badQueueSize(UInt32, limit: UInt16)
  /// Features that were not offered.
  case features(seen: UInt64, offered: UInt64)
  /// A message came at a time when it cannot be carried out.
  case badOrder(request: UInt32, needs: Order)
  /// A memory region that cannot be used.
  case memory(MemoryProblem)
  /// Configuration space ends before the range, or the field cannot be written.
  case configuration(offset: UInt32, size: UInt32, limit: Int)
  /// The inflight region does not fit the queues.
  case inflight(size: UInt64, needed: UInt64)
  /// The driver broke a rule of a ring.
  case queue(index: Int, QueueError)
  /// A system call failed.
  case system(request: UInt32, SystemError)
  /// The front-end does not take the answers.
  case notReading
  /// The front-end cut its memory off under the device.
  case memoryVanished

  /// What was missing.
  public enum Order: Equatable, Sendable {
    case memoryTable
    case ringAddresses
    case stoppedRings
    case backendChannel
  }

  /// What is wrong with a memory region.
  public enum MemoryProblem: Equatable, Sendable {
    case count(UInt32)
    case empty
    case wraps(address: UInt64, size: UInt64)
    case overlap(address: UInt64)
    case misaligned(address: UInt64, fileOffset: UInt64)
    case fileTooSmall(has: UInt64, needed: UInt64)
    case noRoom(size: UInt64)
    case slots(limit: Int)
    case notThere(address: UInt64)
    case addressOutside(UInt64)
  }

  /// One line for the log.
  public var text: String {
    switch self {
    case .closed(let inMessage):
      inMessage ? "it closed the connection in the middle of a message" : "it closed the connection"
    case .badHeader(let request, let flags):
      "message \(request) has flags \(flags); expected version 1 and no reply"
    case .tooLong(let request, let size):
      "message \(request) has \(size) bytes; none has more than \(VhostUserFormat.payloadLimit)"
    case .tooShort(let request, let size, let needed):
      "message \(request) has \(size) bytes; it needs \(needed)"
    case .unknown(let request): "message \(request) is not known, or was not agreed upon"
    case .descriptors(let request, let seen, let expected):
      "message \(request) came with \(seen) file descriptors; expected \(expected)"
    case .notAnEvent(let request): "the descriptor of message \(request) is no eventfd"
    case .noSuchQueue(let index, let count): "queue \(index) does not exist; there are \(count)"
    case .badQueueSize(let size, let limit):
      "a queue of \(size) entries; expected a power of two, at most \(limit)"
    case .features(let seen, let offered):
      "features \(hex(seen)) were accepted; \(hex(offered)) are on offer"
    case .badOrder(let request, let needs): "message \(request) came too early: \(needs.text)"
    case .memory(let problem): problem.text
    case .configuration(let offset, let size, let limit):
      "configuration bytes \(offset)+\(size); expected at most \(limit)"
    case .inflight(let size, let needed):
      "an inflight region of \(size) bytes; the queues need \(needed)"
    case .queue(let index, let error): "queue \(index): the driver broke a rule: \(error)"
    case .system(let request, let error): "message \(request): \(error.text)"
    case .notReading: "it does not read its answers"
    case .memoryVanished: "its memory was cut off under the device"
    }
  }
}

extension VhostUserError.Order {
  var text: String {
    switch self {
    case .memoryTable: "there is no memory table"
    case .ringAddresses: "its addresses were not set"
    case .stoppedRings: "rings are running"
    case .backendChannel: "there is no back-end channel"
    }
  }
}

extension VhostUserError.MemoryProblem {
  var text: String {
    switch self {
    case .count(let count): "a memory table of \(count) regions; expected 1 to 8"
    case .empty: "a memory region of size 0"
    case .wraps(let address, let size):
      "memory region \(hex(address))+\(hex(size)) wraps around"
    case .overlap(let address): "memory region \(hex(address)) overlaps another one"
    case .misaligned(let address, let offset):
      "memory region \(hex(address)) lies at \(hex(offset)) of its file: different within a page"
    case .fileTooSmall(let has, let needed):
      "a memory region needs \(needed) bytes of its file, which has \(has)"
    case .noRoom(let size): "no address space for a memory region of \(size) bytes"
    case .slots(let limit): "more than \(limit) memory regions"
    case .notThere(let address): "there is no memory region at \(hex(address))"
    case .addressOutside(let address): "address \(hex(address)) lies in no memory region"
    }
  }
}

@inline(never)
func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
