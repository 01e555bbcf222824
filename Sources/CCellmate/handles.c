// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cellmate_handles.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cellmate.h"

// A handle is life << 16 | index << 4 | 8: never NULL, never aligned like an object of malloc.
struct entry {
  uint32_t life;  // odd: in use
  uint8_t kind;
  uint32_t entered;
  pthread_t owner;
  void *object;
};

// All of it is wiped in a child of fork(): there every handle is unknown, and nobody holds the lock.
struct table {
  pthread_mutex_t lock;  // zeroes are PTHREAD_MUTEX_INITIALIZER
  struct entry entries[CH_ENTRIES];
};
static struct table *table;

__attribute__((constructor)) static void ch_begin(void) {
  void *memory = ch_memory(sizeof(struct table));
  if (!memory) return;
  madvise(memory, sizeof(struct table), MADV_WIPEONFORK);
  table = memory;
}

static struct entry *find(const void *handle, uint8_t kind) {
  uintptr_t number = (uintptr_t)handle;
  if ((number & 15) != 8) return NULL;
  uintptr_t index = number >> 4 & 0xfff;
  if (index >= CH_ENTRIES || !table) return NULL;
  struct entry *entry = &table->entries[index];
  uint32_t life = __atomic_load_n(&entry->life, __ATOMIC_ACQUIRE);
  if (life != number >> 16 || !(life & 1) || entry->kind != kind) return NULL;
  return entry;
}

static struct entry *known(const void *handle) { return &table->entries[(uintptr_t)handle >> 4 & 0xfff]; }

void *ch_open(uint8_t kind, void *object) {
  void *handle = NULL;
  if (!table) return NULL;
  pthread_mutex_lock(&table->lock);
  for (uintptr_t index = 0; index < CH_ENTRIES && !handle; index++) {
    struct entry *entry = &table->entries[index];
    if (entry->life & 1) continue;
    // Not the numbers that a process had before fork().
    if (entry->life == 0) entry->life = (uint32_t)getpid() << 8;
    // 16 bits on a 32-bit machine, 32 on others: a handle is taken for a later one only after that
    // many lives of its entry.
    uint32_t life = (entry->life + 1) & (uint32_t)(UINTPTR_MAX >> 16);
    entry->kind = kind;
    entry->entered = 0;
    entry->owner = pthread_self();
    entry->object = object;
    __atomic_store_n(&entry->life, life, __ATOMIC_RELEASE);
    handle = (void *)((uintptr_t)life << 16 | index << 4 | 8);
  }
  pthread_mutex_unlock(&table->lock);
  return handle;
}

int32_t ch_enter(const void *handle, uint8_t kind, void **object) {
  struct entry *entry = find(handle, kind);
  if (!entry) return CELLMATE_ERROR_HANDLE;
  if (!pthread_equal(entry->owner, pthread_self())) return CELLMATE_ERROR_THREAD;
  if (entry->entered) return CELLMATE_ERROR_ORDER;
  entry->entered = 1;
  *object = entry->object;
  return CELLMATE_OK;
}

void ch_leave(const void *handle) { known(handle)->entered = 0; }

int32_t ch_peek(const void *handle, uint8_t kind, void **object) {
  struct entry *entry = find(handle, kind);
  if (!entry) return CELLMATE_ERROR_HANDLE;
  *object = entry->object;
  return CELLMATE_OK;
}

int32_t ch_is_owner(const void *handle) {
  return pthread_equal(known(handle)->owner, pthread_self()) != 0;
}

int32_t ch_adopt(const void *handle, uint8_t kind) {
  struct entry *entry = find(handle, kind);
  if (!entry) return CELLMATE_ERROR_HANDLE;
  if (entry->entered) return CELLMATE_ERROR_ORDER;
  entry->owner = pthread_self();
  return CELLMATE_OK;
}

void ch_close(const void *handle) {
  struct entry *entry = known(handle);
  pthread_mutex_lock(&table->lock);
  entry->entered = 0;
  entry->object = NULL;
  __atomic_store_n(&entry->life, entry->life + 1, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&table->lock);
}

// ---- structures and memory -----------------------------------------------------------------------

enum { LARGEST = 4096 };  // bytes of a structure: a size beyond it is garbage

static size_t size_of(const void *structure) {
  size_t size;
  memcpy(&size, structure, sizeof size);
  return size;
}

int32_t ch_can_output(const void *out, size_t least) {
  if (!out) return CELLMATE_ERROR_ARGUMENT;
  size_t given = size_of(out);
  // No structure ends elsewhere: half of a pointer is never copied.
  if (given < least || given > LARGEST || given % sizeof given) return CELLMATE_ERROR_SIZE;
  return CELLMATE_OK;
}

int32_t ch_input(const void *in, void *out, size_t least, size_t size) {
  int32_t result = ch_can_output(in, least);
  if (result != CELLMATE_OK) return result;
  size_t given = size_of(in);
  for (size_t at = size; at < given; at++)
    if (((const char *)in)[at]) return CELLMATE_ERROR_SIZE;
  memcpy(out, in, given < size ? given : size);
  return CELLMATE_OK;
}

void ch_output(void *out, const void *in, size_t size) {
  size_t given = size_of(out), word = sizeof given;
  memcpy((char *)out + word, (const char *)in + word, (given < size ? given : size) - word);
}

void ch_error(void *error, int32_t result, const char *text, size_t length) {
  cellmate_error *out = error;
  if (ch_can_output(error, sizeof *out) != CELLMATE_OK) return;
  out->result = result;
  size_t room = sizeof out->text - 1;
  size_t count = length < room ? length : room - 3;
  // Not in the middle of a character of UTF-8.
  while (length > room && count > 0 && (text[count] & 0xc0) == 0x80) count--;
  // It stays one line, whatever is quoted in it.
  for (size_t at = 0; at < count; at++)
    out->text[at] = (unsigned char)text[at] < ' ' || text[at] == 0x7f ? '?' : text[at];
  if (length > room) {
    memcpy(out->text + count, "...", 3);
    count += 3;
  }
  out->text[count] = 0;
}

void ch_text(char *out, size_t room, const char *text, size_t length) {
  size_t count = length < room ? length : room - 1;
  memcpy(out, text, count);
  memset(out + count, 0, room - count);
}

void *ch_memory(size_t size) {
  void *memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

void ch_memory_free(void *memory, size_t size) { munmap(memory, size); }
