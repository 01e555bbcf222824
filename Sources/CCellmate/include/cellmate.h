/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libcellmate: virtio between the cells of a Jailhouse system, over ivshmem-v2.
 *
 * Objects. A link is one side of an ivshmem-v2 connection. It becomes a back-end (serves devices),
 * a front-end (drives devices, from C) or a driver of the library: of a disk, a source of random
 * numbers, a console or a network device, which survives a restart of the back-end. Each is behind
 * a handle; a handle that is NULL, closed or of another kind is CELLMATE_ERROR_HANDLE as far as
 * that can be seen.
 *
 * Threads. A handle belongs to the thread that created it; calls from another thread are
 * CELLMATE_ERROR_THREAD and change nothing. cellmate_..._adopt moves a handle to the calling
 * thread, when its former owner has stopped using it. Different handles may be used by different
 * threads at the same time. cellmate_..._wake and cellmate_backend_stop may be called from any
 * thread and from signal handlers, as long as the handle is not being closed.
 *
 * Processes. A child of fork() has no handles of its parent: CELLMATE_ERROR_HANDLE. It may open its
 * own.
 *
 * Reentrancy. A callback may call the functions whose comment says "from callbacks", nothing else
 * with the same handle: CELLMATE_ERROR_ORDER.
 *
 * Buffers. Memory of a link stays mapped until its handle is closed. Bytes that the peer may write
 * can change at any time: read each of them once, into memory of your own, then check, then use. A
 * segment of a request is yours from cellmate_device.serve until the request is completed, not
 * longer.
 *
 * Structures. The first member of a structure is its size, set by the caller to sizeof. A newer
 * library reads only what an older caller has, takes the rest for zero, and fills only that; less
 * than the structure had when it was new is CELLMATE_ERROR_SIZE, and a cellmate_error is then left
 * alone. Members that this library does not know have to be zero where it reads
 * (CELLMATE_ERROR_SIZE), and stay as they are where it fills. Structures that come by the array,
 * within others or to callbacks have no size, and stay as they are.
 *
 * Time is CLOCK_MONOTONIC in nanoseconds; a deadline of CELLMATE_FOREVER never passes.
 *
 * No function but the ones that open, create and add allocates memory.
 */
#ifndef CELLMATE_H
#define CELLMATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The interface follows semantic versioning; minor versions only add. */
#define CELLMATE_VERSION_MAJOR 0
#define CELLMATE_VERSION_MINOR 2
#define CELLMATE_VERSION_PATCH 0

#define CELLMATE_FOREVER UINT64_MAX

typedef struct cellmate_link cellmate_link;
typedef struct cellmate_backend cellmate_backend;
typedef struct cellmate_frontend cellmate_frontend;
typedef struct cellmate_driver cellmate_driver;
typedef cellmate_driver cellmate_block; /* a driver that was made by cellmate_block_create */
typedef struct cellmate_registers cellmate_registers;
typedef struct cellmate_observer cellmate_observer;

/* 0 or more: it worked, with the meaning the function states. Below 0: an error, nothing
 * changed. */
typedef int32_t cellmate_result;
enum {
  CELLMATE_OK = 0,
  CELLMATE_ERROR_ARGUMENT = -1,  /* a null pointer, a number out of range */
  CELLMATE_ERROR_SIZE = -2,      /* a structure's size member, or non-zero unknown members */
  CELLMATE_ERROR_HANDLE = -3,    /* null, closed, or a handle of another kind */
  CELLMATE_ERROR_ORDER = -4,     /* not now: not started, already started, from a callback */
  CELLMATE_ERROR_THREAD = -5,    /* the handle belongs to another thread */
  CELLMATE_ERROR_TEXT = -6,      /* a wrong specification, or it cannot be opened */
  CELLMATE_ERROR_MEMORY = -7,    /* no memory, or a shared section that is too small */
  CELLMATE_ERROR_FULL = -8,      /* no free entry; take completions first */
  CELLMATE_ERROR_DEADLINE = -9,  /* the peer did not answer in time */
  CELLMATE_ERROR_LINK = -10,     /* the peer went away or started anew */
  CELLMATE_ERROR_REFUSED = -11,  /* the device refused a register access, or lacks a feature */
  CELLMATE_ERROR_DEVICE = -12,   /* no such device, or a device of another type */
  CELLMATE_ERROR_PEER = -13,     /* the peer broke a rule; reset the device */
  CELLMATE_ERROR_INTERRUPTED = -14, /* the wait was ended by cellmate_..._wake or a signal */
  CELLMATE_ERROR_GONE = -15      /* the platform is gone */
};

/* What a sleep ended with. */
enum {
  CELLMATE_WAIT_EVENT = 0,
  CELLMATE_WAIT_DEADLINE = 1,
  CELLMATE_WAIT_INTERRUPTED = 2,
  CELLMATE_WAIT_GONE = 3
};

enum { CELLMATE_BACK_END = 2, CELLMATE_FRONT_END = 1 };

/* Why something could not be opened; one line that says what was seen and what to do. */
typedef struct cellmate_error {
  size_t size;
  cellmate_result result;
  char text[1012];
} cellmate_error;

/* The version of the library that is loaded: major << 16 | minor << 8 | patch. */
uint32_t cellmate_version(void);

/* A short English text for a result; static, never NULL. */
const char *cellmate_result_text(cellmate_result result);

/* Takes lines for the operator (links that come and go, failing files); NULL: none. May be
 * called from threads of the library. Set it before anything is opened. */
typedef void (*cellmate_log)(void *context, const char *line);
void cellmate_set_log(cellmate_log log, void *context);

/* The same lines in their parts: how urgent, what it is about ("link PATH", "vhost-user PATH", or
 * empty), what happened. While a report is set, the log hook is not called. */
enum { CELLMATE_INFO = 0, CELLMATE_WARNING = 1, CELLMATE_ERROR = 2 };
typedef void (*cellmate_report)(
    void *context, int32_t level, const char *subject, const char *text);
void cellmate_set_report(cellmate_report report, void *context);

/* Who keeps descriptors when this process ends, so that the next one goes on where this one
 * stopped: a back-end of the Siemens dialect keeps its connection and its book. Names are printable
 * ASCII without a colon. Called by the owners of handles, on their threads. */
typedef struct cellmate_keeper {
  size_t size;
  void *context;
  /* A duplicate of the descriptor that an earlier process gave, the library's to close; -1: there
   * is none. It stays kept until forget: the library does not give it again. */
  int32_t (*take)(void *context, const char *name);
  /* Keeps a duplicate of the descriptor; 0, or a negative errno. NULL: nothing new is kept. */
  int32_t (*keep)(void *context, const char *name, int32_t descriptor);
  /* Nothing of that name is for the next process; there may be nothing. */
  void (*forget)(void *context, const char *name);
} cellmate_keeper;
/* Copied; NULL: nobody keeps anything. Set it before anything is opened. */
cellmate_result cellmate_set_keeper(const cellmate_keeper *keeper);

/* SIGHUP: the first log file behind a console takes the signal over, and opens its path anew at
 * each. A program that wants to hear of it as well has an eventfd signalled, instead of a handler
 * of its own; on: 1 begins, 0 ends. Any thread. CELLMATE_ERROR_ARGUMENT: the descriptor is not open;
 * CELLMATE_ERROR_FULL: too many do. */
cellmate_result cellmate_watch_hangups(int32_t event_descriptor, int32_t on);
/* How often SIGHUP has come since it was first watched; wraps. Any thread. */
uint32_t cellmate_hangups(void);

/* ---- links --------------------------------------------------------------------------------- */

/* What memory and interrupts of a platform can do (docs/porting.md). */
enum {
  CELLMATE_PINNABLE = 1 << 0,           /* the kernel can do direct I/O from and to the memory */
  CELLMATE_UNALIGNED_SAFE = 1 << 1,     /* unaligned accesses and memcpy are safe on the memory */
  CELLMATE_ONE_SHOT_INTERRUPTS = 1 << 2,
  CELLMATE_POSTED_REGISTER_WRITES = 1 << 3
};

/* A platform given by callbacks: the whole of what a hypervisor or operating system provides.
 * What each has to guarantee is in docs/porting.md. All are called by the owner of the handle
 * only; all are required. */
typedef struct cellmate_platform {
  size_t size;
  void *context;
  uint32_t capabilities;
  uint32_t peer_id;
  uint32_t max_peers;
  uint32_t vector_count;     /* at least 1 */
  uint64_t state_table_size; /* bytes, a multiple of 4096 */
  uint64_t read_write_size;
  uint64_t output_size;      /* of one output section; 0: none */
  void *memory;              /* the shared memory, state table first, page aligned */
  void (*write_state)(void *context, uint32_t value);
  uint32_t (*read_state)(void *context);
  void (*set_interrupts)(void *context, int32_t enabled);
  int32_t (*interrupts_enabled)(void *context);
  void (*ring_doorbell)(void *context, uint32_t vector, uint32_t peer);
  /* Sleeps until an interrupt, until wake_descriptor is readable (do not read it) or until
   * deadline; returns CELLMATE_WAIT_... */
  int32_t (*wait)(void *context, uint64_t deadline, int32_t wake_descriptor);
  uint64_t (*now)(void *context);
  uint64_t (*random)(void *context);
} cellmate_platform;

enum { CELLMATE_PLACEMENT_AUTO = 0, CELLMATE_PLACEMENT_SHARED = 1, CELLMATE_PLACEMENT_OUTPUT = 2 };

/* Joins a link by its specification, as the tools do: sim:PATH, a PCI address, /dev/..., uio:BDF
 * or vfio:BDF, then [,peer=N][,other=N][,placement=shared|output][,dialect=auto|native|siemens].
 * "vhost-user:PATH" is a socket: a back-end serves one device there to a VMM, and makes it when the
 * device is added; a front-end makes a driver of it (cellmate_block_create and its like).
 * side is CELLMATE_BACK_END or CELLMATE_FRONT_END. How the link is spoken, and whether its
 * sections are large enough, is decided when it becomes something. error may be NULL. */
cellmate_result cellmate_link_open(
    const char *specification, int32_t side, cellmate_link **link, cellmate_error *error);

/* Makes a link of a platform of the caller's; peer is the other side's id. The platform is
 * copied; its context and memory have to stay until the handle that the link became is closed. */
cellmate_result cellmate_link_open_platform(
    const cellmate_platform *platform, int32_t side, uint32_t peer, int32_t placement,
    cellmate_link **link, cellmate_error *error);

/* Closes a link that was not made into something else. */
cellmate_result cellmate_link_close(cellmate_link *link);

/* A link as it was joined. Nothing of it changes until the handle is closed. */
typedef struct cellmate_link_facts {
  size_t size;
  uint32_t peer_id;      /* the own one; UINT32_MAX for an observer */
  uint32_t max_peers;    /* 2 to 65536 */
  uint32_t vector_count; /* vectors this peer may be rung on, at least 1; 0 for an observer */
  uint32_t capabilities; /* CELLMATE_PINNABLE and the others */
  uint32_t device_class; /* PCI class code, 24 bits; 0: none */
  /* An event descriptor (eventfd) that is the library's: 1 written to it ends a wait, as
   * cellmate_link_wake does. -1 for an observer. */
  int32_t wake_descriptor;
  uint64_t state_table_size; /* bytes */
  uint64_t read_write_size;  /* 0: none */
  uint64_t output_size;      /* of one output section; 0: none */
  /* State table, read/write section, then one output section a peer, without gaps (ivshmem-v2,
   * "Shared Memory Regions"). Only the read/write section and the own output section may be
   * written: a store elsewhere faults. What a peer may write is read once, then checked. */
  void *memory;
} cellmate_link_facts;

/* The functions below use a link without any protocol of this library: for diagnostics, and for
 * programs that speak something else. They work until the link is made into something. */
cellmate_result cellmate_link_info(cellmate_link *link, cellmate_link_facts *facts);

/* The state of a peer as the state table shows it; what the peer stored before it wrote this state
 * is visible afterwards. It may be stale when the peer died. */
cellmate_result cellmate_link_read_state(cellmate_link *link, uint32_t peer, uint32_t *state);

/* Writes the own state: earlier stores are visible to whoever sees it, and a changed value
 * interrupts every armed peer. */
cellmate_result cellmate_link_write_state(cellmate_link *link, uint32_t state);

/* Interrupts the peer, if it is armed, on one of its vectors; earlier stores are visible to it
 * before. A vector the peer does not have, or a peer that is not armed, gets nothing. */
cellmate_result cellmate_link_ring(cellmate_link *link, uint32_t vector, uint32_t peer);

/* Lets interrupts come (1) or not (0); in force when it returns. While they may not come they are
 * lost, not kept. With CELLMATE_ONE_SHOT_INTERRUPTS each delivery ends it: arm, look, then wait. */
cellmate_result cellmate_link_arm(cellmate_link *link, int32_t enabled);

/* 1: interrupts may come; 0: they may not. */
cellmate_result cellmate_link_is_armed(cellmate_link *link);

/* Sleeps until an interrupt or a wake came since the last wait that said CELLMATE_WAIT_EVENT, or
 * until deadline; returns CELLMATE_WAIT_... Events may be spurious. */
cellmate_result cellmate_link_wait(cellmate_link *link, uint64_t deadline);

/* Ends a wait. Any thread, signal handlers. */
cellmate_result cellmate_link_wake(cellmate_link *link);

cellmate_result cellmate_link_adopt(cellmate_link *link);

/* ---- observers ----------------------------------------------------------------------------- */

/* Looks at a simulated link, "sim:PATH[,...]", from outside: nobody's peer, and all of its memory
 * can be read only. error may be NULL. */
cellmate_result cellmate_observer_open(
    const char *specification, cellmate_observer **observer, cellmate_error *error);

cellmate_result cellmate_observer_info(
    cellmate_observer *observer, cellmate_link_facts *facts);

/* Doorbells and changes of state that were delivered to a peer, and those that were dropped because
 * it was not armed. */
cellmate_result cellmate_observer_interrupts(
    cellmate_observer *observer, uint32_t peer, uint64_t *delivered, uint64_t *dropped);

cellmate_result cellmate_observer_close(cellmate_observer *observer);

/* Counted since the handle was made; never reset. */
typedef struct cellmate_link_counters {
  size_t size;
  uint64_t pairings;    /* times both sides found each other */
  uint64_t losses;      /* times the peer went away or started anew */
  uint64_t doorbells;   /* interrupts sent */
  uint64_t sleeps;
  uint64_t wake_ups;
  uint64_t peer_errors; /* rules the peer broke */
} cellmate_link_counters;

/* ---- back-end ------------------------------------------------------------------------------ */

/* Looks at the specification of a built-in device without opening it. examine 1: also at its host
 * resource, as far as that disturbs nobody. CELLMATE_ERROR_TEXT: what is wrong. */
cellmate_result cellmate_device_check(
    const char *specification, int32_t examine, cellmate_error *error);

/* Whether two specifications mean the same device (CELLMATE_SAME) and whether the host resource of
 * one may be in the way of the other (CELLMATE_EXCLUDES): these bits, 0 for neither. */
enum { CELLMATE_SAME = 1 << 0, CELLMATE_EXCLUDES = 1 << 1 };
cellmate_result cellmate_device_compare(const char *one, const char *other);

/* Makes the back-end of a link. The link handle is used up, also by CELLMATE_ERROR_MEMORY; other
 * errors leave it: CELLMATE_ERROR_TEXT says what of the link does not fit. error may be NULL. */
cellmate_result cellmate_backend_create(
    cellmate_link *link, cellmate_backend **backend, cellmate_error *error);

/* What became of a link. */
enum { CELLMATE_NATIVE = 0, CELLMATE_SIEMENS = 1, CELLMATE_VHOST_USER = 2 };
typedef struct cellmate_backend_facts {
  size_t size;
  uint32_t kind;          /* CELLMATE_NATIVE, _SIEMENS or _VHOST_USER */
  uint32_t device_limit;  /* devices it can serve: slots 0 to device_limit - 1 */
  uint32_t peer_id;       /* from here on: of an ivshmem link, else 0 */
  uint32_t max_peers;
  uint32_t vector_count;
  uint32_t device_class;  /* PCI class code, 24 bits; 0: none */
  uint64_t state_table_size; /* bytes */
  uint64_t read_write_size;
  uint64_t output_size;
} cellmate_backend_facts;
/* Any time. */
cellmate_result cellmate_backend_info(cellmate_backend *backend, cellmate_backend_facts *facts);

/* Adds a built-in device before the start, in slot 0 to 7, by its specification, as the tools
 * do: "block,file=disk.img", "entropy", "console,...". In the Siemens dialect and on a socket there
 * is slot 0 alone. error may be NULL. */
cellmate_result cellmate_backend_add(
    cellmate_backend *backend, uint32_t slot, const char *specification, cellmate_error *error);

/* Bytes of one request: checked, inside the shared memory, in the order of the chain. */
typedef struct cellmate_segment {
  void *data;
  size_t length;
} cellmate_segment;

/* One request of the driver: what the device may read, then what it may write (VIRTIO 1.4,
 * 2.7.4.2). The array lives as long as the call of serve, the bytes until the request is
 * completed. */
typedef struct cellmate_request {
  uint64_t ticket;
  uint32_t queue;
  uint32_t readable_count;
  uint32_t writable_count;
  uint32_t reserved;
  const cellmate_segment *readable;
  const cellmate_segment *writable;
} cellmate_request;

/* serve returns this when the request ends later, by cellmate_backend_complete. */
#define CELLMATE_PENDING (-1)

/* A device given by callbacks. Callbacks are called by the owner of the back-end only. */
typedef struct cellmate_device {
  size_t size;
  void *context;
  uint32_t device_id;            /* VIRTIO device type */
  uint32_t queue_count;          /* 1 to 32 */
  uint32_t queue_size_max;       /* a power of two, 2 to 1024 */
  uint32_t chain_length_max;     /* descriptors of one request, at least 1 */
  uint64_t features;             /* device features; those of the transport are added */
  const void *configuration;     /* copied when the device is added; may be NULL */
  uint32_t configuration_size;   /* at most 256 */
  uint32_t reserved;
  /* The driver has set DRIVER_OK. May be NULL. */
  void (*start)(void *context, uint64_t features);
  /* The driver has reset the device or is gone: complete what is pending soon; the reset waits for
   * it. Also called by cellmate_backend_close, which needs no completions and knows the handle no
   * more. May be NULL. */
  void (*stop)(void *context);
  /* Serves one request. Returns the number of bytes written into the writable part, or
   * CELLMATE_PENDING. */
  int64_t (*serve)(void *context, const cellmate_request *request);
  /* The driver stops this queue alone, or a VMM stops the device and every queue gets the call:
   * complete what is pending of it soon, with what was written so far; who stops it waits for
   * that. May be called again until then. NULL: the wait lasts until the requests end by
   * themselves. */
  void (*cancel)(void *context, uint32_t queue);
} cellmate_device;

/* Adds a device of the caller's before the start, in slot 0 to 7. */
cellmate_result cellmate_backend_add_device(
    cellmate_backend *backend, uint32_t slot, const cellmate_device *device);

/* Completes a pending request; from callbacks too. The front-end hears of it in the next
 * cellmate_backend_step; a sleep before that ends at once. A ticket of a queue that was reset
 * meanwhile is accepted and dropped; one that is not open, because it was never given out or is
 * completed already, is CELLMATE_ERROR_ARGUMENT. */
cellmate_result cellmate_backend_complete(
    cellmate_backend *backend, uint32_t slot, uint64_t ticket, uint32_t written);

/* Announces the devices. */
cellmate_result cellmate_backend_start(cellmate_backend *backend);

/* Looks once at everything, without blocking, with bounded work. 1: there was something to do,
 * look again; 0: nothing moved; 2: after cellmate_backend_quiesce, it has ended and left the link.
 * CELLMATE_ERROR_GONE: a wait has said that the platform is gone. */
cellmate_result cellmate_backend_step(cellmate_backend *backend);

/* Sleeps until there is something to do; returns CELLMATE_WAIT_... */
cellmate_result cellmate_backend_sleep(cellmate_backend *backend, uint64_t deadline);

/* Starts if need be, steps and sleeps until cellmate_backend_stop, then lets requests end (at
 * most five seconds) and tells the front-end. spin: nanoseconds of looking before each sleep.
 * Returns CELLMATE_OK, or CELLMATE_ERROR_GONE. */
cellmate_result cellmate_backend_run(cellmate_backend *backend, uint64_t spin);

/* Ends cellmate_backend_run. Any thread, signal handlers. */
cellmate_result cellmate_backend_stop(cellmate_backend *backend);

/* Ends a sleep. Any thread, signal handlers, callbacks. */
cellmate_result cellmate_backend_wake(cellmate_backend *backend);

/* Takes no new requests; cellmate_backend_step says 2 when none is open any more, at the latest
 * after five seconds. for_successor 1: the process is about to be started again; what the keeper
 * has stays there, and a front-end of the Siemens dialect does not notice. */
cellmate_result cellmate_backend_quiesce(cellmate_backend *backend, int32_t for_successor);

/* For a thread that waits for several back-ends and for things of its own with epoll.
 * watch: epoll reports tag when cellmate_backend_step has to be called; unwatch before the close.
 * A platform given by callbacks has nothing to watch: CELLMATE_ERROR_REFUSED.
 * prepare_sleep: asks the front-end for an interrupt and looks for the last time. 1: it may be
 * slept; then end_sleep, or stay_awake, is next. 0: there is something to do.
 * end_sleep: is awake again and takes what came. poll: looks whether the platform is still there;
 * for loops that do not sleep. Both return CELLMATE_WAIT_...
 * deadline: when cellmate_backend_step has to be called even if nothing comes. */
cellmate_result cellmate_backend_watch(cellmate_backend *backend, int32_t epoll, uint64_t tag);
cellmate_result cellmate_backend_unwatch(cellmate_backend *backend, int32_t epoll);
cellmate_result cellmate_backend_prepare_sleep(cellmate_backend *backend);
cellmate_result cellmate_backend_stay_awake(cellmate_backend *backend);
cellmate_result cellmate_backend_end_sleep(cellmate_backend *backend);
cellmate_result cellmate_backend_poll(cellmate_backend *backend);
cellmate_result cellmate_backend_deadline(cellmate_backend *backend, uint64_t *deadline);

/* 1: a front-end is there; 0: none. */
cellmate_result cellmate_backend_is_up(cellmate_backend *backend);

cellmate_result cellmate_backend_link_counters(
    cellmate_backend *backend, cellmate_link_counters *counters);

typedef struct cellmate_device_counters {
  size_t size;
  uint64_t chains;              /* requests taken */
  uint64_t notifications_seen;
  uint64_t notifications_sent;
  uint64_t transactions;        /* register accesses */
  uint64_t refusals;            /* register accesses that were refused */
  uint64_t queue_errors;        /* queues stopped because the driver broke a rule */
  uint64_t resets;
} cellmate_device_counters;
cellmate_result cellmate_backend_device_counters(
    cellmate_backend *backend, uint32_t slot, cellmate_device_counters *counters);

/* Everything that is counted, by number: the link's own counters, then each device's. What a
 * number means never changes while the devices stay the same. */
enum {
  CELLMATE_SCOPE_LINK = 0,
  CELLMATE_SCOPE_VHOST_USER = 1,
  CELLMATE_SCOPE_DEVICE = 2, /* of every device */
  CELLMATE_SCOPE_KIND = 3    /* of devices of this kind */
};
typedef struct cellmate_counter {
  size_t size;
  int32_t scope;
  int32_t slot;  /* -1: the link itself */
  char kind[16]; /* for CELLMATE_SCOPE_KIND */
  char name[40]; /* such as "doorbells" */
} cellmate_counter;
/* What counter number index means; CELLMATE_ERROR_ARGUMENT behind the last one. */
cellmate_result cellmate_backend_counter(
    cellmate_backend *backend, uint32_t index, cellmate_counter *counter);
/* Fills at most count values; returns how many counters there are. Allocates nothing. */
cellmate_result cellmate_backend_counters(
    cellmate_backend *backend, uint64_t *values, uint32_t count);

typedef struct cellmate_device_facts {
  size_t size;
  uint32_t device_id; /* VIRTIO device type */
  uint32_t reserved;
  char kind[16];      /* "block", "console", "entropy", "network"; "device": the caller's */
} cellmate_device_facts;
cellmate_result cellmate_backend_device(
    cellmate_backend *backend, uint32_t slot, cellmate_device_facts *facts);

/* Where a queue's rings lie, as its driver said: addresses of the driver's, unchecked. */
typedef struct cellmate_ring {
  uint32_t slot;
  uint32_t queue;
  uint32_t queue_size;
  uint32_t reserved;
  uint64_t descriptors;
  uint64_t available;
  uint64_t used;
} cellmate_ring;
/* Fills at most count places; returns how many there are. Native links alone have any. */
cellmate_result cellmate_backend_rings(
    cellmate_backend *backend, cellmate_ring *rings, uint32_t count);

/* Copies words of the link's memory as they are now, each loaded once: offset from the start of the
 * state table, length at most 4096, both multiples of 4. Any thread. */
cellmate_result cellmate_backend_look(
    cellmate_backend *backend, uint64_t offset, void *bytes, size_t length);

/* Takes the carrier of the network device with this address away (0) or gives it back (1); returns
 * how many devices have it, 0 or 1. Any thread. */
cellmate_result cellmate_set_carrier(const uint8_t address[6], int32_t up);

typedef struct cellmate_tap_counters {
  size_t size;
  char owner[256]; /* the name of the switch, cut if need be; empty: of one port alone */
  char tap[16];
  uint64_t frames_in;
  uint64_t frames_out;
  uint64_t spoofed;
  uint64_t malformed;
  uint64_t overflows;
} cellmate_tap_counters;
/* Tap number index of this process; CELLMATE_ERROR_ARGUMENT behind the last one. Any thread. */
cellmate_result cellmate_tap(uint32_t index, cellmate_tap_counters *counters);

cellmate_result cellmate_backend_adopt(cellmate_backend *backend);

/* Leaves the link and frees everything; files are closed, threads of the library have ended. */
cellmate_result cellmate_backend_close(cellmate_backend *backend);

/* ---- front-end ----------------------------------------------------------------------------- */

/* Makes and starts the front-end of a link. The link handle is used up, also by
 * CELLMATE_ERROR_MEMORY; other errors leave it: CELLMATE_ERROR_TEXT says what of the link does not
 * fit. error may be NULL. */
cellmate_result cellmate_frontend_create(
    cellmate_link *link, cellmate_frontend **frontend, cellmate_error *error);

/* Waits until a back-end is there. */
cellmate_result cellmate_frontend_wait_link(cellmate_frontend *frontend, uint64_t deadline);

/* Looks at the link. 1: it is up; 0: it is down, or the back-end has started anew: all queues
 * and buffers are void, begin again with cellmate_frontend_wait_link. */
cellmate_result cellmate_frontend_step(cellmate_frontend *frontend);

/* Brings the device in slot to FEATURES_OK (VIRTIO 1.4, 3.1.1, 1 to 6). wanted: device and
 * transport features to accept when offered; agreed: what was agreed. */
cellmate_result cellmate_frontend_negotiate(
    cellmate_frontend *frontend, uint32_t slot, uint32_t device_id, uint64_t wanted,
    uint64_t *agreed);

/* Sets up a queue between negotiation and start; its rings are allocated in the shared memory.
 * size is a power of two, chain_length_max the longest request. Returns the queue's number for
 * the calls below. */
cellmate_result cellmate_frontend_open_queue(
    cellmate_frontend *frontend, uint32_t slot, uint32_t index, uint32_t size,
    uint32_t chain_length_max);

/* DRIVER_OK. */
cellmate_result cellmate_frontend_start_device(cellmate_frontend *frontend, uint32_t slot);

/* Reads bytes of the device's configuration space, consistently. */
cellmate_result cellmate_frontend_read_configuration(
    cellmate_frontend *frontend, uint32_t slot, uint32_t offset, void *bytes, size_t length);

/* Register accesses, for drivers that do it all themselves: virtio-mmio offsets, width 1, 2, 4
 * or 8. */
cellmate_result cellmate_frontend_read_register(
    cellmate_frontend *frontend, uint32_t slot, uint32_t offset, uint32_t width, uint64_t *value);
cellmate_result cellmate_frontend_write_register(
    cellmate_frontend *frontend, uint32_t slot, uint32_t offset, uint32_t width, uint64_t value);

/* A buffer in the shared memory. */
typedef struct cellmate_buffer {
  void *data;
  uint64_t offset; /* from the start of the shared memory */
  uint64_t length;
} cellmate_buffer;

enum { CELLMATE_FOR_DEVICE_TO_READ = 0, CELLMATE_FOR_DEVICE_TO_WRITE = 1 };

cellmate_result cellmate_frontend_allocate(
    cellmate_frontend *frontend, int32_t direction, uint64_t length, cellmate_buffer *buffer);
cellmate_result cellmate_frontend_free(
    cellmate_frontend *frontend, int32_t direction, const cellmate_buffer *buffer);

/* One request: buffers, or parts of buffers, that the device reads, then those that it writes. */
typedef struct cellmate_chain {
  const cellmate_buffer *buffers;
  uint32_t readable_count;
  uint32_t writable_count;
  uint32_t token; /* comes back with the completion */
  uint32_t reserved;
} cellmate_chain;

/* Gives requests to the device, in one go: as many as there is room for are added, then shown,
 * then the device is notified if it asked for that. Returns how many were added. */
cellmate_result cellmate_frontend_submit(
    cellmate_frontend *frontend, uint32_t queue, const cellmate_chain *chains, uint32_t count);

typedef struct cellmate_completion {
  uint32_t token;
  uint32_t written; /* bytes the device says it wrote, at most what it was given */
} cellmate_completion;

/* Takes finished requests; returns how many. */
cellmate_result cellmate_frontend_take(
    cellmate_frontend *frontend, uint32_t queue, cellmate_completion *completions, uint32_t count);

/* Sleeps until a completion, a change of the link or the deadline; returns CELLMATE_WAIT_... */
cellmate_result cellmate_frontend_sleep(cellmate_frontend *frontend, uint64_t deadline);
cellmate_result cellmate_frontend_wake(cellmate_frontend *frontend);
cellmate_result cellmate_frontend_link_counters(
    cellmate_frontend *frontend, cellmate_link_counters *counters);
cellmate_result cellmate_frontend_adopt(cellmate_frontend *frontend);
/* Leaves the link and frees everything. */
cellmate_result cellmate_frontend_close(cellmate_frontend *frontend);

/* ---- drivers -------------------------------------------------------------------------------- */

/* A driver of the library, made from a link by cellmate_block_create and its like. It speaks
 * either dialect of an ivshmem link, or vhost-user where the link is a socket. Make it, connect
 * it, work; whenever a call says CELLMATE_ERROR_LINK the back-end is gone or was started anew:
 * connect again. Nothing but the functions that make a driver, connect it or say CELLMATE_ERROR_...
 * allocates memory. What the functions of one device get as a driver of another one is
 * CELLMATE_ERROR_HANDLE. The functions that make a driver use the link handle up as
 * cellmate_frontend_create does; their error may be NULL. */

/* Waits for the back-end, sets the device up and submits again what was not answered, until it
 * works or deadline passes. The first time a vhost-user back-end has to be there.
 * CELLMATE_ERROR_INTERRUPTED: a signal handler has run; over a socket also when somebody woke the
 * driver, which does not end the wait on a link. Call again to go on. */
cellmate_result cellmate_driver_connect(cellmate_driver *driver, uint64_t deadline);

/* Why the last call that failed on this driver did so, in words; other calls leave it. */
cellmate_result cellmate_driver_error(cellmate_driver *driver, cellmate_error *error);

/* Handles what the device says by itself, shows it what is new, and looks at the back-end: 2:
 * something was handled, look again; 1: nothing moved; CELLMATE_ERROR_LINK. */
cellmate_result cellmate_driver_step(cellmate_driver *driver);

/* Looks for spin nanoseconds, then sleeps until the device has answered, the back-end goes,
 * cellmate_driver_wake or deadline; returns CELLMATE_WAIT_... */
cellmate_result cellmate_driver_sleep(cellmate_driver *driver, uint64_t deadline, uint64_t spin);

/* Ends a sleep. Any thread, signal handlers. */
cellmate_result cellmate_driver_wake(cellmate_driver *driver);

/* The event descriptor that ends a sleep when 1 is written to it (eventfd); stays the same, and
 * valid, as long as the driver is open. */
cellmate_result cellmate_driver_wake_descriptor(cellmate_driver *driver);

/* What was given to the driver and not yet taken by the device: requests, bytes, frames. */
cellmate_result cellmate_driver_pending(cellmate_driver *driver);

/* Counted since the driver was made; never reset. */
typedef struct cellmate_driver_counters {
  size_t size;
  uint64_t notifications;  /* sent to the device */
  uint64_t connections;    /* times the device was set up */
  uint64_t resubmitted;    /* block: requests that went out again */
  uint64_t slowest_set_up; /* nanoseconds from the sight of a back-end that came back until the
                              device ran, the longest */
} cellmate_driver_counters;
cellmate_result cellmate_driver_count(
    cellmate_driver *driver, cellmate_driver_counters *counters);

cellmate_result cellmate_driver_adopt(cellmate_driver *driver);
/* Leaves the link and frees everything. */
cellmate_result cellmate_driver_close(cellmate_driver *driver);

/* ---- block driver --------------------------------------------------------------------------- */

/* Makes the driver of a disk; requests that are open when the back-end is restarted are submitted
 * again by the next connect. depth: requests at once, 1 to 256. */
cellmate_result cellmate_block_create(
    cellmate_link *link, uint32_t slot, uint32_t depth, cellmate_block **block,
    cellmate_error *error);

/* cellmate_driver_connect. */
cellmate_result cellmate_block_connect(cellmate_block *block, uint64_t deadline);

typedef struct cellmate_block_facts {
  size_t size;
  uint64_t capacity;   /* in sectors of 512 bytes */
  uint64_t features;   /* agreed */
  uint32_t block_size; /* bytes */
  uint32_t is_read_only;
  uint32_t size_max;    /* bytes of a request; 0: not stated */
  uint32_t segment_max; /* 0: not stated */
  uint32_t queue_count;
  uint32_t is_writeback; /* 1: a write is safe only after a flush */
  uint32_t discard_max;       /* sectors of one discard; 0: the device has none */
  uint32_t discard_alignment; /* sectors a discard is best a multiple of */
  uint32_t write_zeroes_max;  /* sectors of one such request; 0: the device has none */
  uint32_t write_zeroes_may_unmap; /* 1: CELLMATE_BLOCK_MAY_UNMAP can free storage */
} cellmate_block_facts;
cellmate_result cellmate_block_info(cellmate_block *block, cellmate_block_facts *facts);

/* VIRTIO 1.4, 5.2.6. A discard tells that sectors are no longer needed: what they read as then is
 * not known. Write zeroes makes them read as zeroes, and may give their storage back with
 * CELLMATE_BLOCK_MAY_UNMAP beside it. A device that did not offer a type is
 * CELLMATE_ERROR_REFUSED. */
enum {
  CELLMATE_BLOCK_READ = 0,
  CELLMATE_BLOCK_WRITE = 1,
  CELLMATE_BLOCK_FLUSH = 4,
  CELLMATE_BLOCK_DISCARD = 11,
  CELLMATE_BLOCK_WRITE_ZEROES = 13
};
#define CELLMATE_BLOCK_MAY_UNMAP 0x80000000u

cellmate_result cellmate_block_allocate(
    cellmate_block *block, int32_t direction, uint64_t length, cellmate_buffer *buffer);
cellmate_result cellmate_block_free(
    cellmate_block *block, int32_t direction, const cellmate_buffer *buffer);

typedef struct cellmate_block_request {
  uint32_t type;
  uint32_t token;
  uint64_t sector;
  /* Nothing of it counts for a flush; its length alone for a discard and for write zeroes: bytes, a
   * multiple of 512. */
  cellmate_buffer data;
} cellmate_block_request;

/* Gives requests to the device, in one go; returns how many were taken. */
cellmate_result cellmate_block_submit(
    cellmate_block *block, const cellmate_block_request *requests, uint32_t count);

typedef struct cellmate_block_completion {
  uint32_t token;
  int32_t status; /* 0 done, 1 I/O error, 2 not supported, -1 the device broke a rule */
  cellmate_buffer data;
} cellmate_block_completion;

/* Takes finished requests; returns how many, or CELLMATE_ERROR_LINK. */
cellmate_result cellmate_block_take(
    cellmate_block *block, cellmate_block_completion *completions, uint32_t count);

/* Makes one register write that changes nothing; how long the back-end took to act on it, in
 * nanoseconds. CELLMATE_ERROR_REFUSED where the link is not of the Siemens dialect. */
cellmate_result cellmate_block_time_access(cellmate_block *block, uint64_t *nanoseconds);

/* cellmate_driver_sleep without looking first. */
cellmate_result cellmate_block_sleep(cellmate_block *block, uint64_t deadline);
/* cellmate_driver_wake. */
cellmate_result cellmate_block_wake(cellmate_block *block);
/* Of a link that is not native the doorbells alone. */
cellmate_result cellmate_block_link_counters(
    cellmate_block *block, cellmate_link_counters *counters);
/* cellmate_driver_adopt and cellmate_driver_close. */
cellmate_result cellmate_block_adopt(cellmate_block *block);
cellmate_result cellmate_block_close(cellmate_block *block);

/* ---- entropy driver ------------------------------------------------------------------------- */

/* Makes the driver of a source of random numbers. depth: requests at once, 1 to 64; length: bytes
 * of each, 1 to 65536. */
cellmate_result cellmate_entropy_create(
    cellmate_link *link, uint32_t slot, uint32_t depth, uint32_t length,
    cellmate_driver **driver, cellmate_error *error);

/* Copies random bytes that have come, at most length, and asks for more; returns how many, 0 when
 * none has come yet, or CELLMATE_ERROR_LINK. How random they are is the device's word alone. */
cellmate_result cellmate_entropy_read(cellmate_driver *driver, void *bytes, size_t length);

/* ---- console driver ------------------------------------------------------------------------- */

/* Makes the driver of a console with one port in use, 0 to 14, which is opened as soon as the
 * device has it; or with none (-1), to look at all of them. */
cellmate_result cellmate_console_create(
    cellmate_link *link, uint32_t slot, int32_t port, cellmate_driver **driver,
    cellmate_error *error);

typedef struct cellmate_console_facts {
  size_t size;
  uint32_t port_count;   /* of the console, at most 15 */
  uint32_t is_multiport; /* 0: it has one port and tells nothing of it */
  uint32_t is_present;   /* the device has announced this port */
  uint32_t is_console;
  uint32_t is_open;      /* somebody is at the other end */
  uint16_t columns;      /* 0: not known */
  uint16_t rows;
  char name[65]; /* as the device says: any bytes, then 0 */
} cellmate_console_facts;

/* What is known of a port now; cellmate_driver_step takes in what the device says of it. */
cellmate_result cellmate_console_port(
    cellmate_driver *driver, uint32_t port, cellmate_console_facts *facts);

/* Copies bytes that have come at the port in use, at most length; returns how many, 0 when there
 * are none now. What came before the back-end went can still be read. */
cellmate_result cellmate_console_read(cellmate_driver *driver, void *bytes, size_t length);

/* Takes bytes for the port in use, as many as there is room for; returns how many. While nobody is
 * at the other end of a multiport console's port, its device drops them. */
cellmate_result cellmate_console_write(
    cellmate_driver *driver, const void *bytes, size_t length);

/* Writes bytes one after the other into the emergency register, for what has to be said when nothing
 * works: it needs no set-up and no queue, only a back-end (VIRTIO 1.4, 5.3.4). That is waited for
 * on a link, and has to be there on a socket (CELLMATE_ERROR_TEXT), where memory is allocated. The
 * bytes come out at port 0, or are dropped. Any time, connected or not; returns how many were
 * written. CELLMATE_ERROR_REFUSED: the console has no such register, or the socket's back-end does
 * not let its configuration be written. CELLMATE_ERROR_LINK: connect, or call again; after this and
 * every other error nobody knows how many were written. */
cellmate_result cellmate_console_emergency(
    cellmate_driver *driver, const void *bytes, size_t length, uint64_t deadline);

/* ---- network driver ------------------------------------------------------------------------- */

/* What the driver does without. */
enum {
  CELLMATE_WITHOUT_CHECKSUM = 1 << 0,  /* checksums left to the other side, both ways */
  CELLMATE_WITHOUT_TSO = 1 << 1,       /* TCP frames that are not cut yet, both ways */
  CELLMATE_WITHOUT_MERGEABLE = 1 << 2, /* received frames in several buffers */
  CELLMATE_WITHOUT_CONTROL = 1 << 3,   /* commands, and more than one pair of queues */
  CELLMATE_WITHOUT_UNFINISHED = 1 << 4 /* received frames with anything left undone */
};

/* Makes the driver of a network device. pairs: of queues, 1 to 8; without: CELLMATE_WITHOUT_... */
cellmate_result cellmate_network_create(
    cellmate_link *link, uint32_t slot, uint32_t pairs, uint32_t without,
    cellmate_driver **driver, cellmate_error *error);

typedef struct cellmate_network_facts {
  size_t size;
  uint64_t features; /* agreed */
  uint8_t address[6];
  uint8_t has_address;
  uint8_t is_link_up;
  uint32_t mtu;          /* bytes behind the Ethernet header */
  uint32_t pairs;        /* of the device */
  uint32_t pairs_in_use;
  int32_t control_queue; /* its number; -1: none */
  uint32_t frame_limit;  /* bytes of the largest frame, to be cut */
  uint32_t packet_limit; /* bytes of the largest frame that is not to be cut */
  uint32_t reserved;
} cellmate_network_facts;
cellmate_result cellmate_network_info(cellmate_driver *driver, cellmate_network_facts *facts);

/* An Ethernet frame, 14 to 65553 bytes, and what is left undone in it, as in VIRTIO 1.4, 5.1.9. */
typedef struct cellmate_frame {
  void *data;
  uint32_t length;           /* to receive: the room at data in, bytes of the frame out */
  uint16_t pair;             /* of queues; one that is not in use stands for 0 */
  uint8_t needs_checksum;    /* 1: over the bytes from checksum_start on */
  uint8_t segmentation;      /* 0 none, 1 TCP over IPv4, 4 TCP over IPv6; | 0x80: ECN */
  uint16_t checksum_start;   /* from the start of the frame */
  uint16_t checksum_offset;  /* of its two bytes, from checksum_start */
  uint16_t segment_size;     /* bytes of payload, at most */
  uint16_t header_length;    /* bytes of all headers */
} cellmate_frame;

/* Copies frames to the device, in one go; returns how many there was room for. Only what was agreed
 * may be left undone: CELLMATE_ERROR_ARGUMENT for the first frame, the end of the batch for
 * others. */
cellmate_result cellmate_network_send(
    cellmate_driver *driver, const cellmate_frame *frames, uint32_t count);

/* Copies received frames; returns how many. A frame for which there is less room than it needs is
 * dropped: 65553 bytes hold every one. */
cellmate_result cellmate_network_receive(
    cellmate_driver *driver, cellmate_frame *frames, uint32_t count);

enum {
  CELLMATE_NETWORK_SET_PAIRS = 1,     /* how many pairs of queues are used */
  CELLMATE_NETWORK_SET_ADDRESS = 2,   /* six bytes, the first one lowest */
  CELLMATE_NETWORK_PROMISCUOUS = 3,   /* 0 or 1: frames for other stations */
  CELLMATE_NETWORK_ALL_MULTICAST = 4  /* 0 or 1: frames for any group */
};

/* Gives the device a command and waits for its answer. CELLMATE_ERROR_REFUSED: it has no queue for
 * it, or says no. CELLMATE_ERROR_DEADLINE: it may still carry the command out; the next one waits
 * for that. A device that was set up again has forgotten its commands. */
cellmate_result cellmate_network_command(
    cellmate_driver *driver, uint32_t command, uint64_t argument, uint64_t deadline);

/* Opens a far end for all frames of the device: "tap:NAME" (of this machine, made if missing),
 * "socket:PATH" (a Unix stream socket with frames behind their length in four bytes, as QEMU and
 * passt have) or "stdio" (framed the same way). Once a driver; closed with it. Then
 * cellmate_network_send and _receive are not for the caller. */
cellmate_result cellmate_network_bridge(
    cellmate_driver *driver, const char *specification, cellmate_error *error);

/* Carries frames both ways between the device and its far end, and gives the end the device's
 * address, MTU and link state; bounded work, never blocks. 3: the far end does not take the address
 * (said once); 2: the input of the far end has ended and everything is with the device; 1: frames
 * were moved, call again; 0: sleep, the far end wakes the driver. CELLMATE_ERROR_GONE: the far end
 * has failed. */
cellmate_result cellmate_network_carry(cellmate_driver *driver);

/* ---- register file, for hypervisors that trap ------------------------------------------------ */

/* The virtio-mmio registers of one device as a state machine (VIRTIO 1.4, 4.2.2), without any
 * shared memory: feed it trapped accesses, carry its actions out. */
typedef struct cellmate_identity {
  size_t size;
  uint32_t device_id;
  uint32_t vendor_id;
  uint32_t queue_count;
  uint32_t queue_size_max;
  uint32_t chain_length_max;
  uint32_t configuration_size;
  uint64_t features;
} cellmate_identity;

enum {
  CELLMATE_ACTION_NONE = 0,
  CELLMATE_ACTION_ENABLE_QUEUE = 1, /* build the queue, then confirm, or do not */
  CELLMATE_ACTION_STOP_QUEUE = 2,   /* stop touching the queue, then confirm */
  CELLMATE_ACTION_START = 3,        /* DRIVER_OK; features */
  CELLMATE_ACTION_STOP = 4,         /* FAILED: serve nothing until a reset */
  CELLMATE_ACTION_RESET = 5,        /* stop touching the driver's memory, then confirm */
  CELLMATE_ACTION_NOTIFY = 6,       /* look at the queue */
  CELLMATE_ACTION_REFUSE = 7        /* nothing was changed; refusal says why */
};

typedef struct cellmate_action {
  size_t size;
  uint32_t kind;
  uint32_t queue;
  uint32_t refusal;
  uint32_t queue_size;
  uint64_t descriptor_table; /* guest addresses, unchecked */
  uint64_t available_ring;
  uint64_t used_ring;
  uint64_t features;
} cellmate_action;

cellmate_result cellmate_registers_create(
    const cellmate_identity *identity, cellmate_registers **registers);
/* Reads a 32-bit register below 0x100; reads that have no register give 0. */
cellmate_result cellmate_registers_read(
    cellmate_registers *registers, uint32_t offset, uint32_t *value);
cellmate_result cellmate_registers_write(
    cellmate_registers *registers, uint32_t offset, uint32_t value, cellmate_action *action);
/* An action was carried out: CELLMATE_ACTION_ENABLE_QUEUE, _STOP_QUEUE or _RESET. */
cellmate_result cellmate_registers_confirm(
    cellmate_registers *registers, uint32_t kind, uint32_t queue);
/* Sets bits of InterruptStatus: 1 used buffers, 2 configuration change. */
cellmate_result cellmate_registers_raise(cellmate_registers *registers, uint32_t bits);
/* DEVICE_NEEDS_RESET. */
cellmate_result cellmate_registers_demand_reset(cellmate_registers *registers);
cellmate_result cellmate_registers_close(cellmate_registers *registers);

#ifdef __cplusplus
}
#endif

#endif
