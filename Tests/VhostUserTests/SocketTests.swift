import CLinux
import Foundation
import LinuxRuntime
import LinuxSupport
import SharedMemory
import Testing
import VirtioDevice

@testable import VhostUser

@Suite struct VhostUserSocketTests {
  /// Both ends of a stream connection.
  struct Ends: ~Copyable {
    var ours: VhostUserSocket
    let theirs: Descriptor

    static func make() throws -> Ends {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent(
        "cellmate-test-\(UInt64.random(in: 0...UInt64.max))"
      ).path
      let listener = try Descriptor(unsafe cl_listen_stream(path))
      defer { unlink(path) }
      let theirs = try Descriptor(unsafe cl_connect_stream(path))
      return Ends(
        ours: VhostUserSocket(owning: try Descriptor(cl_accept(listener.number))), theirs: theirs)
    }

    private static func unlink(_ path: String) { _ = unsafe cl_unlink(path) }

    func send(_ bytes: [UInt8], descriptors: [Int32] = []) throws {
      let sent = unsafe bytes.withUnsafeBytes { buffer in
        unsafe descriptors.withUnsafeBufferPointer { passed in
          guard let base = buffer.baseAddress else { return 0 }
          return unsafe cl_send(
            theirs.number, base, buffer.count, passed.baseAddress, UInt32(passed.count))
        }
      }
      #expect(sent == bytes.count)
    }
  }

  static func header(_ request: UInt32, _ size: UInt32) -> [UInt8] { payload([request, 1, size]) }

  @Test func aMessageMayComeInPieces() throws {
    var ends = try Ends.make()
    var message = VhostUserMessage()
    let whole = Self.header(8, 8) + payload([1, 256])
    for (index, byte) in whole.enumerated() {
      #expect(try ends.ours.receive(&message) == false)
      try ends.send([byte])
      guard index == whole.count - 1 else { continue }
      #expect(try ends.ours.receive(&message))
    }
    #expect(message.request == 8)
    #expect(message.payloadWord(0) == 256 << 32 | 1)
  }

  @Test func severalMessagesInOnePieceStayApart() throws {
    var ends = try Ends.make()
    var message = VhostUserMessage()
    try ends.send(Self.header(1, 0) + Self.header(8, 8) + payload([7, 9]) + Self.header(3, 0))
    for request: UInt32 in [1, 8, 3] {
      #expect(try ends.ours.receive(&message))
      #expect(message.request == request)
    }
    #expect(try ends.ours.receive(&message) == false)
  }

  @Test(arguments: [1025, 65536, 0x7fff_ffff, 0xffff_ffff] as [UInt32])
  func anOversizedMessageIsAnError(size: UInt32) throws {
    var ends = try Ends.make()
    var message = VhostUserMessage()
    try ends.send(Self.header(5, size))
    #expect(throws: VhostUserError.tooLong(request: 5, size: size)) {
      try ends.ours.receive(&message)
    }
  }

  @Test func anEndInsideAMessageIsToldFromAnEndBetweenMessages() throws {
    for (bytes, inside) in [([], false), (Self.header(8, 8) + [1], true), ([8, 0], true)] {
      var message = VhostUserMessage()
      var ends = try Ends.make()
      if !bytes.isEmpty { try ends.send(bytes) }
      ends = try shutDown(ends)
      #expect(throws: VhostUserError.closed(inMessage: inside)) {
        _ = try ends.ours.receive(&message)
        _ = try ends.ours.receive(&message)
      }
    }
  }

  /// Closes the other end.
  private func shutDown(_ ends: consuming Ends) throws -> Ends {
    let spare = try Descriptor(cl_eventfd())
    return Ends(ours: ends.ours, theirs: spare)
  }

  /// A peer that has gone is told from one that does not read: a driver waits for the first to come
  /// back.
  @Test func aSendToNobodyIsToldFromASendToTheDeaf() throws {
    var message = VhostUserMessage()
    message.begin(15, flags: 0)
    var ends = try Ends.make()
    #expect(throws: VhostUserError.notReading) {
      // More than any socket holds.
      for _ in 0..<10_000_000 { try ends.ours.send(message) }
    }
    ends = try shutDown(ends)
    #expect(throws: VhostUserError.closed(inMessage: false)) { try ends.ours.send(message) }
  }

  /// The back-end was killed before the first question, which the connection already has room for.
  @Test func aBackEndThatDiesBeforeTheFirstQuestionHasGone() throws {
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
    defer { try? FileManager.default.removeItem(at: scratch) }
    var arena = PrivateMemory.arena(1 << 16)
    let memory = try DriverMemory.make(1 << 20, arena: &arena)
    let front: VhostUserFrontend
    do {
      let listener = try Descriptor(unsafe cl_listen_stream(scratch.path))
      front = try VhostUserFrontend.connect(path: scratch.path, patience: 60_000_000_000)
      cl_close(Int32(try SystemError.check(cl_accept(listener.number))))
    }
    var driver = front
    #expect(throws: VhostUserFrontendError.message(.closed(inMessage: false))) {
      _ = try driver.negotiate(wanted: .version1, memory: memory)
    }
  }

  @Test func tooManyDescriptorsAreAnErrorAndAreClosed() throws {
    let file = try Descriptor(unsafe cl_memfd("cellmate-test"))
    do {
      var ends = try Ends.make()
      var message = VhostUserMessage()
      try ends.send(Self.header(5, 0), descriptors: [Int32](repeating: file.number, count: 9))
      #expect(throws: VhostUserError.self) { try ends.ours.receive(&message) }
    }
    #expect(openCount(file.number) == 1)
  }
}
