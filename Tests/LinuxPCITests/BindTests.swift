import Foundation
import LinuxPCI
import Testing

/// What bind and unbind write, and when they refuse, in a made-up system. A file there binds
/// nothing: what the kernel would do is done by the test.
@Suite struct BindTests {
  static let folder = "sys/bus/pci/devices/0000:00:03.0"

  static func unbound() throws -> SystemTree {
    let tree = try DoctorTests.healthy()
    try tree.add(DoctorTests.device { ($0.driver, $0.maps) = (nil, nil) })
    try tree.write("sys/bus/pci/drivers_probe", "")
    try tree.write("sys/bus/pci/drivers/uio_ivshmem/bind", "")
    return tree
  }

  static func run(_ tree: SystemTree, _ words: [String]) throws -> (Int32, String) {
    let run = try runTool(words + ["--root", tree.root.path])
    return (run.status, run.errors + run.output)
  }

  @Test func theOverrideComesFirst() throws {
    let tree = try Self.unbound()
    // Nothing binds it here, so that the wait for the driver ends with its reason.
    let (status, text) = try Self.run(tree, ["bind", "00:03.0", "--wait", "0"])
    #expect(status == 1)
    #expect(text.contains("uio_ivshmem did not take it"))
    #expect(tree.text("\(Self.folder)/driver_override")?.hasPrefix("uio_ivshmem\n") == true)
    #expect(tree.text("sys/bus/pci/drivers_probe") == "0000:00:03.0")
    #expect(tree.text("sys/bus/pci/drivers/uio_ivshmem/new_id") == "")
  }

  @Test func withoutOverrideTheIDIsAdded() throws {
    let tree = try Self.unbound()
    try FileManager.default.removeItem(
      at: tree.root.appendingPathComponent("\(Self.folder)/driver_override"))
    #expect(try Self.run(tree, ["bind", "00:03.0", "--wait", "0"]).0 == 1)
    #expect(
      tree.text("sys/bus/pci/drivers/uio_ivshmem/new_id")
        == "110a 4106 110a 4106 ffc003 ffffff")
  }

  @Test func whatIsBoundIsTold() throws {
    let tree = try DoctorTests.healthy()
    try tree.add(DoctorTests.device())
    let (status, text) = try Self.run(tree, ["bind", "00:03.0", "--json"])
    #expect(status == 0)
    #expect(try decoded(text)["node"] as? String == "/dev/uio0")
    #expect(tree.text("\(Self.folder)/driver_override") == "(null)\n")
  }

  @Test func whoHasItOpenIsNotDisturbed() throws {
    let tree = try DoctorTests.healthy()
    try tree.add(DoctorTests.device())
    try tree.link("proc/77/fd/5", to: "/dev/uio0")
    try tree.write("sys/bus/pci/drivers/uio_ivshmem/unbind", "")
    for words in [["unbind", "00:03.0"], ["bind", "00:03.0", "--driver", "vfio-pci"]] {
      let (status, text) = try Self.run(tree, words)
      #expect(status == 1)
      #expect(text.contains("is open in pid 77"))
    }
    #expect(tree.text("sys/bus/pci/drivers/uio_ivshmem/unbind") == "")
  }

  @Test func unbindTakesTheChoiceBack() throws {
    let tree = try DoctorTests.healthy()
    try tree.add(DoctorTests.device())
    try tree.write("sys/bus/pci/drivers/uio_ivshmem/unbind", "")
    try tree.write("\(Self.folder)/driver_override", "uio_ivshmem\n")
    #expect(try Self.run(tree, ["unbind", "00:03.0"]).0 == 0)
    #expect(tree.text("sys/bus/pci/drivers/uio_ivshmem/unbind") == "0000:00:03.0")
    #expect(tree.text("\(Self.folder)/driver_override")?.hasPrefix("\n") == true)
  }

  @Test func whatCannotBeIsRefused() throws {
    let tree = try Self.unbound()
    #expect(try Self.run(tree, ["bind", "00:03.0", "--driver", "absent"]).0 == 2)
    #expect(try Self.run(tree, ["bind", "00:03.0", "--driver", "../x"]).0 == 2)
    #expect(try Self.run(tree, ["bind", "00:04.0"]).0 == 2)
    #expect(try Self.run(tree, ["bind"]).0 == 2)
    for name in ["uio_ivshmem", "vfio-pci"] {
      try FileManager.default.removeItem(
        at: tree.root.appendingPathComponent("sys/bus/pci/drivers/\(name)"))
    }
    let (status, text) = try Self.run(tree, ["bind", "00:03.0"])
    #expect(status == 2)
    #expect(text.contains("neither uio_ivshmem nor vfio-pci"))
  }

  @Test func aFunctionThatCannotBeLookedAtIsNotOpened() throws {
    let tree = try DoctorTests.healthy()
    try tree.add(DoctorTests.device())
    try tree.link("proc/77/fd/5", to: "/dev/uio0")
    for verb in ["state", "peek"] {
      let (status, text) = try Self.run(tree, [verb, "00:03.0"])
      #expect(status == 1)
      #expect(text.contains("without opening its node"))
      #expect(text.contains("pid 77"))
    }
    let (status, text) = try Self.run(tree, ["watch", "00:03.0", "--count", "1", "--json"])
    #expect(status == 0)
    #expect(try decoded(text)["events"] as? Int == 17)
  }
}
