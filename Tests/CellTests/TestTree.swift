import DeviceTree

/// A node of a device tree under construction. The blob is written here from the published format
/// (version 17), not by the code under test.
struct TestNode {
  var name: String
  var properties: [(String, [UInt8])] = []
  var children: [TestNode] = []

  init(_ name: String, _ children: [TestNode] = []) {
    self.name = name
    self.children = children
  }

  mutating func cells(_ name: String, _ values: [UInt32]) {
    set(name, values.flatMap(bigEndian))
  }
  mutating func text(_ name: String, _ values: String...) {
    set(name, values.flatMap { Array($0.utf8) + [0] })
  }
  mutating func flag(_ name: String) { set(name, []) }
  mutating func set(_ name: String, _ bytes: [UInt8]) {
    properties.removeAll { $0.0 == name }
    properties.append((name, bytes))
  }
  mutating func remove(_ name: String) { properties.removeAll { $0.0 == name } }

  /// The child of that name; it has to exist.
  subscript(name: String) -> TestNode {
    get { children.first { $0.name == name } ?? TestNode("missing") }
    set {
      if let at = children.firstIndex(where: { $0.name == name }) {
        children[at] = newValue
      } else {
        children.append(newValue)
      }
    }
  }

  var blob: [UInt8] {
    var strings: [UInt8] = []
    var structure: [UInt8] = []
    func offset(_ name: String) -> UInt32 {
      let start = UInt32(strings.count)
      strings += Array(name.utf8) + [0]
      return start
    }
    func pad() { while structure.count % 4 != 0 { structure.append(0) } }
    func write(_ node: TestNode) {
      structure += bigEndian(1) + Array(node.name.utf8) + [0]
      pad()
      for (name, bytes) in node.properties {
        structure += bigEndian(3) + bigEndian(UInt32(bytes.count)) + bigEndian(offset(name)) + bytes
        pad()
      }
      for child in node.children { write(child) }
      structure += bigEndian(2)
    }
    write(self)
    structure += bigEndian(9)
    let start: UInt32 = 40 + 16
    let header: [UInt32] = [
      0xd00d_feed, start + UInt32(structure.count + strings.count), start,
      start + UInt32(structure.count), 40, 17, 16, 0, UInt32(strings.count),
      UInt32(structure.count),
    ]
    return header.flatMap(bigEndian) + [UInt8](repeating: 0, count: 16) + structure + strings
  }
}

func bigEndian(_ value: UInt32) -> [UInt8] {
  [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
}

/// Two cells of a 64-bit number.
func wide(_ value: UInt64) -> [UInt32] {
  [UInt32(value >> 32), UInt32(truncatingIfNeeded: value)]
}

/// Trees that fit `TestSystem`.
enum TestTrees {
  static func gic() -> TestNode {
    var gic = TestNode("interrupt-controller@8000000")
    gic.text("compatible", "arm,gic-v3")
    gic.flag("interrupt-controller")
    gic.cells("#interrupt-cells", [3])
    gic.cells("#address-cells", [0])
    gic.cells("phandle", [1])
    gic.cells("reg", wide(0x0800_0000) + wide(0x1_0000) + wide(0x080a_0000) + wide(0xf6_0000))
    return gic
  }

  static func top(_ children: [TestNode]) -> TestNode {
    var root = TestNode("", children)
    root.cells("#address-cells", [2])
    root.cells("#size-cells", [2])
    root.cells("interrupt-parent", [1])
    return root
  }

  static func cpus(_ ids: [UInt32]) -> TestNode {
    var cpus = TestNode("cpus")
    cpus.cells("#address-cells", [1])
    cpus.cells("#size-cells", [0])
    cpus.children = ids.map { id in
      var cpu = TestNode("cpu@\(id)")
      cpu.text("device_type", "cpu")
      cpu.cells("reg", [id])
      return cpu
    }
    return cpus
  }

  static func pci(base: UInt32, firstSPI: UInt32) -> TestNode {
    var pci = TestNode("pci@7000000")
    pci.text("compatible", "pci-host-ecam-generic")
    pci.text("device_type", "pci")
    pci.cells("bus-range", [0, 0])
    pci.cells("#address-cells", [3])
    pci.cells("#size-cells", [2])
    pci.cells("#interrupt-cells", [1])
    pci.cells("interrupt-map-mask", [0, 0, 0, 7])
    pci.cells(
      "interrupt-map", (0..<4).flatMap { [0, 0, 0, $0 + 1, 1, 0, firstSPI + $0, 1] })
    pci.cells("reg", wide(UInt64(base)) + wide(0x10_0000))
    pci.cells("ranges", [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x1_0000])
    pci.flag("dma-coherent")
    return pci
  }

  static func uart(_ address: UInt32, spi: UInt32) -> TestNode {
    var uart = TestNode("serial@\(String(address, radix: 16))")
    uart.text("compatible", "arm,pl011", "arm,primecell")
    uart.cells("reg", wide(UInt64(address)) + wide(0x1000))
    uart.cells("interrupts", [0, spi, 4])
    return uart
  }

  static func guest() -> TestNode {
    top([gic(), cpus([2, 3]), uart(0x0904_0000, spi: 5), pci(base: 0x0700_0000, firstSPI: 108)])
  }

  static func reserved(_ name: String, _ start: UInt64, _ size: UInt64) -> TestNode {
    var node = TestNode("\(name)@\(String(start, radix: 16))")
    node.cells("reg", wide(start) + wide(size))
    node.flag("no-map")
    return node
  }

  static func memory(_ start: UInt64, _ size: UInt64) -> TestNode {
    var memory = TestNode("memory@\(String(start, radix: 16))")
    memory.text("device_type", "memory")
    memory.cells("reg", wide(start) + wide(size))
    return memory
  }

  static func root() -> TestNode {
    var reservations = TestNode(
      "reserved-memory",
      [
        reserved("linux", 0x7000_0000, 0x0800_0000), reserved("small", 0x7f90_0000, 0x2_0000),
        reserved("links", 0x7fa0_0000, 0x10_0000), reserved("jailhouse", 0x7fc0_0000, 0x40_0000),
      ])
    reservations.cells("#address-cells", [2])
    reservations.cells("#size-cells", [2])
    reservations.flag("ranges")
    return top([
      gic(), cpus([0, 1, 2, 3]), memory(0x4000_0000, 0x4000_0000), reservations,
    ])
  }
}
