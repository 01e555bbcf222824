// SPDX-License-Identifier: Apache-2.0
//
// What the platforms of real devices need of Linux and Swift cannot spell: windows of a
// descriptor, locks on names, the calls of VFIO. Each function returns what the call returns, or
// -errno; nothing here decides anything.
#pragma once
#include <stddef.h>
#include <stdint.h>

// ---- descriptors -----------------------------------------------------------------------------

// The system's page size.
uint64_t cd_page_size(void);
// Maps size bytes of fd from offset over reserved addresses, for reading or also for writing.
long cd_map_at(void *_Nonnull at, size_t size, int writable, int fd, uint64_t offset);
// Copies count bytes from offset of a mapping, as 32-bit words that are each loaded once; offset and
// count are multiples of 4. Registers bear nothing else, and other memory is not torn inside a word.
void cd_load_words(
    const volatile void *_Nonnull base, size_t offset, void *_Nonnull out, size_t count);
// One 32-bit or 64-bit word of a mapping; offset is a multiple of its size. What was stored before it
// by whoever stored it is visible afterwards.
uint32_t cd_load32(const volatile void *_Nonnull base, size_t offset);
uint64_t cd_load64(const volatile void *_Nonnull base, size_t offset);
// Major and minor number of the device behind fd; -ENODEV when it is none.
long cd_device_number(int fd, unsigned *_Nonnull major, unsigned *_Nonnull minor);
// 1 when path is a folder.
int cd_is_folder(const char *_Nonnull path);
long cd_make_folder(const char *_Nonnull path, unsigned mode);
// Opens or makes the file at path, never through a symbolic link, and locks it as a whole. On
// success the descriptor; the file then holds this process' number. -EBUSY when somebody else has
// the lock, and *holder is the number in the file, 0 when it is none.
long cd_lock_name(const char *_Nonnull path, int *_Nonnull holder);
// Reads the 4 bytes that a UIO node counts with.
long cd_read_count(int fd);

// ---- VFIO (Documentation/driver-api/vfio.rst) --------------------------------------------------

enum {
  CD_REGION_REGISTERS = 0,
  CD_REGION_SECTIONS = 2,
  CD_REGION_CONFIGURATION = 7,
  CD_IRQ_LINE = 0,
  CD_IRQ_MSI = 1,
  CD_IRQ_MSIX = 2,
  CD_IRQ_REQUEST = 4,
  CD_MAX_VECTORS = 32
};
struct cd_region {
  uint64_t size;
  uint64_t offset;
  int may_read;
  int may_write;
  int may_map;
};
// 0 when this container has the interface of version 0 and an IOMMU of type 1.
long cd_container_check(int container);
// 1 when all devices of the group are in safe hands, 0 when not.
long cd_group_viable(int group);
// Gives the group to the container, and the container its IOMMU.
long cd_group_attach(int group, int container);
// The device of that name, "0000:00:03.0".
long cd_device_open(int group, const char *_Nonnull name);
// Whether fd is a PCI device of VFIO: 1 or 0.
long cd_device_is_pci(int device);
long cd_region_facts(int device, unsigned index, struct cd_region *_Nonnull out);
// How many interrupts of that kind the device has; 0 when the kind is unknown.
long cd_irq_count(int device, unsigned index);
// Signals fds[i] for interrupt i of that kind.
long cd_irq_set(int device, unsigned index, const int *_Nonnull fds, unsigned count);
// Switches interrupts of that kind off.
long cd_irq_clear(int device, unsigned index);
// Lets the line interrupt once more; it is masked by each delivery.
long cd_irq_unmask(int device);
