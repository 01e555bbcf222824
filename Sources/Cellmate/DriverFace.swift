public import CCellmate
import CLinux
import CommandOptions
import IVShmem
import LinuxRuntime
import SharedMemory
import SiemensDialect
import VirtioBlock
import VirtioConsole
import VirtioNet
import VirtioTransport
import Virtqueue

/// What a driver is made of: its memory, and itself.
struct DriverPlan {
  let slot: UInt32
  /// Whether it is that of a disk; some messages say it in other words.
  let isBlock: Bool
  /// Bytes of shared memory it needs, where it makes that memory itself.
  let memoryBytes: Int
  /// What to say when the shared memory is too small.
  let noRoom: FaceError
  /// Says in which words a link of the Siemens dialect is too small, for a disk.
  let depth: Int

  /// Bytes of private memory for a driver's books.
  static var bookBytes: Int { 1 << 20 }
}

extension DriverObject {
  /// Makes a driver of a link: `build` takes what it needs of the way to the device.
  static func create(
    _ link: OpaquePointer?, _ plan: DriverPlan,
    _ driver: UnsafeMutablePointer<OpaquePointer?>, _ error: UnsafeMutablePointer<cellmate_error>?,
    _ build: (inout DeviceWay, inout PrivateArena) -> DriverUnit?
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
          guard plan.slot == 0 else {
            throw UsageError(
              "--slot \(plan.slot): the Siemens dialect carries one device a link, 0")
          }
          siemens = try object.siemensPlan()
        }
      } catch let usage { throw FaceError(unsafe report(usage, error)) }
      return Code.ok
    }
    guard seen == Code.ok else { return seen }
    return unsafe LinkObject.close(link) { object throws(FaceError) in
      do throws(FaceError) {
        unsafe driver.pointee = try make(object, plan, native, siemens, build)
      } catch let problem {
        unsafe report(problem, error)
        throw problem
      }
    }
  }

  private static func make(
    _ link: consuming LinkObject, _ plan: DriverPlan, _ native: LinkPlan?,
    _ siemens: SiemensPlan?, _ build: (inout DeviceWay, inout PrivateArena) -> DriverUnit?
  ) throws(FaceError) -> OpaquePointer {
    let name = link.name
    let window = native?.driverPool ?? siemens?.pool ?? 0..<plan.memoryBytes + (1 << 20)
    let stride = MemoryLayout<DriverObject>.stride
    let memory = try ObjectMemory(
      stride + DeviceWay.privateBytes(window, native?.devicePool ?? 0..<0)
        + DriverPlan.bookBytes)
    var arena = memory.arena(behind: stride)
    do throws(FaceError) {
      var way = try way(link, plan, native, siemens, &arena)
      guard let port = build(&way, &arena) else {
        way.leave()
        guard siemens != nil, plan.isBlock else { throw plan.noRoom }
        throw .explained(
          Code.text,
          "link \(name): its read/write section cannot hold rings for --depth \(plan.depth)")
      }
      return unsafe try open(DriverObject(memory, way, port))
    } catch {
      memory.free()
      throw error
    }
  }

  private static func way(
    _ link: consuming LinkObject, _ plan: DriverPlan, _ native: LinkPlan?,
    _ siemens: SiemensPlan?, _ arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    if let native {
      let joined = NativeLink(platform: link.takePlatform(), plan: native)
      return try DeviceWay.over(
        LinkWay(joined, slot: Int(plan.slot)), native, arena: &arena)
    }
    let name = link.name
    if let siemens {
      return try DeviceWay.over(
        SiemensWay(link.takePlatform(), siemens, name: name, isBlock: plan.isBlock), arena: &arena)
    }
    let socket = try SocketWay.make(
      path: name, memoryBytes: plan.memoryBytes + (1 << 20), arena: &arena)
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
    _ = cl_event_signal(object.wakeDescriptor)
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
