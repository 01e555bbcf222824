// SPDX-License-Identifier: Apache-2.0
//
// The only C of the core: accesses that Swift cannot spell with a guaranteed machine form.
//
// 1. Registers (`cv_register_*`): exactly one single-register load or store without write-back.
//    Jailhouse emulates a trapped access from its syndrome and parks the CPU on every other form
//    (pairs, SIMD registers, write-back, exclusives), and C `volatile` alone does not prevent
//    those. Hence inline assembly.
// 2. Shared words (`cv_load*`, `cv_store*`): single-copy atomic accesses that the compiler may
//    neither split, repeat nor merge. The ordering is part of the name.
// 3. Fences and spin hints.
// 4. Copies that use aligned accesses only, for mappings that are Device memory on arm64, where
//    the C library's copies fault.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define CV_INLINE static inline __attribute__((always_inline))

// ---- shared words -------------------------------------------------------------------------

#define CV_WORD(bits)                                                                          \
  CV_INLINE uint##bits##_t cv_load##bits(const void *_Nonnull p) {                             \
    return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_RELAXED);                       \
  }                                                                                            \
  CV_INLINE uint##bits##_t cv_load##bits##_acquire(const void *_Nonnull p) {                   \
    return __atomic_load_n((const uint##bits##_t *)p, __ATOMIC_ACQUIRE);                       \
  }                                                                                            \
  CV_INLINE void cv_store##bits(void *_Nonnull p, uint##bits##_t v) {                          \
    __atomic_store_n((uint##bits##_t *)p, v, __ATOMIC_RELAXED);                                \
  }                                                                                            \
  CV_INLINE void cv_store##bits##_release(void *_Nonnull p, uint##bits##_t v) {                \
    __atomic_store_n((uint##bits##_t *)p, v, __ATOMIC_RELEASE);                                \
  }

CV_WORD(8)
CV_WORD(16)
CV_WORD(32)
CV_WORD(64)
#undef CV_WORD

// ---- fences -------------------------------------------------------------------------------

/// Store-to-load and everything weaker, for all memory both peers see.
CV_INLINE void cv_fence_full(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
CV_INLINE void cv_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
CV_INLINE void cv_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }

/// Tells the processor that this is a spin loop.
CV_INLINE void cv_relax(void) {
#if defined(__aarch64__)
  __asm__ volatile("yield");
#elif defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// ---- registers ----------------------------------------------------------------------------

CV_INLINE uint32_t cv_register_read32(const void *_Nonnull p) {
  uint32_t v;
#if defined(__aarch64__)
  __asm__ volatile("ldr %w0, [%1]" : "=r"(v) : "r"(p) : "memory");
#elif defined(__x86_64__)
  __asm__ volatile("movl (%1), %0" : "=r"(v) : "r"(p) : "memory");
#else
  v = *(const volatile uint32_t *)p;
#endif
  return v;
}

CV_INLINE void cv_register_write32(void *_Nonnull p, uint32_t v) {
#if defined(__aarch64__)
  __asm__ volatile("str %w1, [%0]" : : "r"(p), "r"(v) : "memory");
#elif defined(__x86_64__)
  __asm__ volatile("movl %1, (%0)" : : "r"(p), "r"(v) : "memory");
#else
  *(volatile uint32_t *)p = v;
#endif
}

// ---- copies by aligned accesses -----------------------------------------------------------

/// Copies without unaligned accesses and without library routines (volatile keeps the compiler
/// from recognising a `memcpy`). Ranges must not overlap.
CV_INLINE void cv_copy_strict(void *_Nonnull to, const void *_Nonnull from, size_t count) {
  uint8_t *d = (uint8_t *)to;
  const uint8_t *s = (const uint8_t *)from;
  if ((((uintptr_t)d ^ (uintptr_t)s) & 7) == 0) {
    while (count > 0 && ((uintptr_t)d & 7) != 0) {
      *(volatile uint8_t *)d++ = *(const volatile uint8_t *)s++;
      count--;
    }
    while (count >= 8) {
      *(volatile uint64_t *)d = *(const volatile uint64_t *)s;
      d += 8;
      s += 8;
      count -= 8;
    }
  }
  while (count > 0) {
    *(volatile uint8_t *)d++ = *(const volatile uint8_t *)s++;
    count--;
  }
}

/// Fills without unaligned accesses and without library routines.
CV_INLINE void cv_fill_strict(void *_Nonnull to, uint8_t value, size_t count) {
  uint8_t *d = (uint8_t *)to;
  uint64_t wide = 0x0101010101010101u * (uint64_t)value;
  while (count > 0 && ((uintptr_t)d & 7) != 0) {
    *(volatile uint8_t *)d++ = value;
    count--;
  }
  while (count >= 8) {
    *(volatile uint64_t *)d = wide;
    d += 8;
    count -= 8;
  }
  while (count > 0) {
    *(volatile uint8_t *)d++ = value;
    count--;
  }
}
