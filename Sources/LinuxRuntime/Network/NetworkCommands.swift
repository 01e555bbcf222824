import CLinux
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// What a tool tells its device on the control queue, each time the device was set up.
struct NetworkCommands {
  /// The address it asks for.
  let address: MACAddress?
  /// Whether it takes frames for its own address and broadcasts alone.
  let takesOwn: Bool
  /// Times the device had been set up again when the commands were given last.
  private var recoveries = -1

  init(address: MACAddress?, takesOwn: Bool) {
    self.address = address
    self.takesOwn = takesOwn
  }

  /// Gives the commands, when the device has not had them since it was set up.
  ///
  /// - Throws: when the device refuses one.
  mutating func run(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>, patience: UInt64
  ) throws(ClientError) {
    let deadline = cl_monotonic_ns() + patience
    while recoveries != client.recoveries {
      recoveries = client.recoveries
      try runOnce(&client, until: deadline)
    }
  }

  /// All commands, or as far as it gets before the device goes away and comes back.
  private func runOnce(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>,
    until deadline: UInt64
  ) throws(ClientError) {
    if client.driver.pairs > 1 {
      let pairs = UInt64(client.driver.pairs)
      guard try tell(.setPairs, pairs, &client, until: deadline) else { return }
    }
    if let address {
      guard try tell(.setAddress, address.rawValue, &client, until: deadline) else { return }
    }
    if takesOwn {
      for command in [NetCommand.promiscuous, .allMulticast] {
        guard try tell(command, 0, &client, until: deadline) else { return }
      }
    }
  }

  /// Gives one command and waits for its answer; `false` when the device was set up again
  /// meanwhile.
  private func tell(
    _ command: NetCommand, _ argument: UInt64,
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>,
    until deadline: UInt64
  ) throws(ClientError) -> Bool {
    guard client.driver.net.start(command, argument) else {
      throw .failed("the device has no control queue for: \(Self.name(command))")
    }
    client.publish()
    while true {
      let answer: Bool?
      do throws(QueueError) {
        answer = try client.driver.net.takeAnswer()
      } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
      if let answer {
        guard answer else { throw .failed("the device refuses: \(Self.name(command))") }
        return true
      }
      if client.isLost() {
        try client.recover()
        return false
      }
      guard cl_monotonic_ns() < deadline else {
        throw .failed("the device does not answer: \(Self.name(command))")
      }
      try client.wait(until: deadline)
    }
  }

  private static func name(_ command: NetCommand) -> String {
    switch command {
    case .setPairs: "set the number of queue pairs"
    case .setAddress: "set the address"
    case .promiscuous, .allMulticast: "set the receive mode"
    default: "a command"
    }
  }
}
