/* SPDX-License-Identifier: ISC */
/* keyringfs: what the kernel says of a file system is understood. */
#include "keyringfs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

static void the_mounts_own_options_tell_data_journal(void **state)
{
	(void)state;
	assert_int_equal(keyringfs_mount_line("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext4 "
					      "/dev/root rw,errors=continue,data=journal\n",
					      98, 0),
			 KEYRINGFS_DATA_JOURNAL);
	assert_int_equal(
		keyringfs_mount_line("36 35 98:0 / / rw - ext4 /dev/vda data=journal", 98, 0),
		KEYRINGFS_DATA_JOURNAL);
	assert_int_equal(keyringfs_mount_line("27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda "
					      "rw,discard,errors=remount-ro\n",
					      254, 0),
			 KEYRINGFS_PLAIN);
	assert_int_equal(keyringfs_mount_line("1 1 8:1 / / rw - ext4 x rw,data=journalled\n", 8, 1),
			 KEYRINGFS_PLAIN);
	assert_int_equal(keyringfs_mount_line("1 1 8:1 / / rw - ext4 data=journal rw\n", 8, 1),
			 KEYRINGFS_PLAIN);
	/* Names of directories and devices hold no plain space (\040), but may look like options. */
	assert_int_equal(keyringfs_mount_line("1 1 8:1 / /a,data=journal rw shared:2 master:1 "
					      "propagate_from:2 - ext4 /dev/sda1 rw\n",
					      8, 1),
			 KEYRINGFS_PLAIN);
	assert_int_equal(
		keyringfs_mount_line("1 1 8:1 /- - rw - ext4 /dev/sda1 data=journal\n", 8, 1),
		KEYRINGFS_DATA_JOURNAL);
}

/* tune2fs -o journal_data: the option is not shown, what it switches off is. */
static void a_default_of_the_superblock_is_doubted(void **state)
{
	static const char *const doubtful[] = {
		"43 27 7:0 / /m rw,relatime - ext4 /dev/loop0 rw,nodioread_nolock,nodelalloc\n",
		"43 27 7:0 / /m rw,relatime - ext4 /dev/loop0 rw,nodelalloc\n",
		"43 27 7:0 / /m rw,relatime - ext3 /dev/loop0 rw\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(doubtful) / sizeof(doubtful[0]); i++)
		assert_int_equal(keyringfs_mount_line(doubtful[i], 7, 0), KEYRINGFS_DOUBTFUL);
	assert_int_equal(keyringfs_mount_line("43 27 7:0 / /m rw - ext2 /dev/loop0 rw\n", 7, 0),
			 KEYRINGFS_PLAIN);
	assert_int_equal(keyringfs_mount_line("43 27 7:0 / /m rw - ext3 x data=journal\n", 7, 0),
			 KEYRINGFS_DATA_JOURNAL);
}

static void other_devices_and_broken_lines_say_nothing(void **state)
{
	static const char *const other[] = {
		"36 35 98:1 / / rw - ext4 /dev/root rw,data=journal\n",
		"36 35 198:0 / / rw - ext4 /dev/root rw,data=journal\n",
		"36 35 98:00 / / rw - ext4 /dev/root rw,data=journal\n",
		"98:0 98:0 1:1 / / rw - ext4 /dev/root rw,data=journal\n",
		"36 35 98:0 / / rw - ext4 /dev/root",
		"36 35 98:0 / / rw ext4 /dev/root rw\n",
		"36 35 98:0 / /",
		"36 35 98:0",
		"36 35",
		" ",
		"\n",
		"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		assert_int_equal(keyringfs_mount_line(other[i], 98, 0), KEYRINGFS_OTHER);
}

static void what_is_no_file_system_on_a_disk_is_weak(void **state)
{
	int pipes[2];

	(void)state;
	assert_true(keyringfs_weak(-1));
	assert_int_equal(pipe(pipes), 0);
	assert_true(keyringfs_weak(pipes[0]));
	(void)close(pipes[0]);
	(void)close(pipes[1]);
}

static void a_file_on_tmpfs_is_strong(void **state)
{
	char path[] = "/dev/shm/keyringfs.XXXXXX";
	struct statfs fs;
	int fd;

	(void)state;
	if (statfs("/dev/shm", &fs) < 0 || fs.f_type != 0x01021994)
		skip();
	fd = mkstemp(path);
	if (fd < 0)
		skip();
	(void)unlink(path);
	assert_false(keyringfs_weak(fd));
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mounts_own_options_tell_data_journal),
		cmocka_unit_test(a_default_of_the_superblock_is_doubted),
		cmocka_unit_test(other_devices_and_broken_lines_say_nothing),
		cmocka_unit_test(what_is_no_file_system_on_a_disk_is_weak),
		cmocka_unit_test(a_file_on_tmpfs_is_strong),
	};

	return cmocka_run_group_tests_name("keyringfs", tests, NULL, NULL);
}
