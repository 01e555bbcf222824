import CLinux
import IVShmem
import LinuxSupport
import VfioUser

/// The place of a peer that is a virtual machine: a vfio-user socket and who is connected to it.
///
/// Of several connections one is the peer: the first that says who it is. The others are answered
/// that the place is taken.
final class Machine {
  let options: MachineOptions
  let peer: Int
  let listener: Descriptor
  private let socketID: UInt64
  private(set) var clients: [MachineClient] = []
  /// The connection that is the peer.
  private(set) var holder: MachineClient?
  private unowned let server: SimulatorServer

  /// The most connections at a time: one that is the peer and some that are about to be refused.
  static let clientLimit = 4

  init(_ options: MachineOptions, of server: SimulatorServer) throws(SimulatorServerError) {
    self.options = options
    self.server = server
    peer = Int(options.peer)
    let result = unsafe cl_listen_stream(options.path)
    guard result != -Int(SystemError.addressInUse) else { throw .inUse(path: options.path) }
    do throws(SystemError) {
      listener = try Descriptor(result)
    } catch { throw .system(error, doing: "listening on \(options.path)") }
    socketID = unsafe cl_inode(options.path)
  }

  deinit { removeSocket() }

  /// Removes the socket's file, if it is still ours.
  func removeSocket() {
    let current = unsafe cl_inode(options.path)
    if current != 0, current == socketID { _ = unsafe cl_unlink_socket(options.path) }
  }

  /// Takes a connection; the oldest that is not the peer makes room.
  func accept() {
    let result = cl_accept(listener.number)
    guard result >= 0 else { return }
    serve(Descriptor(owning: Int32(result)))
  }

  /// Serves a connected stream socket.
  @discardableResult
  func serve(_ socket: consuming Descriptor) -> MachineClient {
    if clients.count >= Self.clientLimit, let idle = clients.first(where: { $0 !== holder }) {
      drop(idle, "made room for another one")
    }
    let client = MachineClient(socket, of: self, server)
    clients.append(client)
    return client
  }

  /// Handles what a connection has sent.
  func serve(_ client: MachineClient) {
    if case .closed(let why) = client.connection.serve() { drop(client, why) }
  }

  private func drop(_ client: MachineClient, _ why: String) {
    clients.removeAll { $0 === client }
    if holder === client {
      holder = nil
      server.leave(self, why)
    } else {
      server.log("a vfio-user connection for peer \(peer) \(why)")
    }
  }

  /// A connection has agreed on a version: it is the peer now, unless somebody is.
  func begin(_ client: MachineClient) -> Bool {
    guard holder == nil, server.join(self, pid: cl_peer_pid(client.connection.number)) else {
      return false
    }
    holder = client
    return true
  }
}

/// One vfio-user connection and the function that it sees.
final class MachineClient: FunctionHost {
  private unowned let machine: Machine
  private unowned let server: SimulatorServer
  private var parts: (connection: VfioUserConnection, device: VfioUserDevice)?

  init(_ socket: consuming Descriptor, of machine: Machine, _ server: SimulatorServer) {
    self.machine = machine
    self.server = server
    let peer = machine.peer
    let log: (String) -> Void = { [unowned server] in server.log("peer \(peer) (VM): \($0)") }
    let device = VfioUserDevice(server.description(of: machine), host: self, log: log)
    let memory = machine.options.address == nil ? server.memory.whole?.descriptor.number : nil
    let connection = VfioUserConnection(socket, device: device, memory: memory ?? -1, log: log)
    parts = (connection, device)
  }

  var connection: VfioUserConnection { whole.connection }
  var device: VfioUserDevice { whole.device }

  private var whole: (connection: VfioUserConnection, device: VfioUserDevice) {
    guard let parts else { preconditionFailure("a client is used before it is made") }
    return parts
  }

  // MARK: What the function asks for

  func begin() -> Bool { machine.begin(self) }

  func reset() {
    server.setState(machine.peer, 0)
    server.prepare(machine.peer)
  }

  var state: UInt32 {
    get { server.stateWords[machine.peer] }
    set { server.setState(machine.peer, newValue) }
  }

  var isArmed: Bool {
    get { server.isArmed(machine.peer) }
    set {
      // What was delivered before the disarming comes before its answer.
      if !newValue { server.forwardEvents(to: machine) }
      server.setArmed(machine.peer, newValue)
    }
  }

  func setOneShot(_ isOneShot: Bool) { server.setDelivery(machine.peer, isOneShot: isOneShot) }

  func ring(_ vector: UInt16, at peer: UInt16) {
    guard Int(peer) < server.holders.count else { return }
    server.interrupt(Int(peer), vector)
  }

  func readMemory(at offset: Int, count: Int) -> [UInt8] {
    server.memory.read(at: offset, count: count)
  }

  func writeMemory(_ data: [UInt8], at offset: Int) {
    server.memory.write(data, at: offset, by: PeerID(UInt16(machine.peer)))
  }
}
