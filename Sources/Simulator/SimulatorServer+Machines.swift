import CLinux
import IVShmem
import LinuxSupport
import SimulatorPeer
import VfioUser

/// Virtual machines as peers: they join, ring and die by the rules of processes.
extension SimulatorServer {
  /// A descriptor the loop waits for, and what it stands for.
  struct MachineWait {
    enum Kind {
      case listener(Machine)
      case client(Machine, MachineClient)
      case events(Machine)
    }
    let kind: Kind
    let entry: cl_poll_entry
  }

  /// Whether a machine may be a peer, or map the memory by its file.
  public var hasMachines: Bool { memory.whole != nil }

  /// Bytes of what machines map; 0 without them.
  public var memorySize: Int { memory.whole?.size ?? 0 }

  /// All that machines make the loop wait for.
  func machineWaits() -> [MachineWait] {
    var waits: [MachineWait] = []
    func wait(_ kind: MachineWait.Kind, _ number: Int32, _ events: Int32 = Int32(CL_POLL_IN)) {
      waits.append(
        MachineWait(
          kind: kind, entry: cl_poll_entry(fd: number, events: Int16(events), revents: 0)))
    }
    for machine in machines {
      for client in machine.clients {
        wait(
          .client(machine, client), client.connection.number,
          client.connection.waitsForReader ? Int32(CL_POLL_OUT) : Int32(CL_POLL_IN))
      }
      if machine.holder != nil {
        for event in eventNumbers(of: machine.peer) { wait(.events(machine), event) }
      }
      wait(.listener(machine), machine.listener.number)
    }
    return waits
  }

  /// Handles a descriptor that is ready.
  func serve(_ wait: MachineWait) {
    switch wait.kind {
    case .listener(let machine): machine.accept()
    case .client(let machine, let client):
      // Another connection of the same round may have made it leave.
      if machine.clients.contains(where: { $0 === client }) { machine.serve(client) }
    case .events(let machine): forwardEvents(to: machine)
    }
  }

  /// The function that a machine sees.
  func description(of machine: Machine) -> FunctionDescription {
    let fixed = machine.options.address
    return FunctionDescription(
      peer: UInt16(machine.peer), maxPeers: geometry.maxPeers,
      vectors: machine.options.hasLine ? 0 : UInt16(options.vectorCount),
      classCode: machine.options.deviceClass ?? machineClass(of: machine.peer),
      stateTableSize: UInt32(geometry.stateTableSize),
      readWriteSize: UInt64(geometry.readWriteSize), outputSize: UInt64(geometry.outputSize),
      memoryBarSize: fixed == nil ? LinkMemory.barSize(geometry) : 0, baseAddress: fixed)
  }

  /// A function always has a class: without `--virtio` the one of the native protocol.
  private func machineClass(of peer: Int) -> UInt32 {
    let given = deviceClass(of: peer)
    return given == 0 ? 0xff_434d : given
  }

  // MARK: Life

  /// A machine becomes the peer; `false`: somebody is.
  func join(_ machine: Machine, pid: Int32) -> Bool {
    guard holders[machine.peer] == nil else {
      log(
        "a machine (pid \(pid)) wants peer \(machine.peer) that pid "
          + "\(holders[machine.peer] ?? 0) holds")
      return false
    }
    holders[machine.peer] = pid
    setDelivery(machine.peer, isOneShot: false)
    prepare(machine.peer)
    log("peer \(machine.peer) joined (virtual machine, pid \(pid))")
    return true
  }

  /// A machine is gone: State 0, deaf.
  func leave(_ machine: Machine, _ why: String) {
    log("peer \(machine.peer) (virtual machine, pid \(holders[machine.peer] ?? 0)) \(why)")
    bury(machine.peer)
    page.store32(0, at: machine.peer * HypervisorPage.lineSize + HypervisorPage.delivery)
  }

  // MARK: Interrupts

  /// Interrupts that processes have raised at a machine, through Interrupt Control already.
  func forwardEvents(to machine: Machine) {
    guard let holder = machine.holder else { return }
    for (vector, event) in eventNumbers(of: machine.peer).enumerated() {
      if cl_event_try(event) == 8 { holder.device.deliver(UInt16(vector)) }
    }
  }

  /// Delivers to a peer that is a machine now; `false`: it is none.
  func deliver(_ vector: UInt16, toMachine peer: Int) -> Bool {
    guard let holder = machines.first(where: { $0.peer == peer })?.holder else { return false }
    holder.device.deliver(vector)
    return true
  }

  /// Whether each delivery disarms this peer, as its guest has chosen.
  func setDelivery(_ peer: Int, isOneShot: Bool) {
    page.store32(
      isOneShot ? HypervisorPage.Delivery.oneShot : HypervisorPage.Delivery.lasting,
      at: peer * HypervisorPage.lineSize + HypervisorPage.delivery)
  }

  /// The eventfds of a peer, vector by vector.
  func eventNumbers(of peer: Int) -> ArraySlice<Int32> {
    let count = Int(options.vectorCount)
    return events[peer * count..<(peer + 1) * count]
  }
}
