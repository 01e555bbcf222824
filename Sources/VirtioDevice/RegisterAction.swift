public import Virtqueue

/// What the owner of a ``RegisterFile`` has to do after a register write.
public enum RegisterAction: Equatable, Sendable {
  /// Nothing; the write is complete.
  case none
  /// Build the queue, then confirm with `queueEnabled` or refuse the transaction.
  case enableQueue(Int, QueueConfiguration)
  /// Stop touching the queue, then confirm with `queueStopped`.
  case stopQueue(Int)
  /// DRIVER_OK: the device runs with these features.
  case start(FeatureSet)
  /// FAILED: the driver has given up; serve nothing until a reset.
  case stop
  /// Stop touching the region, then confirm with `resetCompleted`.
  case reset
  /// Look at the queue.
  case notify(Int)
  /// Nothing was changed; the driver is told why.
  case refuse(RegisterRefusal)
}

/// Why a register access has no effect; the raw value travels in the result word.
public enum RegisterRefusal: UInt32, Sendable {
  /// No register lies at this offset, or it cannot be read.
  case noSuchRegister = 1
  /// The register can only be read.
  case readOnlyRegister = 2
  /// The selected queue does not exist.
  case noSuchQueue = 3
  /// The queue is in use; reset it first.
  case queueIsReady = 4
  /// The queue size is not a power of two, or larger than the device allows.
  case badQueueSize = 5
  /// FEATURES_OK has to come first.
  case featuresAreOpen = 6
  /// Features cannot change after FEATURES_OK.
  case featuresAreSettled = 7
  /// The feature was not offered or not agreed.
  case featureNotOffered = 8
  /// The device does not accept this set of features; FEATURES_OK stays clear.
  case featuresRefused = 9
  /// A status bit was cleared without a reset.
  case statusWentDown = 10
  /// The value has no meaning for this register.
  case badValue = 11
  /// The width does not fit the register or the offset.
  case badWidth = 12
  /// The configuration field cannot be written, or lies outside the space.
  case configurationRefused = 13
  /// The ring addresses do not lie where this side may read or write.
  case queueRefused = 14
  /// The link has no device in this slot.
  case noSuchDevice = 15
  /// The operation code is neither read nor write.
  case badOperation = 16
}
