"""Debian packages, fetched and unpacked privately: apt verifies them, nothing is installed.

apt gets a state of its own (lists, cache, an empty status file) below the lab's cache folder, so
neither root nor the machine's own package state is needed. The mirror is the one that the machine
already uses for Debian; its signatures are checked with Debian's archive keyring.
"""
import fcntl
import glob
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import time

from .common import LabError, cache, say

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "trixie"
BACKPORTS = "trixie-backports"
OLD_SUITE = "bookworm"
TIME_LIMIT = 600

# Parts of a closure that no program of the lab loads.
LEFT_OUT = re.compile(
    r"^(adduser|base-passwd|debconf|dmsetup|dpkg|gcc-.*-base|init-system-helpers|libasound2-data"
    r"|libaudit-common|libbpf1|libbrlapi.*|libdebconfclient0|libjpeg.*|liblastlog.*|libpam-.*"
    r"|libpython3.*|libsemanage.*|libsepol2|login.defs|logsave|media-types|netbase|passwd"
    r"|python3.*|readline-common|tar|tzdata)$")


class Bundle:
    """A set of packages that is unpacked into one folder.

    `wanted` are package names; `closure` takes their dependencies along; `via` follows a
    metapackage to the kernel packages of one version that it stands for (newer kernels are split
    into several); `host_suite` takes the packages from the suite of this machine, because its
    libraries will run them.
    """

    def __init__(self, name, wanted, arch="amd64", closure=False, release=SUITE, via=None,
                 host_suite=False):
        self.name, self.wanted, self.arch, self.closure = name, wanted, arch, closure
        self.release, self.via, self.host_suite = release, via, host_suite

    @property
    def folder(self):
        return cache() / "root" / self.name


GUEST = ["busybox-static", "fio", "e2fsprogs", "util-linux", "fdisk", "rng-tools5", "iputils-ping"]
BUNDLES = [
    Bundle("uml", ["user-mode-linux"], host_suite=True),
    Bundle("guest-amd64", GUEST, closure=True),
    Bundle("qemu", ["qemu-system-x86", "qemu-system-arm", "qemu-utils"], closure=True,
           release=BACKPORTS),
    Bundle("kernel-amd64-cloud", [], via="linux-image-cloud-amd64"),
    Bundle("guest-arm64", GUEST, arch="arm64", closure=True),
    Bundle("kernel-arm64", [], arch="arm64", via="linux-image-arm64"),
    Bundle("kernel-amd64", [], via="linux-image-amd64"),
    Bundle("kernel-amd64-6.1", [], via="linux-image-amd64", release=OLD_SUITE),
    Bundle("kernel-amd64-newest", [], via="linux-image-amd64", release=BACKPORTS),
    Bundle("kernel-arm64-6.1", [], arch="arm64", via="linux-image-arm64", release=OLD_SUITE),
    Bundle("kernel-arm64-newest", [], arch="arm64", via="linux-image-arm64", release=BACKPORTS),
    Bundle("blkio", ["libblkio1", "libblkio-dev"], closure=True),
]
QUICK = ["uml", "guest-amd64", "qemu", "kernel-amd64-cloud"]


def bundle(name):
    """The bundle of that name; LabError when it was not fetched."""
    for one in BUNDLES:
        if one.name == name:
            if not (one.folder / ".complete").exists():
                raise LabError(f"{name} is not in the cache; run Lab/fetch")
            return one.folder
    raise LabError(f"no package set is called {name}")


def debian_suite():
    """The code name of this machine's Debian."""
    facts = {}
    try:
        for line in open("/etc/os-release"):
            key, _, value = line.strip().partition("=")
            facts[key] = value.strip('"')
    except OSError:
        pass
    if facts.get("ID") != "debian" or not facts.get("VERSION_CODENAME"):
        raise LabError("the lab needs a Debian machine (12 or 13): its packages come from there")
    return facts["VERSION_CODENAME"]


def debian_mirror(suite):
    """The URI from which this machine takes its own suite, read from apt's configuration."""
    plan = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages"],
        capture_output=True, text=True, timeout=60)
    for line in plan.stdout.splitlines():
        release, _, uri = line.partition(" ")
        if release == suite:
            return uri.strip().rstrip("/")
    raise LabError(f"apt's sources name no mirror for {suite}; add one and run this again")


class Apt:
    """apt-get and apt-cache with a private state."""

    def __init__(self):
        self.home = cache() / "apt"
        self.host_suite = debian_suite()
        if not pathlib.Path(KEYRING).exists():
            raise LabError("package debian-archive-keyring is missing: apt-get install it")
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if not shutil.which(tool):
                raise LabError(f"{tool} is missing; the lab takes its programs from Debian")
        self.updated = False

    def options(self, arch):
        home = self.home
        pairs = {
            "Dir::Etc::sourcelist": home / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State::Lists": home / "lists", "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            # Container images switch these off, and each call then reads all lists anew.
            "Dir::Cache::pkgcache": "pkgcache.bin", "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "APT::Architecture": arch,
            "APT::Install-Recommends": "0", "Debug::NoLocking": "1", "Acquire::Languages": "none",
            "APT::Sandbox::User": "", "Acquire::Retries": "3", "Acquire::http::Timeout": "30",
            "Dpkg::Use-Pty": "0",
        }
        out = ["-o", "APT::Architectures::=amd64", "-o", "APT::Architectures::=arm64"]
        for key, value in pairs.items():
            out += ["-o", f"{key}={value}"]
        return out

    def run(self, program, arch, *words, folder=None):
        done = subprocess.run([program, *self.options(arch), *words], cwd=folder, text=True,
                              capture_output=True, timeout=TIME_LIMIT,
                              env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            lines = [t for t in done.stderr.splitlines() if t.startswith("E:")]
            raise LabError(f"{program} {' '.join(words)[:120]}: " + (
                lines[0] if lines else f"exit status {done.returncode}"))
        return done.stdout

    def update(self):
        if self.updated:
            return
        mirror = debian_mirror(self.host_suite)
        for part in ("lists/partial", "cache/archives/partial"):
            (self.home / part).mkdir(parents=True, exist_ok=True)
        (self.home / "status").write_text("")
        suites = list(dict.fromkeys([self.host_suite, SUITE, BACKPORTS, OLD_SUITE]))
        (self.home / "sources.list").write_text("".join(
            f"deb [signed-by={KEYRING}] {mirror} {suite} main\n" for suite in suites))
        started = time.monotonic()
        self.run("apt-get", "amd64", "update", "-qq")
        say(f"package lists: {time.monotonic() - started:.1f} s")
        self.updated = True

    def plan(self, one):
        """The packages of a bundle as name:arch=version."""
        if one.via:
            return [f"{name}:{one.arch}={version}" for name, version in self.kernel(one)]
        if not one.closure:
            suite = self.host_suite if one.host_suite else one.release
            return [f"{name}:{one.arch}/{suite}" for name in one.wanted]
        # The host's suite must not win over the lab's: -t gives the lab's suite priority 990.
        listing = self.run("apt-get", one.arch, "-t", one.release, "-s", "install", *one.wanted)
        found = re.findall(r"^Inst (\S+) \((\S+)", listing, re.M)
        return [f"{name.split(':')[0]}:{one.arch}={version}" for name, version in found
                if not LEFT_OUT.match(name.split(":")[0])]


    def kernel(self, one):
        """(name, version) of the packages of one kernel version that a metapackage stands for."""
        found, queue = {}, [one.via]
        while queue:
            name = queue.pop()
            shown = self.run("apt-cache", one.arch, "show", f"{name}/{one.release}")
            version = re.search(r"^Version: (\S+)", shown, re.M)
            depends = re.search(r"^Depends: (.*)", shown, re.M)
            if re.search(r"\d", name.removesuffix(one.arch)):
                found[name] = version[1]
            for word in (depends[1] if depends else "").split(","):
                # "linux-base", "linux-initramfs-tool" and their like name no version.
                one_of = re.match(r" *(linux-[a-z]+-(?=\d|amd64|arm64)\S+)", word)
                if one_of and one_of[1] not in found:
                    queue.append(one_of[1])
        if not found:
            raise LabError(f"{one.via} of {one.release} names no kernel package")
        return sorted(found.items())


def newer(apt, bundles):
    """(bundle, package, version there, version in the archive) of what the archive has newer."""
    out = []
    for one in bundles:
        there = set((one.folder / ".complete").read_text().split())
        for line in apt.plan(one):
            name, _, version = line.partition("=")
            if not version or not re.match(r"qemu-system|linux-", name):
                continue
            prefix = f"{name.split(':')[0]}_"
            wanted = f"{prefix}{version.replace(':', '%3a')}_"
            if not any(f.startswith(wanted) for f in there):
                mine = next((f for f in there if f.startswith(prefix)), "another package")
                out.append((one.name, name.split(":")[0], mine, version))
                break
    return out


def download(apt, one, debs):
    """Brings the packages of a bundle; a list that is older than the archive is read anew once."""
    for attempt in (1, 2):
        plan = apt.plan(one)
        try:
            apt.run("apt-get", one.arch, "download", "-qq", *plan, folder=debs)
            return plan
        except LabError as error:
            if attempt == 2:
                raise LabError(
                    f"{one.name}: {error}; the archive may be changing, run Lab/fetch again in "
                    f"some minutes (backports deletes a version when a newer one comes)") from None
            apt.updated = False
            apt.update()
    return []


def install(apt, one):
    """Downloads and unpacks one bundle; returns what it took."""
    apt.update()
    started = time.monotonic()
    debs = cache() / "debs" / one.name
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir(parents=True)
    plan = download(apt, one, debs)
    fetched = time.monotonic()
    fresh = one.folder.with_name(one.folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    files = sorted(glob.glob(f"{debs}/*.deb"))
    if len(files) != len(plan):
        raise LabError(f"{one.name}: {len(plan)} packages wanted, {len(files)} came")
    size = sum(os.path.getsize(f) for f in files)
    for deb in files:
        subprocess.run(["dpkg-deb", "-x", deb, str(fresh)], check=True, timeout=TIME_LIMIT)
    names = "\n".join(os.path.basename(f) for f in files) + "\n"
    (fresh / ".complete").write_text(names)
    shutil.rmtree(one.folder, ignore_errors=True)
    fresh.rename(one.folder)
    shutil.rmtree(debs)
    say(f"{one.name}: {len(files)} packages, {size / 1e6:.0f} MB, "
        f"fetched in {fetched - started:.1f} s, unpacked in {time.monotonic() - fetched:.1f} s")


def fetch(names=None, again=False, look=False):
    """Brings the named bundles (all by default) into the cache; what is there already stays.
    `look`: says which of those have a newer version in the archive."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise LabError(f"the lab's programs are amd64 programs, this machine is {machine}")
    home = cache()
    home.mkdir(parents=True, exist_ok=True)
    wanted = [b for b in BUNDLES if names is None or b.name in names]
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [b for b in wanted if again or not (b.folder / ".complete").exists()]
        if not missing and not look:
            return 0
        apt = Apt()
        if look:
            apt.update()
            there = [b for b in wanted if b not in missing]
            for name, package, mine, version in newer(apt, there):
                say(f"{name}: the archive has {package} {version}, the cache {mine}; "
                    f"Lab/fetch --again {name} takes it")
        for one in missing:
            try:
                install(apt, one)
            except subprocess.TimeoutExpired as error:
                raise LabError(f"{one.name}: no answer within {error.timeout:.0f} s") from None
            except subprocess.CalledProcessError as error:
                raise LabError(f"{one.name}: {' '.join(error.cmd[:2])} failed") from None
    return len(missing)


def version(one):
    """The version of a bundle's first package that has the name of the set's purpose."""
    for line in sorted((one.folder / ".complete").read_text().split()):
        if re.match(r"qemu-system-x86|linux-(image|binary|headers)-\d|user-mode-linux", line):
            return line.split("_")[1].replace("%3a", ":")
    return ""


def fingerprint(name):
    """A short value that changes with the packages of a bundle."""
    text = (bundle(name) / ".complete").read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:12]
