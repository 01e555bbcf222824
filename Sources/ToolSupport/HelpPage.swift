public import CommandOptions

/// What `ivshmem help VERB` shows: complete, so that a manual page can be made of it.
public struct HelpPage: Sendable {
  /// The verb.
  public let name: String
  /// What stands behind `ivshmem`.
  public let usage: String
  /// One line.
  public let summary: String
  /// What a person has to know, in lines of at most 100 columns.
  public let details: String
  /// The options.
  public let options: [OptionSpecification]
  /// The keys of `--json` and their meaning; a dot goes into an object, `[]` into a list.
  public let keys: [(name: String, meaning: String)]
  /// What the exit status says.
  public let status: String

  /// States a page.
  public init(
    name: String, usage: String, summary: String, details: String,
    options: [OptionSpecification], keys: [(name: String, meaning: String)] = [],
    status: String = "0 done, 1 it failed, 2 wrong usage or something is missing"
  ) {
    self.name = name
    self.usage = usage
    self.summary = summary
    self.details = details
    self.options = options
    self.keys = keys
    self.status = status
  }

  /// The whole page.
  public var text: String {
    var text = "usage: ivshmem \(usage)\n\n\(summary).\n"
    if !details.isEmpty { text += "\n\(details)\n" }
    text += "\noptions:\n\(CommandOptions.help(options))\n"
    if !keys.isEmpty {
      text += "\nkeys of --json:\n"
      text += columns(keys.map { ["  " + $0.name, $0.meaning] })
    }
    return text + "\nexit status: \(status)\n"
  }
}
