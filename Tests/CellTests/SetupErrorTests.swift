import CellCheck
import CellGenerate
import Foundation
import Testing

/// One wrong description: what it says instead of a part of the good one, and the one finding.
struct WrongSetup: Sendable, CustomTestStringConvertible {
  var name: String
  var old: String
  var new: String
  var rule: String
  /// `line:column`.
  var place: String
  /// A part of the message.
  var says: String
  var testDescription: String { name }

  init(
    _ name: String, _ old: String, _ new: String, _ rule: String, _ place: String, _ says: String
  ) {
    self.name = name
    self.old = old
    self.new = new
    self.rule = rule
    self.place = place
    self.says = says
  }
}

@Suite("CellTests: wrong setups")
struct SetupErrorTests {
  static let wrong = [
    WrongSetup("unknown key", "cpus: [2, 3]", "cpu: [2, 3]", "Y02", "5:5", "did you mean 'cpus'"),
    WrongSetup("unknown top key", "links:", "link:", "Y02", "13:1", "unknown key 'link'"),
    WrongSetup(
      "unknown key of a link", "kind: block,", "kind: block, speed: 3,", "Y02", "14:23", "'speed'"),
    WrongSetup("wrong type", "cpus: [2, 3]", "cpus: many", "Y03", "5:11", "expected a list"),
    WrongSetup(
      "a list for a number", "memory: 512M", "memory: [1]", "Y03", "6:13", "expected a number"),
    WrongSetup("not a number", "cpus: [1]", "cpus: [one]", "Y03", "10:12", "got 'one'"),
    WrongSetup("negative number", "cpus: [1]", "cpus: [-1]", "Y03", "10:12", "got '-1'"),
    WrongSetup("unknown kind", "kind: native", "kind: nativ", "Y03", "15:20", "one of: block"),
    WrongSetup("duplicate key", "cpus: [2, 3]", "kind: linux", "Y04", "5:5", "'kind'"),
    WrongSetup("missing key", "    console: uart4\n", "", "Y05", "4:5", "'console' is missing"),
    WrongSetup("no such cell", "guest: linux", "guest: linus", "Y06", "14:30", "'linus'"),
    WrongSetup(
      "no such board", "cell-configs/imx8mp/board.yaml", "none.yaml", "Y07", "1:8", "none.yaml"),
    WrongSetup("bad indent", "    memory: 512M", "   memory: 512M", "Y01", "6:4", "not YAML"),
    WrongSetup("a tab", "    memory: 512M", "\tmemory: 512M", "Y01", "6:1", "not YAML"),
    WrongSetup("an alias", "memory: 512M", "memory: *size", "Y01", "6:1", "aliases"),
    WrongSetup("bad name", "  inmate:\n", "  in/mate:\n", "Y03", "8:3", "cannot be a name"),
    WrongSetup(
      "name of the root", "  inmate:\n", "  imx8mp:\n", "Y03", "8:3", "like the root cell"),
    WrongSetup("no CPU", "cpus: [1]", "cpus: []", "Y03", "10:11", "at least one CPU"),
    WrongSetup("CPU of another", "cpus: [1]", "cpus: [3]", "E53", "10:11", "both want CPU 3"),
    WrongSetup("CPU that is not there", "cpus: [1]", "cpus: [4]", "E53", "10:12", "CPUs 0 to 3"),
    WrongSetup("no CPU left", "cpus: [1]", "cpus: [0, 1]", "E53", "10:11", "left for the root"),
    WrongSetup("no page", "memory: 1M", "memory: 1000", "E15", "11:13", "whole number of pages"),
    WrongSetup("too much memory", "memory: 512M", "memory: 2G", "G01", "6:13", "no room for 2G"),
    WrongSetup(
      "memory of two guests", "memory: 1M", "memory: {address: 0xc0000000, size: 2G}", "E50",
      "11:23", "not inside"),
    WrongSetup(
      "interrupts of two guests",
      "console: uart4\n  inmate:\n    kind: bare-metal\n    cpus: [1]\n",
      "console: uart4\n    interrupt: 154\n  inmate:\n    kind: bare-metal\n    cpus: [1]\n"
        + "    interrupt: 157\n", "E21", "12:16", "overlap"),
    WrongSetup(
      "memory outside", "memory: 1M", "memory: {address: 0x40000000, size: 1M}", "E50", "11:23",
      "not inside"),
    WrongSetup(
      "RAM over the communication region", "memory: 1M", "memory: 0x81000000", "G01", "11:13",
      "no room"),
    WrongSetup(
      "virtio link too small", "kind: block, guest: linux", "kind: block, guest: linux, size: 8K",
      "E41", "14:43", "read/write section"),
    WrongSetup(
      "native link too small", "kind: native, guest: inmate",
      "kind: native, guest: inmate, size: 32K", "G02", "15:49", "output sections"),
    WrongSetup(
      "link too large", "kind: block, guest: linux", "kind: block, guest: linux, size: 8M", "G01",
      "14:43", "no room for 8M"),
    WrongSetup(
      "link outside", "kind: block, guest: linux",
      "kind: block, guest: linux, address: 0x50000000", "E51", "14:46", "not inside"),
    WrongSetup(
      "links overlap", "guest: linux}\n  exchange: {kind: native, guest: inmate}",
      "guest: linux, address: 0xfd900000}\n"
        + "  exchange: {kind: native, guest: inmate, address: 0xfd910000}",
      "E51", "15:52", "overlaps link disk"),
    WrongSetup(
      "same device", "guest: linux}\n  exchange: {kind: native, guest: inmate}",
      "guest: linux, bdf: 5}\n  exchange: {kind: native, guest: inmate, bdf: 5}", "E24", "15:48",
      "both want bdf 5"),
    WrongSetup(
      "unaligned address", "kind: block, guest: linux",
      "kind: block, guest: linux, address: 0xfd900800", "E15", "14:46", "not on a page"),
    WrongSetup(
      "interrupt of the root", "console: debug", "console: debug\n    interrupt: 51", "E21",
      "13:16", "root cell's virtual PCI"),
    WrongSetup("no such UART", "console: uart4", "console: uart9", "E57", "7:14", "'uart9'"),
    WrongSetup(
      "a UART twice", "console: debug", "console: uart4", "E21", "12:14", "both own uart4"),
    WrongSetup(
      "read/write section on virtio", "kind: block,", "kind: block, read-write: 64K,", "Y03",
      "14:35", "no such key"),
    WrongSetup(
      "a file name that breaks the back-end's file", "kind: block,", "kind: block, file: \"a,b\",",
      "Y03", "14:29", "a path without"),
  ]

  @Test("each wrong setup has one finding, at its line", arguments: wrong)
  func oneFindingEach(setup: WrongSetup) throws {
    let text = Setups.replacing(setup.old, setup.new)
    let error = #expect(throws: GenerateError.self) { try Setups.generate(text) }
    let finding = try #require(error?.findings.first)
    #expect(error?.findings.count == 1)
    #expect(finding.rule == setup.rule, "\(finding)")
    #expect(finding.place == setup.place, "\(finding)")
    #expect(finding.message.contains(setup.says) || finding.fix.contains(setup.says), "\(finding)")
    #expect(finding.file == "setup.yaml")
    #expect(!finding.fix.isEmpty)
  }

  @Test("the good setup is good")
  func theGoodOneIsGood() throws {
    #expect(try Setups.generate(Setups.good).findings.isEmpty)
  }

  @Test("a board file is no setup")
  func aBoardFileIsNoSetup() throws {
    let text = try Repository.text("cell-configs/imx8mp/board.yaml")
    let error = #expect(throws: GenerateError.self) { try Setups.generate(text) }
    #expect(error?.findings.first?.message.contains("board file") == true)
  }

  @Test("an error in the board file names the board file")
  func errorsOfTheBoardNameIt() throws {
    let board = try Repository.text("cell-configs/imx8mp/board.yaml")
      .replacingOccurrences(of: "maintenance-interrupt: 25", with: "maintenance-interrupt: 99")
    let error = #expect(throws: GenerateError.self) {
      try Generator.generate(yaml: Setups.good, file: "setup.yaml", load: { _ in .success(board) })
    }
    let finding = try #require(error?.findings.first)
    #expect(finding.file == "cell-configs/imx8mp/board.yaml")
    #expect(finding.place == "10:26")
  }

  @Test(
    "a board that contradicts itself is refused",
    arguments: [
      ("hypervisor: {address: 0xfdc00000", "hypervisor: {address: 0xfd900000", "E52"),
      ("pci: {ecam: 0xfd700000", "pci: {ecam: 0xfd900000", "E51"),
      ("- {address: 0xc0000000, size: 979M}", "- {address: 0xc0000000, size: 990M}", "E52"),
      ("{name: Guest memory, address: 0xc0000000", "{name: G, address: 0xd0000000", "E51"),
      ("guests: [154, 56, 60]", "guests: [154, 156]", "E21"),
      ("count: 384", "count: 200", "Y03"),
      ("mpidr: 0x1,", "mpidr: 0x0,", "E53"),
      ("clock-names: [ipg, per]", "clock-names: []", "Y03"),
      ("guests: [154, 56, 60]", "guests: [154, 56, 60, 380, 0xffffffff]", "Y03"),
      ("size: 979M", "size: 1024G", "E52"), ("size: 979M", "size: 1025G", "Y03"),
      (
        "debug-console: uart2",
        "debug-console: uart2\niommu: {type: 4, address: 0x51400000, size: 4G}", "Y03"
      ),
      ("0xfdc00000, size: 4M", "0xfdc00000, size: 0", "Y03"),
      ("timer: {flags: 8", "timer: {flags: 8, speed: 1", "Y02"),
    ])
  func contradictingBoardsAreRefused(old: String, new: String, rule: String) throws {
    let good = try Repository.text("cell-configs/imx8mp/board.yaml")
    #expect(good.contains(old))
    let board = good.replacingOccurrences(of: old, with: new)
    let error = #expect(throws: GenerateError.self) {
      try Generator.generate(yaml: Setups.good, file: "setup.yaml", load: { _ in .success(board) })
    }
    #expect(error?.findings.map(\.rule) == [rule], "\(String(describing: error))")
  }

  @Test(
    "what is no description at all ends in one finding",
    arguments: [
      "", "\n\n", "42", "[]", "{}", "a: b: c", "\u{0}", "\u{1}\u{2}", "- - - -", "%YAML 9.9\n---\n",
      "board: {}\ncells: {}", "? a\n: b", "---\n---\n", "\"",
      String(repeating: "[", count: 100_000), String(repeating: "- ", count: 100_000),
      String(repeating: "{a: ", count: 5000), String(repeating: " ", count: 300_000),
      String(repeating: "a: 1\n", count: 2000),
      "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]",
    ])
  func nonsenseEndsInOneFinding(text: String) {
    let error = #expect(throws: GenerateError.self) { try Setups.generate(text) }
    #expect(error?.findings.count == 1)
  }

  @Test("no truncation and no flipped byte of a setup crashes")
  func mutationsNeverCrash() throws {
    let bytes = Array(Setups.good.utf8)
    var random = SystemRandomNumberGenerator()
    for round in 0..<400 {
      var mutated = bytes
      if round % 2 == 0 {
        mutated.removeLast(Int.random(in: 0..<bytes.count, using: &random))
      }
      for _ in 0..<3 where !mutated.isEmpty {
        let at = Int.random(in: 0..<mutated.count, using: &random)
        mutated[at] = UInt8.random(in: 9..<127, using: &random)
      }
      let text = String(decoding: mutated, as: UTF8.self)
      do throws(GenerateError) {
        _ = try Setups.generate(text)
      } catch {
        #expect(error.findings.allSatisfy { !$0.message.isEmpty && !$0.fix.isEmpty })
      }
    }
  }
}
