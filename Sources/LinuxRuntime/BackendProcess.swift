import CLinux
public import CommandOptions
import LinuxSupport
import VirtioTransport

/// A back-end process: opens everything first, then serves each link on a thread of its own until
/// SIGTERM or SIGINT.
public struct BackendProcess: ~Copyable {
  private let links: [LinkThread]
  private let stop: Descriptor

  /// Opens every link and device; nothing has started when this throws.
  public init(_ options: BackendOptions) throws(UsageError) {
    let stop = Self.makeEvent()
    links = try Self.open(options, stop.number)
    self.stop = stop
  }

  private static func makeEvent() -> Descriptor {
    do throws(SystemError) {
      return try Descriptor(cl_eventfd())
    } catch { preconditionFailure("an event can always be made: \(error.text)") }
  }

  private static func open(
    _ options: BackendOptions, _ stop: Int32
  ) throws(UsageError) -> [LinkThread] {
    guard !options.links.isEmpty else {
      throw UsageError(
        "no link: give --link sim:PATH or --vhost-user PATH, and --device block,file=PATH,"
          + " see --help"
      )
    }
    var links: [LinkThread] = []
    for link in options.links {
      let name = link.face.name
      guard let first = link.devices.first else {
        throw UsageError("\(name) has no device: give --device block,file=PATH behind it")
      }
      switch link.face {
      case .link(let specification):
        links.append(
          LinkThread(try ServedLink.open(specification, link.devices, options), stop: stop))
      case .vhostUser(let path):
        guard link.devices.count == 1 else {
          throw UsageError(
            "\(name): \(link.devices.count) devices, a vhost-user socket serves one; give a"
              + " --vhost-user for each")
        }
        links.append(
          LinkThread(
            .vhostUser(try VhostUserLink.open(path: path, device: first, options)), stop: stop))
      }
    }
    return links
  }

  /// Serves until asked to stop or until no link is left; returns what was counted.
  public mutating func run() -> [LinkReport] {
    cl_catch_stop(stop.number)
    for link in links { link.start() }
    while cl_stop_requested() == 0, links.contains(where: { !$0.hasEnded }) {
      _ = cl_event_wait(stop.number)
    }
    return links.compactMap { $0.finish() }
  }
}

/// A link or a socket.
enum ServedLink: ~Copyable {
  case native(BackendLink)
  case siemens(SiemensServedLink)
  case vhostUser(VhostUserLink)

  /// Joins a link and serves it in its dialect.
  static func open(
    _ specification: LinkSpecification, _ devices: [DeviceSpecification], _ runner: BackendOptions
  ) throws(UsageError) -> ServedLink {
    let platform = try openPeer(specification, side: .backEnd)
    switch try chooseDialect(platform, specification, .backEnd) {
    case .native: return .native(try BackendLink(platform, specification, devices, runner))
    case .siemens:
      return .siemens(try SiemensServedLink.open(platform, specification, devices, runner))
    }
  }

  var wakeDescriptor: Int32 {
    switch self {
    case .native(let link): link.wakeDescriptor
    case .siemens(let link): link.wakeDescriptor
    case .vhostUser(let link): link.wakeDescriptor
    }
  }

  /// Serves to the end; a link is served once.
  consuming func run(_ shouldStop: () -> Bool) -> LinkReport {
    switch consume self {
    case .native(var link): link.run(shouldStop)
    case .siemens(var link): link.run(shouldStop)
    case .vhostUser(var link): link.run(shouldStop)
    }
  }
}

/// One link on its thread.
@safe
private final class LinkThread: @unchecked Sendable {
  private var link: ServedLink?
  private let wake: Int32
  private let stop: Int32
  private var thread: UInt64 = 0
  private var report: LinkReport?
  private let ended: UnsafeMutablePointer<UInt32>

  init(_ link: consuming ServedLink, stop: Int32) {
    wake = link.wakeDescriptor
    self.link = consume link
    self.stop = stop
    unsafe ended = .allocate(capacity: 1)
    unsafe ended.initialize(to: 0)
  }

  deinit { unsafe ended.deallocate() }

  var hasEnded: Bool { unsafe cl_word_load(ended) != 0 }

  func start() {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<LinkThread>.fromOpaque(context).takeUnretainedValue().work()
      }, context, 0, &thread)
    precondition(result >= 0, "a thread can be made")
  }

  private func work() {
    if let link = link.take() { report = link.run { cl_stop_requested() != 0 } }
    _ = unsafe cl_word_exchange(ended, 1)
    _ = cl_event_signal(stop)
  }

  /// Wakes the link, so that it sees the request to stop, and waits for its end.
  func finish() -> LinkReport? {
    _ = cl_event_signal(wake)
    cl_thread_join(thread)
    return report
  }
}
