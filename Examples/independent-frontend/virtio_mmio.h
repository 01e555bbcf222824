/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mmio version 2 by transactions: what every device type needs for its start-up.
 * docs/protocol.md, sections 5 and 10; VIRTIO 1.4, 3.1.1 and 4.2. */
#ifndef VIRTIO_MMIO_H
#define VIRTIO_MMIO_H

#include "cellmate_link.h"
#include "virtqueue.h"

enum {
    MMIO_MAGIC_VALUE = 0x000,
    MMIO_VERSION = 0x004,
    MMIO_DEVICE_ID = 0x008,
    MMIO_VENDOR_ID = 0x00c,
    MMIO_DEVICE_FEATURES = 0x010,
    MMIO_DEVICE_FEATURES_SELECTOR = 0x014,
    MMIO_DRIVER_FEATURES = 0x020,
    MMIO_DRIVER_FEATURES_SELECTOR = 0x024,
    MMIO_QUEUE_SELECTOR = 0x030,
    MMIO_QUEUE_SIZE_MAX = 0x034,
    MMIO_QUEUE_SIZE = 0x038,
    MMIO_QUEUE_READY = 0x044,
    MMIO_QUEUE_NOTIFY = 0x050,
    MMIO_INTERRUPT_STATUS = 0x060,
    MMIO_INTERRUPT_ACKNOWLEDGE = 0x064,
    MMIO_STATUS = 0x070,
    MMIO_QUEUE_DESCRIPTOR_LOW = 0x080,
    MMIO_QUEUE_DRIVER_LOW = 0x090,
    MMIO_QUEUE_DEVICE_LOW = 0x0a0,
    MMIO_QUEUE_RESET = 0x0c0,
    MMIO_CONFIGURATION_GENERATION = 0x0fc,
    MMIO_CONFIGURATION = 0x100,
};

enum {
    STATUS_ACKNOWLEDGE = 1,
    STATUS_DRIVER = 2,
    STATUS_DRIVER_OK = 4,
    STATUS_FEATURES_OK = 8,
    STATUS_NEEDS_RESET = 64,
    STATUS_FAILED = 128,
};

#define FEATURE(bit) (UINT64_C(1) << (bit))

enum {
    FEATURE_EVENT_INDEX = 29,
    FEATURE_VERSION_1 = 32,
    FEATURE_ACCESS_PLATFORM = 33,
    FEATURE_ORDER_PLATFORM = 36,
    FEATURE_RING_RESET = 40,
};

struct virtio_device {
    struct cm_link *link;
    unsigned slot;
    uint32_t life;          /* of the pairing in which the device was set up */
    uint64_t offered;
    uint64_t features;      /* agreed */
    uint32_t refusal;       /* of the last transaction */
    uint32_t configuration_counter;
    bool without_event_index; /* do not accept EVENT_IDX */
};

enum cm_result mmio_read(struct virtio_device *d, uint32_t offset, uint32_t *value);
enum cm_result mmio_write(struct virtio_device *d, uint32_t offset, uint32_t value);

/* Reset to FEATURES_OK. CM_REFUSED if it is another device, or if a feature is missing. */
enum cm_result virtio_begin(struct virtio_device *d, uint32_t device_id, uint64_t wanted);

/* Makes a queue from the memory it has; `size` at most, and not more than the device can. */
enum cm_result virtio_make_queue(struct virtio_device *d, struct virtqueue *q);

/* DRIVER_OK. */
enum cm_result virtio_go(struct virtio_device *d);

/* Status 0; CM_OK means that the device has stopped touching the link (R12). */
enum cm_result virtio_reset(struct virtio_device *d);

/* Copies configuration space from the mirror without tearing it (R14). */
enum cm_result virtio_read_configuration(struct virtio_device *d, uint32_t offset, void *to,
                                         uint32_t length);

/* Whether the device has broken off: NEEDS_RESET in the mirrored status. */
bool virtio_needs_reset(const struct virtio_device *d);

/* Whether configuration or status changed since the last call without being asked to. */
bool virtio_has_changed(struct virtio_device *d);

#endif
