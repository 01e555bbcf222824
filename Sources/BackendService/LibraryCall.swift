import CCellmate
import CommandOptions
import LinkNames

/// Calls of the library that may be refused, and what it knows of a back-end.
enum LibraryCall {
  /// Calls a function that explains itself.
  ///
  /// - Throws: its explanation, or the meaning of its result behind `what`.
  @safe static func run(
    _ what: String, _ call: (UnsafeMutablePointer<cellmate_error>) -> cellmate_result
  ) throws(UsageError) {
    var error = cellmate_error()
    error.size = MemoryLayout<cellmate_error>.size
    let result = unsafe call(&error)
    guard result < 0 else { return }
    if error.result < 0 { throw UsageError(text(error.text)) }
    throw UsageError("\(what): \(unsafe String(cString: cellmate_result_text(result)))")
  }

  /// An array of characters of a C structure, up to its zero.
  static func text<Place>(_ place: Place) -> String {
    unsafe withUnsafeBytes(of: place) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }

  /// A back-end of a link or socket, without devices.
  static func openBackend(_ face: BackendOptions.Face) throws(UsageError) -> OpaquePointer {
    var link: OpaquePointer?
    var backend: OpaquePointer?
    let name =
      switch face {
      case .link(let link): link.fullText
      case .vhostUser(let path): "vhost-user:\(path)"
      }
    try run(face.name) { error in
      unsafe name.withCString { name in
        unsafe cellmate_link_open(name, Int32(CELLMATE_BACK_END), &link, error)
      }
    }
    do throws(UsageError) {
      try run(face.name) { error in unsafe cellmate_backend_create(link, &backend, error) }
    } catch {
      _ = unsafe cellmate_link_close(link)
      throw error
    }
    guard let backend = unsafe backend else { preconditionFailure("a success has a handle") }
    return unsafe backend
  }

  static func facts(_ backend: OpaquePointer) -> cellmate_backend_facts {
    var facts = cellmate_backend_facts()
    facts.size = MemoryLayout<cellmate_backend_facts>.size
    _ = unsafe cellmate_backend_info(backend, &facts)
    return facts
  }

  /// The kind of the device in a slot.
  static func kind(_ backend: OpaquePointer, _ slot: Int) -> String {
    var facts = cellmate_device_facts()
    facts.size = MemoryLayout<cellmate_device_facts>.size
    _ = unsafe cellmate_backend_device(backend, UInt32(slot), &facts)
    return text(facts.kind)
  }

  /// What each number means, in order.
  static func counters(_ backend: OpaquePointer) -> [Counter] {
    var all: [Counter] = []
    while true {
      var found = cellmate_counter()
      found.size = MemoryLayout<cellmate_counter>.size
      guard unsafe cellmate_backend_counter(backend, UInt32(all.count), &found) == 0 else {
        return all
      }
      let scope: Counter.Scope =
        switch UInt32(found.scope) {
        case UInt32(CELLMATE_SCOPE_LINK): .link
        case UInt32(CELLMATE_SCOPE_VHOST_USER): .vhostUser
        case UInt32(CELLMATE_SCOPE_DEVICE): .device
        default: .kind(text(found.kind))
        }
      all.append(Counter(scope: scope, slot: Int(found.slot), name: text(found.name)))
    }
  }
}
