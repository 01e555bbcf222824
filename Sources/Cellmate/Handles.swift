import CCellmate
import SharedMemory

/// The kinds of handles; the numbers of the handle table.
enum HandleKind: UInt8 {
  case link = 1
  case backend
  case frontend
  case driver
  case registers
  case observer = 12
}

/// The private memory of one handle: the object at its start, the arena of its books behind it.
/// It is mapped, and touched only where it is used.
@safe
struct ObjectMemory {
  fileprivate let base: UnsafeMutableRawPointer
  let size: Int

  init(_ size: Int) throws(FaceError) {
    guard let base = unsafe ch_memory(size) else { throw FaceError(Code.memory) }
    unsafe self.base = base
    self.size = size
  }

  /// The books, behind an object of `stride` bytes.
  func arena(behind stride: Int) -> PrivateArena {
    let start = (stride + 63) & ~63
    // SAFETY: mapped memory is page aligned, and the object ends before `start`.
    return unsafe PrivateArena(unsafeBase: base + start, count: size - start)
  }

  func free() { unsafe ch_memory_free(base, size) }
}

/// An object behind a handle; it knows the memory it lies in.
protocol HandleObject: ~Copyable {
  static var kind: HandleKind { get }
  var memory: ObjectMemory { get }
}

extension HandleObject where Self: ~Copyable {
  /// Moves the object into its memory and names it.
  static func open(_ object: consuming Self) throws(FaceError) -> OpaquePointer {
    let memory = object.memory
    let place = unsafe memory.base.bindMemory(to: Self.self, capacity: 1)
    unsafe place.initialize(to: object)
    guard let handle = unsafe ch_open(kind.rawValue, place) else {
      unsafe place.deinitialize(count: 1)
      memory.free()
      throw FaceError(Code.memory)
    }
    return OpaquePointer(handle)
  }

  /// Calls `body` with the object of a handle, as its owner; every error becomes a result.
  @inline(__always)
  static func with(
    _ handle: OpaquePointer?,
    _ body: (inout Self) throws(FaceError) -> cellmate_result
  ) -> cellmate_result {
    let raw = unsafe UnsafeRawPointer(handle)
    var object: UnsafeMutableRawPointer?
    let result = unsafe ch_enter(raw, kind.rawValue, &object)
    guard result == Code.ok, let object = unsafe object, let raw = unsafe raw else { return result }
    defer { unsafe ch_leave(raw) }
    do throws(FaceError) {
      return try unsafe body(&object.assumingMemoryBound(to: Self.self).pointee)
    } catch { return error.code }
  }

  /// Calls `body` with the object's place from any thread, for single fields that may be used so:
  /// an access to the whole object would race with its owner's.
  static func peek(
    _ handle: OpaquePointer?, _ body: (UnsafeMutablePointer<Self>) -> Void
  ) -> cellmate_result {
    var object: UnsafeMutableRawPointer?
    let result = unsafe ch_peek(UnsafeRawPointer(handle), kind.rawValue, &object)
    guard result == Code.ok, let object = unsafe object else { return result }
    unsafe body(object.assumingMemoryBound(to: Self.self))
    return Code.ok
  }

  /// Ends the life of a handle: `body` takes the object apart.
  static func close(
    _ handle: OpaquePointer?, _ body: (consuming Self) throws(FaceError) -> Void
  ) -> cellmate_result {
    let raw = unsafe UnsafeRawPointer(handle)
    var object: UnsafeMutableRawPointer?
    let result = unsafe ch_enter(raw, kind.rawValue, &object)
    guard result == Code.ok, let object = unsafe object, let raw = unsafe raw else { return result }
    unsafe ch_close(raw)
    let place = unsafe object.assumingMemoryBound(to: Self.self)
    let memory = unsafe place.pointee.memory
    defer { memory.free() }
    do throws(FaceError) {
      try body(unsafe place.move())
      return Code.ok
    } catch { return error.code }
  }
}
