/// Colours of both pictures, for light and dark surroundings. Plain classes only: what does not
/// know the media query shows the light ones.
enum PictureStyle {
  static let sheet = """
    text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",Arial,sans-serif;\
    font-size:11px;fill:#1c2330}
    .mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
    .big{font-size:17px;font-weight:600}.head{font-size:13px;font-weight:600}
    .muted{fill:#5d6878}.page{fill:#ffffff;stroke:#d5dae1}
    .life{stroke:#aab3bf;stroke-width:2}.asleep{fill:#f6f7f9;stroke:#aab3bf}
    .front{fill:#cfe2f8;stroke:#4a7db8}.back{fill:#dcecd0;stroke:#6d9a46}
    .both{fill:#f6e08b;stroke:#9c7a00}.hyper{fill:#dfe3e8;stroke:#7d8794}
    .frontline{stroke:#4a7db8;stroke-width:1.4;fill:#4a7db8}
    .backline{stroke:#6d9a46;stroke-width:1.4;fill:#6d9a46}
    .bell{fill:#d1182b}.lead{stroke:#aab3bf;stroke-width:1;fill:none}
    @media (prefers-color-scheme:dark){
    text{fill:#e4e8ee}.muted{fill:#9aa5b4}.page{fill:#12161c;stroke:#30363e}
    .asleep{fill:#1a1f27;stroke:#6b7683}.front{fill:#1f3a5a;stroke:#6a9ad0}
    .back{fill:#2c3f20;stroke:#85b35c}.both{fill:#54440a;stroke:#d0aa22}
    .hyper{fill:#343a42;stroke:#7d8794}.frontline{stroke:#6a9ad0;fill:#6a9ad0}
    .backline{stroke:#85b35c;fill:#85b35c}.bell{fill:#ff5364}
    }

    """

  static func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
  static func hex(_ value: Int) -> String { "0x" + String(value, radix: 16) }

  /// A number of bytes in the largest unit that divides it.
  static func size(_ count: Int) -> String {
    for (unit, shift) in [("MiB", 20), ("KiB", 10)] where count > 0 && count % (1 << shift) == 0 {
      return "\(count >> shift) \(unit)"
    }
    return "\(count) bytes"
  }
}
