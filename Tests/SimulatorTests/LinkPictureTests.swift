import Foundation
import IVShmem
import LinkPicture
import Testing
import VirtioTransport

/// The pictures of docs/link.md are what `ivshmem-sim draw` draws today. After a change,
/// `CELLMATE_WRITE_PICTURES=1 swift test --filter LinkPictureTests` writes them again.
@Suite struct LinkPictureTests {
  static let docs = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("docs")

  static func start(_ placement: Placement = .output, seed: UInt64 = 1) throws -> StartUp {
    let isOutput = placement == .output
    return try StartUp(
      geometry: LinkGeometry(
        maxPeers: 2, stateTableSize: 4096, readWriteSize: isOutput ? 0 : 1 << 20,
        outputSize: isOutput ? 1 << 20 : 0), placement: placement, seed: seed)
  }

  static func compare(_ drawn: String, with name: String) throws {
    let file = docs.appendingPathComponent(name)
    if ProcessInfo.processInfo.environment["CELLMATE_WRITE_PICTURES"] != nil {
      try drawn.write(to: file, atomically: true, encoding: .utf8)
    }
    let isSame = try String(contentsOf: file, encoding: .utf8) == drawn
    #expect(isSame, "\(name) is not what ivshmem-sim draws; write it again")
  }

  @Test func thePagesShowWhatHappens() throws {
    let start = try Self.start()
    try Self.compare(start.sequencePicture, with: "link-start.svg")
    try Self.compare(start.mapPicture, with: "link-map.svg")
  }

  /// The recorded order is that of docs/protocol.md, R5 to R8: hello before State, the echo before
  /// the first request, every request answered before the next.
  @Test(arguments: [Placement.output, .shared], [1, 2, 3])
  func theRecordHoldsTheProtocolsOrder(placement: Placement, seed: UInt64) throws {
    let actions = try Self.start(placement, seed: seed).actions
    for side in [LinkSide.frontEnd, .backEnd] {
      let own = actions.filter { $0.side == side }
      let hello = own.firstIndex { if case .hello(_, echo: 0) = $0.kind { true } else { false } }
      let state = own.firstIndex { $0.kind == .state(side.stateValue) }
      let echo = own.firstIndex {
        if case .hello(_, let echo) = $0.kind { echo != 0 } else { false }
      }
      let access = own.firstIndex {
        switch $0.kind {
        case .request, .answer: true
        default: false
        }
      }
      #expect(try #require(hello) < #require(state))
      #expect(try #require(state) < #require(echo))
      #expect(try #require(echo) < #require(access))
    }
    var isOpen = false
    var requests = 0
    for action in actions {
      switch action.kind {
      case .request:
        #expect(!isOpen)
        isOpen = true
        requests += 1
      case .answer(let result, _):
        #expect(isOpen && result == 0)
        isOpen = false
      default: break
      }
    }
    #expect(requests > 10 && !isOpen)
    let notified = actions.filter {
      if case .notification = $0.kind { true } else { false }
    }
    #expect(notified.map(\.side) == [.frontEnd, .backEnd])
  }

  @Test func whatMakesNoLinkIsSaid() throws {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: 4096, outputSize: 0)
    #expect(throws: StartUp.Failure.self) { try StartUp(geometry: geometry) }
  }
}
