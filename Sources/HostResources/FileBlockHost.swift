import CLinux
import LinuxSupport
public import SharedMemory
public import VirtioBlock
public import Virtqueue

/// A file or block device as the medium of a virtio block device.
///
/// Data moves straight between the shared region and the file: the kernel, not this program,
/// touches peer memory. What the page cache can answer at once is answered inline; everything else
/// goes to a few worker threads, so that a slow disk delays nobody. An I/O error gives the guest
/// its error status and the operator a log line.
public struct FileBlockHost: BlockHost, ~Copyable {
  private let shared: FileWorkers
  /// Bytes of the medium.
  public let byteCount: UInt64
  /// 512.
  public let blockSize: UInt32 = 512
  /// Whether writes are refused.
  public let isReadOnly: Bool
  /// Whether discard makes sense: always, for files and block devices.
  public var canDiscard: Bool { true }
  private let identifier: InlineArray<20, UInt8>
  private let isInMemory: Bool

  /// Opens `path` and locks it against a second writer.
  ///
  /// - Parameters:
  ///   - wakeDescriptor: an event that is signalled when a pending request has finished.
  ///   - slots: the number of requests the device may have in flight.
  ///   - segmentLimit: the most data segments of a request.
  ///   - workers: threads for what cannot be answered at once.
  public init(
    path: String, isReadOnly: Bool, wakeDescriptor: Int32, slots: Int, segmentLimit: Int,
    workers: Int = 4, log: @escaping @Sendable (String) -> Void
  ) throws(FileBlockError) {
    let file = try Self.open(path, isReadOnly)
    let shared = try Self.start(file, path, slots, segmentLimit, workers, wakeDescriptor, log)
    byteCount = file.facts.size
    self.isReadOnly = isReadOnly
    isInMemory = file.facts.in_memory != 0
    var identifier = InlineArray<20, UInt8>(repeating: 0)
    let name = path.utf8.lastIndex(of: 47).map { path.utf8[path.utf8.index(after: $0)...] }
    for (index, byte) in (name ?? path.utf8[...]).prefix(20).enumerated() {
      identifier[index] = byte
    }
    self.identifier = identifier
    self.shared = shared
  }

  private struct File {
    let descriptor: Int32
    let facts: cl_file_facts
  }

  private static func open(_ path: String, _ isReadOnly: Bool) throws(FileBlockError) -> File {
    let descriptor: Int32
    do throws(SystemError) {
      // O_RDWR is 2.
      descriptor = Int32(try SystemError.check(unsafe cl_open(path, isReadOnly ? 0 : 2, 0)))
    } catch { throw .open(path: path, error) }
    var facts = cl_file_facts()
    var holder: Int32 = 0
    let known = unsafe cl_file_facts_of(descriptor, &facts)
    var found: FileBlockError?
    if known < 0 {
      found = .open(path: path, SystemError(Int32(-known)))
    } else if facts.kind == 0 {
      found = .badKind(path: path)
    } else if facts.size == 0 || facts.size % 512 != 0 {
      found = .badSize(path: path, facts.size)
    } else if unsafe cl_lock(descriptor, isReadOnly ? 0 : 1, &holder) < 0 {
      found = .inUse(path: path, holder: holder)
    }
    if let found {
      cl_close(descriptor)
      throw found
    }
    return File(descriptor: descriptor, facts: facts)
  }

  private static func start(
    _ file: File, _ path: String, _ slots: Int, _ segmentLimit: Int, _ workers: Int,
    _ wakeDescriptor: Int32, _ log: @escaping @Sendable (String) -> Void
  ) throws(FileBlockError) -> FileWorkers {
    do throws(SystemError) {
      return try FileWorkers(
        descriptor: file.descriptor, path: path, isDevice: file.facts.kind == 2,
        size: file.facts.size, slots: slots, segmentLimit: segmentLimit, workers: workers,
        wakeDescriptor: wakeDescriptor, log: log)
    } catch {
      cl_close(file.descriptor)
      throw .system(error)
    }
  }

  /// Byte `index` of the file's name.
  public func identifierByte(at index: Int) -> UInt8 { identifier[index] }

  /// Starts a request: inline when the page cache can answer, else on a worker.
  public mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    let count = shared.collect(request, slot: slot, segments, skip: skip, region)
    guard let count else { return .done(.ioError) }
    switch request.type {
    case .read, .write:
      // Memory needs no worker: nothing waits for a disk. Elsewhere the kernel says whether it
      // can do it without waiting.
      guard isInMemory || !request.isStable else { break }
      switch shared.transfer(request, slot: slot, segmentCount: count, mode: inlineMode) {
      case .done: return .done(.ok)
      case .failed(let error): return .done(shared.fail(request, error))
      case .wouldBlock: break
      }
    case .flush: if isInMemory { return .done(.ok) }
    case .discard, .writeZeroes, .getID: break
    }
    shared.enqueue(slot)
    return .pending
  }

  private var inlineMode: FileWorkers.Mode { isInMemory ? .whole : .noWait }

  /// The next request a worker has finished.
  public mutating func nextCompletion() -> BlockHostCompletion? { shared.nextCompletion() }

  deinit { shared.shutDown() }
}
