/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong calls: null pointers, wrong sizes, wrong handles, the wrong order. Each is an error code. */
#include <string.h>

#include "check.h"

static void texts(void) {
  for (int32_t result = -15; result <= 0; result++)
    TRUE(strlen(cellmate_result_text(result)) > 3);
  TRUE(strstr(cellmate_result_text(-16), "newer") != NULL);
  TRUE(strstr(cellmate_result_text(INT32_MIN), "newer") != NULL);
  SAME(cellmate_version(), CELLMATE_VERSION_MAJOR << 16 | CELLMATE_VERSION_MINOR << 8 |
                               CELLMATE_VERSION_PATCH);
}

static void handles(void) {
  char here = 0;
  void *wrong[] = {NULL, (void *)8, (void *)16, (void *)(uintptr_t)0xfff8, &here, (void *)-1};
  for (size_t index = 0; index < sizeof wrong / sizeof wrong[0]; index++) {
    SAME(cellmate_link_close(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_step(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_stop(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_wake(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_close(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_adopt(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_backend_complete(wrong[index], 0, 0, 0), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_frontend_step(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_frontend_close(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_block_connect(wrong[index], 0), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_block_close(wrong[index]), CELLMATE_ERROR_HANDLE);
    SAME(cellmate_registers_close(wrong[index]), CELLMATE_ERROR_HANDLE);
  }
}

static void links(void) {
  cellmate_link *link = NULL;
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_link_open(NULL, CELLMATE_BACK_END, &link, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_open("sim:/nowhere", CELLMATE_BACK_END, NULL, &error),
       CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_open("sim:/nowhere", 7, &link, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_open("rubbish", CELLMATE_BACK_END, &link, &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "rubbish") != NULL);
  SAME(error.result, CELLMATE_ERROR_TEXT);
  SAME(cellmate_link_open("sim:/nowhere/at/all", CELLMATE_FRONT_END, &link, &error),
       CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "/nowhere/at/all") != NULL);
  SAME(cellmate_link_open("sim:/nowhere/at/all", CELLMATE_FRONT_END, &link, NULL),
       CELLMATE_ERROR_TEXT);
  TRUE(link == NULL);
  char path[2000] = "sim:/";
  memset(path + 5, 'x', sizeof path - 6);
  path[sizeof path - 1] = 0;
  SAME(cellmate_link_open(path, CELLMATE_FRONT_END, &link, &error), CELLMATE_ERROR_TEXT);
  SAME(error.text[sizeof error.text - 1], 0);
  /* One line, whatever is quoted in it, and no half of a character at its end. */
  SAME(cellmate_link_open("rub\nb\tish\x7f", CELLMATE_FRONT_END, &link, &error),
       CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "rub?b?ish?") != NULL);
  for (size_t shift = 0; shift < 3; shift++) {
    size_t length = 5 + shift;
    memset(path, 'x', length);
    while (length + 3 < sizeof path) {
      memcpy(path + length, "\xe2\x82\xac", 3);
      length += 3;
    }
    path[length] = 0;
    SAME(cellmate_link_open(path, CELLMATE_FRONT_END, &link, &error), CELLMATE_ERROR_TEXT);
    size_t end = strlen(error.text);
    SAME(strcmp(error.text + end - 3, "..."), 0);
    /* The last byte before the dots ends a character of three bytes, or is ASCII. */
    unsigned char *last = (unsigned char *)error.text + end - 4;
    TRUE(*last < 0x80 || ((last[0] & 0xc0) == 0x80 && (last[-1] & 0xc0) == 0x80 &&
                          last[-2] == 0xe2));
  }
}

static void platforms(void) {
  struct machine *machine = machine_make();
  cellmate_link *link = NULL;
  cellmate_error error = {.size = sizeof error};
  cellmate_platform good = machine_platform(machine, 0), bad = good;
  SAME(cellmate_link_open_platform(NULL, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_ARGUMENT);
  bad.size = 12;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_SIZE);
  struct {
    cellmate_platform known;
    uint64_t unknown;
  } newer = {good, 0};
  newer.known.size = sizeof newer;
  newer.unknown = 1;
  SAME(cellmate_link_open_platform(&newer.known, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_SIZE);
  newer.unknown = 0;
  SAME(cellmate_link_open_platform(&newer.known, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_OK);
  SAME(cellmate_link_close(link), CELLMATE_OK);
  SAME(cellmate_link_close(link), CELLMATE_ERROR_HANDLE);
  bad = good;
  bad.max_peers = 1;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_TEXT);
  bad = good;
  bad.read_write_size = 100;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_TEXT);
  bad = good;
  bad.read_write_size = 0;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_TEXT);
  bad = good;
  bad.memory = NULL;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_ARGUMENT);
  bad = good;
  bad.wait = NULL;
  SAME(cellmate_link_open_platform(&bad, CELLMATE_BACK_END, 1, 0, &link, &error),
       CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_open_platform(&good, CELLMATE_BACK_END, 0, 0, &link, &error),
       CELLMATE_ERROR_TEXT);
  SAME(cellmate_link_open_platform(&good, CELLMATE_BACK_END, 1, 5, &link, &error),
       CELLMATE_ERROR_ARGUMENT);
  machine_free(machine);
}

static int64_t never(void *context, const cellmate_request *request) {
  (void)context, (void)request;
  return 0;
}

static void backends(void) {
  struct machine *machine = machine_make();
  cellmate_link *link = NULL;
  cellmate_backend *backend = NULL;
  cellmate_frontend *frontend = NULL;
  cellmate_error error = {.size = sizeof error};
  cellmate_platform platform = machine_platform(machine, 0);
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, &error), 0);
  SAME(cellmate_backend_create(link, NULL, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_frontend_create(link, &frontend, &error), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_create((cellmate_link *)&error, &backend, &error), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_backend_create(link, &backend, &error), CELLMATE_OK);
  SAME(cellmate_link_close(link), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_frontend_step((cellmate_frontend *)backend), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_backend_step(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_sleep(backend, 0), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_add(backend, 0, NULL, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_add(backend, 8, "entropy", &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_add(backend, 0, "toaster", &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "toaster") != NULL);
  SAME(cellmate_backend_add(backend, 0, "block,file=/nowhere/at/all", &error),
       CELLMATE_ERROR_TEXT);
  SAME(cellmate_backend_add(backend, 0, "entropy", &error), CELLMATE_OK);
  SAME(cellmate_backend_add(backend, 0, "entropy", &error), CELLMATE_ERROR_ORDER);
  cellmate_device device = {.size = sizeof device,
                            .device_id = 4,
                            .queue_count = 1,
                            .queue_size_max = 8,
                            .chain_length_max = 4,
                            .serve = never};
  cellmate_device bad = device;
  bad.size = 3;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_SIZE);
  /* Half of a member, and less than the first version had. */
  bad.size = offsetof(cellmate_device, cancel) + 4;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_SIZE);
  bad.size = offsetof(cellmate_device, serve);
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_SIZE);
  bad = device;
  bad.queue_count = 33;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_ARGUMENT);
  bad = device;
  bad.queue_size_max = 9;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_ARGUMENT);
  bad = device;
  bad.configuration_size = 8;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_ARGUMENT);
  bad = device;
  bad.serve = NULL;
  SAME(cellmate_backend_add_device(backend, 1, &bad), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_add_device(backend, 1, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_add_device(backend, 1, &device), CELLMATE_OK);
  SAME(cellmate_backend_complete(backend, 1, 77, 0), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_complete(backend, 0, 0, 0), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_backend_complete(backend, 99, 0, 0), CELLMATE_ERROR_ARGUMENT);
  /* A caller that was built before there was a cancel: nothing lies behind what it has. */
  cellmate_device *older = malloc(offsetof(cellmate_device, cancel));
  memcpy(older, &device, offsetof(cellmate_device, cancel));
  older->size = offsetof(cellmate_device, cancel);
  SAME(cellmate_backend_add_device(backend, 3, older), CELLMATE_OK);
  free(older);
  /* One that will be built later, and asks for nothing that is not known here. */
  struct {
    cellmate_device known;
    void *more;
  } newer = {.known = device};
  newer.known.size = sizeof newer;
  SAME(cellmate_backend_add_device(backend, 4, &newer.known), CELLMATE_OK);
  newer.more = &newer;
  SAME(cellmate_backend_add_device(backend, 5, &newer.known), CELLMATE_ERROR_SIZE);
  SAME(cellmate_backend_start(backend), CELLMATE_OK);
  SAME(cellmate_backend_start(backend), CELLMATE_ERROR_ORDER);
  SAME(cellmate_backend_add(backend, 2, "entropy", &error), CELLMATE_ERROR_ORDER);
  cellmate_link_counters counters = {.size = 1};
  SAME(cellmate_backend_link_counters(backend, &counters), CELLMATE_ERROR_SIZE);
  SAME(cellmate_backend_link_counters(backend, NULL), CELLMATE_ERROR_ARGUMENT);
  cellmate_device_counters seen = {.size = sizeof seen};
  SAME(cellmate_backend_device_counters(backend, 5, &seen), CELLMATE_ERROR_DEVICE);
  SAME(cellmate_backend_device_counters(backend, 1, &seen), CELLMATE_OK);
  SAME(cellmate_backend_is_up(backend), 0);
  SAME(cellmate_backend_sleep(backend, now() + 1000000), CELLMATE_WAIT_DEADLINE);
  SAME(cellmate_backend_wake(backend), CELLMATE_OK);
  SAME(cellmate_backend_sleep(backend, now() + 60000000000u), CELLMATE_WAIT_EVENT);
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  SAME(cellmate_backend_close(backend), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_backend_wake(backend), CELLMATE_ERROR_HANDLE);
  machine_free(machine);
}

static void many(void) {
  /* The handle table is finite, and entries are used again. */
  cellmate_identity identity = {.size = sizeof identity,
                                .device_id = 2,
                                .queue_count = 1,
                                .queue_size_max = 8,
                                .chain_length_max = 8};
  static cellmate_registers *all[2000];
  int made = 0;
  while (made < 2000 && cellmate_registers_create(&identity, &all[made]) == CELLMATE_OK) made++;
  TRUE(made >= 1000 && made < 2000);
  for (int index = 0; index < made; index++) SAME(cellmate_registers_close(all[index]), 0);
  cellmate_registers *again = NULL;
  SAME(cellmate_registers_create(&identity, &again), CELLMATE_OK);
  TRUE(again != all[0]);
  SAME(cellmate_registers_close(all[0]), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_registers_close(again), CELLMATE_OK);
}

void test_arguments(void) {
  texts();
  handles();
  links();
  platforms();
  backends();
  many();
}
