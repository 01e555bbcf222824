import CellCheck
import CellGenerate
import Foundation
import Testing

/// A small change of a description moves nothing else: what the last run chose is kept.
@Suite("CellTests: stable placement")
struct PlacementTests {
  /// Several links of a kind and several guests, so that declaration order would matter.
  static let crowd = """
    board: cell-configs/qemu-arm64/board.yaml
    cells:
      a: {kind: linux, cpus: [1], memory: 32M, console: debug}
      b: {kind: linux, cpus: [2], memory: 48M, console: debug}
      c: {kind: bare-metal, cpus: [3], memory: 1M, console: debug}
      d: {kind: bare-metal, cpus: [3], memory: 3M, console: debug}
    links:
      one:   {kind: block, guest: a}
      two:   {kind: block, guest: b, size: 256K}
      three: {kind: console, guest: a}
      four:  {kind: console, guest: b}
      five:  {kind: native, guest: c}
      six:   {kind: native, guest: d, size: 256K}
      seven: {kind: network, guest: a}
      eight: {kind: entropy, guest: a}
    never-together: [[c, d]]
    """

  private func placement(_ generation: Generation) throws -> Placement {
    let file = try #require(generation.artefacts.first { $0.name == Placement.fileName })
    return try Placement(yaml: String(decoding: file.bytes, as: UTF8.self), file: file.name)
  }

  /// The places of everything by name.
  private func places(_ layout: Layout) -> [String: [UInt64]] {
    var places: [String: [UInt64]] = [:]
    for link in layout.links {
      places["link " + link.name] = [link.span.start, UInt64(link.device)]
    }
    for cell in layout.cells {
      places["cell " + cell.name] = [
        cell.ram.start, UInt64(cell.vpciBase), cell.loader?.start ?? 0,
      ]
    }
    return places
  }

  /// Runs with a change behind a run without: nothing that both have may move.
  private func expectUnmoved(
    _ change: (String) -> String, except: String? = nil,
    from location: SourceLocation = #_sourceLocation
  ) throws {
    let first = try Setups.generate(Self.crowd)
    let second = try Setups.generate(change(Self.crowd), keeping: try placement(first))
    let (before, after) = (places(first.layout), places(second.layout))
    for (name, place) in before where name != except && after[name] != nil {
      #expect(after[name] == place, "\(name) moved", sourceLocation: location)
    }
    #expect(second.findings.allSatisfy { $0.severity < .error }, sourceLocation: location)
  }

  private func without(_ name: String) -> (String) -> String {
    { text in
      text.split(separator: "\n").filter { !$0.hasPrefix("  \(name):") }.joined(separator: "\n")
    }
  }

  private func with(_ line: String, before mark: String) -> (String) -> String {
    { $0.replacingOccurrences(of: "  \(mark):", with: "  \(line)\n  \(mark):") }
  }

  @Test(
    "a link that goes moves no other",
    arguments: ["one", "two", "three", "four", "five", "six", "seven", "eight"])
  func linksGo(name: String) throws { try expectUnmoved(without(name)) }

  @Test(
    "a link that comes, at any place, moves no other",
    arguments: LinkKind.allCases, ["one", "two", "five", "eight"])
  func linksCome(kind: LinkKind, mark: String) throws {
    try expectUnmoved(with("new: {kind: \(kind.rawValue), guest: b, size: 128K}", before: mark))
  }

  @Test("a guest that goes moves no other")
  func guestsGo() throws {
    try expectUnmoved { text in
      text.split(separator: "\n")
        .filter { !$0.hasPrefix("  a:") && !$0.contains("guest: a") }.joined(separator: "\n")
    }
    try expectUnmoved { text in
      text.split(separator: "\n").filter {
        !$0.hasPrefix("  c:") && !$0.contains("guest: c") && !$0.hasPrefix("never")
      }.joined(separator: "\n")
    }
  }

  @Test("a guest in front moves no other")
  func guestsCome() throws {
    try expectUnmoved { text in
      with("new: {kind: linux, cpus: [2], memory: 16M, console: debug}", before: "a")(
        without("b")(text).split(separator: "\n").filter { !$0.contains("guest: b") }
          .joined(separator: "\n"))
    }
  }

  @Test("another order moves nothing")
  func orderDoesNotMatter() throws {
    try expectUnmoved { text in
      var lines = text.split(separator: "\n").map(String.init)
      let links = lines.firstIndex { $0 == "links:" } ?? 0
      let end = lines.firstIndex { $0.hasPrefix("never") } ?? lines.count
      lines.replaceSubrange(links + 1..<end, with: lines[links + 1..<end].reversed())
      return lines.joined(separator: "\n")
    }
  }

  @Test("what grows beyond its gap moves alone")
  func whatGrowsMovesAlone() throws {
    try expectUnmoved(
      { $0.replacingOccurrences(of: "guest: b, size: 256K", with: "guest: b, size: 1M") },
      except: "link two")
    try expectUnmoved(
      { $0.replacingOccurrences(of: "memory: 32M", with: "memory: 64M") }, except: "cell a")
  }

  @Test("what shrinks stays where it is")
  func whatShrinksStays() throws {
    try expectUnmoved { $0.replacingOccurrences(of: "memory: 48M", with: "memory: 16M") }
    try expectUnmoved { $0.replacingOccurrences(of: "size: 256K", with: "size: 64K") }
  }

  @Test("a second run changes no byte")
  func aSecondRunChangesNothing() throws {
    let first = try Setups.generate(Self.crowd)
    let second = try Setups.generate(Self.crowd, keeping: try placement(first))
    #expect(first.artefacts == second.artefacts)
    for board in Repository.boards {
      let kept = try Repository.generate(board).artefacts
      #expect(try Repository.generate(board, isFresh: true).artefacts == kept, "\(board)")
    }
  }

  @Test("a wish goes before what was kept, and drives out what lies there")
  func wishesGoFirst() throws {
    let first = try Setups.generate(Self.crowd)
    let place = try #require(first.layout.links.first { $0.name == "two" })
    let text = Self.crowd.replacingOccurrences(
      of: "three: {kind: console, guest: a}",
      with: "three: {kind: console, guest: a, bdf: \(place.device), address: "
        + "\(place.span.start)}")
    let layout = try Setups.generate(text, keeping: try placement(first)).layout
    let wished = try #require(layout.links.first { $0.name == "three" })
    #expect(wished.span.start == place.span.start)
    #expect(wished.device == place.device)
    let driven = try #require(layout.links.first { $0.name == "two" })
    #expect(!driven.span.overlaps(wished.span))
    #expect(driven.device != wished.device)
  }

  @Test("places of another board are not kept: they do not fit")
  func otherBoards() throws {
    let kept = try placement(try Setups.generate(Setups.good))
    let text =
      Setups.replacing("imx8mp/board.yaml", "imx93/board.yaml")
      .replacingOccurrences(of: "cpus: [2, 3]", with: "cpus: [1]")
      .replacingOccurrences(of: "console: uart4", with: "console: debug")
      + "\nnever-together: [[linux, inmate]]"
    let layout = try Setups.generate(text, keeping: kept).layout
    for link in layout.links {
      #expect(layout.board.sharedWindows.contains { $0.contains(link.span) })
    }
  }

  @Test(
    "a spoilt file is refused at its place",
    arguments: [
      ("cells: 1", "Y03", "1:8"), ("cells:\n  a: {kind: linux, adress: 0x1000}", "Y02", "2:20"),
      ("links:\n  a: {kind: block, bdf: 40, address: 0x1000, size: 4K}", "Y03", "2:25"),
      ("links: {a: &x {}}", "Y01", "1:1"), ("", "Y01", "1:1"), ("\u{7}", "Y01", "1:1"),
      ("links:\n  a: {kind: block, bdf: 1, address: 0x1001, size: 4K}", "E15", "2:37"),
    ])
  func spoiltFiles(text: String, rule: String, place: String) throws {
    let error = #expect(throws: GenerateError.self) {
      try Placement(yaml: text, file: "placement.yaml")
    }
    #expect(error?.findings.map(\.rule) == [rule])
    #expect(error?.findings.first?.place == place)
    #expect(error?.findings.first?.file == "placement.yaml")
  }
}
