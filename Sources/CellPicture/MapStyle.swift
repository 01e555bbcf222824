/// Colours of the map, for light and dark surroundings. Plain classes only: what does not know the
/// media query shows the light ones.
enum MapStyle {
  /// Class, fill and stroke when light, fill and stroke when dark.
  private static let fills: [(String, String, String, String, String)] = [
    ("hv", "#c5cad6", "#5a6375", "#454c5c", "#8b95a9"),
    ("ecam", "#fbdcae", "#bf7e1a", "#5c431c", "#d39a45"),
    ("gic", "#dfe3e8", "#7d8794", "#343a42", "#7d8794"),
    ("iommu", "#d5dbd0", "#6f7f62", "#38402f", "#8da07c"),
    ("ram", "#cfe2f8", "#4a7db8", "#1f3a5a", "#6a9ad0"),
    ("dev", "#ece6d6", "#a08d57", "#3b372b", "#a5945f"),
    ("shared", "#dcecd0", "#6d9a46", "#2c3f20", "#85b35c"),
    ("other", "#e9e9e9", "#8a8a8a", "#333333", "#8a8a8a"),
    ("comm", "#f1e3f8", "#9564b5", "#412d50", "#a878c8"),
    ("l0", "#a5e3d7", "#0f8373", "#124f46", "#35b8a4"),
    ("l1", "#d6c9f7", "#6846c7", "#3a2d6b", "#9a80ee"),
    ("l2", "#fac4df", "#b5357e", "#5c1e43", "#e274b2"),
    ("l3", "#d9eb9f", "#678f17", "#3d5210", "#9cc742"),
    ("l4", "#b3e4f5", "#1481a3", "#124556", "#45b3d6"),
    ("l5", "#f6e08b", "#9c7a00", "#54440a", "#d0aa22"),
  ]
  /// Colours of links repeat after that many.
  static let linkColours = 6

  static let sheet: String = {
    var light = """
      text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",Arial,sans-serif;\
      font-size:11px;fill:#1c2330}
      .mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;\
      font-size:10.5px}
      .big{font-size:17px;font-weight:600}.head{font-size:13px;font-weight:600}
      .small{font-size:10px}.strong{font-weight:600}.muted{fill:#5d6878}
      .halo{stroke:#ffffff;stroke-width:3px;stroke-linejoin:round;paint-order:stroke}
      .page{fill:#ffffff;stroke:#d5dae1}.column{fill:#f6f7f9;stroke:#e1e5ea}
      .line{stroke:#e1e5ea;stroke-width:1}.gap{fill:#aab3bf}
      .lent{fill:url(#cm-lent)}.lentline{stroke:#5d6878;stroke-width:1}
      .conflict{fill:url(#cm-conflict);stroke:#d1182b;stroke-width:2}
      .redline{stroke:#d1182b;stroke-width:2.2}.redwash{fill:#d1182b;fill-opacity:.13}
      .red{fill:#b81022}
      .badbridge{fill:#d1182b;fill-opacity:.10;stroke:#d1182b;stroke-width:1.6;\
      stroke-dasharray:5 3}

      """
    var dark = """
      text{fill:#e4e8ee}.muted{fill:#9aa5b4}.halo{stroke:#12161c}
      .page{fill:#12161c;stroke:#30363e}.column{fill:#1a1f27;stroke:#2b323b}
      .line{stroke:#2b323b}.gap{fill:#6b7683}.lentline{stroke:#aab4c2}
      .conflict{stroke:#ff5364}.redline{stroke:#ff5364}.redwash{fill:#ff5364;fill-opacity:.2}
      .red{fill:#ff7682}.badbridge{fill:#ff5364;stroke:#ff5364}

      """
    for (name, fill, stroke, darkFill, darkStroke) in fills {
      light += ".\(name){fill:\(fill);stroke:\(stroke)}"
      dark += ".\(name){fill:\(darkFill);stroke:\(darkStroke)}"
      if name.hasPrefix("l") {
        light += ".b\(name){fill:\(fill);fill-opacity:.42;stroke:\(stroke);stroke-opacity:.7}"
        dark += ".b\(name){fill:\(darkStroke);fill-opacity:.25;stroke:\(darkStroke)}"
      }
    }
    return light + "\n@media (prefers-color-scheme:dark){\n" + dark + "}\n"
  }()

  /// Class of a box; links are coloured in the order of their BDF.
  static func name(_ kind: MapKind, links: [UInt16]) -> String {
    switch kind {
    case .hypervisor: "hv"
    case .ecam: "ecam"
    case .interruptController: "gic"
    case .iommu: "iommu"
    case .ram: "ram"
    case .device: "dev"
    case .sharedMemory: "shared"
    case .other: "other"
    case .commRegion: "comm"
    case .section(let place): "l\((links.firstIndex(of: place.bdf) ?? 0) % linkColours)"
    }
  }

  /// What the legend says, in its order; links follow by name.
  static let legend: [(kind: MapKind, text: String)] = [
    (.ram, "RAM"), (.device, "device registers (MMIO)"),
    (.sharedMemory, "memory shared with the root"), (.other, "other memory"),
    (.commRegion, "communication region"), (.hypervisor, "hypervisor"),
    (.ecam, "virtual PCI: ECAM, BARs"), (.interruptController, "interrupt controller"),
    (.iommu, "IOMMU"),
  ]
}
