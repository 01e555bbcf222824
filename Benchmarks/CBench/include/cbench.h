// SPDX-License-Identifier: Apache-2.0
// What the benchmark needs of the system and Swift cannot spell: fork, pinning, shared memory.
#pragma once
#include <stddef.h>
#include <stdint.h>
void *_Nonnull cb_shared(size_t size);
int cb_fork(void);
void cb_wait(int pid);
void cb_exit(int status) __attribute__((noreturn));
void cb_pin(int cpu);
int cb_event(void);
void cb_signal(int fd);
void cb_await(int fd);
double cb_now_ns(void);
