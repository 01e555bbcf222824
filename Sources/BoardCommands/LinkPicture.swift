import CommandOptions
import LinkFormat
import LinkNames
import ToolSupport

/// What a link's memory says at one moment, decoded from copies; nothing of it is believed.
struct LinkPicture {
  /// One side's block of the native protocol.
  struct Side {
    let name: String
    let peer: PeerID
    let state: UInt32
    /// Whether the block has the marks of the protocol.
    let isBlock: Bool
    let version: UInt32
    let epoch: UInt32
    let echo: UInt32
    let status: UInt32
    let reason: UInt32
    let pool: Range<UInt64>
    let translationBase: UInt64
  }

  /// One device of a native link.
  struct Device {
    let slot: Int
    let type: UInt32
    let queueCount: UInt32
    let status: UInt32
    let generation: UInt32
    let request: UInt64
    let acknowledgement: UInt64
    /// The open transaction: operation and width, register, value.
    let operation: UInt32
    let offset: UInt32
    let value: UInt64
    let result: UInt32
    /// Notification counters of the queues: driver to device, device to driver.
    let toDevice: [UInt32]
    let toDriver: [UInt32]
    let configuration: [UInt8]
    /// The mirrored registers, 256 bytes.
    let registers: Words
  }

  enum Dialect {
    case native
    case siemens
  }

  let dialect: Dialect
  let placement: Placement?
  var sides: [Side] = []
  var devices: [Device] = []
  /// The header of the Siemens dialect.
  var siemens: Words?
  /// Where the read/write section starts.
  let readWrite: Int

  /// Looks once.
  init(
    _ view: borrowing LinkView, _ link: LinkSpecification
  ) throws(ClientError) {
    let states = try view.states(limit: 65536)
    let backEnd = Self.peer(.backEnd, states, link.peer, other: 0)
    let frontEnd = Self.peer(.frontEnd, states, link.other, other: backEnd.rawValue == 1 ? 0 : 1)
    readWrite = view.geometry.readWrite.lowerBound
    let speaksSiemens = [backEnd, frontEnd].contains { peer in
      Int(peer.rawValue) < states.count && states[Int(peer.rawValue)] == SiemensHeader.ready
    }
    if link.dialect == .siemens || (link.dialect != .native && speaksSiemens) {
      dialect = .siemens
      placement = nil
      if view.geometry.readWriteSize >= 4096 {
        siemens = Words(try view.bytes(readWrite, 4096))
      }
      for (side, peer) in [("backEnd", backEnd), ("frontEnd", frontEnd)]
      where Int(peer.rawValue) < states.count {
        sides.append(
          Side(
            name: side, peer: peer, state: states[Int(peer.rawValue)], isBlock: false, version: 0,
            epoch: 0, echo: 0, status: 0, reason: 0, pool: 0..<0, translationBase: 0))
      }
      return
    }
    dialect = .native
    let plan: LinkPlan
    do throws(LinkPlanError) {
      plan = try LinkPlan(
        side: .backEnd, own: backEnd, peer: frontEnd, geometry: view.geometry,
        placement: link.placement)
    } catch { throw .failed(explain(error, link: link.text).message) }
    placement = plan.placement
    let device = Words(try view.bytes(plan.deviceBlock, BlockLayout.deviceBlockSize))
    let driver = Words(try view.bytes(plan.driverBlock, BlockLayout.driverBlockSize))
    sides = [
      Self.side("backEnd", backEnd, states[Int(backEnd.rawValue)], device),
      Self.side("frontEnd", frontEnd, states[Int(frontEnd.rawValue)], driver),
    ]
    // Sections hold anything before a back-end writes its block.
    if sides[0].isBlock {
      devices = (0..<BlockLayout.slotCount).compactMap { Self.device($0, device, driver) }
    }
  }

  /// Who plays a role: as the command line says, as a state says, or the usual one.
  private static func peer(
    _ side: LinkSide, _ states: [UInt32], _ given: PeerID?, other: UInt16
  ) -> PeerID {
    if let given { return given }
    let found = states.firstIndex(of: side.stateValue)
    return PeerID(found.map { UInt16(truncatingIfNeeded: $0) } ?? other)
  }

  private static func side(
    _ name: String, _ peer: PeerID, _ state: UInt32, _ block: Words
  ) -> Side {
    func field(_ field: BlockLayout.Header) -> Int { field.rawValue }
    let hello = Hello(rawValue: block.word64(field(.hello)))
    let start = block.word64(field(.poolOffset))
    let (end, isOver) = start.addingReportingOverflow(block.word64(field(.poolSize)))
    return Side(
      name: name, peer: peer, state: state,
      isBlock: block.word32(field(.magic)) == BlockLayout.magic,
      version: block.word32(field(.version)), epoch: hello.own?.rawValue ?? 0,
      echo: hello.echo?.rawValue ?? 0, status: block.word32(field(.extendedStatus)),
      reason: block.word32(field(.reason)), pool: start..<(isOver ? .max : end),
      translationBase: block.word64(field(.translationBase)))
  }

  private static func device(_ slot: Int, _ device: Words, _ driver: Words) -> Device? {
    let base = BlockLayout.deviceSlot(slot)
    func own(_ field: BlockLayout.DeviceSlot) -> Int { base + field.rawValue }
    let type = device.word32(own(.deviceID))
    guard type != 0 else { return nil }
    let other = BlockLayout.driverSlot(slot)
    func its(_ field: BlockLayout.DriverSlot) -> Int { other + field.rawValue }
    let count = device.word32(own(.queueCount))
    let queues = Int(min(count, 32))
    let size = Int(min(device.word32(own(.configurationSize)), 256))
    let registers = Words(Array(device.bytes[own(.registers)..<own(.registers) + 256]))
    return Device(
      slot: slot, type: type, queueCount: count,
      status: registers.word32(MMIOOffset.status),
      generation: registers.word32(MMIOOffset.configurationGeneration),
      request: driver.word64(its(.request)), acknowledgement: device.word64(own(.acknowledgement)),
      operation: driver.word32(its(.operation)), offset: driver.word32(its(.offset)),
      value: driver.word64(its(.value)), result: device.word32(own(.result)),
      toDevice: (0..<queues).map { driver.word32(its(.counters) + 4 * $0) },
      toDriver: (0..<queues).map { device.word32(own(.counters) + 4 * $0) },
      configuration: Array(device.bytes[own(.configuration)..<own(.configuration) + size]),
      registers: registers)
  }
}

/// Registers that the mirror of a device shows (VIRTIO 1.4, 4.2.2).
enum MMIOOffset {
  static var status: Int { 0x70 }
  static var configurationGeneration: Int { 0xfc }
}

/// The bits of a word that have names, joined by `+`; the rest in hexadecimal.
func bitNames(_ value: UInt32, _ names: [(bit: UInt32, name: String)]) -> String {
  var rest = value
  var found: [String] = []
  for (bit, name) in names where value & bit != 0 {
    found.append(name)
    rest &= ~bit
  }
  if rest != 0 { found.append(hexadecimal(rest)) }
  return found.isEmpty ? "0" : found.joined(separator: "+")
}

/// A device status (VIRTIO 1.4, 2.1) in words.
func statusText(_ status: UInt32) -> String {
  if status == 0 { return "reset" }
  return bitNames(
    status,
    [
      (1, "acknowledge"), (2, "driver"), (8, "featuresOK"), (4, "driverOK"), (64, "needsReset"),
      (128, "failed"),
    ])
}

/// An extended status of the native protocol (docs/protocol.md) in words.
func extendedStatusText(_ status: UInt32) -> String { bitNames(status, extendedStatusNames) }

/// The bits of an extended status.
var extendedStatusNames: [(bit: UInt32, name: String)] {
  [
    (1, "present"), (2, "blocked"), (4, "busy"), (8, "quiescing"), (16, "error"),
    (32, "goingAway"),
  ]
}
