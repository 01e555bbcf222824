# The file under the disk makes trouble, and the driver comes and goes. lab.sectors: the disk's size.
disk=/sys/block/vda
# In MiB: the file can be written up to `full`, and is cut off at `cut`.
full=16
cut=32
piece() { # NAME OPTIONS...: 1 MiB, past the cache
  dd bs=1M count=1 2>/tmp/dd "$@" || { cat /tmp/dd; return 1; }
}
idle() { same "nothing is in flight" "$(cat $disk/inflight | tr -s ' ')" " 0 0"; }
load() { # RW: in the background, errors are expected, it has to end
  /usr/bin/fio --name=load --filename=/dev/vda --direct=1 --ioengine=libaio --rw="$1" --bs=16k \
    --iodepth=16 --offset=4M --size=56M --io_size=24M --continue_on_error=all --randseed=7 --eta=never \
    --output=/tmp/fio --max_latency=120s &
  fio=$!
}
ended() {
  wait $fio
  if grep -q 'issued rwts' /tmp/fio; then good "$1: fio came to its end"; else
    bad "$1: fio: $(tr '\n' '|' </tmp/fio | cut -c1-800)"
  fi
  idle
}

wait_for "vda appears" 600 test -b /dev/vda || finish
head -c 1048576 /dev/urandom >/tmp/data
for spot in 1 $((full - 1)) $((cut - 1)) $((cut + 1)); do
  step "a write at $spot MiB" piece if=/tmp/data of=/dev/vda seek=$spot oflag=direct
done

answer full
step "a write below the limit" piece if=/tmp/data of=/dev/vda seek=2 oflag=direct
refused "a write beyond the limit" piece if=/tmp/data of=/dev/vda seek=$((full + 1)) oflag=direct
refused "a write across the limit" dd if=/dev/zero of=/dev/vda bs=1M seek=$((full - 1)) count=2 \
  oflag=direct
step "a read beyond the limit" piece if=/dev/vda of=/tmp/read skip=$((cut + 1)) iflag=direct
same "what was read" "$(sha256sum </tmp/read)" "$(sha256sum </tmp/data)"
load randwrite
answer loaded
ended "a full disk"
answer space
step "a write where there was no space" piece if=/tmp/data of=/dev/vda seek=$((full + 1)) oflag=direct

load randread
answer cut
ended "a file that is cut off"
refused "a read of what is cut off" piece if=/dev/vda of=/tmp/read skip=$((cut + 1)) iflag=direct
step "a read of what is left" piece if=/dev/vda of=/tmp/read skip=1 iflag=direct
same "what was read" "$(sha256sum </tmp/read)" "$(sha256sum </tmp/data)"
answer grow
step "a read of what is there again" piece if=/dev/vda of=/tmp/read skip=$((cut + 1)) iflag=direct

for round in 1 2 3 4 5; do
  step "the driver leaves, $round" rmmod virtio_blk
  step "the driver is back, $round" insmod /lib/modules/virtio_blk.ko
  wait_for "vda is back, $round" 600 test -b /dev/vda || finish
  step "a write, $round" piece if=/tmp/data of=/dev/vda seek=$((40 + round)) oflag=direct
  step "a read, $round" piece if=/dev/vda of=/tmp/read skip=$((40 + round)) iflag=direct
  same "what was read, $round" "$(sha256sum </tmp/read)" "$(sha256sum </tmp/data)"
done
