/// The fuzzers by name, for programs and tests.
public enum FuzzTarget: String, CaseIterable, Sendable {
  /// A hostile VMM against a vhost-user device.
  case vhostUser = "vhost-user"
  /// Hostile vfio-user clients against the simulator.
  case vfioUser = "vfio-user"
  /// A hostile front-end against a back-end.
  case backend
  /// A hostile back-end against the block front-end.
  case frontend
  /// A hostile back-end against the block driver that knows no transport.
  case blockDriver = "block-driver"
  /// A hostile back-end against the console driver.
  case console
  /// A hostile back-end against the entropy driver.
  case entropy
  /// A hostile front-end against network devices.
  case network
  /// A hostile back-end against the network driver.
  case netDriver = "net-driver"
  /// A hostile driver of the Siemens dialect against a back-end.
  case siemens
}

/// One fuzzer, ready to play inputs.
public final class FuzzPlayer {
  // Plain references: the leak checker does not find an object behind an enum's tagged one.
  private var vhostUser: VhostUserFuzzer?
  private var vfioUser: VfioUserFuzzer?
  private var backend: BackendFuzzer?
  private var frontend: FrontendFuzzer?
  private var driver: DriverFuzzer?
  private var siemens: SiemensFuzzer?

  /// Makes the fuzzer of that name.
  ///
  /// - Throws: what the system says about its memory.
  public init(_ target: FuzzTarget) throws {
    switch target {
    case .vhostUser: vhostUser = try VhostUserFuzzer()
    case .vfioUser: vfioUser = try VfioUserFuzzer()
    case .backend: backend = try BackendFuzzer()
    case .frontend: frontend = try FrontendFuzzer()
    case .blockDriver: driver = try DriverFuzzer(.block)
    case .console: driver = try DriverFuzzer(.console)
    case .entropy: driver = try DriverFuzzer(.entropy)
    case .network: backend = try BackendFuzzer.network()
    case .netDriver: driver = try DriverFuzzer(.network)
    case .siemens: siemens = try SiemensFuzzer()
    }
  }

  /// Makes a device or a driver go wrong from now on, to show that AddressSanitizer sees it.
  ///
  /// - Parameter late: a device that does so while it looks at its host.
  public func stray(late: String = "") {
    if let late = BackendFuzzer.LateDevice(rawValue: late) {
      backend?.straysLate = late
      return
    }
    backend?.strays = true
    frontend?.strays = true
    driver?.strays = true
  }

  /// Nothing else runs in this process: descriptors that stay open are counted, too.
  public func runsAlone() { vfioUser?.isAlone = true }

  /// Plays one input.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws {
    vhostUser?.run(bytes)
    try vfioUser?.run(bytes)
    try backend?.run(bytes)
    try frontend?.run(bytes)
    try driver?.run(bytes)
    try siemens?.run(bytes)
  }

  /// What was played, for people.
  public var summary: String {
    vhostUser?.summary ?? vfioUser?.summary ?? backend?.summary ?? frontend?.summary ?? driver?
      .summary
      ?? siemens?.summary ?? ""
  }

  /// A random input: for seeded runs. Most begin with an honest set-up, or they would not get far.
  public static func randomInput(_ target: FuzzTarget, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 1
    func next() -> UInt8 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: (state ^ state >> 31) >> 24)
    }
    var bytes = (0..<600).map { _ in next() }
    guard next() & 3 != 0 else { return bytes }
    switch target {
    case .vhostUser: bytes.insert(contentsOf: [5, 6, 0, 0, 6, 1, 0], at: 0)
    case .vfioUser: bytes.insert(contentsOf: [0x08, 0x1a, 0x08], at: 0)
    case .backend, .network: bytes.insert(contentsOf: [0x07, 0x17, 0x27], at: 1)
    case .frontend, .blockDriver, .console, .entropy, .netDriver: break
    case .siemens: bytes.insert(contentsOf: [0x02, 0x03, 0x00], at: 1)
    }
    return bytes
  }
}
