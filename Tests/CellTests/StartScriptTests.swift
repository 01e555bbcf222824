import CellGenerate
import Foundation
import Testing

/// `start.sh` with a `jailhouse` that writes down what it is asked, and fails when it shall.
@Suite("CellTests: start script")
struct StartScriptTests {
  /// A folder with the output, a false tool, and a false /dev and /sys.
  private struct Stage {
    let folder: String
    let layout: Layout

    init(_ folder: String) throws {
      self.folder = folder
      let generation = try Setups.generate(Setups.good)
      layout = generation.layout
      try OutputFolder.write(generation.artefacts, to: folder + "/out")
      try FileManager.default.createDirectory(
        atPath: folder + "/bin", withIntermediateDirectories: true)
      let tool = """
        #!/bin/sh
        echo "$*" >> "$STAGE/log"
        case "$FAIL" in "$1" | "$1 $2") exit 1 ;; esac
        case "$1 $2" in
        'cell list') cat "$STAGE/cells" ;;
        'cell create' | 'cell linux')
          name=${3%.cell}; echo "1 ${name##*imx8mp-} running" >> "$STAGE/cells" ;;
        'cell destroy') grep -v " $3 " "$STAGE/cells" > "$STAGE/left"; mv "$STAGE/left" "$STAGE/cells" ;;
        esac
        exit 0

        """
      try Data(tool.utf8).write(to: folder + "/bin/jailhouse")
      try FileManager.default.setAttributes(
        [.posixPermissions: 0o755], ofItemAtPath: folder + "/bin/jailhouse")
      try Data("ID Name State\n0 imx8mp running\n".utf8).write(to: folder + "/cells")
      try FileManager.default.createDirectory(
        atPath: folder + "/top/dev", withIntermediateDirectories: true)
      try Data().write(to: folder + "/top/dev/jailhouse")
      for name in ["Image", "app.bin"] { try Data().write(to: "\(folder)/\(name)") }
    }

    /// Makes the virtual PCI appear.
    func addDevices() throws {
      for device in ["0002:00:02.0", "0002:00:04.0"] {
        try FileManager.default.createDirectory(
          atPath: "\(folder)/top/sys/bus/pci/devices/\(device)", withIntermediateDirectories: true)
      }
    }

    /// Runs a verb; gives its exit status, what the tool was asked, and what was said.
    func run(
      _ words: String..., failing: String = "none"
    ) throws -> (status: Int32, asked: [String], said: String) {
      try? FileManager.default.removeItem(atPath: folder + "/log")
      let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
      let result = try Programs.run(
        "/bin/sh", ["out/start.sh"] + words, in: folder,
        environment: [
          "PATH": "\(folder)/bin:\(path)", "STAGE": folder, "FAIL": failing,
          "CELLMATE_TOP": folder + "/top",
        ])
      let log = (try? String(contentsOfFile: folder + "/log", encoding: .utf8)) ?? ""
      let asked = log.replacingOccurrences(of: folder + "/out/", with: "").split(separator: "\n")
        .map(String.init).filter { $0 != "cell list" }
      return (result.status, asked, result.output + result.errors)
    }
  }

  private func withStage(_ body: (Stage) throws -> Void) throws {
    try withFolder { try body(try Stage($0)) }
  }

  @Test("every board's script is a script of sh and of bash, and shellcheck has nothing to say")
  func scriptsAreScripts() throws {
    for board in Repository.boards {
      let path = Repository.root.appendingPathComponent("cell-configs/\(board)/start.sh").path
      for shell in ["/bin/sh", "/bin/bash"] where FileManager.default.fileExists(atPath: shell) {
        #expect(try Programs.run(shell, ["-n", path], in: "/").status == 0)
      }
      guard let shellcheck = Compiler.find("shellcheck") else { continue }
      let result = try Programs.run(shellcheck, ["--shell=sh", path], in: "/")
      #expect(result.output == "", "\(board)")
    }
  }

  @Test("the way up and down")
  func upAndDown() throws {
    try withStage { stage in
      try stage.addDevices()
      #expect(try stage.run("enable").asked == ["enable imx8mp.cell"])
      let linux = try stage.run("start", "linux", "Image")
      #expect(linux.status == 0, "\(linux.said)")
      #expect(
        linux.asked == [
          "cell linux imx8mp-linux.cell Image -d imx8mp-linux.dtb "
            + "-c console=ttymxc3,115200 root=/dev/vda rw"
        ])
      #expect(
        try stage.run("start", "inmate", "app.bin").asked == [
          "cell create imx8mp-inmate.cell", "cell load inmate app.bin", "cell start inmate",
        ])
      let stopped = try stage.run("stop")
      #expect(stopped.status == 0, "\(stopped.said)")
      #expect(stopped.asked == ["cell destroy linux", "cell destroy inmate", "disable"])
    }
  }

  @Test("when the virtual PCI does not appear, Jailhouse is left again")
  func enableIsTakenBack() throws {
    try withStage { stage in
      let result = try stage.run("enable")
      #expect(result.status == 1)
      #expect(result.asked == ["enable imx8mp.cell", "disable"])
      #expect(result.said.contains("0002:00:02.0 did not appear"))
    }
  }

  @Test("when Jailhouse refuses to start, nothing is taken back")
  func refusedEnable() throws {
    try withStage { stage in
      let result = try stage.run("enable", failing: "enable")
      #expect(result.status == 1)
      #expect(result.asked == ["enable imx8mp.cell"])
    }
  }

  @Test("a guest that cannot be loaded is destroyed again")
  func guestsAreTakenBack() throws {
    try withStage { stage in
      let result = try stage.run("start", "inmate", "app.bin", failing: "cell load")
      #expect(result.status == 1)
      #expect(
        result.asked == [
          "cell create imx8mp-inmate.cell", "cell load inmate app.bin", "cell destroy inmate",
        ])
    }
  }

  @Test("a guest that runs is not touched by a second start")
  func runningGuestsStay() throws {
    try withStage { stage in
      #expect(try stage.run("start", "linux", "Image").status == 0)
      let again = try stage.run("start", "linux", "Image")
      #expect(again.status == 1)
      #expect(again.asked == [])
      #expect(again.said.contains("linux exists"))
    }
  }

  @Test("a missing image, a missing device and a wrong verb are said, and nothing is done")
  func wrongUse() throws {
    try withStage { stage in
      for words in [["start", "linux"], ["start", "linux", "none"], ["bind"]] {
        let result =
          words.count == 3
          ? try stage.run(words[0], words[1], words[2])
          : words.count == 2 ? try stage.run(words[0], words[1]) : try stage.run(words[0])
        #expect(result.status == 1, "\(words)")
        #expect(result.asked == [])
        #expect(result.said.hasPrefix("start.sh: "))
      }
      #expect(try stage.run("start", "nobody", "Image").status == 2)
      #expect(try stage.run("help").said.contains("usage: ./start.sh"))
    }
  }
}
