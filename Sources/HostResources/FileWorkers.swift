import CHostFile
import CLinux
import LinuxSupport
import SharedMemory
import VirtioBlock
import Virtqueue

/// The worker threads behind one file, and the only thing that several threads share.
///
/// Requests travel by slot number through two fixed rings under one monitor; a request's own memory
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
  let monitor: OpaquePointer
  private var waitingStart = 0
  private var waitingCount = 0
  private var finishedStart = 0
  private var finishedCount = 0
  private var nextBounce = 1
  private var isStopping = false
  private var threads: [UInt64] = []
  // The device's thread alone: what the file system has turned out not to know.
  var canReadWithoutWaiting = true
  var canWriteWithoutWaiting = true
  // Inside the monitor.
  var lastLog: UInt64 = 0
  var suppressedLogs = 0

  /// Bytes of one private buffer.
  static var bounceSize: Int { 256 << 10 }
  /// Bytes of the block of zeroes.
  static var zeroSize: Int { 64 << 10 }

  @inline(never)
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
    unsafe monitor = cl_monitor_create()
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
    unsafe cl_monitor_destroy(monitor)
  }

  // MARK: Threads

  private func startThreads(_ count: Int) throws(SystemError) {
    for _ in 0..<count {
      var thread: UInt64 = 0
      // SAFETY: the thread borrows the object; it is joined before the last reference goes.
      let context = unsafe Unmanaged.passUnretained(self).toOpaque()
      // Signals are for the threads that wait for them, never for a worker.
      let result = unsafe cl_thread_start(
        { context in
          guard let context = unsafe context else { return }
          unsafe Unmanaged<FileWorkers>.fromOpaque(context).takeUnretainedValue().serve()
        }, context, 1, &thread)
      guard result >= 0 else {
        join()
        throw SystemError(Int32(truncatingIfNeeded: -result))
      }
      threads.append(thread)
    }
  }

  private func join() {
    unsafe cl_monitor_enter(monitor)
    isStopping = true
    unsafe cl_monitor_wake_all(monitor)
    unsafe cl_monitor_leave(monitor)
    for thread in threads { cl_thread_join(thread) }
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
    unsafe cl_monitor_enter(monitor)
    precondition(waitingCount < slots)
    unsafe waiting[(waitingStart + waitingCount) % slots] = slot
    waitingCount += 1
    unsafe cl_monitor_wake_one(monitor)
    unsafe cl_monitor_leave(monitor)
  }

  /// The next finished request.
  func nextCompletion() -> BlockHostCompletion? {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    guard finishedCount > 0 else { return nil }
    let done = unsafe finished[finishedStart]
    finishedStart = (finishedStart + 1) % slots
    finishedCount -= 1
    return BlockHostCompletion(slot: done.slot, status: done.status)
  }

  /// Finishes every request that no worker has begun, with an I/O error.
  func cancelWaiting() {
    unsafe cl_monitor_enter(monitor)
    let count = waitingCount
    for _ in 0..<count { finish(takeWaiting(), .ioError) }
    unsafe cl_monitor_leave(monitor)
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
    unsafe cl_monitor_enter(monitor)
    let bounce = unsafe bounces + nextBounce * Self.bounceSize
    nextBounce += 1
    while true {
      while waitingCount == 0 && !isStopping { unsafe cl_monitor_wait(monitor) }
      if isStopping { break }
      let slot = takeWaiting()
      unsafe cl_monitor_leave(monitor)
      let status = unsafe perform(slot, bounce)
      unsafe cl_monitor_enter(monitor)
      finish(slot, status)
      // Inside the monitor: a host that is destroyed next has waited for this.
      _ = cl_event_signal(wakeDescriptor)
    }
    unsafe cl_monitor_leave(monitor)
  }
}
