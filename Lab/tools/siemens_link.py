"""A link of the Siemens dialect with our back-end on it, and guests that join it."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import guest, kernel_log, processes
from .common import LOGS, LabError

MODULES = ["virtio_blk", "virtio_console", "virtio_rng", "virtio_net", "ext4", "af_packet"]
PROGRAMS = ["/usr/bin/fio", "/usr/sbin/mke2fs", "/usr/sbin/e2fsck", "/usr/sbin/sfdisk",
            "/usr/bin/rngtest", "/usr/bin/ping"]
# What the module says of itself, and fio of its clock; the reason stands in docs/siemens.md.
EXPECTED = [
    r"virtio_ivshmem: loading out-of-tree module", r"virtio_ivshmem: module verification failed",
    r"^\d+ .*virtio", r"Modules linked in",
]


MEMORY = 512


class Link:
    """ivshmem-sim and ivshmem-backend for one device. `vectors`: as many as the function has; intx:
    one, by pin. QEMU then takes the direct map of the sections away, and must: only an access to
    the device ends the level of its pin, and this driver's handler reads nothing but sections."""

    def __init__(self, case, name, kind, device, vectors=2, intx=False, size="4M", peer=1):
        self.case, self.name = case, name
        self.socket = case.private / f"{name}.sock"
        self.machine = case.private / f"{name}.vm"
        self.device, self.log = device, case.folder / f"{name}.backend.log"
        words = [case.programs / "ivshmem-sim", "--socket", self.socket, "--rw", size, "--output",
                 "0", "--virtio", kind, "--vectors", "1" if intx else str(vectors), "--vfio-user",
                 f"{self.machine},peer={peer}" + (",intx" if intx else "")]
        self.sim = processes.start(words, case.folder / f"{name}.sim.log")
        case.until(f"{name}: the simulator listens", self.machine.exists)
        self.supervisor = None

    def serve(self):
        """Starts the back-end under its supervisor; returns when it is ready."""
        self.pid_file = self.case.private / f"{self.name}.pid"
        words = [self.case.programs / "ivshmem-backend", "--supervise", "--background",
                 "--pid-file", self.pid_file, "--restart-delay", "1", "--link",
                 f"sim:{self.socket}", "--device", self.device, "--control",
                 f"{self.case.folder}/{self.name}.control"]
        with open(self.log, "ab") as log:
            done = subprocess.run([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, timeout=30)
        if done.returncode:
            self.case.fail(f"{self.name}: the back-end ended with {done.returncode}: "
                           f"{self.words()[-200:]}")
            return self
        self.supervisor = int(self.pid_file.read_text())
        self.case.ok(f"{self.name}: served")
        return self

    def words(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def child(self):
        """The back-end's process, or None while there is none."""
        try:
            text = open(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read()
        except OSError:
            return None
        return int(text.split()[0]) if text.split() else None

    def kill_backend(self):
        pid = self.child()
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        return bool(pid)

    def replace_backend(self):
        """SIGKILL for the back-end; returns when the next one has gone on."""
        before = self.words().count("goes on where an earlier")
        self.kill_backend()
        self.case.until(f"{self.name}: the next back-end goes on",
                        lambda: self.words().count("goes on where an earlier") > before)

    def close(self):
        if self.supervisor:
            pid, self.supervisor = self.supervisor, None
            try:
                os.kill(pid, signal.SIGTERM)
                end = processes.Deadline(20)
                while pathlib.Path(f"/proc/{pid}").exists() and not end.passed():
                    time.sleep(0.02)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        processes.kill(self.sim)


class Case:
    """One test: its links, guests, checks and logs."""

    def __init__(self, name, module, programs, kernel, rounds):
        self.name, self.module, self.programs = name, module, programs
        self.kernel, self.rounds = kernel, rounds
        self.folder = LOGS / f"siemens-{name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.private = pathlib.Path(tempfile.mkdtemp(prefix="cellmate-siemens-"))
        self.links, self.guests, self.failures, self.passed = [], [], [], 0
        self.notes = []
        self.expected = list(EXPECTED)

    def ok(self, _):
        self.passed += 1

    def fail(self, text):
        self.failures.append(text)

    def check(self, name, condition, why=""):
        if condition:
            self.passed += 1
        else:
            self.fail(f"{name}: {why}" if why else name)
        return condition

    def until(self, name, condition, seconds=30):
        end = processes.Deadline(seconds)
        while not condition():
            if end.passed():
                self.fail(f"{name}: not within {seconds} s")
                return False
            time.sleep(0.02)
        self.passed += 1
        return True

    def image(self, megabytes=64, name="disk"):
        path = self.folder / f"{name}.img"
        with open(path, "wb") as file:
            file.truncate(megabytes << 20)
        return path

    def link(self, name, kind, device, **more):
        one = Link(self, name, kind, device, **more)
        self.links.append(one)
        return one

    def boot(self, links, name="guest", insmod=True, **more):
        """A guest with the driver on these links."""
        one = guest.Guest(
            self.folder, guest.target_name("amd64", self.kernel), name=name,
            vfio_user=[l.machine for l in links], modules=MODULES, programs=PROGRAMS, iommu=False,
            memory=MEMORY,
            files={"root/virtio_ivshmem.ko": str(self.module)}, **more)
        self.guests.append(one)
        one.boot(180)
        if insmod:
            self.run(one, "the driver loads", "insmod /root/virtio_ivshmem.ko")
        return one

    def host(self, links, modules, files, iommu):
        """A guest in which our own programs run, as in a root cell."""
        name = "root"
        one = guest.Guest(
            self.folder, guest.target_name("amd64", self.kernel), name=name,
            vfio_user=[l.machine for l in links], modules=modules, programs=PROGRAMS, iommu=iommu,
            memory=MEMORY, files={**guest.our_programs("amd64"), **files})
        self.guests.append(one)
        return one.boot(180)

    def extra(self, name):
        """A file that lies beside the driver's module."""
        path = self.module.parent / name
        if not path.is_file():
            raise LabError(f"{path} is missing; linux/build makes it")
        return path

    def note(self, text):
        self.notes.append(text)

    def run(self, one, name, command, seconds=120):
        """A command in the guest that has to succeed; its output."""
        result = one.run(command, seconds)
        self.check(name, result.ok, f"status {result.status}: {result.text.strip()[-300:]}")
        return result.text

    def read_kernel_log(self, one, expected=()):
        text = one.kernel_log.read_text(errors="replace") if one.kernel_log.exists() else ""
        lines = kernel_log.complaints(text, [*self.expected, *expected])
        lines += [l for l in text.splitlines() if "backend failed" in l and not any(
            "backend failed" in e for e in expected)]
        self.check(f"{one.name}: kernel log", not lines, " | ".join(lines[:4])[:600])

    def end(self, one, expected=()):
        """Ends a guest the polite way, and reads its kernel's log."""
        self.check(f"{one.name}: powers off", one.poweroff(90))
        self.read_kernel_log(one, expected)

    def close(self, keep):
        for one in self.guests:
            one.kill()
        for one in self.links:
            one.close()
        shutil.rmtree(self.private, ignore_errors=True)
        if not self.failures and not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class Client:
    """A client of a console's socket."""

    def __init__(self, path, seconds=30):
        end = processes.Deadline(seconds)
        self.stream, self.data = socket.socket(socket.AF_UNIX), b""
        while True:
            try:
                self.stream.connect(str(path))
                break
            except OSError:
                if end.passed():
                    raise
                time.sleep(0.02)
        self.stream.settimeout(0.1)

    def send(self, data):
        self.stream.settimeout(60)
        self.stream.sendall(data)
        self.stream.settimeout(0.1)

    def until(self, text, seconds=60):
        """Reads until `text` has come; whether it did."""
        end = processes.Deadline(seconds)
        while text not in self.data and not end.passed():
            try:
                chunk = self.stream.recv(65536)
            except TimeoutError:
                continue
            if not chunk:
                break
            self.data += chunk
        return text in self.data

    def close(self):
        self.stream.close()
