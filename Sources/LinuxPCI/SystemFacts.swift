/// The options a kernel was built with.
public struct KernelOptions: Sendable {
  /// Where they were found.
  public let source: String
  private let lines: [Substring]

  /// Reads the text of a kernel's configuration.
  public init(_ text: String, source: String) {
    self.source = source
    lines = text.split(separator: "\n").filter { $0.hasPrefix("CONFIG_") }
  }

  /// `y`, `m` or a value; `nil` when it is off or unknown to this kernel. Without `CONFIG_`.
  public func value(_ name: String) -> String? {
    let start = "CONFIG_\(name)="
    return lines.first { $0.hasPrefix(start) }.map { String($0.dropFirst(start.utf8.count)) }
  }

  /// Whether it is built in or a module.
  public func has(_ name: String) -> Bool { value(name) == "y" || value(name) == "m" }

  /// Finds the running kernel's options: `/proc/config.gz`, then the files distributions install.
  public static func find(_ files: HostFiles) -> KernelOptions? {
    let limit = 4 << 20
    if let packed = try? files.bytes("/proc/config.gz", limit: limit),
      let bytes = try? gunzip(packed, limit: limit)
    {
      return KernelOptions(String(decoding: bytes, as: UTF8.self), source: "/proc/config.gz")
    }
    let release = files.text("/proc/sys/kernel/osrelease") ?? ""
    let places = [
      "/boot/config-\(release)", "/lib/modules/\(release)/config",
      "/lib/modules/\(release)/build/.config",
    ]
    for place in places {
      if let text = files.text(place, limit: limit) { return KernelOptions(text, source: place) }
    }
    return nil
  }
}

/// A line of `/proc/iomem`.
public struct MemoryResource: Equatable, Sendable {
  /// The first address.
  public let start: UInt64
  /// The last address.
  public let end: UInt64
  /// Who has it.
  public let owner: String
  /// How deep it is nested; 0 is outermost.
  public let depth: Int

  /// Reads the whole file; lines that make no sense are left out. Without privilege every address
  /// is 0: then the list is empty.
  public static func parse(_ text: String) -> [MemoryResource] {
    let all: [MemoryResource] = text.split(separator: "\n").compactMap { line in
      let blanks = line.utf8.prefix { $0 == 32 }.count
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { return nil }
      let ends = parts[0].split(separator: "-")
      guard ends.count == 2, let start = UInt64(trimmed(ends[0]), radix: 16),
        let end = UInt64(trimmed(ends[1]), radix: 16), end >= start
      else { return nil }
      return MemoryResource(
        start: start, end: end, owner: String(trimmed(parts[1])), depth: blanks / 2)
    }
    return all.contains { $0.end != 0 } ? all : []
  }

  /// Whether it shares an address with `size` bytes from `start`.
  public func overlaps(_ start: UInt64, _ size: UInt64) -> Bool {
    guard size > 0 else { return false }
    let (last, isOver) = start.addingReportingOverflow(size - 1)
    return self.start <= (isOver ? .max : last) && start <= end
  }
}

/// How often an interrupt came, of `/proc/interrupts`.
public struct InterruptCount: Equatable, Sendable {
  /// Linux' number.
  public let number: UInt64
  /// The sum over all processors.
  public let count: UInt64
  /// What stands behind the numbers: controller, line, names of the drivers.
  public let what: String

  /// Reads the whole file; lines of other kinds (`NMI`, `IPI0`) are left out.
  public static func parse(_ text: String) -> [InterruptCount] {
    text.split(separator: "\n").compactMap { line in
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, let number = UInt64(trimmed(parts[0])) else { return nil }
      var count: UInt64 = 0
      var words = parts[1].split(separator: " ")[...]
      while let word = words.first, let value = UInt64(word), words.count > 1 {
        count = count &+ value
        words = words.dropFirst()
      }
      return InterruptCount(number: number, count: count, what: words.joined(separator: " "))
    }
  }
}

/// Without the blanks around it.
func trimmed(_ text: some StringProtocol) -> Substring {
  var rest = Substring(text)
  while let first = rest.utf8.first, first == 32 || first == 9 { rest = rest.dropFirst() }
  while let last = rest.utf8.last, last == 32 || last == 9 { rest = rest.dropLast() }
  return rest
}

/// A host bridge of virtual PCI as the device tree names it.
public struct HostBridge: Equatable, Sendable {
  /// The node's name.
  public let node: String
  /// Where its configuration space lies.
  public let start: UInt64
  /// Bytes of that.
  public let size: UInt64
  /// Whether a driver has it.
  public let isBound: Bool

  /// The generic host bridges of the device tree's root.
  public static func find(_ files: HostFiles) -> [HostBridge] {
    let tree = "/proc/device-tree"
    return (files.entries(tree) ?? []).compactMap { name in
      guard name.hasPrefix("pci@"),
        (files.text("\(tree)/\(name)/compatible", limit: 256) ?? "").split(separator: "\0")
          .contains("pci-host-ecam-generic"),
        let reg = try? files.bytes("\(tree)/\(name)/reg", limit: 64),
        reg.count == 16 || reg.count == 8
      else { return nil }
      let half = reg.count / 2
      func word(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reduce(0) { $0 << 8 | UInt64($1) }
      }
      let start = word(reg[..<half])
      let drivers = "/sys/bus/platform/drivers/pci-host-generic"
      let device = "\(hexText(start)).pci"
      return HostBridge(
        node: name, start: start, size: word(reg[half...]),
        isBound: files.exists("\(drivers)/\(device)"))
    }
  }
}
