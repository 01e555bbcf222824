"""What is in which package."""
import pathlib

import manpages

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
MAINTAINER = "The Cellmate authors <cellmate@packages.invalid>"
MODULE = "uio_ivshmem"


class Package:
    """A binary package; `fill` puts its files into a tree."""

    name = section = description = ""
    maintainer, multi_arch, all = MAINTAINER, "", False
    depends, recommends, suggests, control = [], [], [], {}

    def fill(self, tree, arch, triplet):
        raise NotImplementedError


def script(*lines):
    return "\n".join(["#!/bin/sh", "set -e", *lines, ""])


class Library(Package):
    name, section, multi_arch = "libcellmate0", "libs", "same"
    description = """virtio between cells over ivshmem, shared library
 Cellmate carries virtio between the cells of a Jailhouse system, over
 ivshmem-v2 shared memory. This is its library for C programs: back-ends,
 front-ends and block devices over a link. It needs the C library alone."""
    control = {"triggers": "activate-noawait ldconfig\n",
               "shlibs": "libcellmate 0 libcellmate0 (>= @LIBRARY@~)\n"}

    def fill(self, tree, arch, triplet):
        folder, version = tree.build.library(arch) / "lib", tree.commit.library
        place, file = f"usr/lib/{triplet}", f"libcellmate.so.{version}"
        tree.program(folder / file, f"{place}/{file}", 0o644)
        tree.link(f"{place}/libcellmate.so.0", file)
        names = (ROOT / "Library/symbols").read_text().split()
        lines = ["libcellmate.so.0 libcellmate0 #MINVER#"]
        lines += [f" {n}@CELLMATE_0 0.2.0" for n in ["CELLMATE_0", *names]]
        self.control = {**Library.control, "symbols": "\n".join(lines) + "\n"}


class Development(Package):
    name, section, multi_arch = "libcellmate-dev", "libdevel", "same"
    depends = ["libcellmate0 (= @VERSION@)"]
    suggests = ["pkgconf", "cellmate-tools"]
    description = """virtio between cells over ivshmem, development files
 The header, documentation and examples for programs in C that use
 libcellmate."""

    def fill(self, tree, arch, triplet):
        tree.copy(ROOT / "Sources/CCellmate/include/cellmate.h", "usr/include/cellmate.h")
        tree.link(f"usr/lib/{triplet}/libcellmate.so", "libcellmate.so.0")
        tree.write(f"usr/lib/{triplet}/pkgconfig/cellmate.pc", f"""prefix=/usr
libdir=${{prefix}}/lib/{triplet}
includedir=${{prefix}}/include

Name: cellmate
Description: virtio between the cells of a Jailhouse system, over ivshmem-v2
Version: {tree.commit.library}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -lcellmate
""")
        for name in ("library.md", "protocol.md", "porting.md"):
            tree.copy(ROOT / "docs" / name, f"usr/share/doc/{self.name}/{name}")
        for path in sorted((ROOT / "Examples/library").glob("*.[ch]")):
            tree.copy(path, f"usr/share/doc/{self.name}/examples/{path.name}")
        tree.page("cellmate.h.3")


class Tools(Package):
    name, section, multi_arch = "cellmate-tools", "admin", ""
    recommends = ["udev", "systemd"]
    suggests = ["cellmate-dkms", "cellmate-workstation"]
    description = """virtio between cells over ivshmem, board tools and back-end
 ivshmem lists, explains, binds and tests ivshmem-v2 devices and drives the
 virtio devices behind them. ivshmem-backend serves disks, consoles, networks
 and random numbers to another cell or to a virtual machine. With udev rules,
 systemd units and manual pages. No Swift runtime is needed."""
    control = {
        "postinst": script(
            'if [ "$1" = configure ]; then',
            "  if command -v systemd-sysusers >/dev/null; then",
            '    systemd-sysusers ${DPKG_ROOT:+--root="$DPKG_ROOT"} cellmate.conf',
            "  elif command -v useradd >/dev/null; then",
            "    # Boards without systemd.",
            '    set -- ${DPKG_ROOT:+--root "$DPKG_ROOT"}',
            "    groupadd \"$@\" --system --force ivshmem",
            '    useradd "$@" --system --user-group --groups ivshmem --no-create-home \\',
            "      --shell /usr/sbin/nologin --home-dir /var/lib/ivshmem-backend \\",
            "      ivshmem-backend ||",
            "      [ $? = 9 ]",
            "  else",
            '    echo "cellmate-tools: neither systemd-sysusers nor useradd is here:" \\',
            '      "make the group ivshmem and the user ivshmem-backend by hand" >&2',
            "  fi",
            '  if [ -z "$DPKG_ROOT" ]; then',
            "    if [ -S /run/udev/control ]; then",
            "      udevadm control --reload || true",
            "      udevadm trigger --action=change --subsystem-match=uio \\",
            "        --subsystem-match=vfio || true",
            "    fi",
            "    if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi",
            "  fi",
            "fi"),
        "prerm": script(
            "# An upgrade leaves running back-ends alone: restart them when it suits.",
            'if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then',
            "  systemctl stop 'ivshmem-backend@*.service' || true",
            "fi"),
        "postrm": script(
            "# The user and its images stay: files could be left that belong to it.",
            'if [ -z "$DPKG_ROOT" ]; then',
            "  if [ -S /run/udev/control ]; then udevadm control --reload || true; fi",
            "  if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi",
            "fi"),
    }

    def fill(self, tree, arch, triplet):
        for name in ("ivshmem", "ivshmem-backend"):
            tree.program(tree.build.library(arch) / "bin" / name, f"usr/bin/{name}")
        for path in sorted((ROOT / "systemd").iterdir()):
            tree.copy(path, f"usr/lib/systemd/system/{path.name}")
        tree.copy(HERE / "60-ivshmem.rules", "usr/lib/udev/rules.d/60-ivshmem.rules")
        for name in ("ivshmem-name", "ivshmem-vfio-group"):
            tree.copy(HERE / name, f"usr/lib/cellmate/{name}", 0o755)
        tree.copy(HERE / "cellmate.sysusers", "usr/lib/sysusers.d/cellmate.conf")
        for name in ("ivshmem.1", "ivshmem-backend.8", "ivshmem-backend.conf.5"):
            tree.page(name)
        for name in ("service.md", "installing.md", "siemens.md"):
            tree.copy(ROOT / "docs" / name, f"usr/share/doc/{self.name}/{name}")
        tree.write("usr/share/bash-completion/completions/ivshmem", completion(tree))
        tree.link("usr/share/bash-completion/completions/ivshmem-backend", "ivshmem")


class Workstation(Package):
    name, section = "cellmate-workstation", "devel"
    recommends = ["cellmate-tools", "device-tree-compiler"]
    suggests = ["qemu-system-x86", "cellmate-cells"]
    description = """virtio between cells over ivshmem, workstation tools
 ivshmem-sim offers ivshmem-v2 links to processes and to virtual machines of
 an unmodified QEMU, without hardware. ivshmem-cell checks, shows, compares
 and generates cell configurations of the Jailhouse hypervisor."""

    def fill(self, tree, arch, triplet):
        for name in ("ivshmem-sim", "ivshmem-cell"):
            tree.program(tree.build.stripped(name), f"usr/bin/{name}")
            tree.page(f"{name}.1")
        for name in ("simulator.md", "cell-tool.md", "board-yaml.md"):
            tree.copy(ROOT / "docs" / name, f"usr/share/doc/{self.name}/{name}")


class Module(Package):
    name, section, all = "cellmate-dkms", "kernel", True
    depends = ["dkms (>= 3.0)"]
    recommends = ["cellmate-tools"]
    description = """uio_ivshmem kernel module, source for DKMS
 Shows ivshmem-v2 devices to user space with the interface that kernels of
 Siemens and NXP have. Kernels with a driver of that name keep it."""
    control = {
        "postinst": script(
            'if [ "$1" = configure ]; then',
            "  if [ -x /usr/lib/dkms/common.postinst ]; then",
            f'    /usr/lib/dkms/common.postinst {MODULE} "@VERSION@" /usr/share/{MODULE} "" "$2"',
            "  else",
            f'    echo "cellmate-dkms: no DKMS here; run: dkms install {MODULE}/@VERSION@" >&2',
            "  fi",
            "fi"),
        "prerm": script(
            "if command -v dkms >/dev/null; then",
            f'  dkms remove -m {MODULE} -v "@VERSION@" --all || true',
            "fi"),
    }

    def fill(self, tree, arch, triplet):
        place = f"usr/src/{MODULE}-{tree.commit.version}"
        for name in ("uio_ivshmem.c", "Kbuild", "Makefile"):
            tree.copy(ROOT / "linux" / name, f"{place}/{name}")
        text = (ROOT / "linux/dkms.conf").read_text()
        tree.write(f"{place}/dkms.conf", text.replace("@VERSION@", tree.commit.version))
        tree.copy(ROOT / "linux/README.md", f"usr/share/doc/{self.name}/README.md")
        tree.page("uio_ivshmem.4")


class Cells(Package):
    name, section, all = "cellmate-cells", "misc", True
    suggests = ["cellmate-workstation"]
    description = """cell configurations for boards, for the Jailhouse hypervisor
 Generated cell configurations, device trees and memory maps with ivshmem
 links between cells, for boards of the i.MX family and for QEMU."""

    def fill(self, tree, arch, triplet):
        for name in ("cell-configs", "dts"):
            tree.folder_of(ROOT / name, f"usr/share/cellmate/{name}")
        (tree.folder / "usr/share/cellmate/cell-configs/regenerate").unlink(missing_ok=True)


def completion(tree):
    """Words for bash, from the programs' help."""
    asked = tree.build.asked
    tool = manpages.ask([*asked["ivshmem"], "help"])
    options = {"": manpages.option_names(tool)}
    for verb in manpages.verbs(tool):
        try:
            page = manpages.ask([*asked["ivshmem"], "help", verb])
        except manpages.HelpError:
            page = tool
        options[verb] = manpages.option_names(page)
    runner = manpages.option_names(manpages.ask([*asked["ivshmem-backend"], "--help"]))

    def words(names):
        return " ".join(f"--{n}" for n in sorted(names))
    cases = "\n".join(f"    {v}) words='{words(names)}' ;;" for v, names in options.items() if v)
    return f"""# bash completion for ivshmem and ivshmem-backend; made from their help.
_ivshmem() {{
  local words word=${{COMP_WORDS[COMP_CWORD]}}
  case ${{COMP_WORDS[1]}} in
{cases}
    *) words='' ;;
  esac
  [ "$COMP_CWORD" -gt 1 ] || words='{" ".join(v for v in options if v)} help'
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
_ivshmem_backend() {{
  mapfile -t COMPREPLY < <(compgen -W '{words(runner)}' -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -o default -F _ivshmem ivshmem
complete -o default -F _ivshmem_backend ivshmem-backend
"""


def packages_of(arch, with_all, with_workstation):
    """The packages of an architecture; those for all come with the first."""
    out = [Library(), Development(), Tools()]
    if arch == "amd64" and with_workstation:
        out.append(Workstation())
    if with_all:
        out += [Module(), Cells()]
    return out
