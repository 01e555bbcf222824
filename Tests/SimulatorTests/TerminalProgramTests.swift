import CHostConsole
import Foundation
import Simulator
import Testing

/// Programs that put a terminal into raw mode put it back, whatever ends them.
@Suite struct TerminalProgramTests {
  /// A terminal of which we are the person in front.
  final class Person {
    let master: Int32
    let other: Int32

    init() throws {
      var name = [CChar](repeating: 0, count: CHC_NAME)
      master = Int32(unsafe chc_pty(&name))
      other = unsafe open(name, O_RDWR | O_NOCTTY)
      guard master >= 0, other >= 0 else { throw CocoaError(.fileReadUnknown) }
      // As a terminal is for people.
      var modes = termios()
      _ = unsafe tcgetattr(other, &modes)
      modes.c_iflag |= UInt32(ICRNL)
      modes.c_oflag |= UInt32(OPOST | ONLCR)
      modes.c_lflag |= UInt32(ICANON | ECHO | ISIG)
      _ = unsafe tcsetattr(other, TCSANOW, &modes)
    }

    deinit {
      close(master)
      close(other)
    }

    var modes: [UInt32] {
      var modes = termios()
      _ = unsafe tcgetattr(other, &modes)
      return [modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag]
    }

    var isRaw: Bool { modes[3] & UInt32(ICANON | ECHO | ISIG) == 0 }

    func type(_ text: String) { _ = unsafe write(master, text, text.utf8.count) }

    /// What the program has put on the screen until `text` is there.
    func sees(_ text: String) -> Bool {
      var all = ""
      return holds {
        var bytes = [UInt8](repeating: 0, count: 1000)
        let got = unsafe read(master, &bytes, bytes.count)
        if got > 0 { all += String(decoding: bytes[..<got], as: UTF8.self) }
        return all.contains(text)
      }
    }
  }

  private func start(_ name: String, _ arguments: [String], _ person: Person) throws -> Process {
    let process = Process()
    process.executableURL = DiskTests.program(name)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment
    process.environment?["SWIFT_BACKTRACE"] = "enable=no"
    let handle = FileHandle(fileDescriptor: person.other)
    process.standardInput = handle
    process.standardOutput = handle
    process.standardError = handle
    try process.run()
    return process
  }

  @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT, 0])
  func theBackendPutsTheTerminalBack(signal: Int32) throws {
    let server = try RunningServer { $0.outputSize = 2 << 20 }
    let person = try Person()
    let before = person.modes
    let process = try start(
      "ivshmem-backend", ["--link", "sim:\(server.path)", "--device", "console,stdio"], person)
    #expect(person.sees("waiting for its front-end\r\n"))
    #expect(person.isRaw)
    if signal == 0 { person.type("\u{1d}") } else { kill(process.processIdentifier, signal) }
    process.waitUntilExit()
    #expect(person.modes == before)
    let isOrderly = [SIGTERM, SIGINT, 0].contains(signal)
    #expect(process.terminationReason == (isOrderly ? .exit : .uncaughtSignal))
    #expect(process.terminationStatus == (isOrderly ? 0 : signal))
  }

  @Test(arguments: [SIGTERM, SIGHUP, 0])
  func theFrontEndPutsTheTerminalBack(signal: Int32) throws {
    let server = try RunningServer { $0.outputSize = 2 << 20 }
    let log = server.folder.appendingPathComponent("log")
    let backend = try Program(
      "ivshmem-backend",
      ["--link", "sim:\(server.path)", "--device", "console,log=\(log.path),size=70x20", "--quiet"])
    let person = try Person()
    let before = person.modes
    let process = try start(
      "ivshmem", ["frontend", "console", "--link", "sim:\(server.path)"], person)
    #expect(person.sees("the console is 70x20\r\n"))
    #expect(person.isRaw)
    // Ctrl-C is for the other end.
    person.type("typed\u{03}")
    #expect(holds { (try? Data(contentsOf: log)) == Data("typed\u{03}".utf8) })
    if signal == 0 { person.type("\u{1d}") } else { kill(process.processIdentifier, signal) }
    process.waitUntilExit()
    #expect(person.modes == before)
    #expect(process.terminationStatus == (signal == SIGTERM ? 130 : signal))
    #expect(try backend.stop().status == 0)
  }
}
