// SPDX-License-Identifier: Apache-2.0
//
// What a file as a block medium needs of Linux and Swift cannot spell: open flags that differ
// between machines, ioctls, facts about direct I/O. Each function returns what the call returns,
// or -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CHF_WRITABLE = 1, CHF_DIRECT = 2, CHF_EXCLUSIVE = 4 };

// The grain of a block device, all in bytes; 0 where the kernel does not say.
struct chf_grain {
  uint32_t logical;
  uint32_t physical;
  uint32_t minimum;
  uint32_t optimal;
};

// Opens without waiting (a FIFO, a lease) and closes on exec.
long chf_open(const char *_Nonnull path, int flags);
long chf_device_grain(int fd, struct chf_grain *_Nonnull out);
// The alignment direct I/O asks of memory and of file positions, in bytes; 0 where it is not known.
long chf_direct_alignment(int fd, uint32_t *_Nonnull memory, uint32_t *_Nonnull position);
// The pid of a process that holds an open file description lock on this file, found through
// /proc; 0 when none is visible.
int chf_lock_holder(int fd);
