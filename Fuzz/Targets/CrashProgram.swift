import VirtioTransport

/// The sweep over all steps, as the program and the tests run it.
public enum CrashProgram {
  /// What a sweep covered, and what it found.
  public struct Report: Sendable {
    /// Steps of the story without a crash: placement, back-end, front-end.
    public internal(set) var steps: [String] = []
    /// Cases that were played.
    public internal(set) var cases = 0
    /// What broke; each text starts with the case.
    public internal(set) var failures: [String] = []
  }

  /// Plays each case of one device in which one side dies once, before every `every`th step from
  /// `start` on, in four shapes of death, and `pairs` random cases with two deaths.
  ///
  /// - Throws: what the system says about the memory.
  public static func sweep(
    _ device: CrashCase.Device, every: UInt64, start: UInt64, pairs: Int, seed: UInt64
  ) throws -> Report {
    let sweep = try CrashSweep()
    var report = Report()
    var dice = seed
    for placement: Placement in [.shared, .output] {
      let totals: (backEnd: UInt64, frontEnd: UInt64)
      do {
        totals = try sweep.run(CrashCase(placement, .backEnd, step: 0, device: device))
      } catch {
        report.failures.append("\(error)")
        continue
      }
      report.steps.append(
        "\(device.rawValue), \(placement): \(totals.backEnd) steps of the back-end,"
          + " \(totals.frontEnd) of the front-end")
      for side: LinkSide in [.backEnd, .frontEnd] {
        let count = side == .backEnd ? totals.backEnd : totals.frontEnd
        for step in stride(from: max(1, start), through: count, by: Int(every)) {
          for shape in 0..<4 {
            var plan = CrashCase(placement, side, step: step, device: device)
            plan.isHidden = shape & 1 != 0
            plan.findsGarbage = shape & 2 != 0
            play(plan, on: sweep, &report)
          }
        }
      }
      for _ in 0..<pairs {
        dice = dice &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let roll = dice >> 8
        let side: LinkSide = roll & 1 == 0 ? .backEnd : .frontEnd
        let count = side == .backEnd ? totals.backEnd : totals.frontEnd
        var plan = CrashCase(placement, side, step: 1 + (roll >> 8) % count, device: device)
        plan.isHidden = roll & 2 != 0
        plan.findsGarbage = roll & 4 != 0
        plan.nextSide = roll & 8 == 0 ? .backEnd : .frontEnd
        // Most second deaths follow closely.
        plan.nextStep = 1 + (roll >> 32) % (roll & 16 == 0 ? 60 : 1000)
        play(plan, on: sweep, &report)
      }
    }
    return report
  }

  private static func play(_ plan: CrashCase, on sweep: CrashSweep, _ report: inout Report) {
    report.cases += 1
    do {
      try sweep.run(plan)
    } catch { report.failures.append("\(error)") }
  }

  /// The program: a sweep, or the cases that are named.
  ///
  /// - Throws: what the system says about the memory, and what broke.
  public static func run(_ arguments: [String]) throws {
    var options: [String: UInt64] = ["--every": 1, "--pairs": 2000, "--seed": 1]
    var cases: [CrashCase] = []
    var devices: [CrashCase.Device] = []
    var rest = arguments[...]
    while let word = rest.popFirst() {
      if options[word] != nil {
        options[word] = rest.popFirst().flatMap { UInt64($0) } ?? 1
      } else if word == "--device" {
        guard let device = CrashCase.Device(rawValue: rest.popFirst() ?? "") else {
          throw FuzzFailure("--device takes block, console, entropy or network")
        }
        devices.append(device)
      } else if let plan = CrashCase(word) {
        cases.append(plan)
      } else {
        throw FuzzFailure("\(word) is no case; a case reads output,back-end,123,hidden")
      }
    }
    guard cases.isEmpty else {
      let sweep = try CrashSweep()
      for plan in cases {
        try sweep.run(plan)
        print("\(plan): all is well")
      }
      return
    }
    var failures: [String] = []
    for device in devices.isEmpty ? CrashCase.Device.allCases : devices {
      let start = ContinuousClock.now
      let report = try sweep(
        device, every: max(1, options["--every"] ?? 1), start: 1,
        pairs: Int(options["--pairs"] ?? 0), seed: options["--seed"] ?? 1)
      for line in report.steps + report.failures.prefix(40) { print(line) }
      let seconds = (ContinuousClock.now - start).components.seconds
      print(
        "\(device.rawValue): \(report.cases) cases in \(seconds) s,"
          + " \(report.failures.count) failures")
      failures += report.failures
    }
    if let first = failures.first { throw FuzzFailure(first) }
  }
}
