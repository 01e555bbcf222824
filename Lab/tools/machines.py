"""Guests: User-Mode Linux and QEMU. Both have a kernel-log file and a report port."""
import os
import select
import socket
import time

from . import backends, images, processes


# A busy host holds an emulated processor up, and its time stamp counter, calibrated in such a
# moment, makes the guest's clock run many times too fast: the kernel then sees stalls that are none.
PATIENCE = ["clocksource=acpi_pm", "tsc=unstable", "rcupdate.rcu_cpu_stall_timeout=200",
            "watchdog_thresh=60"]


class Report:
    """The guest's port for results: lines out, lines in, with a hard time-out."""

    def __init__(self, stream, log):
        self.stream, self.rest = stream, b""
        self.log, self.started = open(log, "ab"), time.monotonic()

    def line(self, deadline, process):
        """The next line, or None when the guest ended or the time is over."""
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.stream], [], [], min(0.2, deadline.left()))
            if ready:
                try:
                    chunk = self.stream.recv(65536)
                except (ConnectionError, BlockingIOError):
                    chunk = b""
                if not chunk:
                    return None
                self.rest += chunk
            elif deadline.passed() or process.poll() is not None:
                return None
        line, _, self.rest = self.rest.partition(b"\n")
        self.log.write(b"%8.3f %s\n" % (time.monotonic() - self.started, line))
        self.log.flush()
        return line.decode(errors="replace").strip("\r")

    def send(self, text):
        self.stream.sendall(text.encode() + b"\n")


class Machine:
    """A running guest. `devices` are (backend, virtio id) pairs."""

    def __init__(self, folder, target, arguments, memory=256, name="guest"):
        self.folder, self.target, self.memory, self.name = folder, target, memory, name
        self.arguments = arguments
        self.kernel_log = folder / f"{name}.kernel.log"
        self.log = folder / f"{name}.out.log"
        self.report_log = folder / f"{name}.report.log"
        self.process = self.report = None
        self.extra_words, self.sockets = [], folder
        # Patterns of kernel-log lines that this test provokes.
        self.expected = []

    def command_line(self, port):
        words = [f"lab.{k}={v}" for k, v in self.arguments.items()]
        return ["loglevel=7", "panic=-1", f"lab.port={port}", *self.extra_words,
                *words]

    def kill(self):
        if self.process is not None:
            processes.kill(self.process)
            self.process = None


class UserMode(Machine):
    """User-Mode Linux: vhost-user with in-band notifications, no emulator at all."""

    def start(self, devices):
        ours, theirs = socket.socketpair()
        words = [self.target.kernel(), f"mem={self.memory}M",
                 f"initrd={images.build(self.target)}", "con0=null,fd:1",
                 f"con1=fd:{theirs.fileno()}", "con=null", "ssl=null", "console=tty0",
                 f"uml_dir={self.sockets}/", f"umid={self.name}"]
        words += [f"virtio_uml.device={b.socket}:{number}" for b, number in devices]
        words += self.command_line("tty1")
        self.process = processes.start(
            words, self.kernel_log, pass_fds=[theirs.fileno()],
            env={**os.environ, "TMPDIR": "/dev/shm"})
        theirs.close()
        self.report = Report(ours, self.report_log)
        return self


class Qemu(Machine):
    """QEMU without hardware help. `front` makes the -device words of a back-end."""

    def __init__(self, folder, target, arguments, cpus=1, extra=(), once=True, **more):
        super().__init__(folder, target, arguments, **more)
        self.cpus, self.extra, self.once = cpus, list(extra), once

    def start(self, devices):
        path = self.sockets / f"{self.name}.sock"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        arm = self.target.arch == "arm64"
        console, port = ("ttyAMA0", "ttyAMA1") if arm else ("ttyS0", "ttyS1")
        words = backends.qemu_words("qemu-system-aarch64" if arm else "qemu-system-x86_64")
        if arm:
            words += ["-M", "virt,gic-version=3,memory-backend=m", "-cpu", "cortex-a53",
                      "-global", "virtio-mmio.force-legacy=false"]
        else:
            words += ["-M", "q35,memory-backend=m", "-cpu", "max"]
        words += ["-object", f"memory-backend-memfd,id=m,size={self.memory}M,share=on",
                  "-m", str(self.memory), "-smp", str(self.cpus), "-accel", "tcg",
                  "-display", "none", "-nodefaults", "-monitor", "none",
                  "-serial", f"file:{self.kernel_log}", "-chardev",
                  f"socket,id=report,path={path}", "-serial", "chardev:report",
                  "-kernel", self.target.kernel(), "-initrd", images.build(self.target),
                  "-append", " ".join([f"console={console}", *PATIENCE, *self.command_line(port)])]
        if self.once:
            words += ["-no-reboot"]
        for number, (backend, front) in enumerate(devices):
            reconnect = ",reconnect-ms=100" if "reconnect" in front else ""
            words += ["-chardev", f"socket,id=c{number},path={backend.socket}{reconnect}",
                      "-device", front.replace(";reconnect", "") + f",chardev=c{number}"]
        words += self.extra
        self.process = processes.start(words, self.log, env=backends.qemu_environment())
        listener.settimeout(60)
        try:
            stream, _ = listener.accept()
        except TimeoutError:
            stream = None
        listener.close()
        self.report = Report(stream, self.report_log) if stream else None
        return self
