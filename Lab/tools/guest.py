"""A guest that does what it is told: QEMU, a command channel with hard time-outs, files put in.

    with Guest(folder, "amd64", vfio_user=["/run/p0.sock"], modules=VFIO) as guest:
        guest.boot()
        print(guest.run("sh /lab/bind.sh vfio-pci").text)

Everything that a guest says stays in `folder`: NAME.kernel.log, NAME.out.log (QEMU's own words),
NAME.report.log (the channel, with host time). Time is the host's: a guest's clock lies under load.
"""
import base64
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile

from . import backends, images, machines, packages, processes
from .common import ROOT, STATE, LabError

VFIO = ["virtio_pci", "virtio_iommu", "vfio_iommu_type1", "vfio_pci"]
UIO = ["uio"]
UIO_GENERIC = ["uio_pci_generic"]
MODULE_SETS = {"vfio": VFIO, "uio": UIO, "uio_generic": UIO_GENERIC, "none": []}
# What the i.MX 8M Plus needs to reach its PCI express port.
IMX = ["fixed", "reset_imx7", "phy_fsl_imx8m_pcie"]
# What our programs load: the C library with its loader, and libudev, which they open by name.
LIBRARIES = {"amd64": ["/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libudev.so.1"],
             "arm64": ["/lib/ld-linux-aarch64.so.1", "/usr/lib/aarch64-linux-gnu/libudev.so.1"]}


class Result:
    """What a command did: its exit status (124 or 143: ended by the time limit) and its output."""

    def __init__(self, status, data):
        self.status, self.data = status, data

    @property
    def text(self):
        return self.data.decode(errors="replace")

    @property
    def ok(self):
        return self.status == 0


class GuestError(Exception):
    """A guest ended, or did not answer in time. One line for the user."""


def target_name(arch, kernel):
    """The lab's name of a kernel: 6.1, 6.12 (the default), newest, or cloud (amd64 alone)."""
    name = arch if kernel == "6.12" else f"{arch}-{kernel}"
    if name not in images.TARGETS:
        raise LabError(f"no kernel {kernel} for {arch}; there are 6.1, 6.12, newest, and cloud "
                       f"for amd64")
    return name


def needed_sets(arch, kernel):
    """The package sets that a guest of this kind takes from the cache."""
    target = images.TARGETS[target_name(arch, kernel)]
    return {"qemu", target.guest_set, target.kernel_set}


def our_programs(arch, folder=None):
    """{path in the guest: file} of our Embedded programs and the library that they need;
    Library/build --programs makes them."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[arch]
    folder = pathlib.Path(folder or ROOT / ".build/library" / machine / "bin")
    found = {f"usr/bin/{p.name}": p for p in sorted(folder.glob("ivshmem*"))}
    if not found:
        raise LabError(f"no programs in {folder}; run Library/build --arch {machine} --programs")
    library = folder.parent / "lib/libcellmate.so.0"
    if library.exists():
        found[f"usr/lib/{library.name}"] = library.resolve()
    return found


class Guest:
    """One machine. `vfio_user` are sockets of ivshmem-sim, one PCI device each, in their order.
    `files` is {path in the guest: file here, or bytes}; `programs` are paths of Debian programs of
    the guest's package set, taken along with their libraries; `modules` are loaded at the start,
    with what they depend on. `iommu` gives the guest an IOMMU, which vfio-pci needs."""

    def __init__(self, folder, target, name="guest", vfio_user=(), modules=VFIO, files=None,
                 programs=(), memory=256, cpus=1, iommu=True, machine=None, words=(), extra=(),
                 reboot=False):
        self.folder, self.target, self.name = pathlib.Path(folder), images.TARGETS[target], name
        self.vfio_user, self.modules, self.files = list(vfio_user), list(modules), dict(files or {})
        self.programs, self.memory, self.cpus = list(programs), memory, cpus
        self.arm = self.target.arch == "arm64"
        self.machine = machine or ("virt" if self.arm else "pc")
        self.iommu = iommu and self.machine != "imx8mp-evk"
        self.words, self.extra, self.reboot = list(words), list(extra), reboot
        self.kernel_log = self.folder / f"{name}.kernel.log"
        self.log = self.folder / f"{name}.out.log"
        self.process = self.report = None
        self.number, self.failures = 0, []
        self.private = pathlib.Path(tempfile.mkdtemp(prefix="cellmate-lab-"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    # Starting

    def start(self):
        """Starts QEMU; `wait_ready` follows. Two guests boot side by side that way."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.private / "report.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.process = processes.start(self.command(path), self.log,
                                       env=backends.qemu_environment())
        return self

    def boot(self, seconds=120):
        self.start()
        return self.wait_ready(seconds)

    def wait_ready(self, seconds=120):
        """Until the guest takes commands; also after a reset."""
        end = processes.Deadline(seconds)
        if self.report is None:
            self.listener.settimeout(0.1)
            while self.report is None:
                try:
                    stream, _ = self.listener.accept()
                    self.report = machines.Report(stream, self.folder / f"{self.name}.report.log")
                except TimeoutError:
                    if end.passed() or self.process.poll() is not None:
                        raise GuestError(self.why("QEMU did not start", end)) from None
            self.listener.close()
        while (line := self.report.line(end, self.process)) != "@lab ready":
            if line is None:
                raise GuestError(self.why("the guest did not come up", end))
            if line.startswith("@lab fail "):
                self.failures.append(f"{self.name}: {line[10:]}")
        return self

    def why(self, what, end):
        """One line: what happened, and the last words of QEMU or of the kernel."""
        status = None
        try:
            status = self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            pass
        words = "the time is over" if end.passed() else (
            "no answer" if status is None else f"QEMU ended with status {status}")
        for path in (self.log, self.kernel_log):
            lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
            if lines:
                words += f"; {path.name}: {lines[-1].strip()[:200]}"
                break
        return f"{self.name}: {what}: {words}"

    def command(self, path):
        """QEMU's command line."""
        program = "qemu-system-aarch64" if self.arm else "qemu-system-x86_64"
        console, port = {"pc": ("ttyS0", "ttyS1"), "virt": ("ttyAMA0", "ttyAMA1"),
                         "imx8mp-evk": ("ttymxc1", "ttymxc2")}[self.machine]
        words = [*backends.qemu_words(program), *self.board()]
        words += ["-smp", str(self.cpus), "-accel", "tcg", "-display", "none", "-monitor", "none"]
        if self.machine != "imx8mp-evk":
            words += ["-nodefaults"]
        if self.machine == "imx8mp-evk":
            words += ["-serial", "null"]
        words += ["-serial", f"file:{self.kernel_log}", "-chardev",
                  f"socket,id=report,path={path}", "-serial", "chardev:report",
                  "-kernel", self.target.kernel(), "-initrd", self.initrd(), "-append",
                  " ".join([f"console={console}", *machines.PATIENCE, "loglevel=7", "panic=-1",
                            f"lab.port={port}", "lab.test=commands", *self.kernel_words()])]
        if not self.reboot:
            words += ["-no-reboot"]
        for at in self.vfio_user:
            words += ["-device", json.dumps({"driver": "vfio-user-pci", "socket": {
                "type": "unix", "path": str(at)}})]
        return words + self.extra

    def board(self):
        if self.machine == "imx8mp-evk":
            return ["-M", "imx8mp-evk", "-m", "1G", "-dtb", self.imx_tree()]
        if self.machine == "virt":
            words = ["-M", "virt,gic-version=3", "-cpu", "cortex-a53", "-m", str(self.memory)]
            # QEMU's SMMUv3 refuses a vfio-user device: it cannot tell of new mappings.
            return words + (["-device", "virtio-iommu-pci"] if self.iommu else [])
        words = ["-M", "q35", "-cpu", "max", "-m", str(self.memory)]
        # Without caching-mode QEMU ends when the guest switches the IOMMU on.
        return words + (["-device", "intel-iommu,intremap=on,caching-mode=on"]
                        if self.iommu else [])

    def kernel_words(self):
        if self.arm:
            return self.words
        # On a busy host the timer's interrupt comes too late for the kernel's test of it.
        return [*self.words, "no_timer_check", *(["intel_iommu=on"] if self.iommu else [])]

    def imx_tree(self):
        """The board's tree of the kernel's package, without a property that needs a driver which
        Debian does not build."""
        root = packages.bundle(self.target.kernel_set)
        source = next(root.rglob("imx8mp-evk.dtb"), None)
        if source is None or not shutil.which("fdtput"):
            raise LabError("imx8mp-evk.dtb or fdtput is missing: apt-get install "
                           "device-tree-compiler")
        copy = self.private / "board.dtb"
        shutil.copy(source, copy)
        subprocess.run(["fdtput", "-d", copy, "/soc@0/bus@32c00000/blk-ctrl@32f10000",
                        "interconnects", "interconnect-names"], check=True, timeout=20)
        return copy

    def initrd(self):
        modules = ([*IMX] if self.machine == "imx8mp-evk" else []) + self.modules
        programs = self.programs + (LIBRARIES[self.target.arch] if self.files else [])
        base = images.small(self.target, modules, programs)
        if not self.files:
            return base
        out = self.private / "initrd.cpio"
        with open(out, "wb") as f:
            f.write(base.read_bytes() + images.extra(self.files))
        return out

    # Talking

    def send(self, line):
        try:
            self.report.send(line)
        except OSError:
            raise GuestError(self.why("it takes no commands", processes.Deadline(1))) from None

    def tell(self, verb, seconds, command):
        """Sends a command until the guest has it whole; returns its number. The lines
        that come after it are left for `answer`."""
        self.number += 1
        code = base64.b64encode(command.encode()).decode()
        for _ in range(8):
            self.send(f"{verb} {self.number} {seconds} {len(code)} {code}")
            end = processes.Deadline(10)
            while line := self.report.line(end, self.process):
                if line == f"@lab got {self.number}":
                    return self.number
                if line == "@lab what":
                    break
        raise GuestError(self.why(f"it does not take '{command[:80]}'", processes.Deadline(1)))

    def answer(self, number, seconds, command):
        """The result of a command that the guest has."""
        data, end = b"", processes.Deadline(seconds * 1.5 + 30)
        while True:
            line = self.report.line(end, self.process)
            if line is None:
                raise GuestError(self.why(f"'{command[:80]}' did not end", end))
            if line.startswith(f"@lab out {number} "):
                data += base64.b64decode(line.split(" ", 3)[3])
            elif line.startswith(f"@lab result {number} "):
                return Result(int(line.split()[3]), data)

    def run(self, command, seconds=60, check=False):
        """Runs a shell command in the guest and returns its result. `check`: a status other than 0
        is an error."""
        result = self.answer(self.tell("run", seconds, command), seconds, command)
        if check and not result.ok:
            raise GuestError(f"{self.name}: '{command[:80]}': status {result.status}: "
                             f"{result.text.strip()[-300:]}")
        return result

    def spawn(self, command):
        """Starts a command in the background and returns its number; see `job`."""
        number = self.tell("start", 0, command)
        self.answer(number, 30, command)
        return number

    def job(self, number):
        """(exit status or None while it runs, output so far) of a background command."""
        text = self.run(f"if [ -s /tmp/job.{number}.status ]; then s=$(cat /tmp/job.{number}.status); "
                        f"else s=running; fi; cat /tmp/job.{number}; echo; echo $s").text
        output, _, status = text.rstrip("\n").rpartition("\n")
        return (None if status == "running" else int(status)), output.rstrip("\n")

    def signal(self, number, name="TERM"):
        """Sends a signal to a background command; one that began with "exec" is the program."""
        return self.run(f"kill -{name} $(cat /tmp/job.{number}.pid)")

    def bind(self, driver):
        """Gives all ivshmem devices to a driver; returns their PCI addresses."""
        text = self.run(f"sh /lab/bind.sh {driver}", check=True).text
        return [line.split()[0] for line in text.splitlines()]

    def poweroff(self, seconds=60):
        """Ends the guest the polite way; True when it did."""
        clean = False
        if self.report is None or self.process.poll() is not None:
            self.kill()
            return False
        try:
            for _ in range(4):
                self.send("end")
                try:
                    self.process.wait(seconds / 4)
                    clean = True
                    break
                except subprocess.TimeoutExpired:
                    pass
        except GuestError:
            pass
        self.kill()
        return clean

    def kill(self):
        if self.process is not None:
            processes.kill(self.process)
            self.process = None
        shutil.rmtree(self.private, ignore_errors=True)


def folder(name):
    """A fresh folder for the logs of a guest that is started by hand."""
    path = STATE / "logs" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
