# Runs fio jobs on vda and reports what fio measured, as its terse line. lab.seconds: each job.
# The clock source is one that emulation keeps true (the host gives it on the command line).
wait_for "vda appears" 600 test -b /dev/vda || finish
value clock "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
job() { # NAME KIND BLOCK DEPTH
  answer "begin $1"
  /usr/bin/fio --name="$1" --filename=/dev/vda --direct=1 --ioengine=libaio --rw="$2" --bs="$3" \
    --iodepth="$4" --runtime="$seconds" --time_based --randrepeat=1 --eta=never --minimal \
    --terse-version=3 --output=/tmp/fio || bad "fio $1"
  answer "end $1 $(cat /tmp/fio)"
}
job randread-1 randread 4k 1
job randread-32 randread 4k 32
job randwrite-1 randwrite 4k 1
job randwrite-32 randwrite 4k 32
job read-128k read 128k 8
job write-128k write 128k 8
