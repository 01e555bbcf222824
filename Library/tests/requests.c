/* SPDX-License-Identifier: Apache-2.0 */
/* What only some devices can do, over each way: discards and write zeroes within their limits, and
 * a console's emergency register, before and beside its queues. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "simulator.h"

enum { SECOND = 1000000000, UNIT = 4096, UNITS = 64, SECTORS = UNIT / 512 };

struct side {
  const char *specification;
  const char *device; /* NULL: the caller's, which offers nothing */
  uint32_t type;
  cellmate_backend *backend;
  pthread_barrier_t ready;
  pthread_t thread;
};

static int64_t serve_nothing(void *context, const cellmate_request *request) {
  (void)context;
  (void)request;
  return 0;
}

static void *run(void *context) {
  struct side *side = context;
  static const uint8_t configuration[60] = {64};
  cellmate_device device = {.size = sizeof device,
                            .device_id = side->type,
                            .queue_count = side->type == 2 ? 1 : 2,
                            .queue_size_max = 256,
                            .chain_length_max = 4,
                            .configuration = configuration,
                            .configuration_size = sizeof configuration,
                            .serve = serve_nothing};
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  SAME(cellmate_link_open(side->specification, CELLMATE_BACK_END, &link, &error), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &side->backend, &error), CELLMATE_OK);
  if (side->device == NULL)
    SAME(cellmate_backend_add_device(side->backend, 0, &device), CELLMATE_OK);
  else if (cellmate_backend_add(side->backend, 0, side->device, &error))
    printf("%s\n", error.text);
  SAME(cellmate_backend_start(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_run(side->backend, 0), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_close(side->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side, const char *specification, const char *device, uint32_t type) {
  memset(side, 0, sizeof *side);
  side->specification = specification;
  side->device = device;
  side->type = type;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, run, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  SAME(cellmate_backend_stop(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

static cellmate_link *join(const char *specification) {
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  if (cellmate_link_open(specification, CELLMATE_FRONT_END, &link, &error))
    printf("%s\n", error.text);
  return link;
}

static void says(cellmate_driver *driver, const char *words) {
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_driver_error(driver, &error), CELLMATE_OK);
  TRUE(strstr(error.text, words) != NULL);
  if (!strstr(error.text, words)) printf("'%s' instead of '%s'\n", error.text, words);
}

/* ---- the disk --------------------------------------------------------------------------------- */

/* One request and its end; the status, or the error of the submission. */
static int32_t request(cellmate_block *block, uint32_t type, uint64_t sector, uint64_t length,
                       const cellmate_buffer *buffer) {
  cellmate_block_request request = {.type = type, .token = 7, .sector = sector};
  cellmate_block_completion done = {.token = 0};
  if (buffer) request.data = *buffer;
  request.data.length = length;
  int32_t taken = cellmate_block_submit(block, &request, 1);
  if (taken < 0) return taken;
  SAME(taken, 1);
  uint64_t limit = now() + 60ull * SECOND;
  while ((taken = cellmate_block_take(block, &done, 1)) == 0 && now() < limit)
    cellmate_block_sleep(block, limit);
  SAME(taken, 1);
  SAME(done.token, 7);
  if (!buffer) SAME(done.data.length, 0);
  return done.status;
}

static int is_all(const cellmate_buffer *buffer, uint8_t value) {
  const uint8_t *bytes = buffer->data;
  for (int at = 0; at < UNIT; at++)
    if (bytes[at] != value) return 0;
  return 1;
}

static void ranges(cellmate_block *block, const cellmate_block_facts *facts) {
  cellmate_buffer out, in;
  SAME(cellmate_block_allocate(block, 0, UNIT, &out), CELLMATE_OK);
  SAME(cellmate_block_allocate(block, 1, UNIT, &in), CELLMATE_OK);
  for (uint64_t unit = 0; unit < UNITS; unit++) {
    memset(out.data, (int)unit + 1, UNIT);
    SAME(request(block, CELLMATE_BLOCK_WRITE, unit * SECTORS, UNIT, &out), 0);
  }
  /* Units 8 to 15 and 16 to 23 are zeroes, with their storage and without; 24 to 31 are gone. */
  SAME(request(block, CELLMATE_BLOCK_WRITE_ZEROES, 8 * SECTORS, 8 * UNIT, NULL), 0);
  uint32_t unmap = CELLMATE_BLOCK_WRITE_ZEROES | CELLMATE_BLOCK_MAY_UNMAP;
  SAME(request(block, unmap, 16 * SECTORS, 8 * UNIT, NULL), 0);
  SAME(request(block, CELLMATE_BLOCK_DISCARD, 24 * SECTORS, 8 * UNIT, NULL), 0);
  SAME(request(block, CELLMATE_BLOCK_FLUSH, 0, 0, NULL), 0);
  for (uint64_t unit = 0; unit < UNITS; unit++) {
    if (unit >= 24 && unit < 32) continue;
    SAME(request(block, CELLMATE_BLOCK_READ, unit * SECTORS, UNIT, &in), 0);
    TRUE(is_all(&in, unit >= 8 && unit < 24 ? 0 : (uint8_t)(unit + 1)));
  }
  /* What no device may get. */
  uint32_t types[] = {CELLMATE_BLOCK_DISCARD, CELLMATE_BLOCK_WRITE_ZEROES};
  uint32_t limits[] = {facts->discard_max, facts->write_zeroes_max};
  for (int index = 0; index < 2; index++) {
    SAME(request(block, types[index], 0, 0, NULL), CELLMATE_ERROR_ARGUMENT);
    SAME(request(block, types[index], 0, 100, NULL), CELLMATE_ERROR_ARGUMENT);
    SAME(request(block, types[index], 0, UINT64_MAX, NULL), CELLMATE_ERROR_ARGUMENT);
    SAME(request(block, types[index], 0, UINT64_MAX - 511, NULL), CELLMATE_ERROR_ARGUMENT);
    SAME(request(block, types[index], UNITS * SECTORS - 1, 1024, NULL), CELLMATE_ERROR_ARGUMENT);
    says(block, "2 sectors from 511, the disk has 512");
    SAME(request(block, types[index], UINT64_MAX, 512, NULL), CELLMATE_ERROR_ARGUMENT);
    SAME(request(block, types[index], 0, (limits[index] + 1ull) * 512, NULL),
         CELLMATE_ERROR_ARGUMENT);
    says(block, "a request may name at most");
  }
  SAME(request(block, CELLMATE_BLOCK_DISCARD | CELLMATE_BLOCK_MAY_UNMAP, 0, 512, NULL),
       CELLMATE_ERROR_ARGUMENT);
  SAME(request(block, CELLMATE_BLOCK_WRITE | CELLMATE_BLOCK_MAY_UNMAP, 0, 512, &out),
       CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_block_free(block, 0, &out), CELLMATE_OK);
  SAME(cellmate_block_free(block, 1, &in), CELLMATE_OK);
}

static void disk(const char *specification, const char *image) {
  struct side side;
  char device[512];
  cellmate_block *block = NULL;
  cellmate_block_facts facts = {.size = sizeof facts};
  snprintf(device, sizeof device, "block,file=%s.ranges", image);
  FILE *file = fopen(device + sizeof "block,file=" - 1, "wb");
  fseek(file, UNITS * UNIT - 1, SEEK_SET);
  fputc(0, file);
  fclose(file);
  begin(&side, specification, device, 2);
  SAME(cellmate_block_create(join(specification), 0, 4, &block, NULL), CELLMATE_OK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_block_info(block, &facts), CELLMATE_OK);
  TRUE(facts.features >> 13 & facts.features >> 14 & 1);
  TRUE(facts.discard_max > 0 && facts.write_zeroes_max > 0 && facts.discard_alignment > 0);
  ranges(block, &facts);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(&side);
  /* Read-only, then a device that has neither. */
  strcat(device, ",readonly");
  begin(&side, specification, device, 2);
  SAME(cellmate_block_create(join(specification), 0, 4, &block, NULL), CELLMATE_OK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(request(block, CELLMATE_BLOCK_DISCARD, 0, 512, NULL), CELLMATE_ERROR_REFUSED);
  SAME(request(block, CELLMATE_BLOCK_WRITE_ZEROES, 0, 512, NULL), CELLMATE_ERROR_REFUSED);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(&side);
  begin(&side, specification, NULL, 2);
  SAME(cellmate_block_create(join(specification), 0, 4, &block, NULL), CELLMATE_OK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_block_info(block, &facts), CELLMATE_OK);
  SAME(facts.discard_max, 0);
  SAME(facts.write_zeroes_max, 0);
  SAME(facts.write_zeroes_may_unmap, 0);
  SAME(request(block, CELLMATE_BLOCK_DISCARD, 0, 512, NULL), CELLMATE_ERROR_REFUSED);
  says(block, "the device does not offer discard");
  SAME(request(block, CELLMATE_BLOCK_WRITE_ZEROES, 0, 512, NULL), CELLMATE_ERROR_REFUSED);
  says(block, "the device does not offer writeZeroes");
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(&side);
}

/* ---- the console ------------------------------------------------------------------------------ */

/* Waits until the log holds exactly that. */
static void logged(const char *path, const char *words) {
  char bytes[256] = "";
  for (uint64_t limit = now() + 60ull * SECOND; strcmp(bytes, words) != 0 && now() < limit;) {
    FILE *file = fopen(path, "rb");
    size_t count = file ? fread(bytes, 1, sizeof bytes - 1, file) : 0;
    bytes[count] = 0;
    if (file) fclose(file);
  }
  SAME(strcmp(bytes, words), 0);
  if (strcmp(bytes, words)) printf("'%s' instead of '%s'\n", bytes, words);
}

static int32_t cry(cellmate_driver *driver, const char *words) {
  return cellmate_console_emergency(driver, words, strlen(words), now() + 60ull * SECOND);
}

static void console(const char *specification, const char *image, int32_t nobody) {
  struct side side;
  char path[200], device[512];
  cellmate_driver *driver = NULL;
  snprintf(path, sizeof path, "%s.log", image);
  snprintf(device, sizeof device, "console,log=%s", path);
  unlink(path);
  SAME(cellmate_console_create(join(specification), 0, 0, &driver, NULL), CELLMATE_OK);
  /* Nobody is there; then there is, and nothing was set up. */
  SAME(cellmate_console_emergency(driver, "x", 1, now() + SECOND / 50), nobody);
  SAME(cellmate_console_emergency(driver, NULL, 1, 0), CELLMATE_ERROR_ARGUMENT);
  begin(&side, specification, device, 3);
  SAME(cry(driver, "one "), 4);
  SAME(cry(driver, ""), 0);
  logged(path, "one ");
  SAME(cry(driver, "aaa "), 4);
  SAME(cellmate_driver_step(driver), CELLMATE_ERROR_LINK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_console_write(driver, "two ", 4), 4);
  while (cellmate_driver_pending(driver) > 0) cellmate_driver_sleep(driver, now() + SECOND, 0);
  logged(path, "one aaa two ");
  SAME(cry(driver, "three "), 6);
  SAME(cellmate_console_write(driver, "four", 4), 4);
  logged(path, "one aaa two three four");
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  end(&side);
  /* A console without the register, and no console. */
  begin(&side, specification, NULL, 3);
  SAME(cellmate_console_create(join(specification), 0, 0, &driver, NULL), CELLMATE_OK);
  SAME(cry(driver, "x"), CELLMATE_ERROR_REFUSED);
  says(driver, "the console has no emergency register");
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  SAME(cellmate_entropy_create(join(specification), 0, 1, 16, &driver, NULL), CELLMATE_OK);
  SAME(cry(driver, "x"), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  end(&side);
}

void test_requests(const char *image) {
  struct simulator simulator;
  char path[100], native[160], siemens[160], socket[160];
  snprintf(path, sizeof path, "%s.link", image);
  snprintf(native, sizeof native, "sim:%s,dialect=native", path);
  snprintf(siemens, sizeof siemens, "sim:%s,dialect=siemens", path);
  snprintf(socket, sizeof socket, "vhost-user:%s.vhost", image);
  const char *ways[] = {native, siemens, socket};
  simulator_begin(&simulator, path);
  for (int index = 0; index < 3; index++) {
    disk(ways[index], image);
    console(ways[index], image, index == 2 ? CELLMATE_ERROR_TEXT : CELLMATE_ERROR_DEADLINE);
  }
  simulator_end(&simulator);
}
