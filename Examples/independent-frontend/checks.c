/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shared.h"

enum {
    READ4 = 1 | 4 << 8,
    WRITE4 = 2 | 4 << 8,
    AREA_SECTORS = 2048, /* the last MiB, which the checks may destroy */
};

struct checker {
    struct block *b;
    struct virtio_device *d;
    struct cm_link *link;
    uint64_t patience_ms;
    int failed;
};

static bool expect(struct checker *c, bool good, const char *format, ...)
{
    va_list words;
    va_start(words, format);
    printf("%s ", good ? "  ok    " : "  FAILED");
    vprintf(format, words);
    putchar('\n');
    fflush(stdout);
    va_end(words);
    c->failed += !good;
    return good;
}

/* The refusal of one transaction; -1 if it did not come to an answer. */
static int refusal(struct checker *c, unsigned slot, uint32_t operation, uint32_t offset,
                   uint64_t value, uint64_t *read)
{
    struct cm_transaction t = {
        .slot = slot, .operation = operation, .offset = offset, .value = value};
    enum cm_result result = cm_link_transact(c->link, c->link->life, &t, cm_deadline(20000));
    if (read)
        *read = t.value;
    return result == CM_OK || result == CM_REFUSED ? (int)t.refusal : -1;
}

static void refuses(struct checker *c, const char *what, int wanted, uint32_t operation,
                    uint32_t offset, uint64_t value)
{
    int result = refusal(c, c->d->slot, operation, offset, value, NULL);
    expect(c, result == wanted, "%s: result %d, wanted %d", what, result, wanted);
}

static uint32_t status_of(struct checker *c)
{
    uint32_t status = UINT32_MAX;
    mmio_read(c->d, MMIO_STATUS, &status);
    return status;
}

static void write_features(struct checker *c, uint64_t features)
{
    for (uint32_t half = 0; half < 2; half++) {
        mmio_write(c->d, MMIO_DRIVER_FEATURES_SELECTOR, half);
        mmio_write(c->d, MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * half));
    }
}

static bool start(struct checker *c, const char *why)
{
    enum cm_result result = cm_link_wait_up(c->link, cm_deadline(c->patience_ms));
    if (result == CM_OK)
        result = block_start(c->b);
    return expect(c, result == CM_OK, "%s: the device starts (%s)", why, cm_result_name(result));
}

/* Writes a pattern to the area and reads it back. */
static void works(struct checker *c, const char *why)
{
    static uint8_t out[BLOCK_BYTES], in[BLOCK_BYTES];
    static uint8_t seed;
    uint64_t sector = c->b->sectors - AREA_SECTORS;
    uint8_t written = 9, read = 9;
    seed++;
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7 + i / 256 + seed);
    enum cm_result first = block_do(c->b, BLOCK_WRITE, sector, out, sizeof out, &written);
    enum cm_result second = block_do(c->b, BLOCK_READ, sector, in, sizeof in, &read);
    expect(c, !first && !second && !written && !read && !memcmp(in, out, sizeof in),
           "%s: what was written is read (%s, %s)", why, cm_result_name(first),
           cm_result_name(second));
}

static void check_registers(struct checker *c)
{
    struct virtio_device *d = c->d;
    const uint8_t *slot = cm_link_device_slot(c->link, d->slot);
    static const uint32_t mirrored[] = {MMIO_MAGIC_VALUE, MMIO_VERSION, MMIO_DEVICE_ID,
                                        MMIO_VENDOR_ID, MMIO_STATUS,
                                        MMIO_CONFIGURATION_GENERATION};
    d->life = c->link->life;
    for (unsigned i = 0; i < sizeof mirrored / sizeof *mirrored; i++) {
        uint32_t value;
        enum cm_result result = mmio_read(d, mirrored[i], &value);
        uint32_t mirror = load32(slot + CM_SLOT_REGISTERS + mirrored[i]);
        expect(c, result == CM_OK && value == mirror, "register %03xh and its mirror: %x, %x",
               mirrored[i], value, mirror);
    }
    expect(c, load32(slot + CM_SLOT_DEVICE_ID) == 2 && load32(slot + CM_SLOT_QUEUE_COUNT) >= 1,
           "the directory: device %u, %u queues, %u bytes of configuration",
           load32(slot + CM_SLOT_DEVICE_ID), load32(slot + CM_SLOT_QUEUE_COUNT),
           load32(slot + CM_SLOT_CONFIGURATION_SIZE));

    uint64_t value = 0;
    int result = refusal(c, CM_SLOTS - 1, READ4, MMIO_MAGIC_VALUE, 0, &value);
    expect(c, result == 15 && load32(cm_link_device_slot(c->link, CM_SLOTS - 1) +
                                     CM_SLOT_DEVICE_ID) == 0,
           "a request in an empty slot: result %d, wanted 15", result);
    refuses(c, "read where there is no register (0F8h)", 1, READ4, 0x0f8, 0);
    refuses(c, "write where there is no register (0F8h)", 1, WRITE4, 0x0f8, 0);
    refuses(c, "read of a register that is only written", 1, READ4, MMIO_QUEUE_SELECTOR, 0);
    refuses(c, "write of magicValue", 2, WRITE4, MMIO_MAGIC_VALUE, 0);
    refuses(c, "QueueNotify as a transaction does nothing", 0, WRITE4, MMIO_QUEUE_NOTIFY, 0);
    result = refusal(c, d->slot, READ4, MMIO_INTERRUPT_STATUS, 0, &value);
    expect(c, result == 0 && value == 0, "InterruptStatus as a transaction reads 0");
    refuses(c, "InterruptACK as a transaction does nothing", 0, WRITE4, MMIO_INTERRUPT_ACKNOWLEDGE,
            1);
    refuses(c, "a register by 1 byte", 12, 1 | 1 << 8, MMIO_MAGIC_VALUE, 0);
    refuses(c, "a register by 8 bytes", 12, 1 | 8 << 8, MMIO_MAGIC_VALUE, 0);
    refuses(c, "a register by 3 bytes", 12, 1 | 3 << 8, MMIO_MAGIC_VALUE, 0);
    refuses(c, "an offset between registers", 1, READ4, MMIO_MAGIC_VALUE + 2, 0);
    refuses(c, "operation 3", 16, 3 | 4 << 8, MMIO_MAGIC_VALUE, 0);
    refuses(c, "operation 0", 16, 0 | 4 << 8, MMIO_MAGIC_VALUE, 0);
    refuses(c, "configuration behind the space", 13, READ4, 0x1000, 0);
    refuses(c, "configuration, offset near 2^32", 13, READ4, 0xfffffffc, 0);

    uint8_t bytes[8] = {0};
    virtio_read_configuration(d, 0, bytes, sizeof bytes);
    for (uint32_t width = 1; width <= 8; width *= 2) {
        uint64_t expected = 0;
        memcpy(&expected, bytes, width);
        result = refusal(c, d->slot, 1 | width << 8, MMIO_CONFIGURATION, 0, &value);
        expect(c, result == 0 && value == expected,
               "configuration by transaction, width %u: %llx, mirror %llx", width,
               (unsigned long long)value, (unsigned long long)expected);
    }
}

static void check_start_up(struct checker *c)
{
    struct virtio_device *d = c->d;
    uint64_t mandatory = FEATURE(FEATURE_VERSION_1) | FEATURE(FEATURE_ACCESS_PLATFORM);
    uint64_t value = 0;
    d->life = c->link->life;
    virtio_reset(d);
    mmio_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE);
    mmio_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    refuses(c, "a queue before FEATURES_OK", 6, WRITE4, MMIO_QUEUE_READY, 1);
    refuses(c, "DRIVER_OK before FEATURES_OK", 6, WRITE4, MMIO_STATUS,
            STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
    refuses(c, "status bits taken back", 10, WRITE4, MMIO_STATUS, STATUS_ACKNOWLEDGE);
    refuses(c, "features selector 2", 0, WRITE4, MMIO_DEVICE_FEATURES_SELECTOR, 2);
    int result = refusal(c, d->slot, READ4, MMIO_DEVICE_FEATURES, 0, &value);
    expect(c, result == 0 && value == 0, "features 64 to 95 are 0: result %d, %llx", result,
           (unsigned long long)value);
    mmio_write(d, MMIO_DRIVER_FEATURES_SELECTOR, 2);
    refuses(c, "a feature behind bit 63", 8, WRITE4, MMIO_DRIVER_FEATURES, 1);

    for (unsigned bit = 0; bit < 64; bit++) {
        uint32_t offer = 0;
        mmio_write(d, MMIO_DEVICE_FEATURES_SELECTOR, bit / 32);
        mmio_read(d, MMIO_DEVICE_FEATURES, &offer);
        if (offer >> bit % 32 & 1 || bit % 8 != 7)
            continue; /* some of those that are not offered are enough */
        virtio_reset(d);
        mmio_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        write_features(c, mandatory | FEATURE(bit));
        result = refusal(c, d->slot, WRITE4, MMIO_STATUS,
                         STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK, NULL);
        expect(c, result == 9 && !(status_of(c) & STATUS_FEATURES_OK),
               "FEATURES_OK with feature %u, which is not offered: result %d, wanted 9", bit,
               result);
    }

    virtio_reset(d);
    mmio_write(d, MMIO_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    write_features(c, FEATURE(FEATURE_VERSION_1));
    refuses(c, "FEATURES_OK without ACCESS_PLATFORM", 9, WRITE4, MMIO_STATUS,
            STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    expect(c, !(status_of(c) & STATUS_FEATURES_OK), "and FEATURES_OK stays clear");
    write_features(c, mandatory);
    refuses(c, "FEATURES_OK with both", 0, WRITE4, MMIO_STATUS,
            STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    expect(c, status_of(c) & STATUS_FEATURES_OK, "and FEATURES_OK shows");
    refuses(c, "features after FEATURES_OK", 7, WRITE4, MMIO_DRIVER_FEATURES, 0);

    refuses(c, "selecting a queue there is not", 0, WRITE4, MMIO_QUEUE_SELECTOR, 999);
    result = refusal(c, d->slot, READ4, MMIO_QUEUE_SIZE_MAX, 0, &value);
    expect(c, result == 0 && value == 0, "its queueSizeMax is 0: result %d, %llx", result,
           (unsigned long long)value);
    refuses(c, "its size", 3, WRITE4, MMIO_QUEUE_SIZE, 8);
    refuses(c, "making it", 3, WRITE4, MMIO_QUEUE_READY, 1);
    refuses(c, "selecting queue 0", 0, WRITE4, MMIO_QUEUE_SELECTOR, 0);
    static const uint32_t sizes[] = {0, 3, 65536, UINT32_MAX};
    for (unsigned i = 0; i < 4; i++) {
        mmio_write(d, MMIO_QUEUE_SIZE, sizes[i]);
        int made = refusal(c, d->slot, WRITE4, MMIO_QUEUE_READY, 1, NULL);
        expect(c, made == 5, "a queue of size %u: result %d, wanted 5", sizes[i], made);
    }
    refuses(c, "queueReady 2", 11, WRITE4, MMIO_QUEUE_READY, 2);
}

/* Makes queue 0 with its parts at these offsets. */
static void queue_at(struct checker *c, const char *what, int wanted, uint64_t table,
                     uint64_t driver, uint64_t device)
{
    uint64_t parts[] = {table, driver, device};
    uint32_t low[] = {MMIO_QUEUE_DESCRIPTOR_LOW, MMIO_QUEUE_DRIVER_LOW, MMIO_QUEUE_DEVICE_LOW};
    mmio_write(c->d, MMIO_QUEUE_SELECTOR, 0);
    mmio_write(c->d, MMIO_QUEUE_SIZE, c->b->queue.size);
    for (int i = 0; i < 3; i++) {
        uint64_t address = parts[i] + c->link->translation_base;
        mmio_write(c->d, low[i], (uint32_t)address);
        mmio_write(c->d, low[i] + 4, (uint32_t)(address >> 32));
    }
    refuses(c, what, wanted, WRITE4, MMIO_QUEUE_READY, 1);
    mmio_write(c->d, MMIO_QUEUE_READY, 0);
}

static void check_queue_addresses(struct checker *c)
{
    struct virtqueue *q = &c->b->queue;
    struct cm_link *l = c->link;
    uint64_t base = l->translation_base;
    uint64_t behind = l->device_pool_start + l->device_pool_size - 16;
    const struct {
        const char *what;
        int wanted;
        uint64_t table, driver, device;
    } cases[] = {
        {"a used ring in the state table", 14, q->table, q->driver_ring, 64},
        {"a used ring in the device block", 14, q->table, q->driver_ring, l->device_block},
        {"a used ring in the driver block", 14, q->table, q->driver_ring, l->driver_block},
        {"a used ring over the end of the pool", 14, q->table, q->driver_ring, behind},
        {"a used ring behind everything", 14, q->table, q->driver_ring, UINT64_C(1) << 62},
        {"a used ring that wraps around", 14, q->table, q->driver_ring, 0 - base - 8},
        {"a used ring at a wrong address", 14, q->table, q->driver_ring, q->device_ring + 2},
        {"a table at a wrong address", 14, q->table + 8, q->driver_ring, q->device_ring},
        {"an available ring at an odd address", 14, q->table, q->driver_ring + 1, q->device_ring},
        {"a table behind everything", 14, UINT64_C(1) << 62, q->driver_ring, q->device_ring},
        /* R4: the device may read everything the link shows it. */
        {"a table in the state table", 0, 0, q->driver_ring, q->device_ring},
    };
    if (virtio_begin(c->d, 2, 0) != CM_OK) {
        expect(c, false, "start for the queue addresses");
        return;
    }
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        queue_at(c, cases[i].what, cases[i].wanted, cases[i].table, cases[i].driver,
                 cases[i].device);
    if (l->placement == CM_OUTPUT)
        queue_at(c, "a used ring in the driver pool", 14, q->table, q->driver_ring,
                 q->driver_ring);
    if (base)
        queue_at(c, "addresses without the translation base", 14, q->table - base,
                 q->driver_ring - base, q->device_ring - base);
}

static void check_ready_queue(struct checker *c)
{
    refuses(c, "the size of a ready queue", 4, WRITE4, MMIO_QUEUE_SIZE, 8);
    refuses(c, "an address of a ready queue", 4, WRITE4, MMIO_QUEUE_DEVICE_LOW, 0);
    refuses(c, "queueReady 1 again", 0, WRITE4, MMIO_QUEUE_READY, 1);
    works(c, "with the queue still there");
    if (!(c->d->features & FEATURE(FEATURE_RING_RESET)))
        return;
    uint64_t ready = 9;
    mmio_write(c->d, MMIO_QUEUE_SELECTOR, 0);
    refuses(c, "queueReset", 0, WRITE4, MMIO_QUEUE_RESET, 1);
    refusal(c, c->d->slot, READ4, MMIO_QUEUE_READY, 0, &ready);
    expect(c, ready == 0, "queueReady is 0 then: %llu", (unsigned long long)ready);
    refusal(c, c->d->slot, READ4, MMIO_QUEUE_RESET, 0, &ready);
    expect(c, ready == 0, "queueReset reads 0 when it is over: %llu", (unsigned long long)ready);
    expect(c, virtio_make_queue(c->d, &c->b->queue) == CM_OK, "the queue is made again");
    works(c, "after the reset of a queue");
}

static void check_requests(struct checker *c)
{
    struct block *b = c->b;
    static uint8_t bytes[BLOCK_BYTES];
    uint64_t area = b->sectors - AREA_SECTORS;
    uint8_t status = 9;
    enum cm_result result = block_do(b, BLOCK_READ, b->sectors, bytes, SECTOR, &status);
    expect(c, !result && status == BLOCK_STATUS_IO_ERROR, "a read behind the end: status %u",
           status);
    result = block_do(b, BLOCK_READ, UINT64_MAX / SECTOR, bytes, SECTOR, &status);
    expect(c, !result && status == BLOCK_STATUS_IO_ERROR, "a read far behind it: status %u",
           status);
    result = block_do(b, (enum block_type)99, 0, NULL, 0, &status);
    expect(c, !result && status == BLOCK_STATUS_UNSUPPORTED, "request type 99: status %u", status);
    result = block_do(b, BLOCK_IDENTIFY, 0, bytes, 20, &status);
    expect(c, !result && status == BLOCK_STATUS_OK, "identify: status %u", status);
    result = block_do(b, BLOCK_FLUSH, 0, NULL, 0, &status);
    expect(c, !result && status == BLOCK_STATUS_OK, "flush: status %u", status);

    struct {
        uint64_t sector;
        uint32_t count, flags;
    } range = {area, 64, 0};
    if (c->d->features & FEATURE(FEATURE_BLOCK_WRITE_ZEROES)) {
        works(c, "before write zeroes");
        result = block_do(b, BLOCK_WRITE_ZEROES, 0, &range, sizeof range, &status);
        bool zero = !result && status == BLOCK_STATUS_OK;
        memset(bytes, 1, sizeof bytes);
        result = block_do(b, BLOCK_READ, area, bytes, BLOCK_BYTES, &status);
        for (unsigned i = 0; i < range.count * SECTOR; i++)
            zero = zero && bytes[i] == 0;
        expect(c, !result && status == BLOCK_STATUS_OK && zero, "write zeroes");
    }
    if (c->d->features & FEATURE(FEATURE_BLOCK_DISCARD)) {
        result = block_do(b, BLOCK_DISCARD, 0, &range, sizeof range, &status);
        expect(c, !result && status == BLOCK_STATUS_OK, "discard: status %u", status);
        range.sector = b->sectors - 1;
        result = block_do(b, BLOCK_DISCARD, 0, &range, sizeof range, &status);
        expect(c, !result && status != BLOCK_STATUS_OK, "discard over the end: status %u", status);
        range.sector = area;
    }
}

static uint8_t *own_slot(struct checker *c)
{
    return cm_link_at(c->link, c->link->driver_block + 0x100 + 0x100 * (uint64_t)c->d->slot);
}

static void nap(long milliseconds)
{
    struct timespec time = {0, milliseconds * 1000000};
    nanosleep(&time, NULL);
}

/* Looks for a while whether the device complains, or no longer does: it may be slow to say so. */
static bool complains(struct checker *c, bool wanted, uint32_t *extended, uint32_t *reason)
{
    for (int i = 0; i < 500; i++) {
        *extended = cm_link_peer_extended_status(c->link, reason);
        if (!(*extended & CM_ERROR) == !wanted)
            return true;
        nap(10);
    }
    return false;
}

/* R10: a request word of another pairing is not executed. */
static void check_foreign_requests(struct checker *c)
{
    struct cm_link *l = c->link;
    const uint8_t *device = cm_link_device_slot(l, c->d->slot);
    uint64_t before = load64(device);
    uint64_t words[] = {
        (uint64_t)l->own_epoch << 40 | (uint64_t)(l->peer_epoch ^ 1) << 16 | 77,
        (uint64_t)(l->own_epoch ^ 1) << 40 | (uint64_t)l->peer_epoch << 16 | 78,
    };
    store32(own_slot(c) + 8, WRITE4);
    store32(own_slot(c) + 12, MMIO_STATUS);
    store64(own_slot(c) + 16, 0);
    for (int i = 0; i < 2; i++) {
        store64_release(own_slot(c), words[i]);
        full_fence();
        platform_ring(l->platform, l->geometry.other, 0);
        nap(50);
        expect(c, load64(device) == before, "a request with a foreign %s epoch is not executed",
               i ? "driver" : "device");
    }
    uint32_t extended, reason;
    bool complaint = complains(c, true, &extended, &reason);
    expect(c, complaint && reason == 0x201,
           "the device complains (extended status %x, reason %x)", extended, reason);
    works(c, "after foreign requests");
}

/* The sequence goes on from 65535 to 1. */
static void check_sequence(struct checker *c)
{
    bool good = true;
    c->link->sequence[c->d->slot] = 65530;
    for (int i = 0; i < 12; i++)
        good = good && refusal(c, c->d->slot, READ4, MMIO_MAGIC_VALUE, 0, NULL) == 0;
    expect(c, good && c->link->sequence[c->d->slot] < 10, "the sequence wraps around 0");
}

static uint16_t used_index(struct checker *c)
{
    return load16_acquire(cm_link_at(c->link, c->b->queue.device_ring + 2));
}

static void fill(struct checker *c)
{
    static uint8_t bytes[BLOCK_BYTES];
    int n;
    while ((n = block_free_request(c->b)) >= 0)
        if (block_submit(c->b, n, n % 2 ? BLOCK_WRITE : BLOCK_READ,
                         c->b->sectors - AREA_SECTORS + 128 * (uint64_t)n, bytes, BLOCK_BYTES))
            return;
}

/* R12: after the acknowledgement of a reset, the device leaves the link alone. */
static void check_reset(struct checker *c)
{
    fill(c);
    enum cm_result result = virtio_reset(c->d);
    uint16_t before = used_index(c);
    nap(50);
    expect(c, result == CM_OK && used_index(c) == before,
           "a reset with requests in flight (%s), and silence after it", cm_result_name(result));
}

/* R6, R7: this side starts again while requests are in flight. */
static void check_own_restart(struct checker *c)
{
    fill(c);
    uint32_t epoch = c->link->own_epoch;
    enum cm_result result = cm_link_start(c->link);
    expect(c, result == CM_OK && c->link->own_epoch != epoch, "this side starts again");
    if (start(c, "after it"))
        works(c, "after it");
}

static void broken(struct checker *c, const char *what)
{
    int n;
    uint8_t status;
    uint32_t extended, reason;
    enum cm_result result = block_wait(c->b, &n, &status, NULL, cm_deadline(20000));
    bool complaint = complains(c, true, &extended, &reason);
    expect(c, result == CM_NEEDS_RESET && complaint && reason == 0x300,
           "%s poisons the queue (%s, extended status %x, reason %x)", what,
           cm_result_name(result), extended, reason);
    int refused = refusal(c, CM_SLOTS - 1, READ4, MMIO_MAGIC_VALUE, 0, NULL);
    expect(c, refused == 15, "another slot goes on: result %d", refused);
    if (start(c, "after it"))
        works(c, "after it");
    complaint = complains(c, false, &extended, &reason);
    expect(c, complaint, "ERROR is gone after the reset (extended status %x)",
           extended);
}

/* R4, R23: what the device must not touch, and rings that cannot be. */
static void check_broken_queue(struct checker *c)
{
    struct virtqueue *q = &c->b->queue;
    struct cm_link *l = c->link;
    struct virtqueue_part part = {0, 64, true};
    virtqueue_submit(q, &part, 1, &c->b->requests[0]);
    broken(c, "a chain that would have the state table written");
    part.offset = l->driver_block;
    virtqueue_submit(q, &part, 1, &c->b->requests[0]);
    broken(c, "a chain that would have the driver block written");
    part.offset = UINT64_C(1) << 62;
    virtqueue_submit(q, &part, 1, &c->b->requests[0]);
    broken(c, "a chain outside the link");
    store16_release(cm_link_at(l, q->driver_ring + 2), (uint16_t)(q->published + 1000));
    cm_link_notify(l, c->d->slot, 0);
    broken(c, "an available index that is 1000 ahead");
}

int checks_run(struct block *b, uint64_t patience_ms)
{
    struct checker c = {
        .b = b, .d = &b->device, .link = b->device.link, .patience_ms = patience_ms};
    enum cm_result result = cm_link_wait_up(c.link, cm_deadline(patience_ms));
    if (!expect(&c, result == CM_OK, "the link is up (%s)", cm_result_name(result)))
        return c.failed;
    check_registers(&c);
    check_start_up(&c);
    if (!start(&c, "after the refusals") ||
        !expect(&c, b->sectors >= AREA_SECTORS, "the disk has 1 MiB to spare"))
        return c.failed;
    check_queue_addresses(&c);
    start(&c, "after the wrong queues");
    works(&c, "after the wrong queues");
    check_ready_queue(&c);
    check_requests(&c);
    check_foreign_requests(&c);
    check_sequence(&c);
    check_reset(&c);
    start(&c, "after the reset");
    check_own_restart(&c);
    check_broken_queue(&c);
    printf("%d checks failed\n", c.failed);
    return c.failed;
}
