import CLinux
import Foundation
import Glibc
import LinuxSupport
import SharedMemory
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

@testable import HostResources

/// What files do to those who use them: missing, busy, cut off, full.
@Suite(.serialized) struct FileBlockHostTests {
  static func open(
    _ path: String, _ log: LogLines = LogLines(),
    _ change: (inout FileBlockOptions) -> Void = { _ in }
  ) throws -> FileBlockHost {
    try FileBlockHost(path: path, options: .with(change), log: log.hook)
  }

  /// What opening `path` throws.
  static func error(
    _ path: String, _ change: (inout FileBlockOptions) -> Void = { _ in }
  ) -> FileBlockError? {
    do throws(FileBlockError) {
      _ = try FileBlockHost(path: path, options: .with(change), log: { _ in })
      return nil
    } catch { return error }
  }

  @Test func whatCannotBeAMediumIsSaid() throws {
    let scratch = Scratch()
    let missing = scratch.folder.appendingPathComponent("none").path
    #expect(Self.error(missing) == .open(path: missing, SystemError(ENOENT)))
    let odd = try scratch.file("odd", bytes: 1000)
    #expect(Self.error(odd) == .badSize(path: odd, 1000))
    let empty = try scratch.file("empty", bytes: 0)
    #expect(Self.error(empty) == .badSize(path: empty, 0))
    #expect(Self.error("/dev/null") == .badKind(path: "/dev/null"))
    #expect(
      Self.error(scratch.folder.path) { $0.isReadOnly = true }
        == .badKind(path: scratch.folder.path))
    let fifo = scratch.folder.appendingPathComponent("fifo").path
    #expect(unsafe mkfifo(fifo, 0o600) == 0)
    #expect(Self.error(fifo) { $0.isReadOnly = true } == .badKind(path: fifo))
  }

  @Test(.enabled(if: getuid() != 0)) func noPermissionIsSaid() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 512)
    #expect(unsafe chmod(path, 0o400) == 0)
    #expect(Self.error(path) == .open(path: path, SystemError(EACCES)))
    #expect(Self.error(path) { $0.isReadOnly = true } == nil)
  }

  @Test func aWriterIsAlone() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 4096)
    do {
      let writer = try Self.open(path)
      let busy = FileBlockError.inUse(path: path, holder: getpid())
      #expect(Self.error(path) == busy)
      #expect(Self.error(path) { $0.isReadOnly = true } == busy)
      #expect(busy.description == "\(path): image is in use by pid \(getpid())")
      let count = writer.byteCount
      #expect(count == 4096)
    }
    let reader = try Self.open(path) { $0.isReadOnly = true }
    #expect(Self.error(path) { $0.isReadOnly = true } == nil)
    #expect(Self.error(path) == .inUse(path: path, holder: getpid()))
    let isReadOnly = reader.isReadOnly
    #expect(isReadOnly)
  }

  @Test func theNameIsTheFilesOrTheOperators() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 4096)
    do {
      let host = try Self.open(path)
      let name = (0..<20).map { host.identifierByte(at: $0) }
      #expect(name == Array("disk.img".utf8) + [UInt8](repeating: 0, count: 12))
    }
    let host = try Self.open(path) { $0.identifier = "a serial number that is too long" }
    let name = (0..<20).map { host.identifierByte(at: $0) }
    #expect(name == Array("a serial number that".utf8))
  }

  @Test func aFileThatGrowsIsALargerMedium() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 4096)
    var rig = try BlockRig(Self.open(path))
    let before = rig.device.takeConfigurationChange()
    _ = before
    #expect(unsafe truncate(path, 8192) == 0)
    let isChanged = rig.device.host.updateCapacity()
    #expect(isChanged)
    let isAnnounced = rig.device.takeConfigurationChange()
    #expect(isAnnounced)
    let again = rig.device.takeConfigurationChange()
    #expect(!again)
    #expect(rig.device.configurationByte(at: 0) == 16)
    var driver = try rig.driverQueue()
    let answer = try rig.request(&driver, 0, sector: 15, room: 512)
    #expect(answer.status == 0)
    #expect(unsafe truncate(path, 1000) == 0)
    let isOdd = rig.device.host.updateCapacity()
    #expect(!isOdd)
  }

  @Test(arguments: [nil, "/dev/shm"])
  func aFileThatWasCutOffIsAnError(folder: String?) throws {
    let scratch = Scratch(in: folder)
    let path = try scratch.file("disk.img", bytes: 1 << 20)
    let log = LogLines()
    var rig = try BlockRig(Self.open(path, log))
    var driver = try rig.driverQueue()
    #expect(unsafe truncate(path, 4096) == 0)
    let whole = try rig.request(&driver, 0, sector: 7, room: 512)
    #expect(whole.status == 0)
    let half = try rig.request(&driver, 0, sector: 7, room: 1024)
    #expect(half.status == 1)
    #expect(
      log.all == [
        "\(path): read of 1024 bytes at 3584 failed: no byte at 4096, the file was cut off"
      ]
    )
    let errors = rig.device.counters.hostErrors
    #expect(errors == 1)
  }

  @Test func aDiskThatRefusesIsAnErrorAndALine() throws {
    // Memory that is sealed against writes after it was opened.
    let file = try Descriptor(unsafe cl_memfd("disk"))
    #expect(cl_truncate(file.number, 4096) == 0)
    let log = LogLines()
    let path = "/proc/self/fd/\(file.number)"
    var rig = try BlockRig(Self.open(path, log))
    var driver = try rig.driverQueue()
    #expect(cl_seal_size_and_writers(file.number) >= 0)
    let answer = try rig.request(&driver, 1, sector: 1, data: [UInt8](repeating: 1, count: 512))
    #expect(answer.status == 1)
    #expect(log.all == ["\(path): write of 512 bytes at 512 failed: Operation not permitted"])
    for _ in 0..<50 {
      _ = try rig.request(&driver, 1, sector: 1, data: [UInt8](repeating: 1, count: 512))
    }
    #expect(log.all.count < 10)
  }

  @Test func aFullDiskIsAnErrorAndALine() throws {
    let scratch = Scratch()
    let full = scratch.folder.appendingPathComponent("full").path
    #expect(unsafe mkdir(full, 0o700) == 0)
    // Only root may mount; the sealed file stands in for the rest.
    guard unsafe mount("tmpfs", full, "tmpfs", 0, "size=64k") == 0 else { return }
    defer { _ = unsafe umount2(full, 2) }
    let path = full + "/disk.img"
    #expect(FileManager.default.createFile(atPath: path, contents: nil))
    #expect(unsafe truncate(path, 1 << 20) == 0)
    let log = LogLines()
    var rig = try BlockRig(Self.open(path, log))
    var driver = try rig.driverQueue()
    let data = [UInt8](repeating: 1, count: 4096)
    var refused = 0
    for index in 0..<40 {
      let answer = try rig.request(&driver, 1, sector: UInt64(index * 8), data: data)
      refused += answer.status == 1 ? 1 : 0
    }
    #expect(refused == 24)
    #expect(
      log.all.first == "\(path): write of 4096 bytes at 65536 failed: No space left on device")
    // Freed storage can be used again.
    let freed = try rig.request(&driver, 11, data: blockRange(0, 8))
    #expect(freed.status == 0)
    let again = try rig.request(&driver, 1, sector: 512, data: data)
    #expect(again.status == 0)
  }

  @Test func aDiscardFreesStorage() throws {
    let scratch = Scratch(in: "/dev/shm")
    let path = try scratch.file("disk.img", bytes: 1 << 20)
    var rig = try BlockRig(Self.open(path))
    var driver = try rig.driverQueue()
    func blocks() -> Int {
      var facts = stat()
      _ = unsafe stat(path, &facts)
      return facts.st_blocks
    }
    #expect(blocks() == 2048)
    _ = try rig.request(&driver, 11, data: blockRange(0, 1024))
    #expect(blocks() == 1024)
    _ = try rig.request(&driver, 13, data: blockRange(1024, 512, 1))
    #expect(blocks() == 512)
    _ = try rig.request(&driver, 13, data: blockRange(0, 8))
    #expect(blocks() >= 512)
  }

  @Test func aFinishedRequestWakes() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 1 << 20)
    let event = try Descriptor(cl_eventfd())
    var rig = try BlockRig(Self.open(path) { $0.wakeDescriptor = event.number })
    var driver = try rig.driverQueue()
    rig.store(blockHeader(4, 0), at: 0x40000)
    let out = [BufferSegment(offset: 0x40000, count: 16)]
    let into = [BufferSegment(offset: 0x41000, count: 1)]
    try driver.add(readable: out.span, writable: into.span, token: 1)
    _ = driver.publish()
    try rig.pump()
    #expect(waitForEvent(event.number))
    try rig.pump()
    let used = try driver.takeUsed()
    #expect(used?.token == 1)
  }

  @Test func aResetCutsShortWhatWaits() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 1 << 20)
    var rig = try BlockRig(Self.open(path) { $0.workers = 1 }, slots: 64)
    var driver = try rig.driverQueue()
    rig.store(blockHeader(4, 0), at: 0x40000)
    let out = [BufferSegment(offset: 0x40000, count: 16)]
    for index in 0..<64 {
      let into = [BufferSegment(offset: 0x41000 + 64 * index, count: 1)]
      try driver.add(readable: out.span, writable: into.span, token: UInt32(index))
    }
    _ = driver.publish()
    try rig.pump()
    rig.device.stop()
    for _ in 0..<50_000_000 {
      try rig.pump()
      if rig.device.inFlightCount == 0 { break }
    }
    let left = rig.device.inFlightCount
    #expect(left == 0)
    let inHost = rig.device.host.inFlightCount
    #expect(inHost == 0)
  }

  @Test func threadsAndDescriptorsGoWithTheHost() throws {
    let scratch = Scratch()
    let path = try scratch.file("disk.img", bytes: 1 << 20)
    func names() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").filter {
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == path
      }.count
    }
    let threads = try threadCount()
    for round in 0..<30 {
      var rig = try BlockRig(Self.open(path) { $0.direct = round % 2 == 0 ? .on : .off })
      var driver = try rig.driverQueue()
      _ = try rig.request(&driver, 4)
      // Some go while requests are under way.
      if round % 3 == 0 {
        let out = [BufferSegment(offset: 0x40000, count: 16)]
        let into = [BufferSegment(offset: 0x41000, count: 1)]
        try driver.add(readable: out.span, writable: into.span, token: 1)
        _ = driver.publish()
        try rig.pump()
      }
      let open = try names()
      #expect(open == (round % 2 == 0 ? 2 : 1))
    }
    let left = try names()
    #expect(left == 0)
    // Other tests have threads, too; 120 more would be those of the hosts above.
    let more = try threadCount() - threads
    #expect(more < 60)
  }
}
