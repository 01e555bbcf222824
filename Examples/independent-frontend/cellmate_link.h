/* SPDX-License-Identifier: Apache-2.0 */
/* The front-end's side of a native link: blocks, start-up handshake, transactions, sleeping and
 * notifications. docs/protocol.md, sections 1 to 7; Rn are its rules. One thread owns a link (R17).
 */
#ifndef CELLMATE_LINK_H
#define CELLMATE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "platform.h"

enum {
    CM_SLOTS = 8,
    CM_QUEUES = 32, /* notification counters of a slot */
};

enum cm_placement { CM_SHARED = 1, CM_OUTPUT = 2 };

enum cm_result {
    CM_OK = 0,
    CM_REFUSED,     /* the device said no; the transaction's refusal says why */
    CM_LOST,        /* the pairing ended: set the device up again and submit again */
    CM_LATE,        /* a deadline passed; the buffers stay in quarantine */
    CM_NEEDS_RESET, /* the device broke off and wants a reset */
    CM_BROKEN,      /* the peer does what the page forbids */
    CM_STOPPED,     /* somebody asks this side to stop */
    CM_GONE,        /* the device of the platform is gone */
};

const char *cm_result_name(enum cm_result result);

/* Bits of extendedStatus. */
enum {
    CM_PRESENT = 1,
    CM_BLOCKED = 2,
    CM_BUSY = 4,
    CM_QUIESCING = 8,
    CM_ERROR = 16,
    CM_GOING_AWAY = 32,
};

enum cm_reason {
    CM_BAD_MAGIC = 0x101,
    CM_BAD_VERSION,
    CM_BAD_KIND,
    CM_BAD_PLACEMENT,
    CM_UNKNOWN_FEATURES,
    CM_BAD_POOL,
    CM_BAD_SLOT_COUNT,
    CM_FOREIGN_ACKNOWLEDGEMENT = 0x203,
};

/* Offsets in the device slot that other files read. */
enum {
    CM_SLOT_CONFIGURATION_COUNTER = 0x18,
    CM_SLOT_DEVICE_ID = 0xc0,
    CM_SLOT_QUEUE_COUNT = 0xc4,
    CM_SLOT_CONFIGURATION_SIZE = 0xc8,
    CM_SLOT_REGISTERS = 0x100,
    CM_SLOT_CONFIGURATION = 0x200,
};

/* A range that the front-end gives away piece by piece and never takes back: what a device needs is
 * allocated once and used again in every pairing, as an RTOS would. */
struct cm_pool {
    uint64_t next;
    uint64_t end;
};

enum cm_status { CM_ALONE, CM_ANSWERING, CM_UP };

struct cm_link {
    struct platform *platform;
    struct platform_geometry geometry;
    uint8_t *memory;
    enum cm_placement placement;
    uint64_t translation_base; /* added to every offset that goes into rings or queue registers */
    uint64_t device_block;     /* offsets */
    uint64_t driver_block;
    uint64_t device_pool_start, device_pool_size;
    uint64_t driver_pool_start, driver_pool_size;
    struct cm_pool pools[2];
    struct cm_pool *device_pool; /* the same pool as the driver's where placement is shared */
    struct cm_pool *driver_pool;

    enum cm_status status;
    uint32_t own_epoch;
    uint32_t peer_epoch; /* of the pairing that is being answered or up; 0: none */
    uint32_t life;       /* changes whenever everything of a pairing becomes void */
    uint32_t extended_status; /* own, as stored */
    uint32_t header_reason;   /* why the peer's header keeps the link down, 0: it does not */
    uint16_t sequence[CM_SLOTS];
    uint64_t open_request[CM_SLOTS];        /* 0: none */
    uint64_t last_acknowledgement[CM_SLOTS];
    uint32_t counters[CM_SLOTS][CM_QUEUES]; /* own notification counters */

    bool verbose;
    uint64_t pairings, transactions, rings, sleeps, foreign_acknowledgements; /* for people */
};

/* Looks at the geometry and computes the tables of section 2. False with a line on standard error
 * if the placement is not possible on this link. */
bool cm_link_open(struct cm_link *link, struct platform *platform, enum cm_placement placement,
                  uint64_t translation_base);

/* R5: starts, also again in the same process. */
enum cm_result cm_link_start(struct cm_link *link);

/* Leaves on purpose: GOING_AWAY, State 0. */
void cm_link_stop(struct cm_link *link);

/* R6 to R8: looks at the peer once and moves the handshake. Never sleeps. */
void cm_link_look(struct cm_link *link);

enum cm_result cm_link_wait_up(struct cm_link *link, uint64_t deadline);

/* Says whether what is waited for is there. `ask` is set in the last look before sleeping: the
 * callback then first asks the device for the notifications it needs. */
typedef bool cm_ready(void *context, bool ask);

/* Sleeps until `ready`. `life` is link->life of the pairing that the caller works in; CM_LOST when
 * that pairing is over, also if another one is up by now. */
enum cm_result cm_link_wait(struct cm_link *link, uint32_t life, cm_ready *ready, void *context,
                            uint64_t deadline);

struct cm_transaction {
    unsigned slot;
    uint32_t operation; /* bits 7:0: 1 read, 2 write; bits 15:8: width */
    uint32_t offset;
    uint64_t value;     /* in: to write; out: what was read */
    uint32_t refusal;   /* out: section 9, 0 if the device did it */
};

enum cm_result cm_link_transact(struct cm_link *link, uint32_t life, struct cm_transaction *t,
                                uint64_t deadline);

/* R19, after the ring's own rule has said that the device wants to know. */
void cm_link_notify(struct cm_link *link, unsigned slot, unsigned queue);

uint8_t *cm_link_at(const struct cm_link *link, uint64_t offset);
uint8_t *cm_link_device_slot(const struct cm_link *link, unsigned slot);
uint32_t cm_link_peer_extended_status(const struct cm_link *link, uint32_t *reason);

/* An offset in the pool, or 0 if it is used up. */
uint64_t cm_pool_take(struct cm_pool *pool, uint64_t size, uint64_t alignment);

uint64_t cm_deadline(uint64_t milliseconds);

#endif
