/* SPDX-License-Identifier: Apache-2.0 */
#include "cellmate_link.h"

#include <stdio.h>
#include <string.h>

#include "shared.h"

enum {
    MAGIC = 0x74764d43,
    VERSION = 1,
    KIND_DRIVER = 1,
    KIND_DEVICE = 2,
    DRIVER_BLOCK_SIZE = 0x1000,
    DEVICE_BLOCK_SIZE = 0x3000,

    /* header */
    H_MAGIC = 0x00,
    H_VERSION = 0x04,
    H_KIND = 0x08,
    H_PLACEMENT = 0x0c,
    H_MUST_UNDERSTAND = 0x10,
    H_SLOT_COUNT = 0x18,
    H_POOL_OFFSET = 0x20,
    H_POOL_SIZE = 0x28,
    H_TRANSLATION_BASE = 0x30,
    H_HELLO = 0x40,
    H_EXTENDED_STATUS = 0x80,
    H_REASON = 0x84,

    /* slots */
    SLOTS = 0x100,
    DRIVER_SLOT_SIZE = 0x100,
    DEVICE_SLOT_SIZE = 0x400,
    D_REQUEST = 0x00,
    D_OPERATION = 0x08,
    D_OFFSET = 0x0c,
    D_VALUE = 0x10,
    D_COUNTERS = 0x40,
    V_ACKNOWLEDGEMENT = 0x00,
    V_RESULT = 0x08,
    V_VALUE = 0x10,
};

static const uint32_t state_of_front_end = 0x434d0000u | VERSION << 8 | 1;
static const uint32_t state_of_back_end = 0x434d0000u | VERSION << 8 | 2;
static const uint32_t epoch_mask = 0xffffff;

const char *cm_result_name(enum cm_result result)
{
    static const char *const names[] = {"ok", "refused", "link lost", "deadline passed",
                                        "device needs a reset", "peer breaks the protocol",
                                        "stopped", "device gone"};
    return names[result];
}

uint64_t cm_deadline(uint64_t milliseconds)
{
    return platform_now() + milliseconds * 1000000u;
}

uint8_t *cm_link_at(const struct cm_link *link, uint64_t offset)
{
    return link->memory + offset;
}

static uint8_t *own(const struct cm_link *link, uint64_t offset)
{
    return link->memory + link->driver_block + offset;
}

static const uint8_t *peers(const struct cm_link *link, uint64_t offset)
{
    return link->memory + link->device_block + offset;
}

static uint8_t *own_slot(const struct cm_link *link, unsigned slot)
{
    return own(link, SLOTS + (uint64_t)slot * DRIVER_SLOT_SIZE);
}

uint8_t *cm_link_device_slot(const struct cm_link *link, unsigned slot)
{
    return link->memory + link->device_block + SLOTS + (uint64_t)slot * DEVICE_SLOT_SIZE;
}

uint32_t cm_link_peer_extended_status(const struct cm_link *link, uint32_t *reason)
{
    uint32_t status = load32_acquire(peers(link, H_EXTENDED_STATUS));
    *reason = load32(peers(link, H_REASON));
    return status;
}

uint64_t cm_pool_take(struct cm_pool *pool, uint64_t size, uint64_t alignment)
{
    uint64_t start = (pool->next + alignment - 1) & ~(alignment - 1);
    if (start > pool->end || size > pool->end - start)
        return 0; /* no pool starts at 0: the state table lies there */
    pool->next = start + size;
    return start;
}

bool cm_link_open(struct cm_link *link, struct platform *platform, enum cm_placement placement,
                  uint64_t translation_base)
{
    memset(link, 0, sizeof *link);
    link->platform = platform;
    link->geometry = *platform_geometry(platform);
    link->memory = platform_memory(platform);
    link->placement = placement;
    link->translation_base = translation_base;
    const struct platform_geometry *g = &link->geometry;
    uint64_t outputs = g->state_table + g->read_write;

    if (placement == CM_SHARED) {
        if (g->read_write <= DEVICE_BLOCK_SIZE + DRIVER_BLOCK_SIZE) {
            fprintf(stderr, "the read/write section is too small for placement shared\n");
            return false;
        }
        link->device_block = g->state_table;
        link->driver_block = link->device_block + DEVICE_BLOCK_SIZE;
        link->driver_pool_start = link->driver_block + DRIVER_BLOCK_SIZE;
        link->driver_pool_size = g->read_write - DEVICE_BLOCK_SIZE - DRIVER_BLOCK_SIZE;
        link->device_pool_start = link->driver_pool_start;
        link->device_pool_size = link->driver_pool_size;
    } else {
        if (g->output <= DEVICE_BLOCK_SIZE) {
            fprintf(stderr, "the output sections are too small for placement output\n");
            return false;
        }
        link->device_block = outputs + g->other * g->output;
        link->driver_block = outputs + g->own * g->output;
        link->device_pool_start = link->device_block + DEVICE_BLOCK_SIZE;
        link->device_pool_size = g->output - DEVICE_BLOCK_SIZE;
        link->driver_pool_start = link->driver_block + DRIVER_BLOCK_SIZE;
        link->driver_pool_size = g->output - DRIVER_BLOCK_SIZE;
    }
    link->pools[0] = (struct cm_pool){link->driver_pool_start,
                                      link->driver_pool_start + link->driver_pool_size};
    link->pools[1] = (struct cm_pool){link->device_pool_start,
                                      link->device_pool_start + link->device_pool_size};
    link->driver_pool = &link->pools[0];
    link->device_pool = placement == CM_SHARED ? &link->pools[0] : &link->pools[1];
    return true;
}

static uint64_t hello(uint32_t own_epoch, uint32_t echo)
{
    return (uint64_t)own_epoch << 24 | echo;
}

static void set_extended_status(struct cm_link *link, uint32_t status)
{
    link->extended_status = status;
    store32_release(own(link, H_EXTENDED_STATUS), status);
}

static void complain(struct cm_link *link, uint32_t reason)
{
    store32(own(link, H_REASON), reason);
    set_extended_status(link, link->extended_status | CM_ERROR);
}

/* Zero, then header, then slots, all but hello: the caller stores that last, with release, so that
 * a new epoch pair is only seen with a whole block behind it. */
static void write_block(struct cm_link *link)
{
    for (uint64_t at = 0; at < DRIVER_BLOCK_SIZE; at += 8)
        if (at != H_HELLO)
            store64(own(link, at), 0);
    memset(link->sequence, 0, sizeof link->sequence);
    memset(link->open_request, 0, sizeof link->open_request);
    memset(link->last_acknowledgement, 0, sizeof link->last_acknowledgement);
    memset(link->counters, 0, sizeof link->counters);

    store32(own(link, H_MAGIC), MAGIC);
    store32(own(link, H_VERSION), VERSION);
    store32(own(link, H_KIND), KIND_DRIVER);
    store32(own(link, H_PLACEMENT), link->placement);
    store32(own(link, H_SLOT_COUNT), CM_SLOTS);
    store64(own(link, H_POOL_OFFSET), link->driver_pool_start);
    store64(own(link, H_POOL_SIZE), link->driver_pool_size);
    store64(own(link, H_TRANSLATION_BASE), link->translation_base);
    link->header_reason = 0;
    set_extended_status(link, CM_PRESENT);
}

/* R16, behind what was published: the fence keeps the look at BLOCKED behind the store, as the
 * peer's fence keeps its look at our words behind BLOCKED (R15). */
static void wake(struct cm_link *link, unsigned vector)
{
    full_fence();
    if (load32(peers(link, H_EXTENDED_STATUS)) & CM_BLOCKED) {
        link->rings++;
        platform_ring(link->platform, link->geometry.other, vector);
    }
}

static uint32_t new_epoch(const struct cm_link *link)
{
    uint64_t mine = load64(own(link, H_HELLO));
    uint64_t theirs = load64(peers(link, H_HELLO));
    for (;;) {
        uint32_t epoch = platform_random() & epoch_mask;
        /* Another one than the peer may be paired with, and than what it may already echo. */
        if (epoch && epoch != (mine >> 24 & epoch_mask) && epoch != (mine & epoch_mask) &&
            epoch != (theirs & epoch_mask) && epoch != link->own_epoch)
            return epoch;
    }
}

enum cm_result cm_link_start(struct cm_link *link)
{
    if (!platform_write_state(link->platform, 0))
        return CM_GONE;
    link->own_epoch = new_epoch(link);
    link->peer_epoch = 0;
    link->status = CM_ALONE;
    link->life++;
    store64(own(link, H_HELLO), 0);
    write_block(link);
    store64_release(own(link, H_HELLO), hello(link->own_epoch, 0));
    full_fence();
    return platform_write_state(link->platform, state_of_front_end) ? CM_OK : CM_GONE;
}

void cm_link_stop(struct cm_link *link)
{
    set_extended_status(link, link->extended_status | CM_GOING_AWAY);
    platform_write_state(link->platform, 0);
    platform_disarm(link->platform);
    link->status = CM_ALONE;
    link->life++;
}

/* R7. What belongs to the earlier pairing on this side are private books: a changed `life` makes
 * their owners throw them away. */
static void answer(struct cm_link *link, uint32_t epoch)
{
    link->life++;
    link->peer_epoch = epoch;
    link->status = CM_ANSWERING;
    for (unsigned slot = 0; slot < CM_SLOTS; slot++)
        store64(own_slot(link, slot) + D_REQUEST, 0);
    write_block(link);
    store64_release(own(link, H_HELLO), hello(link->own_epoch, epoch));
    wake(link, 0);
}

/* R8: each field once. The order of the checks makes the most basic complaint win. */
static uint32_t judge_header(const struct cm_link *link)
{
    if (load32(peers(link, H_MAGIC)) != MAGIC)
        return CM_BAD_MAGIC;
    if (load32(peers(link, H_VERSION)) != VERSION)
        return CM_BAD_VERSION;
    if (load32(peers(link, H_KIND)) != KIND_DEVICE)
        return CM_BAD_KIND;
    if (load32(peers(link, H_PLACEMENT)) != link->placement)
        return CM_BAD_PLACEMENT;
    if (load32(peers(link, H_MUST_UNDERSTAND)) != 0)
        return CM_UNKNOWN_FEATURES;
    if (load32(peers(link, H_SLOT_COUNT)) != CM_SLOTS)
        return CM_BAD_SLOT_COUNT;
    if (load64(peers(link, H_POOL_OFFSET)) != link->device_pool_start ||
        load64(peers(link, H_POOL_SIZE)) != link->device_pool_size)
        return CM_BAD_POOL;
    return 0;
}

void cm_link_look(struct cm_link *link)
{
    /* R6: state, then hello, then anything else. */
    uint32_t state = load32_acquire(link->memory + 4 * (uint64_t)link->geometry.other);
    if (state != state_of_back_end) {
        if (link->status != CM_ALONE) {
            if (link->verbose)
                fprintf(stderr, "link: the back-end is gone\n");
            link->status = CM_ALONE;
            link->peer_epoch = 0;
            link->life++;
        }
        return;
    }
    uint64_t word = load64_acquire(peers(link, H_HELLO));
    uint32_t epoch = word >> 24 & epoch_mask;
    uint32_t echo = word & epoch_mask;
    if (epoch == 0)
        return; /* "none": the peer is writing its block */
    if (link->status == CM_ALONE || epoch != link->peer_epoch) {
        if (link->verbose)
            fprintf(stderr, "link: answering epoch %06x\n", epoch);
        answer(link, epoch);
        return;
    }
    if (link->status != CM_ANSWERING || echo != link->own_epoch)
        return;
    uint32_t reason = judge_header(link);
    if (reason) {
        if (reason != link->header_reason) {
            if (link->verbose)
                fprintf(stderr, "link: the back-end's header is wrong, reason %xh\n", reason);
            link->header_reason = reason;
            complain(link, reason);
        }
        return; /* still answering: the next look judges again */
    }
    link->status = CM_UP;
    link->pairings++;
    if (link->verbose)
        fprintf(stderr, "link: up, own epoch %06x, peer epoch %06x\n", link->own_epoch, epoch);
}

/* R15, one sleep. Returns CM_OK when it is worth looking again. */
static enum cm_result sleep_once(struct cm_link *link, cm_ready *ready, void *context,
                                 uint64_t deadline)
{
    if (platform_now() >= deadline)
        return CM_LATE;
    uint32_t life = link->life;
    enum cm_status status = link->status;
    set_extended_status(link, link->extended_status | CM_BLOCKED);
    if (ready)
        ready(context, true);
    platform_arm(link->platform);
    full_fence();

    /* The last look. The handshake may move here and clear BLOCKED: then nobody sleeps. */
    cm_link_look(link);
    bool found = link->life != life || link->status != status || (ready && ready(context, false));
    enum platform_event event = PLATFORM_EVENT;
    if (!found) {
        link->sleeps++;
        event = platform_wait(link->platform, deadline);
    }
    set_extended_status(link, link->extended_status & ~(uint32_t)CM_BLOCKED);
    switch (event) {
    case PLATFORM_STOPPED: return CM_STOPPED;
    case PLATFORM_GONE: return CM_GONE;
    default: return CM_OK; /* a passed deadline is seen after the next look */
    }
}

enum cm_result cm_link_wait_up(struct cm_link *link, uint64_t deadline)
{
    for (;;) {
        cm_link_look(link);
        if (link->status == CM_UP)
            return CM_OK;
        enum cm_result result = sleep_once(link, NULL, NULL, deadline);
        if (result != CM_OK)
            return result == CM_LATE && link->header_reason ? CM_BROKEN : result;
    }
}

enum cm_result cm_link_wait(struct cm_link *link, uint32_t life, cm_ready *ready, void *context,
                            uint64_t deadline)
{
    for (;;) {
        cm_link_look(link);
        if (link->status != CM_UP || link->life != life)
            return CM_LOST;
        if (ready(context, false))
            return CM_OK;
        enum cm_result result = sleep_once(link, ready, context, deadline);
        if (result != CM_OK)
            return result;
    }
}

struct acknowledgement {
    struct cm_link *link;
    unsigned slot;
    uint64_t request;
};

static bool acknowledged(void *context, bool ask)
{
    (void)ask; /* transactions need no asking: BLOCKED is enough */
    struct acknowledgement *a = context;
    struct cm_link *link = a->link;
    uint64_t word = load64_acquire(cm_link_device_slot(link, a->slot) + V_ACKNOWLEDGEMENT);
    if (word == a->request)
        return true;
    if (word != 0 && word != link->last_acknowledgement[a->slot]) {
        link->foreign_acknowledgements++;
        complain(link, CM_FOREIGN_ACKNOWLEDGEMENT);
    }
    return false;
}

enum cm_result cm_link_transact(struct cm_link *link, uint32_t life, struct cm_transaction *t,
                                uint64_t deadline)
{
    uint8_t *slot = own_slot(link, t->slot);
    struct acknowledgement wanted = {link, t->slot, link->open_request[t->slot]};
    if (wanted.request) {
        /* R9: at most one is open. This one missed its deadline; its answer comes first. */
        enum cm_result result = cm_link_wait(link, life, acknowledged, &wanted, deadline);
        if (result != CM_OK)
            return result;
        link->last_acknowledgement[t->slot] = wanted.request;
    }
    cm_link_look(link);
    if (link->status != CM_UP || link->life != life)
        return CM_LOST;
    if (++link->sequence[t->slot] == 0)
        link->sequence[t->slot] = 1;
    wanted.request = (uint64_t)link->own_epoch << 40 | (uint64_t)link->peer_epoch << 16 |
                     link->sequence[t->slot];

    store32(slot + D_OPERATION, t->operation);
    store32(slot + D_OFFSET, t->offset);
    store64(slot + D_VALUE, t->value);
    store64_release(slot + D_REQUEST, wanted.request);
    link->open_request[t->slot] = wanted.request;
    link->transactions++;
    wake(link, 0);

    enum cm_result result = cm_link_wait(link, life, acknowledged, &wanted, deadline);
    if (result != CM_OK)
        return result;
    link->open_request[t->slot] = 0;
    link->last_acknowledgement[t->slot] = wanted.request;
    t->refusal = load32(cm_link_device_slot(link, t->slot) + V_RESULT);
    t->value = load64(cm_link_device_slot(link, t->slot) + V_VALUE);
    return t->refusal ? CM_REFUSED : CM_OK;
}

void cm_link_notify(struct cm_link *link, unsigned slot, unsigned queue)
{
    uint32_t *counter = &link->counters[slot][queue];
    store32_release(own_slot(link, slot) + D_COUNTERS + 4 * (uint64_t)queue, ++*counter);
    unsigned vectors = link->geometry.vectors;
    wake(link, vectors > 1 ? 1 + queue % (vectors - 1) : 0);
}
