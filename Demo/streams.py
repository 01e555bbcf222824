"""The demo's second part: a console and random numbers over the same link as the disk."""
import fcntl, os, select, struct, subprocess, termios, time, zlib


class StreamError(Exception):
    pass


def wait_until(what, condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise StreamError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


class Reader:
    """What comes out of a descriptor, piece by piece."""

    def __init__(self, descriptor):
        self.descriptor, self.text = descriptor, ""

    def expect(self, wanted, seconds=30):
        end = time.monotonic() + seconds
        while wanted not in self.text:
            if time.monotonic() > end:
                raise StreamError(f"'{wanted.strip()}' did not come; there was {self.text!r}")
            if select.select([self.descriptor], [], [], 0.1)[0]:
                self.text += os.read(self.descriptor, 4096).decode(errors="replace")
        self.text = self.text[self.text.index(wanted) + len(wanted):]
        return wanted.rstrip("\n")


def show(text):
    print(f"    {text}", flush=True)


def devices(folder):
    """What the back-end serves beside the disk."""
    return ["--device", f"console,pty={folder}/console,size=80x24,log={folder}/console.log,"
            "name=org.cellmate.log", "--device", "entropy"]


def tool(demo, kind, slot, *words):
    return [str(demo.bin / "ivshmem"), "frontend", kind, "--link", demo.link, "--slot", str(slot),
            *map(str, words)]


def checked(words, **more):
    r = subprocess.run(words, stdout=subprocess.PIPE, timeout=120, **more)
    if r.returncode:
        raise StreamError(f"{' '.join(words[1:3])} ended with {r.returncode}")
    return r.stdout


def open_terminal(folder):
    path = folder / "console"
    wait_until("the terminal", lambda: path.exists())
    return os.open(path, os.O_RDWR | os.O_NOCTTY)


def console(demo):
    for line in checked(tool(demo, "console", 1, "--list")).decode().splitlines():
        show(line)
    cell = demo.start(*tool(demo, "console", 1, "--linger", "60"), stdin=subprocess.PIPE,
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    heard, said = Reader(cell.stdout.fileno()), Reader(cell.stderr.fileno())
    person = open_terminal(demo.dir)
    screen = Reader(person)

    def talk(when):
        os.write(person, f"a person types {when}\n".encode())
        show("in the cell:     " + heard.expect(f"a person types {when}\n"))
        cell.stdin.write(f"the cell answers {when}\n".encode())
        cell.stdin.flush()
        show("on the terminal: " + screen.expect(f"the cell answers {when}\n"))

    talk("first")
    fcntl.ioctl(person, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    show("in the cell:     " + said.expect("the console is 132x50"))
    os.close(person)
    demo.serving.kill()
    demo.serving.wait()
    demo.serving, _ = demo.backend()
    show(f"--- back-end killed with SIGKILL and started again; the cell: "
         f"{said.expect('the back-end is back')} ---")
    person = open_terminal(demo.dir)
    screen = Reader(person)
    talk("after the restart")
    os.close(person)
    cell.terminate()
    cell.wait(timeout=20)


def log(demo):
    text = "".join(f"line {n} of a guest's log\n" for n in range(20000)).encode()
    checked(tool(demo, "console", 1, "--port", "1", "--linger", "0"), input=text)
    path = demo.dir / "console.log"
    wait_until("the log", lambda: path.stat().st_size >= len(text))
    if path.read_bytes() != text:
        raise StreamError("the log file differs from what the cell wrote")
    show(f"{len(text)} bytes, as they were written")


def entropy(demo):
    few = checked(tool(demo, "entropy", 2, "--bytes", "32", "--hex", "--quiet")).decode().strip()
    show(few)
    count = 4 << 20
    started = time.monotonic()
    data = checked(tool(demo, "entropy", 2, "--bytes", str(count), "--quiet"))
    seconds = time.monotonic() - started
    packed = len(zlib.compress(data, 6)) / max(1, len(data))
    if len(data) != count or packed < 0.999:
        raise StreamError(f"{len(data)} bytes of {count}, {packed:.3f} of them left by zlib")
    show(f"{count} bytes, which zlib cannot shorten, at {count / seconds / 1e6:.0f} MB/s"
         " with the start of the tool")
