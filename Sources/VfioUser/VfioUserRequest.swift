/// A request whose shape was checked: every field is inside the range that the protocol gives it,
/// so what is left to the device is what it means.
public enum VfioUserRequest: Equatable, Sendable {
  /// The version a client proposes; what it says about itself in JSON is not needed.
  case version(major: UInt16, minor: UInt16)
  /// Guest memory, which an ivshmem device never reaches.
  case mapMemory
  /// The same memory is gone: the words are echoed.
  case unmapMemory([UInt8])
  /// What kind of device this is.
  case deviceInfo
  /// About region `index`, below ``VfioUserFormat/regionCount``.
  case regionInfo(index: UInt32)
  /// About interrupts of kind `index`, below ``VfioUserFormat/interruptKinds``.
  case interruptInfo(index: UInt32)
  /// Eventfds, masks, triggers.
  case setInterrupts(VfioUserInterruptRequest)
  /// Read `count` bytes at `offset`; at most ``VfioUserFormat/dataLimit``.
  case read(region: UInt32, offset: UInt64, count: Int)
  /// Write the bytes at `offset`.
  case write(region: UInt32, offset: UInt64, data: [UInt8])
  /// Reset the device.
  case reset

  /// Reads a request.
  ///
  /// - Throws: with which error it is answered.
  public init(command: UInt16, payload bytes: [UInt8]) throws(VfioUserFault) {
    guard let known = VfioUserCommand(rawValue: command) else {
      throw .notSupported("command \(command) is not known")
    }
    let payload = VfioUserPayload(bytes)
    func require(_ count: Int) throws(VfioUserFault) {
      guard bytes.count >= count else {
        throw .invalid("\(known) has \(bytes.count) bytes, expected \(count)")
      }
    }
    switch known {
    case .version:
      try require(4)
      self = .version(
        major: UInt16(truncatingIfNeeded: payload.word32(0)),
        minor: UInt16(truncatingIfNeeded: payload.word32(0) >> 16))
    case .mapMemory:
      try require(32)
      self = .mapMemory
    case .unmapMemory:
      try require(24)
      guard payload.word32(4) == 0 else {
        throw .notSupported("unmapping with flags \(payload.word32(4)): there are no dirty pages")
      }
      self = .unmapMemory(Array(bytes[..<24]))
    case .deviceInfo:
      try require(16)
      self = .deviceInfo
    case .regionInfo:
      try require(32)
      guard payload.word32(8) < VfioUserFormat.regionCount else {
        throw .invalid("there is no region \(payload.word32(8))")
      }
      self = .regionInfo(index: payload.word32(8))
    case .interruptInfo:
      try require(16)
      guard payload.word32(8) < VfioUserFormat.interruptKinds else {
        throw .invalid("there are no interrupts of kind \(payload.word32(8))")
      }
      self = .interruptInfo(index: payload.word32(8))
    case .setInterrupts:
      try require(20)
      self = .setInterrupts(try VfioUserInterruptRequest(payload))
    case .read, .write:
      try require(16)
      self = try Self.access(known, payload)
    case .reset: self = .reset
    }
  }

  private static func access(
    _ command: VfioUserCommand, _ payload: VfioUserPayload
  ) throws(VfioUserFault) -> VfioUserRequest {
    let (offset, region, count) = (payload.word64(0), payload.word32(8), Int(payload.word32(12)))
    guard region < VfioUserFormat.regionCount else {
      throw .invalid("there is no region \(region)")
    }
    guard count > 0, count <= VfioUserFormat.dataLimit else {
      throw .invalid("\(command) of \(count) bytes, expected 1 to \(VfioUserFormat.dataLimit)")
    }
    if command == .read { return .read(region: region, offset: offset, count: count) }
    guard payload.count == 16 + count else {
      throw .invalid("a write of \(count) bytes came with \(payload.count - 16)")
    }
    return .write(region: region, offset: offset, data: Array(payload.bytes[16...]))
  }
}

/// What shall happen to a range of interrupts of one kind.
public struct VfioUserInterruptRequest: Equatable, Sendable {
  /// What comes with the request.
  public enum Data: Equatable, Sendable {
    /// Nothing: the action is for the whole range.
    case none
    /// One byte each: the action is for those that are not 0.
    case booleans([Bool])
    /// Eventfds, as descriptors of the message; without any the range is released.
    case eventDescriptors
  }

  /// What shall be done.
  public enum Action: UInt32, Sendable {
    /// Hold interrupts back.
    case mask = 8
    /// Let them pass again.
    case unmask = 0x10
    /// Set the eventfds, release them, or raise the interrupts.
    case trigger = 0x20
  }

  /// The interrupts' kind: 0 INTx, 1 MSI, 2 MSI-X, 3 errors, 4 requests.
  public let index: UInt32
  /// The first of them.
  public let start: UInt32
  /// How many; at most 2048, the most that MSI-X knows.
  public let count: UInt32
  /// What comes with it.
  public let data: Data
  /// What shall be done.
  public let action: Action

  init(_ payload: VfioUserPayload) throws(VfioUserFault) {
    let flags = payload.word32(4)
    index = payload.word32(8)
    start = payload.word32(12)
    count = payload.word32(16)
    guard index < VfioUserFormat.interruptKinds else {
      throw .invalid("there are no interrupts of kind \(index)")
    }
    guard start <= 2048, count <= 2048, start + count <= 2048 else {
      throw .invalid("interrupts \(start) and \(count) more, expected at most 2048 in all")
    }
    guard flags & ~0x3f == 0, let action = Action(rawValue: flags & 0x38) else {
      throw .invalid("interrupt flags 0x\(String(flags, radix: 16)), expected one action")
    }
    self.action = action
    switch flags & 7 {
    case 1: data = .none
    case 2:
      guard payload.count >= 20 + Int(count) else {
        throw .invalid("\(count) interrupts came with \(payload.count - 20) bytes")
      }
      data = .booleans((0..<Int(count)).map { payload.byte(20 + $0) != 0 })
    case 4: data = .eventDescriptors
    default: throw .invalid("interrupt flags 0x\(String(flags, radix: 16)), expected one kind")
    }
  }
}
