import SharedMemory
import Testing
import VirtioDevice
import VirtioNet

@Suite struct VirtioNetFrameTests {
  static let all: OffloadRights = {
    var rights = OffloadRights()
    rights.checksum = true
    rights.tcp4 = true
    rights.tcp6 = true
    rights.congestion = true
    return rights
  }()

  static func check(
    _ header: NetHeader, _ frame: [UInt8], _ rights: OffloadRights = all, mtu: Int = 1500
  ) -> Result<FrameOffload, FrameFault> {
    do throws(FrameFault) {
      return .success(try header.checked(frame.span, rights: rights, mtu: mtu))
    } catch { return .failure(error) }
  }

  static func passes(
    _ header: NetHeader, _ frame: [UInt8], _ rights: OffloadRights = all
  ) -> Bool {
    if case .success = check(header, frame, rights) { true } else { false }
  }

  @Test func headersAreReadAsTheyAreWritten() {
    let raw: [UInt8] = [1, 0x81, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    let header = NetHeader(raw.span)
    #expect(bytes(of: header) == raw)
    #expect(header.headerLength == 0x0302)
    #expect(header.segmentSize == 0x0504)
    #expect(header.checksumStart == 0x0706)
    #expect(header.checksumOffset == 0x0908)
    #expect(header.bufferCount == 0x0b0a)
  }

  @Test func addresses() {
    let address = MACAddress([2, 0, 0, 0, 0, 1].span, at: 0)
    #expect(address == Frames.driver)
    #expect(bytes(of: address) == [2, 0, 0, 0, 0, 1])
    #expect(address.isStation)
    #expect(!MACAddress.broadcast.isStation && MACAddress.broadcast.isMulticast)
    #expect(!MACAddress.none.isStation)
    #expect(MACAddress([1, 0, 0x5e, 0, 0, 1].span, at: 0).isMulticast)
  }

  /// All sets of the features with prerequisites: the rest has what it needs, loses nothing
  /// without need, and is the same when it is asked again (VIRTIO 1.4, 5.1.3.1).
  @Test func featuresNeedEachOther() {
    let needs: [(FeatureSet, [FeatureSet])] = [
      (.netGuestTCP4, [.netGuestChecksum]), (.netGuestTCP6, [.netGuestChecksum]),
      (.netGuestECN, [.netGuestTCP4, .netGuestTCP6]), (.netHostTCP4, [.netChecksum]),
      (.netHostTCP6, [.netChecksum]), (.netHostECN, [.netHostTCP4, .netHostTCP6]),
      (.netControlReceive, [.netControl]), (.netAnnounce, [.netControl]),
      (.netQueuePairs, [.netControl]), (.netControlAddress, [.netControl]),
    ]
    let bits = needs.map(\.0) + [.netChecksum, .netGuestChecksum, .netControl]
    for choice in 0..<1 << bits.count {
      var set = FeatureSet()
      for (index, bit) in bits.enumerated() where choice >> index & 1 == 1 { set.insert(bit) }
      let result = set.netConsistent
      #expect(result.isSubset(of: set) && result.netConsistent == result)
      for (bit, sources) in needs where set.contains(bit) {
        let isFed = sources.contains { result.contains($0) }
        #expect(result.contains(bit) == isFed, "set \(choice)")
      }
    }
  }

  /// Every value of flags and type over a frame that would suit each: only what means something
  /// and was agreed passes.
  @Test(arguments: [false, true])
  func everyFlagAndType(isIPv6: Bool) {
    let frame = Frames.tcp([UInt8](repeating: 1, count: 3000), isIPv6: isIPv6)
    let small = Frames.tcp([1, 2, 3], isIPv6: isIPv6)
    for flags in UInt8.min...UInt8.max {
      for type in UInt8.min...UInt8.max {
        var header = Frames.header(isIPv6: isIPv6, size: 1000)
        header.flags = flags
        header.segmentationType = type
        let isClean = flags & 6 == 0
        let isCut = isClean && flags & 1 == 1 && type & 0x7f == (isIPv6 ? 4 : 1)
        #expect(Self.passes(header, frame) == isCut, "flags \(flags), type \(type)")
        let isGood = isCut || isClean && type == 0
        #expect(Self.passes(header, small) == isGood, "flags \(flags), type \(type)")
        let isPlain = flags & 7 == 0 && type == 0
        #expect(
          Self.passes(header, small, OffloadRights()) == isPlain, "flags \(flags), type \(type)")
      }
    }
  }

  /// Every start and offset of a checksum: its two bytes lie behind the Ethernet header and in the
  /// frame.
  @Test func everyChecksumPlace() {
    let frame = Frames.plain(40)
    let values = Array(0...45) + [0x7ffe, 0x7fff, 0x8000, 0xfffe, 0xffff]
    for start in values {
      for offset in values {
        var header = NetHeader()
        header.flags = 1
        header.checksumStart = UInt16(start)
        header.checksumOffset = UInt16(offset)
        let isGood = start >= 14 && start + offset + 2 <= 40
        #expect(Self.passes(header, frame) == isGood, "\(start) + \(offset)")
      }
    }
  }

  @Test func wrongSegmentation() {
    let frame = Frames.tcp([UInt8](repeating: 1, count: 3000))
    func refuses(_ frame: [UInt8], _ change: (inout NetHeader) -> Void) -> Bool {
      var header = Frames.header(isIPv6: false, size: 1000)
      change(&header)
      return Self.check(header, frame) == .failure(.badHeader)
    }
    #expect(!refuses(frame) { $0.headerLength = 0xffff })
    #expect(refuses(frame) { $0.segmentSize = 0 })
    #expect(!refuses(frame) { $0.segmentSize = 1460 })
    #expect(refuses(frame) { $0.segmentSize = 1461 })
    #expect(refuses(frame) { $0.checksumStart = 35 })
    #expect(refuses(frame) { $0.checksumOffset = 6 })
    #expect(refuses(frame) { $0.segmentationType = 4 })
    // No payload, a fragment, a short TCP header, another protocol, cut off.
    #expect(refuses(Frames.tcp([])) { _ in })
    for (place, value) in [
      (20, UInt8(0x20)), (21, 1), (46, 0x40), (23, 17), (14, 0x65), (14, 0x44),
    ] {
      var wrong = frame
      wrong[place] = value
      #expect(refuses(wrong) { _ in }, "byte \(place)")
    }
    for count in 14..<55 { #expect(refuses(Array(frame[..<count])) { _ in }, "\(count) bytes") }
    #expect(
      Self.check(
        Frames.header(isIPv6: false, size: 9),
        [UInt8](repeating: 0, count: NetFormat.frameLimit + 1)
      ) == .failure(.oversized))
  }

  /// Bytes of any kind are measured without a trap, and inside the frame.
  @Test(arguments: 1...40)
  func anyBytesAreMeasured(seed: Int) {
    var dice = Dice(state: UInt64(seed))
    for _ in 0..<300 {
      var frame = Frames.tcp(dice.bytes(dice.below(40)), isIPv6: dice.below(2) == 0)
      for _ in 0..<dice.below(4) {
        frame[12 + dice.below(frame.count - 12)] = UInt8(truncatingIfNeeded: dice.next())
      }
      frame.removeLast(dice.below(frame.count))
      guard let layers = FrameLayers(frame.span) else { continue }
      #expect(layers.networkStart >= 14 && layers.transportStart >= layers.networkStart + 20)
      #expect(layers.payloadStart > layers.transportStart && layers.payloadStart <= frame.count)
      _ = layers.flow(frame.span)
    }
  }

  /// Cut in segments of every size, the payload is the same, each segment is whole and the flags
  /// are where they belong.
  @Test(arguments: [false, true], [false, true])
  func segments(isIPv6: Bool, tagged: Bool) throws {
    let payload = (0..<307).map { UInt8(truncatingIfNeeded: $0 &* 13) }
    let frame = Frames.tcp(payload, isIPv6: isIPv6, tagged: tagged)
    let start = Frames.tcpStart(isIPv6, tagged)
    for size in 1...310 {
      let header = Frames.header(isIPv6: isIPv6, tagged: tagged, size: UInt16(size))
      let offload = try Self.check(header, frame).get()
      guard let cut = FrameCut(frame.span, offload) else {
        Issue.record("size \(size)")
        continue
      }
      #expect(cut.segmentCount == (307 + size - 1) / size)
      var joined: [UInt8] = []
      for index in 0..<cut.segmentCount {
        var result = [UInt8](repeating: 0, count: cut.largestSegment)
        var span = result.mutableSpan
        let length = cut.make(index, of: frame.span, into: &span)
        let segment = Array(result[..<length])
        #expect(Frames.isWhole(segment, isIPv6: isIPv6, tagged: tagged))
        let sequence = segment[start + 4..<start + 8].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        #expect(sequence == 0xffff_fff0 &+ UInt32(joined.count))
        let isLast = index == cut.segmentCount - 1
        #expect(segment[start + 13] == 0x10 | (isLast ? 0x09 : 0) | (index == 0 ? 0x80 : 0))
        if !isIPv6 {
          let identity = UInt16(segment[start - 16]) << 8 | UInt16(segment[start - 15])
          #expect(identity == 0x12ff + UInt16(index))
        }
        joined += segment[(start + 20)...]
      }
      #expect(joined == payload)
    }
  }

  @Test(arguments: [false, true])
  func checksumsAreFinished(isIPv6: Bool) throws {
    for count in 0..<64 {
      var frame = Frames.tcp([UInt8](repeating: 0xfe, count: count), isIPv6: isIPv6)
      #expect(!Frames.isWhole(frame, isIPv6: isIPv6))
      let offload = try Self.check(Frames.header(isIPv6: isIPv6, size: 0), frame).get()
      var span = frame.mutableSpan
      offload.finishChecksum(&span)
      #expect(Frames.isWhole(frame, isIPv6: isIPv6))
    }
  }
}
