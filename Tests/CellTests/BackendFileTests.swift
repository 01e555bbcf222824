import CellGenerate
import CommandOptions
import Foundation
import LinuxRuntime
import Testing

/// The back-end's configuration, read by the back-end's own parsers.
@Suite("CellTests: back-end configuration")
struct BackendFileTests {
  static let keys = [
    OptionSpecification("link", "LINK", ""), OptionSpecification("device", "DEVICE", ""),
  ]

  private func options(
    _ name: String, of generation: Generation
  ) throws -> [(name: String, value: String)] {
    let file = try #require(generation.artefacts.first { $0.name == name })
    var options = try CommandOptions([], Self.keys)
    try options.add(
      configuration: String(decoding: file.bytes, as: UTF8.self), of: name, Self.keys)
    return options.options
  }

  @Test("the file for simulated links is taken as it is", arguments: Repository.boards)
  func simulatedLinksAreTaken(board: String) throws {
    let generation = try Repository.generate(board)
    let options = try options("backend-sim.conf", of: generation)
    for (index, option) in options.enumerated() {
      if index % 2 == 0 {
        #expect(option.name == "link")
        #expect(try LinkSpecification(option.value).placement == nil)
      } else {
        #expect(option.name == "device")
        _ = try DeviceSpecification(option.value)
      }
    }
    #expect(options.count == 2 * 5)
  }

  @Test("the file for the board serves the same devices", arguments: Repository.boards)
  func theBoardServesTheSame(board: String) throws {
    let generation = try Repository.generate(board)
    let simulated = try options("backend-sim.conf", of: generation)
    let real = try options("backend.conf", of: generation)
    #expect(real.map(\.name) == simulated.map(\.name))
    func kinds(_ options: [(name: String, value: String)]) -> [Substring] {
      options.filter { $0.name == "device" }.map { $0.value.prefix { $0 != "," } }
    }
    #expect(kinds(real) == ["block", "console", "network", "entropy", "block"])
    #expect(kinds(simulated) == kinds(real))
    for device in real where device.name == "device" { _ = try DeviceSpecification(device.value) }
    let places = real.filter { $0.name == "link" }.map(\.value)
    #expect(Set(places).count == places.count)
    for place in places {
      #expect(place.wholeMatch(of: /uio:[0-9a-f]{4}:00:[01][0-9a-f]\.0/) != nil, "\(place)")
      #expect(try LinkSpecification(place).text == place)
    }
  }

  @Test("options of a disk arrive")
  func optionsArrive() throws {
    let generation = try Setups.generate(
      Setups.replacing(
        "kind: block, guest: linux",
        "kind: block, guest: linux, file: /srv/a b=c.img, read-only: true, queues: 4"))
    let options = try options("backend.conf", of: generation)
    guard case .block(let disk) = try DeviceSpecification(options[1].value) else {
      Issue.record("no block device")
      return
    }
    #expect(disk.file == "/srv/a b=c.img")
    #expect(disk.isReadOnly)
    #expect(disk.queueCount == 4)
  }

  @Test(
    "the programs open it: every link with its sizes, every device", .enabled(if: Programs.canServe)
  )
  func theProgramsOpenIt() throws {
    let generation = try Setups.generate(
      Setups.good + "\n  random: {kind: entropy, guest: linux}"
        + "\n  terminal: {kind: console, guest: linux}")
    try withFolder { folder in
      for name in ["disk.img", "exchange.img"] {
        try Data(count: 1 << 20).write(to: "\(folder)/\(name)")
      }
      let file = try #require(generation.artefacts.first { $0.name == "backend-sim.conf" })
      try Data(file.bytes).write(to: folder + "/backend-sim.conf")
      // The commands are in the file itself, as comments.
      let commands = String(decoding: file.bytes, as: UTF8.self).split(separator: "\n")
        .filter { $0.hasPrefix("#   ivshmem-sim ") }
        .map { $0.dropFirst(4).dropLast(2).split(separator: " ").map(String.init) }
      #expect(commands.count == 4)
      var servers: [Process] = []
      // A child of a test inherits its mask of blocked signals: SIGTERM would not arrive.
      defer { for server in servers { kill(server.processIdentifier, SIGKILL) } }
      for command in commands {
        let process = Process()
        let said = Pipe()
        process.executableURL = Programs.find(command[0])
        process.arguments = Array(command.dropFirst())
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = said
        try process.run()
        servers.append(process)
        // Its first line comes when peers can join.
        let line = String(decoding: said.fileHandleForReading.availableData, as: UTF8.self)
        #expect(line.contains("link at"), "\(line)")
      }
      let result = try Programs.run(
        "ivshmem-backend", ["--config", "backend-sim.conf", "--check"], in: folder)
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.errors.contains("4 link(s)"))
    }
  }

}

/// Our programs, where the build put them.
enum Programs {
  static let canServe = find("ivshmem-sim") != nil && find("ivshmem-backend") != nil

  static func find(_ name: String) -> URL? {
    [
      URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent(),
      Repository.root.appendingPathComponent(".build/debug"),
    ].map { $0.appendingPathComponent(name) }
      .first { FileManager.default.isExecutableFile(atPath: $0.path) }
  }

  /// Runs a program of ours, or one of the system given by its path.
  static func run(
    _ name: String, _ arguments: [String], in folder: String,
    environment: [String: String] = [:]
  ) throws -> (status: Int32, output: String, errors: String) {
    let process = Process()
    process.executableURL =
      name.hasPrefix("/") ? URL(fileURLWithPath: name) : try #require(find(name))
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (standardOut, standardError) = (Pipe(), Pipe())
    process.standardOutput = standardOut
    process.standardError = standardError
    try process.run()
    // Less than a pipe holds goes to the second one: no deadlock.
    let output = standardOut.fileHandleForReading.readDataToEndOfFile()
    let errors = standardError.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (
      process.terminationStatus, String(decoding: output, as: UTF8.self),
      String(decoding: errors, as: UTF8.self)
    )
  }
}
