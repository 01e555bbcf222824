# The console device's judge: a login on hvc0, named ports. lab.count: bytes of a transfer.
# lab.reset=1: the machine is reset
# at the end and a person logs in once more.
port() { # NAME: the device of a port
  local entry
  for entry in /sys/class/virtio-ports/*; do
    if [ "$(cat "$entry/name" 2>/dev/null)" = "$1" ]; then echo "/dev/${entry##*/}"; fi
  done
}
there() { [ -n "$(port "$1")" ]; }

login() {
  # The password is empty.
  echo 'root::0:0:root:/:/bin/sh' >/etc/passwd
  echo 'root:x:0:' >/etc/group
  setsid getty -L 0 hvc0 vt100 &
  getty=$!
  answer login
  wait $getty
}

wait_for "hvc0 appears" 600 test -c /dev/hvc0 || finish
for name in lab.one lab.two lab.log; do
  wait_for "port $name appears" 600 there $name || finish
done
one=$(port lab.one)
two=$(port lab.two)
value ports "$(cat /sys/class/virtio-ports/*/name | tr '\n' ' ')"
first() {
  answer "connect one"
  # From the host, then back: the hash tells whether it is the same.
  head -c "$count" <"$one" >/tmp/file &
  reader=$!
  answer "send one"
  wait $reader
  same "bytes from the host" "$(wc -c </tmp/file)" "$count"
  cat /tmp/file >"$one" &
  writer=$!
  answer "receive one"
  step "a file to the host" wait $writer

  answer "connect two"
  # A port can be opened once: one program reads and writes.
  sh -c "exec 3<>$one; head -c $count <&3 >&3" &
  sh -c "exec 3<>$two; head -c $count <&3 >&3" &
  answer "echo"
  good "echo on two ports at once"

  # Whoever reads learns that the client has gone, and that the next one is there.
  answer "leave two"
  same "the client has gone" "$(cat "$two" | wc -c)" 0
  answer "connect two"
  head -c "$count" <"$two" >/tmp/file &
  reader=$!
  answer "send two"
  wait $reader
  same "bytes from the next client" "$(wc -c </tmp/file)" "$count"
  seq 1 1000 | sed 's/.*/line & of the log/' >"$(port lab.log)"
  good "a log"
}
again() {
  # The client of the first boot is still connected.
  head -c "$count" <"$one" >/tmp/file &
  reader=$!
  answer "send one"
  wait $reader
  same "bytes from a client that stayed" "$(wc -c </tmp/file)" "$count"
}

answer begin
round=$reply
login
if [ "$round" = again ]; then again; else
  first
  if [ "$reset" = 1 ]; then
    report "note machine reset"
    usleep 50000
    reboot -f
  fi
fi
