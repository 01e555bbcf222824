/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite of the C interface; runs against every build of the library. */
#include <string.h>

#include "simulator.h"

int checks;
int failures;

static void log_line(void *context, const char *line) {
  (void)context;
  if (getenv("CELLMATE_TEST_LOG")) printf("log: %s\n", line);
}

int main(int count, char **words) {
  if (count != 3) {
    printf("usage: %s IMAGE SIMULATOR   (IMAGE and files beside it are created and written;"
           " SIMULATOR is ivshmem-sim)\n",
           words[0]);
    return 2;
  }
  simulator_use(words[2]);
  cellmate_set_log(log_line, NULL);
  struct {
    const char *name;
    void (*run)(void);
  } tests[] = {{"arguments", test_arguments},
               {"registers", test_registers},
               {"raw", test_raw},
               {"adversary", test_adversary},
               {"link", test_link},
               {"restart", test_restart},
               {"threads", test_threads},
               {"service", test_service}};
  for (size_t index = 0; index < sizeof tests / sizeof tests[0]; index++) {
    int before = failures;
    tests[index].run();
    printf("%-10s %s\n", tests[index].name, failures == before ? "ok" : "FAILED");
  }
  struct {
    const char *name;
    void (*run)(const char *image);
  } with_files[] = {{"block", test_block},       {"drivers", test_drivers},
                    {"ways", test_ways},         {"keeper", test_keeper},
                    {"exchange", test_exchange}, {"requests", test_requests},
                    {"deadlines", test_deadlines}};
  for (size_t index = 0; index < sizeof with_files / sizeof with_files[0]; index++) {
    int before = failures;
    with_files[index].run(words[1]);
    printf("%-10s %s\n", with_files[index].name, failures == before ? "ok" : "FAILED");
  }
  printf("%d checks, %d failures\n", checks, failures);
  return failures != 0;
}
