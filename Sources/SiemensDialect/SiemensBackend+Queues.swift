import IVShmem
import SharedMemory
import VirtioDevice
import Virtqueue

// Chains and completions.
extension SiemensBackend where P: ~Copyable, Device: ~Copyable {
  /// Returns finished requests to their queues; those of a queue that is gone are dropped.
  mutating func takeCompletions() -> Bool {
    var found = false
    for _ in 0..<SiemensLimits.completions {
      guard let completion = device.nextCompletion() else { break }
      found = true
      let queue = completion.queue
      if queues.isOccupied(queue),
        queues[queue].complete(completion.ticket, written: completion.written)
      {
        counters.bytesWritten &+= UInt64(completion.written)
        noteReturned(completion.ticket.head, queue)
      }
      // A guest's processor spins there: the rest can wait.
      if words.hasTransaction, pending == .nothing { break }
    }
    return found
  }

  @inline(never)
  private mutating func noteReturned(_ head: UInt16, _ queue: Int) {
    guard let book else { return }
    book.ended(head, queue: queue)
    returned.add(head, queue: queue)
  }

  mutating func drainQueues() -> Bool {
    var found = false
    for queue in 0..<queues.count where queues.isOccupied(queue) {
      if isRunning, drain(queue) { found = true }
      publish(queue)
    }
    return found
  }

  private mutating func drain(_ queue: Int) -> Bool {
    var taken = 0
    do throws(QueueError) {
      while taken < SiemensLimits.chains, device.canServe(queue: queue) {
        guard let chain = try nextChain(queue) else { break }
        taken += 1
        let head = chain.head
        if let book {
          book.began(head, queue: queue, order: order)
          order &+= 1
        }
        device.serve(chain, segments, index: queue, on: &queues[queue], in: platform.region)
        if book != nil, !queues[queue].isInFlight(head) { noteReturned(head, queue) }
        if words.hasTransaction { break }
      }
    } catch {
      noteQueueError(error)
      demandReset()
      taken += 1
    }
    counters.chains &+= UInt64(taken)
    return taken > 0
  }

  /// First what an earlier back-end had in flight, then what is new.
  private mutating func nextChain(_ queue: Int) throws(QueueError) -> TakenChain? {
    if resumed[queue] < resumeCounts[queue] {
      let place = queue * Int(registers.identity.maximumQueueSize.rawValue) + Int(resumed[queue])
      resumed[queue] += 1
      counters.resumed &+= 1
      return try queues[queue].takeAgain(resumeHeads[place], into: &segments)
    }
    return try queues[queue].takeChain(into: &segments)
  }

  private mutating func publish(_ queue: Int) {
    let wantsInterrupt = queues[queue].publish()
    if let book, returned.count(queue) > 0 {
      book.published(returned, queue: queue, usedIndex: queues[queue].indices.used.rawValue)
      returned.clear(queue)
    }
    guard wantsInterrupt else { return }
    unconfirmed |= 1 << UInt32(queue)
    notify(queue)
  }
}
