# A guest that does what it is told. The host sends lines, the guest answers:
#   run ID SECONDS BASE64   a shell command, ended after SECONDS; "@lab result ID STATUS", its output
#                           as lines "@lab out ID BASE64" before that
#   start ID BASE64         a command in the background; its output comes to /tmp/job.ID, its process
#                           to /tmp/job.ID.pid ("exec" makes that the program), its status to .status
#   shell                   an interactive shell on this port
#   end                     power off
export HOME=/ TERM=vt100
tr -d '\0' </sys/firmware/devicetree/base/model >/tmp/model 2>/dev/null
report "ready"
while read -r verb id rest; do
  case $verb in
    run)
      seconds=${rest%% *}
      echo "${rest#* }" | base64 -d >"/tmp/run.$id"
      timeout -k 2 -s TERM "$seconds" sh "/tmp/run.$id" </dev/null >"/tmp/out.$id" 2>&1
      status=$?
      if [ -s "/tmp/out.$id" ]; then
        base64 -w 3000 "/tmp/out.$id" | sed "s/^/@lab out $id /"
      fi
      report "result $id $status"
      rm -f "/tmp/out.$id" "/tmp/run.$id"
      ;;
    start)
      echo "$rest" | base64 -d >"/tmp/run.$id"
      (
        sh -c "echo \$\$ >/tmp/job.$id.pid; . /tmp/run.$id" </dev/null >"/tmp/job.$id" 2>&1
        echo $? >"/tmp/job.$id.status"
      ) >/dev/null &
      report "result $id 0"
      ;;
    shell)
      report "result shell 0"
      setsid sh -c "stty sane; exec sh -i" <"/dev/$port" >"/dev/$port" 2>&1
      break
      ;;
    end) break ;;
    *) report "fail unknown command '$verb'" ;;
  esac
done
