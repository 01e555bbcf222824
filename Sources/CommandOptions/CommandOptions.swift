/// One option of a program: the command line and the configuration file know the same ones.
public struct OptionSpecification: Sendable {
  /// The name without dashes.
  public let name: String
  /// What stands for the value in the help; `nil` for a switch.
  public let placeholder: String?
  /// One line of help.
  public let help: String

  /// Describes an option that takes a value.
  public init(_ name: String, _ placeholder: String, _ help: String) {
    self.name = name
    self.placeholder = placeholder
    self.help = help
  }

  /// Describes a switch.
  public init(_ name: String, _ help: String) {
    self.name = name
    placeholder = nil
    self.help = help
  }
}

/// What is wrong with a command line or configuration: one line with the way out.
public struct UsageError: Error, Equatable, Sendable {
  /// The line.
  public let message: String

  /// States what was seen, what was expected and what to do.
  public init(_ message: String) { self.message = message }
}

/// Options and arguments in the order they came.
public struct CommandOptions: Sendable {
  /// Name and value of each option; the value of a switch is empty.
  public private(set) var options: [(name: String, value: String)] = []
  /// What is no option.
  public private(set) var arguments: [String] = []

  /// Parses `--name value`, `--name=value` and `--switch`; `--` ends the options.
  public init(_ words: [String], _ specifications: [OptionSpecification]) throws(UsageError) {
    var index = 0
    while index < words.count {
      let word = words[index]
      index += 1
      if word == "--" {
        arguments += words[index...]
        return
      }
      guard word.hasPrefix("--") else {
        guard !word.hasPrefix("-") || word == "-" else {
          throw UsageError("unknown option \(word); options start with two dashes, see --help")
        }
        arguments.append(word)
        continue
      }
      let body = word.dropFirst(2)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      let specification = try Self.find(name, specifications, "option --\(name)")
      if specification.placeholder == nil {
        guard parts.count == 1 else {
          throw UsageError("--\(name) takes no value, got '\(parts[1])'")
        }
        options.append((name, ""))
      } else if parts.count == 2 {
        options.append((name, String(parts[1])))
      } else {
        guard index < words.count else {
          throw UsageError("--\(name) needs a value: --\(name) \(specification.placeholder ?? "")")
        }
        options.append((name, words[index]))
        index += 1
      }
    }
  }

  /// Adds the lines of a configuration file: `name = value`, `name` for a switch, `#` comments.
  public mutating func add(
    configuration text: String, of path: String, _ specifications: [OptionSpecification]
  ) throws(UsageError) {
    var number = 0
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      number += 1
      let content = Self.trim(line.prefix { $0 != "#" })
      guard !content.isEmpty else { continue }
      let parts = content.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = Self.trim(parts[0])
      let place = "\(path):\(number)"
      let specification = try Self.find(name, specifications, "\(place): key '\(name)'")
      let value = parts.count == 2 ? Self.trim(parts[1]) : ""
      guard (specification.placeholder == nil) == (parts.count == 1) else {
        throw UsageError(
          "\(place): expected '\(name)"
            + (specification.placeholder.map { " = \($0)'" } ?? "' alone") + ", got '\(content)'")
      }
      options.append((name, value))
    }
  }

  private static func trim(_ text: some StringProtocol) -> String {
    // Blanks, not what Unicode calls white space: that would bring its tables along.
    func isBlank(_ character: Character) -> Bool {
      character == " " || character == "\t" || character == "\r"
    }
    var characters = text[...]
    while let first = characters.first, isBlank(first) { characters = characters.dropFirst() }
    while let last = characters.last, isBlank(last) { characters = characters.dropLast() }
    return String(characters)
  }

  private static func find(
    _ name: String, _ specifications: [OptionSpecification], _ what: String
  ) throws(UsageError) -> OptionSpecification {
    if let found = specifications.first(where: { $0.name == name }) { return found }
    let known = specifications.map { $0.name }.joined(separator: ", ")
    throw UsageError("unknown \(what); known are: \(known)")
  }

  /// Whether a switch or option was given.
  public func has(_ name: String) -> Bool { options.contains { $0.name == name } }

  /// The last value of an option.
  @inline(never)
  public func value(_ name: String) -> String? { options.last { $0.name == name }?.value }

  /// The last value of an option as a number with an optional K, M or G.
  public func number(
    _ name: String, in range: ClosedRange<UInt64>, default standard: UInt64
  ) throws(UsageError) -> UInt64 {
    guard let text = value(name) else { return standard }
    guard let number = parseByteCount(text), range.contains(number) else {
      throw UsageError(
        "--\(name) \(text): expected a number from \(range.lowerBound) to \(range.upperBound),"
          + " K, M and G allowed")
    }
    return number
  }

  /// The help lines of a list of options.
  public static func help(_ specifications: [OptionSpecification]) -> String {
    specifications.map { option in
      let left = "  --\(option.name)" + (option.placeholder.map { " \($0)" } ?? "")
      let padding = String(repeating: " ", count: max(2, 30 - left.count))
      return left + padding + option.help
    }.joined(separator: "\n")
  }
}

/// A number of bytes: decimal or 0x hexadecimal, with an optional K, M or G (powers of 1024).
public func parseByteCount(_ text: some StringProtocol) -> UInt64? {
  var digits = text[...]
  var shift: UInt64 = 0
  switch digits.last {
  case "K", "k": shift = 10
  case "M", "m": shift = 20
  case "G", "g": shift = 30
  default: break
  }
  if shift > 0 { digits = digits.dropLast() }
  let parsed =
    digits.hasPrefix("0x") ? UInt64(digits.dropFirst(2), radix: 16) : UInt64(digits, radix: 10)
  guard let parsed, parsed <= UInt64.max >> shift else { return nil }
  return parsed << shift
}

/// `first,key=value,key=value,flag` as used by links and devices.
public struct KeyedValue: Equatable, Sendable {
  /// The first part.
  public let first: String
  /// The rest; a flag has an empty value.
  public let values: [(key: String, value: String)]

  /// Splits `text`; every key has to be in `known`.
  public init(_ text: String, option: String, known: [String]) throws(UsageError) {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    first = String(parts[0])
    var values: [(key: String, value: String)] = []
    for part in parts.dropFirst() {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let key = String(pair[0])
      guard known.contains(key) else {
        throw UsageError(
          "--\(option) \(text): unknown key '\(key)'; known are: "
            + known.joined(separator: ", "))
      }
      values.append((key, pair.count == 2 ? String(pair[1]) : ""))
    }
    self.values = values
  }

  /// The value of a key.
  public func value(_ key: String) -> String? { values.last { $0.key == key }?.value }

  /// Whether two values are the same, key by key.
  public static func == (left: KeyedValue, right: KeyedValue) -> Bool {
    left.first == right.first && left.values.count == right.values.count
      && zip(left.values, right.values).allSatisfy { $0.key == $1.key && $0.value == $1.value }
  }
}
