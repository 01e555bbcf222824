"""Back-ends: ours, and qemu-storage-daemon as the one to compare with."""
import json
import os
import time

from . import packages, processes
from .common import ROOT, LabError


def qemu_words(program):
    """The command line that runs a program of the private QEMU with its own libraries."""
    root = packages.bundle("qemu")
    libraries = root / "usr/lib/x86_64-linux-gnu"
    words = [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries, "--argv0", program,
             root / "usr/bin" / program]
    if program.startswith("qemu-system"):
        for folder in ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"):
            words += ["-L", root / folder]
    return words


def qemu_environment():
    root = packages.bundle("qemu")
    return {**os.environ, "QEMU_MODULE_DIR": str(root / "usr/lib/x86_64-linux-gnu/qemu")}


class Block:
    """A block device to serve: a raw file."""

    def __init__(self, file, readonly=False, queues=1):
        self.file, self.readonly, self.queues = file, readonly, queues


class Backend:
    """One back-end process with one socket and one device."""

    def __init__(self, kind, folder, name, device, sockets=None, aio="threads"):
        self.kind, self.device, self.name, self.aio = kind, device, name, aio
        self.socket = (sockets or folder) / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self.process = None
        self.starts = 0
        # What our back-end printed when it ended, as a dictionary.
        self.counters = {}

    def words(self):
        d = self.device
        if self.kind == "qsd":
            if not isinstance(d, Block):
                raise LabError("qemu-storage-daemon serves block devices only")
            access = "off" if d.readonly else "on"
            return qemu_words("qemu-storage-daemon") + [
                "--blockdev", f"driver=file,node-name=f,filename={d.file},discard=unmap,aio={self.aio},"
                f"read-only={'on' if d.readonly else 'off'}",
                "--export", f"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,"
                f"addr.path={self.socket},writable={access},num-queues={d.queues},"
                f"writethrough=off"]
        program = ROOT / ".build/release/ivshmem-backend"
        if not program.exists():
            raise LabError("ivshmem-backend is not built; run ./dev vm, which builds it")
        return [program, "--json", "--vhost-user", self.socket, "--device", self.specification()]

    def specification(self):
        d = self.device
        if isinstance(d, Block):
            return f"block,file={d.file}" + (",readonly" if d.readonly else "") + (
                f",queues={d.queues}" if d.queues > 1 else "")
        return d

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.process = processes.start(self.words(), self.log, env=qemu_environment())
        self.starts += 1
        self.wait()
        return self

    def wait(self, seconds=60):
        """Until the socket exists. Nobody connects for a look: that would be a session."""
        end = processes.Deadline(seconds)
        while not self.socket.exists():
            if self.process.poll() is not None or end.passed():
                text = self.log.read_text(errors="replace").strip().splitlines()
                raise LabError(f"{self.name}: the back-end did not start: " + (
                    text[-1] if text else f"status {self.process.poll()}"))
            time.sleep(0.002)

    def kill(self):
        processes.kill(self.process)

    def restart(self):
        """SIGKILL in the middle of whatever it does, and a new process."""
        self.kill()
        return self.start()

    def stop(self):
        """Ends it the polite way; a string says what was wrong, also what it counted as wrong."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is not None:
            return f"the back-end ended by itself with status {process.returncode}"
        if not processes.stop(process):
            return "the back-end did not end on SIGTERM"
        if process.returncode not in (0, -15):
            return f"the back-end ended with status {process.returncode}"
        return self.read_counters() if self.kind == "ours" else None

    def read_counters(self):
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        try:
            link = json.loads(last[0])
            device, = link["devices"]
        except (IndexError, KeyError, ValueError):
            return "the back-end printed no counters"
        self.counters = {**link, **device}
        for name in ("violations", "queueErrors", "malformed"):
            if self.counters.get(name, 0):
                return f"the back-end counted {self.counters[name]} {name}"
        return None
