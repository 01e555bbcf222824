import CCellmate

/// The version of the interface that this program was made for, and of the library that it runs
/// with, as in "0.2.0, libcellmate 0.2.0".
public func versionText() -> String {
  let loaded = cellmate_version()
  return "\(CELLMATE_VERSION_MAJOR).\(CELLMATE_VERSION_MINOR).\(CELLMATE_VERSION_PATCH),"
    + " libcellmate \(loaded >> 16).\(loaded >> 8 & 255).\(loaded & 255)"
}
