import IVShmem
import SharedMemory
import Simulator
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A back-end that notes each access of the driver and answers it as a register file would: what a
/// device sees of our front-end.
final class RecordingBackend {
  struct Access: Equatable {
    let isWrite: Bool, offset: Int, width: Int, value: UInt64

    static func read(_ offset: Int, _ value: UInt64) -> Access {
      Access(isWrite: false, offset: offset, width: 4, value: value)
    }
    static func write(_ offset: Int, _ value: UInt64) -> Access {
      Access(isWrite: true, offset: offset, width: 4, value: value)
    }
  }

  var link: NativeLink<ScheduledPeer>
  var transactions = DeviceTransactions()
  var registers: RegisterFile
  /// Every access, with the value that was written or answered.
  var log: [Access] = []
  /// Called before an access is executed.
  var onAccess: ((Access) -> Void)?
  /// Registers that answer something else than they should.
  var lies: [Int: UInt32] = [:]
  private var steps = 0

  init(_ memory: ScheduledLink, _ registers: RegisterFile) throws {
    link = try HandshakeTests.link(.backEnd, memory)
    self.registers = registers
    link.start()
  }

  static func registers(
    offered: UInt64, required: UInt64 = 0x3_0000_0000, deviceID: UInt32 = 2,
    configurationSize: Int = 60
  ) throws -> RegisterFile {
    guard let size = QueueSize(64) else { preconditionFailure("a power of two") }
    return RegisterFile(
      identity: RegisterFile.Identity(
        deviceID: deviceID, vendorID: 1, queueCount: 1, maximumQueueSize: size,
        maximumChainLength: 16, configurationSize: configurationSize),
      offered: FeatureSet(rawValue: offered), required: FeatureSet(rawValue: required))
  }

  private var published: (bytes: [UInt8], generation: UInt32) = ([], 0)

  /// Shows `bytes` as the configuration space, under an even generation.
  func publish(_ bytes: [UInt8], generation: UInt32) {
    published = (bytes, generation)
    let slot = link.plan.ownBlock + 0x100
    for (offset, byte) in bytes.enumerated() { link.region.store8(byte, at: slot + 0x200 + offset) }
    link.region.store32Releasing(generation, at: slot + 0x100 + 0xfc)
  }

  func step() {
    steps += 1
    precondition(steps < 100_000, "the front-end does not come to an end")
    let event = link.look()
    if event == .peerStarted || event == .down { transactions.begin() }
    if link.owesAnswer {
      link.rewriteBlock()
      publish(published.bytes, generation: published.generation)
      link.answer()
    }
    while let transaction = transactions.next(slot: 0, on: &link) { execute(transaction) }
  }

  private func execute(_ transaction: Transaction) {
    let offset = Int(transaction.offset)
    let isWrite = transaction.operation == .write
    let answer = UInt64(lies[offset] ?? registers.read(offset) ?? 0)
    let access = Access(
      isWrite: isWrite, offset: offset, width: Int(transaction.width),
      value: isWrite ? transaction.value : answer)
    log.append(access)
    onAccess?(access)
    var result: UInt32 = 0
    if isWrite {
      switch registers.write(offset, UInt32(truncatingIfNeeded: transaction.value)) {
      case .refuse(let refusal): result = refusal.rawValue
      case .enableQueue(let queue, let configuration):
        // R22: the device initialises the used ring; this one wants every notification.
        link.region.store32(0, at: Int(configuration.usedRing))
        registers.queueEnabled(queue)
      case .stopQueue(let queue): registers.queueStopped(queue)
      case .reset: registers.resetCompleted()
      case .none, .start, .stop, .notify: break
      }
    } else if registers.read(offset) == nil {
      result = RegisterRefusal.noSuchRegister.rawValue
    }
    transactions.acknowledge(
      transaction.word, slot: 0, result: result, value: isWrite ? 0 : answer, on: &link)
  }
}
