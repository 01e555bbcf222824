/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers of the library in the hands of a caller who does everything wrong (interface.c). */
#include "interface.h"

#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK, ENTROPY, CONSOLE, NETWORK, KINDS, LARGEST = 8192, KEPT = 64 };

void *driven;

/* Memory of exactly that many bytes, so that one too many is seen. */
static void *room(size_t length) {
  void *made = malloc(length);
  CHECK(made != NULL || length == 0);
  return made;
}

static size_t length_of_bytes(void) {
  uint8_t choice = byte();
  return choice < 200 ? choice : (size_t)(number() % 70000);
}

/* ---- a device that gives back what it gets ---------------------------------------------------- */

static struct mirror {
  cellmate_backend *backend;
  uint32_t slot;
  uint64_t tickets[KEPT];
  cellmate_segment rooms[KEPT];
  unsigned first, last;
} mirrors[8];

/* Most answers are right; the bytes may lie about how much was written. */
static uint32_t written(size_t length) {
  uint8_t choice = honest_turns > 0 ? 0 : byte();
  return choice < 240 ? (uint32_t)length : (uint32_t)number();
}

static int64_t mirror_serve(void *context, const cellmate_request *request) {
  struct mirror *mirror = context;
  if (request->queue == 0) {
    if (request->writable_count == 0 || mirror->last - mirror->first == KEPT) return 0;
    mirror->tickets[mirror->last % KEPT] = request->ticket;
    mirror->rooms[mirror->last++ % KEPT] = request->writable[0];
    return CELLMATE_PENDING;
  }
  static char bytes[LARGEST];
  size_t length = 0;
  for (uint32_t index = 0; index < request->readable_count; index++) {
    size_t more = request->readable[index].length;
    if (more > sizeof bytes - length) return 0;
    memcpy(bytes + length, request->readable[index].data, more);
    length += more;
  }
  if (mirror->first == mirror->last) return 0;
  cellmate_segment part = mirror->rooms[mirror->first % KEPT];
  if (length > part.length) length = part.length;
  memcpy(part.data, bytes, length);
  checked(cellmate_backend_complete(mirror->backend, mirror->slot,
      mirror->tickets[mirror->first++ % KEPT], written(length)));
  return 0;
}

static void mirror_stop(void *context) {
  struct mirror *mirror = context;
  while (mirror->first != mirror->last)
    checked(cellmate_backend_complete(mirror->backend, mirror->slot,
        mirror->tickets[mirror->first++ % KEPT], 0));
}

/* Mostly as it should be; or nothing, so that the queue's end waits. */
static void mirror_cancel(void *context, uint32_t queue) {
  CHECK(queue < 2);
  if (queue == 0 && (honest_turns > 0 || byte() < 200)) mirror_stop(context);
}

cellmate_device mirror_device(cellmate_backend *backend, uint32_t slot, uint32_t id) {
  static const uint8_t configuration[16] = {2, 0, 0, 0, 0, 9};
  struct mirror *mirror = &mirrors[slot & 7];
  memset(mirror, 0, sizeof *mirror);
  mirror->backend = backend;
  mirror->slot = slot;
  return (cellmate_device){.size = sizeof(cellmate_device),
                           .context = mirror,
                           .device_id = id,
                           .queue_count = 2,
                           .queue_size_max = 64,
                           .chain_length_max = 4,
                           /* An address; an emergency register, which cannot be written. */
                           .features = id == 1 ? 1u << 5 : 1u << 2,
                           .configuration = configuration,
                           .configuration_size = sizeof configuration,
                           .stop = mirror_stop,
                           .serve = mirror_serve,
                           .cancel = mirror_cancel};
}

/* ---- making drivers --------------------------------------------------------------------------- */

static int32_t make_driver(uint32_t kind, void *link, uint32_t slot, void **made) {
  cellmate_error error = {.size = sizeof error};
  cellmate_driver **place = byte() < 250 ? (cellmate_driver **)made : NULL;
  uint8_t lie = byte();
  int32_t result;
  switch (kind % KINDS) {
    case BLOCK:
      result = cellmate_block_create(link, slot, lie < 230 ? 1u + lie % 8u : (uint32_t)number(), place, &error);
      break;
    case ENTROPY:
      result = cellmate_entropy_create(link, slot, lie < 230 ? 1u + lie % 4u : (uint32_t)number(),
          lie < 220 ? 1u + lie : (uint32_t)number(), place, &error);
      break;
    case CONSOLE:
      result = cellmate_console_create(link, slot, lie < 230 ? lie % 4 - 1 : (int32_t)number(), place, &error);
      break;
    default:
      result = cellmate_network_create(link, slot, lie < 230 ? 1u + (lie & 1u) : (uint32_t)number(),
          lie < 100 ? 0u : lie < 230 ? lie & 31u : (uint32_t)number(), place, &error);
  }
  if (checked(result) == CELLMATE_OK) {
    CHECK(*made != NULL);
    noted(*made);
  }
  return result;
}

void set_up_driver(uint32_t slot, uint32_t kind, cellmate_link *link) {
  void *made = NULL;
  if (make_driver(kind, link, slot, &made) != CELLMATE_OK) {
    /* Not used up, unless memory was short. */
    checked(cellmate_link_close(link));
    return;
  }
  driven = handles[1] = made;
  /* Most set-ups end with a device that works. */
  if (byte() < 200) {
    honest_turns = 200;
    checked(cellmate_driver_connect(made, later(1000000000)));
    honest_turns = 0;
  }
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void network_frames(void *own, int is_sent) {
  cellmate_frame frames[4];
  uint32_t count = byte() & 3;
  for (uint32_t index = 0; index < count; index++) {
    uint8_t lie = byte();
    uint32_t length = lie < 200 ? 14u + lie * 8u : (uint32_t)(number() % 70000);
    frames[index] = (cellmate_frame){.data = room(length), .length = length, .pair = lie & 1};
    if (is_sent && length > 0) {
      memset(frames[index].data, lie, length);
      if (length > 14) memcpy(frames[index].data, "\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb6", 14);
      /* IPv4 and TCP, so that something can be left undone. */
      if (lie & 2 && length > 60) memcpy((char *)frames[index].data + 12, "\x08\0\x45", 3);
    }
    if (lie > 180) {
      frames[index].pair = (uint16_t)number();
      frames[index].needs_checksum = byte() & 3;
      frames[index].segmentation = byte();
      frames[index].checksum_start = (uint16_t)number();
      frames[index].checksum_offset = (uint16_t)number();
      frames[index].segment_size = (uint16_t)number();
      frames[index].header_length = (uint16_t)number();
    } else if (lie & 4) {
      frames[index].needs_checksum = 1;
      frames[index].checksum_start = 34;
      frames[index].checksum_offset = 16;
      if (lie & 8) frames[index].segmentation = 1, frames[index].segment_size = 100, frames[index].header_length = 54;
    }
  }
  cellmate_frame *all = byte() < 250 ? frames : NULL;
  void *own_data[4];
  for (uint32_t index = 0; index < count; index++) {
    own_data[index] = frames[index].data;
    if (byte() > 250) frames[index].data = NULL;
  }
  uint32_t limit[4];
  for (uint32_t index = 0; index < count; index++) limit[index] = frames[index].length;
  int32_t result = is_sent ? cellmate_network_send(own, all, count) : cellmate_network_receive(own, all, count);
  if (checked(result) > 0) {
    CHECK((uint32_t)result <= count);
    for (int32_t index = 0; index < result && !is_sent; index++)
      CHECK(frames[index].length <= limit[index]);
  }
  for (uint32_t index = 0; index < count; index++) free(own_data[index]);
}

static void bridge(void *own) {
  static const char *const ends[] = {"socket:far", "socket:far", "socket:far", "socket:far", "socket:/nowhere",
      "tap:", "tap:a/name/that/is/none", "rubbish", ""};
  cellmate_error error = {.size = sizeof error};
  uint8_t choice = byte();
  checked(cellmate_network_bridge(own, choice < 250 ? ends[choice % 9] : NULL, choice & 1 ? &error : NULL));
}

static void network(void *own, uint8_t kind) {
  cellmate_network_facts facts = {.size = size_of(sizeof facts)};
  if (facts.size > sizeof facts) facts.size = 0;
  switch (kind % 8) {
    case 0: checked(cellmate_network_info(own, byte() < 250 ? &facts : NULL)); break;
    case 1: case 2: network_frames(own, 1); break;
    case 3: network_frames(own, 0); break;
    case 4:
      checked(cellmate_network_command(own, byte() < 230 ? 1u + (byte() & 3) : (uint32_t)number(), number(),
          later(1000000)));
      break;
    case 5: bridge(own); break;
    default: CHECK(checked(cellmate_network_carry(own)) <= 3);
  }
}

static void stream(void *own, uint8_t kind) {
  size_t length = length_of_bytes();
  uint8_t *data = room(length);
  uint8_t *place = byte() < 250 ? data : NULL;
  cellmate_console_facts facts = {.size = size_of(sizeof facts)};
  if (facts.size > sizeof facts) facts.size = 0;
  int32_t result;
  switch (kind % 4) {
    case 0: result = cellmate_entropy_read(own, place, length); break;
    case 1:
      if (length > 0) memset(data, kind, length);
      /* The register takes one byte after the other. */
      result = kind < 192 ? cellmate_console_write(own, place, length)
                          : cellmate_console_emergency(own, place, length, later(number() % 1000000));
      break;
    case 2: result = cellmate_console_read(own, place, length); break;
    default:
      if (cellmate_console_port(own, byte() < 230 ? byte() & 3 : (uint32_t)number(), &facts) == CELLMATE_OK) {
        CHECK(facts.port_count <= 15);
        CHECK(facts.size < sizeof facts || memchr(facts.name, 0, sizeof facts.name) != NULL);
      }
      result = 0;
  }
  if (checked(result) > 0) CHECK((size_t)result <= length);
  free(data);
}

/* The driver's own part: what each kind of driver has. */
static void general(void *own, uint8_t kind) {
  cellmate_driver_counters counters = {.size = size_of(sizeof counters)};
  if (counters.size > sizeof counters) counters.size = 0;
  cellmate_error error = {.size = size_of(sizeof error)};
  if (error.size > sizeof error) error.size = 0;
  uint64_t time;
  switch (kind % 12) {
    case 0:
      if (byte() < 128) honest_turns = 200;
      checked(cellmate_driver_connect(own, byte() < 240 ? later(1000000000) : later(0)));
      honest_turns = 0;
      break;
    case 1: case 2: CHECK(checked(cellmate_driver_step(own)) <= 2); break;
    case 3: checked(cellmate_driver_sleep(own, later(number() % 1000000), byte() < 200 ? 0 : number() % 3000)); break;
    case 4: checked(byte() & 1 ? cellmate_driver_wake(own) : cellmate_block_wake(own)); break;
    case 5: {
      int32_t descriptor = checked(cellmate_driver_wake_descriptor(own));
      uint64_t one = 1;
      if (descriptor >= 0 && byte() < 128) CHECK(write(descriptor, &one, sizeof one) == sizeof one);
      break;
    }
    case 6: checked(cellmate_driver_pending(own)); break;
    case 7: checked(cellmate_driver_count(own, byte() < 250 ? &counters : NULL)); break;
    case 8: checked(cellmate_driver_error(own, byte() < 250 ? &error : NULL)); break;
    case 9: checked(cellmate_driver_adopt(own)); break;
    case 10: checked(cellmate_block_time_access(own, byte() < 250 ? &time : NULL)); break;
    default:
      if (byte() < 40) {
        checked(cellmate_driver_close(own));
      } else {
        cellmate_link_counters link = {.size = sizeof link};
        checked(byte() & 1 ? cellmate_block_link_counters(own, &link) : cellmate_frontend_link_counters(own, &link));
      }
  }
}

/* A driver of a kind that may be another one than its device. */
static void create(uint8_t kind) {
  void *made = NULL;
  uint32_t slot = byte() < 230 ? byte() & 7 : (uint32_t)number();
  int32_t result = make_driver(kind, handle(), slot, &made);
  keep(result, made);
}

void drive(uint8_t kind) {
  void *own = byte() < 220 && driven ? driven : handle();
  uint8_t detail = byte();
  switch (kind % 8) {
    case 0: case 1: case 2: general(own, detail); break;
    case 3: case 4: stream(own, detail); break;
    case 5: case 6: network(own, detail); break;
    default: create(detail);
  }
}
