import CCellmate
import CLinux
import CommandOptions
import IVShmem
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioDevice
import Virtqueue

/// A device behind a vhost-user socket, for instance of qemu-storage-daemon.
///
/// The socket itself says nothing about the device's type, and nobody announces that its
/// configuration changed: it is read at the start.
struct SocketWay: ~Copyable {
  private let path: String
  private let memory: DriverMemory
  private let wake: Descriptor
  private var connection = Slot<VhostUserFrontend>()
  /// The queues that are in use, one bit each.
  private var queues: UInt32 = 0
  /// Connections in a row that ended before anything was asked of the device.
  private var failures: UInt32 = 0
  /// Kicks on the connections before this one.
  private var kicksBefore: UInt64 = 0
  private var entries = InlineArray<34, cl_poll_entry>(repeating: cl_poll_entry())

  /// How long one answer may take at least and at most, in nanoseconds.
  private static var patience: ClosedRange<UInt64> { 5_000_000_000...30_000_000_000 }

  /// Prepares `memoryBytes` for rings and buffers; nothing is connected yet.
  static func make(
    path: String, memoryBytes: Int, arena: inout PrivateArena
  ) throws(FaceError) -> SocketWay {
    do throws(VhostUserFrontendError) {
      let memory = try DriverMemory.make((memoryBytes + 0xfffff) & ~0xfffff, arena: &arena)
      return SocketWay(path, memory, try makeWakeEvent())
    } catch { throw .explained(Code.memory, "vhost-user \(path): \(error.text)") }
  }

  /// The event that ends a wait.
  private static func makeWakeEvent() throws(VhostUserFrontendError) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor(cl_eventfd())
    } catch { throw .system(error) }
  }

  private init(
    _ path: String, _ memory: consuming DriverMemory, _ wake: consuming Descriptor
  ) {
    self.path = path
    self.memory = memory
    self.wake = wake
  }

  var region: SharedRegion { memory.region }
  var access: AccessMap { memory.access }
  var notificationCount: UInt64 {
    connection.isThere ? kicksBefore + connection.value.kicks : kicksBefore
  }
  var wakeDescriptor: Int32 { wake.number }
  var now: UInt64 { cl_monotonic_ns() }

  private var socketNumber: Int32 {
    connection.isThere ? connection.value.descriptor : -1
  }

  private func callNumber(_ queue: Int) -> Int32 {
    connection.isThere ? connection.value.callDescriptor(queue) : -1
  }

  private func connect(
    until deadline: UInt64
  ) throws(VhostUserFrontendError) -> VhostUserFrontend {
    let rest = deadline - min(deadline, now)
    let patience = min(max(rest, Self.patience.lowerBound), Self.patience.upperBound)
    return try VhostUserFrontend.connect(path: path, patience: patience)
  }

  private func failed(_ error: VhostUserFrontendError) -> WayError {
    // A back-end that dies in the middle.
    if case .message(.closed) = error { return .lost }
    return .failed(.explained(Code.refused, "vhost-user \(path): \(error.text)"))
  }

  mutating func negotiate(
    wanted: FeatureSet, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    queues = 0
    do throws(VhostUserFrontendError) {
      if !connection.isThere { connection = Slot(try connect(until: deadline)) }
      return try connection.value.negotiate(wanted: wanted, memory: memory)
    } catch {
      guard case .connect = error else { throw failed(error) }
      throw .failed(.explained(Code.text, "vhost-user \(path): \(error.text)"))
    }
  }

  mutating func offered(until deadline: UInt64) throws(WayError) -> FeatureSet {
    do throws(VhostUserFrontendError) {
      if !connection.isThere { connection = Slot(try connect(until: deadline)) }
      return try connection.value.offeredFeatures()
    } catch {
      hangUp()
      guard case .connect = error else { throw failed(error) }
      throw .failed(.explained(Code.text, "vhost-user \(path): \(error.text)"))
    }
  }

  mutating func writeConfiguration(_ value: UInt32, at offset: Int) throws(WayError) {
    guard connection.isThere else { throw .lost }
    let isTaken: Bool
    do throws(VhostUserFrontendError) {
      isTaken = try connection.value.writeConfiguration(value, at: offset)
    } catch { throw failed(error) }
    guard isTaken else {
      throw .failed(
        .explained(
          Code.refused, "vhost-user \(path): the back-end lets no configuration be written"))
    }
  }

  /// Ends the connection; the next set-up begins with another one.
  mutating func hangUp() {
    kicksBefore = notificationCount
    connection = Slot()
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(WayError) {
    guard connection.isThere else { throw .lost }
    do throws(VhostUserFrontendError) {
      try connection.value.configuration(into: &bytes)
    } catch { throw failed(error) }
  }

  mutating func enableQueue(_ index: Int, _ ring: QueueConfiguration) throws(WayError) {
    guard connection.isThere else { throw .lost }
    do throws(VhostUserFrontendError) {
      try connection.value.enableQueue(index, ring)
      queues |= 1 << UInt32(index)
    } catch { throw failed(error) }
  }

  mutating func notify(queue: Int) {
    guard connection.isThere else { return }
    failures = 0
    connection.value.kick(queue)
  }

  mutating func look() -> WayNews {
    guard connection.isThere else { return .lost }
    var entry = cl_poll_entry(fd: socketNumber, events: Int16(CL_POLL_IN), revents: 0)
    // Nothing was asked, so that anything to read is the end of the connection.
    guard unsafe cl_poll_ns(&entry, 1, 0) > 0 else { return .nothing }
    hangUp()
    return .lost
  }

  mutating func sleep(until deadline: UInt64) -> WaitOutcome {
    entries[0] = cl_poll_entry(fd: socketNumber, events: Int16(CL_POLL_IN), revents: 0)
    entries[1] = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
    var count = 2
    for queue in 0..<DeviceLimits.queues where queues >> UInt32(queue) & 1 != 0 {
      entries[count] = cl_poll_entry(
        fd: callNumber(queue), events: Int16(CL_POLL_IN), revents: 0)
      count += 1
    }
    let clock = now
    let timeout = deadline == .max ? -1 : Int64(clamping: deadline - min(deadline, clock))
    var span = entries.mutableSpan
    let used = UInt32(count)
    let result = unsafe span.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_poll_ns(base, used, timeout)
    }
    if result < 0 { return .interrupted }
    if result == 0 { return .deadline }
    for index in 1..<count where entries[index].revents != 0 { cl_event_take(entries[index].fd) }
    return .event
  }

  mutating func waitForBackend(until deadline: UInt64) throws(FaceError) {
    // What was counted on it stays, and a back-end has one front-end at a time.
    hangUp()
    // A back-end that takes connections and ends them is not asked all the time.
    if failures > 0 { try pause(2_000_000 << UInt64(min(failures, 6)), until: deadline) }
    failures &+= 1
    while true {
      do throws(VhostUserFrontendError) {
        connection = Slot(try connect(until: deadline))
        return
      } catch {
        guard now < deadline else {
          throw .explained(
            Code.deadline,
            "vhost-user \(path): the back-end did not come back: \(error.text)")
        }
      }
      // Nothing announces a socket that is not there yet: look again, soon.
      try pause(2_000_000, until: .max)
    }
  }

  /// Waits; a wake-up ends it, and the call that waits.
  private func pause(_ nanoseconds: UInt64, until deadline: UInt64) throws(FaceError) {
    var entry = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
    let rest = Int64(clamping: min(nanoseconds, deadline - min(deadline, now)))
    let result = unsafe cl_poll_ns(&entry, 1, rest)
    if result > 0 { cl_event_take(wake.number) }
    if result != 0 { throw FaceError(Code.interrupted) }
  }

  mutating func leave() {
    guard connection.isThere else { return }
    for queue in 0..<DeviceLimits.queues where queues >> UInt32(queue) & 1 != 0 {
      _ = try? connection.value.stopQueue(queue)
    }
  }
}
