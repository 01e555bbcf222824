/// Where a queue's rings lie, as its driver has said.
public struct RingPlace: Equatable, Sendable {
  /// The device's slot; below 0: not known.
  public let slot: Int
  /// The queue of the device; below 0: not known.
  public let queue: Int
  /// Entries.
  public let size: UInt32
  /// Address of the descriptor table; nothing of the addresses is checked.
  public let descriptors: UInt64
  /// Address of the available ring.
  public let available: UInt64
  /// Address of the used ring.
  public let used: UInt64

  /// States a place.
  public init(
    slot: Int, queue: Int, size: UInt32, descriptors: UInt64, available: UInt64, used: UInt64
  ) {
    self.slot = slot
    self.queue = queue
    self.size = size
    self.descriptors = descriptors
    self.available = available
    self.used = used
  }

  /// An entry of the answer to `rings`.
  public var json: String {
    var object = JSONObject()
    object.add("slot", number: slot)
    object.add("queue", number: queue)
    object.add("size", number: size)
    object.add("descriptors", number: descriptors)
    object.add("available", number: available)
    object.add("used", number: used)
    return object.text
  }

  /// The places of an answer to `rings`.
  public static func parse(_ text: String) -> [RingPlace] {
    text.split(separator: "{").dropFirst().compactMap { part in
      let part = String(part)
      guard let slot = JSONField.number("slot", part), slot < 8,
        let queue = JSONField.number("queue", part), queue < 65536,
        let size = JSONField.number("size", part), size <= 32768,
        let descriptors = JSONField.number("descriptors", part),
        let available = JSONField.number("available", part),
        let used = JSONField.number("used", part)
      else { return nil }
      return RingPlace(
        slot: Int(slot), queue: Int(queue), size: UInt32(size), descriptors: descriptors,
        available: available, used: used)
    }
  }
}
