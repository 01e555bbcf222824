/// A guest cell as it was wished.
public struct CellWish: Hashable, Sendable {
  /// What runs in the cell.
  public enum Kind: String, CaseIterable, Sendable {
    case linux
    case bareMetal = "bare-metal"
  }
  /// Who gets the UART.
  public enum Console: Hashable, Sendable {
    /// The guest alone, with its interrupt.
    case own(String)
    /// Shared with the root cell; `takesInterrupt` when the guest also gets the interrupt.
    case debug(takesInterrupt: Bool)
  }
  /// The name, as it was written.
  public var name: Placed<String>
  /// What runs in it.
  public var kind: Kind
  /// CPU numbers of the board, ascending.
  public var cpus: Placed<[Int]>
  /// RAM, in bytes.
  public var memorySize: Placed<UInt64>
  /// Where the RAM has to lie; `nil`: the solver chooses.
  public var memoryAddress: Placed<UInt64>?
  /// Its console.
  public var console: Placed<Console>
  /// First SPI of its virtual PCI; `nil`: the solver chooses.
  public var interrupt: Placed<Int>?
  /// Kernel command line of a Linux guest.
  public var arguments: String
}

/// A link between the root cell and a guest, as it was wished.
public struct LinkWish: Hashable, Sendable {
  /// The name, as it was written.
  public var name: Placed<String>
  /// What it carries.
  public var kind: LinkKind
  /// Name of the guest.
  public var guest: Placed<String>
  /// All of its shared memory, the state table included.
  public var size: Placed<UInt64>?
  /// Where its memory has to lie; `nil`: the solver chooses.
  public var address: Placed<UInt64>?
  /// Device number on bus 0.
  public var device: Placed<Int>?
  /// Size of the read/write section of a native link, which needs none.
  public var readWrite: UInt64
  /// What the back-end serves.
  public var file: String?
  /// Whether the back-end refuses writes.
  public var isReadOnly: Bool
  /// Queues of the device, 1 to 8.
  public var queues: Int
}

/// Cells, links and the board they are for.
public struct SetupDescription: Hashable, Sendable {
  /// The board.
  public var board: BoardDescription
  /// Name of the root cell, of files, and of the cells' prefix.
  public var name: String
  /// The guests, in the order of the file.
  public var cells: [CellWish]
  /// The links, in the order of the file.
  public var links: [LinkWish]
  /// Names of cells that are never loaded at the same time: they may share CPUs.
  public var alternatives: [[Placed<String>]]

  /// Whether two cells were declared never to run together.
  public func areAlternatives(_ left: String, _ right: String) -> Bool {
    alternatives.contains { group in
      let names = group.map(\.value)
      return left != right && names.contains(left) && names.contains(right)
    }
  }
}
