import Foundation
import Testing

@testable import BackendService

/// docs/service.md and the unit agree with the code.
@Suite struct ServicePageTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  @Test func theMetricsTableIsWhole() throws {
    let page = try String(
      contentsOf: Self.root.appendingPathComponent("docs/service.md"), encoding: .utf8)
    let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `cellmate_") }
    let named = rows.map { String($0.dropFirst(3).prefix { $0 != "`" }) }
    #expect(named == MetricWriter.help.map(\.0))
  }

  /// Whatever a process exports has its row.
  @Test(arguments: ControlTests.policies) func everyFamilyHasARow(threads: String) throws {
    let server = try RunningServer()
    let service = try ServiceProcess()
    try service.start([
      "--link", "sim:\(server.path)", "--device", "entropy", "--device",
      "console,log=\(service.path("log"))", "--device",
      "network,mac=02:00:00:00:00:01,switch=lan,rate=1000000,isolate,queues=2", "--vhost-user",
      service.path("net"), "--device", "network,mac=02:00:00:00:00:02,switch=lan", "--vhost-user",
      service.path("disk"), "--device",
      "block,file=\(try service.image("disk.img"))", "--threads", threads,
    ])
    let known = Set(MetricWriter.help.map(\.0))
    let families = try service.metrics().keys
    #expect(families.count > 30)
    #expect(families.contains("cellmate_network_spoofed_total"))
    for family in families { #expect(known.contains(family), "\(family)") }
    #expect(try service.stop() == 0)
  }

  /// systemd's own judgement of the unit, where there is a systemd.
  @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/systemd-analyze")))
  func theUnitIsTight() throws {
    let unit = Self.root.appendingPathComponent("systemd/ivshmem-backend@.service").path
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/systemd-analyze")
    process.arguments = ["security", "--offline=true", "--threshold=15", unit]
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(
      decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 0, "\(text.suffix(400))")
    #expect(!text.contains("ignoring"), "\(text.prefix(400))")
  }
}
