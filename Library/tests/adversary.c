/* SPDX-License-Identifier: Apache-2.0 */
/* Callers who do what no caller should: another thread's handle while it sleeps, a child of fork, a
 * platform without randomness, calls out of a platform's callback. */
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static uint64_t always_zero(void *context) {
  (void)context;
  return 0;
}

static cellmate_backend *make_backend(cellmate_platform platform) {
  cellmate_link *link = NULL;
  cellmate_backend *backend = NULL;
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &backend, NULL), CELLMATE_OK);
  SAME(cellmate_backend_add(backend, 0, "entropy", NULL), CELLMATE_OK);
  SAME(cellmate_backend_start(backend), CELLMATE_OK);
  return backend;
}

/* Both sides pair, again and again, although their platforms' random numbers never change. */
static void no_randomness(void) {
  struct machine *machine = machine_make();
  cellmate_platform platforms[2] = {machine_platform(machine, 0), machine_platform(machine, 1)};
  platforms[0].random = always_zero;
  platforms[1].random = always_zero;
  cellmate_backend *backend = make_backend(platforms[0]);
  for (int life = 0; life < 3; life++) {
    cellmate_link *link = NULL;
    cellmate_frontend *frontend = NULL;
    SAME(cellmate_link_open_platform(&platforms[1], CELLMATE_FRONT_END, 0, 0, &link, NULL),
         CELLMATE_OK);
    SAME(cellmate_frontend_create(link, &frontend, NULL), CELLMATE_OK);
    int is_up = 0;
    for (int look = 0; look < 1000 && !is_up; look++) {
      TRUE(cellmate_backend_step(backend) >= 0);
      is_up = cellmate_frontend_wait_link(frontend, now() + 1000000) == CELLMATE_OK &&
              cellmate_backend_is_up(backend) == 1;
    }
    SAME(is_up, 1);
    SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
    for (int look = 0; look < 1000 && cellmate_backend_is_up(backend) == 1; look++)
      TRUE(cellmate_backend_step(backend) >= 0);
    SAME(cellmate_backend_is_up(backend), 0);
  }
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  machine_free(machine);
}

struct sleeper {
  struct machine *machine;
  cellmate_backend *backend;
  pthread_barrier_t ready;
  int result;
};

static void *sleep_forever(void *context) {
  struct sleeper *own = context;
  own->backend = make_backend(machine_platform(own->machine, 0));
  pthread_barrier_wait(&own->ready);
  /* A wake may come before the sleep: it ends it all the same. */
  own->result = cellmate_backend_sleep(own->backend, CELLMATE_FOREVER);
  pthread_barrier_wait(&own->ready);
  SAME(cellmate_backend_close(own->backend), CELLMATE_OK);
  return NULL;
}

/* Nothing is taken away from a thread that sleeps; waking it is all that others can do. */
static void another_thread(void) {
  struct sleeper sleeper = {.machine = machine_make()};
  pthread_t thread;
  pthread_barrier_init(&sleeper.ready, NULL, 2);
  pthread_create(&thread, NULL, sleep_forever, &sleeper);
  pthread_barrier_wait(&sleeper.ready);
  cellmate_link_counters counters = {.size = sizeof counters};
  SAME(cellmate_backend_close(sleeper.backend), CELLMATE_ERROR_THREAD);
  SAME(cellmate_backend_step(sleeper.backend), CELLMATE_ERROR_THREAD);
  SAME(cellmate_backend_run(sleeper.backend, 0), CELLMATE_ERROR_THREAD);
  SAME(cellmate_backend_link_counters(sleeper.backend, &counters), CELLMATE_ERROR_THREAD);
  SAME(cellmate_link_close((cellmate_link *)sleeper.backend), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_backend_wake(sleeper.backend), CELLMATE_OK);
  pthread_barrier_wait(&sleeper.ready);
  SAME(sleeper.result, CELLMATE_WAIT_EVENT);
  pthread_join(thread, NULL);
  SAME(cellmate_backend_adopt(sleeper.backend), CELLMATE_ERROR_HANDLE);
  pthread_barrier_destroy(&sleeper.ready);
  machine_free(sleeper.machine);
}

/* A child has none of its parent's handles, and what it does changes nothing of theirs. */
static void a_child(void) {
  struct machine *machine = machine_make();
  cellmate_backend *backend = make_backend(machine_platform(machine, 0));
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int wrong = 0;
    wrong += cellmate_backend_step(backend) != CELLMATE_ERROR_HANDLE;
    wrong += cellmate_backend_adopt(backend) != CELLMATE_ERROR_HANDLE;
    wrong += cellmate_backend_wake(backend) != CELLMATE_ERROR_HANDLE;
    wrong += cellmate_backend_close(backend) != CELLMATE_ERROR_HANDLE;
    /* Its own are others. */
    struct machine *second = machine_make();
    cellmate_platform platform = machine_platform(second, 0);
    cellmate_link *link = NULL;
    wrong += cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, NULL) != 0;
    wrong += (void *)link == (void *)backend;
    wrong += cellmate_backend_step(backend) != CELLMATE_ERROR_HANDLE;
    wrong += cellmate_link_close(link) != CELLMATE_OK;
    _exit(wrong);
  }
  int status = -1;
  SAME(waitpid(child, &status, 0), child);
  SAME(status, 0);
  TRUE(cellmate_backend_step(backend) >= 0);
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  machine_free(machine);
}

/* A platform whose callbacks call back: every function that is not made for it refuses. */
static struct {
  cellmate_backend *backend;
  int32_t (*wait)(void *, uint64_t, int32_t);
  int calls, wrong;
} inner;

static int32_t wait_and_more(void *context, uint64_t deadline, int32_t wake) {
  if (inner.backend) {
    inner.calls++;
    cellmate_link_counters counters = {.size = sizeof counters};
    inner.wrong += cellmate_backend_step(inner.backend) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_sleep(inner.backend, 0) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_run(inner.backend, 0) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_close(inner.backend) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_adopt(inner.backend) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_link_counters(inner.backend, &counters) != CELLMATE_ERROR_ORDER;
    inner.wrong += cellmate_backend_wake(inner.backend) != CELLMATE_OK;
  }
  return inner.wait(context, deadline, wake);
}

static void callbacks(void) {
  struct machine *machine = machine_make();
  cellmate_platform platform = machine_platform(machine, 0);
  inner.wait = platform.wait;
  platform.wait = wait_and_more;
  cellmate_backend *backend = make_backend(platform);
  inner.backend = backend;
  for (int look = 0; look < 10; look++) {
    TRUE(cellmate_backend_step(backend) >= 0);
    TRUE(cellmate_backend_sleep(backend, now() + 1000000) >= 0);
  }
  inner.backend = NULL;
  TRUE(inner.calls > 0);
  SAME(inner.wrong, 0);
  SAME(cellmate_backend_close(backend), CELLMATE_OK);
  machine_free(machine);
}

/* Lengths at every limit: no memory, or an argument, never more. */
static void lengths(void) {
  struct machine *machine = machine_make();
  cellmate_platform platform = machine_platform(machine, 1);
  cellmate_link *link = NULL;
  cellmate_frontend *frontend = NULL;
  cellmate_buffer buffer = {0};
  SAME(cellmate_link_open_platform(&platform, CELLMATE_FRONT_END, 0, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_frontend_create(link, &frontend, NULL), CELLMATE_OK);
  for (int32_t direction = 0; direction < 2; direction++) {
    for (uint64_t bit = 31; bit < 64; bit++)
      for (int64_t step = -1; step <= 1; step++)
        SAME(cellmate_frontend_allocate(frontend, direction, ((uint64_t)1 << bit) + (uint64_t)step,
                                        &buffer),
             CELLMATE_ERROR_MEMORY);
    SAME(cellmate_frontend_allocate(frontend, direction, UINT64_MAX, &buffer),
         CELLMATE_ERROR_MEMORY);
    SAME(cellmate_frontend_allocate(frontend, direction, 0, &buffer), CELLMATE_ERROR_ARGUMENT);
    SAME(cellmate_frontend_allocate(frontend, direction, 64, &buffer), CELLMATE_OK);
    cellmate_buffer wrong = buffer;
    wrong.length = UINT64_MAX;
    SAME(cellmate_frontend_free(frontend, direction, &wrong), CELLMATE_ERROR_ARGUMENT);
    wrong = buffer;
    wrong.offset = UINT64_MAX - 63;
    SAME(cellmate_frontend_free(frontend, direction, &wrong), CELLMATE_ERROR_ARGUMENT);
    SAME(cellmate_frontend_free(frontend, direction, &buffer), CELLMATE_OK);
    SAME(cellmate_frontend_free(frontend, direction, &buffer), CELLMATE_ERROR_ARGUMENT);
  }
  SAME(cellmate_frontend_close(frontend), CELLMATE_OK);
  machine_free(machine);
}

void test_adversary(void) {
  lengths();
  no_randomness();
  another_thread();
  a_child();
  callbacks();
}
