// SPDX-License-Identifier: Apache-2.0
//
// The table behind the handles of cellmate.h. A handle is a number that names an entry and its
// life, so that a closed, foreign or invented handle is seen instead of followed. Entries are never
// given back to the system; the words are atomic because wake and stop come from any thread.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "cellmate.h"

enum { CH_ENTRIES = 1024 };

// A new handle of a kind (1 to 255) that stands for object and belongs to the calling thread; NULL
// when the table is full.
void *_Nullable ch_open(uint8_t kind, void *_Nonnull object);
// The object of a handle for its owner: takes it, so that a second call from inside is seen. Below
// 0: a result of cellmate.h. Every success is followed by ch_leave.
int32_t ch_enter(
    const void *_Nullable handle, uint8_t kind, void *_Nullable *_Nonnull object);
void ch_leave(const void *_Nonnull handle);
// The object of a handle for anybody, for fields that may be used so.
int32_t ch_peek(const void *_Nullable handle, uint8_t kind, void *_Nullable *_Nonnull object);
// Whether the calling thread owns the handle, 1 or 0.
int32_t ch_is_owner(const void *_Nonnull handle);
// The calling thread becomes the owner.
int32_t ch_adopt(const void *_Nullable handle, uint8_t kind);
// Ends the life of a handle that was entered.
void ch_close(const void *_Nonnull handle);

// ---- structures and memory -----------------------------------------------------------------------

// The size of a structure in the first version that had it, where it has grown since: what callers
// that were built then give.
enum {
  CH_LEAST_DEVICE = offsetof(cellmate_device, cancel),
  CH_LEAST_BLOCK_FACTS = offsetof(cellmate_block_facts, discard_max)
};
// Copies a structure of the caller's, whose first word is its size, to out, which has size zeroes;
// a result of cellmate.h. least: bytes that every caller has.
int32_t ch_input(const void *_Nullable in, void *_Nonnull out, size_t least, size_t size);
// Whether the caller's structure has the members that every caller has.
int32_t ch_can_output(const void *_Nullable out, size_t least);
// Copies all but the size word, as far as the caller's structure reaches.
void ch_output(void *_Nonnull out, const void *_Nonnull in, size_t size);
// Writes a result and its text, if the caller wants them; a text that is too long ends in "...".
void ch_error(void *_Nullable error, int32_t result, const char *_Nonnull text, size_t length);
// Zeroed private memory that is touched only where it is used; NULL when there is none.
void *_Nullable ch_memory(size_t size);
void ch_memory_free(void *_Nonnull memory, size_t size);
// Copies a text into an array of room bytes, cut and ended by a zero.
void ch_text(char *_Nonnull out, size_t room, const char *_Nonnull text, size_t length);

// ---- hooks ---------------------------------------------------------------------------------------

void ch_set_log(
    void (*_Nullable log)(void *_Nullable context, const char *_Nullable line),
    void *_Nullable context);
void ch_set_report(
    void (*_Nullable report)(
        void *_Nullable context, int32_t level, const char *_Nullable subject,
        const char *_Nullable text),
    void *_Nullable context);
// One line for whoever takes them; level is CELLMATE_INFO, _WARNING or _ERROR.
void ch_say(int32_t level, const char *_Nonnull subject, const char *_Nonnull text);
// Copies the keeper; NULL: none.
void ch_set_keeper(const struct cellmate_keeper *_Nullable keeper);
// Whether new descriptors are kept, 1 or 0; the other three as in cellmate_keeper.
int32_t ch_is_kept(void);
int32_t ch_take(const char *_Nonnull name);
int32_t ch_keep(const char *_Nonnull name, int32_t descriptor);
void ch_forget(const char *_Nonnull name);
