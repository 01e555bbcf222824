import CDevice
import CLinux
public import LinkFormat
public import LinuxSupport

/// Why a function's registers or memory cannot be looked at from outside.
public enum WindowError: Error, Equatable, Sendable {
  /// Memory of the function is switched off, as it is before a driver has it.
  case memoryOff
  /// It has no such range.
  case noRange(bar: Int)
  /// What the registers say makes no sense.
  case badRegisters(GeometryError)
  /// What the system says; EINVAL when a driver has claimed the range for itself.
  case system(SystemError)

  /// One sentence.
  public var text: String {
    switch self {
    case .memoryOff: "the device's memory is switched off, because no driver has it"
    case .noRange(let bar): "the device has no memory at BAR \(bar)"
    case .badRegisters(let error): "its registers make no sense (\(error))"
    case .system(let error) where error.code == SystemError.invalid:
      "its driver has claimed the range, and this kernel lets nobody else look (IO_STRICT_DEVMEM)"
    case .system(let error) where error.code == SystemError.noAccess:
      "only root may look at it"
    case .system(let error): error.text
    }
  }
}

/// Whole words of a mapping, each loaded once, as bytes.
///
/// - Parameter offset: where they begin; as `count` a multiple of 4, and inside the mapping.
@unsafe
public func loadedWords(_ base: UnsafeRawPointer, _ offset: Int, _ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  unsafe bytes.withUnsafeMutableBytes { buffer in
    guard let to = buffer.baseAddress else { return }
    unsafe cd_load_words(base, offset, to, count)
  }
  return bytes
}

/// A range of a function, mapped read-only through sysfs: no driver and no device node takes part,
/// so nothing happens to the device when it is closed.
@safe
public struct FunctionWindow: ~Copyable {
  private let base: UnsafeMutableRawPointer
  /// Bytes that are mapped.
  public let count: Int

  /// Maps a base address register of a function whose memory is switched on.
  public init(_ device: LinkDevice, bar: Int, files: HostFiles) throws(WindowError) {
    guard let range = device.function.resources.first(where: { $0.bar == bar && $0.isMemory }),
      range.size >= 4096, range.size <= 1 << 40
    else { throw .noRange(bar: bar) }
    guard let configuration = device.configuration, configuration.command & 2 != 0 else {
      throw .memoryOff
    }
    let size = Int(range.size)
    let base: UnsafeMutableRawPointer
    do throws(SystemError) {
      // O_SYNC asks for an uncached mapping of memory that is no RAM.
      let file = try Descriptor(
        unsafe cl_open(files.root + device.function.folder + "/resource\(bar)", 0o4010000, 0))
      var facts = cl_file_facts()
      _ = try SystemError.check(unsafe cl_file_facts_of(file.number, &facts))
      // A mapping that reached beyond the file would fault.
      guard facts.size >= range.size else { throw SystemError(SystemError.inputOutput) }
      unsafe base = try Self.map(file, size)
    } catch { throw .system(error) }
    unsafe self.init(base, size)
  }

  private init(_ base: UnsafeMutableRawPointer, _ count: Int) {
    unsafe self.base = base
    self.count = count
  }

  private static func map(
    _ file: borrowing Descriptor, _ size: Int
  ) throws(SystemError) -> UnsafeMutableRawPointer {
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    let result = unsafe cl_map_at(base, size, 0, file.number)
    if result < 0 { unsafe cl_unmap(base, size) }
    _ = try SystemError.check(result)
    return unsafe base
  }

  deinit { unsafe cl_unmap(base, count) }

  /// The words from `offset` on, each loaded once, as bytes; empty when they are not whole words of
  /// the range.
  public func words(_ offset: Int, _ size: Int) -> [UInt8] {
    guard offset >= 0, size > 0, offset & 3 == 0, size & 3 == 0, offset <= count - size else {
      return []
    }
    // SAFETY: the range was checked, and the mapping lives as long as this value.
    return unsafe loadedWords(base, offset, size)
  }
}

/// The readable registers of a device at one moment.
public struct RegisterPicture: Equatable, Sendable {
  /// The own peer id.
  public let id: UInt32
  /// Peers the link has room for.
  public let maxPeers: UInt32
  /// Bit 0: interrupts are delivered.
  public let interruptControl: UInt32
  /// The own state.
  public let state: UInt32

  /// States what was read.
  public init(id: UInt32, maxPeers: UInt32, interruptControl: UInt32, state: UInt32) {
    self.id = id
    self.maxPeers = maxPeers
    self.interruptControl = interruptControl
    self.state = state
  }

  /// Reads the four registers through a window, each once, in one access each.
  public init(_ window: borrowing FunctionWindow) {
    func register(_ offset: Int) -> UInt32 {
      window.words(offset, 4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }
    // ivshmem-v2, "Register Region".
    id = register(0x00)
    maxPeers = register(0x04)
    interruptControl = register(0x08)
    state = register(0x10)
  }
}

/// A link as its memory shows it from outside, where the device has its shared memory in BAR 2;
/// mapped read-only.
public struct FunctionObserver: ~Copyable {
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// The registers when the observer was made.
  public let registers: RegisterPicture
  private let page: FunctionWindow
  private let memory: FunctionWindow

  /// Maps registers and shared memory.
  public init(_ device: LinkDevice, files: HostFiles) throws(WindowError) {
    let page = try FunctionWindow(device, bar: 0, files: files)
    let memory = try FunctionWindow(device, bar: 2, files: files)
    let registers = RegisterPicture(page)
    let geometry = try Self.geometry(device, registers, memory.count)
    self.init(page, memory, registers, geometry)
  }

  private init(
    _ page: consuming FunctionWindow, _ memory: consuming FunctionWindow,
    _ registers: RegisterPicture, _ geometry: LinkGeometry
  ) {
    self.page = page
    self.memory = memory
    self.registers = registers
    self.geometry = geometry
  }

  private static func geometry(
    _ device: LinkDevice, _ registers: RegisterPicture, _ count: Int
  ) throws(WindowError) -> LinkGeometry {
    guard let capability = device.configuration?.ivshmem else { throw .noRange(bar: 2) }
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: registers.maxPeers, stateTableSize: UInt64(capability.stateTableSize),
        readWriteSize: capability.readWriteSize, outputSize: capability.outputSize)
    } catch { throw .badRegisters(error) }
    guard geometry.totalSize <= count else { throw .badRegisters(.totalSize) }
    guard registers.id < geometry.maxPeers else {
      throw .badRegisters(.peerID(registers.id, maxPeers: geometry.maxPeers))
    }
    return geometry
  }

  /// The registers now.
  public var currentRegisters: RegisterPicture { RegisterPicture(page) }
  /// Whole words of the shared memory, each loaded once, as bytes; empty outside of it.
  public func words(_ offset: Int, _ size: Int) -> [UInt8] {
    offset <= geometry.totalSize - size ? memory.words(offset, size) : []
  }
}
