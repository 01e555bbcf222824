/// Writes SVG elements; text and attribute values are escaped, and what XML forbids is replaced.
public struct SVGText {
  /// The document so far.
  public private(set) var text = ""
  private var open: [String] = []

  /// An empty document.
  public init() {}

  /// Text as XML has it; what XML forbids becomes U+FFFD.
  public static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "\t", "\n", "\r": result += " "
      default:
        // XML 1.0 has no other control characters and not these two, not even as references.
        let isForbidden = scalar.value < 0x20 || scalar.value == 0xfffe || scalar.value == 0xffff
        result.unicodeScalars.append(isForbidden ? "\u{fffd}" : scalar)
      }
    }
    return result
  }

  private static func head(_ name: String, _ attributes: [(String, String)]) -> String {
    attributes.reduce("<" + name) { $0 + " \($1.0)=\"\(escaped($1.1))\"" }
  }

  /// Opens an element; ``end()`` closes it.
  public mutating func begin(_ name: String, _ attributes: [(String, String)] = []) {
    text += Self.head(name, attributes) + ">\n"
    open.append(name)
  }

  /// Closes the element that was opened last.
  public mutating func end() {
    if let name = open.popLast() { text += "</\(name)>\n" }
  }

  /// Text of our own that is XML already.
  public mutating func raw(_ content: String) { text += content }

  /// An element with an optional tip, shown by a browser when pointed at.
  public mutating func element(_ name: String, _ attributes: [(String, String)], tip: String = "") {
    let head = Self.head(name, attributes)
    text +=
      tip.isEmpty
      ? head + "/>\n" : head + "><title>\(Self.escaped(tip))</title></\(name)>\n"
  }

  /// A rectangle of the class `style`.
  public mutating func rectangle(
    _ box: Box, _ style: String, radius: Int = 0, _ more: [(String, String)] = [], tip: String = ""
  ) {
    var attributes = [
      ("class", style), ("x", "\(box.x)"), ("y", "\(box.y)"), ("width", "\(box.width)"),
      ("height", "\(box.height)"),
    ]
    if radius > 0 { attributes.append(("rx", "\(radius)")) }
    element("rect", attributes + more, tip: tip)
  }

  /// Text that is cut to `width` pixels, by the widest digit of the font.
  public mutating func label(
    _ content: String, x: Int, y: Int, _ style: String, width: Int? = nil, size: Int = 11,
    anchor: String = "start"
  ) {
    let shown = width.map { Self.cut(content, to: $0, size: size) } ?? content
    guard !shown.isEmpty else { return }
    var attributes = [("class", style), ("x", "\(x)"), ("y", "\(y)")]
    if anchor != "start" { attributes.append(("text-anchor", anchor)) }
    if size != 11 { attributes.append(("font-size", "\(size)")) }
    text += Self.head("text", attributes) + ">\(Self.escaped(shown))</text>\n"
  }

  /// Pixels a text takes, on the safe side for sans-serif fonts.
  public static func width(of text: String, size: Int) -> Int {
    (text.count * size * 57 + 99) / 100
  }

  /// Text cut to so many pixels, with an ellipsis.
  public static func cut(_ text: String, to width: Int, size: Int) -> String {
    let room = max(0, width * 100 / (size * 57))
    guard text.count > room else { return text }
    return room < 3 ? "" : text.prefix(room - 1) + "\u{2026}"
  }

}
