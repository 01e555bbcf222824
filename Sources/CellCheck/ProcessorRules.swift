import CellFormat

/// Rule E53: CPUs.
extension Checker {
  mutating func checkProcessors() {
    for view in cells where view.cell.cpuSet.count > CellConfiguration.largestCPUSet {
      report(
        "E53", view, "cpu set",
        "\(view.cell.cpuSet.count) bytes, Jailhouse takes \(CellConfiguration.largestCPUSet)",
        means: view.isRoot
          ? "`jailhouse enable` fails: EINVAL" : "the cell cannot be created: EINVAL",
        fix: "set cpu_set_size to 8 for up to 64 CPUs; the count may be damaged")
    }
    for view in cells where view.cell.cpus.isEmpty {
      report(
        "E53", view, "cpu set", "the set is empty",
        means: view.isRoot
          ? "`jailhouse enable` finds more CPUs than the configuration and ends with an error"
          : "the cell is created and started, and nothing runs",
        fix: "set the bits of the CPUs: bit n is CPU n")
    }
    for view in guests {
      let mine = Set(view.cell.cpus)
      if let root {
        let foreign = mine.subtracting(root.cell.cpus)
        if !foreign.isEmpty {
          report(
            "E53", view, "cpu set", "\(cpuText(foreign)) not in the root cell's set",
            means: "the cell cannot be created: EBUSY",
            fix: "choose among the root cell's: "
              + root.cell.cpus.prefix(16).map { String($0) }.joined(separator: ", "))
        }
      }
      for other in cells[..<view.index] where !other.isRoot && runTogether(view, other) {
        let both = mine.intersection(other.cell.cpus)
        guard !both.isEmpty else { continue }
        report(
          "E53", view, "cpu set", "\(cpuText(both)) also in cell \"\(other.name)\"",
          means: "the cell that is created second is refused with EBUSY",
          fix: "give each guest its own CPUs, or name both with --alternatives")
      }
    }
    checkStarvation()
  }

  /// The root cell needs a CPU while all guests that can run together run.
  private mutating func checkStarvation() {
    guard let root, !root.cell.cpus.isEmpty else { return }
    let rootCPUs = Set(root.cell.cpus)
    for first in guests {
      var together = [first]
      for other in guests where together.allSatisfy({ runTogether($0, other) }) {
        together.append(other)
      }
      let taken = together.reduce(into: Set<Int>()) { $0.formUnion($1.cell.cpus) }
      guard rootCPUs.isSubset(of: taken) else { continue }
      report(
        "E53", root, "cpu set",
        "no CPU is left when \(together.map { "\"\($0.name)\"" }.sorted().joined(separator: ", ")) "
          + "run",
        means: "the last cell is refused with EBUSY: the CPU that runs the command stays",
        fix: "leave the root cell a CPU, or name cells with --alternatives")
      return
    }
  }
}

private func cpuText(_ cpus: Set<Int>) -> String {
  let sorted = cpus.sorted()
  let shown = sorted.prefix(16).map { String($0) }.joined(separator: ", ")
  return (sorted.count == 1 ? "CPU \(shown) is" : "CPUs \(shown) are")
}
