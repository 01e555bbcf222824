import CLinux
import CService
import LinuxSupport

/// Descriptors that outlive this process: the service manager keeps them and gives them to the next
/// one (sd_notify(3): FDSTORE; sd_listen_fds(3)).
enum DescriptorStore {
  private static func environment(_ name: String) -> String? {
    unsafe cs_environment(name).map { unsafe String(cString: $0) }
  }

  /// Whether anybody keeps descriptors: the manager says so with `FDSTORE` (systemd 254; for an
  /// older one the unit sets the variable beside `FileDescriptorStoreMax=`).
  static var isThere: Bool {
    guard let limit = environment("FDSTORE"), let number = UInt32(limit, radix: 10) else {
      return false
    }
    return number > 0 && environment("NOTIFY_SOCKET") != nil
  }

  /// Gives a descriptor away for the next process.
  ///
  /// - Throws: what the system says.
  static func keep(_ number: Int32, _ name: String) throws(SystemError) {
    guard let path = environment("NOTIFY_SOCKET") else { return }
    var text = "FDSTORE=1\nFDNAME=\(name)\n"
    let result = text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cs_notify_fd(path, base, bytes.count, number)
    }
    _ = try SystemError.check(result)
  }

  /// Nothing of that name is for the next process.
  static func forget(_ name: String) {
    guard let path = environment("NOTIFY_SOCKET") else { return }
    var text = "FDSTOREREMOVE=1\nFDNAME=\(name)\n"
    text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return }
      _ = unsafe cs_notify(path, base, bytes.count, 1)
    }
  }

  /// A descriptor of that name that an earlier process gave away; `nil` when there is none, or when
  /// it was taken already.
  static func take(_ name: String) -> Descriptor? {
    forEachPassed { number, found in
      guard found == name, cs_claim_passed(UInt32(number - 3)) != 0 else { return nil }
      let copy = cl_duplicate(number)
      // Only the copy is left: it ends when its link does, and no program that is started has it.
      cl_close(number)
      return copy >= 0 ? Int32(truncatingIfNeeded: copy) : nil
    }.map { Descriptor(owning: $0) }
  }

  /// Closes what an earlier process gave away and nobody has taken: a device that is in no
  /// configuration any more must not look alive to its guest, which would wait for it for ever.
  ///
  /// - Returns: the names.
  static func dropRest() -> [String] {
    var names: [String] = []
    _ = forEachPassed { number, name in
      guard cs_claim_passed(UInt32(number - 3)) != 0 else { return nil }
      cl_close(number)
      forget(name)
      names.append(name)
      return nil
    }
    return names
  }

  /// Looks at what sd_listen_fds(3) says, until `body` answers.
  private static func forEachPassed(_ body: (Int32, String) -> Int32?) -> Int32? {
    guard environment("LISTEN_PID") == "\(cl_process_id())",
      let names = environment("LISTEN_FDNAMES"),
      let count = environment("LISTEN_FDS").flatMap({ Int32($0, radix: 10) })
    else { return nil }
    var number: Int32 = 3
    for name in names.split(separator: ":", omittingEmptySubsequences: false) {
      guard number < 3 + min(count, 1024) else { return nil }
      if let answer = body(number, String(name)) { return answer }
      number += 1
    }
    return nil
  }
}
