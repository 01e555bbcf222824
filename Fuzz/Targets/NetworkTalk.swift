import SharedMemory
import VirtioNet
import Virtqueue

/// A user who sends numbered frames, and a network that sends them back: each frame is whole, comes
/// once and in order, and none is lost but where a device or a driver has gone.
final class NetworkTalk: SweepTalk<FuzzedNetDriver> {
  /// Frames that drivers have taken, the one that the network sees next, and the one that the user
  /// gets next.
  private var sent = 0
  private var seen = 0
  private var got = 0
  /// Sent before the device was set up: may be lost.
  private var lossLimit = 0
  private var goal = 0
  private var idleLooks = 0
  /// The command of this set-up: asked, answered.
  private var hasAsked = false
  private var hasAnswer = false

  override func reset() {
    super.reset()
    script.seeFrame = { [unowned self] in see($0) }
    sent = 0
    seen = 0
    got = 0
    lossLimit = 0
    hasAsked = false
    hasAnswer = false
  }

  override func sessionStarts() {
    lossLimit = sent
    hasAsked = false
    hasAnswer = false
    idleLooks = 0
  }

  override func transferStarts() {
    goal = sent + 6
    hasAsked = false
    hasAnswer = false
  }

  // MARK: Frames

  /// Frame `number`: some need one buffer of the receiver, some two.
  private static func frame(_ number: Int) -> [UInt8] {
    var bytes = [UInt8](
      repeating: UInt8(truncatingIfNeeded: number &* 31), count: 60 + number &* 61 % 400)
    for index in 0..<14 { bytes[index] = index == 6 ? 4 : 2 }
    bytes[14] = UInt8(truncatingIfNeeded: number)
    bytes[15] = UInt8(truncatingIfNeeded: number >> 8)
    return bytes
  }

  /// The number of a frame, which has to be `next`, or a later one where frames may get lost.
  private func number(_ bytes: [UInt8], _ next: Int, _ place: String) -> Int? {
    let number = bytes.count < 16 ? -1 : Int(bytes[14]) | Int(bytes[15]) << 8
    guard number >= 0, bytes == Self.frame(number) else {
      fail("a frame of \(bytes.count) bytes is a mixture \(place)")
      return nil
    }
    guard number == next || number > next && number <= lossLimit else {
      fail("frame \(number) comes, \(next) is next \(place)")
      return nil
    }
    return number
  }

  private func see(_ bytes: [UInt8]) {
    if let number = number(bytes, seen, "on the network") { seen = number + 1 }
  }

  // MARK: The user

  override func look(_ front: inout FuzzedNetDriver) throws(QueueError) -> Bool {
    if let answer = try front.driver.takeAnswer() {
      hasAnswer = true
      if !answer { fail("an honest device refuses a command") }
    }
    if !hasAsked { hasAsked = front.driver.start(.promiscuous, 1) }
    try receive(&front)
    // Before it is answered, what comes back is for another station.
    guard hasAnswer else { return false }
    while sent < goal {
      let skips = fault == .loses && sent == 8
      guard try front.send(Self.frame(sent + (skips ? 1 : 0))) else { break }
      if fault != .repeats || sent != 8 || goal == 8 { sent += 1 }
    }
    // Somebody who waits in vain sends something else.
    idleLooks += 1
    if idleLooks > 12, sent == goal, got < lossLimit {
      goal += 1
      idleLooks = 0
    }
    return sent == goal && got == sent
  }

  private func receive(_ front: inout FuzzedNetDriver) throws(QueueError) {
    for _ in 0..<16 {
      let bytes = try front.receiveWhole()
      guard !bytes.isEmpty, let number = number(bytes, got, "at the user") else { return }
      got = number + 1
      idleLooks = 0
    }
  }
}
