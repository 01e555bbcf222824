/* workers.pml - one direction of one queue when the receiver is TWO threads (decision 5): the link owner sleeps on the
 * interrupt and sees only the notification counter; a worker consumes the ring and sees only the indices.
 * The publisher may be either side: "available index" here is "used index" the other way round.
 * Publisher: publish the index; full fence; is an event due?  then: counter; full fence; BLOCKED?  ring.
 * Worker:    nothing new: event index; full fence; look at the index again; wait for the owner's kick.
 * Owner:     counter unchanged: consume the event, BLOCKED, arm; full fence; look at the counter again; wait.
 * Property (no lost wake-up): at timeout everything published has been consumed.  Asserts: entries match the index.
 * -DBUMP_ALWAYS: the counter is bumped (release) with every publication, due or not; then ONE fence serves both
 *         questions (event due? BLOCKED?), at the price of counter changes nobody asked for. */
#ifndef NK
#define NK 3       /* entries to publish */
#endif
#define NV 7
#define ENT 0      /* publisher: entry + buffer (value k: entries 1..k are written)      */
#define IDX 1      /*            index                                                   */
#define CNT 2      /*            notification counter                                    */
#define EV  3      /* receiver's worker: event index                                     */
#define BLK 4      /* receiver's owner:  extended status BLOCKED                         */
#define IE(t) 5    /*                    interrupt control                               */
#define OWN_P 7
#define OWN_W 8
#define OWN_O 48
#define DEPALL (dep[IDX]|dep[CNT])
#define DROP(v) buf[v]=0; pend=pend&~BIT(v); dep[IDX]=dep[IDX]&~BIT(v); dep[CNT]=dep[CNT]&~BIT(v)
#include "mem.h"

#ifdef NO_FENCE_IDX
#define F_IDX skip
#else
#define F_IDX FENCE(OWN_P)      /* index           | is an event due?          */
#endif
#ifdef NO_FENCE_CNT
#define F_CNT skip
#else
#define F_CNT FENCE(OWN_P)      /* counter         | is the owner BLOCKED?     */
#endif
#ifdef NO_FENCE_PUB
#define F_PUB skip
#else
#define F_PUB FENCE(OWN_P)      /* index, counter  | due?  BLOCKED?  (BUMP_ALWAYS) */
#endif
#ifdef NO_FENCE_WORKER
#define F_WORKER skip
#else
#define F_WORKER FENCE(OWN_W)   /* event index     | look at the index again   */
#endif
#ifdef NO_FENCE_OWNER
#define F_OWNER skip
#else
#define F_OWNER FENCE(OWN_O)    /* BLOCKED, arm    | look at the counter again */
#endif
#ifdef NO_REL_IDX
#define R_IDX(x) ST(IDX,x)
#else
#define R_IDX(x) REL(OWN_P,IDX,x)
#endif
#if defined(NO_REL_CNT) || !defined(BUMP_ALWAYS)
#define R_CNT(x) ST(CNT,x)      /* after F_IDX the index is visible already: a plain store is enough */
#else
#define R_CNT(x) REL(OWN_P,CNT,x)
#endif
#ifdef NO_ACQ_IDX
#define L_IDX(a,b) b = mem[ENT]; a = mem[IDX]
#else
#define L_IDX(a,b) a = mem[IDX]; b = mem[ENT]
#endif
/* the event of virtio: "have I passed event_idx since my last question" */
#define DUE(ev,new,old) (((new - ev - 1) & 7) < ((new - old) & 7))
#define WAKE if :: mem[BLK] -> d_step { DELIVER(0) } :: else fi

byte g_seen; bit kick;          /* ghost: consumed;  kick: the local wake-up of the worker (a semaphore, ordered) */

active proctype Publisher()
{ byte k, old, ev, n;
  do
  :: k < NK ->
     if :: k++ :: k + 2 <= NK -> k = k + 2 fi;               /* a batch of one or two */
     ST(ENT,k); R_IDX(k);
#ifdef BUMP_ALWAYS
     n++; R_CNT(n); F_PUB; ev = mem[EV];
     if :: DUE(ev,k,old) -> WAKE :: else fi;
#else
     F_IDX; ev = mem[EV];
     if :: DUE(ev,k,old) -> n++; R_CNT(n); F_CNT; WAKE :: else fi;
#endif
     old = k; ev = 0
  :: else -> break
  od }

#define LOOK_IDX L_IDX(x,y); \
  if :: d_step { x != seen -> assert(y >= x); seen = x; g_seen = x; found = 1; x=0; y=0 } :: else -> d_step { x=0; y=0 } fi
active proctype Worker()
{ byte seen, x, y; bit found;
again:
  found = 0; LOOK_IDX;
  if :: found -> goto again :: else fi;
  ST(EV,seen); F_WORKER; LOOK_IDX;
  if :: found -> goto again :: else fi;
  d_step { kick -> kick = 0 }; goto again }

#define LOOK_CNT if :: d_step { mem[CNT] != cnt -> cnt = mem[CNT]; kick = 1; found = 1 } :: else fi
active proctype Owner()
{ byte cnt; bit found;
again:
  found = 0; LOOK_CNT;
  if :: found -> goto again :: else fi;
  latch[0] = 0; ST(BLK,1); ST(IE(0),1); F_OWNER; LOOK_CNT;
  if :: found -> ST(BLK,0); ST(IE(0),0); goto again :: else fi;
  latch[0] -> ST(BLK,0); goto again }

active proctype Drain()
{ do :: DRAIN(0) :: DRAIN(1) :: DRAIN(2) :: DRAIN(3) :: DRAIN(4) :: DRAIN(5) od }

active proctype Monitor() { timeout -> assert(g_seen == NK) }
