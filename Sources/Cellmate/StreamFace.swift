public import CCellmate
import SharedMemory
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioTransport
import Virtqueue

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_entropy_create(
  _ link: OpaquePointer?, _ slot: UInt32, _ depth: UInt32, _ length: UInt32,
  _ driver: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let driver = unsafe driver, slot < UInt32(BlockLayout.slotCount), depth >= 1,
    depth <= UInt32(DriverUnit.entropyDepth), length >= 1, length <= 65536
  else { return Code.argument }
  let wish = DriverWish.entropy(depth: Int(depth), length: Int(length))
  return unsafe DriverObject.create(link, slot, wish, driver, error)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_entropy_read(
  _ driver: OpaquePointer?, _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    guard object.unit.entropy.isThere else { throw FaceError(Code.handle) }
    var room = unsafe try writableBytes(bytes, length)
    let got: Int
    do throws(QueueError) {
      got = try object.unit.entropy.value.read(into: &room)
    } catch { throw DriverObject.broken(error) }
    object.unit.entropy.value.ask()
    object.publish()
    if got == 0 { try require(object.lookCheaply(), Code.link) }
    return cellmate_result(got)
  }
}

/// The caller's memory to be filled; what no result can count is left alone.
@_lifetime(immortal)
func writableBytes(
  _ bytes: UnsafeMutableRawPointer?, _ length: Int
) throws(FaceError) -> MutableSpan<UInt8> {
  guard let bytes = unsafe bytes, length >= 0 else { throw FaceError(Code.argument) }
  let count = min(length, Int(Int32.max))
  // SAFETY: cellmate.h has the caller say that the memory is there, for the time of the call.
  let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
  let span = unsafe MutableSpan(_unsafeStart: typed, count: count)
  return unsafe _overrideLifetime(span, copying: ())
}

/// The caller's memory to be read.
@_lifetime(immortal)
func readableBytes(
  _ bytes: UnsafeRawPointer?, _ length: Int
) throws(FaceError) -> Span<UInt8> {
  guard let bytes = unsafe bytes, length >= 0 else { throw FaceError(Code.argument) }
  let count = min(length, Int(Int32.max))
  // SAFETY: cellmate.h has the caller say that the memory is there, for the time of the call.
  let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
  let span = unsafe Span(_unsafeStart: typed, count: count)
  return unsafe _overrideLifetime(span, copying: ())
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_console_create(
  _ link: OpaquePointer?, _ slot: UInt32, _ port: Int32,
  _ driver: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let driver = unsafe driver, slot < UInt32(BlockLayout.slotCount), port >= -1,
    port < Int32(ConsoleFormat.portLimit)
  else { return Code.argument }
  let wish = DriverWish.console(port: port < 0 ? nil : Int(port))
  return unsafe DriverObject.create(link, slot, wish, driver, error)
}

extension DriverObject {
  /// Fails unless this is the driver of a console.
  fileprivate func requireConsole() throws(FaceError) {
    guard unit.console.isThere else { throw FaceError(Code.handle) }
  }

  /// The console's port in use.
  fileprivate mutating func usedPort() throws(FaceError) -> Int {
    try requireConsole()
    guard let used = unit.console.value.port else { throw FaceError(Code.order) }
    return used
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_console_port(
  _ driver: OpaquePointer?, _ port: UInt32,
  _ facts: UnsafeMutablePointer<cellmate_console_facts>?
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireConsole()
    let size = MemoryLayout<cellmate_console_facts>.size
    let result = unsafe ch_can_output(facts, size)
    try require(result == Code.ok, result)
    // Another size is kept for each port that the driver has books of.
    let known = object.unit.console.value.driver.layout.ports
    guard let facts = unsafe facts, port < UInt32(known) else { throw FaceError(Code.argument) }
    let index = Int(port)
    var values = cellmate_console_facts()
    values.port_count = UInt32(object.unit.console.value.portCount)
    values.is_multiport = object.unit.console.value.isMultiport ? 1 : 0
    values.is_present = object.unit.console.value.driver.isAdded(port: index) ? 1 : 0
    values.is_console = object.unit.console.value.driver.isConsole(port: index) ? 1 : 0
    values.is_open = object.unit.console.value.driver.isHostOpen(port: index) ? 1 : 0
    let seen = object.unit.console.value.size(
      port: index, object.features, object.configuration)
    values.columns = seen.columns
    values.rows = seen.rows
    let count = min(object.unit.console.value.driver.nameCount(port: index), 64)
    unsafe withUnsafeMutableBytes(of: &values.name) { name in
      for place in 0..<count {
        unsafe name[place] = object.unit.console.value.driver.nameByte(port: index, at: place)
      }
    }
    unsafe ch_output(facts, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_console_read(
  _ driver: OpaquePointer?, _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    let port = try object.usedPort()
    var room = unsafe try writableBytes(bytes, length)
    do throws(QueueError) {
      let got = try object.unit.console.value.driver.read(port: port, into: &room)
      object.publish()
      return cellmate_result(got)
    } catch { throw DriverObject.broken(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_console_write(
  _ driver: OpaquePointer?, _ bytes: UnsafeRawPointer?, _ length: Int
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    let port = try object.usedPort()
    let given = unsafe try readableBytes(bytes, length)
    do throws(QueueError) {
      let put = try object.unit.console.value.driver.write(port: port, given)
      object.publish()
      return cellmate_result(put)
    } catch { throw DriverObject.broken(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_console_emergency(
  _ driver: OpaquePointer?, _ bytes: UnsafeRawPointer?, _ length: Int, _ deadline: UInt64
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireConsole()
    let given = unsafe try readableBytes(bytes, length)
    return cellmate_result(try object.writeEmergency(given, until: deadline))
  }
}
