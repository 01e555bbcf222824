public import VirtioDevice

/// Why a front-end operation did not succeed: what was being done and what was seen.
public enum FrontendError: Error, Equatable, Sendable {
  /// The back-end did not answer in time. Buffers of the device stay in quarantine until it does.
  case deadline(FrontendStage)
  /// The link went down or the back-end started anew; start the device again.
  case linkLost(FrontendStage)
  /// The back-end refused an access; the raw value of a `RegisterRefusal`.
  case refused(UInt32, register: Int)
  /// What the slot shows are not the registers of virtio-mmio version 2.
  case notVirtio(magic: UInt32, version: UInt32)
  /// The slot holds another device than asked for.
  case wrongDevice(found: UInt32, expected: UInt32)
  /// The device does not offer what this driver needs.
  case missingFeatures(FeatureSet)
  /// The device did not keep FEATURES_OK.
  case featuresRefused(wanted: FeatureSet)
  /// The device acknowledged the reset of a queue and shows it as going on; only a reset of the
  /// whole device makes its buffers the caller's again.
  case queueResetIncomplete
  /// The process was asked to stop.
  case interrupted
  /// The platform is gone.
  case platformGone
}

/// What a front-end was waiting for, so that a time-out says which stage failed.
public enum FrontendStage: Equatable, Sendable {
  /// The peer's state and hello.
  case linkUp
  /// The acknowledgement of an access to this virtio-mmio offset.
  case transaction(offset: Int)
  /// The end of a device reset.
  case reset
  /// Configuration space with an even, unchanging generation.
  case configuration
}
