import CellGenerate
import Foundation

/// Where the repository lies: the tests compare with its committed files.
enum Repository {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func load(_ path: String) -> Result<String, LoadFailure> {
    let url = path.hasPrefix("/") ? URL(fileURLWithPath: path) : root.appendingPathComponent(path)
    guard let data = try? Data(contentsOf: url) else {
      return .failure(LoadFailure(message: "no such file"))
    }
    return .success(String(decoding: data, as: UTF8.self))
  }

  static func text(_ path: String) throws -> String { try load(path).get() }

  static let boards = [
    "qemu-arm64", "imx8mp", "imx93", "imx8mm", "imx8mn", "imx8mq", "imx8qm", "imx8qxp", "imx8ulp",
    "imx95",
  ]

  /// What `cell-configs/regenerate` makes: the committed places are kept.
  static func generate(_ board: String, isFresh: Bool = false) throws -> Generation {
    let path = "cell-configs/\(board)/setup.yaml"
    let kept = "cell-configs/\(board)/placement.yaml"
    return try Generator.generate(
      yaml: try text(path), file: path,
      keeping: isFresh ? Placement() : try Placement(yaml: try text(kept), file: kept), load: load)
  }
}

/// Setups made by replacing a part of a good one.
enum Setups {
  /// The smallest whole setup; it stands on imx8mp.
  static let good = """
    board: cell-configs/imx8mp/board.yaml
    cells:
      linux:
        kind: linux
        cpus: [2, 3]
        memory: 512M
        console: uart4
      inmate:
        kind: bare-metal
        cpus: [1]
        memory: 1M
        console: debug
    links:
      disk: {kind: block, guest: linux}
      exchange: {kind: native, guest: inmate}
    """

  static func generate(
    _ text: String, keeping kept: Placement = Placement()
  ) throws(GenerateError) -> Generation {
    try Generator.generate(yaml: text, file: "setup.yaml", keeping: kept, load: Repository.load)
  }

  /// `good` with one part replaced; the part has to be there.
  static func replacing(_ old: String, _ new: String) -> String {
    precondition(good.contains(old), "the fixture has no '\(old)'")
    return good.replacingOccurrences(of: old, with: new)
  }
}
