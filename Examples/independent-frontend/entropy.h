/* SPDX-License-Identifier: Apache-2.0 */
/* An entropy device driver: VIRTIO 1.4, 5.4. */
#ifndef ENTROPY_H
#define ENTROPY_H

#include "virtio_mmio.h"

enum { ENTROPY_BYTES = 4096 }; /* of one request at most */

struct entropy {
    struct virtio_device device;
    struct virtqueue queue;
    uint64_t buffer; /* device pool */
};

bool entropy_allocate(struct entropy *e, struct cm_link *link, unsigned slot);
enum cm_result entropy_start(struct entropy *e);

/* Asks for up to `length` random bytes; `got` says how many came, at least one. */
enum cm_result entropy_read(struct entropy *e, void *data, uint32_t length, uint32_t *got);

#endif
