/// What the command line says; the names are those of `vring_ref`.
struct BenchOptions {
  enum Mode: String { case solo, poll, event }

  var mode = Mode.poll
  var descriptors = 1
  var depth = 128
  var batch = 1
  var payload = 64
  var total = 2_000_000
  var runs = 9
  var size = 256
  var spin = 0
  var driverCPU = 0
  var deviceCPU = 1
  var isPausing = true
  var hasHugePages = false
  var isAsking = false

  init?(_ arguments: some Sequence<String>) {
    var rest = arguments.makeIterator()
    while let name = rest.next() {
      switch name {
      case "-p": isPausing = false
      case "-H": hasHugePages = true
      case "-F": isAsking = true
      case "-m":
        guard let text = rest.next(), let mode = Mode(rawValue: text) else { return nil }
        self.mode = mode
      case "-w":
        guard rest.next() == "none" else { return nil }
      default:
        guard let text = rest.next(), let value = Int(text), set(name, value) else { return nil }
      }
    }
    guard (1...8).contains(descriptors), (8...1024).contains(size), size & (size - 1) == 0,
      payload >= 8, (1...64).contains(runs), batch > 0, depth > 0
    else { return nil }
    if mode == .event { isAsking = true }
  }

  private mutating func set(_ name: String, _ value: Int) -> Bool {
    switch name {
    case "-n": descriptors = value
    case "-q": depth = value
    case "-b": batch = value
    case "-s": payload = value
    case "-N": total = value
    case "-r": runs = value
    case "-z": size = value
    case "-S": spin = value
    case "-c": driverCPU = value
    case "-d": deviceCPU = value
    default: return false
    }
    return true
  }
}
