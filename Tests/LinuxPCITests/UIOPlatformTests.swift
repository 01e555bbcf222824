import CLinux
import Foundation
import IVShmem
import LinuxPCI
import LinuxSupport
import SharedMemory
import Testing

@testable import LinuxUIO

/// The maps of a node, judged by what its registers say.
@Suite struct UIOPlanTests {
  static func node(_ maps: [(String, UInt64, UInt64)]) -> UIONode {
    UIONode(
      name: "uio0", title: "uio_ivshmem[0000:00:03.0]", events: 0,
      maps: maps.enumerated().map {
        UIOMap(index: $0.offset, name: $0.element.0, address: $0.element.1, size: $0.element.2)
      })
  }

  static let three: [(String, UInt64, UInt64)] = [
    ("registers", 0x710_0000, 0x1000), ("state_table", 0x1_0000, 0x1000),
    ("rw_section", 0x1_1000, 0x9000), ("input_sections", 0x1_a000, 0x6000),
    ("output_section", 0x1_c000, 0x2000),
  ]

  static func error(
    _ maps: [(String, UInt64, UInt64)], id: UInt32 = 1, peers: UInt32 = 3, page: UInt64 = 4096
  ) -> DeviceError? {
    do throws(DeviceError) {
      _ = try UIOPlan(node(maps)).geometry(id: id, maxPeers: peers, pageSize: page)
      return nil
    } catch { return error }
  }

  @Test func mapsAreFoundByName() throws {
    let plan = try UIOPlan(Self.node(Self.three))
    let geometry = try plan.geometry(id: 1, maxPeers: 3, pageSize: 4096)
    #expect(geometry.readWriteSize == 0x9000 && geometry.outputSize == 0x2000)
    #expect(geometry.totalSize == 0x1000 + 0x9000 + 3 * 0x2000)
    // A link without a read/write section: the numbers of the maps move up, the names do not.
    let net = [Self.three[0], Self.three[1], Self.three[3], Self.three[4]]
    let moved = try UIOPlan(Self.node(net))
    #expect(moved.inputs?.index == 2 && moved.readWrite == nil)
    #expect(try moved.geometry(id: 1, maxPeers: 3, pageSize: 4096).readWriteSize == 0)
    let virtio = try UIOPlan(Self.node(Array(Self.three.prefix(3))))
    #expect(try virtio.geometry(id: 1, maxPeers: 2, pageSize: 4096).outputSize == 0)
  }

  @Test func whatDoesNotFitIsNamed() {
    let title = "uio_ivshmem[0000:00:03.0]"
    #expect(Self.error([]) == .noMap("registers", title: title))
    #expect(Self.error([Self.three[0]]) == .noMap("state_table", title: title))
    #expect(Self.error(Array(Self.three.prefix(4))) == .noMap("output_section", title: title))
    #expect(
      Self.error(Self.three.filter { $0.0 != "input_sections" })
        == .noMap("input_sections", title: title))
    #expect(Self.error([("ivshmem-mmr", 0, 256)]) == .noMap("registers", title: title))
    #expect(Self.error(Self.three, id: 3) == .geometry(.peerID(3, maxPeers: 3)))
    #expect(Self.error(Self.three, peers: 1) == .geometry(.peerCount(1)))
    #expect(Self.error(Self.three, peers: .max) == .geometry(.peerCount(.max)))
    #expect(
      Self.error(Self.three, peers: 2) == .map("input_sections", found: 0x6000, expected: 0x4000))
    #expect(
      Self.error(Self.three, id: 0) == .map("output_section", found: 0x1_c000, expected: 0x1_a000))
    #expect(
      Self.error(Self.three, page: 65536) == .section("state_table", size: 4096, page: 65536))
    var odd = Self.three
    odd[2].2 = 0x9010
    #expect(Self.error(odd) == .section("rw_section", size: 0x9010, page: 4096))
    odd = Self.three
    odd[1].2 = 0
    #expect(Self.error(odd) == .geometry(.stateTableSize(0, maxPeers: 3)))
    odd = Self.three
    odd[2].2 = UInt64.max & ~4095
    #expect(Self.error(odd) == .geometry(.readWriteSize(UInt64.max & ~4095)))
    odd = Self.three
    odd[4].1 = .max
    odd[3].1 = .max
    #expect(Self.error(odd) == .map("output_section", found: .max, expected: 0x1fff))
  }
}

/// The platform with a file in each map's place and a pipe that counts.
@Suite struct UIOPlatformTests {
  /// What the kernel would be: files for the maps, the other end of the pipe.
  final class Device {
    let folder: URL
    var files: [String: FileHandle] = [:]
    let pipe = Pipe()

    init() throws {
      folder = FileManager.default.temporaryDirectory.appendingPathComponent("uio-\(UUID())")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      for map in UIOPlanTests.three {
        let file = folder.appendingPathComponent(map.0)
        try Data(count: Int(map.2)).write(to: file)
        files[map.0] = try FileHandle(forUpdating: file)
      }
      // The own output section lies in the middle of all of them.
      set([1, 0, 0, 0, 3, 0, 0, 0], "registers", at: 0)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func set(_ bytes: [UInt8], _ map: String, at offset: UInt64) {
      try? files[map]?.seek(toOffset: offset)
      files[map]?.write(Data(bytes))
    }

    func word(_ map: String, at offset: UInt64) -> UInt32? {
      try? files[map]?.seek(toOffset: offset)
      guard let data = try? files[map]?.read(upToCount: 4), data.count == 4 else { return nil }
      return data.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    func platform() throws -> LinuxUIO {
      let numbers = files.mapValues { $0.fileDescriptor }
      let parts = try LinuxUIO.map(UIOPlan(UIOPlanTests.node(UIOPlanTests.three))) { map in
        UIOWindow(descriptor: numbers[map.name] ?? -1, offset: 0)
      }
      let node = try Descriptor(cl_duplicate(pipe.fileHandleForReading.fileDescriptor))
      _ = cl_set_nonblocking(node.number)
      return try LinuxUIO(parts, node, nil, deviceClass: 0xffc002, vectorCount: 2)
    }

    func interrupt() { pipe.fileHandleForWriting.write(Data([1, 0, 0, 0])) }
  }

  private func expect(_ found: WaitOutcome, _ wanted: WaitOutcome, _ why: String = "") {
    #expect(found == wanted, "\(why)")
  }

  @Test func registersAreWhereTheSpecificationHasThem() throws {
    let device = try Device()
    var platform = try device.platform()
    let (own, peers) = (platform.peerID.rawValue, platform.geometry.maxPeers)
    #expect(own == 1 && peers == 3)
    let (vectors, deviceClass) = (platform.vectorCount, platform.deviceClass)
    #expect(vectors == 2 && deviceClass == 0xffc002)
    let can = platform.capabilities
    #expect(!can.contains(.pinnable) && can.contains(.unalignedSafe))
    #expect(can.contains(.oneShotInterrupts) && can.contains(.postedRegisterWrites))
    platform.writeState(0x1234)
    #expect(device.word("registers", at: 0x10) == 0x1234)
    let state = platform.readState()
    #expect(state == 0x1234)
    platform.ringDoorbell(Vector(5), at: PeerID(2))
    #expect(device.word("registers", at: 0x0c) == 0x2_0005)
    platform.setInterruptsEnabled(true)
    var isArmed = platform.interruptsEnabled()
    #expect(device.word("registers", at: 0x08) == 1 && isArmed)
    device.set([0, 0, 0, 0], "registers", at: 0x08)
    isArmed = platform.interruptsEnabled()
    #expect(!isArmed, "one-shot: the device has cleared it")
  }

  @Test func sectionsLieBehindEachOtherWithTheirRights() throws {
    let device = try Device()
    let platform = try device.platform()
    let region = platform.region
    #expect(region.count == 0x1000 + 0x9000 + 3 * 0x2000)
    device.set([7, 0, 0, 0], "state_table", at: 8)
    let geometry = platform.geometry
    #expect(region.state(of: PeerID(2), in: geometry) == 7)
    device.set([9], "input_sections", at: 0x4000)
    #expect(region.load8(geometry.output(of: PeerID(2)).lowerBound) == 9)
    let own = geometry.output(of: PeerID(1))
    region.store32(0xabcd, at: own.lowerBound)
    #expect(device.word("output_section", at: 0) == 0xabcd)
    region.store32(0x77, at: geometry.readWrite.upperBound - 4)
    #expect(device.word("rw_section", at: 0x8ffc) == 0x77)
    let rights = try Self.rights()
    func right(_ offset: Int) -> String? {
      let address = unsafe UInt(
        bitPattern: region.unsafeAddress(of: region.readRange(offset..<(offset + 1))))
      return rights.first { $0.range.contains(address) }?.rights
    }
    #expect(rights.count > 5)
    #expect(right(0) == "r--s" && right(0x1000) == "rw-s")
    #expect(right(own.lowerBound) == "rw-s" && right(own.upperBound - 1) == "rw-s")
    #expect(right(own.lowerBound - 1) == "r--s" && right(own.upperBound) == "r--s")
    #expect(right(region.count - 1) == "r--s")
    // The memory stays mapped as long as the platform.
    let vectors = platform.vectorCount
    #expect(vectors == 2)
  }

  /// The mapped ranges of this process with their rights.
  static func rights() throws -> [(range: Range<UInt>, rights: String)] {
    let text = try readText("/proc/self/maps")
    return text.split(separator: "\n").compactMap { line in
      let words = line.split(separator: " ")
      let ends = words[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
      return ends.count == 2 ? (ends[0]..<ends[1], String(words[1])) : nil
    }
  }

  @Test func anInterruptBeforeTheSleepEndsIt() throws {
    let device = try Device()
    var platform = try device.platform()
    expect(platform.wait(until: Instant(nanoseconds: 0)), .deadline)
    device.interrupt()
    expect(platform.wait(until: nil), .event)
    expect(platform.wait(until: Instant(nanoseconds: 0)), .deadline, "it was consumed")
    platform.localWake.signal()
    platform.localWake.signal()
    expect(platform.wait(until: nil), .event)
    expect(platform.wait(until: Instant(nanoseconds: 0)), .deadline, "both at once")
    let soon = platform.now().advanced(byNanoseconds: 1_000_000)
    expect(platform.wait(until: soon), .deadline)
    let later = platform.now()
    #expect(later >= soon)
  }

  @Test func aLinkThatSharesItsThreadIsWokenByBoth() throws {
    let device = try Device()
    var platform = try device.platform()
    let epoll = try Descriptor(cl_epoll())
    try platform.addWaits(to: epoll.number, tag: 42)
    var tag: UInt64 = 0
    #expect(unsafe cl_epoll_wait(epoll.number, &tag, 1, 0) == 0)
    device.interrupt()
    #expect(unsafe cl_epoll_wait(epoll.number, &tag, 1, 0) == 1 && tag == 42)
    expect(platform.wait(until: Instant(nanoseconds: 0)), .event)
    #expect(unsafe cl_epoll_wait(epoll.number, &tag, 1, 0) == 0)
    platform.localWake.signal()
    #expect(unsafe cl_epoll_wait(epoll.number, &tag, 1, 0) == 1)
    platform.removeWaits(from: epoll.number)
    #expect(unsafe cl_epoll_wait(epoll.number, &tag, 1, 0) == 0)
  }

  @Test func aNodeThatFailsMeansThatTheDeviceIsGone() throws {
    let device = try Device()
    var platform = try device.platform()
    try device.pipe.fileHandleForWriting.close()
    expect(platform.wait(until: nil), .gone)
    expect(platform.wait(until: Instant(nanoseconds: 0)), .gone, "and stays so")
  }

  @Test func memoryThatVanishesMeansThatTheDeviceIsGone() throws {
    let device = try Device()
    var platform = try device.platform()
    try device.files["rw_section"]?.truncate(atOffset: 0)
    let region = platform.region
    #expect(region.load32(0x1000) == 0, "read as zeroes, not a trap")
    expect(platform.wait(until: Instant(nanoseconds: 0)), .gone)
  }

  /// A link has a thread of its own, for which all other signals are blocked.
  @Test func memoryMayVanishUnderALinksOwnThread() throws {
    let device = try Device()
    let platform = try device.platform()
    let region = platform.region
    try device.files["rw_section"]?.truncate(atOffset: 0)
    let box = Box(region)
    var thread: UInt64 = 0
    let context = unsafe Unmanaged.passUnretained(box).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        let box = unsafe Unmanaged<Box>.fromOpaque(context).takeUnretainedValue()
        box.found = box.region.load32(0x1000)
      }, context, 1, &thread)
    #expect(result == 0)
    cl_thread_join(thread)
    #expect(box.found == 0)
    let vectors = platform.vectorCount
    #expect(vectors == 2)
  }

  private final class Box: @unchecked Sendable {
    let region: SharedRegion
    var found: UInt32 = 1

    init(_ region: SharedRegion) { self.region = region }
  }
}
