# What the guest scripts share. Reports: "@lab ok NAME", "@lab fail NAME: WHY", "@lab value NAME X",
# "@lab at POINT" (the host may act), "@lab note TEXT", "@lab done".
report() { printf '@lab %s\n' "$*"; }
note() { report "note $*"; }
good() { report "ok $*"; }
bad() { report "fail $*"; }
value() { report "value $*"; }
at() { report "at $*"; }

# step NAME COMMAND...: the command's output is shown only when it fails.
step() {
  local name=$1
  shift
  if "$@" >/tmp/step 2>&1; then good "$name"; else
    bad "$name: status $?: $(tail -n 12 /tmp/step | tr '\n' '|' | cut -c1-800)"
  fi
}

# refused NAME COMMAND...: the command has to fail.
refused() {
  local name=$1
  shift
  if "$@" >/tmp/step 2>&1; then bad "$name: it succeeded"; else
    good "$name ($(tail -n 1 /tmp/step | cut -c1-120))"
  fi
}

# same NAME A B
same() { if [ "$2" = "$3" ]; then good "$1"; else bad "$1: '$2' is not '$3'"; fi; }

# wait_for NAME TENTHS TEST...: waits for a condition, bounded.
wait_for() {
  local name=$1 left=$2
  shift 2
  while ! "$@" 2>/dev/null; do
    left=$((left - 1))
    if [ $left -le 0 ]; then
      bad "$name: not there"
      return 1
    fi
    usleep 100000
  done
  good "$name"
}

# answer POINT: tells the host and waits for its line.
answer() {
  at "$1"
  read -r reply
}

finish() {
  sync
  report "done"
  # The port is drained before the power goes.
  usleep 50000
  poweroff -f
}
