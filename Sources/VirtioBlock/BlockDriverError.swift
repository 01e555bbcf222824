/// Why the driver side cannot take a request: the caller's doing or a matter of waiting, never the
/// device's fault.
public enum BlockDriverError: Error, Equatable, Sendable {
  /// As many requests are open as there is room for; take completions first.
  case full
  /// The buffer's length in bytes does not fit the request: for data a positive multiple of 512
  /// up to `limit`, for a name 20.
  case badLength(Int, limit: Int)
  /// The sectors do not lie inside the medium of `capacity` sectors.
  case outOfRange(sector: UInt64, sectors: UInt64, capacity: UInt64)
  /// More sectors than one request of this kind may name here.
  case tooManySectors(UInt32, limit: UInt32)
  /// The device is read-only.
  case readOnly
  /// The device did not offer this kind of request.
  case notOffered(BlockRequestType)
  /// A queue of `found` free descriptors cannot hold every request at once.
  case queueTooSmall(found: Int, needed: Int)
}
