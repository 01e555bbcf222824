import CommandOptions
import Foundation
import Simulator
import ToolSupport

@testable import FrontendCommands

/// What the programs do while one of them dies before a step: start-up, a transfer, the reset that
/// comes with another front-end, another transfer, an end in order, and whoever comes next.
class KillStory {
  enum Device: String, CaseIterable, Sendable { case block, console, entropy, network }

  let way: KillWay
  let server: RunningServer
  let place: String
  /// Front-ends that were started, the last one included.
  private(set) var lives = 0
  /// What front-ends saw of a death.
  private var noticed: [String] = []

  required init(_ way: KillWay, placement: String) throws {
    self.way = way
    place = placement
    server = try Self.server(way, device: Self.device)
  }

  static func server(_ way: KillWay, device: Device) throws -> RunningServer {
    try RunningServer {
      $0.outputSize = 2 << 20
      $0.readWriteSize = 2 << 20
      guard way.link == .siemens else { return }
      $0.outputSize = 0
      $0.vectorCount = 2
      $0.virtioDevice = [.network: 1, .block: 2, .console: 3, .entropy: 4][device] ?? 0
    }
  }

  class var device: Device { .block }

  static func make(_ device: Device, _ way: KillWay, placement: String) throws -> KillStory {
    switch device {
    case .block: try BlockStory(way, placement: placement)
    case .console: try ConsoleStory(way, placement: placement)
    case .entropy: try EntropyStory(way, placement: placement)
    case .network: try NetworkStory(way, placement: placement)
    }
  }

  /// Where the device is, for either program.
  var face: [String] { face(server) }

  func face(_ server: RunningServer) -> [String] {
    switch way.link {
    case .native: ["--link", "sim:\(server.path),placement=\(place)"]
    case .siemens: ["--link", "sim:\(server.path)"]
    case .vhostUser: ["--vhost-user", server.folder.appendingPathComponent("vhost").path]
    }
  }

  /// What a front-end says of the way to its device.
  ///
  /// - Throws: when it lost the back-end more often than that can have died.
  func note(recoveries: Int, resubmitted: Int = 0, of depth: Int = 0) throws {
    if recoveries > 0 { noticed.append("front-end \(lives) sets the device up again") }
    guard recoveries <= 1, resubmitted <= depth * recoveries else {
      throw fail("\(recoveries) recoveries, \(resubmitted) requests submitted again")
    }
  }

  func path(_ name: String) -> String { server.folder.appendingPathComponent(name).path }

  /// The back-end's command line.
  var backend: [String] { [] }
  /// Before a back-end starts.
  func prepare() throws {}
  /// One life of a front-end that dies before `step`, from set-up to leave; whether it did.
  func live(step: Int?) throws -> Bool { false }
  /// When nobody runs any more.
  func check() throws {}

  func fail(_ text: String) -> KillFailure { KillFailure(description: text) }

  private func nextLife(step: Int?) throws -> Bool {
    lives += 1
    var result: Result<Bool, KillFailure> = .success(false)
    // Nobody waits for a socket that is not there yet, or whose owner has just died; and a back-end
    // that is started holds what this process has open until it is itself.
    let passing = ["is a back-end serving there?", "is in use by pid \(getpid()) "]
    _ = holds {
      do {
        result = .success(try live(step: step))
        return true
      } catch {
        let text = "\(error)"
        result = .failure(fail("front-end \(lives): \(text)"))
        return !passing.contains { text.contains($0) }
      }
    }
    return try result.get()
  }

  /// The back-end dies before its step, and is started again; whether it did.
  func killBackEnd(step: Int) throws -> Bool {
    try prepare()
    let mark = way.isSupervised ? path("mark") : nil
    let keeper = try Keeper(way.keep(backend), step: step, mark: mark)
    defer { keeper.stop() }
    _ = try nextLife(step: nil)
    _ = try nextLife(step: nil)
    // Its descriptors are kept from the moment on at which it serves.
    let isHidden = way == .siemensSupervised && !keeper.hasRestarted
    let deaths = try keeper.shutDown()
    if isHidden, !noticed.isEmpty { throw fail("a kept link: \(noticed)") }
    let last = try Keeper(way.keep(backend), step: nil)
    defer { last.stop() }
    _ = try nextLife(step: nil)
    guard try last.shutDown() == 0 else { throw fail("the last back-end dies") }
    try check()
    return deaths > 0
  }

  /// A front-end dies before its step while the back-end lives on; whether it did.
  func killFrontEnd(step: Int) throws -> Bool {
    try prepare()
    let keeper = try Keeper(way.keep(backend), step: nil)
    defer { keeper.stop() }
    let hasDied = try nextLife(step: step)
    _ = try nextLife(step: nil)
    guard try keeper.shutDown() == 0 else { throw fail("the back-end dies") }
    try check()
    return hasDied
  }
}

/// Writes that are looked for on the disk when they are acknowledged, and afterwards.
final class BlockStory: KillStory {
  private static var total: Int { 64 << 10 }
  private static var chunk: Int { 4096 }
  private var file: String { path("disk.img") }

  override var backend: [String] {
    face + ["--device", "block,file=\(file)", "--quiet"]
  }

  private func byte(_ index: Int) -> UInt8 { KillStepTests.byte(index) &+ UInt8(lives) }

  override func prepare() throws {
    try Data(count: Self.total).write(to: URL(fileURLWithPath: file))
  }

  override func live(step: Int?) throws -> Bool {
    if let step {
      let source = path("source")
      try Data((0..<Self.total).map { byte($0) }).write(to: URL(fileURLWithPath: source))
      let tool = try Mortal(
        "ivshmem",
        [
          "frontend", "block", "write", "--file", source, "--size", "\(Self.chunk)", "--depth",
          "4", "--quiet",
        ] + face, step: step)
      return try tool.end("a write")
    }
    let given = try CommandOptions(
      face + ["--quiet"], FrontendPlace.options + FrontendPlace.lastOptions)
    var client = try BlockClient(FrontendPlace(given), depth: 4, chunk: Self.chunk)
    let disk = try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
    var offset = 0
    var wrong: UInt64?
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        defer { offset += Self.chunk }
        if offset < Self.total {
          return TransferStep(type: .write, offset: UInt64(offset), count: Self.chunk)
        }
        return offset == Self.total ? TransferStep(type: .flush, offset: 0, count: 0) : nil
      },
      fill: { (step, span) throws(ClientError) in
        for index in span.indices { span[index] = byte(Int(step.offset) + index) }
      },
      finish: { (step, _) throws(ClientError) in
        guard step.type == .write else { return }
        try? disk.seek(toOffset: step.offset)
        let bytes = [UInt8]((try? disk.read(upToCount: Self.chunk)) ?? Data())
        if bytes != (0..<Self.chunk).map({ byte(Int(step.offset) + $0) }) { wrong = step.offset }
      })
    let report = client.takeReport()
    client.leave()
    try note(recoveries: report.recoveries, resubmitted: Int(report.resubmitted), of: 4)
    if let wrong {
      throw KillFailure(description: "the write at \(wrong) is acknowledged and not on the disk")
    }
    return false
  }

  override func check() throws {
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
    guard bytes == (0..<Self.total).map({ byte($0) }) else {
      throw fail("acknowledged writes are not on the disk")
    }
  }
}

/// Lines in both directions of a port with a socket behind it; a second port, so that the control
/// queues say something.
final class ConsoleStory: KillStory {
  override class var device: Device { .console }
  private static var lines: Int { 60 }
  private var caller: ConsoleCaller?
  /// What the host heard before this life, and how far this side has heard the host.
  private var heardBefore = 0
  private var hostPosition = 0

  override var backend: [String] {
    face + [
      "--device",
      "console,socket=\(path("socket")),size=90x30,log=\(path("log")),name=org.log", "--quiet",
    ]
  }

  override func prepare() throws { caller = ConsoleCaller(path("socket")) }

  override func live(step: Int?) throws -> Bool {
    guard let caller else { return false }
    heardBefore = caller.heard.count
    let letter = Character(UnicodeScalar(UInt8(ascii: "a") + UInt8(lives)))
    let text = NumberedLines.bytes(letter, 0..<Self.lines)
    let tool = try Mortal(
      "ivshmem", ["frontend", "console", "--linger", "0"] + face, step: step)
    // One that dies says so below.
    try? tool.input.fileHandleForWriting.write(contentsOf: Data(text))
    let enough = hostPosition + 9 * Self.lines
    let hasAll = holds {
      !tool.process.isRunning
        || (caller.heard.suffix(18) == text.suffix(18) && self.position(tool.output) >= enough)
    }
    try? tool.input.fileHandleForWriting.close()
    guard hasAll else {
      throw KillFailure(
        description: "\(caller.heard.count - heardBefore) bytes of \(text.count) reach the host,"
          + " \(tool.output.count) come from it: \(tool.errors)")
    }
    let hasDied = try tool.end("a console")
    try checkHost(Array(caller.heard.dropFirst(heardBefore)), text, hasDied)
    try checkTool([UInt8](tool.output))
    try note(recoveries: tool.recoveries)
    return hasDied
  }

  /// Where in what the host says this output ends.
  private func position(_ output: Data) -> Int {
    guard let last = output.lastIndex(of: UInt8(ascii: "\n")), last >= 7 else { return 0 }
    return (Int(String(decoding: output[(last - 6)..<last], as: UTF8.self)) ?? 0) * 9 + 9
  }

  /// Nothing is invented or out of order: from the start of a buffer that was not acknowledged on
  /// it may come again, once a death.
  private func checkHost(_ heard: [UInt8], _ text: [UInt8], _ hasDied: Bool) throws {
    guard let pieces = NumberedLines.pieces(heard, of: text) else {
      throw KillFailure(description: "the host hears what nobody said")
    }
    guard pieces.count <= 2 else {
      throw KillFailure(description: "the host hears \(pieces)")
    }
    for (one, next) in zip(pieces, pieces.dropFirst()) where next.lowerBound > one.upperBound {
      throw KillFailure(description: "the host misses \(one.upperBound)..<\(next.lowerBound)")
    }
    guard pieces.first?.lowerBound ?? 0 == 0 else {
      throw KillFailure(description: "the host misses the first \(pieces[0].lowerBound)")
    }
    guard hasDied || pieces.last?.upperBound == text.count else {
      throw KillFailure(description: "the host misses the end: \(pieces)")
    }
  }

  /// What the host said is never repeated; it is lost only with a back-end or a driver.
  private func checkTool(_ output: [UInt8]) throws {
    let source = NumberedLines.bytes("h", 0..<(caller?.sent ?? 0))
    guard let pieces = NumberedLines.pieces(output, of: source) else {
      throw KillFailure(description: "the front-end hears what nobody said")
    }
    guard pieces.count <= 2 else {
      throw KillFailure(description: "the front-end hears \(pieces)")
    }
    for piece in pieces {
      guard piece.lowerBound >= hostPosition else {
        throw KillFailure(description: "the front-end hears \(piece) again, after \(hostPosition)")
      }
      hostPosition = piece.upperBound
    }
  }

  override func check() throws { caller?.stop() }

  deinit { caller?.stop() }
}

/// Random bytes go on: as many as were asked for, and none twice.
final class EntropyStory: KillStory {
  override class var device: Device { .entropy }
  override var backend: [String] { face + ["--device", "entropy", "--quiet"] }
  private var seen = Set<Substring>()

  override func live(step: Int?) throws -> Bool {
    let count = 8192
    let tool = try Mortal(
      "ivshmem",
      ["frontend", "entropy", "--bytes", "\(count)", "--hex"] + face, step: step)
    let hasDied = try tool.end("entropy")
    try note(recoveries: tool.recoveries)
    let lines = String(decoding: tool.output, as: UTF8.self).split(separator: "\n")
    // The last line of one that dies may be cut.
    for line in hasDied ? lines.dropLast() : lines[...] {
      guard line.count == 64 else { throw KillFailure(description: "a line reads '\(line)'") }
      guard seen.insert(line).inserted else {
        throw KillFailure(description: "the same random bytes come twice: \(line)")
      }
    }
    guard hasDied || lines.count == count / 32 else {
      throw KillFailure(description: "\(lines.count) lines of \(count / 32)")
    }
    return hasDied
  }
}

/// Frames from one link to the other through the switch of the back-end: whole, each once, in order.
final class NetworkStory: KillStory {
  private var other: RunningServer?
  /// Which of the two front-ends dies, sender and receiver in turn.
  static func killsReceiver(_ step: Int) -> Bool { step & 2 != 0 }

  override class var device: Device { .network }
  override var backend: [String] {
    face + ["--device", "network,mac=\(NetworkProgramTests.first),switch=lan"] + far + [
      "--device", "network,mac=\(NetworkProgramTests.second),switch=lan", "--quiet",
    ]
  }

  private var far: [String] { other.map { face($0) } ?? [] }

  override func prepare() throws { other = try Self.server(way, device: .network) }

  override func live(step: Int?) throws -> Bool {
    let kills = step.map { Self.killsReceiver($0) } ?? false
    let receiver = try Mortal(
      "ivshmem", ["frontend", "network", "receive", "--count", "80", "--json"] + far,
      step: kills ? step : nil)
    guard holds({ !receiver.process.isRunning || receiver.errors.contains("receiving as") })
    else { throw KillFailure(description: "no receiver: \(receiver.errors)") }
    if !kills, !receiver.process.isRunning { _ = try receiver.end("a receiver") }
    let sender = try Mortal(
      "ivshmem",
      [
        "frontend", "network", "send", "--to", NetworkProgramTests.second, "--count", "80",
        "--size", "300", "--json",
      ] + face, step: kills ? nil : step)
    let mortal = kills ? receiver : sender
    guard holds({ !mortal.process.isRunning }) else {
      throw KillFailure(description: "no end: \(sender.errors) \(receiver.errors)")
    }
    if try mortal.end("the one that dies") {
      // Nobody answers the other one any more.
      KillStepTests.end((kills ? sender : receiver).process)
      return true
    }
    guard try !sender.end("a sender"), try !receiver.end("a receiver") else {
      throw KillFailure(description: "somebody else dies")
    }
    try note(recoveries: sender.recoveries)
    try note(recoveries: receiver.recoveries)
    let one = try NetworkProgramTests.result(String(decoding: sender.output, as: UTF8.self))
    let two = try NetworkProgramTests.result(String(decoding: receiver.output, as: UTF8.self))
    guard one["digest"] as? String == two["digest"] as? String, two["frames"] as? Int == 80,
      two["corrupt"] as? Int == 0
    else { throw KillFailure(description: "sent \(one), received \(two)") }
    return false
  }
}
