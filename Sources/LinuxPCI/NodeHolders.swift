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
        guard let descriptors = files.entries("/proc/\(name)/fd") else {
          // A process that ended meanwhile holds nothing.
          if files.exists("/proc/\(name)") { isComplete = false }
          continue
        }
        let isHolder = descriptors.contains { descriptor in
          guard let target = files.linkTarget("/proc/\(name)/fd/\(descriptor)") else {
            return false
          }
          return paths.contains(target)
        }
        if isHolder { found.append(process) }
      }
    }
    processes = found.sorted()
    self.isComplete = isComplete
  }
}
