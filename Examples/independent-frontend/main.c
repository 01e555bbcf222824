/* SPDX-License-Identifier: Apache-2.0 */
/* A front-end on the command line: what an application of an RTOS would do with the other files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block.h"
#include "checks.h"
#include "entropy.h"
#include "shared.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_LATE = 3, EXIT_STOPPED = 130 };

static const char usage[] =
    "usage: independent-frontend --socket PATH [options] ACTION\n"
    "\n"
    "  list              which slots hold a device\n"
    "  info              what the block device says about itself\n"
    "  write FILE        the file to the start of the disk, and a flush\n"
    "  read FILE         the whole disk into a new file\n"
    "  entropy COUNT     so many random bytes, in hexadecimal\n"
    "  check             refusals, hostile requests, restarts; destroys the end of the disk\n"
    "\n"
    "  --socket PATH              where ivshmem-sim listens (required)\n"
    "  --placement shared|output  where blocks and pools lie (default output)\n"
    "  --peer N                   the own peer number (default 1)\n"
    "  --other N                  the back-end's (default 0)\n"
    "  --slot N                   which device of the link (default 0)\n"
    "  --translation-base N       added to all addresses that the device sees (default 0)\n"
    "  --patience SECONDS         how long a missing back-end is waited for (default 10)\n"
    "  --hold PERCENT             read, write: keep requests in flight there and go on only after\n"
    "                             the back-end has been started again\n"
    "  --no-event-idx             do not accept EVENT_IDX\n"
    "  --verbose                  say what the link does\n"
    "exit status: 0 done, 1 it failed, 2 wrong usage or something cannot be opened,\n"
    "             3 a deadline passed, 130 stopped by a signal\n";

struct options {
    const char *socket;
    enum cm_placement placement;
    unsigned peer, other, slot;
    uint64_t translation_base;
    uint64_t patience_ms;
    int hold; /* percent, -1: not */
    bool without_event_index;
    bool verbose;
    const char *action;
    const char *argument;
};

static int exit_status(enum cm_result result)
{
    switch (result) {
    case CM_OK: return 0;
    case CM_LATE: return EXIT_LATE;
    case CM_STOPPED: return EXIT_STOPPED;
    default: return EXIT_FAILED;
    }
}

/* Says what went wrong, with what the peer has to say about it. */
static enum cm_result report(const char *what, const struct virtio_device *d, enum cm_result result)
{
    if (result == CM_OK)
        return result;
    uint32_t reason;
    uint32_t status = cm_link_peer_extended_status(d->link, &reason);
    fprintf(stderr, "%s: %s", what, cm_result_name(result));
    if (result == CM_REFUSED && d->refusal)
        fprintf(stderr, " (result %u)", d->refusal);
    if (d->link->status == CM_UP && status & CM_ERROR)
        fprintf(stderr, "; the back-end complains with reason %xh", reason);
    fputc('\n', stderr);
    return result;
}

/* --- transfers ----------------------------------------------------------------------------- */

struct transfer {
    struct block *block;
    bool writing;
    int file;
    uint64_t size;   /* known once the device is up, if reading */
    uint64_t next;   /* first byte that no request covers */
    uint64_t done;   /* bytes whose requests are finished */
    int hold;
    unsigned restarts;
    struct {
        bool pending;
        uint64_t offset;
        uint32_t length;
    } parts[BLOCK_DEPTH];
};

static enum cm_result submit(struct transfer *t, int n)
{
    static uint8_t bytes[BLOCK_BYTES];
    uint64_t offset = t->parts[n].offset;
    uint32_t length = t->parts[n].length;
    if (t->writing) {
        /* From the file each time: a device of an earlier life may have written over the buffer
         * where the placement lets it. The last part is filled up to a sector with zeroes. */
        memset(bytes, 0, length);
        if (pread(t->file, bytes, length, (off_t)offset) < 0) {
            perror("reading the file");
            return CM_BROKEN;
        }
    }
    return block_submit(t->block, n, t->writing ? BLOCK_WRITE : BLOCK_READ, offset / SECTOR, bytes,
                        length);
}

static enum cm_result finish_one(struct transfer *t)
{
    static uint8_t bytes[BLOCK_BYTES];
    int n;
    uint8_t status;
    enum cm_result result = block_wait(t->block, &n, &status, bytes, cm_deadline(20000));
    if (result != CM_OK)
        return result;
    if (status != BLOCK_STATUS_OK) {
        fprintf(stderr, "the device ends a request with status %u\n", status);
        return CM_BROKEN;
    }
    uint32_t length = t->parts[n].length;
    if (!t->writing &&
        pwrite(t->file, bytes, length, (off_t)t->parts[n].offset) != (ssize_t)length) {
        perror("writing the file");
        return CM_BROKEN;
    }
    t->parts[n].pending = false;
    t->done += length;
    return CM_OK;
}

static bool never(void *context, bool ask)
{
    (void)context;
    (void)ask;
    return false;
}

/* Leaves what is in flight alone until the pairing is lost. */
static enum cm_result hold(struct transfer *t, uint64_t patience_ms)
{
    int in_flight = 0;
    for (int n = 0; n < BLOCK_DEPTH; n++)
        in_flight += t->parts[n].pending;
    printf("holding with %d requests in flight\n", in_flight);
    fflush(stdout);
    t->hold = -1;
    struct virtio_device *d = &t->block->device;
    return cm_link_wait(d->link, d->life, never, NULL, cm_deadline(patience_ms));
}

/* In one pairing: everything that is left. */
static enum cm_result run_pairing(struct transfer *t, uint64_t patience_ms)
{
    enum cm_result result;
    uint8_t status;
    for (int n = 0; n < BLOCK_DEPTH; n++)
        if (t->parts[n].pending && (result = submit(t, n)) != CM_OK)
            return result;
    while (t->done < t->size) {
        int n;
        while (t->next < t->size && (n = block_free_request(t->block)) >= 0) {
            uint64_t left = t->size - t->next;
            t->parts[n].offset = t->next;
            t->parts[n].length = (uint32_t)(left < BLOCK_BYTES ? left : BLOCK_BYTES);
            t->parts[n].pending = true;
            t->next += t->parts[n].length;
            if ((result = submit(t, n)) != CM_OK)
                return result;
        }
        if (t->hold >= 0 && t->done * 100 >= t->size * (unsigned)t->hold)
            if ((result = hold(t, patience_ms)) != CM_OK)
                return result;
        if ((result = finish_one(t)) != CM_OK)
            return result;
    }
    if (!t->writing || !(t->block->device.features & FEATURE(FEATURE_BLOCK_FLUSH)))
        return CM_OK;
    result = block_do(t->block, BLOCK_FLUSH, 0, NULL, 0, &status);
    return result == CM_OK && status != BLOCK_STATUS_OK ? CM_BROKEN : result;
}

/* R24: as often as the pairing is lost, wait for the next, set the device up, submit again. */
static enum cm_result run_transfer(struct transfer *t, uint64_t patience_ms)
{
    enum { MOST_RESETS = 100 }; /* a device that always wants another one is not worth more */
    struct virtio_device *d = &t->block->device;
    unsigned resets = 0;
    for (;;) {
        enum cm_result result = cm_link_wait_up(d->link, cm_deadline(patience_ms));
        if (result != CM_OK)
            return report("waiting for the back-end", d, result);
        result = block_start(t->block);
        if (result == CM_OK && !t->writing)
            t->size = t->block->sectors * SECTOR;
        if (result == CM_OK && t->size > t->block->sectors * SECTOR) {
            fprintf(stderr, "the file is larger than the disk\n");
            return CM_REFUSED;
        }
        if (result == CM_OK)
            result = run_pairing(t, patience_ms);
        resets += result == CM_NEEDS_RESET;
        if ((result != CM_LOST && result != CM_NEEDS_RESET) || resets > MOST_RESETS)
            return report(t->writing ? "write" : "read", d, result);
        t->restarts++;
        printf("%s, %u %% done: starting again\n", cm_result_name(result),
               (unsigned)(t->size ? t->done * 100 / t->size : 0));
        fflush(stdout);
    }
}

static enum cm_result transfer_file(struct block *b, const struct options *o, bool writing)
{
    struct transfer t = {.block = b, .writing = writing, .hold = o->hold};
    struct stat about;
    t.file = writing ? open(o->argument, O_RDONLY | O_CLOEXEC)
                     : open(o->argument, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (t.file < 0 || fstat(t.file, &about) != 0) {
        fprintf(stderr, "%s: %s\n", o->argument, strerror(errno));
        exit(EXIT_USAGE);
    }
    if (writing)
        t.size = ((uint64_t)about.st_size + SECTOR - 1) / SECTOR * SECTOR;
    enum cm_result result = run_transfer(&t, o->patience_ms);
    if (close(t.file) != 0 && result == CM_OK) {
        perror(o->argument);
        result = CM_BROKEN;
    }
    if (result == CM_OK && o->hold >= 0 && t.restarts == 0) {
        fprintf(stderr, "the back-end was not started again\n");
        result = CM_BROKEN;
    }
    if (result == CM_OK)
        printf("%s %llu bytes, %u restarts\n", writing ? "wrote" : "read",
               (unsigned long long)t.done, t.restarts);
    return result;
}

/* --- the other actions --------------------------------------------------------------------- */

static enum cm_result show_block(struct block *b, const struct options *o)
{
    struct virtio_device *d = &b->device;
    char name[21] = "";
    uint8_t status;
    enum cm_result result = cm_link_wait_up(d->link, cm_deadline(o->patience_ms));
    if (result == CM_OK)
        result = block_start(b);
    if (result == CM_OK)
        result = block_do(b, BLOCK_IDENTIFY, 0, name, 20, &status);
    if (result != CM_OK)
        return report("info", d, result);
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?'; /* a hostile name shall not talk to the terminal */
    printf("%llu sectors, block size %u, features %llx of %llx, identity \"%s\" (status %u)\n",
           (unsigned long long)b->sectors, b->block_size, (unsigned long long)d->features,
           (unsigned long long)d->offered, name, status);
    return CM_OK;
}

static enum cm_result show_entropy(struct cm_link *link, const struct options *o)
{
    static struct entropy e;
    uint8_t bytes[ENTROPY_BYTES];
    unsigned long left = strtoul(o->argument, NULL, 10);
    if (!entropy_allocate(&e, link, o->slot)) {
        fprintf(stderr, "the pools are too small\n");
        return CM_BROKEN;
    }
    e.device.without_event_index = o->without_event_index;
    enum cm_result result = cm_link_wait_up(link, cm_deadline(o->patience_ms));
    if (result == CM_OK)
        result = entropy_start(&e);
    while (result == CM_OK && left) {
        uint32_t got;
        result = entropy_read(&e, bytes, left < sizeof bytes ? (uint32_t)left : sizeof bytes, &got);
        for (uint32_t i = 0; result == CM_OK && i < got; i++, left--)
            printf("%02x", bytes[i]);
    }
    putchar('\n');
    if (result == CM_OK)
        result = virtio_reset(&e.device);
    return report("entropy", &e.device, result);
}

/* The device directory: the link's own bus scan. */
static enum cm_result list_slots(struct cm_link *link, const struct options *o)
{
    enum cm_result result = cm_link_wait_up(link, cm_deadline(o->patience_ms));
    for (unsigned n = 0; result == CM_OK && n < CM_SLOTS; n++) {
        const uint8_t *slot = cm_link_device_slot(link, n);
        uint32_t device = load32_acquire(slot + CM_SLOT_DEVICE_ID);
        if (device)
            printf("slot %u: device %u, %u queues, %u bytes of configuration\n", n, device,
                   load32(slot + CM_SLOT_QUEUE_COUNT), load32(slot + CM_SLOT_CONFIGURATION_SIZE));
    }
    if (result != CM_OK)
        fprintf(stderr, "list: %s\n", cm_result_name(result));
    return result;
}

static enum cm_result act(struct cm_link *link, const struct options *o)
{
    static struct block b;
    if (strcmp(o->action, "list") == 0)
        return list_slots(link, o);
    if (strcmp(o->action, "entropy") == 0)
        return show_entropy(link, o);
    if (!block_allocate(&b, link, o->slot)) {
        fprintf(stderr, "the pools are too small\n");
        return CM_BROKEN;
    }
    b.device.without_event_index = o->without_event_index;
    enum cm_result result;
    if (strcmp(o->action, "info") == 0)
        result = show_block(&b, o);
    else if (strcmp(o->action, "check") == 0)
        result = checks_run(&b, o->patience_ms) ? CM_BROKEN : CM_OK;
    else
        result = transfer_file(&b, o, strcmp(o->action, "write") == 0);
    /* A device that nobody drives any more is left in reset. */
    if (result == CM_OK)
        result = report("reset at the end", &b.device, virtio_reset(&b.device));
    return result;
}

/* --- options ------------------------------------------------------------------------------- */

static void wrong_usage(const char *what)
{
    fprintf(stderr, "independent-frontend: %s; --help says more\n", what);
    exit(EXIT_USAGE);
}

static uint64_t number(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || end == text || *end || value > most)
        wrong_usage("a number is wrong");
    return value;
}

static void parse(struct options *o, int count, char **words)
{
    static const char *const actions[] = {"list", "info", "check", "write", "read", "entropy"};
    enum { ACTIONS = 6, WITHOUT_ARGUMENT = 3 };
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        const char *value = i + 1 < count ? words[i + 1] : NULL;
        if (strcmp(word, "--help") == 0) {
            fputs(usage, stdout);
            exit(0);
        } else if (strcmp(word, "--no-event-idx") == 0) {
            o->without_event_index = true;
        } else if (strcmp(word, "--verbose") == 0) {
            o->verbose = true;
        } else if (strncmp(word, "--", 2) == 0) {
            if (!value)
                wrong_usage("an option lacks its value");
            if (strcmp(word, "--socket") == 0)
                o->socket = value;
            else if (strcmp(word, "--placement") == 0 && strcmp(value, "shared") == 0)
                o->placement = CM_SHARED;
            else if (strcmp(word, "--placement") == 0 && strcmp(value, "output") == 0)
                o->placement = CM_OUTPUT;
            else if (strcmp(word, "--peer") == 0)
                o->peer = (unsigned)number(value, 11);
            else if (strcmp(word, "--other") == 0)
                o->other = (unsigned)number(value, 11);
            else if (strcmp(word, "--slot") == 0)
                o->slot = (unsigned)number(value, CM_SLOTS - 1);
            else if (strcmp(word, "--translation-base") == 0)
                o->translation_base = number(value, UINT64_MAX / 2);
            else if (strcmp(word, "--patience") == 0)
                o->patience_ms = 1000 * number(value, 3600);
            else if (strcmp(word, "--hold") == 0)
                o->hold = (int)number(value, 99);
            else
                wrong_usage("an option or its value is unknown");
            i++;
        } else if (!o->action) {
            o->action = word;
        } else if (!o->argument) {
            o->argument = word;
        } else {
            wrong_usage("too many words");
        }
    }
    unsigned known = 0;
    while (o->action && known < ACTIONS && strcmp(o->action, actions[known]) != 0)
        known++;
    if (!o->socket || !o->action || known == ACTIONS ||
        (known >= WITHOUT_ARGUMENT) != (o->argument != NULL))
        wrong_usage("--socket and an action with its argument are needed");
}

int main(int count, char **words)
{
    struct options o = {.placement = CM_OUTPUT, .peer = 1, .patience_ms = 10000, .hold = -1};
    static struct cm_link link;
    parse(&o, count, words);
    struct platform *platform = platform_open(o.socket, o.peer, o.other);
    if (!platform || !cm_link_open(&link, platform, o.placement, o.translation_base))
        return EXIT_USAGE;
    link.verbose = o.verbose;
    enum cm_result result = cm_link_start(&link);
    if (result == CM_OK)
        result = act(&link, &o);
    else
        fprintf(stderr, "starting: %s\n", cm_result_name(result));
    cm_link_stop(&link);
    if (o.verbose)
        fprintf(stderr,
                "link: %llu pairings, %llu transactions, %llu rings, %llu sleeps,"
                " %llu foreign acknowledgements\n",
                (unsigned long long)link.pairings, (unsigned long long)link.transactions,
                (unsigned long long)link.rings, (unsigned long long)link.sleeps,
                (unsigned long long)link.foreign_acknowledgements);
    platform_close(platform);
    return exit_status(result);
}
