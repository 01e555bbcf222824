# The back-end is killed under load and comes back; the host kills it at every "at loaded". Nothing
# may be lost or doubled: fio compares what it wrote, the counts of the block layer have to agree.
disk=/sys/block/vda
writes() { awk '{print $5}' $disk/stat; }
wait_for "vda appears" 600 test -b /dev/vda || finish

/usr/bin/fio --name=load --filename=/dev/vda --size="${mib}M" --direct=1 --ioengine=libaio \
  --rw=randwrite --bsrange=4k-32k --blockalign=4k --iodepth=32 --iodepth_batch_submit=16 \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --loops="$loops" --randseed=7 --eta=never \
  --output=/tmp/fio &
fio=$!
round=1
while [ $round -le "$rounds" ]; do
  target=$(($(writes) + 100))
  tries=0
  # The kill comes while requests are in flight, as far as one can see from here.
  while [ $tries -lt 12000 ] && [ -d /proc/$fio ]; do
    if [ "$(writes)" -ge $target ]; then
      # Without a process for each look: a fast disk is busy for moments only.
      looks=0
      while [ $looks -lt 500 ]; do
        read -r _ pending <$disk/inflight
        if [ "$pending" -ge 4 ]; then break 2; fi
        looks=$((looks + 1))
      done
    fi
    usleep 5000
    tries=$((tries + 1))
  done
  if [ ! -d /proc/$fio ]; then
    bad "kill $round: fio ended too early: $(tr '\n' '|' </tmp/fio | cut -c1-800)"
    break
  fi
  if [ $tries -ge 12000 ]; then
    bad "kill $round: no progress, $(cat $disk/inflight) in flight"
    finish
  fi
  note "kill $round at $(writes) writes, in flight: $(cat $disk/inflight)"
  answer loaded
  good "kill $round under load"
  round=$((round + 1))
done
wait $fio
same "fio's status" $? 0
if grep -q 'err= 0' /tmp/fio; then good "fio's verification"; else
  bad "fio's verification: $(tr '\n' '|' </tmp/fio | cut -c1-800)"
fi
same "nothing is in flight" "$(cat $disk/inflight | tr -s ' ')" " 0 0"
issued=$(sed -n 's/.*issued rwts: total=[0-9]*,\([0-9]*\),.*/\1/p' /tmp/fio)
note "fio issued $issued writes, the block layer completed $(awk '{print $5 + $6}' $disk/stat)"
same "writes issued and completed" "$(awk '{print $5 + $6}' $disk/stat)" "$issued"
answer idle
step "a write after a kill at rest" dd if=/dev/urandom of=/dev/vda bs=4k count=1 conv=fsync
