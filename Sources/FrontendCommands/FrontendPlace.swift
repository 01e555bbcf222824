import CommandOptions
import LinkFormat
import LinkNames
import LinuxSupport

/// What every front-end tool is told about its device: where it is and how long it is waited for.
struct FrontendPlace: Sendable {
  /// The options.
  static let options = [
    OptionSpecification("link", LinkSpecification.placeholder, LinkSpecification.placeHelp),
    OptionSpecification("vhost-user", "PATH", "a back-end's vhost-user socket instead of a link"),
    OptionSpecification("dialect", "NAME", "auto, native or siemens (default auto)"),
    OptionSpecification("slot", "N", "which device of the link (0 to 7, default 0)"),
  ]
  /// The options that a help text has last.
  static let lastOptions = [
    OptionSpecification("patience", "SECONDS", "how long a missing back-end is waited for (30)"),
    OptionSpecification("quiet", "no progress"),
    OptionSpecification("help", "this text"),
  ]

  /// The link or socket, as the library names it.
  let link: String
  /// Which device of the link.
  let slot: UInt32
  /// How long a missing back-end is waited for, in nanoseconds.
  let patience: UInt64
  /// Takes what people are told meanwhile.
  let progress: @Sendable (String) -> Void
  /// Whether progress is told.
  let isNoisy: Bool

  /// Reads the options.
  init(_ given: CommandOptions) throws(UsageError) {
    switch (given.value("link"), given.value("vhost-user")) {
    case (let text?, nil):
      var link = try LinkSpecification(text)
      if let name = given.value("dialect") {
        link.dialect = try Dialect.parse(name, option: "--dialect")
      }
      self.link = link.whole
    case (nil, let path?): link = "vhost-user:\(path)"
    case (nil, nil):
      throw UsageError(
        "--link PLACE or --vhost-user PATH is missing: which device? See --help")
    default: throw UsageError("--link and --vhost-user: a device is behind one of them, not both")
    }
    slot = UInt32(try given.number("slot", in: 0...7, default: 0))
    patience = try given.number("patience", in: 1...86400, default: 30) * 1_000_000_000
    let isNoisy = !given.has("quiet")
    self.isNoisy = isNoisy
    progress = { if isNoisy { writeError("\nivshmem: \($0)\n") } }
  }

  /// States a place.
  init(
    _ link: LinkSpecification, slot: Int, patience: UInt64,
    progress: @escaping @Sendable (String) -> Void
  ) {
    self.link = link.whole
    self.slot = UInt32(slot)
    self.patience = patience
    self.progress = progress
    isNoisy = true
  }
}

extension LinkSpecification {
  /// All of it, as one text.
  var whole: String {
    var whole = text
    if let peer { whole += ",peer=\(peer.rawValue)" }
    if let other { whole += ",other=\(other.rawValue)" }
    if let placement { whole += ",placement=\(placement)" }
    if let dialect { whole += ",dialect=\(dialect.rawValue)" }
    return whole
  }
}
