"""The judges of the entropy device."""
from . import images, machines
from .judges_block import generic

BLOCKS = 400


def judge(session, target, front):
    """rngtest in the guest, then our own counters: the bytes came from us."""
    source = session.backend("entropy", "entropy")
    machine = machines.Qemu(
        session.folder, images.TARGETS[target], {"test": "entropy", "blocks": BLOCKS},
        memory=384)
    session.boot(machine, [(source, front)])
    session.stop(source)
    given = source.counters.get("bytes", 0)
    session.check(given >= BLOCKS * 2500, f"our counters speak of {given} bytes")


def amd64(session):
    """QEMU's own vhost-user-rng device."""
    judge(session, "amd64-cloud", "vhost-user-rng-pci")


def arm64(session):
    judge(session, "arm64", generic("", 4, config=0))
