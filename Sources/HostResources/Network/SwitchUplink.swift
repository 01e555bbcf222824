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

  private static var bufferSize: Int { TapFrames.limit }

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
      if let offload = TapFrames.check(bytes) {
        receive(bytes.extracting(NetFormat.headerSize..<count), offload)
      } else {
        receive(bytes, nil)
      }
    }
  }

  /// Writes a frame; whether there was room.
  func write(_ frame: Span<UInt8>, _ offload: FrameOffload) -> Bool {
    let result = TapFrames.write(descriptor.number, frame, offload)
    return result.put == result.whole
  }
}
