public import CellFormat

/// A configuration spelled out: names for numbers, sections found, interrupts counted.
///
/// Its JSON has the keys that docs/cell-tool.md lists. Addresses and sizes are strings
/// (`0xfd900000`), because a JSON number is not safe above 2^53; counts and numbers are numbers.
public struct Explanation: Sendable {
  /// A flag word: the bits, and the names of the set ones.
  struct Flags {
    let value: String
    let names: [String]
  }
  struct ConsoleText {
    let type: Int
    let typeText: String
    let address: String
    let size: String
    let flags: Flags
    let divider: Int
    let clockGate: Int
    let clockRegister: String
  }
  struct IOMMUText {
    let slot: Int
    let type: Int
    let base: String
    let size: String
  }
  struct SystemText {
    let flags: Flags
    let hypervisorStart: String
    let hypervisorSize: String
    let debugConsole: ConsoleText
    let ecam: String
    let lastBus: Int
    let pciIsVirtual: Bool
    let pciDomain: Int
    let gicVersion: Int
    let maintenanceInterrupt: Int
    let gicd: String
    let gicc: String
    let gich: String
    let gicv: String
    let gicr: String
    let iommus: [IOMMUText]
  }
  struct Region {
    let index: Int
    let purpose: String
    let physicalStart: String
    let cellStart: String
    let size: String
    let sizeText: String
    let flags: Flags
  }
  struct Chip {
    let address: String
    let id: Int
    let pinBase: Int
    let interruptIDs: [Int]
  }
  struct Interrupts {
    let virtualPCIBase: Int
    /// SPI numbers: INTID - 32.
    let spis: [Int]
    /// INTIDs below 32.
    let privateInterrupts: [Int]
    let irqchips: [Chip]
  }
  struct Section {
    let name: String
    let region: Int
    let physicalStart: String
    let cellStart: String
    let size: String
    let sizeText: String
    let flags: Flags
  }
  struct Peer {
    let file: String
    let cell: String
    let id: Int
    let `protocol`: String
    let protocolText: String
    let hasSameAddresses: Bool
  }
  struct Link {
    let bdf: String
    let device: Int
    let domain: Int
    let `protocol`: String
    let protocolText: String
    let id: Int
    let peerCount: Int
    let pin: String
    let spi: Int
    let interruptID: Int
    let ownsInterrupt: Bool
    let msixVectors: Int
    let barMasks: [String]
    let firstRegion: Int
    /// Whether the table of regions ends before the link's last section.
    let isCut: Bool
    let sections: [Section]
    /// Ends of the same link in the other files that were given.
    let peers: [Peer]
  }
  struct Device {
    let index: Int
    let type: Int
    let bdf: String
    let domain: Int
    let iommu: Int
    let barMasks: [String]
    let capabilities: [Capability]
    let msiVectors: Int
    let msixVectors: Int
    let msixAddress: String
  }
  struct Capability {
    let id: String
    let start: Int
    let length: Int
    let flags: Int
  }
  struct Cache {
    let start: Int
    let size: Int
    let type: Int
    let flags: Int
  }
  struct Ports {
    let base: String
    let length: Int
  }

  let file: String
  let bytes: Int
  let kind: String
  let revision: Int
  let architecture: String?
  let name: String
  let id: Int
  let flags: Flags
  let cpus: [Int]
  let cpuSetBytes: Int
  let resetAddress: String
  let messageReplyTimeout: String
  let system: SystemText?
  let memory: [Region]
  /// What a Linux guest takes for RAM, in bytes.
  let linuxMemory: String
  let interrupts: Interrupts
  let links: [Link]
  let pciDevices: [Device]
  let console: ConsoleText?
  let caches: [Cache]
  let ports: [Ports]
  let streamIDs: [String]

  /// Explains each file; ends of the same link in the others are named as peers.
  public static func all(of files: [(name: String, file: ConfigurationFile)]) -> [Explanation] {
    files.indices.map { index in
      var others = files
      others.remove(at: index)
      return Explanation(files[index].file, name: files[index].name, others: others)
    }
  }
}

extension CellConfiguration {
  /// RAM by the test that `jailhouse cell linux` makes: READ, WRITE, EXECUTE and DMA, and none of
  /// IO, COMM_REGION, ROOTSHARED.
  var linuxMemory: [MemoryRegion] {
    memoryRegions.filter { region in
      region.flags.isSuperset(of: [.read, .write, .execute, .dma])
        && region.flags.isDisjoint(with: [.io, .commRegion, .rootShared])
    }
  }
}

/// The sum, or the largest number when it does not fit.
func saturatingSum(_ numbers: [UInt64]) -> UInt64 {
  numbers.reduce(0) { sum, next in
    let (result, isOver) = sum.addingReportingOverflow(next)
    return isOver ? .max : result
  }
}
