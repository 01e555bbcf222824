import CellGenerate
import Foundation
import Testing

/// `ivshmem-cell gen` as a process: exit status, and a folder that is never half written.
@Suite("CellTests: gen as a program", .enabled(if: Programs.find("ivshmem-cell") != nil))
struct GenerateProgramTests {
  private let setup = Repository.root.appendingPathComponent("cell-configs/imx8mp/setup.yaml").path

  private func names(_ folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).sorted()
  }

  private func gen(
    _ arguments: [String], in folder: String
  ) throws -> (status: Int32, output: String, errors: String) {
    try Programs.run("ivshmem-cell", ["gen"] + arguments, in: folder)
  }

  @Test("the same folder again: all the same; a change: refused, then forced")
  func folders() throws {
    try withFolder { folder in
      #expect(try gen([setup, "--out", "a/b"], in: folder).status == 0)
      let again = try gen([setup, "--out", "a/b"], in: folder)
      #expect(again.status == 0)
      #expect(!again.output.contains("(new)") && !again.output.contains("(changed)"))
      try Data("mine".utf8).write(to: folder + "/a/b/start.sh")
      let refused = try gen([setup, "--out", "a/b"], in: folder)
      #expect(refused.status == 2)
      #expect(refused.errors.contains("start.sh") && refused.errors.contains("--force"))
      #expect(FileManager.default.contents(atPath: folder + "/a/b/start.sh") == Data("mine".utf8))
      #expect(try gen([setup, "--out", "a/b", "--force"], in: folder).status == 0)
      #expect(!names(folder + "/a/b").contains { $0.hasPrefix(".") })
    }
  }

  @Test("a full disk: nothing is left, and what was there is untouched")
  func fullDisks() throws {
    try withFolder { folder in
      // No file may have more than 8 KiB: as a disk that is full after the first small ones.
      let program = try #require(Programs.find("ivshmem-cell")).path
      let limited = "trap '' XFSZ; ulimit -f 8; exec \"$0\" gen \"$1\" --out \"$2\" --force"
      func run() throws -> (status: Int32, output: String, errors: String) {
        try Programs.run("/bin/bash", ["-c", limited, program, setup, "out"], in: folder)
      }
      let first = try run()
      #expect(first.status == 2)
      #expect(first.errors.contains("File too large"))
      #expect(names(folder) == [])
      #expect(try gen([setup, "--out", "out"], in: folder).status == 0)
      try Data("mine".utf8).write(to: folder + "/out/start.sh")
      let before = names(folder + "/out")
      #expect(try run().status == 2)
      #expect(names(folder + "/out") == before)
      #expect(FileManager.default.contents(atPath: folder + "/out/start.sh") == Data("mine".utf8))
    }
  }

  @Test("a place where nothing can be made", arguments: ["/proc/cellmate", "/dev/null/x"])
  func forbiddenPlaces(place: String) throws {
    let result = try gen([setup, "--out", place], in: "/")
    #expect(result.status == 2)
    #expect(result.errors.hasPrefix("ivshmem-cell gen: cannot make the folder"))
    #expect(result.errors.split(separator: "\n").filter { $0.hasPrefix("ivshmem-cell") }.count == 1)
  }

  @Test("wrong input and wrong usage end with status 2, a broken rule with 1")
  func statuses() throws {
    try withFolder { folder in
      #expect(try gen(["none.yaml", "--out", "x"], in: folder).status == 2)
      #expect(try gen([setup], in: folder).status == 2)
      #expect(try gen([setup, "--out", "x", "--speed"], in: folder).status != 0)
      let text = try Repository.text("cell-configs/imx8mp/setup.yaml")
        .replacingOccurrences(
          of: "board: board.yaml",
          with: "board: " + Repository.root.path + "/cell-configs/imx8mp/board.yaml")
      for (old, new, status) in [("cpus: [1]", "cpus: [3]", 1), ("cpus: [1]", "cpu: [3]", 2)] {
        try Data(text.replacingOccurrences(of: old, with: new).utf8).write(to: folder + "/s.yaml")
        let result = try gen(["s.yaml", "--out", "x"], in: folder)
        #expect(result.status == Int32(status))
        #expect(result.errors.hasPrefix("s.yaml:"))
      }
      try FileManager.default.createDirectory(
        atPath: folder + "/y", withIntermediateDirectories: true)
      try Data("links: [".utf8).write(to: folder + "/y/placement.yaml")
      let spoilt = try gen([setup, "--out", "y"], in: folder)
      #expect(spoilt.status == 2)
      #expect(spoilt.errors.hasPrefix("y/placement.yaml:"))
      #expect(try gen([setup, "--out", "y", "--fresh", "--force"], in: folder).status == 0)
      #expect(names(folder) == ["s.yaml", "y"])
    }
  }
}
