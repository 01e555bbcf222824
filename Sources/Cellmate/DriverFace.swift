public import CCellmate
import CLinux
import CommandOptions
import IVShmem
import LinuxRuntime
import SharedMemory
import SiemensDialect
import VirtioBlock
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioNet
import VirtioTransport
import Virtqueue

/// Which driver is to be made.
enum DriverWish {
  case block(depth: Int)
  case entropy(depth: Int, length: Int)
  case console(port: Int?)
  case network(pairs: Int, without: FeatureSet)

  /// Bytes of private memory for a driver's books.
  static var bookBytes: Int { 1 << 20 }

  /// Whether it is that of a disk; some messages say it in other words.
  var isBlock: Bool {
    if case .block = self { return true }
    return false
  }

  /// Bytes of shared memory it needs, where it makes that memory itself.
  var memoryBytes: Int {
    let bytes =
      switch self {
      case .block(let depth): BlockUnit.memoryBytes(depth: depth)
      case .entropy(let depth, let length): depth * length
      case .console(let port): ConsoleUnit.memoryBytes(port: port)
      case .network(let pairs, _): NetworkUnit.memoryBytes(pairs: pairs)
      }
    return bytes + (1 << 20)
  }

  /// The driver, with what it needs of the shared memory; `nil` when that is too small.
  func make(_ way: inout DeviceWay, _ arena: inout PrivateArena) -> DriverUnit? {
    switch self {
    case .block(let depth):
      guard let unit = BlockUnit(depth: depth, &way, arena: &arena) else { return nil }
      return DriverUnit(unit)
    case .entropy(let depth, let length):
      guard let memory = way.pools.allocate(depth * length, forWriting: true),
        let unit = EntropyDriver(depth: depth, memory: memory, region: way.region, arena: &arena)
      else { return nil }
      return DriverUnit(unit)
    case .console(let port):
      guard let unit = ConsoleUnit(port: port, &way, arena: &arena) else { return nil }
      return DriverUnit(unit)
    case .network(let pairs, let without):
      guard let unit = NetworkUnit(pairs: pairs, without: without, &way, arena: &arena) else {
        return nil
      }
      return DriverUnit(unit)
    }
  }

  /// What to say when the shared memory is too small.
  func noRoom(_ link: String, isSiemens: Bool) -> FaceError {
    guard case .block(let depth) = self else { return .noRoom }
    guard isSiemens else {
      return .explained(
        Code.memory, "setting up the front-end: the link's sections are too small for this depth")
    }
    return .explained(
      Code.text, "link \(link): its read/write section cannot hold rings for --depth \(depth)")
  }
}

extension DriverObject {
  /// Makes a driver of a link.
  static func create(
    _ link: OpaquePointer?, _ slot: UInt32, _ wish: DriverWish,
    _ driver: UnsafeMutablePointer<OpaquePointer?>, _ error: UnsafeMutablePointer<cellmate_error>?
  ) -> cellmate_result {
    var native: LinkPlan?
    var siemens: SiemensPlan?
    let seen = unsafe LinkObject.with(link) { object throws(FaceError) in
      try require(object.side == .frontEnd, Code.order)
      do throws(UsageError) {
        if case .vhostUser = object.wish { return Code.ok }
        switch try object.chooseDialect() {
        case .native: native = try object.nativePlan()
        case .siemens:
          guard slot == 0 else {
            throw UsageError("--slot \(slot): the Siemens dialect carries one device a link, 0")
          }
          siemens = try object.siemensPlan()
        }
      } catch let usage { throw FaceError(unsafe report(usage, error)) }
      return Code.ok
    }
    guard seen == Code.ok else { return seen }
    return unsafe LinkObject.close(link) { object throws(FaceError) in
      do throws(FaceError) {
        unsafe driver.pointee = try make(object, slot, wish, native, siemens)
      } catch let problem {
        unsafe report(problem, error)
        throw problem
      }
    }
  }

  private static func make(
    _ link: consuming LinkObject, _ slot: UInt32, _ wish: DriverWish, _ native: LinkPlan?,
    _ siemens: SiemensPlan?
  ) throws(FaceError) -> OpaquePointer {
    let name = link.name
    let window = native?.driverPool ?? siemens?.pool ?? 0..<wish.memoryBytes + (1 << 20)
    let stride = MemoryLayout<DriverObject>.stride
    let memory = try ObjectMemory(
      stride + DeviceWay.privateBytes(window, native?.devicePool ?? 0..<0)
        + DriverWish.bookBytes)
    var arena = memory.arena(behind: stride)
    do throws(FaceError) {
      var way = try way(link, slot, wish, native, siemens, &arena)
      guard let unit = wish.make(&way, &arena) else {
        way.leave()
        throw wish.noRoom(name, isSiemens: siemens != nil)
      }
      return unsafe try open(DriverObject(memory, way, unit))
    } catch {
      memory.free()
      throw error
    }
  }

  private static func way(
    _ link: consuming LinkObject, _ slot: UInt32, _ wish: DriverWish, _ native: LinkPlan?,
    _ siemens: SiemensPlan?, _ arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    if let native {
      let joined = NativeLink(platform: link.takePlatform(), plan: native)
      return try DeviceWay.over(
        LinkWay(joined, slot: Int(slot)), native, arena: &arena)
    }
    let name = link.name
    if let siemens {
      return try DeviceWay.over(
        SiemensWay(link.takePlatform(), siemens, name: name, isBlock: wish.isBlock), arena: &arena)
    }
    let socket = try SocketWay.make(
      path: name, memoryBytes: wish.memoryBytes, arena: &arena)
    return try DeviceWay.over(socket, arena: &arena)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_connect(
  _ driver: OpaquePointer?, _ deadline: UInt64
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.connect(until: deadline)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_error(
  _ driver: OpaquePointer?, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  unsafe DriverObject.with(driver) { object throws(FaceError) in
    let result = unsafe ch_can_output(error, MemoryLayout<cellmate_error>.size)
    try require(result == Code.ok, result)
    unsafe report(object.lastError, error)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_step(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    var hasMoved = false
    if object.unit.console.isThere {
      do throws(QueueError) {
        hasMoved = try object.unit.console.value.driver.step()
      } catch { throw DriverObject.broken(error) }
    }
    object.publish()
    try require(hasMoved || object.look(), Code.link)
    return hasMoved ? 2 : 1
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_sleep(
  _ driver: OpaquePointer?, _ deadline: UInt64, _ spin: UInt64
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    code(object.sleep(until: deadline, spin: spin))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_wake(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.peek(driver) { object in
    _ = unsafe cl_event_signal(object.pointee.wakeDescriptor)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_wake_descriptor(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.with(driver) { object throws(FaceError) in object.wakeDescriptor }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_pending(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    do throws(QueueError) {
      if object.unit.block.isThere {
        return cellmate_result(object.unit.block.value.driver.inFlightCount)
      }
      if object.unit.network.isThere {
        return cellmate_result(try object.unit.network.value.driver.unsentCount())
      }
      guard object.unit.console.isThere, let port = object.unit.console.value.port else { return 0 }
      return cellmate_result(try object.unit.console.value.driver.unsentCount(port: port))
    } catch { throw DriverObject.broken(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_count(
  _ driver: OpaquePointer?, _ counters: UnsafeMutablePointer<cellmate_driver_counters>?
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_driver_counters>.size
    let result = unsafe ch_can_output(counters, size)
    try require(result == Code.ok, result)
    guard let counters = unsafe counters else { throw FaceError(Code.argument) }
    var values = cellmate_driver_counters()
    values.notifications = object.way.notificationCount
    values.connections = object.connections
    if object.unit.block.isThere {
      values.resubmitted = object.unit.block.value.driver.counters.resubmitted
    }
    values.slowest_set_up = object.slowestSetUp
    unsafe ch_output(counters, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_adopt(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe ch_adopt(UnsafeRawPointer(driver), HandleKind.driver.rawValue)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_driver_close(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.close(driver) { object in object.takeDown() }
}
