// SPDX-License-Identifier: Apache-2.0
//
// Linux calls behind taps that Swift cannot spell. Each function returns what the call returns, or
// -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CHN_NAME = 15, CHN_HEADER = 12 };
#define CHN_AGAIN (-11)

// The tap of that name (made when there is none), without waiting, with a header of CHN_HEADER
// bytes in front of each frame, and with offloads. -ENAMETOOLONG beyond CHN_NAME bytes.
long chn_tap(const char *_Nonnull name);
// A pair of sockets that keep frames apart, without waiting.
long chn_socket_pair(int *_Nonnull first, int *_Nonnull second);
// One frame with its header: reads up to count bytes, or writes them. 0 at the end of a socket.
long chn_read(int fd, void *_Nonnull bytes, size_t count);
long chn_write(int fd, const void *_Nonnull header, const void *_Nonnull frame, size_t count);
// Waits until fd can be read (1) or stop is signalled (0).
long chn_wait(int fd, int stop);
