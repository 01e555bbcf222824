import Foundation
import IVShmem
import LinuxPCI
import Testing

@Suite struct DiscoveryTests {
  @Test func addressesAreReadAsSysfsWritesThem() {
    #expect(PCIAddress("0001:00:1f.7")?.description == "0001:00:1f.7")
    #expect(PCIAddress("00:03.0")?.description == "0000:00:03.0")
    #expect(PCIAddress("10000:00:03.0")?.description == "10000:00:03.0")
    let wrong = [
      "", "3", "00:20.0", "00:03.8", "00:03", "0000:00:03.0.1", "a:b:c:d.0", "00:+3.0",
      "-1:00:03.0",
      "000000000:00:03.0", "0000:000:03.0", "00:03.", ":03.0", "0x0:00:03.0",
    ]
    for text in wrong { #expect(PCIAddress(text) == nil, "\(text)") }
    #expect(PCIAddress("0000:01:00.0")! < PCIAddress("0001:00:00.0")!)
  }

  @Test func linesOfResourceAreNotBelieved() {
    let good = PCIResource.parse(
      "0x7100000 0x7100fff 0x40200\n0x0 0x0 0x0\n0x80000000 0x8fffffff 0x14220c\n")
    #expect(good.map { $0.bar } == [0, 2])
    #expect(good.map { $0.size } == [4096, 0x1000_0000])
    #expect(PCIResource.parse("0x0 0xffffffffffffffff 0x200") == [])
    #expect(PCIResource.parse("0x2 0x1 0x200\nx y z\n1 2\n") == [])
  }

  private func device(_ change: (inout SystemTree.Device) -> Void) throws -> LinkDevice {
    let tree = try SystemTree()
    var device = SystemTree.Device()
    change(&device)
    try tree.add(device)
    let found = try PCIDiscovery(root: tree.root.path).all()
    return LinkDevice(try #require(found.first))
  }

  @Test func aPrivilegedReaderSeesEverything() throws {
    let link = try device { _ in }
    #expect(link.linkProtocol == .virtioBackEnd(3))
    #expect(link.interrupts == .msix)
    #expect(link.vectorCount == 2)
    #expect(link.isOneShot == true)
    #expect(link.peerID == 1)
    #expect(link.maxPeers == 3)
    #expect(link.size(of: .readWrite) == 0x9000)
    #expect(link.size(of: .output) == 0x2000)
    #expect(link.hiddenByPrivilege == [])
    #expect(link.function.nodePaths == ["/dev/uio0"])
  }

  @Test func withoutPrivilegeTheMapsTellTheSizes() throws {
    let link = try device { $0.visible = 64 }
    #expect(link.size(of: .readWrite) == 0x9000)
    #expect(link.vectorCount == nil)
    #expect(link.isOneShot == nil)
    #expect(link.hiddenByPrivilege == ["one-shot mode", "number of vectors"])
  }

  @Test func withoutPrivilegeAndDriverTheSizesAreUnknown() throws {
    let link = try device {
      $0.visible = 64
      $0.maps = nil
      $0.driver = nil
    }
    #expect(link.sections == [])
    #expect(link.interrupts == .unknown)
    #expect(link.hiddenByPrivilege.first == "sizes of the sections")
  }

  @Test func withoutNodeTheCapabilityTellsTheSizes() throws {
    let link = try device {
      $0.maps = nil
      $0.vectors = 0
    }
    #expect(link.interrupts == .line)
    #expect(link.vectorCount == 1)
    #expect(link.sections.map { $0.address } == [0x7faf_0000, 0x7faf_1000, nil])
    #expect(link.peerID == nil)
  }

  @Test func hostileMapsAndConfigurationsAreNotBelieved() throws {
    let link = try device {
      $0.maps = [
        ("registers", 0, 1), ("state_table", 1, 2), ("input_sections", .max, .max),
        ("output_section", 4, 1),
      ]
    }
    #expect(link.peerID == nil)
    let huge = try device {
      $0.maps = [
        ("registers", 0, 1), ("state_table", 1, 2), ("input_sections", 0, .max),
        ("output_section", 4, 1),
      ]
    }
    #expect(huge.maxPeers == nil)
    let gone = try device {
      $0.vendor = 0xffff
      $0.visible = 64
    }
    #expect(gone.configuration == nil)
    #expect(gone.configurationError == .absent)
    let short = try device { $0.visible = 3 }
    #expect(short.configurationError == .tooShort(3))
    // A driver of another device with maps of other names says nothing of sections.
    let old = try device { $0.maps = [("ivshmem-mmr", 0, 256), ("ivshmem-shmem", 0, 4096)] }
    #expect(old.maxPeers == nil)
    #expect(old.size(of: .readWrite) == 0x9000)
  }

  @Test func listShowsDevicesAndTellsOthersApart() throws {
    let tree = try SystemTree()
    try tree.add(SystemTree.Device())
    try tree.add(SystemTree.Device(address: "0001:00:02.0", classCode: 0xff8002, maps: nil))
    var old = SystemTree.Device(address: "0000:00:09.0", vendor: 0x1af4, device: 0x1110)
    old.maps = nil
    try tree.add(old)
    let run = try runTool(["list", "--json", "--root", tree.root.path])
    #expect(run.status == 0)
    let answer = try decoded(run.output)
    let devices = try #require(answer["devices"] as? [[String: Any]])
    #expect(devices.map { $0["bdf"] as? String } == ["0000:00:03.0", "0001:00:02.0"])
    #expect(devices[0]["node"] as? String == "/dev/uio0")
    #expect(devices[1]["role"] as? String == "front-end")
    #expect((answer["others"] as? [[String: Any]])?.first?["bdf"] as? String == "0000:00:09.0")
    let text = try runTool(["list", "--root", tree.root.path]).output
    #expect(text.contains("virtio console back-end"))
    #expect(text.contains("version 1, another device"))
  }

  @Test func infoShowsOneDeviceOrSaysWhyNot() throws {
    let tree = try SystemTree()
    try tree.add(SystemTree.Device())
    try tree.add(SystemTree.Device(address: "0000:00:01.0", vendor: 0x8086, device: 0x1234))
    let place = ["--root", tree.root.path]
    let run = try runTool(["info", "00:03.0", "--json"] + place)
    #expect(run.status == 0)
    let answer = try decoded(run.output)
    #expect(answer["events"] as? Int == 17)
    #expect((answer["maps"] as? [Any])?.count == 5)
    #expect(answer["registers"] is NSNull)
    #expect(answer["registersHiddenBy"] as? String != nil)
    let wrong = try runTool(["info", "00:01.0"] + place)
    #expect(wrong.status == 2)
    #expect(wrong.errors.contains("8086:1234; expected 110a:4106"))
    #expect(try runTool(["info", "00:04.0"] + place).status == 2)
    #expect(try runTool(["info", "nonsense"] + place).status == 2)
    #expect(try runTool(["info"] + place).status == 2)
  }
}
