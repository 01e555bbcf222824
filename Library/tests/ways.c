/* SPDX-License-Identifier: Apache-2.0 */
/* Devices by callbacks over everything that carries them: a native link, a link of the Siemens
 * dialect, a vhost-user socket. One device answers within the call, one answers from its own loop
 * and sleeps right behind that. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "simulator.h"

enum { SECOND = 1000000000, KEPT = 64, ROOM = 8192 };

/* The console: what comes on queue 1 goes back on queue 0, but not before the loop says so. The
 * source: each request is filled within the call, with bytes that count. */
struct device {
  cellmate_backend *backend;
  uint64_t tickets[KEPT];
  cellmate_segment rooms[KEPT];
  unsigned first, last;
  char bytes[ROOM];
  size_t length;
  unsigned starts, stops, cancels, late;
  uint8_t next;
};

struct side {
  const char *specification;
  int is_console;
  struct device device;
  atomic_int is_ending;
  pthread_barrier_t ready;
  pthread_t thread;
};

static int64_t serve_console(void *context, const cellmate_request *request) {
  struct device *own = context;
  if (request->queue == 0) {
    if (request->writable_count == 0 || own->last - own->first == KEPT) return 0;
    own->tickets[own->last % KEPT] = request->ticket;
    own->rooms[own->last++ % KEPT] = request->writable[0];
    return CELLMATE_PENDING;
  }
  for (uint32_t index = 0; index < request->readable_count; index++) {
    size_t more = request->readable[index].length;
    if (more > sizeof own->bytes - own->length) return 0;
    memcpy(own->bytes + own->length, request->readable[index].data, more);
    own->length += more;
  }
  return 0;
}

static int64_t serve_source(void *context, const cellmate_request *request) {
  struct device *own = context;
  int64_t written = 0;
  for (uint32_t index = 0; index < request->writable_count; index++)
    for (size_t at = 0; at < request->writable[index].length; at++, written++)
      ((uint8_t *)request->writable[index].data)[at] = own->next++;
  return written;
}

static void start(void *context, uint64_t features) {
  struct device *own = context;
  TRUE(features >> 32 & 1);
  own->starts++;
}

static void give_back(struct device *own) {
  own->length = 0;
  while (own->first != own->last)
    SAME(cellmate_backend_complete(own->backend, 0, own->tickets[own->first++ % KEPT], 0),
         CELLMATE_OK);
}

static void stop(void *context) {
  struct device *own = context;
  own->stops++;
  give_back(own);
}

static void cancel(void *context, uint32_t queue) {
  struct device *own = context;
  own->cancels++;
  if (queue == 0) give_back(own);
}

/* Completes outside of every callback, as many requests as there are bytes for. */
static void answer(struct device *own) {
  while (own->length > 0 && own->first != own->last) {
    cellmate_segment room = own->rooms[own->first % KEPT];
    size_t part = own->length < room.length ? own->length : room.length;
    memcpy(room.data, own->bytes, part);
    memmove(own->bytes, own->bytes + part, own->length - part);
    own->length -= part;
    own->late++;
    uint64_t ticket = own->tickets[own->first++ % KEPT];
    SAME(cellmate_backend_complete(own->backend, 0, ticket, (uint32_t)part), CELLMATE_OK);
    /* Once. */
    SAME(cellmate_backend_complete(own->backend, 0, ticket, (uint32_t)part),
         CELLMATE_ERROR_ARGUMENT);
  }
}

static void *serve(void *context) {
  struct side *side = context;
  struct device *own = &side->device;
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  cellmate_device device = {.size = sizeof device,
                            .context = own,
                            .device_id = side->is_console ? 3 : 4,
                            .queue_count = side->is_console ? 2 : 1,
                            .queue_size_max = 256,
                            .chain_length_max = 4,
                            .configuration = side->is_console ? "P\0\030\0\0\0\0\0\0\0\0" : NULL,
                            .configuration_size = side->is_console ? 12 : 0,
                            .start = start,
                            .stop = stop,
                            .serve = side->is_console ? serve_console : serve_source,
                            .cancel = cancel};
  if (cellmate_link_open(side->specification, CELLMATE_BACK_END, &link, &error))
    printf("%s\n", error.text);
  SAME(cellmate_backend_create(link, &own->backend, &error), CELLMATE_OK);
  SAME(cellmate_backend_add_device(own->backend, 0, &device), CELLMATE_OK);
  SAME(cellmate_backend_add_device(own->backend, 0, &device), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_start(own->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  while (!side->is_ending) {
    int32_t moved = cellmate_backend_step(own->backend);
    TRUE(moved == 0 || moved == 1);
    if (moved < 0) break;
    if (moved) continue;
    /* Behind the last look: the answers must not wait for somebody else's event. */
    answer(own);
    TRUE(cellmate_backend_sleep(own->backend, CELLMATE_FOREVER) == CELLMATE_WAIT_EVENT);
  }
  SAME(cellmate_backend_quiesce(own->backend, 0), CELLMATE_OK);
  int32_t moved;
  while ((moved = cellmate_backend_step(own->backend)) == 1 || moved == 0)
    if (moved == 0) cellmate_backend_sleep(own->backend, now() + SECOND);
  SAME(moved, 2);
  cellmate_device_counters counters = {.size = sizeof counters};
  SAME(cellmate_backend_device_counters(own->backend, 0, &counters), CELLMATE_OK);
  TRUE(counters.chains > 0);
  SAME(counters.queue_errors, 0);
  /* Nobody wakes what is closed. */
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_close(own->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side, const char *specification, int is_console) {
  memset(side, 0, sizeof *side);
  side->specification = specification;
  side->is_console = is_console;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, serve, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  side->is_ending = 1;
  SAME(cellmate_backend_wake(side->device.backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
  TRUE(side->device.starts >= 1);
}

static cellmate_link *join(const char *specification) {
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  if (cellmate_link_open(specification, CELLMATE_FRONT_END, &link, &error))
    printf("%s\n", error.text);
  return link;
}

/* Whole sequences, one after the other: a driver waits for the end of each. */
static void later(const char *specification, int is_socket) {
  struct side side;
  cellmate_driver *driver = NULL;
  begin(&side, specification, 1);
  SAME(cellmate_console_create(join(specification), 0, 0, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  for (int round = 0; round < 50; round++) {
    char out[64], in[64] = {0};
    size_t length = (size_t)snprintf(out, sizeof out, "round %d of %s", round, "what comes back");
    size_t sent = 0, count = 0;
    uint64_t limit = now() + 60ull * SECOND;
    while (count < length && now() < limit) {
      int put = cellmate_console_write(driver, out + sent, length - sent);
      int got = cellmate_console_read(driver, in + count, sizeof in - count);
      TRUE(put >= 0 && got >= 0);
      if (put < 0 || got < 0) break;
      sent += (size_t)put;
      count += (size_t)got;
      if (put + got == 0) cellmate_driver_sleep(driver, limit, 0);
    }
    SAME(count, length);
    SAME(memcmp(in, out, length), 0);
    if (count != length) break;
  }
  cellmate_console_facts facts = {.size = sizeof facts};
  SAME(cellmate_console_port(driver, 0, &facts), CELLMATE_OK);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  end(&side);
  TRUE(side.device.late >= 50);
  /* The driver's end of a socket waits until every buffer is back. */
  if (is_socket) TRUE(side.device.cancels > 0);
}

static void at_once(const char *specification) {
  struct side side;
  cellmate_driver *driver = NULL;
  uint8_t bytes[500];
  begin(&side, specification, 0);
  SAME(cellmate_entropy_create(join(specification), 0, 4, 64, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  unsigned wrong = 0, seen = 0;
  for (uint64_t limit = now() + 60ull * SECOND; seen < 20000 && now() < limit;) {
    int got = cellmate_entropy_read(driver, bytes, sizeof bytes);
    TRUE(got >= 0);
    if (got < 0) break;
    for (int at = 0; at < got; at++) wrong += bytes[at] != (uint8_t)seen++;
    if (got == 0) cellmate_driver_sleep(driver, limit, 0);
  }
  TRUE(seen >= 20000);
  SAME(wrong, 0);
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  end(&side);
}

/* What each way refuses of a device, and says. */
static void limits(const char *siemens, const char *socket) {
  const char *places[] = {siemens, socket};
  cellmate_device device = {.size = sizeof device,
                            .device_id = 4,
                            .queue_count = 1,
                            .queue_size_max = 16,
                            .chain_length_max = 1,
                            .serve = serve_source};
  for (int index = 0; index < 2; index++) {
    cellmate_link *link = NULL;
    cellmate_backend *backend = NULL;
    cellmate_backend_facts facts = {.size = sizeof facts};
    SAME(cellmate_link_open(places[index], CELLMATE_BACK_END, &link, NULL), CELLMATE_OK);
    SAME(cellmate_backend_create(link, &backend, NULL), CELLMATE_OK);
    SAME(cellmate_backend_info(backend, &facts), CELLMATE_OK);
    SAME(facts.kind, index == 0 ? CELLMATE_SIEMENS : CELLMATE_VHOST_USER);
    SAME(facts.device_limit, 1);
    SAME(cellmate_backend_add_device(backend, 1, &device), CELLMATE_ERROR_DEVICE);
    SAME(cellmate_backend_add_device(backend, 8, &device), CELLMATE_ERROR_ARGUMENT);
    SAME(cellmate_backend_start(backend), CELLMATE_ERROR_ORDER);
    SAME(cellmate_backend_add_device(backend, 0, &device), CELLMATE_OK);
    cellmate_device_facts device_facts = {.size = sizeof device_facts};
    SAME(cellmate_backend_device(backend, 0, &device_facts), CELLMATE_OK);
    SAME(device_facts.device_id, 4);
    SAME(strcmp(device_facts.kind, "device"), 0);
    SAME(cellmate_backend_complete(backend, 0, 0, 0), CELLMATE_ERROR_ARGUMENT);
    SAME(cellmate_backend_rings(backend, NULL, 0), 0);
    SAME(cellmate_backend_close(backend), CELLMATE_OK);
  }
}

void test_ways(const char *image) {
  struct simulator simulator;
  char path[100], native[160], siemens[160], socket[160];
  snprintf(path, sizeof path, "%s.link", image);
  snprintf(native, sizeof native, "sim:%s,dialect=native", path);
  snprintf(siemens, sizeof siemens, "sim:%s,dialect=siemens", path);
  snprintf(socket, sizeof socket, "vhost-user:%s.vhost", image);
  const char *ways[] = {native, siemens, socket};
  simulator_begin(&simulator, path);
  limits(siemens, socket);
  for (int index = 0; index < 3; index++) {
    at_once(ways[index]);
    later(ways[index], index == 2);
  }
  simulator_end(&simulator);
}
