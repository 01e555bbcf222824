// swift-tools-version:6.2
// One strict list of settings serves every target; docs/architecture.md says what lives where.
import PackageDescription

let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableExperimentalFeature("Lifetimes"),
  // The hot structs are `~Copyable`: exclusivity is proved statically, and the dynamic check
  // costs a runtime call (facts: swift-toolchain, section 6).
  .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

/// Where tests watch every access to shared memory (docs/testing.md): debug builds alone.
/// `Fuzz/coverage` defines it by itself for its release builds.
let watched: [SwiftSetting] = strict + [.define("CELLMATE_WATCH", .when(configuration: .debug))]

/// The targets that also build as Embedded Swift, with the arrows of docs/architecture.md.
let core: [Target] = [
  .target(name: "CVolatile"),
  .target(name: "CWatch"),
  .target(name: "SharedMemory", dependencies: ["CVolatile", "CWatch"], swiftSettings: watched),
  .target(name: "LinkFormat", swiftSettings: strict),
  .target(name: "IVShmem", dependencies: ["LinkFormat", "SharedMemory"], swiftSettings: strict),
  .target(name: "Virtqueue", dependencies: ["SharedMemory"], swiftSettings: watched),
  .target(
    name: "VirtioDevice", dependencies: ["SharedMemory", "Virtqueue"], swiftSettings: strict),
  .target(
    name: "VirtioTransport",
    dependencies: ["LinkFormat", "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "SiemensDialect",
    dependencies: ["LinkFormat", "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "VirtioBlock", dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "VirtioEntropy", dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "VirtioConsole", dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "VirtioNet", dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: watched),
  .target(
    name: "DeviceRuntime",
    dependencies: [
      "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice", "VirtioTransport", "VirtioBlock",
    ],
    swiftSettings: watched),
]

/// Linux, inside the future shared library: no Foundation.
let linux: [Target] = [
  .target(name: "CLinux"),
  .target(name: "CHostFile"),
  .target(name: "CHostConsole"),
  .target(name: "CHostNetwork"),
  .target(name: "CService"),
  .target(name: "CUdev"),
  .target(name: "CDevice"),
  .target(name: "LinuxSupport", dependencies: ["CLinux"], swiftSettings: strict),
  .target(name: "CommandOptions", swiftSettings: strict),
  .target(
    name: "Supervision", dependencies: ["CLinux", "CService", "CommandOptions", "LinuxSupport"],
    swiftSettings: strict),
  .target(
    name: "SimulatorPeer", dependencies: ["CLinux", "LinuxSupport", "SharedMemory", "IVShmem"],
    swiftSettings: watched),
  .target(
    name: "LinuxPCI",
    dependencies: ["CDevice", "CLinux", "CUdev", "LinkFormat", "LinuxSupport"],
    swiftSettings: strict),
  .target(
    name: "LinuxMapping",
    dependencies: ["CDevice", "CLinux", "LinuxSupport", "SharedMemory", "IVShmem"],
    swiftSettings: strict),
  .target(
    name: "LinkNames",
    dependencies: ["CService", "CommandOptions", "LinkFormat", "LinuxPCI"],
    swiftSettings: strict),
  .target(
    name: "ToolSupport",
    dependencies: ["CLinux", "CService", "CommandOptions", "LinuxSupport"],
    swiftSettings: strict),
  .target(
    name: "LinuxUIO",
    dependencies: [
      "CDevice", "CLinux", "LinuxSupport", "SharedMemory", "IVShmem", "LinuxPCI", "LinuxMapping",
    ],
    swiftSettings: strict),
  .target(
    name: "LinuxVFIO",
    dependencies: [
      "CDevice", "CLinux", "LinuxSupport", "SharedMemory", "IVShmem", "LinuxPCI", "LinuxMapping",
    ],
    swiftSettings: strict),
  .target(
    name: "VhostUser",
    dependencies: ["CLinux", "LinuxSupport", "SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .target(
    name: "HostResources",
    dependencies: [
      "CLinux", "CHostFile", "CHostConsole", "CHostNetwork", "LinuxSupport", "SharedMemory",
      "Virtqueue", "VirtioBlock", "VirtioEntropy", "VirtioConsole", "VirtioNet",
    ],
    swiftSettings: strict),
]

/// Workstation tools: ordinary Swift.
let workstation: [Target] = [
  .target(name: "VfioUser", dependencies: ["CLinux", "LinuxSupport"], swiftSettings: strict),
  .target(
    name: "Simulator",
    dependencies: [
      "CLinux", "LinuxSupport", "SharedMemory", "IVShmem", "SimulatorPeer", "VfioUser",
    ],
    swiftSettings: watched),
  .target(name: "Drawing", swiftSettings: strict),
  .target(
    name: "LinkPicture",
    dependencies: [
      "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice", "VirtioTransport", "VirtioBlock",
      "DeviceRuntime", "Simulator", "Drawing",
    ],
    swiftSettings: strict),
  .systemLibrary(name: "CFDT", providers: [.apt(["libfdt-dev"])]),
  .target(name: "CellFormat", swiftSettings: strict),
  .target(name: "DeviceTree", dependencies: ["CFDT"], swiftSettings: strict),
  .target(
    name: "CellCheck", dependencies: ["CellFormat", "DeviceTree"], swiftSettings: strict),
  .target(
    name: "CellPicture", dependencies: ["CellFormat", "CellCheck", "Drawing"],
    swiftSettings: strict),
  .target(
    name: "CellGenerate",
    dependencies: [
      "CellFormat", "CellCheck", "CellPicture", "DeviceTree",
      .product(name: "Yams", package: "Yams"),
    ],
    swiftSettings: strict),
]

/// The face of libcellmate.so. In SwiftPM it is an ordinary Swift library; `./dev library` builds
/// the same sources as one Embedded module, which needs the C library alone.
let library: [Target] = [
  .target(name: "CCellmate"),
  .target(
    name: "Cellmate",
    dependencies: [
      "CCellmate", "CLinux", "CommandOptions", "SharedMemory", "IVShmem", "Virtqueue",
      "VirtioDevice", "VirtioTransport", "VirtioBlock", "VirtioEntropy", "VirtioConsole",
      "VirtioNet", "DeviceRuntime", "SiemensDialect", "VhostUser", "HostResources", "CService",
      "LinkNames", "LinuxSupport", "LinuxRuntime", "SimulatorPeer",
    ],
    swiftSettings: strict),
]

/// Programs compose; they hold no logic that a test would want.
let programs: [Target] = [
  .executableTarget(
    name: "ivshmem-sim",
    dependencies: [
      "CLinux", "CommandOptions", "IVShmem", "LinkPicture", "LinuxSupport", "Simulator",
      "VirtioTransport",
    ],
    swiftSettings: strict),
  .target(
    name: "LinuxRuntime",
    dependencies: [
      "CommandOptions", "LinuxSupport", "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice",
      "VirtioTransport", "VirtioBlock", "VirtioEntropy", "VirtioConsole", "VirtioNet",
      "DeviceRuntime", "SiemensDialect", "SimulatorPeer", "HostResources", "VhostUser",
      "LinuxPCI", "LinuxUIO", "LinuxVFIO", "LinkNames",
    ],
    swiftSettings: strict),
  .target(
    name: "BackendService",
    dependencies: [
      "CCellmate", "Cellmate", "CLinux", "CService", "CommandOptions", "LinkNames",
      "LinuxSupport", "Supervision", "ToolSupport",
    ],
    swiftSettings: strict),
  .target(
    name: "BoardCommands",
    dependencies: [
      "CCellmate", "CDevice", "CLinux", "CService", "CommandOptions", "LinkFormat", "LinkNames",
      "LinuxPCI", "LinuxSupport", "ToolSupport",
    ],
    swiftSettings: strict),
  .executableTarget(
    name: "ivshmem-backend",
    dependencies: ["BackendService", "CLinux", "CommandOptions", "LinuxSupport"],
    swiftSettings: strict),
  .target(
    name: "FrontendCommands",
    dependencies: [
      "CCellmate", "CHostConsole", "CLinux", "CommandOptions", "LinkFormat", "LinkNames",
      "LinuxSupport", "ToolSupport",
    ],
    swiftSettings: strict),
  .executableTarget(
    name: "ivshmem",
    dependencies: [
      "CLinux", "CommandOptions", "BoardCommands", "Cellmate", "FrontendCommands", "LinuxSupport",
      "ToolSupport",
    ],
    swiftSettings: strict),
]

let cellTool: [Target] = [
  .executableTarget(
    name: "ivshmem-cell",
    dependencies: [
      "CellFormat", "CellCheck", "CellPicture", "CellGenerate", "DeviceTree",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ],
    swiftSettings: strict)
]

let benchmarks: [Target] = [
  .target(name: "CBench", path: "Benchmarks/CBench"),
  .executableTarget(
    name: "RingBench", dependencies: ["CBench", "SharedMemory", "Virtqueue"],
    path: "Benchmarks/RingBench", swiftSettings: strict),
]

/// Inputs that are played to the production code, for libFuzzer and for the tests.
let fuzzers: [Target] = [
  .target(
    name: "FuzzTargets",
    dependencies: [
      "CLinux", "CWatch", "LinuxSupport", "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice",
      "VirtioTransport", "SiemensDialect", "VirtioBlock", "VirtioEntropy", "VirtioConsole",
      "VirtioNet", "DeviceRuntime", "HostResources", "Simulator", "VhostUser", "VfioUser",
    ],
    path: "Fuzz/Targets", swiftSettings: watched),
  .executableTarget(
    name: "FuzzPlayer", dependencies: ["FuzzTargets"], path: "Fuzz/Player",
    swiftSettings: strict),
  .target(
    name: "CellFuzzTargets",
    dependencies: ["CellFormat", "CellCheck", "CellPicture", "DeviceTree"],
    path: "Fuzz/CellTargets", swiftSettings: strict),
  .executableTarget(
    name: "CellFuzz", dependencies: ["CellFuzzTargets"], path: "Fuzz/CellFuzz",
    swiftSettings: strict),
]

let tests: [Target] = [
  .testTarget(
    name: "SharedMemoryTests", dependencies: ["SharedMemory", "IVShmem"], swiftSettings: strict),
  .testTarget(
    name: "VirtioDeviceTests", dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice"],
    swiftSettings: strict),
  .testTarget(
    name: "VirtioTransportTests",
    dependencies: [
      "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice", "VirtioTransport", "VirtioBlock",
      "DeviceRuntime", "Simulator",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "VirtqueueTests", dependencies: ["SharedMemory", "Virtqueue"], swiftSettings: strict),
  .testTarget(
    name: "SimulatorTests",
    dependencies: [
      "CLinux", "CService", "LinuxSupport", "SharedMemory", "IVShmem", "SimulatorPeer", "Simulator",
      "CommandOptions", "LinuxRuntime", "VirtioBlock", "VirtioNet", "HostResources", "Virtqueue",
      "Supervision", "VirtioTransport", "LinkPicture", "BackendService", "Cellmate",
      "FrontendCommands", "LinkNames", "ToolSupport",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "VfioUserTests",
    dependencies: [
      "CLinux", "LinuxSupport", "SharedMemory", "IVShmem", "SimulatorPeer", "Simulator",
      "VfioUser",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "CellTests",
    dependencies: [
      "CellFormat", "CellCheck", "CellPicture", "CellGenerate", "DeviceTree", "CellFuzzTargets",
      "CommandOptions", "LinuxRuntime",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "VirtioBlockTests",
    dependencies: ["SharedMemory", "Virtqueue", "VirtioDevice", "VirtioBlock", "HostResources"],
    swiftSettings: strict),
  .testTarget(
    name: "StreamDeviceTests",
    dependencies: [
      "SharedMemory", "Virtqueue", "VirtioDevice", "VirtioEntropy", "VirtioConsole", "VirtioNet",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "HostResourcesTests",
    dependencies: [
      "CLinux", "CHostFile", "CHostConsole", "CHostNetwork", "LinuxSupport", "SharedMemory",
      "Virtqueue", "VirtioDevice", "VirtioBlock", "VirtioConsole", "VirtioNet", "HostResources",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "VhostUserTests",
    dependencies: [
      "CLinux", "LinuxSupport", "SharedMemory", "Virtqueue", "VirtioDevice", "VirtioBlock",
      "HostResources", "VhostUser", "CommandOptions", "LinuxRuntime", "FuzzTargets", "Cellmate",
      "BackendService", "FrontendCommands", "LinkNames", "ToolSupport",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "SiemensDialectTests",
    dependencies: [
      "SharedMemory", "IVShmem", "Virtqueue", "VirtioDevice", "SiemensDialect", "VirtioBlock",
      "VirtioConsole", "HostResources", "Simulator",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "HostileTests",
    dependencies: [
      "CWatch", "SharedMemory", "IVShmem", "Simulator", "FuzzTargets", "VirtioTransport",
    ],
    swiftSettings: strict),
  .testTarget(
    name: "LinuxPCITests",
    dependencies: [
      "CLinux", "LinuxSupport", "SharedMemory", "IVShmem", "LinuxPCI", "LinuxUIO", "LinuxVFIO",
      "VirtioTransport", "CommandOptions", "LinuxRuntime", "BoardCommands", "FrontendCommands",
      "Cellmate", "ToolSupport",
    ],
    swiftSettings: strict),
  .testTarget(name: "HouseRulesTests", swiftSettings: strict),
  .testTarget(name: "ConformanceTests", swiftSettings: strict),
]

let package = Package(
  name: "cellmate",
  products: [.library(name: "cellmate", type: .dynamic, targets: ["Cellmate"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: core + linux + workstation + library + programs + cellTool + benchmarks + fuzzers + tests
)
