/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A complete back-end with a device of its own: it gives the bytes of each request back in the opposite
 * order. Slot 1 has one of the library's devices beside it.
 *
 *   reverse-device LINK
 *
 * The device sees requests, never descriptors: the library has read each descriptor once, checked it and
 * copied it. The bytes themselves are the driver's, who may change them at any time: they are copied out
 * before they are looked at.
 */
#include <cellmate.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { REVERSER = 0x3f, LIMIT = 4096 };

static cellmate_backend *backend;

static int64_t serve(void *context, const cellmate_request *request) {
  uint8_t *bytes = context;
  size_t length = 0, done = 0;
  for (uint32_t index = 0; index < request->readable_count; index++) {
    const cellmate_segment *segment = &request->readable[index];
    size_t part = segment->length < LIMIT - length ? segment->length : LIMIT - length;
    memcpy(bytes + length, segment->data, part);
    length += part;
  }
  for (uint32_t index = 0; index < request->writable_count; index++) {
    uint8_t *out = request->writable[index].data;
    for (size_t at = 0; at < request->writable[index].length && done < length; at++)
      out[at] = bytes[length - ++done];
  }
  return (int64_t)done;
}

/* May be called from a signal handler. */
static void stop(int signal) {
  (void)signal;
  cellmate_backend_stop(backend);
}

int main(int count, char **words) {
  static uint8_t bytes[LIMIT];
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link;
  if (count != 2) {
    fprintf(stderr, "usage: reverse-device LINK\n");
    return 2;
  }
  cellmate_device device = {
      .size = sizeof device,
      .context = bytes,
      .device_id = REVERSER,
      .queue_count = 1,
      .queue_size_max = 64,
      .chain_length_max = 16,
      .serve = serve,
  };
  if (cellmate_link_open(words[1], CELLMATE_BACK_END, &link, &error) < 0) {
    fprintf(stderr, "reverse-device: %s\n", error.text);
    return 2;
  }
  cellmate_result result = cellmate_backend_create(link, &backend, &error);
  if (result >= 0) result = cellmate_backend_add_device(backend, 0, &device);
  if (result >= 0) result = cellmate_backend_add(backend, 1, "entropy", &error);
  if (result < 0) {
    fprintf(stderr, "reverse-device: %s\n", cellmate_result_text(result));
    return 1;
  }
  signal(SIGINT, stop);
  signal(SIGTERM, stop);
  result = cellmate_backend_run(backend, 0);
  cellmate_device_counters counters = {.size = sizeof counters};
  cellmate_backend_device_counters(backend, 0, &counters);
  printf("requests=%llu\n", (unsigned long long)counters.chains);
  cellmate_backend_close(backend);
  if (result < 0) fprintf(stderr, "reverse-device: %s\n", cellmate_result_text(result));
  return result < 0;
}
