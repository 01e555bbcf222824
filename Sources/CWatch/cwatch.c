#include "cwatch.h"
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define CW_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CW_ADDRESS_SANITIZER 1
#endif
#endif

struct side {
  uintptr_t start;
  uintptr_t end;
  uint64_t steps;
  uint64_t accesses;
  uint64_t last;
};
static _Thread_local struct side sides[CW_SIDES];
static _Thread_local uint64_t beside;

// The process's own end: set before any thread runs.
static uint64_t kill_before;
static const char *kill_mark;
static _Atomic(uint64_t) process_steps;

__attribute__((constructor)) static void cw_begin(void) {
  const char *text = getenv("CELLMATE_CRASH_STEP");
  kill_mark = getenv("CELLMATE_CRASH_MARK");
  if (text && !(kill_mark && access(kill_mark, F_OK) == 0))
    kill_before = strtoull(text, NULL, 10);
}

static void process_step(uint64_t count) {
  if (!kill_before) return;
  uint64_t before = atomic_fetch_add(&process_steps, count);
  if (before + count >= kill_before) {
    if (kill_mark) close(open(kill_mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
}

static struct side *side_of(const void *at) {
  uintptr_t p = (uintptr_t)at;
  for (unsigned i = 0; i < CW_SIDES; i++)
    if (p >= sides[i].start && p < sides[i].end) return &sides[i];
  return NULL;
}

void cw_watch(unsigned side, const void *start, size_t size, uint64_t last) {
  if (side >= CW_SIDES) return;
  sides[side] = (struct side){(uintptr_t)start, (uintptr_t)start + size, 0, 0, last};
}
void cw_watch_end(void) {
  for (unsigned i = 0; i < CW_SIDES; i++) sides[i] = (struct side){0, 0, 0, 0, 0};
}
void cw_set_last(unsigned side, uint64_t last) {
  if (side < CW_SIDES) sides[side].last = last;
}
uint64_t cw_steps(unsigned side) { return side < CW_SIDES ? sides[side].steps : 0; }
uint64_t cw_accesses(unsigned side) { return side < CW_SIDES ? sides[side].accesses : 0; }
static int dead(const struct side *s) { return s->last != 0 && s->steps >= s->last; }
int cw_is_dead(unsigned side) { return side < CW_SIDES && dead(&sides[side]); }

void *cw_store(void *at, size_t size) {
  (void)size;
  process_step(1);
  struct side *s = side_of(at);
  if (!s) return at;
  s->steps++;
  return dead(s) ? (void *)&beside : at;
}

size_t cw_store_bytes(const void *at, size_t size) {
  uint64_t count = (size + CW_PIECE - 1) / CW_PIECE;
  process_step(count);
  struct side *s = side_of(at);
  if (!s) return size;
  s->accesses += (size + 7) / 8;
  uint64_t before = s->steps;
  s->steps += count;
  if (!dead(s)) return size;
  // The pieces before the last step still happen.
  uint64_t pieces = s->last > before + 1 ? s->last - before - 1 : 0;
  return pieces * CW_PIECE < size ? (size_t)pieces * CW_PIECE : size;
}

void cw_access(const void *at, size_t size) {
  struct side *s = side_of(at);
  if (s) s->accesses += (size + 7) / 8;
}

int cw_register(const void *view) {
  process_step(1);
  struct side *s = side_of(view);
  if (!s) return 1;
  s->steps++;
  return !dead(s);
}

#ifdef CW_ADDRESS_SANITIZER
void __asan_poison_memory_region(void const volatile *at, size_t size);
void __asan_unpoison_memory_region(void const volatile *at, size_t size);
int cw_has_sanitizer(void) { return 1; }
void cw_forbid(const void *start, size_t size) { __asan_poison_memory_region(start, size); }
void cw_allow(const void *start, size_t size) { __asan_unpoison_memory_region(start, size); }
#else
int cw_has_sanitizer(void) { return 0; }
void cw_forbid(const void *start, size_t size) { (void)start, (void)size; }
void cw_allow(const void *start, size_t size) { (void)start, (void)size; }
#endif
