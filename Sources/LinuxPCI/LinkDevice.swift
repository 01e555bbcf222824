public import LinkFormat

/// A section of a link's shared memory as a device's owner can know it without opening it.
public struct LinkSection: Equatable, Sendable {
  /// What it is.
  public enum Kind: Sendable {
    /// The states of all peers.
    case stateTable
    /// What everybody may write.
    case readWrite
    /// Every peer's output section, one behind the other; from a UIO map of that name.
    case inputs
    /// One peer's output section: the own one where it is known which.
    case output

    /// Its name in JSON and on the screen.
    public var name: String {
      switch self {
      case .stateTable: "stateTable"
      case .readWrite: "readWrite"
      case .inputs: "inputs"
      case .output: "output"
      }
    }
  }

  /// What it is.
  public let kind: Kind
  /// Its first physical address; `nil` when unknown.
  public let address: UInt64?
  /// Bytes.
  public let size: UInt64
}

/// How a device interrupts.
public enum InterruptKind: Sendable {
  /// MSI-X.
  case msix
  /// MSI.
  case msi
  /// A line: vector 0 alone.
  case line
  /// Not at all.
  case none
  /// It cannot be known without privilege or driver.
  case unknown

  /// Its name in JSON and on the screen.
  public var name: String {
    switch self {
    case .msix: "msi-x"
    case .msi: "msi"
    case .line: "intx"
    case .none: "none"
    case .unknown: "unknown"
    }
  }
}

/// What can be told of an ivshmem-v2 function from sysfs alone.
public struct LinkDevice: Sendable {
  /// What sysfs tells.
  public let function: PCIFunction
  /// Its configuration space, when it makes sense.
  public let configuration: PCIConfiguration?
  /// Why the configuration space makes no sense.
  public let configurationError: PCIConfigurationError?
  /// What the link is for; `nil` when the class code is none of ivshmem's.
  public let linkProtocol: LinkProtocol?
  /// How it interrupts.
  public let interrupts: InterruptKind
  /// Vectors; `nil` when unknown.
  public let vectorCount: UInt16?
  /// Whether each delivery disarms; `nil` when unknown.
  public let isOneShot: Bool?
  /// What is known of the sections.
  public let sections: [LinkSection]
  /// The own peer id, as far as the maps tell it.
  public let peerID: UInt16?
  /// Peers the link has room for, as far as the maps tell it.
  public let maxPeers: UInt32?

  /// Decodes a function; nothing of it is believed.
  public init(_ function: PCIFunction) {
    self.function = function
    linkProtocol = LinkProtocol(classCode: function.classCode)
    var decoded: PCIConfiguration?
    var failure: PCIConfigurationError?
    do throws(PCIConfigurationError) {
      decoded = try PCIConfiguration(function.configuration.span)
    } catch { failure = error }
    configuration = decoded
    configurationError = failure
    (interrupts, vectorCount) = Self.interrupts(function, decoded)
    isOneShot = decoded?.ivshmem?.isOneShot
    let node = function.nodes.first
    let isOurs = node?.map("registers") != nil && node?.map("state_table") != nil
    sections =
      isOurs
      ? node.map { Self.sections(of: $0) } ?? [] : Self.sections(decoded?.ivshmem, function)
    (peerID, maxPeers) = isOurs ? node.map { Self.peers(of: $0) } ?? (nil, nil) : (nil, nil)
  }

  /// Bytes of a section; `nil` when it is absent or unknown.
  public func size(of kind: LinkSection.Kind) -> UInt64? {
    sections.first { $0.kind == kind }?.size
  }

  /// What privilege would tell beyond what is known.
  public var hiddenByPrivilege: [String] {
    guard let configuration, !configuration.isComplete else { return [] }
    var hidden = ["one-shot mode"]
    if sections.isEmpty { hidden.insert("sizes of the sections", at: 0) }
    if vectorCount == nil { hidden.append("number of vectors") }
    return hidden
  }

  private static func interrupts(
    _ function: PCIFunction, _ configuration: PCIConfiguration?
  ) -> (InterruptKind, UInt16?) {
    if let configuration, configuration.isComplete {
      if let msix = configuration.msix { return (.msix, msix.vectorCount) }
      if let msi = configuration.msi { return (.msi, msi.vectorCount) }
      return configuration.interruptPin == 0 ? (.none, 0) : (.line, 1)
    }
    // Where the capabilities are hidden, the kernel's list of vectors in use tells their number;
    // with a pin and no vector in use it may be either (linux-uio facts, section 1.2).
    let used = function.messageInterrupts.count
    if used > 0 { return (.msix, UInt16(truncatingIfNeeded: used)) }
    let hasDriver = function.driver != nil
    return hasDriver && (configuration?.interruptPin ?? 0) != 0 ? (.line, 1) : (.unknown, nil)
  }

  private static func sections(of node: UIONode) -> [LinkSection] {
    let names: [(String, LinkSection.Kind)] = [
      ("state_table", .stateTable), ("rw_section", .readWrite), ("input_sections", .inputs),
      ("output_section", .output),
    ]
    return names.compactMap { name, kind in
      node.map(name).map { LinkSection(kind: kind, address: $0.address, size: $0.size) }
    }
  }

  private static func sections(
    _ capability: IVShmemCapability?, _ function: PCIFunction
  ) -> [LinkSection] {
    guard let capability else { return [] }
    // A start of 0 is what an unprivileged reader of `resource` gets to see.
    let bar = function.resources.first { $0.bar == 2 && $0.isMemory && $0.start != 0 }
    let base = capability.baseAddress ?? bar?.start
    let table = UInt64(capability.stateTableSize)
    var sections = [LinkSection(kind: .stateTable, address: base, size: table)]
    if capability.readWriteSize > 0 {
      let start = base.map { $0 &+ table }
      sections.append(
        LinkSection(kind: .readWrite, address: start, size: capability.readWriteSize))
    }
    if capability.outputSize > 0 {
      // Which of them is the own one, only the ID register tells.
      sections.append(LinkSection(kind: .output, address: nil, size: capability.outputSize))
    }
    return sections
  }

  private static func peers(of node: UIONode) -> (UInt16?, UInt32?) {
    guard let inputs = node.map("input_sections"), let output = node.map("output_section"),
      output.size > 0, output.address >= inputs.address
    else { return (nil, nil) }
    let id = (output.address - inputs.address) / output.size
    let count = inputs.size / output.size
    guard count <= 65536, id < count else { return (nil, nil) }
    return (UInt16(truncatingIfNeeded: id), UInt32(truncatingIfNeeded: count))
  }
}

extension LinkProtocol {
  /// The role in the link: `front-end`, `back-end` or `peer`.
  public var role: String {
    switch self {
    case .virtioFrontEnd: "front-end"
    case .virtioBackEnd: "back-end"
    case .undefined, .ethernet, .reserved, .user: "peer"
    }
  }

  /// What is spoken: `virtio block`, `ethernet`, `undefined`, `user 4001`, `reserved 2`.
  public var what: String {
    switch self {
    case .undefined: "undefined"
    case .ethernet: "ethernet"
    case .reserved(let value): "reserved \(hexText(value, width: 4))"
    case .user(let value): "user \(hexText(value, width: 4))"
    case .virtioFrontEnd(let id), .virtioBackEnd(let id): "virtio \(virtioName(id))"
    }
  }

  /// The virtio device's number; `nil` for other protocols.
  public var virtioDevice: UInt16? {
    switch self {
    case .virtioFrontEnd(let id), .virtioBackEnd(let id): id
    case .undefined, .ethernet, .reserved, .user: nil
    }
  }
}

/// The name of a virtio device's number (VIRTIO 1.3, section 5), or `device N`.
public func virtioName(_ id: UInt16) -> String {
  switch id {
  case 1: "network"
  case 2: "block"
  case 3: "console"
  case 4: "entropy"
  case 5: "balloon"
  case 8: "scsi"
  case 9: "9p"
  case 16: "gpu"
  case 18: "input"
  case 19: "socket"
  case 20: "crypto"
  case 23: "iommu"
  case 24: "memory"
  case 25: "sound"
  case 26: "filesystem"
  case 28: "rpmb"
  case 32: "scmi"
  case 34: "i2c"
  case 36: "can"
  case 41: "gpio"
  default: "device \(id)"
  }
}
