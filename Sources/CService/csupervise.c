// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "csupervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CS_RESULT(call)          \
  do {                           \
    long r_ = (long)(call);      \
    return r_ < 0 ? -errno : r_; \
  } while (0)

// ---- signals -------------------------------------------------------------------------------

static const int cs_signals[] = {SIGHUP, SIGINT, SIGUSR1, SIGTERM, SIGCHLD};
static sigset_t cs_old_mask;

long cs_signal_descriptor(void) {
  sigset_t set;
  sigemptyset(&set);
  for (unsigned i = 0; i < sizeof cs_signals / sizeof *cs_signals; i++) {
    sigaddset(&set, cs_signals[i]);
    // An ignored SIGCHLD would leave nothing to wait for.
    signal(cs_signals[i], SIG_DFL);
  }
  signal(SIGPIPE, SIG_IGN);
  sigprocmask(SIG_BLOCK, &set, &cs_old_mask);
  for (unsigned i = 0; i < sizeof cs_signals / sizeof *cs_signals; i++)
    sigdelset(&cs_old_mask, cs_signals[i]);
  CS_RESULT(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}
int cs_signal_next(int fd) {
  struct signalfd_siginfo s;
  return read(fd, &s, sizeof s) == (ssize_t)sizeof s ? (int)s.ssi_signo : 0;
}

// ---- notifications -------------------------------------------------------------------------

long cs_notify_socket(void) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  // An address without a path: the kernel chooses an abstract one.
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  int on = 1;
  if (bind(fd, (struct sockaddr *)&a, sizeof a.sun_family) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) {
    long r = -errno;
    close(fd);
    return r;
  }
  return fd;
}
int cs_notify_name(int fd, char *_Nonnull name) {
  struct sockaddr_un a;
  socklen_t n = sizeof a;
  name[0] = 0;
  if (getsockname(fd, (struct sockaddr *)&a, &n) < 0) return 1;
  size_t size = n - offsetof(struct sockaddr_un, sun_path);
  if (n <= offsetof(struct sockaddr_un, sun_path) + 1 || size >= CS_SOCKET_NAME_SIZE) return 1;
  memcpy(name, a.sun_path, size);
  name[0] = '@';
  name[size] = 0;
  return 0;
}
long cs_notify_receive(int fd, void *_Nonnull data, size_t size, int *_Nonnull pid,
                       int *_Nonnull fds, unsigned *_Nonnull fd_count, int *_Nonnull is_cut) {
  struct iovec v = {data, size};
  union {
    char bytes[CMSG_SPACE(CS_MAX_SENT * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } space;
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space.bytes,
                     .msg_controllen = sizeof space.bytes};
  *pid = 0;
  *fd_count = 0;
  ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return -errno;
  *is_cut = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (struct cmsghdr *k = CMSG_FIRSTHDR(&m); k; k = CMSG_NXTHDR(&m, k)) {
    if (k->cmsg_level != SOL_SOCKET) continue;
    if (k->cmsg_type == SCM_CREDENTIALS && k->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
      struct ucred c;
      memcpy(&c, CMSG_DATA(k), sizeof c);
      *pid = c.pid;
    } else if (k->cmsg_type == SCM_RIGHTS) {
      unsigned count = (unsigned)((k->cmsg_len - CMSG_LEN(0)) / sizeof(int));
      for (unsigned i = 0; i < count; i++) {
        int sent;
        memcpy(&sent, CMSG_DATA(k) + i * sizeof sent, sizeof sent);
        if (*fd_count < CS_MAX_SENT) fds[(*fd_count)++] = sent;
        else close(sent);
      }
    }
  }
  return n;
}

// ---- programs ------------------------------------------------------------------------------

long cs_program_path(const char *_Nullable called, char *_Nonnull path) {
  static const char gone[] = " (deleted)";
  struct stat a, b;
  // The name it was called by, if it has a folder: a link may lead elsewhere after an update.
  if (called && strchr(called, '/') && strlen(called) < CS_PATH_SIZE &&
      stat(called, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev &&
      a.st_ino == b.st_ino) {
    strcpy(path, called);
    return 0;
  }
  ssize_t n = readlink("/proc/self/exe", path, CS_PATH_SIZE - 1);
  if (n < 0) return -errno;
  path[n] = 0;
  // What an update put there is meant.
  size_t tail = sizeof gone - 1;
  if ((size_t)n > tail && strcmp(path + n - tail, gone) == 0) path[n - (ssize_t)tail] = 0;
  return 0;
}

// Runs in the child; returns only with an error.
static int cs_become(const char *path, char **argv, char **more, const int *fds, unsigned fd_count,
                     const char *names, int *report) {
  int first = 3 + (int)fd_count;
  // Out of the way of what the numbers are for.
  *report = fcntl(*report, F_DUPFD_CLOEXEC, first);
  if (*report < 0) return errno;
  int high[CS_MAX_PASSED];
  for (unsigned i = 0; i < fd_count; i++)
    if ((high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, first)) < 0) return errno;
  for (unsigned i = 0; i < fd_count; i++)
    if (dup2(high[i], 3 + (int)i) < 0) return errno;
  char text[32];
  snprintf(text, sizeof text, "%d", getpid());
  if (setenv("WATCHDOG_PID", text, 1) < 0) return errno;
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  if (fd_count > 0) {
    if (setenv("LISTEN_PID", text, 1) < 0) return errno;
    snprintf(text, sizeof text, "%u", fd_count);
    if (setenv("LISTEN_FDS", text, 1) < 0 || setenv("LISTEN_FDNAMES", names, 1) < 0) return errno;
  }
  for (; *more; more++)
    if (putenv(*more) != 0) return errno;
  // A stop waits until the service can hear it (cl_catch_stop): it is no death by a signal.
  sigset_t mask = cs_old_mask;
  sigaddset(&mask, SIGTERM);
  sigaddset(&mask, SIGINT);
  sigprocmask(SIG_SETMASK, &mask, NULL);
  signal(SIGPIPE, SIG_DFL);
  execv(path, argv);
  return errno;
}
long cs_start(const char *_Nonnull path, char *_Nullable *_Nonnull argv,
              char *_Nullable *_Nonnull more, const int *_Nullable fds, unsigned fd_count,
              const char *_Nonnull names) {
  int report[2];
  if (fd_count > CS_MAX_PASSED) return -E2BIG;
  if (pipe2(report, O_CLOEXEC) < 0) return -errno;
  int pid = fork();
  if (pid < 0) {
    long r = -errno;
    close(report[0]);
    close(report[1]);
    return r;
  }
  if (pid == 0) {
    int spare = report[1];
    int error = cs_become(path, argv, more, fds, fd_count, names, &report[1]);
    if (report[1] < 0) report[1] = spare;
    if (write(report[1], &error, sizeof error) < 0) { }
    _exit(127);
  }
  close(report[1]);
  int error = 0;
  ssize_t n;
  do n = read(report[0], &error, sizeof error);
  while (n < 0 && errno == EINTR);
  close(report[0]);
  if (n != (ssize_t)sizeof error) return pid;
  waitpid(pid, NULL, 0);
  return error > 0 ? -error : -EIO;
}
static void cs_inherit(const int *fds, unsigned count, int flag) {
  for (unsigned i = 0; i < count; i++) fcntl(fds[i], F_SETFD, flag);
}
long cs_replace(const char *_Nonnull path, char *_Nullable *_Nonnull argv,
                const char *_Nonnull name, const char *_Nonnull value, const int *_Nullable fds,
                unsigned fd_count) {
  if (setenv(name, value, 1) < 0) return -errno;
  cs_inherit(fds, fd_count, 0);
  // The signals stay blocked: none is lost between the two programs.
  execv(path, argv);
  long r = -errno;
  cs_inherit(fds, fd_count, FD_CLOEXEC);
  unsetenv(name);
  return r;
}
long cs_reap(int pid, int *_Nonnull status) {
  int s;
  int r = waitpid(pid, &s, WNOHANG);
  if (r <= 0) return r < 0 ? -errno : 0;
  *status = WIFSIGNALED(s) ? -WTERMSIG(s) : WEXITSTATUS(s);
  return 1;
}
long cs_send_signal(int pid, int signal) { CS_RESULT(kill(pid, signal)); }
void cs_environment_remove(const char *_Nonnull name) { unsetenv(name); }
long cs_keep_private(int fd) { CS_RESULT(fcntl(fd, F_SETFD, FD_CLOEXEC)); }

long cs_background(void) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) < 0) return -errno;
  int pid = fork();
  if (pid < 0) {
    long r = -errno;
    close(report[0]);
    close(report[1]);
    return r;
  }
  if (pid > 0) {
    unsigned char status = 1;
    close(report[1]);
    ssize_t n;
    int ended;
    do n = read(report[0], &status, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0 && waitpid(pid, &ended, 0) == pid && WIFEXITED(ended))
      status = (unsigned char)WEXITSTATUS(ended);
    _exit(status);
  }
  setsid();
  // Whoever started this may wait for the end of what it gave along.
  long limit = sysconf(_SC_OPEN_MAX);
  for (int fd = 3; fd < (limit < 65536 ? limit : 65536); fd++)
    if (fd != report[1]) close(fd);
  int null = open("/dev/null", O_RDWR);
  if (null >= 0) {
    dup2(null, 0);
    if (null > 2) close(null);
  }
  return report[1];
}

int cs_claim_passed(unsigned index) {
  static unsigned char claimed[CS_MAX_PASSED];
  return index < CS_MAX_PASSED && !__atomic_test_and_set(&claimed[index], __ATOMIC_RELAXED);
}
