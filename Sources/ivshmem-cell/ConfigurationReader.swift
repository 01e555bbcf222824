import ArgumentParser
import CellFormat

/// Reads configurations for `show` and `diff`, and ends the program in one way when that fails:
/// one line that says which file, where in it, what was seen and what to do; exit status 2.
enum ConfigurationReader {
  static func read(_ path: String) throws -> (name: String, file: ConfigurationFile) {
    do {
      let bytes = try readInput(path, limit: configurationLimit)
      return (lastPart(of: path), try ConfigurationFile(decoding: bytes))
    } catch let error as FormatError {
      throw fail(
        "\(path), offset 0x\(String(error.offset, radix: 16)): \(error.message) [\(error.rule)]")
    } catch {
      throw fail("\(error)")
    }
  }

  /// Writes beside the file and renames, so that nobody sees half of it.
  static func write(_ text: String, to path: String) throws {
    do {
      try writeOutput(text, to: path)
    } catch {
      throw fail("\(error)")
    }
  }

  static func lastPart(of path: String) -> String {
    path.split(separator: "/").last.map(String.init) ?? path
  }

  private static func fail(_ line: String) -> ExitCode {
    complain(line)
    return ExitCode(2)
  }
}
