public import SharedMemory
public import VirtioBlock
public import Virtqueue

/// A host that does badly what another one does well, by a plan that repeats with its seed: late,
/// out of order, with errors, or never. For tests of what lies in front of it.
public struct FaultyBlockHost<Base: BlockHost & ~Copyable>: BlockHost, ~Copyable {
  /// What goes wrong; all chances are in 1/256.
  public struct Plan: Equatable, Sendable {
    /// The start of the dice.
    public var seed: UInt64 = 1
    /// Chance that a request is not done at once.
    public var delayChance: UInt64 = 0
    /// The most calls of `nextCompletion()` a delayed request waits for.
    public var delayLimit: UInt64 = 8
    /// Chance that a request ends with an I/O error instead of being done.
    public var errorChance: UInt64 = 0
    /// Chance that a request never ends, until ``FaultyBlockHost/release()`` or a cancel.
    public var hangChance: UInt64 = 0

    /// Nothing goes wrong.
    public init() {}
  }

  /// A request that is held back.
  private struct Held {
    let slot: Int
    let status: BlockStatus
    var polls: UInt64
  }

  /// The host that does the work, at the time of the submission.
  public var base: Base
  private var plan: Plan
  private var held: [Held] = []
  /// Requests that ended with an invented error.
  public private(set) var inventedErrors = 0

  /// Wraps `base`.
  public init(_ base: consuming Base, plan: Plan) {
    self.base = base
    self.plan = plan
  }

  /// Bytes of the medium.
  public var byteCount: UInt64 { base.byteCount }
  /// Bytes of a logical block.
  public var blockSize: UInt32 { base.blockSize }
  /// Whether writes are refused.
  public var isReadOnly: Bool { base.isReadOnly }
  /// Whether discard makes sense.
  public var canDiscard: Bool { base.canDiscard }
  /// The grain of the medium.
  public var limits: BlockLimits { base.limits }
  /// The name of the medium.
  public func identifierByte(at index: Int) -> UInt8 { base.identifierByte(at: index) }
  /// Requests that are held back.
  public var heldCount: Int { held.count }

  private mutating func dice() -> UInt64 {
    plan.seed = plan.seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (plan.seed ^ plan.seed >> 29) >> 11
  }

  /// Does the request, or not, now or later.
  public mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    let fails = dice() % 256 < plan.errorChance
    let hangs = dice() % 256 < plan.hangChance
    let waits = dice() % 256 < plan.delayChance
    var status = BlockStatus.ioError
    if fails {
      inventedErrors += 1
    } else {
      switch base.submit(request, slot: slot, data: segments, skip: skip, in: region) {
      case .done(let result): status = result
      case .pending: return .pending
      }
    }
    guard hangs || waits else { return .done(status) }
    let polls = hangs ? UInt64.max : dice() % (plan.delayLimit + 1)
    held.append(Held(slot: slot, status: status, polls: polls))
    return .pending
  }

  /// A held request whose time has come, in no order, or one of the host behind.
  public mutating func nextCompletion() -> BlockHostCompletion? {
    var found: Int?
    for index in held.indices where held[index].polls != .max {
      if held[index].polls == 0 { found = index } else { held[index].polls -= 1 }
    }
    guard let found else { return base.nextCompletion() }
    let done = held.remove(at: found)
    return BlockHostCompletion(slot: done.slot, status: done.status)
  }

  /// Lets everything that is held back end at the next calls.
  public mutating func release() {
    for index in held.indices { held[index].polls = 0 }
  }

  /// As ``release()``, and the host behind cuts short what it can.
  public mutating func cancel() {
    release()
    base.cancel()
  }
}
