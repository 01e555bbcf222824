import Testing
import ToolSupport

@testable import FrontendCommands

/// A disk whose back-end forgets what was not flushed when its machine dies. As the driver does, it
/// makes a request that was open at that time again, of the next back-end.
private struct ForgetfulDisk {
  private(set) var stable = [UInt8](repeating: 0, count: 64)
  private var cached: [Int: UInt8] = [:]
  private(set) var losses = 0
  private(set) var steps = 0
  /// Before which steps the machine dies; a step is a byte's write, or a flush.
  var deaths: Set<Int>

  init(deaths: Set<Int>) { self.deaths = deaths }

  private mutating func step() {
    if deaths.contains(steps) {
      cached = [:]
      losses += 1
    }
    steps += 1
  }

  mutating func write(_ byte: UInt8, at place: Int) {
    step()
    cached[place] = byte
  }

  mutating func flush() {
    step()
    for (place, byte) in cached { stable[place] = byte }
    cached = [:]
  }
}

@Suite struct FlushedRangeTests {
  static let source = (0..<64).map { UInt8($0 + 1) }

  /// Writes 48 bytes in windows of 16.
  private static func run(_ disk: inout ForgetfulDisk) throws(ClientError) -> UInt64 {
    var flushed = FlushedRange(8..<56)
    try flushed.write(
      to: &disk, window: 16, losses: { $0.losses },
      write: { (disk, part) throws(ClientError) in
        for place in part { disk.write(source[Int(place)], at: Int(place)) }
      }, flush: { (disk) throws(ClientError) in disk.flush() })
    return flushed.rewritten
  }

  private static func isWhole(_ disk: ForgetfulDisk) -> Bool {
    disk.stable[8..<56] == source[8..<56] && disk.stable[..<8].allSatisfy { $0 == 0 }
      && disk.stable[56...].allSatisfy { $0 == 0 }
  }

  @Test func nothingIsWrittenTwiceWithoutALoss() throws {
    var disk = ForgetfulDisk(deaths: [])
    #expect(try Self.run(&disk) == 0)
    #expect(disk.steps == 48 + 3)
    #expect(Self.isWhole(disk))
  }

  /// The machine dies before every step, and before every second one as well: all bytes are stable
  /// at the end.
  @Test func aMachineMayDieAtAnyStep() throws {
    for first in 0..<51 {
      for second in first..<60 {
        var disk = ForgetfulDisk(deaths: [first, second])
        let rewritten = try Self.run(&disk)
        let isWhole = Self.isWhole(disk)
        #expect(isWhole, "died before steps \(first) and \(second)")
        #expect(rewritten > 0 && rewritten <= 32)
      }
    }
  }

  /// One flush at the end, as it was: a write that was acknowledged is lost, and nobody says so.
  @Test func oneFlushAtTheEndIsNotEnough() {
    var disk = ForgetfulDisk(deaths: [20])
    for place in 8..<56 { disk.write(Self.source[place], at: place) }
    disk.flush()
    let isWhole = Self.isWhole(disk)
    #expect(!isWhole)
  }

  @Test func aBackEndThatAlwaysDiesIsGivenUp() {
    var disk = ForgetfulDisk(deaths: Set(0..<100_000))
    var seen: ClientError?
    do throws(ClientError) { _ = try Self.run(&disk) } catch { seen = error }
    guard case .failed(let text)? = seen else {
      Issue.record("it was not given up")
      return
    }
    #expect(text.contains("went away 100 times before bytes 8 to 24 were safe"))
  }
}
