public import CCellmate
import CommandOptions
import DeviceRuntime

/// Results of cellmate.h. The constants come as untyped enumerators; here they have the type of a
/// result.
enum Code {
  static var ok: cellmate_result { 0 }
  static var argument: cellmate_result { -1 }
  static var order: cellmate_result { -4 }
  static var handle: cellmate_result { -3 }
  static var text: cellmate_result { -6 }
  static var memory: cellmate_result { -7 }
  static var full: cellmate_result { -8 }
  static var deadline: cellmate_result { -9 }
  static var link: cellmate_result { -10 }
  static var refused: cellmate_result { -11 }
  static var device: cellmate_result { -12 }
  static var peer: cellmate_result { -13 }
  static var interrupted: cellmate_result { -14 }
  static var gone: cellmate_result { -15 }
}

/// What is wrong, on its way to a result.
struct FaceError: Error {
  let code: cellmate_result
  /// What there is to say beyond the result; empty where that says it all.
  let text: String

  init(_ code: cellmate_result) {
    self.code = code
    text = String()
  }

  private init(_ code: cellmate_result, _ text: String) {
    self.code = code
    self.text = text
  }

  /// One line: what was seen, what was expected, what to do.
  static func explained(_ code: cellmate_result, _ text: String) -> FaceError {
    FaceError(code, text)
  }

  @inline(never)
  init(_ error: FrontendError) {
    text = String()
    code =
      switch error {
      case .deadline: Code.deadline
      case .linkLost: Code.link
      case .refused(15, _), .wrongDevice, .notVirtio: Code.device
      case .refused, .missingFeatures, .featuresRefused, .queueResetIncomplete: Code.refused
      case .interrupted: Code.interrupted
      case .platformGone: Code.gone
      }
  }
}

/// Fails unless `condition`, with the result `code`.
@inline(__always)
func require(_ condition: Bool, _ code: cellmate_result) throws(FaceError) {
  if !condition { throw FaceError(code) }
}

/// Fills the caller's error, if there is one, and returns its result.
@inline(never)
func report(
  _ usage: UsageError, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  unsafe report(.explained(Code.text, usage.message), error)
}

/// Fills the caller's error, if there is one, and returns its result.
@discardableResult @inline(never)
func report(
  _ problem: FaceError, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  var text = problem.text
  if text.isEmpty { text = unsafe String(cString: cellmate_result_text(problem.code)) }
  text.withUTF8 { bytes in
    // SAFETY: the bytes live as long as the call; the C side copies them.
    guard let base = bytes.baseAddress else { return }
    unsafe base.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
      unsafe ch_error(error, problem.code, $0, bytes.count)
    }
  }
  return problem.code
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_version() -> UInt32 {
  UInt32(CELLMATE_VERSION_MAJOR) << 16 | UInt32(CELLMATE_VERSION_MINOR) << 8
    | UInt32(CELLMATE_VERSION_PATCH)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_set_log(_ log: cellmate_log?, _ context: UnsafeMutableRawPointer?) {
  unsafe ch_set_log(log, context)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_set_report(
  _ report: cellmate_report?, _ context: UnsafeMutableRawPointer?
) {
  unsafe ch_set_report(report, context)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_set_keeper(_ keeper: UnsafePointer<cellmate_keeper>?) -> cellmate_result {
  guard unsafe keeper != nil else {
    ch_set_keeper(nil)
    return Code.ok
  }
  var given = unsafe cellmate_keeper()
  let size = unsafe MemoryLayout<cellmate_keeper>.size
  let result = unsafe ch_input(keeper, &given, size, size)
  if result == Code.ok { unsafe ch_set_keeper(&given) }
  return result
}

/// Writes a text into an array of characters of a C structure.
func setText<Place>(_ place: inout Place, _ text: String) {
  var text = text
  text.withUTF8 { bytes in
    let room = MemoryLayout<Place>.size
    unsafe withUnsafeMutablePointer(to: &place) { pointer in
      let out = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
      guard let base = bytes.baseAddress else { return }
      unsafe base.withMemoryRebound(to: CChar.self, capacity: bytes.count) {
        unsafe ch_text(out, room, $0, bytes.count)
      }
    }
  }
}
