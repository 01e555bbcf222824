public import LinuxSupport

/// The stories of all devices, of which a case plays one.
public final class CrashSweep {
  private let block: BlockSweep
  private var console: DriverSweep<FuzzedConsoleDriver>?
  private var entropy: DriverSweep<FuzzedEntropyDriver>?
  private var network: DriverSweep<FuzzedNetDriver>?
  /// Uses a disk that forgets what it acknowledged: every case has to fail.
  public var hasForgetfulDisk: Bool {
    get { block.hasForgetfulDisk }
    set { block.hasForgetfulDisk = newValue }
  }
  /// Uses hosts that lose, repeat or mix up: every case of the other devices has to fail.
  public var fault = SweepFault.none

  /// Makes the memory that all cases of disks use.
  ///
  /// - Throws: what the system says about it.
  public init() throws(SystemError) { block = try BlockSweep() }

  /// Tells the story with one case; returns how many steps each side made.
  ///
  /// - Throws: the promise that was broken.
  @discardableResult
  public func run(_ plan: CrashCase) throws -> (backEnd: UInt64, frontEnd: UInt64) {
    switch plan.device {
    case .block: try block.run(plan)
    case .console: try Self.run(plan, on: &console, ConsoleTalk(), fault)
    case .entropy: try Self.run(plan, on: &entropy, EntropyTalk(), fault)
    case .network: try Self.run(plan, on: &network, NetworkTalk(), fault)
    }
  }

  private static func run<Driver: FuzzedDriver & ~Copyable>(
    _ plan: CrashCase, on sweep: inout DriverSweep<Driver>?,
    _ talk: @autoclosure () -> SweepTalk<Driver>, _ fault: SweepFault
  ) throws -> (backEnd: UInt64, frontEnd: UInt64) {
    let story = try sweep ?? DriverSweep(talk())
    sweep = story
    story.talk.fault = fault
    return try story.run(plan)
  }
}
