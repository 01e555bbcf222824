import VirtioDevice
import VirtioTransport

/// What a transaction says, in the words of VIRTIO 1.4.
enum AccessWords {
  static func text(_ operation: TransactionOperation, _ offset: Int, _ value: UInt64) -> String {
    guard let register = MMIORegister(rawValue: offset) else {
      return operation == .read
        ? "read configuration \(PictureStyle.hex(offset))"
        : "configuration \(PictureStyle.hex(offset)) = \(PictureStyle.hex(value))"
    }
    let name = name(register)
    if operation == .read { return "read \(name)" }
    if register == .status { return "\(name) = \(status(value))" }
    return "\(name) = \(PictureStyle.hex(value))"
  }

  /// VIRTIO 1.4, 2.1.
  static func status(_ value: UInt64) -> String {
    let names = [
      (1, "ACKNOWLEDGE"), (2, "DRIVER"), (8, "FEATURES_OK"), (4, "DRIVER_OK"), (64, "NEEDS_RESET"),
      (128, "FAILED"),
    ]
    let set = names.filter { value & UInt64($0.0) != 0 }.map(\.1)
    return set.isEmpty ? "0 (reset)" : set.joined(separator: " + ")
  }

  /// The names of VIRTIO 1.4, 4.2.2.
  static func name(_ register: MMIORegister) -> String {
    switch register {
    case .magicValue: "MagicValue"
    case .version: "Version"
    case .deviceID: "DeviceID"
    case .vendorID: "VendorID"
    case .deviceFeatures: "DeviceFeatures"
    case .deviceFeaturesSelector: "DeviceFeaturesSel"
    case .driverFeatures: "DriverFeatures"
    case .driverFeaturesSelector: "DriverFeaturesSel"
    case .queueSelector: "QueueSel"
    case .queueSizeMax: "QueueSizeMax"
    case .queueSize: "QueueSize"
    case .queueReady: "QueueReady"
    case .queueNotify: "QueueNotify"
    case .interruptStatus: "InterruptStatus"
    case .interruptAcknowledge: "InterruptACK"
    case .status: "Status"
    case .queueDescriptorLow: "QueueDescLow"
    case .queueDescriptorHigh: "QueueDescHigh"
    case .queueDriverLow: "QueueDriverLow"
    case .queueDriverHigh: "QueueDriverHigh"
    case .queueDeviceLow: "QueueDeviceLow"
    case .queueDeviceHigh: "QueueDeviceHigh"
    case .sharedMemorySelector: "SHMSel"
    case .sharedMemoryLengthLow: "SHMLenLow"
    case .sharedMemoryLengthHigh: "SHMLenHigh"
    case .sharedMemoryBaseLow: "SHMBaseLow"
    case .sharedMemoryBaseHigh: "SHMBaseHigh"
    case .queueReset: "QueueReset"
    case .configurationGeneration: "ConfigGeneration"
    }
  }
}
