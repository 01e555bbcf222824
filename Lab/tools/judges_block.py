"""The judges of the block device."""
import os
import resource

from . import images, machines
from .backends import Block

MIB = 1 << 20


def arguments(session, phase, size, queues=1, readonly=0, mib=4):
    # qemu-storage-daemon offers a switchable cache, switched off; its guests never flush.
    cache = "back" if session.kind == "ours" else "through"
    return {"cache": cache, "test": "block", "phase": phase, "sectors": size * 2048, "queues": queues,
            "readonly": readonly, "mib": mib}


def has_hole(session, image, offset, length):
    """After the guest's discard the file must have lost the blocks."""
    with open(image, "rb") as f:
        data = os.lseek(f.fileno(), offset, os.SEEK_DATA)
    return data >= offset + length


def discarded(session, machine, image):
    """vda2 begins after 64 MiB and the first MiB; the guest discarded 2 MiB at 2 MiB of it."""
    def handler(_):
        at = 65 * MIB + 2 * MIB
        session.check(has_hole(session, image, at, 2 * MIB),
                      "the discarded range still has blocks in the image file")
        machine.report.send("go")
    return handler


def user_mode(session):
    size = 128
    image = session.image("disk.img", size)
    fixed = session.file_system("fixed.img", 8)
    disk = session.backend("disk", Block(image))
    readonly = session.backend("readonly", Block(fixed, readonly=True))
    target = images.TARGETS["uml"]
    first = machines.UserMode(session.folder, target,
                              arguments(session, "first", size, readonly=1))
    session.boot(first, [(disk, 2), (readonly, 2)],
                 {"discarded": discarded(session, first, image)})
    again = machines.UserMode(session.folder, target, arguments(session, "again", size),
                              name="again")
    session.boot(again, [(disk, 2)])


def generic(kind, number, queues=1, config=60):
    """QEMU's device for any virtio id: the driver reaches our device with no model between."""
    return f"vhost-user-test-device{kind},virtio-id={number},num_vqs={queues}" + (
        f",config_size={config}" if config else "")


def qemu_block(session, target, fronts, cpus=1, queues=1, memory=384):
    """All block tests, then a machine reset and a look at the data; a read-only disk beside it."""
    size = 128
    image = session.image("disk.img", size)
    fixed = session.file_system("fixed.img", 8)
    disk = session.backend("disk", Block(image, queues=queues))
    readonly = session.backend("readonly", Block(fixed, readonly=True))
    machine = machines.Qemu(
        session.folder, images.TARGETS[target], arguments(session, "reset", size, queues, readonly=1),
        cpus=cpus, once=False, memory=memory)
    devices = list(zip([disk, readonly], fronts))
    if target == "arm64":
        # Linux finds the last of QEMU's virtio-mmio devices first.
        devices.reverse()
    session.boot(machine, devices,
                 {"discarded": discarded(session, machine, image)}, boots=2)


def amd64_blk(session):
    """QEMU's own vhost-user-blk device, two queues, two processors, cloud kernel."""
    qemu_block(session, "amd64-cloud",
               ["vhost-user-blk-pci,num-queues=2", "vhost-user-blk-pci,num-queues=1"],
               cpus=2, queues=2)


def amd64_generic(session):
    qemu_block(session, "amd64", [generic("-pci", 2), generic("-pci", 2)])


def arm64_mmio(session):
    qemu_block(session, "arm64", [generic("", 2), generic("", 2)])


def killed(session):
    """The back-end dies by SIGKILL under load, several times, and once at rest."""
    size, rounds = 64, session.rounds
    disk = session.backend("disk", Block(session.image("disk.img", size), queues=2))
    machine = machines.Qemu(
        session.folder, images.TARGETS["amd64-cloud"],
        {"test": "kill", "mib": 48, "rounds": rounds, "loops": 2 + rounds // 2}, cpus=2, memory=384)

    def kill(_):
        disk.restart()
        machine.report.send("go")

    session.boot(machine, [(disk, "vhost-user-blk-pci,num-queues=2;reconnect")],
                 {"loaded": kill, "idle": kill})
    session.check(disk.starts == rounds + 2, f"{disk.starts} back-end starts, not {rounds + 2}")


def trouble(session, in_memory=False):
    """Writes beyond a limit, as on a full disk; a file that is cut off; the driver comes and goes.
    The guest gets I/O errors, the operator lines, and nothing hangs."""
    size, full, cut = 64, 16, 32
    image = session.image("disk.img", size, in_memory)
    disk = session.backend("disk", Block(image))
    machine = machines.UserMode(session.folder, images.TARGETS["uml"],
                                {"test": "trouble", "sectors": size * 2048})
    machine.expected = [r"^I/O error, dev vda, sector \d+ op 0x[01]:\((READ|WRITE)\) "]

    def limit(size):
        resource.prlimit(disk.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def does(action):
        def handler(_):
            action()
            machine.report.send("go")
        return handler

    session.boot(machine, [(disk, 2)], {
        "full": does(lambda: limit(full * MIB)), "loaded": does(lambda: None),
        "space": does(lambda: limit(resource.RLIM_INFINITY)),
        "cut": does(lambda: os.truncate(image, cut * MIB)),
        "grow": does(lambda: os.truncate(image, size * MIB))})
    session.stop(disk)
    text = disk.log.read_text(errors="replace")
    session.check("File too large" in text, "the operator was not told of writes that failed")
    session.check("the file was cut off" in text, "the operator was not told of the cut file")
    session.check(disk.counters.get("ioErrors", 0) > 0, "the device counted no I/O error")


def memory_trouble(session):
    """The same with a file in memory, where no worker stands between the ring and the file."""
    trouble(session, in_memory=True)


def guest_killed(session):
    """The other side dies by SIGKILL while it writes, several times; the next one is served."""
    disk = session.backend("disk", Block(session.image("disk.img", 64)))
    for number in range(session.rounds):
        machine = machines.UserMode(
            session.folder, images.TARGETS["uml"], {"test": "load"}, name=f"killed-{number}")
        session.kill_at(machine, [(disk, 2)], "loaded")
    machine = machines.UserMode(session.folder, images.TARGETS["uml"], {"test": "load", "last": 1})
    session.boot(machine, [(disk, 2)])
    session.stop(disk)
    found = disk.counters.get("connections")
    session.check(found == session.rounds + 1, f"{found} connections, not {session.rounds + 1}")
