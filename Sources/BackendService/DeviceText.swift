import CCellmate
public import CommandOptions

/// One device of a link as the operator states it, `KIND[,key=value][,flag]`. What it means the
/// library knows.
public struct DeviceText: Equatable, Sendable {
  /// As it was given.
  public let text: String

  /// Takes the value of `--device`.
  ///
  /// - Throws: one line when the library does not understand it.
  public init(_ text: String) throws(UsageError) {
    self.text = text
    try check(examine: false)
  }

  /// Whether the device could be opened if nobody else used its host resource.
  func examine() throws(UsageError) { try check(examine: true) }

  private func check(examine: Bool) throws(UsageError) {
    try LibraryCall.run("--device \(text)") { error in
      unsafe text.withCString { unsafe cellmate_device_check($0, examine ? 1 : 0, error) }
    }
  }

  private func compare(_ other: DeviceText) -> UInt32 {
    let bits = unsafe text.withCString { one in
      unsafe other.text.withCString { unsafe cellmate_device_compare(one, $0) }
    }
    return bits < 0 ? 0 : UInt32(bits)
  }

  /// Whether it may be that both cannot be open at a time.
  func excludes(_ other: DeviceText) -> Bool {
    compare(other) & UInt32(CELLMATE_EXCLUDES) != 0
  }

  /// Whether two texts mean the same device.
  public static func == (one: DeviceText, other: DeviceText) -> Bool {
    one.text == other.text || one.compare(other) & UInt32(CELLMATE_SAME) != 0
  }
}
