/* SPDX-License-Identifier: Apache-2.0 */
/* A caller of the C interface who does everything wrong, for libFuzzer (Fuzz/coverage).
 *
 * specification: the input is a text, for a link, an observer or a device.
 * interface: the input is calls, with handles that are right, closed, of another kind or invented,
 * and numbers at their limits, on both sides of a link over plain memory; one side runs while the
 * other waits, and so does a store into the shared memory now and then. Whatever comes back is one
 * of the results of cellmate.h, and afterwards everything can be closed. Inputs that begin with
 * 128 and more know drivers and services (drivers.c, service.c), with 224 and more links by name.
 *
 * With -DPLAY_FILES a program that plays files, for Library/test. */
#include "interface.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECTION = 24 * PAGE, LARGE_SECTION = 256 * PAGE, MEMORY = PAGE + LARGE_SECTION };

/* ---- the input ------------------------------------------------------------------------------ */

static const uint8_t *bytes;
size_t rest;

uint8_t byte(void) {
  if (rest == 0) return 0;
  rest--;
  return *bytes++;
}

/* Numbers that checks are about, or any. */
uint64_t number(void) {
  static const uint64_t known[] = {0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 255, 256,
      257, 511, 512, 1023, 1024, 1025, 4095, 4096, 0x7fff, 0x8000, 0xffff, 0x10000, INT32_MAX,
      0x80000000, UINT32_MAX, 0x100000000, INT64_MAX, 0x8000000000000000, UINT64_MAX - 1,
      UINT64_MAX};
  uint8_t choice = byte();
  if (choice < 160) return known[choice % (sizeof known / sizeof known[0])];
  if (choice < 230) return choice - 160u;
  uint64_t value = 0;
  for (int index = 0; index < 4; index++) value = value << 8 | byte();
  return value << (choice & 32);
}

/* ---- two peers over plain memory ------------------------------------------------------------- */

struct peer {
  uint32_t id;
  int armed, events;
};
static uint8_t *memory;
static struct peer peers[2];
static uint64_t clock_now;
static uint64_t section;
static int depth;
int is_real;
unsigned honest_turns;

static void raise_at(struct peer *peer) {
  if (!peer->armed) return;
  peer->armed = 0;
  peer->events++;
}
static void write_state(void *context, uint32_t value) {
  struct peer *own = context;
  memcpy(memory + 4 * own->id, &value, 4);
  raise_at(&peers[1 - own->id]);
}
static uint32_t read_state(void *context) {
  uint32_t value;
  memcpy(&value, memory + 4 * ((struct peer *)context)->id, 4);
  return value;
}
static void set_interrupts(void *context, int32_t enabled) {
  ((struct peer *)context)->armed = enabled != 0;
}
static int32_t interrupts_enabled(void *context) { return ((struct peer *)context)->armed; }
static void ring_doorbell(void *context, uint32_t vector, uint32_t peer) {
  (void)context, (void)vector;
  if (peer < 2) raise_at(&peers[peer]);
}
/* The other side's turn; it may wait, too. */
static void turn(struct peer *own) {
  if (running && own->id == 0) checked(cellmate_backend_stop(running));
  if (honest_turns == 0 && served && own->id == 1) {
    if (rest > 0 && byte() < 224) honest_turns = 16;
  }
  if (honest_turns == 0 || own->id == 0 || !served) {
    if (depth < 3) act();
    return;
  }
  honest_turns--;
  for (int count = 0; count < 4; count++) checked(cellmate_backend_step(served));
}
static int32_t wait_for(void *context, uint64_t deadline, int32_t wake) {
  struct peer *own = context;
  (void)wake;
  turn(own);
  if (own->events > 0) {
    own->events = 0;
    return CELLMATE_WAIT_EVENT;
  }
  if (is_real) return CELLMATE_WAIT_INTERRUPTED;
  clock_now += 50 * 1000 * 1000;
  if (deadline != CELLMATE_FOREVER && deadline > clock_now && deadline - clock_now > 1000000000u)
    clock_now += 1000000000u;
  return deadline == CELLMATE_FOREVER ? CELLMATE_WAIT_INTERRUPTED : CELLMATE_WAIT_DEADLINE;
}
static uint64_t machine_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
uint64_t later(uint64_t span) {
  if (is_real) return machine_time() + (span > 300000 ? 300000 : span);
  return clock_now + span;
}
static uint64_t now(void *context) {
  (void)context;
  return is_real ? machine_time() : (clock_now += 1000);
}
static uint64_t dice(void *context) {
  (void)context;
  /* A poor one. */
  return clock_now & 3;
}

cellmate_platform platform(uint32_t id) {
  return (cellmate_platform){.size = sizeof(cellmate_platform),
                             .context = &peers[id],
                             .capabilities = CELLMATE_UNALIGNED_SAFE | CELLMATE_ONE_SHOT_INTERRUPTS,
                             .peer_id = id,
                             .max_peers = 2,
                             .vector_count = 1,
                             .state_table_size = PAGE,
                             .read_write_size = section,
                             .memory = memory,
                             .write_state = write_state,
                             .read_state = read_state,
                             .set_interrupts = set_interrupts,
                             .interrupts_enabled = interrupts_enabled,
                             .ring_doorbell = ring_doorbell,
                             .wait = wait_for,
                             .now = now,
                             .random = dice};
}

/* ---- a device by callbacks that misuses the interface ------------------------------------------ */

void *handles[SLOTS];
static uint64_t tickets[DEPTH];
static unsigned ticket_count;

void *handle(void) {
  uint8_t choice = byte();
  if (choice < 240) return handles[choice % SLOTS];
  return choice < 248 ? (void *)(uintptr_t)number() : NULL;
}

static void device_start(void *context, uint64_t features) { (void)context, (void)features; }
static void device_stop(void *context) {
  (void)context;
  if (depth < 3) act();
}
static void device_cancel(void *context, uint32_t queue) {
  (void)context;
  CHECK(queue < 32);
  if (depth < 3) act();
}
static int64_t device_serve(void *context, const cellmate_request *request) {
  (void)context;
  uint32_t sum = 0;
  for (uint32_t index = 0; index < request->readable_count; index++)
    for (size_t at = 0; at < request->readable[index].length; at++)
      sum += ((const volatile uint8_t *)request->readable[index].data)[at];
  for (uint32_t index = 0; index < request->writable_count; index++)
    memset(request->writable[index].data, (int)sum, request->writable[index].length);
  tickets[ticket_count++ % DEPTH] = request->ticket;
  if (depth < 3 && rest > 0) act();
  switch (byte() & 3) {
    case 0: return CELLMATE_PENDING;
    case 1: return (int64_t)number();
    default: return 0;
  }
}

cellmate_device wrong_device(uint32_t id) {
  static uint8_t zeroes[256];
  return (cellmate_device){.size = sizeof(cellmate_device),
                           .device_id = id,
                           .queue_count = 2,
                           .queue_size_max = 16,
                           .chain_length_max = 4,
                           .configuration = zeroes,
                           .configuration_size = 16,
                           .start = device_start,
                           .stop = device_stop,
                           .serve = device_serve,
                           .cancel = device_cancel};
}

/* ---- calls ----------------------------------------------------------------------------------- */

static cellmate_buffer buffers[4];
static uint8_t scratch[4096];

/* A structure with the right size mostly. */
size_t size_of(size_t right) { return byte() < 230 ? right : (size_t)number() % 5000; }

int32_t checked(int32_t result) {
  CHECK(result >= CELLMATE_ERROR_GONE);
  return result;
}

void keep(int32_t result, void *made) {
  if (checked(result) != CELLMATE_OK) return;
  CHECK(made != NULL);
  unsigned at = byte() % SLOTS;
  /* What falls out of the table stays open; the last act looks at every handle that was made. */
  handles[at] = made;
}

static void *all[4096];
static unsigned all_count;
void *noted(void *made) {
  if (made && all_count < sizeof all / sizeof all[0]) all[all_count++] = made;
  return made;
}

static void open_link(void) {
  cellmate_link *made = NULL;
  uint32_t id = byte() & 1;
  cellmate_platform given = platform(id);
  uint8_t lie = byte();
  if (lie > 200) {
    given.size = size_of(sizeof given);
    /* Beyond the structure there is nothing that could be read. */
    if (given.size > sizeof given) given.size = sizeof given;
  }
  if (lie > 220) given.max_peers = (uint32_t)number();
  if (lie > 225) given.peer_id = (uint32_t)number();
  if (lie > 230) given.vector_count = (uint32_t)number();
  if (lie > 240) given.capabilities = (uint32_t)number();
  /* Sizes have to be true: the memory is the caller's word. */
  if (lie > 245) given.read_write_size = number() % (section + 1);
  if (given.max_peers > 2) given.state_table_size = PAGE, given.max_peers = given.max_peers % 1024;
  cellmate_error error = {.size = size_of(sizeof error)};
  if (error.size > sizeof error) error.size = 0;
  int32_t side = lie & 1 ? (int32_t)(2 - id) : (int32_t)number();
  if (byte() < 240) side = id == 0 ? CELLMATE_BACK_END : CELLMATE_FRONT_END;
  int32_t result = cellmate_link_open_platform(&given, side,
      lie < 250 ? 1 - id : (uint32_t)number(), lie < 250 ? 0 : (int32_t)number(),
      byte() < 250 ? &made : NULL, &error);
  keep(result, result == CELLMATE_OK ? noted(made) : made);
}

static void make(uint8_t kind) {
  void *made = NULL;
  cellmate_error error = {.size = sizeof error};
  int32_t result;
  void *link = handle();
  switch (kind % 3) {
    case 0: result = cellmate_backend_create(link, (cellmate_backend **)&made, &error); break;
    case 1: result = cellmate_frontend_create(link, (cellmate_frontend **)&made, &error); break;
    default:
      result = cellmate_block_create(link, byte() < 200 ? 0 : (uint32_t)number(),
          byte() < 200 ? 4 : (uint32_t)number(), (cellmate_block **)&made, NULL);
  }
  keep(result, result == CELLMATE_OK ? noted(made) : made);
}

static void add(void) {
  static const char *const texts[] = {"block,file=d", "entropy", "console,null", "toaster", ""};
  uint8_t choice = byte();
  uint32_t slot = choice < 240 ? choice & 3 : (uint32_t)number();
  if (choice & 4) {
    checked(cellmate_backend_add(handle(), slot, texts[byte() % 5], NULL));
    return;
  }
  cellmate_device device = wrong_device(42);
  if (choice > 200) device.queue_count = (uint32_t)number();
  if (choice > 210) device.queue_size_max = (uint32_t)number();
  if (choice > 220) device.chain_length_max = (uint32_t)number();
  if (choice > 230) device.features = number();
  if (choice > 235) device.configuration_size = (uint32_t)(number() % 600);
  checked(cellmate_backend_add_device(handle(), slot, &device));
}

static void backend(uint8_t kind) {
  void *own = handle();
  cellmate_link_counters counters = {.size = size_of(sizeof counters)};
  cellmate_device_counters device = {.size = size_of(sizeof device)};
  if (counters.size > sizeof counters) counters.size = 0;
  if (device.size > sizeof device) device.size = 0;
  switch (kind % 10) {
    case 0: checked(cellmate_backend_start(own)); break;
    case 1: case 2: case 3: checked(cellmate_backend_step(own)); break;
    case 4: checked(cellmate_backend_sleep(own, later(number() % 1000000))); break;
    case 5: checked(cellmate_backend_complete(own, byte() & 3,
                byte() < 200 ? tickets[byte() % DEPTH] : number(), (uint32_t)number())); break;
    case 6: checked(cellmate_backend_wake(own)); break;
    case 7: checked(cellmate_backend_is_up(own)); break;
    case 8: checked(cellmate_backend_link_counters(own, &counters)); break;
    default: checked(cellmate_backend_device_counters(own, (uint32_t)number(), &device));
  }
}

static cellmate_buffer buffer(void) {
  cellmate_buffer one = buffers[byte() & 3];
  uint8_t lie = byte();
  if (lie > 200) one.length = number();
  if (lie > 220) one.offset = number();
  if (lie > 240) one.data = (void *)(uintptr_t)number();
  return one;
}

static void frontend(uint8_t kind) {
  void *own = handle();
  uint64_t value = 0;
  uint32_t slot = byte() < 240 ? byte() & 3 : (uint32_t)number();
  cellmate_buffer some[4] = {buffer(), buffer(), buffer(), buffer()};
  uint8_t count = byte();
  cellmate_chain chains[2] = {
      {.buffers = some, .readable_count = count & 1, .writable_count = count >> 1 & 1, .token = 1},
      {.buffers = count > 250 ? NULL : some, .readable_count = count >> 2 & 3,
       .writable_count = count >> 4 & 1, .token = 2}};
  if (count > 245) chains[0].readable_count = UINT32_MAX, chains[0].writable_count = 5;
  cellmate_completion done[4];
  switch (kind % 14) {
    case 0: checked(cellmate_frontend_wait_link(own, later(1000000000))); break;
    case 1: checked(cellmate_frontend_step(own)); break;
    case 2: checked(cellmate_frontend_negotiate(own, slot, byte() < 240 ? 42 : (uint32_t)number(),
                number(), count > 250 ? NULL : &value)); break;
    case 3: checked(cellmate_frontend_open_queue(own, slot, byte() < 240 ? byte() & 1 : (uint32_t)number(),
                byte() < 200 ? 8 : (uint32_t)number(), byte() < 200 ? 4 : (uint32_t)number())); break;
    case 4: checked(cellmate_frontend_start_device(own, slot)); break;
    case 5: {
      size_t length = (size_t)number();
      if (length > sizeof scratch && length < PTRDIFF_MAX) length %= sizeof scratch;
      if (length > sizeof scratch) length = 256;
      checked(cellmate_frontend_read_configuration(own, slot, (uint32_t)number(),
          count > 250 ? NULL : scratch, length));
      break;
    }
    case 6: checked(cellmate_frontend_read_register(own, slot, (uint32_t)number(), byte() & 15,
                count > 250 ? NULL : &value)); break;
    case 7: checked(cellmate_frontend_write_register(own, slot, (uint32_t)number(), byte() & 15,
                number())); break;
    case 8: case 9:
      checked(cellmate_frontend_allocate(own, count < 250 ? count & 1 : (int32_t)number(),
          byte() < 200 ? 64u + byte() : number(), count > 252 ? NULL : &buffers[byte() & 3]));
      break;
    case 10: checked(cellmate_frontend_free(own, count & 1, count > 250 ? NULL : &some[0])); break;
    case 11: checked(cellmate_frontend_submit(own, byte() < 240 ? byte() & 3 : (uint32_t)number(),
                 chains, 1 + (count & 1))); break;
    case 12: checked(cellmate_frontend_take(own, byte() < 240 ? byte() & 3 : (uint32_t)number(), done, 4)); break;
    default: checked(cellmate_frontend_sleep(own, later(1000000)));
  }
}

static void block(uint8_t kind) {
  void *own = handle();
  cellmate_block_facts facts = {.size = size_of(sizeof facts)};
  if (facts.size > sizeof facts) facts.size = 0;
  cellmate_block_request requests[2] = {
      {.type = byte() < 240 ? byte() & 1 : (uint32_t)number(), .token = 7, .sector = number(), .data = buffer()},
      {.type = CELLMATE_BLOCK_FLUSH, .token = 8, .data = buffer()}};
  cellmate_block_completion done[4];
  uint8_t count = byte();
  switch (kind % 7) {
    case 0: checked(cellmate_block_connect(own, later(1000000000))); break;
    case 1: checked(cellmate_block_info(own, &facts)); break;
    case 2: checked(cellmate_block_allocate(own, count & 1, byte() < 200 ? 512 : number(),
                &buffers[byte() & 3])); break;
    case 3: checked(cellmate_block_free(own, count & 1, &requests[0].data)); break;
    case 4: checked(cellmate_block_submit(own, requests, 1 + (count & 1))); break;
    case 5: checked(cellmate_block_take(own, done, 4)); break;
    default: checked(cellmate_block_sleep(own, later(1000000)));
  }
}

static void raw(uint8_t kind) {
  void *own = handle();
  uint32_t state = 0;
  cellmate_link_facts facts = {.size = size_of(sizeof facts)};
  if (facts.size > sizeof facts) facts.size = 0;
  switch (kind % 8) {
    case 0: checked(cellmate_link_info(own, &facts)); break;
    case 1: checked(cellmate_link_read_state(own, (uint32_t)number(), &state)); break;
    case 2: checked(cellmate_link_write_state(own, (uint32_t)number())); break;
    case 3: checked(cellmate_link_ring(own, (uint32_t)number(), (uint32_t)number())); break;
    case 4: checked(cellmate_link_arm(own, byte() < 240 ? byte() & 1 : (int32_t)number())); break;
    case 5: checked(cellmate_link_is_armed(own)); break;
    case 6: checked(cellmate_link_wait(own, later(1000000))); break;
    default: checked(cellmate_link_wake(own));
  }
}

static void registers(uint8_t kind) {
  cellmate_identity identity = {.size = sizeof identity, .device_id = 2, .queue_count = 1,
                                .queue_size_max = 8, .chain_length_max = 8};
  uint32_t value = 0;
  cellmate_action action = {.size = size_of(sizeof action)};
  if (action.size > sizeof action) action.size = 0;
  void *own = handle();
  cellmate_registers *made = NULL;
  int32_t result;
  switch (kind % 7) {
    case 0:
      if (byte() > 200) {
        identity.queue_count = (uint32_t)number();
        identity.queue_size_max = (uint32_t)number();
        identity.configuration_size = (uint32_t)number();
        identity.features = number();
      }
      result = cellmate_registers_create(&identity, &made);
      keep(result, result == CELLMATE_OK ? noted(made) : made);
      break;
    case 1: checked(cellmate_registers_read(own, (uint32_t)number(), &value)); break;
    case 2: case 3:
      checked(cellmate_registers_write(own, byte() < 200 ? byte() & 0xfc : (uint32_t)number(),
          (uint32_t)number(), &action));
      break;
    case 4: checked(cellmate_registers_confirm(own, (uint32_t)number(), (uint32_t)number())); break;
    case 5: checked(cellmate_registers_raise(own, (uint32_t)number())); break;
    default: checked(cellmate_registers_demand_reset(own));
  }
}

static void shut(uint8_t kind) {
  void *own = handle();
  switch (kind % 5) {
    case 0: checked(cellmate_link_close(own)); break;
    case 1: checked(cellmate_backend_close(own)); break;
    case 2: checked(cellmate_frontend_close(own)); break;
    case 3: checked(cellmate_block_close(own)); break;
    default: checked(cellmate_registers_close(own));
  }
}

/* Whether there are drivers and services, too: later inputs, so that older ones mean what they did. */
static int is_wide;

/* One call, as the bytes say. */
void act(void) {
  uint8_t kind = byte();
  if (rest == 0) return;
  depth++;
  uint8_t detail = byte();
  if (is_wide && kind >= 96) {
    if (kind < 192) drive(detail);
    else serve(detail);
    depth--;
    return;
  }
  switch (kind & 15) {
    case 0: open_link(); break;
    case 1: make(detail); break;
    case 2: add(); break;
    case 3: case 4: case 5: backend(detail); break;
    case 6: case 7: case 8: case 9: frontend(detail); break;
    case 10: block(detail); break;
    case 11: raw(detail); break;
    case 12: registers(detail); break;
    case 13:
      if (detail < 64) {
        shut(byte());
        break;
      }
      /* fall through */
    case 14: {
      /* The peer's stores, most of them where blocks and rings are. */
      size_t at = PAGE + ((size_t)byte() << 8 | byte()) * (detail & 1 ? 1 : 4) % section;
      for (unsigned count = 1 + (detail >> 5); count > 0 && at < PAGE + section; count--) memory[at++] = byte();
      break;
    }
    default:
      switch (detail % 4) {
        case 0: checked(cellmate_backend_adopt(handle())); break;
        case 1: checked(cellmate_frontend_adopt(handle())); break;
        case 2: checked(cellmate_block_adopt(handle())); break;
        default: checked(cellmate_frontend_wake(handle()));
      }
  }
  depth--;
}

/* Both sides with a device, ready to be used: random calls do not get that far. */
static void set_up(uint8_t choice) {
  for (uint32_t id = 0; id < 2; id++) {
    cellmate_platform given = platform(id);
    cellmate_link *link = NULL;
    CHECK(cellmate_link_open_platform(&given, id == 0 ? CELLMATE_BACK_END : CELLMATE_FRONT_END,
              1 - id, 0, &link, NULL) == CELLMATE_OK);
    if (id == 0) {
      cellmate_backend *made = NULL;
      CHECK(cellmate_backend_create(link, &made, NULL) == CELLMATE_OK);
      handles[0] = noted(made);
      cellmate_device device = wrong_device(42);
      CHECK(cellmate_backend_add_device(made, 1, &device) == CELLMATE_OK);
      CHECK(cellmate_backend_add(made, 0, "block,file=d", NULL) == CELLMATE_OK);
      CHECK(cellmate_backend_start(made) == CELLMATE_OK);
    } else if (choice & 2) {
      cellmate_block *made = NULL;
      CHECK(cellmate_block_create(link, 0, 4, &made, NULL) == CELLMATE_OK);
      handles[1] = noted(made);
    } else {
      cellmate_frontend *made = NULL;
      CHECK(cellmate_frontend_create(link, &made, NULL) == CELLMATE_OK);
      handles[1] = noted(made);
    }
  }
}

static void close_all(void) {
  depth = 3;
  rest = 0;
  for (unsigned index = 0; index < all_count; index++) {
    void *own = all[index];
    /* Exactly one kind is right, unless it was closed before. */
    int closed = (cellmate_link_close(own) == CELLMATE_OK) + (cellmate_backend_close(own) == CELLMATE_OK) +
                 (cellmate_frontend_close(own) == CELLMATE_OK) + (cellmate_block_close(own) == CELLMATE_OK) +
                 (cellmate_registers_close(own) == CELLMATE_OK) +
                 (cellmate_observer_close(own) == CELLMATE_OK) +
                 (cellmate_driver_close(own) == CELLMATE_OK);
    CHECK(closed <= 1);
    CHECK(cellmate_link_close(own) == CELLMATE_ERROR_HANDLE);
    CHECK(cellmate_backend_wake(own) == CELLMATE_ERROR_HANDLE);
    CHECK(cellmate_block_close(own) == CELLMATE_ERROR_HANDLE);
  }
  all_count = 0;
  depth = 0;
}

static void restart(void) {
  memset(memory, 0, PAGE + section);
  memset(handles, 0, sizeof handles);
  memset(tickets, 0, sizeof tickets);
  memset(buffers, 0, sizeof buffers);
  peers[0] = (struct peer){.id = 0};
  peers[1] = (struct peer){.id = 1};
  clock_now = 1000000000;
  ticket_count = 0;
  depth = 0;
  served = driven = running = NULL;
  honest_turns = 0;
  restart_service();
}

static unsigned open_descriptors(void) {
  DIR *folder = opendir("/proc/self/fd");
  CHECK(folder != NULL);
  unsigned count = 0;
  while (readdir(folder)) count++;
  closedir(folder);
  return count;
}

static void play_calls(void) {
  static unsigned runs;
  uint8_t choice = byte();
  is_wide = choice >= 128;
  is_real = choice >= 224;
  section = is_wide ? LARGE_SECTION : SECTION;
  int is_counted = is_wide && !is_real && runs++ % 16 == 0;
  unsigned before = is_counted ? open_descriptors() : 0;
  restart();
  if (is_wide) {
    set_up_service(choice);
  } else if (choice & 1) {
    set_up(choice);
  }
  for (int count = 0; count < 400 && rest > 0; count++) act();
  close_all();
  restart_service();
  /* Each descriptor is closed with its handle; threads that serve may still close, or take, what an
   * earlier input left them. */
  for (int count = 0; is_counted && open_descriptors() > before; count++) {
    CHECK(count < 2000);
    usleep(1000);
  }
}

/* ---- texts ----------------------------------------------------------------------------------- */

static void play_text(const uint8_t *data, size_t size) {
  if (size == 0) return;
  char *text = malloc(size);
  memcpy(text, data + 1, size - 1);
  text[size - 1] = 0;
  cellmate_error error = {.size = sizeof error};
  memset(error.text, 'x', sizeof error.text);
  cellmate_link *link = NULL;
  cellmate_observer *observer = NULL;
  cellmate_backend *made = NULL;
  int32_t result;
  is_real = is_wide = 0;
  section = SECTION;
  restart();
  switch (data[0] & 3) {
    case 0:
      result = checked(cellmate_link_open(text, data[0] & 4 ? CELLMATE_BACK_END : CELLMATE_FRONT_END,
          &link, &error));
      if (result == CELLMATE_OK) CHECK(cellmate_link_close(link) == CELLMATE_OK);
      break;
    case 1:
      result = checked(cellmate_observer_open(text, &observer, &error));
      if (result == CELLMATE_OK) CHECK(cellmate_observer_close(observer) == CELLMATE_OK);
      break;
    default: {
      cellmate_platform given = platform(0);
      CHECK(cellmate_link_open_platform(&given, CELLMATE_BACK_END, 1, 0, &link, NULL) == CELLMATE_OK);
      CHECK(cellmate_backend_create(link, &made, NULL) == CELLMATE_OK);
      result = checked(cellmate_backend_add(made, data[0] >> 3 & 7, text, &error));
      if (result == CELLMATE_OK) {
        CHECK(cellmate_backend_start(made) == CELLMATE_OK);
        for (int count = 0; count < 3; count++) checked(cellmate_backend_step(made));
      }
      CHECK(cellmate_backend_close(made) == CELLMATE_OK);
    }
  }
  if (result != CELLMATE_OK) {
    /* One line that says something, and ends. */
    size_t length = strnlen(error.text, sizeof error.text);
    CHECK(length > 3 && length < sizeof error.text);
    CHECK(error.result == result);
    CHECK(memchr(error.text, '\n', length) == NULL);
  }
  free(text);
}

/* ---- libFuzzer ------------------------------------------------------------------------------- */

static int is_text;
static char folder[] = "/tmp/cellmate-fuzz-XXXXXX";

static void clean(void) {
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (chdir("/") != 0 || system(command) != 0) fprintf(stderr, "%s stays behind\n", folder);
}

static void prepare(void) {
  const char *target = getenv("CELLMATE_FUZZ_TARGET");
  is_text = target != NULL && strcmp(target, "specification") == 0;
  memory = aligned_alloc(PAGE, MEMORY);
  CHECK(memory != NULL);
  /* A text may name any file: nothing of the machine is within reach. */
  CHECK(mkdtemp(folder) != NULL && chmod(folder, 0777) == 0 && chdir(folder) == 0);
  FILE *image = fopen("d", "w");
  CHECK(image != NULL && ftruncate(fileno(image), 1 << 16) == 0 && fclose(image) == 0);
  CHECK(chmod("d", 0666) == 0);
  atexit(clean);
  if (is_text && getuid() == 0)
    CHECK(chown(folder, 65534, 65534) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
  if (!is_text) prepare_service();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!memory) prepare();
  bytes = data;
  rest = size;
  if (is_text) {
    play_text(data, size);
  } else {
    play_calls();
  }
  return 0;
}

#ifdef PLAY_FILES
/* Without libFuzzer: plays the files that are named. */
int main(int count, char **paths) {
  for (int index = 1; index < count; index++) {
    static uint8_t text[1 << 16];
    FILE *file = fopen(paths[index], "r");
    if (!file) {
      perror(paths[index]);
      return 2;
    }
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    pid_t child = fork();
    if (child == 0) {
      LLVMFuzzerTestOneInput(text, size);
      exit(0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    if (status != 0) {
      fprintf(stderr, "%s: status %d\n", paths[index], status);
      return 1;
    }
  }
  printf("%d inputs\n", count - 1);
  return 0;
}
#endif
