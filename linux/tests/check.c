// SPDX-License-Identifier: GPL-2.0-only
/*
 * What linux/README.md promises, tried in a guest: check UIO VECTORS BDF.
 * Each line is "ok NAME" or "fail NAME"; the peer rings itself, so no other one is needed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REG_ID, REG_PEERS, REG_CONTROL, REG_DOORBELL, REG_STATE };
enum { RO = PROT_READ, RW = PROT_READ | PROT_WRITE };

struct map {
	char name[32];
	unsigned long size;
	unsigned int index;
};

static struct map maps[5];
static unsigned int map_count;
static char node[64], folder[96];
static long page;
static sigjmp_buf back;

static void judge(int good, const char *name)
{
	printf("%s %s\n", good ? "ok" : "fail", name);
	fflush(stdout);
}

static void on_bus_error(int number)
{
	siglongjmp(back, number);
}

static void read_line(const char *file, char *line, size_t size)
{
	char path[192];
	FILE *stream;

	snprintf(path, sizeof(path), "%s/%s", folder, file);
	stream = fopen(path, "r");
	if (!stream || !fgets(line, size, stream))
		line[0] = 0;
	if (stream)
		fclose(stream);
	line[strcspn(line, "\n")] = 0;
}

static void find_maps(void)
{
	char file[64], text[32];

	for (map_count = 0; map_count < 5; map_count++) {
		struct map *map = &maps[map_count];

		snprintf(file, sizeof(file), "maps/map%u/name", map_count);
		read_line(file, map->name, sizeof(map->name));
		if (!map->name[0])
			break;
		snprintf(file, sizeof(file), "maps/map%u/size", map_count);
		read_line(file, text, sizeof(text));
		map->size = strtoul(text, NULL, 0);
		map->index = map_count;
	}
}

static struct map *find(const char *name)
{
	unsigned int index;

	for (index = 0; index < map_count; index++)
		if (!strcmp(maps[index].name, name))
			return &maps[index];
	printf("fail map %s is there\n", name);
	exit(1);
}

static volatile uint32_t *get(int fd, const char *name, int rights)
{
	struct map *map = find(name);
	void *place = mmap(NULL, map->size, rights, MAP_SHARED, fd, map->index * page);

	return place == MAP_FAILED ? NULL : place;
}

static void drop(volatile uint32_t *place, const char *name)
{
	munmap((void *)place, find(name)->size);
}

static int is_refused(int fd, const char *name, int flags, unsigned long more)
{
	struct map *map = find(name);

	return mmap(NULL, map->size + more, more ? RO : RW, flags, fd, map->index * page) ==
		       MAP_FAILED && errno == EINVAL;
}

static void check_rights(int fd)
{
	volatile uint32_t *states = get(fd, "state_table", RO);

	judge(states != NULL, "the state table can be read");
	judge(is_refused(fd, "state_table", MAP_SHARED, 0), "not mapped for writing");
	judge(is_refused(fd, "state_table", MAP_PRIVATE, 0), "nor a private copy");
	judge(is_refused(fd, "input_sections", MAP_SHARED, 0), "nor are the inputs");
	judge(is_refused(fd, "input_sections", MAP_SHARED, page), "nothing beyond the end");
	errno = 0;
	judge(mprotect((void *)states, find("state_table")->size, RW) < 0 && errno == EACCES,
	      "mprotect is refused");
	drop(states, "state_table");
}

static void check_sections(int fd, uint32_t id)
{
	volatile uint32_t *inputs = get(fd, "input_sections", RO);
	volatile uint32_t *output = get(fd, "output_section", RW);
	volatile uint32_t *shared = get(fd, "rw_section", RW);
	unsigned long own = find("output_section")->size / 4 * id;

	judge(inputs && output && shared, "sections are mapped");
	if (!inputs || !output || !shared)
		return;
	output[3] = 0xabcd1234;
	judge(inputs[own + 3] == 0xabcd1234, "the output lies in the inputs");
	shared[5] = 7;
	judge(shared[5] == 7, "the R/W section can be written");
	drop(inputs, "input_sections");
	drop(output, "output_section");
	drop(shared, "rw_section");
}

static void check_interrupts(int fd, volatile uint32_t *registers, int vectors)
{
	struct pollfd waited = { .fd = fd, .events = POLLIN };
	uint32_t id = registers[REG_ID];
	int32_t count = 0, before = 0;
	int round;

	/* Twice over: a line that was not taken back would come at once, or never again. */
	for (round = 0; round < 2 * vectors; round++) {
		registers[REG_CONTROL] = 1;
		registers[REG_DOORBELL] = id << 16 | (uint32_t)(round % vectors);
		judge(poll(&waited, 1, 20000) == 1 && read(fd, &count, 4) == 4 && count > before,
		      "an interrupt is counted");
		judge(registers[REG_CONTROL] == 0, "one-shot mode is on");
		before = count;
	}
	judge(count == 2 * vectors, "none is counted twice");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	errno = 0;
	judge(read(fd, &count, 4) < 0 && errno == EAGAIN, "then there is nothing to read");
	errno = 0;
	judge(write(fd, &count, 4) < 0 && errno == ENOSYS, "write is ENOSYS");
}

static uint32_t state_of(uint32_t id)
{
	int fd = open(node, O_RDWR);
	volatile uint32_t *states = get(fd, "state_table", RO);
	uint32_t state = states ? states[id] : ~0u;

	drop(states, "state_table");
	close(fd);
	return state;
}

static void check_closing(int fd, volatile uint32_t *registers)
{
	uint32_t id = registers[REG_ID];
	pid_t child;

	registers[REG_STATE] = 5;
	judge(state_of(id) == 5, "the state is in the table");
	judge(state_of(id) == 5 && registers[REG_STATE] == 5, "a tool's close does not reset it");
	close(fd);
	judge(state_of(id) == 5, "nor does the owner's while it has a mapping");
	drop(registers, "registers");
	judge(state_of(id) == 0, "the last close does");

	fd = open(node, O_RDWR);
	registers = get(fd, "registers", RW);
	registers[REG_STATE] = 9;
	child = fork();
	if (!child) {
		pause();
		_exit(0);
	}
	drop(registers, "registers");
	close(fd);
	judge(state_of(id) == 9, "a child holds the device");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	judge(state_of(id) == 0, "its end resets the state");
}

static void tell_driver(const char *what, const char *bdf)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/uio_ivshmem/%s", what);
	fd = open(path, O_WRONLY);
	judge(fd >= 0 && write(fd, bdf, strlen(bdf)) > 0, what);
	close(fd);
}

static void check_removal(const char *bdf)
{
	int fd = open(node, O_RDWR);
	volatile uint32_t *registers = get(fd, "registers", RW);
	volatile uint32_t *states = get(fd, "state_table", RO);
	uint32_t id = registers[REG_ID], value = 0;
	int32_t count;

	registers[REG_STATE] = 6;
	signal(SIGBUS, on_bus_error);
	tell_driver("unbind", bdf);
	if (!sigsetjmp(back, 1)) {
		value = states[id];
		judge(0, "a section of a device that is gone is SIGBUS");
	} else {
		judge(1, "a section of a device that is gone is SIGBUS");
	}
	if (!sigsetjmp(back, 1)) {
		registers[REG_STATE] = value;
		judge(0, "so are its registers");
	} else {
		judge(1, "so are its registers");
	}
	errno = 0;
	judge(read(fd, &count, 4) < 0 && errno == EIO, "read is EIO");
	judge(mmap(NULL, page, RO, MAP_SHARED, fd, 0) == MAP_FAILED, "nothing is mapped anew");
	tell_driver("bind", bdf);
	close(fd);
	judge(state_of(id) == 0, "it was reset and comes back");
}

/* Uses the device as fast as it can while it goes and comes: errors are expected, harm is not. */
static void use_until_killed(void)
{
	volatile uint32_t *volatile states;
	volatile uint32_t seen;
	int32_t count;
	volatile int fd;

	signal(SIGBUS, on_bus_error);
	for (;;) {
		fd = open(node, O_RDWR | O_NONBLOCK);
		states = fd >= 0 ? get(fd, "state_table", RO) : NULL;
		if (states && !sigsetjmp(back, 1))
			seen = states[0];
		if (states)
			drop(states, "state_table");
		if (fd >= 0 && read(fd, &count, 4) == 4)
			seen = (uint32_t)count;
		(void)seen;
		close(fd);
	}
}

static void check_races(const char *bdf)
{
	pid_t users[3];
	int index, fd, is_there;

	for (index = 0; index < 3; index++) {
		users[index] = fork();
		if (!users[index])
			use_until_killed();
	}
	for (index = 0; index < 20; index++) {
		tell_driver("unbind", bdf);
		tell_driver("bind", bdf);
	}
	for (index = 0; index < 3; index++) {
		kill(users[index], SIGKILL);
		waitpid(users[index], NULL, 0);
	}
	fd = open(node, O_RDWR);
	is_there = fd >= 0 && get(fd, "registers", RW) != NULL;
	judge(is_there, "the device survives users that do not know");
	close(fd);
}

int main(int count, char **words)
{
	char name[48], expected[48];
	volatile uint32_t *registers;
	int fd;

	if (count != 4)
		return 2;
	page = sysconf(_SC_PAGESIZE);
	snprintf(node, sizeof(node), "/dev/%.16s", words[1]);
	snprintf(folder, sizeof(folder), "/sys/class/uio/%.16s", words[1]);
	read_line("name", name, sizeof(name));
	snprintf(expected, sizeof(expected), "uio_ivshmem[%.16s]", words[3]);
	judge(!strcmp(name, expected), "the name");
	find_maps();
	judge(map_count == 5 && find("registers")->index == 0, "five maps, registers first");
	fd = open(node, O_RDWR);
	registers = fd >= 0 ? get(fd, "registers", RW) : NULL;
	judge(registers != NULL, "registers are mapped");
	if (!registers)
		return 1;
	judge(registers[REG_ID] < registers[REG_PEERS], "the link answers");
	check_rights(fd);
	check_sections(fd, registers[REG_ID]);
	check_interrupts(fd, registers, atoi(words[2]));
	check_closing(fd, registers);
	check_removal(words[3]);
	check_races(words[3]);
	return 0;
}
