/// One 32-bit cell of a property: a number, or the phandle of the node with a label.
public enum SourceCell: Hashable, Sendable {
  case number(UInt32, radix: Int)
  case reference(String)

  /// A number that is printed in decimal.
  public static func decimal(_ value: Int) -> SourceCell { .number(UInt32(value), radix: 10) }
  /// A number that is printed in hexadecimal.
  public static func hex(_ value: UInt32) -> SourceCell { .number(value, radix: 16) }
  /// A 64-bit number as two hexadecimal cells, the upper half first.
  public static func wide(_ value: UInt64) -> [SourceCell] {
    [.hex(UInt32(value >> 32)), .hex(UInt32(truncatingIfNeeded: value))]
  }
}

/// One part of a property's value; parts are joined by commas.
public enum SourceValue: Hashable, Sendable {
  /// `<1 2 &label>`.
  case cells([SourceCell])
  /// `"text"`, NUL terminated in the blob.
  case string(String)
}

/// A property; without values it is a flag.
public struct SourceProperty: Hashable, Sendable {
  /// The name.
  public var name: String
  /// The parts of its value.
  public var values: [SourceValue]

  /// A property.
  public init(_ name: String, _ values: [SourceValue] = []) {
    self.name = name
    self.values = values
  }
  /// A property of strings.
  public static func strings(_ name: String, _ texts: String...) -> SourceProperty {
    strings(name, list: texts)
  }
  /// A property of strings.
  public static func strings(_ name: String, list: [String]) -> SourceProperty {
    SourceProperty(name, list.map { .string($0) })
  }
  /// A property of cells in one group.
  public static func cells(_ name: String, _ cells: [SourceCell]) -> SourceProperty {
    SourceProperty(name, [.cells(cells)])
  }
  /// A property of one decimal cell.
  public static func number(_ name: String, _ value: Int) -> SourceProperty {
    cells(name, [.decimal(value)])
  }
}

/// A node with its properties and children, in the order in which they are printed.
public struct SourceNode: Hashable, Sendable {
  /// Name with unit address; of the root node empty.
  public var name: String
  /// Label, for references.
  public var label: String?
  /// Printed above the node, one comment line each.
  public var comment: [String]
  /// Its properties.
  public var properties: [SourceProperty]
  /// Its children.
  public var children: [SourceNode]

  /// A node.
  public init(
    _ name: String, label: String? = nil, comment: [String] = [],
    _ properties: [SourceProperty] = [], children: [SourceNode] = []
  ) {
    self.name = name
    self.label = label
    self.comment = comment
    self.properties = properties
    self.children = children
  }
}

/// A device-tree source with literal cells: plain `dtc` compiles it, without any header.
public struct SourceTree: Hashable, Sendable {
  /// Comment at the top, one line each.
  public var heading: [String]
  /// Whether it is an overlay (`/plugin/`).
  public var isOverlay: Bool
  /// The root node.
  public var root: SourceNode

  /// A node.
  public init(heading: [String] = [], isOverlay: Bool = false, root: SourceNode) {
    self.heading = heading
    self.isOverlay = isOverlay
    self.root = root
  }
}
