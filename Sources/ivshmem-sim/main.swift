// ivshmem-sim: plays the hypervisor for processes and virtual machines. It only composes;
// the rules are in `Simulator`.
import CLinux
import CommandOptions
import LinuxSupport
import Simulator

let specifications = [
  OptionSpecification("socket", "PATH", "where peers join (required)"),
  OptionSpecification("peers", "N", "peers the link has room for (2 to 12, default 2)"),
  OptionSpecification("rw", "SIZE", "read/write section (default 0)"),
  OptionSpecification("output", "SIZE", "output section of each peer (default 8M)"),
  OptionSpecification("vectors", "N", "vectors a peer, 1 stands for INTx (1 to 8, default 1)"),
  OptionSpecification("no-one-shot", "deliveries leave Interrupt Control alone"),
  OptionSpecification("zero", "zeroes in the sections at the start, not garbage"),
  OptionSpecification("seed", "N", "seed of the garbage (default 1)"),
  OptionSpecification("stale-state", "garbage in the state table at the start"),
  OptionSpecification("overwrite-at-start", "a joining peer finds the others' blocks overwritten"),
  OptionSpecification(
    "virtio", "TYPE",
    "PCI classes as for Linux' virtio_ivshmem, peer 0 the back-end: block, console, net or 1 to 255"
  ),
  OptionSpecification(
    "vfio-user", "PATH,peer=N", "peer N may be a QEMU machine, connecting to PATH; once for each"),
  OptionSpecification("memory", "FILE", "make the shared memory as a file that a machine can map"),
  OptionSpecification("unpinnable", "pretend the memory cannot be pinned (as UIO maps)"),
  OptionSpecification("device-alignment", "pretend unaligned accesses fault (as vfio on arm64)"),
  OptionSpecification("quiet", "no log lines"),
  OptionSpecification("help", "this text"),
]

let usage = """
  usage: ivshmem-sim --socket PATH [options]
         ivshmem-sim status --socket PATH [--json]    who its peers are; status --help
         ivshmem-sim draw map|start-up [options]      pictures of a link; draw --help

  Offers one ivshmem-v2 link to processes and QEMU machines: sections with the rights they have
  under Jailhouse; a state table; doorbells that are lost while the target is not armed. The kernel
  enforces the rights, unless a machine may be a peer: a machine maps all sections writable.

  \(CommandOptions.help(specifications))

  behind --vfio-user PATH,peer=N:
    ,intx                     the device has INTx instead of MSI-X
    ,class=0xNNNNNN           its PCI class code (default: --virtio's, else 0xff434d)
    ,address=0xN              it has no BAR 2: the sections lie there in the guest's memory, which
                              QEMU maps from the file of --memory

  example: ivshmem-sim --socket /tmp/link.sock --output 16M &
           ivshmem-backend --link sim:/tmp/link.sock --device block,file=disk.img
  with QEMU: ivshmem-sim --socket /tmp/link.sock --vfio-user /tmp/vm.sock,peer=1 &
           qemu-system-x86_64 -M q35 -device intel-iommu,intremap=on,caching-mode=on -device
           '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/vm.sock"}}' ...
  exit status: 0 stopped by a signal, 1 system error, 2 wrong usage or socket in use
  """

func say(_ text: String) { writeError("ivshmem-sim: \(text)\n") }

func makeOptions(_ given: CommandOptions) throws(UsageError) -> SimulatorOptions {
  var options = SimulatorOptions()
  options.maxPeers = UInt32(try given.number("peers", in: 2...12, default: 2))
  options.readWriteSize = try given.number("rw", in: 0...(1 << 34), default: 0)
  options.outputSize = try given.number("output", in: 0...(1 << 34), default: 8 << 20)
  options.vectorCount = UInt32(try given.number("vectors", in: 1...8, default: 1))
  options.isOneShot = !given.has("no-one-shot")
  let seed = try given.number("seed", in: 0...UInt64.max, default: 1)
  options.contents = given.has("zero") ? .zero : .garbage(seed)
  options.hasStaleStates = given.has("stale-state")
  options.overwritesAtStart = given.has("overwrite-at-start")
  if let name = given.value("virtio") {
    let names: [String: UInt8] = ["net": 1, "block": 2, "console": 3, "entropy": 4]
    guard let type = names[name] ?? UInt8(name), type > 0 else {
      throw UsageError("--virtio \(name): expected block, console, net, entropy or 1 to 255")
    }
    options.virtioDevice = type
  }
  options.isUnpinnable = given.has("unpinnable")
  options.hasStrictAlignment = given.has("device-alignment")
  options.machines = try Machines.parse(given, peers: options.maxPeers)
  options.memoryPath = given.value("memory")
  return options
}

func run() -> Int32 {
  do throws(UsageError) {
    if CommandLine.arguments.dropFirst().first == "draw" {
      return try Draw.run(Array(CommandLine.arguments.dropFirst(2)))
    }
    if CommandLine.arguments.dropFirst().first == "status" {
      return try Status.run(Array(CommandLine.arguments.dropFirst(2)))
    }
    let given = try CommandOptions(Array(CommandLine.arguments.dropFirst()), specifications)
    if given.has("help") {
      print(usage)
      return 0
    }
    guard given.arguments.isEmpty else {
      throw UsageError("unexpected argument '\(given.arguments[0])', see --help")
    }
    guard let path = given.value("socket") else {
      throw UsageError("--socket PATH is missing: where shall peers join? See --help")
    }
    let options = try makeOptions(given)
    let isQuiet = given.has("quiet")
    let server: SimulatorServer
    do throws(SimulatorServerError) {
      server = try SimulatorServer(path: path, options: options) { if !isQuiet { say($0) } }
    } catch {
      switch error {
      case .inUse(let path):
        throw UsageError(
          "\(path): another ivshmem-sim answers there; stop it or choose another socket")
      case .geometry(let error):
        throw UsageError("the sizes make no link (\(error)); give multiples of 4096")
      case .system(let error, let doing):
        say("\(doing): \(error.text)")
        return 1
      }
    }
    cl_catch_stop(server.stopEvent)
    if !isQuiet {
      say("link at \(path), \(options.maxPeers) peers")
      for machine in options.machines { say(Machines.describe(machine, options)) }
      if let file = options.memoryPath { say("shared memory: \(file), \(server.memorySize) bytes") }
      if server.hasMachines { say("note: \(Machines.rightsWarning)") }
    }
    server.run()
    return 0
  } catch {
    say(error.message)
    return 2
  }
}

cl_exit(run())
