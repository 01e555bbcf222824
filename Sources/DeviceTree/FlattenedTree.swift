import CFDT

/// Why a blob is no device tree that can be used: what was seen and where.
public struct FlattenedTreeError: Error, Hashable, Sendable {
  /// One line.
  public let message: String
}

/// A flattened device tree (`.dtb`), read through libfdt into values.
///
/// The blob is not trusted: `fdt_check_full` sees every byte of it first, nodes may be 64 deep, and
/// what does not parse is an error, never a trap.
public struct FlattenedTree: Hashable, Sendable {
  /// The node `/`.
  public let root: FlattenedNode
  /// The memory reservation block, which is not a node.
  public let reservations: [FlattenedRange]
  /// Nodes by phandle; the first one wins.
  private let pathsByPhandle: [UInt32: String]

  /// Depth at which a tree stops being a device tree.
  static let depthLimit = 64

  /// Whether `blob` is a flattened device tree that libfdt accepts whole.
  public static func isValid(_ blob: [UInt8]) -> Bool {
    unsafe blob.withUnsafeBytes { bytes in
      guard bytes.count >= 40, let start = bytes.baseAddress else { return false }
      return unsafe fdt_check_full(start, bytes.count) == 0
    }
  }

  /// Reads a blob whole.
  /// - Throws: when libfdt refuses it, or it is nested more than 64 deep.
  public init(decoding blob: [UInt8]) throws(FlattenedTreeError) {
    guard blob.count >= 40 else {
      throw FlattenedTreeError(
        message: "\(blob.count) bytes are no device tree blob; its header alone has 40")
    }
    let result: Result<Content, FlattenedTreeError> = unsafe blob.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress else {
        return .failure(FlattenedTreeError(message: "no bytes"))
      }
      let status = unsafe fdt_check_full(start, bytes.count)
      guard status == 0 else {
        return unsafe .failure(
          FlattenedTreeError(
            message: "libfdt refuses the blob: \(String(cString: fdt_strerror(status))); "
              + "compile the tree again with dtc"))
      }
      return unsafe readTree(start)
    }
    let content = try result.get()
    root = content.root
    reservations = content.reservations
    var paths: [UInt32: String] = [:]
    content.root.forEach { node in
      if let phandle = node.phandle, paths[phandle] == nil { paths[phandle] = node.path }
    }
    pathsByPhandle = paths
  }

  /// The node at an absolute path, unit addresses included.
  public func node(at path: String) -> FlattenedNode? {
    var found = root
    for part in path.split(separator: "/") {
      guard let next = found.children.first(where: { $0.name == part }) else { return nil }
      found = next
    }
    return found
  }

  /// The node that has this phandle.
  public func node(phandle: UInt32) -> FlattenedNode? {
    pathsByPhandle[phandle].flatMap { node(at: $0) }
  }

  /// The parent of the node at `path`; `nil` for the root.
  public func parent(of path: String) -> FlattenedNode? {
    guard let slash = path.lastIndex(of: "/"), path != "/" else { return nil }
    return node(at: String(path[..<slash]))
  }

  /// All nodes, parents before children.
  public var nodes: [FlattenedNode] {
    var all: [FlattenedNode] = []
    root.forEach { all.append($0) }
    return all
  }

  /// The node that `interrupts` of the node at `path` speaks to: the nearest `interrupt-parent`.
  public func interruptParent(of path: String) -> FlattenedNode? {
    var current = node(at: path)
    while let node = current {
      if let phandle = node.cell("interrupt-parent") { return self.node(phandle: phandle) }
      current = parent(of: node.path)
    }
    return nil
  }

  /// The ranges of a node's `reg` as the CPU sees them: every bus above is asked to translate.
  /// `nil` when `reg` is missing or wrong, or a bus above translates nothing (an I2C bus).
  public func translatedRegisters(of node: FlattenedNode) -> [FlattenedRange]? {
    guard var ranges = node.registers else { return nil }
    var bus = parent(of: node.path)
    while let current = bus, current.path != "/" {
      guard let moved = translate(ranges, through: current) else { return nil }
      ranges = moved
      bus = parent(of: current.path)
    }
    return ranges
  }

  private func translate(
    _ ranges: [FlattenedRange], through bus: FlattenedNode
  ) -> [FlattenedRange]? {
    guard let property = bus.property("ranges") else { return nil }
    guard let cells = property.cells else { return nil }
    guard !cells.isEmpty else { return ranges }
    let child = bus.addressCells
    let parent = bus.parentAddressCells
    let size = bus.sizeCells
    guard (1...2).contains(child), (1...2).contains(parent), (1...2).contains(size),
      cells.count % (child + parent + size) == 0
    else { return nil }
    var moved: [FlattenedRange] = []
    for range in ranges {
      var target: UInt64?
      for at in stride(from: 0, to: cells.count, by: child + parent + size) {
        let from = joined(cells[at..<at + child])
        let to = joined(cells[at + child..<at + child + parent])
        let length = joined(cells[at + child + parent..<at + child + parent + size])
        guard range.start >= from, range.start - from < length else { continue }
        target = to &+ (range.start - from)
        break
      }
      guard let target else { return nil }
      moved.append(FlattenedRange(start: target, size: range.size))
    }
    return moved
  }
}

extension FlattenedNode {
  /// Visits this node and everything below it.
  func forEach(_ body: (FlattenedNode) -> Void) {
    body(self)
    for child in children { child.forEach(body) }
  }
}
