// SPDX-License-Identifier: Apache-2.0
//
// What a process that starts another one again needs of Linux and Swift cannot spell. Each function
// returns what the call returns, or -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { CS_PATH_SIZE = 4096, CS_SOCKET_NAME_SIZE = 128, CS_MAX_SENT = 4, CS_MAX_PASSED = 1024 };
enum {
  CS_HANGUP = 1, CS_INTERRUPT = 2, CS_KILL = 9, CS_UPDATE = 10, CS_TERMINATE = 15, CS_CHILD = 17,
};

// Blocks the signals above, but SIGKILL, and gives a descriptor they are read from.
long cs_signal_descriptor(void);
// The next signal, 0 when there is none.
int cs_signal_next(int fd);

// A socket for notifications (sd_notify(3)) with an abstract name that the kernel chose.
long cs_notify_socket(void);
// Its name, '@' first; 0, or 1 with an empty name.
int cs_notify_name(int fd, char *_Nonnull name);
// The next datagram, without waiting: its size, at most that of the room. *pid: who sent it.
// *fd_count descriptors arrive in fds (room for CS_MAX_SENT). *is_cut: something did not fit, or
// this process may have no more descriptors.
long cs_notify_receive(int fd, void *_Nonnull data, size_t size, int *_Nonnull pid,
                       int *_Nonnull fds, unsigned *_Nonnull fd_count, int *_Nonnull is_cut);

// The file this process runs; called is its own first word.
long cs_program_path(const char *_Nullable called, char *_Nonnull path);
// Starts the program at path; argv and more, strings NAME=value for its environment, end with NULL.
// fds become its descriptors 3 and following, with LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES
// (names) as sd_listen_fds(3) has it. It gets the signals that this process has blocked, but SIGTERM
// and SIGINT wait until it unblocks them. The pid.
long cs_start(const char *_Nonnull path, char *_Nullable *_Nonnull argv,
              char *_Nullable *_Nonnull more, const int *_Nullable fds, unsigned fd_count,
              const char *_Nonnull names);
// Puts the program at path into the place of this one, with variable NAME=value; fds stay open.
// Returns only on failure, and everything is as it was.
long cs_replace(const char *_Nonnull path, char *_Nullable *_Nonnull argv,
                const char *_Nonnull name, const char *_Nonnull value, const int *_Nullable fds,
                unsigned fd_count);
// 1 and the status, -SIGNAL when one killed it, if the child has ended; 0 if not.
long cs_reap(int pid, int *_Nonnull status);
long cs_send_signal(int pid, int signal);
void cs_environment_remove(const char *_Nonnull name);
// Keeps a descriptor from programs that are started.
long cs_keep_private(int fd);

// Goes into the background, with the standard descriptors alone: the calling process ends with the
// status that the new one writes as a byte into the descriptor that is returned there, or with
// which it ends.
long cs_background(void);

// 1 once for each number: who asks first has the descriptor that was passed under this number.
int cs_claim_passed(unsigned index);
