/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in block device and the block front-end: what is written is in the file, also when the
 * back-end is restarted in the middle. */
#include <pthread.h>
#include <string.h>

#include "check.h"

enum { SECOND = 1000000000, DEPTH = 16, UNIT = 4096, UNITS = 512 };

struct side {
  struct machine *machine;
  const char *image;
  cellmate_backend *backend;
  pthread_barrier_t ready;
  pthread_t thread;
};

static void *serve(void *context) {
  struct side *side = context;
  cellmate_platform platform = machine_platform(side->machine, 0);
  cellmate_link *link = NULL;
  cellmate_error error = {.size = sizeof error};
  char specification[512];
  snprintf(specification, sizeof specification, "block,file=%s", side->image);
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, &error), 0);
  SAME(cellmate_backend_create(link, &side->backend, &error), CELLMATE_OK);
  if (cellmate_backend_add(side->backend, 0, specification, &error)) printf("%s\n", error.text);
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_run(side->backend, 20000), CELLMATE_OK);
  SAME(cellmate_backend_close(side->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side) {
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, serve, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  SAME(cellmate_backend_stop(side->backend), CELLMATE_OK);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

/* Transfers all units; restarts the back-end once it is half-way, when asked. */
static void run(cellmate_block *block, uint32_t type, uint32_t salt, struct side *restart) {
  cellmate_buffer buffers[DEPTH];
  int busy[DEPTH] = {0};
  uint32_t direction = type == CELLMATE_BLOCK_READ;
  uint32_t next = 0, done = 0;
  uint64_t limit = now() + 60ull * SECOND;
  for (int slot = 0; slot < DEPTH; slot++)
    SAME(cellmate_block_allocate(block, (int32_t)direction, UNIT, &buffers[slot]), CELLMATE_OK);
  while (done < UNITS && now() < limit) {
    for (uint32_t slot = 0; slot < DEPTH && next < UNITS; slot++) {
      if (busy[slot]) continue;
      cellmate_block_request request = {.type = type,
                                        .token = next << 8 | slot,
                                        .sector = (uint64_t)next * (UNIT / 512),
                                        .data = buffers[slot]};
      if (type == CELLMATE_BLOCK_WRITE)
        for (uint32_t at = 0; at < UNIT / 4; at++)
          ((uint32_t *)buffers[slot].data)[at] = next * 2654435761u + at + salt;
      int taken = cellmate_block_submit(block, &request, 1);
      SAME(taken, 1);
      busy[slot] = 1;
      next++;
    }
    if (restart && done > UNITS / 2) {
      end(restart);
      begin(restart);
      restart = NULL;
    }
    cellmate_block_completion completions[DEPTH];
    int taken = cellmate_block_take(block, completions, DEPTH);
    if (taken == CELLMATE_ERROR_LINK) {
      SAME(cellmate_block_connect(block, limit), CELLMATE_OK);
      continue;
    }
    TRUE(taken >= 0);
    if (taken < 0) break;
    if (taken == 0) cellmate_block_sleep(block, limit);
    for (int index = 0; index < taken; index++) {
      uint32_t slot = completions[index].token & 0xff, unit = completions[index].token >> 8;
      SAME(completions[index].status, 0);
      if (type == CELLMATE_BLOCK_READ)
        for (uint32_t at = 0; at < UNIT / 4; at++)
          if (((uint32_t *)buffers[slot].data)[at] != unit * 2654435761u + at + salt) {
            SAME(unit, -1);
            break;
          }
      busy[slot] = 0;
      done++;
    }
  }
  SAME(done, UNITS);
  for (int slot = 0; slot < DEPTH; slot++)
    SAME(cellmate_block_free(block, (int32_t)direction, &buffers[slot]), CELLMATE_OK);
}

static void wrong(cellmate_block *block) {
  cellmate_buffer buffer;
  SAME(cellmate_block_allocate(block, 0, 1024, &buffer), CELLMATE_OK);
  cellmate_block_request request = {.type = 99, .data = buffer};
  SAME(cellmate_block_submit(block, &request, 1), CELLMATE_ERROR_ARGUMENT);
  request.type = CELLMATE_BLOCK_WRITE;
  request.sector = UINT64_MAX;
  SAME(cellmate_block_submit(block, &request, 1), CELLMATE_ERROR_ARGUMENT);
  request.sector = 0;
  request.data.length = 100;
  SAME(cellmate_block_submit(block, &request, 1), CELLMATE_ERROR_ARGUMENT);
  request.data.offset = 0;
  request.data.length = 512;
  SAME(cellmate_block_submit(block, &request, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_block_submit(block, NULL, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_block_free(block, 0, &buffer), CELLMATE_OK);
  SAME(cellmate_block_free(block, 0, &buffer), CELLMATE_ERROR_ARGUMENT);
}

/* Callers that were built before and after this library. */
static void sizes(cellmate_block *block) {
  cellmate_block_facts older = {.size = offsetof(cellmate_block_facts, discard_max),
                                .discard_max = 77,
                                .write_zeroes_may_unmap = 78};
  SAME(cellmate_block_info(block, &older), CELLMATE_OK);
  SAME(older.size, offsetof(cellmate_block_facts, discard_max));
  SAME(older.capacity, (uint64_t)UNITS * UNIT / 512);
  SAME(older.is_writeback, 1);
  SAME(older.discard_max, 77);
  SAME(older.write_zeroes_may_unmap, 78);
  older.size -= 8;
  SAME(cellmate_block_info(block, &older), CELLMATE_ERROR_SIZE);
  struct {
    cellmate_block_facts known;
    uint64_t more;
  } newer = {.known.size = sizeof newer, .more = 79};
  SAME(cellmate_block_info(block, &newer.known), CELLMATE_OK);
  TRUE(newer.known.discard_max > 0);
  SAME(newer.more, 79);
  struct {
    cellmate_error known;
    uint64_t more;
  } error = {.known.size = sizeof error, .more = 80};
  cellmate_link *link = NULL;
  SAME(cellmate_link_open("rubbish:", CELLMATE_FRONT_END, &link, &error.known),
       CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.known.text, "rubbish") != NULL);
  SAME(error.more, 80);
}

void test_block(const char *image) {
  struct side side = {.machine = machine_make(), .image = image};
  cellmate_platform platform = machine_platform(side.machine, 1);
  cellmate_link *link = NULL;
  cellmate_block *block = NULL;
  FILE *file = fopen(image, "wb");
  fseek(file, UNITS * UNIT - 1, SEEK_SET);
  fputc(0, file);
  fclose(file);
  begin(&side);
  SAME(cellmate_link_open_platform(&platform, CELLMATE_FRONT_END, 0, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_block_create(link, 9, DEPTH, &block, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_block_create(link, 0, DEPTH, &block, NULL), CELLMATE_OK);
  cellmate_block_facts facts = {.size = sizeof facts};
  SAME(cellmate_block_info(block, &facts), CELLMATE_ERROR_LINK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_block_info(block, &facts), CELLMATE_OK);
  SAME(facts.capacity, (uint64_t)UNITS * UNIT / 512);
  SAME(facts.is_read_only, 0);
  SAME(facts.is_writeback, 1);
  SAME(facts.queue_count, 1);
  sizes(block);
  uint64_t time = 0;
  SAME(cellmate_block_time_access(block, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_block_time_access(block, &time), CELLMATE_ERROR_REFUSED);
  cellmate_error error = {.size = sizeof error - 1};
  SAME(cellmate_driver_error(block, &error), CELLMATE_ERROR_SIZE);
  error.size = sizeof error;
  SAME(cellmate_driver_error(block, &error), CELLMATE_OK);
  TRUE(strstr(error.text, "Siemens") != NULL);
  wrong(block);
  run(block, CELLMATE_BLOCK_WRITE, 1, NULL);
  run(block, CELLMATE_BLOCK_READ, 1, NULL);
  run(block, CELLMATE_BLOCK_WRITE, 2, &side);
  run(block, CELLMATE_BLOCK_READ, 2, &side);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(&side);
  file = fopen(image, "rb");
  for (uint32_t unit = 0; unit < UNITS; unit++) {
    uint32_t words[UNIT / 4];
    SAME(fread(words, sizeof words, 1, file), 1);
    for (uint32_t at = 0; at < UNIT / 4; at++)
      if (words[at] != unit * 2654435761u + at + 2) {
        SAME(unit, -1);
        break;
      }
  }
  fclose(file);
  machine_free(side.machine);
}
