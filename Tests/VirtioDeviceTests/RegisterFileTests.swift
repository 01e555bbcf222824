import SharedMemory
import Testing
import VirtioDevice
import Virtqueue

/// The register file against VIRTIO 1.4, 2.1, 3.1.1 and 4.2.2. Offsets and bits are written out
/// here on purpose: a test that shares constants with the code proves nothing.
@Suite struct RegisterFileTests {
  static let offeredBits: UInt64 = 1 << 32 | 1 << 33 | 1 << 40 | 1 << 29 | 1 << 9

  static func make() throws -> RegisterFile {
    let size = try #require(QueueSize(256))
    return RegisterFile(
      identity: RegisterFile.Identity(
        deviceID: 2, vendorID: 7, queueCount: 2, maximumQueueSize: size,
        maximumChainLength: 10, configurationSize: 16),
      offered: FeatureSet(rawValue: offeredBits))
  }

  static func negotiate(_ file: inout RegisterFile, _ features: UInt64) -> RegisterAction {
    _ = file.write(0x070, 1)
    _ = file.write(0x070, 3)
    _ = file.write(0x024, 0)
    _ = file.write(0x020, UInt32(truncatingIfNeeded: features))
    _ = file.write(0x024, 1)
    _ = file.write(0x020, UInt32(truncatingIfNeeded: features >> 32))
    return file.write(0x070, 0xb)
  }

  @Test func theFixedRegistersRead() throws {
    let file = try Self.make()
    #expect(file.read(0x000) == 0x7472_6976)
    #expect(file.read(0x004) == 2)
    #expect(file.read(0x008) == 2)
    #expect(file.read(0x00c) == 7)
    #expect(file.read(0x034) == 256)
    #expect(file.read(0x0b0) == .max)
    for offset in 0..<0x100 where file.read(offset) != nil { #expect(offset % 4 == 0) }
  }

  @Test func featureWordsFollowTheSelector() throws {
    var file = try Self.make()
    #expect(file.read(0x010) == UInt32(truncatingIfNeeded: Self.offeredBits))
    _ = file.write(0x014, 1)
    #expect(file.read(0x010) == UInt32(truncatingIfNeeded: Self.offeredBits >> 32))
    _ = file.write(0x014, 2)
    #expect(file.read(0x010) == 0)
  }

  static let sets: [(features: UInt64, isAccepted: Bool)] = [
    (0x3_0000_0000, true), (0x3_0000_0200, true), (0x2_0000_0000, false),
    (0x1_0000_0000, false), (0x3_0000_0400, false),
  ]

  @Test(arguments: sets)
  func featuresOKIsShownOnlyForAnAcceptableSet(features: UInt64, isAccepted: Bool) throws {
    var file = try Self.make()
    let action = Self.negotiate(&file, features)
    #expect(action == (isAccepted ? .none : .refuse(.featuresRefused)))
    #expect(file.read(0x070) == (isAccepted ? 0xb : 0x3))
  }

  @Test func bothBitsInOneWriteAreFine() throws {
    var file = try Self.make()
    #expect(file.write(0x070, 3) == .none)
    #expect(file.read(0x070) == 3)
  }

  @Test func aQueueIsEnabledOnlyAfterFeaturesOK() throws {
    var file = try Self.make()
    #expect(file.write(0x044, 1) == .refuse(.featuresAreOpen))
    _ = Self.negotiate(&file, 1 << 32 | 1 << 33)
    _ = file.write(0x030, 1)
    _ = file.write(0x038, 64)
    _ = file.write(0x080, 0x1000)
    _ = file.write(0x084, 1)
    _ = file.write(0x090, 0x2000)
    _ = file.write(0x0a0, 0x3000)
    let size = try #require(QueueSize(64))
    #expect(
      file.write(0x044, 1)
        == .enableQueue(
          1,
          QueueConfiguration(
            size: size, descriptorTable: 0x1_0000_1000, availableRing: 0x2000, usedRing: 0x3000,
            features: QueueFeatures(), maximumChainLength: 10)))
    #expect(file.read(0x044) == 0)
    file.queueEnabled(1)
    #expect(file.read(0x044) == 1)
    #expect(file.write(0x038, 32) == .refuse(.queueIsReady))
  }

  @Test(arguments: [UInt32(0), 3, 512, 65536, .max])
  func badQueueSizesAreRefused(size: UInt32) throws {
    var file = try Self.make()
    _ = Self.negotiate(&file, 1 << 32 | 1 << 33)
    _ = file.write(0x038, size)
    #expect(file.write(0x044, 1) == .refuse(.badQueueSize))
  }

  @Test func statusNeverGoesDownWithoutAReset() throws {
    var file = try Self.make()
    _ = Self.negotiate(&file, 1 << 32 | 1 << 33)
    #expect(file.write(0x070, 0x3) == .refuse(.statusWentDown))
    #expect(file.write(0x070, 0) == .reset)
    file.resetCompleted()
    #expect(file.read(0x070) == 0)
  }

  @Test func driverOKStartsWithWhatWasAgreed() throws {
    var file = try Self.make()
    _ = Self.negotiate(&file, 1 << 32 | 1 << 33 | 1 << 9)
    #expect(file.write(0x020, 0) == .refuse(.featuresAreSettled))
    #expect(
      file.write(0x070, 0xf) == .start(FeatureSet(rawValue: 1 << 32 | 1 << 33 | 1 << 9)))
  }

  @Test func queueResetNeedsItsFeature() throws {
    var file = try Self.make()
    _ = Self.negotiate(&file, 1 << 32 | 1 << 33)
    #expect(file.write(0x0c0, 1) == .refuse(.featureNotOffered))
    var other = try Self.make()
    _ = Self.negotiate(&other, 1 << 32 | 1 << 33 | 1 << 40)
    _ = other.write(0x044, 1)
    other.queueEnabled(0)
    #expect(other.write(0x0c0, 1) == .stopQueue(0))
    #expect(other.read(0x0c0) == 1)
    other.queueStopped(0)
    #expect(other.read(0x0c0) == 0)
    #expect(other.read(0x044) == 0)
  }

  /// Any sequence of writes at any offset leaves the file answering, and never shows a status
  /// that nobody asked for.
  @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6, 7, 8])
  func randomWritesNeverTrap(seed: UInt64) throws {
    var file = try Self.make()
    var state = seed
    func next() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 16
    }
    for _ in 0..<20_000 {
      let offset = Int(next() % 0x120)
      let raw = next()
      let value = UInt32(truncatingIfNeeded: raw >> (raw % 31))
      switch file.write(offset, value) {
      case .reset: file.resetCompleted()
      case .stopQueue(let queue): file.queueStopped(queue)
      case .enableQueue(let queue, _): if raw & 1 == 0 { file.queueEnabled(queue) }
      case .none, .start, .stop, .notify, .refuse: break
      }
      #expect((file.read(0x070) ?? .max) & 0x30 == 0)
      for register in 0..<0x40 { _ = file.read(register * 4) }
    }
  }
}
