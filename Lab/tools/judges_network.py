"""The judges of the network device: two kernels talk through our switch."""
import json
import subprocess
import threading

from . import images, machines, processes
from .common import ROOT, LabError

ADDRESSES = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
# 24 MiB each way: a kernel's whole socket buffers many times over.
BLOCKS = 384
GUARDED = ("violations", "queueErrors", "undersized", "oversized", "badHeaders", "noRoom",
           "shortBuffers")
# The client asks for an address that it may not have.
EXPECTED = [r"Failed to set mac address by vq command"]


class Port:
    """One socket of the switch, as machines see a back-end."""

    def __init__(self, path):
        self.socket = path


class Switch:
    """One back-end process with a switch and two vhost-user sockets."""

    def __init__(self, session, options=("", "")):
        self.session, self.options, self.name = session, options, "switch"
        folder = session.sockets
        self.ports = [Port(folder / "net0.sock"), Port(folder / "net1.sock")]
        self.control, self.log = folder / "control", session.folder / "switch.log"
        self.process, self.counters = None, []
        session.backends.append(self)

    def start(self):
        program = ROOT / ".build/release/ivshmem-backend"
        if not program.exists():
            raise LabError("ivshmem-backend is not built; run ./dev vm, which builds it")
        words = [program, "--json", "--control", self.control]
        for port, address, option in zip(self.ports, ADDRESSES, self.options):
            port.socket.unlink(missing_ok=True)
            words += ["--vhost-user", port.socket,
                      "--device", f"network,mac={address},switch=lan{option}"]
        self.process = processes.start(words, self.log)
        end = processes.Deadline(60)
        while not all(port.socket.exists() for port in self.ports):
            if self.process.poll() is not None or end.passed():
                raise LabError(f"the switch did not start: {self.log.read_text()[-300:]}")
        return self

    def restart(self):
        """SIGKILL in the middle of whatever it does, and a new process."""
        processes.kill(self.process)
        return self.start()

    def link(self, port, state):
        """What the operator does: the link of one port goes down or up."""
        subprocess.run([ROOT / ".build/release/ivshmem", "backend", "carrier", state,
                        ADDRESSES[port], "--control", self.control],
                       check=True, timeout=60, stdout=subprocess.DEVNULL)

    def stop(self):
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is not None:
            return f"the switch ended by itself with status {process.returncode}"
        if not processes.stop(process):
            return "the switch did not end on SIGTERM"
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("{"):
                link = json.loads(line)
                self.counters.append({**link, **link["devices"][0]})
        for number, found in enumerate(self.counters):
            for name in GUARDED:
                if found.get(name, 0):
                    return f"port {number} counted {found[name]} {name}"
        return None if len(self.counters) == 2 else "the switch printed no counters"


def talk(session, switch, make, handlers):
    """Two guests; the second one serves until the first one is done."""
    server, client = make("server", 1), make("client", 0)
    # Once, not by both.
    images.build(server.target)
    other = threading.Thread(
        target=session.boot, args=(server, [(switch.ports[1], server.front)]))
    other.start()
    session.boot(client, [(switch.ports[0], client.front)], handlers)
    other.join(session.deadline.left() + 60)


def counted(session, switch):
    session.stop(switch)
    if len(switch.counters) != 2:
        return
    first, second = switch.counters
    session.check(first["badCommands"] == 1, f"{first['badCommands']} commands were refused")
    session.values["frames"] = f"{first['framesFromDriver']} and {second['framesFromDriver']}"
    session.values["bytes"] = f"{first['bytesFromDriver']} and {second['bytesFromDriver']}"
    # Both ways went 24 MiB; uncut packets would be more than a thousand times as many cut.
    session.check(first["bytesFromDriver"] > BLOCKS << 16, "too few bytes from the first guest")
    session.check(second["bytesFromDriver"] > BLOCKS << 16, "too few bytes from the second guest")


def user_mode(session, options=("", "")):
    """Two User-Mode Linux guests: ping, bulk both ways, link state, the driver leaves and comes."""
    switch = Switch(session, options).start()

    def make(role, number):
        machine = machines.UserMode(
            session.folder, images.TARGETS["uml"],
            {"test": "network", "role": role, "mac": ADDRESSES[number], "blocks": BLOCKS},
            name=role)
        machine.front, machine.expected = 1, EXPECTED
        return machine

    talk(session, switch, make, {
        "link-down": lambda _: switch.link(0, "down"), "link-up": lambda _: switch.link(0, "up")})
    counted(session, switch)


def user_mode_pairs(session):
    """The same with a device of several queue pairs and jumbo frames: the control queue lies
    behind all of them."""
    user_mode(session, (",queues=4,mtu=9000", ",queues=2,mtu=9000"))


def amd64_killed(session):
    """QEMU's vhost-user netdev; the switch is killed under traffic and comes back."""
    switch = Switch(session).start()

    def make(role, number):
        machine = machines.Qemu(
            session.folder, images.TARGETS["amd64-cloud"],
            {"test": "network", "role": role, "mac": ADDRESSES[number], "blocks": BLOCKS,
             "kills": session.rounds}, memory=256, name=role,
            extra=["-chardev", f"socket,id=n,path={switch.ports[number].socket},reconnect-ms=100",
                   "-netdev", "vhost-user,id=net,chardev=n",
                   "-device", f"virtio-net-pci,netdev=net,mac={ADDRESSES[number]}"])
        machine.expected = EXPECTED
        return machine

    server, client = make("server", 1), make("client", 0)
    images.build(server.target)
    other = threading.Thread(target=session.boot, args=(server, []))
    other.start()
    session.boot(client, [], {
        "kill": lambda _: switch.restart(), "link-down": lambda _: switch.link(0, "down"),
        "link-up": lambda _: switch.link(0, "up")})
    other.join(session.deadline.left() + 60)
    session.stop(switch)
