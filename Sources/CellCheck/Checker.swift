public import CellFormat

/// Compares what a set of configurations and trees says with what Jailhouse and Linux do with it.
///
/// Pure: the same set gives the same findings in the same order, whatever the order of the files.
/// - Complexity: n log n in the number of regions and devices, and the findings.
public func check(_ set: CellSet) -> [Finding] {
  var checker = Checker(set)
  checker.checkFiles()
  checker.checkLinks()
  checker.checkLinkPairs()
  checker.checkInterrupts()
  checker.checkVirtualPCI()
  checker.checkMemory()
  checker.checkSharing()
  checker.checkPlatformMemory()
  checker.checkProcessors()
  checker.checkConsoles()
  checker.checkGuestTrees()
  checker.checkRootTree()
  return checker.finished()
}

/// The state of one check: the set in a form the rules can ask, and what was found so far.
struct Checker {
  let set: CellSet
  /// The root first, then the guests by name and file.
  let cells: [CellView]
  /// The system configuration, when there is exactly one.
  let system: SystemConfiguration?
  private var findings: [(order: Int, finding: Finding)] = []
  private var counts: [String: Int] = [:]

  /// A file that is wrong in one way is often wrong in it many times; the reader needs a few.
  static let findingsPerRuleAndFile = 24

  init(_ set: CellSet) {
    self.set = set
    var systems: [SystemConfiguration] = []
    for member in set.files {
      if case .system(let system) = member.configuration { systems.append(system) }
    }
    let system = systems.count == 1 ? systems[0] : nil
    self.system = system
    let keyed = set.files.map { member in
      var rank = 1
      if case .system = member.configuration { rank = 0 }
      return (rank: rank, name: member.configuration.cell.name, member: member)
    }
    // The largest peer count of each link, over all its ends.
    var peers: [UInt16: Int] = [:]
    for device in set.files.flatMap(\.configuration.cell.pciDevices) where device.kind == .ivshmem {
      peers[device.bdf] = max(peers[device.bdf] ?? 0, Int(device.sharedMemoryPeers))
    }
    let sorted = keyed.sorted {
      ($0.rank, $0.name, $0.member.file) < ($1.rank, $1.name, $1.member.file)
    }
    cells = sorted.enumerated().map { index, entry in
      let isRoot = entry.rank == 0
      return CellView(
        index: index, member: entry.member, distributor: system?.gicdBase,
        tree: isRoot ? nil : set.tree(of: entry.member), peers: peers)
    }
  }

  /// The root cell, when there is exactly one system configuration.
  var root: CellView? { system == nil ? nil : cells.first { $0.isRoot } }
  /// The cells that are no system configurations.
  var guests: [CellView] { cells.filter { !$0.isRoot } }
  /// Whether the interrupt and virtual PCI rules apply: the architecture is Arm, or not known.
  func isArm(_ view: CellView) -> Bool { view.cell.architecture != .x86 }

  /// Whether both can run at the same time.
  func runTogether(_ one: CellView, _ other: CellView) -> Bool {
    guard one.index != other.index, !(one.isRoot && other.isRoot) else { return false }
    return !set.alternatives.contains { names in
      names.contains { matches($0, one) } && names.contains { matches($0, other) }
    }
  }

  private func matches(_ name: String, _ view: CellView) -> Bool {
    isNamed(name, cell: view.name, file: view.file)
  }

  /// Adds a finding; severity and title come from the table of rules. The texts are made only when
  /// the finding is kept.
  mutating func report(
    _ rule: String, _ view: CellView, _ place: @autoclosure () -> String,
    _ message: @autoclosure () -> String, means: @autoclosure () -> String,
    fix: @autoclosure () -> String
  ) {
    report(
      rule, file: view.file, order: view.index, place(), message(), means: means(), fix: fix())
  }

  mutating func report(
    _ rule: String, file: String, order: Int, _ place: @autoclosure () -> String,
    _ message: @autoclosure () -> String, means: @autoclosure () -> String,
    fix: @autoclosure () -> String
  ) {
    let key = "\(rule) \(file)"
    counts[key, default: 0] += 1
    guard counts[key, default: 0] <= Self.findingsPerRuleAndFile else { return }
    findings.append(
      (
        order,
        Finding(
          rule: rule, severity: Rule.named(rule)?.severity ?? .error, file: file,
          place: printable(place()), message: printable(message()),
          consequence: printable(means()), fix: printable(fix()))
      ))
  }

  /// All findings: by file, then rule, then in the order they were found.
  func finished() -> [Finding] {
    var sorted = findings.enumerated().sorted {
      ($0.element.order, $0.element.finding.rule, $0.offset)
        < ($1.element.order, $1.element.finding.rule, $1.offset)
    }.map(\.element.finding)
    for (key, count) in counts where count > Self.findingsPerRuleAndFile {
      guard let last = sorted.lastIndex(where: { "\($0.rule) \($0.file)" == key }) else { continue }
      sorted[last].message += " (\(count - Self.findingsPerRuleAndFile) more are not listed)"
    }
    return sorted
  }
}

/// A text with what a terminal would obey replaced: names in files can be hostile.
private func printable(_ text: String) -> String {
  func isControl(_ scalar: Unicode.Scalar) -> Bool {
    scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)
  }
  guard text.unicodeScalars.contains(where: isControl) else { return text }
  return String(
    String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? "\u{fffd}" : $0 }))
}

/// Whether `name` means this cell: by its name, its file, or the file without folder or `.cell`.
func isNamed(_ name: String, cell: String, file: String) -> Bool {
  if name == cell || name == file { return true }
  let base = file.split(separator: "/").last.map { String($0) } ?? file
  return name == base || name + ".cell" == base
}

extension CellSet {
  /// The tree given for a cell.
  func tree(of member: Member) -> Tree? {
    let cell = member.configuration.cell.name
    if let tree = deviceTrees[cell] ?? deviceTrees[member.file] { return tree }
    let key = deviceTrees.keys.sorted().first { isNamed($0, cell: cell, file: member.file) }
    return key.flatMap { deviceTrees[$0] }
  }
}

extension CellSet.Member {
  /// Whether `name` means this file: by its cell's name, its own, or its own without folder or
  /// `.cell`.
  public func isNamed(_ name: String) -> Bool {
    CellCheck.isNamed(name, cell: configuration.cell.name, file: file)
  }

  /// Whether Linux looks meant to run in the cell (enough memory that is RAM).
  public var isLinux: Bool {
    CellView(index: 0, member: self, distributor: nil, tree: nil).looksLikeLinux
  }
}

/// The finding for a file that cannot be decoded: E01 or E02, with the offset.
public func finding(for error: FormatError, file: String) -> Finding {
  Finding(
    rule: error.rule, severity: Rule.named(error.rule)?.severity ?? .error, file: file,
    place: "offset \(hex(error.offset))", message: error.message,
    consequence: "Jailhouse refuses the file, or reads what is not there",
    fix: "build the configuration again, and copy it whole")
}
