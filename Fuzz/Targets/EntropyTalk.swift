import VirtioEntropy
import Virtqueue

/// A user of random bytes, and a host whose bytes can be told apart: none is ever handed out twice,
/// and none is left out but where a device or a driver has gone.
final class EntropyTalk: SweepTalk<FuzzedEntropyDriver> {
  /// Bytes that the host has given.
  private var given = 0
  /// The number, two bytes each, that comes next.
  private var next = 0
  /// Bytes that were given before the device was set up: may be lost.
  private var lossLimit = 0
  /// Bytes that the transfer still wants.
  private var wish = 0

  override func reset() {
    super.reset()
    script.makeRandom = { [unowned self] in make() }
    given = 0
    next = 0
    lossLimit = 0
  }

  private func make() -> UInt8 {
    // Pairs of bytes: the number of the pair, low byte first.
    if given == 400, fault == .loses { given += 2 }
    if given == 402, fault == .repeats { given -= 2 }
    defer { given += 1 }
    return UInt8(truncatingIfNeeded: given & 1 == 0 ? given >> 1 : given >> 9)
  }

  override func sessionStarts() { lossLimit = given }
  override func transferStarts() { wish = 560 }

  override func look(_ front: inout FuzzedEntropyDriver) throws(QueueError) -> Bool {
    var bytes = InlineArray<80, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let count = try front.driver.read(into: &span)
    front.driver.ask()
    guard count & 1 == 0 else {
      fail("\(count) bytes of pairs")
      return false
    }
    for index in stride(from: 0, to: count, by: 2) {
      let number = Int(bytes[index]) | Int(bytes[index + 1]) << 8
      guard number == next || number > next && 2 * number <= lossLimit else {
        fail("number \(number) comes, \(next) is next")
        return false
      }
      next = number + 1
    }
    wish -= count
    return wish <= 0
  }
}
