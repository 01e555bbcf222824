import Foundation
import Testing

/// The rules of the house, read off the sources. Each rule has a test with a bad snippet beside
/// it: a rule that cannot fail is no rule.
@Suite struct HouseRulesTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  static let coreRooms = [
    "LinkFormat", "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice", "VirtioTransport",
    "SiemensDialect", "VirtioBlock", "VirtioEntropy", "VirtioConsole", "DeviceRuntime",
  ]

  struct File {
    let path: String
    let room: String
    let lines: [String]
  }

  static func files(below folder: String) throws -> [File] {
    let start = root.appendingPathComponent(folder)
    guard let walk = FileManager.default.enumerator(atPath: start.path) else { return [] }
    var found: [File] = []
    while let name = walk.nextObject() as? String {
      guard name.hasSuffix(".swift") else { continue }
      let text = try String(
        contentsOf: start.appendingPathComponent(name), encoding: .utf8)
      found.append(
        File(
          path: "\(folder)/\(name)", room: String(name.split(separator: "/")[0]),
          lines: text.components(separatedBy: "\n")))
    }
    return found
  }

  // MARK: Rules

  /// Which of our rooms a room may import, from docs/architecture.md.
  static func arrows() throws -> [String: Set<String>] {
    let page = try String(
      contentsOf: root.appendingPathComponent("docs/architecture.md"), encoding: .utf8)
    var table: [String: Set<String>] = [:]
    var isInside = false
    for line in page.components(separatedBy: "\n") {
      if line.contains("<!-- table: rooms -->") { isInside = true }
      if isInside, line.isEmpty, !table.isEmpty { break }
      let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      guard isInside, cells.count == 3, cells[0] != "target", !cells[0].hasPrefix("-") else {
        continue
      }
      table[cells[0]] = Set(
        cells[2].split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) })
    }
    return table
  }

  static func badImports(_ file: File, _ arrows: [String: Set<String>]) -> [String] {
    let allowed = arrows[file.room] ?? []
    let isCore = coreRooms.contains(file.room)
    return file.lines.enumerated().compactMap { number, line in
      let words = line.split(separator: " ")
      guard let at = words.firstIndex(of: "import"), at < words.count - 1,
        words[..<at].allSatisfy({ $0 == "public" || $0.hasPrefix("@") })
      else { return nil }
      let module = String(words[at + 1])
      if arrows[module] != nil {
        return allowed.contains(module)
          ? nil : "\(file.path):\(number + 1): \(file.room) may not import \(module)"
      }
      guard module == "Foundation" || isCore else { return nil }
      return "\(file.path):\(number + 1): \(file.room) may not import \(module)"
    }
  }

  static func longParts(_ file: File) -> [String] {
    var found: [String] = []
    if file.lines.count > 600 { found.append("\(file.path): \(file.lines.count) lines, limit 600") }
    var start: (line: Int, indent: Int)?
    for (number, line) in file.lines.enumerated() {
      if line.count > 100 { found.append("\(file.path):\(number + 1): over 100 columns") }
      let indent = line.prefix { $0 == " " }.count
      let isFunction = line.contains("func ") || line.contains(" init(") || line.contains("init?(")
      if isFunction, !line.contains("//"), start == nil { start = (number, indent) }
      if let open = start, line == String(repeating: " ", count: open.indent) + "}" {
        if number - open.line > 70 {
          found.append("\(file.path):\(open.line + 1): a function of \(number - open.line) lines")
        }
        start = nil
      } else if let open = start, number > open.line, indent <= open.indent, isFunction {
        start = (number, indent)
      }
    }
    return found
  }

  static let bannedWords = [
    "TO" + "DO", "FIX" + "ME", "XX" + "X", "try" + "!", " as" + "! ", "usl" + "eep(",
    "sle" + "ep(for", "Thread.sle" + "ep",
  ]

  static func banned(_ file: File) -> [String] {
    file.lines.enumerated().flatMap { number, line in
      bannedWords.filter { line.contains($0) }.map { "\(file.path):\(number + 1): '\($0)'" }
    }
  }

  static func undocumented(_ file: File) -> [String] {
    file.lines.enumerated().compactMap { number, line in
      let text = line.trimmingCharacters(in: .whitespaces)
      guard text.hasPrefix("public "), !text.hasPrefix("public import"),
        !text.hasPrefix("public extension")
      else { return nil }
      var above = number - 1
      while above >= 0 {
        let before = file.lines[above].trimmingCharacters(in: .whitespaces)
        // An attribute, or one that the build of the library has another of.
        guard before.hasPrefix("@") || ["#if CELLMATE_SMALL", "#else", "#endif"].contains(before)
        else { break }
        above -= 1
      }
      let comment = above >= 0 ? file.lines[above].trimmingCharacters(in: .whitespaces) : ""
      return comment.hasPrefix("///") ? nil : "\(file.path):\(number + 1): no doc comment"
    }
  }

  static func unsafeInCore(_ file: File) -> [String] {
    guard coreRooms.contains(file.room), file.room != "SharedMemory" else { return [] }
    return file.lines.enumerated().compactMap { number, line in
      let code = line.components(separatedBy: "//")[0]
      return code.contains("unsafe ")
        ? "\(file.path):\(number + 1): unsafe above SharedMemory"
        : nil
    }
  }

  // MARK: The house

  @Test func arrowsRunDownwards() throws {
    let arrows = try Self.arrows()
    #expect(arrows.count > 15)
    let files = try Self.files(below: "Sources")
    #expect(files.count > 30)
    for file in files {
      #expect(arrows[file.room] != nil, "docs/architecture.md does not name \(file.room)")
      #expect(Self.badImports(file, arrows) == [])
    }
  }

  @Test func limitsAndWordsAndComments() throws {
    for file in try Self.files(below: "Sources") {
      #expect(Self.longParts(file) == [])
      #expect(Self.banned(file) == [])
      #expect(Self.undocumented(file) == [])
      #expect(Self.unsafeInCore(file) == [])
    }
    for file in try Self.files(below: "Tests") {
      #expect(Self.banned(file) == [])
    }
  }

  @Test func linksInPagesLeadSomewhere() throws {
    let pages = [
      "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/architecture.md",
      "docs/protocol.md", "docs/porting.md", "docs/testing.md", "docs/conformance.md",
      "Models/README.md",
    ]
    for page in pages {
      let url = Self.root.appendingPathComponent(page)
      let text = try String(contentsOf: url, encoding: .utf8)
      for part in text.components(separatedBy: "](").dropFirst() {
        let target = part.prefix { $0 != ")" && $0 != "#" }
        guard !target.isEmpty, !target.hasPrefix("http") else { continue }
        let file = url.deletingLastPathComponent().appendingPathComponent(String(target))
        #expect(FileManager.default.fileExists(atPath: file.path), "\(page): \(target)")
      }
      for part in text.components(separatedBy: "`").enumerated() where part.offset % 2 == 1 {
        let word = part.element
        let isPath = ["Sources/", "Tests/", "docs/", "Models/", "Benchmarks/", "Demo/"]
          .contains { word.hasPrefix($0) }
        guard isPath, !word.contains(" "), !word.contains("*") else { continue }
        let file = Self.root.appendingPathComponent(word)
        #expect(FileManager.default.fileExists(atPath: file.path), "\(page): \(word)")
      }
    }
  }

  // MARK: Every rule can fail

  static func snippet(_ room: String, _ text: String) -> File {
    File(path: "snippet", room: room, lines: text.components(separatedBy: "\n"))
  }

  @Test func everyRuleCanFail() throws {
    let arrows = try Self.arrows()
    #expect(Self.badImports(Self.snippet("Virtqueue", "import VirtioDevice"), arrows).count == 1)
    #expect(Self.badImports(Self.snippet("Virtqueue", "public import IVShmem"), arrows).count == 1)
    let again = Self.snippet("Virtqueue", "@_exported public import IVShmem")
    #expect(Self.badImports(again, arrows).count == 1)
    #expect(Self.badImports(Self.snippet("IVShmem", "import Foundation"), arrows).count == 1)
    #expect(Self.badImports(Self.snippet("Virtqueue", "import SharedMemory"), arrows).isEmpty)
    let long = String(repeating: "x", count: 101)
    #expect(Self.longParts(Self.snippet("A", long)).count == 1)
    #expect(Self.longParts(Self.snippet("A", String(repeating: "\n", count: 601))).count == 1)
    let body = String(repeating: "  x\n", count: 71)
    #expect(Self.longParts(Self.snippet("A", "func f() {\n\(body)}")).count == 1)
    #expect(Self.banned(Self.snippet("A", "// TO" + "DO")).count == 1)
    #expect(Self.undocumented(Self.snippet("A", "public func f() {}")).count == 1)
    #expect(Self.undocumented(Self.snippet("A", "/// Yes.\n@inlinable\npublic func f()")).isEmpty)
    #expect(Self.unsafeInCore(Self.snippet("Virtqueue", "  unsafe f()")).count == 1)
  }
}
