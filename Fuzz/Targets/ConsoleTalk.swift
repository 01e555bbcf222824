import VirtioConsole
import Virtqueue

/// A user at two ports, and a host that tells a byte for each one it hears.
///
/// What the driver has taken from its user and the front-end survives reaches the host whole and in
/// order. A back-end that dies, and a reset, may repeat the buffers that were not acknowledged,
/// from the start of one of them. What the device has taken from its host is lost with it, and is
/// never repeated.
final class ConsoleTalk: SweepTalk<FuzzedConsoleDriver> {
  private struct Port {
    /// Bytes that drivers have taken from users, and where that was when this front-end began.
    var said = 0
    var lifeStart = 0
    /// The byte that the host hears next, and the most it has heard.
    var heard = 0
    var highest = 0
    /// Nothing before this byte may come again.
    var floor = 0
    var mayRepeat = false
    var mayJump = false
    /// Bytes that the host has told, and the one that the user reads next.
    var told = 0
    var read = 0
    /// Told before the device was set up: may be lost.
    var lossLimit = 0
    /// Bytes that a transfer has to get to.
    var goal = 0
    var idleLooks = 0
  }

  private var ports = [Port(), Port()]
  /// How far the transfer is.
  private var stage = 0

  /// A byte says where it belongs, as far as there are doubts about it: less than half of this.
  private static var modulus: Int { 251 }
  /// Bytes of what is written at once, which go into one buffer. Two front-ends that die leave at
  /// most six of them behind.
  private static var record: Int { 16 }

  private static func distance(_ byte: UInt8, from place: Int) -> Int {
    let distance = (Int(byte) - place % modulus + modulus) % modulus
    return distance > modulus / 2 ? distance - modulus : distance
  }

  override func reset() {
    super.reset()
    script.isSlow = true
    script.turn = 7
    script.hear = { [unowned self] in hear($0, $1) }
    ports = [Port(), Port()]
    stage = 0
  }

  override func sessionStarts() {
    for index in ports.indices {
      ports[index].mayRepeat = true
      ports[index].lossLimit = ports[index].told
      ports[index].idleLooks = 0
    }
    script.hasEvents = true
  }

  override func frontEndDied() {
    for index in ports.indices {
      ports[index].lifeStart = ports[index].said
      ports[index].floor = ports[index].said
      ports[index].mayJump = true
    }
  }

  override func transferStarts() {
    stage = 0
    // The transfer before may have ended with its front-end, and with the port closed.
    script.isOpen[1] = true
    script.columns += 1
    script.hasEvents = true
    for index in ports.indices { ports[index].goal = ports[index].said + 3 * Self.record }
  }

  // MARK: The host

  private func hear(_ port: Int, _ byte: UInt8) {
    let distance = Self.distance(byte, from: ports[port].heard)
    let place = ports[port].heard + distance
    if distance < 0 {
      guard ports[port].mayRepeat, place >= ports[port].floor, place % Self.record == 0 else {
        return fail("port \(port) hears byte \(place) again, \(ports[port].heard) is next")
      }
      ports[port].mayRepeat = false
    } else if distance > 0 {
      guard ports[port].mayJump, place == ports[port].lifeStart else {
        return fail("port \(port) hears byte \(place), \(ports[port].heard) is next")
      }
    }
    if place >= ports[port].lifeStart { ports[port].mayJump = false }
    ports[port].heard = place + 1
    guard ports[port].heard > ports[port].highest else { return }
    ports[port].highest = ports[port].heard
    tell(port)
  }

  private func tell(_ port: Int) {
    let byte = UInt8(ports[port].told % Self.modulus)
    ports[port].told += 1
    if fault == .loses, ports[port].told == 30 { return }
    script.waiting[port].append(byte)
    if fault == .repeats, ports[port].told == 30 { script.waiting[port].append(byte) }
    script.hasEvents = true
  }

  // MARK: The user

  override func look(_ front: inout FuzzedConsoleDriver) throws(QueueError) -> Bool {
    // Every step takes at least one thing; an honest device runs out of them.
    for _ in 0..<100 { if try !front.driver.step() { break } }
    for port in ports.indices {
      if front.driver.isAdded(port: port) { front.driver.setOpen(true, port: port) }
      try write(port, &front)
      try read(port, &front)
      try checkAcknowledged(port, &front)
    }
    return isStageDone(front) && nextStage()
  }

  private func write(_ port: Int, _ front: inout FuzzedConsoleDriver) throws(QueueError) {
    while ports[port].said < ports[port].goal {
      let start = ports[port].said
      let bytes = (start..<start + Self.record).map { UInt8($0 % Self.modulus) }
      let count = try front.driver.write(port: port, bytes.span)
      ports[port].said += count
      guard count == bytes.count else {
        if count > 0 { fail("a record of \(bytes.count) bytes was cut at \(count)") }
        return
      }
    }
  }

  private func read(_ port: Int, _ front: inout FuzzedConsoleDriver) throws(QueueError) {
    var bytes = InlineArray<512, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let count = try front.driver.read(port: port, into: &span)
    for index in 0..<count {
      let distance = Self.distance(bytes[index], from: ports[port].read)
      let place = ports[port].read + distance
      guard distance == 0 || distance > 0 && place <= ports[port].lossLimit,
        place < ports[port].told
      else {
        return fail("port \(port) reads byte \(place), \(ports[port].read) is next")
      }
      ports[port].read = place + 1
    }
    ports[port].idleLooks = count > 0 ? 0 : ports[port].idleLooks + 1
    // Somebody who waits in vain says something else.
    if ports[port].idleLooks > 12, ports[port].heard == ports[port].said,
      ports[port].read < ports[port].lossLimit
    {
      ports[port].goal += Self.record
      ports[port].idleLooks = 0
    }
  }

  /// What the driver has back is with the host.
  private func checkAcknowledged(
    _ port: Int, _ front: inout FuzzedConsoleDriver
  ) throws(QueueError) {
    let open = try front.driver.unsentCount(port: port)
    let done = ports[port].said - open * Self.record
    guard done <= ports[port].lifeStart || done <= ports[port].highest else {
      return fail("port \(port): \(done) bytes are done, the host has \(ports[port].highest)")
    }
    ports[port].floor = max(ports[port].floor, done)
    if open == 0 { ports[port].mayRepeat = false }
  }

  private func isStageDone(_ front: borrowing FuzzedConsoleDriver) -> Bool {
    let isQuiet = ports.allSatisfy {
      $0.said == $0.goal && $0.heard == $0.said && $0.read == $0.told
    }
    switch stage {
    case 0:
      for port in ports.indices {
        guard front.driver.isAdded(port: port), front.driver.isHostOpen(port: port),
          front.driver.nameCount(port: port) == 4,
          front.driver.nameByte(port: port, at: 3) == UInt8(0x61 + port)
        else { return false }
      }
      return isQuiet && front.driver.size(port: 0).columns == script.columns
    case 1: return front.driver.size(port: 0).columns == script.columns
    case 2: return !front.driver.isHostOpen(port: 1)
    case 3: return front.driver.isHostOpen(port: 1)
    default: return isQuiet
    }
  }

  /// What the host does next; `true` when that was all.
  private func nextStage() -> Bool {
    stage += 1
    script.hasEvents = true
    switch stage {
    case 1: script.columns += 1
    case 2: script.isOpen[1] = false
    case 3: script.isOpen[1] = true
    case 4: ports[1].goal += Self.record
    default: return true
    }
    return false
  }
}
