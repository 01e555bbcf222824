/// A rectangle in pixels; whole numbers, so that nothing can be infinite or no number.
public struct Box: Hashable, Sendable {
  /// Left edge.
  public var x: Int
  /// Upper edge.
  public var y: Int
  /// Width, at least 0.
  public var width: Int
  /// Height, at least 0.
  public var height: Int

  /// A box by its upper left corner and size.
  public init(x: Int, y: Int, width: Int, height: Int) {
    self.x = x
    self.y = y
    self.width = width
    self.height = height
  }

  /// Right edge.
  public var right: Int { x + width }
  /// Lower edge.
  public var bottom: Int { y + height }
}
