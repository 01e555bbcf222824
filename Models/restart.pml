/* restart.pml - model B: life cycle.  Side 0 = front-end (driver), side 1 = back-end (device).
 * Either side starts first, crashes before any step (MAXC crashes in all), restarts, or dies for good (once, -DDEATH).
 * Initial memory and state table are garbage; a starting side may find the PEER's block overwritten (invalidate-only
 * cache pass at cell start); stores pending at a crash are lost (any release-consistent subset drained before); the State register may
 * or may not be zeroed between two lives (the next life does it then).
 * hello word = {own epoch, echo} ONE word.  request/ack word = {driver epoch, device epoch, sequence}.
 * Bits 8.. of a request/ack word are GHOST: the life pair it was really meant for / executed in.
 * Safety: S1 link up only if the peer life we pair with has really read our epoch of this life;
 *         S2 an accepted ack was executed in this pairing;  S3 a device executes only requests of this pairing, and none twice (lastx).
 * -DCOUNTER replaces the transaction by one queue-counter change per pairing (private copies across restarts).
 * Convergence: at timeout the link is up on both sides and the session's transaction is done, or the survivor of
 *         a dead peer is down and has aborted. */
#ifndef MAXC
#define MAXC 1
#endif
#define MT short
#define NV 8
#define HS(a)  (4*(a))      /* hello {epoch, echo} */
#define W(a)   (4*(a)+1)    /* request / acknowledgement word */
#define XS(a)  (4*(a)+2)    /* extended status: BLOCKED */
#define IE(a)  (4*(a)+3)    /* interrupt control */
#define OWN(a) (15<<(4*(a)))
#define DEPALL (dep[0]|dep[1]|dep[4]|dep[5])
#define DROP(v) buf[v]=0; pend=pend&~BIT(v); dep[0]=dep[0]&~BIT(v); dep[1]=dep[1]&~BIT(v); dep[4]=dep[4]&~BIT(v); dep[5]=dep[5]&~BIT(v)
#include "mem.h"

bit st[2];                                        /* state table, written by the hypervisor */
bit crash[2]; bit dead[2]; byte crashes;
bit up[2], out, done;                             /* link up; driver: transaction outstanding / done in this pairing */
byte cur[2]; byte usedm[2]; byte gread[2];        /* ghosts: epoch of this life, epochs used, peer lives that read it */
#define SETSTATE(a,v) d_step { if :: st[a] != (v) -> st[a] = (v); DELIVER(1-(a)) :: else fi }

#ifdef NO_DEP
#define VD(de) 0
#else
#define VD(de) ((de)*32)
#endif
#ifdef NO_BEP
#define VB(be) 0
#else
#define VB(be) ((be)*4)
#endif
#define WORD(de,be,seq) (VD(de) + VB(be) + (seq) + ((de)*8+(be))*256)
#define VIS(w) ((w) & 255)
#define TAG(w) ((w) >> 8)

/* ---- the fences.  Each F_ macro has ONE use site; a deletion names the side that lacks it:
 * for a fence that both sides have: -DNO_FENCE_X=0 takes it from the front-end, =1 from the back-end. ----- */
#ifndef NO_FENCE_START
#define NO_FENCE_START 2
#endif
#ifndef NO_FENCE_SLEEP
#define NO_FENCE_SLEEP 2
#endif
#ifndef NO_FENCE_HELLO
#define NO_FENCE_HELLO 2
#endif
#define F_START (a == NO_FENCE_START || FENCE(OWN(a)))   /* block initialised | State non-zero           */
#define F_SLEEP (a == NO_FENCE_SLEEP || FENCE(OWN(a)))   /* BLOCKED, arm      | look at everything        */
#define F_HELLO (a == NO_FENCE_HELLO || FENCE(OWN(a)))   /* hello             | is the peer BLOCKED?      */
#ifdef NO_FENCE_REQ
#define F_REQ skip
#else
#define F_REQ   FENCE(OWN(a))                           /* request / counter | is the peer BLOCKED?      */
#endif
#ifdef NO_FENCE_ACK
#define F_ACK skip
#else
#define F_ACK   FENCE(OWN(a))                           /* acknowledgement   | is the peer BLOCKED?      */
#endif
#ifdef NO_REL_HELLO
#define R_HELLO(x) ST(HS(a),x)
#else
#define R_HELLO(x) REL(OWN(a),HS(a),x)
#endif
#define R_REQ REL(OWN(a),W(a),myw)
#define R_ACK REL(OWN(a),W(a),myw)
#ifdef NO_RING_HELLO
#define WAKE_HELLO skip
#else
#define WAKE_HELLO WAKE
#endif
#define WAKE if :: mem[XS(p)] -> d_step { DELIVER(p) } :: else fi
#ifdef NO_ZERO_FIRST
#define ZERO_FIRST skip
#else
#define ZERO_FIRST SETSTATE(a,0)
#endif
#ifdef NO_WITHDRAW          /* a new pairing leaves the old request / ack word in memory */
#define WITHDRAW skip
#else
#ifdef COUNTER
#define WITHDRAW if :: a==0 -> ST(W(a),myw) :: else fi
#else
#define WITHDRAW ST(W(a),0)
#endif
#endif
#ifndef COUNTER
#define NEWSESSION myw=0
#define AT_UP skip
#else
byte gcnt; bit noticed;
#ifdef SEEN_AT_HELLO        /* private copy sampled after the new hello, before the echo; no scan */
#define NEWSESSION if :: a==1 -> myw=w :: else fi
#define AT_UP skip
#else
#define NEWSESSION skip
#ifdef SEEN_KEEP            /* the private copy survives a new pairing of the peer; no scan */
#define AT_UP skip
#else
#ifdef SEEN_AT_UP           /* sampled when the link comes up; no scan */
#define AT_UP if :: a==1 -> myw=w :: else fi
#else                       /* correct: sample, then scan the queue unconditionally once */
#define AT_UP if :: a==1 -> myw=w; noticed=(w==gcnt) :: else fi
#endif
#endif
#endif
#endif
#ifdef NO_INIT_W
#define INIT_W skip
#else
#define INIT_W ST(W(a),0)
#endif
#ifdef NO_LOOK_STATE        /* never look at the state table */
#define L_STATE s = 1
#else
#define L_STATE s = st[p]
#endif
#ifdef NO_ECHO              /* link is up as soon as the peer has an epoch and state != 0 */
#define ECHOED true
#else
#define ECHOED ((h & 7) == me)
#endif
#ifdef TORN_EPOCH_FIRST     /* epoch and echo are two words: epoch read first */
#define L_HELLO h = mem[HS(p)] & 56; h = h | (mem[HS(p)] & 7)
#else
#ifdef TORN_ECHO_FIRST
#define L_HELLO h = mem[HS(p)] & 7; h = h | (mem[HS(p)] & 56)
#else
#define L_HELLO h = mem[HS(p)]
#endif
#endif
#ifdef ACK_BEFORE_HELLO     /* load order: word before hello (no acquire on hello) */
#define LOADS L_STATE; w = mem[W(p)]; L_HELLO
#else
#ifdef STATE_LAST           /* no acquire on the state table */
#define LOADS L_HELLO; w = mem[W(p)]; L_STATE
#else
#define LOADS L_STATE; L_HELLO; w = mem[W(p)]
#endif
#endif
#ifdef ZERO_EDGE_ONLY       /* as decision 7 is written: republish only on state 0 -> non-zero */
#define NEWPEER ((h>>3) != 0 && pe == 0)
#else
#ifdef EPOCH_ONLY           /* republish on a new epoch only, not on the state edge */
#define NEWPEER ((h>>3) != 0 && (h>>3) != pe)
#define KEEP_PE
#else
#define NEWPEER ((h>>3) != 0 && (h>>3) != pe)
#endif
#endif
#ifdef NO_REPUBLISH         /* remember the new epoch, publish nothing but the echo: block not rewritten */
#define R_BLOCK skip
#else
#define R_BLOCK WITHDRAW; ST(XS(a),0)
#endif
#ifdef NO_AVOID_ECHO
#define AVOID_ECHO 0
#else
#define AVOID_ECHO BIT(mem[HS(p)] & 7)
#endif
#ifdef NO_AVOID_OWN
#define AVOID_OWN 0
#else
#define AVOID_OWN BIT(mem[HS(a)] >> 3)
#endif
#ifdef LOCAL_EPOCH          /* epochs may repeat after two lives: only the visible words are avoided */
#define AVOID_USED 0
#else
#define AVOID_USED usedm[a]
#endif
#ifdef SAME_EPOCH           /* no new epoch per start */
#define CHOOSE me = 1
#else
#define AV (AVOID_ECHO | AVOID_OWN | AVOID_USED)
#define CHOOSE if :: !(AV & 2) -> me=1 :: (AV & 2) && !(AV & 4) -> me=2 :: (AV & 6)==6 && !(AV & 8) -> me=3 \
   :: (AV & 14)==14 && !(AV & 16) -> me=4 :: (AV & 30)==30 && !(AV & 32) -> me=5 \
   :: (AV & 62)==62 && !(AV & 64) -> me=6 :: (AV & 126)==126 -> me=7 fi
#endif
#ifdef DEV_NO_UP            /* variant: device executes on the word alone */
#define DEVUP pe != 0
#else
#define DEVUP up[a]
#endif
#if defined(NO_SESSION_CHECK)   /* device executes every new word */
#define SESSION true
#else
#define SESSION (VIS(w) == VIS(WORD(pe,me,VIS(w)&3)))
#endif

/* pending stores die with the side; the Drain process may have committed any release-consistent subset before */
#define CLEAN atomic { DROP(HS(a)); DROP(W(a)); DROP(XS(a)); DROP(IE(a)); mem[IE(a)]=0; latch[a]=0; crash[a]=0; \
   up[a]=0; cur[a]=0; gread[a]=0; if :: a==0 -> out=0; done=0 :: else fi; \
   h=0; w=0; s=0; pe=0; myw=0; seq=0; found=0; me=0; lastx=0 }

/* what a side looks at: state table, hello word, request/ack word.  One action, then look again. */
#define LOOK LOADS; \
  if \
  :: s == 0 -> d_step { if :: pe != 0 -> DOWN :: else fi; h=0; w=0 } \
  :: s != 0 && NEWPEER -> \
     d_step { pe = h>>3; up[a]=0; if :: a==0 -> out=0; done=0 :: else fi; NEWSESSION; found=1; \
              if :: pe == cur[p] -> gread[p] = gread[p] | BIT(me) :: else fi; h=0; w=0 }; \
     R_BLOCK; R_HELLO(me*8+pe); F_HELLO; WAKE_HELLO \
  :: s != 0 && !(NEWPEER) -> \
     if \
     :: !up[a] && pe != 0 && ECHOED -> d_step { up[a]=1; found=1; AT_UP; assert(gread[a] & BIT(pe)); h=0; w=0 } /* S1 */ \
     :: else -> \
        if \
        TXBRANCHES \
        :: else -> d_step { h=0; w=0 } \
        fi \
     fi \
  fi
#ifndef COUNTER
#define TXBRANCHES \
        :: a==0 && up[a] && !out && !done -> d_step { seq=(seq&1)+1; myw=WORD(me,pe,seq); out=1; found=1; h=0; w=0 }; \
           R_REQ; F_REQ; WAKE \
        :: a==0 && up[a] && out && VIS(w)==VIS(myw) -> \
           d_step { assert(TAG(w)==me*8+pe); out=0; done=1; found=1; h=0; w=0 }            /* S2 */ \
        :: a==1 && DEVUP && (VIS(w)&3)!=0 && VIS(w)!=VIS(myw) && SESSION -> \
           d_step { assert(TAG(w)==pe*8+me); assert(w!=lastx); lastx=w; myw=(w&255)+((pe*8+me)*256); found=1; h=0; w=0 }; /* S3 */ \
           R_ACK; F_ACK; WAKE
#else /* COUNTER: W(0) is a queue counter instead of a request word; the device compares it with myw, its private copy */
#define TXBRANCHES \
        :: a==0 && up[a] && !done -> d_step { myw=(myw+1)&7; gcnt=myw; noticed=0; done=1; found=1; h=0; w=0 }; \
           R_REQ; F_REQ; WAKE \
        :: a==1 && up[a] && w!=myw -> d_step { myw=w; noticed=(w==gcnt); found=1; h=0; w=0 }
#endif
#ifdef KEEP_PE
#define DOWN up[a]=0; if :: a==0 -> out=0; done=0 :: else fi
#else
#ifdef COUNTER
#define DOWN pe=0; up[a]=0; if :: a==0 -> out=0; done=0 :: else fi
#else
#define DOWN pe=0; up[a]=0; myw=0; if :: a==0 -> out=0; done=0 :: else fi
#endif
#endif
#define p (1-a)

proctype Side(byte a)
{ byte me, pe, s, seq; short h, w, myw, lastx; bit found;
start:
  /* cell start: the peer's block may be lost to older memory contents (garbage) */
  atomic { if :: skip
#ifndef NO_LOSS
              :: mem[HS(p)] = 0; mem[W(p)] = 0; mem[XS(p)] = 0
              :: mem[HS(p)] = 9; mem[W(p)] = VIS(WORD(1,1,1)); mem[XS(p)] = 0
#endif
           fi };
  { atomic { CHOOSE; usedm[a] = usedm[a] | BIT(me); cur[a] = me; gread[a] = 0 };
    ZERO_FIRST;
    ST(HS(a), me*8); INIT_W; ST(XS(a), 0);
    F_START;
    SETSTATE(a,1);
again:
    latch[a] = 0; ST(XS(a),1); ST(IE(a),1); F_SLEEP;
    found = 0; LOOK;
    if :: found -> ST(XS(a),0); goto again :: else fi;
    latch[a] -> ST(XS(a),0); goto again
  } unless { crash[a] };
  CLEAN;
  if :: skip                                   /* unclean: State keeps its old value until the next life */
     :: SETSTATE(a,0)
#ifdef DEATH
     :: atomic { !dead[p] -> dead[a] = 1 }; SETSTATE(a,0); goto gone
#endif
  fi;
  goto start;
gone: skip
}
#undef p
proctype Crasher()
{ do :: atomic { crashes < MAXC -> crashes++; if :: !dead[0] && cur[0] -> crash[0] = 1 :: !dead[1] && cur[1] -> crash[1] = 1 fi } od }

proctype Drain()
{ do :: DRAIN(0) :: DRAIN(1) :: DRAIN(2) :: DRAIN(3) :: DRAIN(4) :: DRAIN(5) :: DRAIN(6) :: DRAIN(7) od }

#ifdef COUNTER
#define NOTICED && noticed
#else
#define NOTICED
#endif
init { atomic {
  if :: skip
#ifndef NO_GARBAGE
     :: mem[HS(0)] = 9;  mem[W(0)] = VIS(WORD(1,1,1)); mem[XS(0)] = 1; st[0] = 1
     :: mem[HS(0)] = 10; mem[W(0)] = VIS(WORD(1,2,1)); st[0] = 1
     :: mem[HS(0)] = 17; mem[W(0)] = VIS(WORD(2,1,1)); st[0] = 1
#endif
  fi;
  if :: skip
#ifndef NO_GARBAGE
     :: mem[HS(1)] = 9;  mem[W(1)] = VIS(WORD(1,1,1)); mem[XS(1)] = 1; st[1] = 1
     :: mem[HS(1)] = 10; mem[W(1)] = VIS(WORD(1,2,1)); st[1] = 1
     :: mem[HS(1)] = 17; mem[W(1)] = VIS(WORD(2,1,1)); st[1] = 1
#endif
  fi;
#ifndef UNKNOWN_GARBAGE     /* fresh epochs (random or clock) differ from everything left in memory */
  usedm[0] = 6; usedm[1] = 6;
#endif
  run Side(0); run Side(1); run Drain(); run Crasher() };
  /* convergence */
  timeout -> assert( (dead[0] && !up[1]) || (dead[1] && !up[0] && !out) || (up[0] && up[1] && done NOTICED) )
}
