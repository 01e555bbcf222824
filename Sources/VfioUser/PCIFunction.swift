/// Configuration space of an ivshmem-v2 function, as Jailhouse shows it: ivshmem-v2 specification,
/// "PCI Configuration Space"; where Jailhouse does otherwise, Jailhouse is followed
/// (docs/simulator.md names what cannot be).
///
/// A pure state machine: nothing outside changes when it is read or written.
public struct PCIFunction: Sendable {
  /// Bytes of configuration space.
  public static let size = 256
  /// Bytes of BAR 0, the register region.
  public static let registerBarSize: UInt64 = 4096
  /// Bytes of BAR 1, the MSI-X region: 16 vectors, and at 100h the pending bits, always 0.
  public static let vectorBarSize: UInt64 = 512

  enum Place {
    static let command = 0x04
    static let status = 0x06
    static let vendorCapability = 0x40
    static let privilegedControl = 0x43
    static let vectorCapability = 0x60
    static let vectorControl = 0x62
    /// From here on everything reads as ones, as under Jailhouse.
    static let end = 0x80
  }

  private var bytes = [UInt8](repeating: 0, count: Self.size)
  private var writable = [UInt8](repeating: 0, count: Self.size)
  private var initial: [UInt8] = []

  /// The function as after power-on.
  public init(_ description: FunctionDescription) {
    for index in Place.end..<Self.size { bytes[index] = 0xff }
    fill(description)
    initial = bytes
  }

  private mutating func put(_ value: UInt64, _ count: Int, at offset: Int) {
    for index in 0..<count {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
  }

  private mutating func allow(_ mask: UInt64, _ count: Int, at offset: Int) {
    for index in 0..<count {
      writable[offset + index] = UInt8(truncatingIfNeeded: mask >> UInt64(8 * index))
    }
  }

  private mutating func fill(_ description: FunctionDescription) {
    let hasVectors = description.vectors > 0
    let hasBar2 = description.memoryBarSize > 0
    put(0x4106_110a, 4, at: 0x00)
    put(0x0010, 2, at: Place.status)
    put(UInt64(description.classCode & 0xff_ffff), 3, at: 0x09)
    put(0x4106_110a, 4, at: 0x2c)
    put(UInt64(Place.vendorCapability), 1, at: 0x34)
    put(hasVectors ? 0 : 1, 1, at: 0x3d)
    // Memory space, bus master, INTx off; the cache line size; the interrupt line.
    allow(0x0406, 2, at: Place.command)
    allow(0xff, 1, at: 0x0c)
    allow(0xff, 1, at: 0x3c)
    allow(~(Self.registerBarSize - 1), 4, at: 0x10)
    if hasVectors { allow(~(Self.vectorBarSize - 1), 4, at: 0x14) }
    if hasBar2 {
      put(0x0c, 1, at: 0x18)
      allow(~(description.memoryBarSize - 1) & ~0xf, 8, at: 0x18)
    }
    let base = Place.vendorCapability
    put(0x09, 1, at: base)
    put(hasVectors ? UInt64(Place.vectorCapability) : 0, 1, at: base + 1)
    put(hasBar2 ? 0x18 : 0x20, 1, at: base + 2)
    allow(1, 1, at: Place.privilegedControl)
    put(UInt64(description.stateTableSize), 4, at: base + 4)
    put(description.readWriteSize, 8, at: base + 8)
    put(description.outputSize, 8, at: base + 0x10)
    if !hasBar2 { put(description.baseAddress ?? 0, 8, at: base + 0x18) }
    // With INTx the capability is there and not in the list, as under Jailhouse.
    put(0x11, 1, at: Place.vectorCapability)
    if hasVectors {
      put(UInt64(description.vectors - 1), 2, at: Place.vectorControl)
      allow(0xc000, 2, at: Place.vectorControl)
    }
    put(0x0000_0001, 4, at: Place.vectorCapability + 4)
    put(0x0000_0101, 4, at: Place.vectorCapability + 8)
  }

  /// Reads `count` bytes; what lies behind the end reads as ones.
  public func read(at offset: Int, count: Int) -> [UInt8] {
    (offset..<offset + count).map { $0 >= 0 && $0 < Self.size ? bytes[$0] : 0xff }
  }

  /// Writes bytes; only what is writable changes.
  public mutating func write(_ data: [UInt8], at offset: Int) {
    for (index, value) in data.enumerated() {
      let place = offset + index
      guard place >= 0, place < Self.size else { return }
      bytes[place] = bytes[place] & ~writable[place] | value & writable[place]
    }
  }

  /// Back to power-on.
  public mutating func reset() { bytes = initial }

  /// Whether the guest wants one-shot interrupts.
  public var isOneShot: Bool { bytes[Place.privilegedControl] & 1 != 0 }
  /// Whether the guest has switched INTx off.
  public var isLineDisabled: Bool { bytes[Place.command + 1] & 0x04 != 0 }
  /// Whether the guest lets the function send messages, MSI-X among them.
  public var isBusMaster: Bool { bytes[Place.command] & 0x04 != 0 }

  /// The interrupt status bit.
  ///
  /// Jailhouse never sets it. QEMU's INTx is a level that other devices may share, and a guest's
  /// driver needs the bit to know its own.
  public var isLineRaised: Bool {
    get { bytes[Place.status] & 0x08 != 0 }
    set { bytes[Place.status] = bytes[Place.status] & ~0x08 | (newValue ? 0x08 : 0) }
  }
}
