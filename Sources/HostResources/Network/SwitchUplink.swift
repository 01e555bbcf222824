import CHostNetwork
import CLinux
import LinuxSupport
import VirtioNet

/// A tap or a socket at a switch: frames with a `virtio_net_hdr` in front, in both directions, so
/// that checksums and TCP segments may stay undone on the way to the kernel and back.
@safe
final class SwitchUplink: @unchecked Sendable {
  private let descriptor: Descriptor
  private let stop: Descriptor
  private let buffer: UnsafeMutablePointer<UInt8>
  private var thread: UInt64 = 0
  private var isRunning = false
  private let receive: @Sendable (Span<UInt8>, FrameOffload?) -> Void

  private static var bufferSize: Int { NetFormat.headerSize + NetFormat.frameLimit }

  /// Takes a descriptor over. `receive` gets every frame, on the uplink's own thread; without an
  /// offload when the header or the frame is wrong.
  init(
    _ descriptor: consuming Descriptor,
    receive: @escaping @Sendable (Span<UInt8>, FrameOffload?) -> Void
  ) throws(SystemError) {
    self.descriptor = descriptor
    stop = try Descriptor(cl_eventfd())
    self.receive = receive
    unsafe buffer = .allocate(capacity: Self.bufferSize)
    unsafe buffer.initialize(repeating: 0, count: Self.bufferSize)
  }

  deinit { unsafe buffer.deallocate() }

  /// Starts the thread that reads.
  func start() throws(SystemError) {
    // SAFETY: the thread borrows the object; finish() joins it before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<SwitchUplink>.fromOpaque(context).takeUnretainedValue().read()
      }, context, 1, &thread)
    _ = try SystemError.check(result)
    isRunning = true
  }

  /// Ends the thread; not from that thread.
  func finish() {
    guard isRunning else { return }
    _ = cl_event_signal(stop.number)
    cl_thread_join(thread)
    isRunning = false
  }

  private func read() {
    while chn_wait(descriptor.number, stop.number) == 1 {
      let count = unsafe chn_read(descriptor.number, buffer, Self.bufferSize)
      if count == Int(CHN_AGAIN) { continue }
      // The other end of a socket has gone, or the tap.
      guard count > 0 else { return }
      let bytes = unsafe Span(_unsafeStart: UnsafePointer(buffer), count: count)
      guard count >= NetFormat.headerSize + NetFormat.etherSize else {
        receive(bytes, nil)
        continue
      }
      var header = NetHeader(bytes)
      header.flags &= ~NetHeader.dataValid
      let frame = bytes.extracting(NetFormat.headerSize..<count)
      var rights = OffloadRights()
      rights.checksum = true
      rights.tcp4 = true
      rights.tcp6 = true
      rights.congestion = true
      do throws(FrameFault) {
        let offload = try header.checked(
          frame, rights: rights, mtu: NetFormat.mtuRange.upperBound)
        receive(frame, offload)
      } catch { receive(frame, nil) }
    }
  }

  /// Writes a frame; whether there was room.
  func write(_ frame: Span<UInt8>, _ offload: FrameOffload) -> Bool {
    let header = NetHeader(offload, bufferCount: 0)
    var bytes = InlineArray<12, UInt8>(repeating: 0)
    for index in 0..<bytes.count { bytes[index] = header.byte(at: index) }
    let count = frame.count
    let put = unsafe bytes.span.withUnsafeBufferPointer { header in
      unsafe frame.withUnsafeBufferPointer { frame in
        guard let header = header.baseAddress, let frame = frame.baseAddress else { return -1 }
        return unsafe chn_write(descriptor.number, header, frame, count)
      }
    }
    return put == count + NetFormat.headerSize
  }
}
