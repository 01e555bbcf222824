public import LinkFormat

// Embedded Swift prints no value without a description: `Library/build` refuses such a text.

extension PCIConfigurationError: CustomStringConvertible {
  /// What was seen, for the end of a sentence.
  public var description: String {
    switch self {
    case .tooShort(let count): "\(count) bytes were read, expected at least 64"
    case .absent: "nothing answers"
    case .headerType(let type): "header type \(type), expected 0"
    case .capabilityList(let offset): "the capability at 0x\(hexText(offset)) leads nowhere"
    case .vendorCapability(let length):
      "the vendor capability has \(length) bytes, expected 24 or 32"
    }
  }
}

extension GeometryError: CustomStringConvertible {
  /// What was seen, for the end of a sentence.
  public var description: String {
    switch self {
    case .peerCount(let count): "\(count) peers, expected 2 to 65536"
    case .peerID(let id, let limit): "peer \(id), expected one below \(limit)"
    case .stateTableSize(let size, let peers):
      "a state table of \(size) bytes, expected whole pages with 4 bytes for each of \(peers) peers"
    case .readWriteSize(let size): "a read/write section of \(size) bytes, expected whole pages"
    case .outputSize(let size): "output sections of \(size) bytes, expected whole pages"
    case .totalSize: "sections that are together larger than the memory they lie in"
    }
  }
}
