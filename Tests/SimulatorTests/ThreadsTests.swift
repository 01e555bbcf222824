import CLinux
import CommandOptions
import Foundation
import LinuxRuntime
import Testing
import VirtioBlock

/// A back-end link on a thread of this process.
@safe
final class BackendThread: @unchecked Sendable {
  private var link: BackendLink
  private let wake: Int32
  private let flag: UnsafeMutablePointer<UInt32>
  private let done = DispatchSemaphore(value: 0)

  init(_ link: consuming BackendLink) {
    wake = link.wakeDescriptor
    self.link = link
    unsafe flag = .allocate(capacity: 1)
    unsafe flag.initialize(to: 0)
    Thread.detachNewThread { [self] in
      _ = self.link.run { unsafe cl_word_load(self.flag) != 0 }
      done.signal()
    }
  }

  func stop() {
    _ = unsafe cl_word_exchange(flag, 1)
    _ = cl_event_signal(wake)
    done.wait()
  }
}

@Suite struct ThreadsTests {
  /// Front-end and back-end as two threads of one process, reading and writing, spinning or not.
  @Test(arguments: [UInt64(0), 200_000])
  func twoThreadsOfOneProcessMoveADisk(spin: UInt64) throws {
    let server = try RunningServer()
    let file = server.folder.appendingPathComponent("disk.img")
    let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    try Data(bytes).write(to: file)
    var options = BackendOptions()
    options.spinNanoseconds = spin
    let link = try LinkSpecification("sim:\(server.path)")
    let devices = [try DeviceSpecification("block,file=\(file.path),queues=2")]
    let backend = BackendThread(try BackendLink(link, devices, options))
    var client = try BlockClient(
      link: link, slot: 0, depth: 4, chunk: 16384, patience: 20_000_000_000
    ) { _ in }
    var copy = [UInt8](repeating: 0, count: bytes.count)
    try DiskTests.read(&client, &copy) { _ in }
    #expect(copy == bytes)
    var offset: UInt64 = 0
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        guard offset < 1 << 20 else {
          guard offset == 1 << 20 else { return nil }
          offset += 1
          return TransferStep(type: .flush, offset: 0, count: 0)
        }
        defer { offset += 16384 }
        return TransferStep(type: .write, offset: offset, count: 16384)
      },
      fill: { (step, span) throws(ClientError) in
        for index in span.indices { span[index] = ~bytes[Int(step.offset) + index] }
      }, finish: { (_, _) throws(ClientError) in })
    client.leave()
    backend.stop()
    let after = try [UInt8](Data(contentsOf: file))
    #expect(after == bytes.map { ~$0 })
  }
}
