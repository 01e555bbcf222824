public import LinkFormat

extension IVShmemCapability {
  /// The geometry of the link: the capability's sizes with what two registers say.
  ///
  /// - Parameters:
  ///   - id: the ID register.
  ///   - maxPeers: the Maximum Peers register.
  ///   - pageSize: of this kernel; sections that share a page cannot be mapped apart.
  public func geometry(
    id: UInt32, maxPeers: UInt32, pageSize: UInt64
  ) throws(DeviceError) -> LinkGeometry {
    let sizes: [(String, UInt64)] = [
      ("state table", UInt64(stateTableSize)), ("R/W section", readWriteSize),
      ("output section", outputSize),
    ]
    for (name, size) in sizes where size % pageSize != 0 {
      throw .section(name, size: size, page: pageSize)
    }
    do throws(GeometryError) {
      guard id < maxPeers else { throw .peerID(id, maxPeers: maxPeers) }
      return try LinkGeometry(
        maxPeers: maxPeers, stateTableSize: UInt64(stateTableSize), readWriteSize: readWriteSize,
        outputSize: outputSize, pageSize: pageSize)
    } catch { throw .geometry(error) }
  }
}
