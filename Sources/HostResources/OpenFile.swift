import CHostFile
import CLinux
import LinuxSupport
import VirtioBlock

/// A file that was opened, looked at and locked: what the rest of this room relies on.
struct OpenFile: Sendable {
  let path: String
  /// Through the page cache.
  var descriptor: Int32
  /// Past the page cache; -1 when direct I/O is not used.
  var directDescriptor: Int32 = -1
  var size: UInt64 = 0
  var isDevice = false
  /// Whether nothing ever waits for a disk (tmpfs, ramfs).
  var isInMemory = false
  /// What direct I/O asks of addresses, and of positions and lengths, in bytes.
  var memoryAlignment = 4096
  var positionAlignment = 4096
  var blockSize: UInt32 = 512
  var limits = BlockLimits()

  /// Opens `path`, refuses what cannot be a medium, and locks it against a second writer.
  @inline(never)
  init(_ path: String, _ options: FileBlockOptions) throws(FileBlockError) {
    self.path = path
    descriptor = try Self.open(path, options.isReadOnly ? 0 : Int32(CHF_WRITABLE))
    do throws(FileBlockError) {
      try examine()
      if isDevice, !options.isReadOnly { try claimDevice() }
      try lock(options.isReadOnly)
      if isDevice { readGrain() }
      try openDirect(options)
    } catch {
      close()
      throw error
    }
  }

  private static func open(_ path: String, _ flags: Int32) throws(FileBlockError) -> Int32 {
    do throws(SystemError) {
      return Int32(try SystemError.check(unsafe chf_open(path, flags)))
    } catch { throw .open(path: path, error) }
  }

  func close() {
    if descriptor >= 0 { cl_close(descriptor) }
    if directDescriptor >= 0 { cl_close(directDescriptor) }
  }

  private mutating func examine() throws(FileBlockError) {
    var facts = cl_file_facts()
    let known = unsafe cl_file_facts_of(descriptor, &facts)
    guard known >= 0 else { throw .open(path: path, SystemError(Int32(-known))) }
    guard facts.kind != 0 else { throw .badKind(path: path) }
    guard facts.size > 0, facts.size % 512 == 0 else {
      throw .badSize(path: path, facts.size)
    }
    size = facts.size
    isDevice = facts.kind == 2
    isInMemory = facts.in_memory != 0
  }

  /// A block device that is mounted, or claimed by another program, is refused by the kernel.
  private mutating func claimDevice() throws(FileBlockError) {
    let flags = Int32(CHF_WRITABLE | CHF_EXCLUSIVE)
    do throws(FileBlockError) {
      let claimed = try Self.open(path, flags)
      cl_close(descriptor)
      descriptor = claimed
    } catch {
      if case .open(_, SystemError(SystemError.busy)) = error {
        throw .inUse(path: path, holder: 0)
      }
      throw error
    }
  }

  private func lock(_ isReadOnly: Bool) throws(FileBlockError) {
    var holder: Int32 = 0
    let result = unsafe cl_lock(descriptor, isReadOnly ? 0 : 1, &holder)
    guard result < 0 else { return }
    let error = Int32(-result)
    // A file system without locks (some network ones) cannot tell; everything else can.
    if error == SystemError.noLocks || error == SystemError.noSuchCall
      || error == SystemError.notSupported
    {
      return
    }
    guard error == SystemError.tryAgain || error == SystemError.noAccess else {
      throw .open(path: path, SystemError(error))
    }
    // Locks of open file descriptions have no pid of their own: look for who has one.
    throw .inUse(path: path, holder: holder > 0 ? holder : chf_lock_holder(descriptor))
  }

  private mutating func readGrain() {
    var grain = chf_grain()
    guard unsafe chf_device_grain(descriptor, &grain) >= 0 else { return }
    let logical = max(grain.logical, 512)
    guard logical & (logical - 1) == 0 else { return }
    blockSize = logical
    positionAlignment = Int(logical)
    limits.discardSectorAlignment = logical / 512
    if grain.physical > logical {
      limits.physicalBlockExponent = UInt8((grain.physical / logical).trailingZeroBitCount)
    }
    limits.minimumIOSize = UInt16(clamping: grain.minimum / logical)
    limits.optimalIOSize = grain.optimal / logical
  }

  private mutating func openDirect(_ options: FileBlockOptions) throws(FileBlockError) {
    let isWanted = options.direct == .on || (options.direct == .automatic && isDevice)
    guard isWanted else { return }
    var flags = Int32(CHF_DIRECT)
    if !options.isReadOnly { flags |= Int32(CHF_WRITABLE) }
    // The same file description as the lock's cannot carry both modes; the lock of the first
    // one stays. The link in /proc names this very file, even if the path was renamed meanwhile.
    do throws(FileBlockError) {
      directDescriptor = try Self.open("/proc/self/fd/\(descriptor)", flags)
    } catch {
      guard options.direct == .automatic else {
        guard case .open(_, let cause) = error else { throw error }
        throw .open(path: path, cause)
      }
      return
    }
    var memory: UInt32 = 0
    var position: UInt32 = 0
    guard unsafe chf_direct_alignment(directDescriptor, &memory, &position) >= 0, memory > 0,
      position > 0
    else { return }
    memoryAlignment = Int(memory)
    positionAlignment = Int(position)
  }
}

extension OpenFile {
  /// Opens and looks at `path` without locking it or keeping it: whether it can be a medium as
  /// soon as nobody else uses it.
  static func examine(_ path: String, isReadOnly: Bool) throws(FileBlockError) {
    var facts = cl_file_facts()
    let descriptor = try open(path, isReadOnly ? 0 : Int32(CHF_WRITABLE))
    defer { cl_close(descriptor) }
    let known = unsafe cl_file_facts_of(descriptor, &facts)
    guard known >= 0 else { throw .open(path: path, SystemError(Int32(-known))) }
    guard facts.kind != 0 else { throw .badKind(path: path) }
    guard facts.size > 0, facts.size % 512 == 0 else { throw .badSize(path: path, facts.size) }
  }
}
