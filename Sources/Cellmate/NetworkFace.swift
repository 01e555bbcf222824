public import CCellmate
import HostResources
import IVShmem
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioNet
import VirtioTransport
import Virtqueue

extension FeatureSet {
  /// What CELLMATE_WITHOUT_... takes away.
  fileprivate static func withheld(_ flags: UInt32) -> FeatureSet {
    let cut = FeatureSet.netHostTCP4.union(.netHostTCP6).union(.netGuestTCP4).union(.netGuestTCP6)
      .union(.netHostECN).union(.netGuestECN)
    var result = FeatureSet()
    if flags & 1 != 0 { result = result.union(cut).union(.netChecksum).union(.netGuestChecksum) }
    if flags & 2 != 0 { result = result.union(cut) }
    if flags & 4 != 0 { result = result.union(.netMergeable) }
    if flags & 8 != 0 { result = result.union(.netControl).union(.netQueuePairs) }
    if flags & 16 != 0 {
      result = result.union(.netGuestChecksum).union(.netGuestTCP4).union(.netGuestTCP6)
        .union(.netGuestECN)
    }
    return result
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_create(
  _ link: OpaquePointer?, _ slot: UInt32, _ pairs: UInt32, _ without: UInt32,
  _ driver: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let driver = unsafe driver, slot < UInt32(BlockLayout.slotCount), pairs >= 1, pairs <= 8,
    without < 32
  else { return Code.argument }
  let wish = DriverWish.network(pairs: Int(pairs), without: .withheld(without))
  return unsafe DriverObject.create(link, slot, wish, driver, error)
}

extension DriverObject {
  /// Fails unless this is the driver of a network device.
  fileprivate func requireNetwork() throws(FaceError) {
    guard unit.network.isThere else { throw FaceError(Code.handle) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_info(
  _ driver: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_network_facts>?
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    let size = MemoryLayout<cellmate_network_facts>.size
    let result = unsafe ch_can_output(facts, size)
    try require(result == Code.ok, result)
    guard let facts = unsafe facts else { throw FaceError(Code.argument) }
    let now = NetConfiguration(object.configuration.span, features: object.features)
    var values = cellmate_network_facts()
    values.features = object.features.rawValue
    if let address = now.address {
      values.has_address = 1
      unsafe withUnsafeMutableBytes(of: &values.address) { bytes in
        for index in 0..<6 { unsafe bytes[index] = address.byte(at: index) }
      }
    }
    values.is_link_up = now.isLinkUp ? 1 : 0
    values.mtu = UInt32(now.mtu)
    values.pairs = UInt32(now.pairs)
    values.pairs_in_use = UInt32(object.unit.network.value.pairs)
    values.control_queue = Int32(object.unit.network.value.controlIndex ?? -1)
    values.frame_limit = UInt32(object.unit.network.value.frameLimit)
    values.packet_limit = UInt32(object.unit.network.value.packetLimit)
    unsafe ch_output(facts, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_send(
  _ driver: OpaquePointer?, _ frames: UnsafePointer<cellmate_frame>?, _ count: UInt32
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    guard let frames = unsafe frames, count <= 1024 else { throw FaceError(Code.argument) }
    var sent = 0
    do throws(FaceError) {
      while sent < Int(count), unsafe try object.send(frames[sent]) { sent += 1 }
    } catch {
      // Those before it go out; the caller meets the error at the next call.
      if sent == 0 { throw error }
    }
    object.publish()
    return cellmate_result(sent)
  }
}

extension DriverObject {
  /// Copies one frame to the device; whether there was room.
  fileprivate mutating func send(_ frame: cellmate_frame) throws(FaceError) -> Bool {
    let length = unsafe Int(frame.length)
    let limit = unit.network.value.frameLimit
    guard length >= NetFormat.etherSize, length <= limit else { throw FaceError(Code.argument) }
    let bytes = unsafe try readableBytes(frame.data, length)
    let offload = unsafe try checked(frame, bytes)
    guard offload.segmentation != .none || length <= unit.network.value.packetLimit else {
      throw FaceError(Code.argument)
    }
    do throws(QueueError) {
      return try unit.network.value.driver.send(bytes, offload, pair: unsafe Int(frame.pair))
    } catch { throw Self.broken(error) }
  }

  /// What is left undone in a frame: only what was agreed, and what fits it.
  private func checked(
    _ frame: cellmate_frame, _ bytes: Span<UInt8>
  ) throws(FaceError) -> FrameOffload {
    var header = NetHeader()
    header.flags = unsafe frame.needs_checksum != 0 ? NetHeader.needsChecksum : 0
    header.segmentationType = unsafe frame.segmentation
    guard header.flags != 0 || header.segmentationType != 0 else { return FrameOffload() }
    header.checksumStart = unsafe frame.checksum_start
    header.checksumOffset = unsafe frame.checksum_offset
    header.segmentSize = unsafe frame.segment_size
    header.headerLength = unsafe frame.header_length
    var rights = OffloadRights()
    rights.checksum = features.contains(.netChecksum)
    rights.tcp4 = features.contains(.netHostTCP4)
    rights.tcp6 = features.contains(.netHostTCP6)
    rights.congestion = features.contains(.netHostECN)
    do throws(FrameFault) {
      return try header.checked(bytes, rights: rights, mtu: 65535)
    } catch { throw FaceError(Code.argument) }
  }

  /// Copies one received frame; whether there was one.
  fileprivate mutating func receive(
    _ frame: UnsafeMutablePointer<cellmate_frame>
  ) throws(FaceError) -> Bool {
    var room = unsafe try writableBytes(frame.pointee.data, Int(frame.pointee.length))
    var offload = FrameOffload()
    var pair = 0
    let count: Int
    do throws(QueueError) {
      count = try unit.network.value.receive(into: &room, &offload, pair: &pair)
    } catch { throw Self.broken(error) }
    guard count > 0 else { return false }
    let congestion: UInt8 = offload.hasECN ? NetHeader.congestion : 0
    unsafe frame.pointee = unsafe cellmate_frame(
      data: frame.pointee.data, length: UInt32(count), pair: UInt16(pair),
      needs_checksum: offload.needsChecksum ? 1 : 0,
      segmentation: offload.segmentation.rawValue | congestion,
      checksum_start: offload.checksumStart, checksum_offset: offload.checksumOffset,
      segment_size: offload.segmentSize, header_length: offload.headerLength)
    return true
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_receive(
  _ driver: OpaquePointer?, _ frames: UnsafeMutablePointer<cellmate_frame>?, _ count: UInt32
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    guard let frames = unsafe frames, count <= 1024 else { throw FaceError(Code.argument) }
    var received = 0
    do throws(FaceError) {
      while received < Int(count), unsafe try object.receive(frames + received) { received += 1 }
    } catch {
      if received == 0 { throw error }
    }
    object.publish()
    return cellmate_result(received)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_command(
  _ driver: OpaquePointer?, _ command: UInt32, _ argument: UInt64, _ deadline: UInt64
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    let known: NetCommand =
      switch command {
      case 1: .setPairs
      case 2: .setAddress
      case 3: .promiscuous
      case 4: .allMulticast
      default: throw FaceError(Code.argument)
      }
    try object.requireRunning()
    try object.tell(known, argument, until: deadline)
    return Code.ok
  }
}

extension DriverObject {
  /// Gives one command and waits for its answer.
  fileprivate mutating func tell(
    _ command: NetCommand, _ argument: UInt64, until deadline: UInt64
  ) throws(FaceError) {
    // The answer to one that was given up comes first.
    if unit.network.value.driver.isCommandOpen {
      _ = try awaitAnswer(until: deadline)
      openAddress = nil
    }
    guard unit.network.value.driver.start(command, argument) else {
      throw .explained(
        Code.refused, "the device has no control queue for: \(Self.name(command))")
    }
    openAddress = command == .setAddress ? MACAddress(rawValue: argument) : nil
    openCommand = Self.name(command)
    publish()
    guard try awaitAnswer(until: deadline) else {
      throw .explained(Code.refused, "the device refuses: \(Self.name(command))")
    }
  }

  /// Waits for the answer to the command that is open: whether the device did it.
  private mutating func awaitAnswer(until deadline: UInt64) throws(FaceError) -> Bool {
    while true {
      let answer: Bool?
      do throws(QueueError) {
        answer = try unit.network.value.driver.takeAnswer()
      } catch { throw Self.broken(error) }
      if let answer {
        if answer, let openAddress { address = openAddress }
        return answer
      }
      try require(look(), Code.link)
      guard way.now < deadline else {
        throw .explained(Code.deadline, "the device does not answer: \(openCommand)")
      }
      switch sleep(until: deadline, spin: 0) {
      case .event, .deadline: break
      case .interrupted: throw FaceError(Code.interrupted)
      case .gone: throw .gone
      }
    }
  }

  private static func name(_ command: NetCommand) -> StaticString {
    switch command {
    case .setPairs: "set the number of queue pairs"
    case .setAddress: "set the address"
    case .promiscuous, .allMulticast: "set the receive mode"
    default: "a command"
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_bridge(
  _ driver: OpaquePointer?, _ specification: UnsafePointer<CChar>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    guard let specification = unsafe specification else { throw FaceError(Code.argument) }
    guard !object.bridge.isThere else { throw FaceError(Code.order) }
    do throws(FaceError) {
      object.bridge = Slot(
        try FrameBridge.open(
          unsafe String(cString: specification), wake: object.wakeDescriptor))
    } catch let problem {
      unsafe report(problem, error)
      throw problem
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_network_carry(_ driver: OpaquePointer?) -> cellmate_result {
  unsafe DriverObject.run(driver) { object throws(FaceError) in
    try object.requireNetwork()
    guard object.bridge.isThere else { throw FaceError(Code.order) }
    let now = NetConfiguration(object.configuration.span, features: object.features)
    if object.bridge.value.follow(now, address: object.address) { return 3 }
    let hasMoved: Bool
    do throws(QueueError) {
      hasMoved = try object.bridge.value.carry(&object.unit.network.value, object.features)
    } catch { throw DriverObject.broken(error) }
    if let failure = object.bridge.value.end.failure {
      throw .explained(Code.gone, "the far end: \(failure.text)")
    }
    object.publish()
    if hasMoved { return 1 }
    try require(object.look(), Code.link)
    // What is under way still gets out: the device is not told to stop before it has it.
    if object.bridge.value.hasEnded {
      do throws(QueueError) {
        if try object.unit.network.value.driver.unsentCount() == 0 { return 2 }
      } catch { throw DriverObject.broken(error) }
    }
    object.bridge.value.end.arm()
    return 0
  }
}
