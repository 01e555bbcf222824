# The block device's judge. lab.phase: first, again (the data of `first` has to be there).
# lab.sectors, lab.queues, lab.cache (back, through): what the host gave; vda is writable, vdb (when lab.readonly=1) is not.
disk=/sys/block/vda
fio_verify() { # NAME FILE SIZE EXTRA...
  local name=$1 file=$2 size=$3
  shift 3
  /usr/bin/fio --name="$name" --filename="$file" --size="$size" --direct=1 --ioengine=libaio \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --output=/tmp/fio "$@" ||
    { cat /tmp/fio; return 1; }
  grep -q 'err= 0' /tmp/fio || { cat /tmp/fio; return 1; }
}
partition() { printf 'size=64MiB\n;\n' | /usr/sbin/sfdisk -q --no-tell-kernel /dev/vda &&
  /usr/sbin/blockdev --rereadpt /dev/vda; }
zero_after() { # OFFSET LENGTH (MiB) of vda2
  [ "$(dd if=/dev/vda2 bs=1M skip="$1" count="$2" iflag=direct 2>/dev/null | tr -d '\0' | wc -c)" = 0 ]
}
flushes() { awk '{print $16}' $disk/stat; }

wait_for "vda appears" 600 test -b /dev/vda || finish
same "capacity" "$(cat $disk/size)" "$sectors"
same "vda is writable" "$(cat $disk/ro)" 0
same "queues" "$(ls $disk/mq | wc -l)" "$queues"
same "write cache" "$(cat $disk/queue/write_cache)" "write $cache"
value serial "$(cat $disk/serial 2>/dev/null)"
value discard_max "$(cat $disk/queue/discard_max_bytes)"
value write_zeroes_max "$(cat $disk/queue/write_zeroes_max_bytes)"
value segments "$(cat $disk/queue/max_segments)"

first() {
  step "partition" partition
  wait_for "vda2 appears" 600 test -b /dev/vda2
  step "mkfs.ext4" /usr/sbin/mkfs.ext4 -q -F /dev/vda1
  step "mount" mount -t ext4 -o discard /dev/vda1 /mnt
  step "fio on ext4, verified" fio_verify files /mnt/fio "${mib}M" --rw=randwrite --bs=4k \
    --iodepth=8 --fsync=64
  rm -f /mnt/fio
  dd if=/dev/urandom of=/mnt/data bs=64k count=48 2>/dev/null
  (cd /mnt && sha256sum data >sum) && sync
  step "fstrim" /usr/sbin/fstrim /mnt
  step "unmount" umount /mnt
  step "fsck" /usr/sbin/e2fsck -fn /dev/vda1
  step "fio random, depth 32, verified" fio_verify raw /dev/vda2 "${mib}M" --rw=randrw \
    --bsrange=512-64k --blockalign=512 --iodepth=32
  step "fio sequential 1 MiB, verified" fio_verify big /dev/vda2 "${mib}M" --rw=write --bs=1M \
    --iodepth=4
  local before
  before=$(flushes)
  step "fsync" dd if=/dev/urandom of=/dev/vda2 bs=4k count=1 conv=fsync
  if [ "$cache" = through ]; then
    note "no flush is expected"
  elif [ "$(flushes)" -gt "$before" ]; then good "flush reaches the device"; else
    bad "flush reaches the device: $before flushes before and after"
  fi
  discard
}

discard() {
  if [ "$(cat $disk/queue/discard_max_bytes)" = 0 ]; then
    bad "discard: the device does not offer it"
    return
  fi
  dd if=/dev/urandom of=/dev/vda2 bs=1M count=8 oflag=direct 2>/dev/null
  step "blkdiscard" /usr/sbin/blkdiscard -o 2MiB -l 2MiB /dev/vda2
  step "discarded blocks read zeroes" zero_after 2 2
  refused "the block before was kept" zero_after 1 1
  refused "the block after was kept" zero_after 4 1
  answer discarded
  step "blkdiscard --zeroout" /usr/sbin/blkdiscard -z -o 5MiB -l 1MiB /dev/vda2
  step "zeroed blocks read zeroes" zero_after 5 1
}

again() {
  step "fsck" /usr/sbin/e2fsck -fn /dev/vda1
  step "mount" mount -t ext4 /dev/vda1 /mnt
  step "the data of the first boot" sh -c 'cd /mnt && sha256sum -c sum'
  step "unmount" umount /mnt
}

read_only() {
  wait_for "vdb appears" 600 test -b /dev/vdb || return
  same "vdb is read-only" "$(cat /sys/block/vdb/ro)" 1
  local before
  before=$(sha256sum </dev/vdb)
  refused "a write to vdb" dd if=/dev/urandom of=/dev/vdb bs=4k count=1 conv=fsync
  refused "a direct write to vdb" dd if=/dev/urandom of=/dev/vdb bs=4k count=1 oflag=direct
  refused "a discard of vdb" /usr/sbin/blkdiscard -f -o 0 -l 1MiB /dev/vdb
  /usr/sbin/blockdev --setrw /dev/vdb 2>/dev/null
  refused "a write after --setrw" dd if=/dev/urandom of=/dev/vdb bs=4k count=1 conv=fsync
  echo 3 >/proc/sys/vm/drop_caches
  same "vdb is unchanged" "$(sha256sum </dev/vdb)" "$before"
  step "mount read-only" mount -t ext4 -o ro /dev/vdb /mnt
  step "the file on vdb" sh -c 'cd /mnt && sha256sum -c sum'
  step "unmount vdb" umount /mnt
}

case $phase in
  first) first ;;
  again) again ;;
  reset)
    # The first time in this machine the disk is empty; after the reset it is not.
    if [ -b /dev/vda1 ]; then again; else
      first
      report "note machine reset"
      sync
      usleep 50000
      reboot -f
    fi
    ;;
esac
if [ "$readonly" = 1 ]; then read_only; fi
