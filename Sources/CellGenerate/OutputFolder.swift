/// Why a folder cannot be written, in one line.
public struct OutputError: Error, Hashable, Sendable {
  /// The line.
  public let message: String
}

/// Writes artefacts so that a folder is never half new: each file is written to a temporary name in
/// the folder first, and only when all are there are they renamed.
public enum OutputFolder {
  /// What would happen to a file.
  public enum Change: String, Sendable { case new, same, changed }

  /// Reads a text file of at most 256 KiB, as descriptions are.
  public static func text(of path: String) -> Result<String, LoadFailure> {
    if SystemCalls.isFolder(path) {
      return .failure(LoadFailure(message: "it is a folder; name the file in it"))
    }
    return SystemCalls.read(path, limit: YAMLDocument.maximumBytes).flatMap { bytes in
      guard let text = String(validating: bytes, as: UTF8.self) else {
        return .failure(LoadFailure(message: "it is not UTF-8 text"))
      }
      return .success(text)
    }
  }

  /// What an earlier run into the folder chose; nothing, when there was none.
  public static func placement(in folder: String) throws(GenerateError) -> Placement {
    let path = "\(folder)/\(Placement.fileName)"
    switch SystemCalls.read(path, limit: YAMLDocument.maximumBytes) {
    case .failure(let failure) where SystemCalls.isMissing(failure): return Placement()
    default: break
    }
    switch text(of: path) {
    case .success(let text): return try Placement(yaml: text, file: path)
    case .failure(let failure):
      throw GenerateError(
        "Y07", at: InputPlace(file: path, line: 1, column: 1), "cannot be read: \(failure.message)",
        fix: "mend or remove it, or add --fresh to choose every place anew")
    }
  }

  /// Compares artefacts with what is in the folder.
  public static func changes(_ artefacts: [Artefact], in folder: String) -> [Change] {
    artefacts.map { artefact in
      switch SystemCalls.read("\(folder)/\(artefact.name)", limit: artefact.bytes.count) {
      case .success(let bytes): bytes == artefact.bytes ? .same : .changed
      case .failure(let failure):
        SystemCalls.isMissing(failure) ? .new : .changed
      }
    }
  }

  /// Writes all artefacts. A folder that is not there yet appears as a whole or not at all.
  /// - Throws: `OutputError`; then nothing in the folder was changed, unless it was a rename that
  ///   failed.
  public static func write(_ artefacts: [Artefact], to folder: String) throws(OutputError) {
    guard SystemCalls.exists(folder) else { return try writeNew(artefacts, to: folder) }
    var temporary: [(from: String, to: String)] = []
    do throws(OutputError) {
      try SystemCalls.makeFolder(folder)
      for artefact in artefacts {
        let target = "\(folder)/\(artefact.name)"
        guard !SystemCalls.isFolder(target) else {
          throw OutputError(
            message: "\(target) is a folder, a file was expected: remove or rename it")
        }
        let from = "\(folder)/.\(artefact.name).\(SystemCalls.processID)"
        temporary.append((from, target))
        try create(artefact, at: from)
      }
      for (from, target) in temporary { try SystemCalls.rename(from, target) }
    } catch {
      for (from, _) in temporary { SystemCalls.remove(from) }
      throw error
    }
  }

  private static func create(_ artefact: Artefact, at path: String) throws(OutputError) {
    try SystemCalls.create(path, artefact.bytes, mode: artefact.isExecutable ? 0o777 : 0o666)
  }

  /// Fills a folder of another name beside it, then renames that.
  private static func writeNew(
    _ artefacts: [Artefact], to folder: String
  ) throws(OutputError) {
    var parts = folder.split(separator: "/", omittingEmptySubsequences: false)
    while parts.count > 1, parts.last?.isEmpty == true { parts.removeLast() }
    let name = parts.removeLast()
    if !parts.isEmpty { try SystemCalls.makeFolder(parts.joined(separator: "/")) }
    let hidden = (parts + [".\(name).\(SystemCalls.processID)"]).joined(separator: "/")
    var made: [String] = []
    do throws(OutputError) {
      try SystemCalls.makeFolder(hidden)
      for artefact in artefacts {
        made.append("\(hidden)/\(artefact.name)")
        try create(artefact, at: "\(hidden)/\(artefact.name)")
      }
      try SystemCalls.rename(hidden, (parts + [name]).joined(separator: "/"))
    } catch {
      for path in made { SystemCalls.remove(path) }
      SystemCalls.removeFolder(hidden)
      throw error
    }
  }
}
