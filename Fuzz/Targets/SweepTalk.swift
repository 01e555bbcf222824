import Virtqueue

/// What a host does wrong, for the tests that the sweep notices.
public enum SweepFault: CaseIterable, Sendable {
  /// Nothing.
  case none
  /// Something is missing.
  case loses
  /// Something comes twice.
  case repeats
}

/// What the user of a device does with its driver, what the host behind the device sees of it, and
/// the ledger of both, which outlives either side.
class SweepTalk<Driver: FuzzedDriver & ~Copyable> {
  /// What the hosts of all back-ends share.
  var script = HostScript()
  /// What the host does wrong.
  var fault = SweepFault.none
  /// The promise that was found broken.
  private(set) var failure: String?

  required init() {}

  final func fail(_ text: String) { if failure == nil { failure = text } }

  /// A new story: nothing has happened.
  func reset() {
    script = HostScript()
    failure = nil
  }
  /// The front-end died, and what it had in its hands is gone.
  func frontEndDied() {}
  /// The device was set up anew, and has seen nothing of the driver yet: what either of them had in
  /// its hands before is gone.
  func sessionStarts() {}
  /// Another transfer.
  func transferStarts() {}
  /// One look of the user; `true` once all of the transfer is where it belongs.
  func look(_ driver: inout Driver) throws(QueueError) -> Bool { true }
}
