"""The judges of whole links: a back-end at one end, our front-end tools at the other, and a real
kernel with a real PCI device under at least one of them."""
import json

from . import guest
from .links import BackEnd, Host, Machine, Simulator, boot

MIB = 1 << 20


def digest(place, path, mebibytes=None):
    """sha256 of a file, or of its first part."""
    if mebibytes is None:
        return place.run(f"sha256sum < {path}", 120, check=True).text.split()[0]
    return place.run(f"head -c {mebibytes * MIB} {path} | sha256sum", 120, check=True).text.split()[0]


def tool(place, words, seconds=120):
    return place.run(f"ivshmem frontend {words}", seconds)


class Traffic:
    """Disk, console and random numbers over one link, all compared with what went in."""

    def __init__(self, session, back, front, size=8, folder="/tmp"):
        self.session, self.back, self.front, self.size = session, back, front, size
        self.back_folder = folder if not isinstance(back, Host) else back.folder
        self.front_folder = folder if not isinstance(front, Host) else front.folder
        self.image = f"{self.back_folder}/disk.img"
        self.log, self.terminal = f"{self.back_folder}/port.log", f"{self.back_folder}/terminal"
        self.server = BackEnd(back, f"block,file={self.image}",
                              f"console,pty={self.terminal},log={self.log},name=lab.log", "entropy")

    def run(self):
        make = f"dd if=/dev/urandom of={self.image} bs=1M count={self.size} 2>/dev/null"
        self.back.run(make, 120, check=True)
        self.server.start().wait()
        self.block()
        self.console()
        self.entropy()
        self.status()
        self.server.stop(self.session)

    def passes(self, words, what, seconds=120):
        """Runs a front-end tool that has to succeed; returns its output."""
        result = tool(self.front, words, seconds)
        self.session.check(result.ok, f"{what}: status {result.status}: {result.text[-300:]}")
        return result

    def figures(self, words, what, seconds=120):
        """The same with the JSON object that it prints."""
        result = self.passes(f"{words} --json", what, seconds)
        for line in result.text.splitlines():
            if line.startswith("{"):
                return json.loads(line)
        return {}

    def block(self):
        link, session = self.front.link, self.session
        info = self.figures(f"block info --link {link}", "block info")
        session.check(info.get("bytes") == self.size * MIB, f"the disk has {info.get('bytes')} bytes")
        copy = f"{self.front_folder}/copy.img"
        done = self.figures(f"block read --link {link} --file {copy}", "block read")
        session.values["read MB/s"] = rate(done)
        session.check(digest(self.front, copy) == digest(self.back, self.image),
                      "what the front-end read is not what the disk holds")
        half = self.size // 2
        part = f"{self.front_folder}/part.img"
        self.front.run(f"dd if=/dev/urandom of={part} bs=1M count={half} 2>/dev/null", check=True)
        done = self.figures(f"block write --link {link} --file {part} --size 32K", "block write")
        session.values["write MB/s"] = rate(done)
        session.check(digest(self.front, part) == digest(self.back, self.image, half),
                      "what the front-end wrote is not what the disk holds")
        trip = self.figures(f"block roundtrip --link {link} --count 500", "block roundtrip")
        session.values["round trip us"] = round(trip.get("medianNanoseconds", 0) / 1000)

    def console(self):
        link, session = self.front.link, self.session
        text = f"{self.front_folder}/text"
        self.front.run(f"head -c 98304 /dev/urandom | base64 > {text}", check=True)
        result = self.front.run(f"ivshmem frontend console --link {link} --slot 1 --port 1 "
                                f"--linger 1 < {text}", 120)
        session.check(result.ok, f"console, to the log: {result.text[-300:]}")
        session.check(digest(self.front, text) == digest(self.back, self.log),
                      "the log is not what the front-end wrote")
        # Somebody at the terminal: what a reader gets, and what a writer sends.
        listener = self.front.spawn(f"ivshmem frontend console --link {link} --slot 1 --linger 5 "
                                    f"< /dev/null")
        self.back.run(f"exec 3<>{self.terminal}; stty raw -echo <&3; sleep 1; "
                      f"echo 'the terminal speaks' >&3; sleep 3", 60)
        found = wait_for(self.front, listener, "the terminal speaks")
        session.check(found, "the front-end did not hear the terminal")

    def entropy(self):
        link, session = self.front.link, self.session
        file = f"{self.front_folder}/random"
        result = self.front.run(f"ivshmem frontend entropy --link {link} --slot 2 --bytes 256K "
                                f"--quiet > {file} && wc -c < {file} && gzip -c {file} | wc -c", 120)
        words = result.text.split()
        session.check(result.ok and words[:1] == ["262144"] and int(words[1]) > 262144,
                      f"random numbers: status {result.status}, {' '.join(words)[-200:]}")

    def status(self):
        result = self.back.run(f"ivshmem backend status --control {self.server.control}")
        self.session.check(result.ok, f"backend status: {result.text[-300:]}")


def rate(done):
    return round(done.get("bytes", 0) * 1000 / max(1, done.get("nanoseconds", 1)), 1)


def wait_for(place, job, text, seconds=30):
    from .processes import Deadline
    end = Deadline(seconds)
    while not end.passed():
        status, words = place.job(job)
        if text in words:
            return True
        if status is not None:
            return False
    return False


def two_machines(session, target="amd64", vectors=4, options="", **more):
    """Back-end in one machine, front-end in the other; vfio-pci with MSI-X unless told."""
    sim = Simulator(session, vectors=vectors, options=options)
    back = Machine(session, target, [sim.machines[0]], name="back", **more)
    front = Machine(session, target, [sim.machines[1]], name="front", **more)
    boot(back, front)
    session.notes.append(f"Linux {back.target.version()}")
    Traffic(session, back, front).run()


def old_kernel(session):
    two_machines(session, "amd64-6.1")


def newest_kernel(session):
    two_machines(session, "amd64-newest")


def host_and_machine(session):
    """The back-end is a process of this host, the front-end a machine."""
    sim = Simulator(session, machines=[1])
    front = Machine(session, "amd64-cloud", [sim.machines[1]], name="front")
    boot(front)
    Traffic(session, Host(session, sim.link), front).run()


def machine_and_host(session):
    """The other way round."""
    sim = Simulator(session, machines=[0])
    back = Machine(session, "amd64-cloud", [sim.machines[0]], name="back")
    boot(back)
    Traffic(session, back, Host(session, sim.link)).run()


def arm64(session):
    """arm64 virt behind a virtio-iommu: vfio maps the memory as Device memory, where an unaligned
    access or the C library's memcpy is a SIGBUS."""
    two_machines(session, "arm64")


def uio(session):
    """Our UIO driver on a stock kernel, MSI-X, no IOMMU."""
    two_machines(session, driver="uio_ivshmem")


def uio_one_vector(session):
    """The same where everything comes on one vector."""
    two_machines(session, driver="uio_ivshmem", vectors=1)


def uio_newest(session):
    two_machines(session, "amd64-newest", driver="uio_ivshmem")


def uio_old(session):
    two_machines(session, "amd64-6.1", driver="uio_ivshmem")


def uio_arm64(session):
    two_machines(session, "arm64", driver="uio_ivshmem")


def board(session):
    """An emulated i.MX 8M Plus EVK with Debian's kernel and its real PCI express driver, which has
    no IOMMU: MSI through our UIO driver, data through BAR 2. The front-end is a process here."""
    sim = Simulator(session, machines=[0])
    back = Machine(session, "arm64", [sim.machines[0]], driver="uio_ivshmem", name="board",
                   machine="imx8mp-evk")
    boot(back)
    session.check("i.MX8MPlus" in back.run("cat /proc/device-tree/model").text,
                  "the board does not say that it is an i.MX 8M Plus")
    Traffic(session, back, Host(session, sim.link)).run()
