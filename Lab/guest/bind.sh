#!/bin/sh
# Gives every ivshmem device of this guest to a driver, by driver_override. usage: bind.sh DRIVER
# "none" takes them from their driver. Prints a line for each: its address and its driver now.
found=1
# A real PCI express port takes a moment to train its link.
tries=0
until grep -q 0x4106 /sys/bus/pci/devices/*/device 2>/dev/null || [ $tries = 100 ]; do
  tries=$((tries + 1))
  usleep 100000
done
for device in /sys/bus/pci/devices/*; do
  if [ "$(cat "$device/vendor"):$(cat "$device/device")" != 0x110a:0x4106 ]; then continue; fi
  found=0
  name=${device##*/}
  if [ -e "$device/driver" ]; then echo "$name" >"$device/driver/unbind"; fi
  if [ "$1" != none ]; then
    echo "$1" >"$device/driver_override"
    echo "$name" >/sys/bus/pci/drivers_probe || exit 1
  else
    echo >"$device/driver_override"
  fi
  driver=$(readlink "$device/driver")
  echo "$name ${driver##*/}"
  if [ "$1" != none ] && [ "${driver##*/}" != "$1" ]; then exit 1; fi
done
[ $found = 0 ] || echo "no device 110a:4106" >&2
exit $found
