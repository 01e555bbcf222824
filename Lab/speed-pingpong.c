/* The barest doorbell round trip over ivshmem-v2 and vfio-pci: no rings, no loop but this one.
 * What Lab/speed --doorbell puts our programs beside; it shares no code with them.
 *
 * usage: speed-pingpong BDF ping PEER VECTOR COUNT   rings, sleeps, measures; prints nanoseconds:
 *                                                    count, minimum, quartiles, 99th percentile
 *        speed-pingpong BDF pong PEER VECTOR COUNT   answers COUNT times
 * Registers: ivshmem-v2 (Jailhouse, "Inter-VM communication"); ioctls: linux/vfio.h.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { INT_CONTROL = 8, DOORBELL = 12 };

static void die(const char *what) {
  fprintf(stderr, "speed-pingpong: %s: %s\n", what, strerror(errno));
  exit(2);
}

static volatile uint32_t *map_registers(int device) {
  struct vfio_region_info region = {.argsz = sizeof region, .index = VFIO_PCI_BAR0_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region)) die("BAR 0");
  void *base = mmap(NULL, region.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, region.offset);
  if (base == MAP_FAILED) die("mapping BAR 0");
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config)) die("configuration space");
  uint16_t command = 0;
  if (pread(device, &command, 2, config.offset + 4) != 2) die("reading the command register");
  command |= 6; /* memory, bus master */
  if (pwrite(device, &command, 2, config.offset + 4) != 2) die("writing the command register");
  /* Whoever had the device before may have left one-shot interrupts on (vendor capability, private
   * control); this loop arms once. */
  uint8_t at = 0x34, pair[4] = {0};
  while (pread(device, &at, 1, config.offset + at) == 1 && at) {
    if (pread(device, pair, 4, config.offset + at) != 4) die("reading a capability");
    if (pair[0] == 9) break;
    at++;
  }
  pair[3] &= 0xfe;
  if (at && pwrite(device, &pair[3], 1, config.offset + at + 3) != 1) die("one-shot mode");
  return base;
}

static int open_device(const char *address) {
  char path[128], target[256];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
  ssize_t n = readlink(path, target, sizeof target - 1);
  if (n < 0) die(path);
  target[n] = 0;
  snprintf(path, sizeof path, "/dev/vfio/%s", basename(target));
  int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);
  if (container < 0 || group < 0) die(path);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) die("joining the container");
  if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) die("the IOMMU");
  int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
  if (device < 0) die(address);
  return device;
}

static void set_vector(int device, unsigned vector, int event) {
  struct vfio_irq_info info = {.argsz = sizeof info, .index = VFIO_PCI_MSIX_IRQ_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) || info.count <= vector) die("vectors");
  char room[sizeof(struct vfio_irq_set) + 64 * sizeof(int)] = {0};
  struct vfio_irq_set *set = (void *)room;
  set->argsz = sizeof *set + (vector + 1) * sizeof(int);
  set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
  set->index = VFIO_PCI_MSIX_IRQ_INDEX;
  set->count = vector + 1;
  for (unsigned i = 0; i <= vector; i++) ((int *)set->data)[i] = i == vector ? event : -1;
  if (ioctl(device, VFIO_DEVICE_SET_IRQS, set)) die("setting the vector");
}

static int order(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int count, char **words) {
  if (count != 6) {
    fprintf(stderr, "usage: speed-pingpong BDF ping|pong PEER VECTOR COUNT\n");
    return 2;
  }
  int rings = strcmp(words[2], "ping") == 0;
  unsigned peer = atoi(words[3]), vector = atoi(words[4]), times = atoi(words[5]);
  int device = open_device(words[1]), event = eventfd(0, EFD_CLOEXEC);
  volatile uint32_t *registers = map_registers(device);
  set_vector(device, vector, event);
  registers[INT_CONTROL / 4] = 1;
  uint64_t *samples = calloc(times, sizeof *samples), got;
  /* "ready" before the first ring: whoever starts the other side waits for it. */
  printf("ready\n");
  fflush(stdout);
  for (unsigned i = 0; i < times; i++) {
    uint64_t start = now();
    if (rings) registers[DOORBELL / 4] = peer << 16 | vector;
    if (read(event, &got, 8) != 8) die("waiting");
    if (!rings) registers[DOORBELL / 4] = peer << 16 | vector;
    samples[i] = now() - start;
  }
  if (rings && times) {
    qsort(samples, times, sizeof *samples, order);
    printf("%u %lu %lu %lu %lu %lu\n", times, samples[0], samples[times / 4], samples[times / 2],
           samples[(uint64_t)times * 3 / 4], samples[(uint64_t)times * 99 / 100]);
  }
  return 0;
}
