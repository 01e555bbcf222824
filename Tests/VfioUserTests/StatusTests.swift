import Foundation
import IVShmem
import LinuxSupport
import Simulator
import SimulatorPeer
import Testing

@Suite struct StatusTests {
  struct Answer: Decodable {
    struct Peer: Decodable {
      var peer: Int
      var kind: String
      var pid: Int
      var state: UInt32
      var armed: Bool
      var one_shot: Bool
      var delivered: UInt64
      var dropped: UInt64
      var vfio_user: String?
      var interrupts: String?
      var address: UInt64?
    }
    var peers: [Peer]
    var vectors: Int
    var rights_enforced: Bool
  }

  static func ask(_ path: String) throws -> Answer {
    let text = try #require(try LinkStatus.ask(path, asJSON: true))
    return try JSONDecoder().decode(Answer.self, from: Data(text.utf8))
  }

  @Test func machinesAndProcessesAreTold() throws {
    let server = try MachineServer(machines: [1, 2]) {
      $0.maxPeers = 3
      $0.vectorCount = 2
      $0.machines[1].hasLine = true
    }
    let client = try server.client(1)
    _ = try MachineTests.start(client, vectors: 2, isOneShot: true)
    try client.setRegister(8, 1)
    try client.setRegister(0x10, 77)
    var process = try server.process(0)
    process.ringDoorbell(Vector(1), at: PeerID(1))
    process.ringDoorbell(Vector(1), at: PeerID(1))
    let answer = try Self.ask(server.path)
    #expect(answer.peers.map(\.kind) == ["process", "machine", "nobody"])
    #expect(answer.peers.map(\.peer) == [0, 1, 2])
    let own = Int(ProcessInfo.processInfo.processIdentifier)
    #expect(answer.peers[0].pid == own && answer.peers[1].pid == own && answer.peers[2].pid == 0)
    let machine = answer.peers[1]
    #expect(machine.state == 77 && machine.one_shot && !machine.armed)
    #expect(machine.delivered == 1 && machine.dropped == 1)
    #expect(machine.vfio_user == server.socket(of: 1) && machine.interrupts == "msix")
    #expect(answer.peers[2].interrupts == "intx" && answer.peers[0].vfio_user == nil)
    #expect(answer.vectors == 2 && !answer.rights_enforced)
    let text = try #require(try LinkStatus.ask(server.path, asJSON: false))
    let lines = text.split(separator: "\n")
    #expect(lines.count == 4 && lines[2].contains("0x0000004d"))
    #expect(lines[3].contains("nobody") && lines[3].contains("intx"))
  }

  @Test func linksOfProcessesKeepTheirRights() throws {
    let server = try MachineServer(machines: [])
    let answer = try Self.ask(server.path)
    #expect(answer.rights_enforced && answer.peers.count == 2)
    #expect(throws: SystemError.self) {
      _ = try LinkStatus.ask(server.path + ".nothing", asJSON: true)
    }
  }
}
