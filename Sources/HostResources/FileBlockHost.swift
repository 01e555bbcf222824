import CLinux
import LinuxSupport
public import SharedMemory
public import VirtioBlock
public import Virtqueue

/// A file or block device as the medium of a virtio block device.
///
/// Data moves straight between the shared region and the file: the kernel, not this program,
/// touches peer memory. Where that is forbidden (Device memory; direct I/O on memory that cannot be
/// pinned or is not aligned) it goes through a private buffer. What the page cache can answer at
/// once is answered inline; everything else goes to a few worker threads, so that a slow disk
/// delays nobody. An I/O error gives the guest its error status and the operator a log line.
public struct FileBlockHost: BlockHost, ~Copyable {
  private let shared: FileWorkers
  private let file: OpenFile
  private let cache: FileBlockOptions.Cache
  /// Bytes of the medium; follows the file with ``updateCapacity()``.
  public private(set) var byteCount: UInt64
  /// 512 for files, the logical block of a device.
  public var blockSize: UInt32 { file.blockSize }
  /// Whether writes are refused.
  public let isReadOnly: Bool
  /// Whether discard makes sense: always, for files and block devices.
  public var canDiscard: Bool { true }
  /// The grain of a device; a file does not care.
  public var limits: BlockLimits { file.limits }
  private let identifier: InlineArray<20, UInt8>
  /// Requests a worker has, or that are finished and were not yet taken.
  public private(set) var inFlightCount = 0

  /// The most bytes that are moved inline; more would delay the other queues of the link.
  static var inlineLimit: UInt64 { 1 << 20 }

  /// Opens `path` and locks it against a second writer (a second process altogether, unless both
  /// only read).
  ///
  /// - Parameter log: takes one line for the operator; called from any thread.
  /// - Throws: why the file cannot be a medium.
  public init(
    path: String, options: FileBlockOptions, log: @escaping @Sendable (String) -> Void
  ) throws(FileBlockError) {
    let file = try OpenFile(path, options)
    do throws(SystemError) {
      shared = try FileWorkers(file, options, log: log)
    } catch {
      file.close()
      throw .system(error)
    }
    self.file = file
    cache = options.cache
    byteCount = file.size
    isReadOnly = options.isReadOnly
    var identifier = InlineArray<20, UInt8>(repeating: 0)
    // The name behind the last slash.
    var name: [UInt8] = []
    for byte in (options.identifier ?? path).utf8 {
      if byte == 47 && options.identifier == nil { name.removeAll() } else { name.append(byte) }
    }
    for index in 0..<min(20, name.count) { identifier[index] = name[index] }
    self.identifier = identifier
  }

  /// Opens `path` with the usual options; see ``FileBlockOptions``.
  ///
  /// - Throws: why the file cannot be a medium.
  @inline(never)
  public init(
    path: String, isReadOnly: Bool, wakeDescriptor: Int32, slots: Int, segmentLimit: Int,
    workers: Int = 4, log: @escaping @Sendable (String) -> Void
  ) throws(FileBlockError) {
    var options = FileBlockOptions()
    options.isReadOnly = isReadOnly
    options.wakeDescriptor = wakeDescriptor
    options.slots = slots
    options.segmentLimit = segmentLimit
    options.workers = workers
    try self.init(path: path, options: options, log: log)
  }

  /// Whether `path` could be a medium if nobody else used it; nothing stays open.
  ///
  /// - Throws: why the file cannot be a medium.
  public static func examine(_ path: String, isReadOnly: Bool) throws(FileBlockError) {
    try OpenFile.examine(path, isReadOnly: isReadOnly)
  }

  /// Looks at the file's size again, after the operator changed it; whether it is another one. A
  /// size that cannot be a medium's is ignored.
  public mutating func updateCapacity() -> Bool {
    var facts = cl_file_facts()
    guard unsafe cl_file_facts_of(file.descriptor, &facts) >= 0, facts.size > 0,
      facts.size % 512 == 0, facts.size != byteCount
    else { return false }
    byteCount = facts.size
    return true
  }

  /// Byte `index` of the identifier, or of the file's name.
  public func identifierByte(at index: Int) -> UInt8 { identifier[index] }

  /// Starts a request: inline when the page cache can answer, else on a worker.
  @inline(never)
  public mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    var request = request
    if cache == .writethrough, !request.isStable {
      request = BlockRequest(
        type: request.type, position: request.position, count: request.count,
        mayUnmap: request.mayUnmap, isStable: true)
    }
    switch request.type {
    case .read, .write:
      guard shared.collect(request, slot: slot, segments, skip: skip, region) else {
        return .done(.ioError)
      }
      guard request.count <= Self.inlineLimit else { break }
      switch shared.attemptInline(slot) {
      case .done: return .done(.ok)
      case .failed(let failure): return .done(shared.fail(request, failure))
      case .wouldBlock: break
      }
    case .flush:
      // Memory has nothing more stable to go to.
      if file.isInMemory { return .done(.ok) }
      shared.note(request, slot: slot)
    case .discard, .writeZeroes, .getID: shared.note(request, slot: slot)
    }
    shared.enqueue(slot)
    inFlightCount += 1
    return .pending
  }

  /// The next request a worker has finished.
  public mutating func nextCompletion() -> BlockHostCompletion? {
    guard inFlightCount > 0, let completion = shared.nextCompletion() else { return nil }
    inFlightCount -= 1
    return completion
  }

  /// Ends what no worker has begun with an I/O error; what is running is finished.
  public mutating func cancel() {
    if inFlightCount > 0 { shared.cancelWaiting() }
  }

  // Waits for what is running, joins the threads and closes the file.
  deinit { shared.shutDown() }
}
