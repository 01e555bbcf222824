public import CommandOptions
public import IVShmem
public import SharedMemory
public import SiemensDialect
import VirtioTransport

/// Where header and pool lie, or one line with the way out.
public func planSiemens(
  _ link: String, own: PeerID, _ geometry: LinkGeometry, configurationSize: Int
) throws(UsageError) -> SiemensPlan {
  do throws(SiemensPlanError) {
    return try SiemensPlan(own: own, geometry: geometry, configurationSize: configurationSize)
  } catch {
    switch error {
    case .peers(let own, let count):
      throw UsageError(
        "link \(link): the Siemens dialect needs exactly 2 peers, 0 and 1; this is peer"
          + " \(own.rawValue) of \(count)")
    case .sectionTooSmall(let have, let need):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes, the Siemens dialect needs at"
          + " least \(need); output sections do not help")
    case .sectionTooLarge(let have):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes; the driver of the Siemens dialect"
          + " fails from 2 GiB on")
    }
  }
}

/// The dialect of a link that was joined, as it shows itself.
public func recogniseDialect(
  _ region: SharedRegion, _ geometry: LinkGeometry, own: PeerID, deviceClass: UInt32,
  _ specification: LinkSpecification, _ side: LinkSide
) throws(UsageError) -> Dialect {
  let partner = specification.partner(side, own: own)
  let isThere = UInt32(partner.rawValue) < geometry.maxPeers
  let state = isThere ? region.state(of: partner, in: geometry) : 0
  return try Dialect.recognise(
    Dialect.Signs(deviceClass: deviceClass, peerState: state), side: side,
    link: specification.name)
}
