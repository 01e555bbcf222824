import CHostFile
import CLinux
import Glibc
import LinuxSupport
import SharedMemory
import VirtioBlock
import Virtqueue

/// The worker threads behind one file, and the only thing that several threads share.
///
/// Requests travel by slot number through two fixed rings under one mutex; a request's own memory
/// belongs to whoever has its slot. Nothing is allocated after `init`, but for log lines.
@safe
final class FileWorkers: @unchecked Sendable {
  /// What is known about one request while it is under way.
  struct Work {
    var request = BlockRequest(type: .flush, position: 0, count: 0)
    /// For bounced transfers.
    var region: SharedRegion?
    /// The first segment that is not wholly moved, and the end of the list.
    var first = 0
    var count = 0
    /// Where in the file the transfer stands.
    var position: Int64 = 0
    var isBounced = false
    var isDirect = false
  }

  /// How a transfer ended.
  enum Outcome: Equatable {
    case done
    case wouldBlock
    case failed(Failure)
  }

  /// Why the file did not do what was asked.
  enum Failure: Equatable {
    case system(Int32)
    /// The file was cut off meanwhile; the position where it ended.
    case ended(Int64)
  }

  let file: OpenFile
  let memory: FileBlockOptions.RegionMemory
  let slots: Int
  let segmentLimit: Int
  let log: @Sendable (String) -> Void
  private let wakeDescriptor: Int32
  let work: UnsafeMutablePointer<Work>
  /// Straight transfers: addresses.
  let segments: UnsafeMutablePointer<cl_segment>
  /// Bounced transfers: offsets into the region.
  let pieces: UnsafeMutablePointer<(offset: Int, count: Int)>
  /// A private buffer a worker, and one more for the device's own thread.
  private let bounces: UnsafeMutableRawPointer
  private let bounceCount: Int
  let zeroes: UnsafeMutableRawPointer
  private let waiting: UnsafeMutablePointer<Int>
  private let finished: UnsafeMutablePointer<(slot: Int, status: BlockStatus)>
  // A mutex and a condition stay where they are: Swift may move a stored property.
  let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var waitingStart = 0
  private var waitingCount = 0
  private var finishedStart = 0
  private var finishedCount = 0
  private var nextBounce = 1
  private var isStopping = false
  private var threads: [pthread_t] = []
  // The device's thread alone: what the file system has turned out not to know.
  var canReadWithoutWaiting = true
  var canWriteWithoutWaiting = true
  // Under the mutex.
  var lastLog: UInt64 = 0
  var suppressedLogs = 0

  /// Bytes of one private buffer.
  static var bounceSize: Int { 256 << 10 }
  /// Bytes of the block of zeroes.
  static var zeroSize: Int { 64 << 10 }

  init(
    _ file: OpenFile, _ options: FileBlockOptions, log: @escaping @Sendable (String) -> Void
  ) throws(SystemError) {
    precondition(options.slots > 0 && options.segmentLimit > 0)
    precondition(options.workers >= 1 && options.workers <= 64)
    self.file = file
    self.log = log
    memory = options.memory
    slots = options.slots
    segmentLimit = options.segmentLimit
    wakeDescriptor = options.wakeDescriptor
    unsafe work = .allocate(capacity: slots)
    unsafe work.initialize(repeating: Work(), count: slots)
    unsafe segments = .allocate(capacity: slots * segmentLimit)
    unsafe segments.initialize(
      repeating: cl_segment(base: nil, count: 0), count: slots * segmentLimit)
    unsafe pieces = .allocate(capacity: slots * segmentLimit)
    unsafe pieces.initialize(repeating: (0, 0), count: slots * segmentLimit)
    bounceCount = options.workers + 1
    // Pages that are never touched cost nothing.
    unsafe bounces = .allocate(byteCount: bounceCount * Self.bounceSize, alignment: 4096)
    unsafe zeroes = .allocate(byteCount: Self.zeroSize, alignment: 4096)
    unsafe zeroes.initializeMemory(as: UInt8.self, repeating: 0, count: Self.zeroSize)
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
    try startThreads(options.workers)
  }

  deinit {
    unsafe work.deinitialize(count: slots)
    unsafe work.deallocate()
    unsafe segments.deallocate()
    unsafe pieces.deallocate()
    unsafe bounces.deallocate()
    unsafe zeroes.deallocate()
    unsafe waiting.deallocate()
    unsafe finished.deallocate()
    unsafe pthread_mutex_destroy(mutex)
    unsafe pthread_cond_destroy(condition)
    unsafe mutex.deallocate()
    unsafe condition.deallocate()
  }

  // MARK: Threads

  private func startThreads(_ count: Int) throws(SystemError) {
    // Signals are for the threads that wait for them, never for a worker.
    var all = sigset_t()
    var before = sigset_t()
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
    var error: Int32 = 0
    for _ in 0..<count where error == 0 {
      var thread = pthread_t()
      // SAFETY: the thread borrows the object; it is joined before the last reference goes.
      let context = unsafe Unmanaged.passUnretained(self).toOpaque()
      error = unsafe pthread_create(
        &thread, nil,
        { context in
          guard let context = unsafe context else { return nil }
          unsafe Unmanaged<FileWorkers>.fromOpaque(context).takeUnretainedValue().serve()
          return nil
        }, context)
      if error == 0 { threads.append(thread) }
    }
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    guard error != 0 else { return }
    join()
    throw SystemError(error)
  }

  private func join() {
    unsafe pthread_mutex_lock(mutex)
    isStopping = true
    unsafe pthread_cond_broadcast(condition)
    unsafe pthread_mutex_unlock(mutex)
    for thread in threads { pthread_join(thread, nil) }
    threads = []
  }

  /// Ends the threads and closes the file; requests that wait are forgotten, a running one is
  /// waited for.
  func shutDown() {
    join()
    file.close()
  }

  // MARK: The device's thread

  /// Hands a slot to the workers.
  func enqueue(_ slot: Int) {
    unsafe pthread_mutex_lock(mutex)
    precondition(waitingCount < slots)
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

  /// Finishes every request that no worker has begun, with an I/O error.
  func cancelWaiting() {
    unsafe pthread_mutex_lock(mutex)
    let count = waitingCount
    for _ in 0..<count { finish(takeWaiting(), .ioError) }
    unsafe pthread_mutex_unlock(mutex)
    if count > 0 { _ = cl_event_signal(wakeDescriptor) }
  }

  /// The private buffer of the device's thread; those of the workers follow.
  var inlineBounce: UnsafeMutableRawPointer { unsafe bounces }

  // MARK: The workers

  private func takeWaiting() -> Int {
    let slot = unsafe waiting[waitingStart]
    waitingStart = (waitingStart + 1) % slots
    waitingCount -= 1
    return slot
  }

  private func finish(_ slot: Int, _ status: BlockStatus) {
    unsafe finished[(finishedStart + finishedCount) % slots] = (slot, status)
    finishedCount += 1
  }

  private func serve() {
    unsafe pthread_mutex_lock(mutex)
    let bounce = unsafe bounces + nextBounce * Self.bounceSize
    nextBounce += 1
    while true {
      while waitingCount == 0 && !isStopping { unsafe pthread_cond_wait(condition, mutex) }
      if isStopping { break }
      let slot = takeWaiting()
      unsafe pthread_mutex_unlock(mutex)
      let status = unsafe perform(slot, bounce)
      unsafe pthread_mutex_lock(mutex)
      finish(slot, status)
      // Inside the mutex: a host that is destroyed next has waited for this.
      _ = cl_event_signal(wakeDescriptor)
    }
    unsafe pthread_mutex_unlock(mutex)
  }
}
