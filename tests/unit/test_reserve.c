/* SPDX-License-Identifier: ISC */
/* reserve: the space is there, and what was there stays. */
#include "reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define STEP ((off_t)65536)

static int temporary(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[200];
	int fd;

	(void)snprintf(path, sizeof(path), "%.150s/reserve-XXXXXX", tmp ? tmp : "/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

static bool has_space(int fd, off_t upto)
{
	off_t hole = lseek(fd, 0, SEEK_HOLE);

	return hole >= upto;
}

static void space_is_written_in_whole_steps(void **state)
{
	int fd = temporary();
	off_t have = 0;

	(void)state;
	assert_int_equal(reserve_upto(fd, &have, 1, STEP), 0);
	assert_int_equal(have, STEP);
	assert_int_equal(size_of(fd), STEP);
	assert_int_equal(reserve_upto(fd, &have, STEP, STEP), 0);
	assert_int_equal(size_of(fd), STEP); /* enough already */
	assert_int_equal(reserve_upto(fd, &have, STEP + 1, STEP), 0);
	assert_int_equal(size_of(fd), 2 * STEP);
	assert_int_equal(reserve_upto(fd, &have, 1000001, STEP), 0);
	assert_int_equal(have, size_of(fd));
	assert_in_range(have, 1000001, 1000001 + STEP);
	assert_true(has_space(fd, have));
	assert_int_equal(close(fd), 0);
}

static void what_was_there_stays_and_the_rest_is_zero(void **state)
{
	int fd = temporary();
	uint8_t bytes[10000], back[200000] = { 0 };
	off_t have = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
	assert_int_equal(reserve_upto(fd, &have, 150000, STEP), 0);
	assert_in_range(pread(fd, back, sizeof(back), 0), 150000, sizeof(back));
	assert_memory_equal(back, bytes, sizeof(bytes));
	for (size_t i = sizeof(bytes); i < sizeof(back); i++)
		assert_int_equal(back[i], 0);
	assert_int_equal(close(fd), 0);
}

static void holes_of_a_restored_copy_are_filled(void **state)
{
	int fd = temporary();
	uint8_t byte = 9, back = 0;
	struct stat st;
	off_t have = 0;

	(void)state;
	for (off_t at = 0; at < 40; at += 2)
		assert_int_equal(pwrite(fd, &byte, 1, at * 65536 + 5), 1);
	assert_int_equal(ftruncate(fd, 41 * 65536), 0);
	assert_int_equal(reserve_upto(fd, &have, 42 * 65536, STEP), 0);
	assert_true(has_space(fd, 42 * 65536));
	assert_int_equal(fstat(fd, &st), 0);
	assert_true((off_t)st.st_blocks * 512 >= 42 * 65536);
	for (off_t at = 0; at < 41; at++) {
		assert_int_equal(pread(fd, &back, 1, at * 65536 + 5), 1);
		assert_int_equal(back, at < 40 && at % 2 == 0 ? 9 : 0);
	}
	assert_int_equal(close(fd), 0);
}

static void a_full_disk_is_no_space_and_nothing_is_claimed(void **state)
{
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	off_t have = 0;

	(void)state;
	if (fd < 0)
		skip();
	assert_int_equal(reserve_upto(fd, &have, 1, STEP), -ENOSPC);
	assert_int_equal(have, 0);
	assert_int_equal(close(fd), 0);
}

static void other_failures_are_told_as_they_are(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), status;
	off_t have = 0;
	pid_t pid;

	(void)state;
	assert_int_equal(reserve_upto(fd, &have, 1, STEP), -EBADF);
	assert_int_equal(reserve_upto(-1, &have, 1, STEP), -EBADF);
	assert_int_equal(have, 0);
	assert_int_equal(close(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct rlimit limit = { 100000, 100000 };

		(void)signal(SIGXFSZ, SIG_IGN);
		fd = temporary();
		if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
			_exit(1);
		_exit(reserve_upto(fd, &have, 200000, STEP) == -EFBIG && have == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(space_is_written_in_whole_steps),
		cmocka_unit_test(what_was_there_stays_and_the_rest_is_zero),
		cmocka_unit_test(holes_of_a_restored_copy_are_filled),
		cmocka_unit_test(a_full_disk_is_no_space_and_nothing_is_claimed),
		cmocka_unit_test(other_failures_are_told_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
