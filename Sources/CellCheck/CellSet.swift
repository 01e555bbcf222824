public import CellFormat
public import DeviceTree

/// What is checked together: the configurations that are meant to run at the same time, and the
/// device trees that go with them.
public struct CellSet: Sendable {
  /// A configuration and the name of the file it came from.
  public struct Member: Sendable {
    /// File name, as it shall stand in findings.
    public var file: String
    /// The decoded file.
    public var configuration: ConfigurationFile

    /// One member of a set.
    public init(file: String, configuration: ConfigurationFile) {
      self.file = file
      self.configuration = configuration
    }
  }

  /// A device tree and the name of the file it came from.
  public struct Tree: Sendable {
    /// File name, as it shall stand in findings.
    public var file: String
    /// The decoded tree.
    public var tree: FlattenedTree

    /// One tree.
    public init(file: String, tree: FlattenedTree) {
      self.file = file
      self.tree = tree
    }
  }

  /// The configurations, in any order: the root is the one that is a system.
  public var files: [Member]
  /// Device trees of guests, by cell name or file name.
  public var deviceTrees: [String: Tree]
  /// The device tree the root cell's Linux is started with.
  public var rootTree: Tree?
  /// Cells (names or file names) of which only one runs at a time; they are not compared with each
  /// other.
  public var alternatives: [Set<String>]
  /// The page size the guests are built with, bytes: links have to lie on pages of it (E15), and a
  /// guest gives the registers of each device a page of its own (E32).
  public var pageSize: UInt64

  /// A set; trees and alternatives are optional.
  /// - Parameter pageSize: a power of two, 4096 or more.
  public init(
    files: [Member] = [], deviceTrees: [String: Tree] = [:], rootTree: Tree? = nil,
    alternatives: [Set<String>] = [], pageSize: UInt64 = 0x1000
  ) {
    self.files = files
    self.deviceTrees = deviceTrees
    self.rootTree = rootTree
    self.alternatives = alternatives
    self.pageSize = pageSize
  }
}
