public import SharedMemory
public import VirtioDevice

/// The numbers of the network device (VIRTIO 1.4, 5.1).
public enum NetFormat {
  /// VIRTIO device type.
  public static let deviceID: UInt32 = 1
  /// Bytes of `struct virtio_net_hdr` as far as it is used here: without the fields of hashing.
  public static let headerSize = 12
  /// Bytes of configuration space up to the MTU (VIRTIO 1.4, 5.1.4).
  public static let configurationSize = 12
  /// Queue pairs a device may have; one queue more is for control.
  public static let pairLimit = (DeviceLimits.queues - 1) / 2
  /// Bytes of an Ethernet header: two addresses and a type.
  public static let etherSize = 14
  /// Bytes of a VLAN tag, by which a frame may be longer than the MTU and the header.
  public static let tagSize = 4
  /// Bytes of the largest frame: an IP packet of 64 KiB that is to be segmented.
  public static let frameLimit = 65535 + etherSize + tagSize
  /// Largest and smallest MTU (VIRTIO 1.4, 5.1.4.1: at least 68).
  public static let mtuRange = 68...65535
  /// Addresses of each kind that a receive filter holds.
  public static let filterLimit = 32
}

/// What a queue of a network device is for (VIRTIO 1.4, 5.1.2).
public enum NetQueue: Equatable, Sendable {
  /// Frames for the driver, of pair 0, 1, ...
  case receive(pair: Int)
  /// Frames of the driver.
  case transmit(pair: Int)
  /// Commands of the driver.
  case control

  /// What queue `index` is for, where `pairs` pairs lie before the control queue: 1 for a driver
  /// without VIRTIO_NET_F_MQ. `nil` for queues behind the control queue.
  public init?(index: Int, pairs: Int) {
    switch index {
    case 0..<2 * pairs:
      self = index & 1 == 0 ? .receive(pair: index / 2) : .transmit(pair: index / 2)
    case 2 * pairs: self = .control
    default: return nil
    }
  }

  /// The queue's number.
  public func index(pairs: Int) -> Int {
    switch self {
    case .receive(let pair): 2 * pair
    case .transmit(let pair): 2 * pair + 1
    case .control: 2 * pairs
    }
  }
}

/// Bits of the status field (VIRTIO 1.4, 5.1.4).
public struct NetStatus: BitSet, BitwiseCopyable {
  /// One bit a state.
  public let rawValue: UInt16
  /// Wraps bits.
  public init(rawValue: UInt16) {
    self.rawValue = rawValue
  }
  /// VIRTIO_NET_S_LINK_UP.
  public static var linkUp: NetStatus { NetStatus(rawValue: 1) }
  /// VIRTIO_NET_S_ANNOUNCE: the driver is asked to tell the network where it is.
  public static var announce: NetStatus { NetStatus(rawValue: 2) }
}

/// Commands of the control queue (VIRTIO 1.4, 5.1.9.5): class in the low byte, command above.
public enum NetCommand: UInt16, Sendable {
  /// Take every frame.
  case promiscuous = 0x0000
  /// Take every multicast frame.
  case allMulticast = 0x0100
  /// Take every unicast frame.
  case allUnicast = 0x0200
  /// Take no multicast frame.
  case noMulticast = 0x0300
  /// Take no unicast frame.
  case noUnicast = 0x0400
  /// Take no broadcast frame.
  case noBroadcast = 0x0500
  /// Set the tables of addresses to take.
  case setTable = 0x0001
  /// Set the device's address.
  case setAddress = 0x0101
  /// The driver has announced itself.
  case announced = 0x0003
  /// Use so many queue pairs.
  case setPairs = 0x0004
  /// What may be left undone in frames for the driver.
  case setOffloads = 0x0005
}

extension FeatureSet {
  /// VIRTIO_NET_F_CSUM (0): the driver may leave checksums to the device.
  public static let netChecksum = bit(0)
  /// VIRTIO_NET_F_GUEST_CSUM (1): the device may leave checksums to the driver.
  public static let netGuestChecksum = bit(1)
  /// VIRTIO_NET_F_CTRL_GUEST_OFFLOADS (2).
  public static let netControlOffloads = bit(2)
  /// VIRTIO_NET_F_MTU (3).
  public static let netMTU = bit(3)
  /// VIRTIO_NET_F_MAC (5).
  public static let netAddress = bit(5)
  /// VIRTIO_NET_F_GUEST_TSO4 (7): the driver takes unsegmented TCP over IPv4.
  public static let netGuestTCP4 = bit(7)
  /// VIRTIO_NET_F_GUEST_TSO6 (8).
  public static let netGuestTCP6 = bit(8)
  /// VIRTIO_NET_F_GUEST_ECN (9).
  public static let netGuestECN = bit(9)
  /// VIRTIO_NET_F_HOST_TSO4 (11): the device takes unsegmented TCP over IPv4.
  public static let netHostTCP4 = bit(11)
  /// VIRTIO_NET_F_HOST_TSO6 (12).
  public static let netHostTCP6 = bit(12)
  /// VIRTIO_NET_F_HOST_ECN (13).
  public static let netHostECN = bit(13)
  /// VIRTIO_NET_F_MRG_RXBUF (15): a frame may be spread over several buffers.
  public static let netMergeable = bit(15)
  /// VIRTIO_NET_F_STATUS (16).
  public static let netStatus = bit(16)
  /// VIRTIO_NET_F_CTRL_VQ (17).
  public static let netControl = bit(17)
  /// VIRTIO_NET_F_CTRL_RX (18).
  public static let netControlReceive = bit(18)
  /// VIRTIO_NET_F_CTRL_RX_EXTRA (20).
  public static let netControlReceiveExtra = bit(20)
  /// VIRTIO_NET_F_GUEST_ANNOUNCE (21).
  public static let netAnnounce = bit(21)
  /// VIRTIO_NET_F_MQ (22).
  public static let netQueuePairs = bit(22)
  /// VIRTIO_NET_F_CTRL_MAC_ADDR (23).
  public static let netControlAddress = bit(23)

  /// What the offloads command may switch (VIRTIO 1.4, 5.1.9.5.9).
  static let netGuestOffloads = FeatureSet.netGuestChecksum.union(.netGuestTCP4)
    .union(.netGuestTCP6).union(.netGuestECN)

  /// These features without those whose prerequisites are missing (VIRTIO 1.4, 5.1.3.1): a driver
  /// that accepts them all the same has not got them.
  public var netConsistent: FeatureSet {
    var result = self
    func without(_ need: FeatureSet, _ lost: FeatureSet) {
      if !result.contains(need) { result = result.subtracting(lost) }
    }
    without(.netChecksum, .netHostTCP4 | .netHostTCP6)
    without(.netGuestChecksum, .netGuestTCP4 | .netGuestTCP6)
    if result.isDisjoint(with: .netHostTCP4 | .netHostTCP6) {
      result = result.subtracting(.netHostECN)
    }
    if result.isDisjoint(with: .netGuestTCP4 | .netGuestTCP6) {
      result = result.subtracting(.netGuestECN)
    }
    without(
      .netControl,
      FeatureSet.netControlReceive.union(.netControlReceiveExtra).union(.netAnnounce)
        .union(.netQueuePairs).union(.netControlAddress).union(.netControlOffloads))
    return result
  }
}
