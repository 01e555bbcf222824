/* SPDX-License-Identifier: Apache-2.0 */
#include "virtqueue.h"

#include "shared.h"

enum {
    DESCRIPTOR = 16,
    NEXT = 1,
    WRITE = 2,
    NO_INTERRUPT = 1, /* in the available ring's flags */
    NO_NOTIFY = 1,    /* in the used ring's flags */
    RING_FLAGS = 0,
    RING_INDEX = 2,
    RING_ENTRIES = 4,
};

bool virtqueue_allocate(struct virtqueue *q, struct cm_link *link, unsigned slot, unsigned index)
{
    q->link = link;
    q->slot = slot;
    q->index = index;
    q->size = VIRTQUEUE_SIZE;
    q->table = cm_pool_take(link->driver_pool, (uint64_t)DESCRIPTOR * q->size, 16);
    q->driver_ring = cm_pool_take(link->driver_pool, 6 + 2 * (uint64_t)q->size, 64);
    q->device_ring = cm_pool_take(link->device_pool, 6 + 8 * (uint64_t)q->size, 64);
    return q->table && q->driver_ring && q->device_ring;
}

static uint8_t *descriptor(const struct virtqueue *q, uint16_t number)
{
    return cm_link_at(q->link, q->table + DESCRIPTOR * (uint64_t)number);
}

static uint8_t *driver_ring(const struct virtqueue *q, uint64_t at)
{
    return cm_link_at(q->link, q->driver_ring + at);
}

static uint8_t *device_ring(const struct virtqueue *q, uint64_t at)
{
    return cm_link_at(q->link, q->device_ring + at);
}

/* used_event, written by the driver, lies behind the available ring's entries. */
static uint8_t *used_event(const struct virtqueue *q)
{
    return driver_ring(q, RING_ENTRIES + 2 * (uint64_t)q->size);
}

/* avail_event, written by the device, lies behind the used ring's entries. */
static uint8_t *available_event(const struct virtqueue *q)
{
    return device_ring(q, RING_ENTRIES + 8 * (uint64_t)q->size);
}

void virtqueue_prepare(struct virtqueue *q, uint16_t size, bool event_index)
{
    q->size = size;
    q->event_index = event_index;
    q->published = 0;
    q->taken = 0;
    q->free_head = 0;
    q->free_count = size;
    for (uint16_t i = 0; i < size; i++) {
        q->books[i].next = i + 1;
        q->books[i].length = 0;
        store64(descriptor(q, i), 0);
        store64(descriptor(q, i) + 8, 0);
    }
    /* Flags must be 0 with EVENT_IDX (2.7.10.1); without it, nobody asks for interrupts yet. */
    store16(driver_ring(q, RING_FLAGS), event_index ? 0 : NO_INTERRUPT);
    store16(driver_ring(q, RING_INDEX), 0);
    for (uint16_t i = 0; i < size; i++)
        store16(driver_ring(q, RING_ENTRIES + 2 * (uint64_t)i), 0);
    store16(used_event(q), 0);
}

/* Whether the device wants to know that the index went from `old` to the published one. */
static bool device_wants_to_know(const struct virtqueue *q, uint16_t old)
{
    if (!q->event_index)
        return !(load16(device_ring(q, RING_FLAGS)) & NO_NOTIFY);
    uint16_t event = load16(available_event(q));
    return (uint16_t)(q->published - event - 1) < (uint16_t)(q->published - old);
}

bool virtqueue_submit(struct virtqueue *q, const struct virtqueue_part *parts, unsigned count,
                      void *token)
{
    if (count == 0 || count > q->free_count)
        return false;
    uint16_t head = q->free_head;
    uint16_t at = head;
    uint32_t writable = 0;
    for (unsigned i = 0; i < count; i++) {
        uint16_t next = q->books[at].next;
        uint32_t flags = (parts[i].writable ? WRITE : 0) | (i + 1 < count ? NEXT : 0);
        uint8_t *d = descriptor(q, at);
        store64(d, parts[i].offset + q->link->translation_base);
        /* length, flags and next are one aligned word of 8 bytes */
        store64(d + 8, parts[i].length | (uint64_t)flags << 32 |
                           (uint64_t)(i + 1 < count ? next : 0) << 48);
        if (parts[i].writable)
            writable += parts[i].length;
        if (i + 1 == count)
            q->free_head = next;
        at = next;
    }
    q->free_count -= (uint16_t)count;
    q->books[head].length = (uint16_t)count;
    q->books[head].writable = writable;
    q->books[head].token = token;

    uint16_t old = q->published++;
    store16(driver_ring(q, RING_ENTRIES + 2 * (uint64_t)(old & (q->size - 1))), head);
    store16_release(driver_ring(q, RING_INDEX), q->published);
    /* The index before the look at what the device asks for; its partner is the device's fence
     * between asking and its last look at the index. */
    full_fence();
    if (device_wants_to_know(q, old))
        cm_link_notify(q->link, q->slot, q->index);
    return true;
}

bool virtqueue_has_used(struct virtqueue *q, bool ask)
{
    if (ask) {
        if (q->event_index)
            store16(used_event(q), q->taken);
        else
            store16(driver_ring(q, RING_FLAGS), 0);
        /* The caller's full fence stands between this and the last look (R15). */
    }
    return load16_acquire(device_ring(q, RING_INDEX)) != q->taken;
}

enum cm_result virtqueue_take(struct virtqueue *q, void **token, uint32_t *length)
{
    uint16_t used = load16_acquire(device_ring(q, RING_INDEX));
    uint16_t waiting = used - q->taken;
    if (waiting == 0)
        return CM_LATE;
    if (waiting > q->size)
        return CM_BROKEN; /* more than there can be */
    if (!q->event_index)
        store16(driver_ring(q, RING_FLAGS), NO_INTERRUPT); /* awake: no interrupts wanted */
    uint8_t *entry = device_ring(q, RING_ENTRIES + 8 * (uint64_t)(q->taken & (q->size - 1)));
    uint32_t head = load32(entry);
    uint32_t written = load32(entry + 4);
    if (head >= q->size || q->books[head].length == 0 || written > q->books[head].writable)
        return CM_BROKEN;
    q->taken++;
    *token = q->books[head].token;
    *length = written;

    /* The chain goes back to the free list along the private links. */
    uint16_t last = (uint16_t)head;
    for (uint16_t i = 1; i < q->books[head].length; i++)
        last = q->books[last].next;
    q->free_count += q->books[head].length;
    q->books[head].length = 0;
    q->books[last].next = q->free_head;
    q->free_head = (uint16_t)head;
    return CM_OK;
}
