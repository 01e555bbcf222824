/* SPDX-License-Identifier: Apache-2.0 */
/* The drivers of the library: entropy from a built-in device, a console and a network from devices
 * that send back what they get; wrong calls, and a back-end that goes and comes back. */
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

enum { SECOND = 1000000000, KEPT = 512, LARGEST = 8192 };

/* A device that gives what it gets on queue 1 back on queue 0. */
struct mirror {
  cellmate_backend *backend;
  uint32_t slot;
  uint64_t tickets[KEPT];
  cellmate_segment rooms[KEPT];
  unsigned first, last;
};

static int64_t serve(void *context, const cellmate_request *request) {
  struct mirror *mirror = context;
  if (request->queue == 0) {
    if (request->writable_count == 0 || mirror->last - mirror->first == KEPT) return 0;
    mirror->tickets[mirror->last % KEPT] = request->ticket;
    mirror->rooms[mirror->last++ % KEPT] = request->writable[0];
    return CELLMATE_PENDING;
  }
  char bytes[LARGEST];
  size_t length = 0;
  for (uint32_t index = 0; index < request->readable_count; index++) {
    size_t more = request->readable[index].length;
    if (more > sizeof bytes - length) return 0;
    memcpy(bytes + length, request->readable[index].data, more);
    length += more;
  }
  if (mirror->first == mirror->last) return 0;
  cellmate_segment room = mirror->rooms[mirror->first % KEPT];
  if (length > room.length) length = room.length;
  memcpy(room.data, bytes, length);
  cellmate_backend_complete(mirror->backend, mirror->slot,
                            mirror->tickets[mirror->first++ % KEPT], (uint32_t)length);
  return 0;
}

static void stop(void *context) {
  struct mirror *mirror = context;
  while (mirror->first != mirror->last)
    cellmate_backend_complete(mirror->backend, mirror->slot,
                              mirror->tickets[mirror->first++ % KEPT], 0);
}

struct side {
  struct machine *machine;
  cellmate_backend *backend;
  struct mirror mirrors[2];
  pthread_barrier_t ready;
  pthread_t thread;
};

static void add(struct side *side, unsigned index, uint32_t slot, uint32_t id) {
  static const uint8_t configuration[12] = {2, 0, 0, 0, 0, 9};
  struct mirror *mirror = &side->mirrors[index];
  memset(mirror, 0, sizeof *mirror);
  mirror->backend = side->backend;
  mirror->slot = slot;
  cellmate_device device = {.size = sizeof device,
                            .context = mirror,
                            .device_id = id,
                            .queue_count = 2,
                            .queue_size_max = 256,
                            .chain_length_max = 4,
                            .features = id == 1 ? 1u << 5 : 0,
                            .configuration = configuration,
                            .configuration_size = sizeof configuration,
                            .stop = stop,
                            .serve = serve};
  SAME(cellmate_backend_add_device(side->backend, slot, &device), CELLMATE_OK);
}

static void *run(void *context) {
  struct side *side = context;
  cellmate_platform platform = machine_platform(side->machine, 0);
  cellmate_link *link = NULL;
  SAME(cellmate_link_open_platform(&platform, CELLMATE_BACK_END, 1, 0, &link, NULL), CELLMATE_OK);
  SAME(cellmate_backend_create(link, &side->backend, NULL), CELLMATE_OK);
  SAME(cellmate_backend_add(side->backend, 0, "entropy", NULL), CELLMATE_OK);
  add(side, 0, 1, 3);
  add(side, 1, 2, 1);
  pthread_barrier_wait(&side->ready);
  SAME(cellmate_backend_run(side->backend, 20000), CELLMATE_OK);
  SAME(cellmate_backend_close(side->backend), CELLMATE_OK);
  return NULL;
}

static void begin(struct side *side) {
  pthread_barrier_init(&side->ready, NULL, 2);
  pthread_create(&side->thread, NULL, run, side);
  pthread_barrier_wait(&side->ready);
}

static void end(struct side *side) {
  SAME(cellmate_backend_stop(side->backend), CELLMATE_OK);
  pthread_join(side->thread, NULL);
  pthread_barrier_destroy(&side->ready);
}

static cellmate_link *join(struct side *side) {
  cellmate_platform platform = machine_platform(side->machine, 1);
  cellmate_link *link = NULL;
  SAME(cellmate_link_open_platform(&platform, CELLMATE_FRONT_END, 0, 0, &link, NULL), CELLMATE_OK);
  return link;
}

/* The text of the last failure has these words in it. */
static void says(cellmate_driver *driver, const char *words) {
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_driver_error(driver, &error), CELLMATE_OK);
  if (!strstr(error.text, words)) printf("'%s' has no '%s'\n", error.text, words);
  TRUE(strstr(error.text, words) != NULL);
}

static void *from_another_thread(void *driver) {
  SAME(cellmate_driver_step(driver), CELLMATE_ERROR_THREAD);
  SAME(cellmate_driver_close(driver), CELLMATE_ERROR_THREAD);
  SAME(cellmate_driver_wake(driver), CELLMATE_OK);
  SAME(cellmate_driver_adopt(driver), CELLMATE_OK);
  SAME(cellmate_driver_pending(driver), 0);
  return NULL;
}

static void entropy(struct side *side) {
  cellmate_link *link = join(side);
  cellmate_driver *driver = NULL;
  uint8_t bytes[4096] = {0};
  SAME(cellmate_entropy_create(link, 9, 4, 64, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_entropy_create(link, 0, 0, 64, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_entropy_create(link, 0, 65, 64, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_entropy_create(link, 0, 4, 65537, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_entropy_create(link, 0, 4, 64, NULL, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_entropy_create(NULL, 0, 4, 64, &driver, NULL), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_entropy_create(link, 0, 4, 64, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_link_close(link), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_entropy_read(driver, bytes, sizeof bytes), CELLMATE_ERROR_LINK);
  SAME(cellmate_driver_sleep(driver, CELLMATE_FOREVER, 0), CELLMATE_WAIT_EVENT);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  SAME(cellmate_entropy_read(driver, NULL, 1), CELLMATE_ERROR_ARGUMENT);
  size_t count = 0;
  for (uint64_t limit = now() + 60ull * SECOND; count < sizeof bytes && now() < limit;) {
    int got = cellmate_entropy_read(driver, bytes + count, sizeof bytes - count);
    TRUE(got >= 0);
    if (got < 0) break;
    count += (size_t)got;
    if (got == 0) SAME(cellmate_driver_sleep(driver, limit, 1000), CELLMATE_WAIT_EVENT);
  }
  SAME(count, sizeof bytes);
  unsigned zeroes = 0;
  for (size_t at = 0; at < sizeof bytes; at++) zeroes += bytes[at] == 0;
  TRUE(zeroes < 100);
  /* What is not for an entropy driver. */
  cellmate_console_facts port = {.size = sizeof port};
  cellmate_network_facts facts = {.size = sizeof facts};
  cellmate_block_facts disk = {.size = sizeof disk};
  SAME(cellmate_console_port(driver, 0, &port), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_console_read(driver, bytes, 1), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_console_write(driver, bytes, 1), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_network_info(driver, &facts), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_network_carry(driver), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_block_info(driver, &disk), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_frontend_step((cellmate_frontend *)driver), CELLMATE_ERROR_HANDLE);
  uint64_t time = 0;
  SAME(cellmate_block_time_access(driver, &time), CELLMATE_ERROR_HANDLE);
  TRUE(cellmate_driver_wake_descriptor(driver) > 2);
  cellmate_driver_counters counters = {.size = sizeof counters - 1};
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_ERROR_SIZE);
  counters.size = sizeof counters;
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_OK);
  SAME(counters.connections, 1);
  pthread_t other;
  pthread_create(&other, NULL, from_another_thread, driver);
  pthread_join(other, NULL);
  SAME(cellmate_driver_step(driver), CELLMATE_ERROR_THREAD);
  SAME(cellmate_driver_adopt(driver), CELLMATE_OK);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  SAME(cellmate_driver_close(driver), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_driver_connect(driver, 0), CELLMATE_ERROR_HANDLE);
  SAME(cellmate_driver_error(driver, NULL), CELLMATE_ERROR_HANDLE);
}

/* What is written comes back. */
static void echo(cellmate_driver *driver, const char *words) {
  char bytes[64] = {0};
  size_t length = strlen(words), sent = 0, count = 0;
  for (uint64_t limit = now() + 60ull * SECOND; count < length && now() < limit;) {
    int put = cellmate_console_write(driver, words + sent, length - sent);
    int got = cellmate_console_read(driver, bytes + count, sizeof bytes - count);
    TRUE(put >= 0 && got >= 0);
    if (put < 0 || got < 0) break;
    sent += (size_t)put;
    count += (size_t)got;
    if (put + got > 0) continue;
    TRUE(cellmate_driver_step(driver) >= 0);
    SAME(cellmate_driver_sleep(driver, limit, 0), CELLMATE_WAIT_EVENT);
  }
  SAME(count, length);
  SAME(memcmp(bytes, words, length), 0);
}

static void console(struct side *side) {
  cellmate_link *link = join(side);
  cellmate_driver *driver = NULL;
  SAME(cellmate_console_create(link, 1, -2, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_console_create(link, 1, 15, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_console_create(link, 1, 0, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_step(driver), CELLMATE_ERROR_LINK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  cellmate_console_facts facts = {.size = sizeof facts};
  SAME(cellmate_console_port(driver, 0, &facts), CELLMATE_OK);
  SAME(facts.port_count, 1);
  SAME(facts.is_multiport, 0);
  SAME(facts.is_open, 1);
  SAME(cellmate_console_port(driver, 1, &facts), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_console_port(driver, 0, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_console_write(driver, NULL, 1), CELLMATE_ERROR_ARGUMENT);
  echo(driver, "what is written comes back");
  /* The back-end dies: that is seen, it is waited for in vain, and taken up again. */
  end(side);
  int32_t seen = 0;
  for (uint64_t limit = now() + 60ull * SECOND; seen >= 0 && now() < limit;)
    if ((seen = cellmate_driver_step(driver)) == 1) cellmate_driver_sleep(driver, limit, 0);
  SAME(seen, CELLMATE_ERROR_LINK);
  SAME(cellmate_driver_connect(driver, now() + SECOND / 50), CELLMATE_ERROR_DEADLINE);
  says(driver, "did not come back");
  begin(side);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  echo(driver, "also from the next one");
  cellmate_driver_counters counters = {.size = sizeof counters};
  SAME(cellmate_driver_count(driver, &counters), CELLMATE_OK);
  SAME(counters.connections, 2);
  TRUE(counters.slowest_set_up > 0);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
}

static void frames(cellmate_driver *driver) {
  enum { COUNT = 8 };
  static uint8_t out[COUNT][1514], in[COUNT][2048];
  cellmate_frame sent[COUNT] = {0}, received[COUNT] = {0};
  for (int index = 0; index < COUNT; index++) {
    memset(out[index], index + 1, sizeof out[index]);
    sent[index].data = out[index];
    sent[index].length = 60 + 200 * (uint32_t)index;
    received[index].data = in[index];
    received[index].length = sizeof in[index];
  }
  SAME(cellmate_network_send(driver, sent, COUNT), COUNT);
  int count = 0;
  for (uint64_t limit = now() + 60ull * SECOND; count < COUNT && now() < limit;) {
    int got = cellmate_network_receive(driver, received + count, (uint32_t)(COUNT - count));
    TRUE(got >= 0);
    if (got < 0) break;
    count += got;
    if (got == 0) SAME(cellmate_driver_sleep(driver, limit, 0), CELLMATE_WAIT_EVENT);
  }
  SAME(count, COUNT);
  for (int index = 0; index < count; index++) {
    SAME(received[index].length, sent[index].length);
    SAME(memcmp(in[index], out[index], sent[index].length), 0);
  }
  SAME(cellmate_driver_pending(driver), 0);
  /* What no device may get. */
  sent[0].length = 13;
  SAME(cellmate_network_send(driver, sent, 1), CELLMATE_ERROR_ARGUMENT);
  sent[0].length = 1600;
  SAME(cellmate_network_send(driver, sent, 1), CELLMATE_ERROR_ARGUMENT);
  sent[0].length = 60;
  sent[0].needs_checksum = 1;
  sent[0].checksum_start = 34;
  SAME(cellmate_network_send(driver, sent, 1), CELLMATE_ERROR_ARGUMENT);
  sent[0].data = NULL;
  SAME(cellmate_network_send(driver, sent, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_send(driver, NULL, 1), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_receive(driver, NULL, 1), CELLMATE_ERROR_ARGUMENT);
}

/* Frames of a stream socket go out and come back. */
static void bridge(cellmate_driver *driver, const char *image) {
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_network_carry(driver), CELLMATE_ERROR_ORDER);
  SAME(cellmate_network_bridge(driver, NULL, &error), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_bridge(driver, "rubbish", &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "rubbish") != NULL);
  SAME(cellmate_network_bridge(driver, "socket:/nowhere/at/all", &error), CELLMATE_ERROR_TEXT);
  TRUE(strstr(error.text, "/nowhere/at/all") != NULL);
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  char specification[160];
  snprintf(name.sun_path, sizeof name.sun_path, "%s.sock", image);
  snprintf(specification, sizeof specification, "socket:%s", name.sun_path);
  unlink(name.sun_path);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  TRUE(bind(listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(listener, 1) == 0);
  SAME(cellmate_network_bridge(driver, specification, &error), CELLMATE_OK);
  SAME(cellmate_network_bridge(driver, specification, &error), CELLMATE_ERROR_ORDER);
  int end = accept(listener, NULL, NULL);
  uint8_t frame[64] = {0, 0, 0, 60}, back[64] = {0};
  memset(frame + 4, 7, 60);
  SAME(write(end, frame, sizeof frame), sizeof frame);
  uint64_t limit = now() + 60ull * SECOND;
  for (int isBack = 0; !isBack && now() < limit;) {
    int result = cellmate_network_carry(driver);
    TRUE(result >= 0);
    if (result < 0) break;
    isBack = recv(end, back, sizeof back, MSG_DONTWAIT | MSG_PEEK) == sizeof back;
    if (result == 0 && !isBack) cellmate_driver_sleep(driver, limit, 0);
  }
  SAME(recv(end, back, sizeof back, MSG_DONTWAIT), sizeof back);
  SAME(memcmp(frame, back, sizeof frame), 0);
  close(end);
  int result = 1;
  while (now() < limit && (result == 0 || result == 1))
    if ((result = cellmate_network_carry(driver)) == 0) cellmate_driver_sleep(driver, limit, 0);
  SAME(result, 2);
  close(listener);
  unlink(name.sun_path);
}

static void network(struct side *side, const char *image) {
  cellmate_link *link = join(side);
  cellmate_driver *driver = NULL;
  SAME(cellmate_network_create(link, 2, 0, 0, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_create(link, 2, 9, 0, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_create(link, 2, 1, 32, &driver, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_create(link, 2, 1, 0, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_network_command(driver, CELLMATE_NETWORK_PROMISCUOUS, 1, 0), CELLMATE_ERROR_LINK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_OK);
  cellmate_network_facts facts = {.size = sizeof facts};
  SAME(cellmate_network_info(driver, &facts), CELLMATE_OK);
  SAME(facts.has_address, 1);
  SAME(facts.address[0], 2);
  SAME(facts.address[5], 9);
  SAME(facts.is_link_up, 1);
  SAME(facts.mtu, 1500);
  SAME(facts.pairs_in_use, 1);
  SAME(facts.control_queue, -1);
  SAME(facts.packet_limit, 1518);
  SAME(cellmate_network_command(driver, 9, 0, now() + SECOND), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_network_command(driver, CELLMATE_NETWORK_SET_ADDRESS, 2, now() + SECOND),
       CELLMATE_ERROR_REFUSED);
  says(driver, "no control queue for: set the address");
  frames(driver);
  bridge(driver, image);
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
}

/* What is wrong with a place is said by the call that finds out. */
static void places(struct side *side) {
  cellmate_driver *driver = NULL;
  cellmate_frontend *frontend = NULL;
  cellmate_link *link = join(side);
  cellmate_error error = {.size = sizeof error};
  SAME(cellmate_console_create(link, 0, 0, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_ERROR_DEVICE);
  says(driver, "the slot holds device type 4, not a console (3)");
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  link = join(side);
  SAME(cellmate_entropy_create(link, 7, 1, 1, &driver, NULL), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + 60ull * SECOND), CELLMATE_ERROR_DEVICE);
  says(driver, "no device in this slot");
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
  SAME(cellmate_link_open("vhost-user:/nowhere/at/all", CELLMATE_FRONT_END, &link, &error),
       CELLMATE_OK);
  SAME(cellmate_frontend_create(link, &frontend, &error), CELLMATE_ERROR_TEXT);
  SAME(cellmate_entropy_create(link, 0, 1, 1, &driver, &error), CELLMATE_OK);
  SAME(cellmate_driver_connect(driver, now() + SECOND), CELLMATE_ERROR_TEXT);
  says(driver, "/nowhere/at/all");
  SAME(cellmate_driver_close(driver), CELLMATE_OK);
}

void test_drivers(const char *image) {
  struct side side = {.machine = machine_make()};
  begin(&side);
  entropy(&side);
  console(&side);
  network(&side, image);
  places(&side);
  end(&side);
  machine_free(side.machine);
}
