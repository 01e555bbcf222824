/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_mmio.h"

#include "shared.h"

/* The deadline of one transaction. A reset may have to wait for a slow disk. */
static const uint64_t transaction_ms = 10000;
static const uint64_t reset_ms = 20000;

static enum cm_result transact(struct virtio_device *d, uint32_t kind, uint32_t offset,
                               uint32_t *value, uint64_t patience_ms)
{
    struct cm_transaction t = {.slot = d->slot,
                               .operation = kind | 4 << 8,
                               .offset = offset,
                               .value = kind == 2 ? *value : 0};
    enum cm_result result = cm_link_transact(d->link, d->life, &t, cm_deadline(patience_ms));
    d->refusal = t.refusal;
    if (kind == 1)
        *value = (uint32_t)t.value;
    return result;
}

enum cm_result mmio_read(struct virtio_device *d, uint32_t offset, uint32_t *value)
{
    return transact(d, 1, offset, value, transaction_ms);
}

enum cm_result mmio_write(struct virtio_device *d, uint32_t offset, uint32_t value)
{
    return transact(d, 2, offset, &value, transaction_ms);
}

enum cm_result virtio_reset(struct virtio_device *d)
{
    uint32_t status = 0;
    enum cm_result result = transact(d, 2, MMIO_STATUS, &status, reset_ms);
    if (result == CM_OK)
        result = mmio_read(d, MMIO_STATUS, &status);
    return result == CM_OK && status != 0 ? CM_BROKEN : result;
}

static enum cm_result read_features(struct virtio_device *d)
{
    uint64_t offered = 0;
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t bits = 0;
        enum cm_result result = mmio_write(d, MMIO_DEVICE_FEATURES_SELECTOR, half);
        if (result == CM_OK)
            result = mmio_read(d, MMIO_DEVICE_FEATURES, &bits);
        if (result != CM_OK)
            return result;
        offered |= (uint64_t)bits << 32 * half;
    }
    d->offered = offered;
    return CM_OK;
}

static enum cm_result write_features(struct virtio_device *d, uint64_t features)
{
    for (uint32_t half = 0; half < 2; half++) {
        enum cm_result result = mmio_write(d, MMIO_DRIVER_FEATURES_SELECTOR, half);
        if (result == CM_OK)
            result = mmio_write(d, MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
        if (result != CM_OK)
            return result;
    }
    d->features = features;
    return CM_OK;
}

/* Writes the status and reads back what the device made of it (R12). */
static enum cm_result set_status(struct virtio_device *d, uint32_t status)
{
    uint32_t accepted;
    enum cm_result result = mmio_write(d, MMIO_STATUS, status);
    if (result == CM_OK)
        result = mmio_read(d, MMIO_STATUS, &accepted);
    if (result == CM_OK && accepted != status)
        result = accepted & STATUS_NEEDS_RESET ? CM_NEEDS_RESET : CM_REFUSED;
    return result;
}

enum cm_result virtio_begin(struct virtio_device *d, uint32_t device_id, uint64_t wanted)
{
    const uint64_t mandatory = FEATURE(FEATURE_VERSION_1) | FEATURE(FEATURE_ACCESS_PLATFORM);
    static const struct {
        uint32_t offset, value;
    } identity[] = {{MMIO_MAGIC_VALUE, 0x74726976}, {MMIO_VERSION, 2}};
    enum cm_result result;
    uint32_t value;

    d->life = d->link->life;
    for (unsigned i = 0; i < 2; i++) {
        if ((result = mmio_read(d, identity[i].offset, &value)) != CM_OK)
            return result;
        if (value != identity[i].value)
            return CM_BROKEN;
    }
    if ((result = mmio_read(d, MMIO_DEVICE_ID, &value)) != CM_OK)
        return result;
    if (value != device_id)
        return CM_REFUSED;
    if ((result = virtio_reset(d)) != CM_OK ||
        (result = set_status(d, STATUS_ACKNOWLEDGE)) != CM_OK ||
        (result = set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER)) != CM_OK ||
        (result = read_features(d)) != CM_OK)
        return result;

    wanted |= mandatory | FEATURE(FEATURE_ORDER_PLATFORM) | FEATURE(FEATURE_RING_RESET);
    if (!d->without_event_index)
        wanted |= FEATURE(FEATURE_EVENT_INDEX);
    if ((d->offered & mandatory) != mandatory) {
        set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FAILED);
        return CM_REFUSED;
    }
    if ((result = write_features(d, d->offered & wanted)) != CM_OK)
        return result;
    virtio_has_changed(d); /* what changed before counts as known */
    return set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
}

static enum cm_result write_address(struct virtio_device *d, uint32_t low, uint64_t offset)
{
    uint64_t address = offset + d->link->translation_base;
    enum cm_result result = mmio_write(d, low, (uint32_t)address);
    return result == CM_OK ? mmio_write(d, low + 4, (uint32_t)(address >> 32)) : result;
}

enum cm_result virtio_make_queue(struct virtio_device *d, struct virtqueue *q)
{
    uint32_t most;
    enum cm_result result;
    if ((result = mmio_write(d, MMIO_QUEUE_SELECTOR, q->index)) != CM_OK ||
        (result = mmio_read(d, MMIO_QUEUE_SIZE_MAX, &most)) != CM_OK)
        return result;
    if (most == 0 || q->index >= CM_QUEUES)
        return CM_REFUSED;
    uint16_t size = VIRTQUEUE_SIZE;
    while (size > most)
        size /= 2;
    virtqueue_prepare(q, size, d->features & FEATURE(FEATURE_EVENT_INDEX));
    if ((result = mmio_write(d, MMIO_QUEUE_SIZE, size)) != CM_OK ||
        (result = write_address(d, MMIO_QUEUE_DESCRIPTOR_LOW, q->table)) != CM_OK ||
        (result = write_address(d, MMIO_QUEUE_DRIVER_LOW, q->driver_ring)) != CM_OK ||
        (result = write_address(d, MMIO_QUEUE_DEVICE_LOW, q->device_ring)) != CM_OK)
        return result;
    return mmio_write(d, MMIO_QUEUE_READY, 1);
}

enum cm_result virtio_go(struct virtio_device *d)
{
    return set_status(d, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK |
                             STATUS_DRIVER_OK);
}

enum cm_result virtio_read_configuration(struct virtio_device *d, uint32_t offset, void *to,
                                         uint32_t length)
{
    enum { MOST_RETRIES = 1000 }; /* R14: bounded, the device may lie for ever */
    const uint8_t *slot = cm_link_device_slot(d->link, d->slot);
    const uint8_t *generation = slot + CM_SLOT_REGISTERS + MMIO_CONFIGURATION_GENERATION;
    uint8_t *bytes = to;
    for (int i = 0; i < MOST_RETRIES; i++) {
        uint32_t before = load32_acquire(generation);
        if (before & 1)
            continue;
        for (uint32_t at = 0; at < length; at++)
            bytes[at] = __atomic_load_n(slot + CM_SLOT_CONFIGURATION + offset + at,
                                        __ATOMIC_RELAXED);
        acquire_fence();
        if (load32_acquire(generation) == before)
            return CM_OK;
    }
    return CM_LATE;
}

bool virtio_needs_reset(const struct virtio_device *d)
{
    const uint8_t *slot = cm_link_device_slot(d->link, d->slot);
    return load32_acquire(slot + CM_SLOT_REGISTERS + MMIO_STATUS) & STATUS_NEEDS_RESET;
}

bool virtio_has_changed(struct virtio_device *d)
{
    const uint8_t *slot = cm_link_device_slot(d->link, d->slot);
    uint32_t counter = load32_acquire(slot + CM_SLOT_CONFIGURATION_COUNTER);
    bool changed = counter != d->configuration_counter;
    d->configuration_counter = counter;
    return changed;
}
