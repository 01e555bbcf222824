/// What came of a run of traffic.
struct TrafficResult {
  var frames: UInt64 = 0
  var bytes: UInt64 = 0
  /// From the first to the last of them.
  var nanoseconds: UInt64 = 0
  /// Sender: frames that were sent again.
  var repeated: UInt64 = 0
  /// Receiver: frames that never came, where nothing is sent again.
  var lost: UInt64 = 0
  /// Receiver: frames that were there already.
  var duplicates: UInt64 = 0
  /// Receiver: frames behind one that was missing.
  var outOfOrder: UInt64 = 0
  /// Frames whose digest is wrong.
  var corrupt: UInt64 = 0
  /// Frames of somebody else.
  var strangers: UInt64 = 0
  /// Of all frames, whatever their order; the same on both sides when everything came once.
  var digest: UInt64 = 0
  var doorbells: UInt64 = 0
  var recoveries = 0
  /// With a window of one frame: how long each took to be acknowledged.
  var roundTrips: [UInt64] = []

  /// One line of JSON.
  func json(isSender: Bool) -> String {
    var text = "{\"frames\":\(frames),\"bytes\":\(bytes),\"nanoseconds\":\(nanoseconds),"
    if isSender {
      text += "\"repeated\":\(repeated),"
      if let (median, high) = times {
        text += "\"medianNanoseconds\":\(median),\"p99Nanoseconds\":\(high),"
      }
    } else {
      text += "\"lost\":\(lost),\"duplicates\":\(duplicates),\"outOfOrder\":\(outOfOrder),"
    }
    return text + "\"corrupt\":\(corrupt),\"strangers\":\(strangers),"
      + "\"digest\":\"\(String(digest, radix: 16))\",\"doorbells\":\(doorbells),"
      + "\"recoveries\":\(recoveries)}\n"
  }

  /// One line for people.
  func text(isSender: Bool) -> String {
    let time = max(1, nanoseconds)
    // Frames and bytes of a run fit these products: 2^40 frames of 64 KiB are beyond any patience.
    let rate = UInt64(Double(frames) / Double(time) * 1e9)
    let speed = UInt64(Double(bytes) / Double(time) * 1e3)
    var text = "\(frames) frames, \(bytes) bytes in \(nanoseconds / 1_000_000) ms"
    text += " (\(rate) frames/s, \(speed) MB/s)"
    if isSender {
      text += ", \(repeated) repeated"
      if let (median, high) = times {
        text += ", round trip: median \(median / 1000) us, 99% \(high / 1000) us"
      }
    } else {
      text += ", \(lost) lost, \(duplicates) twice, \(outOfOrder) too early"
    }
    return text + ", \(corrupt) corrupt, digest \(String(digest, radix: 16)),"
      + " \(recoveries) recoveries\n"
  }

  private var times: (median: UInt64, high: UInt64)? {
    guard !roundTrips.isEmpty else { return nil }
    let sorted = roundTrips.sorted()
    return (sorted[sorted.count / 2], sorted[sorted.count * 99 / 100])
  }
}
