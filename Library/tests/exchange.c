/* SPDX-License-Identifier: Apache-2.0 */
/* A service that is told of another configuration: links and sockets come and go on one thread,
 * while the requests of a link that stays go on as if nothing happened. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "simulator.h"

enum { SECOND = 1000000000, LINKS = 4, UNIT = 4096, DEPTH = 8 };

/* One of the service's links: what is wanted, as the thread that asks for it wrote it down, and
 * what is there. */
struct served {
  char wanted[160], wanted_device[512];
  char device[512];
  cellmate_backend *backend;
  int is_ending;
};

struct service {
  struct served links[LINKS];
  atomic_uint asked, done;
  atomic_int is_ending;
  int event;
  int added, removed;
  pthread_t thread;
};

static void add(struct service *service, int index, int epoll) {
  struct served *served = &service->links[index];
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  if (cellmate_link_open(served->wanted, CELLMATE_BACK_END, &link, &error) ||
      cellmate_backend_create(link, &served->backend, &error) ||
      cellmate_backend_add(served->backend, 0, served->wanted_device, &error))
    printf("%s\n", error.text);
  SAME(cellmate_backend_watch(served->backend, epoll, (uint64_t)index), CELLMATE_OK);
  SAME(cellmate_backend_start(served->backend), CELLMATE_OK);
  strcpy(served->device, served->wanted_device);
  service->added++;
}

/* What has changed ends, what is new begins; the same specification in other words is the same. */
static void configure(struct service *service, int epoll) {
  for (int index = 0; index < LINKS; index++) {
    struct served *served = &service->links[index];
    int is_wanted = served->wanted_device[0] != 0;
    if (served->backend == NULL) {
      if (is_wanted) add(service, index, epoll);
      continue;
    }
    if (served->is_ending) continue;
    if (is_wanted && cellmate_device_compare(served->device, served->wanted_device) & CELLMATE_SAME)
      continue;
    served->is_ending = 1;
    SAME(cellmate_backend_quiesce(served->backend, 0), CELLMATE_OK);
  }
}

/* Steps every link once; whether one of them moved. */
static int turn(struct service *service, int epoll) {
  int is_busy = 0;
  for (int index = 0; index < LINKS; index++) {
    struct served *served = &service->links[index];
    if (served->backend == NULL) continue;
    int32_t moved = cellmate_backend_step(served->backend);
    TRUE(moved >= 0);
    is_busy |= moved == 1;
    if (moved != 2) continue;
    SAME(cellmate_backend_unwatch(served->backend, epoll), CELLMATE_OK);
    SAME(cellmate_backend_close(served->backend), CELLMATE_OK);
    served->backend = NULL;
    served->is_ending = 0;
    service->removed++;
    is_busy = 1;
  }
  return is_busy;
}

static int is_settled(struct service *service) {
  for (int index = 0; index < LINKS; index++) {
    struct served *served = &service->links[index];
    if ((served->wanted_device[0] != 0) != (served->backend != NULL) || served->is_ending) return 0;
  }
  return 1;
}

/* Prepares all of them, waits for any, ends the sleep of each that was prepared. */
static void doze(struct service *service, int epoll) {
  int is_prepared[LINKS] = {0}, may_sleep = 1;
  uint64_t first = CELLMATE_FOREVER;
  for (int index = 0; index < LINKS && may_sleep; index++) {
    cellmate_backend *backend = service->links[index].backend;
    uint64_t deadline;
    if (backend == NULL) continue;
    may_sleep = is_prepared[index] = cellmate_backend_prepare_sleep(backend) == 1;
    SAME(cellmate_backend_deadline(backend, &deadline), CELLMATE_OK);
    if (deadline < first) first = deadline;
  }
  struct epoll_event events[LINKS + 1];
  if (may_sleep) {
    int64_t left = first == CELLMATE_FOREVER ? 1000000 : (int64_t)(first - now()) / 1000000 + 1;
    int found = epoll_wait(epoll, events, LINKS + 1, left < 0 ? 0 : (int)left);
    TRUE(found >= 0 || errno == EINTR);
  }
  for (int index = 0; index < LINKS; index++)
    if (is_prepared[index]) {
      if (may_sleep)
        TRUE(cellmate_backend_end_sleep(service->links[index].backend) != CELLMATE_WAIT_GONE);
      else
        SAME(cellmate_backend_stay_awake(service->links[index].backend), CELLMATE_OK);
    }
}

static void *serve(void *context) {
  struct service *service = context;
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = LINKS};
  SAME(epoll_ctl(epoll, EPOLL_CTL_ADD, service->event, &event), 0);
  unsigned seen = 0;
  while (!service->is_ending) {
    uint64_t count;
    if (service->asked != seen) {
      configure(service, epoll);
      if (is_settled(service)) service->done = seen = service->asked;
    }
    if (turn(service, epoll) || service->asked != seen) continue;
    doze(service, epoll);
    if (read(service->event, &count, sizeof count) < 0) SAME(errno, EAGAIN);
  }
  for (int index = 0; index < LINKS; index++) service->links[index].wanted_device[0] = 0;
  while (configure(service, epoll), !is_settled(service))
    if (!turn(service, epoll)) doze(service, epoll);
  close(epoll);
  return NULL;
}

/* ---- the other side --------------------------------------------------------------------------- */

/* The disk that is at work all the time: what has gone round, and one way round more. */
struct disk {
  cellmate_block *block;
  cellmate_buffer buffers[DEPTH];
  unsigned open, done, wrong;
};

static void work(struct disk *disk) {
  cellmate_block_completion completions[DEPTH];
  for (; disk->open < DEPTH; disk->open++) {
    cellmate_block_request request = {
        .type = CELLMATE_BLOCK_WRITE,
        .token = disk->open,
        .sector = (uint64_t)disk->open * (UNIT / 512),
        .data = disk->buffers[disk->open],
    };
    SAME(cellmate_block_submit(disk->block, &request, 1), 1);
  }
  int taken = cellmate_block_take(disk->block, completions, DEPTH);
  if (taken < 0) disk->wrong++;
  for (int index = 0; index < taken; index++) {
    cellmate_block_request request = {
        .type = CELLMATE_BLOCK_WRITE,
        .token = completions[index].token,
        .sector = (uint64_t)completions[index].token * (UNIT / 512),
        .data = disk->buffers[completions[index].token],
    };
    if (completions[index].status != 0) disk->wrong++;
    SAME(cellmate_block_submit(disk->block, &request, 1), 1);
    disk->done++;
  }
  if (taken == 0) cellmate_block_sleep(disk->block, now() + SECOND);
}

/* Asks for what is written down, and keeps the disk busy until it is so. */
static void reload(struct service *service, struct disk *disk) {
  uint64_t one = 1, limit = now() + 60ull * SECOND;
  unsigned wanted = ++service->asked, before = disk->done;
  SAME(write(service->event, &one, sizeof one), sizeof one);
  while ((service->done != wanted || disk->done < before + 4 * DEPTH) && now() < limit &&
         disk->wrong == 0)
    work(disk);
  SAME(service->done, wanted);
  TRUE(disk->done >= before + 4 * DEPTH);
  SAME(disk->wrong, 0);
}

static void want(struct service *service, int index, const char *link, const char *device) {
  strcpy(service->links[index].wanted, link);
  strcpy(service->links[index].wanted_device, device);
}

static cellmate_driver *source(const char *link) {
  cellmate_link *opened = NULL;
  cellmate_driver *driver = NULL;
  SAME(cellmate_link_open(link, CELLMATE_FRONT_END, &opened, NULL), CELLMATE_OK);
  SAME(cellmate_entropy_create(opened, 0, 4, 64, &driver, NULL), CELLMATE_OK);
  return driver;
}

static int has_bytes(cellmate_driver *driver) {
  uint8_t bytes[64];
  int got = 0;
  for (uint64_t limit = now() + 60ull * SECOND; got == 0 && now() < limit;)
    if ((got = cellmate_entropy_read(driver, bytes, sizeof bytes)) == 0)
      cellmate_driver_sleep(driver, limit, 0);
  return got > 0;
}

static void exchanges(struct service *service, struct disk *disk, const char *image,
                      const char *siemens) {
  char first[160], second[160], log[512], socket[160];
  snprintf(first, sizeof first, "vhost-user:%s.one", image);
  snprintf(second, sizeof second, "vhost-user:%s.two", image);
  /* Two sockets more, and a link of the other dialect. */
  want(service, 1, first, "entropy");
  want(service, 2, second, "entropy");
  want(service, 3, siemens, "entropy");
  reload(service, disk);
  SAME(service->added, 4);
  cellmate_driver *one = source(first), *two = source(second), *three = source(siemens);
  SAME(cellmate_driver_connect(one, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_driver_connect(two, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_driver_connect(three, now() + 60ull * SECOND), CELLMATE_OK);
  TRUE(has_bytes(one) && has_bytes(two) && has_bytes(three));
  /* One goes, one becomes another device, the rest stays; the disk in other words is the same. */
  snprintf(log, sizeof log, "console,log=%s.text", image);
  service->links[1].wanted_device[0] = 0;
  want(service, 2, second, log);
  reload(service, disk);
  SAME(service->removed, 2);
  SAME(service->added, 5);
  snprintf(socket, sizeof socket, "%s.one", image);
  TRUE(access(socket, F_OK) != 0);
  TRUE(has_bytes(three));
  SAME(cellmate_driver_connect(one, now() + SECOND / 50), CELLMATE_ERROR_DEADLINE);
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(three, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  /* Everything but the disk goes. */
  service->links[2].wanted_device[0] = service->links[3].wanted_device[0] = 0;
  reload(service, disk);
  SAME(service->removed, 4);
  SAME(cellmate_driver_close(one), CELLMATE_OK);
  SAME(cellmate_driver_close(two), CELLMATE_OK);
  SAME(cellmate_driver_close(three), CELLMATE_OK);
}

void test_exchange(const char *image) {
  struct simulator simulator, other;
  struct service service = {.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  struct disk disk = {.open = 0};
  char path[100], second[100], native[160], siemens[160], device[512];
  snprintf(path, sizeof path, "%s.link", image);
  snprintf(second, sizeof second, "%s.other", image);
  snprintf(native, sizeof native, "sim:%s,dialect=native", path);
  snprintf(siemens, sizeof siemens, "sim:%s,dialect=siemens", second);
  snprintf(device, sizeof device, "block,file=%s.disk", image);
  FILE *file = fopen(device + sizeof "block,file=" - 1, "wb");
  fseek(file, DEPTH * UNIT - 1, SEEK_SET);
  fputc(0, file);
  fclose(file);
  simulator_begin(&simulator, path);
  simulator_begin(&other, second);
  want(&service, 0, native, device);
  service.asked = 1;
  pthread_create(&service.thread, NULL, serve, &service);
  cellmate_link *link = NULL;
  SAME(cellmate_link_open(native, CELLMATE_FRONT_END, &link, NULL), CELLMATE_OK);
  SAME(cellmate_block_create(link, 0, DEPTH, &disk.block, NULL), CELLMATE_OK);
  SAME(cellmate_block_connect(disk.block, now() + 60ull * SECOND), CELLMATE_OK);
  for (int slot = 0; slot < DEPTH; slot++)
    SAME(cellmate_block_allocate(disk.block, 0, UNIT, &disk.buffers[slot]), CELLMATE_OK);
  snprintf(service.links[0].wanted_device, sizeof device, "block,queues=1,file=%s.disk", image);
  exchanges(&service, &disk, image, siemens);
  /* The link that stayed has not noticed anything. */
  cellmate_driver_counters counters = {.size = sizeof counters};
  cellmate_link_counters seen = {.size = sizeof seen};
  SAME(cellmate_driver_count(disk.block, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  SAME(counters.resubmitted, 0);
  SAME(cellmate_block_link_counters(disk.block, &seen), CELLMATE_OK);
  SAME(seen.pairings, 1);
  SAME(seen.losses, 0);
  SAME(cellmate_block_close(disk.block), CELLMATE_OK);
  service.is_ending = 1;
  uint64_t one = 1;
  SAME(write(service.event, &one, sizeof one), sizeof one);
  pthread_join(service.thread, NULL);
  close(service.event);
  simulator_end(&other);
  simulator_end(&simulator);
}
