// The virtqueues measured as `cref/vring_ref.c` measures its own: same rings, same parameters, same
// output line. Benchmarks/run runs both, interleaved.
//
//   RingBench -m solo|poll|event [-n desc/chain 1...8] [-q outstanding]
//     [-b publish batch] [-s payload bytes] [-N requests] [-r runs] [-z ring size]
//     [-S spin ns before sleep] [-c driver cpu] [-d device cpu] [-p (no pause)] [-H (huge pages)]
//     [-F (poll mode asks about notifications all the same, with a fence)]

import CBench

guard let options = BenchOptions(CommandLine.arguments.dropFirst()) else {
  print("see the head of Benchmarks/RingBench/main.swift for the options")
  cb_exit(2)
}
var bench = RingBench(options)
switch options.mode {
case .solo: bench.solo()
case .poll, .event: bench.pair()
}
