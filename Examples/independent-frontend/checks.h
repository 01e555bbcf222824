/* SPDX-License-Identifier: Apache-2.0 */
/* What the page promises, tried against a back-end: refusals, hostile requests, restarts. An RTOS
 * does not need this; whoever changes either side does. */
#ifndef CHECKS_H
#define CHECKS_H

#include "block.h"

/* Prints a line for each check; returns how many failed. The content of the disk's last part is
 * destroyed. */
int checks_run(struct block *b, uint64_t patience_ms);

#endif
