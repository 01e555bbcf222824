// SPDX-License-Identifier: Apache-2.0
//
// What the ring benchmark needs of the system and Swift does not import: fork, pinning, printf.
#pragma once
#include <stdint.h>

void *_Nullable rb_map(uint64_t size, int huge);
void rb_pin(int cpu);
double rb_now(void);
int rb_eventfd(void);
void rb_signal(int fd);
void rb_wait(int fd);
/// 0 in the child, which dies with its parent.
int rb_fork(void);
void rb_join(int pid);
void rb_exit(int status) __attribute__((noreturn));

struct rb_parameters {
  unsigned descriptors, depth, batch, payload, size, runs;
  long spin;
};
/// Sorts `values` and prints the line that vring_ref prints.
void rb_report(const char *_Nonnull what, struct rb_parameters p, int cpu_a, int cpu_b,
               double *_Nonnull values);

/// The parsed chain must exist, as for a real back end: what was stored is observable here.
static inline __attribute__((always_inline)) void rb_barrier(void) {
  __asm__ volatile("" : : : "memory");
}
