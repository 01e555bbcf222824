"""Which shared libraries a program needs, read from the file: works for foreign machines too."""
import pathlib
import struct

from .common import LabError


def needed(path):
    """(interpreter, library names, run paths) of an ELF-64 little-endian file."""
    data = path.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return None, [], []
    phoff, = struct.unpack_from("<Q", data, 32)
    phsize, phcount = struct.unpack_from("<HH", data, 54)
    loads, dynamic, interpreter = [], None, None
    for i in range(phcount):
        kind, _, offset, vaddr, _, size, _, _ = struct.unpack_from(
            "<IIQQQQQQ", data, phoff + i * phsize)
        if kind == 1:
            loads.append((vaddr, offset, size))
        elif kind == 2:
            dynamic = (offset, size)
        elif kind == 3:
            interpreter = data[offset:offset + size].rstrip(b"\0").decode()
    if dynamic is None:
        return interpreter, [], []
    tags = []
    for at in range(dynamic[0], dynamic[0] + dynamic[1], 16):
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == 0:
            break
        tags.append((tag, value))
    strings = next((v for t, v in tags if t == 5), 0)
    base = next((o + strings - v for v, o, n in loads if v <= strings < v + n), 0)

    def text(value):
        return data[base + value:data.index(b"\0", base + value)].decode()

    paths = [p for t, v in tags if t in (15, 29) for p in text(v).split(":")]
    return interpreter, [text(v) for t, v in tags if t == 1], paths


def closure(root, programs, triplet):
    """Files below `root` that the programs need to start: {path in the image: file}."""
    found, queue = {}, []

    def real(inside):
        """Resolves links as if `root` were /; merged-usr packages leave out /lib and /bin."""
        for prefix in ("", "usr"):
            path = root / prefix / inside.lstrip("/")
            if path.is_symlink() and str(path.readlink()).startswith("/"):
                path = root / str(path.readlink()).lstrip("/")
            if path.exists():
                return path.resolve()
        return None

    def add(inside):
        path = real(inside)
        if path is None:
            raise LabError(f"{inside} is in no package of {root.name}")
        if inside not in found:
            found[inside] = path
            queue.append(path)

    for program in programs:
        add(program)
    while queue:
        interpreter, libraries, paths = needed(queue.pop())
        if interpreter:
            add(interpreter)
        for library in libraries:
            folders = [p for p in paths if p.startswith("/")] + [
                f"/usr/lib/{triplet}", f"/lib/{triplet}", "/usr/lib"]
            for folder in folders:
                if real(f"{folder}/{library}"):
                    add(f"{folder}/{library}")
                    break
            else:
                raise LabError(f"library {library} is in no package of {root.name}")
    return found


# What a module asks for by alias.
ALIASES = {"crc32c": "crc32c_generic", "crypto-crc32c": "crc32c_generic"}


def modules(folder, names):
    """Kernel modules in load order with all they depend on; what is built in is left out."""
    files = {}
    for path in pathlib.Path(folder).rglob("*.ko*"):
        files[path.name.split(".ko")[0].replace("-", "_")] = path
    order, seen = [], set()

    def visit(name):
        name = name.replace("-", "_")
        if name in seen or name not in files:
            return
        seen.add(name)
        data = module_bytes(files[name])
        for key in (b"\0depends=", b"\0softdep=pre: "):
            at = data.find(key)
            if at >= 0:
                value = data[at + len(key):data.index(b"\0", at + 1)].decode()
                for one in value.replace(",", " ").split():
                    visit(ALIASES.get(one, one))
        order.append((name, data))

    for name in names:
        visit(name)
    return order


def module_bytes(path):
    """A module's ELF file, unpacked; with a NUL first so that searches find the first field."""
    import lzma
    import subprocess
    raw = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(raw)
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq"], input=raw, stdout=subprocess.PIPE, check=True).stdout
    return raw
