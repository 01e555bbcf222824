/* SPDX-License-Identifier: Apache-2.0 */
/* The register file, driven as the exit handler of a hypervisor that traps would drive it. */
#include <string.h>

#include "check.h"

static cellmate_registers *registers;

static cellmate_action put(uint32_t offset, uint32_t value) {
  cellmate_action action = {.size = sizeof action};
  SAME(cellmate_registers_write(registers, offset, value, &action), CELLMATE_OK);
  return action;
}

static uint32_t get(uint32_t offset) {
  uint32_t value = 0xdead;
  SAME(cellmate_registers_read(registers, offset, &value), CELLMATE_OK);
  return value;
}

void test_registers(void) {
  cellmate_identity identity = {.size = sizeof identity,
                                .device_id = 4,
                                .vendor_id = 0x1234,
                                .queue_count = 2,
                                .queue_size_max = 64,
                                .chain_length_max = 8,
                                .features = 1ull << 32 | 1};
  cellmate_identity bad = identity;
  bad.queue_size_max = 3;
  SAME(cellmate_registers_create(&bad, &registers), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_registers_create(&identity, NULL), CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_registers_create(&identity, &registers), CELLMATE_OK);
  SAME(get(0x000), 0x74726976);
  SAME(get(0x004), 2);
  SAME(get(0x008), 4);
  SAME(get(0x00c), 0x1234);
  SAME(put(0x070, 1).kind, CELLMATE_ACTION_NONE);
  SAME(put(0x070, 3).kind, CELLMATE_ACTION_NONE);
  put(0x014, 1);
  SAME(get(0x010), 1);
  put(0x024, 0);
  put(0x020, 1);
  put(0x024, 1);
  put(0x020, 1);
  SAME(put(0x070, 0xb).kind, CELLMATE_ACTION_NONE);
  SAME(get(0x070), 0xb);
  put(0x030, 1);
  SAME(get(0x034), 64);
  put(0x038, 16);
  put(0x080, 0x1000);
  put(0x084, 0x7);
  put(0x090, 0x2000);
  put(0x0a0, 0x3000);
  cellmate_action action = put(0x044, 1);
  SAME(action.kind, CELLMATE_ACTION_ENABLE_QUEUE);
  SAME(action.queue, 1);
  SAME(action.queue_size, 16);
  SAME(action.descriptor_table, 0x700001000ull);
  SAME(action.available_ring, 0x2000);
  SAME(action.used_ring, 0x3000);
  SAME(get(0x044), 0);
  SAME(cellmate_registers_confirm(registers, CELLMATE_ACTION_ENABLE_QUEUE, 2),
       CELLMATE_ERROR_ARGUMENT);
  SAME(cellmate_registers_confirm(registers, CELLMATE_ACTION_ENABLE_QUEUE, 1), CELLMATE_OK);
  SAME(get(0x044), 1);
  action = put(0x070, 0xf);
  SAME(action.kind, CELLMATE_ACTION_START);
  SAME(action.features, 1ull << 32 | 1);
  SAME(put(0x050, 1).kind, CELLMATE_ACTION_NOTIFY);
  SAME(put(0x050, 9).kind, CELLMATE_ACTION_REFUSE);
  SAME(cellmate_registers_raise(registers, 1), CELLMATE_OK);
  SAME(cellmate_registers_raise(registers, 4), CELLMATE_ERROR_ARGUMENT);
  SAME(get(0x060), 1);
  put(0x064, 1);
  SAME(get(0x060), 0);
  SAME(cellmate_registers_demand_reset(registers), CELLMATE_OK);
  SAME(get(0x070), 0x4f);
  SAME(put(0x070, 0).kind, CELLMATE_ACTION_RESET);
  SAME(cellmate_registers_confirm(registers, CELLMATE_ACTION_RESET, 0), CELLMATE_OK);
  SAME(get(0x070), 0);
  SAME(put(0x0fe, 0).kind, CELLMATE_ACTION_REFUSE);
  SAME(cellmate_registers_write(registers, 0x100, 0, &action), CELLMATE_ERROR_ARGUMENT);
  action.size = 4;
  SAME(cellmate_registers_write(registers, 0x070, 0, &action), CELLMATE_ERROR_SIZE);
  SAME(cellmate_registers_close(registers), CELLMATE_OK);
}
