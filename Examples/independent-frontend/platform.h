/* SPDX-License-Identifier: Apache-2.0 */
/* What the protocol needs from its platform, in one page. An RTOS writes these functions anew and
 * takes everything else over as it is; platform_sim.c is the version for the simulator. The page
 * docs/porting.md says the same with all its conditions. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

struct platform;

/* Constant for the life of a platform. */
struct platform_geometry {
    unsigned own;         /* the own peer number */
    unsigned other;       /* the back-end's */
    unsigned peers;       /* how many output sections there are */
    unsigned vectors;     /* interrupts of each peer; 1 stands for INTx */
    uint64_t state_table; /* sizes in bytes; the sections follow each other in this order */
    uint64_t read_write;
    uint64_t output;      /* of each peer */
};

enum platform_event {
    PLATFORM_EVENT,    /* an interrupt since the last wait, or a spurious return */
    PLATFORM_DEADLINE, /* the deadline has passed */
    PLATFORM_STOPPED,  /* somebody asks this side to stop */
    PLATFORM_GONE,     /* the device is no longer there */
};

/* `where` names the device in the platform's own way. Null, with a line on standard error, if it
 * cannot be had. */
struct platform *platform_open(const char *where, unsigned own, unsigned other);
void platform_close(struct platform *p);

const struct platform_geometry *platform_geometry(const struct platform *p);

/* The start of the one contiguous mapping; offset 0 is the state table. */
uint8_t *platform_memory(const struct platform *p);

/* Writes the own State register. Earlier stores are visible before the new state is. */
bool platform_write_state(struct platform *p, uint32_t state);

/* Writes Interrupt Control. On return the write has reached the hypervisor. */
void platform_arm(struct platform *p);
void platform_disarm(struct platform *p);

/* Interrupts a peer. Earlier stores are visible before the interrupt. May be lost if the peer is
 * not armed. */
void platform_ring(struct platform *p, unsigned peer, unsigned vector);

/* Sleeps until an interrupt or until the clock below shows `deadline`. An interrupt that came
 * before the call counts; returning PLATFORM_EVENT consumes it, and nothing else does. */
enum platform_event platform_wait(struct platform *p, uint64_t deadline);

/* Nanoseconds, monotonic. */
uint64_t platform_now(void);

/* Another number at every start. */
uint32_t platform_random(void);

#endif
