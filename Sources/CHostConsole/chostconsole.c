// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "chostconsole.h"

#include <errno.h>
#include <sys/random.h>


long chc_random(void *_Nonnull bytes, size_t count) {
  for (;;) {
    long r = getrandom(bytes, count, 0);
    if (r >= 0 || errno != EINTR) return r < 0 ? -errno : r;
  }
}
