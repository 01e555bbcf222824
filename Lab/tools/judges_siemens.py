"""What Linux' virtio_ivshmem driver is asked to do with our devices."""
import hashlib
import os
import time

from . import processes
from .siemens_link import Client

VERIFY = ("/usr/bin/fio --name=v --filename={file} --size={size} --rw=randrw --bsrange=512-128k "
          "--iodepth={depth} --ioengine=libaio --direct=1 --verify=crc32c --do_verify=1 "
          "--verify_fatal=1 --randseed={seed} --output=/tmp/fio {more} || "
          "{{ tail -n 20 /tmp/fio; false; }}")


def fio(file, size="24M", depth=4, seed=1, more=""):
    return VERIFY.format(file=file, size=size, depth=depth, seed=seed, more=more)


def use_disk(case, one, disk="/dev/vda", slow=False):
    """Partition, file system, verified input and output, on the raw disk and on files."""
    case.run(one, "the disk is there", f"test -b {disk}")
    if slow:
        # Each access to the sections goes through QEMU and the simulator.
        case.run(one, "raw requests verify", fio(disk, "256k"), 240)
        return
    case.run(one, "raw requests verify", fio(disk, more="--fsync=32"), 240)
    case.run(one, "partition", f"echo ',,L' | /usr/sbin/sfdisk -q {disk} && test -b {disk}1")
    case.run(one, "mkfs", f"/usr/sbin/mke2fs -q -t ext4 -F {disk}1", 120)
    case.run(one, "mount", f"mkdir -p /mnt && mount -t ext4 {disk}1 /mnt")
    case.run(one, "files verify", fio("/mnt/v", "16M", 8, 2), 240)
    case.run(one, "unmount", "umount /mnt")
    case.run(one, "e2fsck", f"/usr/sbin/e2fsck -fn {disk}1", 120)


def block(case, **more):
    link = case.link("disk", "block", f"block,file={case.image()}", **more).serve()
    one = case.boot([link])
    use_disk(case, one, slow=bool(more.get("intx")))
    text = case.run(one, "interrupts", "grep virtio /proc/interrupts")
    wanted = 2 if more.get("vectors", 2) > 1 and not more.get("intx") else 1
    case.check("vectors", len(text.splitlines()) == wanted, text)
    case.end(one)


def block_msix(case):
    block(case, vectors=2)


def block_intx(case):
    block(case, intx=True)


def block_one_msix(case):
    block(case, vectors=1)


def block_small(case):
    """The shipped configuration's section: one segment a request."""
    block(case, vectors=2, size="892K")


def killed(case):
    """SIGKILL for the back-end under verified load, and an update: the guest must not notice."""
    link = case.link("disk", "block", f"block,file={case.image()}").serve()
    one = case.boot([link])
    job = one.spawn(fio("/dev/vda", "48M", 16, 3, "--loops=40 --time_based --runtime=25"))
    kills, status = 0, None
    while status is None:
        if kills < case.rounds and link.kill_backend():
            kills += 1
        time.sleep(0.6)
        status, text = one.job(job)
    case.check("fio under SIGKILL", status == 0, text[-300:])
    case.check("it was killed", kills >= min(case.rounds, 3), f"{kills} times")
    came = link.words().count("goes on where an earlier back-end stopped")
    case.check("each one went on", came >= kills, f"{came} of {kills}: {link.words()[-300:]}")
    os.kill(link.supervisor, 10)
    case.run(one, "requests during an update", fio("/dev/vda", "8M", 4, 4), 240)
    case.end(one)


def hung(case):
    """A back-end that stops answering is replaced by its watchdog; the guest waits for it."""
    link = case.link("disk", "block", f"block,file={case.image()}").serve()
    one = case.boot([link])
    os.kill(link.child(), 19)
    case.run(one, "requests go on", fio("/dev/vda", "4M", 4, 5), 240)
    case.check("by the watchdog", "no sign of life" in link.words(), link.words()[-200:])
    case.end(one)


def restarted(case):
    """The guest is destroyed at any moment and started again; then it resets itself."""
    link = case.link("disk", "block", f"block,file={case.image()}").serve()
    for number in range(3):
        one = case.boot([link], f"destroyed{number}")
        case.run(one, "the disk is there", "test -b /dev/vda")
        one.spawn(fio("/dev/vda", "48M", 16, number, "--time_based --runtime=60"))
        time.sleep(0.5 + 0.7 * number)
        one.kill()
    one = case.boot([link], "last", reboot=True)
    use_disk(case, one)
    one.send("run 9999 5 " + "ZWNobyBiID4gL3Byb2Mvc3lzcnEtdHJpZ2dlcg==")
    one.wait_ready(180)
    case.run(one, "the driver loads after a reset", "insmod /root/virtio_ivshmem.ko")
    case.run(one, "the file system is there", "mkdir -p /mnt; mount -t ext4 -o ro /dev/vda1 /mnt "
             "&& test -s /mnt/v && umount /mnt")
    case.end(one)


def unbound(case):
    """The driver goes and comes."""
    link = case.link("disk", "block", f"block,file={case.image()}").serve()
    one = case.boot([link])
    address = case.run(one, "the device", "cd /sys/bus/pci/drivers/virtio-ivshmem; "
                       "for d in 0*; do echo $d; done").strip()
    for number in range(3):
        case.run(one, f"unbind {number}",
                 f"echo {address} >/sys/bus/pci/drivers/virtio-ivshmem/unbind; ! test -b /dev/vda")
        case.run(one, f"bind {number}",
                 f"echo {address} >/sys/bus/pci/drivers/virtio-ivshmem/bind; test -b /dev/vda")
        case.run(one, f"verify {number}", fio("/dev/vda", "4M", 4, number), 240)
    case.run(one, "unload and load",
             "rmmod virtio_ivshmem && insmod /root/virtio_ivshmem.ko && test -b /dev/vda")
    use_disk(case, one)
    case.end(one)


def early(case):
    """A guest that was there before any back-end: the driver gives up, and is bound by hand."""
    link = case.link("disk", "block", f"block,file={case.image()}")
    one = case.boot([link])
    case.run(one, "no disk", "! test -b /dev/vda; dmesg | grep 'backend not ready'")
    link.serve()
    case.run(one, "still none", "! test -b /dev/vda")
    case.run(one, "bind by hand",
             "for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x4106 ] || continue; "
             "echo ${d##*/} >/sys/bus/pci/drivers/virtio-ivshmem/bind; done; test -b /dev/vda")
    use_disk(case, one)
    case.end(one, [r"backend not ready"])


def console(case, **more):
    end = case.private / "console"
    link = case.link("console", "console", f"console,socket={end},size=100x40", **more).serve()
    one = case.boot([link])
    case.run(one, "hvc0", "test -c /dev/hvc0")
    client = Client(end)
    case.run(one, "a shell", "setsid sh -c 'exec sh -i </dev/hvc0 >/dev/hvc0 2>&1' & sleep 0.1")
    client.send(b"echo a$((6*7))b; stty size\n")
    case.check("an answer", client.until(b"a42b"), repr(client.data[-200:]))
    case.check("its size", client.until(b"40 100"), repr(client.data[-200:]))
    client.send(b"stty raw -echo; echo ready-$((1+1)); head -c 262144 | md5sum >/tmp/sum; "
                b"stty sane; echo done-$((2+2))\n")
    case.check("raw", client.until(b"ready-2"), repr(client.data[-200:]))
    data = os.urandom(262144)
    client.send(data)
    case.check("all came", client.until(b"done-4", 120), repr(client.data[-200:]))
    text = case.run(one, "sum", "cat /tmp/sum")
    case.check("typed bytes are whole", hashlib.md5(data).hexdigest() in text, text)
    client.data = b""
    if case.rounds:
        client.close()
        link.replace_backend()
        client = Client(end)
    client.send(b"seq 1 2000; echo end-$((3+3))\n")
    case.check("shown", client.until(b"end-6", 60), repr(client.data[-60:]))
    numbers = [int(w) for w in client.data.split() if w.isdigit()]
    case.check("in order", numbers[-2000:] == list(range(1, 2001)), str(numbers[-5:]))
    client.close()
    case.end(one)


def console_full(case):
    console(case, vectors=3)


def console_two(case):
    """One vector for the configuration, one for all queues."""
    console(case, vectors=2)


def console_intx(case):
    console(case, intx=True)


def entropy(case):
    link = case.link("entropy", "4", "entropy", vectors=2).serve()
    one = case.boot([link])
    case.run(one, "the source", "grep virtio /sys/class/misc/hw_random/rng_available")
    case.run(one, "odd sizes", "for n in 1 7 63 64 65 4097; do "
             "[ $(dd if=/dev/hwrng bs=$n count=1 2>/dev/null | wc -c) -gt 0 ] || exit 1; done")
    link.replace_backend()
    text = case.run(one, "statistics", "dd if=/dev/hwrng bs=2500 count=110 iflag=fullblock "
                    "2>/dev/null | /usr/bin/rngtest -c 100 2>&1", 180)
    case.check("rngtest", "successes: 9" in text or "successes: 100" in text, text[-200:])
    case.end(one)


def held(case, driver):
    """Our back-end in the guest, on a device of the kernel, killed under load of a front-end of
    the same dialect out here: what keeps the device is the supervisor's descriptor."""
    link = case.link("disk", "block", "", peer=0)
    uses_vfio = driver == "vfio-pci"
    files = {} if uses_vfio else {"root/uio_ivshmem.ko": str(case.extra("uio_ivshmem.ko"))}
    one = case.host([link], ["virtio_pci", "virtio_iommu", "vfio_iommu_type1", "vfio_pci"]
                    if uses_vfio else ["uio"], files, uses_vfio)
    if not uses_vfio:
        case.run(one, "the module loads", "insmod /root/uio_ivshmem.ko")
    address = one.bind(driver)[0]
    case.run(one, "an image", "dd if=/dev/urandom of=/tmp/disk bs=1M count=16 2>/dev/null")
    wanted = case.run(one, "its sum", "md5sum </tmp/disk").split()[0]
    kind = "vfio" if uses_vfio else "uio"
    case.run(one, "served", "ivshmem-backend --supervise --background --pid-file /tmp/pid "
             f"--restart-delay 1 --link {kind}:{address} --device block,file=/tmp/disk "
             "2>/tmp/words || { cat /tmp/words; false; }")
    copy = case.folder / "copy"
    reader = processes.start(
        [case.programs / "ivshmem", "frontend", "block", "read", "--json", "--quiet", "--link",
         f"sim:{link.socket},peer=1", "--size", "4K", "--depth", "4", "--file", copy],
        case.folder / "reader.log")
    kills = 0
    while reader.poll() is None and kills < case.rounds:
        # Each one shall have gone on: an emulated processor takes its time to start the next.
        result = one.run(
            "n=$(grep -c 'goes on' /tmp/words); p=$(cat /tmp/pid); "
            "kill -9 $(cat /proc/$p/task/$p/children) && for i in $(seq 200); do "
            "[ $(grep -c 'goes on' /tmp/words) -gt $n ] && exit 0; usleep 100000; done; exit 1", 60)
        kills += result.ok and reader.poll() is None
    case.check("the reader ends", reader.wait(120) == 0, (case.folder / "reader.log").read_text())
    case.check("nothing was lost", hashlib.md5(copy.read_bytes()).hexdigest() == wanted)
    words = (case.folder / "reader.log").read_text()
    case.check("nothing was noticed", '"recoveries":0' in words, words)
    case.check("it was killed", kills >= 3, f"{kills} times")
    words = case.run(one, "its words", "cat /tmp/words")
    case.check("each one went on", words.count("goes on where an earlier") >= min(kills, 3), words)
    case.check("no new start", words.count("is of no use") == 0, words[-300:])
    case.run(one, "stopped", "kill $(cat /tmp/pid); while [ -e /tmp/pid ]; do sleep 0.1; done")
    case.note(f"{kills} kills")
    case.end(one, [r"vfio", r"uio_ivshmem: (loading|module)"])


def held_uio(case):
    held(case, "uio_ivshmem")


def held_vfio(case):
    held(case, "vfio-pci")


TESTS = {
    "block-msix": block_msix, "block-intx": block_intx, "block-one-msix": block_one_msix,
    "block-small": block_small, "killed": killed, "hung": hung, "restarted": restarted,
    "unbound": unbound, "early": early, "console-full": console_full, "console-two": console_two,
    "console-intx": console_intx, "entropy": entropy,
    "held-uio": held_uio, "held-vfio": held_vfio,
}
