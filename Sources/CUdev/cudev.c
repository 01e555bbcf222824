// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "cudev.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// ---- lists of names --------------------------------------------------------------------------

struct cu_list {
  size_t count, room;
  char **items;
};

static cu_list *list_new(void) { return calloc(1, sizeof(cu_list)); }

static int list_add(cu_list *list, const char *text) {
  if (list->count == list->room) {
    size_t room = list->room ? 2 * list->room : 32;
    char **items = realloc(list->items, room * sizeof *items);
    if (!items) return -1;
    list->items = items;
    list->room = room;
  }
  char *copy = strdup(text);
  if (!copy) return -1;
  list->items[list->count++] = copy;
  return 0;
}

size_t cu_count(const cu_list *list) { return list->count; }
const char *cu_item(const cu_list *list, size_t index) { return list->items[index]; }

void cu_free(cu_list *list) {
  if (!list) return;
  for (size_t i = 0; i < list->count; i++) free(list->items[i]);
  free(list->items);
  free(list);
}

static int in_order(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

cu_list *cu_entries(const char *folder) {
  DIR *d = opendir(folder);
  if (!d) return NULL;
  cu_list *list = list_new();
  for (struct dirent *e; list && (e = readdir(d));) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    if (list_add(list, e->d_name)) break;
  }
  closedir(d);
  if (list && list->count > 1) qsort(list->items, list->count, sizeof *list->items, in_order);
  return list;
}

long cu_read_link(const char *path, char *text, size_t size) {
  ssize_t n = readlink(path, text, size);
  return n < 0 ? -errno : n;
}

int cu_may(const char *path, int mode) {
  return access(path, (mode & 4 ? R_OK : 0) | (mode & 2 ? W_OK : 0) | F_OK) == 0;
}

long cu_rights(const char *path, unsigned *owner, unsigned *group, unsigned *mode) {
  struct stat s;
  if (stat(path, &s)) return -errno;
  *owner = s.st_uid;
  *group = s.st_gid;
  *mode = s.st_mode & 07777;
  return 0;
}

unsigned cu_user(void) { return geteuid(); }
long cu_page_size(void) { return sysconf(_SC_PAGESIZE); }

// ---- libudev ---------------------------------------------------------------------------------

// The functions by the names of their manual pages; pointers to what the library keeps to itself.
struct entry;
static struct {
  void *(*udev_new)(void);
  void *(*udev_enumerate_new)(void *);
  void *(*udev_enumerate_unref)(void *);
  int (*udev_enumerate_add_match_subsystem)(void *, const char *);
  int (*udev_enumerate_scan_devices)(void *);
  struct entry *(*udev_enumerate_get_list_entry)(void *);
  struct entry *(*udev_list_entry_get_next)(struct entry *);
  const char *(*udev_list_entry_get_name)(struct entry *);
  void *(*udev_device_new_from_syspath)(void *, const char *);
  void *(*udev_device_unref)(void *);
  struct entry *(*udev_device_get_devlinks_list_entry)(void *);
  const char *(*udev_device_get_action)(void *);
  const char *(*udev_device_get_subsystem)(void *);
  const char *(*udev_device_get_syspath)(void *);
  void *(*udev_monitor_new_from_netlink)(void *, const char *);
  void *(*udev_monitor_unref)(void *);
  int (*udev_monitor_filter_add_match_subsystem_devtype)(void *, const char *, const char *);
  int (*udev_monitor_enable_receiving)(void *);
  int (*udev_monitor_get_fd)(void *);
  void *(*udev_monitor_receive_device)(void *);
} u;
static void *context;

// Fills a function pointer; the union of pointers is what dlsym(3) asks for.
static int find(void *library, const char *name, void *into, const char **reason) {
  void *p = dlsym(library, name);
  if (!p) {
    *reason = dlerror();
    return -1;
  }
  memcpy(into, &p, sizeof p);
  return 0;
}

int cu_load(const char **reason) {
  if (context) return 0;
  void *l = dlopen("libudev.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!l) {
    *reason = dlerror();
    return -1;
  }
#define FIND(name) \
  if (find(l, #name, &u.name, reason)) return -1
  FIND(udev_new);
  FIND(udev_enumerate_new);
  FIND(udev_enumerate_unref);
  FIND(udev_enumerate_add_match_subsystem);
  FIND(udev_enumerate_scan_devices);
  FIND(udev_enumerate_get_list_entry);
  FIND(udev_list_entry_get_next);
  FIND(udev_list_entry_get_name);
  FIND(udev_device_new_from_syspath);
  FIND(udev_device_unref);
  FIND(udev_device_get_devlinks_list_entry);
  FIND(udev_device_get_action);
  FIND(udev_device_get_subsystem);
  FIND(udev_device_get_syspath);
  FIND(udev_monitor_new_from_netlink);
  FIND(udev_monitor_unref);
  FIND(udev_monitor_filter_add_match_subsystem_devtype);
  FIND(udev_monitor_enable_receiving);
  FIND(udev_monitor_get_fd);
  FIND(udev_monitor_receive_device);
#undef FIND
  context = u.udev_new();
  if (context) return 0;
  *reason = "udev_new failed";
  return -1;
}

static cu_list *copied(struct entry *e) {
  cu_list *list = list_new();
  for (; list && e; e = u.udev_list_entry_get_next(e)) {
    const char *name = u.udev_list_entry_get_name(e);
    if (name && list_add(list, name)) break;
  }
  return list;
}

cu_list *cu_pci_folders(void) {
  void *scan = context ? u.udev_enumerate_new(context) : NULL;
  if (!scan) return NULL;
  cu_list *list = NULL;
  if (u.udev_enumerate_add_match_subsystem(scan, "pci") >= 0 &&
      u.udev_enumerate_scan_devices(scan) >= 0)
    list = copied(u.udev_enumerate_get_list_entry(scan));
  u.udev_enumerate_unref(scan);
  return list;
}

cu_list *cu_node_links(const char *folder) {
  void *device = context ? u.udev_device_new_from_syspath(context, folder) : NULL;
  if (!device) return NULL;
  cu_list *list = copied(u.udev_device_get_devlinks_list_entry(device));
  u.udev_device_unref(device);
  return list;
}

struct cu_monitor {
  void *source;
  char action[16], subsystem[16], folder[512];
};

cu_monitor *cu_monitor_open(void) {
  cu_monitor *monitor = calloc(1, sizeof *monitor);
  if (!monitor) return NULL;
  // udevd listens there as long as it runs; without it nobody would pass its events on.
  const char *source = access("/run/udev/control", F_OK) == 0 ? "udev" : "kernel";
  void *m = context ? u.udev_monitor_new_from_netlink(context, source) : NULL;
  static const char *const subsystems[] = {"pci", "uio", "vfio"};
  int result = m ? 0 : -1;
  for (unsigned i = 0; i < 3 && result >= 0; i++)
    result = u.udev_monitor_filter_add_match_subsystem_devtype(m, subsystems[i], NULL);
  if (result >= 0) result = u.udev_monitor_enable_receiving(m);
  monitor->source = m;
  if (result >= 0) return monitor;
  cu_monitor_close(monitor);
  return NULL;
}

int cu_monitor_descriptor(cu_monitor *monitor) { return u.udev_monitor_get_fd(monitor->source); }

int cu_monitor_next(cu_monitor *monitor) {
  void *device = u.udev_monitor_receive_device(monitor->source);
  if (!device) return 0;
  const char *action = u.udev_device_get_action(device);
  const char *subsystem = u.udev_device_get_subsystem(device);
  const char *folder = u.udev_device_get_syspath(device);
  snprintf(monitor->action, sizeof monitor->action, "%s", action ? action : "");
  snprintf(monitor->subsystem, sizeof monitor->subsystem, "%s", subsystem ? subsystem : "");
  snprintf(monitor->folder, sizeof monitor->folder, "%s", folder ? folder : "");
  u.udev_device_unref(device);
  return 1;
}

const char *cu_monitor_action(const cu_monitor *monitor) { return monitor->action; }
const char *cu_monitor_subsystem(const cu_monitor *monitor) { return monitor->subsystem; }
const char *cu_monitor_folder(const cu_monitor *monitor) { return monitor->folder; }

void cu_monitor_close(cu_monitor *monitor) {
  if (monitor->source) u.udev_monitor_unref(monitor->source);
  free(monitor);
}
