/* SPDX-License-Identifier: Apache-2.0 */
/* A link of the Siemens dialect whose descriptors somebody keeps: its driver does not notice that
 * the back-end is another one. What a keeper gives back that is of no use is said and left. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "simulator.h"

enum { SECOND = 1000000000, PLACES = 8, DEPTH = 8, UNIT = 4096, UNITS = 256 };

/* As a service manager keeps them: duplicates under a name, until they are to be forgotten. */
struct store {
  int descriptors[PLACES];
  char names[PLACES][240];
  int takes, keeps, forgets;
  int refuses; /* every keep fails with this errno */
};

static int32_t keep_take(void *context, const char *name) {
  struct store *store = context;
  store->takes++;
  for (int place = 0; place < PLACES; place++)
    if (strcmp(store->names[place], name) == 0)
      return fcntl(store->descriptors[place], F_DUPFD_CLOEXEC, 3);
  return -1;
}

static void keep_forget(void *context, const char *name) {
  struct store *store = context;
  store->forgets++;
  for (int place = 0; place < PLACES; place++)
    if (strcmp(store->names[place], name) == 0) {
      store->names[place][0] = 0;
      close(store->descriptors[place]);
    }
}

static int32_t keep_keep(void *context, const char *name, int32_t descriptor) {
  struct store *store = context;
  store->keeps++;
  TRUE(*name != 0 && strlen(name) < sizeof store->names[0]);
  for (const char *at = name; *at; at++) TRUE(*at > 0x20 && *at < 0x7f && *at != ':');
  if (store->refuses) return -store->refuses;
  for (int place = 0; place < PLACES; place++)
    if (store->names[place][0] == 0) {
      store->descriptors[place] = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
      if (store->descriptors[place] < 0) return -errno;
      strcpy(store->names[place], name);
      return 0;
    }
  return -ENOSPC;
}

static int kept(const struct store *store) {
  int count = 0;
  for (int place = 0; place < PLACES; place++) count += store->names[place][0] != 0;
  return count;
}

static void clear(struct store *store) {
  for (int place = 0; place < PLACES; place++)
    if (store->names[place][0]) close(store->descriptors[place]);
  memset(store, 0, sizeof *store);
}

/* What the library says, for the tests of its words. */
static char said[4096];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void report(void *context, int32_t level, const char *subject, const char *text) {
  (void)context;
  (void)subject;
  pthread_mutex_lock(&said_lock);
  size_t length = strlen(said);
  snprintf(said + length, sizeof said - length, "%s%s\n", level == CELLMATE_INFO ? "" : "! ", text);
  pthread_mutex_unlock(&said_lock);
}

/* Whether that was said since the last call; forgets everything. */
static int was_said(const char *words) {
  pthread_mutex_lock(&said_lock);
  int found = strstr(said, words) != NULL;
  if (!found) printf("said:\n%s", said);
  said[0] = 0;
  pthread_mutex_unlock(&said_lock);
  return found;
}

struct side {
  const char *specification;
  const char *device;
  int is_followed; /* by another back-end, as when a service is started again */
  atomic_int is_ending;
  cellmate_backend *backend;
  pthread_barrier_t ready;
  pthread_t thread;
};

static void *serve(void *context) {
  struct side *side = context;
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  if (cellmate_link_open(side->specification, CELLMATE_BACK_END, &link, &error))
    printf("%s\n", error.text);
  SAME(cellmate_backend_create(link, &side->backend, &error), CELLMATE_OK);
  if (cellmate_backend_add(side->backend, 0, side->device, &error)) printf("%s\n", error.text);
  SAME(cellmate_backend_start(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  int32_t moved;
  int has_asked = 0;
  while ((moved = cellmate_backend_step(side->backend)) == 0 || moved == 1) {
    if (side->is_ending && !has_asked) {
      has_asked = 1;
      SAME(cellmate_backend_quiesce(side->backend, side->is_followed), CELLMATE_OK);
      continue;
    }
    if (moved == 0) cellmate_backend_sleep(side->backend, CELLMATE_FOREVER);
  }
  SAME(moved, 2);
  /* Nobody wakes what is closed. */
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_close(side->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side) {
  side->is_ending = 0;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, serve, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side, int is_followed) {
  side->is_followed = is_followed;
  side->is_ending = 1;
  SAME(cellmate_backend_wake(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

static cellmate_block *connect_disk(const char *specification) {
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  cellmate_block *block = NULL;
  if (cellmate_link_open(specification, CELLMATE_FRONT_END, &link, &error))
    printf("%s\n", error.text);
  SAME(cellmate_block_create(link, 0, DEPTH, &block, &error), CELLMATE_OK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  return block;
}

/* Moves all units, checked when read; another back-end takes over in the middle, when asked. */
static void move(cellmate_block *block, uint32_t type, uint32_t salt, struct side *restart) {
  cellmate_buffer buffers[DEPTH];
  int busy[DEPTH] = {0};
  int32_t direction = type == CELLMATE_BLOCK_READ;
  uint32_t next = 0, done = 0;
  uint64_t limit = now() + 60ull * SECOND;
  for (int slot = 0; slot < DEPTH; slot++)
    SAME(cellmate_block_allocate(block, direction, UNIT, &buffers[slot]), CELLMATE_OK);
  while (done < UNITS && now() < limit) {
    for (uint32_t slot = 0; slot < DEPTH && next < UNITS; slot++) {
      if (busy[slot]) continue;
      cellmate_block_request request = {.type = type,
                                        .token = next << 8 | slot,
                                        .sector = (uint64_t)next * (UNIT / 512),
                                        .data = buffers[slot]};
      if (direction == 0) memset(buffers[slot].data, (int)((next + salt) & 255), UNIT);
      SAME(cellmate_block_submit(block, &request, 1), 1);
      busy[slot] = 1;
      next++;
    }
    if (restart && done > UNITS / 2) {
      end(restart, 1);
      begin(restart);
      restart = NULL;
    }
    cellmate_block_completion completions[DEPTH];
    int taken = cellmate_block_take(block, completions, DEPTH);
    TRUE(taken >= 0);
    if (taken < 0) break;
    if (taken == 0) cellmate_block_sleep(block, limit);
    for (int index = 0; index < taken; index++) {
      uint32_t slot = completions[index].token & 0xff, unit = completions[index].token >> 8;
      const uint8_t *bytes = buffers[slot].data;
      SAME(completions[index].status, 0);
      if (direction == 1) SAME(bytes[0] == ((unit + salt) & 255) && bytes[UNIT - 1] == bytes[0], 1);
      busy[slot] = 0;
      done++;
    }
  }
  SAME(done, UNITS);
  for (int slot = 0; slot < DEPTH; slot++)
    SAME(cellmate_block_free(block, direction, &buffers[slot]), CELLMATE_OK);
}

/* Three back-ends, one after the other; the driver is set up once. */
static void goes_on(struct side *side, struct store *store) {
  begin(side);
  SAME(store->keeps, 2);
  SAME(kept(store), 2);
  cellmate_block *block = connect_disk(side->specification);
  move(block, CELLMATE_BLOCK_WRITE, 1, side);
  TRUE(was_said("goes on where an earlier back-end stopped"));
  SAME(kept(store), 2);
  move(block, CELLMATE_BLOCK_READ, 1, side);
  TRUE(was_said("stopped; its descriptors are kept"));
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(block, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  SAME(counters.resubmitted, 0);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  store->forgets = 0;
  end(side, 0);
  SAME(store->forgets, 2);
  SAME(kept(store), 0);
  TRUE(was_said("left"));
}

/* The link works without being kept when nobody keeps it. */
static void is_refused(struct side *side, struct store *store) {
  store->refuses = EMFILE;
  begin(side);
  TRUE(was_said("! nothing is kept for the next back-end: "));
  cellmate_block *block = connect_disk(side->specification);
  move(block, CELLMATE_BLOCK_WRITE, 2, NULL);
  /* Nobody goes on: this back-end tells its driver. */
  end(side, 1);
  TRUE(was_said("left"));
  SAME(cellmate_driver_step(block), CELLMATE_ERROR_LINK);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  SAME(kept(store), 0);
  store->refuses = 0;
}

/* A file that is no connection, and memory that is no book. */
static void is_rubbish(struct side *side, struct store *store, const char *path) {
  char name[160];
  snprintf(name, sizeof name, "link=%s", path);
  int file = open("/dev/null", O_RDWR | O_CLOEXEC);
  SAME(keep_keep(store, name, file), 0);
  close(file);
  begin(side);
  TRUE(was_said("! the kept connection is of no use: "));
  cellmate_block *block = connect_disk(side->specification);
  end(side, 1);
  SAME(kept(store), 2);
  /* The connection stays, its book is exchanged for one that is too small. */
  struct store own = *store;
  for (int place = 0; place < PLACES; place++)
    if (strncmp(own.names[place], "book=", 5) == 0) {
      close(store->descriptors[place]);
      store->descriptors[place] = memfd_create("short", MFD_CLOEXEC);
    }
  begin(side);
  TRUE(was_said("! nothing is kept for the next back-end: "));
  /* The driver is set up anew, and works. */
  int32_t seen = 0;
  for (uint64_t limit = now() + 60ull * SECOND; seen >= 0 && now() < limit;)
    if ((seen = cellmate_driver_step(block)) == 1) cellmate_driver_sleep(block, limit, 0);
  SAME(seen, CELLMATE_ERROR_LINK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  move(block, CELLMATE_BLOCK_WRITE, 3, NULL);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(side, 0);
  clear(store);
}

/* The book is as large as it has to be, and says nonsense. */
static void is_garbled(struct side *side, struct store *store) {
  begin(side);
  cellmate_block *block = connect_disk(side->specification);
  move(block, CELLMATE_BLOCK_WRITE, 4, NULL);
  end(side, 1);
  for (int place = 0; place < PLACES; place++) {
    struct stat facts;
    if (strncmp(store->names[place], "book=", 5) != 0) continue;
    SAME(fstat(store->descriptors[place], &facts), 0);
    for (off_t at = 0; at < facts.st_size; at += 4)
      SAME(pwrite(store->descriptors[place], "\377\377\377\177", 4, at), 4);
  }
  begin(side);
  TRUE(was_said("! the kept book is of no use; starting anew"));
  int32_t seen = 0;
  for (uint64_t limit = now() + 60ull * SECOND; seen >= 0 && now() < limit;)
    if ((seen = cellmate_driver_step(block)) == 1) cellmate_driver_sleep(block, limit, 0);
  SAME(seen, CELLMATE_ERROR_LINK);
  SAME(cellmate_block_connect(block, now() + 60ull * SECOND), CELLMATE_OK);
  move(block, CELLMATE_BLOCK_READ, 4, NULL);
  SAME(cellmate_block_close(block), CELLMATE_OK);
  end(side, 0);
  clear(store);
}

void test_keeper(const char *image) {
  struct simulator simulator;
  struct store store = {.takes = 0};
  char path[100], specification[160], device[512];
  snprintf(path, sizeof path, "%s.link", image);
  snprintf(specification, sizeof specification, "sim:%s,dialect=siemens", path);
  snprintf(device, sizeof device, "block,file=%s.kept", image);
  FILE *file = fopen(device + sizeof "block,file=" - 1, "wb");
  fseek(file, UNITS * UNIT - 1, SEEK_SET);
  fputc(0, file);
  fclose(file);
  simulator_begin(&simulator, path);
  cellmate_keeper keeper = {.size = sizeof keeper,
                            .context = &store,
                            .take = keep_take,
                            .keep = keep_keep,
                            .forget = keep_forget};
  SAME(cellmate_set_keeper(&keeper), CELLMATE_OK);
  cellmate_set_report(report, NULL);
  struct side side = {.specification = specification, .device = device};
  goes_on(&side, &store);
  is_refused(&side, &store);
  is_rubbish(&side, &store, path);
  is_garbled(&side, &store);
  SAME(cellmate_set_keeper(NULL), CELLMATE_OK);
  cellmate_set_report(NULL, NULL);
  simulator_end(&simulator);
}
