/* queue.pml - the life of one queue in both placements (decisions 2, 4, 6, 8): one thread per side.
 * Per generation the front-end sets the addresses (transaction 1), asks for QueueReady (2), publishes N entries, and
 * resets the queue (3) - at any moment, entries may be in flight; the last generation is served to the end.
 * -DPLACEMENT_OUTPUT  the used ring is in the back-end's section: the device initialises it before it acknowledges.
 * -DPLACEMENT_SHARED  it is in the read/write section: the front-end initialises it before it asks.
 * The used ring starts as garbage, and after a reset it is what the previous generation left.
 * To sleep:  consume the event; event index, BLOCKED, arm (any order); ONE full fence; look at the request or
 *            acknowledgement AND AT THE RING INDEX; wait.  Awake, the counter tells whether to look at the ring.
 * To publish: entry; index (release); ONE full fence; event due? then: counter; BLOCKED? ring.
 *            No second fence between counter and BLOCKED: the sleeper looks at the index itself (workers.pml: where
 *            it looks at the counter only, the second fence is needed).
 * Asserts:   entries match the index; an acknowledged QueueReady is ready; after an acknowledged reset no load and no
 *            late store of the device touches ring or buffers.
 * At timeout (no lost wake-up): every transaction acknowledged, every entry of the last generation used.  -DNP: no cycle. */
#ifndef NGEN
#define NGEN 2     /* generations (a reset between them) */
#endif
#ifndef N
#define N 2        /* entries of a generation */
#endif
#define NV 16
#define PT int
#define OP   0     /* driver block: operation fields; both are the number of the transaction: 3*generation + ... */
#define REQ  1     /*               request word                                                                  */
#define ENT  2     /* front-end:    available entry, descriptor and buffer: 4*generation + index                  */
#define AIDX 3     /*               available index                                                               */
#define UEV  4     /*               used_event                                                                    */
#define FCNT 5     /*               notification counter                                                          */
#define FST  6     /*               extended status BLOCKED                                                       */
#define ACK  8     /* device block: acknowledgement word                                                          */
#define UENT 9     /* device:       used entry and device-written buffer                                          */
#define UIDX 10    /*               used index                                                                    */
#define AEV  11    /*               avail_event                                                                   */
#define BCNT 12    /*               notification counter                                                          */
#define BST  13    /*               extended status BLOCKED                                                       */
#define ZU   15    /* the FRONT-END's store to UIDX (shared placement, before the device owns it)                 */
#define IE(t) (7+7*(t))
#define OWN_F 33023
#define OWN_B 32512
#define DEPALL (dep[REQ]|dep[AIDX]|dep[ACK]|dep[UIDX])
#define DROP(v) buf[v]=0; pend=pend&~BIT(v); dep[REQ]=dep[REQ]&~BIT(v); dep[AIDX]=dep[AIDX]&~BIT(v); dep[ACK]=dep[ACK]&~BIT(v); dep[UIDX]=dep[UIDX]&~BIT(v)
#include "mem.h"
#if defined(PLACEMENT_OUTPUT) == defined(PLACEMENT_SHARED)
#error choose PLACEMENT_OUTPUT or PLACEMENT_SHARED
#endif

/* ---- the fences --------------------------------------------------------------------------------------------- */
#ifdef NO_FENCE_FSLEEP
#define F_FSLEEP skip
#else
#define F_FSLEEP FENCE(OWN_F)     /* used_event, BLOCKED, arm  | look at acknowledgement and used index  */
#endif
#ifdef NO_FENCE_BSLEEP
#define F_BSLEEP skip
#else
#define F_BSLEEP FENCE(OWN_B)     /* avail_event, BLOCKED, arm | look at request and available index     */
#endif
#ifdef NO_FENCE_REQ
#define F_REQ skip
#else
#define F_REQ FENCE(OWN_F)        /* request                   | is the back-end BLOCKED?                */
#endif
#ifdef NO_FENCE_ACK
#define F_ACK skip
#else
#define F_ACK FENCE(OWN_B)        /* acknowledgement           | is the front-end BLOCKED?               */
#endif
#ifdef NO_FENCE_AVAIL
#define F_AVAIL skip
#else
#define F_AVAIL FENCE(OWN_F)      /* available index           | event due? back-end BLOCKED?            */
#endif
#ifdef NO_FENCE_USED
#define F_USED skip
#else
#define F_USED FENCE(OWN_B)       /* used index                | event due? front-end BLOCKED?           */
#endif
/* ---- release stores, acquire loads -------------------------------------------------------------------------- */
#ifdef NO_REL_REQ
#define R_REQ(x) ST(REQ,x)
#else
#define R_REQ(x) REL(OWN_F,REQ,x)
#endif
#ifdef NO_REL_ACK
#define R_ACK(x) ST(ACK,x)
#else
#define R_ACK(x) REL(OWN_B,ACK,x)
#endif
#ifdef NO_REL_AVAIL
#define R_AVAIL(x) ST(AIDX,x)
#else
#define R_AVAIL(x) REL(OWN_F,AIDX,x)
#endif
#ifdef NO_REL_USED
#define R_USED(x) ST(UIDX,x)
#else
#define R_USED(x) REL(OWN_B,UIDX,x)
#endif
#define LD2(f,p)  x = mem[f]; y = mem[p]
#define LD2X(f,p) y = mem[p]; x = mem[f]
#ifdef NO_ACQ_REQ
#define L_REQ LD2X(REQ,OP)
#else
#define L_REQ LD2(REQ,OP)
#endif
#ifdef NO_ACQ_ACK                  /* the used index was loaded before the acknowledgement that allows it */
#define L_ACK y = mem[UIDX]; x = mem[ACK]
#else
#define L_ACK x = mem[ACK]
#endif
#ifdef NO_ACQ_AVAIL
#define L_AVAIL LD2X(AIDX,ENT)
#else
#define L_AVAIL LD2(AIDX,ENT)
#endif
#ifdef NO_ACQ_USED
#define L_USED LD2X(UIDX,UENT)
#else
#define L_USED LD2(UIDX,UENT)
#endif
/* ---- who initialises the used ring, when -------------------------------------------------------------------- */
#define NOTHING skip
#define DEV_INIT ST(UIDX,0); ST(AEV,0)
#if defined(NO_INIT_USED)
#define FRONT_BEFORE NOTHING
#define FRONT_AFTER  NOTHING
#define DEV_BEFORE   NOTHING
#define DEV_AFTER    NOTHING
#elif defined(PLACEMENT_OUTPUT)
#define FRONT_BEFORE NOTHING
#define FRONT_AFTER  NOTHING
#ifdef INIT_TOO_LATE
#define DEV_BEFORE   NOTHING
#define DEV_AFTER    DEV_INIT
#else
#define DEV_BEFORE   DEV_INIT
#define DEV_AFTER    NOTHING
#endif
#else
#ifdef INIT_TOO_LATE
#define FRONT_BEFORE NOTHING
#define FRONT_AFTER  ST(ZU,0)
#else
#define FRONT_BEFORE ST(ZU,0)
#define FRONT_AFTER  NOTHING
#endif
#ifdef BOTH_INIT                   /* the device initialises it in this placement too: harmless */
#define DEV_BEFORE   DEV_INIT
#else
#define DEV_BEFORE   NOTHING
#endif
#define DEV_AFTER    NOTHING
#endif
#ifdef NO_INIT_AVAIL               /* the front-end leaves the old available index in memory */
#define INIT_AVAIL skip
#else
#define INIT_AVAIL ST(AIDX,0); ST(UEV,0)
#endif
#ifdef RESET_NO_QUIESCE            /* acknowledges a reset with an operation still in flight */
#define QUIESCE skip
#else
#define QUIESCE comp = taken       /* cancelled, or waited for: nothing of it will be written any more */
#endif
#ifdef RESET_STILL_READY           /* acknowledges a reset and goes on serving the ring */
#define UNREADY skip
#else
#define UNREADY ready = 0
#endif

#define DUE(ev,new,old) (((new - ev - 1) & 7) < ((new - old) & 7))
#define WAKE(t,v) if :: mem[v] -> d_step { DELIVER(t) } :: else fi
#ifdef NO_COUNTER                  /* variant: no counter; awake, a side always looks at the ring */
#define BUMP(v) skip
#define MOVED(v) true
#else
#ifdef SECOND_FENCE                /* variant: the second fence, between counter and BLOCKED */
#define BUMP(v) cnt++; ST(v,cnt); (pend & (v == FCNT -> OWN_F : OWN_B)) == 0
#else
#define BUMP(v) cnt++; ST(v,cnt)
#endif
#define MOVED(v) mem[v] != scnt
#endif

bit reclaimed;                     /* the front-end has the memory of the queue back */
byte g_ready, g_done, g_used;      /* ghosts: generation+1 the device serves; what the driver has seen */

/* ---- front-end ---------------------------------------------------------------------------------------------- */
#define LIVE (seq == done && done % 3 == 2)
#define MAY_ASK (seq == done && seq < 3*NGEN-1)
#define ASK seq++; ST(OP,seq); \
  if :: seq % 3 == 2 -> reclaimed = 0; INIT_AVAIL; FRONT_BEFORE; R_REQ(seq); FRONT_AFTER \
     :: else -> R_REQ(seq) fi; F_REQ; WAKE(1,BST)
#define PUBLISH if :: idx++ :: idx + 2 <= N -> idx = idx + 2 fi; ST(ENT, 4*(done/3) + idx); R_AVAIL(idx); F_AVAIL; \
  x = mem[AEV]; if :: DUE(x,idx,old) -> x = 0; BUMP(FCNT); WAKE(1,BST) :: else -> x = 0 fi; old = idx
#define LOOK_ACK if :: seq != done -> L_ACK; \
  if :: d_step { x == seq -> done = seq; g_done = done; found = 1; \
          if :: done % 3 == 2 -> assert(g_ready == done/3 + 1); assert(y == 0); idx = 0; used = 0; old = 0; g_used = 0 \
             :: done % 3 == 0 -> reclaimed = 1 \
             :: else fi; x=0; y=0 } \
     :: else -> d_step { x=0; y=0 } fi :: else fi
#define LOOK_USED if :: LIVE -> L_USED; \
  if :: d_step { x != used -> assert(x <= idx); assert(y >= 4*(done/3) + x); used = x; g_used = x; found = 1; x=0; y=0 } \
     :: else -> d_step { x=0; y=0 } fi :: else fi
#define AWAKE_USED if :: d_step { MOVED(BCNT) -> scnt = mem[BCNT] }; LOOK_USED :: else fi
#ifdef COUNTER_ONLY                /* before sleeping, look at the counter instead of the index */
#define LAST_USED AWAKE_USED
#define LAST_AVAIL AWAKE_AVAIL
#else
#define LAST_USED LOOK_USED
#define LAST_AVAIL LOOK_AVAIL
#endif
#define SET_UEV if :: LIVE -> ST(UEV,used) :: else fi
#define SET_AEV if :: ready != 0 -> ST(AEV,taken) :: else fi
#if defined(EVENT_AFTER_FENCE)
#define PRESLEEP(t,v,E,F,L) latch[t] = 0; ST(v,1); ST(IE(t),1); F; E; found = 0; L
#elif defined(EVENT_AFTER_LOOK)
#define PRESLEEP(t,v,E,F,L) latch[t] = 0; ST(v,1); ST(IE(t),1); F; found = 0; L; E
#elif defined(NO_EVENT)            /* the event index is never moved */
#define PRESLEEP(t,v,E,F,L) latch[t] = 0; ST(v,1); ST(IE(t),1); F; found = 0; L
#elif defined(EVENT_LAST)          /* any order before the fence */
#define PRESLEEP(t,v,E,F,L) latch[t] = 0; ST(IE(t),1); ST(v,1); E; F; found = 0; L
#else
#define PRESLEEP(t,v,E,F,L) latch[t] = 0; E; ST(v,1); ST(IE(t),1); F; found = 0; L
#endif

proctype Front()
{ byte seq, done, idx, used, old, x, y, cnt, scnt; bit found;
again:
  if
  :: MAY_ASK -> ASK; goto again
  :: LIVE && idx < N -> PUBLISH; goto again
  :: skip
  fi;
  found = 0; LOOK_ACK; AWAKE_USED;
  if :: found -> goto again :: else fi;
  PRESLEEP(0, FST, SET_UEV, F_FSLEEP, LOOK_ACK; LAST_USED);
  if :: found -> ST(FST,0); ST(IE(0),0); goto again :: else fi;
  if                                                     /* asleep */
  :: latch[0] -> ST(FST,0); goto again
  :: MAY_ASK -> ST(FST,0); ST(IE(0),0); ASK; goto again  /* local work has come */
  :: LIVE && idx < N -> ST(FST,0); ST(IE(0),0); PUBLISH; goto again
  fi
}

/* ---- back-end ----------------------------------------------------------------------------------------------- */
#define LOOK_REQ L_REQ; \
  if :: d_step { x != last -> assert(y == x); last = x; found = 1; x=0; y=0 }; \
     if :: last % 3 == 1 -> addr = last/3 + 1; R_ACK(last) \
        :: last % 3 == 2 -> assert(addr == last/3 + 1); DEV_BEFORE; \
             d_step { ready = addr; g_ready = ready; taken = 0; comp = 0 }; R_ACK(last); DEV_AFTER \
        :: last % 3 == 0 -> if :: taken != comp -> ST(UENT, 4*(addr-1) + comp) :: else fi; /* the cancelled one wrote a part */ \
             d_step { UNREADY; g_ready = 0; QUIESCE }; R_ACK(last) \
     fi; F_ACK; WAKE(0,FST) \
  :: else -> d_step { x=0; y=0 } fi
#define LOOK_AVAIL if :: ready != 0 -> assert(!reclaimed); L_AVAIL; \
  if :: d_step { x != taken -> assert(x <= N); assert(y >= 4*(ready-1) + x); taken = x; found = 1; x=0; y=0 } \
     :: else -> d_step { x=0; y=0 } fi :: else fi
#define AWAKE_AVAIL if :: d_step { MOVED(FCNT) -> scnt = mem[FCNT] }; LOOK_AVAIL :: else fi
#define COMPLETE ST(UENT, 4*(addr-1) + taken); x = comp; comp = taken; R_USED(comp); F_USED; \
  y = mem[UEV]; if :: DUE(y,comp,x) -> d_step { x=0; y=0 }; BUMP(BCNT); WAKE(0,FST) :: else -> d_step { x=0; y=0 } fi

proctype Back()
{ byte last, addr, ready, taken, comp, x, y, cnt, scnt; bit found;
again:
  if
  :: taken != comp -> COMPLETE; goto again               /* an operation ends at any time */
  :: skip
  fi;
  found = 0; LOOK_REQ; AWAKE_AVAIL;
  if :: found -> goto again :: else fi;
  PRESLEEP(1, BST, SET_AEV, F_BSLEEP, LOOK_REQ; LAST_AVAIL);
  if :: found -> ST(BST,0); ST(IE(1),0); goto again :: else fi;
  if                                                     /* asleep */
  :: latch[1] -> ST(BST,0); goto again
  :: taken != comp -> ST(BST,0); ST(IE(1),0); COMPLETE; goto again
  fi
}

/* stores of the device to ring and buffers must not arrive in memory that the front-end has back */
#define DRAIN_Q(v) d_step { (pend & BIT(v)) && dep[v] == 0 -> assert(!reclaimed); COMMIT(v) }
#define DRAIN_ZU   d_step { (pend & BIT(ZU)) -> mem[UIDX] = buf[ZU]; DROP(ZU) }
proctype Drain()
{ do
  :: DRAIN(0) :: DRAIN(1) :: DRAIN(2) :: DRAIN(3) :: DRAIN(4) :: DRAIN(5) :: DRAIN(6) :: DRAIN(7)
  :: DRAIN(8) :: DRAIN_Q(UENT) :: DRAIN_Q(UIDX) :: DRAIN_Q(AEV) :: DRAIN(12) :: DRAIN(13) :: DRAIN(14) :: DRAIN_ZU
  od }

init { atomic {                    /* garbage: indices and event indices from anywhere */
  if :: skip :: mem[UIDX] = 1; mem[AEV] = 5 :: mem[UIDX] = 3; mem[AEV] = 1 fi;
  if :: skip :: mem[AIDX] = 1; mem[UEV] = 5; mem[ENT] = 2 fi;
  run Front(); run Back(); run Drain() };
  timeout -> assert(g_done == 3*NGEN-1 && g_used == N) }
