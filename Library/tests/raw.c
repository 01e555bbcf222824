/* SPDX-License-Identifier: Apache-2.0 */
/* A link without a protocol: states, doorbells and waits between two peers; wrong calls. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { SECOND = 1000000000 };

static cellmate_link *join(struct machine *machine, uint32_t peer) {
  cellmate_platform platform = machine_platform(machine, peer);
  cellmate_link *link = NULL;
  SAME(cellmate_link_open_platform(&platform, peer == 0 ? CELLMATE_BACK_END : CELLMATE_FRONT_END,
                                   1 - peer, 0, &link, NULL),
       CELLMATE_OK);
  return link;
}

static void wrong_calls(cellmate_link *link) {
  cellmate_link_facts facts = {.size = sizeof facts - 1};
  uint32_t state = 7;
  SAME(cellmate_link_info(link, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_info(link, &facts), CELLMATE_ERROR_SIZE);
  SAME(cellmate_link_info(NULL, &facts), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_read_state(link, 2, &state), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_read_state(link, 0x10000, &state), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_read_state(link, 0, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(state, 7);
  SAME(cellmate_link_read_state(NULL, 0, &state), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_write_state(NULL, 0), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_ring(link, 0, 2), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_ring(link, 0x10000, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_ring(NULL, 0, 1), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_arm(link, 2), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_link_arm(NULL, 1), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_is_armed(NULL), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_wait(NULL, 0), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_wake(NULL), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_adopt(NULL), CELLMATE_ERROR_HANDLE);
}

static void observers(void) {
  cellmate_observer *observer = NULL;
  cellmate_link_facts facts = {.size = sizeof facts};
  cellmate_error error = {.size = sizeof error};
  uint64_t delivered = 0, dropped = 0;
  SAME(cellmate_observer_open(NULL, &observer, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_observer_open("sim:/nowhere", NULL, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_observer_open("rubbish", &observer, &error), CELLMATE_ERROR_TEXT);
  SAME(cellmate_observer_open("0000:00:03.0", &observer, &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "control socket") != NULL);
  SAME(cellmate_observer_open("sim:/nowhere/at/all", &observer, &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "/nowhere/at/all") != NULL);
  TRUE(observer == NULL);
  SAME(cellmate_observer_info(NULL, &facts), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_observer_interrupts(NULL, 0, &delivered, &dropped), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_observer_close(NULL), CELLMATE_ERROR_HANDLE);
}

static void *foreign(void *context) {
  cellmate_link *link = context;
  uint32_t state;
  cellmate_link_facts facts = {.size = sizeof facts};
  SAME(cellmate_link_info(link, &facts), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_read_state(link, 0, &state), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_write_state(link, 9), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_ring(link, 0, 0), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_arm(link, 1), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_is_armed(link), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_wait(link, 0), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_close(link), CELLMATE_ERROR_THREAD);
  /* Waking is for every thread. */
  SAME(cellmate_link_wake(link), CELLMATE_OK);
  SAME(cellmate_link_adopt(link), CELLMATE_OK);
  SAME(cellmate_link_write_state(link, 9), CELLMATE_OK);
  return NULL;
}

void test_raw(void) {
  struct machine *machine = machine_make();
  cellmate_link *one = join(machine, 0), *two = join(machine, 1);
  cellmate_link_facts facts = {.size = sizeof facts};
  uint32_t state = 0;
  wrong_calls(one);
  SAME(cellmate_link_info(two, &facts), CELLMATE_OK);
  SAME(facts.peer_id, 1);
  SAME(facts.max_peers, 2);
  TRUE(facts.vector_count >= 1);
  SAME(facts.device_class, 0);
  SAME(facts.state_table_size, 4096);
  SAME(facts.read_write_size, 1 << 20);
  SAME(facts.output_size, 0);
  TRUE(facts.memory == machine_platform(machine, 0).memory);

  /* A changed state interrupts who is armed, and nobody else. */
  SAME(cellmate_link_is_armed(two), 0);
  SAME(cellmate_link_write_state(one, 5), CELLMATE_OK);
  SAME(cellmate_link_wait(two, now()), CELLMATE_WAIT_DEADLINE);
  SAME(cellmate_link_arm(two, 1), CELLMATE_OK);
  SAME(cellmate_link_is_armed(two), 1);
  SAME(cellmate_link_write_state(one, 6), CELLMATE_OK);
  SAME(cellmate_link_wait(two, now() + 60ull * SECOND), CELLMATE_WAIT_EVENT);
  SAME(cellmate_link_read_state(two, 0, &state), CELLMATE_OK);
  SAME(state, 6);
  SAME(cellmate_link_read_state(two, 1, &state), CELLMATE_OK);
  SAME(state, 0);

  /* There and back. */
  SAME(cellmate_link_arm(one, 1), CELLMATE_OK);
  SAME(cellmate_link_arm(two, 1), CELLMATE_OK);
  SAME(cellmate_link_ring(one, 0, 1), CELLMATE_OK);
  SAME(cellmate_link_wait(two, now() + 60ull * SECOND), CELLMATE_WAIT_EVENT);
  SAME(cellmate_link_ring(two, 0, 0), CELLMATE_OK);
  SAME(cellmate_link_wait(one, now() + 60ull * SECOND), CELLMATE_WAIT_EVENT);

  /* Both ways to wake; what was written before is kept for the next wait. */
  SAME(cellmate_link_wake(two), CELLMATE_OK);
  TRUE(cellmate_link_wait(two, now() + 60ull * SECOND) != CELLMATE_WAIT_DEADLINE);
  uint64_t number = 1;
  TRUE(write(facts.wake_descriptor, &number, sizeof number) == sizeof number);
  TRUE(cellmate_link_wait(two, now() + 60ull * SECOND) != CELLMATE_WAIT_DEADLINE);

  /* One thread at a time. */
  pthread_t thread;
  pthread_create(&thread, NULL, foreign, two);
  pthread_join(thread, NULL);
  SAME(cellmate_link_write_state(two, 0), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_adopt(two), CELLMATE_OK);
  SAME(cellmate_link_read_state(one, 1, &state), CELLMATE_OK);
  SAME(state, 9);
  SAME(cellmate_link_write_state(two, 0), CELLMATE_OK);

  /* What a link becomes takes it away. */
  cellmate_frontend *frontend = NULL;
  SAME(cellmate_frontend_create(two, &frontend, NULL), CELLMATE_OK);
  SAME(cellmate_link_info(two, &facts), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_link_wake(two), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
  SAME(cellmate_link_close(one), CELLMATE_OK);
  observers();
  machine_free(machine);
}
