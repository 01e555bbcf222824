/* SPDX-License-Identifier: Apache-2.0 */
#include "entropy.h"

#include <string.h>

#include "shared.h"

enum { DEVICE_ID = 4 };

static const uint64_t request_ms = 20000;

bool entropy_allocate(struct entropy *e, struct cm_link *link, unsigned slot)
{
    memset(e, 0, sizeof *e);
    e->device.link = link;
    e->device.slot = slot;
    e->buffer = cm_pool_take(link->device_pool, ENTROPY_BYTES, 64);
    return e->buffer && virtqueue_allocate(&e->queue, link, slot, 0);
}

enum cm_result entropy_start(struct entropy *e)
{
    enum cm_result result;
    if ((result = virtio_begin(&e->device, DEVICE_ID, 0)) != CM_OK ||
        (result = virtio_make_queue(&e->device, &e->queue)) != CM_OK)
        return result;
    return virtio_go(&e->device);
}

static bool something_happened(void *context, bool ask)
{
    struct entropy *e = context;
    return virtqueue_has_used(&e->queue, ask) || virtio_needs_reset(&e->device);
}

enum cm_result entropy_read(struct entropy *e, void *data, uint32_t length, uint32_t *got)
{
    struct virtqueue_part part = {.offset = e->buffer,
                                  .length = length < ENTROPY_BYTES ? length : ENTROPY_BYTES,
                                  .writable = true};
    void *token;
    enum cm_result result;
    if (!virtqueue_submit(&e->queue, &part, 1, e))
        return CM_LATE;
    result = cm_link_wait(e->device.link, e->device.life, something_happened, e,
                          cm_deadline(request_ms));
    if (result != CM_OK)
        return result;
    result = virtqueue_take(&e->queue, &token, got);
    if (result == CM_LATE)
        return CM_NEEDS_RESET; /* woken, but not by a used chain */
    if (result != CM_OK)
        return result;
    if (*got == 0)
        return CM_BROKEN;
    memcpy(data, cm_link_at(e->device.link, e->buffer), *got);
    return CM_OK;
}
