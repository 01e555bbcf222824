import CLinux
import Glibc
import HostResources
import SharedMemory
import VirtioBlock
import Virtqueue

/// A file without a name, and what its worker signals.
struct FuzzFile {
  let path: String
  let wake: Int32
}

/// Files for media whose bytes a worker thread moves.
final class FuzzFiles {
  private let descriptors: [Int32]
  // Outlives the workers, which signal it until they have ended.
  private let wake = Int32(cl_eventfd())

  /// Files of `size` bytes; none where there is no folder for them.
  init(count: Int, size: Int) {
    descriptors = (0..<count).compactMap { _ in
      var name = Array("/var/tmp/cellmate-fuzz-XXXXXX".utf8CString)
      let descriptor = unsafe name.withUnsafeMutableBufferPointer { name -> Int32 in
        guard let start = name.baseAddress else { return -1 }
        let made = unsafe mkstemp(start)
        if made >= 0 { _ = unsafe unlink(start) }
        return made
      }
      return descriptor >= 0 && ftruncate(descriptor, size) == 0 ? descriptor : nil
    }
  }

  /// A file with nothing but zeroes in it.
  func blank(_ index: Int, size: Int) -> FuzzFile? {
    guard index < descriptors.count else { return nil }
    _ = ftruncate(descriptors[index], 0)
    _ = ftruncate(descriptors[index], size)
    return FuzzFile(path: "/proc/self/fd/\(descriptors[index])", wake: wake)
  }

  deinit { for descriptor in descriptors + [wake] { close(descriptor) } }
}

/// Private memory, or a file behind a worker thread: then each look waits for the worker, so that a
/// run repeats, and so that it works while the device may touch nothing but what it holds.
struct FuzzedMedium: BlockHost, ~Copyable {
  private var memory: MemoryBlockHost
  private var file: PrivateStore<FileBlockHost>
  private let wake: Int32

  /// - Parameter given: `nil` for memory.
  init(byteCount: Int, file given: FuzzFile?, arena: inout PrivateArena) {
    guard let store = PrivateStore<FileBlockHost>(count: 1, in: &arena) else {
      preconditionFailure("the books hold a file")
    }
    memory = MemoryBlockHost(byteCount: byteCount)
    file = store
    wake = given?.wake ?? -1
    guard let path = given?.path else { return }
    do throws(FileBlockError) {
      let host = try FileBlockHost(
        path: path, isReadOnly: false, wakeDescriptor: wake, slots: 8, segmentLimit: 16,
        workers: 1
      ) { _ in }
      file.put(host, at: 0)
    } catch { preconditionFailure("a file of our own: \(error)") }
  }

  var byteCount: UInt64 { memory.byteCount }
  var blockSize: UInt32 { 512 }
  var isReadOnly: Bool { false }
  var canDiscard: Bool { true }
  func identifierByte(at index: Int) -> UInt8 { memory.identifierByte(at: index) }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    guard file.isOccupied(0) else {
      return memory.submit(request, slot: slot, data: segments, skip: skip, in: region)
    }
    // SAFETY: the same bytes. As Device memory they go through the worker's own buffer, with
    // copies that AddressSanitizer sees; what the kernel moves it does not.
    let copied = unsafe SharedRegion(
      unsafeBase: region.unsafeAddress(of: region.ownRange(0..<1)), count: region.count,
      isUnalignedSafe: false)
    return file[0].submit(request, slot: slot, data: segments, skip: skip, in: copied)
  }

  mutating func nextCompletion() -> BlockHostCompletion? {
    guard file.isOccupied(0) else { return nil }
    while file[0].inFlightCount > 0 {
      if let completion = file[0].nextCompletion() { return completion }
      _ = cl_event_wait(wake)
    }
    return nil
  }

  mutating func cancel() { if file.isOccupied(0) { file[0].cancel() } }
}
