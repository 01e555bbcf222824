import CCellmate
import LinuxSupport

/// Descriptors that outlive this process, with whoever the caller has said keeps them
/// (`cellmate_keeper`).
enum KeptDescriptor {
  /// Whether anybody keeps new ones.
  static var isThere: Bool { ch_is_kept() != 0 }

  /// A name for what belongs to the link behind `path`: printable, no colon.
  static func name(_ kind: String, _ path: String) -> String {
    var name = kind + "="
    for byte in path.utf8.suffix(200) {
      let isPlain = byte > 0x20 && byte < 0x7f && byte != 0x3a
      name.unicodeScalars.append(Unicode.Scalar(isPlain ? byte : 0x5f))
    }
    return name
  }

  /// Gives a descriptor away for the next process.
  ///
  /// - Throws: what the system says.
  static func keep(_ number: Int32, _ name: String) throws(SystemError) {
    let result = unsafe name.withCString { unsafe ch_keep($0, number) }
    _ = try SystemError.check(Int(result))
  }

  /// Nothing of that name is for the next process.
  static func forget(_ name: String) { unsafe name.withCString { unsafe ch_forget($0) } }

  /// A descriptor of that name that an earlier process gave away; `nil` when there is none.
  static func take(_ name: String) -> Descriptor? {
    let number = unsafe name.withCString { unsafe ch_take($0) }
    return number >= 0 ? Descriptor(owning: number) : nil
  }
}
