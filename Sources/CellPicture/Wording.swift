import CellFormat

/// How numbers and names are written for people, the same in text, pictures and differences.
enum Wording {
  /// `0xfd900000`.
  static func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

  /// `983 MiB`: exact while the number stays below 10000, else rounded to one digit.
  static func size(_ bytes: UInt64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    guard bytes != 1 else { return "1 byte" }
    for power in stride(from: 6, through: 0, by: -1) where bytes >> UInt64(10 * power) != 0 {
      let unit = UInt64(1) << UInt64(10 * power)
      if bytes % unit == 0 { return "\(bytes / unit) \(units[power])" }
      if power > 0, bytes % (unit / 1024) == 0, bytes / (unit / 1024) < 10_000 {
        return "\(bytes / (unit / 1024)) \(units[power - 1])"
      }
      // In tenths, rounded down, so that nothing overflows at the end of the address space.
      let tenths = bytes / (unit / 1024) * 10 / 1024
      return "\(tenths / 10).\(tenths % 10) \(units[power])"
    }
    return "0 bytes"
  }

  /// `0-3, 5`; `none` for an empty list.
  static func ranges(_ numbers: [Int]) -> String {
    var parts: [String] = []
    var index = 0
    while index < numbers.count {
      var end = index
      while end + 1 < numbers.count, numbers[end + 1] == numbers[end] + 1 { end += 1 }
      parts.append(end == index ? "\(numbers[index])" : "\(numbers[index])-\(numbers[end])")
      index = end + 1
    }
    return parts.isEmpty ? "none" : parts.joined(separator: ", ")
  }

  /// `0x40000000-0x4fffffff`; a range that runs over the end of the address space says so.
  static func span(_ start: UInt64, _ size: UInt64) -> String {
    guard size > 0 else { return hex(start) }
    let (last, isOver) = start.addingReportingOverflow(size - 1)
    return isOver ? "\(hex(start))+\(hex(size)), beyond 2^64" : "\(hex(start))-\(hex(last))"
  }

  /// Bus, device and function as Linux writes them: `00:02.0`.
  static func bdf(_ bdf: UInt16) -> String {
    func two(_ value: UInt16) -> String { (value < 16 ? "0" : "") + String(value, radix: 16) }
    return "\(two(bdf >> 8)):\(two(bdf >> 3 & 31)).\(bdf & 7)"
  }

  /// A cell's name on one line: control characters become U+FFFD.
  static func line(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          scalar.properties.generalCategory == .control || scalar.value == 0x2028
            || scalar.value == 0x2029 ? "\u{fffd}" : scalar
        }))
  }

  /// The name of a section by its place in the link.
  static func section(_ section: Int) -> String {
    switch section {
    case 0: "state table"
    case 1: "read/write"
    default: "output \(section - 2)"
    }
  }

  /// What a link carries, without the side: `virtio block`.
  static func service(_ number: UInt16) -> String {
    switch number {
    case 0: "undefined protocol"
    case 1: "network (veth)"
    case 0x8000...: "virtio " + virtioDevice(number & 0x3fff)
    case 0x4000..<0x8000: "custom protocol \(hex(number))"
    default: "reserved protocol \(hex(number))"
    }
  }

  /// `virtio block, back-end`.
  static func linkProtocol(_ number: UInt16) -> String {
    guard number >= 0x8000 else { return service(number) }
    return service(number) + (number >= 0xc000 ? ", back-end" : ", front-end")
  }

  private static func virtioDevice(_ id: UInt16) -> String {
    switch id {
    case 1: "network"
    case 2: "block"
    case 3: "console"
    case 4: "entropy"
    case 5: "balloon"
    case 8: "SCSI host"
    case 9: "9P file system"
    case 16: "GPU"
    case 18: "input"
    case 19: "socket"
    case 20: "crypto"
    case 25: "sound"
    case 26: "file system"
    default: "device \(id)"
    }
  }

  static func console(_ console: Console) -> String {
    switch console.kind {
    case .some(.none): "none"
    case .efifb: "EFI frame buffer"
    case .uart8250: "8250 UART"
    case .pl011: "PL011 UART"
    case .xuartps: "Xilinx UART"
    case .mvebu: "Marvell UART"
    case .hscif: "HSCIF UART"
    case .scifa: "SCIFA UART"
    case .imx: "i.MX UART"
    case .imxLPUART: "i.MX LPUART"
    case .scif: "SCIF UART"
    case nil: "unknown type \(console.rawType)"
    }
  }
}
