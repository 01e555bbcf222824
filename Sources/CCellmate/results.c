// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cellmate.h"

const char *cellmate_result_text(cellmate_result result) {
  static const char *const texts[] = {
      "done",
      "a pointer is NULL or a number is out of range",
      "the size member of a structure is wrong, or members this library does not know are not zero",
      "the handle is NULL, closed or of another kind",
      "not possible now: not started, already started, or called from a callback",
      "the handle belongs to another thread; see cellmate_..._adopt",
      "the specification is wrong or cannot be opened",
      "no memory, or the shared memory is too small",
      "no free entry; take completions first",
      "the peer did not answer in time",
      "the peer went away or started anew",
      "the device refused an access or lacks a feature",
      "no such device, or a device of another type",
      "the peer broke a rule; reset the device",
      "the wait was interrupted",
      "the platform is gone",
  };
  if (result > 0) return texts[0];
  unsigned index = 0u - (unsigned)result;
  return index < sizeof texts / sizeof texts[0] ? texts[index] : "a result of a newer library";
}
