"""The judges of whole links: a back-end at one end, our front-end tools at the other, and a real
kernel with a real PCI device under at least one of them."""
import json
import struct
import subprocess

from . import processes
from .common import LAB
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
        # Somebody at the terminal says the same again and again, until it was heard.
        speaker = self.back.spawn(f"exec sh -c 'exec 3<>{self.terminal}; stty raw -echo <&3; while "
                                  f"sleep 0.3; do echo the terminal speaks >&3; done'")
        result = self.front.run(
            f"ivshmem frontend console --link {link} --slot 1 --linger 600 --quiet </dev/null "
            f">{self.front_folder}/heard & tool=$!; left=200; until grep -q 'terminal speaks' "
            f"{self.front_folder}/heard || [ $left = 0 ]; do left=$((left - 1)); sleep 0.1; done; "
            f"kill $tool; wait $tool; grep -c 'terminal speaks' {self.front_folder}/heard", 60)
        session.check(result.ok, f"the front-end did not hear the terminal: {result.text[-200:]}")
        self.back.signal(speaker)

    def entropy(self):
        link, session = self.front.link, self.session
        file = f"{self.front_folder}/random"
        result = self.front.run(f"ivshmem frontend entropy --link {link} --slot 2 --bytes 256K "
                                f"--quiet > {file} && wc -c < {file} && gzip -1 -c {file} | wc -c", 120)
        words = result.text.split()
        session.check(result.ok and words[:1] == ["262144"] and int(words[1]) > 260000,
                      f"random numbers: status {result.status}, {' '.join(words)[-200:]}")

    def status(self):
        result = self.back.run(f"ivshmem backend status --control {self.server.control}")
        self.session.check(result.ok, f"backend status: {result.text[-300:]}")


def rate(done):
    return round(done.get("bytes", 0) * 1000 / max(1, done.get("nanoseconds", 1)), 1)


def wait_for(place, job, text, seconds=30):
    end = processes.Deadline(seconds)
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


def board_line(session):
    """The board with INTx, where QEMU traps every access to the shared memory: identity, states and
    doorbells only, through our UIO driver."""
    sim = Simulator(session, machines=[0], vectors=1, options=",intx")
    back = Machine(session, "arm64", [sim.machines[0]], driver="uio_ivshmem", name="board",
                   machine="imx8mp-evk")
    boot(back)
    text = back.run("cat /proc/interrupts").text
    session.check("uio_ivshmem" in text and "MSI" not in next(
        t for t in text.splitlines() if "uio_ivshmem" in t), "the board does not use INTx")
    ping(session, back, Host(session, sim.link), 0, 200)


def ping(session, answers, rings, vector, count):
    """Doorbells both ways, and the states that go before and after them."""
    job = answers.spawn(f"exec ivshmem ping {answers.link} --answer --vector {vector} --patience 30 --json")
    found, result = json_of(rings, f"ivshmem ping {rings.link} --count {count} --vector {vector} "
                                   f"--patience 30")
    session.check(result.ok and found.get("received") == count and found.get("failure") is None,
                  f"ping: status {result.status}: {result.text[-300:]}")
    answers.signal(job)
    end = processes.Deadline(30)
    status, text = answers.job(job)
    while status is None and not end.passed():
        status, text = answers.job(job)
    session.check(status == 130 and f'"answered":{count},' in text, f"ping --answer: status {status}: {text[-200:]}")
    session.values["ping us"] = round(found.get("p50Ns", 0) / 1000)


def commands(session):
    """What `ivshmem` says in a guest about a device that was described here."""
    sim = Simulator(session, output="1M", rw="64K", vectors=3)
    vfio = Machine(session, "amd64-cloud", [sim.machines[0]], name="vfio")
    uio = Machine(session, "amd64", [sim.machines[1]], driver="uio_ivshmem", name="uio")
    boot(vfio, uio)
    for number, place in enumerate((vfio, uio)):
        listed(session, place)
        described(session, place, number)
        refusals(session, place)
    ping(session, uio, vfio, 2, 300)
    ping(session, vfio, uio, 0, 300)
    result = vfio.run(f"ivshmem ping {vfio.link} --count 10 --patience 2")
    session.check(result.status == 1 and "peer" in result.text,
                  f"ping with nobody there: status {result.status}: {result.text[-200:]}")


def json_of(place, words):
    result = place.run(f"{words} --json")
    line = next((t for t in result.text.splitlines() if t.startswith("{")), None)
    return (json.loads(line) if line else {}), result


def listed(session, place):
    found, result = json_of(place, "ivshmem list")
    session.check(result.ok, f"{place.name}: list: status {result.status}: {result.text[-200:]}")
    for device in found.get("devices", [])[:1]:
        seen = {key: device.get(key) for key in ("bdf", "driver", "vectors", "interrupts")}
        wanted = {"bdf": place.devices[0], "driver": place.driver, "vectors": 3,
                  "interrupts": "msi-x"}
        session.check(seen == wanted, f"{place.name}: list says {seen}, not {wanted}")
        sizes = {s["name"]: s["size"] for s in device.get("sections", [])}
        wanted = {"stateTable": 4096, "readWrite": 64 << 10, "output": 1 << 20}
        session.check(sizes.items() >= {k: wanted[k] for k in ("stateTable", "output")}.items() and
                      (64 << 10) in sizes.values(), f"{place.name}: list says {sizes}")
    session.check(len(found.get("devices", [])) == 1,
                  f"{place.name}: list shows {len(found.get('devices', []))} devices")
    text = place.run("ivshmem list").text
    session.check(place.devices[0] in text and place.driver in text,
                  f"{place.name}: the list for people: {text[-200:]}")


def described(session, place, number):
    found, result = json_of(place, f"ivshmem info {place.devices[0]}")
    session.check(result.ok, f"{place.name}: info: status {result.status}: {result.text[-200:]}")
    session.check(place.devices[0] in json.dumps(found), f"{place.name}: info says {found}")


def refusals(session, place):
    """What does not work ends with the documented status and one line."""
    for words, status in (("ivshmem info 0000:77:00.0", 2), ("ivshmem info nonsense", 2),
                          ("ivshmem frontend block info --link vfio:0000:77:00.0", 2),
                          ("ivshmem-backend --link vfio:0000:00:00.0 --device entropy", 2)):
        result = place.run(words)
        session.check(result.status == status and len(result.text.strip().splitlines()) == 1,
                      f"{place.name}: '{words}': status {result.status}: {result.text[-200:]}")


def bare_program(session, arch):
    """Lab/speed-pingpong.c, which shares no code with us, as a static program."""
    out = session.folder / f"pingpong-{arch}"
    compiler = {"amd64": "gcc", "arm64": "aarch64-linux-gnu-gcc"}[arch]
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-static", "-o", out,
                    LAB / "speed-pingpong.c"], check=True, timeout=60)
    return out


def device(session):
    """The device alone, with no program of ours: an old kernel and the newest see it as it was
    described, ring each other, and a machine that dies or is reset is seen as gone."""
    sim = Simulator(session, output="1M", rw="64K")
    program = bare_program(session, "amd64")
    files = {"usr/bin/pingpong": program}
    old = Machine(session, "amd64-6.1", [sim.machines[0]], name="old", files=files, reboot=True)
    new = Machine(session, "amd64-newest", [sim.machines[1]], name="new", files=files)
    boot(old, new)
    for number, place in enumerate((old, new)):
        look(session, place, number)
    for rings, answers, other, own in ((old, new, 0, 1), (new, old, 1, 0)):
        job = answers.spawn(f"exec pingpong {answers.devices[0]} pong {other} 2 300")
        session.check(wait_for(answers, job, "ready"), f"{answers.name}: no answer side")
        result = rings.run(f"pingpong {rings.devices[0]} ping {own} 2 300", 60)
        session.check(result.ok, f"{rings.name}: ping: {result.text[-200:]}")
        session.check(answers.job(job)[0] in (0, None), f"{answers.name}: {answers.job(job)[1]}")
    # A state is taken back when its machine is reset or killed.
    for act in ("reset", "kill"):
        page, peer = (old, new) if act == "kill" else (new, old)
        set_state(session, peer, 7)
        number = 0 if peer is old else 1
        session.check(state_of(page, number) == 7, f"{page.name}: state {state_of(page, number)}")
        if act == "reset":
            peer.spawn("exec reboot -f")
            peer.ready()
        else:
            peer.kill()
        left = 100
        while state_of(page, number) != 0 and left:
            left -= 1
        session.check(state_of(page, number) == 0, f"{page.name}: a {act} machine keeps its state")


def look(session, place, number):
    """Configuration space and sizes, as the kernel's sysfs shows them."""
    folder = f"/sys/bus/pci/devices/{place.devices[0]}"
    data = place.run(f"cat {folder}/config", check=True).data
    at = data[0x34]
    while at and data[at] != 9:
        at = data[at + 1]
    sizes = struct.unpack_from("<IQQ", data, at + 4) if at else None
    session.check(sizes == (4096, 64 << 10, 1 << 20), f"{place.name}: section sizes {sizes}")
    bars = [line.split() for line in place.run(f"cat {folder}/resource").text.splitlines()]
    size = int(bars[2][1], 16) + 1 - int(bars[2][0], 16)
    session.check(size == 4 << 20, f"{place.name}: BAR 2 has {size} bytes")
    found = word(place, 0, 0)
    session.check(found == number, f"{place.name}: its id is {found}, not {number}")


def word(place, bar, offset):
    """A 32-bit word of a BAR, read by busybox through /dev/mem."""
    bars = place.run(f"cat /sys/bus/pci/devices/{place.devices[0]}/resource").text.splitlines()
    return int(place.run(f"devmem {int(bars[bar].split()[0], 16) + offset:#x} 32", check=True).text, 16)


def state_of(place, number):
    return word(place, 2, 4 * number)


def set_state(session, place, value):
    bars = place.run(f"cat /sys/bus/pci/devices/{place.devices[0]}/resource").text.splitlines()
    place.run(f"devmem {int(bars[0].split()[0], 16) + 16:#x} 32 {value}", check=True)
