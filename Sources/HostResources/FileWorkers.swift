import CLinux
import Glibc
import LinuxSupport
import SharedMemory
import VirtioBlock
import Virtqueue

/// The worker threads behind one file, and the only thing that several threads share.
///
/// Requests travel by slot number through two fixed rings under one mutex; a request's own memory
/// belongs to whoever has its slot. Nothing is allocated after `init`.
@safe
final class FileWorkers: @unchecked Sendable {
  /// How a transfer is allowed to take time.
  enum Mode {
    /// Only what can be had at once.
    case noWait
    /// All of it, however long it takes.
    case whole
  }

  enum Outcome: Equatable {
    case done
    case wouldBlock
    case failed(Int32)
  }

  private let descriptor: Int32
  private let path: String
  private let isDevice: Bool
  private let size: UInt64
  private let slots: Int
  private let segmentLimit: Int
  private let wakeDescriptor: Int32
  private let log: @Sendable (String) -> Void
  private let requests: UnsafeMutablePointer<BlockRequest>
  private let counts: UnsafeMutablePointer<Int>
  private let progress: UnsafeMutablePointer<(first: Int, position: Int64)>
  private let segments: UnsafeMutablePointer<cl_segment>
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private let waiting: UnsafeMutablePointer<Int>
  private let finished: UnsafeMutablePointer<(slot: Int, status: BlockStatus)>
  private var waitingStart = 0
  private var waitingCount = 0
  private var finishedStart = 0
  private var finishedCount = 0
  private var isStopping = false
  private var threads: [pthread_t] = []
  private var lastLog: UInt64 = 0
  private var suppressedLogs = 0

  init(
    descriptor: Int32, path: String, isDevice: Bool, size: UInt64, slots: Int,
    segmentLimit: Int, workers: Int, wakeDescriptor: Int32,
    log: @escaping @Sendable (String) -> Void
  ) throws(SystemError) {
    self.descriptor = descriptor
    self.path = path
    self.isDevice = isDevice
    self.size = size
    self.slots = slots
    self.segmentLimit = segmentLimit
    self.wakeDescriptor = wakeDescriptor
    self.log = log
    unsafe requests = .allocate(capacity: slots)
    unsafe requests.initialize(
      repeating: BlockRequest(type: .flush, position: 0, count: 0), count: slots)
    unsafe counts = .allocate(capacity: slots)
    unsafe counts.initialize(repeating: 0, count: slots)
    unsafe progress = .allocate(capacity: slots)
    unsafe progress.initialize(repeating: (0, 0), count: slots)
    unsafe segments = .allocate(capacity: slots * segmentLimit)
    unsafe segments.initialize(
      repeating: cl_segment(base: nil, count: 0), count: slots * segmentLimit)
    unsafe waiting = .allocate(capacity: slots)
    unsafe waiting.initialize(repeating: 0, count: slots)
    unsafe finished = .allocate(capacity: slots)
    unsafe finished.initialize(repeating: (0, .ok), count: slots)
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    unsafe condition.initialize(to: pthread_cond_t())
    unsafe pthread_mutex_init(mutex, nil)
    unsafe pthread_cond_init(condition, nil)
    for _ in 0..<workers {
      var thread = pthread_t()
      // The thread borrows the object: `shutDown` joins it before the last reference goes.
      let context = unsafe Unmanaged.passUnretained(self).toOpaque()
      let error = unsafe pthread_create(
        &thread, nil,
        { context in
          guard let context = unsafe context else { return nil }
          unsafe Unmanaged<FileWorkers>.fromOpaque(context).takeUnretainedValue().work()
          return nil
        }, context)
      guard error == 0 else {
        isStopping = true
        throw SystemError(error)
      }
      threads.append(thread)
    }
  }

  /// Ends the threads; requests that wait are forgotten, a running one is waited for.
  func shutDown() {
    unsafe pthread_mutex_lock(mutex)
    isStopping = true
    unsafe pthread_cond_broadcast(condition)
    unsafe pthread_mutex_unlock(mutex)
    for thread in threads { pthread_join(thread, nil) }
    threads = []
    cl_close(descriptor)
  }

  deinit {
    unsafe requests.deallocate()
    unsafe counts.deallocate()
    unsafe progress.deallocate()
    unsafe segments.deallocate()
    unsafe waiting.deallocate()
    unsafe finished.deallocate()
    unsafe pthread_mutex_destroy(mutex)
    unsafe pthread_cond_destroy(condition)
    unsafe mutex.deallocate()
    unsafe condition.deallocate()
  }

  // MARK: The device's thread

  /// Notes a request and its data segments, as addresses, in its slot; `nil` when there are more
  /// segments than the slot holds.
  func collect(
    _ request: BlockRequest, slot: Int, _ chain: borrowing ChainSegments, skip: Int,
    _ region: SharedRegion
  ) -> Int? {
    precondition(slot >= 0 && slot < slots)
    unsafe requests[slot] = request
    unsafe counts[slot] = 0
    unsafe progress[slot] = (0, Int64(request.position))
    guard request.type == .read || request.type == .write else { return 0 }
    let isRead = request.type == .read
    var left = Int(request.count)
    var skip = skip
    var count = 0
    let list = unsafe segments + slot * segmentLimit
    for index in 0..<(isRead ? chain.writableCount : chain.readableCount) {
      let length = isRead ? chain.writable(index).count : chain.readable(index).count
      if skip >= length {
        skip -= length
        continue
      }
      guard left > 0 else { break }
      guard count < segmentLimit else { return nil }
      let take = min(length - skip, left)
      if isRead {
        guard let part = chain.writable(index).slice(from: skip, count: take) else { return nil }
        unsafe list[count] = cl_segment(base: region.unsafeAddress(of: part), count: take)
      } else {
        guard let part = chain.readable(index).slice(from: skip, count: take) else { return nil }
        unsafe list[count] = cl_segment(
          base: UnsafeMutableRawPointer(mutating: region.unsafeAddress(of: part)), count: take)
      }
      count += 1
      left -= take
      skip = 0
    }
    unsafe counts[slot] = count
    return left == 0 ? count : nil
  }

  /// Hands a slot to the workers.
  func enqueue(_ slot: Int) {
    unsafe pthread_mutex_lock(mutex)
    unsafe waiting[(waitingStart + waitingCount) % slots] = slot
    waitingCount += 1
    unsafe pthread_cond_signal(condition)
    unsafe pthread_mutex_unlock(mutex)
  }

  /// The next finished request.
  func nextCompletion() -> BlockHostCompletion? {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    guard finishedCount > 0 else { return nil }
    let done = unsafe finished[finishedStart]
    finishedStart = (finishedStart + 1) % slots
    finishedCount -= 1
    return BlockHostCompletion(slot: done.slot, status: done.status)
  }

  // MARK: The workers

  private func work() {
    while true {
      unsafe pthread_mutex_lock(mutex)
      while waitingCount == 0 && !isStopping { unsafe pthread_cond_wait(condition, mutex) }
      guard !isStopping else {
        unsafe pthread_mutex_unlock(mutex)
        return
      }
      let slot = unsafe waiting[waitingStart]
      waitingStart = (waitingStart + 1) % slots
      waitingCount -= 1
      unsafe pthread_mutex_unlock(mutex)

      let status = perform(slot)

      unsafe pthread_mutex_lock(mutex)
      unsafe finished[(finishedStart + finishedCount) % slots] = (slot, status)
      finishedCount += 1
      unsafe pthread_mutex_unlock(mutex)
      _ = cl_event_signal(wakeDescriptor)
    }
  }

  private func perform(_ slot: Int) -> BlockStatus {
    let request = unsafe requests[slot]
    let position = Int64(request.position)
    let length = Int64(request.count)
    var result = 0
    switch request.type {
    case .read, .write:
      let count = unsafe counts[slot]
      switch transfer(request, slot: slot, segmentCount: count, mode: .whole) {
      case .done: return .ok
      case .wouldBlock: result = -11
      case .failed(let error): result = -Int(error)
      }
    case .flush: result = cl_datasync(descriptor)
    case .discard:
      result =
        isDevice
        ? cl_device_range(descriptor, 0, request.position, request.count)
        : cl_punch(descriptor, position, length)
      // Discard is a hint: a file system that cannot punch holes has done its duty.
      if result == -95 { result = 0 }
    case .writeZeroes:
      result =
        isDevice
        ? cl_device_range(descriptor, 1, request.position, request.count)
        : request.mayUnmap
          ? cl_punch(descriptor, position, length) : cl_zero_range(descriptor, position, length)
      if result == -95 { result = writeZeroes(position, length) }
    case .getID: return .ok
    }
    if result >= 0, request.isStable, request.type == .writeZeroes {
      result = cl_datasync(descriptor)
    }
    return result < 0 ? fail(request, Int32(-result)) : .ok
  }

  /// For file systems that have no call for it: bounded pieces of zeroes.
  private func writeZeroes(_ position: Int64, _ length: Int64) -> Int {
    let piece = 65536
    let zeroes = UnsafeMutableRawPointer.allocate(byteCount: piece, alignment: 4096)
    unsafe zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: piece)
    defer { unsafe zeroes.deallocate() }
    var done: Int64 = 0
    while done < length {
      var part = unsafe cl_segment(base: zeroes, count: Int(min(Int64(piece), length - done)))
      let result = unsafe cl_writev(descriptor, &part, 1, position + done, 0, 0)
      if result == -4 { continue }
      guard result > 0 else { return result == 0 ? -5 : result }
      done += Int64(result)
    }
    return 0
  }

  /// Moves the data of a slot; short transfers are continued.
  func transfer(
    _ request: BlockRequest, slot: Int, segmentCount: Int, mode: Mode
  ) -> Outcome {
    let list = unsafe segments + slot * segmentLimit
    let noWait: Int32 = mode == .noWait ? 1 : 0
    // A transfer that stopped half-way goes on where it stopped, on a worker.
    var (first, position) = unsafe progress[slot]
    defer { unsafe progress[slot] = (first, position) }
    while first < segmentCount {
      let count = Int32(segmentCount - first)
      let result =
        request.type == .read
        ? unsafe cl_readv(descriptor, list + first, count, position, noWait)
        : unsafe cl_writev(
          descriptor, list + first, count, position, noWait, request.isStable ? 1 : 0)
      if result == -4 { continue }
      // Not now (EAGAIN), or the file system does not know the question (EOPNOTSUPP).
      if result == -11 || (result == -95 && mode == .noWait) { return .wouldBlock }
      if result < 0 { return .failed(Int32(-result)) }
      // Nothing where there must be something: the file was cut off meanwhile.
      if result == 0 { return .failed(5) }
      position += Int64(result)
      var left = result
      while first < segmentCount {
        let length = unsafe list[first].count
        guard left >= length else { break }
        left -= length
        first += 1
      }
      if left > 0, first < segmentCount, let base = unsafe list[first].base {
        unsafe list[first] = cl_segment(base: base + left, count: list[first].count - left)
      }
    }
    return .done
  }

  /// Tells the operator, not more than ten lines a second, and the guest.
  func fail(_ request: BlockRequest, _ error: Int32) -> BlockStatus {
    unsafe pthread_mutex_lock(mutex)
    let now = cl_monotonic_ns()
    let isDue = now - lastLog >= 100_000_000
    let skipped = suppressedLogs
    if isDue {
      lastLog = now
      suppressedLogs = 0
    } else {
      suppressedLogs += 1
    }
    unsafe pthread_mutex_unlock(mutex)
    if isDue {
      let more = skipped > 0 ? " (and \(skipped) more like it)" : ""
      log(
        "\(path): \(request.type) of \(request.count) bytes at \(request.position) failed: "
          + SystemError(error).text + more)
    }
    return .ioError
  }
}
