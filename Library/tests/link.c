/* SPDX-License-Identifier: Apache-2.0 */
/* A device by callbacks on one thread, its driver on another, over a platform by callbacks. */
#include <pthread.h>
#include <string.h>

#include "check.h"

enum { TYPE = 42, SECOND = 1000000000, HELD = 8 };

/* A device that gives each request back reversed; queue 1 answers later, in the opposite order. */
struct reverser {
  cellmate_backend *backend;
  uint64_t held[HELD];
  uint32_t held_length[HELD];
  int held_count;
  int starts, stops;
  int inner_step, inner_double;
};

static uint32_t reverse(const cellmate_request *request) {
  uint8_t copy[256];
  size_t length = 0, done = 0;
  for (uint32_t index = 0; index < request->readable_count; index++)
    for (size_t at = 0; at < request->readable[index].length && length < sizeof copy; at++)
      copy[length++] = ((const uint8_t *)request->readable[index].data)[at];
  for (uint32_t index = 0; index < request->writable_count; index++)
    for (size_t at = 0; at < request->writable[index].length && done < length; at++)
      ((uint8_t *)request->writable[index].data)[at] = copy[length - ++done];
  return (uint32_t)done;
}

static void start(void *context, uint64_t features) {
  struct reverser *own = context;
  TRUE(features >> 32 & 1);
  own->starts++;
}

static void stop(void *context) {
  struct reverser *own = context;
  own->stops++;
  while (own->held_count > 0)
    SAME(cellmate_backend_complete(own->backend, 3, own->held[--own->held_count], 0), CELLMATE_OK);
}

static int64_t serve(void *context, const cellmate_request *request) {
  struct reverser *own = context;
  /* From a callback only completing and waking are allowed. */
  own->inner_step = cellmate_backend_step(own->backend);
  uint32_t length = reverse(request);
  if (request->queue == 0) return length;
  own->held[own->held_count] = request->ticket;
  own->held_length[own->held_count++] = length;
  if (own->held_count < HELD) return CELLMATE_PENDING;
  while (own->held_count > 0) {
    own->held_count--;
    SAME(cellmate_backend_complete(own->backend, 3, own->held[own->held_count],
                                   own->held_length[own->held_count]),
         CELLMATE_OK);
  }
  own->inner_double = cellmate_backend_complete(own->backend, 3, request->ticket, 0);
  return CELLMATE_PENDING;
}

struct side {
  struct machine *machine;
  struct reverser device;
  pthread_barrier_t ready;
  pthread_t thread;
};

static void *backend_thread(void *context) {
  struct side *side = context;
  cellmate_platform platform = machine_platform(side->machine, 0);
  cellmate_link *link = NULL;
  static const char configuration[] = "reverser";
  cellmate_device device = {.size = sizeof device,
                            .context = &side->device,
                            .device_id = TYPE,
                            .queue_count = 2,
                            .queue_size_max = 16,
                            .chain_length_max = 8,
                            .features = 1 << 5,
                            .configuration = configuration,
                            .configuration_size = sizeof configuration,
                            .start = start,
                            .stop = stop,
                            .serve = serve};
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &side->device.backend, NULL), CELLMATE_OK);
  SAME(cellmate_backend_add_device(side->device.backend, 3, &device), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_run(side->device.backend, 0), CELLMATE_OK);
  cellmate_device_counters counters = {.size = sizeof counters};
  SAME(cellmate_backend_device_counters(side->device.backend, 3, &counters), CELLMATE_OK);
  TRUE(counters.chains > 0);
  SAME(counters.queue_errors, 0);
  SAME(cellmate_backend_close(side->device.backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side, struct machine *machine) {
  memset(side, 0, sizeof *side);
  side->machine = machine;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, backend_thread, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  SAME(cellmate_backend_stop(side->device.backend), CELLMATE_OK);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

static cellmate_frontend *open_frontend(struct machine *machine) {
  cellmate_platform platform = machine_platform(machine, 1);
  cellmate_link *link = NULL;
  cellmate_frontend *frontend = NULL;
  SAME(cellmate_link_open_platform(&platform, CELLMATE_FRONT_END, 0, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_frontend_create(link, &frontend, NULL), CELLMATE_OK);
  return frontend;
}

static void set_up(cellmate_frontend *frontend, int queues[2]) {
  uint64_t agreed = 0;
  char name[9] = "";
  SAME(cellmate_frontend_wait_link(frontend, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_frontend_negotiate(frontend, 0, TYPE, 0, &agreed), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_frontend_negotiate(frontend, 3, TYPE + 1, 0, &agreed), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_frontend_negotiate(frontend, 3, TYPE, 1 << 5, &agreed), CELLMATE_OK);
  TRUE(agreed & 1 << 5);
  SAME(cellmate_frontend_read_configuration(frontend, 3, 0, name, sizeof name), CELLMATE_OK);
  SAME(strcmp(name, "reverser"), 0);
  SAME(cellmate_frontend_read_configuration(frontend, 3, 255, name, 2), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_open_queue(frontend, 3, 0, 3, 4), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_open_queue(frontend, 3, 0, 32, 4), CELLMATE_ERROR_REFUSED);
  for (int index = 0; index < 2; index++) {
    queues[index] = cellmate_frontend_open_queue(frontend, 3, (uint32_t)index, 16, 4);
    TRUE(queues[index] >= 0);
  }
  SAME(cellmate_frontend_start_device(frontend, 3), CELLMATE_OK);
}

/* Takes count completions; sleeps in between, at most ten seconds. */
static int collect(cellmate_frontend *frontend, int queue, cellmate_completion *out, int count) {
  uint64_t limit = now() + 60ull * SECOND;
  int taken = 0;
  while (taken < count) {
    int result = cellmate_frontend_take(frontend, (uint32_t)queue, out + taken,
                                        (uint32_t)(count - taken));
    if (result < 0) return result;
    taken += result;
    if (result == 0 && cellmate_frontend_sleep(frontend, limit) != CELLMATE_WAIT_EVENT) break;
  }
  return taken;
}

static void transfer(cellmate_frontend *frontend, int queue) {
  enum { COUNT = 8, LENGTH = 100 };
  cellmate_buffer out[COUNT], in[COUNT], parts[COUNT][3];
  cellmate_chain chains[COUNT];
  cellmate_completion done[COUNT];
  for (int round = 0; round < 50; round++) {
    for (int index = 0; index < COUNT; index++) {
      SAME(cellmate_frontend_allocate(frontend, 0, LENGTH, &out[index]), CELLMATE_OK);
      SAME(cellmate_frontend_allocate(frontend, 1, LENGTH, &in[index]), CELLMATE_OK);
      for (int at = 0; at < LENGTH; at++)
        ((uint8_t *)out[index].data)[at] = (uint8_t)(round * 7 + index * 31 + at);
      parts[index][0] = (cellmate_buffer){.offset = out[index].offset, .length = 40};
      parts[index][1] = (cellmate_buffer){.offset = out[index].offset + 40, .length = 60};
      parts[index][2] = in[index];
      chains[index] = (cellmate_chain){.buffers = parts[index],
                                       .readable_count = 2,
                                       .writable_count = 1,
                                       .token = (uint32_t)(1000 * round + index)};
    }
    /* Five chains of three descriptors fit into sixteen; the others follow. */
    int shown = cellmate_frontend_submit(frontend, (uint32_t)queue, chains, COUNT);
    SAME(shown, 5);
    int seen = collect(frontend, queue, done, queue == 0 ? shown : 0);
    int rest = cellmate_frontend_submit(frontend, (uint32_t)queue, chains + shown, 3);
    if (queue == 0) {
      SAME(rest, 3);
      seen += collect(frontend, queue, done + seen, rest);
      SAME(seen, COUNT);
    } else {
      /* This queue answers when it holds eight; five are there and nothing more fits. */
      SAME(rest, 0);
      return;
    }
    for (int index = 0; index < COUNT; index++) {
      uint32_t which = done[index].token % 1000;
      SAME(done[index].written, LENGTH);
      for (int at = 0; at < LENGTH; at++)
        if (((uint8_t *)in[which].data)[at] != ((uint8_t *)out[which].data)[LENGTH - 1 - at]) {
          SAME(at, -1);
          break;
        }
    }
    for (int index = 0; index < COUNT; index++) {
      SAME(cellmate_frontend_free(frontend, 0, &out[index]), CELLMATE_OK);
      SAME(cellmate_frontend_free(frontend, 1, &in[index]), CELLMATE_OK);
      SAME(cellmate_frontend_free(frontend, 1, &in[index]), CELLMATE_ERROR_ARGUMENT);
    }
  }
}

static void wrong_requests(cellmate_frontend *frontend, int queue) {
  cellmate_buffer buffer;
  SAME(cellmate_frontend_allocate(frontend, 2, 100, &buffer), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_allocate(frontend, 0, 0, &buffer), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_allocate(frontend, 0, UINT64_MAX, &buffer), CELLMATE_ERROR_MEMORY);
  SAME(cellmate_frontend_allocate(frontend, 0, 100, NULL), CELLMATE_ERROR_ARGUMENT);
  cellmate_buffer outside[] = {{NULL, 0, 100},
                               {NULL, UINT64_MAX, 100},
                               {NULL, 1 << 20, 1 << 20},
                               {NULL, 8192, UINT64_MAX},
                               {NULL, 300000, 0}};
  for (size_t index = 0; index < sizeof outside / sizeof outside[0]; index++) {
    cellmate_chain chain = {.buffers = &outside[index], .readable_count = 1};
    SAME(cellmate_frontend_submit(frontend, (uint32_t)queue, &chain, 1), CELLMATE_ERROR_ARGUMENT);
    SAME(cellmate_frontend_free(frontend, 0, &outside[index]), CELLMATE_ERROR_ARGUMENT);
  }
  cellmate_chain many = {.buffers = outside, .readable_count = UINT32_MAX, .writable_count = 2};
  SAME(cellmate_frontend_submit(frontend, (uint32_t)queue, &many, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_submit(frontend, (uint32_t)queue, NULL, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_submit(frontend, 15, &many, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_submit(frontend, 99, &many, 1), CELLMATE_ERROR_ARGUMENT);
  cellmate_completion done;
  SAME(cellmate_frontend_take(frontend, 99, &done, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_take(frontend, (uint32_t)queue, NULL, 1), CELLMATE_ERROR_ARGUMENT);
}

void test_link(void) {
  struct machine *machine = machine_make();
  struct side side;
  int queues[2];
  begin(&side, machine);
  cellmate_frontend *frontend = open_frontend(machine);
  uint64_t agreed;
  SAME(cellmate_frontend_negotiate(frontend, 3, TYPE, 0, &agreed), CELLMATE_ERROR_LINK);
  set_up(frontend, queues);
  wrong_requests(frontend, queues[0]);
  transfer(frontend, queues[0]);
  transfer(frontend, queues[1]);
  /* Five requests are open at the device; a reset makes it give them back. */
  SAME(cellmate_frontend_negotiate(frontend, 3, TYPE, 1 << 5, &agreed), CELLMATE_OK);
  cellmate_link_counters counters = {.size = sizeof counters};
  SAME(cellmate_frontend_link_counters(frontend, &counters), CELLMATE_OK);
  SAME(counters.pairings, 1);
  SAME(counters.peer_errors, 0);
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
  end(&side);
  SAME(side.device.inner_step, CELLMATE_ERROR_ORDER);
  TRUE(side.device.starts >= 1);
  TRUE(side.device.stops >= 1);
  machine_free(machine);
}

void test_restart(void) {
  struct machine *machine = machine_make();
  struct side side;
  int queues[2];
  begin(&side, machine);
  cellmate_frontend *frontend = open_frontend(machine);
  for (int life = 0; life < 5; life++) {
    set_up(frontend, queues);
    transfer(frontend, queues[0]);
    SAME(cellmate_frontend_step(frontend), 1);
    end(&side);
    SAME(cellmate_frontend_step(frontend), 0);
    cellmate_completion done;
    SAME(cellmate_frontend_take(frontend, (uint32_t)queues[0], &done, 1), CELLMATE_ERROR_LINK);
    SAME(cellmate_frontend_wait_link(frontend, now() + 1000000), CELLMATE_ERROR_DEADLINE);
    begin(&side, machine);
  }
  set_up(frontend, queues);
  transfer(frontend, queues[0]);
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
  end(&side);
  machine_free(machine);
}

/* ---- threads ---------------------------------------------------------------------------------- */

static void *foreign(void *context) {
  cellmate_frontend *frontend = context;
  cellmate_buffer buffer;
  SAME(cellmate_frontend_step(frontend), CELLMATE_ERROR_THREAD);
  SAME(cellmate_frontend_allocate(frontend, 0, 10, &buffer), CELLMATE_ERROR_THREAD);
  SAME(cellmate_frontend_close(frontend), CELLMATE_ERROR_THREAD);
  SAME(cellmate_frontend_adopt(frontend), CELLMATE_OK);
  SAME(cellmate_frontend_step(frontend), 0);
  return NULL;
}

void test_threads(void) {
  struct machine *machine = machine_make();
  cellmate_frontend *frontend = open_frontend(machine);
  pthread_t thread;
  pthread_create(&thread, NULL, foreign, frontend);
  pthread_join(thread, NULL);
  SAME(cellmate_frontend_step(frontend), CELLMATE_ERROR_THREAD);
  SAME(cellmate_frontend_adopt(frontend), CELLMATE_OK);
  SAME(cellmate_frontend_wake(frontend), CELLMATE_OK);
  SAME(cellmate_frontend_sleep(frontend, now() + 60ull * SECOND), CELLMATE_WAIT_EVENT);
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
  machine_free(machine);
}
