// SPDX-License-Identifier: Apache-2.0
//
// What Swift's String asks of Unicode, for a library whose strings are specifications and paths:
// bytes. No scalar is normalised and each is a character of its own, so that strings are equal when
// their bytes are, and 60 KB of tables stay out.
#include <stdbool.h>
#include <stdint.h>

const uint8_t *_swift_stdlib_nfd_decompositions = 0;

uint16_t _swift_stdlib_getNormData(uint32_t scalar) { return (void)scalar, 0; }
uint32_t _swift_stdlib_getComposition(uint32_t x, uint32_t y) {
  return (void)x, (void)y, UINT32_MAX;
}
uint32_t _swift_stdlib_getDecompositionEntry(uint32_t scalar) { return (void)scalar, 0; }
uint8_t _swift_stdlib_getGraphemeBreakProperty(uint32_t scalar) { return (void)scalar, 0xff; }
bool _swift_stdlib_isExtendedPictographic(uint32_t scalar) { return (void)scalar, false; }
bool _swift_stdlib_isInCB_Consonant(uint32_t scalar) { return (void)scalar, false; }
