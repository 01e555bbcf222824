# A guest that is killed while it writes; lab.last=1: it may live.
wait_for "vda appears" 600 test -b /dev/vda || finish
writes() { awk '{print $5}' /sys/block/vda/stat; }
/usr/bin/fio --name=load --filename=/dev/vda --size=48M --direct=1 --ioengine=libaio --rw=randwrite \
  --bs=4k --iodepth=32 --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --eta=never \
  --number_ios=4000 --output=/tmp/fio &
fio=$!
while [ "$(writes)" -lt 200 ] && [ -d /proc/$fio ]; do usleep 5000; done
if [ "$last" != 1 ]; then
  answer loaded
  bad "this guest lives on"
fi
wait $fio
same "fio's status" $? 0
if grep -q 'err= 0' /tmp/fio; then good "fio's verification"; else
  bad "fio's verification: $(tr '\n' '|' </tmp/fio | cut -c1-800)"
fi
