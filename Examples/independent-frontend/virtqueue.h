/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of a split virtqueue (VIRTIO 1.4, 2.7) whose parts lie in the pools of a link.
 * docs/protocol.md, section 8. */
#ifndef VIRTQUEUE_H
#define VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "cellmate_link.h"

enum { VIRTQUEUE_SIZE = 64 }; /* descriptors; a power of two */

struct virtqueue {
    struct cm_link *link;
    unsigned slot;
    unsigned index;
    uint16_t size;
    bool event_index;
    uint64_t table;       /* offsets: driver pool, */
    uint64_t driver_ring; /* driver pool, */
    uint64_t device_ring; /* device pool */

    /* Private books. Nothing of this is ever read back from shared memory: what the device could
     * change, and what it says about chains it does not have, must not lead us astray. */
    uint16_t published; /* available index as stored */
    uint16_t taken;     /* used index up to which chains were taken back */
    uint16_t free_head;
    uint16_t free_count;
    struct {
        uint16_t next;
        uint16_t length;   /* descriptors of the chain that starts here, 0: none does */
        uint32_t writable; /* bytes in it that the device may write */
        void *token;
    } books[VIRTQUEUE_SIZE];
};

struct virtqueue_part {
    uint64_t offset; /* in the link */
    uint32_t length;
    bool writable;   /* by the device; such parts come last */
};

/* Takes the memory of the rings from the pools, once. */
bool virtqueue_allocate(struct virtqueue *q, struct cm_link *link, unsigned slot, unsigned index);

/* Before QueueReady 1: initialises descriptor table, available ring and books (R22). */
void virtqueue_prepare(struct virtqueue *q, uint16_t size, bool event_index);

/* Makes one chain available and notifies if the device wants to know. False: no room. */
bool virtqueue_submit(struct virtqueue *q, const struct virtqueue_part *parts, unsigned count,
                      void *token);

/* Whether the device has used chains. With `ask`, first asks it to notify about the next one. */
bool virtqueue_has_used(struct virtqueue *q, bool ask);

/* Takes one used chain back: CM_OK with its token and the bytes the device says it wrote, CM_LATE
 * if there is none, CM_BROKEN if the device says what cannot be. */
enum cm_result virtqueue_take(struct virtqueue *q, void **token, uint32_t *length);

#endif
