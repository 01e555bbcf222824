import CBench
import SharedMemory
import Virtqueue

/// The measured device: takes, checks and completes; says that it filled what it may write.
struct DeviceSide: ~Copyable {
  var queue: DeviceQueue
  var segments: ChainSegments
  let batch: Int
  let isAsking: Bool
  let bell: Int32

  /// Serves up to `budget` chains; returns how many, or -1 when the driver broke a rule.
  mutating func drain(_ budget: Int) -> Int {
    drainDevice(&queue, &segments, budget, batch, isAsking, bell)
  }
}

/// A function of its own, so that callgrind can count what happens inside it.
@inline(never)
func drainDevice(
  _ queue: inout DeviceQueue, _ segments: inout ChainSegments, _ budget: Int, _ batch: Int,
  _ isAsking: Bool, _ bell: Int32
) -> Int {
  var served = 0
  var pending = 0
  do throws(QueueError) {
    while served < budget, let chain = try queue.takeChain(into: &segments) {
      cb_barrier()
      queue.complete(chain, written: UInt32(truncatingIfNeeded: segments.writableByteCount))
      served &+= 1
      pending &+= 1
      if pending == batch {
        publish(&queue, isAsking, bell)
        pending = 0
      }
    }
  } catch { return -1 }
  publish(&queue, isAsking, bell)
  return served
}

@inline(__always)
private func publish(_ queue: inout DeviceQueue, _ isAsking: Bool, _ bell: Int32) {
  if isAsking {
    if queue.publish() { cb_signal(bell) }
  } else {
    queue.publishQuietly()
  }
}
