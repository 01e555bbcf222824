import Foundation
import Testing

/// Processes of every device that kill themselves before a step of their own, numbered as in the
/// sweep within one process: a few steps in every run, and all of them by `./dev fuzz --crash
/// --processes` (docs/testing.md).
@Suite struct KillSweepTests {
  enum Side: String, CaseIterable, Sendable { case backEnd = "back-end", frontEnd = "front-end" }

  /// Whether somebody died.
  static func play(_ device: KillStory.Device, _ side: Side, step: Int) throws -> Bool {
    let placement = step % 3 == 0 ? "shared" : "output"
    let name = "\(device.rawValue), \(side.rawValue), step \(step), \(placement)"
    do {
      let story = try KillStory.make(device, placement: placement)
      switch side {
      case .backEnd: return try story.killBackEnd(step: step)
      case .frontEnd: return try story.killFrontEnd(step: step)
      }
    } catch { throw KillFailure(description: "\(name): \(error)") }
  }

  /// In start-up, in a transfer, after a reset; with other steps in every device.
  @Test(arguments: KillStory.Device.allCases, Side.allCases)
  func aFewSteps(device: KillStory.Device, side: Side) throws {
    for step in [37, 181] { #expect(try Self.play(device, side, step: step)) }
  }

  static var environment: [String: String] { ProcessInfo.processInfo.environment }
  static let every = Int(environment["CELLMATE_KILL_EVERY"] ?? "") ?? 0
  static let start = Int(environment["CELLMATE_KILL_FROM"] ?? "") ?? 1
  static let devices = (environment["CELLMATE_KILL_DEVICES"] ?? "").split(separator: ",")
    .compactMap { KillStory.Device(rawValue: String($0)) }

  /// Every how many steps somebody dies, until the whole story has fewer.
  @Test(.enabled(if: every > 0))
  func theSweep() throws {
    var failures: [String] = []
    for device in Self.devices.isEmpty ? KillStory.Device.allCases : Self.devices {
      for side in Side.allCases {
        let start = Date()
        var step = Self.start
        var cases = 0
        // Runs differ a little: the end is where three in a row do not get so far.
        var unreached = 0
        while unreached < 3, failures.count < 20 {
          do {
            unreached = try Self.play(device, side, step: step) ? 0 : unreached + 1
          } catch { failures.append("\(error)") }
          cases += 1
          step += Self.every
        }
        print(
          "\(device.rawValue), \(side.rawValue): \(cases) cases up to step \(step - Self.every),"
            + " \(Int(Date().timeIntervalSince(start))) s")
      }
    }
    for failure in failures { print(failure) }
    #expect(failures == [])
  }
}
