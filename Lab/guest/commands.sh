# A guest that does what it is told. The host sends lines, the guest answers:
#   run ID SECONDS LENGTH BASE64   a shell command, ended after SECONDS; its output as lines
#                           "@lab out ID BASE64", then "@lab result ID STATUS"
#   start ID 0 LENGTH BASE64   a command in the background; its output comes to /tmp/job.ID, its
#                           process to /tmp/job.ID.pid ("exec" makes that the program), its status
#                           to /tmp/job.ID.status
#   shell                   an interactive shell on this port
#   end                     power off
# LENGTH is that of BASE64. A serial line under emulation loses bytes now and then: what is not
# whole is answered by "@lab what", and what is, by "@lab got ID"; the host sends it once more.
export HOME=/ TERM=vt100
last=0
run() { # ID SECONDS
  timeout -k 2 -s TERM "$2" sh "/tmp/run.$1" </dev/null >"/tmp/out.$1" 2>&1
  status=$?
  if [ -s "/tmp/out.$1" ]; then
    base64 -w 3000 "/tmp/out.$1" | sed "s/^/@lab out $1 /"
  fi
  report "result $1 $status"
  rm -f "/tmp/out.$1" "/tmp/run.$1"
}
start() { # ID
  (
    sh -c "echo \$\$ >/tmp/job.$1.pid; . /tmp/run.$1" </dev/null >"/tmp/job.$1" 2>&1
    echo $? >"/tmp/job.$1.status"
  ) >/dev/null &
  report "result $1 0"
}
report "ready"
while read -r verb id seconds length code; do
  case $verb in
    run | start)
      if [ "$length" != "${#code}" ]; then
        report "what"
        continue
      fi
      report "got $id"
      if [ "$id" -le "$last" ]; then continue; fi
      last=$id
      echo "$code" | base64 -d >"/tmp/run.$id"
      $verb "$id" "$seconds"
      ;;
    shell)
      report "got shell"
      setsid sh -c "stty sane; exec sh -i" <"/dev/$port" >"/dev/$port" 2>&1
      break
      ;;
    end) break ;;
    *) report "what" ;;
  esac
done
