// SPDX-License-Identifier: Apache-2.0
// What the caller sets once for the whole library: who takes its log, who keeps its descriptors.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>

#include "cellmate.h"
#include "cellmate_handles.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cellmate_log log_function;
static cellmate_report report_function;
static void *log_context;
static void *report_context;
static cellmate_keeper keeper;

void ch_set_log(cellmate_log log, void *context) {
  pthread_mutex_lock(&lock);
  log_function = log;
  log_context = context;
  pthread_mutex_unlock(&lock);
}

void ch_set_report(cellmate_report report, void *context) {
  pthread_mutex_lock(&lock);
  report_function = report;
  report_context = context;
  pthread_mutex_unlock(&lock);
}

void ch_say(int32_t level, const char *subject, const char *text) {
  pthread_mutex_lock(&lock);
  cellmate_report report = report_function;
  void *context = report ? report_context : log_context;
  cellmate_log log = log_function;
  pthread_mutex_unlock(&lock);
  if (report) {
    report(context, level, subject, text);
  } else if (log) {
    char line[1280];
    snprintf(line, sizeof line, "%s%s%s", subject, *subject ? ": " : "", text);
    log(context, line);
  }
}

void ch_set_keeper(const cellmate_keeper *given) {
  pthread_mutex_lock(&lock);
  keeper = given ? *given : (cellmate_keeper){0};
  pthread_mutex_unlock(&lock);
}

static cellmate_keeper current(void) {
  pthread_mutex_lock(&lock);
  cellmate_keeper copy = keeper;
  pthread_mutex_unlock(&lock);
  return copy;
}

int32_t ch_is_kept(void) { return current().keep != NULL; }

int32_t ch_take(const char *name) {
  cellmate_keeper k = current();
  return k.take ? k.take(k.context, name) : -1;
}

int32_t ch_keep(const char *name, int32_t descriptor) {
  cellmate_keeper k = current();
  return k.keep ? k.keep(k.context, name, descriptor) : 0;
}

void ch_forget(const char *name) {
  cellmate_keeper k = current();
  if (k.forget) k.forget(k.context, name);
}
