import CCellmate
import CLinux
import DeviceRuntime
import IVShmem
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A front-end behind a handle, with the queues the caller has opened.
@safe
struct FrontendObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .frontend }
  /// Queues at once, over all devices.
  static var queueLimit: Int { 16 }
  /// Buffers are multiples of this, in bytes.
  static var blockSize: Int { 512 }

  /// Which queue of which device.
  struct Place: BitwiseCopyable {
    var slot = 0
    var index = 0
  }

  let memory: ObjectMemory
  var frontend: Frontend<LibraryPlatform>
  var pools: SharedPools
  private var books: PrivateArena
  var queues: PrivateStore<DriverQueue>
  var places: InlineArray<16, Place>
  var agreed = InlineArray<8, FeatureSet>(repeating: FeatureSet())
  let access: AccessMap
  let wakeDescriptor: Int32
  /// Whether the link was up and what was set up over it is valid.
  var isValid = false

  static func make(_ link: consuming NativeLink<LibraryPlatform>) throws(FaceError) -> OpaquePointer
  {
    let plan = link.plan
    let poolBytes = SharedPools.privateBytes(plan, blockSize: blockSize)
    let bookBytes = 16 * (DriverQueue.privateBytes(size: largestQueue) + 4096)
    let stride = MemoryLayout<FrontendObject>.stride
    let memory = try ObjectMemory(stride + poolBytes + bookBytes + (64 << 10))
    var arena = memory.arena(behind: stride)
    let wake = link.platform.wakeDescriptor
    let region = link.region
    guard let books = arena.split(bookBytes),
      let queues = PrivateStore<DriverQueue>(count: queueLimit, in: &arena),
      let pools = SharedPools.make(plan, blockSize: blockSize, arena: &arena),
      let access = AccessMap(region: region, readable: plan.whole, writable: plan.driverPool)
    else {
      memory.free()
      throw FaceError(Code.memory)
    }
    var frontend = Frontend(link: link)
    frontend.start()
    return unsafe try open(
      FrontendObject(
        memory: memory, frontend: frontend, pools: pools, books: books, queues: queues,
        places: InlineArray(repeating: Place()), access: access, wakeDescriptor: wake))
  }

  static var largestQueue: QueueSize {
    guard let size = QueueSize(1024) else { preconditionFailure("1024 is a queue size") }
    return size
  }

  // MARK: Link

  /// Looks at the link; what was set up over a lost one is void.
  mutating func look() {
    switch frontend.step() {
    case .none, .up: break
    case .peerStarted, .down: forget()
    }
  }

  /// Drops queues and buffers.
  mutating func forget() {
    isValid = false
    for number in 0..<queues.count where queues.isOccupied(number) { _ = queues.remove(at: number) }
    books.reuse()
    pools.freeAll()
  }

  mutating func waitForLink(_ deadline: UInt64) throws(FaceError) {
    look()
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
    } catch { throw FaceError(error) }
    if !isValid { forget() }
    isValid = true
  }

  func requireLink() throws(FaceError) {
    guard isValid, frontend.link.isUp else { throw FaceError(Code.link) }
  }

  // MARK: Queues

  mutating func openQueue(
    slot: Int, index: Int, size wanted: UInt32, chainLimit: UInt32
  ) throws(FaceError) -> Int {
    guard let size = QueueSize(wanted), wanted <= 1024, index < DeviceLimits.queues,
      chainLimit > 0
    else { throw FaceError(Code.argument) }
    try requireLink()
    guard let number = (0..<queues.count).first(where: { !queues.isOccupied($0) }) else {
      throw FaceError(Code.full)
    }
    do throws(FrontendError) {
      let limit = try frontend.maximumQueueSize(slot: slot, queue: index)
      guard limit >= wanted else { throw .refused(limit, register: 0x34) }
    } catch { throw FaceError(error) }
    let layout = QueueLayout(size)
    guard let table = pools.allocate(layout.descriptorTable, forWriting: false),
      let available = pools.allocate(layout.availableRing, forWriting: false),
      let used = pools.allocate(layout.usedRing, forWriting: true)
    else { throw FaceError(Code.memory) }
    var features = QueueFeatures()
    if agreed[slot].contains(.eventIndex) { features.insert(.eventIndex) }
    let ring = QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: table.offset),
      availableRing: access.address(ofOffset: available.offset),
      usedRing: access.address(ofOffset: used.offset), features: features,
      maximumChainLength: Int(min(chainLimit, wanted)))
    let made: DriverQueue
    do throws(QueueError) {
      made = try DriverQueue(ring, in: frontend.link.region, access: access, arena: &books)
    } catch { throw FaceError(Code.memory) }
    do throws(FrontendError) {
      try frontend.enableQueue(slot: slot, queue: index, ring)
    } catch { throw FaceError(error) }
    queues.put(made, at: number)
    places[number] = Place(slot: slot, index: index)
    return number
  }

  /// A queue the caller names.
  func checked(_ queue: UInt32) throws(FaceError) -> Int {
    guard queue < UInt32(queues.count) else { throw FaceError(Code.argument) }
    guard queues.isOccupied(Int(queue)) else {
      throw FaceError(isValid ? Code.argument : Code.link)
    }
    return Int(queue)
  }

  // MARK: Sleep

  mutating func sleep(_ deadline: UInt64) -> WaitOutcome {
    for number in 0..<queues.count where queues.isOccupied(number) {
      queues[number].armNotifications()
    }
    frontend.link.prepareToSleep()
    let wasUp = frontend.link.isUp
    look()
    if wasUp != frontend.link.isUp || hasCompletions {
      frontend.link.stayAwake()
      suppress()
      return .event
    }
    let outcome = frontend.link.sleep(until: instant(deadline))
    suppress()
    return outcome
  }

  private var hasCompletions: Bool {
    for number in 0..<queues.count where queues.isOccupied(number) {
      if queues[number].hasPending() { return true }
    }
    return false
  }

  private mutating func suppress() {
    for number in 0..<queues.count where queues.isOccupied(number) {
      queues[number].suppressNotifications()
    }
  }
}
