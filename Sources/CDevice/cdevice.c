// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cdevice.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CD_RESULT(call)              \
  do {                               \
    long r_ = (long)(call);          \
    return r_ < 0 ? -errno : r_;     \
  } while (0)

_Static_assert((int)CD_REGION_CONFIGURATION == (int)VFIO_PCI_CONFIG_REGION_INDEX, "numbers of VFIO");
_Static_assert((int)CD_REGION_SECTIONS == (int)VFIO_PCI_BAR2_REGION_INDEX, "numbers of VFIO");
_Static_assert((int)CD_IRQ_MSIX == (int)VFIO_PCI_MSIX_IRQ_INDEX, "numbers of VFIO");
_Static_assert((int)CD_IRQ_REQUEST == (int)VFIO_PCI_REQ_IRQ_INDEX, "numbers of VFIO");

// ---- descriptors -----------------------------------------------------------------------------

uint64_t cd_page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

long cd_map_at(void *_Nonnull at, size_t size, int writable, int fd, uint64_t offset) {
  int rights = PROT_READ | (writable ? PROT_WRITE : 0);
  void *p = mmap(at, size, rights, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
  return p == MAP_FAILED ? -errno : 0;
}

void cd_load_words(const volatile void *base, size_t offset, void *out, size_t count) {
  for (size_t at = 0; at < count; at += sizeof(uint32_t)) {
    uint32_t word =
        __atomic_load_n((const volatile uint32_t *)((const volatile char *)base + offset + at),
                        __ATOMIC_RELAXED);
    memcpy((char *)out + at, &word, sizeof word);
  }
}

uint32_t cd_load32(const volatile void *base, size_t offset) {
  return __atomic_load_n((const volatile uint32_t *)((const volatile char *)base + offset),
                         __ATOMIC_ACQUIRE);
}

uint64_t cd_load64(const volatile void *base, size_t offset) {
  return __atomic_load_n((const volatile uint64_t *)((const volatile char *)base + offset),
                         __ATOMIC_ACQUIRE);
}

long cd_device_number(int fd, unsigned *_Nonnull major_number, unsigned *_Nonnull minor_number) {
  struct stat s;
  if (fstat(fd, &s) < 0) return -errno;
  if (!S_ISCHR(s.st_mode)) return -ENODEV;
  *major_number = major(s.st_rdev);
  *minor_number = minor(s.st_rdev);
  return 0;
}

int cd_is_folder(const char *_Nonnull path) {
  struct stat s;
  return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

long cd_make_folder(const char *_Nonnull path, unsigned mode) { CD_RESULT(mkdir(path, mode)); }

long cd_lock_name(const char *_Nonnull path, int *_Nonnull holder) {
  char text[16] = {0};
  *holder = 0;
  // Another user's file is opened without O_CREAT: in a folder that everybody may write to, the
  // kernel refuses it with (sysctl fs.protected_regular). A lock needs no more than reading.
  int mine = 1;
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0 && errno == EACCES) {
    mine = 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  }
  if (fd < 0) return -errno;
  struct stat s;
  long r = 0;
  if (fstat(fd, &s) < 0) r = -errno;
  else if (!S_ISREG(s.st_mode)) r = -EINVAL;
  else if (flock(fd, LOCK_EX | LOCK_NB) < 0) r = errno == EWOULDBLOCK ? -EBUSY : -errno;
  if (r == -EBUSY && pread(fd, text, sizeof text - 1, 0) > 0) {
    long number = strtol(text, NULL, 10);
    *holder = number > 0 && number <= INT32_MAX ? (int)number : 0;
  }
  if (r < 0) {
    close(fd);
    return r;
  }
  if (mine) {
    // Whatever the umask: another user of the device takes the same lock later.
    fchmod(fd, 0644);
    int count = snprintf(text, sizeof text, "%d\n", (int)getpid());
    // The number is a courtesy to whoever finds the lock taken.
    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)count, 0) < 0) return fd;
  }
  return fd;
}

long cd_read_count(int fd) {
  int32_t count;
  CD_RESULT(read(fd, &count, sizeof count));
}

// ---- VFIO ------------------------------------------------------------------------------------

long cd_container_check(int container) {
  int version = ioctl(container, VFIO_GET_API_VERSION);
  if (version < 0) return -errno;
  if (version != VFIO_API_VERSION) return -EPROTO;
  if (ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0) return -EOPNOTSUPP;
  return 0;
}

long cd_group_viable(int group) {
  struct vfio_group_status s = {.argsz = sizeof s};
  if (ioctl(group, VFIO_GROUP_GET_STATUS, &s) < 0) return -errno;
  return (s.flags & VFIO_GROUP_FLAGS_VIABLE) != 0;
}

long cd_group_attach(int group, int container) {
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0) return -errno;
  CD_RESULT(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
}

long cd_device_open(int group, const char *_Nonnull name) {
  int fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name);
  if (fd < 0) return -errno;
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

long cd_device_is_pci(int device) {
  struct vfio_device_info i = {.argsz = sizeof i};
  if (ioctl(device, VFIO_DEVICE_GET_INFO, &i) < 0) return -errno;
  return (i.flags & VFIO_DEVICE_FLAGS_PCI) != 0;
}

long cd_region_facts(int device, unsigned index, struct cd_region *_Nonnull out) {
  struct vfio_region_info i = {.argsz = sizeof i, .index = index};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &i) < 0) return -errno;
  out->size = i.size;
  out->offset = i.offset;
  out->may_read = (i.flags & VFIO_REGION_INFO_FLAG_READ) != 0;
  out->may_write = (i.flags & VFIO_REGION_INFO_FLAG_WRITE) != 0;
  out->may_map = (i.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0;
  return 0;
}

long cd_irq_count(int device, unsigned index) {
  struct vfio_irq_info i = {.argsz = sizeof i, .index = index};
  if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &i) < 0) return errno == EINVAL ? 0 : -errno;
  return (i.flags & VFIO_IRQ_INFO_EVENTFD) != 0 ? (long)i.count : 0;
}

long cd_irq_set(int device, unsigned index, const int *_Nonnull fds, unsigned count) {
  union {
    struct vfio_irq_set set;
    char room[sizeof(struct vfio_irq_set) + CD_MAX_VECTORS * sizeof(int)];
  } u;
  if (count > CD_MAX_VECTORS) return -EINVAL;
  memset(&u, 0, sizeof u);
  u.set.argsz = (unsigned)(sizeof u.set + count * sizeof(int));
  u.set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  u.set.index = index;
  u.set.count = count;
  memcpy(u.room + offsetof(struct vfio_irq_set, data), fds, count * sizeof(int));
  CD_RESULT(ioctl(device, VFIO_DEVICE_SET_IRQS, &u.set));
}

long cd_irq_clear(int device, unsigned index) {
  struct vfio_irq_set s = {.argsz = sizeof s,
                           .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
                           .index = index};
  CD_RESULT(ioctl(device, VFIO_DEVICE_SET_IRQS, &s));
}

long cd_irq_unmask(int device) {
  struct vfio_irq_set s = {.argsz = sizeof s,
                           .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
                           .index = CD_IRQ_LINE,
                           .count = 1};
  CD_RESULT(ioctl(device, VFIO_DEVICE_SET_IRQS, &s));
}
