/// Where everything lies in the two blocks of a native link. `docs/protocol.md` holds the same
/// tables; a test compares them.
///
/// Each block has one writer: the back-end writes the device block, the front-end the driver
/// block. All words are little endian and naturally aligned.
public enum BlockLayout {
  /// "CMvt", little endian: marks an initialised block.
  public static let magic: UInt32 = 0x7476_4d43
  /// The version of the protocol.
  public static let version: UInt32 = 1
  /// Devices one link can carry.
  public static let slotCount = 8
  /// Bytes reserved for the device block.
  public static let deviceBlockSize = 0x3000
  /// Bytes reserved for the driver block.
  public static let driverBlockSize = 0x1000
  /// Where the slots start in either block.
  public static let slotsOffset = 0x100
  /// Bytes of a slot of the device block.
  public static let deviceSlotSize = 0x400
  /// Bytes of a slot of the driver block.
  public static let driverSlotSize = 0x100
  /// Pools start and end on this boundary.
  public static let poolAlignment = 64

  /// The fields at the start of both blocks.
  public enum Header: Int, Sendable {
    /// u32 ``BlockLayout/magic``.
    case magic = 0x00
    /// u32 ``BlockLayout/version``.
    case version = 0x04
    /// u32: 1 driver block, 2 device block.
    case kind = 0x08
    /// u32: ``Placement``.
    case placement = 0x0c
    /// u32: features the reader must know; else it must not pair.
    case mustUnderstand = 0x10
    /// u32: features the reader may ignore.
    case mayIgnore = 0x14
    /// u32: number of slots.
    case slotCount = 0x18
    /// u32: changes with the device directory.
    case generation = 0x1c
    /// u64: start of the pool in the writer's section, as an offset into the shared memory.
    case poolOffset = 0x20
    /// u64: length of that pool in bytes.
    case poolSize = 0x28
    /// u64: subtracted from every address in the rings (driver block).
    case translationBase = 0x30
    /// u64: {own epoch, echo}; the start-up handshake.
    case hello = 0x40
    /// u32: ``ExtendedStatus``; a cache line of its own.
    case extendedStatus = 0x80
    /// u32: why ``ExtendedStatus/error`` is set.
    case reason = 0x84
  }

  /// The fields of a slot of the driver block.
  public enum DriverSlot: Int, Sendable {
    /// u64: request word.
    case request = 0x00
    /// u32: ``TransactionOperation`` in bits 7:0, width in bytes in bits 15:8.
    case operation = 0x08
    /// u32: virtio-mmio register offset.
    case offset = 0x0c
    /// u64: value to write.
    case value = 0x10
    /// u32 x 32: one notification counter a queue.
    case counters = 0x40
  }

  /// The fields of a slot of the device block.
  public enum DeviceSlot: Int, Sendable {
    /// u64: acknowledgement word.
    case acknowledgement = 0x00
    /// u32: 0, or why the access was refused (`RegisterRefusal`).
    case result = 0x08
    /// u64: value read.
    case value = 0x10
    /// u32: counts configuration changes and device errors.
    case configurationCounter = 0x18
    /// u32 x 32: one notification counter a queue.
    case counters = 0x40
    /// u32: VIRTIO device type; 0 when the slot is empty.
    case deviceID = 0xc0
    /// u32: number of queues.
    case queueCount = 0xc4
    /// u32: bytes of configuration space.
    case configurationSize = 0xc8
    /// 256 bytes: read-only mirror of the virtio-mmio registers.
    case registers = 0x100
    /// 256 bytes: configuration space, guarded by ConfigGeneration in the mirror.
    case configuration = 0x200
  }

  /// Where slot `index` starts in a device block.
  @inlinable
  public static func deviceSlot(_ index: Int) -> Int { slotsOffset &+ index &* deviceSlotSize }

  /// Where slot `index` starts in a driver block.
  @inlinable
  public static func driverSlot(_ index: Int) -> Int { slotsOffset &+ index &* driverSlotSize }
}

/// Where the blocks and pools lie (docs/protocol.md, "Placement").
public enum Placement: UInt32, Sendable {
  /// Both blocks and one pool in the read/write section.
  case shared = 1
  /// Each side's block and pool in its own output section.
  case output = 2
}

/// The two sides of a link.
public enum LinkSide: UInt32, Sendable {
  /// The driver's side; writes the driver block.
  case frontEnd = 1
  /// The device's side; writes the device block.
  case backEnd = 2

  /// The other side.
  public var peer: LinkSide { self == .frontEnd ? .backEnd : .frontEnd }

  /// The value of the State register of a side that speaks the native protocol, version 1.
  public var stateValue: UInt32 { 0x434d_0000 | BlockLayout.version << 8 | rawValue }
}

/// What a transaction does.
public enum TransactionOperation: UInt8, Sendable {
  /// Reads a register or configuration bytes.
  case read = 1
  /// Writes a register or configuration bytes.
  case write = 2
}
