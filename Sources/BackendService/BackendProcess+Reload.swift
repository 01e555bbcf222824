import CLinux
import CommandOptions
import LinuxSupport
import ToolSupport

/// A reload of the configuration under way, and what came of earlier ones.
struct ReloadState {
  /// What waits for links to leave.
  struct Change {
    let options: BackendOptions
    /// Links that stay.
    let kept: [ServedLink]
    /// Links that leave.
    let leaving: [ServedLink]
    /// New links that are open already, but not started.
    let opened: [ServedLink]
    /// Links that can be opened only when the leaving ones are gone.
    let successors: [BackendOptions.Link]
  }

  var change: Change?
  /// Who gets the answer.
  var client: (id: Int, request: ControlRequest)?
  /// SIGHUP came meanwhile.
  var isWanted = false
  var done: UInt64 = 0
  var refused: UInt64 = 0
  /// What came of the last one, for people.
  var last = ""

  /// Whether one is under way.
  var isRunning: Bool { change != nil }
}

extension BackendProcess {
  /// Reads the configuration again. What can be refused is refused here, before anything that
  /// runs is touched.
  mutating func beginReload(client: (id: Int, request: ControlRequest)?) {
    guard !reload.isRunning else {
      if let client {
        refuse(client.id, client.request, "a reload is under way", cl_monotonic_ns())
      } else {
        reload.isWanted = true
      }
      return
    }
    reload.client = client
    manager.reloading()
    do throws(UsageError) {
      let change = try plan()
      reload.change = change
      for link in change.leaving {
        link.board.askToStop()
        link.wakeUp()
      }
    } catch { endReload(error.message) }
  }

  /// What has to change. New links that nothing stands in the way of are opened at once, the
  /// files of the others are looked at: nothing has changed when this throws.
  private func plan() throws(UsageError) -> ReloadState.Change {
    guard !isStopping else { throw UsageError("the process is stopping") }
    guard let source else {
      throw UsageError("there is no configuration file: start with --config FILE to reload")
    }
    let new = try source()
    try new.check()
    guard new.threads == options.threads, new.wait == options.wait,
      new.control == options.control
    else {
      throw UsageError("threads, wait, poll-us and control change only with a restart")
    }
    var kept: [ServedLink] = []
    var leaving: [ServedLink] = []
    for link in links {
      let stays = !link.board.hasEnded && new.links.contains(link.specification)
      if stays { kept.append(link) } else { leaving.append(link) }
    }
    var opened: [ServedLink] = []
    var successors: [BackendOptions.Link] = []
    for link in new.links where !kept.contains(where: { $0.specification == link }) {
      if leaving.contains(where: { $0.specification.standsInTheWay(of: link) }) {
        for device in link.devices { try device.examine() }
        successors.append(link)
      } else {
        opened.append(try ServedLink(link, options))
      }
    }
    return ReloadState.Change(
      options: new, kept: kept, leaving: leaving, opened: opened, successors: successors)
  }

  /// Goes on when every link that leaves is gone.
  mutating func advanceReload(_ now: UInt64) {
    guard let change = reload.change else {
      if reload.isWanted {
        reload.isWanted = false
        beginReload(client: nil)
      }
      return
    }
    guard change.leaving.allSatisfy({ $0.board.hasEnded }) else { return }
    reload.change = nil
    for link in change.leaving { retire(link) }
    var opened = change.opened
    do throws(UsageError) {
      guard !isStopping else { throw UsageError("the process is stopping") }
      for link in change.successors { opened.append(try ServedLink(link, options)) }
    } catch {
      opened = []
      links = change.kept
      return takeBack(change, error)
    }
    for link in opened { start(link) }
    links = inOrder(change.kept + opened, change.options.links)
    options.links = change.options.links
    endReload(nil, kept: change.kept.count, started: opened.count, change.leaving.count)
  }

  /// A successor could not be opened: the links that left for it come back.
  private mutating func takeBack(_ change: ReloadState.Change, _ reason: UsageError) {
    var text = reason.message
    if !isStopping {
      for link in change.leaving {
        do throws(UsageError) {
          let again = try ServedLink(link.specification, options)
          start(again)
          links.append(again)
        } catch {
          text += "; and what was there could not be opened again: \(error.message)"
        }
      }
      links = inOrder(links, options.links)
    }
    endReload(text)
  }

  private func inOrder(
    _ links: [ServedLink], _ order: [BackendOptions.Link]
  ) -> [ServedLink] {
    var sorted: [ServedLink] = []
    for link in order {
      if let found = links.first(where: { $0.specification == link }) { sorted.append(found) }
    }
    return sorted
  }

  private mutating func endReload(
    _ reason: String?, kept: Int = 0, started: Int = 0, _ stopped: Int = 0
  ) {
    let now = cl_monotonic_ns()
    let counts = "\(kept) kept, \(started) started, \(stopped) stopped"
    if let reason {
      reload.refused += 1
      reload.last = "refused: \(reason)"
      options.note(.error, "", "reload refused, the old configuration stays: \(reason)")
    } else {
      reload.done += 1
      reload.last = "done: \(counts)"
      options.note(.info, "", "reloaded: \(counts)")
    }
    manager.ready(statusText)
    guard let client = reload.client else { return }
    reload.client = nil
    if let reason { return refuse(client.id, client.request, reason, now) }
    answer(
      client.id, client.request,
      json: "{\"ok\":true,\"kept\":\(kept),\"started\":\(started),\"stopped\":\(stopped)}",
      text: "ok: \(counts)", now)
  }
}

extension BackendOptions.Link {
  /// Whether `other` can be opened only when this link is closed: the same socket, or a file that
  /// both do not only read.
  func standsInTheWay(of other: BackendOptions.Link) -> Bool {
    if face.path == other.face.path { return true }
    for device in devices {
      for next in other.devices where device.excludes(next) { return true }
    }
    return false
  }
}
