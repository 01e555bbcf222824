"""Reads a guest's kernel log: what virtio or the block layer says must be on a short list."""
import re

from .common import LAB, LabError

# A line that matches is looked at; the list of allowed lines then decides.
WATCHED = re.compile(
    r"(?i:virtio|vhost|vring|\bvd[a-z]\d*\b|blk_update_request|I/O error|EXT4-fs|JBD2"
    r"|blocked for more than|hung task|soft lockup|\bstall|hvc\d|vport|hwrng|hw_random"
    r"|not a head|\btimed? ?out|kernel panic)|\bBUG\b|WARNING|Oops|Call Trace")
STAMP = re.compile(r"^(<\d+>)?\[ *\d+\.\d+\] ?(\[ *[TC]\d+\] ?)?")


def allowed():
    """(pattern, reason) pairs of Lab/allowed-kernel-lines.txt."""
    out = []
    path = LAB / "allowed-kernel-lines.txt"
    reason = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("# "):
            reason = line[2:]
        elif line.strip():
            if reason is None:
                raise LabError(f"{path.name}:{number}: a pattern needs a reason above it")
            out.append((re.compile(line), reason))
        else:
            reason = None
    return out


def complaints(text, expected=()):
    """Watched lines of a kernel log that are neither allowed nor expected by the test."""
    rules, found = allowed() + [(re.compile(p), "provoked") for p in expected], []
    for line in text.splitlines():
        line = STAMP.sub("", line.strip("\r"))
        if WATCHED.search(line) and not any(p.search(line) for p, _ in rules):
            found.append(line)
    return found
