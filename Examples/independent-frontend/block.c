/* SPDX-License-Identifier: Apache-2.0 */
#include "block.h"

#include <string.h>

#include "shared.h"

enum {
    DEVICE_ID = 2,
    /* configuration space */
    CAPACITY = 0,
    SIZE_OF_BLOCK = 20,
    MOST_DISCARD_SECTORS = 36,
    MOST_ZERO_SECTORS = 48,
};

static const uint64_t request_ms = 20000;

bool block_allocate(struct block *b, struct cm_link *link, unsigned slot)
{
    memset(b, 0, sizeof *b);
    b->device.link = link;
    b->device.slot = slot;
    for (int i = 0; i < BLOCK_DEPTH; i++) {
        struct block_request *r = &b->requests[i];
        r->header = cm_pool_take(link->driver_pool, 16, 64);
        r->outgoing = cm_pool_take(link->driver_pool, BLOCK_BYTES, 4096);
        r->incoming = cm_pool_take(link->device_pool, BLOCK_BYTES, 4096);
        r->status = cm_pool_take(link->device_pool, 1, 64);
        if (!r->header || !r->outgoing || !r->incoming || !r->status)
            return false;
    }
    return virtqueue_allocate(&b->queue, link, slot, 0);
}

static enum cm_result read_configuration(struct block *b)
{
    struct virtio_device *d = &b->device;
    enum cm_result result;
    b->block_size = SECTOR;
    b->most_discard_sectors = b->most_zero_sectors = 0;
    if ((result = virtio_read_configuration(d, CAPACITY, &b->sectors, 8)) != CM_OK)
        return result;
    if (d->features & FEATURE(FEATURE_BLOCK_SIZE) &&
        (result = virtio_read_configuration(d, SIZE_OF_BLOCK, &b->block_size, 4)) != CM_OK)
        return result;
    if (d->features & FEATURE(FEATURE_BLOCK_DISCARD) &&
        (result = virtio_read_configuration(d, MOST_DISCARD_SECTORS, &b->most_discard_sectors,
                                            4)) != CM_OK)
        return result;
    if (d->features & FEATURE(FEATURE_BLOCK_WRITE_ZEROES) &&
        (result = virtio_read_configuration(d, MOST_ZERO_SECTORS, &b->most_zero_sectors, 4)) !=
            CM_OK)
        return result;
    /* What cannot be is a broken device, not a reason for arithmetic to overflow later. */
    return b->sectors > UINT64_MAX / SECTOR ? CM_BROKEN : CM_OK;
}

enum cm_result block_start(struct block *b)
{
    enum cm_result result;
    for (int i = 0; i < BLOCK_DEPTH; i++)
        b->requests[i].in_flight = false;
    uint64_t wanted = FEATURE(FEATURE_BLOCK_READ_ONLY) | FEATURE(FEATURE_BLOCK_SIZE) |
                      FEATURE(FEATURE_BLOCK_FLUSH) | FEATURE(FEATURE_BLOCK_DISCARD) |
                      FEATURE(FEATURE_BLOCK_WRITE_ZEROES);
    if ((result = virtio_begin(&b->device, DEVICE_ID, wanted)) != CM_OK ||
        (result = read_configuration(b)) != CM_OK ||
        (result = virtio_make_queue(&b->device, &b->queue)) != CM_OK)
        return result;
    return virtio_go(&b->device);
}

int block_free_request(const struct block *b)
{
    for (int i = 0; i < BLOCK_DEPTH; i++)
        if (!b->requests[i].in_flight)
            return i;
    return -1;
}

enum cm_result block_submit(struct block *b, int n, enum block_type type, uint64_t sector,
                            const void *data, uint32_t length)
{
    struct cm_link *link = b->device.link;
    struct block_request *r = &b->requests[n];
    bool from_device = type == BLOCK_READ || type == BLOCK_IDENTIFY;
    /* Other requests than transfers have sector 0; the segments of a discard are data. */
    bool has_sector = type == BLOCK_READ || type == BLOCK_WRITE;
    if (link->status != CM_UP || link->life != b->device.life)
        return CM_LOST;
    if (r->in_flight || length > BLOCK_BYTES)
        return CM_BROKEN;
    r->type = type;
    r->sector = sector;
    r->length = length;
    store64(cm_link_at(link, r->header), (uint64_t)type);
    store64(cm_link_at(link, r->header + 8), has_sector ? sector : 0);
    if (!from_device && length)
        memcpy(cm_link_at(link, r->outgoing), data, length);

    struct virtqueue_part parts[3];
    unsigned count = 0;
    parts[count++] = (struct virtqueue_part){r->header, 16, false};
    if (length)
        parts[count++] = (struct virtqueue_part){from_device ? r->incoming : r->outgoing, length,
                                                 from_device};
    parts[count++] = (struct virtqueue_part){r->status, 1, true};
    /* The status byte cannot be preset where the device pool is read-only; the used length
     * proves that the device wrote it. */
    r->in_flight = virtqueue_submit(&b->queue, parts, count, r);
    return r->in_flight ? CM_OK : CM_LATE;
}

static bool something_happened(void *context, bool ask)
{
    struct block *b = context;
    const uint8_t *slot = cm_link_device_slot(b->device.link, b->device.slot);
    return virtqueue_has_used(&b->queue, ask) ||
           load32_acquire(slot + CM_SLOT_CONFIGURATION_COUNTER) !=
               b->device.configuration_counter;
}

enum cm_result block_wait(struct block *b, int *n, uint8_t *status, void *data, uint64_t deadline)
{
    struct cm_link *link = b->device.link;
    enum cm_result result;
    void *token;
    uint32_t written;
    for (;;) {
        result = cm_link_wait(link, b->device.life, something_happened, b, deadline);
        if (result != CM_OK)
            return result;
        if (virtio_has_changed(&b->device)) {
            if (virtio_needs_reset(&b->device))
                return CM_NEEDS_RESET;
            if ((result = read_configuration(b)) != CM_OK)
                return result;
        }
        result = virtqueue_take(&b->queue, &token, &written);
        if (result == CM_OK)
            break;
        if (result != CM_LATE)
            return result;
    }
    struct block_request *r = token;
    bool from_device = r->type == BLOCK_READ || r->type == BLOCK_IDENTIFY;
    r->in_flight = false;
    *n = (int)(r - b->requests);
    if (written < 1)
        return CM_BROKEN; /* no status byte */
    *status = __atomic_load_n(cm_link_at(link, r->status), __ATOMIC_RELAXED);
    if (*status == BLOCK_STATUS_OK && from_device) {
        if (written != r->length + 1)
            return CM_BROKEN; /* success, but not all of the data */
        if (data)
            memcpy(data, cm_link_at(link, r->incoming), r->length);
    }
    return CM_OK;
}

enum cm_result block_do(struct block *b, enum block_type type, uint64_t sector, void *data,
                        uint32_t length, uint8_t *status)
{
    int n = block_free_request(b);
    if (n < 0)
        return CM_LATE;
    enum cm_result result = block_submit(b, n, type, sector, data, length);
    bool from_device = type == BLOCK_READ || type == BLOCK_IDENTIFY;
    return result == CM_OK ? block_wait(b, &n, status, from_device ? data : NULL,
                                        cm_deadline(request_ms))
                           : result;
}
