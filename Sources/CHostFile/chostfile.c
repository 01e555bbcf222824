// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "chostfile.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

long chf_open(const char *_Nonnull path, int flags) {
  int how = O_CLOEXEC | O_NONBLOCK | (flags & CHF_WRITABLE ? O_RDWR : O_RDONLY);
  if (flags & CHF_DIRECT) how |= O_DIRECT;
  if (flags & CHF_EXCLUSIVE) how |= O_EXCL;
  int fd = open(path, how);
  return fd < 0 ? -errno : fd;
}

long chf_device_grain(int fd, struct chf_grain *_Nonnull out) {
  int logical = 0;
  unsigned physical = 0, minimum = 0, optimal = 0;
  memset(out, 0, sizeof *out);
  if (ioctl(fd, BLKSSZGET, &logical) < 0) return -errno;
  out->logical = (uint32_t)logical;
  if (ioctl(fd, BLKPBSZGET, &physical) == 0) out->physical = physical;
  if (ioctl(fd, BLKIOMIN, &minimum) == 0) out->minimum = minimum;
  if (ioctl(fd, BLKIOOPT, &optimal) == 0) out->optimal = optimal;
  return 0;
}

long chf_direct_alignment(int fd, uint32_t *_Nonnull memory, uint32_t *_Nonnull position) {
  *memory = 0;
  *position = 0;
#ifdef STATX_DIOALIGN
  struct statx s;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &s) < 0) return -errno;
  if (s.stx_mask & STATX_DIOALIGN) {
    *memory = s.stx_dio_mem_align;
    *position = s.stx_dio_offset_align;
  }
#else
  (void)fd;
#endif
  return 0;
}

// Whether /proc/<pid>/fdinfo/<name> tells of an open file description lock.
static int chf_holds_lock(const char *_Nonnull pid, const char *_Nonnull name) {
  char path[64 + 2 * 256], line[256];
  snprintf(path, sizeof path, "/proc/%s/fdinfo/%s", pid, name);
  FILE *f = fopen(path, "re");
  if (!f) return 0;
  int found = 0;
  while (!found && fgets(line, sizeof line, f)) found = strstr(line, "OFDLCK") != NULL;
  fclose(f);
  return found;
}

static int chf_process_holds(const char *_Nonnull pid, const struct stat *_Nonnull file) {
  char path[64 + 256];
  snprintf(path, sizeof path, "/proc/%s/fd", pid);
  DIR *fds = opendir(path);
  if (!fds) return 0;
  int found = 0;
  for (struct dirent *e; !found && (e = readdir(fds));) {
    struct stat s;
    if (!isdigit((unsigned char)e->d_name[0])) continue;
    if (fstatat(dirfd(fds), e->d_name, &s, 0) < 0) continue;
    found = s.st_dev == file->st_dev && s.st_ino == file->st_ino && chf_holds_lock(pid, e->d_name);
  }
  closedir(fds);
  return found;
}

int chf_lock_holder(int fd) {
  struct stat file;
  if (fstat(fd, &file) < 0) return 0;
  DIR *processes = opendir("/proc");
  if (!processes) return 0;
  int holder = 0;
  for (struct dirent *e; !holder && (e = readdir(processes));) {
    if (!isdigit((unsigned char)e->d_name[0])) continue;
    if (chf_process_holds(e->d_name, &file)) holder = atoi(e->d_name);
  }
  closedir(processes);
  return holder;
}
