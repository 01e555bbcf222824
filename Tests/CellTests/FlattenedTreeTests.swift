import DeviceTree
import Testing

@Suite struct FlattenedTreeTests {
  static func tree(_ node: TestNode) throws -> FlattenedTree {
    try FlattenedTree(decoding: node.blob)
  }

  @Test func readsNodesPropertiesAndAddresses() throws {
    let tree = try Self.tree(TestTrees.guest())
    #expect(tree.root.path == "/")
    #expect(
      tree.root.children.map(\.baseName) == ["interrupt-controller", "cpus", "serial", "pci"])
    let serial = try #require(tree.node(at: "/serial@9040000"))
    #expect(serial.registers == [FlattenedRange(start: 0x0904_0000, size: 0x1000)])
    #expect(serial.property("compatible")?.strings == ["arm,pl011", "arm,primecell"])
    #expect(serial.isCompatible("arm,primecell"))
    #expect(serial.isEnabled)
    #expect(tree.interruptParent(of: "/serial@9040000")?.baseName == "interrupt-controller")
    #expect(tree.node(phandle: 1)?.path == "/interrupt-controller@8000000")
    #expect(tree.node(phandle: 2) == nil)
    #expect(tree.node(at: "/cpus/cpu@3")?.registers?.first?.start == 3)
    #expect(tree.node(at: "/nothing") == nil)
    #expect(tree.parent(of: "/cpus/cpu@3")?.path == "/cpus")
    #expect(tree.parent(of: "/") == nil)
    #expect(tree.nodes.count == 7)
  }

  @Test func translatesThroughBuses() throws {
    var device = TestNode("uart@100")
    device.cells("reg", [0x100, 0x10])
    var bus = TestNode("soc@0", [device])
    bus.cells("#address-cells", [1])
    bus.cells("#size-cells", [1])
    bus.cells("ranges", [0, 0x1, 0x3000_0000, 0x1000])
    let path = "/soc@0/uart@100"
    func moved() throws -> [FlattenedRange]? {
      let tree = try Self.tree(TestTrees.top([bus]))
      return tree.translatedRegisters(of: try #require(tree.node(at: path)))
    }
    #expect(try moved() == [FlattenedRange(start: 0x1_3000_0100, size: 0x10)])
    bus.flag("ranges")
    #expect(try moved() == [FlattenedRange(start: 0x100, size: 0x10)])
    bus.cells("ranges", [0, 1, 0, 0x100])
    #expect(try moved() == nil)
    bus.remove("ranges")
    #expect(try moved() == nil)
  }

  @Test func oddPropertiesAreNoNumbers() throws {
    var node = TestNode("x@0")
    node.set("reg", [1, 2, 3])
    node.set("status", Array("disabled".utf8) + [0])
    let tree = try Self.tree(TestTrees.top([node]))
    let found = try #require(tree.node(at: "/x@0"))
    #expect(found.registers == nil)
    #expect(found.property("reg")?.cells == nil)
    #expect(!found.isEnabled)
  }

  @Test func refusesWhatIsNoTree() {
    let blob = TestTrees.guest().blob
    #expect(FlattenedTree.isValid(blob))
    for bad in [
      [], [UInt8](repeating: 0, count: 100), Array(blob.prefix(60)), Array(blob.dropLast()),
    ] {
      #expect(throws: FlattenedTreeError.self) { try FlattenedTree(decoding: bad) }
    }
    var deep = TestNode("leaf")
    for _ in 0..<80 { deep = TestNode("n", [deep]) }
    #expect(throws: FlattenedTreeError.self) {
      try FlattenedTree(decoding: TestNode("", [deep]).blob)
    }
    let long = TestNode(String(repeating: "n", count: 300))
    #expect(throws: FlattenedTreeError.self) {
      try FlattenedTree(decoding: TestNode("", [long]).blob)
    }
  }

  @Test func damagedBlobsAreErrorsOrTrees() {
    var generator = SplitMix(seed: 11)
    let blob = TestTrees.root().blob
    var accepted = 0
    for _ in 0..<3000 {
      var damaged = blob
      for _ in 0..<Int.random(in: 1...6, using: &generator) {
        damaged[Int.random(in: 0..<damaged.count, using: &generator)] =
          [0, 1, 2, 3, 4, 9, 0x7f, 0x80, 0xff].randomElement(using: &generator) ?? 0
      }
      if let tree = try? FlattenedTree(decoding: damaged) {
        accepted += 1
        for node in tree.nodes {
          _ = node.registers
          _ = tree.translatedRegisters(of: node)
          _ = tree.interruptParent(of: node.path)
        }
      }
    }
    #expect(accepted > 0)
  }
}

/// A small generator whose sequence depends on the seed alone.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}
