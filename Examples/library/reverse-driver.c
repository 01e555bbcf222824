/* SPDX-License-Identifier: Apache-2.0 */
/* The driver of reverse-device: sends each line of standard input and prints what comes back. */
#include <cellmate.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { REVERSER = 0x3f, LIMIT = 4096 };

static uint64_t in_seconds(uint64_t seconds) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return ((uint64_t)t.tv_sec + seconds) * 1000000000u + (uint64_t)t.tv_nsec;
}

static int fail(const char *what, cellmate_result result) {
  fprintf(stderr, "reverse-driver: %s: %s\n", what, cellmate_result_text(result));
  return 1;
}

int main(int count, char **words) {
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link;
  cellmate_frontend *frontend;
  cellmate_buffer buffers[2];
  char line[LIMIT];
  uint64_t agreed;
  if (count != 2) {
    fprintf(stderr, "usage: reverse-driver LINK <TEXT\n");
    return 2;
  }
  if (cellmate_link_open(words[1], CELLMATE_FRONT_END, &link, &error) < 0) {
    fprintf(stderr, "reverse-driver: %s\n", error.text);
    return 2;
  }
  cellmate_result result = cellmate_frontend_create(link, &frontend, &error);
  if (result >= 0) result = cellmate_frontend_wait_link(frontend, in_seconds(10));
  if (result >= 0) result = cellmate_frontend_negotiate(frontend, 0, REVERSER, 0, &agreed);
  int queue = result < 0 ? result : cellmate_frontend_open_queue(frontend, 0, 0, 16, 2);
  result = queue < 0 ? queue : cellmate_frontend_start_device(frontend, 0);
  if (result < 0) return fail("set-up", result);
  for (int direction = 0; direction < 2; direction++) {
    result = cellmate_frontend_allocate(frontend, direction, LIMIT, &buffers[direction]);
    if (result < 0) return fail("buffers", result);
  }
  while (fgets(line, sizeof line, stdin)) {
    size_t length = strcspn(line, "\n");
    if (length == 0) continue;
    memcpy(buffers[0].data, line, length);
    cellmate_buffer parts[2] = {buffers[0], buffers[1]};
    parts[0].length = length;
    cellmate_chain chain = {.buffers = parts, .readable_count = 1, .writable_count = 1};
    cellmate_completion done;
    result = cellmate_frontend_submit(frontend, (uint32_t)queue, &chain, 1);
    while (result >= 0 &&
           (result = cellmate_frontend_take(frontend, (uint32_t)queue, &done, 1)) == 0)
      if (cellmate_frontend_sleep(frontend, in_seconds(10)) == CELLMATE_WAIT_DEADLINE)
        result = CELLMATE_ERROR_DEADLINE;
    if (result < 0) return fail("transfer", result);
    /* What the device says it wrote, but not more than this program has room for. */
    memcpy(line, buffers[1].data, done.written < sizeof line ? done.written : sizeof line);
    printf("%.*s\n", (int)done.written, line);
  }
  cellmate_frontend_close(frontend);
  return 0;
}
