/* SPDX-License-Identifier: Apache-2.0 */
/* The platform of the simulator: docs/simulator.md, from which this file was written.
 * On a board this file is replaced: PCI or UIO registers instead of the socket and the page. */
#define _GNU_SOURCE
#include "platform.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shared.h"

enum {
    HELLO = 0x31536d63, /* "cmS1" */
    MOST_PEERS = 12,
    MOST_VECTORS = 8,
    MOST_DESCRIPTORS = 3 + MOST_PEERS + MOST_PEERS * MOST_VECTORS,
    PAGE = 4096,
    ONE_SHOT = 1, /* bits of the welcome's flags */
    ONE_DESCRIPTOR = 8,
    REQUEST_STATE = 1,
    INTERRUPT_CONTROL = 0x00, /* in a peer's 80h bytes of the register page */
    DELIVERY = 0x04,          /* 0 as the link's flags say, 1 lasting, 2 one-shot */
    DELIVERED = 0x40,
    DROPPED = 0x48,
};

/* How long the server may take for an answer before it counts as gone. */
static const int server_patience_ms = 5000;

/* An RTOS has one device of this kind, known when it is built; so has this process. */
static struct platform {
    struct platform_geometry geometry;
    int socket;
    bool one_shot;
    bool one_descriptor;
    uint8_t *memory;
    uint64_t size;
    uint8_t *registers;
    int bell[MOST_PEERS][MOST_VECTORS];
} the_platform;

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

static bool server_is_there(int socket)
{
    struct pollfd wait = {.fd = socket, .events = POLLIN};
    return poll(&wait, 1, server_patience_ms) == 1;
}

/* Maps a section; on a link with one descriptor it lies there at its offset in the link. */
static bool map(const struct platform *p, uint8_t *at, uint64_t size, int rights, int descriptor)
{
    off_t offset = p->one_descriptor ? at - p->memory : 0;
    return mmap(at, size, rights, MAP_SHARED | MAP_FIXED, descriptor, offset) != MAP_FAILED;
}

/* Receives the welcome with its descriptors. Returns how many came, or -1. */
static int receive_welcome(int socket, uint8_t welcome[64], int descriptors[MOST_DESCRIPTORS])
{
    union {
        struct cmsghdr header; /* for its alignment */
        uint8_t bytes[CMSG_SPACE(MOST_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = welcome, .iov_len = 64};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    if (!server_is_there(socket) || recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 64)
        return -1;
    int count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(descriptors, CMSG_DATA(c), (size_t)count * sizeof(int));
    }
    return message.msg_flags & MSG_CTRUNC ? -1 : count;
}

static uint32_t word(const uint8_t *bytes)
{
    uint32_t v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

static uint64_t long_word(const uint8_t *bytes)
{
    uint64_t v;
    memcpy(&v, bytes, sizeof v);
    return v;
}

/* Maps the sections side by side and keeps the eventfds. */
static bool take_over(struct platform *p, const int *descriptor, int count)
{
    const struct platform_geometry *g = &p->geometry;
    unsigned memories = 2 + (g->read_write ? 1 : 0) + (g->output ? g->peers : 0);
    if ((unsigned)count != memories + g->peers * g->vectors)
        return false;
    int next = 0;
    p->registers = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor[next++], 0);
    p->size = g->state_table + g->read_write + g->output * g->peers;
    p->memory = mmap(NULL, p->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->registers == MAP_FAILED || p->memory == MAP_FAILED)
        return false;
    uint8_t *at = p->memory;
    if (!map(p, at, g->state_table, PROT_READ, descriptor[next++]))
        return false;
    at += g->state_table;
    if (g->read_write) {
        if (!map(p, at, g->read_write, PROT_READ | PROT_WRITE, descriptor[next++]))
            return false;
        at += g->read_write;
    }
    for (unsigned peer = 0; g->output && peer < g->peers; peer++, at += g->output) {
        int rights = peer == g->own ? PROT_READ | PROT_WRITE : PROT_READ;
        if (!map(p, at, g->output, rights, descriptor[next++]))
            return false;
    }
    for (int i = 0; i < next; i++)
        close(descriptor[i]);
    for (unsigned peer = 0; peer < g->peers; peer++)
        for (unsigned vector = 0; vector < g->vectors; vector++)
            p->bell[peer][vector] = descriptor[next++];
    return true;
}

struct platform *platform_open(const char *where, unsigned own, unsigned other)
{
    static const char *const refusals[] = {"", "the peer is taken", "there is no such peer",
                                           "it does not know this hello"};
    struct platform *p = &the_platform;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint32_t hello[2] = {HELLO, own};
    uint8_t welcome[64];
    int descriptors[MOST_DESCRIPTORS];

    if (strlen(where) >= sizeof address.sun_path) {
        fprintf(stderr, "%s: the path is too long\n", where);
        return NULL;
    }
    strcpy(address.sun_path, where);
    p->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (p->socket < 0 || connect(p->socket, (struct sockaddr *)&address, sizeof address) != 0 ||
        send(p->socket, hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) {
        fprintf(stderr, "%s: %s\n", where, strerror(errno));
        return NULL;
    }
    int count = receive_welcome(p->socket, welcome, descriptors);
    if (count < 0) {
        fprintf(stderr, "%s: no welcome\n", where);
        return NULL;
    }
    uint32_t refusal = word(welcome);
    if (refusal) {
        fprintf(stderr, "%s: %s\n", where, refusal < 4 ? refusals[refusal] : "refused");
        return NULL;
    }
    p->one_shot = word(welcome + 16) & ONE_SHOT;
    p->one_descriptor = word(welcome + 16) & ONE_DESCRIPTOR;
    p->geometry = (struct platform_geometry){
        .own = word(welcome + 4),
        .other = other,
        .peers = word(welcome + 8),
        .vectors = word(welcome + 12),
        .state_table = long_word(welcome + 24),
        .read_write = long_word(welcome + 32),
        .output = long_word(welcome + 40),
    };
    const struct platform_geometry *g = &p->geometry;
    if (g->peers > MOST_PEERS || g->vectors < 1 || g->vectors > MOST_VECTORS || g->own != own ||
        g->own >= g->peers || g->other >= g->peers || g->other == g->own ||
        !take_over(p, descriptors, count)) {
        fprintf(stderr, "%s: the welcome makes no link for peer %u with peer %u\n", where, own,
                other);
        return NULL;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    return p;
}

void platform_close(struct platform *p)
{
    /* The server makes the State 0 when the socket closes; the rest ends with the process. */
    close(p->socket);
    munmap(p->memory, p->size);
    munmap(p->registers, PAGE);
}

const struct platform_geometry *platform_geometry(const struct platform *p)
{
    return &p->geometry;
}

uint8_t *platform_memory(const struct platform *p)
{
    return p->memory;
}

bool platform_write_state(struct platform *p, uint32_t state)
{
    uint32_t request[2] = {REQUEST_STATE, state};
    uint32_t answer[2];
    full_fence(); /* what was stored before is visible to who sees the new state */
    if (send(p->socket, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
        return false;
    return server_is_there(p->socket) &&
           recv(p->socket, answer, sizeof answer, 0) == sizeof answer &&
           answer[0] == REQUEST_STATE;
}

static uint8_t *registers_of(struct platform *p, unsigned peer)
{
    return p->registers + 0x80 * peer;
}

void platform_arm(struct platform *p)
{
    volatile uint32_t *control = (void *)(registers_of(p, p->geometry.own) + INTERRUPT_CONTROL);
    __atomic_store_n(control, 1, __ATOMIC_SEQ_CST);
}

void platform_disarm(struct platform *p)
{
    volatile uint32_t *control = (void *)(registers_of(p, p->geometry.own) + INTERRUPT_CONTROL);
    __atomic_store_n(control, 0, __ATOMIC_SEQ_CST);
}

void platform_ring(struct platform *p, unsigned peer, unsigned vector)
{
    if (peer >= p->geometry.peers || vector >= p->geometry.vectors)
        return;
    /* The read-modify-write accesses are the hypervisor's, whose part this page plays. */
    uint8_t *registers = registers_of(p, peer);
    volatile uint32_t *control = (void *)(registers + INTERRUPT_CONTROL);
    volatile uint32_t *delivered = (void *)(registers + DELIVERED);
    volatile uint32_t *dropped = (void *)(registers + DROPPED);
    volatile uint32_t *delivery = (void *)(registers + DELIVERY);
    uint32_t choice = __atomic_load_n(delivery, __ATOMIC_SEQ_CST);
    bool one_shot = choice ? choice == 2 : p->one_shot;
    uint32_t armed = one_shot ? __atomic_exchange_n(control, 0, __ATOMIC_SEQ_CST)
                              : __atomic_load_n(control, __ATOMIC_SEQ_CST);
    if (!(armed & 1)) {
        __atomic_fetch_add(dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    uint64_t one = 1;
    __atomic_fetch_add(delivered, 1, __ATOMIC_RELAXED);
    if (write(p->bell[peer][vector], &one, sizeof one) != sizeof one)
        return; /* the counter of the eventfd is full: the interrupt is pending anyway */
}

enum platform_event platform_wait(struct platform *p, uint64_t deadline)
{
    const struct platform_geometry *g = &p->geometry;
    struct pollfd wait[MOST_VECTORS + 1];
    for (unsigned i = 0; i < g->vectors; i++)
        wait[i] = (struct pollfd){.fd = p->bell[g->own][i], .events = POLLIN};
    wait[g->vectors] = (struct pollfd){.fd = p->socket, .events = POLLIN};

    uint64_t now = platform_now();
    uint64_t left = deadline > now ? deadline - now : 0;
    struct timespec time = {.tv_sec = (time_t)(left / 1000000000),
                            .tv_nsec = (long)(left % 1000000000)};
    int ready = ppoll(wait, g->vectors + 1, &time, NULL);
    if (stop_asked)
        return PLATFORM_STOPPED;
    if (ready == 0)
        return PLATFORM_DEADLINE;
    if (ready < 0)
        return PLATFORM_EVENT; /* some other signal: a spurious return */
    for (unsigned i = 0; i < g->vectors; i++) {
        uint64_t count;
        if (wait[i].revents & POLLIN && read(wait[i].fd, &count, sizeof count) < 0)
            return PLATFORM_GONE;
    }
    /* The server says nothing on its own: a readable socket is one that was closed. */
    return wait[g->vectors].revents ? PLATFORM_GONE : PLATFORM_EVENT;
}

uint64_t platform_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint32_t platform_random(void)
{
    uint32_t number;
    while (getrandom(&number, sizeof number, 0) != sizeof number)
        ;
    return number;
}
