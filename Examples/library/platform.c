/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A platform by callbacks: what a hypervisor or an operating system has to provide, here for two
 * peers in one process. Memory is plain memory, an interrupt is an event descriptor, and while
 * Interrupt Control is 0 a doorbell is lost, as on the real device. The library's conformance suite
 * runs on it.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "platform.h"

enum { STATE_TABLE = 4096, READ_WRITE = 1 << 20, SIZE = STATE_TABLE + READ_WRITE };

struct peer {
  struct machine *machine;
  unsigned id;
  int event;
  uint32_t enabled;
};

struct machine {
  void *memory;
  struct peer peers[2];
};

uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void interrupt(struct peer *peer) {
  uint64_t one = 1;
  if (__atomic_load_n(&peer->enabled, __ATOMIC_SEQ_CST) &&
      write(peer->event, &one, sizeof one) != sizeof one)
    abort();
}

static void write_state(void *context, uint32_t value) {
  struct peer *peer = context;
  uint32_t *word = (uint32_t *)peer->machine->memory + peer->id;
  if (__atomic_exchange_n(word, value, __ATOMIC_SEQ_CST) != value)
    interrupt(&peer->machine->peers[!peer->id]);
}

static uint32_t read_state(void *context) {
  struct peer *peer = context;
  return __atomic_load_n((uint32_t *)peer->machine->memory + peer->id, __ATOMIC_SEQ_CST);
}

static void set_interrupts(void *context, int32_t enabled) {
  struct peer *peer = context;
  __atomic_store_n(&peer->enabled, enabled != 0, __ATOMIC_SEQ_CST);
}

static int32_t interrupts_enabled(void *context) {
  struct peer *peer = context;
  return (int32_t)__atomic_load_n(&peer->enabled, __ATOMIC_SEQ_CST);
}

static void ring_doorbell(void *context, uint32_t vector, uint32_t peer) {
  struct peer *own = context;
  (void)vector;
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (peer < 2) interrupt(&own->machine->peers[peer]);
}

static int32_t wait_event(void *context, uint64_t deadline, int32_t wake) {
  struct peer *peer = context;
  struct pollfd entries[2] = {{.fd = peer->event, .events = POLLIN}, {.fd = wake, .events = POLLIN}};
  for (;;) {
    struct timespec left = {0}, *limit = NULL;
    if (deadline != CELLMATE_FOREVER) {
      uint64_t at = now();
      uint64_t ns = deadline > at ? deadline - at : 0;
      left.tv_sec = (time_t)(ns / 1000000000u);
      left.tv_nsec = (long)(ns % 1000000000u);
      limit = &left;
    }
    int found = ppoll(entries, 2, limit, NULL);
    if (found < 0) return CELLMATE_WAIT_INTERRUPTED;
    if (found == 0) return CELLMATE_WAIT_DEADLINE;
    uint64_t count;
    if (entries[0].revents && read(peer->event, &count, sizeof count) < 0) continue;
    return CELLMATE_WAIT_EVENT;
  }
}

static uint64_t clock_now(void *context) {
  (void)context;
  return now();
}

static uint64_t random_number(void *context) {
  uint64_t number = 0;
  (void)context;
  if (getrandom(&number, sizeof number, 0) != sizeof number) abort();
  return number;
}

struct machine *machine_make(void) {
  struct machine *machine = calloc(1, sizeof *machine);
  machine->memory =
      mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (unsigned id = 0; id < 2; id++)
    machine->peers[id] =
        (struct peer){.machine = machine, .id = id, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  return machine;
}

void machine_free(struct machine *machine) {
  for (unsigned id = 0; id < 2; id++) close(machine->peers[id].event);
  munmap(machine->memory, SIZE);
  free(machine);
}

cellmate_platform machine_platform(struct machine *machine, unsigned peer) {
  return (cellmate_platform){
      .size = sizeof(cellmate_platform),
      .context = &machine->peers[peer],
      .capabilities = CELLMATE_PINNABLE | CELLMATE_UNALIGNED_SAFE,
      .peer_id = peer,
      .max_peers = 2,
      .vector_count = 1,
      .state_table_size = STATE_TABLE,
      .read_write_size = READ_WRITE,
      .memory = machine->memory,
      .write_state = write_state,
      .read_state = read_state,
      .set_interrupts = set_interrupts,
      .interrupts_enabled = interrupts_enabled,
      .ring_doorbell = ring_doorbell,
      .wait = wait_event,
      .now = clock_now,
      .random = random_number,
  };
}
