import CLinux
import CommandOptions
import HostResources
import LinuxRuntime
import Testing
import VirtioNet

@Suite struct NetworkSpecificationTests {
  @Test func everythingArrives() throws {
    let text = "network,mac=02:00:00:00:00:fe,switch=lan,tap=tap0,rate=1000,isolate,queues=3"
    guard case .network(let network) = try DeviceSpecification(text) else {
      Issue.record("no network device")
      return
    }
    #expect(network.port.address.rawValue == 0xfe00_0000_0002)
    #expect(network.port.isIsolated && network.port.bytesPerSecond == 1000)
    #expect(network.switchName == "lan" && network.tap == "tap0" && network.pairs == 3)
    guard case .network(let plain) = try DeviceSpecification("network,mac=0A:00:00:00:00:01") else {
      Issue.record("no network device")
      return
    }
    #expect(plain.port.address.rawValue == 0x0100_0000_000a)
    #expect(!plain.port.isIsolated && plain.port.bytesPerSecond == 0)
    #expect(plain.switchName == nil && plain.tap == nil && plain.pairs == 1)
  }

  @Test(arguments: [
    "network", "network,mac=", "network,mac=02:00:00:00:00", "network,mac=02:00:00:00:00:1",
    "network,mac=03:00:00:00:00:01", "network,mac=00:00:00:00:00:00",
    "network,mac=ff:ff:ff:ff:ff:ff", "network,mac=02:00:00:00:00:+1",
    "network,mac=02:00:00:00:00:01,switch", "network,mac=02:00:00:00:00:01,tap=",
    "network,mac=02:00:00:00:00:01,tap=a/b", "network,mac=02:00:00:00:00:01,tap=0123456789abcdef",
    "network,mac=02:00:00:00:00:01,rate=0", "network,mac=02:00:00:00:00:01,rate=fast",
    "network,mac=02:00:00:00:00:01,queues=0", "network,mac=02:00:00:00:00:01,queues=9",
    "network,mac=02:00:00:00:00:01,speed=1",
  ])
  func whatIsWrongIsSaid(text: String) {
    #expect(throws: UsageError.self) { try DeviceSpecification(text) }
  }

  @Test func theMTUHasItsRange() throws {
    for (text, isGood) in [("67", false), ("68", true), ("65535", true), ("65536", false)] {
      let found = try? DeviceSpecification("network,mac=02:00:00:00:00:01,mtu=\(text),change-mac")
      guard case .network(let network)? = found else {
        #expect(!isGood, "\(text)")
        continue
      }
      #expect(isGood && network.port.mtu == Int(text) && network.port.mayChangeAddress)
    }
  }

  /// A switch is there as long as one of its ports; an address is one port's.
  @Test func switchesByName() throws {
    let registry = SwitchRegistry()
    let wake = Int32(cl_eventfd())
    guard case .network(let one) = try DeviceSpecification("network,mac=02:00:00:00:00:01"),
      case .network(let two) = try DeviceSpecification("network,mac=02:00:00:00:00:02")
    else {
      Issue.record("no network device")
      return
    }
    do {
      let first = try registry.join(one.port, name: "lan", tap: nil, wakeDescriptor: wake)
      #expect(registry.count == 1)
      #expect(throws: SwitchError.noPort) {
        _ = try registry.join(one.port, name: "lan", tap: nil, wakeDescriptor: wake)
      }
      let second = try registry.join(two.port, name: "lan", tap: nil, wakeDescriptor: wake)
      let other = try registry.join(one.port, name: "wan", tap: nil, wakeDescriptor: wake)
      let own = try registry.join(one.port, name: nil, tap: nil, wakeDescriptor: wake)
      #expect(registry.count == 2)
      #expect(first.mtu + second.mtu + other.mtu + own.mtu == 6000)
    }
    #expect(registry.count == 0)
    cl_close(wake)
  }
}
