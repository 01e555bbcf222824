public import ToolSupport

/// What `ivshmem frontend` drives, and what it says of each.
public enum FrontendTool: Sendable, CaseIterable {
  /// A disk.
  case block
  /// A terminal on a port.
  case console
  /// Random bytes.
  case entropy
  /// Frames.
  case network

  /// The tool of that name.
  public init?(_ name: String) {
    guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = found
  }

  /// The word behind `ivshmem frontend`.
  public var name: String {
    switch self {
    case .block: "block"
    case .console: "console"
    case .entropy: "entropy"
    case .network: "network"
    }
  }

  /// What its help shows.
  public var page: HelpPage {
    switch self {
    case .block: Self.blockPage
    case .console: Self.consolePage
    case .entropy: Self.entropyPage
    case .network: Self.networkPage
    }
  }

  private static var status: String {
    "0 done, 1 it failed, 2 wrong usage or something cannot be opened, 130 interrupted"
  }

  private static var blockPage: HelpPage {
    HelpPage(
      name: "frontend block", usage: "frontend block ACTION --link PLACE [options]",
      summary: "Drives the disk of a link",
      details: """
        ACTION is one of:
          info         what the disk says of itself
          read         a range of the disk into a file
          write        a file onto the disk, flushed
          copy         a range to another place of the same disk, flushed
          zero         a range reads as zeroes, without moving bytes, flushed
          discard      a range is no longer needed: it reads as anything
          roundtrip    --count reads, one at a time, and what each took
          acknowledge  --count register writes beside reads, and what each took (Siemens dialect)

        examples:
          ivshmem frontend block info --link sim:/tmp/link.sock
          ivshmem frontend block read --link sim:/tmp/link.sock --file copy.img
          ivshmem frontend block copy --link sim:/tmp/link.sock --offset 0 --count 1M --to 8M
        """,
      options: BlockTool.options,
      keys: [
        ("bytes", "info: of the disk; else: moved, what was moved again left out"),
        ("blockSize, queues, segmentMax, sizeMax", "info: as the device says"),
        ("writeback", "info: whether a write is safe only after a flush"),
        ("discardMax, writeZeroesMax", "info: bytes of one request; 0: not offered"),
        ("features", "info: agreed, hexadecimal"),
        ("requests, doorbells", "finished, and rung by this side"),
        ("nanoseconds", "wall time of the requests"),
        ("recoveries, resubmitted", "back-ends that came back, requests that went out again"),
        ("recoveredAt, slowestSetUp", "of the last one, in ns since 1970; of the slowest, ns"),
        ("rewritten", "bytes written again because they may have been lost"),
        ("count, size, depth", "roundtrip, acknowledge: how often, bytes of a read, reads at once"),
        ("medianNanoseconds, p99Nanoseconds, ...", "roundtrip, acknowledge: times, as named"),
      ], status: status)
  }

  private static var consolePage: HelpPage {
    HelpPage(
      name: "frontend console", usage: "frontend console --link PLACE [options]",
      summary: "Connects this terminal, or a pipe, to a port of a console",
      details: """
        It ends with Ctrl-], or some time after the end of a piped input. Where a console has
        several ports, nothing is sent while nobody is at a port's other end.

        examples:
          ivshmem frontend console --link sim:/tmp/link.sock --slot 1 --port 2
          echo hello | ivshmem frontend console --vhost-user /run/console.sock
          ivshmem frontend console --link sim:/tmp/link.sock --emergency 'out of memory'
        """,
      options: ConsoleTool.options,
      keys: [
        ("multiport", "--list: whether the device tells of its ports"),
        ("ports[].port, name", "its number, and what the device calls it"),
        ("ports[].present, console", "the device has announced it; it is for people"),
        ("ports[].open", "somebody is at the other end; null where that is not told"),
        ("ports[].columns, rows", "0: not known"),
        ("bytes", "--emergency: how many were written"),
      ], status: status)
  }

  private static var entropyPage: HelpPage {
    HelpPage(
      name: "frontend entropy", usage: "frontend entropy --link PLACE --bytes N [options]",
      summary: "Gives random bytes of a link on standard output",
      details: """
        example:
          ivshmem frontend entropy --link sim:/tmp/link.sock --slot 2 --bytes 32 --hex
        """,
      options: EntropyTool.options,
      keys: [
        ("bytes, nanoseconds", "how many, and the wall time"),
        ("doorbells, recoveries", "rung by this side; back-ends that came back"),
      ], status: status)
  }

  private static var networkPage: HelpPage {
    HelpPage(
      name: "frontend network", usage: "frontend network ACTION --link PLACE [options]",
      summary: "Drives the network device of a link",
      details: """
        ACTION is one of:
          info         what the device says of itself
          bridge       frames to and from a tap, a socket or standard input and output
          send         numbered frames to a receiver elsewhere, again until all have arrived
          receive      takes the frames of a sender and acknowledges them

        examples:
          ivshmem frontend network bridge --link sim:/tmp/link.sock --tap cell0
          ivshmem frontend network receive --link sim:/tmp/link.sock --count 1000
        """,
      options: NetworkTool.options, keys: networkKeys, status: status)
  }

  private static var networkKeys: [(name: String, meaning: String)] {
    [
      ("address, linkUp, mtu", "info: of the device; the MTU in bytes"),
      ("pairs, pairsInUse, controlQueue", "info: pairs of queues; null: no such queue"),
      ("frameLimit, features", "info: bytes of the largest frame; agreed, hexadecimal"),
      ("frames, bytes, nanoseconds", "send, receive: arrived, and the wall time"),
      ("repeated", "send: sent again"),
      ("medianNanoseconds, p99Nanoseconds", "send: round trips, where there were any"),
      ("lost, duplicates, outOfOrder", "receive: numbers that came later, twice, too early"),
      ("corrupt, strangers", "frames with wrong bytes, and of others"),
      ("digest", "of all bytes in order: the same on both sides"),
      ("doorbells, recoveries", "rung by this side; back-ends that came back"),
    ]
  }
}
