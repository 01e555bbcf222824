"""The judge of what is acknowledged: either end of a link between two machines is killed, reset and
started again under load, and the disk's file then holds every write that was flushed."""
import os
import time

from . import links
from .guest import GuestError

CHUNK = 256 << 10
# Writes one chunk after the other; each is flushed before the tool ends. "ACK n recoveries" goes to
# the kernel's serial line, which the host keeps whatever happens to the guest.
LOAD = """
exec >/tmp/load 2>&1
i=$1
while [ $i -lt $2 ]; do
  dd if=/root/chunks of=/tmp/chunk bs=%d skip=$i count=1 2>/dev/null
  if ivshmem frontend block write --link $3 --file /tmp/chunk --offset $((i * %d)) --size 512 --depth 2 \\
      --patience 60 --quiet --json >/tmp/result 2>/tmp/words; then
    recoveries=$(sed -n 's/.*"recoveries":\\([0-9]*\\).*/\\1/p' /tmp/result)
    echo "ACK $i $recoveries" >$4
    i=$((i + 1))
  else
    echo "RETRY $i $(tail -n 1 /tmp/words)" >$4
    sleep 1
  fi
done
echo "ACK all 0" >$4
""" % (CHUNK, CHUNK)
DISK = ["virtio_pci", "virtio_blk"]


class Loss:
    def __init__(self, session, target, chunks):
        self.session, self.target, self.chunks = session, target, chunks
        self.data = [os.urandom(CHUNK) for _ in range(chunks)]
        self.image = session.image("disk.img", 1 + (chunks * CHUNK >> 20))
        self.sim = links.Simulator(session)
        self.lives = 0
        self.back = self.front = self.server = None
        # Serial lines of front-end machines that have ended.
        self.past, self.machines_lost = [], 0

    def back_machine(self):
        self.lives += 1
        disk = ["-drive", f"file={self.image},if=none,id=d,format=raw,cache=writeback",
                "-device", "virtio-blk-pci,drive=d"]
        self.back = links.Machine(self.session, self.target, [self.sim.machines[0]],
                                  name=f"back{self.lives}", modules=DISK, extra=disk, reboot=True)
        # Its own disk is what the kernel tells of here, not ours.
        self.back.expected = [r"virtio_blk virtio\d: ", r"vda: "]
        return self.back

    def front_machine(self):
        self.lives += 1
        self.front = links.Machine(
            self.session, self.target, [self.sim.machines[1]], name=f"front{self.lives}",
            files={"root/chunks": b"".join(self.data), "root/load.sh": LOAD.encode()})
        return self.front

    def serve(self):
        self.server = links.BackEnd(self.back, "block,file=/dev/vda").start()

    def load(self):
        port = "/dev/ttyAMA0" if self.front.arm else "/dev/ttyS0"
        self.front.spawn(f"exec sh /root/load.sh {self.count()} {self.chunks} {self.front.link} {port}")

    def lines(self):
        path = self.front.kernel_log
        texts = [*self.past, path.read_text(errors="replace") if path.exists() else ""]
        return [t.strip() for text in texts for t in text.split("\n") if "ACK " in t]

    def acknowledged(self):
        """{chunk: recoveries while it was written}."""
        found = {}
        for line in self.lines():
            words = line[line.index("ACK "):].split()
            if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
                found[int(words[1])] = int(words[2])
        return found

    def count(self):
        return len(self.acknowledged())

    def until(self, more, what):
        """Waits until so many chunks more are acknowledged."""
        goal = min(self.chunks, self.count() + more)
        while self.count() < goal:
            if self.session.deadline.passed():
                raise GuestError(f"{what}: {self.count()} chunks acknowledged, {goal} expected")
            if self.back.process.poll() is not None or self.front.process.poll() is not None:
                raise GuestError(f"{what}: a machine ended by itself")
            time.sleep(0.05)

    # What happens to them

    def kill_back_end(self):
        self.back.signal(self.server.number, "KILL")
        self.serve()

    def kill_front_end(self):
        self.front.run("kill -KILL $(pidof ivshmem); true")

    def kill_back_machine(self):
        self.back.kill()
        self.back_machine()
        links.boot(self.back)
        self.serve()

    def kill_front_machine(self):
        self.past.append(self.front.kernel_log.read_text(errors="replace"))
        self.front.kill()
        self.front_machine()
        links.boot(self.front)
        self.load()

    def reset_back_machine(self):
        self.back.spawn("exec reboot -f")
        self.back.ready()
        self.serve()

    def verify(self, exact):
        """Every acknowledged chunk is in the file. Those during which the back-end's machine was
        lost count only when no recovery was reported: a volatile cache went with the machine."""
        found = self.acknowledged()
        self.session.check(len(found) == self.chunks,
                           f"{len(found)} of {self.chunks} chunks were acknowledged")
        wrong = []
        with open(self.image, "rb") as f:
            for n in range(self.chunks):
                there = f.read(CHUNK)
                if n in found and there != self.data[n] and (found[n] == 0 or exact):
                    wrong.append(n)
        self.session.check(not wrong, f"acknowledged, but not on the disk: chunks {wrong[:10]}")
        self.session.values["recoveries"] = sum(found.values())


def lost_nothing(session, events, chunks, target="amd64-cloud"):
    one = Loss(session, target, chunks)
    links.boot(one.back_machine(), one.front_machine())
    one.serve()
    one.load()
    for name in events:
        one.until(5, f"before {name}")
        getattr(one, name)()
        session.passed += 1
    one.until(chunks, "after everything")
    one.server.wait().stop(session)
    # The machine's own disk is written out when it has powered off.
    session.check(one.back.poweroff(), f"{one.back.name}: no power-off")
    one.verify(exact=not any("machine" in name for name in events))


def processes_killed(session):
    """The programs die by SIGKILL, each several times, while chunks are written."""
    rounds = ["kill_back_end", "kill_front_end", "kill_back_end"] * max(1, session.rounds // 2)
    lost_nothing(session, rounds, 8 * len(rounds))


def machines_killed(session):
    """The machines die (QEMU gets SIGKILL), are reset, and come back; the other one stays."""
    lost_nothing(session, ["kill_back_machine", "kill_front_machine", "reset_back_machine",
                           "kill_back_end"], 40)
