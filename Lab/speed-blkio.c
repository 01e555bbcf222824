/* Drives a vhost-user block device through libblkio and prints completions per second.
 *
 * usage: speed-blkio SOCKET randread|randwrite|read|write BLOCK DEPTH MILLISECONDS
 *
 * Output: requests, nanoseconds, and the 50th and 99th percentile of latency in nanoseconds.
 */
#define _GNU_SOURCE
#include <blkio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 1024, SAMPLES = 1 << 20 };

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(int result, const char *what) {
  if (result == 0) return;
  fprintf(stderr, "%s: %s\n", what, blkio_get_error_msg());
  exit(1);
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

struct job {
  struct blkioq *queue;
  char *memory;
  uint64_t capacity, position, state, block;
  int is_random, is_write;
};

static uint64_t submitted[MOST];
static uint32_t latency[SAMPLES];

static void submit(struct job *job, uint64_t slot) {
  uint64_t blocks = job->capacity / job->block;
  uint64_t at = job->position++ % blocks;
  if (job->is_random) {
    job->state = job->state * 6364136223846793005u + 1442695040888963407u;
    at = (job->state >> 20) % blocks;
  }
  char *data = job->memory + slot * job->block;
  submitted[slot] = now();
  if (job->is_write)
    blkioq_write(job->queue, at * job->block, data, job->block, (void *)slot, 0);
  else
    blkioq_read(job->queue, at * job->block, data, job->block, (void *)slot, 0);
}

int main(int count, char **words) {
  if (count != 6) return 2;
  const char *kind = words[2];
  int depth = atoi(words[4]);
  if (depth < 1 || depth > MOST) return 2;
  struct job job = {.state = 1, .block = strtoull(words[3], NULL, 10)};
  job.is_random = strncmp(kind, "rand", 4) == 0;
  job.is_write = strstr(kind, "write") != NULL;

  struct blkio *device;
  must(blkio_create("virtio-blk-vhost-user", &device), "create");
  must(blkio_set_str(device, "path", words[1]), "path");
  must(blkio_connect(device), "connect");
  must(blkio_get_uint64(device, "capacity", &job.capacity), "capacity");
  must(blkio_start(device), "start");
  struct blkio_mem_region region;
  must(blkio_alloc_mem_region(device, &region, (size_t)depth * job.block), "memory");
  must(blkio_map_mem_region(device, &region), "map");
  memset(region.addr, 0x5a, region.len);
  job.memory = region.addr;
  job.queue = blkio_get_queue(device, 0);

  uint64_t begun = now(), end = begun + strtoull(words[5], NULL, 10) * 1000000u;
  uint64_t requests = 0, last = begun;
  int inside = 0;
  for (int slot = 0; slot < depth; slot++, inside++) submit(&job, (uint64_t)slot);
  while (inside > 0) {
    struct blkio_completion done[MOST];
    int got = blkioq_do_io(job.queue, done, 1, depth, NULL);
    if (got < 0) must(got, "do_io");
    uint64_t time = now();
    for (int i = 0; i < got; i++) {
      uint64_t slot = (uint64_t)done[i].user_data;
      if (done[i].ret != 0) {
        fprintf(stderr, "a request failed with %d\n", done[i].ret);
        return 1;
      }
      if (requests < SAMPLES) latency[requests] = (uint32_t)(time - submitted[slot]);
      requests++;
      inside--;
      if (time < end) {
        submit(&job, slot);
        inside++;
      }
    }
    last = time;
  }
  size_t samples = requests < SAMPLES ? requests : SAMPLES;
  qsort(latency, samples, sizeof *latency, ascending);
  printf("%llu %llu %u %u\n", (unsigned long long)requests, (unsigned long long)(last - begun),
         latency[samples / 2], latency[samples * 99 / 100]);
  blkio_destroy(&device);
  return 0;
}
