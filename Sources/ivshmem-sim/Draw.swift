import CommandOptions
import IVShmem
import LinkPicture
import LinuxSupport
import VirtioTransport

/// `ivshmem-sim draw`: pictures of a link, from a start-up that is played on the spot.
enum Draw {
  static let specifications = [
    OptionSpecification("rw", "SIZE", "read/write section (default 0)"),
    OptionSpecification("output", "SIZE", "output section of each peer (default 1M, 0 with --rw)"),
    OptionSpecification("placement", "NAME", "shared or output (default: what the link has)"),
    OptionSpecification("seed", "N", "seed of the epochs (default 1)"),
    OptionSpecification("help", "this text"),
  ]

  static let usage = """
    usage: ivshmem-sim draw map|start-up [options]

    Draws a native link with a block device as SVG: what lies where in its memory, or what both
    sides do from the first store to the first sector. The production code of both sides is run
    for it, in this process.

    \(CommandOptions.help(specifications))

    example: ivshmem-sim draw map --rw 64K --placement shared > map.svg
    exit status: 0 drawn, 2 wrong usage
    """

  static func run(_ arguments: [String]) throws(UsageError) -> Int32 {
    let given = try CommandOptions(arguments, specifications)
    if given.has("help") {
      print(usage)
      return 0
    }
    guard given.arguments.count == 1, let what = given.arguments.first,
      what == "map" || what == "start-up"
    else { throw UsageError("draw what? Expected map or start-up, see ivshmem-sim draw --help") }
    let start = try start(given)
    writeOutput(what == "map" ? start.mapPicture : start.sequencePicture)
    return 0
  }

  private static func start(_ given: CommandOptions) throws(UsageError) -> StartUp {
    let readWrite = try given.number("rw", in: 0...(1 << 30), default: 0)
    let output = try given.number(
      "output", in: 0...(1 << 30), default: readWrite > 0 ? 0 : 1 << 20)
    let placement: Placement? =
      switch given.value("placement") {
      case nil: nil
      case "shared": .shared
      case "output": .output
      case let found?:
        throw UsageError("--placement \(found): expected shared or output")
      }
    let seed = try given.number("seed", in: 0...UInt64.max, default: 1)
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: 2, stateTableSize: 4096, readWriteSize: readWrite, outputSize: output)
    } catch {
      throw UsageError("the sizes make no link (\(error)); give multiples of 4096")
    }
    do throws(StartUp.Failure) {
      return try StartUp(geometry: geometry, placement: placement, seed: seed)
    } catch {
      throw UsageError("these sections hold no native link (\(error)); make them larger")
    }
  }
}
