# The network device's judge: two guests at one switch. lab.role: client or server; lab.mac: what the
# device's address has to be; lab.blocks: blocks of 64 KiB for the bulk; lab.kills: how often the
# switch is killed.
server=10.9.0.2
client=10.9.0.1
device=/sys/class/net/eth0
has_device() { [ -e $device/address ]; }
carrier_is() { [ "$(cat $device/carrier 2>/dev/null)" = "$1" ]; }
up() { # ADDRESS
  ip link set lo up
  ip link set eth0 up && ip addr add "$1/24" dev eth0
}
# One TCP stream: what comes is counted and hashed.
fetch() { nc "$server" "$1" | sha256sum | cut -d' ' -f1; }
reachable() { ping -c 1 -W 1 $server >/dev/null 2>&1; }

wait_for "eth0" 600 has_device || finish
same "the address" "$(cat $device/address)" "$mac"
value features "$(cat $device/device/features 2>/dev/null)"
value mtu "$(cat $device/mtu)"
dd if=/dev/urandom of=/tmp/data bs=64k count="$blocks" 2>/dev/null
sum=$(sha256sum </tmp/data | cut -d' ' -f1)

if [ "$role" = server ]; then
  step "the interface is up" up $server
  # The client takes the bulk, brings its own, asks for the hashes, and says when it is done.
  nc -ll -p 5001 -e cat /tmp/data &
  nc -ll -p 5002 -e sha256sum &
  nc -ll -p 5003 -e echo "$sum" &
  nc -l -p 5009 >/tmp/end
  same "the client is done" "$(cat /tmp/end)" done
  finish
fi

step "the interface is up" up $client
wait_for "the other guest answers" 1800 reachable || finish
step "a hundred pings" ping -q -c 100 -i 0.02 -W 5 $server
step "pings that fill a frame" ping -q -c 20 -i 0.02 -W 5 -s 1472 $server
step "pings that are cut by IP" ping -q -c 20 -i 0.02 -W 5 -s 20000 $server
theirs=$(fetch 5003 >/dev/null; nc $server 5003)
start=$(cut -d' ' -f1 /proc/uptime)
same "bulk from the other guest" "$(fetch 5001)" "$theirs"
value seconds-in "$start to $(cut -d' ' -f1 /proc/uptime)"
same "bulk to the other guest" "$(nc $server 5002 </tmp/data | cut -d' ' -f1)" "$sum"

# Receive modes: the control queue.
step "promiscuous" ip link set eth0 promisc on
step "not promiscuous" ip link set eth0 promisc off
step "all multicast" ifconfig eth0 allmulti
same "a ping meanwhile" "$(ping -q -c 3 -i 0.1 $server | grep -c ' 0% packet loss')" 1
step "not all multicast" ifconfig eth0 -allmulti
# The policy: nobody changes an address that was not told to be changeable.
refused "another address is refused" ip link set eth0 address 02:00:00:00:00:77
same "the address is the same" "$(cat $device/address)" "$mac"

# The operator takes the link away and gives it back.
at link-down
wait_for "the link is down" 300 carrier_is 0
at link-up
wait_for "the link is up" 300 carrier_is 1
wait_for "the other guest answers again" 300 reachable

# The driver goes in the middle of traffic, and comes.
ping -q -c 1000 -i 0.002 $server >/dev/null 2>&1 &
pinger=$!
name=$(basename "$(readlink $device/device)")
driver=/sys/bus/virtio/drivers/virtio_net
if [ -d /sys/module/virtio_net ] && rmmod virtio_net 2>/dev/null; then
  good "the driver leaves"
  insmod /lib/modules/virtio_net.ko
else
  step "the driver leaves" sh -c "echo $name >$driver/unbind"
  echo "$name" >$driver/bind
fi
wait $pinger
wait_for "eth0 is back" 300 has_device
step "the interface is up again" up $client
wait_for "the other guest answers after that" 300 reachable
same "bulk after that" "$(fetch 5001)" "$theirs"

# The switch dies under a stream: TCP repeats what was lost.
round=0
while [ "$round" -lt "${kills:-0}" ]; do
  round=$((round + 1))
  fetch 5001 >/tmp/sum.$round &
  reader=$!
  usleep 300000
  at kill
  wait $reader
  same "bulk through kill $round" "$(cat /tmp/sum.$round)" "$theirs"
done
echo done | nc $server 5009
finish
