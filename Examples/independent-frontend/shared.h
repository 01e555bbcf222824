/* SPDX-License-Identifier: Apache-2.0 */
/* Words in memory that another cell writes at the same time. Protocol page, opening paragraph:
 * little endian, naturally aligned, one access of the word's size.
 *
 * A peer may be hostile and change a word between two looks. So nothing here hands out a pointer
 * into shared memory: a caller loads a word once into a variable, and judges and uses that copy. */
#ifndef SHARED_H
#define SHARED_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "a big-endian front-end must swap the words here"
#endif

/* A word that could be torn would make every claim of the protocol void. */
_Static_assert(__atomic_always_lock_free(sizeof(uint64_t), 0), "64-bit words must be single-copy");

static inline uint16_t load16(const volatile void *p)
{
    return __atomic_load_n((const volatile uint16_t *)p, __ATOMIC_RELAXED);
}

static inline uint16_t load16_acquire(const volatile void *p)
{
    return __atomic_load_n((const volatile uint16_t *)p, __ATOMIC_ACQUIRE);
}

static inline uint32_t load32(const volatile void *p)
{
    return __atomic_load_n((const volatile uint32_t *)p, __ATOMIC_RELAXED);
}

static inline uint32_t load32_acquire(const volatile void *p)
{
    return __atomic_load_n((const volatile uint32_t *)p, __ATOMIC_ACQUIRE);
}

static inline uint64_t load64(const volatile void *p)
{
    return __atomic_load_n((const volatile uint64_t *)p, __ATOMIC_RELAXED);
}

static inline uint64_t load64_acquire(const volatile void *p)
{
    return __atomic_load_n((const volatile uint64_t *)p, __ATOMIC_ACQUIRE);
}

static inline void store16(volatile void *p, uint16_t v)
{
    __atomic_store_n((volatile uint16_t *)p, v, __ATOMIC_RELAXED);
}

static inline void store16_release(volatile void *p, uint16_t v)
{
    __atomic_store_n((volatile uint16_t *)p, v, __ATOMIC_RELEASE);
}

static inline void store32(volatile void *p, uint32_t v)
{
    __atomic_store_n((volatile uint32_t *)p, v, __ATOMIC_RELAXED);
}

static inline void store32_release(volatile void *p, uint32_t v)
{
    __atomic_store_n((volatile uint32_t *)p, v, __ATOMIC_RELEASE);
}

static inline void store64(volatile void *p, uint64_t v)
{
    __atomic_store_n((volatile uint64_t *)p, v, __ATOMIC_RELAXED);
}

static inline void store64_release(volatile void *p, uint64_t v)
{
    __atomic_store_n((volatile uint64_t *)p, v, __ATOMIC_RELEASE);
}

/* Orders earlier stores before later loads, which neither release nor acquire does. */
static inline void full_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void acquire_fence(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

#endif
