# cases.sh - the cases of run (sourced by it).  c WANT TIER FILE DEFINITIONS [MODE]; the slow ones come first.

# ---- bases: must hold in the whole state space ------------------------------------------------------------------
c ok  base restart.pml   "-DMAXC=2"
c ok  base restart.pml   "-DMAXC=1" np
c ok  base handshake.pml "-DNTX=2 -DNK=2" np
c ok  base handshake.pml "-DNTX=3 -DNK=3"
c ok  base restart.pml   "-DMAXC=1 -DDEATH"
c ok  base restart.pml   "-DMAXC=1 -DCOUNTER"

# ---- single-fence deletions: each must be found -----------------------------------------------------------------
for m in DSLEEP BSLEEP DTX DCNT BTX BCNT; do c BAD fence handshake.pml "-DNTX=1 -DNK=1 -DNO_FENCE_$m"; done
for m in START SLEEP HELLO; do for a in 0 1; do c BAD fence restart.pml "-DMAXC=1 -DNO_FENCE_$m=$a"; done; done
for m in REQ ACK; do c BAD fence restart.pml "-DMAXC=1 -DNO_FENCE_$m"; done

# ---- handshake.pml: orderings, the sleeping rule, the waking rule -----------------------------------------------
for m in NO_REL_REQ NO_REL_ACK NO_REL_DCNT NO_REL_BCNT NO_ACQ_ACK NO_ACQ_REQ NO_ACQ_DCNT NO_ACQ_BCNT \
  NO_RELOOK_D NO_RELOOK_B LOOK_ONLY_TX_D LOOK_ONLY_CNT_D LOOK_ONLY_TX_B LOOK_ONLY_CNT_B NO_REARM NO_BLOCKED \
  ARM_AFTER_LOOK BLOCKED_AFTER_LOOK ARM_AFTER_FENCE BLOCKED_AFTER_FENCE CONSUME_AFTER_ARM CONSUME_LAST \
  CHECK_BEFORE_PUBLISH
do c BAD more handshake.pml "-DNTX=1 -DNK=1 -D$m"; done
# equivalents and optimisations
for m in ARM_FIRST RING_ALWAYS NO_UNBLOCK NO_DISARM; do c ok more handshake.pml "-DNTX=1 -DNK=1 -D$m"; done

# ---- restart.pml ------------------------------------------------------------------------------------------------
for m in SAME_EPOCH NO_ECHO NO_RING_HELLO NO_ZERO_FIRST TORN_EPOCH_FIRST ZERO_EDGE_ONLY LOCAL_EPOCH UNKNOWN_GARBAGE \
  "UNKNOWN_GARBAGE -DNO_AVOID_ECHO" "DEATH -DNO_LOOK_STATE" "NO_DEP -DNO_WITHDRAW" "NO_BEP -DNO_WITHDRAW" \
  "COUNTER -DSEEN_KEEP" "COUNTER -DSEEN_AT_UP" "COUNTER -DSEEN_AT_HELLO" "COUNTER -DSEEN_AT_HELLO -DEPOCH_ONLY" \
  "NO_DEP -DNO_BEP -DNO_REL_HELLO" "DEV_NO_UP -DNO_SESSION_CHECK" "NO_DEP -DNO_REL_HELLO" "NO_BEP -DNO_REL_HELLO"
do c BAD more restart.pml "-DMAXC=1 -D$m"; done
# Survivors: the epochs in the word and {withdrawal, release of hello, load order} are two layers of one protection.
# ACK_BEFORE_HELLO survives because link-up ends the look: the word is loaded again after the hello that made it up.
for m in NO_DEP NO_BEP "NO_DEP -DNO_BEP" NO_WITHDRAW NO_REL_HELLO \
  "NO_WITHDRAW -DNO_REL_HELLO -DACK_BEFORE_HELLO -DNO_INIT_W" STATE_LAST NO_REPUBLISH EPOCH_ONLY TORN_ECHO_FIRST \
  DEV_NO_UP NO_SESSION_CHECK "NO_DEP -DNO_BEP -DACK_BEFORE_HELLO"
do c ok more restart.pml "-DMAXC=1 -D$m"; done

# ---- workers.pml: the receiver is two threads -------------------------------------------------------------------
c ok  base  workers.pml "-DNK=4"
c ok  base  workers.pml "-DNK=3 -DBUMP_ALWAYS"
c ok  base  workers.pml "-DNK=3" np
for m in IDX CNT WORKER OWNER; do c BAD fence workers.pml "-DNK=3 -DNO_FENCE_$m"; done
for m in PUB WORKER OWNER; do c BAD fence workers.pml "-DNK=3 -DBUMP_ALWAYS -DNO_FENCE_$m"; done
for m in NO_REL_IDX NO_ACQ_IDX "BUMP_ALWAYS -DNO_REL_CNT"; do c BAD more workers.pml "-DNK=3 -D$m"; done

# ---- queue.pml: the life of a queue, one thread per side, both placements ---------------------------------------
O=-DPLACEMENT_OUTPUT S=-DPLACEMENT_SHARED
for p in $O $S; do
  c ok  base  queue.pml "$p -DNGEN=1 -DN=2"
  c ok  base  queue.pml "$p -DNGEN=2 -DN=1 -DNO_COUNTER"
  for m in FSLEEP BSLEEP REQ ACK AVAIL USED; do c BAD fence queue.pml "$p -DNGEN=1 -DN=1 -DNO_FENCE_$m"; done
done
c ok  base  queue.pml "$O -DNGEN=1 -DN=1" np
for p in $O $S; do
  for m in NO_REL_REQ NO_REL_AVAIL NO_REL_USED NO_ACQ_REQ NO_ACQ_AVAIL NO_ACQ_USED NO_INIT_USED NO_INIT_AVAIL COUNTER_ONLY
  do c BAD more queue.pml "$p -DNGEN=1 -DN=1 -D$m"; done
  # a second fence (between counter and BLOCKED) replaces neither the look at the index nor the first fence
  for m in NO_EVENT EVENT_AFTER_FENCE EVENT_AFTER_LOOK "COUNTER_ONLY -DSECOND_FENCE" \
    "SECOND_FENCE -DNO_FENCE_AVAIL" "SECOND_FENCE -DNO_FENCE_USED"; do c BAD more queue.pml "$p -DNGEN=1 -DN=2 -D$m"; done
  for m in RESET_NO_QUIESCE RESET_STILL_READY NO_REL_ACK; do
    c BAD more queue.pml "$p -DNGEN=2 -DN=1 -DNO_COUNTER -D$m"; done
  c ok  more  queue.pml "$p -DNGEN=1 -DN=1 -DEVENT_LAST"
done
for m in INIT_TOO_LATE NO_ACQ_ACK NO_REL_ACK; do c BAD more queue.pml "$O -DNGEN=1 -DN=1 -D$m"; done
c ok  more  queue.pml "$S -DNGEN=1 -DN=1 -DBOTH_INIT"
# Survivors in the shared placement: the device writes nothing before its first completion, so nothing hangs on the
# acknowledgement of QueueReady, and a zero that follows the request is still ahead of the first entry.
for m in INIT_TOO_LATE NO_ACQ_ACK NO_REL_ACK; do c ok more queue.pml "$S -DNGEN=1 -DN=1 -D$m"; done
