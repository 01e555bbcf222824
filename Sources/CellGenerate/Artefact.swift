/// A generated file.
public struct Artefact: Hashable, Sendable {
  /// Name in the output folder.
  public var name: String
  /// The content.
  public var bytes: [UInt8]
  /// Whether the file may be run.
  public var isExecutable: Bool
  /// One line: what it is for.
  public var purpose: String

  init(_ name: String, _ bytes: [UInt8], isExecutable: Bool = false, _ purpose: String) {
    self.name = name
    self.bytes = bytes
    self.isExecutable = isExecutable
    self.purpose = purpose
  }
  init(_ name: String, _ text: String, isExecutable: Bool = false, _ purpose: String) {
    self.init(name, Array(text.utf8), isExecutable: isExecutable, purpose)
  }
}
