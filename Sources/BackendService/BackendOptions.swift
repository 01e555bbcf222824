import CommandOptions
public import LinkNames
public import ToolSupport

/// How a back-end process serves.
public struct BackendOptions: Sendable {
  /// Where devices are served.
  public enum Face: Equatable, Sendable {
    /// An ivshmem link.
    case link(LinkSpecification)
    /// A vhost-user socket at this path.
    case vhostUser(String)

    /// How the operator named it.
    public var name: String {
      switch self {
      case .link(let link): "--link \(link.text)"
      case .vhostUser(let path): "--vhost-user \(path)"
      }
    }

    /// The name in log lines, answers and metrics.
    var subject: String {
      switch self {
      case .link(let link): "link \(link.name)"
      case .vhostUser(let path): "vhost-user \(path)"
      }
    }

    /// Whether an operator may mean it by `text`: as it is written, or by its bare name.
    func isNamed(_ text: String) -> Bool {
      switch self {
      case .link(let link): text == link.name || text == link.text
      case .vhostUser: false
      }
    }

    /// The path that only one of two may use at a time.
    var path: String {
      switch self {
      case .link(let link): link.name
      case .vhostUser(let path): path
      }
    }
  }

  /// A link or socket with its devices, in slot order.
  public struct Link: Equatable, Sendable {
    /// Which one.
    public var face: Face
    /// Its devices; a socket has exactly one.
    public var devices: [DeviceText]

    /// States a link.
    public init(_ face: Face, devices: [DeviceText]) {
      self.face = face
      self.devices = devices
    }

    /// Sets how to talk on it; `false` when `name` is no dialect or this is no ivshmem link.
    mutating func setDialect(_ name: String) -> Bool {
      guard case .link(var link) = face else { return false }
      do throws(UsageError) {
        link.dialect = try Dialect.parse(name, option: "--dialect")
      } catch { return false }
      face = .link(link)
      return true
    }
  }

  /// The links.
  public var links: [Link] = []
  /// Which thread serves what.
  public var threads = ThreadPolicy.perLink
  /// What a loop does while there is nothing to do.
  public var wait = WaitPolicy.interrupt
  /// The control socket, if any.
  public var control: ControlSpecification?
  /// Takes one line for the operator; called from any thread.
  public var log: @Sendable (String) -> Void = { _ in }
  /// Takes the same line in its parts; ``log`` is not called then.
  public var record: (@Sendable (LogRecord) -> Void)?

  /// No links.
  public init() {}

  /// Gives a line to whoever takes it.
  func note(_ level: LogRecord.Level, _ subject: String, _ text: String) {
    note(LogRecord(level, subject, text))
  }

  /// Gives a line to whoever takes it.
  func note(_ line: LogRecord) {
    if let record { record(line) } else { log(line.line) }
  }

  /// Whether a link has what it needs, before anything is opened.
  func check() throws(UsageError) {
    guard !links.isEmpty else {
      throw UsageError(
        "no link: give --link PLACE or --vhost-user PATH, and --device block,file=PATH,"
          + " see --help"
      )
    }
    for (index, link) in links.enumerated() {
      let name = link.face.name
      guard !link.devices.isEmpty else {
        throw UsageError("\(name) has no device: give --device block,file=PATH behind it")
      }
      if case .vhostUser = link.face, link.devices.count > 1 {
        throw UsageError(
          "\(name): \(link.devices.count) devices, a vhost-user socket serves one; give a"
            + " --vhost-user for each")
      }
      guard !links[..<index].contains(where: { $0.face == link.face }) else {
        throw UsageError("\(name) is given twice")
      }
    }
  }
}

/// What one link has counted when it ended.
public struct LinkReport: Sendable {
  /// `"link":PATH,"name":value ...`, one line of JSON.
  public let json: String
}
