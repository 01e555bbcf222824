import CDevice
import CLinux
public import IVShmem
import LinuxMapping
public import LinuxPCI
public import LinuxSupport
public import SharedMemory

/// The platform of kernels that have the driver `uio_ivshmem`: Siemens' and NXP's, and every other
/// with the module of `linux/`.
///
/// The driver switches one-shot interrupts on and counts every vector in one number: a wait tells
/// that something came, not what. The final close of a node writes State 0, whoever had opened it:
/// a value opens the node once, under a lock, and keeps it until it ends. A descriptor that
/// somebody else keeps open as well (``connection``) lets another process go on as the same peer.
@safe
public struct LinuxUIO: Platform, ~Copyable {
  /// Not pinnable: these pages belong to no process. Register writes are posted by real buses.
  public let capabilities: PlatformCapabilities
  /// This peer's id.
  public let peerID: PeerID
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// Vectors this peer may be rung on; all of them end in one counter.
  public let vectorCount: UInt16
  /// The PCI class code, 24 bits.
  public let deviceClass: UInt32
  /// The shared memory; cached.
  public let region: SharedRegion
  /// Ends this peer's wait from elsewhere.
  public let localWake: LocalWake
  private let page: RegisterMapping
  private let sections: SectionMapping
  private let node: Descriptor
  private let wake: Descriptor
  private let lock: DeviceLock?
  private var isGone = false

  /// Opens the node of a function, which `uio_ivshmem` has.
  ///
  /// - Parameter lockFolder: where the lock's file lies; `nil` for the usual place.
  public init(
    _ function: PCIFunction, files: HostFiles, lockFolder: String? = nil
  ) throws(DeviceError) {
    let found = try Facts(function)
    let path = found.node.path
    let lock = try DeviceLock(function.address, folder: lockFolder)
    if let holder = NodeHolders.anyone(of: path, files: files) {
      throw .busy(path, holder: holder)
    }
    let descriptor: Descriptor
    do throws(SystemError) {
      // O_RDWR and O_NONBLOCK: a read that finds nothing must not sleep past a wake-up.
      descriptor = try Descriptor(unsafe cl_open(files.root + path, 0o4002, 0))
    } catch { throw .open(path, error) }
    try self.init(found, descriptor, lock)
  }

  /// Goes on with a descriptor of the function's node that somebody has kept open: the same peer,
  /// whose State was never 0. The descriptor is closed when this fails, which changes nothing as
  /// long as its keeper has it.
  public init(
    adopting descriptor: consuming Descriptor, of function: PCIFunction, files: HostFiles,
    lockFolder: String? = nil
  ) throws(DeviceError) {
    let found = try Facts(function)
    let lock = try DeviceLock(function.address, folder: lockFolder)
    var major: UInt32 = 0
    var minor: UInt32 = 0
    let result = unsafe cd_device_number(descriptor.number, &major, &minor)
    guard result >= 0,
      files.text("\(function.folder)/uio/\(found.node.name)/dev") == "\(major):\(minor)"
    else { throw .otherDescriptor(found.node.path) }
    try self.init(found, descriptor, lock)
  }

  /// What is known of a function before anything is opened.
  struct Facts {
    let node: UIONode
    let plan: UIOPlan
    let vectorCount: UInt16
    let deviceClass: UInt32

    init(_ function: PCIFunction) throws(DeviceError) {
      try function.expectDriver("uio_ivshmem")
      guard let node = function.nodes.first else { throw .noNode }
      self.node = node
      plan = try UIOPlan(node)
      // An empty folder of vectors is what a device with INTx has; Linux' number of that is not 0.
      let vectors = function.messageInterrupts.count
      guard vectors > 0 || function.interrupt != 0 else { throw .noInterrupt }
      vectorCount = UInt16(truncatingIfNeeded: min(max(1, vectors), 2048))
      deviceClass = function.classCode
    }
  }

  private init(
    _ found: Facts, _ descriptor: consuming Descriptor, _ lock: consuming DeviceLock
  ) throws(DeviceError) {
    let number = descriptor.number
    let pageSize = SectionMapping.pageSize
    let parts = try Self.map(found.plan) { map in
      UIOWindow(descriptor: number, offset: UInt64(map.index) * pageSize)
    }
    try self.init(
      parts, descriptor, lock, deviceClass: found.deviceClass, vectorCount: found.vectorCount)
  }

  /// Registers and sections of a node, mapped.
  struct Parts: ~Copyable {
    let page: RegisterMapping
    let sections: SectionMapping
    let id: PeerID
  }

  /// Maps everything; `window` says where a map is found.
  static func map(
    _ plan: UIOPlan, _ window: (UIOMap) -> UIOWindow
  ) throws(DeviceError) -> Parts {
    let registerWindow = window(plan.registers)
    let page: RegisterMapping
    do throws(SystemError) {
      page = try RegisterMapping(
        descriptor: registerWindow.descriptor, offset: registerWindow.offset)
    } catch { throw .mapping(plan.registers.name, error) }
    let id = page.registers.read(.id)
    let geometry = try plan.geometry(
      id: id, maxPeers: page.registers.read(.maximumPeers), pageSize: SectionMapping.pageSize)
    let own = PeerID(UInt16(truncatingIfNeeded: id))
    var sections = try reserve(geometry)
    let outputs = geometry.readWrite.upperBound..<geometry.totalSize
    // The own output section comes last: it lies over what everybody may read.
    let places: [(UIOMap?, Range<Int>, Bool)] = [
      (plan.stateTable, 0..<geometry.stateTableSize, false),
      (plan.readWrite, geometry.readWrite, true), (plan.inputs, outputs, false),
      (plan.output, geometry.output(of: own), true),
    ]
    for (map, place, isWritable) in places {
      guard let map else { continue }
      let found = window(map)
      do throws(SystemError) {
        try sections.map(
          place, isWritable: isWritable, descriptor: found.descriptor, offset: found.offset)
      } catch { throw .mapping(map.name, error) }
    }
    return Parts(page: page, sections: sections, id: own)
  }

  private static func reserve(_ geometry: LinkGeometry) throws(DeviceError) -> SectionMapping {
    do throws(SystemError) {
      return try SectionMapping(geometry)
    } catch { throw .mapping("sections", error) }
  }

  init(
    _ parts: consuming Parts, _ node: consuming Descriptor, _ lock: consuming DeviceLock?,
    deviceClass: UInt32, vectorCount: UInt16
  ) throws(DeviceError) {
    let wake: Descriptor
    do throws(SystemError) {
      wake = try Descriptor(cl_eventfd())
    } catch { throw .mapping("event", error) }
    capabilities = .unalignedSafe | .oneShotInterrupts | .postedRegisterWrites
    peerID = parts.id
    geometry = parts.sections.geometry
    region = parts.sections.region(isUnalignedSafe: true)
    self.deviceClass = deviceClass
    self.vectorCount = vectorCount
    localWake = LocalWake(descriptor: wake.number)
    self.wake = wake
    self.node = node
    self.lock = lock
    page = parts.page
    sections = parts.sections
  }

  /// The node's descriptor. As long as anybody holds it open, State stays.
  public var connection: Int32 { node.number }
}

// MARK: - Registers and interrupts

extension LinuxUIO {
  /// Writes State; everything stored before is visible to whoever sees it.
  public mutating func writeState(_ value: UInt32) {
    // Its partner is the acquiring load of the state table at the peer.
    Ordering.releaseFence()
    page.registers.write(value, to: .state)
  }

  /// Reads State.
  public mutating func readState() -> UInt32 { page.registers.read(.state) }

  /// Writes Interrupt Control.
  public mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    page.registers.write(isEnabled ? 1 : 0, to: .interruptControl)
  }

  /// Reads Interrupt Control.
  public mutating func interruptsEnabled() -> Bool {
    page.registers.read(.interruptControl) & 1 != 0
  }

  /// Rings at a peer.
  public mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    // Its partner is the delivery of the interrupt, before which the device has to make visible
    // what was stored before the doorbell (ivshmem-v2, "Register Region", Doorbell).
    Ordering.releaseFence()
    page.registers.write(DeviceRegisters.doorbell(vector, at: peer), to: .doorbell)
  }

  /// Sleeps on the node's counter and the local wake-up.
  ///
  /// The counter never loses an interrupt: one between the last look and the sleep has moved it,
  /// and the sleep ends at once.
  public mutating func wait(until deadline: Instant?) -> WaitOutcome {
    if isGone { return .gone }
    var entries: InlineArray<2, cl_poll_entry> = InlineArray(
      repeating: cl_poll_entry(fd: node.number, events: Int16(CL_POLL_IN), revents: 0))
    entries[1].fd = wake.number
    var timeout: Int64 = -1
    if let deadline {
      let clock = now().nanoseconds
      timeout =
        deadline.nanoseconds > clock ? Int64(clamping: deadline.nanoseconds - clock) : 0
    }
    let ready = unsafe withUnsafeMutablePointer(to: &entries) { pointer in
      unsafe cl_poll_ns(
        UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: cl_poll_entry.self), 2, timeout)
    }
    if ready == 0 { return sections.hasVanished ? vanish() : .deadline }
    if ready == -Int(SystemError.interrupted) { return .interrupted }
    guard ready > 0, !sections.hasVanished else { return vanish() }
    if entries[1].revents != 0 { cl_event_take(wake.number) }
    if entries[0].revents != 0 {
      switch cd_read_count(node.number) {
      case 4, -Int(SystemError.tryAgain), -Int(SystemError.interrupted): break
      // EIO: the driver has let the device go.
      default: return vanish()
      }
    }
    return .event
  }

  private mutating func vanish() -> WaitOutcome {
    isGone = true
    return .gone
  }

  /// Lets `epoll` watch everything that ends this peer's wait. Whoever was woken calls
  /// ``wait(until:)`` with a deadline that has passed: it consumes what came.
  public func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    _ = try SystemError.check(cl_epoll_add(epoll, node.number, tag, 0))
    _ = try SystemError.check(cl_epoll_add(epoll, wake.number, tag, 0))
  }

  /// Takes ``addWaits(to:tag:)`` back.
  public func removeWaits(from epoll: Int32) {
    cl_epoll_remove(epoll, node.number)
    cl_epoll_remove(epoll, wake.number)
  }

  /// CLOCK_MONOTONIC.
  public func now() -> Instant { Instant(nanoseconds: cl_monotonic_ns()) }

  /// From the kernel.
  public mutating func randomNumber() -> UInt64 { cl_random() }
}
