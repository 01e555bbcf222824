import Foundation
import LinuxPCI
import Testing

/// Each finding by a system that has exactly this wrong.
@Suite struct DoctorTests {
  static let options = """
    # a comment
    CONFIG_ARM64=y
    CONFIG_PCI_HOST_GENERIC=y
    CONFIG_OF_OVERLAY=y
    # CONFIG_UIO_IVSHMEM is not set
    """

  /// A system without a fault: one device, driver, node, reserved memory.
  static func healthy() throws -> SystemTree {
    let tree = try SystemTree()
    try tree.write("proc/sys/kernel/osrelease", "6.1.0-test\n")
    try tree.write("boot/config-6.1.0-test", options)
    try tree.write(
      "proc/iomem", "40000000-7f9fffff : System RAM\n  40080000-40ffffff : Kernel code\n")
    try tree.write(
      "proc/interrupts", "           CPU0  CPU1\n 34:  3  4  GICv3 128 Edge  uio_ivshmem\n")
    try tree.write("sys/bus/pci/drivers/uio_ivshmem/new_id", "")
    try tree.write("sys/bus/pci/drivers/vfio-pci/new_id", "")
    try tree.write("dev/uio0", "")
    return tree
  }

  static func device(_ change: (inout SystemTree.Device) -> Void = { _ in }) -> SystemTree.Device {
    var device = SystemTree.Device()
    device.vectors = 0
    device.interrupt = 34
    change(&device)
    return device
  }

  static func findings(_ tree: SystemTree, pageSize: UInt64 = 4096) throws -> [String] {
    let files = HostFiles(root: tree.root.path)
    var doctor = BoardDoctor(
      try PCIDiscovery(root: tree.root.path).all(), files: files, pageSize: pageSize)
    doctor.examine()
    for finding in doctor.findings {
      #expect(!finding.fix.isEmpty)
      #expect(!finding.text.contains("\n"))
    }
    return doctor.findings.map { $0.name }
  }

  @Test func aHealthySystemHasNoFindings() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device())
    #expect(try Self.findings(tree) == [])
    let run = try runTool(["doctor", "--root", tree.root.path])
    #expect(run.status == 0)
    #expect(run.output.contains("1 ivshmem device, nothing wrong found"))
  }

  @Test func findingsAreTheExitStatusAndNameTheirFix() throws {
    let tree = try Self.healthy()
    let run = try runTool(["doctor", "--json", "--root", tree.root.path])
    #expect(run.status == 1)
    let answer = try decoded(run.output)
    let findings = try #require(answer["findings"] as? [[String: String]])
    #expect(findings.first?["name"] == "no-device")
    #expect(findings.first?["fix"]?.isEmpty == false)
  }

  // MARK: Nothing there

  @Test func absenceHasReasons() throws {
    let tree = try Self.healthy()
    #expect(try Self.findings(tree) == ["no-device"])
    try tree.write("boot/config-6.1.0-test", "CONFIG_ARM64=y\n")
    #expect(try Self.findings(tree) == ["no-host-generic"])
    try tree.write("sys/devices/jailhouse/enabled", "1\n")
    #expect(try Self.findings(tree) == ["no-host-generic", "no-overlay"])
    try tree.write("boot/config-6.1.0-test", Self.options)
    try tree.write("sys/devices/jailhouse/enabled", "0\n")
    #expect(try Self.findings(tree) == ["not-enabled"])
    try tree.write("sys/devices/jailhouse/enabled", "1\n")
    #expect(try Self.findings(tree) == ["no-device"])
  }

  @Test func theHostBridgeIsLookedAt() throws {
    let tree = try Self.healthy()
    let node = "proc/device-tree/pci@7bc00000"
    try tree.write("\(node)/compatible", "pci-host-ecam-generic\0")
    let reg: [UInt8] = [0, 0, 0, 0, 0x7b, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]
    try tree.write("\(node)/reg", Data(reg))
    try tree.add(Self.device())
    #expect(try Self.findings(tree) == ["bridge-unbound"])
    try tree.write("sys/bus/platform/drivers/pci-host-generic/7bc00000.pci/uevent", "")
    #expect(try Self.findings(tree) == [])
    // Only the BAR window behind it is reserved: that is the collision people report.
    try tree.write("proc/iomem", "7bd00000-7bdfffff : reserved\n")
    #expect(try Self.findings(tree) == ["bridge-reserved"])
  }

  @Test func versionOneIsAnotherDevice() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device())
    try tree.add(
      Self.device {
        $0.address = "0000:00:08.0"
        $0.vendor = 0x1af4
        $0.device = 0x1110
        $0.maps = nil
        $0.driver = nil
      })
    #expect(try Self.findings(tree) == ["version-1"])
  }

  // MARK: Drivers

  @Test func driversThatDoNotFit() throws {
    let cases: [(String, (inout SystemTree.Device) -> Void)] = [
      ("no-driver", { ($0.driver, $0.maps) = (nil, nil) }),
      ("wrong-driver", { ($0.driver, $0.maps) = ("uio_pci_generic", nil) }),
      ("no-node", { $0.maps = nil }),
      (
        "old-driver",
        { $0.maps = [("ivshmem-mmr", 1 << 32, 4096), ("ivshmem-shmem", 2 << 32, 4096)] }
      ),
      ("memory-off", { $0.command = 4 }),
      ("foreign-class", { $0.classCode = 0x020000 }),
      ("reserved-class", { $0.classCode = 0xff0002 }),
      ("line-disabled", { $0.command = 0x406 }),
      ("no-vector", { $0.interrupt = 0 }),
    ]
    for (name, change) in cases {
      let tree = try Self.healthy()
      try tree.add(Self.device(change))
      #expect(try Self.findings(tree) == [name])
    }
  }

  @Test func messageInterruptsNeedTheBus() throws {
    let tree = try Self.healthy()
    try tree.add(
      Self.device {
        $0.vectors = 2
        $0.command = 2
      })
    try tree.write("sys/bus/pci/devices/0000:00:03.0/msi_irqs/34", "msix\n")
    #expect(try Self.findings(tree) == ["no-bus-master"])
  }

  /// vfio-pci lets a device master the bus while somebody has it open.
  @Test func anIdleDeviceOfVFIOIsNoFinding() throws {
    let tree = try Self.healthy()
    try tree.add(
      Self.device {
        $0.vectors = 2
        $0.command = 2
        $0.driver = "vfio-pci"
        $0.maps = nil
      })
    let folder = "sys/bus/pci/devices/0000:00:03.0"
    try tree.write("\(folder)/msi_irqs/34", "msix\n")
    try tree.link("\(folder)/iommu_group", to: "../../../kernel/iommu_groups/7")
    try tree.write("dev/vfio/7", "")
    #expect(try Self.findings(tree) == [])
  }

  @Test func twoNodesAreOneTooMany() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device())
    try tree.add(Self.device { $0.node = 1 })
    try tree.write("dev/uio1", "")
    #expect(try Self.findings(tree) == ["two-nodes"])
  }

  @Test func aChoiceThatWasNotFollowedIsTold() throws {
    let tree = try Self.healthy()
    try tree.add(
      Self.device {
        $0.driver = "vfio-pci"
        $0.maps = nil
      })
    let folder = "sys/bus/pci/devices/0000:00:03.0"
    try tree.write("\(folder)/driver_override", "uio_ivshmem\n")
    try tree.link("\(folder)/iommu_group", to: "../../../kernel/iommu_groups/7")
    try tree.write("dev/vfio/7", "")
    #expect(try Self.findings(tree) == ["other-driver"])
  }

  @Test func aKernelWithoutDriversIsTold() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device { ($0.driver, $0.maps) = (nil, nil) })
    for name in ["uio_ivshmem", "vfio-pci"] {
      try FileManager.default.removeItem(
        at: tree.root.appendingPathComponent("sys/bus/pci/drivers/\(name)"))
    }
    #expect(try Self.findings(tree) == ["no-driver-here", "no-driver"])
    try tree.write(
      "lib/modules/6.1.0-test/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko.xz:\n")
    #expect(try Self.findings(tree) == ["no-iommu", "no-driver"])
    try tree.write("lib/modules/6.1.0-test/modules.dep", "updates/dkms/uio_ivshmem.ko:\n")
    #expect(try Self.findings(tree) == ["no-driver"])
  }

  @Test func frontEndsAreLookedAtByRole() throws {
    let tree = try Self.healthy()
    try tree.add(
      Self.device {
        ($0.driver, $0.maps) = (nil, nil)
        $0.classCode = 0xff8002
      })
    #expect(try Self.findings(tree) == ["no-driver"])
    try tree.write("sys/bus/pci/drivers/virtio-ivshmem/new_id", "")
    #expect(try Self.findings(tree) == ["front-end-early"])
    try tree.write("sys/devices/jailhouse/enabled", "1\n")
    #expect(try Self.findings(tree) == ["front-end-in-root", "front-end-early"])
  }

  // MARK: Memory, interrupts, groups

  @Test func sectionsAreLookedAt() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device())
    try tree.write("proc/iomem", "40000000-7fafffff : System RAM\n")
    #expect(try Self.findings(tree) == ["memory-in-use"])
    let other = try Self.healthy()
    try other.add(Self.device())
    #expect(try Self.findings(other, pageSize: 65536) == ["odd-size"])
    let empty = try Self.healthy()
    try empty.add(Self.device { $0.maps = Array($0.maps!.prefix(2)) })
    #expect(try Self.findings(empty) == ["no-sections"])
  }

  @Test func interruptsThatNeverCameAreToldOfOpenDevices() throws {
    let tree = try Self.healthy()
    try tree.add(Self.device())
    try tree.write("proc/interrupts", " 34:  0  0  GICv3 128 Edge  uio_ivshmem\n")
    #expect(try Self.findings(tree) == [])
    try tree.link("proc/77/fd/5", to: "/dev/uio0")
    #expect(try Self.findings(tree) == ["silent"])
    try tree.write("proc/interrupts", " 34:  0  1  GICv3 128 Edge  uio_ivshmem\n")
    #expect(try Self.findings(tree) == [])
  }

  @Test func aDeviceThatCannotInterruptIsTold() throws {
    let tree = try Self.healthy()
    var device = Self.device()
    try tree.add(device)
    device.vectors = 0
    var bytes = device.configuration
    bytes[0x3d] = 0
    try tree.write("sys/bus/pci/devices/0000:00:03.0/config", bytes)
    #expect(try Self.findings(tree) == ["no-interrupt"])
    try tree.write(
      "sys/bus/pci/devices/0000:00:03.0/config", Data(repeating: 0xff, count: 64))
    #expect(try Self.findings(tree) == ["bad-configuration"])
  }

  @Test func groupsOfTheIOMMUAreLookedAt() throws {
    let tree = try Self.healthy()
    try tree.add(
      Self.device {
        $0.driver = "vfio-pci"
        $0.maps = nil
      })
    #expect(try Self.findings(tree) == ["no-group"])
    let folder = "sys/bus/pci/devices"
    try tree.link("\(folder)/0000:00:03.0/iommu_group", to: "../../../kernel/iommu_groups/7")
    #expect(try Self.findings(tree) == ["no-group-node"])
    try tree.write("dev/vfio/7", "")
    #expect(try Self.findings(tree) == [])
    try tree.add(
      SystemTree.Device(
        address: "0000:00:04.0", vendor: 0x8086, device: 0x10d3, classCode: 0x020000,
        driver: "e1000e", maps: nil))
    try tree.link("\(folder)/0000:00:04.0/iommu_group", to: "../../../kernel/iommu_groups/7")
    #expect(try Self.findings(tree) == ["shared-group"])
  }

  @Test func everyFindingOfTheHelpHasATestHere() throws {
    let help = try runTool(["help", "doctor"]).output
    let source = try String(contentsOfFile: #filePath, encoding: .utf8)
    let list = help.components(separatedBy: "Findings:")[1].components(separatedBy: ".")[0]
    let names = list.split { ", \n".contains($0) }
    #expect(names.count > 25)
    // Rights need another user than root, whom the test may be.
    for name in names where name != "no-permission" {
      #expect(source.contains("\"\(name)\""), "no test expects \(name)")
    }
  }

  // MARK: What it reads

  @Test func packedOptionsAreUnpacked() throws {
    let tree = try Self.healthy()
    let lines = (0..<3000).map { "CONFIG_OPTION_\($0 * 7919 % 3001)=\($0 % 3 == 0 ? "m" : "y")" }
    let text = (lines + ["CONFIG_LAST=m", ""]).joined(separator: "\n")
    try tree.write("plain", text)
    for level in ["-0", "-1", "-9"] {
      let pipe = Pipe()
      let packer = Process()
      packer.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      let script =
        "import gzip,sys; data = open(sys.argv[1], 'rb').read(); "
        + "sys.stdout.buffer.write(gzip.compress(data, int(sys.argv[2][1:])))"
      packer.arguments = [
        "python3", "-c", script, tree.root.appendingPathComponent("plain").path, level,
      ]
      packer.standardOutput = pipe
      try packer.run()
      let packed = try pipe.fileHandleForReading.readToEnd() ?? Data()
      packer.waitUntilExit()
      #expect(try gunzip([UInt8](packed), limit: 1 << 20) == [UInt8](text.utf8))
      try tree.write("proc/config.gz", packed)
      let options = try #require(KernelOptions.find(HostFiles(root: tree.root.path)))
      #expect(options.source == "/proc/config.gz")
      #expect(options.value("LAST") == "m")
      #expect(options.value("LAS") == nil)
      #expect(throws: InflateError.tooLong) { try gunzip([UInt8](packed), limit: 100) }
      #expect(throws: InflateError.self) {
        try gunzip([UInt8](packed.prefix(packed.count / 2)), limit: 1 << 20)
      }
      // Damage causes errors or other bytes, never a trap.
      for index in stride(from: 10, to: packed.count, by: 7) {
        var damaged = [UInt8](packed)
        damaged[index] ^= UInt8(1 << (index % 8))
        _ = try? gunzip(damaged, limit: 1 << 20)
      }
    }
    #expect(throws: InflateError.notGzip) { try gunzip([1, 2, 3], limit: 10) }
  }

  @Test func filesOfTheKernelAreReadLineByLine() {
    #expect(MemoryResource.parse("00000000-00000000 : System RAM\n") == [])
    let memory = MemoryResource.parse(
      "1000-1fff : a : b\n  nonsense\n  1000-17ff : c\nffff-1 : d\n")
    #expect(memory.map { $0.owner } == ["a : b", "c"])
    #expect(memory.map { $0.depth } == [0, 1])
    #expect(memory[0].overlaps(0x1fff, 1))
    #expect(!memory[0].overlaps(0x2000, .max))
    #expect(memory[0].overlaps(0, .max))
    #expect(!memory[0].overlaps(0x1800, 0))
    let counts = InterruptCount.parse(
      "   CPU0\n 34: 1 2 GICv3 7\nNMI: 4\n 35: 18446744073709551615 1 x\n36:\n")
    #expect(counts.map { $0.number } == [34, 35])
    #expect(counts.map { $0.count } == [3, 0])
    #expect(counts[0].what == "GICv3 7")
  }
}
