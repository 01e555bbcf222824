import SharedMemory
import Testing

@Suite struct AccessMapTests {
  /// A region over memory that lives as long as the test process.
  static func region(_ count: Int) -> SharedRegion {
    let base = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    return unsafe SharedRegion(unsafeBase: base, count: count)
  }

  @Test func everySmallClaimIsJudgedAsByArithmetic() throws {
    let region = Self.region(64)
    for base: UInt64 in [0, 7, UInt64.max - 3] {
      let made = AccessMap(
        region: region, readable: 0..<64, writable: 16..<48, translationBase: base)
      let map = try #require(made)
      for address in 0..<80 {
        for count in 0..<80 {
          let claim = ClaimedRange(address: UInt64(address) &+ base, count: UInt32(count))
          #expect((map.readable(claim) != nil) == (address + count <= 64))
          let inside = address >= 16 && address + count <= 48
          #expect((map.writable(claim) != nil) == inside)
        }
      }
    }
  }

  @Test func claimsThatWrapAreRefused() throws {
    let region = Self.region(4096)
    let map = try #require(AccessMap(region: region, readable: 0..<4096, writable: 0..<4096))
    for address: UInt64 in [.max, .max - 1, 1 << 63, 4097, UInt64(Int.max)] {
      for count: UInt32 in [0, 1, 2, .max] {
        #expect(map.readable(ClaimedRange(address: address, count: count)) == nil)
        #expect(map.writable(ClaimedRange(address: address, count: count)) == nil)
      }
    }
    #expect(map.readable(ClaimedRange(address: 1, count: .max)) == nil)
    #expect(map.readable(ClaimedRange(address: 4096, count: 0)) != nil)
  }

  @Test func windowsOutsideTheRegionAreRefused() {
    let region = Self.region(128)
    #expect(AccessMap(region: region, readable: 0..<129, writable: 0..<1) == nil)
    #expect(AccessMap(region: region, readable: 0..<128, writable: -1..<1) == nil)
  }

  @Test func copiesMoveExactlyTheCheckedBytes() throws {
    let region = Self.region(128)
    let map = try #require(AccessMap(region: region, readable: 0..<128, writable: 0..<128))
    let target = try #require(map.writable(ClaimedRange(address: 3, count: 5)))
    let bytes: [UInt8] = [1, 2, 3, 4, 5, 6]
    let written = region.copy(bytes.span, into: target)
    #expect(written == 5)
    var back = [UInt8](repeating: 9, count: 7)
    let source = try #require(map.readable(ClaimedRange(address: 2, count: 7)))
    var span = back.mutableSpan
    let read = region.copy(source, into: &span)
    #expect(read == 7)
    #expect(back == [0, 1, 2, 3, 4, 5, 0])
  }
}
