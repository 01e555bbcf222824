import Foundation

/// A made-up Linux system below a folder: `/sys`, `/proc` and `/boot` as far as a test fills them.
final class SystemTree {
  let root: URL

  init() throws {
    root = FileManager.default.temporaryDirectory.appendingPathComponent("tree-\(UUID())")
    try FileManager.default.createDirectory(
      at: root.appendingPathComponent("sys/bus/pci/devices"), withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: root) }

  func write(_ path: String, _ data: Data) throws {
    let file = root.appendingPathComponent(path)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: file)
  }

  func write(_ path: String, _ text: String) throws { try write(path, Data(text.utf8)) }

  func link(_ path: String, to target: String) throws {
    let file = root.appendingPathComponent(path)
    try FileManager.default.createDirectory(
      at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try? FileManager.default.removeItem(at: file)
    try FileManager.default.createSymbolicLink(atPath: file.path, withDestinationPath: target)
  }

  func text(_ path: String) -> String? {
    try? String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
  }

  /// A device as sysfs shows it.
  struct Device {
    var address = "0000:00:03.0"
    var vendor: UInt16 = 0x110a
    var device: UInt16 = 0x4106
    var classCode: UInt32 = 0xffc003
    var command: UInt16 = 6
    /// Bytes of configuration space that may be read.
    var visible = 256
    /// MSI-X vectors; 0 for INTx.
    var vectors: UInt16 = 2
    var driver: String? = "uio_ivshmem"
    /// Maps of the UIO node, if any: name, address, size.
    var maps: [(String, UInt64, UInt64)]? = [
      ("registers", 0x710_0000, 0x1000), ("state_table", 0x7faf_0000, 0x1000),
      ("rw_section", 0x7faf_1000, 0x9000), ("input_sections", 0x7faf_a000, 0x6000),
      ("output_section", 0x7faf_c000, 0x2000),
    ]
    var node = 0
    var title = "uio_ivshmem"
    var readWrite: UInt64 = 0x9000
    var output: UInt64 = 0x2000
    var interrupt = 0

    /// The configuration space of ivshmem-v2, section 2 of the specification.
    var configuration: Data {
      var bytes = [UInt8](repeating: 0, count: 256)
      func put(_ value: UInt64, _ at: Int, _ count: Int) {
        for index in 0..<count {
          bytes[at + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
        }
      }
      put(UInt64(vendor), 0, 2)
      put(UInt64(device), 2, 2)
      put(UInt64(command), 4, 2)
      put(0x10, 6, 2)
      put(UInt64(classCode) << 8, 8, 4)
      put(0x0710_0000, 0x10, 4)
      put(0x4106_110a, 0x2c, 4)
      put(0x40, 0x34, 1)
      put(vectors == 0 ? 1 : 0, 0x3d, 1)
      put(0x09, 0x40, 1)
      put(vectors == 0 ? 0 : 0x60, 0x41, 1)
      put(0x20, 0x42, 1)
      put(1, 0x43, 1)
      put(0x1000, 0x44, 4)
      put(readWrite, 0x48, 8)
      put(output, 0x50, 8)
      put(0x7faf_0000, 0x58, 8)
      if vectors > 0 {
        put(0x11, 0x60, 1)
        put(UInt64(vectors - 1) | 0x8000, 0x62, 2)
      }
      return Data(bytes[..<visible])
    }
  }

  /// Adds a device.
  func add(_ device: Device) throws {
    let folder = "sys/bus/pci/devices/\(device.address)"
    func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) + "\n" }
    try write("\(folder)/vendor", hex(device.vendor))
    try write("\(folder)/device", hex(device.device))
    try write("\(folder)/class", hex(device.classCode))
    try write("\(folder)/subsystem_vendor", "0x110a\n")
    try write("\(folder)/subsystem_device", "0x4106\n")
    try write("\(folder)/irq", "\(device.interrupt)\n")
    try write("\(folder)/driver_override", "(null)\n")
    try write(
      "\(folder)/resource",
      "0x0000000007100000 0x0000000007100fff 0x0000000000040200\n"
        + String(repeating: "0x0000000000000000 0x0000000000000000 0x0000000000000000\n", count: 12)
    )
    try write("\(folder)/config", device.configuration)
    if let driver = device.driver {
      try link("\(folder)/driver", to: "../../drivers/\(driver)")
    }
    guard let maps = device.maps else { return }
    let node = "\(folder)/uio/uio\(device.node)"
    try write("\(node)/name", "\(device.title)[\(device.address)]\n")
    try write("\(node)/version", "1\n")
    try write("\(node)/event", "17\n")
    for (index, map) in maps.enumerated() {
      try write("\(node)/maps/map\(index)/name", map.0 + "\n")
      try write("\(node)/maps/map\(index)/addr", hex(map.1))
      try write("\(node)/maps/map\(index)/size", hex(map.2))
      try write("\(node)/maps/map\(index)/offset", "0x0\n")
    }
  }
}

/// Runs a program of ours to its end.
func runTool(
  _ arguments: [String], through wrapper: [String] = []
) throws -> (status: Int32, output: String, errors: String) {
  let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  let process = Process()
  let program = root.appendingPathComponent(".build/debug/ivshmem").path
  let words = wrapper + [program] + arguments
  process.executableURL = URL(fileURLWithPath: words[0])
  process.arguments = Array(words.dropFirst())
  let output = Pipe()
  let errors = Pipe()
  process.standardOutput = output
  process.standardError = errors
  process.standardInput = FileHandle.nullDevice
  try process.run()
  let text = try output.fileHandleForReading.readToEnd() ?? Data()
  let said = try errors.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  return (
    process.terminationStatus, String(decoding: text, as: UTF8.self),
    String(decoding: said, as: UTF8.self)
  )
}

/// An answer of `--json`.
func decoded(_ text: String) throws -> [String: Any] {
  let value = try JSONSerialization.jsonObject(with: Data(text.utf8))
  return value as? [String: Any] ?? [:]
}
