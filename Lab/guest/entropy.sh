# The entropy device's judge: the kernel's driver feeds /dev/hwrng, rngtest (FIPS 140-2) looks at it.
# lab.blocks: blocks of 2500 bytes to test.
class=/sys/class/misc/hw_random
is_ours() { grep -q '^virtio_rng' $class/rng_current; }
bytes() { # COUNT SIZE
  dd if=/dev/hwrng bs="$2" count="$1" iflag=fullblock 2>/dev/null
}

wait_for "virtio_rng is the current source" 600 is_ours || finish
value source "$(cat $class/rng_current)"
same "a read of one byte" "$(bytes 1 1 | wc -c)" 1
same "reads of odd sizes" "$(bytes 37 61 | wc -c)" $((37 * 61))
same "a read of 64 KiB" "$(bytes 1 65536 | wc -c)" 65536

bytes "$blocks" 2500 >/tmp/random
same "everything was read" "$(wc -c </tmp/random)" $((blocks * 2500))
# The test's own false alarms are about 8 in 10,000 blocks.
/usr/bin/rngtest -c "$blocks" </tmp/random >/tmp/rngtest 2>&1
failed=$(sed -n 's/.*FIPS 140-2 failures: *//p' /tmp/rngtest)
passed=$(sed -n 's/.*FIPS 140-2 successes: *//p' /tmp/rngtest)
value rngtest "$passed passed, $failed failed"
if [ "${failed:-999}" -le 5 ] && [ "$((passed + failed))" -ge $((blocks - 1)) ]; then
  good "rngtest"
else
  bad "rngtest: $(tr '\n' '|' </tmp/rngtest | cut -c1-800)"
fi
# A buffer that is given twice passes rngtest; sixteen random bytes never come twice.
od -An -v -tx1 -w16 /tmp/random | head -n 62500 | sort >/tmp/words
same "no sixteen bytes come twice" "$(uniq </tmp/words | wc -l)" "$(wc -l </tmp/words)"

# The driver goes and comes: a device reset while it has a buffer of the driver.
dd if=/dev/hwrng of=/tmp/out bs=64k count=8 iflag=fullblock 2>/dev/null &
reader=$!
step "the driver leaves" rmmod virtio_rng
wait $reader
refused "the source is gone" is_ours
step "the driver is back" insmod /lib/modules/virtio_rng.ko
wait_for "virtio_rng is the current source again" 600 is_ours
same "a read after that" "$(bytes 1 4096 | wc -c)" 4096
