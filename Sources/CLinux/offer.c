// SPDX-License-Identifier: Apache-2.0
// Signalling and emptying eventfds that somebody else holds. A write to one blocks while its counter is full,
// unless O_NONBLOCK is set; both are the owner's to change at any time. The kernel's own signal,
// which comes with the end of an asynchronous read, adds as far as there is room and never blocks.
#define _GNU_SOURCE
#include "clinux.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static aio_context_t context;
static int byte_file = -1;
static char sink;

static void start(void) {
  byte_file = memfd_create("cellmate-signal", MFD_CLOEXEC);
  if (byte_file < 0) return;
  if (ftruncate(byte_file, 1) < 0 || syscall(SYS_io_setup, 64, &context) < 0) {
    close(byte_file);
    byte_file = -1;
  }
}

long cl_event_offer(int fd) {
  pthread_once(&once, start);
  if (byte_file >= 0) {
    struct iocb request;
    memset(&request, 0, sizeof request);
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_fildes = (uint32_t)byte_file;
    request.aio_buf = (uintptr_t)&sink;
    request.aio_nbytes = 1;
    request.aio_flags = IOCB_FLAG_RESFD;
    request.aio_resfd = (uint32_t)fd;
    struct iocb *list = &request;
    struct io_event done[8];
    struct timespec now = {0, 0};
    for (int round = 0; round < 4; round++) {
      long r = syscall(SYS_io_submit, context, 1, &list);
      int error = errno;
      // The read of memory has ended by now; its place is needed again.
      syscall(SYS_io_getevents, context, 0, 8, done, &now);
      if (r == 1) return 0;
      if (error != EAGAIN && error != EINTR) break;
    }
  }
  struct pollfd p = {fd, POLLOUT, 0};
  if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return -EAGAIN;
  return cl_event_signal(fd);
}

// A read that is told not to wait, whatever the flags of the descriptor are: others hold it, too.
long cl_event_try(int fd) {
  uint64_t count;
  struct iovec part = {&count, sizeof count};
  long r = preadv2(fd, &part, 1, -1, RWF_NOWAIT);
  if (r >= 0) return r;
  if (errno != EOPNOTSUPP && errno != ENOSYS) return -errno;
  struct pollfd p = {fd, POLLIN, 0};
  if (poll(&p, 1, 0) != 1) return -EAGAIN;
  r = read(fd, &count, sizeof count);
  return r < 0 ? -errno : r;
}
