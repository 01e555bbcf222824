import CHostConsole
import LinuxSupport
import VirtioConsole

/// A pseudo-terminal.
///
/// Who opens its other end is seen through inotify: the kernel tells the master only when the last
/// one has left. A change of its size is signalled to the processes in it alone, so that the
/// watching thread compares it a few times a second while somebody is there.
@safe
final class PtyEndpoint: ConsoleEndpoint {
  private let master: Descriptor
  private let opens: Descriptor
  private let name: String
  private let link: String?
  /// Holds the link's name.
  private var claim: Descriptor?
  private var isSomebodyThere = false
  private var hasInput = true
  private var lastSize = ConsoleSize.unknown

  @inline(never)
  init(
    link: String?, size: ConsoleSize?, _ watcher: ConsoleWatcher, port: Int
  ) throws(ConsoleHostError) {
    var name = InlineArray<64, CChar>(repeating: 0)
    do throws(SystemError) {
      var span = name.mutableSpan
      let result = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return -Int(SystemError.invalid) }
        return unsafe chc_pty(base)
      }
      master = try Descriptor(result)
      self.name = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return "" }
        return unsafe String(cString: base)
      }
      opens = try Descriptor(unsafe chc_watch_opens(self.name))
      if let size { _ = try SystemError.check(chc_set_terminal_size(master.number, size.packed)) }
    } catch { throw .system(what: "pty", error) }
    self.link = link
    super.init()
    try watcher.add(master.number, port: port, what: "pty")
    try watcher.add(opens.number, port: port, what: "pty")
    watcher.watchSize(of: master.number, port: port)
    if let link { try makeLink(link) }
    look()
  }

  private func makeLink(_ link: String) throws(ConsoleHostError) {
    do throws(SystemError) {
      claim = try Descriptor(unsafe chc_link(name, link))
    } catch {
      switch error.code {
      case SystemError.exists: throw .linkInTheWay(path: link)
      case SystemError.addressInUse: throw .linkInUse(path: link)
      default: throw .system(what: "link \(link)", error)
      }
    }
  }

  override var path: String { link ?? name }
  override var isOpen: Bool { isSomebodyThere }
  override var hasSize: Bool { true }
  override var size: ConsoleSize { lastSize }

  override func look() {
    chc_drain(opens.number)
    isSomebodyThere = chc_pty_is_open(master.number) != 0
    lastSize = ConsoleSize(of: master.number)
    hasInput = true
  }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput else { return 0 }
    switch ConsoleInput(master.number, &bytes) {
    case .bytes(let count): return count
    // The end is the end of whoever was there: the next one is seen by look().
    case .nothing, .ended:
      hasInput = false
      return 0
    }
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    if !isSomebodyThere {
      // The news may be under way.
      isSomebodyThere = chc_pty_is_open(master.number) != 0
      guard isSomebodyThere else { return .gone }
    }
    return ConsoleWrite(master.number, bytes)
  }

  override func close() {
    guard let link, claim != nil else { return }
    unsafe chc_unlink_if(name, link)
    claim = nil
  }
}
