// SPDX-License-Identifier: Apache-2.0
//
// What a service needs of Linux and Swift cannot spell: the service manager's datagrams, a control
// socket with rights, names of processes and groups. Each function returns what the call
// returns, or -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CS_NAME_SIZE = 64, CS_TIME_SIZE = 40 };

// The value of an environment variable.
const char *_Nullable cs_environment(const char *_Nonnull name);

// One datagram to the socket at path, '@' first for an abstract one. may_wait: at most a second,
// otherwise not at all.
long cs_notify(const char *_Nonnull path, const void *_Nonnull data, size_t size, int may_wait);
// The same with one descriptor.
long cs_notify_fd(const char *_Nonnull path, const void *_Nonnull data, size_t size, int sent);

// A listening stream socket. Nobody but the owner may use it before its group (-1: as it is) and
// mode are set. A socket that nobody serves any more is replaced; of one that is served *holder
// is the pid, 0 when it cannot be known.
long cs_listen(const char *_Nonnull path, unsigned mode, int64_t group, int *_Nonnull holder);
// The pid of who serves the stream socket at path, 0 when nobody does or it cannot be known.
int cs_socket_holder(const char *_Nonnull path);
// The number of a group.
long cs_group(const char *_Nonnull name);
// At most size bytes, without waiting; 0 at the end.
long cs_read(int fd, void *_Nonnull data, size_t size);
long cs_write(int fd, const void *_Nonnull data, size_t size);
// Watches fd for input, output, or not at all any more; is_known: it was watched before.
long cs_epoll_watch(int epoll, int fd, uint64_t tag, int input, int output, int is_known);

// The command name of a process; 0 when it cannot be known, else 1.
int cs_process_name(int pid, char *_Nonnull name);
// The wall clock as RFC 3339 with microseconds, in UTC.
void cs_time_text(char *_Nonnull text);
// Bytes of memory the process has resident, 0 when it cannot be known.
uint64_t cs_resident_bytes(void);

// Tells the processor that this is a spin loop.
void cs_relax(void);
// Lets the calling thread have SIGTERM, SIGINT and SIGHUP, whatever mask the parent left it.
void cs_receive_signals(void);
