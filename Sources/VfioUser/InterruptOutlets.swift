import CLinux
import LinuxSupport

/// Where a client wants its interrupts: an eventfd a vector for MSI-X, one with a mask for INTx.
///
/// A client chooses the descriptors. Only eventfds are taken, and they are signalled without ever
/// waiting: a full counter shows its owner an interrupt in any case.
final class InterruptOutlets {
  /// INTx in the numbering of interrupt kinds.
  static let line: UInt32 = 0
  /// MSI-X.
  static let messages: UInt32 = 2

  private final class Outlet {
    let descriptor: Descriptor
    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    func signal() { _ = cl_event_offer(descriptor.number) }
  }

  private let vectors: Int
  private var outlets: [Outlet?]
  /// INTx masks itself with each delivery, until the client takes that back.
  private(set) var isLineMasked = false
  /// One interrupt came while INTx was masked.
  private(set) var isLinePending = false

  /// `vectors` is 0 for INTx.
  init(vectors: UInt16) {
    self.vectors = Int(vectors)
    outlets = Array(repeating: nil, count: max(1, Int(vectors)))
  }

  /// How many interrupts of a kind there are.
  func count(of kind: UInt32) -> Int {
    switch kind {
    case Self.line: vectors == 0 ? 1 : 0
    case Self.messages: vectors
    default: 0
    }
  }

  /// What a kind can do, as in `vfio_irq_info`.
  func flags(of kind: UInt32) -> UInt32 {
    guard count(of: kind) > 0 else { return 0 }
    let flag = VfioUserFormat.InterruptFlag.self
    return kind == Self.line
      ? flag.eventDescriptor | flag.maskable | flag.masksItself
      : flag.eventDescriptor | flag.noResize
  }

  /// Nothing is raised, held back or masked; the eventfds stay.
  func reset() {
    isLineMasked = false
    isLinePending = false
  }

  /// Raises a message; `false` when nobody listens.
  func raiseMessage(_ vector: Int) -> Bool {
    guard vectors > 0, outlets.indices.contains(vector), let outlet = outlets[vector] else {
      return false
    }
    outlet.signal()
    return true
  }

  /// Raises INTx, or remembers that while it is masked; `false` when nobody listens or it waits.
  func raiseLine() -> Bool {
    guard vectors == 0, let outlet = outlets[0] else { return false }
    guard !isLineMasked else {
      isLinePending = true
      return false
    }
    isLineMasked = true
    outlet.signal()
    return true
  }

  /// Carries out a request; `true` when INTx has become free to be raised.
  ///
  /// - Parameter descriptors: what came with the message; what is taken over is removed.
  func apply(
    _ request: VfioUserInterruptRequest, _ descriptors: VfioUserDescriptors
  ) throws(VfioUserFault) -> Bool {
    let (start, count) = (Int(request.start), Int(request.count))
    guard start + count <= self.count(of: request.index) else {
      // A client asks for everything to be off without knowing what there is.
      if count == 0, start == 0 { return false }
      throw .invalid(
        "interrupts \(start) and \(count) more of kind \(request.index), "
          + "there are \(self.count(of: request.index))")
    }
    if request.action == .trigger, request.data == .eventDescriptors {
      try connect(start, count, descriptors)
      return false
    }
    if request.action == .trigger, request.data == .none, count == 0 {
      for index in outlets.indices { outlets[index] = nil }
      reset()
      return false
    }
    guard request.data != .eventDescriptors else {
      throw .notSupported("eventfds for masks: there are none")
    }
    guard request.action != .trigger else {
      throw .notSupported("raising interrupts from outside")
    }
    guard request.index == Self.line else { throw .notSupported("masks of MSI-X vectors") }
    if case .booleans(let chosen) = request.data, !chosen.contains(true) { return false }
    guard count > 0 else { return false }
    isLineMasked = request.action == .mask
    return !isLineMasked
  }

  /// INTx is free again: takes what was held back.
  func takePendingLine() -> Bool {
    defer { isLinePending = false }
    return isLinePending
  }

  private func connect(
    _ start: Int, _ count: Int, _ descriptors: VfioUserDescriptors
  ) throws(VfioUserFault) {
    guard descriptors.count == 0 || descriptors.count == count else {
      throw .invalid("\(descriptors.count) eventfds for \(count) interrupts")
    }
    guard descriptors.allSatisfy({ cl_is_eventfd($0) != 0 }) else {
      throw .invalid("a descriptor that is no eventfd")
    }
    for index in start..<start + count {
      outlets[index] = descriptors.take().map { Outlet(Descriptor(owning: $0)) }
    }
  }
}

/// Descriptors that came with a message: those that nobody took are closed.
public final class VfioUserDescriptors {
  private var numbers: [Int32]
  private var next = 0

  /// Takes the descriptors over.
  public init(_ numbers: [Int32] = []) { self.numbers = numbers }

  deinit { close() }

  /// How many are left.
  public var count: Int { numbers.count - next }

  func add(_ number: Int32) { numbers.append(number) }

  func take() -> Int32? {
    guard next < numbers.count else { return nil }
    defer { next += 1 }
    return numbers[next]
  }

  func allSatisfy(_ test: (Int32) -> Bool) -> Bool { numbers[next...].allSatisfy(test) }

  func close() {
    while let number = take() { cl_close(number) }
    numbers.removeAll(keepingCapacity: true)
    next = 0
  }
}
