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

// ---- the far end of a front-end ----------------------------------------------------------------

// Sets address (6 bytes) and largest packet of a tap; what it has stays where that is not allowed.
long chn_tap_set(int fd, const uint8_t *_Nonnull address, int mtu);
// Whether a tap shows its kernel a link.
long chn_tap_carrier(int fd, int is_up);
// A stream: what is there, or has room, without waiting; CHN_AGAIN when nothing is. Standard input
// and output may be shared with others and keep their mode.
long chn_stream_read(int fd, void *_Nonnull bytes, size_t count);
long chn_stream_write(int fd, const void *_Nonnull bytes, size_t count);
// Watches fd in an epoll set once: for input (1), for room (2) or both. -EPERM for a file, which is
// always ready.
long chn_watch(int set, int fd, int events);
// Waits for one of them; the descriptor, or -errno.
long chn_watch_wait(int set);
