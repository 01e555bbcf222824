/* SPDX-License-Identifier: Apache-2.0 */
/* A block device driver: VIRTIO 1.4, 5.2, one queue, a fixed number of requests in flight. */
#ifndef BLOCK_H
#define BLOCK_H

#include "virtio_mmio.h"

enum {
    BLOCK_DEPTH = 8,
    BLOCK_BYTES = 64 * 1024, /* of one request at most */
    SECTOR = 512,
};

enum block_type {
    BLOCK_READ = 0,
    BLOCK_WRITE = 1,
    BLOCK_FLUSH = 4,
    BLOCK_IDENTIFY = 8,
    BLOCK_DISCARD = 11,
    BLOCK_WRITE_ZEROES = 13,
};

enum { BLOCK_STATUS_OK = 0, BLOCK_STATUS_IO_ERROR = 1, BLOCK_STATUS_UNSUPPORTED = 2 };

enum {
    FEATURE_BLOCK_READ_ONLY = 5,
    FEATURE_BLOCK_SIZE = 6,
    FEATURE_BLOCK_FLUSH = 9,
    FEATURE_BLOCK_DISCARD = 13,
    FEATURE_BLOCK_WRITE_ZEROES = 14,
};

struct block_request {
    bool in_flight;
    enum block_type type;
    uint64_t sector;
    uint32_t length;    /* of the data */
    uint64_t header;    /* offsets: driver pool, */
    uint64_t outgoing;  /* driver pool, */
    uint64_t incoming;  /* device pool, */
    uint64_t status;    /* device pool */
};

struct block {
    struct virtio_device device;
    struct virtqueue queue;
    uint64_t sectors;
    uint32_t block_size;
    uint32_t most_discard_sectors;
    uint32_t most_zero_sectors;
    struct block_request requests[BLOCK_DEPTH];
};

/* Takes all memory from the pools, once. */
bool block_allocate(struct block *b, struct cm_link *link, unsigned slot);

/* Sets the device up in the pairing that is up now. Requests of an earlier one are forgotten. */
enum cm_result block_start(struct block *b);

/* A request that is not in flight, or -1. */
int block_free_request(const struct block *b);

/* Puts request `n` into the queue. For everything but reads, `data` is copied first. */
enum cm_result block_submit(struct block *b, int n, enum block_type type, uint64_t sector,
                            const void *data, uint32_t length);

/* Waits until some request is done: its number and the device's status byte. What the device sent
 * is copied to `data` (BLOCK_BYTES long), unless null. */
enum cm_result block_wait(struct block *b, int *n, uint8_t *status, void *data, uint64_t deadline);

/* One request from start to end, while nothing else is in flight. */
enum cm_result block_do(struct block *b, enum block_type type, uint64_t sector, void *data,
                        uint32_t length, uint8_t *status);

#endif
