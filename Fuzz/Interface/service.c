/* SPDX-License-Identifier: Apache-2.0 */
/* What a service needs of the library, in the hands of a caller who does everything wrong
 * (interface.c): links by name, epoll, counters, a keeper, reports; and the set-ups.
 *
 * In a folder of its own each process serves sockets, "vhost-user:h0" and its like, with threads
 * of its own. Where CELLMATE_FUZZ_LINKS names a folder with simulated links, they are used as well:
 * "native" and "siemens" are there for the bytes, "served" has an honest back-end. */
#include "interface.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { NAMES = 8, SERVERS = 5 };

void *served, *running;
static const char *links_folder;
static int epoll = -1, hangup_event = -1, listener = -1, far_end = -1;

/* ---- the process's own ------------------------------------------------------------------------ */

static struct kept {
  char name[64];
  int descriptor;
} kept[NAMES];

static int32_t take_kept(void *context, const char *name) {
  (void)context;
  CHECK(name != NULL && strchr(name, ':') == NULL);
  for (unsigned index = 0; index < NAMES; index++) {
    if (kept[index].descriptor < 0 || strcmp(kept[index].name, name) != 0) continue;
    int descriptor = kept[index].descriptor;
    kept[index].descriptor = -1;
    return descriptor;
  }
  /* Another keeper's mistake: something else under that name. */
  return byte() > 250 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
}
static void forget_kept(void *context, const char *name) {
  (void)context;
  for (unsigned index = 0; index < NAMES; index++) {
    if (kept[index].descriptor < 0 || strcmp(kept[index].name, name) != 0) continue;
    close(kept[index].descriptor);
    kept[index].descriptor = -1;
  }
}
static int32_t keep_kept(void *context, const char *name, int32_t descriptor) {
  forget_kept(context, name);
  if (byte() > 240) return -ENOSPC;
  for (unsigned index = 0; index < NAMES; index++) {
    if (kept[index].descriptor >= 0) continue;
    snprintf(kept[index].name, sizeof kept[index].name, "%s", name);
    kept[index].descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    CHECK(kept[index].descriptor >= 0);
    return 0;
  }
  return -ENOSPC;
}

/* From threads of the library, too. */
static void hear(void *context, const char *line) {
  CHECK(context == &served && line != NULL && *line != 0 && strchr(line, '\n') == NULL);
}
static void hear_report(void *context, int32_t level, const char *subject, const char *text) {
  CHECK(level >= CELLMATE_INFO && level <= CELLMATE_ERROR && subject != NULL);
  hear(context, text);
}

static void process(uint8_t kind) {
  cellmate_keeper keeper = {.size = size_of(sizeof keeper), .take = take_kept, .keep = keep_kept,
                            .forget = forget_kept};
  if (keeper.size > sizeof keeper) keeper.size = 0;
  uint8_t address[6] = {2, 0, 0, 0, 0, 1};
  cellmate_tap_counters tap = {.size = size_of(sizeof tap)};
  if (tap.size > sizeof tap) tap.size = 0;
  static const char *const texts[] = {"block,file=d", "block,file=d,readonly", "entropy", "console,log=l",
      "network,mac=02:00:00:00:00:01,switch=lan", "network,mac=02:00:00:00:00:01,tap=x", "toaster", ""};
  uint8_t lie = byte();
  switch (kind % 9) {
    case 0:
      if (lie > 200) keeper.take = NULL;
      if (lie > 210) keeper.keep = NULL;
      if (lie > 220) keeper.forget = NULL;
      checked(cellmate_set_keeper(lie < 240 ? &keeper : NULL));
      break;
    case 1: cellmate_set_log(lie < 200 ? hear : NULL, &served); break;
    case 2: cellmate_set_report(lie < 200 ? hear_report : NULL, &served); break;
    case 3: 
      /* No descriptor that is another's. */
      checked(cellmate_watch_hangups(lie < 230 ? hangup_event : (int32_t)(number() | 0x40000000),
          lie < 240 ? lie & 1 : (int32_t)number()));
      break;
    case 4: cellmate_hangups(); break;
    case 5: CHECK(checked(cellmate_set_carrier(lie < 250 ? address : NULL, lie & 1)) <= 1); break;
    case 6: checked(cellmate_tap((uint32_t)number(), lie < 250 ? &tap : NULL)); break;
    case 7: {
      const char *one = lie < 250 ? texts[lie & 7] : NULL, *other = byte() < 250 ? texts[lie >> 3 & 7] : NULL;
      cellmate_error error = {.size = sizeof error};
      checked(cellmate_device_check(one, lie & 1, &error));
      CHECK(checked(cellmate_device_compare(one, other)) <= (CELLMATE_SAME | CELLMATE_EXCLUDES));
      break;
    }
    default: CHECK(cellmate_result_text((int32_t)number()) != NULL && cellmate_version() != 0);
  }
}

void restart_service(void) {
  checked(cellmate_set_keeper(NULL));
  cellmate_set_report(NULL, NULL);
  cellmate_set_log(NULL, NULL);
  if (hangup_event >= 0) checked(cellmate_watch_hangups(hangup_event, 0));
  for (unsigned index = 0; index < NAMES; index++) {
    if (kept[index].descriptor >= 0) close(kept[index].descriptor);
    kept[index].descriptor = -1;
  }
  if (far_end >= 0) close(far_end);
  far_end = -1;
  int stale;
  while (listener >= 0 && (stale = accept(listener, NULL, NULL)) >= 0) close(stale);
}

/* ---- back-ends of other threads ---------------------------------------------------------------- */

static struct server {
  const char *link;
  const char *devices[4];
  cellmate_backend *backend;
  pthread_t thread;
  pthread_barrier_t ready;
} servers[SERVERS] = {
    {"vhost-user:h0", {"block,file=h"}, NULL, 0, {{0}}},
    {"vhost-user:h1", {"entropy"}, NULL, 0, {{0}}},
    {"vhost-user:h2", {"console,log=hl"}, NULL, 0, {{0}}},
    {"vhost-user:h3", {"network,mac=02:00:00:00:00:03,switch=wide"}, NULL, 0, {{0}}},
    {"served", {"block,file=s", "entropy", "console,log=sl", "network,mac=02:00:00:00:00:04,switch=wide"}, NULL, 0, {{0}}}};

/* What these threads have stays until the end; a leak checker does not find all of it. */
void __lsan_disable(void) __attribute__((weak));

static void *serve_honestly(void *context) {
  if (__lsan_disable) __lsan_disable();
  struct server *own = context;
  cellmate_link *link = NULL;
  char text[160];
  if (strchr(own->link, ':')) {
    snprintf(text, sizeof text, "%s", own->link);
  } else {
    snprintf(text, sizeof text, "sim:%s/%s,peer=0", links_folder ? links_folder : "/nowhere", own->link);
  }
  if (cellmate_link_open(text, CELLMATE_BACK_END, &link, NULL) == CELLMATE_OK) {
    CHECK(cellmate_backend_create(link, &own->backend, NULL) == CELLMATE_OK);
    for (uint32_t slot = 0; slot < 4 && own->devices[slot]; slot++)
      CHECK(cellmate_backend_add(own->backend, slot, own->devices[slot], NULL) == CELLMATE_OK);
    CHECK(cellmate_backend_start(own->backend) == CELLMATE_OK);
  }
  pthread_barrier_wait(&own->ready);
  if (own->backend) cellmate_backend_run(own->backend, 0);
  return NULL;
}

/* A handle of another thread is seen, whatever is asked of it. */
static void foreign(uint8_t kind) {
  cellmate_backend *own = servers[byte() % SERVERS].backend;
  if (!own) return;
  uint32_t word;
  uint64_t time;
  cellmate_backend_facts facts = {.size = sizeof facts};
  int32_t result = CELLMATE_ERROR_THREAD;
  switch (kind % 10) {
    case 0: result = cellmate_backend_step(own); break;
    case 1: result = cellmate_backend_sleep(own, later(0)); break;
    case 2: result = cellmate_backend_close(own); break;
    case 3: result = cellmate_backend_quiesce(own, 0); break;
    case 4: result = cellmate_backend_watch(own, epoll, 1); break;
    case 5: result = cellmate_backend_deadline(own, &time); break;
    case 6: result = cellmate_backend_run(own, 0); break;
    case 7: CHECK(cellmate_backend_wake(own) == CELLMATE_OK); break;
    case 8: checked(cellmate_backend_look(own, 0, &word, 4)); break;
    default: checked(cellmate_backend_info(own, &facts));
  }
  CHECK(result == CELLMATE_ERROR_THREAD);
}

static void blank_file(const char *name) {
  int file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  CHECK(file >= 0 && ftruncate(file, 1 << 16) == 0);
  close(file);
}

void prepare_service(void) {
  links_folder = getenv("CELLMATE_FUZZ_LINKS");
  for (unsigned index = 0; index < NAMES; index++) kept[index].descriptor = -1;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  hangup_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "far"};
  CHECK(epoll >= 0 && hangup_event >= 0);
  CHECK(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(listener, 4) == 0);
  blank_file("h");
  blank_file("s");
  for (unsigned index = 0; index < SERVERS; index++) {
    pthread_barrier_init(&servers[index].ready, NULL, 2);
    CHECK(pthread_create(&servers[index].thread, NULL, serve_honestly, &servers[index]) == 0);
    pthread_barrier_wait(&servers[index].ready);
  }
}

/* ---- links by name ----------------------------------------------------------------------------- */

static void name_of(char *text, size_t size) {
  static const char *const tails[] = {"", ",peer=0", ",peer=1", ",peer=0,other=1", ",peer=1,other=0",
      ",dialect=siemens", ",dialect=native", ",placement=shared", ",placement=output", ",peer=9", ",x", ","};
  static const char *const sims[] = {"native", "siemens", "served", "none"};
  uint8_t choice = byte();
  if (choice & 1) {
    snprintf(text, size, "vhost-user:%s%d", choice & 2 ? "h" : "v", choice >> 2 & 3);
    return;
  }
  uint8_t tail = byte();
  snprintf(text, size, "sim:%s/%s%s", links_folder ? links_folder : "/nowhere", sims[choice >> 1 & 3],
      tail < 128 ? "" : tails[tail % 12]);
}

static void named(uint8_t kind) {
  char text[200];
  name_of(text, sizeof text);
  cellmate_error error = {.size = sizeof error};
  memset(error.text, 'x', sizeof error.text);
  cellmate_link *link = NULL;
  cellmate_observer *observer = NULL;
  cellmate_link_facts facts = {.size = size_of(sizeof facts)};
  if (facts.size > sizeof facts) facts.size = 0;
  int32_t result = 0;
  switch (kind % 6) {
    case 0: case 1:
      result = cellmate_link_open(text, kind & 1 ? CELLMATE_BACK_END : CELLMATE_FRONT_END, &link, &error);
      keep(result, result == CELLMATE_OK ? noted(link) : NULL);
      break;
    case 2:
      result = cellmate_observer_open(text, &observer, &error);
      keep(result, result == CELLMATE_OK ? noted(observer) : NULL);
      break;
    case 3: checked(cellmate_observer_info(handle(), byte() < 250 ? &facts : NULL)); break;
    case 4: {
      uint64_t delivered, dropped;
      checked(cellmate_observer_interrupts(handle(), (uint32_t)number(), byte() < 250 ? &delivered : NULL, &dropped));
      break;
    }
    default: checked(cellmate_observer_close(handle()));
  }
  if (result != CELLMATE_OK && kind % 6 < 3) {
    size_t length = strnlen(error.text, sizeof error.text);
    CHECK(length > 3 && length < sizeof error.text && memchr(error.text, '\n', length) == NULL);
  }
}

/* Every word of a link's memory that may be read can be read. */
static void memory_of(void *own) {
  cellmate_link_facts facts = {.size = sizeof facts};
  if (checked(cellmate_link_info(own, &facts)) != CELLMATE_OK) return;
  CHECK(facts.memory != NULL && facts.max_peers >= 2);
  uint64_t total = facts.state_table_size + facts.read_write_size + facts.max_peers * facts.output_size;
  uint64_t at = number() % (total - 3) & ~3ull;
  volatile uint32_t *word = (volatile uint32_t *)((char *)facts.memory + at);
  uint32_t seen = *word;
  uint64_t start = facts.state_table_size + facts.read_write_size + facts.peer_id * facts.output_size;
  if (at >= start && at < start + facts.output_size) *word = seen ^ byte();
}

/* ---- back-ends --------------------------------------------------------------------------------- */

static void waiting(void *own, uint8_t kind) {
  uint64_t deadline;
  struct epoll_event seen;
  switch (kind % 10) {
    case 0: checked(cellmate_backend_watch(own, byte() < 230 ? epoll : (int32_t)number(), number())); break;
    case 1: checked(cellmate_backend_unwatch(own, byte() < 230 ? epoll : (int32_t)number())); break;
    case 2: case 3: {
      /* In order, most of the time. */
      int32_t result = checked(cellmate_backend_prepare_sleep(own));
      CHECK(result <= 1);
      if (result == 1 && byte() < 220)
        checked(byte() < 128 ? cellmate_backend_end_sleep(own) : cellmate_backend_stay_awake(own));
      break;
    }
    case 4: checked(cellmate_backend_stay_awake(own)); break;
    case 5: CHECK(checked(cellmate_backend_end_sleep(own)) <= CELLMATE_WAIT_GONE); break;
    case 6: CHECK(checked(cellmate_backend_poll(own)) <= CELLMATE_WAIT_GONE); break;
    case 7: checked(cellmate_backend_deadline(own, byte() < 250 ? &deadline : NULL)); break;
    case 8: CHECK(epoll_wait(epoll, &seen, 1, 0) >= 0); break;
    default: checked(cellmate_backend_quiesce(own, byte() < 240 ? byte() & 1 : (int32_t)number()));
  }
}

static void look(void *own, uint8_t kind) {
  cellmate_backend_facts facts = {.size = size_of(sizeof facts)};
  cellmate_counter counter = {.size = size_of(sizeof counter)};
  cellmate_device_facts device = {.size = size_of(sizeof device)};
  if (facts.size > sizeof facts) facts.size = 0;
  if (counter.size > sizeof counter) counter.size = 0;
  if (device.size > sizeof device) device.size = 0;
  uint8_t choice = byte();
  uint32_t count = choice < 230 ? choice : (uint32_t)(number() % 2000);
  switch (kind % 6) {
    case 0: checked(cellmate_backend_info(own, choice < 250 ? &facts : NULL)); break;
    case 1: checked(cellmate_backend_counter(own, choice < 200 ? choice : (uint32_t)number(), &counter)); break;
    case 2: {
      uint64_t *values = malloc(count * sizeof *values);
      checked(cellmate_backend_counters(own, choice < 250 ? values : NULL, count));
      free(values);
      break;
    }
    case 3: checked(cellmate_backend_device(own, choice < 200 ? choice & 7 : (uint32_t)number(), &device)); break;
    case 4: {
      cellmate_ring *rings = malloc(count * sizeof *rings);
      checked(cellmate_backend_rings(own, choice < 250 ? rings : NULL, count));
      free(rings);
      break;
    }
    default: {
      size_t length = choice < 200 ? choice & ~3u : (size_t)(number() % 5000);
      void *words = malloc(length);
      checked(cellmate_backend_look(own, byte() < 200 ? number() & ~3ull : number(), choice < 250 ? words : NULL, length));
      free(words);
    }
  }
}

static void run(void *own) {
  if (byte() & 1) checked(cellmate_backend_stop(own));
  /* Over a link by name nobody would end it. */
  if (is_real || running) return;
  running = own;
  checked(cellmate_backend_run(own, byte() < 200 ? 0 : number() % 3000));
  running = NULL;
}

static void far(void) {
  if (far_end < 0) far_end = accept(listener, NULL, NULL);
  if (far_end < 0) return;
  uint8_t frame[300], choice = byte();
  uint32_t length = choice < 200 ? choice : (uint32_t)number();
  if (choice & 1) {
    ssize_t got = recv(far_end, frame, sizeof frame, MSG_DONTWAIT);
    (void)got;
    return;
  }
  memset(frame, choice, sizeof frame);
  frame[0] = (uint8_t)(length >> 24), frame[1] = (uint8_t)(length >> 16);
  frame[2] = (uint8_t)(length >> 8), frame[3] = (uint8_t)length;
  ssize_t sent = send(far_end, frame, choice < 200 ? 4 + length : 100, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)sent;
  if (choice == 198) close(far_end), far_end = -1;
}

void serve(uint8_t kind) {
  void *own = byte() < 220 && served ? served : handle();
  uint8_t detail = byte();
  switch (kind % 16) {
    case 0: case 1: case 2: waiting(own, detail); break;
    case 3: case 4: look(own, detail); break;
    case 5: run(own); break;
    case 6: case 7: process(detail); break;
    case 8: case 9: if (is_real) named(detail); else look(own, detail); break;
    case 10: if (is_real) foreign(detail); else waiting(own, detail); break;
    case 11: memory_of(handle()); break;
    case 12: checked(detail & 1 ? cellmate_link_adopt(handle()) : cellmate_registers_close(handle())); break;
    case 13: far(); break;
    default: for (int count = 0; count < 4; count++) checked(cellmate_backend_step(own));
  }
}

/* ---- set-ups ----------------------------------------------------------------------------------- */

static cellmate_backend *make_backend(cellmate_link *link) {
  cellmate_backend *made = NULL;
  if (checked(cellmate_backend_create(link, &made, NULL)) != CELLMATE_OK) {
    checked(cellmate_link_close(link));
    return NULL;
  }
  served = handles[0] = noted(made);
  return made;
}

/* A driver of one kind over plain memory, and its device: a built-in one, one that gives back what
 * it gets, or one that answers anything. */
static void set_up_plain(uint8_t choice) {
  static const char *const texts[] = {"block,file=d", "entropy", "console,log=l",
      "network,mac=02:00:00:00:00:01,switch=lan"};
  static const uint32_t ids[] = {2, 4, 3, 1};
  unsigned kind = choice & 3, shape = byte() & 3;
  for (uint32_t id = 0; id < 2; id++) {
    cellmate_platform given = platform(id);
    cellmate_link *link = NULL;
    CHECK(cellmate_link_open_platform(&given, id == 0 ? CELLMATE_BACK_END : CELLMATE_FRONT_END,
              1 - id, 0, &link, NULL) == CELLMATE_OK);
    noted(link);
    if (id == 1) {
      set_up_driver(1, kind, link);
      break;
    }
    cellmate_backend *made = make_backend(link);
    CHECK(made != NULL);
    cellmate_device device = shape == 2 ? mirror_device(made, 1, ids[kind]) : wrong_device(ids[kind]);
    if (shape < 2 || (shape == 2 && kind < 2)) {
      cellmate_error error = {.size = sizeof error};
      int32_t result = cellmate_backend_add(made, 1, texts[kind], &error);
      if (result != CELLMATE_OK) fprintf(stderr, "%s: %s\n", texts[kind], error.text);
      CHECK(result == CELLMATE_OK);
    } else {
      CHECK(cellmate_backend_add_device(made, 1, &device) == CELLMATE_OK);
    }
    if (choice & 4) checked(cellmate_backend_add(made, 0, texts[byte() & 3], NULL));
    CHECK(cellmate_backend_start(made) == CELLMATE_OK);
  }
}

/* Links by their names: a driver of a back-end in another thread, or a back-end. */
static void set_up_named(uint8_t choice) {
  char text[200];
  cellmate_link *link = NULL;
  unsigned kind = choice & 3;
  switch (choice >> 2 & 3) {
    case 0: snprintf(text, sizeof text, "vhost-user:h%u", kind); break;
    case 1: snprintf(text, sizeof text, "sim:%s/served,peer=1,other=0", links_folder ? links_folder : "/nowhere"); break;
    case 2: snprintf(text, sizeof text, "sim:%s/%s,peer=0", links_folder ? links_folder : "/nowhere",
                choice & 16 ? "siemens,dialect=siemens" : "native"); break;
    default: snprintf(text, sizeof text, "vhost-user:v%u", kind);
  }
  int is_driver = (choice >> 2 & 3) < 2;
  int32_t result = checked(cellmate_link_open(text, is_driver ? CELLMATE_FRONT_END : CELLMATE_BACK_END, &link, NULL));
  if (result != CELLMATE_OK) return;
  noted(link);
  if (is_driver) {
    /* Each device of the link that is served has the slot of its kind. */
    set_up_driver(choice & 4 ? kind : 0, kind, link);
    /* The back-end is a thread: a little more of the machine's time. */
    for (int count = 0; driven && count < 40 && byte() < 230; count++)
      if (checked(cellmate_driver_connect(driven, later(300000))) == CELLMATE_OK) break;
    return;
  }
  process(0);
  cellmate_backend *made = make_backend(link);
  if (!made) return;
  checked(cellmate_backend_add(made, 0, kind == 0 ? "block,file=d" : kind == 1 ? "entropy" : "console,log=l", NULL));
  checked(cellmate_backend_watch(made, epoll, 7));
  checked(cellmate_backend_start(made));
}

void set_up_service(uint8_t choice) {
  if (is_real) {
    set_up_named(byte());
  } else {
    set_up_plain(choice);
  }
}
