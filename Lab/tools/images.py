"""Initial RAM file systems and kernels for the guests."""
import hashlib
import lzma
import os
import pathlib
import shutil
import stat
import struct
import subprocess
import time

from . import elf, packages
from .common import LAB, STATE, LabError, cache, say

TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
PROGRAMS = [
    "/usr/bin/fio", "/usr/sbin/mke2fs", "/usr/sbin/e2fsck", "/usr/sbin/resize2fs",
    "/usr/sbin/sfdisk", "/usr/sbin/blkdiscard", "/usr/sbin/fstrim", "/usr/sbin/blockdev",
    "/usr/bin/rngtest", "/usr/bin/ping",
]
MODULES = [
    "virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "virtio_net",
    "ext4",
]


class Target:
    """A kernel with the guest programs that fit it."""

    def __init__(self, name, arch, kernel_set):
        self.name, self.arch, self.kernel_set = name, arch, kernel_set

    @property
    def guest_set(self):
        return f"guest-{self.arch}"

    def modules_folder(self):
        root = packages.bundle(self.kernel_set)
        found = [p.parent for p in sorted(root.rglob("modules.builtin"))]
        if not found:
            raise LabError(f"{self.kernel_set} holds no modules")
        return found[-1]

    def version(self):
        return self.modules_folder().name

    def kernel(self):
        """The file to boot: User-Mode Linux's program, arm64's Image, or amd64's ELF kernel."""
        root = packages.bundle(self.kernel_set)
        if self.name == "uml":
            return root / "usr/bin/linux.uml"
        # Newer packages keep the kernel beside its modules.
        packed = next(iter(sorted([*(root / "boot").glob("vmlinuz-*"),
                                   *root.glob("usr/lib/modules/*/vmlinuz")])), None)
        if packed is None:
            raise LabError(f"{self.kernel_set} holds no kernel")
        if self.arch == "arm64":
            return packed
        out = cache() / "images" / f"vmlinux-{self.kernel_set}-{packages.fingerprint(self.kernel_set)}"
        if not out.exists():
            write(out, unpack_kernel(packed.read_bytes()))
        return out


TARGETS = {t.name: t for t in [
    Target("uml", "amd64", "uml"),
    Target("amd64-cloud", "amd64", "kernel-amd64-cloud"),
    Target("amd64", "amd64", "kernel-amd64"),
    Target("arm64", "arm64", "kernel-arm64"),
    Target("amd64-6.1", "amd64", "kernel-amd64-6.1"),
    Target("amd64-newest", "amd64", "kernel-amd64-newest"),
    Target("arm64-6.1", "arm64", "kernel-arm64-6.1"),
    Target("arm64-newest", "arm64", "kernel-arm64-newest"),
]}


def unpack_kernel(image):
    """Cuts the ELF kernel out of a bzImage: booting it directly saves seconds under emulation.
    The payload's place is in the setup header (Linux, x86 boot protocol 2.08)."""
    sectors = image[0x1f1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(sectors + 1) * 512 + offset:][:length]
    if payload[:4] == b"\x28\xb5\x2f\xfd":
        if not shutil.which("zstd"):
            raise LabError("zstd is missing: apt-get install zstd")
        return subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE,
                              check=True).stdout
    if payload[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(payload)
    raise LabError("the kernel is packed in a way that the lab does not know")


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.write_bytes(data)
    fresh.rename(path)


class Archive:
    """A cpio archive in the kernel's 'newc' format, written without root."""

    def __init__(self):
        self.parts, self.inode, self.folders = [], 0, set()

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0]
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + encoded
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def folder(self, name):
        if name and name not in self.folders:
            self.folder(os.path.dirname(name))
            self.folders.add(name)
            self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o755):
        name = name.lstrip("/")
        self.folder(os.path.dirname(name))
        self.entry(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        self.folder(os.path.dirname(name.lstrip("/")))
        self.entry(name.lstrip("/"), stat.S_IFLNK | 0o777, target.encode())

    def bytes(self):
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def mark(*parts):
    """A short value that changes with the parts and with what makes the images."""
    text = "".join(str(p) for p in parts) + "".join(
        pathlib.Path(f).read_text() for f in (__file__, elf.__file__))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def keep(out, data, what, started):
    """Writes an image and removes those that it replaces: same name, other fingerprint."""
    for old in out.parent.glob(f"{out.name[:-17]}-????????????.cpio"):
        old.unlink(missing_ok=True)
    write(out, data)
    say(f"{what}, {len(data) / 1e6:.0f} MB, {time.monotonic() - started:.1f} s")
    return out


def skeleton(scripts):
    """Folders, first devices and the lab's own scripts."""
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "mnt", "run", "etc", "lab", "bin", "lib/modules"):
        archive.folder(name)
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    for script in scripts:
        place = "init" if script.name == "init" else f"lab/{script.name}"
        archive.file(place, script.read_bytes())
    return archive


def busybox(archive, root):
    program = next(p for p in (root / "usr/bin/busybox", root / "bin/busybox") if p.exists())
    archive.file("bin/busybox", program.read_bytes())
    archive.link("bin/sh", "busybox")


def build(target):
    """Makes the image of one target and returns its path; an image that is current is kept."""
    scripts = sorted((LAB / "guest").iterdir())
    key = mark(packages.fingerprint(target.kernel_set), packages.fingerprint(target.guest_set),
               *(p.read_text() for p in scripts))
    out = STATE / "images" / f"initramfs-{target.name}-{key}.cpio"
    if out.exists():
        return out
    started = time.monotonic()
    archive = skeleton(scripts)
    root = packages.bundle(target.guest_set)
    files = elf.closure(root, PROGRAMS, TRIPLETS[target.arch])
    for inside, path in sorted(files.items()):
        archive.file(inside, path.read_bytes())
    archive.link("usr/sbin/mkfs.ext4", "mke2fs")
    busybox(archive, root)
    archive.file("etc/mke2fs.conf", b"[defaults]\nbase_features = sparse_super,filetype,"
                 b"resize_inode,dir_index,ext_attr\n[fs_types]\n"
                 b"ext4 = {\n features = has_journal,extent,64bit,metadata_csum,flex_bg\n}\n")
    order = elf.modules(target.modules_folder(), MODULES)
    for name, data in order:
        archive.file(f"lib/modules/{name}.ko", data, 0o644)
    archive.file("lib/modules/order", ("".join(n + "\n" for n, _ in order)).encode(), 0o644)
    return keep(out, archive.bytes(), f"initramfs {target.name}: Linux {target.version()}, "
                f"{len(order)} modules", started)


def small(target, modules, programs):
    """A small image: busybox, `modules` with what they need, and `programs` of the guest's
    packages with their libraries. Modules are loaded in the order in which they are named."""
    scripts = sorted(p for p in (LAB / "guest").iterdir()
                     if p.name in ("init", "common.sh", "commands.sh", "bind.sh"))
    key = mark(packages.fingerprint(target.kernel_set), packages.fingerprint(target.guest_set),
               *modules, *programs, *(p.read_text() for p in scripts))
    out = STATE / "images" / f"small-{target.name}-{key}.cpio"
    if out.exists():
        out.touch()
        return out
    started = time.monotonic()
    archive = skeleton(scripts)
    root = packages.bundle(target.guest_set)
    for inside, path in sorted(elf.closure(root, programs, TRIPLETS[target.arch]).items()):
        archive.file(inside, path.read_bytes())
    busybox(archive, root)
    order = elf.modules(target.modules_folder(), modules)
    for name, data in order:
        archive.file(f"lib/modules/{name}.ko", data, 0o644)
    archive.file("lib/modules/order", ("".join(n + "\n" for n, _ in order)).encode(), 0o644)
    data = archive.bytes()
    # Several images of a target live side by side: one for each choice of modules.
    for old in sorted(out.parent.glob(f"small-{target.name}-*.cpio"),
                      key=lambda p: p.stat().st_mtime)[:-12]:
        old.unlink(missing_ok=True)
    write(out, data)
    say(f"small initramfs {target.name}: Linux {target.version()}, {len(order)} modules, "
        f"{len(data) / 1e6:.1f} MB, {time.monotonic() - started:.1f} s")
    return out


def extra(files):
    """An archive of files alone, {path in the guest: path here or bytes}: the kernel unpacks it
    over the image before it."""
    archive = Archive()
    for inside, source in sorted(files.items()):
        data = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
        archive.file(inside, data)
    return archive.bytes()
