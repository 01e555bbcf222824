import CLinux
import CommandOptions
import Foundation
import FrontendCommands
import LinuxSupport
import Testing
import ToolSupport
import VirtioBlock

@testable import BackendService
@testable import LinuxRuntime

@Suite struct ThreadsTests {
  /// Front-end and back-end as two threads of one process, reading and writing, in every way to
  /// wait.
  @Test(arguments: [WaitPolicy.interrupt, .adaptive(nanoseconds: 200_000), .poll])
  func twoThreadsOfOneProcessMoveADisk(wait: WaitPolicy) throws {
    let server = try RunningServer()
    let file = server.folder.appendingPathComponent("disk.img")
    let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    try Data(bytes).write(to: file)
    var options = BackendOptions()
    options.wait = wait
    let link = try LinkSpecification("sim:\(server.path)")
    let devices = [try DeviceText("block,file=\(file.path),queues=2")]
    let event = try Descriptor(cl_eventfd())
    let backend = try ServedLink(BackendOptions.Link(.link(link), devices: devices), options)
    try backend.start(signalling: event.number)
    var client = try BlockClient(
      link: link, slot: 0, depth: 4, chunk: 16384, patience: 60_000_000_000
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
    backend.board.askToStop()
    backend.wakeUp()
    while !backend.board.hasEnded { _ = cl_event_wait(event.number) }
    backend.join()
    let after = try [UInt8](Data(contentsOf: file))
    #expect(after == bytes.map { ~$0 })
  }
}
