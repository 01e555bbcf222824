/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated links: ivshmem-sim as a child of the test. */
#ifndef SIMULATOR_H
#define SIMULATOR_H

#include <sys/types.h>

#include "check.h"

struct simulator {
  pid_t process;
  char path[108];
};

/* The program that the links are made with. */
void simulator_use(const char *path);
/* Offers a link of two peers with 2 MiB for both at path. */
void simulator_begin(struct simulator *simulator, const char *path);
void simulator_end(struct simulator *simulator);

#endif
