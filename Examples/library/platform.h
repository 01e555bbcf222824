/* SPDX-License-Identifier: Apache-2.0 */
/* A machine in this process: two peers, a read/write section, interrupts as event descriptors. */
#ifndef PLATFORM_H
#define PLATFORM_H

#include <cellmate.h>

struct machine;
struct machine *machine_make(void);
void machine_free(struct machine *machine);
/* The platform of a peer (0 or 1) of the machine. */
cellmate_platform machine_platform(struct machine *machine, unsigned peer);
/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now(void);

#endif
