import Foundation
import Testing

/// Processes of every device that kill themselves before a step of their own, numbered as in the
/// sweep within one process: a few steps in every run, and all of them by `./dev fuzz --crash
/// --processes` (docs/testing.md).
@Suite struct KillSweepTests {
  enum Side: String, CaseIterable, Sendable { case backEnd = "back-end", frontEnd = "front-end" }

  /// Whether somebody died.
  static func play(
    _ way: KillWay, _ device: KillStory.Device, _ side: Side, step: Int
  ) throws -> Bool {
    let placement = step % 3 == 0 ? "shared" : "output"
    var name = "\(way.rawValue), \(device.rawValue), \(side.rawValue), step \(step)"
    if way == .native { name += ", \(placement)" }
    do {
      let story = try KillStory.make(device, way, placement: placement)
      switch side {
      case .backEnd: return try story.killBackEnd(step: step)
      case .frontEnd: return try story.killFrontEnd(step: step)
      }
    } catch { throw KillFailure(description: "\(name): \(error)") }
  }

  /// In start-up, in a transfer, after a reset; with other steps in every device.
  @Test(arguments: KillStory.Device.allCases, Side.allCases)
  func aFewSteps(device: KillStory.Device, side: Side) throws {
    for step in [37, 181] { #expect(try Self.play(.native, device, side, step: step)) }
  }

  /// A disk on every other way.
  @Test(arguments: KillWay.allCases.filter { $0 != .native })
  func aStepOnEveryWay(way: KillWay) throws {
    #expect(try Self.play(way, .block, .backEnd, step: 47))
  }

  static var environment: [String: String] { ProcessInfo.processInfo.environment }
  static let every = Int(environment["CELLMATE_KILL_EVERY"] ?? "") ?? 0
  static let start = Int(environment["CELLMATE_KILL_FROM"] ?? "") ?? 1
  static let devices = list("CELLMATE_KILL_DEVICES", KillStory.Device.self)
  static let ways = list("CELLMATE_KILL_WAYS", KillWay.self)

  /// What a variable names, or everything.
  static func list<Name: RawRepresentable & CaseIterable>(
    _ variable: String, _: Name.Type
  ) -> [Name] where Name.RawValue == String {
    let found = (environment[variable] ?? "").split(separator: ",")
      .compactMap { Name(rawValue: String($0)) }
    return found.isEmpty ? Array(Name.allCases) : found
  }

  /// Every how many steps somebody dies, until the whole story has fewer.
  @Test(.enabled(if: every > 0))
  func theSweep() throws {
    var failures: [String] = []
    for way in Self.ways {
      for device in Self.devices {
        // Whoever supervises back-ends does nothing for a front-end.
        for side in way.isSupervised ? [.backEnd] : Side.allCases {
          Self.sweep(way, device, side, &failures)
        }
      }
    }
    #expect(failures == [])
  }

  static func sweep(
    _ way: KillWay, _ device: KillStory.Device, _ side: Side, _ failures: inout [String]
  ) {
    let begin = Date()
    var step = start
    var cases = 0
    var broken = 0
    // Runs differ a little: the end is where three in a row do not get so far.
    var unreached = 0
    while unreached < 3, broken < 20 {
      do {
        unreached = try play(way, device, side, step: step) ? 0 : unreached + 1
      } catch {
        print(error)
        failures.append("\(error)")
        broken += 1
      }
      cases += 1
      step += every
    }
    print(
      "\(way.rawValue), \(device.rawValue), \(side.rawValue): \(cases) cases up to step"
        + " \(step - every), \(broken) failed, \(Int(Date().timeIntervalSince(begin))) s")
  }
}
