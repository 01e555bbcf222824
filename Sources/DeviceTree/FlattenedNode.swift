/// A property of a node: its name and its bytes, big-endian as they lie in the blob.
public struct FlattenedProperty: Hashable, Sendable {
  /// The name, `reg`.
  public let name: String
  /// The value; empty for a property that is only present.
  public let bytes: [UInt8]

  /// The value as 32-bit cells; `nil` when its length is no multiple of 4.
  public var cells: [UInt32]? {
    guard bytes.count % 4 == 0 else { return nil }
    return stride(from: 0, to: bytes.count, by: 4).map { at in
      bytes[at..<at + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }
  }

  /// The value as strings, split at the NULs.
  public var strings: [String] {
    var parts = bytes.split(separator: 0, omittingEmptySubsequences: false)
    if parts.last?.isEmpty == true { parts.removeLast() }
    return parts.map { String(decoding: $0, as: UTF8.self) }
  }
}

/// A range of addresses that a `reg` property names.
public struct FlattenedRange: Hashable, Sendable {
  /// First address, bytes.
  public var start: UInt64
  /// Length in bytes.
  public var size: UInt64

  /// A range of `size` bytes from `start` on.
  public init(start: UInt64, size: UInt64) {
    self.start = start
    self.size = size
  }
}

/// A node of a device tree: properties and children in the order of the blob.
public struct FlattenedNode: Hashable, Sendable {
  /// Name with unit address, `pci@fd700000`; empty for the root.
  public let name: String
  /// Full path, `/soc@0/pci@fd700000`; `/` for the root.
  public let path: String
  /// The properties, in order.
  public internal(set) var properties: [FlattenedProperty] = []
  /// The children, in order.
  public internal(set) var children: [FlattenedNode] = []
  /// `#address-cells` of the parent, by which this node's `reg` is read (2 when not given).
  public internal(set) var parentAddressCells = 2
  /// `#size-cells` of the parent (1 when not given).
  public internal(set) var parentSizeCells = 1

  /// The property of that name.
  public func property(_ name: String) -> FlattenedProperty? {
    properties.first { $0.name == name }
  }

  /// The first cell of a property.
  public func cell(_ name: String) -> UInt32? {
    property(name)?.cells?.first
  }

  /// The name before the unit address, `pci`.
  public var baseName: String { String(name.prefix { $0 != "@" }) }

  /// `#address-cells` for the children (2 when not given).
  public var addressCells: Int { cell("#address-cells").map { Int($0) } ?? 2 }

  /// `#size-cells` for the children (1 when not given).
  public var sizeCells: Int { cell("#size-cells").map { Int($0) } ?? 1 }

  /// The phandle, under its present or its old name.
  public var phandle: UInt32? { cell("phandle") ?? cell("linux,phandle") }

  /// Whether the node is used: no status, or `okay`.
  public var isEnabled: Bool {
    guard let status = property("status")?.strings.first else { return true }
    return status == "okay" || status == "ok"
  }

  /// Whether `compatible` names `value`.
  public func isCompatible(_ value: String) -> Bool {
    property("compatible")?.strings.contains(value) ?? false
  }

  /// The ranges of `reg`, in the addresses of the parent's bus; `nil` when there is no `reg`, its
  /// length does not fit the parent's cell counts, or a number needs more than 64 bits.
  public var registers: [FlattenedRange]? {
    guard let cells = property("reg")?.cells else { return nil }
    let address = parentAddressCells
    let size = parentSizeCells
    guard (1...2).contains(address), (0...2).contains(size),
      cells.count % (address + size) == 0
    else { return nil }
    return stride(from: 0, to: cells.count, by: address + size).map { at in
      FlattenedRange(
        start: joined(cells[at..<at + address]),
        size: joined(cells[at + address..<at + address + size]))
    }
  }
}

/// Cells as one number, most significant first; more than two keep the low 64 bits.
func joined(_ cells: ArraySlice<UInt32>) -> UInt64 {
  cells.reduce(0) { $0 << 32 | UInt64($1) }
}
