import CommandOptions
import VirtioTransport

/// A tool that drives one device, whatever way leads to it.
protocol DeviceTool {
  /// Where the device is.
  var place: FrontendPlace { get }
  /// Bytes of buffers it needs where it makes the memory itself.
  var memoryBytes: Int { get }
  /// Does what the tool is for.
  func drive(_ path: consuming some DevicePath & ~Copyable) throws(ClientError)
}

extension DeviceTool {
  /// Opens the way and drives the device.
  func open() throws(ClientError) {
    switch place.face {
    case .link(let link):
      let platform = try LinkBlockPath.join(link)
      switch try frontEndDialect(platform, link) {
      case .native: try drive(LinkDevicePath.open(platform, link, slot: place.slot))
      case .siemens: try drive(SiemensDevicePath.open(platform, link, slot: place.slot))
      }
    case .vhostUser(let path):
      try drive(
        VhostUserDevicePath.open(
          path: path, memoryBytes: memoryBytes + (1 << 20), patience: place.patience))
    }
  }
}

/// How a front-end talks on a link that was joined.
func frontEndDialect(
  _ platform: borrowing HostPlatform, _ link: LinkSpecification
) throws(ClientError) -> Dialect {
  do throws(UsageError) {
    return try chooseDialect(platform, link, .frontEnd)
  } catch { throw .usage(error) }
}
