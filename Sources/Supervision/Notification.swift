/// What a service tells the process that looks after it: one datagram of sd_notify(3), lines
/// `NAME=value`. Lines that say nothing to us are passed over.
public struct Notification: Equatable, Sendable {
  /// `READY=1`: everything is served.
  public private(set) var isReady = false
  /// `STOPPING=1`: it is about to end.
  public private(set) var isStopping = false
  /// `WATCHDOG=1`: a sign of life.
  public private(set) var isAlive = false
  /// `FDSTORE=1`: the descriptors that came along are for the next process.
  public private(set) var stores = false
  /// `FDSTOREREMOVE=1`: nothing of this name is for the next process.
  public private(set) var removes = false
  /// `FDNAME=`; `nil` when there is none, or one that LISTEN_FDNAMES cannot carry.
  public private(set) var name: String?

  /// The most bytes of a datagram that are read.
  public static var byteLimit: Int { 4096 }
  /// The most bytes of a name (sd_pid_notify_with_fds(3)).
  public static var nameLimit: Int { 255 }

  /// Reads a datagram.
  public init(_ bytes: some Collection<UInt8>) {
    for line in bytes.split(separator: 10) {
      guard let equals = line.firstIndex(of: 61) else { continue }
      let key = String(decoding: line[..<equals], as: UTF8.self)
      let value = line[line.index(after: equals)...]
      let isOne = value.elementsEqual([49])
      switch key {
      case "READY": isReady = isOne
      case "STOPPING": isStopping = isOne
      case "WATCHDOG": isAlive = isOne
      case "FDSTORE": stores = isOne
      case "FDSTOREREMOVE": removes = isOne
      case "FDNAME": name = Self.name(value)
      default: break
      }
    }
  }

  /// Printable ASCII without the colon, which separates names.
  private static func name(_ bytes: some Collection<UInt8>) -> String? {
    let isGood =
      !bytes.isEmpty && bytes.count <= nameLimit
      && bytes.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 58 }
    return isGood ? String(decoding: bytes, as: UTF8.self) : nil
  }
}
