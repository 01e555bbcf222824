// SPDX-License-Identifier: Apache-2.0
//
// Linux calls behind consoles and random numbers that Swift cannot spell. Each function returns
// what the call returns, or -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Random bytes; returns how many. Waits only until the kernel's generator is seeded.
long chc_random(void *_Nonnull bytes, size_t count);
