import CDevice
import CLinux
public import IVShmem
import LinuxMapping
public import LinuxPCI
public import LinuxSupport
public import SharedMemory

/// The platform of kernels that have `vfio-pci` alone, Debian's among them.
///
/// The kernel gives each vector an event of its own, so a wait tells which were raised. The device
/// needs an IOMMU for the kernel's consent and never uses it: ivshmem has no DMA. Its shared memory
/// has to be in BAR 2. On arm64 the kernel maps it as Device memory, so every copy is made of
/// aligned accesses; block I/O goes through private buffers.
///
/// When the last descriptor is closed the kernel resets the function if the function can be reset.
/// One that cannot keeps its State: the next user starts by writing 0.
@safe
public struct LinuxVFIO: Platform, ~Copyable {
  /// What the mapping and the interrupts can do.
  public let capabilities: PlatformCapabilities
  /// This peer's id.
  public let peerID: PeerID
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// Vectors this peer may be rung on.
  public let vectorCount: UInt16
  /// The PCI class code, 24 bits.
  public let deviceClass: UInt32
  /// The shared memory.
  public let region: SharedRegion
  /// Ends this peer's wait from elsewhere; it is the event of vector 0.
  public let localWake: LocalWake
  /// The vectors for which the last wait returned `.event`, bit by bit; bit 0 also for a local
  /// wake-up.
  public private(set) var raisedVectors: UInt32 = 0
  private let page: RegisterMapping
  private let sections: SectionMapping
  private let events: VFIOEvents
  private let device: Descriptor
  private var isGone = false

  /// Opens a function that `vfio-pci` has.
  public init(_ function: PCIFunction, files: HostFiles) throws(DeviceError) {
    try self.init(device: VFIOFunction.open(function, files), of: function)
  }

  /// Goes on with a device descriptor that somebody has kept open: the same peer, whose State was
  /// never 0. Interrupts that came meanwhile are lost; the first look finds what they meant.
  public init(
    adopting descriptor: consuming Descriptor, of function: PCIFunction
  ) throws(DeviceError) {
    guard cd_device_is_pci(descriptor.number) == 1 else {
      throw .otherDescriptor("\(function.address)")
    }
    try self.init(device: descriptor, of: function)
  }

  private init(
    device: consuming Descriptor, of function: PCIFunction
  ) throws(DeviceError) {
    let number = device.number
    let configuration = try VFIOFunction.prepare(number)
    let parts = try VFIOFunction.map(number, configuration)
    let events = try VFIOEvents(number)
    // Of no harm where the device does not have it: it stays as it is, and so does the wait.
    let isOneShot = VFIOFunction.switchOneShotOn(number, configuration)
    var capabilities: PlatformCapabilities = .postedRegisterWrites | .vectorIdentity
    if isOneShot { capabilities.insert(.oneShotInterrupts) }
    #if !arch(arm64)
      capabilities.insert(.unalignedSafe)
    #endif
    self.capabilities = capabilities
    peerID = parts.id
    geometry = parts.sections.geometry
    region = parts.sections.region(isUnalignedSafe: capabilities.contains(.unalignedSafe))
    vectorCount = UInt16(truncatingIfNeeded: events.count)
    deviceClass = configuration.classCode
    localWake = LocalWake(descriptor: events.first)
    page = parts.page
    sections = parts.sections
    self.events = events
    self.device = device
  }

  /// The device's descriptor. As long as anybody holds it open, State stays.
  public var connection: Int32 { device.number }
}

// MARK: - Registers and interrupts

extension LinuxVFIO {
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

  /// Sleeps on the events of all vectors, the local wake-up, and the kernel's wish to have the
  /// device back.
  public mutating func wait(until deadline: Instant?) -> WaitOutcome {
    if isGone { return .gone }
    var timeout: Int64 = -1
    if let deadline {
      let clock = now().nanoseconds
      timeout =
        deadline.nanoseconds > clock ? Int64(clamping: deadline.nanoseconds - clock) : 0
    }
    let found = events.wait(timeout)
    guard !sections.hasVanished else { return vanish() }
    switch found {
    case .nothing: return .deadline
    case .interrupted: return .interrupted
    case .removal: return vanish()
    case .vectors(let raised):
      raisedVectors = raised
      return .event
    }
  }

  private mutating func vanish() -> WaitOutcome {
    isGone = true
    return .gone
  }

  /// Lets `epoll` watch everything that ends this peer's wait. Whoever was woken calls
  /// ``wait(until:)`` with a deadline that has passed: it consumes what came.
  public func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    try events.add(to: epoll, tag: tag)
  }

  /// Takes ``addWaits(to:tag:)`` back.
  public func removeWaits(from epoll: Int32) { events.remove(from: epoll) }

  /// CLOCK_MONOTONIC.
  public func now() -> Instant { Instant(nanoseconds: cl_monotonic_ns()) }

  /// From the kernel.
  public mutating func randomNumber() -> UInt64 { cl_random() }
}
