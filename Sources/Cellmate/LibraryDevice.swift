import LinuxRuntime
import SharedMemory
import VirtioDevice
import Virtqueue

/// A device of a back-end of the library: a built-in one, or the caller's.
struct LibraryDevice: DeviceModel, ~Copyable {
  private let isBuiltIn: Bool
  private var builtIn: PrivateStore<ServedDevice>
  private var callback: PrivateStore<CallbackDevice>

  private init(isBuiltIn: Bool, arena: inout PrivateArena) throws(FaceError) {
    guard let builtIn = PrivateStore<ServedDevice>(count: 1, in: &arena),
      let callback = PrivateStore<CallbackDevice>(count: 1, in: &arena)
    else { throw FaceError(Code.memory) }
    self.isBuiltIn = isBuiltIn
    self.builtIn = builtIn
    self.callback = callback
  }

  static func make(
    _ device: consuming ServedDevice, arena: inout PrivateArena
  ) throws(FaceError) -> LibraryDevice {
    var made = try LibraryDevice(isBuiltIn: true, arena: &arena)
    made.builtIn.put(device, at: 0)
    return made
  }

  static func make(
    _ device: consuming CallbackDevice, arena: inout PrivateArena
  ) throws(FaceError) -> LibraryDevice {
    var made = try LibraryDevice(isBuiltIn: false, arena: &arena)
    made.callback.put(device, at: 0)
    return made
  }

  /// The name of the kind; the caller's have none of their own.
  var kindName: String { isBuiltIn ? builtIn[0].kindName : "device" }

  /// Gives what the device itself has counted, always in the same order.
  func giveCounters(_ walk: inout CounterWalk) {
    if isBuiltIn { builtIn[0].giveCounters(&walk) }
  }

  // MARK: DeviceModel

  var deviceID: UInt32 { isBuiltIn ? builtIn[0].deviceID : callback[0].deviceID }
  var queueCount: Int { isBuiltIn ? builtIn[0].queueCount : callback[0].queueCount }
  @inline(never)
  var maximumQueueSize: QueueSize {
    isBuiltIn ? builtIn[0].maximumQueueSize : callback[0].maximumQueueSize
  }
  @inline(never)
  var maximumChainLength: Int {
    isBuiltIn ? builtIn[0].maximumChainLength : callback[0].maximumChainLength
  }
  @inline(never)
  var offeredFeatures: FeatureSet {
    isBuiltIn ? builtIn[0].offeredFeatures : callback[0].offeredFeatures
  }
  @inline(never)
  var configurationSize: Int {
    isBuiltIn ? builtIn[0].configurationSize : callback[0].configurationSize
  }

  @inline(never)
  func configurationByte(at offset: Int) -> UInt8 {
    isBuiltIn
      ? builtIn[0].configurationByte(at: offset) : callback[0].configurationByte(at: offset)
  }

  @inline(never)
  mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    isBuiltIn
      ? builtIn[0].writeConfiguration(at: offset, width: width, value: value)
      : callback[0].writeConfiguration(at: offset, width: width, value: value)
  }

  @inline(never)
  mutating func start(features: FeatureSet) {
    if isBuiltIn {
      builtIn[0].start(features: features)
    } else {
      callback[0].start(features: features)
    }
  }

  @inline(never)
  mutating func resume(features: FeatureSet) {
    if isBuiltIn {
      builtIn[0].resume(features: features)
    } else {
      callback[0].start(features: features)
    }
  }

  @inline(never)
  func canServe(queue: Int) -> Bool {
    isBuiltIn ? builtIn[0].canServe(queue: queue) : callback[0].canServe(queue: queue)
  }

  @inline(never)
  mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    if isBuiltIn {
      builtIn[0].serve(chain, segments, index: index, on: &queue, in: region)
    } else {
      callback[0].serve(chain, segments, index: index, on: &queue, in: region)
    }
  }

  @inline(never)
  mutating func nextCompletion() -> DeviceCompletion? {
    isBuiltIn ? builtIn[0].nextCompletion() : callback[0].nextCompletion()
  }

  @inline(never)
  var inFlightCount: Int {
    isBuiltIn ? builtIn[0].inFlightCount : callback[0].inFlightCount
  }

  @inline(never)
  mutating func stop() {
    if isBuiltIn { builtIn[0].stop() } else { callback[0].stop() }
  }

  @inline(never)
  mutating func cancel(queue: Int) {
    if isBuiltIn { builtIn[0].cancel(queue: queue) } else { callback[0].cancel(queue: queue) }
  }

  @inline(never)
  mutating func adapt(toPool byteCount: Int) {
    if isBuiltIn { builtIn[0].adapt(toPool: byteCount) }
  }

  @inline(never)
  mutating func takeConfigurationChange() -> Bool {
    isBuiltIn
      ? builtIn[0].takeConfigurationChange() : callback[0].takeConfigurationChange()
  }
}
