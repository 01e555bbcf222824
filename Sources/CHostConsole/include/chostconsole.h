// SPDX-License-Identifier: Apache-2.0
//
// Linux calls behind consoles and random numbers that Swift cannot spell. Each function returns
// what the call returns, or -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CHC_TAGS = 32, CHC_NAME = 64 };
#define CHC_AGAIN (-11)

// Random bytes; returns how many. Waits only until the kernel's generator is seeded.
long chc_random(void *_Nonnull bytes, size_t count);

// The master of a fresh pseudo-terminal whose other end is raw and has been closed once, so that
// its state shows; the other end's path arrives in name (CHC_NAME bytes).
long chc_pty(char *_Nonnull name);
// 1 when somebody has the other end open.
int chc_pty_is_open(int master);
// A descriptor that becomes readable when path is opened or closed.
long chc_watch_opens(const char *_Nonnull path);
// Reads and forgets everything there is.
void chc_drain(int fd);
// Columns in the low half, rows in the high one; 0 when fd is no terminal or has no size.
uint32_t chc_terminal_size(int fd);
long chc_set_terminal_size(int fd, uint32_t size);
// Makes path a symbolic link to target, in one step; replaces a symbolic link, and nothing else.
// A descriptor that holds the name for as long as it is open, also against other processes:
// -EADDRINUSE when one has it.
long chc_link(const char *_Nonnull target, const char *_Nonnull path);
// Removes path when it is a symbolic link to target.
void chc_unlink_if(const char *_Nonnull target, const char *_Nonnull path);

// A description of its own for descriptor 0 or 1, so that it can be non-blocking without others
// noticing; where the kernel refuses that, a duplicate, and chc_restore makes it blocking again.
// -EBUSY until chc_restore when it was asked for before.
long chc_own(int fd);
// Puts the terminal fd into raw mode until chc_restore, exit or a deadly signal; 0 when it is none.
long chc_raw(int fd);
void chc_restore(void);
// Signals event_fd at every change of the terminal's size.
void chc_watch_size(int event_fd);
// Signals event_fd at every SIGHUP, which then ends this process no more; -ENOSPC when too many do.
long chc_watch_hangup(int event_fd);
void chc_unwatch_hangup(int event_fd);
// How often SIGHUP has come.
unsigned chc_hangups(void);
// Asks this process to stop as SIGTERM does.
void chc_ask_to_stop(void);

// Reads and writes that never block on the descriptors above; a write never raises SIGPIPE on a
// socket.
long chc_read(int fd, void *_Nonnull bytes, size_t count);
long chc_write(int fd, const void *_Nonnull bytes, size_t count);
long chc_send(int fd, const void *_Nonnull bytes, size_t count);
// 1 when nobody will read from, or write to, this socket any more.
int chc_socket_is_dead(int fd);
// Opens for appending; a file that grows beyond a limit gives an error from now on, no signal.
long chc_append_to(const char *_Nonnull path);

// Edge-triggered, input and output.
long chc_poll_set(void);
long chc_poll_add(int set, int fd, uint64_t tag);
// Waits, for ever when timeout_ms is negative; tags has room for CHC_TAGS.
long chc_poll_wait(int set, uint64_t *_Nonnull tags, int timeout_ms);

// One word shared by two threads.
void chc_bits_add(uint32_t *_Nonnull word, uint32_t bits);
uint32_t chc_bits_take(uint32_t *_Nonnull word);
