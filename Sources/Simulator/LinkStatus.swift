import CLinux
import IVShmem
public import LinuxSupport
import SimulatorPeer
import VfioUser

/// One peer of a link, as the server knows it.
public struct PeerStatus: Sendable {
  /// Who may be a peer.
  public enum Kind: String, Sendable {
    /// Nobody now.
    case nobody
    /// A process that joined by the link's socket.
    case process
    /// A virtual machine that connected by vfio-user.
    case machine
  }

  /// Which peer.
  public var peer: Int
  /// Who it is now.
  public var kind: Kind
  /// The process, QEMU's for a machine; 0: nobody.
  public var pid: Int32
  /// The State register.
  public var state: UInt32
  /// Interrupt Control, bit 0.
  public var isArmed: Bool
  /// Whether each delivery clears Interrupt Control.
  public var isOneShot: Bool
  /// Interrupts delivered to it.
  public var delivered: UInt64
  /// Interrupts dropped because it was not armed.
  public var dropped: UInt64
  /// Where a machine connects; `nil`: the peer can be a process only.
  public var machine: MachineOptions?
  /// The class code that a machine's guest sees.
  public var classCode: UInt32?
}

extension SimulatorServer {
  /// Every peer of the link.
  public var peerStatus: [PeerStatus] {
    holders.indices.map { peer in
      let line = peer * HypervisorPage.lineSize
      let machine = machines.first { $0.peer == peer }
      let kind: PeerStatus.Kind =
        holders[peer] == nil ? .nobody : machine?.holder != nil ? .machine : .process
      return PeerStatus(
        peer: peer, kind: kind, pid: holders[peer] ?? 0, state: stateWords[peer],
        isArmed: isArmed(peer),
        isOneShot: HypervisorPage.Delivery.disarms(
          page.load32(at: line + HypervisorPage.delivery), link: options.isOneShot),
        delivered: page.count(at: line + HypervisorPage.delivered, read: true),
        dropped: page.count(at: line + HypervisorPage.dropped, read: true),
        machine: machine?.options, classCode: machine.map { description(of: $0).classCode })
    }
  }

  /// Answers a connection that asks for the peers and for nothing else; `false`: it asks otherwise.
  func answerStatus(_ number: Int32, _ question: UInt32) -> Bool {
    let isJSON = question == LinkStatus.jsonQuestion
    guard isJSON || question == LinkStatus.textQuestion else { return false }
    let text = Array(statusText(asJSON: isJSON).utf8.prefix(LinkStatus.limit))
    _ = unsafe text.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cl_send(number, base, bytes.count, nil, 0)
    }
    return true
  }

  /// What `ivshmem-sim status` prints.
  func statusText(asJSON: Bool) -> String {
    let peers = peerStatus
    guard asJSON else {
      return
        (["peer  who             state       armed  delivered  dropped  vfio-user"]
        + peers.map { $0.text(vectors: options.vectorCount) }).joined(separator: "\n") + "\n"
    }
    return "{\"peers\":["
      + peers.map { $0.json(vectors: options.vectorCount) }
      .joined(separator: ",")
      + "],\"state_table\":\(geometry.stateTableSize),\"rw\":\(geometry.readWriteSize)"
      + ",\"output\":\(geometry.outputSize),\"vectors\":\(options.vectorCount)"
      + ",\"rights_enforced\":\(memory.whole == nil)}\n"
  }
}

extension PeerStatus {
  private func hex(_ value: UInt32, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  private func interrupts(_ vectors: UInt32) -> String {
    machine?.hasLine == true ? "intx" : "msix"
  }

  func text(vectors: UInt32) -> String {
    func column(_ text: String, _ width: Int) -> String {
      text + String(repeating: " ", count: max(1, width - text.count))
    }
    var line = column("\(peer)", 6)
    line += column(kind == .nobody ? "nobody" : "\(kind.rawValue) \(pid)", 16)
    line += column(hex(state, 8), 12) + column(isArmed ? "yes" : "no", 7)
    line += column("\(delivered)", 11) + column("\(dropped)", 9)
    guard let machine, let classCode else { return line + "-" }
    let place = machine.address.map { ", sections at 0x\(String($0, radix: 16))" } ?? ""
    return line + "\(machine.path), \(interrupts(vectors)), class \(hex(classCode, 6))\(place)"
  }

  func json(vectors: UInt32) -> String {
    var text =
      "{\"peer\":\(peer),\"kind\":\"\(kind.rawValue)\",\"pid\":\(pid),\"state\":\(state)"
      + ",\"armed\":\(isArmed),\"one_shot\":\(isOneShot),\"delivered\":\(delivered)"
      + ",\"dropped\":\(dropped)"
    if let machine, let classCode {
      text += ",\"vfio_user\":\(Self.quoted(machine.path)),\"class\":\(classCode)"
      text += ",\"interrupts\":\"\(interrupts(vectors))\""
      if let address = machine.address { text += ",\"address\":\(address)" }
    }
    return text + "}"
  }

  /// A JSON string.
  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": result += "\\\(scalar)"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

/// Asks the server of a link what its peers are, from another process.
public enum LinkStatus {
  /// In the place of a peer in a hello: what are the peers? Answered as JSON, or as text.
  static let jsonQuestion: UInt32 = .max - 2
  static let textQuestion: UInt32 = .max - 3
  /// The most bytes of an answer.
  static let limit = 64 << 10

  /// What the server behind `socketPath` says; `nil`: it does not know the question.
  public static func ask(_ socketPath: String, asJSON: Bool) throws(SystemError) -> String? {
    let socket = try Descriptor(unsafe cl_connect(socketPath))
    let hello = [
      SimulatorMessage.magic, asJSON ? jsonQuestion : textQuestion,
    ]
    let sent = unsafe hello.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cl_send(socket.number, base, bytes.count, nil, 0)
    }
    _ = try SystemError.check(sent)
    var bytes = [UInt8](repeating: 0, count: limit)
    var numbers = [Int32](repeating: -1, count: Int(CL_MAX_FDS))
    var entry = cl_poll_entry(fd: socket.number, events: 1, revents: 0)
    guard unsafe cl_poll_ns(&entry, 1, 5_000_000_000) == 1 else {
      throw SystemError(SystemError.timedOut)
    }
    var count: UInt32 = 0
    let got = unsafe bytes.withUnsafeMutableBytes { data in
      unsafe numbers.withUnsafeMutableBufferPointer { fds in
        guard let base = data.baseAddress, let first = fds.baseAddress else { return 0 }
        return unsafe cl_receive(socket.number, base, limit, first, &count, 0)
      }
    }
    for index in 0..<Int(count) { cl_close(numbers[index]) }
    let text = bytes[..<(try SystemError.check(got))]
    // A server that does not know the question refuses with a welcome, whose second byte is 0.
    guard text.count > 1, text[1] != 0 else { return nil }
    return String(decoding: text, as: UTF8.self)
  }
}
