import CLinux
import CUdev
public import LinuxSupport

/// The files of a running Linux, or of a copy of some of them below another folder.
public struct HostFiles: Sendable {
  /// What is put in front of every path; empty for the running system.
  public let root: String

  /// The running system, or the tree below `root`.
  public init(root: String = "") {
    var root = root
    while root.hasSuffix("/") { root.removeLast() }
    self.root = root
  }

  /// Whether this is a copy, about which neither udev nor the kernel can be asked.
  public var isCopy: Bool { !root.isEmpty }

  /// What a file holds, at most `limit` bytes of it.
  public func bytes(_ path: String, limit: Int = 4096) throws(SystemError) -> [UInt8] {
    let file = try Descriptor(unsafe cl_open(root + path, 0, 0))
    var bytes = [UInt8](repeating: 0, count: limit)
    var count = 0
    while count < limit {
      let got = unsafe bytes.withUnsafeMutableBytes { buffer in
        guard let base = buffer.baseAddress else { return 0 }
        return unsafe cl_read_at(file.number, base + count, limit - count, Int64(count))
      }
      if try SystemError.check(got) == 0 { break }
      count += got
    }
    bytes.removeLast(limit - count)
    return bytes
  }

  /// What a text file holds without the blanks and line ends behind it; `nil` when there is
  /// nothing to read.
  public func text(_ path: String, limit: Int = 4096) -> String? {
    guard var bytes = try? bytes(path, limit: limit) else { return nil }
    while let last = bytes.last, last == 10 || last == 32 || last == 0 { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The number a file holds.
  @inline(never)
  public func number(_ path: String) -> UInt64? {
    text(path, limit: 64).flatMap { kernelNumber($0) }
  }

  /// The names in a folder, in order; `nil` when there is no such folder or it may not be read.
  public func entries(_ folder: String) -> [String]? {
    unsafe Self.strings(cu_entries(root + folder))
  }

  /// The last part of where a symbolic link points.
  @inline(never)
  public func linkName(_ path: String) -> String? {
    guard let target = linkTarget(path) else { return nil }
    return target.split(separator: "/").last.map { String($0) }
  }

  /// Where a symbolic link points.
  @inline(never)
  public func linkTarget(_ path: String) -> String? {
    var target = [UInt8](repeating: 0, count: 1024)
    let full = root + path
    let count = unsafe target.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cu_read_link(
        full, base.assumingMemoryBound(to: CChar.self), buffer.count)
    }
    guard count > 0 else { return nil }
    return String(decoding: target[..<count], as: UTF8.self)
  }

  /// Whether something is there.
  public func exists(_ path: String) -> Bool { unsafe cu_may(root + path, 0) != 0 }
  /// Whether this process may read and write it.
  public func mayUse(_ path: String) -> Bool { unsafe cu_may(root + path, 6) != 0 }

  /// Owner, group and permission bits of a file.
  public func rights(_ path: String) -> (owner: UInt32, group: UInt32, mode: UInt32)? {
    var owner: UInt32 = 0
    var group: UInt32 = 0
    var mode: UInt32 = 0
    guard unsafe cu_rights(root + path, &owner, &group, &mode) == 0 else { return nil }
    return (owner, group, mode)
  }

  /// Writes a word to a file of sysfs, in one piece, as the kernel expects it.
  public func write(_ text: String, to path: String) throws(SystemError) {
    // O_WRONLY alone: a file of sysfs is never created or cut.
    let file = try Descriptor(unsafe cl_open(root + path, 1, 0))
    var text = text
    let written = text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cl_write_all(file.number, base, bytes.count)
    }
    _ = try SystemError.check(written)
  }

  /// Takes over a list of the C half.
  static func strings(_ list: OpaquePointer?) -> [String]? {
    guard let list = unsafe list else { return nil }
    defer { unsafe cu_free(list) }
    var all: [String] = []
    // SAFETY: the items live as long as the list.
    let count = unsafe cu_count(list)
    for index in 0..<count {
      all.append(unsafe String(cString: cu_item(list, index)))
    }
    return all
  }

  /// The user this process acts as; 0 is root.
  public static var user: UInt32 { cu_user() }

  /// Bytes of a page of this machine.
  public static var pageSize: UInt64 { UInt64(max(4096, cu_page_size())) }
}
