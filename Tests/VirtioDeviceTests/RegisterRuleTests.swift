import SharedMemory
import Testing
import VirtioDevice
import Virtqueue

/// Rules of VIRTIO 1.4, 2.1, 2.2, 2.4, 3.4 and 4.2.2 that are about a life rather than a register.
@Suite struct RegisterRuleTests {
  static let features: UInt64 = 1 << 32 | 1 << 33 | 1 << 40

  /// A device with queue 0 ready and DRIVER_OK set.
  static func live(_ features: UInt64 = features) throws -> RegisterFile {
    var file = try RegisterFileTests.make()
    _ = RegisterFileTests.negotiate(&file, features)
    _ = file.write(0x044, 1)
    file.queueEnabled(0)
    _ = file.write(0x070, 0xf)
    return file
  }

  /// The list of features that the rings and the transport stand for, bit by bit: nothing that is
  /// reserved, for another transport (SR_IOV, NOTIF_CONFIG_DATA) or not built (RING_PACKED).
  @Test func theTransportOffersWhatItImplements() {
    let bits = (0..<64).filter { FeatureSet.transport.rawValue >> UInt64($0) & 1 == 1 }
    #expect(bits == [28, 29, 32, 33, 35, 36, 40])
    #expect(FeatureSet.required.rawValue == 1 << 32 | 1 << 33)
  }

  @Test func aFeatureAboveTheWordsOnOfferIsNeverAgreed() throws {
    for selector: UInt32 in [2, 3, 0x8000_0000] {
      var file = try RegisterFileTests.make()
      _ = file.write(0x024, selector)
      #expect(file.write(0x020, 0) == .none)
      #expect(file.write(0x020, 1 << 5) == .refuse(.featureNotOffered))
      #expect(
        RegisterFileTests.negotiate(&file, Self.features) == .refuse(.featuresRefused))
      #expect(file.read(0x070) == 3)
      file.resetCompleted()
      #expect(RegisterFileTests.negotiate(&file, Self.features) == .none)
    }
  }

  /// What was agreed once is agreed again after a reset, as often as the driver likes.
  @Test func theSameFeaturesAreAgreedAgain() throws {
    var file = try RegisterFileTests.make()
    for _ in 0..<3 {
      #expect(RegisterFileTests.negotiate(&file, Self.features) == .none)
      #expect(file.read(0x070) == 0xb)
      #expect(file.write(0x070, 0) == .reset)
      file.resetCompleted()
      #expect(file.read(0x070) == 0)
    }
  }

  @Test func interruptBitsStayUntilAcknowledged() throws {
    var file = try Self.live()
    #expect(file.read(0x060) == 0)
    file.raise(interrupt: 1)
    #expect(file.read(0x060) == 1)
    file.raise(interrupt: 2)
    #expect(file.read(0x060) == 3)
    _ = file.write(0x064, 2)
    #expect(file.read(0x060) == 1)
    _ = file.write(0x064, .max)
    #expect(file.read(0x060) == 0)
  }

  @Test func aResetClearsInterruptsAndReadyBits() throws {
    var file = try Self.live()
    _ = file.write(0x030, 1)
    _ = file.write(0x044, 1)
    file.queueEnabled(1)
    _ = file.write(0x0c0, 1)
    #expect(file.read(0x0c0) == 1)
    file.raise(interrupt: 3)
    file.demandReset()
    #expect(file.write(0x070, 0) == .reset)
    file.resetCompleted()
    #expect(file.read(0x060) == 0 && file.read(0x070) == 0)
    for queue: UInt32 in 0..<2 {
      _ = file.write(0x030, queue)
      #expect(file.read(0x044) == 0 && file.read(0x0c0) == 0)
    }
  }

  /// QueueReset shows 1 while the queue is being reset, then 0, also once the queue is enabled
  /// again; it comes back with the parameters the driver gives it then.
  @Test func aQueueThatWasResetIsEnabledWithNewParameters() throws {
    var file = try Self.live()
    #expect(file.write(0x0c0, 1) == .stopQueue(0))
    #expect(file.read(0x0c0) == 1)
    file.queueStopped(0)
    #expect(file.read(0x0c0) == 0 && file.read(0x044) == 0)
    for (offset, value) in [(0x038, UInt32(8)), (0x080, 0x5000), (0x090, 0x6000), (0x0a0, 0x7000)] {
      #expect(file.write(offset, value) == .none)
    }
    let size = try #require(QueueSize(8))
    #expect(
      file.write(0x044, 1)
        == .enableQueue(
          0,
          QueueConfiguration(
            size: size, descriptorTable: 0x5000, availableRing: 0x6000, usedRing: 0x7000,
            features: QueueFeatures(), maximumChainLength: 10)))
    file.queueEnabled(0)
    #expect(file.read(0x0c0) == 0 && file.read(0x044) == 1)
  }

  /// VIRTIO_F_SUSPEND is not offered: its status bit (16) is never shown and changes nothing, in
  /// no state of the device.
  @Test func theSuspendBitIsIgnored() throws {
    var fresh = try RegisterFileTests.make()
    _ = fresh.write(0x070, 0x10)
    #expect(fresh.read(0x070) == 0)
    var file = try Self.live()
    _ = file.write(0x070, 0x1b)
    _ = file.write(0x070, 0x1f)
    #expect(file.read(0x070) == 0xf)
  }

  /// FAILED ends the use of the device; nothing but a reset brings it back.
  @Test func afterFailedOnlyAResetHelps() throws {
    var file = try Self.live()
    #expect(file.write(0x070, 0x8f) == .stop)
    #expect(file.write(0x070, 0xf) == .refuse(.statusWentDown))
    #expect(file.read(0x070) == 0x8f)
    #expect(file.write(0x070, 0) == .reset)
  }

  @Test func theDeviceAsksForAResetByItself() throws {
    var file = try Self.live()
    _ = file.write(0x070, 0x4f)
    #expect(file.read(0x070) == 0xf)
    file.demandReset()
    #expect(file.read(0x070) == 0x4f)
    // A driver that has not seen the bit yet does not clear it.
    _ = file.write(0x070, 0xf)
    #expect(file.read(0x070) == 0x4f)
  }
}
