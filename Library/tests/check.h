/* SPDX-License-Identifier: Apache-2.0 */
/* What the C tests share: a check that says what was seen, and a link over plain memory. */
#ifndef CHECK_H
#define CHECK_H

#include <cellmate.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform.h"

extern int checks;
extern int failures;

/* a == b, both as long; says where and what otherwise. */
#define SAME(a, b)                                                                              \
  do {                                                                                          \
    long long seen_ = (long long)(a), wanted_ = (long long)(b);                                 \
    checks++;                                                                                   \
    if (seen_ != wanted_) {                                                                     \
      failures++;                                                                               \
      printf("%s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__, #a, seen_, #b,      \
             wanted_);                                                                          \
    }                                                                                           \
  } while (0)
#define TRUE(a) SAME(!!(a), 1)

void test_arguments(void);
void test_registers(void);
void test_raw(void);
void test_adversary(void);
void test_service(void);
void test_link(void);
void test_restart(void);
void test_threads(void);
void test_block(const char *image);
void test_drivers(const char *image);
void test_ways(const char *image);
void test_keeper(const char *image);
void test_exchange(const char *image);
void test_requests(const char *image);
void test_deadlines(const char *image);

#endif
