import CHostNetwork
import VirtioNet

/// Frames as a tap has them: behind a `virtio_net_hdr`, with checksums and cuts left undone.
enum TapFrames {
  /// Bytes of the largest frame with its header.
  static var limit: Int { NetFormat.headerSize + NetFormat.frameLimit }

  /// Checks what was read; what is undone in the frame behind the header, `nil` when it is none.
  static func check(_ bytes: Span<UInt8>) -> FrameOffload? {
    guard bytes.count >= NetFormat.headerSize + NetFormat.etherSize else { return nil }
    var header = NetHeader(bytes)
    // That the kernel has looked at a checksum says nothing to others.
    header.flags &= ~NetHeader.dataValid
    var rights = OffloadRights()
    rights.checksum = true
    rights.tcp4 = true
    rights.tcp6 = true
    rights.congestion = true
    do throws(FrameFault) {
      return try header.checked(
        bytes.extracting(NetFormat.headerSize..<bytes.count), rights: rights,
        mtu: NetFormat.mtuRange.upperBound)
    } catch { return nil }
  }

  /// Writes a frame; what the kernel said, and how much that is when it took all.
  static func write(
    _ descriptor: Int32, _ frame: Span<UInt8>, _ offload: FrameOffload
  ) -> (put: Int, whole: Int) {
    let header = NetHeader(offload, bufferCount: 0)
    var bytes = InlineArray<12, UInt8>(repeating: 0)
    for index in 0..<bytes.count { bytes[index] = header.byte(at: index) }
    let count = frame.count
    let put = unsafe bytes.span.withUnsafeBufferPointer { header in
      unsafe frame.withUnsafeBufferPointer { frame in
        guard let header = header.baseAddress, let frame = frame.baseAddress else { return -1 }
        return unsafe chn_write(descriptor, header, frame, count)
      }
    }
    return (put, count + NetFormat.headerSize)
  }
}
