/* SPDX-License-Identifier: Apache-2.0 */
/* What a service with a loop of its own needs: facts, numbers, waiting together, ending in order,
 * and a socket for a VMM. */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

static int reports;
static int warnings;

static void report(void *context, int32_t level, const char *subject, const char *text) {
  reports++;
  if (level != CELLMATE_INFO) warnings++;
  SAME(*(int *)context, 7);
  TRUE(strstr(subject, "vhost-user ") != NULL || strstr(subject, "link ") != NULL);
  TRUE(*text != 0);
}

static void specifications(void) {
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_device_check(NULL, 0, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_device_check("entropy", 1, &error), CELLMATE_OK);
  SAME(cellmate_device_check("blck", 0, &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "unknown device 'blck'") != NULL);
  SAME(cellmate_device_check("block,file=/nowhere/x", 0, NULL), CELLMATE_OK);
  SAME(cellmate_device_check("block,file=/nowhere/x", 1, &error), CELLMATE_ERROR_TEXT);
  SAME(cellmate_device_compare("entropy", NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_device_compare("entropy", "rubbish"), CELLMATE_ERROR_TEXT);
  SAME(cellmate_device_compare("entropy", "entropy"), CELLMATE_SAME);
  SAME(cellmate_device_compare("entropy", "block,file=x"), 0);
  SAME(cellmate_device_compare("block,file=x", "block,queues=1,file=x"),
       CELLMATE_SAME | CELLMATE_EXCLUDES);
  SAME(cellmate_device_compare("block,file=x,readonly", "block,file=x,readonly,queues=2"), 0);
  SAME(cellmate_device_compare("block,file=x,readonly", "block,file=x"), CELLMATE_EXCLUDES);
}

/* Every caller has a place of its own, whoever else looks for one at the same time. */
enum { CALLERS = 8, PLACES = 32 };
static int hangup_events[PLACES];

static void *watch_hangups(void *context) {
  int *events = context;
  for (int index = 0; index < PLACES / CALLERS; index++)
    SAME(cellmate_watch_hangups(events[index], 1), CELLMATE_OK);
  return NULL;
}

static void hangups(void) {
  SAME(cellmate_watch_hangups(-1, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_watch_hangups(INT32_MAX, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_watch_hangups(INT32_MAX, 0), CELLMATE_OK);
  SAME(cellmate_watch_hangups(0, 2), CELLMATE_ERROR_ARGUMENT);
  pthread_t callers[CALLERS];
  for (int index = 0; index < PLACES; index++) hangup_events[index] = eventfd(0, EFD_CLOEXEC);
  for (int index = 0; index < CALLERS; index++)
    pthread_create(
        &callers[index], NULL, watch_hangups, &hangup_events[index * (PLACES / CALLERS)]);
  for (int index = 0; index < CALLERS; index++) pthread_join(callers[index], NULL);
  SAME(cellmate_watch_hangups(hangup_events[0], 1), CELLMATE_ERROR_FULL);
  uint32_t before = cellmate_hangups();
  SAME(raise(SIGHUP), 0);
  SAME(cellmate_hangups(), before + 1);
  for (int index = 0; index < PLACES; index++) {
    uint64_t count = 0;
    SAME(read(hangup_events[index], &count, sizeof count), sizeof count);
    SAME(count, 1);
    SAME(cellmate_watch_hangups(hangup_events[index], 0), CELLMATE_OK);
    close(hangup_events[index]);
  }
}

static void process(void) {
  hangups();
  cellmate_keeper keeper = {.size = 3};
  SAME(cellmate_set_keeper(&keeper), CELLMATE_ERROR_SIZE);
  keeper.size = sizeof keeper;
  SAME(cellmate_set_keeper(&keeper), CELLMATE_OK);
  SAME(cellmate_set_keeper(NULL), CELLMATE_OK);
  const uint8_t address[6] = {2, 0, 0, 0, 0, 1};
  SAME(cellmate_set_carrier(NULL, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_set_carrier(address, 1), 0);
  cellmate_tap_counters tap = {.size = sizeof tap};
  SAME(cellmate_tap(0, &tap), CELLMATE_ERROR_ARGUMENT);
  tap.size = 9;
  SAME(cellmate_tap(0, &tap), CELLMATE_ERROR_SIZE);
  SAME(cellmate_tap(0, NULL), CELLMATE_ERROR_ARGUMENT);
}

/* A native back-end over a platform by callbacks: everything but waiting with epoll. */
static void native(void) {
  struct machine *machine = machine_make();
  cellmate_platform platform = machine_platform(machine, 0);
  cellmate_link *link = NULL;
  cellmate_backend *backend = NULL;
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, &error), 0);
  SAME(cellmate_backend_create(link, &backend, &error), 0);
  cellmate_backend_facts facts = {.size = sizeof facts};
  SAME(cellmate_backend_info(backend, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_info(backend, &facts), CELLMATE_OK);
  SAME(facts.kind, CELLMATE_NATIVE);
  SAME(facts.device_limit, 8);
  SAME(facts.max_peers, platform.max_peers);
  SAME(facts.read_write_size, platform.read_write_size);
  SAME(cellmate_backend_add(backend, 0, "entropy", &error), 0);

  cellmate_device_facts device = {.size = sizeof device};
  SAME(cellmate_backend_device(backend, 1, &device), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_backend_device(backend, 4000000000u, &device), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_backend_device(backend, 0, &device), CELLMATE_OK);
  SAME(device.device_id, 4);
  SAME(strcmp(device.kind, "entropy"), 0);

  int32_t count = cellmate_backend_counters(backend, NULL, 100);
  TRUE(count > 10 && count < 64);
  cellmate_counter counter = {.size = sizeof counter};
  SAME(cellmate_backend_counter(backend, count, &counter), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_counter(backend, 0, &counter), CELLMATE_OK);
  SAME(counter.scope, CELLMATE_SCOPE_LINK);
  SAME(counter.slot, -1);
  SAME(strcmp(counter.name, "up"), 0);
  SAME(cellmate_backend_counter(backend, count - 1, &counter), CELLMATE_OK);
  SAME(counter.scope, CELLMATE_SCOPE_KIND);
  SAME(counter.slot, 0);
  SAME(strcmp(counter.kind, "entropy"), 0);
  uint64_t values[64] = {[3] = 99};
  SAME(cellmate_backend_counters(backend, values, 3), count);
  SAME(values[3], 99);

  SAME(cellmate_backend_rings(backend, NULL, 0), 0);
  uint32_t words[4];
  uint64_t deadline = 0;
  SAME(cellmate_backend_look(backend, 0, words, sizeof words), CELLMATE_OK);
  SAME(cellmate_backend_look(backend, 2, words, sizeof words), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_look(backend, UINT64_MAX - 3, words, 4), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_look(backend, 0, words, 4100), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_look(backend, 0, NULL, 4), CELLMATE_ERROR_ARGUMENT);

  SAME(cellmate_backend_quiesce(backend, 0), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_prepare_sleep(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_deadline(backend, &deadline), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_watch(backend, 0, 1), CELLMATE_ERROR_REFUSED);
  SAME(cellmate_backend_start(backend), CELLMATE_OK);
  while (cellmate_backend_step(backend) == 1) {}
  SAME(cellmate_backend_deadline(backend, &deadline), CELLMATE_OK);
  TRUE(deadline == CELLMATE_FOREVER);
  SAME(cellmate_backend_prepare_sleep(backend), 1);
  SAME(cellmate_backend_stay_awake(backend), CELLMATE_OK);
  SAME(cellmate_backend_quiesce(backend, 0), CELLMATE_OK);
  SAME(cellmate_backend_deadline(backend, &deadline), CELLMATE_OK);
  TRUE(deadline != CELLMATE_FOREVER);
  SAME(cellmate_backend_step(backend), 2);
  SAME(cellmate_backend_step(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_is_up(backend), 0);
  SAME(cellmate_backend_start(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  SAME(cellmate_backend_look(backend, 0, words, 4), CELLMATE_ERROR_HANDLE);
  machine_free(machine);
}

/* One thread waits with epoll for a socket of the library's. */
static void vhost(void) {
  char path[64];
  snprintf(path, sizeof path, "vhost-user:/tmp/cellmate-suite-%d.sock", (int)getpid());
  cellmate_link *link = NULL;
  cellmate_backend *backend = NULL;
  cellmate_error error = {.size = sizeof error};
  /* A front-end makes a driver of it, and no front-end. */
  cellmate_frontend *frontend = NULL;
  SAME(cellmate_link_open(path, CELLMATE_FRONT_END, &link, &error), CELLMATE_OK);
  SAME(cellmate_frontend_create(link, &frontend, &error), CELLMATE_ERROR_TEXT);
  SAME(cellmate_link_close(link), CELLMATE_OK);
  SAME(cellmate_link_open(path, CELLMATE_BACK_END, &link, &error), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &backend, &error), CELLMATE_OK);
  cellmate_backend_facts facts = {.size = sizeof facts};
  SAME(cellmate_backend_info(backend, &facts), CELLMATE_OK);
  SAME(facts.kind, CELLMATE_VHOST_USER);
  SAME(facts.device_limit, 1);
  uint32_t word;
  SAME(cellmate_backend_look(backend, 0, &word, 4), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_start(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_counters(backend, NULL, 0), 0);
  SAME(cellmate_backend_add(backend, 1, "entropy", &error), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_backend_add(backend, 0, "entropy", &error), CELLMATE_OK);
  SAME(access(path + 11, F_OK), 0);
  int epoll = epoll_create1(0);
  SAME(cellmate_backend_watch(backend, epoll, 42), CELLMATE_OK);
  SAME(cellmate_backend_start(backend), CELLMATE_OK);
  while (cellmate_backend_step(backend) == 1) {}
  SAME(cellmate_backend_prepare_sleep(backend), 1);
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  strcpy(name.sun_path, path + 11);
  int client = socket(AF_UNIX, SOCK_STREAM, 0);
  SAME(connect(client, (struct sockaddr *)&name, sizeof name), 0);
  struct epoll_event seen = {0};
  SAME(epoll_wait(epoll, &seen, 1, 10000), 1);
  SAME(seen.data.u64, 42);
  SAME(cellmate_backend_end_sleep(backend), CELLMATE_WAIT_EVENT);
  while (cellmate_backend_step(backend) == 1) {}
  SAME(cellmate_backend_is_up(backend), 1);
  SAME(cellmate_backend_poll(backend), CELLMATE_WAIT_EVENT);
  SAME(cellmate_backend_quiesce(backend, 0), CELLMATE_OK);
  int32_t result;
  while ((result = cellmate_backend_step(backend)) == 0 || result == 1) {}
  SAME(result, 2);
  SAME(cellmate_backend_unwatch(backend, epoll), CELLMATE_OK);
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  TRUE(access(path + 11, F_OK) != 0);
  close(client);
  close(epoll);
}

void test_service(void) {
  int mine = 7;
  cellmate_set_report(report, &mine);
  specifications();
  process();
  native();
  vhost();
  TRUE(reports > 4);
  SAME(warnings, 0);
  cellmate_set_report(NULL, NULL);
}
