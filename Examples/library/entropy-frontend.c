/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A complete front-end: takes random bytes from an entropy device (VIRTIO 1.4, 5.4) in slot SLOT of a
 * link and writes them to standard output.
 *
 *   entropy-frontend LINK [SLOT [BYTES]]        LINK as the tools take it, for instance sim:/tmp/link
 *
 * It shows what every front-end does: wait for the back-end, negotiate, open a queue, keep requests in
 * flight, sleep when there is nothing to do, and begin again when the back-end was restarted.
 */
#include <cellmate.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ENTROPY = 4, DEPTH = 8, SIZE = 4096 };
static const uint64_t second = 1000000000;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * second + (uint64_t)t.tv_nsec;
}

static void die(const char *what, cellmate_result result) {
  fprintf(stderr, "entropy-frontend: %s: %s\n", what, cellmate_result_text(result));
  exit(1);
}

/* From a link without a peer to a queue of a running device. */
static cellmate_result set_up(cellmate_frontend *frontend, uint32_t slot) {
  uint64_t agreed;
  cellmate_result result = cellmate_frontend_wait_link(frontend, now() + 10 * second);
  if (result < 0) return result;
  if ((result = cellmate_frontend_negotiate(frontend, slot, ENTROPY, 0, &agreed)) < 0) return result;
  int queue = cellmate_frontend_open_queue(frontend, slot, 0, DEPTH, 1);
  if (queue < 0) return queue;
  result = cellmate_frontend_start_device(frontend, slot);
  return result < 0 ? result : queue;
}

/* Asks for bytes with every free buffer, at once. */
static cellmate_result ask(
    cellmate_frontend *frontend, int queue, cellmate_buffer *buffers, int *is_free) {
  cellmate_chain chains[DEPTH];
  uint32_t count = 0;
  for (uint32_t index = 0; index < DEPTH; index++) {
    if (!is_free[index]) continue;
    chains[count++] = (cellmate_chain){
        .buffers = &buffers[index], .writable_count = 1, .token = index};
    is_free[index] = 0;
  }
  return cellmate_frontend_submit(frontend, (uint32_t)queue, chains, count);
}

/* Takes what is there and prints it; returns how many bytes, or an error. */
static int64_t take(
    cellmate_frontend *frontend, int queue, cellmate_buffer *buffers, int *is_free, uint64_t wanted) {
  cellmate_completion done[DEPTH];
  cellmate_result count = cellmate_frontend_take(frontend, (uint32_t)queue, done, DEPTH);
  if (count < 0) return count;
  uint64_t printed = 0;
  for (int index = 0; index < count; index++) {
    uint32_t which = done[index].token;
    uint64_t length = done[index].written;
    is_free[which] = 1;
    if (length > wanted - printed) length = wanted - printed;
    if (fwrite(buffers[which].data, 1, length, stdout) != length) {
      perror("entropy-frontend: standard output");
      exit(1);
    }
    printed += length;
  }
  return (int64_t)printed;
}

int main(int count, char **words) {
  if (count < 2 || count > 4) {
    fprintf(stderr, "usage: entropy-frontend LINK [SLOT [BYTES]]\n");
    return 2;
  }
  uint32_t slot = count > 2 ? (uint32_t)strtoul(words[2], NULL, 10) : 0;
  uint64_t wanted = count > 3 ? strtoull(words[3], NULL, 10) : 32;
  cellmate_error error = {.size = sizeof error};
  cellmate_link *link;
  cellmate_frontend *frontend;
  if (cellmate_link_open(words[1], CELLMATE_FRONT_END, &link, &error) < 0) {
    fprintf(stderr, "entropy-frontend: %s\n", error.text);
    return 2;
  }
  cellmate_result result = cellmate_frontend_create(link, &frontend, &error);
  if (result < 0) die("front-end", result);
  while (wanted > 0) {
    cellmate_buffer buffers[DEPTH];
    int is_free[DEPTH];
    int queue = set_up(frontend, slot);
    if (queue == CELLMATE_ERROR_LINK) continue; /* it was restarted meanwhile */
    if (queue < 0) die("set-up", queue);
    for (int index = 0; index < DEPTH; index++) {
      is_free[index] = 1;
      result = cellmate_frontend_allocate(
          frontend, CELLMATE_FOR_DEVICE_TO_WRITE, SIZE, &buffers[index]);
      if (result < 0) die("buffers", result);
    }
    while (wanted > 0) {
      result = ask(frontend, queue, buffers, is_free);
      int64_t got = result < 0 ? result : take(frontend, queue, buffers, is_free, wanted);
      if (got == CELLMATE_ERROR_LINK) break; /* the back-end left: everything is void */
      if (got < 0) die("transfer", (cellmate_result)got);
      wanted -= (uint64_t)got;
      if (got == 0 && cellmate_frontend_sleep(frontend, now() + 10 * second) ==
                          CELLMATE_WAIT_DEADLINE)
        die("transfer", CELLMATE_ERROR_DEADLINE);
    }
  }
  cellmate_frontend_close(frontend);
  return fflush(stdout) ? 1 : 0;
}
