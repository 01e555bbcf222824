// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "chostconsole.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

_Static_assert(CHC_AGAIN == -EAGAIN, "the number every Linux but Alpha, MIPS and SPARC uses");

// Repeats a call that a signal interrupted.
#define CHC_CALL(call)               \
  do {                               \
    for (;;) {                       \
      long r_ = (long)(call);        \
      if (r_ >= 0) return r_;        \
      if (errno != EINTR) return -errno; \
    }                                \
  } while (0)

long chc_random(void *_Nonnull bytes, size_t count) { CHC_CALL(getrandom(bytes, count, 0)); }

// ---- pseudo-terminals ----------------------------------------------------------------------

static long chc_make_raw(const char *name) {
  int other = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (other < 0) return -errno;
  struct termios t;
  long r = tcgetattr(other, &t) < 0 ? -errno : 0;
  if (r == 0) {
    cfmakeraw(&t);
    if (tcsetattr(other, TCSANOW, &t) < 0) r = -errno;
  }
  close(other);
  return r;
}

long chc_pty(char *_Nonnull name) {
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (master < 0) return -errno;
  long r = 0;
  if (grantpt(master) < 0 || unlockpt(master) < 0) r = -errno;
  if (r == 0) r = -ptsname_r(master, name, CHC_NAME);
  if (r == 0) r = chc_make_raw(name);
  if (r == 0) return master;
  close(master);
  return r;
}

int chc_pty_is_open(int master) {
  struct pollfd p = {.fd = master, .events = 0};
  return poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
}

long chc_watch_opens(const char *_Nonnull path) {
  int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (fd < 0) return -errno;
  if (inotify_add_watch(fd, path, IN_OPEN | IN_CLOSE) >= 0) return fd;
  long r = -errno;
  close(fd);
  return r;
}

void chc_drain(int fd) {
  char bytes[4096] __attribute__((aligned(8)));
  // Bounded: whoever opens and closes without end is looked at again at the next event.
  for (int i = 0; i < 64 && read(fd, bytes, sizeof bytes) > 0; i++) {}
}

uint32_t chc_terminal_size(int fd) {
  struct winsize w;
  if (ioctl(fd, TIOCGWINSZ, &w) < 0) return 0;
  return (uint32_t)w.ws_row << 16 | w.ws_col;
}

long chc_set_terminal_size(int fd, uint32_t size) {
  struct winsize w = {.ws_row = (unsigned short)(size >> 16), .ws_col = (unsigned short)size};
  CHC_CALL(ioctl(fd, TIOCSWINSZ, &w));
}

// Takes the name of path among all processes: a name in the kernel alone, gone with its holder.
static long chc_claim(const char *path) {
  char folder[4096];
  const char *slash = strrchr(path, '/');
  size_t n = slash ? (size_t)(slash - path) : 0;
  struct stat s;
  if (n >= sizeof folder) return -ENAMETOOLONG;
  memcpy(folder, path, n);
  folder[n] = 0;
  if (stat(n > 0 ? folder : slash ? "/" : ".", &s) < 0) return -errno;
  // FNV-1a: a name may be longer than an address.
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char *c = slash ? slash + 1 : path; *c; c++) {
    hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
  }
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  int length = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "cellmate-pty-%llx-%llx-%016llx",
                        (unsigned long long)s.st_dev, (unsigned long long)s.st_ino,
                        (unsigned long long)hash);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
  if (bind(fd, (struct sockaddr *)&a, size) == 0) return fd;
  long r = -errno;
  close(fd);
  return r;
}

long chc_link(const char *_Nonnull target, const char *_Nonnull path) {
  char fresh[4096];
  struct stat s;
  long claim = chc_claim(path);
  if (claim < 0) return claim;
  long r = 0;
  if (lstat(path, &s) == 0 && !S_ISLNK(s.st_mode)) r = -EEXIST;
  if (r == 0 && snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh) {
    r = -ENAMETOOLONG;
  }
  if (r == 0) {
    if (lstat(fresh, &s) == 0 && S_ISLNK(s.st_mode)) unlink(fresh);
    if (symlink(target, fresh) < 0) {
      r = -errno;
    } else if (rename(fresh, path) < 0) {
      r = -errno;
      unlink(fresh);
    }
  }
  if (r == 0) return claim;
  close((int)claim);
  return r;
}

void chc_unlink_if(const char *_Nonnull target, const char *_Nonnull path) {
  char found[CHC_NAME + 1];
  ssize_t n = readlink(path, found, sizeof found);
  if (n == (ssize_t)strlen(target) && memcmp(found, target, (size_t)n) == 0) unlink(path);
}

// ---- the terminal of this process ------------------------------------------------------------

// What has to be undone at the end; read by signal handlers.
static struct termios chc_saved;
static volatile sig_atomic_t chc_raw_fd = -1;
static int chc_saved_flags[2];
static volatile sig_atomic_t chc_has_flags[2];
static volatile sig_atomic_t chc_is_owned[2];
static volatile sig_atomic_t chc_size_event = -1;

void chc_restore(void) {
  int saved = errno;
  for (int fd = 0; fd < 2; fd++) {
    chc_is_owned[fd] = 0;
    if (!chc_has_flags[fd]) continue;
    chc_has_flags[fd] = 0;
    fcntl(fd, F_SETFL, chc_saved_flags[fd]);
  }
  int fd = chc_raw_fd;
  if (fd >= 0) {
    chc_raw_fd = -1;
    tcsetattr(fd, TCSANOW, &chc_saved);
  }
  errno = saved;
}

enum { CHC_DEADLY = 10, CHC_POLITE = 4 };
// The polite ones first: whoever handles one of those ends in an orderly way, by exit.
static const int chc_deadly[CHC_DEADLY] = {SIGHUP, SIGTERM, SIGINT, SIGBUS, SIGQUIT, SIGABRT,
                                           SIGSEGV, SIGILL, SIGFPE, SIGTRAP};
static struct sigaction chc_before[CHC_DEADLY];

// Puts the terminal back, then leaves the signal to whoever had it before: the system, or what
// shows a crash.
static void chc_on_deadly(int number, siginfo_t *info, void *context) {
  (void)context;
  chc_restore();
  for (int i = 0; i < CHC_DEADLY; i++) {
    if (chc_deadly[i] == number) sigaction(number, &chc_before[i], NULL);
  }
  // A fault comes again by itself, what was sent does not.
  int is_fault = number == SIGSEGV || number == SIGILL || number == SIGFPE || number == SIGBUS ||
                 number == SIGTRAP;
  if (!is_fault || info->si_code <= 0 || info->si_code == SI_KERNEL) raise(number);
}

// A parent may have left it blocked.
static void chc_unblock(int number) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, number);
  pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

// Whoever ends this process, its terminal is put back first.
static void chc_promise_restore(void) {
  static int is_promised;
  if (is_promised) return;
  is_promised = 1;
  atexit(chc_restore);
  for (int i = 0; i < CHC_DEADLY; i++) {
    if (sigaction(chc_deadly[i], NULL, &chc_before[i]) < 0) continue;
    if (i < CHC_POLITE && chc_before[i].sa_handler != SIG_DFL) continue;
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = chc_on_deadly;
    a.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(chc_deadly[i], &a, NULL);
    chc_unblock(chc_deadly[i]);
  }
}

long chc_own(int fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int flags = O_NONBLOCK | O_CLOEXEC | O_NOCTTY | (fd == 0 ? O_RDONLY : O_WRONLY | O_APPEND);
  if (chc_is_owned[fd]) return -EBUSY;
  chc_is_owned[fd] = 1;
  int own = open(path, flags);
  if (own >= 0) return own;
  own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (own < 0) return -errno;
  chc_promise_restore();
  chc_saved_flags[fd] = fcntl(fd, F_GETFL);
  chc_has_flags[fd] = 1;
  if (fcntl(own, F_SETFL, chc_saved_flags[fd] | O_NONBLOCK) < 0) {
    long r = -errno;
    close(own);
    return r;
  }
  return own;
}

long chc_raw(int fd) {
  if (!isatty(fd)) return 0;
  if (tcgetattr(fd, &chc_saved) < 0) return -errno;
  chc_promise_restore();
  struct termios t = chc_saved;
  cfmakeraw(&t);
  // Log lines on the same terminal stay readable.
  t.c_oflag = chc_saved.c_oflag;
  chc_raw_fd = fd;
  if (tcsetattr(fd, TCSANOW, &t) == 0) return 1;
  chc_raw_fd = -1;
  return -errno;
}

static void chc_on_size(int number) {
  (void)number;
  int saved = errno;
  uint64_t one = 1;
  if (write(chc_size_event, &one, sizeof one) < 0) {}
  errno = saved;
}

void chc_watch_size(int event_fd) {
  struct sigaction a;
  chc_size_event = event_fd;
  memset(&a, 0, sizeof a);
  a.sa_handler = event_fd < 0 ? SIG_DFL : chc_on_size;
  a.sa_flags = SA_RESTART;
  sigaction(SIGWINCH, &a, NULL);
  chc_unblock(SIGWINCH);
}

enum { CHC_HANGUP_EVENTS = 32 };
// A descriptor + 1, 0 for none: threads take places at the same time, and the handler reads them.
static _Atomic int chc_hangup_events[CHC_HANGUP_EVENTS];
static _Atomic unsigned chc_hangup_count;

static void chc_on_hangup(int number) {
  (void)number;
  int saved = errno;
  uint64_t one = 1;
  atomic_fetch_add(&chc_hangup_count, 1);
  for (int i = 0; i < CHC_HANGUP_EVENTS; i++) {
    int fd = atomic_load(&chc_hangup_events[i]) - 1;
    if (fd >= 0 && write(fd, &one, sizeof one) < 0) {}
  }
  errno = saved;
}

long chc_watch_hangup(int event_fd) {
  // Also what could not be written down: a negative number, or the largest one.
  if (fcntl(event_fd, F_GETFD) < 0) return -errno;
  for (int i = 0; i < CHC_HANGUP_EVENTS; i++) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&chc_hangup_events[i], &none, event_fd + 1)) continue;
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = chc_on_hangup;
    a.sa_flags = SA_RESTART;
    chc_unblock(SIGHUP);
    CHC_CALL(sigaction(SIGHUP, &a, NULL));
  }
  return -EUSERS;
}
void chc_unwatch_hangup(int event_fd) {
  if (event_fd < 0 || event_fd == INT_MAX) return;
  for (int i = 0; i < CHC_HANGUP_EVENTS; i++) {
    int own = event_fd + 1;
    atomic_compare_exchange_strong(&chc_hangup_events[i], &own, 0);
  }
}
unsigned chc_hangups(void) { return atomic_load(&chc_hangup_count); }

void chc_ask_to_stop(void) { kill(getpid(), SIGTERM); }

// ---- bytes -------------------------------------------------------------------------------------

long chc_read(int fd, void *_Nonnull bytes, size_t count) { CHC_CALL(read(fd, bytes, count)); }
long chc_write(int fd, const void *_Nonnull bytes, size_t count) {
  CHC_CALL(write(fd, bytes, count));
}
long chc_send(int fd, const void *_Nonnull bytes, size_t count) {
  CHC_CALL(send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL));
}
int chc_socket_is_dead(int fd) {
  struct pollfd p = {.fd = fd, .events = 0};
  return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}
long chc_append_to(const char *_Nonnull path) {
  struct sigaction now;
  if (sigaction(SIGXFSZ, NULL, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGXFSZ, SIG_IGN);
  // Without waiting: a FIFO that nobody reads is an error, not a pause.
  int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  CHC_CALL(open(path, flags, 0644));
}

// ---- waiting -----------------------------------------------------------------------------------

long chc_poll_set(void) {
  int set = epoll_create1(EPOLL_CLOEXEC);
  return set < 0 ? -errno : set;
}
long chc_poll_add(int set, int fd, uint64_t tag) {
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
  e.data.u64 = tag;
  return epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}
long chc_poll_wait(int set, uint64_t *_Nonnull tags, int timeout_ms) {
  struct epoll_event events[CHC_TAGS];
  for (;;) {
    int n = epoll_wait(set, events, CHC_TAGS, timeout_ms);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    for (int i = 0; i < n; i++) tags[i] = events[i].data.u64;
    return n;
  }
}

void chc_bits_add(uint32_t *_Nonnull word, uint32_t bits) {
  // Releases what the thread has seen; the taker acquires it.
  __atomic_fetch_or(word, bits, __ATOMIC_RELEASE);
}
uint32_t chc_bits_take(uint32_t *_Nonnull word) {
  if (__atomic_load_n(word, __ATOMIC_RELAXED) == 0) return 0;
  return __atomic_exchange_n(word, 0, __ATOMIC_ACQUIRE);
}
