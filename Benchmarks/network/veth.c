// SPDX-License-Identifier: Apache-2.0
//
// The baseline: the same numbered frames as `ivshmem frontend network send` and `receive`, through
// a veth pair, over AF_PACKET sockets with as few calls as the kernel allows.
//
// usage: veth send|receive INTERFACE COUNT SIZE WINDOW
// The receiver acknowledges half windows; the sender never has more than WINDOW frames out. The
// receiver prints frames and nanoseconds as JSON when it has all.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 32, LIMIT = 65549, TYPE = 0x88b5 };
static unsigned char frames[BATCH][LIMIT];
static struct iovec parts[BATCH];
static struct mmsghdr messages[BATCH];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int open_interface(const char *name) {
  int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE)), size = 16 << 20, one = 1;
  if (fd < 0) fail("socket");
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(TYPE),
                           .sll_ifindex = (int)if_nametoindex(name)};
  if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) fail(name);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
  return fd;
}

// Broadcast, so that no address has to be known; the sequence number behind the header.
static void fill(unsigned char *frame, uint64_t sequence) {
  memset(frame, 0xff, 6);
  memcpy(frame + 6, "\x02\0\0\0\0\x09", 6);
  frame[12] = TYPE >> 8;
  frame[13] = TYPE & 255;
  memcpy(frame + 16, &sequence, 8);
}

static uint64_t sequence_of(const unsigned char *frame) {
  uint64_t sequence;
  memcpy(&sequence, frame + 16, 8);
  return sequence;
}

static void send_all(int fd, uint64_t count, size_t size, uint64_t window) {
  uint64_t next = 0, done = 0;
  while (done < count) {
    while (next < count && next < done + window) {
      unsigned batch = 0;
      for (; batch < BATCH && next + batch < count && next + batch < done + window; batch++) {
        fill(frames[batch], next + batch);
        parts[batch] = (struct iovec){frames[batch], size};
        messages[batch].msg_hdr = (struct msghdr){.msg_iov = &parts[batch], .msg_iovlen = 1};
      }
      int sent = sendmmsg(fd, messages, batch, 0);
      if (sent < 0) fail("sendmmsg");
      next += sent;
    }
    unsigned char answer[64];
    struct pollfd one = {fd, POLLIN, 0};
    if (poll(&one, 1, 5000) <= 0) fail("no acknowledgement");
    while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0)
      if (sequence_of(answer) > done) done = sequence_of(answer);
  }
}

static void receive_all(int fd, uint64_t count, uint64_t window) {
  uint64_t seen = 0, first = 0, step = window / 2 ? window / 2 : 1;
  while (seen < count) {
    for (unsigned i = 0; i < BATCH; i++) {
      parts[i] = (struct iovec){frames[i], LIMIT};
      messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    if (got <= 0) fail("recvmmsg");
    if (!first) first = now();
    for (int i = 0; i < got; i++) {
      if (sequence_of(frames[i]) != seen) fprintf(stderr, "frame %llu is missing\n", (unsigned long long)seen), exit(1);
      seen++;
      if (seen % step && seen != count) continue;
      unsigned char answer[64] = {0};
      fill(answer, seen);
      if (send(fd, answer, sizeof answer, 0) < 0) fail("send");
    }
  }
  printf("{\"frames\":%llu,\"nanoseconds\":%llu}\n", (unsigned long long)seen,
         (unsigned long long)(now() - first));
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fprintf(stderr, "usage: veth send|receive INTERFACE COUNT SIZE WINDOW\n");
    return 2;
  }
  int fd = open_interface(argv[2]);
  uint64_t count = strtoull(argv[3], NULL, 0), window = strtoull(argv[5], NULL, 0);
  if (!strcmp(argv[1], "send")) {
    send_all(fd, count, strtoull(argv[4], NULL, 0), window);
  } else {
    fprintf(stderr, "ready\n");
    receive_all(fd, count, window);
  }
}
