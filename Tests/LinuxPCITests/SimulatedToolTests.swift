import CLinux
import Foundation
import Testing

/// The tools on simulated links: the same programs, real processes.
@Suite struct SimulatedToolTests {
  /// A program that runs beside the test and is killed with the value.
  final class Companion {
    let process = Process()
    let input = Pipe()

    init(_ name: String, _ arguments: [String]) throws {
      let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      process.executableURL = root.appendingPathComponent(".build/debug/\(name)")
      process.arguments = arguments
      process.standardInput = input
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      try process.run()
    }

    func end(_ signal: Int32) {
      kill(process.processIdentifier, signal)
      process.waitUntilExit()
    }

    deinit { if process.isRunning { end(SIGKILL) } }
  }

  /// A link with its folder.
  final class Link {
    let folder: URL
    let simulator: Companion
    var target: String { "sim:\(socket)" }
    var socket: String { folder.appendingPathComponent("l").path }
    var control: String { folder.appendingPathComponent("c").path }

    init(_ options: [String] = []) throws {
      folder = FileManager.default.temporaryDirectory.appendingPathComponent("look-\(UUID())")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      simulator = try Companion(
        "ivshmem-sim", ["--socket", folder.appendingPathComponent("l").path, "--quiet"] + options)
      let isThere = try until { try tool("state").status == 0 }
      try #require(isThere)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func tool(
      _ verb: String, _ options: [String] = []
    ) throws -> (status: Int32, output: String, errors: String) {
      try runTool([verb, target] + options)
    }

    func json(_ verb: String, _ options: [String] = []) throws -> [String: Any] {
      try decoded(try tool(verb, ["--json"] + options).output)
    }

    func state(_ peer: Int) throws -> String? {
      let peers = try json("state")["peers"] as? [[String: Any]]
      return peers?[peer]["state"] as? String
    }
  }

  /// Looks again until it holds, at most a minute.
  static func until(_ condition: () throws -> Bool) rethrows -> Bool {
    for _ in 0..<1200 {
      if try condition() { return true }
      var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, 50_000_000)
    }
    return false
  }

  // MARK: Ping

  @Test(arguments: [[], ["--no-one-shot"], ["--vectors", "4"], ["--rw", "1M", "--output", "0"]])
  func pingMakesItsRounds(options: [String]) throws {
    let link = try Link(options)
    let answering = try Companion("ivshmem", ["ping", link.target, "--answer", "--count", "2"])
    let first = try link.json("ping", ["--count", "200"])
    #expect(first["received"] as? Int == 200)
    #expect(first["failure"] is NSNull)
    #expect(first["strays"] as? Int == 0)
    let vector = options.contains("4") ? "3" : "0"
    let run = try link.tool("ping", ["--count", "3", "--interval", "1", "--vector", vector])
    #expect(run.status == 0)
    #expect(run.output.contains("3 round trips"))
    #expect(run.output.contains("p99"))
    answering.process.waitUntilExit()
    #expect(answering.process.terminationStatus == 0)
    // Nothing stays behind.
    #expect(try link.state(0) == "0x0")
    #expect(try link.state(1) == "0x0")
  }

  @Test func pingSaysWhichStageFailed() throws {
    let link = try Link()
    let absent = try link.json("ping", ["--patience", "1"])
    #expect(absent["failure"] as? String == "peer-absent")
    #expect(try link.tool("ping", ["--patience", "1"]).status == 1)
    #expect(try link.tool("ping", ["--vector", "1"]).status == 2)
    let backend = try Companion(
      "ivshmem-backend", ["--link", link.target, "--device", "entropy", "--quiet"])
    #expect(try Self.until { try link.state(0) == "0x434d0102" })
    let busy = try link.json("ping", ["--patience", "1"])
    #expect(busy["failure"] as? String == "peer-busy")
    backend.end(SIGTERM)
  }

  /// An answering side that is stopped hangs; one that is killed has left.
  @Test func pingSeesHangAndDeath() throws {
    let link = try Link()
    let answering = try Companion("ivshmem", ["ping", link.target, "--answer"])
    #expect(try Self.until { try link.state(0) == "0xce910000" })
    kill(answering.process.processIdentifier, SIGSTOP)
    let silent = try link.json("ping", ["--patience", "1"])
    #expect(silent["failure"] as? String == "peer-silent")
    kill(answering.process.processIdentifier, SIGCONT)
    #expect(try link.json("ping", ["--count", "5"])["received"] as? Int == 5)
    let asking = try Companion(
      "ivshmem", ["ping", link.target, "--count", "1000000", "--interval", "1"])
    #expect(try Self.until { try link.state(1)?.hasPrefix("0xce92") == true })
    #expect(try Self.until { try link.state(0)?.hasPrefix("0xce93") == true })
    answering.end(SIGKILL)
    asking.process.waitUntilExit()
    #expect(asking.process.terminationStatus == 1)
    #expect(try link.state(1) == "0x0")
  }

  @Test func signalsEndBothSidesCleanly() throws {
    let link = try Link()
    let answering = try Companion("ivshmem", ["ping", link.target, "--answer"])
    #expect(try Self.until { try link.state(0) == "0xce910000" })
    let asking = try Companion(
      "ivshmem", ["ping", link.target, "--count", "1000000", "--interval", "10"])
    #expect(try Self.until { try link.state(1)?.hasPrefix("0xce92") == true })
    asking.end(SIGINT)
    #expect(asking.process.terminationStatus == 130)
    answering.end(SIGINT)
    #expect(answering.process.terminationStatus == 130)
    #expect(try link.state(0) == "0x0")
    #expect(try link.state(1) == "0x0")
  }

  // MARK: Looking

  @Test func aLiveLinkIsLookedAtFromOutsideAndThroughItsOwner() throws {
    let link = try Link()
    let backend = try Companion(
      "ivshmem-backend",
      ["--link", link.target, "--device", "console,pty", "--control", link.control, "--quiet"])
    #expect(try Self.until { try link.state(0) == "0x434d0102" })
    let frontend = try Companion("ivshmem", ["frontend", "console", "--link", link.target])
    #expect(
      try Self.until {
        let devices = try link.json("peek")["devices"] as? [[String: Any]]
        return (devices?.first?["status"] as? String)?.hasSuffix("driverOK") == true
      })
    let outside = try link.json("peek")
    #expect(outside["dialect"] as? String == "native")
    #expect(outside["rings"] is NSNull)
    let sides = try #require(outside["sides"] as? [[String: Any]])
    #expect(sides.map { $0["block"] as? Bool } == [true, true])
    // Every readable ring of the console is there once its driver has made it.
    #expect(
      try Self.until {
        let rings = try link.json("peek", ["--control", link.control])["rings"] as? [[String: Any]]
        return (rings?.count ?? 0) >= 2
      })
    let inside = try link.json("peek", ["--control", link.control])
    for ring in try #require(inside["rings"] as? [[String: Any]]) {
      #expect(ring["problem"] is NSNull)
      for chain in ring["chains"] as? [[String: Any]] ?? [] {
        for one in chain["descriptors"] as? [[String: Any]] ?? [] {
          #expect(one["inside"] as? Bool == true)
        }
      }
    }
    // The same bytes both ways.
    let raw = try link.json("peek", ["--bytes", "0x1001,30"])["bytes"] as? String
    #expect(
      try link.json("peek", ["--bytes", "0x1001,30", "--control", link.control])["bytes"] as? String
        == raw)
    #expect(raw?.count == 60)
    #expect(try link.tool("peek", ["--bytes", "0xffffffff,4"]).status == 2)
    #expect(try link.tool("peek", ["--bytes", "1"]).status == 2)
    #expect(try link.tool("peek", ["nonsense"]).status == 2)
    #expect(try link.tool("state", ["--control", link.control]).status == 0)
    #expect(try link.tool("state", ["--control", link.socket + "x"]).status == 2)
    let watch = try link.tool(
      "watch", ["--json", "--count", "3", "--interval", "10", "--control", link.control])
    #expect(watch.status == 0)
    #expect(watch.output.split(separator: "\n").count == 3)
    // None of that disturbed it.
    #expect(try link.state(0) == "0x434d0102")
    #expect(try link.state(1) == "0x434d0101")
    frontend.end(SIGTERM)
    backend.end(SIGTERM)
    #expect(backend.process.terminationStatus == 0)
  }

  @Test func watchEndsWithASignalAndWithItsLink() throws {
    let link = try Link()
    let watching = try Companion("ivshmem", ["watch", link.target, "--interval", "10"])
    let other = try Companion(
      "ivshmem", ["watch", link.target, "--interval", "10", "--count", "5"])
    other.process.waitUntilExit()
    #expect(other.process.terminationStatus == 0)
    watching.end(SIGINT)
    #expect(watching.process.terminationStatus == 130)
  }

  @Test func statusTakesNothingForDevicesBeforeABackEndWroteItsBlock() throws {
    // The simulator's memory starts with arbitrary bytes.
    let link = try Link()
    let answer = try runTool(["status", "--link", link.target, "--json"])
    #expect(answer.status == 0)
    #expect((try decoded(answer.output)["devices"] as? [Any])?.isEmpty == true)
  }

  @Test func garbageInTheMemoryIsShownAndNotBelieved() throws {
    let link = try Link(["--rw", "1M", "--output", "64K", "--stale-state"])
    for placement in ["shared", "output"] {
      let run = try runTool(["peek", "\(link.target),placement=\(placement)", "--json"])
      #expect(run.status == 0)
      // No side has written its block: what lies in the slots is no device.
      #expect((try decoded(run.output)["devices"] as? [Any])?.isEmpty == true)
      #expect(try runTool(["peek", "\(link.target),placement=\(placement)"]).status == 0)
    }
    #expect(try runTool(["peek", "\(link.target),dialect=siemens"]).status == 0)
    #expect(try runTool(["peek", "\(link.target),dialect=siemens", "--json"]).status == 0)
    #expect(
      try runTool(["peek", link.target, "rings", "--ring", "256,0x1000,0x2000,0x3000"]).status == 0)
    #expect(try runTool(["watch", link.target, "--count", "1"]).status == 0)
  }
}
