/// Which processes have a device node open, as far as this user may know.
public struct NodeHolders: Equatable, Sendable {
  /// Their numbers, by number.
  public let processes: [Int32]
  /// Whether every process could be looked at; without privilege only the own ones can.
  public let isComplete: Bool

  /// Looks through the descriptors of all processes. Nothing is opened but folders of procfs.
  ///
  /// - Parameter paths: the nodes, `/dev/uio0`.
  public init(of paths: [String], files: HostFiles) {
    var found: [Int32] = []
    var isComplete = true
    if !paths.isEmpty {
      for name in files.entries("/proc") ?? [] {
        guard let process = Int32(name) else { continue }
        guard let isHolder = Self.holds(name, paths, files) else {
          // A process that ended meanwhile holds nothing.
          if files.exists("/proc/\(name)") { isComplete = false }
          continue
        }
        if isHolder { found.append(process) }
      }
    }
    processes = found.sorted()
    self.isComplete = isComplete
  }

  /// Some process that has a node open; `nil` when none is seen.
  public static func anyone(of path: String, files: HostFiles) -> Int32? {
    for name in files.entries("/proc") ?? [] {
      guard let process = Int32(name) else { continue }
      if holds(name, [path], files) == true { return process }
    }
    return nil
  }

  /// Whether a process has one of the nodes open; `nil` when it cannot be looked at.
  private static func holds(_ process: String, _ paths: [String], _ files: HostFiles) -> Bool? {
    guard let descriptors = files.entries("/proc/\(process)/fd") else { return nil }
    for descriptor in descriptors {
      if let target = files.linkTarget("/proc/\(process)/fd/\(descriptor)"), paths.contains(target)
      {
        return true
      }
    }
    return false
  }
}
