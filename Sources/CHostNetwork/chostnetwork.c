// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "chostnetwork.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
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

// ---- the far end of a front-end ----------------------------------------------------------------

long chn_tap_set(int fd, const uint8_t *address, int mtu) {
  struct ifreq request;
  memset(&request, 0, sizeof request);
  if (ioctl(fd, TUNGETIFF, &request) < 0) return -errno;
  int link = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (link < 0) return -errno;
  long result = 0;
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  memcpy(request.ifr_hwaddr.sa_data, address, 6);
  if (ioctl(link, SIOCSIFHWADDR, &request) < 0) result = -errno;
  request.ifr_mtu = mtu;
  if (ioctl(link, SIOCSIFMTU, &request) < 0) result = -errno;
  close(link);
  return result;
}

long chn_tap_carrier(int fd, int is_up) {
  unsigned value = is_up ? 1 : 0;
  return ioctl(fd, TUNSETCARRIER, &value) < 0 ? -errno : 0;
}

static int is_ready(int fd, short events) {
  struct pollfd one = {fd, events, 0};
  return poll(&one, 1, 0) > 0;
}

long chn_stream_read(int fd, void *bytes, size_t count) {
  for (;;) {
    ssize_t got = recv(fd, bytes, count, MSG_DONTWAIT);
    if (got < 0 && errno == ENOTSOCK) {
      if (!is_ready(fd, POLLIN)) return CHN_AGAIN;
      got = read(fd, bytes, count);
    }
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

long chn_stream_write(int fd, const void *bytes, size_t count) {
  for (;;) {
    ssize_t put = send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == ENOTSOCK) {
      // A pipe that has room at all takes so much without waiting.
      if (!is_ready(fd, POLLOUT)) return CHN_AGAIN;
      put = write(fd, bytes, count < 4096 ? count : 4096);
    }
    if (put >= 0) return put;
    if (errno != EINTR) return -errno;
  }
}

long chn_watch(int set, int fd, int events) {
  struct epoll_event event = {.events = EPOLLONESHOT, .data.fd = fd};
  if (events & 1) event.events |= EPOLLIN;
  if (events & 2) event.events |= EPOLLOUT;
  if (epoll_ctl(set, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
  if (errno != ENOENT) return -errno;
  return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

long chn_watch_wait(int set) {
  struct epoll_event event;
  for (;;) {
    if (epoll_wait(set, &event, 1, -1) == 1) return event.data.fd;
    if (errno != EINTR) return -errno;
  }
}
