// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cbench.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void *cb_shared(size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) { perror("mmap"); exit(1); }
  return p;
}
int cb_fork(void) {
  int pid = fork();
  if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
  return pid;
}
void cb_wait(int pid) { waitpid(pid, NULL, 0); }
void cb_exit(int status) { _exit(status); }
void cb_pin(int cpu) {
  cpu_set_t s;
  CPU_ZERO(&s);
  CPU_SET(cpu, &s);
  if (sched_setaffinity(0, sizeof s, &s)) perror("affinity");
}
int cb_event(void) { return eventfd(0, 0); }
void cb_signal(int fd) {
  uint64_t v = 1;
  while (write(fd, &v, 8) != 8 && errno == EINTR) { }
}
void cb_await(int fd) {
  uint64_t v;
  while (read(fd, &v, 8) != 8 && errno == EINTR) { }
}
double cb_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}
