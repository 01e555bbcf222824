"""One test: its folder, its back-ends and guests, its verdict."""
import os
import pathlib
import shutil
import subprocess
import tempfile

from . import backends, kernel_log, machines, packages, processes
from .common import LOGS, LabError


class Session:
    """What a test function gets. Failures are collected; the test goes on where it can."""

    def __init__(self, name, kind, limit, rounds=5):
        self.name, self.kind = name, kind
        self.deadline = processes.Deadline(limit)
        self.limit, self.rounds = limit, rounds
        self.folder = LOGS / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        # A socket's path has to be short, a checkout's need not be.
        self.sockets = pathlib.Path(tempfile.mkdtemp(prefix="cellmate-lab-"))
        self.temporary = [self.sockets]
        self.failures, self.passed, self.values, self.notes = [], 0, {}, []
        self.backends, self.machines = [], []
        # What else has to be ended, last come first: anything with stop(), which may complain.
        self.others = []

    def fail(self, text):
        self.failures.append(text)

    def check(self, condition, text):
        if condition:
            self.passed += 1
        else:
            self.fail(text)

    def image(self, name, mebibytes, in_memory=False):
        """A file of zeroes, sparse."""
        folder = self.folder
        if in_memory:
            folder = pathlib.Path(tempfile.mkdtemp(prefix="cellmate-lab-", dir="/dev/shm"))
            self.temporary.append(folder)
        path = folder / name
        with open(path, "wb") as f:
            f.truncate(mebibytes << 20)
        return path

    def file_system(self, name, mebibytes):
        """An ext4 image with a file and its digest, made by the guest's own mke2fs."""
        source = self.folder / "source"
        source.mkdir()
        (source / "data").write_bytes(os.urandom(1 << 20))
        digest = subprocess.run(["sha256sum", "data"], cwd=source, capture_output=True, check=True)
        (source / "sum").write_bytes(digest.stdout)
        path = self.image(name, mebibytes)
        root = packages.bundle("guest-amd64")
        libraries = root / "usr/lib/x86_64-linux-gnu"
        done = subprocess.run(
            [libraries / "ld-linux-x86-64.so.2", "--library-path", libraries,
             root / "usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", source, path],
            capture_output=True, text=True, timeout=60, env={**os.environ, "MKE2FS_CONFIG": "/dev/null"})
        if done.returncode:
            raise LabError(f"mke2fs: {done.stderr.strip()}")
        return path

    def backend(self, name, device):
        one = backends.Backend(self.kind, self.folder, name, device, self.sockets).start()
        self.backends.append(one)
        return one

    def boot(self, machine, devices, handlers=None, boots=1):
        """Starts a guest, reads its report to the end, judges its kernel log. `handlers` are
        called at the points where the guest says "at"; `boots` is how often init has to start."""
        self.machines.append(machine)
        machine.sockets = self.sockets
        machine.start(devices)
        done, seen = False, 0
        while machine.report is not None and not done:
            line = machine.report.line(self.deadline, machine.process)
            if line is None:
                break
            kind, _, rest = line.removeprefix("@lab ").partition(" ")
            if not line.startswith("@lab "):
                continue
            if kind == "ok":
                self.passed += 1
            elif kind == "fail":
                self.fail(f"{machine.name}: {rest}")
            elif kind == "value":
                key, _, value = rest.partition(" ")
                self.values[key] = value
            elif kind == "at":
                self.at(machine, rest, handlers or {})
            elif kind == "note":
                seen += rest.startswith("boot ")
                self.notes.append(f"{machine.name}: {rest}")
            elif kind == "done":
                done = True
        self.end(machine, done)
        self.check(seen == boots, f"{machine.name}: started {seen} times instead of {boots}")

    def kill_at(self, machine, devices, point):
        """Starts a guest and kills it when it says "at `point`"."""
        self.machines.append(machine)
        machine.sockets = self.sockets
        machine.start(devices)
        line = ""
        while line is not None and line != f"@lab at {point}":
            line = machine.report.line(self.deadline, machine.process)
        self.check(line is not None, f"{machine.name}: it never came to the point '{point}'")
        machine.kill()

    def at(self, machine, point, handlers):
        name, _, rest = point.partition(" ")
        if name not in handlers:
            self.fail(f"{machine.name}: nobody waits for the point '{name}'")
            return
        handlers[name](rest)

    def end(self, machine, done):
        if not done:
            why = "the time is over" if self.deadline.passed() else "it ended early"
            try:
                why += f", status {machine.process.wait(1)}"
            except subprocess.TimeoutExpired:
                pass
            if machine.report is None:
                why = "it never opened its report port"
            self.fail(f"{machine.name}: the guest did not finish: {why}")
        else:
            try:
                machine.process.wait(min(60, self.deadline.left() + 1))
            except subprocess.TimeoutExpired:
                self.fail(f"{machine.name}: no power-off after its last line")
        machine.kill()
        text = machine.kernel_log.read_text(errors="replace") if machine.kernel_log.exists() else ""
        self.check(len(text) > 200, f"{machine.name}: the kernel log is empty")
        lines = kernel_log.complaints(text, machine.expected)
        for line in lines[:8]:
            self.fail(f"{machine.name}: kernel: {line}")
        if not lines:
            self.passed += 1

    def stop(self, backend):
        """Ends a back-end and judges how it ended; what it counted is there after that."""
        problem = backend.stop()
        if problem:
            self.fail(f"{backend.name}: {problem}")

    def close(self, keep):
        for machine in self.machines:
            machine.kill()
        for one in self.backends:
            self.stop(one)
        for one in reversed(self.others):
            problem = one.stop()
            if problem:
                self.fail(problem)
        for folder in self.temporary:
            shutil.rmtree(folder, ignore_errors=True)
        if not (keep or self.failures):
            shutil.rmtree(self.folder, ignore_errors=True)
