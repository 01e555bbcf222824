// SPDX-License-Identifier: Apache-2.0
//
// What test builds do at every access to shared memory (docs/testing.md). SharedMemory calls it
// only where CELLMATE_WATCH is defined: debug builds and fuzzers, never a release library.
//
// A *step* is a store to shared memory or a register write; a copy or fill is one step a started
// CW_PIECE bytes. Each thread watches two sides of a link, told apart by the addresses of their
// views; a side can be made to die before a given step: from there on nothing that it stores gets
// anywhere. A whole process dies by SIGKILL before step N where the environment has
// CELLMATE_CRASH_STEP=N. With CELLMATE_CRASH_MARK=PATH it makes that file first, and does not die where
// it finds it at its start: whoever inherits the environment from its parent dies once.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CW_SIDES = 2, CW_PIECE = 512 };

/// Watches side 0 or 1 of this thread, whose view is [start, start + size); it dies before step
/// `last` (from 1; 0: never). Steps and accesses start
/// at 0.
void cw_watch(unsigned side, const void *_Nonnull start, size_t size, uint64_t last);
/// Watches no side any more.
void cw_watch_end(void);
/// Lets a side, dead or not, die before the step with this number (0: never).
void cw_set_last(unsigned side, uint64_t last);
uint64_t cw_steps(unsigned side);
/// Loads and stores of the side, in words; a copy is one a started 8 bytes.
uint64_t cw_accesses(unsigned side);
int cw_is_dead(unsigned side);

/// A store to a word: where to do it. A dead side stores beside the world.
void *_Nonnull cw_store(void *_Nonnull at, size_t size);
/// A copy or fill into shared memory: how many bytes of it still happen.
size_t cw_store_bytes(const void *_Nonnull at, size_t size);
/// Counts an access.
void cw_access(const void *_Nonnull at, size_t size);
/// A register write of the side whose view holds `view`; 0 when it does not happen.
int cw_register(const void *_Nonnull view);

/// Whether AddressSanitizer looks at what the two functions below say.
int cw_has_sanitizer(void);
void cw_forbid(const void *_Nonnull start, size_t size);
void cw_allow(const void *_Nonnull start, size_t size);
