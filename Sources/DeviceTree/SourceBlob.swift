/// Why a source cannot become a blob.
public struct SourceError: Error, Hashable, Sendable {
  /// One line.
  public let message: String
}

extension SourceTree {
  /// The `.dtb`, version 17: the very bytes that dtc 1.6.1 makes of `printed()`. Phandles are given
  /// to labelled nodes in the order in which they are first referenced.
  public func flattened() throws(SourceError) -> [UInt8] {
    var labels: Set<String> = []
    root.collectLabels(&labels)
    var handles: [String: UInt32] = [:]
    try root.number(&handles, known: labels)
    var blob = BlobWriter()
    try blob.write(root, handles)
    blob.word(9)  // FDT_END
    let structureStart: UInt32 = 40 + 16  // header, then one empty reservation
    let stringsStart = structureStart + UInt32(blob.structure.count)
    var header = BlobWriter()
    for word: UInt32 in [
      0xd00d_feed, stringsStart + UInt32(blob.strings.count), structureStart, stringsStart, 40, 17,
      16, root.bootProcessor, UInt32(blob.strings.count), UInt32(blob.structure.count),
    ] { header.word(word) }
    return header.structure + Array(repeating: 0, count: 16) + blob.structure + blob.strings
  }
}

extension SourceNode {
  /// The `reg` of the first node below /cpus, where it is one cell: dtc's guess for the field
  /// boot_cpuid_phys.
  fileprivate var bootProcessor: UInt32 {
    let first = children.first { $0.name == "cpus" }?.children.first
    guard
      case .cells(let cells)? = first?.properties.first(where: { $0.name == "reg" })?.values.first,
      cells.count == 1, case .number(let value, radix: _) = cells[0]
    else { return 0 }
    return value
  }

  fileprivate func collectLabels(_ labels: inout Set<String>) {
    if let label { labels.insert(label) }
    for child in children { child.collectLabels(&labels) }
  }

  fileprivate func number(
    _ handles: inout [String: UInt32], known: Set<String>
  ) throws(SourceError) {
    for property in properties {
      for case .cells(let cells) in property.values {
        for case .reference(let label) in cells where handles[label] == nil {
          guard known.contains(label) else {
            throw SourceError(
              message: "node \(name): property \(property.name) refers to &\(label), "
                + "but no node has that label")
          }
          handles[label] = UInt32(handles.count + 1)
        }
      }
    }
    for child in children { try child.number(&handles, known: known) }
  }
}

/// The structure and strings blocks of a blob while they grow.
private struct BlobWriter {
  var structure: [UInt8] = []
  var strings: [UInt8] = []

  mutating func word(_ value: UInt32) {
    for shift in [24, 16, 8, 0] as [UInt32] {
      structure.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
  mutating func pad() { while structure.count % 4 != 0 { structure.append(0) } }

  /// The offset of a name in the strings block; a name that ends another one shares its bytes.
  mutating func offset(of name: String) -> UInt32 {
    let bytes = Array(name.utf8) + [0]
    var at = 0
    while at + bytes.count <= strings.count {
      if strings[at..<at + bytes.count].elementsEqual(bytes) { return UInt32(at) }
      at += 1
    }
    strings += bytes
    return UInt32(strings.count - bytes.count)
  }

  mutating func property(_ name: String, _ value: [UInt8]) {
    word(3)  // FDT_PROP
    word(UInt32(value.count))
    word(offset(of: name))
    structure += value
    pad()
  }

  mutating func write(_ node: SourceNode, _ handles: [String: UInt32]) throws(SourceError) {
    word(1)  // FDT_BEGIN_NODE
    structure += Array(node.name.utf8) + [0]
    pad()
    for item in node.properties {
      var bytes: [UInt8] = []
      for value in item.values {
        switch value {
        case .string(let text): bytes += Array(text.utf8) + [0]
        case .cells(let cells):
          for cell in cells {
            let number: UInt32 =
              switch cell {
              case .number(let value, radix: _): value
              case .reference(let label): handles[label] ?? 0
              }
            for shift in [24, 16, 8, 0] as [UInt32] {
              bytes.append(UInt8(truncatingIfNeeded: number >> shift))
            }
          }
        }
      }
      property(item.name, bytes)
    }
    if let label = node.label, let handle = handles[label] {
      var writer = BlobWriter()
      writer.word(handle)
      property("phandle", writer.structure)
    }
    for child in node.children { try write(child, handles) }
    word(2)  // FDT_END_NODE
  }
}
