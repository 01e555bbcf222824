/* SPDX-License-Identifier: Apache-2.0 */
/* What a driver says when nobody answers in time: nobody has been there yet, the back-end went and
 * does not come back, a device keeps a request for ever; over each way. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "simulator.h"

enum { SECOND = 1000000000, SHORT = SECOND / 50, KEPT = 512 };

static void says(cellmate_driver *driver, const char *words) {
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_driver_error(driver, &error), CELLMATE_OK);
  TRUE(strstr(error.text, words) != NULL);
  TRUE(strchr(error.text, '\n') == NULL);
  if (!strstr(error.text, words)) printf("'%s' instead of '%s'\n", error.text, words);
}

static cellmate_link *join(const char *specification) {
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link = NULL;
  if (cellmate_link_open(specification, CELLMATE_FRONT_END, &link, &error))
    printf("%s\n", error.text);
  return link;
}

/* A network device that keeps a command until it may answer, or is stopped. */
struct side {
  const char *specification;
  cellmate_backend *backend;
  uint64_t tickets[KEPT];
  uint64_t kept; /* the command */
  cellmate_segment answer;
  int count, is_closing, answers;
  atomic_int is_ending, may_answer;
  pthread_barrier_t ready;
  pthread_t thread;
};

static int64_t serve(void *context, const cellmate_request *request) {
  struct side *side = context;
  if (request->queue == 0 && side->count == KEPT) return 0;
  if (request->queue == 1) return 0;
  if (request->queue == 2 && side->kept == 0) {
    side->kept = request->ticket;
    side->answer = request->writable[0];
    return CELLMATE_PENDING;
  }
  side->tickets[side->count++] = request->ticket;
  return CELLMATE_PENDING;
}

static void stop(void *context) {
  struct side *side = context;
  int32_t result = side->is_closing ? CELLMATE_ERROR_HANDLE : CELLMATE_OK;
  if (side->kept) SAME(cellmate_backend_complete(side->backend, 0, side->kept, 0), result);
  side->kept = 0;
  while (side->count > 0)
    SAME(cellmate_backend_complete(side->backend, 0, side->tickets[--side->count], 0), result);
}

static void cancel(void *context, uint32_t queue) {
  (void)queue;
  stop(context);
}

static void *run(void *context) {
  struct side *side = context;
  static const uint8_t configuration[12] = {2, 0, 0, 0, 0, 9};
  cellmate_device device = {.size = sizeof device,
                            .context = side,
                            .device_id = 1,
                            .queue_count = 3,
                            .queue_size_max = 256,
                            .chain_length_max = 4,
                            .features = 1u << 5 | 1u << 17 | 1u << 18,
                            .configuration = configuration,
                            .configuration_size = sizeof configuration,
                            .stop = stop,
                            .serve = serve,
                            .cancel = cancel};
  cellmate_link *link = NULL;
  SAME(cellmate_link_open(side->specification, CELLMATE_BACK_END, &link, NULL), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &side->backend, NULL), CELLMATE_OK);
  SAME(cellmate_backend_add_device(side->backend, 0, &device), CELLMATE_OK);
  SAME(cellmate_backend_start(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  while (!side->is_ending) {
    int32_t moved = cellmate_backend_step(side->backend);
    TRUE(moved >= 0);
    if (side->may_answer && side->kept) {
      *(uint8_t *)side->answer.data = 0;
      SAME(cellmate_backend_complete(side->backend, 0, side->kept, 1), CELLMATE_OK);
      side->kept = 0;
      side->answers++;
      continue;
    }
    if (moved == 0) cellmate_backend_sleep(side->backend, CELLMATE_FOREVER);
  }
  /* Nobody wakes what is closed. */
  pthread_barrier_wait(&side->ready);
  /* Not gently: the driver finds out. */
  side->is_closing = 1;
  SAME(cellmate_backend_close(side->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side, const char *specification) {
  memset(side, 0, sizeof *side);
  side->specification = specification;
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, run, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  side->is_ending = 1;
  SAME(cellmate_backend_wake(side->backend), CELLMATE_OK);
  pthread_barrier_wait(&side->ready);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

/* Nobody has ever been there. The driver can be tried again as often as one likes. */
static void nobody(const char *specification, int32_t result, const char *words) {
  cellmate_driver *driver = NULL;
  uint8_t byte;
  SAME(cellmate_entropy_create(join(specification), 0, 1, 16, &driver, NULL), CELLMATE_OK);
  for (int round = 0; round < 3; round++) {
    SAME(cellmate_driver_connect(driver, now() + SHORT), result);
    says(driver, words);
    SAME(cellmate_entropy_read(driver, &byte, 1), CELLMATE_ERROR_LINK);
  }
  /* A deadline that has passed already. */
  SAME(cellmate_driver_connect(driver, 0), result);
  says(driver, words);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
}

static uint64_t notified(cellmate_driver *driver) {
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_OK);
  return counters.notifications;
}

/* A driver that works is set up again: what was counted stays counted. */
static void again(cellmate_driver *driver) {
  uint8_t bytes[64] = {2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb6};
  cellmate_frame frame = {.data = bytes, .length = sizeof bytes};
  uint64_t limit = now() + 60ull * SECOND, enough = notified(driver) + 4, before;
  /* The device is asleep again and again, and then it is notified. */
  while ((before = notified(driver)) < enough && now() < limit)
    if (cellmate_network_send(driver, &frame, 1) == 0) cellmate_driver_step(driver);
  TRUE(before >= enough);
  SAME(cellmate_driver_connect(driver, limit), CELLMATE_OK);
  TRUE(notified(driver) >= before);
}

/* The device keeps the command; then the back-end goes for good. */
static void gone(const char *specification, const char *lost) {
  struct side side;
  cellmate_driver *driver = NULL;
  begin(&side, specification);
  SAME(cellmate_network_create(join(specification), 0, 1, 0, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_network_command(driver, CELLMATE_NETWORK_PROMISCUOUS, 1, now() + SHORT),
       CELLMATE_ERROR_DEADLINE);
  says(driver, "the device does not answer: set the receive mode");
  /* One is under way: another one does not overtake it, and comes next when that is answered. */
  SAME(cellmate_network_command(driver, CELLMATE_NETWORK_ALL_MULTICAST, 0, now() + SHORT),
       CELLMATE_ERROR_DEADLINE);
  side.may_answer = 1;
  SAME(cellmate_backend_wake(side.backend), CELLMATE_OK);
  SAME(cellmate_network_command(driver, CELLMATE_NETWORK_ALL_MULTICAST, 0, now() + 60ull * SECOND),
       CELLMATE_OK);
  end(&side);
  SAME(side.answers, 2);
  int32_t seen = 0;
  for (uint64_t limit = now() + 60ull * SECOND; seen >= 0 && now() < limit;)
    if ((seen = cellmate_driver_step(driver)) == 1) cellmate_driver_sleep(driver, limit, 0);
  SAME(seen, CELLMATE_ERROR_LINK);
  for (int round = 0; round < 3; round++) {
    SAME(cellmate_driver_connect(driver, now() + SHORT), CELLMATE_ERROR_DEADLINE);
    says(driver, lost);
  }
  begin(&side, specification);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  again(driver);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  end(&side);
}

struct slammer {
  int listener;
  atomic_int count;
};

static void *slam(void *context) {
  struct slammer *slammer = context;
  for (int open; (open = accept(slammer->listener, NULL, NULL)) >= 0; slammer->count++) close(open);
  return NULL;
}

/* Somebody is there and ends each connection: it is not tried all the time. */
static void slammed(const char *specification) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  struct slammer slammer = {.listener = socket(AF_UNIX, SOCK_STREAM, 0)};
  cellmate_driver *driver = NULL;
  pthread_t thread;
  TRUE(strlen(specification + 11) < sizeof name.sun_path);
  strcpy(name.sun_path, specification + 11);
  unlink(name.sun_path);
  SAME(bind(slammer.listener, (struct sockaddr *)&name, sizeof name), 0);
  SAME(listen(slammer.listener, 8), 0);
  pthread_create(&thread, NULL, slam, &slammer);
  SAME(cellmate_entropy_create(join(specification), 0, 1, 16, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + SECOND / 2), CELLMATE_ERROR_LINK);
  says(driver, "the back-end goes away again and again");
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  shutdown(slammer.listener, SHUT_RDWR);
  pthread_join(thread, NULL);
  /* Twice as long each time, up to an eighth of a second. */
  TRUE(slammer.count > 0 && slammer.count < 16);
  close(slammer.listener);
  unlink(name.sun_path);
}

/* A front-end of the caller's own driver. */
static void frontend(const char *native) {
  cellmate_frontend *frontend = NULL;
  SAME(cellmate_frontend_create(join(native), &frontend, NULL), CELLMATE_OK);
  SAME(cellmate_frontend_wait_link(frontend, now() + SHORT), CELLMATE_ERROR_DEADLINE);
  SAME(cellmate_frontend_wait_link(frontend, 0), CELLMATE_ERROR_DEADLINE);
  SAME(cellmate_frontend_sleep(frontend, now() + SHORT), CELLMATE_WAIT_DEADLINE);
  TRUE(strlen(cellmate_result_text(CELLMATE_ERROR_DEADLINE)) > 0);
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
}

void test_deadlines(const char *image) {
  struct simulator simulator;
  char path[100], native[160], siemens[160], socket[160];
  snprintf(path, sizeof path, "%s.link", image);
  snprintf(native, sizeof native, "sim:%s,dialect=native", path);
  snprintf(siemens, sizeof siemens, "sim:%s,dialect=siemens", path);
  snprintf(socket, sizeof socket, "vhost-user:%s.vhost", image);
  simulator_begin(&simulator, path);
  nobody(native, CELLMATE_ERROR_DEADLINE, "no back-end answered within");
  nobody(siemens, CELLMATE_ERROR_DEADLINE, "no back-end of the Siemens dialect became ready");
  nobody(socket, CELLMATE_ERROR_TEXT, "vhost-user");
  slammed(socket);
  frontend(native);
  gone(native, "the back-end did not come back");
  gone(siemens, "the back-end did not come back");
  gone(socket, "the back-end did not come back: ");
  simulator_end(&simulator);
}
