import Yams

extension SetupDescription {
  /// Reads a setup and the board file it names.
  /// - Parameters:
  ///   - text: the YAML.
  ///   - file: its path, as messages shall show it; a board file is looked for relative to it.
  ///   - load: gives the text of another file, or says in one line why not.
  public init(
    yaml text: String, file: String, load: (String) -> Result<String, LoadFailure>
  ) throws(GenerateError) {
    let item = try YAMLDocument.read(text, file: file)
    if case .mapping(let mapping) = item.node, mapping["cells"] == nil, mapping["gic"] != nil {
      throw GenerateError(
        "Y05", at: item.place, "this is a board file: it has no cells",
        fix: "give the setup that names it, for example setup.yaml beside it")
    }
    let fields = try item.fields("board", "name", "cells", "links", "never-together")
    board = try Self.board(fields.required("board"), setup: file, load: load)
    name = try fields["name"]?.string() ?? board.name
    try Self.checkName(name, fields["name"]?.place ?? item.place)
    let wishes = try fields.required("cells")
    cells = []
    for (key, entry) in try wishes.entries() {
      guard key.value != name else {
        throw GenerateError(
          "Y03", at: key.place, "a guest cannot be called '\(name)' like the root cell",
          means: "Jailhouse knows cells by their names", fix: "choose another name")
      }
      cells.append(try CellWish(key, entry, board))
    }
    guard !cells.isEmpty else {
      throw wishes.wrong("at least one cell", fix: "add a guest; the root cell is always there")
    }
    links = []
    for (name, entry) in try fields["links"]?.entries() ?? [] {
      links.append(try LinkWish(name, entry, cells))
    }
    alternatives = []
    for group in try fields["never-together"]?.list() ?? [] {
      var names: [Placed<String>] = []
      for entry in try group.list() {
        let name = try entry.placedString()
        try Self.checkCell(name, cells)
        names.append(name)
      }
      alternatives.append(names)
    }
  }

  private static func board(
    _ item: YAMLItem, setup file: String, load: (String) -> Result<String, LoadFailure>
  ) throws(GenerateError) -> BoardDescription {
    guard case .scalar = item.node else { return try BoardDescription(item) }
    let wish = try item.string()
    let folder = file.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    let base = folder.isEmpty ? "" : folder.joined(separator: "/") + "/"
    let isPath = wish.hasSuffix(".yaml") || wish.hasSuffix(".yml")
    let path =
      wish.hasPrefix("/") ? wish : base + (isPath ? wish : "../\(wish)/board.yaml")
    switch load(path) {
    case .success(let text): return try BoardDescription(YAMLDocument.read(text, file: path))
    case .failure(let failure):
      throw GenerateError(
        "Y07", at: item.place, "board: cannot read \(path): \(failure.message)",
        fix: "name a file (board.yaml), or a board whose folder stands beside this one (imx8mp)")
    }
  }

  static func checkName(_ name: String, _ place: InputPlace) throws(GenerateError) {
    let isFine = name.allSatisfy {
      $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0))
    }
    guard isFine, (1...31).contains(name.utf8.count), !name.hasPrefix("."), !name.hasPrefix("-")
    else {
      throw GenerateError(
        "Y03", at: place, "'\(name.prefix(60))' cannot be a name",
        means: "names go into the cell (31 bytes) and into file names",
        fix: "use 1 to 31 letters, digits, '-', '_' or '.', starting with a letter or digit")
    }
  }

  static func checkCell(_ name: Placed<String>, _ cells: [CellWish]) throws(GenerateError) {
    guard !cells.contains(where: { $0.name.value == name.value }) else { return }
    throw GenerateError(
      "Y06", at: name.place, "no cell is called '\(name.value)'",
      fix: "known are: \(cells.map(\.name.value).joined(separator: ", "))")
  }
}

/// Why a file cannot be read, in one line.
public struct LoadFailure: Error, Hashable, Sendable {
  /// The line.
  public let message: String
  /// A reason.
  public init(message: String) { self.message = message }
}

extension CellWish {
  init(
    _ name: Placed<String>, _ item: YAMLItem, _ board: BoardDescription
  ) throws(GenerateError) {
    try SetupDescription.checkName(name.value, name.place)
    let fields = try item.fields(
      "kind", "cpus", "memory", "console", "console-interrupt", "interrupt", "arguments")
    self.name = name
    kind = try fields.required("kind").choice(Kind.self)
    let list = try fields.required("cpus")
    var numbers: [Int] = []
    for entry in try list.list() {
      let cpu = try entry.int(0...4095)
      guard cpu < board.cpus.count else {
        throw GenerateError(
          "E53", at: entry.place,
          "\(entry.path): CPU \(cpu), but \(board.name) has CPUs 0 to \(board.cpus.count - 1)",
          means: "Jailhouse refuses to create the cell", fix: "choose a CPU the board has")
      }
      guard !numbers.contains(cpu) else {
        throw entry.wrong("each CPU once", fix: "remove the second \(cpu)")
      }
      numbers.append(cpu)
    }
    guard !numbers.isEmpty else { throw list.wrong("at least one CPU", fix: "write cpus: [1]") }
    cpus = Placed(numbers.sorted(), at: list.place)
    let memory = try fields.required("memory")
    if case .mapping = memory.node {
      let parts = try memory.fields("address", "size")
      let size = try parts.required("size")
      memorySize = Placed(try size.size(), at: size.place)
      memoryAddress = try parts["address"].map { item throws(GenerateError) in
        Placed(try item.address(), at: item.place)
      }
    } else {
      memorySize = Placed(try memory.size(), at: memory.place)
    }
    let uart = try fields.required("console").placedString()
    let takes = try fields["console-interrupt"]?.bool() ?? false
    if uart.value == "debug" || uart.value == board.debugUART {
      console = Placed(.debug(takesInterrupt: takes), at: uart.place)
    } else {
      guard board.uart(uart.value) != nil else {
        throw GenerateError(
          "E57", at: uart.place, "\(item.path).console: no UART is called '\(uart.value)'",
          means: "the guest would start and say nothing",
          fix: "known are: debug, \(board.uarts.map(\.name).joined(separator: ", "))")
      }
      console = Placed(.own(uart.value), at: uart.place)
    }
    interrupt = try fields["interrupt"].map { item throws(GenerateError) in
      Placed(try item.int(0...board.spiCount - 4), at: item.place)
    }
    arguments = try fields["arguments"]?.string() ?? ""
  }
}

extension LinkWish {
  init(_ name: Placed<String>, _ item: YAMLItem, _ cells: [CellWish]) throws(GenerateError) {
    try SetupDescription.checkName(name.value, name.place)
    let fields = try item.fields(
      "kind", "guest", "size", "address", "bdf", "read-write", "file", "read-only", "queues")
    self.name = name
    kind = try fields.required("kind").choice(LinkKind.self)
    guest = try fields.required("guest").placedString()
    try SetupDescription.checkCell(guest, cells)
    size = try fields["size"].map { item throws(GenerateError) in
      Placed(try item.size(), at: item.place)
    }
    address = try fields["address"].map { item throws(GenerateError) in
      Placed(try item.address(), at: item.place)
    }
    device = try fields["bdf"].map { item throws(GenerateError) in
      Placed(try item.int(0...31), at: item.place)
    }
    readWrite = 0
    if let common = fields["read-write"] {
      guard kind == .native else {
        throw common.wrong(
          "no such key on a \(kind.rawValue) link: all of its memory is read/write",
          fix: "remove it")
      }
      readWrite = try common.size()
    }
    if kind != .block, kind != .native {
      for key in ["file", "read-only", "queues"] {
        guard let item = fields[key] else { continue }
        throw item.wrong(
          "no such key on a \(kind.rawValue) link: it belongs to block and native", fix: "remove it"
        )
      }
    }
    file = try fields["file"]?.string()
    if let file, let item = fields["file"], file.contains(where: { ",#".contains($0) }) {
      throw item.wrong(
        "a path without ',' and '#', which the back-end's file cannot carry",
        fix: "choose another path")
    }
    isReadOnly = try fields["read-only"]?.bool() ?? false
    queues = try fields["queues"]?.int(1...8) ?? 1
  }
}
