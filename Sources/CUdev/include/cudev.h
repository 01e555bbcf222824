// SPDX-License-Identifier: Apache-2.0
//
// libudev, loaded when it is wanted (docs/decisions/0012-libudev-at-run-time.md), and folders: what
// device discovery needs and Swift cannot spell. Each function returns what the call returns, or
// -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

// ---- lists of names --------------------------------------------------------------------------

typedef struct cu_list cu_list;
size_t cu_count(const cu_list *_Nonnull list);
const char *_Nonnull cu_item(const cu_list *_Nonnull list, size_t index);
void cu_free(cu_list *_Nullable list);
// The names in a folder, in byte order, without . and ..; 0 when it cannot be read.
cu_list *_Nullable cu_entries(const char *_Nonnull folder);
// Where a symbolic link points: bytes stored without the closing 0, at most size.
long cu_read_link(const char *_Nonnull path, char *_Nonnull text, size_t size);
// 1 when somebody may do that: mode 4 read, 2 write, 0 exists.
int cu_may(const char *_Nonnull path, int mode);
// Owner's number, group's number and mode of a file.
long cu_rights(const char *_Nonnull path, unsigned *_Nonnull owner, unsigned *_Nonnull group,
               unsigned *_Nonnull mode);
// The effective user; 0 is root.
unsigned cu_user(void);
long cu_page_size(void);

// ---- libudev ---------------------------------------------------------------------------------

// Loads the library once. 0, or -1 with the loader's own words.
int cu_load(const char *_Nullable *_Nonnull reason);
// The folders of all PCI devices below /sys; 0 when they cannot be listed.
cu_list *_Nullable cu_pci_folders(void);
// The symbolic links that udev rules gave the node of the device in that folder.
cu_list *_Nullable cu_node_links(const char *_Nonnull folder);

typedef struct cu_monitor cu_monitor;
// Hears of devices of pci, uio and vfio that come and go: from udevd after its rules have run, or
// from the kernel where no udevd runs. 0 on failure.
cu_monitor *_Nullable cu_monitor_open(void);
int cu_monitor_descriptor(cu_monitor *_Nonnull monitor);
// Takes the next event that has arrived: 1, or 0 when there is none.
int cu_monitor_next(cu_monitor *_Nonnull monitor);
// What it was: the action, the subsystem, the folder below /sys. Valid until the next call.
const char *_Nonnull cu_monitor_action(const cu_monitor *_Nonnull monitor);
const char *_Nonnull cu_monitor_subsystem(const cu_monitor *_Nonnull monitor);
const char *_Nonnull cu_monitor_folder(const cu_monitor *_Nonnull monitor);
void cu_monitor_close(cu_monitor *_Nonnull monitor);
