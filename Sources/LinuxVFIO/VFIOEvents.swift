import CDevice
import CLinux
import LinuxPCI
import LinuxSupport

/// The events of a function's interrupts, and of the kernel's wish to have the function back.
struct VFIOEvents: ~Copyable {
  enum Found {
    case nothing
    case interrupted
    /// The function or its driver is being removed.
    case removal
    /// Bit by bit.
    case vectors(UInt32)
  }

  /// Vectors that have an event.
  let count: Int
  /// Whether the only vector is a line, which each delivery masks.
  private let isLine: Bool
  private let device: Int32
  /// One for each vector, then one for the removal.
  private var numbers: InlineArray<33, Int32>

  /// Gives the device an event for each of its vectors: MSI-X, else MSI, else the line.
  ///
  /// - Parameter device: stays open as long as this value.
  init(_ device: Int32) throws(DeviceError) {
    var kind: UInt32 = 0
    var count = 0
    for found in [CD_IRQ_MSIX, CD_IRQ_MSI, CD_IRQ_LINE] where count == 0 {
      kind = UInt32(found)
      count = max(0, cd_irq_count(device, kind))
    }
    guard count > 0 else { throw .noInterrupt }
    count = min(count, CD_MAX_VECTORS)
    let hasRemoval = cd_irq_count(device, UInt32(CD_IRQ_REQUEST)) > 0
    var made = Made()
    for _ in 0..<(count + (hasRemoval ? 1 : 0)) {
      do throws(SystemError) {
        made.numbers[made.count] = Int32(
          truncatingIfNeeded: try SystemError.check(cl_eventfd()))
        made.count += 1
      } catch {
        made.close()
        throw .refused("an event", error)
      }
    }
    let removal = hasRemoval ? made.numbers[count] : -1
    made.numbers[count] = -1
    let result = Self.set(device, kind, made, count: UInt32(count))
    if result >= 0, removal >= 0 {
      var one = Made()
      one.numbers[0] = removal
      // A kernel that does not tell of a removal still waits for the device to be closed.
      _ = Self.set(device, UInt32(CD_IRQ_REQUEST), one, count: 1)
    }
    made.numbers[32] = removal
    guard result >= 0 else {
      made.count = 33
      made.close()
      throw .refused(
        "\(count) interrupt vectors", SystemError(Int32(truncatingIfNeeded: -result)))
    }
    self.count = count
    isLine = kind == UInt32(CD_IRQ_LINE)
    self.device = device
    numbers = made.numbers
  }

  private struct Made {
    var numbers = InlineArray<33, Int32>(repeating: -1)
    var count = 0

    mutating func close() {
      for index in 0..<count where numbers[index] >= 0 { cl_close(numbers[index]) }
    }
  }

  private static func set(_ device: Int32, _ kind: UInt32, _ made: Made, count: UInt32) -> Int {
    var numbers = made.numbers
    // SAFETY: at most 32 of 33 numbers are read.
    return unsafe withUnsafeMutablePointer(to: &numbers) { pointer in
      unsafe cd_irq_set(
        device, kind, UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: Int32.self), count)
    }
  }

  deinit {
    for index in numbers.indices where numbers[index] >= 0 { cl_close(numbers[index]) }
  }

  /// The event of vector 0.
  var first: Int32 { numbers[0] }

  /// Waits for any event and takes it; `timeout` in nanoseconds, negative for ever.
  func wait(_ timeout: Int64) -> Found {
    var entries: InlineArray<33, cl_poll_entry> = InlineArray(
      repeating: cl_poll_entry(fd: -1, events: Int16(CL_POLL_IN), revents: 0))
    for vector in 0..<count { entries[vector].fd = numbers[vector] }
    entries[count].fd = numbers[32]
    let ready = unsafe withUnsafeMutablePointer(to: &entries) { pointer in
      unsafe cl_poll_ns(
        UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: cl_poll_entry.self),
        UInt32(count + 1), timeout)
    }
    if ready == 0 { return .nothing }
    if ready == -Int(SystemError.interrupted) { return .interrupted }
    guard ready > 0, entries[count].revents == 0 else { return .removal }
    var raised: UInt32 = 0
    for vector in 0..<count where entries[vector].revents != 0 {
      cl_event_take(numbers[vector])
      raised |= 1 << UInt32(vector)
    }
    // Nothing masks a line that was not delivered; unmasking it is of no harm.
    if isLine { _ = cd_irq_unmask(device) }
    return .vectors(raised)
  }

  func add(to epoll: Int32, tag: UInt64) throws(SystemError) {
    for index in numbers.indices where numbers[index] >= 0 {
      _ = try SystemError.check(cl_epoll_add(epoll, numbers[index], tag, 0))
    }
  }

  func remove(from epoll: Int32) {
    for index in numbers.indices where numbers[index] >= 0 {
      cl_epoll_remove(epoll, numbers[index])
    }
  }
}
