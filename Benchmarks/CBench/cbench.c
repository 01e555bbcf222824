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

void *cb_map(uint64_t size, int huge) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
  if (huge && madvise(p, size, MADV_HUGEPAGE)) perror("madvise");
  return p;
}

void cb_pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set)) { perror("affinity"); exit(1); }
}

double cb_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

int cb_eventfd(void) { return eventfd(0, 0); }

void cb_signal(int fd) {
  uint64_t v = 1;
  while (write(fd, &v, 8) != 8 && errno == EINTR) {}
}

void cb_wait(int fd) {
  uint64_t v;
  while (read(fd, &v, 8) != 8 && errno == EINTR) {}
}

int cb_fork(void) {
  int pid = fork();
  if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (pid < 0) { perror("fork"); exit(1); }
  return pid;
}

void cb_join(int pid) { waitpid(pid, NULL, 0); }

void cb_exit(int status) { _exit(status); }

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

void cb_report(const char *what, struct cb_parameters p, int cpu_a, int cpu_b, double *v) {
  qsort(v, p.runs, sizeof *v, compare);
  printf("%-12s n=%u q=%-3u b=%-3u w=%-5s s=%-6u z=%-3u S=%-5ld cpu=%d/%d  median %9.2f  "
         "min %9.2f  max %9.2f ns/request (%u runs)\n",
         what, p.descriptors, p.depth, p.batch, "none", p.payload, p.size, p.spin, cpu_a, cpu_b,
         v[p.runs / 2], v[0], v[p.runs - 1], p.runs);
  fflush(stdout);
}
