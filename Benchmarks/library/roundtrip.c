/* SPDX-License-Identifier: Apache-2.0 */
/* Round trips through libcellmate.so, both sides on one thread, in that thread's processor time: what
 * the code costs, whatever else the machine does.
 *
 * usage: roundtrip IMAGE ROUNDS; prints "NAME NANOSECONDS" a request, for requests of a ring whose
 * device is a callback, one and 32 at a time, and for reads of a disk image of at least 1 MiB. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform.h"

enum { TYPE = 42, LENGTH = 64, BATCH = 32, UNIT = 4096, DEPTH = 8 };
static const uint64_t limit = 10000000000;

#define MUST(call)                                                                        \
  do {                                                                                    \
    long result = (long)(call);                                                           \
    if (result < 0) {                                                                     \
      fprintf(stderr, "roundtrip: %s: %s\n", #call, cellmate_result_text((int)result));    \
      exit(1);                                                                            \
    }                                                                                     \
  } while (0)

struct side {
  cellmate_backend *backend;
  const char *specification; /* NULL: the device by callbacks */
  struct machine *machine;
  pthread_barrier_t ready;
  pthread_t thread;
  atomic_int is_set_up;
};

static uint64_t spent(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int64_t serve(void *context, const cellmate_request *request) {
  (void)context;
  memcpy(request->writable[0].data, request->readable[0].data, LENGTH);
  return LENGTH;
}

/* Serves until the front-end is set up; then the measuring thread adopts the back-end. */
static void *begin(void *context) {
  struct side *side = context;
  cellmate_platform platform = machine_platform(side->machine, 0);
  cellmate_link *link = NULL;
  cellmate_error error = {.size = sizeof error};
  MUST(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, &error));
  MUST(cellmate_backend_create(link, &side->backend, &error));
  cellmate_device device = {.size = sizeof device,
                            .device_id = TYPE,
                            .queue_count = 1,
                            .queue_size_max = 128,
                            .chain_length_max = 4,
                            .serve = serve};
  if (side->specification)
    MUST(cellmate_backend_add(side->backend, 0, side->specification, &error));
  else
    MUST(cellmate_backend_add_device(side->backend, 0, &device));
  MUST(cellmate_backend_start(side->backend));
  pthread_barrier_wait(&side->ready);
  while (!side->is_set_up) MUST(cellmate_backend_step(side->backend));
  return NULL;
}

static cellmate_link *open_side(struct side *side, const char *specification) {
  side->machine = machine_make();
  side->specification = specification;
  side->is_set_up = 0;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, begin, side);
  pthread_barrier_wait(&side->ready);
  cellmate_platform platform = machine_platform(side->machine, 1);
  cellmate_link *link = NULL;
  MUST(cellmate_link_open_platform(&platform, CELLMATE_FRONT_END, 0, 0, &link, NULL));
  return link;
}

static void adopt(struct side *side) {
  side->is_set_up = 1;
  pthread_join(side->thread, NULL);
  MUST(cellmate_backend_adopt(side->backend));
}

static void ring(long rounds) {
  struct side side;
  cellmate_frontend *frontend = NULL;
  uint64_t agreed;
  MUST(cellmate_frontend_create(open_side(&side, NULL), &frontend, NULL));
  MUST(cellmate_frontend_wait_link(frontend, now() + limit));
  MUST(cellmate_frontend_negotiate(frontend, 0, TYPE, 0, &agreed));
  int queue = cellmate_frontend_open_queue(frontend, 0, 0, 128, 4);
  MUST(queue);
  MUST(cellmate_frontend_start_device(frontend, 0));
  adopt(&side);
  cellmate_buffer buffers[BATCH][2];
  cellmate_chain chains[BATCH];
  cellmate_completion done[BATCH];
  for (uint32_t index = 0; index < BATCH; index++) {
    MUST(cellmate_frontend_allocate(frontend, 0, LENGTH, &buffers[index][0]));
    MUST(cellmate_frontend_allocate(frontend, 1, LENGTH, &buffers[index][1]));
    chains[index] = (cellmate_chain){
        .buffers = buffers[index], .readable_count = 1, .writable_count = 1, .token = index};
  }
  const int batches[] = {1, BATCH};
  for (int kind = 0; kind < 2; kind++) {
    long turns = batches[kind] == 1 ? rounds : rounds / 8;
    uint64_t start = 0;
    /* The first quarter warms up. */
    for (long turn = -turns / 4; turn < turns; turn++) {
      if (turn == 0) start = spent();
      MUST(cellmate_frontend_submit(frontend, (uint32_t)queue, chains, (uint32_t)batches[kind]));
      for (int taken = 0; taken < batches[kind];) {
        MUST(cellmate_backend_step(side.backend));
        int got = cellmate_frontend_take(frontend, (uint32_t)queue, done, BATCH);
        MUST(got);
        taken += got;
      }
    }
    printf("ring%d %.2f\n", batches[kind],
           (double)(spent() - start) / (double)(turns * batches[kind]));
  }
  MUST(cellmate_frontend_close(frontend));
  MUST(cellmate_backend_close(side.backend));
  machine_free(side.machine);
}

/* The set-up of a disk asks its back-end again and again: it stays on its thread until then. */
static void disk(long rounds, const char *image) {
  struct side side;
  cellmate_block *block = NULL;
  char specification[4096];
  snprintf(specification, sizeof specification, "block,file=%s,readonly,workers=1", image);
  MUST(cellmate_block_create(open_side(&side, specification), 0, DEPTH, &block, NULL));
  MUST(cellmate_block_connect(block, now() + limit));
  adopt(&side);
  cellmate_block_request requests[DEPTH];
  cellmate_block_completion done[DEPTH];
  for (uint32_t index = 0; index < DEPTH; index++) {
    requests[index] = (cellmate_block_request){
        .type = CELLMATE_BLOCK_READ, .token = index, .sector = index * (UNIT / 512)};
    MUST(cellmate_block_allocate(block, 1, UNIT, &requests[index].data));
  }
  const int batches[] = {1, DEPTH};
  for (int kind = 0; kind < 2; kind++) {
    long turns = rounds / 4 / batches[kind];
    uint64_t start = 0;
    for (long turn = -turns / 4; turn < turns; turn++) {
      if (turn == 0) start = spent();
      MUST(cellmate_block_submit(block, requests, (uint32_t)batches[kind]));
      for (int taken = 0; taken < batches[kind];) {
        MUST(cellmate_backend_step(side.backend));
        int got = cellmate_block_take(block, done, DEPTH);
        MUST(got);
        for (int index = 0; index < got; index++)
          if (done[index].status != 0) {
            fprintf(stderr, "roundtrip: a read ended with %d\n", done[index].status);
            exit(1);
          }
        taken += got;
      }
    }
    printf("disk%d %.2f\n", batches[kind],
           (double)(spent() - start) / (double)(turns * batches[kind]));
  }
  MUST(cellmate_block_close(block));
  MUST(cellmate_backend_close(side.backend));
  machine_free(side.machine);
}

int main(int count, char **words) {
  if (count != 3) {
    fprintf(stderr, "usage: roundtrip IMAGE ROUNDS\n");
    return 2;
  }
  long rounds = atol(words[2]);
  if (rounds < 64) rounds = 64;
  ring(rounds);
  disk(rounds, words[1]);
  return 0;
}
