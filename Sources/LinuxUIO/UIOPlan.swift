public import IVShmem
public import LinuxPCI

/// Which map of a `uio_ivshmem` node is what, checked against what the registers say; a pure
/// function of what sysfs and two registers tell.
///
/// Maps are compacted by the driver, so they are found by name, never by number.
public struct UIOPlan: Equatable, Sendable {
  /// The register page.
  public let registers: UIOMap
  /// Every peer's state; read-only.
  public let stateTable: UIOMap
  /// What everybody may write; `nil` when there is none.
  public let readWrite: UIOMap?
  /// All output sections, the own one among them, read-only; `nil` when there are none.
  public let inputs: UIOMap?
  /// The own output section, writable.
  public let output: UIOMap?

  /// Finds the maps of a node.
  public init(_ node: UIONode) throws(DeviceError) {
    func map(_ name: String) throws(DeviceError) -> UIOMap {
      guard let found = node.map(name) else { throw .noMap(name, title: node.title) }
      return found
    }
    registers = try map("registers")
    stateTable = try map("state_table")
    readWrite = node.map("rw_section")
    inputs = node.map("input_sections")
    output = node.map("output_section")
    // Both or neither: each is of no use alone.
    if inputs != nil, output == nil { throw .noMap("output_section", title: node.title) }
    if inputs == nil, output != nil { throw .noMap("input_sections", title: node.title) }
  }

  /// The link's geometry: the sizes of the maps and the two registers have to agree.
  ///
  /// - Parameters:
  ///   - id: the ID register.
  ///   - maxPeers: the Maximum Peers register.
  ///   - pageSize: of this kernel; sections that share a page cannot be mapped apart.
  public func geometry(
    id: UInt32, maxPeers: UInt32, pageSize: UInt64
  ) throws(DeviceError) -> LinkGeometry {
    for section in [stateTable, readWrite, output] {
      guard let section, section.size % pageSize != 0 else { continue }
      throw .section(section.name, size: section.size, page: pageSize)
    }
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: maxPeers, stateTableSize: stateTable.size, readWriteSize: readWrite?.size ?? 0,
        outputSize: output?.size ?? 0, pageSize: pageSize)
      guard id < maxPeers else { throw .peerID(id, maxPeers: maxPeers) }
    } catch { throw .geometry(error) }
    if let inputs, let output {
      let all = UInt64(maxPeers) * output.size
      guard inputs.size == all else {
        throw .map(inputs.name, found: inputs.size, expected: all)
      }
      let own = inputs.address &+ UInt64(id) * output.size
      guard output.address == own else {
        throw .map(output.name, found: output.address, expected: own)
      }
    }
    return geometry
  }
}

/// Where a map is found: its bytes begin at `offset` of a descriptor.
///
/// All windows of a real device are of one descriptor.
struct UIOWindow {
  let descriptor: Int32
  let offset: UInt64
}
