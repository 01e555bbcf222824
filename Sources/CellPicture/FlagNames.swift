import CellFormat

/// The name of a flag and what it means to a person.
struct FlagName {
  let mask: UInt64
  let name: String
  let meaning: String
}

extension MemoryFlags {
  static let named: [FlagName] = [
    FlagName(mask: 1, name: "READ", meaning: "the cell may read"),
    FlagName(mask: 2, name: "WRITE", meaning: "the cell may write"),
    FlagName(mask: 4, name: "EXECUTE", meaning: "the cell may run code there"),
    FlagName(
      mask: 8, name: "DMA", meaning: "its devices may reach it; Linux guests take it for RAM"),
    FlagName(mask: 0x10, name: "IO", meaning: "device registers"),
    FlagName(mask: 0x20, name: "COMM_REGION", meaning: "page shared with the hypervisor"),
    FlagName(mask: 0x40, name: "LOADABLE", meaning: "the root may write it to load the cell"),
    FlagName(mask: 0x80, name: "ROOTSHARED", meaning: "the root keeps its access"),
    FlagName(mask: 0x100, name: "NO_HUGEPAGES", meaning: "mapped by 4 KiB pages only"),
    FlagName(mask: 0x8000, name: "IO_UNALIGNED", meaning: "trapped, unaligned accesses allowed"),
    FlagName(mask: 0x10000, name: "IO_8", meaning: "trapped, 8-bit accesses allowed"),
    FlagName(mask: 0x20000, name: "IO_16", meaning: "trapped, 16-bit accesses allowed"),
    FlagName(mask: 0x40000, name: "IO_32", meaning: "trapped, 32-bit accesses allowed"),
    FlagName(mask: 0x80000, name: "IO_64", meaning: "trapped, 64-bit accesses allowed"),
  ]

  /// The names of the set bits; bits without a name as one number at the end.
  var names: [String] { flagNames(rawValue, Self.named) }
  /// `RWX`, `R`, `-`.
  var rights: String {
    let text = (contains(.read) ? "R" : "") + (contains(.write) ? "W" : "")
    let all = text + (contains(.execute) ? "X" : "")
    return all.isEmpty ? "-" : all
  }
}

extension CellFlags {
  static let named: [FlagName] = [
    FlagName(
      mask: 1, name: "PASSIVE_COMMREG",
      meaning: "the cell answers no messages; it is stopped unasked"),
    FlagName(mask: 2, name: "TEST_DEVICE", meaning: "the hypervisor offers its test device"),
    FlagName(mask: 4, name: "AARCH32", meaning: "its CPUs start in 32-bit state"),
    FlagName(
      mask: 0x4000_0000, name: "VIRTUAL_CONSOLE_PERMITTED",
      meaning: "it may print through the hypervisor"),
    FlagName(
      mask: 0x8000_0000, name: "VIRTUAL_CONSOLE_ACTIVE", meaning: "it prints through the hypervisor"
    ),
  ]
  var names: [String] { flagNames(UInt64(rawValue), Self.named) }
}

extension Console {
  static let named: [FlagName] = [
    FlagName(mask: 1, name: "MMIO", meaning: "registers in memory"),
    FlagName(mask: 2, name: "REGDIST_4", meaning: "registers 4 bytes apart"),
    FlagName(mask: 4, name: "FB_1920", meaning: "frame buffer 1920 wide"),
    FlagName(mask: 0x1000, name: "INVERTED_GATE", meaning: "clock gate inverted"),
    FlagName(mask: 0x2000, name: "MDR_QUIRK", meaning: "8250 of TI"),
  ]
  var flagNameList: [String] { flagNames(UInt64(flags), Self.named) }
}

func flagNames(_ value: UInt64, _ table: [FlagName]) -> [String] {
  var rest = value
  var names: [String] = []
  for flag in table where value & flag.mask != 0 {
    names.append(flag.name)
    rest &= ~flag.mask
  }
  return rest == 0 ? names : names + [Wording.hex(rest)]
}
