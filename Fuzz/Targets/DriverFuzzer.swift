import CWatch
import DeviceRuntime
import IVShmem
public import LinuxSupport
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A hostile back-end, played by bytes, against the production block, console, entropy or network
/// driver.
///
/// The first byte chooses the placement and whether the bytes alone play the device once it is set
/// up, or lie between the steps of an honest one, and whether they lie during set-ups, too. After each run an honest back-end starts, and
/// the same driver has to work with it.
@safe
public final class DriverFuzzer {
  /// Which driver.
  public enum Kind: Sendable {
    case block
    case console
    case entropy
    case network

    /// The same as a target.
    public var target: FuzzTarget {
      switch self {
      case .block: .blockDriver
      case .console: .console
      case .entropy: .entropy
      case .network: .netDriver
      }
    }

    fileprivate var slot: Int {
      switch self {
      case .block: 0
      case .console: 1
      case .entropy: 2
      case .network: 3
      }
    }
  }

  /// Turns of the hostile back-end, over all runs.
  public var actions: UInt64 { hostile.actions }
  /// Times the driver was set up, over all runs.
  public private(set) var connections: UInt64 = 0
  /// Bytes that the driver handed out, over all runs.
  public private(set) var bytes: UInt64 = 0
  /// Operations of the front-end that ended with an error, over all runs.
  public private(set) var violations: UInt64 = 0
  /// The most accesses one round of the front-end made.
  public private(set) var largestCall: UInt64 = 0
  /// What was played, for people.
  public var summary: String {
    "\(actions) actions, \(connections) connections, \(bytes) bytes, \(violations) errors,"
      + " at most \(largestCall) accesses a call"
  }
  /// Whether the driver reads a byte that is none of its own, to show that it is seen.
  public var strays = false
  private let kind: Kind
  private let links: [ScheduledLink]
  private let book: UnsafeMutableRawPointer
  private let hostile: HostileBackend

  /// A set-up is about 100 transactions; each look at the peer is a few loads.
  static var callLimit: UInt64 { 200_000 }

  /// Makes the memory that all runs use.
  ///
  /// - Throws: what the system says about it.
  public init(_ kind: Kind) throws(SystemError) {
    self.kind = kind
    links = [try FuzzLinks.make(.shared), try FuzzLinks.make(.output)]
    unsafe book = FuzzLinks.book(HostileBackend.bookBytes)
    hostile = HostileBackend(links[0], slot: kind.slot)
  }

  /// Plays one input.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws(FuzzFailure) {
    hostile.input = FuzzInput(bytes: bytes)
    let choice = hostile.input.byte()
    let link = links[Int(choice & 1)]
    link.restart(seed: UInt64(choice) + 1)
    if choice & 4 != 0 { link.scramble() }
    hostile.isHonest = false
    hostile.rings = []
    hostile.start(on: link)
    link.onWait = { [hostile] in hostile.turn() }
    defer {
      link.onWait = nil
      cw_watch_end()
    }
    #if CELLMATE_WATCH
      link.views[1].watch(side: 1)
    #endif
    switch kind {
    case .block:
      var front: DriverFront<FuzzedBlockDriver> = try make(link)
      try play(&front, link, choice)
    case .console:
      var front: DriverFront<FuzzedConsoleDriver> = try make(link)
      try play(&front, link, choice)
    case .entropy:
      var front: DriverFront<FuzzedEntropyDriver> = try make(link)
      try play(&front, link, choice)
    case .network:
      var front: DriverFront<FuzzedNetDriver> = try make(link)
      try play(&front, link, choice)
    }
  }

  private func make<D: FuzzedDriver & ~Copyable>(
    _ link: ScheduledLink
  ) throws(FuzzFailure) -> DriverFront<D> {
    var arena = unsafe PrivateArena(unsafeBase: book, count: HostileBackend.bookBytes)
    guard let front = DriverFront<D>(link, &arena) else {
      throw FuzzFailure("the pools hold no driver")
    }
    return front
  }

  private func play<D: FuzzedDriver & ~Copyable>(
    _ front: inout DriverFront<D>, _ link: ScheduledLink, _ choice: UInt8
  ) throws(FuzzFailure) {
    hostile.rings = front.rings
    // Bounded, so that an input of any length ends.
    for _ in 0..<300 where !hostile.input.isAtEnd {
      try work(&front, link, choice)
    }
    bytes &+= front.driver.received
    hostile.isHonest = true
    try recover(&front, link)
  }

  /// One act of the front-end's user and a look at everything, whose cost is bounded.
  private func work<D: FuzzedDriver & ~Copyable>(
    _ front: inout DriverFront<D>, _ link: ScheduledLink, _ choice: UInt8
  ) throws(FuzzFailure) {
    link.time &+= 1000
    let before = cw_accesses(1)
    var failure: String?
    do throws(BlockFrontendError) {
      if !front.isConnected {
        try connect(&front, link, choice)
      }
      do throws(QueueError) {
        failure = try front.fenced(strays: strays) { driver throws(QueueError) in
          try driver.use(&hostile.input)
        }
      } catch { throw .queue(error) }
      front.wait(until: link.time)
    } catch {
      violations += 1
      front.disconnect()
    }
    // A driver that has something to take does not wait.
    hostile.turn()
    let cost = cw_accesses(1) - before
    largestCall = max(largestCall, cost)
    if let failure { throw FuzzFailure(failure) }
    guard cost <= Self.callLimit else {
      throw FuzzFailure("one call made \(cost) accesses, at most \(Self.callLimit) are allowed")
    }
  }

  private func connect<D: FuzzedDriver & ~Copyable>(
    _ front: inout DriverFront<D>, _ link: ScheduledLink, _ choice: UInt8
  ) throws(BlockFrontendError) {
    hostile.isForging = false
    if choice & 48 != 0 {
      // What the bytes did to the back-end's block and State goes with the back-end.
      hostile.start(on: link)
      hostile.isBiding = true
    }
    defer { hostile.isBiding = false }
    try front.connect(until: Instant(nanoseconds: link.time + 500))
    connections += 1
    hostile.isForging = choice & 8 != 0
  }

  private func recover<D: FuzzedDriver & ~Copyable>(
    _ front: inout DriverFront<D>, _ link: ScheduledLink
  ) throws(FuzzFailure) {
    hostile.start(on: link)
    front.disconnect()
    var heard: [UInt8] = []
    do throws(BlockFrontendError) {
      try front.connect(until: Instant(nanoseconds: link.time + 1_000_000))
      for _ in 0..<100 {
        do throws(QueueError) {
          let isProven = try front.fenced { driver throws(QueueError) in
            try driver.prove(&heard)
          }
          if isProven { return }
        } catch { throw .queue(error) }
        front.wait(until: link.time)
        guard front.isConnected else { break }
        hostile.turn()
      }
    } catch { throw FuzzFailure("an honest back-end cannot serve: \(error)") }
    throw FuzzFailure("an honest back-end does not work: \(heard.count) bytes came")
  }
}
