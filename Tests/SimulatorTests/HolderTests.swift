import Foundation
import Simulator
import Testing

/// A back-end that is killed and replaced while a service manager keeps its descriptors: the
/// front-end does not notice.
@Suite struct HolderTests {
  /// A service manager in small: keeps what it is given, passes it on, kills, and looks on.
  static let manager = #"""
    import array, json, os, signal, socket, subprocess, sys
    backend, tool, link, image, copy, folder = sys.argv[1:7]
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(folder + "/notify")
    notify.settimeout(60)
    kept = {}

    def receive():
        data, control, _, _ = notify.recvmsg(4096, socket.CMSG_SPACE(4))
        lines = dict(l.split("=", 1) for l in data.decode().splitlines())
        for level, kind, value in control:
            number = array.array("i", value)[0]
            if lines.get("FDSTORE") == "1":
                kept[lines["FDNAME"]] = number
        if lines.get("FDSTOREREMOVE") == "1" and lines["FDNAME"] in kept:
            os.close(kept.pop(lines["FDNAME"]))
        return lines

    def start():
        names = sorted(kept)
        pid = os.fork()
        if pid == 0:
            env = dict(os.environ, NOTIFY_SOCKET=folder + "/notify", FDSTORE="8")
            if names:
                env.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)),
                           LISTEN_FDNAMES=":".join(names))
                high = [os.dup2(kept[n], 100 + i) for i, n in enumerate(names)]
                for i, n in enumerate(high):
                    os.dup2(n, 3 + i, inheritable=True)
            os.execve(backend, [backend, "--link", link, "--device", "block,file=" + image], env)
        while receive().get("READY") != "1":
            pass
        return pid

    pid = start()
    front = subprocess.Popen([tool, "frontend", "block", "read", "--json", "--quiet", "--link",
                              link, "--size", "512", "--depth", "4", "--file", copy],
                             stdout=subprocess.PIPE, text=True)
    replaced = 0
    while True:
        try:
            out, _ = front.communicate(timeout=0.05)
            break
        except subprocess.TimeoutExpired:
            pass
        if replaced < 8:
            os.kill(pid, signal.SIGTERM if replaced % 3 == 2 else signal.SIGKILL)
            os.waitpid(pid, 0)
            pid = start()
            replaced += 1
    report = json.loads(out)
    report.update(replaced=replaced, status=front.returncode)
    os.kill(pid, signal.SIGKILL)
    print(json.dumps(report))
    """#

  @Test func theGuestDoesNotNoticeThatItsBackEndIsReplaced() throws {
    let server = try RunningServer {
      $0.outputSize = 0
      $0.readWriteSize = 1 << 20
      $0.virtioDevice = 2
    }
    let image = server.folder.appendingPathComponent("disk").path
    let copy = server.folder.appendingPathComponent("copy").path
    let bytes = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 7) }
    try Data(bytes).write(to: URL(fileURLWithPath: image))
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "python3", "-c", Self.manager, try #require(DiskTests.program("ivshmem-backend")).path,
      try #require(DiskTests.program("ivshmem")).path, "sim:\(server.path)", image, copy,
      server.folder.path,
    ]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let report = try #require(
      try JSONSerialization.jsonObject(with: output) as? [String: Any],
      "\(String(decoding: output, as: UTF8.self))")
    #expect(report["status"] as? Int == 0)
    #expect(report["recoveries"] as? Int == 0)
    #expect((report["replaced"] as? Int ?? 0) > 0)
    #expect([UInt8](try Data(contentsOf: URL(fileURLWithPath: copy))) == bytes)
  }
}
