"""A simulated link for virtual machines and processes, and what runs at its ends."""
import json
import os
import subprocess
import time

from . import guest, images, kernel_log, processes
from .common import ROOT, LabError

PROGRAMS = ROOT / ".build/library/x86_64/bin"


def simulator():
    program = ROOT / ".build/release/ivshmem-sim"
    if not program.exists():
        raise LabError("ivshmem-sim is not built; run ./dev vm, which builds it")
    return program


class Simulator:
    """ivshmem-sim with a vfio-user socket for each peer in `machines`; the other peers are free
    for processes of this host, at `link`."""

    def __init__(self, session, machines=(0, 1), vectors=4, peers=2, output="4M", rw="0",
                 options="", name="sim", extra=()):
        self.session, self.name = session, name
        self.socket = session.sockets / f"{name}.sock"
        self.log = session.folder / f"{name}.log"
        self.machines = {peer: session.sockets / f"{name}-{peer}.sock" for peer in machines}
        self.words = [simulator(), "--socket", self.socket, "--peers", peers, "--vectors", vectors,
                      "--output", output, "--rw", rw, *extra]
        for peer, path in self.machines.items():
            self.words += ["--vfio-user", f"{path},peer={peer}{options}"]
        self.process = processes.start(self.words, self.log)
        end = processes.Deadline(30)
        while not all(p.exists() for p in [self.socket, *self.machines.values()]):
            if self.process.poll() is not None or end.passed():
                text = self.log.read_text(errors="replace").strip().splitlines()
                raise LabError(f"ivshmem-sim did not start: {text[-1] if text else 'no words'}")
            time.sleep(0.005)
        session.others.append(self)

    @property
    def link(self):
        return f"sim:{self.socket}"

    def stop(self):
        """Ends it; a string says what was wrong with its life."""
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is not None:
            return f"{self.name}: ended by itself with status {process.returncode}"
        if not processes.stop(process):
            return f"{self.name}: did not end on SIGTERM"
        return None if process.returncode in (0, -15) else f"{self.name}: status {process.returncode}"


class Host:
    """This machine as one end of a link, with the interface of a guest."""

    def __init__(self, session, link, name="host"):
        self.session, self.link, self.name = session, link, name
        self.folder = session.folder / name
        self.folder.mkdir(exist_ok=True)
        self.jobs = {}
        self.environment = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}

    def run(self, command, seconds=60, check=False):
        try:
            done = subprocess.run(["sh", "-c", command], cwd=self.folder, timeout=seconds,
                                  env=self.environment, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            result = guest.Result(done.returncode, done.stdout)
        except subprocess.TimeoutExpired as error:
            result = guest.Result(124, error.stdout or b"")
        if check and not result.ok:
            raise guest.GuestError(f"{self.name}: '{command[:80]}': status {result.status}: "
                                   f"{result.text.strip()[-300:]}")
        return result

    def spawn(self, command):
        number = len(self.jobs) + 1
        self.jobs[number] = processes.start(["sh", "-c", command],
                                            self.folder / f"job.{number}", cwd=self.folder,
                                            env=self.environment)
        return number

    def job(self, number):
        text = (self.folder / f"job.{number}").read_text(errors="replace")
        return self.jobs[number].poll(), text.strip()

    def signal(self, number, name="TERM"):
        subprocess.run(["kill", f"-{name}", str(self.jobs[number].pid)], check=False)

    def stop(self):
        for process in self.jobs.values():
            processes.kill(process)


def driver_module(target):
    """Our uio_ivshmem driver for a target's kernel; linux/build makes it with Debian's compiler."""
    done = subprocess.run([ROOT / "linux/build", target.version()], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=600)
    if done.returncode:
        raise LabError(f"linux/build {target.version()}: {done.stderr.strip()[-300:]}")
    return done.stdout.split()[-1]


class Machine(guest.Guest):
    """A guest of a session: its programs are ours, its link is the device at its first socket.
    With the driver uio_ivshmem it needs no IOMMU."""

    def __init__(self, session, target, sockets, driver="vfio-pci", name="guest", **more):
        modules = {"vfio-pci": guest.VFIO, "uio_ivshmem": guest.UIO}.get(driver, [])
        files = {**guest.our_programs("arm64" if target.startswith("arm64") else "amd64"),
                 **more.pop("files", {})}
        if driver == "uio_ivshmem":
            files["root/uio_ivshmem.ko"] = driver_module(images.TARGETS[target])
        super().__init__(session.folder, target, name=name, vfio_user=sockets, files=files,
                         modules=[*more.pop("modules", []), *modules],
                         iommu=driver == "vfio-pci", **more)
        self.driver, self.session, self.link = driver, session, None
        self.devices, self.checked = [], False
        # Patterns of kernel-log lines that this test provokes.
        self.expected = []
        session.others.append(self)

    def ready(self):
        """Waits for the guest and gives its devices to the driver."""
        self.wait_ready()
        for text in self.failures:
            self.session.fail(text)
        if self.driver == "uio_ivshmem":
            self.run("insmod /root/uio_ivshmem.ko", check=True)
        self.devices = self.bind(self.driver)
        kind = {"vfio-pci": "vfio", "uio_ivshmem": "uio"}[self.driver]
        self.link = f"{kind}:{self.devices[0]}"
        return self

    def stop(self):
        """Ends it; a string says what was wrong: no power-off, or lines of its kernel."""
        if self.process is None:
            return None
        clean = self.poweroff()
        text = self.kernel_log.read_text(errors="replace") if self.kernel_log.exists() else ""
        lines = kernel_log.complaints(text, self.expected)
        for line in lines[:8]:
            self.session.fail(f"{self.name}: kernel: {line}")
        return None if clean else f"{self.name}: no power-off"


def boot(*machines):
    """Boots machines side by side: two take hardly longer than one."""
    for one in machines:
        one.start()
    for one in machines:
        one.ready()


class BackEnd:
    """ivshmem-backend at one end. `devices` are --device values."""

    def __init__(self, place, *devices, name="backend"):
        self.place, self.devices, self.name = place, devices, name
        self.control = f"/tmp/{name}.ctl" if isinstance(place, Machine) else (
            f"{place.session.sockets}/{name}.ctl")
        self.number = None

    def start(self):
        words = " ".join(f"--device {d}" for d in self.devices)
        self.number = self.place.spawn(
            f"exec ivshmem-backend --link {self.place.link} {words} --control {self.control} --json")
        return self

    def wait(self, seconds=60):
        """Until it answers at its control socket."""
        end = processes.Deadline(seconds)
        while True:
            if self.place.run(f"ivshmem backend status --control {self.control}").ok:
                return self
            status, text = self.place.job(self.number)
            if status is not None or end.passed():
                raise guest.GuestError(f"{self.place.name}: the back-end did not start (status "
                                       f"{status}): {text.strip()[-300:]}")
            time.sleep(0.1)

    def stop(self, session):
        """SIGTERM; judges how it ended and what it counted."""
        self.place.signal(self.number)
        end = processes.Deadline(60)
        status, text = self.place.job(self.number)
        while status is None and not end.passed():
            time.sleep(0.1)
            status, text = self.place.job(self.number)
        session.check(status == 0, f"the back-end ended with status {status}: {text[-300:]}")
        links = []
        for line in text.splitlines():
            if line.startswith("{"):
                links.append(json.loads(line))
        session.check(links, "the back-end printed no counters")
        for link in links:
            for part in [link, *link.get("devices", [])]:
                for name in ("violations", "queueErrors", "malformed"):
                    session.check(not part.get(name, 0),
                                  f"the back-end counted {part.get(name)} {name}")
        return links
