// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <stdio.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include "clinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define CL_RESULT(call)              \
  do {                               \
    long r_ = (long)(call);          \
    return r_ < 0 ? -errno : r_;     \
  } while (0)

_Static_assert(sizeof(struct cl_segment) == sizeof(struct iovec), "same shape");
_Static_assert(sizeof(struct cl_poll_entry) == sizeof(struct pollfd), "same shape");

// ---- memory --------------------------------------------------------------------------------

long cl_memfd(const char *_Nonnull name) {
  CL_RESULT(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
}
long cl_truncate(int fd, int64_t size) { CL_RESULT(ftruncate(fd, size)); }
long cl_seal_size(int fd) {
  CL_RESULT(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
}
long cl_seal_size_and_writers(int fd) {
  CL_RESULT(fcntl(fd, F_ADD_SEALS,
                  F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL));
}
long cl_chmod(int fd, unsigned mode) { CL_RESULT(fchmod(fd, mode)); }
long cl_open(const char *_Nonnull path, int flags, unsigned mode) {
  CL_RESULT(open(path, flags | O_CLOEXEC, mode));
}
// Address ranges: 0 on failure, errno in *error.
void *_Nullable cl_reserve(size_t size, int *_Nonnull error) {
  void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *error = p == MAP_FAILED ? errno : 0;
  return p == MAP_FAILED ? NULL : p;
}
long cl_map_at(void *_Nonnull at, size_t size, int writable, int fd) {
  void *p = mmap(at, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED, fd, 0);
  return p == MAP_FAILED ? -errno : 0;
}
long cl_map_private_at(void *_Nonnull at, size_t size) {
  void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return p == MAP_FAILED ? -errno : 0;
}
void cl_unmap(void *_Nonnull at, size_t size) { munmap(at, size); }

// ---- events --------------------------------------------------------------------------------

long cl_eventfd(void) { CL_RESULT(eventfd(0, EFD_CLOEXEC)); }
long cl_event_signal(int fd) {
  uint64_t one = 1;
  long r;
  do r = write(fd, &one, 8); while (r < 0 && errno == EINTR);
  return r < 0 ? -errno : 0;
}
// Blocks until the event is signalled; -EINTR when a signal handler ran.
long cl_event_wait(int fd) {
  uint64_t n;
  CL_RESULT(read(fd, &n, 8));
}
// Waits for input on any of count descriptors, at most timeout_ns (negative: for ever).
long cl_poll_ns(struct cl_poll_entry *_Nonnull fds, unsigned count, int64_t timeout_ns) {
  struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  CL_RESULT(ppoll((struct pollfd *)fds, count, timeout_ns < 0 ? NULL : &t, NULL));
}
uint64_t cl_monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
uint64_t cl_random(void) {
  uint64_t v = 0;
  while (getrandom(&v, 8, 0) != 8) { }
  return v;
}

// The hypervisor's own words (Interrupt Control): the one place where a read-modify-write is
// allowed, because no peer's protocol sees it.
uint32_t cl_word_exchange(void *_Nonnull p, uint32_t v) {
  return __atomic_exchange_n((uint32_t *)p, v, __ATOMIC_SEQ_CST);
}
uint32_t cl_word_load(const void *_Nonnull p) {
  return __atomic_load_n((const uint32_t *)p, __ATOMIC_SEQ_CST);
}
uint64_t cl_count(void *_Nonnull p) {
  return __atomic_add_fetch((uint64_t *)p, 1, __ATOMIC_RELAXED);
}
uint64_t cl_count_load(const void *_Nonnull p) {
  return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
}

// ---- sockets -------------------------------------------------------------------------------

static long cl_socket_address(struct sockaddr_un *_Nonnull a, const char *_Nonnull path) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof a->sun_path) return -ENAMETOOLONG;
  strcpy(a->sun_path, path);
  return 0;
}
long cl_connect(const char *_Nonnull path) {
  struct sockaddr_un a;
  long r = cl_socket_address(&a, path);
  if (r < 0) return r;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
    r = -errno;
    close(fd);
    return r;
  }
  return fd;
}
// Binds and listens under a name of its own, then gives the socket the wanted one: whoever sees the
// path can connect, and a socket that refuses is one that nobody serves. The path must be free.
static long cl_serve(int fd, const struct sockaddr_un *a, int backlog) {
  struct sockaddr_un own = *a;
  int n = snprintf(own.sun_path, sizeof own.sun_path, "%s.%d", a->sun_path, (int)getpid());
  if (n < 0 || (size_t)n >= sizeof own.sun_path) {
    // No room for a second name: the path shows a moment before it is served.
    if (bind(fd, (const struct sockaddr *)a, sizeof *a) < 0) return -errno;
    CL_RESULT(listen(fd, backlog));
  }
  struct stat s;
  if (lstat(own.sun_path, &s) == 0 && S_ISSOCK(s.st_mode)) unlink(own.sun_path);
  if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0 || listen(fd, backlog) < 0) return -errno;
  long r = link(own.sun_path, a->sun_path) < 0 ? -errno : 0;
  unlink(own.sun_path);
  return r == -EEXIST ? -EADDRINUSE : r;
}
long cl_listen(const char *_Nonnull path) {
  struct sockaddr_un a;
  long r = cl_socket_address(&a, path);
  if (r < 0) return r;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  r = cl_serve(fd, &a, 16);
  if (r < 0) {
    close(fd);
    return r;
  }
  return fd;
}
long cl_accept(int fd) {
  CL_RESULT(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}
int cl_peer_pid(int fd) {
  struct ucred c = {0, 0, 0};
  socklen_t n = sizeof c;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) < 0 ? 0 : c.pid;
}
// One message with descriptors. Never raises SIGPIPE.
long cl_send(int fd, const void *_Nonnull data, size_t size, const int *_Nullable fds,
                       unsigned fd_count) {
  struct iovec v = {(void *)data, size};
  union { char b[CMSG_SPACE(sizeof(int) * CL_MAX_FDS)]; struct cmsghdr align; } c;
  struct msghdr m = {0};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  if (fd_count > CL_MAX_FDS) return -E2BIG;
  if (fd_count > 0 && fds) {
    memset(&c, 0, sizeof c);
    m.msg_control = c.b;
    m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
    memcpy(CMSG_DATA(h), fds, sizeof(int) * fd_count);
  }
  CL_RESULT(sendmsg(fd, &m, MSG_NOSIGNAL));
}
// One message; *fd_count descriptors arrive in fds (room for CL_MAX_FDS). A message longer than
// size is -EMSGSIZE; its descriptors are closed.
long cl_receive(int fd, void *_Nonnull data, size_t size, int *_Nonnull fds,
                          unsigned *_Nonnull fd_count, int flags) {
  struct iovec v = {data, size};
  union { char b[CMSG_SPACE(sizeof(int) * CL_MAX_FDS)]; struct cmsghdr align; } c;
  struct msghdr m = {0};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = c.b;
  m.msg_controllen = sizeof c.b;
  *fd_count = 0;
  long r = recvmsg(fd, &m, flags | MSG_CMSG_CLOEXEC);
  if (r < 0) return -errno;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    unsigned n = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (unsigned i = 0; i < n; i++) {
      int got;
      memcpy(&got, CMSG_DATA(h) + i * sizeof(int), sizeof got);
      if (*fd_count < CL_MAX_FDS) fds[(*fd_count)++] = got;
      else close(got);
    }
  }
  if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    for (unsigned i = 0; i < *fd_count; i++) close(fds[i]);
    *fd_count = 0;
    return -EMSGSIZE;
  }
  return r;
}

// ---- files ---------------------------------------------------------------------------------

long cl_readv(int fd, const struct cl_segment *_Nonnull v, int n, int64_t at, int nowait) {
  CL_RESULT(preadv2(fd, (const struct iovec *)v, n, at, nowait ? RWF_NOWAIT : 0));
}
long cl_writev(int fd, const struct cl_segment *_Nonnull v, int n, int64_t at, int nowait,
                         int stable) {
  CL_RESULT(pwritev2(fd, (const struct iovec *)v, n, at, (nowait ? RWF_NOWAIT : 0) | (stable ? RWF_DSYNC : 0)));
}
long cl_datasync(int fd) { CL_RESULT(fdatasync(fd)); }
long cl_punch(int fd, int64_t at, int64_t count) {
  CL_RESULT(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, count));
}
long cl_zero_range(int fd, int64_t at, int64_t count) {
  CL_RESULT(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, count));
}
long cl_device_size(int fd, uint64_t *_Nonnull size) {
  CL_RESULT(ioctl(fd, BLKGETSIZE64, size));
}
long cl_device_range(int fd, int zero, uint64_t at, uint64_t count) {
  uint64_t range[2] = {at, count};
  CL_RESULT(ioctl(fd, zero ? BLKZEROOUT : BLKDISCARD, range));
}
long cl_file_facts_of(int fd, struct cl_file_facts *_Nonnull out) {
  struct stat s;
  struct statfs f;
  memset(out, 0, sizeof *out);
  if (fstat(fd, &s) < 0) return -errno;
  out->kind = S_ISREG(s.st_mode) ? 1 : S_ISBLK(s.st_mode) ? 2 : 0;
  out->size = (uint64_t)s.st_size;
  if (out->kind == 2) return cl_device_size(fd, &out->size);
  if (fstatfs(fd, &f) == 0) out->in_memory = f.f_type == TMPFS_MAGIC || f.f_type == RAMFS_MAGIC;
  return 0;
}
// A whole-file lock of the open file description; *holder is the pid that is in the way, if known.
long cl_lock(int fd, int exclusive, int *_Nonnull holder) {
  struct flock l = {0};
  l.l_type = exclusive ? F_WRLCK : F_RDLCK;
  l.l_whence = SEEK_SET;
  *holder = 0;
  if (fcntl(fd, F_OFD_SETLK, &l) == 0) return 0;
  long r = -errno;
  l.l_pid = 0;
  if (fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK) *holder = l.l_pid;
  return r;
}

// ---- signals -------------------------------------------------------------------------------

// The first SIGTERM or SIGINT sets the flag and signals the event; both are async-signal-safe.
static volatile sig_atomic_t cl_stop_flag;
static volatile int cl_stop_event = -1;
static void cl_on_stop(int signal) {
  int saved = errno;
  uint64_t one = 1;
  cl_stop_flag = signal;
  if (cl_stop_event >= 0 && write(cl_stop_event, &one, 8) < 0) { }
  errno = saved;
}
void cl_catch_stop(int event_fd) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = cl_on_stop;
  cl_stop_event = event_fd;
  sigaction(SIGTERM, &a, NULL);
  sigaction(SIGINT, &a, NULL);
  // A parent may have left them blocked; a program has to be stoppable.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
  signal(SIGPIPE, SIG_IGN);
  // A write beyond the limit of file sizes is an error of that write.
  signal(SIGXFSZ, SIG_IGN);
}
int cl_stop_requested(void) { return cl_stop_flag; }
const char *_Nonnull cl_error_text(int error) { return strerror(error); }

void cl_close(int fd) { close(fd); }
long cl_unlink(const char *_Nonnull path) { CL_RESULT(unlink(path)); }
long cl_unlink_socket(const char *_Nonnull path) {
  struct stat s;
  if (lstat(path, &s) < 0) return -errno;
  if (!S_ISSOCK(s.st_mode)) return -EEXIST;
  CL_RESULT(unlink(path));
}
uint64_t cl_inode(const char *_Nonnull path) {
  struct stat s;
  return lstat(path, &s) < 0 ? 0 : s.st_ino;
}
int cl_process_id(void) { return getpid(); }

long cl_write_all(int fd, const void *_Nonnull data, size_t size) {
  const char *p = data;
  while (size > 0) {
    ssize_t n = write(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    p += n;
    size -= (size_t)n;
  }
  return 0;
}
long cl_read_at(int fd, void *_Nonnull data, size_t size, int64_t at) {
  CL_RESULT(pread(fd, data, size, at));
}
int cl_is_terminal(int fd) { return isatty(fd); }
void cl_exit(int status) { exit(status); }
long cl_write_at(int fd, const void *_Nonnull data, size_t size, int64_t at) {
  CL_RESULT(pwrite(fd, data, size, at));
}
uint64_t cl_realtime_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// ---- stream sockets, epoll, guest memory -------------------------------------------------------

static long cl_stream(struct sockaddr_un *a, const char *path) {
  long r = cl_socket_address(a, path);
  if (r < 0) return r;
  CL_RESULT(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}
long cl_connect_stream(const char *_Nonnull path) {
  struct sockaddr_un a;
  long fd = cl_stream(&a, path);
  if (fd < 0) return fd;
  if (connect((int)fd, (struct sockaddr *)&a, sizeof a) < 0) {
    long r = -errno;
    close((int)fd);
    return r;
  }
  return fd;
}
// Whether the path is free now: a killed back-end leaves its socket behind, and only one that nobody
// answers may go.
static long cl_clear(const char *path) {
  struct stat s;
  if (lstat(path, &s) < 0) return errno == ENOENT ? 0 : -errno;
  long other = cl_connect_stream(path);
  if (other >= 0) {
    close((int)other);
    return -EADDRINUSE;
  }
  // A file that is no socket refuses, too.
  return other == -ECONNREFUSED ? cl_unlink_socket(path) : other;
}
long cl_listen_stream(const char *_Nonnull path) {
  struct sockaddr_un a;
  long r = cl_socket_address(&a, path);
  if (r >= 0) r = cl_clear(path);
  if (r < 0) return r;
  long fd = cl_stream(&a, path);
  if (fd < 0) return fd;
  r = cl_serve((int)fd, &a, 4);
  if (r < 0) {
    close((int)fd);
    return r;
  }
  return fd;
}
long cl_set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  CL_RESULT(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}
long cl_set_blocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  CL_RESULT(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
}
int cl_is_eventfd(int fd) {
  char path[40], name[32] = {0};
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (readlink(path, name, sizeof name - 1) < 0) return 1;
  return strcmp(name, "anon_inode:[eventfd]") == 0;
}
void cl_event_take(int fd) {
  uint64_t n;
  if (read(fd, &n, 8) < 0) return;
}
long cl_duplicate(int fd) { CL_RESULT(fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
long cl_epoll(void) { CL_RESULT(epoll_create1(EPOLL_CLOEXEC)); }
long cl_epoll_add(int epoll, int fd, uint64_t tag, int edge) {
  struct epoll_event e = {EPOLLIN | (edge ? EPOLLET : 0), {.u64 = tag}};
  CL_RESULT(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e));
}
void cl_epoll_remove(int epoll, int fd) { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL); }
long cl_epoll_wait(int epoll, uint64_t *_Nonnull tags, unsigned count, int64_t timeout_ns) {
  struct epoll_event e[32];
  if (count > 32) count = 32;
  // Rounded up: a wait must not end before its time.
  int ms = timeout_ns < 0 ? -1 : (int)((timeout_ns + 999999) / 1000000);
  int n = epoll_wait(epoll, e, (int)count, ms);
  if (n < 0) return -errno;
  for (int i = 0; i < n; i++) tags[i] = e[i].data.u64;
  return n;
}
long cl_map_file_at(void *_Nonnull at, size_t size, int fd, uint64_t offset) {
  void *p = mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
  return p == MAP_FAILED ? -errno : 0;
}
long cl_map_view_at(void *_Nonnull at, size_t size, int writable, int fd, uint64_t offset) {
  int rights = PROT_READ | (writable ? PROT_WRITE : 0);
  void *p = mmap(at, size, rights, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
  return p == MAP_FAILED ? -errno : 0;
}
long cl_reserve_at(void *_Nonnull at, size_t size) {
  void *p = mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return p == MAP_FAILED ? -errno : 0;
}

enum { CL_GUARDS = 64 };
static struct cl_guard {
  _Atomic(uintptr_t) start;
  _Atomic(uintptr_t) end;
  _Atomic(uint32_t) faults;
} cl_guards[CL_GUARDS];

static uintptr_t cl_guard_page = 4096;

static void cl_on_bus_error(int signal_number, siginfo_t *info, void *context) {
  (void)context;
  int saved = errno;
  uintptr_t at = (uintptr_t)info->si_addr;
  for (int i = 0; i < CL_GUARDS; i++) {
    uintptr_t start = atomic_load(&cl_guards[i].start);
    if (start == 0 || at < start || at >= atomic_load(&cl_guards[i].end)) continue;
    // An access that is not aligned (Device memory on arm64) is our own bug too.
    if (info->si_code == BUS_ADRALN) break;
    void *page = (void *)(at & ~(cl_guard_page - 1));
    void *p = mmap(page, cl_guard_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED) break;
    atomic_fetch_add(&cl_guards[i].faults, 1);
    errno = saved;
    return;
  }
  // Our own bug: die of it, as if nobody had caught the signal.
  signal(signal_number, SIG_DFL);
}
long cl_guard_add(void *_Nonnull at, size_t size) {
  for (int i = 0; i < CL_GUARDS; i++) {
    uintptr_t expected = 0;
    if (!atomic_compare_exchange_strong(&cl_guards[i].start, &expected, UINTPTR_MAX)) continue;
    atomic_store(&cl_guards[i].faults, 0);
    cl_guard_page = (uintptr_t)sysconf(_SC_PAGESIZE);
    atomic_store(&cl_guards[i].end, (uintptr_t)at + size);
    atomic_store(&cl_guards[i].start, (uintptr_t)at);
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = cl_on_bus_error;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &a, NULL);
    return i;
  }
  return -ENOSPC;
}
uint32_t cl_guard_faults(long guard) { return atomic_load(&cl_guards[guard].faults); }
void cl_guard_remove(long guard) {
  atomic_store(&cl_guards[guard].end, 0);
  atomic_store(&cl_guards[guard].start, 0);
}

// ---- threads -----------------------------------------------------------------------------------

struct cl_monitor {
  pthread_mutex_t mutex;
  pthread_cond_t condition;
};
cl_monitor *_Nonnull cl_monitor_create(void) {
  cl_monitor *m = malloc(sizeof *m);
  if (!m) abort();
  pthread_mutex_init(&m->mutex, NULL);
  pthread_cond_init(&m->condition, NULL);
  return m;
}
void cl_monitor_destroy(cl_monitor *_Nonnull m) {
  pthread_cond_destroy(&m->condition);
  pthread_mutex_destroy(&m->mutex);
  free(m);
}
void cl_monitor_enter(cl_monitor *_Nonnull m) { pthread_mutex_lock(&m->mutex); }
void cl_monitor_leave(cl_monitor *_Nonnull m) { pthread_mutex_unlock(&m->mutex); }
void cl_monitor_wait(cl_monitor *_Nonnull m) { pthread_cond_wait(&m->condition, &m->mutex); }
void cl_monitor_wake_one(cl_monitor *_Nonnull m) { pthread_cond_signal(&m->condition); }
void cl_monitor_wake_all(cl_monitor *_Nonnull m) { pthread_cond_broadcast(&m->condition); }

struct cl_thread_body {
  void (*body)(void *);
  void *context;
};
static void *cl_run_thread(void *p) {
  struct cl_thread_body b = *(struct cl_thread_body *)p;
  free(p);
  b.body(b.context);
  return NULL;
}
long cl_thread_start(void (*_Nonnull body)(void *_Nullable), void *_Nullable context,
                     int without_signals, uint64_t *_Nonnull thread) {
  struct cl_thread_body *b = malloc(sizeof *b);
  if (!b) return -ENOMEM;
  *b = (struct cl_thread_body){body, context};
  sigset_t all, before;
  sigfillset(&all);
  // Of an access of its own: memory that vanished under this thread must reach the guard.
  sigdelset(&all, SIGBUS);
  if (without_signals) pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t t;
  int error = pthread_create(&t, NULL, cl_run_thread, b);
  if (without_signals) pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error) {
    free(b);
    return -error;
  }
  *thread = (uint64_t)t;
  return 0;
}
void cl_thread_join(uint64_t thread) { pthread_join((pthread_t)thread, NULL); }

// The C library hands the arguments to constructors, too: so programs without Swift's own start-up
// (Embedded Swift) have them.
static int argument_count;
static char **argument_vector;
__attribute__((constructor)) static void note_arguments(int count, char **words) {
  argument_count = count;
  argument_vector = words;
}
int cl_argument_count(void) { return argument_count; }
char **cl_arguments(void) { return argument_vector; }

long cl_exec_beside(const char *name, char **argv) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length < 0) return -errno;
  while (length > 0 && path[length - 1] != '/') length--;
  if ((size_t)length + strlen(name) >= sizeof path) return -ENAMETOOLONG;
  strcpy(path + length, name);
  argv[0] = path;
  execv(path, argv);
  return -errno;
}
