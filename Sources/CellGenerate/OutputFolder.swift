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

  /// Compares artefacts with what is in the folder.
  public static func changes(_ artefacts: [Artefact], in folder: String) -> [Change] {
    artefacts.map { artefact in
      switch SystemCalls.read("\(folder)/\(artefact.name)", limit: artefact.bytes.count) {
      case .success(let bytes): bytes == artefact.bytes ? .same : .changed
      case .failure(let failure):
        failure.message == SystemCalls.text(2) ? .new : .changed  // 2: ENOENT
      }
    }
  }

  /// Writes all artefacts.
  /// - Throws: `OutputError`; then nothing in the folder was changed, unless it was a rename that
  ///   failed.
  public static func write(_ artefacts: [Artefact], to folder: String) throws(OutputError) {
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
        try SystemCalls.create(from, artefact.bytes, mode: artefact.isExecutable ? 0o777 : 0o666)
      }
      for (from, target) in temporary { try SystemCalls.rename(from, target) }
    } catch {
      for (from, _) in temporary { SystemCalls.remove(from) }
      throw error
    }
  }
}
