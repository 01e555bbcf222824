/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated links for the tests that need what a platform by callbacks has not: a connection that
 * outlives a back-end, the Siemens dialect, waiting with epoll. */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "simulator.h"

extern char **environ;
static const char *program;

void simulator_use(const char *path) { program = path; }

void simulator_begin(struct simulator *simulator, const char *path) {
  snprintf(simulator->path, sizeof simulator->path, "%s", path);
  unlink(path);
  char *words[] = {(char *)program, "--socket", simulator->path, "--rw",   "2M", "--output",
                   "0",             "--peers",  "2",             "--quiet", NULL};
  SAME(posix_spawn(&simulator->process, program, NULL, NULL, words, environ), 0);
  uint64_t limit = now() + 60000000000u;
  while (access(path, F_OK) != 0 && now() < limit) usleep(1000);
  SAME(access(path, F_OK), 0);
}

void simulator_end(struct simulator *simulator) {
  int status = -1;
  SAME(kill(simulator->process, SIGTERM), 0);
  SAME(waitpid(simulator->process, &status, 0), simulator->process);
  SAME(status, 0);
}
