"""The judges of the block device."""
import os

from . import images, machines
from .backends import Block

MIB = 1 << 20


def arguments(phase, size, queues=1, readonly=0, mib=4, cache="back"):
    return {"test": "block", "phase": phase, "sectors": size * 2048, "queues": queues,
            "readonly": readonly, "mib": mib, "cache": cache}


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
    # User-Mode Linux reads another cache mode from qemu-storage-daemon than QEMU does.
    cache = "back" if session.kind == "ours" else "any"
    first = machines.UserMode(session.folder, target,
                              arguments("first", size, readonly=1, cache=cache))
    session.boot(first, [(disk, 2), (readonly, 2)],
                 {"discarded": discarded(session, first, image)})
    again = machines.UserMode(session.folder, target, arguments("again", size, cache=cache),
                              name="again")
    session.boot(again, [(disk, 2)])
