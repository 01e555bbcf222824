"""The judges of the console device: a person at a terminal, and programs at named ports."""
import fcntl
import hashlib
import os
import select
import socket
import struct
import termios
import threading
import tty

from . import images, machines
from .judges_block import generic

MIB = 1 << 20
COUNT = 2 * MIB
ON_TERMINAL = 64 << 10
PORTS = 4


class Terminal:
    """The other end of the console's pseudo-terminal, as a terminal program has it."""

    def __init__(self, path, deadline, log):
        self.number = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.number)
        self.deadline, self.text, self.log = deadline, b"", open(log, "ab")

    def resize(self, columns, rows):
        fcntl.ioctl(self.number, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data):
        """Types; reads meanwhile, so that neither side waits for the other for ever."""
        if isinstance(data, str):
            data = data.encode()
        while data:
            reading, writing, _ = select.select(
                [self.number], [self.number], [], self.deadline.left())
            if not reading and not writing:
                raise OSError(f"the console takes nothing more, {len(data)} bytes are left")
            if reading:
                self.take()
            if writing:
                data = data[os.write(self.number, data[:256]):]

    def take(self):
        chunk = os.read(self.number, 65536)
        self.log.write(chunk)
        self.log.flush()
        self.text += chunk

    def expect(self, mark, seconds=None):
        """Everything up to `mark`; None when it does not come."""
        mark = mark if isinstance(mark, bytes) else mark.encode()
        end = self.deadline.left() if seconds is None else min(seconds, self.deadline.left())
        while mark not in self.text:
            if not select.select([self.number], [], [], end)[0]:
                return None
            self.take()
        before, _, self.text = self.text.partition(mark)
        return before

    def run(self, command):
        """Types a command; what it prints. The marks are computed, so the echo is no answer."""
        self.type(f"echo \"<$((40 + 2))\"; {command}; echo \"$((40 + 2))>\"\r")
        if self.expect("<42\r\n") is None:
            return None
        answer = self.expect("42>\r\n")
        return None if answer is None else answer.decode(errors="replace").strip()

    def close(self):
        os.close(self.number)


class Judge:
    def __init__(self, session):
        self.session, self.machine, self.boots = session, None, 0
        place = session.sockets
        self.pty, self.log = place / "console", session.folder / "log"
        self.paths = {name: place / f"{name}.sock" for name in ("one", "two")}
        self.clients = {}
        self.back = session.backend(
            "console", f"console,pty={self.pty},size=90x33,socket={self.paths['one']},name=lab.one,"
            f"socket={self.paths['two']},name=lab.two,log={self.log},name=lab.log")
        self.data = os.urandom(COUNT)
        self.hash = hashlib.sha256(self.data).hexdigest()

    def handlers(self):
        names = ("login", "connect", "send", "receive", "echo", "leave")
        made = {name: lambda rest, name=name: self.at(name, rest) for name in names}
        return {**made, "begin": self.begin}

    def begin(self, rest):
        self.machine.report.send("again" if self.boots else "first")
        self.boots += 1

    def at(self, name, rest):
        getattr(self, name)(rest)
        self.machine.report.send("go")

    def terminal(self):
        return Terminal(self.pty, self.session.deadline, self.session.folder / "terminal.log")

    # What a person does.

    def login(self, rest):
        check = self.session.check
        terminal = self.terminal()
        found = None
        for _ in range(20):
            # The first return may come before getty has the line.
            terminal.type("\r")
            found = terminal.expect("login: ", 3)
            if found is not None:
                break
        check(found is not None, "getty: no login prompt on hvc0")
        terminal.type("root\r")
        check(terminal.expect("# ") is not None, "login: no prompt of a shell")
        check(terminal.run("tty") == "/dev/hvc0", "the shell's terminal is not hvc0")
        check(terminal.run("echo $((6 * 7))") == "42", "the shell does not count")
        self.sizes(terminal)
        self.through_terminal(terminal)
        terminal.type("exit\r")
        terminal.close()

    def sizes(self, terminal):
        size = terminal.run("stty size")
        # A pseudo-terminal keeps its size over a reset of the machine.
        wanted = "33 90" if self.boots == 1 else "60 200"
        self.session.check(size == wanted, f"the first size is {size}, not {wanted}")
        for columns, rows in ((132, 43), (40, 10), (200, 60)):
            terminal.resize(columns, rows)
            size = None
            while size != f"{rows} {columns}" and not self.session.deadline.passed():
                size = terminal.run("stty size")
            self.session.check(size == f"{rows} {columns}", f"resized: {size}, not {rows} {columns}")

    def through_terminal(self, terminal):
        """A file in each direction over the terminal itself, raw."""
        data = self.data[:ON_TERMINAL]
        wanted = hashlib.sha256(data).hexdigest()
        terminal.type(f"stty raw -echo; echo rea''dy; head -c {len(data)} >/tmp/typed; stty sane\r")
        self.session.check(terminal.expect("ready") is not None, "the raw terminal is not ready")
        terminal.expect("\n")
        terminal.type(data)
        # What is typed before head has ended is head's.
        self.session.check(terminal.expect("# ") is not None, "the file does not end")
        found = terminal.run("sha256sum </tmp/typed")
        self.session.check(found is not None and found.split()[0] == wanted,
                           f"a file typed into hvc0 arrived as {found}")
        terminal.type("stty raw -echo; echo; printf 'beg''in'; cat /tmp/typed; stty sane; echo\r")
        self.session.check(terminal.expect("begin") is not None, "the file does not begin")
        while len(terminal.text) < len(data) and not self.session.deadline.passed():
            if select.select([terminal.number], [], [], self.session.deadline.left())[0]:
                terminal.take()
        got, terminal.text = terminal.text[:len(data)], terminal.text[len(data):]
        self.session.check(got == data, f"a file shown on hvc0: {len(got)} bytes, or others")

    # What programs do.

    def connect(self, name):
        self.clients[name] = client = socket.socket(socket.AF_UNIX)
        client.settimeout(max(1, self.session.deadline.left()))
        client.connect(str(self.paths[name]))

    def leave(self, name):
        self.clients.pop(name).close()

    def send(self, name):
        self.clients[name].sendall(self.data)

    def receive(self, name):
        got = self.take(self.clients[name])
        self.session.check(hashlib.sha256(got).hexdigest() == self.hash,
                           f"port {name}: {len(got)} bytes came, or others")

    def take(self, client):
        got = b""
        while len(got) < COUNT:
            chunk = client.recv(65536)
            if not chunk:
                break
            got += chunk
        return got

    def echo(self, rest):
        """Both ports, both directions, at the same time."""
        results = {}

        def both(name):
            client = self.clients[name]
            sender = threading.Thread(target=client.sendall, args=(self.data,), daemon=True)
            sender.start()
            results[name] = self.take(client)
            sender.join(self.session.deadline.left())

        threads = [threading.Thread(target=both, args=(n,), daemon=True) for n in self.clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(self.session.deadline.left())
        for name in self.clients:
            self.session.check(results.get(name) == self.data, f"port {name}: the echo differs")

    def log_text(self):
        return self.log.read_bytes() if self.log.exists() else b""

    def judge_log(self):
        wanted = b"".join(b"line %d of the log\n" % n for n in range(1, 1001))
        found = self.log_text()
        self.session.check(found == wanted, f"the log has {len(found)} bytes, not {len(wanted)}")


def run(session, judge, machine, number, boots=1):
    judge.machine = machine
    session.boot(machine, [(judge.back, number)], judge.handlers(), boots=boots)
    session.stop(judge.back)
    judge.judge_log()


def user_mode(session):
    judge = Judge(session)
    machine = machines.UserMode(
        session.folder, images.TARGETS["uml"], {"test": "console", "count": COUNT})
    run(session, judge, machine, 3)


def qemu(session, target, kind):
    judge = Judge(session)
    machine = machines.Qemu(
        session.folder, images.TARGETS[target], {"test": "console", "count": COUNT, "reset": 1},
        memory=384, once=False)
    run(session, judge, machine, generic(kind, 3, queues=2 * PORTS + 2, config=12), boots=2)


def amd64(session):
    qemu(session, "amd64-cloud", "-pci")


def arm64(session):
    qemu(session, "arm64", "")
