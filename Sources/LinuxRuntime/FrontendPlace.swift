import CommandOptions

/// What every front-end tool is told about its device: where it is and how long it is waited for.
struct FrontendPlace: Sendable {
  /// Where the device is.
  enum Face: Equatable, Sendable {
    case link(LinkSpecification)
    case vhostUser(String)
  }

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

  /// The link or socket.
  let face: Face
  /// Which device of the link.
  let slot: Int
  /// How long a missing back-end is waited for, in nanoseconds.
  let patience: UInt64
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
      face = .link(link)
    case (nil, let path?): face = .vhostUser(path)
    case (nil, nil):
      throw UsageError(
        "--link PLACE or --vhost-user PATH is missing: which device? See --help")
    default: throw UsageError("--link and --vhost-user: a device is behind one of them, not both")
    }
    slot = Int(try given.number("slot", in: 0...7, default: 0))
    patience = try given.number("patience", in: 1...86400, default: 30) * 1_000_000_000
    isNoisy = !given.has("quiet")
  }
}
