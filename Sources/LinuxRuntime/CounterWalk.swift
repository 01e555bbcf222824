/// A walk through the numbers of a link, of its devices and of their kinds, which are given in an
/// order that never changes.
///
/// It looks for one of them, by its place or by its name, or takes all values. A value and not a
/// closure: what gives the numbers is compiled once, whoever asks.
@safe
public struct CounterWalk {
  /// What the numbers that follow belong to, by the caller's numbering.
  public var scope: Int32 = 0
  /// The slot of the device that they belong to; -1: of none.
  public var slot = -1
  /// Numbers met so far.
  public private(set) var count = 0
  /// The number that was looked for: what it belongs to, its name and its value.
  public private(set) var found: (scope: Int32, slot: Int, name: StaticString, value: UInt64)?

  private var wantedPlace = -1
  private var wantedScope: Int32 = -1
  private var wantedSlot = -1
  private var wantedName: StaticString = ""
  private var values: UnsafeMutablePointer<UInt64>?
  private var room = 0

  /// Looks for the number at a place; 0 is the first.
  public init(place: Int) { wantedPlace = place }

  /// Looks for a number by what it belongs to and by its name.
  public init(_ scope: Int32, _ slot: Int, _ name: StaticString) {
    wantedScope = scope
    wantedSlot = slot
    wantedName = name
  }

  /// Writes the values of the first `room` numbers, which have to fit; `nil`: counts them.
  @unsafe
  public init(values: UnsafeMutablePointer<UInt64>?, room: Int) {
    unsafe self.values = values
    self.room = room
  }

  /// The next number.
  @inline(never)
  public mutating func take(_ name: StaticString, _ value: UInt64) {
    if let values = unsafe values, count < room { unsafe values[count] = value }
    if count == wantedPlace
      || (scope == wantedScope && slot == wantedSlot && Self.isSame(name, wantedName))
    {
      found = (scope, slot, name, value)
    }
    count += 1
  }

  private static func isSame(_ one: StaticString, _ other: StaticString) -> Bool {
    guard one.utf8CodeUnitCount == other.utf8CodeUnitCount else { return false }
    for index in 0..<one.utf8CodeUnitCount
    where unsafe one.utf8Start[index] != other.utf8Start[index] {
      return false
    }
    return true
  }
}
