/// What was chosen, and why: a line of `--explain`.
public struct Choice: Hashable, Sendable {
  /// `link disk: address`.
  public var subject: String
  /// What was chosen.
  public var value: String
  /// Why.
  public var reason: String
}

/// A guest cell with everything decided.
public struct PlacedCell: Hashable, Sendable {
  /// What was wished.
  public var wish: CellWish
  /// Physical place of its RAM.
  public var ram: Span
  /// Physical place of the Linux loader; mapped at 0.
  public var loader: Span?
  /// First SPI of its virtual PCI.
  public var vpciBase: Int
  /// SPIs the cell owns, ascending.
  public var spis: [Int]
  /// Its name.
  public var name: String { wish.name.value }
}

/// A link with everything decided.
public struct PlacedLink: Hashable, Sendable {
  /// What was wished.
  public var wish: LinkWish
  /// Device number on bus 0, the same in both cells.
  public var device: Int
  /// All of its memory.
  public var span: Span
  /// Size of the read/write section; 0: there is none.
  public var readWriteSize: UInt64
  /// Size of each output section; 0: there are none.
  public var outputSize: UInt64
  /// Index of the guest in `Layout.cells`.
  public var guest: Int
  /// Its name.
  public var name: String { wish.name.value }

  /// shmem_protocol of the back-end (root) and front-end (guest) side.
  public var protocols: (back: UInt16, front: UInt16) {
    guard let id = wish.kind.virtioID else { return (nativeProtocol, nativeProtocol) }
    return (0xc000 + id, 0x8000 + id)
  }
  /// The state table, the read/write section and the outputs, in the order of the device; an empty
  /// one has size 0.
  public var sections: [Span] {
    var sections: [Span] = []
    var start = span.start
    for size in [pageSize, readWriteSize, outputSize, outputSize] {
      sections.append(Span(start: start, size: size))
      start += size
    }
    return sections
  }
}

/// The native protocol's class: "CM", the upper half of its State words, and inside 0x4000-0x7fff,
/// the range for custom protocols, which no driver binds by itself.
public let nativeProtocol: UInt16 = 0x434d

/// Base of the communication region in every guest, as stock inmates expect it.
let commRegion = Span(start: 0x8000_0000, size: 0x1000)
/// Where guests put their virtual PCI's BARs: 16 pages.
let guestBARs = Span(start: 0x1000_0000, size: 0x1_0000)
/// The loader's size below a Linux guest, mapped at 0.
let loaderSize: UInt64 = 0x1_0000

/// A setup with every address, number and interrupt decided.
public struct Layout: Hashable, Sendable {
  /// What was wished.
  public var setup: SetupDescription
  /// The guests, in the order of the setup.
  public var cells: [PlacedCell]
  /// The links, in the order of the setup.
  public var links: [PlacedLink]
  /// The root cell's memory: what the board lists, less what the hypervisor and the links occupy.
  public var rootRegions: [RootRegion]
  /// Banks that Linux in the root cell may use.
  public var rootBanks: [Span]
  /// Every choice with its reason.
  public var choices: [Choice]

  /// The board.
  public var board: BoardDescription { setup.board }
  /// The links of a guest, in the order of the setup.
  public func links(of cell: PlacedCell) -> [PlacedLink] {
    links.filter { cells[$0.guest].name == cell.name }
  }
}
