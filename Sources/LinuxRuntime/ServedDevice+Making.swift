public import CommandOptions
import HostResources
import LinuxSupport
public import SharedMemory
import VirtioBlock
import VirtioConsole
import VirtioEntropy
import VirtioNet
import Virtqueue

extension ServedDevice {
  /// Requests a block device may have in flight.
  static var slots: Int { 256 }

  /// Opens the host resource of a device and puts the device in front of it; every link makes its
  /// devices here.
  ///
  /// - Parameters:
  ///   - wakeDescriptor: the event that is signalled when the device has something to do.
  ///   - arena: at least 2 MiB for its books, which has to stay as long as the device.
  ///   - log: takes one line for the operator; called from any thread.
  /// - Throws: one line with the way out.
  public static func make(
    _ specification: DeviceSpecification, wakeDescriptor: Int32, arena: inout PrivateArena,
    log: @escaping @Sendable (String) -> Void
  ) throws(UsageError) -> ServedDevice {
    guard let size = QueueSize(256) else { preconditionFailure("256 is a queue size") }
    var served = ServedDevice(specification.kind, arena: &arena)
    switch specification {
    case .block(let block):
      let host = try openFile(block, wakeDescriptor, log)
      guard
        let device = Block(
          host: host, queueCount: block.queueCount, maximumQueueSize: size, slots: slots,
          arena: &arena)
      else { preconditionFailure("2 MiB hold a device") }
      served.block.put(device, at: 0)
    case .console(let console):
      let host = try openConsole(console, wakeDescriptor, log)
      guard let device = Console(host: host, maximumQueueSize: size, arena: &arena) else {
        preconditionFailure("2 MiB hold a device")
      }
      served.console.put(device, at: 0)
    case .entropy:
      let host: RandomEntropyHost
      do throws(SystemError) {
        host = try RandomEntropyHost()
      } catch { throw UsageError("entropy: the kernel gives no random bytes: \(error.text)") }
      served.entropy.put(Entropy(host: host, maximumQueueSize: size), at: 0)
    case .network(let network):
      let host = try joinSwitch(network, wakeDescriptor)
      guard
        let device = Network(
          host: host, pairs: network.pairs, maximumQueueSize: size, arena: &arena)
      else { preconditionFailure("2 MiB hold a device") }
      served.network.put(device, at: 0)
    }
    return served
  }

  /// Whether a device could be made if nobody else used its host resource; nothing stays open.
  public static func examine(_ specification: DeviceSpecification) throws(UsageError) {
    guard case .block(let block) = specification else { return }
    do throws(FileBlockError) {
      try FileBlockHost.examine(block.file, isReadOnly: block.isReadOnly)
    } catch { throw UsageError(explain(error)) }
  }

  private static func openFile(
    _ block: BlockSpecification, _ wakeDescriptor: Int32,
    _ log: @escaping @Sendable (String) -> Void
  ) throws(UsageError) -> FileBlockHost {
    do throws(FileBlockError) {
      return try FileBlockHost(
        path: block.file, isReadOnly: block.isReadOnly, wakeDescriptor: wakeDescriptor,
        slots: slots, segmentLimit: Block.segmentLimit + 2, workers: block.workers, log: log)
    } catch { throw UsageError(explain(error)) }
  }

  private static func explain(_ error: FileBlockError) -> String {
    switch error {
    case .open(let path, let cause): "file \(path): \(cause.text)"
    case .badKind(let path): "file \(path): neither a regular file nor a block device"
    case .badSize(let path, let size):
      "file \(path): \(size) bytes, expected a multiple of 512 and not 0; grow it with truncate"
    case .inUse(let path, let holder):
      "file \(path): in use by \(processText(holder));"
        + " stop it, or give readonly on both sides"
    case .system(let cause): "starting workers: \(cause.text)"
    }
  }

  private static func openConsole(
    _ console: ConsoleSpecification, _ wakeDescriptor: Int32,
    _ log: @escaping @Sendable (String) -> Void
  ) throws(UsageError) -> LinuxConsoleHost {
    do throws(ConsoleHostError) {
      let host = try LinuxConsoleHost(console.ports, wakeDescriptor: wakeDescriptor, log: log)
      for port in 0..<host.portCount {
        let path = host.path(port: port)
        log("console port \(port): \(path.isEmpty ? "standard input and output" : path)")
      }
      return host
    } catch { throw UsageError("console: \(error)") }
  }

  private static func joinSwitch(
    _ network: NetworkSpecification, _ wakeDescriptor: Int32
  ) throws(UsageError) -> SwitchPortHost {
    do throws(SwitchError) {
      return try SwitchRegistry.shared.join(
        network.port, name: network.switchName, tap: network.tap, wakeDescriptor: wakeDescriptor)
    } catch {
      switch error {
      case .noPort:
        throw UsageError(
          "network: another device of switch \(network.switchName ?? "") has this mac, or the"
            + " switch is full (\(NetworkSwitch.portLimit) ports)")
      case .tap(let cause):
        throw UsageError(
          "network: tap \(network.tap ?? ""): \(NetworkSpecification.explain(tap: cause))")
      }
    }
  }

  /// The name of the kind, as in ``DeviceSpecification``.
  public var kindName: String {
    switch kind {
    case .block: "block"
    case .console: "console"
    case .entropy: "entropy"
    case .network: "network"
    }
  }

  /// Gives what the device itself has counted, always in the same order.
  public func giveCounters(_ walk: inout CounterWalk) {
    switch kind {
    case .block:
      let counters = block[0].counters
      walk.take("reads", counters.reads)
      walk.take("writes", counters.writes)
      walk.take("flushes", counters.flushes)
      walk.take("discards", counters.discards)
      walk.take("identifications", counters.identifications)
      walk.take("bytesRead", counters.bytesRead)
      walk.take("bytesWritten", counters.bytesWritten)
      walk.take("bytesDiscarded", counters.bytesDiscarded)
      walk.take("ioErrors", counters.ioErrors)
      walk.take("outOfRange", counters.outOfRange)
      walk.take("readOnlyViolations", counters.readOnlyViolations)
      walk.take("hostErrors", counters.hostErrors)
      walk.take("unsupported", counters.unsupported)
      walk.take("malformed", counters.malformed)
    case .console:
      let counters = console[0].counters
      walk.take("bytesToDriver", counters.bytesToDriver)
      walk.take("bytesFromDriver", counters.bytesFromDriver)
      walk.take("bytesDropped", counters.bytesDropped)
      walk.take("bytesLost", UInt64(console[0].host.lostCount))
      walk.take("blockedChains", counters.blockedChains)
      walk.take("messagesFromDriver", counters.messagesFromDriver)
      walk.take("messagesToDriver", counters.messagesToDriver)
      walk.take("badMessages", counters.badMessages)
      walk.take("shortBuffers", counters.shortBuffers)
      walk.take("emergencyWrites", counters.emergencyWrites)
    case .entropy:
      let counters = entropy[0].counters
      walk.take("requests", counters.requests)
      walk.take("bytes", counters.bytes)
      walk.take("shortAnswers", counters.shortAnswers)
      walk.take("malformed", counters.malformed)
    case .network: giveNetworkCounters(&walk)
    }
  }

  private func giveNetworkCounters(_ walk: inout CounterWalk) {
    let counters = network[0].counters
    walk.take("framesToDriver", counters.framesToDriver)
    walk.take("bytesToDriver", counters.bytesToDriver)
    walk.take("framesFromDriver", counters.framesFromDriver)
    walk.take("bytesFromDriver", counters.bytesFromDriver)
    walk.take("undersized", counters.undersized)
    walk.take("oversized", counters.oversized)
    walk.take("badHeaders", counters.badHeaders)
    walk.take("filtered", counters.filtered)
    walk.take("beyondMTU", counters.beyondMTU)
    walk.take("noRoom", counters.noRoom)
    walk.take("shortBuffers", counters.shortBuffers)
    walk.take("badCommands", counters.badCommands)
    let port = network[0].host.counters
    walk.take("spoofed", port.spoofed)
    walk.take("overRate", port.overRate)
    walk.take("isolated", port.isolated)
    walk.take("overflows", port.overflows)
    walk.take("absent", port.absent)
  }
}

extension DeviceSpecification {
  /// The kind of the device that serves it.
  fileprivate var kind: ServedDevice.Kind {
    switch self {
    case .block: .block
    case .console: .console
    case .entropy: .entropy
    case .network: .network
    }
  }
}
