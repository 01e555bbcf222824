/// What an earlier run chose, so that the next one moves nothing: the content of `placement.yaml`.
///
/// It is kept beside the output and read back from there. A place that no longer fits is chosen
/// anew; a wish in the setup goes before it.
public struct Placement: Hashable, Sendable {
  /// Name of the file in the output folder.
  public static let fileName = "placement.yaml"

  /// Where a guest was put.
  public struct Cell: Hashable, Sendable {
    /// What ran in it: the kinds are placed by different rules.
    var kind: CellWish.Kind
    /// Its RAM.
    var memory: Span
    /// Start of its loader, in a Linux guest.
    var loader: UInt64?
    /// First SPI of its virtual PCI.
    var interrupt: Int
  }

  /// Where a link was put.
  public struct Link: Hashable, Sendable {
    /// What it carried: a name that now means another kind is a new link.
    var kind: LinkKind
    /// Device number on bus 0.
    var device: Int
    /// All of its memory.
    var span: Span
  }

  /// Guests by name.
  public var cells: [String: Cell] = [:]
  /// Links by name.
  public var links: [String: Link] = [:]

  /// Nothing is kept.
  public init() {}

  /// Reads the file.
  /// - Parameters:
  ///   - text: its content.
  ///   - file: its path, for messages.
  public init(yaml text: String, file: String) throws(GenerateError) {
    let fields = try YAMLDocument.read(text, file: file).fields("cells", "links")
    for (name, entry) in try fields["cells"]?.entries() ?? [] {
      let cell = try entry.fields("kind", "address", "size", "loader", "interrupt")
      cells[name.value] = Cell(
        kind: try cell.required("kind").choice(CellWish.Kind.self),
        memory: try cell.span(), loader: try cell["loader"]?.address(),
        interrupt: try cell.required("interrupt").int(0...1019))
    }
    for (name, entry) in try fields["links"]?.entries() ?? [] {
      let link = try entry.fields("kind", "bdf", "address", "size")
      links[name.value] = Link(
        kind: try link.required("kind").choice(LinkKind.self),
        device: try link.required("bdf").int(0...31), span: try link.span())
    }
  }

  /// The places of a layout.
  init(_ layout: Layout) {
    for cell in layout.cells {
      cells[cell.name] = Cell(
        kind: cell.wish.kind, memory: cell.ram, loader: cell.loader?.start,
        interrupt: cell.vpciBase)
    }
    for link in layout.links {
      links[link.name] = Link(kind: link.wish.kind, device: link.device, span: link.span)
    }
  }

  /// The file's text; guests and links in the order of the setup.
  static func text(_ layout: Layout) -> String {
    var lines = [
      "# Where 'ivshmem-cell gen' put everything. The next run into this folder keeps these",
      "# places, so that a change of the setup moves nothing else. Delete a line, or run with",
      "# --fresh, to choose anew; what the setup itself says goes before this file.",
      "cells:",
    ]
    for cell in layout.cells {
      let loader = cell.loader.map { ", loader: \(hex($0.start))" } ?? ""
      lines.append(
        "  \(quoted(cell.name)): {kind: \(cell.wish.kind.rawValue), address: "
          + "\(hex(cell.ram.start)), size: \(hex(cell.ram.size))\(loader), "
          + "interrupt: \(cell.vpciBase)}")
    }
    if !layout.links.isEmpty { lines.append("links:") }
    for link in layout.links {
      lines.append(
        "  \(quoted(link.name)): {kind: \(link.wish.kind.rawValue), bdf: \(link.device), "
          + "address: \(hex(link.span.start)), size: \(hex(link.span.size))}")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A name as YAML key: it has letters, digits, `-`, `_` and `.`, and may look like a number.
  private static func quoted(_ name: String) -> String { "\"\(name)\"" }
}
