import SharedMemory
import VirtioDevice
import Virtqueue

// From the driver to the host (VIRTIO 1.4, 5.1.9.2).
extension NetDevice where Host: ~Copyable {
  /// What the driver may leave undone.
  private var rights: OffloadRights {
    var rights = OffloadRights()
    rights.checksum = features.contains(.netChecksum)
    rights.tcp4 = features.contains(.netHostTCP4)
    rights.tcp6 = features.contains(.netHostTCP6)
    rights.congestion = features.contains(.netHostECN)
    return rights
  }

  /// Copies one frame, checks the copy and gives it to the host.
  mutating func transmit(
    _ segments: borrowing ChainSegments, _ pair: Int, in region: SharedRegion
  ) {
    let count = segments.readableByteCount
    guard count >= NetFormat.headerSize + NetFormat.etherSize else {
      counters.undersized &+= 1
      return
    }
    guard count <= outgoing.count else {
      counters.oversized &+= 1
      return
    }
    _ = outgoing.withMutableSpan(0..<count) {
      segments.copyReadable(from: 0, into: &$0, in: region)
    }
    let header = outgoing.withSpan(0..<NetFormat.headerSize) { NetHeader($0) }
    let rights = rights
    let mtu = host.mtu
    do throws(FrameFault) {
      let offload = try outgoing.withSpan(NetFormat.headerSize..<count) {
        frame throws(FrameFault) in
        try header.checked(frame, rights: rights, mtu: mtu)
      }
      remember(pair, count)
      blockedCount = count
      blockedOffload = offload
      sendBlocked()
      if blockedCount > 0 { counters.blockedFrames &+= 1 }
    } catch {
      switch error {
      case .undersized: counters.undersized &+= 1
      case .oversized: counters.oversized &+= 1
      case .badHeader: counters.badHeaders &+= 1
      }
    }
  }

  /// Frames of a flow come back on the pair the driver sends it on (VIRTIO 1.4, 5.1.9.5.6).
  private mutating func remember(_ pair: Int, _ count: Int) {
    guard activePairs > 1 else { return }
    let flow = outgoing.withSpan(NetFormat.headerSize..<count) { FrameLayers($0)?.flow($0) }
    guard let flow else { return }
    steering[Int(flow % UInt32(steering.count))] = UInt8(pair)
  }

  /// Gives the host the frame that waits.
  mutating func sendBlocked() {
    let count = blockedCount
    let offload = blockedOffload
    let result = outgoing.withSpan(NetFormat.headerSize..<count) { host.send($0, offload) }
    switch result {
    case .full: return
    case .taken:
      counters.framesFromDriver &+= 1
      counters.bytesFromDriver &+= UInt64(count - NetFormat.headerSize)
    case .dropped: counters.droppedByHost &+= 1
    }
    blockedCount = 0
  }
}
