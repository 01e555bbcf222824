// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "chostnetwork.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

long chn_tap(const char *name) {
  if (strlen(name) > CHN_NAME) return -ENAMETOOLONG;
  int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return -errno;
  struct ifreq request;
  memset(&request, 0, sizeof request);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  strcpy(request.ifr_name, name);
  int size = CHN_HEADER, little = 1;
  if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 ||
      ioctl(fd, TUNSETVNETLE, &little) < 0 ||
      ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

long chn_socket_pair(int *first, int *second) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
    return -errno;
  *first = pair[0];
  *second = pair[1];
  return 0;
}

long chn_read(int fd, void *bytes, size_t count) {
  for (;;) {
    ssize_t got = read(fd, bytes, count);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

long chn_write(int fd, const void *header, const void *frame, size_t count) {
  struct iovec parts[2] = {{(void *)header, CHN_HEADER}, {(void *)frame, count}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  for (;;) {
    ssize_t put = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (put < 0 && errno == ENOTSOCK) put = writev(fd, parts, 2);
    if (put >= 0) return put;
    if (errno != EINTR) return -errno;
  }
}

long chn_wait(int fd, int stop) {
  struct pollfd set[2] = {{fd, POLLIN, 0}, {stop, POLLIN, 0}};
  for (;;) {
    if (poll(set, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    return set[1].revents ? 0 : 1;
  }
}
