// SPDX-License-Identifier: Apache-2.0
//
// What the ring benchmark needs of the system and Swift does not import: fork, pinning, printf.
#pragma once
#include <stdint.h>

void *_Nullable cb_map(uint64_t size, int huge);
void cb_pin(int cpu);
double cb_now(void);
int cb_eventfd(void);
void cb_signal(int fd);
void cb_wait(int fd);
/// 0 in the child, which dies with its parent.
int cb_fork(void);
void cb_join(int pid);
void cb_exit(int status) __attribute__((noreturn));

struct cb_parameters {
  unsigned descriptors, depth, batch, payload, size, runs;
  long spin;
};
/// Sorts `values` and prints the line that vring_ref prints.
void cb_report(const char *_Nonnull what, struct cb_parameters p, int cpu_a, int cpu_b,
               double *_Nonnull values);

/// The parsed chain must exist, as for a real back end: what was stored is observable here.
static inline __attribute__((always_inline)) void cb_barrier(void) {
  __asm__ volatile("" : : : "memory");
}
