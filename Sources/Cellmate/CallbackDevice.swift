import CCellmate
import SharedMemory
import VirtioDevice
import Virtqueue

/// A device whose requests the caller serves (`cellmate_device`): one call a request, whatever the
/// number of its descriptors.
@safe
struct CallbackDevice: DeviceModel, ~Copyable {
  let deviceID: UInt32
  let queueCount: Int
  let maximumQueueSize: QueueSize
  let maximumChainLength: Int
  let offeredFeatures: FeatureSet
  let configurationSize: Int
  private let callbacks: cellmate_device
  private let configuration: PrivateTable<UInt8>
  private let segments: PrivateTable<cellmate_segment>
  let requests: PendingRequests

  /// Checks what the caller states. `size` of the arena: ``memorySize(_:)``.
  init(_ device: cellmate_device, arena: inout PrivateArena) throws(FaceError) {
    guard unsafe device.queue_count >= 1, unsafe device.queue_count <= UInt32(DeviceLimits.queues),
      let size = unsafe QueueSize(device.queue_size_max), size.rawValue <= 1024,
      unsafe device.chain_length_max >= 1, unsafe device.chain_length_max <= 1024,
      unsafe device.configuration_size <= UInt32(MMIORegister.configurationLimit),
      unsafe device.device_id != 0, unsafe device.serve != nil,
      unsafe device.configuration != nil || device.configuration_size == 0
    else { throw FaceError(Code.argument) }
    let places = unsafe Int(device.queue_count) * Int(size.rawValue)
    guard
      let bytes = unsafe arena.table(of: Int(device.configuration_size), initial: UInt8(0)),
      let segments = unsafe arena.table(
        of: Int(device.chain_length_max), initial: cellmate_segment()),
      let requests = PendingRequests(places, arena: &arena)
    else { throw FaceError(Code.memory) }
    if let given = unsafe device.configuration {
      for offset in 0..<bytes.count {
        bytes[offset] = unsafe given.load(fromByteOffset: offset, as: UInt8.self)
      }
    }
    deviceID = unsafe device.device_id
    queueCount = unsafe Int(device.queue_count)
    maximumQueueSize = size
    maximumChainLength = unsafe Int(device.chain_length_max)
    offeredFeatures = unsafe FeatureSet(rawValue: device.features)
    configurationSize = bytes.count
    unsafe callbacks = device
    configuration = bytes
    unsafe self.segments = segments
    self.requests = requests
  }

  /// Private memory such a device needs, in bytes.
  static func memorySize(_ device: cellmate_device) -> Int {
    let places = unsafe Int(min(device.queue_count, 32)) * Int(min(device.queue_size_max, 1024))
    return unsafe 64 * 1024 + places * 48 + Int(min(device.chain_length_max, 1024)) * 16
  }

  // MARK: DeviceModel

  func configurationByte(at offset: Int) -> UInt8 { configuration[offset] }

  mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool { false }

  mutating func start(features: FeatureSet) {
    if let start = unsafe callbacks.start { unsafe start(callbacks.context, features.rawValue) }
  }

  func canServe(queue: Int) -> Bool { requests.hasRoom }

  mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    let readable = segments.readableCount
    for position in 0..<readable {
      let range = segments.readable(position)
      let data = unsafe UnsafeMutableRawPointer(mutating: region.unsafeAddress(of: range))
      unsafe self.segments[position] = cellmate_segment(data: data, length: range.count)
    }
    for position in 0..<segments.writableCount {
      let range = segments.writable(position)
      unsafe self.segments[readable + position] = cellmate_segment(
        data: region.unsafeAddress(of: range), length: range.count)
    }
    let limit = segments.writableByteCount
    let ticket = requests.open(queue: index, limit: limit)
    let writable = segments.writableCount
    // SAFETY: the table holds the segments until the next request is served.
    let written: Int64 = unsafe self.segments.withSpan(0..<readable + writable) { span in
      unsafe span.withUnsafeBufferPointer { buffer in
        var request = unsafe cellmate_request()
        unsafe request.ticket = ticket
        unsafe request.queue = UInt32(index)
        unsafe request.readable_count = UInt32(readable)
        unsafe request.writable_count = UInt32(writable)
        unsafe request.readable = buffer.baseAddress
        unsafe request.writable = buffer.baseAddress.map { unsafe $0 + readable }
        return unsafe callbacks.serve(callbacks.context, &request)
      }
    }
    // An answer by both ways is one answer: the one that came first.
    if written == Int64(CELLMATE_PENDING) || !requests.drop(ticket) {
      requests.attach(ticket, chain.detach())
    } else {
      // More than there was room for, or a number below 0, is the caller's mistake: nothing is
      // claimed to be written that the driver did not offer.
      let count = written < 0 ? 0 : min(written, Int64(limit))
      queue.complete(chain, written: UInt32(truncatingIfNeeded: count))
    }
  }

  mutating func nextCompletion() -> DeviceCompletion? { requests.nextCompletion() }

  var inFlightCount: Int { requests.count }

  mutating func stop() {
    if let stop = unsafe callbacks.stop { unsafe stop(callbacks.context) }
  }

  mutating func cancel(queue: Int) {
    if let cancel = unsafe callbacks.cancel {
      unsafe cancel(callbacks.context, UInt32(queue))
    }
  }

  mutating func takeConfigurationChange() -> Bool { false }
}
