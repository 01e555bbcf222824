import IVShmem
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

extension Backend where P: ~Copyable, Device: ~Copyable {
  /// Executes the requests that wait in one slot; whether there were any.
  mutating func stepTransactions(_ index: Int) -> Bool {
    var found = false
    for _ in 0..<RuntimeLimits.transactionsPerSlot {
      guard slots[index].pending == .nothing,
        let transaction = transactions.next(slot: index, on: &link)
      else { break }
      found = true
      slots[index].counters.transactions &+= 1
      execute(transaction, index)
    }
    return found
  }

  private mutating func execute(_ transaction: Transaction, _ index: Int) {
    switch transaction.operation {
    case .read: read(transaction, index)
    case .write: write(transaction, index)
    case nil: refuse(transaction.word, index, .badOperation)
    }
  }

  private mutating func refuse(
    _ word: TransactionWord, _ index: Int, _ refusal: RegisterRefusal
  ) {
    slots[index].counters.refusals &+= 1
    slots[index].mirror.publishRegisters(slots[index].registers, on: link)
    transactions.acknowledge(word, slot: index, result: refusal.rawValue, value: 0, on: &link)
  }

  private mutating func acknowledge(_ word: TransactionWord, _ index: Int, value: UInt64 = 0) {
    slots[index].mirror.publishRegisters(slots[index].registers, on: link)
    transactions.acknowledge(word, slot: index, result: 0, value: value, on: &link)
  }

  /// Where a configuration access lies, or `nil` when it leaves the space or is misshapen.
  private func configurationRange(_ transaction: Transaction, _ index: Int) -> Range<Int>? {
    let width = Int(transaction.width)
    let start = Int(transaction.offset) - MMIORegister.configurationStart
    guard width == 1 || width == 2 || width == 4 || width == 8, start >= 0,
      start + width <= slots[index].registers.identity.configurationSize
    else { return nil }
    return start..<start + width
  }

  private mutating func read(_ transaction: Transaction, _ index: Int) {
    if transaction.offset >= UInt32(MMIORegister.configurationStart) {
      guard let range = configurationRange(transaction, index) else {
        return refuse(transaction.word, index, .configurationRefused)
      }
      var value: UInt64 = 0
      for offset in range.reversed() {
        value = value << 8 | UInt64(slots[index].device.configurationByte(at: offset))
      }
      return acknowledge(transaction.word, index, value: value)
    }
    guard transaction.width == 4 else { return refuse(transaction.word, index, .badWidth) }
    guard let value = slots[index].registers.read(Int(transaction.offset)) else {
      return refuse(transaction.word, index, .noSuchRegister)
    }
    acknowledge(transaction.word, index, value: UInt64(value))
  }

  @inline(never)
  private mutating func write(_ transaction: Transaction, _ index: Int) {
    if transaction.offset >= UInt32(MMIORegister.configurationStart) {
      guard let range = configurationRange(transaction, index),
        slots[index].device.writeConfiguration(
          at: range.lowerBound, width: range.count, value: transaction.value)
      else { return refuse(transaction.word, index, .configurationRefused) }
      return acknowledge(transaction.word, index)
    }
    guard transaction.width == 4 else { return refuse(transaction.word, index, .badWidth) }
    let action = slots[index].withRegisters {
      $0.write(Int(transaction.offset), UInt32(truncatingIfNeeded: transaction.value))
    }
    perform(action, transaction.word, index)
  }

  @inline(never)
  private mutating func perform(
    _ action: RegisterAction, _ word: TransactionWord, _ index: Int
  ) {
    switch action {
    case .none, .notify, .stop: acknowledge(word, index)
    case .refuse(let refusal): refuse(word, index, refusal)
    case .start(let features):
      slots[index].device.start(features: features)
      slots[index].dirty = .max
      acknowledge(word, index)
    case .enableQueue(let queue, let configuration):
      enableQueue(queue, configuration, word, index)
    case .stopQueue(let queue):
      if slots[index].queues.isOccupied(queue) { _ = slots[index].queues.remove(at: queue) }
      slots[index].device.cancel(queue: queue)
      slots[index].pending = .queueStop(queue, word)
      _ = finishPending(index)
    case .reset:
      slots[index].counters.resets &+= 1
      slots[index].abort()
      slots[index].pending = .reset(word)
      _ = finishPending(index)
    }
  }

  private mutating func enableQueue(
    _ queue: Int, _ configuration: QueueConfiguration, _ word: TransactionWord, _ index: Int
  ) {
    guard
      let access = AccessMap(
        region: link.region, readable: link.plan.whole, writable: link.plan.devicePool,
        translationBase: link.translationBase)
    else { preconditionFailure("the plan's ranges lie inside the region") }
    do throws(QueueError) {
      try slots[index].enableQueue(queue, configuration, region: link.region, access: access)
    } catch {
      slots[index].counters.queueErrors &+= 1
      slots[index].counters.lastQueueError = error.reason
      return refuse(word, index, .queueRefused)
    }
    slots[index].withRegisters { $0.queueEnabled(queue) }
    acknowledge(word, index)
  }

  /// Acknowledges a reset or queue stop once the device has stopped touching the region.
  mutating func finishPending(_ index: Int) -> Bool {
    guard slots[index].pending != .nothing else { return false }
    guard slots[index].isQuiet else {
      if !link.ownStatus.contains(.busy) { link.setStatus(link.ownStatus.union(.busy)) }
      return false
    }
    let pending = slots[index].pending
    slots[index].pending = .nothing
    if link.ownStatus.contains(.busy) { link.setStatus(link.ownStatus.subtracting(.busy)) }
    switch pending {
    case .nothing: break
    case .reset(let word):
      link.clearError()
      slots[index].withRegisters { $0.resetCompleted() }
      acknowledge(word, index)
    case .queueStop(let queue, let word):
      slots[index].withRegisters { $0.queueStopped(queue) }
      acknowledge(word, index)
    }
    return true
  }
}
