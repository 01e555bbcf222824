/// A range of addresses of a PCI function, a line of sysfs' `resource`.
public struct PCIResource: Equatable, Sendable {
  /// 0 to 5: the base address register.
  public let bar: Int
  /// The first address; 0 without privilege on some kernels.
  public let start: UInt64
  /// Bytes.
  public let size: UInt64
  /// The kernel's flags (IORESOURCE_*).
  public let flags: UInt64

  /// Whether it is memory, not I/O ports (IORESOURCE_MEM).
  public var isMemory: Bool { flags & 0x200 != 0 }

  /// The used ones of the first six lines of `resource`: start, end and flags in hexadecimal.
  public static func parse(_ text: String) -> [PCIResource] {
    var found: [PCIResource] = []
    for (bar, line) in text.split(separator: "\n").prefix(6).enumerated() {
      let words = line.split(separator: " ")
      guard words.count == 3, let start = kernelNumber(words[0]), let end = kernelNumber(words[1]),
        let flags = kernelNumber(words[2]), flags != 0, end >= start, end - start < .max
      else { continue }
      found.append(PCIResource(bar: bar, start: start, size: end - start + 1, flags: flags))
    }
    return found
  }
}

/// What sysfs tells of a PCI function beyond what its user needs.
public struct FunctionDetails: Equatable, Sendable {
  /// The subsystem's vendor.
  public private(set) var subsystemVendor: UInt16 = 0
  /// The subsystem's number.
  public private(set) var subsystem: UInt16 = 0
  /// The only driver it may be given to, when one was chosen.
  public private(set) var driverOverride: String?
  /// Configuration space, as far as this user may read: 64 bytes without privilege.
  public private(set) var configuration: [UInt8] = []
  /// Its address ranges.
  public private(set) var resources: [PCIResource] = []

  /// Nothing was read.
  public init() {}

  /// Reads the details of the function in a folder of sysfs.
  init(folder: String, files: HostFiles) {
    func number(_ name: String) -> UInt16 {
      UInt16(truncatingIfNeeded: files.number("\(folder)/\(name)") ?? 0)
    }
    let wanted = files.text("\(folder)/driver_override") ?? ""
    driverOverride = wanted.isEmpty || wanted == "(null)" ? nil : wanted
    configuration = (try? files.bytes("\(folder)/config", limit: 256)) ?? []
    if configuration.count >= 64 {
      subsystemVendor = UInt16(configuration[0x2c]) | UInt16(configuration[0x2d]) << 8
      subsystem = UInt16(configuration[0x2e]) | UInt16(configuration[0x2f]) << 8
    } else {
      subsystemVendor = number("subsystem_vendor")
      subsystem = number("subsystem_device")
    }
    resources = PCIResource.parse(files.text("\(folder)/resource") ?? "")
  }
}

extension PCIFunction {
  /// The subsystem's vendor.
  public var subsystemVendor: UInt16 { details.subsystemVendor }
  /// The subsystem's number.
  public var subsystem: UInt16 { details.subsystem }
  /// The only driver it may be given to, when one was chosen.
  public var driverOverride: String? { details.driverOverride }
  /// Configuration space, as far as this user may read: 64 bytes without privilege.
  public var configuration: [UInt8] { details.configuration }
  /// Its address ranges.
  public var resources: [PCIResource] { details.resources }
}
