// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cservice.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CS_RESULT(call)          \
  do {                           \
    long r_ = (long)(call);      \
    return r_ < 0 ? -errno : r_; \
  } while (0)

const char *_Nullable cs_environment(const char *_Nonnull name) { return getenv(name); }

// ---- sockets -------------------------------------------------------------------------------

static long cs_address(struct sockaddr_un *a, socklen_t *size, const char *path) {
  size_t n = strlen(path);
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  if (n == 0) return -EINVAL;
  if (n >= sizeof a->sun_path) return -ENAMETOOLONG;
  memcpy(a->sun_path, path, n);
  *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
  if (path[0] == '@') {
    // An abstract name is as long as it says, without a zero at its end.
    a->sun_path[0] = 0;
    *size -= 1;
  }
  return 0;
}

long cs_notify(const char *_Nonnull path, const void *_Nonnull data, size_t size, int may_wait) {
  struct sockaddr_un a;
  socklen_t n;
  long r = cs_address(&a, &n, path);
  if (r < 0) return r;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct timeval second = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
  do {
    r = sendto(fd, data, size, MSG_NOSIGNAL | (may_wait ? 0 : MSG_DONTWAIT),
               (struct sockaddr *)&a, n);
    if (r < 0) r = -errno;
  } while (r == -EINTR);
  close(fd);
  return r;
}

long cs_notify_fd(const char *_Nonnull path, const void *_Nonnull data, size_t size, int sent) {
  struct sockaddr_un a;
  socklen_t n;
  long r = cs_address(&a, &n, path);
  if (r < 0) return r;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct timeval second = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
  struct iovec v = {(void *)data, size};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } space;
  memset(&space, 0, sizeof space);
  struct msghdr m = {.msg_name = &a, .msg_namelen = n, .msg_iov = &v, .msg_iovlen = 1,
                     .msg_control = space.bytes, .msg_controllen = sizeof space.bytes};
  struct cmsghdr *k = CMSG_FIRSTHDR(&m);
  k->cmsg_level = SOL_SOCKET;
  k->cmsg_type = SCM_RIGHTS;
  k->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(k), &sent, sizeof(int));
  do {
    r = sendmsg(fd, &m, MSG_NOSIGNAL);
    if (r < 0) r = -errno;
  } while (r == -EINTR);
  close(fd);
  return r;
}

static long cs_probe(const struct sockaddr_un *a, socklen_t n, int *holder) {
  *holder = 0;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  long r = 0;
  if (connect(fd, (const struct sockaddr *)a, n) < 0) r = -errno;
  struct ucred c = {0, 0, 0};
  socklen_t size = sizeof c;
  // The credentials of a listening socket are those of the process that called listen.
  if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &size) == 0) *holder = c.pid;
  close(fd);
  return r;
}

int cs_socket_holder(const char *_Nonnull path) {
  struct sockaddr_un a;
  socklen_t n;
  int holder = 0;
  if (cs_address(&a, &n, path) < 0) return 0;
  return cs_probe(&a, n, &holder) < 0 ? 0 : holder;
}

// Gives the socket at own the name a: 0, or -EADDRINUSE and whose it is. A socket there that nobody
// serves is replaced.
static long cs_name(const struct sockaddr_un *own, const struct sockaddr_un *a, socklen_t n,
                    int *holder) {
  if (link(own->sun_path, a->sun_path) == 0) return 0;
  if (errno != EEXIST) return -errno;
  long other = cs_probe(a, n, holder);
  // Served, or served and busy.
  if (other == 0 || other == -EAGAIN) return -EADDRINUSE;
  if (other != -ECONNREFUSED) return other;
  struct stat s;
  if (lstat(a->sun_path, &s) < 0 || !S_ISSOCK(s.st_mode)) return -EADDRINUSE;
  unlink(a->sun_path);
  long r = link(own->sun_path, a->sun_path) < 0 ? -errno : 0;
  return r == -EEXIST ? -EADDRINUSE : r;
}

// Everything that has to be true before somebody may connect, under a name of its own.
static long cs_serve(int fd, const struct sockaddr_un *own, socklen_t n, unsigned mode,
                     int64_t group) {
  const char *path = own->sun_path;
  // The rights of the file that bind makes are those of the socket: there is no moment at which
  // somebody else may use it.
  if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)own, n) < 0) return -errno;
  if (group >= 0 && chown(path, (uid_t)-1, (gid_t)group) < 0) return -errno;
  if (chmod(path, mode) < 0 || listen(fd, 16) < 0) return -errno;
  return 0;
}

long cs_listen(const char *_Nonnull path, unsigned mode, int64_t group, int *_Nonnull holder) {
  struct sockaddr_un a, own;
  socklen_t n;
  *holder = 0;
  long r = cs_address(&a, &n, path);
  if (r < 0) return r;
  own = a;
  // Beside the path: the same file system, and the same folder has to be writable. A long path has
  // a short companion.
  int length = snprintf(own.sun_path, sizeof own.sun_path, "%s.%d", path, (int)getpid());
  const char *slash = strrchr(path, '/');
  int folder = slash ? (int)(slash - path) + 1 : 0;
  if ((size_t)length >= sizeof own.sun_path)
    length = snprintf(own.sun_path, sizeof own.sun_path, "%.*s.%d", folder, path, (int)getpid());
  if (length < 0 || (size_t)length >= sizeof own.sun_path) return -ENAMETOOLONG;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  struct stat s;
  if (lstat(own.sun_path, &s) == 0 && S_ISSOCK(s.st_mode)) unlink(own.sun_path);
  r = cs_serve(fd, &own, sizeof own, mode, group);
  // Whoever sees the path can connect.
  if (r == 0) r = cs_name(&own, &a, n, holder);
  unlink(own.sun_path);
  if (r < 0) {
    close(fd);
    return r;
  }
  return fd;
}

long cs_group(const char *_Nonnull name) {
  errno = 0;
  struct group *g = getgrnam(name);
  if (g) return (long)g->gr_gid;
  return errno ? -errno : -ENOENT;
}

long cs_read(int fd, void *_Nonnull data, size_t size) {
  CS_RESULT(recv(fd, data, size, MSG_DONTWAIT));
}
long cs_write(int fd, const void *_Nonnull data, size_t size) {
  CS_RESULT(send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL));
}
long cs_epoll_watch(int epoll, int fd, uint64_t tag, int input, int output, int is_known) {
  struct epoll_event e = {(input ? EPOLLIN : 0) | (output ? EPOLLOUT : 0), {.u64 = tag}};
  if (!input && !output) CS_RESULT(is_known ? epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) : 0);
  CS_RESULT(epoll_ctl(epoll, is_known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e));
}

// ---- names ---------------------------------------------------------------------------------

int cs_process_name(int pid, char *_Nonnull name) {
  char path[40];
  name[0] = 0;
  snprintf(path, sizeof path, "/proc/%d/comm", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, name, CS_NAME_SIZE - 1);
  close(fd);
  if (n <= 0) return 0;
  name[n] = 0;
  name[strcspn(name, "\n")] = 0;
  return 1;
}

void cs_time_text(char *_Nonnull text) {
  struct timespec t;
  struct tm parts;
  clock_gettime(CLOCK_REALTIME, &t);
  gmtime_r(&t.tv_sec, &parts);
  size_t n = strftime(text, CS_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(text + n, CS_TIME_SIZE - n, ".%06ldZ", t.tv_nsec / 1000);
}

uint64_t cs_resident_bytes(void) {
  char text[128];
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  unsigned long all, resident;
  if (sscanf(text, "%lu %lu", &all, &resident) != 2) return 0;
  return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void cs_receive_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void cs_relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}
