import CommandOptions
import Foundation
import FrontendCommands
import LinkNames
import Simulator
import ToolSupport

/// What the programs do while one of them dies before a step: start-up, a transfer, the reset that
/// comes with another front-end, another transfer, an end in order, and whoever comes next.
class KillStory {
  enum Device: String, CaseIterable, Sendable { case block, console, entropy, network }

  let server: RunningServer
  let link: String
  /// Front-ends that were started, the last one included.
  private(set) var lives = 0

  required init(placement: String) throws {
    server = try RunningServer {
      $0.outputSize = 2 << 20
      $0.readWriteSize = 2 << 20
    }
    link = "sim:\(server.path),placement=\(placement)"
  }

  static func make(_ device: Device, placement: String) throws -> KillStory {
    switch device {
    case .block: try BlockStory(placement: placement)
    case .console: try ConsoleStory(placement: placement)
    case .entropy: try EntropyStory(placement: placement)
    case .network: try NetworkStory(placement: placement)
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
    do {
      return try live(step: step)
    } catch let failure as KillFailure {
      throw fail("front-end \(lives): \(failure.description)")
    }
  }

  /// The back-end dies before its step, and is started again; whether it did.
  func killBackEnd(step: Int) throws -> Bool {
    try prepare()
    let keeper = try KillStepTests.Keeper(backend, step: step)
    defer { keeper.stop() }
    _ = try nextLife(step: nil)
    _ = try nextLife(step: nil)
    let deaths = try keeper.shutDown()
    let last = try KillStepTests.Keeper(backend, step: nil)
    defer { last.stop() }
    _ = try nextLife(step: nil)
    guard try last.shutDown() == 0 else { throw fail("the last back-end dies") }
    try check()
    return deaths > 0
  }

  /// A front-end dies before its step while the back-end lives on; whether it did.
  func killFrontEnd(step: Int) throws -> Bool {
    try prepare()
    let keeper = try KillStepTests.Keeper(backend, step: nil)
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
    ["--link", link, "--device", "block,file=\(file)", "--quiet"]
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
          "frontend", "block", "write", "--link", link, "--file", source, "--size",
          "\(Self.chunk)", "--depth", "4", "--quiet",
        ], step: step)
      return try tool.end("a write")
    }
    var client = try BlockClient(
      link: try LinkSpecification(link), slot: 0, depth: 4, chunk: Self.chunk,
      patience: 60_000_000_000
    ) { _ in }
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
    client.leave()
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
  private static var lines: Int { 60 }
  private var caller: ConsoleCaller?
  /// What the host heard before this life, and how far this side has heard the host.
  private var heardBefore = 0
  private var hostPosition = 0

  override var backend: [String] {
    [
      "--link", link, "--device",
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
      "ivshmem", ["frontend", "console", "--link", link, "--linger", "0", "--quiet"], step: step)
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
  override var backend: [String] { ["--link", link, "--device", "entropy", "--quiet"] }
  private var seen = Set<Substring>()

  override func live(step: Int?) throws -> Bool {
    let count = 8192
    let tool = try Mortal(
      "ivshmem",
      ["frontend", "entropy", "--link", link, "--bytes", "\(count)", "--hex", "--quiet"],
      step: step)
    let hasDied = try tool.end("entropy")
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

  override var backend: [String] {
    [
      "--link", link, "--device", "network,mac=\(NetworkProgramTests.first),switch=lan", "--link",
      far, "--device", "network,mac=\(NetworkProgramTests.second),switch=lan", "--quiet",
    ]
  }

  private var far: String { "sim:\(other?.path ?? "")" }

  override func prepare() throws { other = try RunningServer { $0.outputSize = 2 << 20 } }

  override func live(step: Int?) throws -> Bool {
    let kills = step.map { Self.killsReceiver($0) } ?? false
    let receiver = try Mortal(
      "ivshmem", ["frontend", "network", "receive", "--link", far, "--count", "80", "--json"],
      step: kills ? step : nil)
    guard holds({ !receiver.process.isRunning || receiver.errors.contains("receiving as") })
    else { throw KillFailure(description: "no receiver: \(receiver.errors)") }
    let sender = try Mortal(
      "ivshmem",
      [
        "frontend", "network", "send", "--link", link, "--to", NetworkProgramTests.second,
        "--count", "80", "--size", "300", "--json",
      ], step: kills ? nil : step)
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
    let one = try NetworkProgramTests.result(String(decoding: sender.output, as: UTF8.self))
    let two = try NetworkProgramTests.result(String(decoding: receiver.output, as: UTF8.self))
    guard one["digest"] as? String == two["digest"] as? String, two["frames"] as? Int == 80,
      two["corrupt"] as? Int == 0
    else { throw KillFailure(description: "sent \(one), received \(two)") }
    return false
  }
}
