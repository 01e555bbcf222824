/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the caller who does everything wrong share (interface.c). */
#ifndef INTERFACE_H
#define INTERFACE_H

#include <cellmate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, SLOTS = 8, DEPTH = 16 };

#define CHECK(condition)                                           \
  do {                                                             \
    if (!(condition)) {                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                     \
    }                                                              \
  } while (0)

/* The input: how much is left, the next byte (0 at the end), a number that checks are about. */
extern size_t rest;
uint8_t byte(void);
uint64_t number(void);

/* Two peers over plain memory, and their clock. */
cellmate_platform platform(uint32_t id);
/* This much later: in the time of the peers, or, where links are real, in the machine's, and then
 * not long. */
uint64_t later(uint64_t span);
/* Whether links are opened by their names. */
extern int is_real;
/* How often the peer at this end may wait before the other one does as the bytes say. */
extern unsigned honest_turns;

/* Handles: right, closed, of another kind, invented. */
extern void *handles[SLOTS];
void *handle(void);
/* A result that cellmate.h has. */
int32_t checked(int32_t result);
/* Keeps a new handle, here and for the end. */
void *noted(void *made);
void keep(int32_t result, void *made);
size_t size_of(size_t right);
/* One call, as the bytes say. */
void act(void);
/* A device that misuses the interface. */
cellmate_device wrong_device(uint32_t id);

/* drivers.c */
extern void *driven; /* by a set-up */
void set_up_driver(uint32_t slot, uint32_t kind, cellmate_link *link);
void drive(uint8_t kind);
/* A device of type 1 or 3 that gives back what it gets. */
cellmate_device mirror_device(cellmate_backend *backend, uint32_t slot, uint32_t id);

/* service.c */
extern void *served;  /* by a set-up */
extern void *running; /* the back-end in cellmate_backend_run, if any */
void set_up_service(uint8_t choice);
void serve(uint8_t kind);
/* Once a process: folders, threads that serve. */
void prepare_service(void);
/* What belongs to the process is as it was. */
void restart_service(void);

#endif
