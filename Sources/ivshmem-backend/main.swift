// ivshmem-backend: serves devices over ivshmem links. It only composes.
import CLinux
import CommandOptions
import LinuxRuntime
import LinuxSupport

let specifications = [
  OptionSpecification("link", "sim:PATH[,...]", "a link; peer=N other=N placement=shared|output"),
  OptionSpecification(
    "dialect", "NAME", "of the link before it: auto, native or siemens (default auto)"),
  OptionSpecification(
    "vhost-user", "PATH", "a socket for a VMM or User-Mode Linux instead of a link; one device"),
  OptionSpecification(
    "device", "KIND[,...]", "a device of the link or socket before it; kinds are below"),
  OptionSpecification("config", "FILE", "a file with lines 'name = value', the same names"),
  OptionSpecification("spin", "MICROSECONDS", "look this long before sleeping (default 0)"),
  OptionSpecification("check", "open and check everything, then exit without serving"),
  OptionSpecification("json", "print the counters as JSON, a line a link, at the end"),
  OptionSpecification("quiet", "log errors only"),
  OptionSpecification("help", "this text"),
]

let usage = """
  usage: ivshmem-backend --link sim:PATH --device block,file=IMAGE [options]
         ivshmem-backend --vhost-user PATH --device block,file=IMAGE [options]

  Serves virtio devices to the front-end of each link or vhost-user socket. May be started before or
  after its peer, and restarted or killed at any time: the front-end submits again what was in
  flight.

  devices:
    block,file=PATH[,readonly][,queues=N][,workers=N]   a disk: a file or block device
    console,END[,name=NAME][,size=COLSxROWS][,END...]   a console; each END is a port:
      pty[=LINK]    a pseudo-terminal, with a symbolic link to it
      stdio         this terminal, raw (Ctrl-] stops the back-end), or standard input and output
      socket=PATH   a Unix socket, one client at a time, the next one waits
      log=PATH      a file that is appended to; SIGHUP opens it anew
    entropy                                             random numbers from the kernel

  \(CommandOptions.help(specifications))

  examples:
    ivshmem-backend --link sim:/tmp/link.sock --device block,file=disk.img
    ivshmem-backend --link sim:/tmp/a.sock --device block,file=a.img,queues=2 \\
                    --link sim:/tmp/b.sock --device block,file=b.img,readonly
    ivshmem-backend --vhost-user /run/disk.sock --device block,file=disk.img
    ivshmem-backend --link sim:/tmp/a.sock --device console,pty=/tmp/console,size=80x25 \\
                    --device entropy
    ivshmem-backend --config board.conf --check
  SIGTERM or Ctrl-C finishes what is in flight, tells the front-ends and exits.
  exit status: 0 stopped by a signal, 1 a link was lost, 2 wrong usage or something cannot be opened
  """

func say(_ text: String) { writeError("ivshmem-backend: \(text)\n") }

func makeOptions(_ given: CommandOptions) throws(UsageError) -> BackendOptions {
  var options = BackendOptions()
  for (name, value) in given.options {
    switch name {
    case "link":
      options.links.append(
        BackendOptions.Link(.link(try LinkSpecification(value)), devices: []))
    case "dialect":
      guard let last = options.links.indices.last, options.links[last].setDialect(value) else {
        throw UsageError(
          "--dialect \(value): auto, native or siemens, behind the --link it belongs to")
      }
    case "vhost-user":
      options.links.append(BackendOptions.Link(.vhostUser(value), devices: []))
    case "device":
      guard !options.links.isEmpty else {
        throw UsageError(
          "--device \(value): a device belongs to the --link or --vhost-user before it; none is")
      }
      options.links[options.links.count - 1].devices.append(try DeviceSpecification(value))
    default: break
    }
  }
  options.spinNanoseconds =
    try given.number("spin", in: 0...1_000_000_000, default: 0) * 1000
  return options
}

func run() -> Int32 {
  do throws(UsageError) {
    var given = try CommandOptions(Array(CommandLine.arguments.dropFirst()), specifications)
    if given.has("help") {
      writeOutput(usage + "\n")
      return 0
    }
    guard given.arguments.isEmpty else {
      throw UsageError("unexpected argument '\(given.arguments[0])', see --help")
    }
    if let path = given.value("config") {
      let text: String
      do throws(SystemError) {
        text = try readText(path)
      } catch { throw UsageError("--config \(path): \(error.text)") }
      try given.add(configuration: text, of: path, specifications)
    }
    var options = try makeOptions(given)
    let isQuiet = given.has("quiet")
    options.log = { text in
      let isNews = ["link ", "vhost-user ", "console port "].contains { text.hasPrefix($0) }
      if !isQuiet || !isNews { say(text) }
    }
    var process = try BackendProcess(options)
    if given.has("check") {
      say("everything can be opened: \(options.links.count) link(s)")
      return 0
    }
    let reports = process.run()
    if given.has("json") { for report in reports { writeOutput(report.json + "\n") } }
    return cl_stop_requested() != 0 ? 0 : 1
  } catch {
    say(error.message)
    return 2
  }
}

cl_exit(run())
