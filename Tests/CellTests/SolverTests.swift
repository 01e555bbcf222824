import CellFormat
import CellCheck
import CellGenerate
import Foundation
import Testing

@Suite("CellTests: layout solver")
struct SolverTests {
  @Test("the same description gives the same bytes")
  func deterministic() throws {
    let first = try Setups.generate(Setups.good).artefacts
    #expect(try Setups.generate(Setups.good).artefacts == first)
  }

  private func places(_ text: String) throws -> [String: [UInt64]] {
    let layout = try Setups.generate(text).layout
    var places: [String: [UInt64]] = [:]
    for link in layout.links {
      places["link \(link.name)"] = [link.span.start, UInt64(link.device)]
    }
    for cell in layout.cells {
      places["cell \(cell.name)"] = [
        cell.ram.start, UInt64(cell.vpciBase), cell.loader?.start ?? 0,
      ]
    }
    return places
  }

  /// What `changed` chooses for everything that `Setups.good` has too.
  private func expectUnmoved(_ changed: String) throws {
    let before = try places(Setups.good)
    let after = try places(changed)
    for (name, place) in before { #expect(after[name] ?? place == place, "\(name) moved") }
  }

  @Test("a link at the end moves nothing")
  func aNewLinkMovesNothing() throws {
    try expectUnmoved(Setups.good + "\n  more: {kind: console, guest: linux}")
    try expectUnmoved(Setups.good + "\n  second: {kind: native, guest: inmate}")
  }

  @Test("a link of another kind before the others moves nothing")
  func aLinkInFrontMovesNothing() throws {
    try expectUnmoved(
      Setups.replacing("links:\n", "links:\n  tty: {kind: console, guest: linux}\n"))
  }

  @Test("a smaller link moves nothing")
  func aSmallerLinkMovesNothing() throws {
    try expectUnmoved(Setups.replacing("kind: block,", "kind: block, size: 64K,"))
  }

  @Test("a link that goes moves nothing of another kind")
  func aLinkThatGoesMovesNothing() throws {
    try expectUnmoved(Setups.replacing("  disk: {kind: block, guest: linux}\n", ""))
  }

  @Test("a Linux guest that grows does not move the bare-metal guest, nor the other way round")
  func growingGuestsStayPut() throws {
    try expectUnmoved(Setups.replacing("memory: 512M", "memory: 600M"))
  }

  @Test("a third guest moves nothing")
  func aThirdGuestMovesNothing() throws {
    let more = """
      links:
      """
    let cell = """
        third:
          kind: bare-metal
          cpus: [1]
          memory: 2M
          console: debug
      never-together: [[inmate, third]]
      links:
      """
    try expectUnmoved(Setups.replacing(more, cell))
  }

  @Test("wishes are kept")
  func wishesAreKept() throws {
    let text = Setups.replacing(
      "{kind: block, guest: linux}",
      "{kind: block, guest: linux, address: 0xfd500000, bdf: 9, size: 128K}"
    ).replacing("memory: 1M", "memory: {address: 0xd0000000, size: 1M}\n    interrupt: 60")
    let layout = try Setups.generate(text).layout
    #expect(layout.links[0].span == Span(start: 0xfd50_0000, size: 0x2_0000))
    #expect(layout.links[0].device == 9)
    #expect(layout.cells[1].ram == Span(start: 0xd000_0000, size: 0x10_0000))
    #expect(layout.cells[1].vpciBase == 60)
  }

  @Test("every choice is explained")
  func everyChoiceIsExplained() throws {
    let generation = try Setups.generate(Setups.good)
    let subjects = generation.layout.choices.map(\.subject)
    for expected in [
      "link disk: bdf", "link disk: memory", "cell linux: memory", "cell linux: vpci_irq_base",
      "cell linux: loader", "cell inmate: memory",
    ] { #expect(subjects.contains(expected)) }
    let page = try #require(generation.artefacts.first { $0.name == "choices.md" })
    let text = String(decoding: page.bytes, as: UTF8.self)
    for choice in generation.layout.choices { #expect(text.contains(choice.reason)) }
  }

  @Test("a guest owns the interrupts it uses and no other")
  func guestsOwnWhatTheyUse() throws {
    let generation = try Setups.generate(Setups.good)
    let linux = try cell("imx8mp-linux.cell", of: generation)
    // UART 4 is SPI 29, device 2 has INTC: 154 + 2.
    #expect(linux.interruptIDs == [32 + 29, 32 + 156])
    let inmate = try cell("imx8mp-inmate.cell", of: generation)
    #expect(inmate.interruptIDs == [32 + 56])
  }

  @Test("a native link has two output sections and its own class on both sides")
  func nativeLinks() throws {
    let generation = try Setups.generate(Setups.good)
    let inmate = try cell("imx8mp-inmate.cell", of: generation)
    let device = try #require(inmate.pciDevices.first)
    #expect(device.sharedMemoryProtocol == 0x434d)
    let sections = inmate.memoryRegions[Int(device.sharedMemoryStart)...].prefix(4)
    #expect(sections.map(\.size) == [0x1000, 0, 0x7f000, 0x7f000])
    #expect(sections.map { $0.flags.contains(.write) } == [false, false, false, true])
    #expect(sections.map { $0.flags.contains(.rootShared) } == [true, false, true, true])
  }

  private func cell(_ name: String, of generation: Generation) throws -> CellConfiguration {
    let artefact = try #require(generation.artefacts.first { $0.name == name })
    return try ConfigurationFile(decoding: artefact.bytes).cell
  }
}

extension String {
  fileprivate func replacing(_ old: String, _ new: String) -> String {
    precondition(contains(old), "the fixture has no '\(old)'")
    return replacingOccurrences(of: old, with: new)
  }
}
