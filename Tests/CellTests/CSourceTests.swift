import CellGenerate
import Foundation
import Testing

/// The C sources against a compiler: with the published structures spelled out here as C, without
/// a look at our encoder, they have to become the bytes of the `.cell` files.
@Suite("CellTests: C sources", .enabled(if: Compiler.canCompile))
struct CSourceTests {
  /// Names as Jailhouse's configurations use them; offsets and sizes as published.
  static let header = """
    typedef unsigned char __u8; typedef unsigned short __u16;
    typedef unsigned int __u32; typedef unsigned long long __u64;
    #define PACKED __attribute__((packed))
    #define JAILHOUSE_CONFIG_REVISION 14
    #define JAILHOUSE_ARM64 2
    enum { JAILHOUSE_SYS_VIRTUAL_DEBUG_CONSOLE = 1 };
    #define JAILHOUSE_CELL_PASSIVE_COMMREG 0x00000001
    #define JAILHOUSE_CELL_VIRTUAL_CONSOLE_PERMITTED 0x40000000
    enum {
      JAILHOUSE_MEM_READ = 1, JAILHOUSE_MEM_WRITE = 2, JAILHOUSE_MEM_EXECUTE = 4,
      JAILHOUSE_MEM_DMA = 8, JAILHOUSE_MEM_IO = 16, JAILHOUSE_MEM_COMM_REGION = 32,
      JAILHOUSE_MEM_LOADABLE = 64, JAILHOUSE_MEM_ROOTSHARED = 128
    };
    enum {
      JAILHOUSE_CON_TYPE_PL011 = 3, JAILHOUSE_CON_TYPE_IMX = 8, JAILHOUSE_CON_TYPE_IMX_LPUART = 9,
      JAILHOUSE_CON_ACCESS_MMIO = 1, JAILHOUSE_CON_REGDIST_4 = 2
    };
    enum {
      JAILHOUSE_PCI_TYPE_IVSHMEM = 3, JAILHOUSE_SHMEM_PROTO_VIRTIO_FRONT = 0x8000,
      JAILHOUSE_SHMEM_PROTO_VIRTIO_BACK = 0xc000
    };
    #define JAILHOUSE_IVSHMEM_BAR_MASK_INTX { 0xfffff000, 0, 0, 0, 0, 0 }
    struct jailhouse_console {
      __u64 address; __u32 size; __u16 type; __u16 flags; __u32 divider; __u32 gate_nr;
      __u64 clock_reg;
    } PACKED;
    struct jailhouse_memory { __u64 phys_start, virt_start, size, flags; } PACKED;
    struct jailhouse_irqchip {
      __u64 address; __u32 id; __u32 pin_base; __u32 pin_bitmap[4];
    } PACKED;
    union jailhouse_stream_id { __u32 id; struct { __u16 id, mask_out; } PACKED mmu500; } PACKED;
    struct jailhouse_pci_device {
      __u8 type, iommu; __u16 domain, bdf; __u32 bar_mask[6]; __u16 caps_start, num_caps;
      __u8 num_msi_vectors, msi_bits; __u16 num_msix_vectors, msix_region_size;
      __u64 msix_address; __u32 shmem_regions_start; __u8 shmem_dev_id, shmem_peers;
      __u16 shmem_protocol;
    } PACKED;
    struct jailhouse_iommu { __u32 type; __u64 base; __u32 size; __u8 specific[12]; } PACKED;
    struct jailhouse_cell_desc {
      char signature[5]; __u8 architecture; __u16 revision; char name[32]; __u32 id, flags;
      __u32 cpu_set_size, num_memory_regions, num_cache_regions, num_irqchips, num_pio_regions;
      __u32 num_pci_devices, num_pci_caps, num_stream_ids, vpci_irq_base;
      __u64 cpu_reset_address, msg_reply_timeout; struct jailhouse_console console;
    } PACKED;
    struct jailhouse_system {
      char signature[5]; __u8 architecture; __u16 revision; __u32 flags;
      struct jailhouse_memory hypervisor_memory; struct jailhouse_console debug_console;
      struct {
        __u64 pci_mmconfig_base; __u8 pci_mmconfig_end_bus, pci_is_virtual; __u16 pci_domain;
        struct jailhouse_iommu iommu_units[8];
        struct {
          __u8 maintenance_irq, gic_version; __u16 padding;
          __u64 gicd_base, gicc_base, gich_base, gicv_base, gicr_base;
        } PACKED arm;
      } PACKED platform_info;
      struct jailhouse_cell_desc root_cell;
    } PACKED;
    _Static_assert(sizeof(struct jailhouse_cell_desc) == 132, "cell");
    _Static_assert(sizeof(struct jailhouse_system) == 488, "system");
    _Static_assert(sizeof(struct jailhouse_memory) == 32, "memory");
    _Static_assert(sizeof(struct jailhouse_irqchip) == 32, "irqchip");
    _Static_assert(sizeof(struct jailhouse_pci_device) == 56, "device");
    _Static_assert(sizeof(struct jailhouse_iommu) == 28, "iommu");

    """

  /// Compiles every C source of a generation and compares what objcopy takes out of it.
  private func expectSameBytes(_ generation: Generation) throws {
    try withFolder { folder in
      try FileManager.default.createDirectory(
        atPath: folder + "/jailhouse", withIntermediateDirectories: true)
      try Data(Self.header.utf8).write(to: folder + "/jailhouse/cell-config.h")
      try Data().write(to: folder + "/jailhouse/types.h")
      let sources = generation.artefacts.filter { $0.name.hasSuffix(".c") }
      #expect(sources.count == generation.layout.cells.count + 1)
      for source in sources {
        let base = folder + "/" + source.name.dropLast(2)
        try Data(source.bytes).write(to: base + ".c")
        let compiled = try Compiler.run(
          "gcc", ["-Wall", "-Wextra", "-I", folder, "-c", base + ".c", "-o", base + ".o"],
          input: [])
        #expect(compiled.errors == "", "\(source.name)")
        let copied = try Compiler.run(
          "objcopy", ["-O", "binary", "-j", ".data", base + ".o", base + ".bin"], input: [])
        #expect(copied.errors == "", "\(source.name)")
        let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: base + ".bin")))
        let name = source.name.dropLast(2) + ".cell"
        let cell = try #require(generation.artefacts.first { $0.name == name })
        #expect(bytes == cell.bytes, "\(source.name) and \(name) differ")
      }
    }
  }

  @Test(
    "compiled, they are byte for byte the .cell files, without a warning",
    arguments: Repository.boards)
  func compiledSourcesAreTheCells(board: String) throws {
    try expectSameBytes(try Repository.generate(board))
  }

  @Test("no text of a description leaves its comment or its string")
  func hostileTextsStayTexts() throws {
    let nasty = #"a */ "b" \ // /* <x> $(y) `z` &"#
    let board = try Repository.text("cell-configs/imx8mp/board.yaml")
      .replacingOccurrences(of: "title: NXP i.MX 8M Plus EVK", with: "title: '\(nasty)'")
      .replacingOccurrences(of: "{name: Loaders,", with: "{name: '\(nasty)',")
    #expect(board.contains(nasty))
    let generation = try Generator.generate(
      yaml: Setups.good, file: "setup.yaml", load: { _ in .success(board) })
    try expectSameBytes(generation)
    for tree in generation.artefacts where tree.name.hasSuffix(".dts") {
      let result = try Compiler.run("dtc", ["-I", "dts", "-O", "dtb", "-"], input: tree.bytes)
      #expect(result.errors == "")
    }
  }
}

/// Makes a folder for one test.
func withFolder(_ body: (String) throws -> Void) throws {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("cellmate-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  try body(folder)
}

extension Data {
  /// Writes to a path.
  func write(to path: String) throws { try write(to: URL(fileURLWithPath: path)) }
}
