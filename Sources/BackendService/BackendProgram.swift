import CCellmate
import CLinux
public import CommandOptions
import LinkNames
import LinuxSupport
import Supervision
import ToolSupport

/// The runner, `ivshmem-backend`: command line, configuration file, logs, exit status.
public enum BackendProgram {
  /// Its name.
  static var name: String { "ivshmem-backend" }

  /// The options of the command line and of the configuration file.
  public static var options: [OptionSpecification] {
    [
      OptionSpecification(
        "link", LinkSpecification.placeholder,
        "a link; peer=N other=N placement=shared|output"),
      OptionSpecification(
        "dialect", "NAME", "of the link before it: auto, native or siemens (default auto)"),
      OptionSpecification(
        "vhost-user", "PATH",
        "a socket for a VMM or User-Mode Linux instead of a link; one device"),
      OptionSpecification(
        "device", "KIND[,...]", "a device of the link or socket before it; kinds are below"),
      OptionSpecification("config", "FILE", "a file with lines 'name = value', the same names"),
      OptionSpecification(
        "threads", "single|per-link|per-device",
        "who serves; per-device: each link has one device (default per-link)"),
      OptionSpecification(
        "wait", "interrupt|poll|adaptive", "what a loop does while idle (default interrupt)"),
      OptionSpecification(
        "poll-us", "N", "adaptive: look this many microseconds before sleeping (default 50)"),
      OptionSpecification("spin", "N", "the same as --wait adaptive --poll-us N"),
      OptionSpecification(
        "control", "PATH[,group=NAME]", "a socket for status, metrics, reload, stop"),
      OptionSpecification("log-format", "text|json", "how log lines look (default text)"),
      OptionSpecification(
        "supervise", "keep descriptors, and start the back-end again when it fails; see below"),
      OptionSpecification("background", "with --supervise: return as soon as all is served"),
      OptionSpecification("pid-file", "PATH", "with --supervise: the supervisor's number"),
      OptionSpecification(
        "watchdog", "SECONDS", "with --supervise: kill a back-end that hangs; 0: never (20)"),
      OptionSpecification(
        "restart-delay", "MS", "with --supervise: the longest wait before a restart (5000)"),
      OptionSpecification("check", "open and check everything, then exit without serving"),
      OptionSpecification("json", "print the counters as JSON, a line a link, at the end"),
      OptionSpecification("quiet", "log warnings and errors only"),
      OptionSpecification("version", "the version of this program and of its library"),
      OptionSpecification("help", "this text"),
    ]
  }

  static var usage: String {
    """
    usage: ivshmem-backend --link PLACE --device block,file=IMAGE [options]
           ivshmem-backend --vhost-user PATH --device block,file=IMAGE [options]

    Serves virtio devices to the front-end of each link or vhost-user socket. May be started before
    or after its peer, and restarted or killed at any time: the front-end submits again what was in
    flight.

    devices:
      block,file=PATH[,readonly][,queues=N][,workers=N]   a disk: a file or block device
      console,END[,name=NAME][,size=COLSxROWS][,END...]   a console; each END is a port:
        pty[=LINK]    a pseudo-terminal, with a symbolic link to it
        stdio         this terminal, raw (Ctrl-] stops the back-end), or standard input and output
        socket=PATH   a Unix socket, one client at a time, the next one waits
        log=PATH      a file that is appended to; SIGHUP opens it anew
      entropy                                             random numbers from the kernel
      network,mac=ADDRESS[,switch=NAME][,tap=NAME]        a port of a switch inside this process:
        [,rate=BYTES][,isolate][,queues=N]  devices that name the same switch are connected, and
                  tap= connects this machine; rate= limits what the driver sends, in bytes a
                  second; isolate: no talk with other isolated ports

    \(CommandOptions.help(options))

    examples:
      ivshmem-backend --link sim:/tmp/link.sock --device block,file=disk.img
      ivshmem-backend --link sim:/tmp/a.sock --device block,file=a.img,queues=2 \\
                      --link sim:/tmp/b.sock --device block,file=b.img,readonly
      ivshmem-backend --vhost-user /run/disk.sock --device block,file=disk.img
      ivshmem-backend --link sim:/tmp/a.sock --device console,pty=/tmp/console,size=80x25 \\
                      --device entropy
      ivshmem-backend --config board.conf --check
      ivshmem-backend --config board.conf --control /run/board.ctl --log-format json
      ivshmem-backend --supervise --background --pid-file /run/cellmate.pid --config board.conf
    Where there is no systemd, --supervise makes guests of Linux' virtio_ivshmem driver outlive the
    back-end: the same program keeps what has to stay open and starts the back-end again. It passes
    SIGHUP on; SIGUSR1 takes the program file anew (an update); SIGTERM ends both.

    SIGTERM or Ctrl-C finishes what is in flight, tells the front-ends and exits. SIGHUP reads the
    configuration file again; links whose lines did not change keep running.
    exit status: 0 stopped on request, 1 a link was lost, 2 wrong usage or cannot be opened
    """
  }

  /// Runs to the end; the exit status.
  public static func run(_ words: [String]) -> Int32 {
    var record: @Sendable (LogRecord) -> Void = { writeError("\(name): \($0.line)\n") }
    do throws(UsageError) {
      let given = try CommandOptions(words, options)
      try checkSupervision(given)
      if given.has("help") {
        writeOutput(usage + "\n")
        return 0
      }
      if given.has("version") {
        writeOutput("\(name) \(versionText)\n")
        return 0
      }
      guard given.arguments.isEmpty else {
        throw UsageError("unexpected argument '\(given.arguments[0])', see --help")
      }
      let all = try withConfiguration(given)
      record = try recorder(all)
      if given.has("supervise"), !given.has("check") { return try supervise(given, record) }
      var chosen = try BackendOptions(all)
      chosen.record = record
      var source: (() throws(UsageError) -> BackendOptions)?
      if given.has("config") {
        source = { () throws(UsageError) -> BackendOptions in
          try BackendOptions(try withConfiguration(given))
        }
      }
      var process = try BackendProcess(chosen, source: source)
      if given.has("check") {
        record(
          LogRecord(.warning, "", "everything can be opened: \(chosen.links.count) link(s)"))
        return 0
      }
      let reports = process.run()
      if all.has("json") { for report in reports { writeOutput(report.json + "\n") } }
      return process.wasAskedToStop ? 0 : 1
    } catch {
      record(LogRecord(.error, "", error.message))
      return 2
    }
  }

  /// What this program was made for, and the library it runs with.
  private static var versionText: String {
    let loaded = cellmate_version()
    return "\(CELLMATE_VERSION_MAJOR).\(CELLMATE_VERSION_MINOR).\(CELLMATE_VERSION_PATCH),"
      + " libcellmate \(loaded >> 16).\(loaded >> 8 & 255).\(loaded & 255)"
  }

  /// The command line with the lines of its configuration file behind it.
  static func withConfiguration(_ given: CommandOptions) throws(UsageError) -> CommandOptions {
    guard let path = given.value("config") else { return given }
    var all = given
    let text: String
    do throws(SystemError) {
      text = try readText(path)
    } catch { throw UsageError("--config \(path): \(error.text)") }
    let count = all.options.count
    try all.add(configuration: text, of: path, options)
    for (name, _) in all.options[count...] where supervisionOptions.contains(name) {
      throw UsageError("\(path): '\(name)' belongs on the command line")
    }
    return all
  }

  private static func recorder(
    _ given: CommandOptions
  ) throws(UsageError) -> @Sendable (LogRecord) -> Void {
    let isQuiet = given.has("quiet")
    switch given.value("log-format") {
    case nil, "text":
      return { line in
        if !isQuiet || line.level != .info { writeError("\(name): \(line.line)\n") }
      }
    case "json":
      return { line in
        if !isQuiet || line.level != .info { writeError(line.json(program: name) + "\n") }
      }
    case let found?: throw UsageError("--log-format \(found): expected text or json")
    }
  }
}

extension BackendOptions {
  /// Makes sense of a command line with its configuration file; nothing is opened.
  public init(_ given: CommandOptions) throws(UsageError) {
    self.init()
    for (name, value) in given.options {
      switch name {
      case "link":
        links.append(Link(.link(try LinkSpecification(value)), devices: []))
      case "dialect":
        guard let last = links.indices.last, links[last].setDialect(value) else {
          throw UsageError(
            "--dialect \(value): auto, native or siemens, behind the --link it belongs to")
        }
      case "vhost-user": links.append(Link(.vhostUser(value), devices: []))
      case "device":
        guard !links.isEmpty else {
          throw UsageError(
            "--device \(value): a device belongs to the --link or --vhost-user before it; none is")
        }
        links[links.count - 1].devices.append(try DeviceText(value))
      default: break
      }
    }
    threads = try threadPolicy(given.value("threads"))
    wait = try Self.wait(given)
    if let text = given.value("control") { control = try ControlSpecification(text) }
  }

  /// A thread per device is a thread per link where no link has two devices.
  private func threadPolicy(_ name: String?) throws(UsageError) -> ThreadPolicy {
    switch name {
    case nil, "per-link": return .perLink
    case "single": return .single
    case "per-device":
      for link in links where link.devices.count > 1 {
        throw UsageError(
          "--threads per-device: \(link.face.name) has \(link.devices.count) devices, and one"
            + " thread serves a link; give each device a link of its own, or use per-link")
      }
      return .perLink
    case let found?:
      throw UsageError("--threads \(found): expected single, per-link or per-device")
    }
  }

  private static func wait(_ given: CommandOptions) throws(UsageError) -> WaitPolicy {
    let limit: ClosedRange<UInt64> = 0...1_000_000_000
    if given.has("spin") {
      guard !given.has("wait"), !given.has("poll-us") else {
        throw UsageError("--spin says the same as --wait and --poll-us; give those alone")
      }
      let microseconds = try given.number("spin", in: limit, default: 0)
      return microseconds == 0 ? .interrupt : .adaptive(nanoseconds: microseconds * 1000)
    }
    let microseconds = try given.number("poll-us", in: limit, default: 50)
    switch given.value("wait") {
    case "adaptive": return .adaptive(nanoseconds: microseconds * 1000)
    case let found:
      guard !given.has("poll-us") else {
        throw UsageError("--poll-us is for --wait adaptive")
      }
      switch found {
      case nil, "interrupt": return .interrupt
      case "poll": return .poll
      case let found?:
        throw UsageError("--wait \(found): expected interrupt, poll or adaptive")
      }
    }
  }
}
