import IVShmem
import Testing

/// The configuration space of an ivshmem-v2 device, well-formed and not.
@Suite struct PCIConfigurationTests {
  /// A device as Jailhouse shows it: vendor capability at 40h, MSI-X at 60h.
  static func jailhouse(vectors: Int = 2) -> [UInt8] {
    var space = [UInt8](repeating: 0, count: 256)
    func put(_ bytes: [UInt8], at offset: Int) {
      space.replaceSubrange(offset..<(offset + bytes.count), with: bytes)
    }
    put([0x0a, 0x11, 0x06, 0x41, 0x06, 0x04, 0x10, 0x00, 0x00, 0x02, 0xc0, 0xff], at: 0)
    put([0x00, 0x00, 0x10, 0x00], at: 0x10)
    put([0x0c, 0x00, 0x00, 0xf0, 0x01, 0x00, 0x00, 0x00], at: 0x18)
    put([0x0a, 0x11, 0x06, 0x41], at: 0x2c)
    space[0x34] = 0x40
    space[0x3d] = 1
    put([0x09, vectors > 0 ? 0x60 : 0, 0x20, 0x01], at: 0x40)
    put([0x00, 0x10, 0x00, 0x00, 0x00, 0x90, 0, 0, 1, 0, 0, 0], at: 0x44)
    put([0x00, 0x20, 0, 0, 0, 0, 0, 0, 0x00, 0x00, 0xaf, 0x7f, 0, 0, 0, 0], at: 0x50)
    if vectors > 0 { put([0x11, 0, UInt8(vectors - 1), 0x80], at: 0x60) }
    return space
  }

  static func decode(_ bytes: [UInt8]) throws(PCIConfigurationError) -> PCIConfiguration {
    try PCIConfiguration(bytes.span)
  }

  static func error(_ bytes: [UInt8]) -> PCIConfigurationError? {
    do throws(PCIConfigurationError) {
      _ = try decode(bytes)
      return nil
    } catch { return error }
  }

  @Test func aDeviceOfJailhouseIsRead() throws {
    let found = try Self.decode(Self.jailhouse())
    #expect(found.isIVShmem && found.isComplete)
    #expect(found.classCode == 0xffc002 && found.linkProtocol == .virtioBackEnd(2))
    let capability = try #require(found.ivshmem)
    #expect(capability.isOneShot && capability.privilegedControlOffset == 0x43)
    #expect(capability.stateTableSize == 0x1000)
    #expect(capability.readWriteSize == 0x1_0000_9000 && capability.outputSize == 0x2000)
    #expect(capability.baseAddress == 0x7faf_0000)
    #expect(found.msix == MessageInterrupts(offset: 0x60, vectorCount: 2, isEnabled: true))
    #expect(found.vectorCount == 2)
    #expect(
      found.baseAddress(0) == .memory(0x10_0000, isWide: false, isPrefetchable: false))
    #expect(found.baseAddress(1) == .none)
    #expect(
      found.baseAddress(2) == .memory(0x1_f000_0000, isWide: true, isPrefetchable: true))
    #expect(found.baseAddress(3) == .none)
  }

  @Test func anUnprivilegedReadSaysWhatItDoesNotKnow() throws {
    let found = try Self.decode([UInt8](Self.jailhouse()[..<64]))
    #expect(!found.isComplete && found.ivshmem == nil && found.vectorCount == nil)
    #expect(found.classCode == 0xffc002)
  }

  @Test func interruptsAreCountedByKind() throws {
    var space = Self.jailhouse(vectors: 0)
    #expect(try Self.decode(space).vectorCount == 1)
    space[0x3d] = 0
    #expect(try Self.decode(space).vectorCount == 0)
    // Stale bytes of MSI-X that no list reaches do not count.
    space.replaceSubrange(0x60..<0x64, with: [0x11, 0, 7, 0])
    #expect(try Self.decode(space).vectorCount == 0)
    space[0x41] = 0x70
    space.replaceSubrange(0x70..<0x74, with: [0x05, 0, 0x05, 0])
    #expect(try Self.decode(space).msi?.vectorCount == 4)
    #expect(try Self.decode(space).vectorCount == 4)
    #expect(try Self.decode(Self.jailhouse(vectors: 16)).vectorCount == 16)
  }

  @Test func aCapabilityWithoutBaseAddressIsShorter() throws {
    var space = Self.jailhouse()
    space[0x42] = 0x18
    #expect(try Self.decode(space).ivshmem?.baseAddress == nil)
    space[0x42] = 0x17
    #expect(Self.error(space) == .vendorCapability(0x17))
    space[0x42] = 0xff
    #expect(Self.error(space) == .vendorCapability(0xff))
  }

  @Test func brokenSpacesAreNamed() throws {
    #expect(Self.error([]) == .tooShort(0))
    #expect(Self.error([UInt8](repeating: 0, count: 63)) == .tooShort(63))
    #expect(Self.error([UInt8](repeating: 0xff, count: 256)) == .absent)
    var space = Self.jailhouse()
    space[0x0e] = 0x81
    #expect(Self.error(space) == .headerType(1))
    space = Self.jailhouse()
    space[0x61] = 0x40
    #expect(Self.error(space) == .capabilityList(0x40), "the list runs in a circle")
    space[0x61] = 0x20
    #expect(Self.error(space) == .capabilityList(0x20), "a capability inside the header")
    space[0x34] = 0xfc
    space[0xfd] = 0
    #expect(Self.error(space) == nil, "the last four bytes hold a capability without a body")
    space[0xfc] = 0x09
    space[0xfe] = 0x20
    #expect(Self.error(space) == .vendorCapability(0x20), "its body lies beyond the end")
    space[0x06] = 0
    #expect(try Self.decode(space).ivshmem == nil, "status says that there is no list")
  }

  @Test func aVendorCapabilityOfAnotherDeviceIsNotOurs() throws {
    var space = Self.jailhouse()
    space[2] = 0x07
    let found = try Self.decode(space)
    #expect(!found.isIVShmem && found.ivshmem == nil && found.msix != nil)
  }

  /// No bytes make the decoder trap: every single byte of a good space takes hostile values.
  @Test func noByteTraps() {
    for offset in 0..<256 {
      for value: UInt8 in [0, 1, 0x3f, 0x40, 0x44, 0x60, 0x7f, 0x80, 0xf0, 0xfc, 0xff] {
        var space = Self.jailhouse()
        space[offset] = value
        for count in [64, 65, 67, 0x41, 0x45, 0x57, 0x62, 255, 256] {
          guard let found = try? Self.decode([UInt8](space[..<count])) else { continue }
          for index in 0..<6 { _ = found.baseAddress(index) }
        }
      }
    }
  }

  @Test func protocolsFollowTheClass() {
    #expect(LinkProtocol(classCode: 0x02_0000) == nil)
    #expect(LinkProtocol(0) == .undefined && LinkProtocol(1) == .ethernet)
    #expect(LinkProtocol(0x3fff) == .reserved(0x3fff) && LinkProtocol(0x4000) == .user(0x4000))
    #expect(LinkProtocol(classCode: 0xff8003) == .virtioFrontEnd(3))
    #expect(LinkProtocol(classCode: 0xffc002) == .virtioBackEnd(2))
    #expect(LinkProtocol(0xffff) == .virtioBackEnd(0x3fff))
  }
}
