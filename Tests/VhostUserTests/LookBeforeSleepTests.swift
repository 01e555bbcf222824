import CLinux
import CommandOptions
import Foundation
import LinuxSupport
import Testing

@testable import Cellmate
@testable import LinuxRuntime

@Suite struct LookBeforeSleepTests {
  /// A descriptor signals once: what a look in passing takes may be a finished request, and there
  /// is no sleep before the step that takes it. (A guest stood still with all its writes done.)
  @Test func whatALookTookIsNotSleptOver() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-look-\(UInt64.random(in: 0...UInt64.max)).sock"
    ).path
    let wake = try Descriptor(cl_eventfd())
    var link = try openSocket(path, "entropy", wake: wake.number)
    defer { _ = unsafe cl_unlink(path) }
    link.begin()
    _ = link.turn()
    let isQuiet = link.prepareToSleep()
    #expect(isQuiet)
    link.stayAwake()
    _ = cl_event_signal(link.wakeDescriptor)
    link.peek()
    let isMissed = link.prepareToSleep()
    #expect(!isMissed)
    _ = link.turn()
    let isQuietAgain = link.prepareToSleep()
    #expect(isQuietAgain)
    link.stayAwake()
  }
}
