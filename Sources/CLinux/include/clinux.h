// SPDX-License-Identifier: Apache-2.0
//
// Linux calls that Swift cannot spell: variadic ones, macros, control messages. Each function
// returns what the call returns, or -errno; nothing here decides anything. The header names no
// system type, so that it can be imported beside any C library module.
#pragma once
#include <stddef.h>
#include <stdint.h>

// The shapes of struct iovec and struct pollfd.
struct cl_segment {
  void *_Nullable base;
  size_t count;
};
struct cl_poll_entry {
  int fd;
  short events;
  short revents;
};
enum { CL_MAX_FDS = 128, CL_POLL_IN = 1, CL_POLL_OUT = 4, CL_POLL_HANGUP = 16 };
// Size, kind (0 other, 1 regular file, 2 block device) and whether the file system is memory.
struct cl_file_facts {
  uint64_t size;
  int kind;
  int in_memory;
};

long cl_memfd(const char *_Nonnull name);
long cl_truncate(int fd, int64_t size);
long cl_seal_size(int fd);
long cl_seal_size_and_writers(int fd);
long cl_chmod(int fd, unsigned mode);
long cl_open(const char *_Nonnull path, int flags, unsigned mode);
// Address ranges: 0 on failure, errno in *error.
void *_Nullable cl_reserve(size_t size, int *_Nonnull error);
long cl_map_at(void *_Nonnull at, size_t size, int writable, int fd);
long cl_map_private_at(void *_Nonnull at, size_t size);
void cl_unmap(void *_Nonnull at, size_t size);
long cl_eventfd(void);
long cl_event_signal(int fd);
// Signals an event of somebody else, who may have filled its counter: never blocks, where the
// kernel has asynchronous input and output. A full counter stays as it is.
long cl_event_offer(int fd);
// Empties an event that others hold, too: 8 when there was something, -EAGAIN when not; never blocks.
long cl_event_try(int fd);
// Blocks until the event is signalled; -EINTR when a signal handler ran.
long cl_event_wait(int fd);
// Waits for input on any of count descriptors, at most timeout_ns (negative: for ever).
long cl_poll_ns(struct cl_poll_entry *_Nonnull fds, unsigned count, int64_t timeout_ns);
uint64_t cl_monotonic_ns(void);
uint64_t cl_random(void);
// The hypervisor's own words (Interrupt Control): the one place where a read-modify-write is
// allowed, because no peer's protocol sees it.
uint32_t cl_word_exchange(void *_Nonnull p, uint32_t v);
uint32_t cl_word_load(const void *_Nonnull p);
uint64_t cl_count(void *_Nonnull p);
uint64_t cl_count_load(const void *_Nonnull p);
long cl_connect(const char *_Nonnull path);
long cl_listen(const char *_Nonnull path);
long cl_accept(int fd);
int cl_peer_pid(int fd);
// One message with descriptors. Never raises SIGPIPE.
long cl_send(int fd, const void *_Nonnull data, size_t size, const int *_Nullable fds,
                       unsigned fd_count);
// One message; *fd_count descriptors arrive in fds (room for CL_MAX_FDS). A message longer than
// size is -EMSGSIZE; its descriptors are closed.
long cl_receive(int fd, void *_Nonnull data, size_t size, int *_Nonnull fds,
    unsigned *_Nonnull fd_count, int flags);
long cl_readv(int fd, const struct cl_segment *_Nonnull v, int n, int64_t at, int nowait);
long cl_writev(int fd, const struct cl_segment *_Nonnull v, int n, int64_t at, int nowait,
                         int stable);
long cl_datasync(int fd);
long cl_punch(int fd, int64_t at, int64_t count);
long cl_zero_range(int fd, int64_t at, int64_t count);
long cl_device_size(int fd, uint64_t *_Nonnull size);
long cl_device_range(int fd, int zero, uint64_t at, uint64_t count);
long cl_file_facts_of(int fd, struct cl_file_facts *_Nonnull out);
// A whole-file lock of the open file description; *holder is the pid that is in the way, if known.
long cl_lock(int fd, int exclusive, int *_Nonnull holder);
void cl_catch_stop(int event_fd);
int cl_stop_requested(void);
const char *_Nonnull cl_error_text(int error);

// ---- the rest --------------------------------------------------------------------------------

void cl_close(int fd);
// Writes all of it, however often the system takes only a part.
long cl_write_all(int fd, const void *_Nonnull data, size_t size);
// Reads at most size bytes at a position.
long cl_read_at(int fd, void *_Nonnull data, size_t size, int64_t at);
// Writes at most size bytes at a position.
long cl_write_at(int fd, const void *_Nonnull data, size_t size, int64_t at);
uint64_t cl_realtime_ns(void);
int cl_is_terminal(int fd);
void cl_exit(int status) __attribute__((noreturn));
long cl_unlink(const char *_Nonnull path);
// Removes a socket's file; -EEXIST when something else is there.
long cl_unlink_socket(const char *_Nonnull path);
// The number of the file at path, 0 when there is none.
uint64_t cl_inode(const char *_Nonnull path);
int cl_process_id(void);

// ---- stream sockets, epoll, guest memory -------------------------------------------------------

// A stream socket at path; a socket that nobody serves any more is replaced. -EADDRINUSE when
// somebody serves it, -EEXIST when something else than a socket is there.
long cl_listen_stream(const char *_Nonnull path);
long cl_connect_stream(const char *_Nonnull path);
long cl_set_nonblocking(int fd);
long cl_set_blocking(int fd);
// 1 when fd is an eventfd, or nobody can tell; 0 when it is something else.
int cl_is_eventfd(int fd);
// Takes what an eventfd counted, without blocking.
void cl_event_take(int fd);
long cl_duplicate(int fd);
long cl_epoll(void);
// Watches fd for input; edge: once for each signal, so that nobody has to read it.
long cl_epoll_add(int epoll, int fd, uint64_t tag, int edge);
void cl_epoll_remove(int epoll, int fd);
// The tags of what is ready, at most count; timeout in ns, negative: for ever.
long cl_epoll_wait(int epoll, uint64_t *_Nonnull tags, unsigned count, int64_t timeout_ns);
// Maps size bytes of fd from offset over reserved addresses.
long cl_map_file_at(void *_Nonnull at, size_t size, int fd, uint64_t offset);
// Maps size bytes of fd from offset over reserved addresses, writable or not.
long cl_map_view_at(void *_Nonnull at, size_t size, int writable, int fd, uint64_t offset);
// Gives mapped addresses back to the reservation.
long cl_reserve_at(void *_Nonnull at, size_t size);
// A file that somebody else can truncate raises SIGBUS: inside a guarded range the page is
// replaced by zeroes and counted instead. Returns the guard's number.
long cl_guard_add(void *_Nonnull at, size_t size);
uint32_t cl_guard_faults(long guard);
void cl_guard_remove(long guard);

// ---- threads -----------------------------------------------------------------------------------

// A mutex with a condition; it stays where it is.
typedef struct cl_monitor cl_monitor;
cl_monitor *_Nonnull cl_monitor_create(void);
void cl_monitor_destroy(cl_monitor *_Nonnull m);
void cl_monitor_enter(cl_monitor *_Nonnull m);
void cl_monitor_leave(cl_monitor *_Nonnull m);
// Leaves, waits for a wake-up and enters again.
void cl_monitor_wait(cl_monitor *_Nonnull m);
void cl_monitor_wake_one(cl_monitor *_Nonnull m);
void cl_monitor_wake_all(cl_monitor *_Nonnull m);
// Runs body(context) on a thread of its own; without_signals: signals are for the other threads.
long cl_thread_start(void (*_Nonnull body)(void *_Nullable), void *_Nullable context,
                     int without_signals, uint64_t *_Nonnull thread);
void cl_thread_join(uint64_t thread);

// ---- programs ----------------------------------------------------------------------------------

// Replaces this process by the program of that name in the folder of the running one. argv ends
// with NULL; its first entry becomes the path. Returns only on failure.
// The words this program was started with, its name first.
int cl_argument_count(void);
char *_Nullable *_Nonnull cl_arguments(void);
long cl_exec_beside(const char *_Nonnull name, char *_Nullable *_Nonnull argv);
