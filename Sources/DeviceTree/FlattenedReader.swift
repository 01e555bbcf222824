import CFDT

/// What is read of a blob.
struct Content {
  var root: FlattenedNode
  var reservations: [FlattenedRange]
}

/// Walks a blob that `fdt_check_full` has accepted.
/// - Parameter blob: start of the blob; it stays valid during the call.
@unsafe func readTree(_ blob: UnsafeRawPointer) -> Result<Content, FlattenedTreeError> {
  // The path from the root to the node just read; a node is added to its parent when it is
  // complete, so that the walk needs no recursion.
  var open: [FlattenedNode] = []
  func close(to depth: Int) {
    while open.count > max(depth, 1), let done = open.popLast() {
      open[open.count - 1].children.append(done)
    }
  }
  var depth: Int32 = -1
  var offset = unsafe fdt_next_node(blob, -1, &depth)
  while offset >= 0, depth >= 0 {
    guard depth < FlattenedTree.depthLimit else {
      return .failure(
        FlattenedTreeError(message: "nodes nested more than \(FlattenedTree.depthLimit) deep"))
    }
    close(to: Int(depth))
    guard open.count == Int(depth) else {
      return .failure(FlattenedTreeError(message: "more than one root node"))
    }
    guard let node = unsafe readNode(blob, offset, parent: open.last) else {
      return .failure(
        FlattenedTreeError(
          message: "a node or property with a name of more than \(nameLimit) characters; "
            + "the specification allows 31"))
    }
    open.append(node)
    offset = unsafe fdt_next_node(blob, offset, &depth)
  }
  close(to: 1)
  guard let root = open.first else {
    return .failure(FlattenedTreeError(message: "a tree without a root node"))
  }
  var reservations: [FlattenedRange] = []
  for index in 0..<max(0, unsafe fdt_num_mem_rsv(blob)) {
    var start: UInt64 = 0
    var size: UInt64 = 0
    guard unsafe fdt_get_mem_rsv(blob, index, &start, &size) == 0 else { break }
    reservations.append(FlattenedRange(start: start, size: size))
  }
  return .success(Content(root: root, reservations: reservations))
}

/// Names are copied into every path below them: without a limit a small blob becomes a large tree.
private let nameLimit = 255

/// Whether a C string ends within the limit; the strings block ends with a NUL, so that every byte
/// looked at is inside the blob.
@unsafe private func isShort(_ text: UnsafePointer<CChar>) -> Bool {
  for index in 0...nameLimit where unsafe text[index] == 0 { return true }
  return false
}

/// A node with its properties, without children; `nil` when a name is too long.
@unsafe private func readNode(
  _ blob: UnsafeRawPointer, _ offset: Int32, parent: FlattenedNode?
) -> FlattenedNode? {
  var length: Int32 = 0
  guard let text = unsafe fdt_get_name(blob, offset, &length), length <= nameLimit else {
    return nil
  }
  var name = unsafe String(cString: text)
  let path: String
  if let parent {
    path = parent.path == "/" ? "/" + name : parent.path + "/" + name
  } else {
    name = ""
    path = "/"
  }
  var node = FlattenedNode(name: name, path: path)
  if let parent {
    node.parentAddressCells = parent.addressCells
    node.parentSizeCells = parent.sizeCells
  }
  var at = unsafe fdt_first_property_offset(blob, offset)
  while at >= 0 {
    var key: UnsafePointer<CChar>?
    if let value = unsafe fdt_getprop_by_offset(blob, at, &key, &length), length >= 0,
      let key = unsafe key
    {
      guard unsafe isShort(key) else { return nil }
      let bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: value, count: Int(length)))
      unsafe node.properties.append(
        FlattenedProperty(name: String(cString: key), bytes: bytes))
    }
    at = unsafe fdt_next_property_offset(blob, at)
  }
  return node
}
