import CommandOptions
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem doctor`: what is wrong with this board's set-up.
struct DoctorTool {
  static var page: HelpPage {
    HelpPage(
      name: "doctor", usage: "doctor [--json] [--root DIR]",
      summary: "Says what keeps the links of this system from working, with a fix for each finding",
      details: """
        It reads the kernel's options, device tree, memory map, interrupt counters, drivers, IOMMU
        groups and rights, and opens no device node. As root it sees more.
        Findings: \(findings).
        """,
      options: [BoardOptions.json, BoardOptions.root, BoardOptions.help],
      keys: [
        ("devices", "number of ivshmem devices"),
        ("findings[].name", "stable name of the finding"),
        ("findings[].subject", "the device's PCI address, or system"),
        ("findings[].text", "what was seen and what was expected"),
        ("findings[].fix", "what to do"),
        ("notes", "what could not be looked at"),
      ],
      status: "0 nothing is wrong, 1 there are findings, 2 wrong usage or it cannot look")
  }

  /// The names of all findings, for the help.
  static var findings: String {
    """
    bridge-reserved, bridge-unbound, no-host-generic, no-overlay,
    not-enabled, no-device, version-1, no-driver-here, no-iommu, bad-configuration, foreign-class,
    reserved-class, front-end-in-root, front-end-early, no-driver, wrong-driver, other-driver,
    memory-off, no-bus-master, no-node, two-nodes, old-driver, odd-size, no-sections,
    memory-in-use, no-interrupt, line-disabled, no-vector, silent, no-permission, no-group,
    shared-group, no-group-node
    """
  }

  private let given: CommandOptions

  init(_ given: CommandOptions) throws(ClientError) {
    try BoardOptions.none(given)
    self.given = given
  }

  func run() throws(ClientError) -> Int32 {
    let discovery = try BoardOptions.discovery(given)
    let functions: [PCIFunction]
    do throws(DiscoveryError) {
      functions = try discovery.all()
    } catch { throw .usage(UsageError(error.text)) }
    var doctor = BoardDoctor(
      functions, files: discovery.files, pageSize: HostFiles.pageSize)
    doctor.examine()
    let count = functions.filter { $0.isIVShmem }.count
    writeOutput(given.has("json") ? json(doctor, count) : text(doctor, count))
    return doctor.findings.isEmpty ? 0 : 1
  }

  private func text(_ doctor: BoardDoctor, _ count: Int) -> String {
    var text = ""
    for finding in doctor.findings {
      text += "\(finding.subject): \(finding.text) [\(finding.name)]\n  fix: \(finding.fix)\n"
    }
    for note in doctor.notes { text += "note: \(note)\n" }
    if doctor.findings.isEmpty {
      text += "\(count) ivshmem device\(count == 1 ? "" : "s"), nothing wrong found\n"
    }
    return text
  }

  private func json(_ doctor: BoardDoctor, _ count: Int) -> String {
    var object = JSONObject()
    object.add("devices", number: count)
    object.add(
      "findings",
      list: doctor.findings.map { finding in
        var entry = JSONObject()
        entry.add("name", finding.name)
        entry.add("subject", finding.subject)
        entry.add("text", finding.text)
        entry.add("fix", finding.fix)
        return entry.text
      })
    object.add("notes", strings: doctor.notes)
    return object.text + "\n"
  }
}
