import CommandOptions
import Foundation
import IVShmem
import LinuxPCI
import LinuxSupport
import Testing
import VirtioTransport

@testable import LinuxRuntime
@testable import LinuxUIO
@testable import LinuxVFIO

/// From the name of a link to its function, in made-up systems.
@Suite struct DeviceOpeningTests {
  static func find(
    _ text: String, _ tree: SystemTree
  ) throws(DeviceError) -> (function: PCIFunction, use: DeviceUse) {
    guard let specification = try? LinkSpecification(text) else {
      preconditionFailure("\(text) is no link")
    }
    return try DeviceFinder(files: HostFiles(root: tree.root.path)).find(specification.place)
  }

  static func error(_ text: String, _ tree: SystemTree) -> DeviceError? {
    do throws(DeviceError) {
      _ = try find(text, tree)
      return nil
    } catch { return error }
  }

  static func tree(_ change: (inout SystemTree.Device) -> Void = { _ in }) throws -> SystemTree {
    let tree = try SystemTree()
    var device = SystemTree.Device()
    device.interrupt = 24
    change(&device)
    try tree.add(device)
    try tree.link("sys/class/uio/uio0/device", to: "../../../\(device.address)")
    try tree.link("dev/ivshmem/console", to: "../uio0")
    return tree
  }

  @Test func everyNameFindsTheSameFunction() throws {
    let tree = try Self.tree()
    for name in [
      "0000:00:03.0", "00:03.0", "uio:00:03.0", "uio:0000:00:03.0,placement=output", "/dev/uio0",
      "uio:/dev/uio0", "/dev/ivshmem/console", "uio:/dev/ivshmem/console",
    ] {
      let found = try Self.find(name, tree)
      #expect(found.function.address == PCIAddress("0000:00:03.0") && found.use == .uio, "\(name)")
    }
    #expect(try Self.find("vfio:00:03.0", tree).use == .vfio, "as told, checked when it is opened")
    let vfio = try Self.tree {
      $0.driver = "vfio-pci"
      $0.maps = nil
    }
    #expect(try Self.find("00:03.0", vfio).use == .vfio)
  }

  @Test func namesOfLinksSayHowTheyWereGiven() throws {
    let cases = [
      ("sim:/tmp/a", "/tmp/a", "sim:/tmp/a"),
      ("00:03.0,peer=1", "0000:00:03.0", "0000:00:03.0"),
      ("uio:1:00:03.0", "0001:00:03.0", "uio:0001:00:03.0"),
      ("vfio:00:03.0", "0000:00:03.0", "vfio:0000:00:03.0"),
      ("/dev/ivshmem/a", "/dev/ivshmem/a", "/dev/ivshmem/a"),
    ]
    for (given, name, text) in cases {
      let link = try LinkSpecification(given)
      #expect(link.name == name && link.text == text)
    }
    for wrong in [
      "", "sim:", "uio:", "vfio:", "uio:sim:/x", "vfio:/dev/uio0", "dev/uio0", "/dev/", "/tmp/a",
      "00:03", "uio:00:20.0", "pci:00:03.0", "UIO:00:03.0", " 00:03.0",
    ] {
      #expect(throws: UsageError.self, "\(wrong)") { try LinkSpecification(wrong) }
    }
  }

  @Test func theOtherSideFollowsFromTheOwnId() throws {
    let link = try LinkSpecification("00:03.0")
    #expect(link.partner(.backEnd, own: PeerID(0)) == PeerID(1))
    #expect(link.partner(.backEnd, own: PeerID(1)) == PeerID(0))
    #expect(link.partner(.frontEnd, own: PeerID(1)) == PeerID(0))
    #expect(link.partner(.frontEnd, own: PeerID(0)) == PeerID(1))
    #expect(link.partner(.frontEnd, own: PeerID(2)) == PeerID(0))
    let given = try LinkSpecification("00:03.0,other=4")
    #expect(given.partner(.backEnd, own: PeerID(2)) == PeerID(4))
  }

  @Test func whatIsNotThereIsSaid() throws {
    let tree = try Self.tree()
    let address = try #require(PCIAddress("0001:00:03.0"))
    #expect(Self.error("0001:00:03.0", tree) == .absent(address))
    #expect(Self.error("/dev/uio9", tree) == .noFunction(node: "/dev/uio9"))
    #expect(Self.error("/dev/null", tree) == .noFunction(node: "/dev/null"))
    #expect(Self.error("/dev/ivshmem/x", tree) == .noFunction(node: "/dev/ivshmem/x"))
    try tree.link("dev/ivshmem/odd", to: "../uio../../etc")
    #expect(Self.error("/dev/ivshmem/odd", tree) == .noFunction(node: "/dev/ivshmem/odd"))
  }

  @Test func anotherDeviceOrDriverIsSaid() throws {
    let old = try Self.tree {
      $0.vendor = 0x1af4
      $0.device = 0x1110
    }
    #expect(Self.error("00:03.0", old) == .otherDevice(vendor: 0x1af4, device: 0x1110))
    let address = try #require(PCIAddress("00:03.0"))
    for driver in [nil, "uio_pci_generic", "virtio-ivshmem", "ivshmem-net"] {
      let tree = try Self.tree { $0.driver = driver }
      let expected = DeviceError.driver(
        found: driver, wanted: "uio_ivshmem or vfio-pci", address)
      #expect(Self.error("00:03.0", tree) == expected)
      let function = try Self.find("uio:00:03.0", tree).function
      #expect(
        Self.opening(function, tree)
          == .driver(found: driver, wanted: "uio_ivshmem", address))
    }
  }

  /// What opening through UIO says.
  static func opening(_ function: PCIFunction, _ tree: SystemTree) -> DeviceError? {
    do throws(DeviceError) {
      _ = try LinuxUIO(
        function, files: HostFiles(root: tree.root.path), lockFolder: tree.root.path)
      return nil
    } catch { return error }
  }

  @Test func aFunctionWithoutInterruptIsSaid() throws {
    let silent = try Self.tree { $0.interrupt = 0 }
    #expect(Self.opening(try Self.find("00:03.0", silent).function, silent) == .noInterrupt)
    // An empty folder of vectors is INTx; it has one.
    let line = try Self.tree()
    try FileManager.default.createDirectory(
      at: line.root.appendingPathComponent("sys/bus/pci/devices/0000:00:03.0/msi_irqs"),
      withIntermediateDirectories: true)
    #expect(try LinuxUIO.Facts(Self.find("00:03.0", line).function).vectorCount == 1)
    try line.write("sys/bus/pci/devices/0000:00:03.0/msi_irqs/25", "msix\n")
    try line.write("sys/bus/pci/devices/0000:00:03.0/msi_irqs/26", "msix\n")
    #expect(try LinuxUIO.Facts(Self.find("00:03.0", line).function).vectorCount == 2)
  }

  @Test func nodesThatCannotBeOpenedAreSaid() throws {
    let tree = try Self.tree()
    let function = try Self.find("00:03.0", tree).function
    #expect(Self.opening(function, tree) == .open("/dev/uio0", SystemError(SystemError.noEntry)))
    // Somebody has it open, says a process of the made-up system.
    try tree.link("proc/4711/fd/5", to: "/dev/uio0")
    #expect(Self.opening(function, tree) == .busy("/dev/uio0", holder: 4711))
    // A node without memory behind it: the register page cannot be mapped.
    let plain = try Self.tree()
    try FileManager.default.createDirectory(
      at: plain.root.appendingPathComponent("dev/uio0"), withIntermediateDirectories: true)
    #expect(
      Self.opening(try Self.find("00:03.0", plain).function, plain)
        == .open("/dev/uio0", SystemError(21)), "EISDIR")
    let bare = try Self.tree { $0.maps = nil }
    #expect(Self.opening(try Self.find("00:03.0", bare).function, bare) == .noNode)
  }

  @Test func aKeptDescriptorOfAnotherDeviceIsRefused() throws {
    let tree = try Self.tree()
    try tree.write("sys/bus/pci/devices/0000:00:03.0/uio/uio0/dev", "250:0\n")
    let function = try Self.find("00:03.0", tree).function
    for path in ["/dev/null", tree.root.path] {
      var seen: DeviceError?
      do throws(DeviceError) {
        guard let kept = try? Descriptor(open(path, 0)) else { return }
        _ = try LinuxUIO(
          adopting: kept, of: function, files: HostFiles(root: tree.root.path),
          lockFolder: tree.root.path)
      } catch { seen = error }
      #expect(seen == .otherDescriptor("/dev/uio0"))
    }
  }

  private func open(_ path: String, _ flags: Int32) -> Int {
    unsafe Int(Foundation.open(path, flags))
  }

  @Test func vfioSaysWhatIsMissing() throws {
    func opening(_ tree: SystemTree) throws -> DeviceError? {
      let function = try Self.find("vfio:00:03.0", tree).function
      do throws(DeviceError) {
        _ = try LinuxVFIO(function, files: HostFiles(root: tree.root.path))
        return nil
      } catch { return error }
    }
    let address = try #require(PCIAddress("00:03.0"))
    #expect(
      try opening(Self.tree()) == .driver(found: "uio_ivshmem", wanted: "vfio-pci", address))
    let tree = try Self.tree { $0.driver = "vfio-pci" }
    #expect(try opening(tree) == .noGroup)
    try tree.link(
      "sys/bus/pci/devices/0000:00:03.0/iommu_group", to: "../../../../kernel/iommu_groups/7")
    #expect(try opening(tree) == .noVFIO)
    // Something that is no container.
    try tree.write("dev/vfio/vfio", "")
    #expect(try opening(tree) == .iommu(SystemError(25)), "ENOTTY")
  }

  @Test func sizesOfACapabilityAreJudged() throws {
    func capability(_ table: UInt32, _ readWrite: UInt64, _ output: UInt64) throws
      -> IVShmemCapability
    {
      var device = SystemTree.Device()
      device.readWrite = readWrite
      device.output = output
      var bytes = [UInt8](device.configuration)
      for index in 0..<4 { bytes[0x44 + index] = UInt8(truncatingIfNeeded: table >> (8 * index)) }
      return try #require(PCIConfiguration(bytes.span).ivshmem)
    }
    func error(
      _ table: UInt32, _ readWrite: UInt64, _ output: UInt64, id: UInt32 = 0,
      peers: UInt32 = 2, page: UInt64 = 4096
    ) throws -> DeviceError? {
      let found = try capability(table, readWrite, output)
      do throws(DeviceError) {
        _ = try found.geometry(id: id, maxPeers: peers, pageSize: page)
        return nil
      } catch { return error }
    }
    #expect(try error(0x1000, 0, 0) == nil, "no sections: the link's plan says so")
    #expect(try error(0, 0x1000, 0) == .geometry(.stateTableSize(0, maxPeers: 2)))
    #expect(try error(0x1000, 0x1001, 0) == .section("R/W section", size: 0x1001, page: 4096))
    #expect(
      try error(0x1000, 0, 0x1000, page: 65536)
        == .section("state table", size: 0x1000, page: 65536))
    #expect(try error(0x1000, 0, .max & ~4095) == .geometry(.outputSize(.max & ~4095)))
    #expect(try error(0x1000, 0, 0, id: 2) == .geometry(.peerID(2, maxPeers: 2)))
    #expect(try error(0x1000, 0, 0, peers: .max) == .geometry(.peerCount(.max)))
  }

  @Test func everyReasonIsOneLine() {
    let address = PCIAddress("00:03.0")!
    let cause = SystemError(13)
    let all: [DeviceError] = [
      .absent(address), .noFunction(node: "/dev/x"), .otherDevice(vendor: 1, device: 2),
      .otherDevice(vendor: 0x1af4, device: 0x1110),
      .driver(found: nil, wanted: "a", address), .driver(found: "b", wanted: "a", address),
      .driver(found: "virtio-ivshmem", wanted: "a", address), .noNode, .noMap("m", title: "t"),
      .map("m", found: 1, expected: 2), .section("s", size: 1, page: 2),
      .geometry(.totalSize), .noInterrupt, .busy("d", holder: 0), .busy("d", holder: 7),
      .lock("l", cause), .otherPeer(1, wanted: 0), .open("n", cause), .open("n", SystemError(5)),
      .otherDescriptor("n"), .mapping("m", cause), .noVFIO, .noGroup, .groupNotViable("4"),
      .iommu(cause), .refused("w", cause), .configuration(.absent), .noCapability,
      .fixedAddress(nil), .fixedAddress(0x4f00_0000), .bar(2, size: 1, needed: 2),
      .notMappable(0),
    ]
    for reason in all {
      let line = explain(reason, link: "L").message
      #expect(line.hasPrefix("link L: ") && !line.contains("\n") && line.count > 20, "\(line)")
      #expect(!line.contains("LinuxPCI.") && !line.contains("SystemError"), "\(line)")
    }
  }
}

@Suite struct DeviceLockTests {
  static func take(_ folder: String) -> DeviceError? {
    do throws(DeviceError) {
      guard let address = PCIAddress("00:03.0") else { return nil }
      _ = try DeviceLock(address, folder: folder)
      return nil
    } catch { return error }
  }

  @Test func onlyOneHasIt() throws {
    let tree = try SystemTree()
    let address = try #require(PCIAddress("00:03.0"))
    do {
      let lock = try DeviceLock(address, folder: tree.root.path)
      let me = ProcessInfo.processInfo.processIdentifier
      #expect(Self.take(tree.root.path) == .busy("0000:00:03.0", holder: me))
      _ = consume lock
    }
    #expect(Self.take(tree.root.path) == nil, "it ends with its owner")
  }

  @Test func nothingIsWrittenThroughALink() throws {
    let tree = try SystemTree()
    try tree.write("precious", "do not touch")
    try tree.link("ivshmem-0000:00:03.0.lock", to: "precious")
    let path = "\(tree.root.path)/ivshmem-0000:00:03.0.lock"
    #expect(Self.take(tree.root.path) == .lock(path, SystemError(40)), "ELOOP")
    #expect(tree.text("precious") == "do not touch")
  }

  @Test func aFolderThatIsMissingIsSaid() {
    #expect(
      Self.take("/nowhere")
        == .lock("/nowhere/ivshmem-0000:00:03.0.lock", SystemError(SystemError.noEntry)))
  }
}
