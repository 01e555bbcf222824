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
from .common import LAB, LabError, cache, say

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
        packed = next(iter(sorted((root / "boot").glob("vmlinuz-*"))), None)
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
        self.inode = 0
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def build(target):
    """Makes the image of one target and returns its path; an image that is current is kept."""
    scripts = sorted((LAB / "guest").iterdir())
    inputs = "".join([
        packages.fingerprint(target.kernel_set), packages.fingerprint(target.guest_set),
        pathlib.Path(__file__).read_text(), pathlib.Path(elf.__file__).read_text(), *(p.read_text() for p in scripts)])
    mark = hashlib.sha256(inputs.encode()).hexdigest()[:12]
    out = cache() / "images" / f"initramfs-{target.name}-{mark}.cpio"
    if out.exists():
        return out
    started = time.monotonic()
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "mnt", "run", "etc", "lab", "bin"):
        archive.folder(name)
    archive.entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.entry("dev/null", stat.S_IFCHR | 0o666, device=(1, 3))
    root = packages.bundle(target.guest_set)
    files = elf.closure(root, PROGRAMS, TRIPLETS[target.arch])
    for inside, path in sorted(files.items()):
        archive.file(inside, path.read_bytes())
    archive.link("usr/sbin/mkfs.ext4", "mke2fs")
    busybox = next(p for p in (root / "usr/bin/busybox", root / "bin/busybox") if p.exists())
    archive.file("bin/busybox", busybox.read_bytes())
    archive.link("bin/sh", "busybox")
    archive.file("etc/mke2fs.conf", b"[defaults]\nbase_features = sparse_super,filetype,"
                 b"resize_inode,dir_index,ext_attr\n[fs_types]\n"
                 b"ext4 = {\n features = has_journal,extent,64bit,metadata_csum,flex_bg\n}\n")
    order = elf.modules(target.modules_folder(), MODULES)
    for name, data in order:
        archive.file(f"lib/modules/{name}.ko", data, 0o644)
    archive.file("lib/modules/order", ("".join(n + "\n" for n, _ in order)).encode(), 0o644)
    for script in scripts:
        place = "init" if script.name == "init" else f"lab/{script.name}"
        archive.file(place, script.read_bytes())
    data = archive.bytes()
    for old in out.parent.glob(f"initramfs-{target.name}-????????????.cpio"):
        old.unlink(missing_ok=True)
    write(out, data)
    say(f"initramfs {target.name}: Linux {target.version()}, {len(order)} modules, "
        f"{len(data) / 1e6:.0f} MB, {time.monotonic() - started:.1f} s")
    return out
