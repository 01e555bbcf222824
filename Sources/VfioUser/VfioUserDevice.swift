/// One PCI function as a vfio-user client sees it: requests in, replies out. No sockets here.
///
/// Whatever a request says, the answer is a reply or an error number; memory and descriptors stay
/// within what the description allows.
public final class VfioUserDevice {
  /// What a request is answered with.
  public struct Reply: Equatable, Sendable {
    /// What lies behind the header.
    public var payload: [UInt8] = []
    /// Whether the descriptor of the shared memory goes along.
    public var passesMemory = false
  }

  private let description: FunctionDescription
  private unowned let host: any FunctionHost
  private let outlets: InterruptOutlets
  private var function: PCIFunction
  private let log: (String) -> Void
  /// Whether a version was agreed upon.
  public private(set) var isConnected = false

  /// BAR 2, the shared memory.
  static let memoryRegion: UInt32 = 2

  /// What this server says about itself. Short: a client may read the reply into the buffer of its
  /// own proposal.
  static let capabilities =
    #"{"capabilities":{"max_msg_fds":\#(VfioUserFormat.descriptorLimit),"#
    + #""max_data_xfer_size":\#(VfioUserFormat.dataLimit)}}"#

  /// A function as after power-on, which must not outlive its host.
  public init(
    _ description: FunctionDescription, host: any FunctionHost,
    log: @escaping (String) -> Void = { _ in }
  ) {
    self.description = description
    self.host = host
    self.log = log
    function = PCIFunction(description)
    outlets = InterruptOutlets(vectors: description.vectors)
  }

  // MARK: Interrupts

  /// Delivers an interrupt that passed Interrupt Control: to MSI-X while the guest lets the
  /// function be bus master, to INTx unless it is switched off. Nothing is kept for later, as under
  /// Jailhouse, but what comes while INTx waits for its unmasking.
  public func deliver(_ vector: UInt16) {
    guard description.vectors == 0 else {
      if function.isBusMaster { _ = outlets.raiseMessage(Int(vector)) }
      return
    }
    if vector == 0, !function.isLineDisabled { raiseLine() }
  }

  private func raiseLine() { if outlets.raiseLine() { function.isLineRaised = true } }

  // MARK: Requests

  /// Carries out one request.
  ///
  /// - Parameter descriptors: what came with it; what the device keeps is taken out.
  /// - Throws: the error number of the answer.
  public func handle(
    _ request: VfioUserRequest, _ descriptors: VfioUserDescriptors
  ) throws(VfioUserFault) -> Reply {
    if case .version(let major, let minor) = request { return try agree(major, minor) }
    guard isConnected else { throw .invalid("a request before VERSION") }
    switch request {
    case .version, .mapMemory: return Reply()
    case .unmapMemory(let words): return Reply(payload: words)
    case .deviceInfo: return deviceInfo()
    case .regionInfo(let index): return regionInfo(index)
    case .interruptInfo(let index): return interruptInfo(index)
    case .setInterrupts(let request):
      if try outlets.apply(request, descriptors) {
        function.isLineRaised = false
        if outlets.takePendingLine() { raiseLine() }
      }
      return Reply()
    case .read(let region, let offset, let count):
      return Reply(
        payload: accessWords(region, offset, count) + (try read(region, offset, count)))
    case .write(let region, let offset, let data):
      try write(region, offset, data)
      return Reply(payload: accessWords(region, offset, data.count))
    case .reset:
      reset()
      return Reply()
    }
  }

  private func agree(_ major: UInt16, _ minor: UInt16) throws(VfioUserFault) -> Reply {
    guard !isConnected else { throw .invalid("a second VERSION") }
    guard major == 0 else { throw .notSupported("protocol version \(major), expected 0") }
    guard host.begin() else { throw .busy("peer \(description.peer) is somebody else") }
    isConnected = true
    var writer = VfioUserWriter()
    writer.append32(0)
    writer.append(Self.capabilities.utf8)
    writer.append([0])
    return Reply(payload: writer.bytes)
  }

  private func reset() {
    function.reset()
    outlets.reset()
    host.setOneShot(false)
    host.reset()
  }

  private func deviceInfo() -> Reply {
    var writer = VfioUserWriter()
    writer.append32(16)
    writer.append32(0x3)  // VFIO_DEVICE_FLAGS_RESET, VFIO_DEVICE_FLAGS_PCI
    writer.append32(VfioUserFormat.regionCount)
    writer.append32(VfioUserFormat.interruptKinds)
    return Reply(payload: writer.bytes)
  }

  /// Bytes of a region; 0: the function has none of that number.
  func size(of region: UInt32) -> UInt64 {
    switch region {
    case 0: PCIFunction.registerBarSize
    case 1: description.vectors > 0 ? PCIFunction.vectorBarSize : 0
    case Self.memoryRegion: description.memoryBarSize
    case VfioUserFormat.configurationRegion: UInt64(PCIFunction.size)
    default: 0
    }
  }

  private func regionInfo(_ index: UInt32) -> Reply {
    let flag = VfioUserFormat.RegionFlag.self
    let size = size(of: index)
    let isMemory = index == Self.memoryRegion && size > 0
    var writer = VfioUserWriter()
    writer.append32(32)
    writer.append32(size == 0 ? 0 : flag.read | flag.write | (isMemory ? flag.map : 0))
    writer.append32(index)
    writer.append32(0)  // no capabilities
    writer.append64(size)
    writer.append64(0)
    return Reply(payload: writer.bytes, passesMemory: isMemory)
  }

  private func interruptInfo(_ index: UInt32) -> Reply {
    var writer = VfioUserWriter()
    writer.append32(16)
    writer.append32(outlets.flags(of: index))
    writer.append32(index)
    writer.append32(UInt32(outlets.count(of: index)))
    return Reply(payload: writer.bytes)
  }

  // MARK: Regions

  private func accessWords(_ region: UInt32, _ offset: UInt64, _ count: Int) -> [UInt8] {
    var writer = VfioUserWriter()
    writer.append64(offset)
    writer.append32(region)
    writer.append32(UInt32(count))
    return writer.bytes
  }

  private func check(
    _ region: UInt32, _ offset: UInt64, _ count: Int
  ) throws(VfioUserFault) -> Int {
    let size = size(of: region)
    guard offset < size, UInt64(count) <= size - offset else {
      throw .invalid("\(count) bytes at \(offset) of region \(region), which has \(size)")
    }
    return Int(offset)
  }

  private func read(
    _ region: UInt32, _ offset: UInt64, _ count: Int
  ) throws(VfioUserFault) -> [UInt8] {
    let offset = try check(region, offset, count)
    switch region {
    case 0:
      var writer = VfioUserWriter()
      writer.append32(readRegister(offset))
      return (0..<count).map { $0 < 4 ? writer.bytes[$0] : 0 }
    // The client keeps the table and the pending bits of MSI-X itself.
    case 1: return [UInt8](repeating: 0, count: count)
    case Self.memoryRegion: return host.readMemory(at: offset, count: count)
    default: return function.read(at: offset, count: count)
    }
  }

  private func write(
    _ region: UInt32, _ offset: UInt64, _ data: [UInt8]
  ) throws(VfioUserFault) {
    let offset = try check(region, offset, data.count)
    switch region {
    case 0: writeRegister(offset, VfioUserPayload(data).word32(0))
    case 1: break
    case Self.memoryRegion: host.writeMemory(data, at: offset)
    default:
      let wasOneShot = function.isOneShot
      function.write(data, at: offset)
      if function.isOneShot != wasOneShot { host.setOneShot(function.isOneShot) }
    }
  }

  /// Jailhouse compares the offset alone: any width at a register's offset is that register, and
  /// everything else reads 0.
  private func readRegister(_ offset: Int) -> UInt32 {
    switch offset {
    case 0x00: UInt32(description.peer)
    case 0x04: description.maxPeers
    case 0x08: host.isArmed ? 1 : 0
    case 0x10: host.state
    default: 0
    }
  }

  private func writeRegister(_ offset: Int, _ value: UInt32) {
    switch offset {
    case 0x08: host.isArmed = value & 1 != 0
    case 0x0c:
      let vector = UInt16(truncatingIfNeeded: value)
      if vector < max(1, description.vectors) {
        host.ring(vector, at: UInt16(truncatingIfNeeded: value >> 16))
      }
    case 0x10: host.state = value
    default: break
    }
  }
}
