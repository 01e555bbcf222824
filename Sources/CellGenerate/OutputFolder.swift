import Foundation

/// Why a folder cannot be written, in one line.
public struct OutputError: Error, Hashable, Sendable {
  public let message: String
}

/// Writes artefacts so that a folder is never half new: each file is written to a temporary name in
/// the folder first, and only when all are there are they renamed.
public enum OutputFolder {
  /// What would happen to a file.
  public enum Change: String, Sendable { case new, same, changed }

  /// Compares artefacts with what is in the folder.
  public static func changes(_ artefacts: [Artefact], in folder: String) -> [Change] {
    artefacts.map { artefact in
      let url = URL(fileURLWithPath: folder).appendingPathComponent(artefact.name)
      guard let bytes = try? Data(contentsOf: url) else { return .new }
      return Array(bytes) == artefact.bytes ? .same : .changed
    }
  }

  /// Writes all artefacts.
  /// - Throws: `OutputError`; then nothing in the folder was changed, unless a rename itself failed.
  public static func write(_ artefacts: [Artefact], to folder: String) throws(OutputError) {
    let base = URL(fileURLWithPath: folder)
    var temporary: [(from: URL, to: URL)] = []
    do {
      try FileManager.default.createDirectory(at: base, withIntermediateDirectories: true)
      for artefact in artefacts {
        let target = base.appendingPathComponent(artefact.name)
        let attributes = try? FileManager.default.attributesOfItem(atPath: target.path)
        if attributes?[.type] as? FileAttributeType == .typeDirectory {
          throw OutputError(
            message: "\(target.path) is a folder, a file was expected; remove or rename it")
        }
        let from = base.appendingPathComponent(".\(artefact.name).new")
        temporary.append((from, target))
        try Data(artefact.bytes).write(to: from)
        let mode = artefact.isExecutable ? 0o755 : 0o644
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: from.path)
      }
      for (from, target) in temporary {
        // rename(2) replaces in one step; FileManager.moveItem refuses an existing target.
        guard unsafe rename(from.path, target.path) == 0 else {
          throw OutputError(
            message: "cannot rename \(from.path) to \(target.path): \(Self.text(errno))")
        }
      }
    } catch {
      for (from, _) in temporary { try? FileManager.default.removeItem(at: from) }
      throw error as? OutputError
        ?? OutputError(message: "cannot write to \(folder): \(Self.reason(error))")
    }
  }

  private static func reason(_ error: any Error) -> String {
    let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError ?? error as NSError
    return cause.domain == NSPOSIXErrorDomain
      ? text(Int32(cause.code)) : cause.localizedDescription
  }

  private static func text(_ code: Int32) -> String {
    NSError(domain: NSPOSIXErrorDomain, code: Int(code)).localizedDescription
  }
}
