/* SPDX-License-Identifier: ISC */
/*
 * keyring: keys are there once they are durable, gone once they are destroyed,
 * and no crash, torn write or failed sync makes either untrue.
 *
 * pwrite() and fdatasync() are this file's own, in front of libc's: they record
 * what is written, fail when told to, and spare the disk the syncs.
 */
#include "keyring.h"

#include "calendar.h"
#include "keyslot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nolog/frame.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

/* A sanitizer's shadow and quarantine cannot be searched for keys. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define TODAY 20779
#define MONTH 202611
#define NOW_MS (TODAY * CALENDAR_DAY_MS)
#define FILE_SIZE (2 * KEYSLOT_SIZE)
#define SLOT KEYSLOT_SIZE

/* --- The disk that is told to fail --- */

#define OPS_MAX 8

struct op {
	bool sync;
	off_t at;
	uint8_t data[SLOT];
};

static struct {
	bool recording;
	struct op ops[OPS_MAX];
	size_t count;	      /* of writes and syncs since reset */
	size_t fail_at;	      /* which of them fails; SIZE_MAX: none */
	bool cut;	      /* it writes half before it fails */
	bool mend;	      /* ... and then goes on */
	int wait_fd, tell_fd; /* a sync tells and waits, unless 0 */
} disk = { .fail_at = SIZE_MAX };

static void disk_reset(void)
{
	memset(&disk, 0, sizeof(disk));
	disk.fail_at = SIZE_MAX;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	size_t n = disk.count++;

	if (n == disk.fail_at) {
		if (!disk.cut) {
			errno = EIO;
			return -1;
		}
		len /= 2; /* a short write; the next one fails, or not */
		disk.cut = false;
		disk.fail_at = disk.mend ? SIZE_MAX : n + 1;
	}
	if (disk.recording && n < OPS_MAX && len <= SLOT) {
		disk.ops[n].sync = false;
		disk.ops[n].at = at;
		memcpy(disk.ops[n].data, buf, len);
	}
	return syscall(SYS_pwrite64, fd, buf, len, at);
}

int fdatasync(int fd)
{
	size_t n = disk.count++;
	char c = 0;

	(void)fd;
	if (n == disk.fail_at) {
		errno = EIO;
		return -1;
	}
	if (disk.recording && n < OPS_MAX)
		disk.ops[n].sync = true;
	if (disk.wait_fd && (write(disk.tell_fd, &c, 1) != 1 || read(disk.wait_fd, &c, 1) != 1))
		abort();
	return 0;
}

/* --- A directory of its own for each test --- */

struct place {
	char dir[256];
	char path[300];
};

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	(void)snprintf(p->dir, sizeof(p->dir), "%s/keyring.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(p->dir))
		return -1;
	(void)snprintf(p->path, sizeof(p->path), "%s/keyring", p->dir);
	disk_reset();
	*state = p;
	return 0;
}

static size_t dir_clear(const char *path, bool remove)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	size_t n = 0;

	if (!d)
		abort();
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		n++;
		if (remove && unlinkat(dirfd(d), e->d_name, 0) < 0 &&
		    unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) < 0)
			abort();
	}
	(void)closedir(d);
	return n;
}

static int tear_down(void **state)
{
	struct place *p = *state;

	(void)dir_clear(p->dir, true);
	(void)rmdir(p->dir);
	free(p);
	return 0;
}

static struct keyring *create(const struct place *p)
{
	struct keyring *k = NULL;
	struct fault fault = { 0 };
	int r = keyring_create(&k, p->path, TODAY, MONTH, NOW_MS, &fault);

	if (r < 0)
		fail_msg("keyring_create: %d %s", r, fault.what);
	return k;
}

static struct keyring *reopen(const struct place *p, struct keyring *k)
{
	struct fault fault = { 0 };
	int r;

	keyring_close(k);
	k = NULL;
	r = keyring_open(&k, p->path, &fault);
	if (r < 0)
		fail_msg("keyring_open: %d %s", r, fault.what);
	assert_int_equal(keyring_settle(k), 0);
	return k;
}

static void image_read(const struct place *p, uint8_t out[FILE_SIZE])
{
	int fd = open(p->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, out, FILE_SIZE, 0), FILE_SIZE);
	(void)close(fd);
}

static void image_write(const struct place *p, const uint8_t in[FILE_SIZE])
{
	int fd = open(p->path, O_WRONLY | O_CLOEXEC | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(syscall(SYS_pwrite64, fd, in, FILE_SIZE, 0), FILE_SIZE);
	(void)close(fd);
}

static bool holds(const uint8_t *hay, size_t len, const void *needle, size_t needle_len)
{
	return memmem(hay, len, needle, needle_len) != NULL;
}

static bool file_holds(const struct place *p, const void *needle, size_t len)
{
	uint8_t image[FILE_SIZE];
	bool r;

	image_read(p, image);
	r = holds(image, sizeof(image), needle, len);
	seal_wipe(image, sizeof(image));
	return r;
}

static void assert_slots_alike(const struct place *p)
{
	static struct keyslot s;
	uint8_t image[FILE_SIZE];

	image_read(p, image);
	assert_memory_equal(image, image + SLOT, SLOT);
	assert_int_equal(keyslot_decode(&s, image), 0);
	seal_wipe(&s, sizeof(s));
}

/* --- Making and opening --- */

static void a_new_keyring_is_private_and_opens_again(void **state)
{
	struct place *p = *state;
	mode_t mask = umask(0);
	struct keyring *k = create(p);
	uint8_t store[SEAL_STORE_SIZE], again[SEAL_STORE_SIZE];
	struct keyring_journal j;
	struct keyring_meters m;
	struct stat st;

	(void)umask(mask);
	assert_int_equal(stat(p->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_size, FILE_SIZE);
	assert_int_equal(dir_clear(p->dir, false), 1);
	assert_slots_alike(p);
	keyring_store(k, store);
	k = reopen(p, k);
	keyring_store(k, again);
	assert_memory_equal(store, again, sizeof(store));
	assert_int_equal(keyring_generation(k), 2);
	assert_false(keyring_repaired(k));
	assert_int_equal(keyring_newest_day(k), TODAY);
	assert_int_equal(keyring_first_day(k), TODAY - 89);
	assert_int_equal(keyring_days(k, NULL, 0), 0);
	assert_int_equal(keyring_month(k), MONTH);
	assert_false(keyring_month_turning(k));
	assert_int_equal(keyring_held_ms(k), 0);
	keyring_meters(k, &m);
	assert_int_equal(m.generation, 1);
	assert_int_equal(m.old_generation, 0);
	assert_int_equal(m.created_ms, NOW_MS);
	for (int book = 0; book < 2; book++) {
		keyring_journal_info(k, (enum keyring_book)book, &j);
		assert_int_equal(j.epoch, 1);
		assert_int_equal(j.created_ms, NOW_MS);
		assert_int_equal(j.old_epoch, 0);
	}
	keyring_close(k);
	keyring_close(NULL);
}

static void a_new_keyring_never_replaces_anything(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	struct fault fault;

	image_read(p, before);
	keyring_close(k);
	k = NULL;
	assert_int_equal(keyring_create(&k, p->path, TODAY, MONTH, NOW_MS, &fault), -EEXIST);
	assert_null(k);
	assert_int_equal(fault.error, -EEXIST);
	image_read(p, after);
	assert_memory_equal(before, after, FILE_SIZE);
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(symlink("elsewhere", p->path), 0);
	assert_int_equal(keyring_create(&k, p->path, TODAY, MONTH, NOW_MS, &fault), -EEXIST);
	assert_int_equal(dir_clear(p->dir, false), 1);
}

static void a_keyring_that_could_not_be_made_leaves_nothing(void **state)
{
	struct place *p = *state;
	struct keyring *k = NULL;
	struct fault fault;

	for (size_t n = 0; n < 4; n++) {
		disk_reset();
		disk.fail_at = n;
		assert_int_equal(keyring_create(&k, p->path, TODAY, MONTH, NOW_MS, &fault), -EIO);
		assert_null(k);
		assert_int_equal(dir_clear(p->dir, false), 0);
	}
	disk_reset();
	assert_int_equal(keyring_create(&k, p->path, TODAY, 202613, NOW_MS, &fault), -EINVAL);
	assert_int_equal(keyring_create(&k, p->path, -1, MONTH, NOW_MS, &fault), -EINVAL);
	assert_int_equal(keyring_create(&k, p->path, INT32_MAX, MONTH, NOW_MS, NULL), -EINVAL);
	assert_int_equal(keyring_create(&k, "/nonexistent/x/keyring", TODAY, MONTH, NOW_MS, &fault),
			 -ENOENT);
	assert_int_equal(keyring_create(&k, p->dir, TODAY, MONTH, NOW_MS, &fault), -EEXIST);
	assert_int_equal(dir_clear(p->dir, false), 0);
	assert_null(k);
}

static int open_error(const struct place *p)
{
	struct fault fault = { 0 };
	struct keyring *k = NULL;
	int r = keyring_open(&k, p->path, &fault);

	assert_null(k);
	assert_int_equal(fault.error, r);
	assert_non_null(fault.what);
	assert_string_equal(fault.file, "keyring");
	assert_int_equal(keyring_open_readonly(&k, p->path, NULL), r);
	assert_null(k);
	return r;
}

static void only_a_private_plain_file_of_ones_own_is_opened(void **state)
{
	struct place *p = *state;
	char other[320];

	(void)snprintf(other, sizeof(other), "%s/other", p->dir);
	assert_int_equal(open_error(p), -ENOENT);
	assert_int_equal(mkdir(p->path, 0700), 0);
	assert_int_equal(open_error(p), -EACCES);
	assert_int_equal(rmdir(p->path), 0);
	assert_int_equal(mkfifo(p->path, 0600), 0);
	assert_int_equal(open_error(p), -EACCES);
	assert_int_equal(unlink(p->path), 0);
	keyring_close(create(p));
	for (mode_t bit = 1; bit <= 040; bit <<= 1) {
		assert_int_equal(chmod(p->path, 0600 | bit), 0);
		assert_int_equal(open_error(p), -EACCES);
	}
	assert_int_equal(chmod(p->path, 0600), 0);
	assert_int_equal(link(p->path, other), 0);
	assert_int_equal(open_error(p), -EACCES);
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(symlink("other", p->path), 0);
	assert_int_equal(open_error(p), -EACCES);
	assert_int_equal(rename(other, p->path), 0);
	keyring_close(reopen(p, NULL));
}

static void a_file_of_another_user_is_refused(void **state)
{
	struct place *p = *state;
	struct keyring *k = NULL;

	if (geteuid() != 0)
		skip();
	keyring_close(create(p));
	assert_int_equal(chown(p->path, 65534, 65534), 0);
	assert_int_equal(open_error(p), -EACCES);
	/* Root takes it from whom the directory belongs to: the daemon's user. */
	assert_int_equal(chown(p->dir, 65534, 65534), 0);
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	keyring_close(k);
}

static void a_keyring_in_use_cannot_be_opened_for_writing(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p), *second = NULL;

	assert_int_equal(keyring_open(&second, p->path, NULL), -EBUSY);
	k = reopen(p, k);
	assert_int_equal(keyring_open(&second, p->path, NULL), -EBUSY);
	assert_int_equal(keyring_open_readonly(&second, p->path, NULL), 0);
	keyring_close(second);
	keyring_close(k);
}

static void opening_writes_nothing_and_settling_once(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t before[FILE_SIZE], after[FILE_SIZE];

	keyring_close(k);
	image_read(p, before);
	disk_reset();
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	keyring_close(k);
	assert_int_equal(disk.count, 0);
	image_read(p, after);
	assert_memory_equal(before, after, FILE_SIZE);
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	assert_int_equal(keyring_settle(k), 0);
	assert_int_equal(disk.count, 4);
	assert_int_equal(keyring_settle(k), 0);
	assert_int_equal(disk.count, 4);
	keyring_close(k);
	/* A change settles too: the damaged slot first, the whole one last. */
	image_read(p, before);
	before[100] ^= 1;
	image_write(p, before);
	disk_reset();
	disk.fail_at = 1;
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	assert_true(keyring_repaired(k));
	assert_int_equal(keyring_held_set(k, 5), -EIO);
	keyring_close(k);
	image_read(p, after);
	assert_memory_equal(before + SLOT, after + SLOT, SLOT);
	disk_reset();
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	assert_int_equal(keyring_held_set(k, 6), 0);
	disk_reset();
	assert_int_equal(keyring_settle(k), 0);
	assert_int_equal(disk.count, 0);
	keyring_close(k);
	assert_slots_alike(p);
}

static void looking_only_writes_nothing(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t before[FILE_SIZE], after[FILE_SIZE];
	struct seal_key key, same;

	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	keyring_close(k);
	image_read(p, before);
	before[SLOT + 100] ^= 1; /* which would be repaired */
	image_write(p, before);
	disk_reset();
	assert_int_equal(keyring_open_readonly(&k, p->path, NULL), 0);
	assert_true(keyring_repaired(k));
	assert_int_equal(keyring_day(k, TODAY, &same), 0);
	assert_memory_equal(&key, &same, sizeof(key));
	assert_int_equal(keyring_day_make(k, TODAY, &same), 0);
	assert_int_equal(keyring_day_make(k, TODAY - 1, &same), -EROFS);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, TODAY), -EROFS);
	assert_int_equal(keyring_held_set(k, 1), -EROFS);
	assert_int_equal(disk.count, 0);
	keyring_close(k);
	image_read(p, after);
	assert_memory_equal(before, after, FILE_SIZE);
}

static void files_of_another_size_are_damage(void **state)
{
	static const off_t sizes[] = { 0, 1, SLOT, FILE_SIZE - 1, FILE_SIZE + 1, 3 * SLOT };
	struct place *p = *state;

	keyring_close(create(p));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(truncate(p->path, sizes[i]), 0);
		assert_int_equal(open_error(p), -EBADMSG);
	}
}

static void one_damaged_slot_is_repaired_from_the_other(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t image[FILE_SIZE];
	struct seal_key key, same;

	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	for (size_t slot = 0; slot < 2; slot++) {
		image_read(p, image);
		memset(image + slot * SLOT, 0, SLOT);
		keyring_close(k);
		image_write(p, image);
		k = reopen(p, NULL);
		assert_true(keyring_repaired(k));
		assert_int_equal(keyring_day(k, TODAY, &same), 0);
		assert_memory_equal(&key, &same, sizeof(key));
		assert_slots_alike(p);
		k = reopen(p, k);
		assert_false(keyring_repaired(k));
	}
	keyring_close(k);
}

static void two_damaged_slots_are_refused_and_left_alone(void **state)
{
	struct place *p = *state;
	uint8_t image[FILE_SIZE], after[FILE_SIZE];

	keyring_close(create(p));
	image_read(p, image);
	image[200] ^= 4;
	image[SLOT + 201] ^= 4;
	image_write(p, image);
	assert_int_equal(open_error(p), -EBADMSG);
	image_read(p, after);
	assert_memory_equal(image, after, FILE_SIZE);
}

/* Changes one byte of a slot and makes its checksum right again. */
static void slot_change(uint8_t *slot, size_t at, uint8_t value)
{
	slot[at] = value;
	seal_digest(slot + SLOT - 32, slot, SLOT - 32);
}

static void another_format_version_is_told_and_left_alone(void **state)
{
	struct place *p = *state;
	uint8_t good[FILE_SIZE], image[FILE_SIZE], after[FILE_SIZE];

	keyring_close(create(p));
	image_read(p, good);
	for (int which = 1; which <= 3; which++) {
		memcpy(image, good, FILE_SIZE);
		if (which & 1)
			slot_change(image, 8, SEAL_FORMAT + 1);
		if (which & 2)
			slot_change(image + SLOT, 8, SEAL_FORMAT + 1);
		image_write(p, image);
		assert_int_equal(open_error(p), -EPROTO);
		image_read(p, after);
		assert_memory_equal(image, after, FILE_SIZE);
	}
}

static void slots_of_one_generation_that_differ_are_refused(void **state)
{
	struct place *p = *state;
	uint8_t image[FILE_SIZE];

	keyring_close(create(p));
	image_read(p, image);
	slot_change(image, 48, 1); /* held_ms */
	image_write(p, image);
	assert_int_equal(open_error(p), -EBADMSG);
}

static void the_last_generation_is_never_passed(void **state)
{
	struct place *p = *state;
	uint8_t image[FILE_SIZE];
	struct keyring *k = NULL;

	keyring_close(create(p));
	image_read(p, image);
	for (size_t slot = 0; slot < 2; slot++) {
		nolog_put64(image + slot * SLOT + 16, INT64_MAX);
		slot_change(image + slot * SLOT, 0, 'n');
	}
	image_write(p, image);
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	assert_int_equal(keyring_settle(k), -EINVAL);
	keyring_close(k);
	assert_true(file_holds(p, image, SLOT));
}

/* --- Days --- */

static void a_days_key_is_made_once_and_durable_in_both_slots(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key a, b, c;
	uint8_t image[FILE_SIZE];
	int32_t days[4];

	assert_int_equal(keyring_day(k, TODAY, &a), -ENOKEY);
	assert_int_equal(keyring_day_make(k, TODAY, &a), 0);
	assert_int_equal(keyring_day_make(k, TODAY - 5, &b), 0);
	assert_int_equal(keyring_day_make(k, TODAY + 1, &c), 0);
	assert_memory_not_equal(&a, &b, sizeof(a));
	image_read(p, image);
	for (size_t slot = 0; slot < 2; slot++) {
		assert_true(holds(image + slot * SLOT, SLOT, &a, sizeof(a)));
		assert_true(holds(image + slot * SLOT, SLOT, &b, sizeof(b)));
		assert_true(holds(image + slot * SLOT, SLOT, &c, sizeof(c)));
	}
	k = reopen(p, k);
	assert_int_equal(keyring_day(k, TODAY, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(keyring_day_make(k, TODAY, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(keyring_days(k, days, 4), 3);
	assert_int_equal(days[0], TODAY - 5);
	assert_int_equal(days[1], TODAY);
	assert_int_equal(days[2], TODAY + 1);
	days[1] = 0;
	assert_int_equal(keyring_days(k, days, 1), 3);
	assert_int_equal(days[1], 0);
	keyring_close(k);
}

static void days_outside_the_keyrings_range_get_no_key(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key = { { 77 } };

	disk_reset();
	assert_int_equal(keyring_day_make(k, TODAY + 2, &key), -ERANGE);
	assert_int_equal(keyring_day_make(k, INT32_MAX, &key), -ERANGE);
	assert_int_equal(keyring_day_make(k, TODAY - 90, &key), -ESTALE);
	assert_int_equal(keyring_day_make(k, INT32_MIN, &key), -ESTALE);
	assert_int_equal(key.bytes[0], 77);
	assert_int_equal(disk.count, 0);
	for (int32_t day = TODAY + 1; day >= TODAY - 89; day--)
		assert_int_equal(keyring_day_make(k, day, &key), 0);
	assert_int_equal(keyring_days(k, NULL, 0), 91);
	k = reopen(p, k);
	assert_int_equal(keyring_days(k, NULL, 0), 91);
	keyring_close(k);
}

static void forgotten_days_never_come_back(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key;

	for (int32_t day = TODAY - 9; day <= TODAY; day++)
		assert_int_equal(keyring_day_make(k, day, &key), 0);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, TODAY - 4), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(keyring_newest_day(k), TODAY + 1);
		assert_int_equal(keyring_first_day(k), TODAY - 4);
		assert_int_equal(keyring_days(k, NULL, 0), 5);
		assert_int_equal(keyring_day(k, TODAY - 5, &key), -ENOKEY);
		assert_int_equal(keyring_day_make(k, TODAY - 5, &key), -ESTALE);
		assert_int_equal(keyring_day(k, TODAY - 4, &key), 0);
		/* A clock set back, a longer retention: nothing returns. */
		disk_reset();
		assert_int_equal(keyring_forget_days(k, TODAY - 50, TODAY - 89), 0);
		assert_int_equal(disk.count, 0);
		k = reopen(p, k);
	}
	keyring_close(k);
}

static void no_day_outlives_the_ninety_whatever_the_horizon(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key;

	for (int32_t day = TODAY - 89; day <= TODAY; day++)
		assert_int_equal(keyring_day_make(k, day, &key), 0);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, 0), 0);
	assert_int_equal(keyring_first_day(k), TODAY - 88);
	assert_int_equal(keyring_days(k, NULL, 0), 89);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, TODAY + 2), -ERANGE);
	assert_int_equal(keyring_forget_days(k, INT32_MAX, 0), -ERANGE);
	assert_int_equal(keyring_forget_days(k, TODAY + 500, TODAY + 500), 0);
	assert_int_equal(keyring_days(k, NULL, 0), 0);
	keyring_close(k);
}

/* --- A destroyed key is nowhere --- */

#define MASK 0x5a

struct masked {
	uint8_t bytes[SEAL_KEY_SIZE];
};

/* So that the search does not find what it looks for in the searcher. */
static void mask(struct masked *m, struct seal_key *key)
{
	for (size_t i = 0; i < SEAL_KEY_SIZE; i++)
		m->bytes[i] = key->bytes[i] ^ MASK;
	seal_wipe(key, sizeof(*key));
}

static bool masked_in(const uint8_t *hay, size_t len, const struct masked *m)
{
	for (size_t i = 0; i + 16 <= len; i++) {
		size_t n = 0;

		/* Half a key is a find, too. */
		while (n < 16 && (hay[i + n] ^ MASK) == m->bytes[n])
			n++;
		if (n == 16)
			return true;
	}
	return false;
}

static bool range_holds(int mem, unsigned long from, unsigned long to, const struct masked *m)
{
	static uint8_t chunk[65536];

	while (from + 16 <= to) {
		size_t want = to - from < sizeof(chunk) ? to - from : sizeof(chunk);
		ssize_t n = pread(mem, chunk, want, (off_t)from);
		bool found;

		if (n < 16)
			return false; /* a guard page */
		found = masked_in(chunk, (size_t)n, m);
		seal_wipe(chunk, sizeof(chunk));
		if (found)
			return true;
		from += (unsigned long)n - 15;
	}
	return false;
}

static bool memory_holds(const struct masked *m)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char line[512], mode[8];
	unsigned long from, to;
	bool found = false;

	assert_true(maps && mem >= 0);
	while (!found && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3 && mode[1] == 'w')
			found = range_holds(mem, from, to, m);
	(void)fclose(maps);
	(void)close(mem);
	return found;
}

static bool masked_file_holds(const struct place *p, const struct masked *m)
{
	uint8_t image[FILE_SIZE];
	bool r;

	image_read(p, image);
	r = masked_in(image, sizeof(image), m);
	seal_wipe(image, sizeof(image));
	return r;
}

/* Key by key: days, journals of both books. */
static void a_destroyed_key_is_in_no_byte_of_file_and_memory(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct masked m[3];
	struct seal_key key;

	assert_int_equal(keyring_day_make(k, TODAY - 1, &key), 0);
	mask(&m[0], &key);
	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	seal_wipe(&key, sizeof(key));
	for (int book = 0; book < 2; book++) {
		assert_int_equal(keyring_journal(k, (enum keyring_book)book, 1, &key), 0);
		mask(&m[1 + book], &key);
		assert_int_equal(keyring_journal_renew(k, (enum keyring_book)book, NOW_MS), 0);
	}
	k = reopen(p, k);
	for (int i = 0; i < 3; i++) {
		assert_true(masked_file_holds(p, &m[i]));
		assert_true(SANITIZED || memory_holds(&m[i])); /* the search finds what is there */
	}
	assert_int_equal(keyring_forget_days(k, TODAY, TODAY), 0);
	assert_int_equal(keyring_journal_drop(k, KEYRING_SESSIONS), 0);
	assert_int_equal(keyring_journal_drop(k, KEYRING_USAGE), 0);
	for (int i = 0; i < 3; i++) {
		assert_false(masked_file_holds(p, &m[i]));
		assert_true(SANITIZED || !memory_holds(&m[i]));
	}
	keyring_close(k);
}

static void after_closing_no_key_is_in_memory(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key;
	struct masked m;

	if (SANITIZED) {
		keyring_close(k);
		skip();
	}
	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	mask(&m, &key);
	keyring_close(k);
	assert_false(memory_holds(&m));
	assert_true(masked_file_holds(p, &m));
}

/* --- Journals, months, meters --- */

static void a_journal_has_at_most_two_keys(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key first, second, other, key;
	struct keyring_journal j;

	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 1, &first), 0);
	assert_int_equal(keyring_journal(k, KEYRING_USAGE, 1, &other), 0);
	assert_memory_not_equal(&first, &other, sizeof(first));
	assert_int_equal(keyring_journal_drop(k, KEYRING_SESSIONS), 0);
	assert_int_equal(keyring_journal_renew(k, KEYRING_SESSIONS, NOW_MS + 5), 0);
	assert_int_equal(keyring_journal_renew(k, KEYRING_SESSIONS, NOW_MS + 6), -EBUSY);
	k = reopen(p, k);
	keyring_journal_info(k, KEYRING_SESSIONS, &j);
	assert_int_equal(j.epoch, 2);
	assert_int_equal(j.created_ms, NOW_MS + 5);
	assert_int_equal(j.old_epoch, 1);
	assert_int_equal(j.old_created_ms, NOW_MS);
	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 1, &key), 0);
	assert_memory_equal(&key, &first, sizeof(key));
	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 2, &second), 0);
	assert_memory_not_equal(&second, &first, sizeof(key));
	assert_int_equal(keyring_journal_drop(k, KEYRING_SESSIONS), 0);
	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 1, &key), -ENOKEY);
	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 0, &key), -ENOKEY);
	assert_int_equal(keyring_journal(k, KEYRING_SESSIONS, 3, &key), -ENOKEY);
	assert_int_equal(keyring_journal_renew(k, KEYRING_SESSIONS, NOW_MS + 7), 0);
	assert_int_equal(keyring_journal(k, KEYRING_USAGE, 1, &key), 0);
	assert_memory_equal(&key, &other, sizeof(key));
	assert_false(file_holds(p, &first, sizeof(first)));
	keyring_close(k);
}

static void a_month_turns_in_two_writes_and_its_key_dies_in_the_first(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint64_t generation = keyring_generation(k);
	uint8_t account[32] = "canary", before[SEAL_TAG_SIZE], after[SEAL_TAG_SIZE];
	struct keyring_journal j;
	struct keyring_meters m;

	keyring_total_tag(k, account, before);
	assert_int_equal(keyring_month_finish(k), 0); /* nothing to finish */
	assert_int_equal(keyring_month_begin(k, MONTH, NOW_MS), -ESTALE);
	assert_int_equal(keyring_month_begin(k, MONTH - 1, NOW_MS), -ESTALE);
	assert_int_equal(keyring_month_begin(k, 202613, NOW_MS), -EINVAL);
	assert_int_equal(keyring_generation(k), generation);
	assert_int_equal(keyring_month_begin(k, 202612, NOW_MS + 9), 0);
	assert_int_equal(keyring_generation(k), generation + 1);
	assert_int_equal(keyring_month_begin(k, 202701, NOW_MS + 9), -EBUSY);
	keyring_journal_info(k, KEYRING_USAGE, &j);
	assert_int_equal(j.epoch, 1); /* the journal's own is renewed when there is room */
	keyring_total_tag(k, account, after);
	assert_memory_not_equal(before, after, sizeof(after));
	k = reopen(p, k);
	assert_true(keyring_month_turning(k));
	assert_int_equal(keyring_month(k), 202612);
	generation = keyring_generation(k);
	assert_int_equal(keyring_month_finish(k), 0);
	assert_int_equal(keyring_generation(k), generation + 1);
	assert_false(keyring_month_turning(k));
	keyring_journal_info(k, KEYRING_USAGE, &j);
	assert_int_equal(j.old_epoch, 0);
	keyring_meters(k, &m);
	assert_int_equal(m.generation, 2);
	assert_int_equal(m.old_generation, 1); /* dies 7 days later */
	assert_int_equal(m.created_ms, NOW_MS + 9);
	keyring_total_tag(k, account, before);
	assert_memory_equal(before, after, sizeof(after));
	keyring_close(k);
}

static void a_months_turn_ends_after_the_usage_journals_old_key(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct keyring_journal j;

	assert_int_equal(keyring_journal_renew(k, KEYRING_USAGE, NOW_MS), 0);
	assert_int_equal(keyring_month_begin(k, 202612, NOW_MS), 0);
	assert_int_equal(keyring_month(k), 202612);
	keyring_journal_info(k, KEYRING_USAGE, &j);
	assert_int_equal(j.old_epoch, 1);
	assert_int_equal(keyring_month_finish(k), -EBUSY);
	assert_true(keyring_month_turning(k));
	assert_int_equal(keyring_journal_drop(k, KEYRING_USAGE), 0);
	assert_int_equal(keyring_month_finish(k), 0);
	assert_false(keyring_month_turning(k));
	keyring_close(k);
}

static void a_days_mark_lives_as_long_as_its_key(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	const struct keyring_written both[2] = { { TODAY, 3 }, { TODAY - 1, 7 } };
	struct seal_key key;
	uint32_t times = 99;
	bool lost = true;

	assert_int_equal(keyring_days_written(k, both, 2), 0); /* of days without a key: nothing */
	assert_false(keyring_day_mark(k, TODAY, &times, &lost));
	assert_int_equal(times, 99);
	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	assert_int_equal(keyring_day_make(k, TODAY - 1, &key), 0);
	assert_true(keyring_day_mark(k, TODAY, &times, &lost));
	assert_int_equal(times, 0);
	assert_false(lost);
	disk_reset();
	assert_int_equal(keyring_days_written(k, both, 2), 0);
	assert_int_equal(disk.count, 4); /* both in one write */
	assert_int_equal(keyring_days_written(k, both, 2), 0);
	assert_int_equal(disk.count, 4);
	assert_int_equal(keyring_day_lost_set(k, TODAY), 0);
	assert_int_equal(keyring_day_make(k, TODAY - 2, &key), 0); /* moves the others */
	k = reopen(p, k);
	assert_true(keyring_day_mark(k, TODAY, &times, &lost));
	assert_int_equal(times, 3);
	assert_true(lost);
	assert_true(keyring_day_mark(k, TODAY - 1, &times, &lost));
	assert_int_equal(times, 7);
	assert_false(lost);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, TODAY), 0);
	assert_false(keyring_day_mark(k, TODAY - 1, &times, &lost));
	assert_true(keyring_day_mark(k, TODAY, &times, &lost));
	assert_true(lost);
	keyring_close(k);
}

/* The raw bytes of the month's and the meter's keys, which no function gives out. */
static void hidden_keys(const struct place *p, uint8_t month[16], uint8_t meter[16])
{
	uint8_t image[FILE_SIZE];

	image_read(p, image);
	memcpy(month, image + 60, 16);
	memcpy(meter, image + 108, 16);
}

static void the_months_and_the_meters_keys_die_in_both_slots(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t month[16], meter[16];

	hidden_keys(p, month, meter);
	assert_int_equal(keyring_month_begin(k, 202612, NOW_MS), 0);
	assert_false(file_holds(p, month, 16));
	assert_int_equal(keyring_month_finish(k), 0);
	assert_true(file_holds(p, meter, 16));
	assert_int_equal(keyring_meters_drop(k), 0);
	assert_false(file_holds(p, meter, 16));
	disk_reset();
	assert_int_equal(keyring_meters_drop(k), 0);
	assert_int_equal(disk.count, 0);
	hidden_keys(p, month, meter);
	assert_int_equal(keyring_month_begin(k, 202701, NOW_MS), 0);
	assert_int_equal(keyring_month_finish(k), 0);
	assert_int_equal(keyring_month_begin(k, 202702, NOW_MS), 0); /* without a drop */
	assert_false(file_holds(p, meter, 16));
	keyring_close(k);
}

static void meter_generations_go_round_past_255(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct keyring_meters m;
	uint32_t month = MONTH;

	for (int i = 0; i < 300; i++) {
		keyring_meters(k, &m);
		assert_int_equal(m.generation, i % 255 + 1);
		month = month % 100 == 12 ? month + 89 : month + 1;
		assert_int_equal(keyring_month_begin(k, month, NOW_MS), 0);
		assert_int_equal(keyring_month_finish(k), 0);
	}
	k = reopen(p, k);
	keyring_meters(k, &m);
	assert_int_equal(m.generation, 300 % 255 + 1);
	assert_int_equal(m.old_generation, 300 % 255);
	keyring_close(k);
}

static void tags_tell_everything_apart_and_need_their_key(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	uint8_t account[32] = "a", other[32] = "b", server[16] = "nl", server2[16] = "de";
	uint8_t t[8][SEAL_TAG_SIZE], again[SEAL_TAG_SIZE];

	keyring_total_tag(k, account, t[0]);
	keyring_total_tag(k, other, t[1]);
	assert_int_equal(keyring_meter_tag(k, 1, server, account, 7, t[2]), 0);
	assert_int_equal(keyring_meter_tag(k, 1, server, account, 8, t[3]), 0);
	assert_int_equal(keyring_meter_tag(k, 1, server2, account, 7, t[4]), 0);
	assert_int_equal(keyring_meter_tag(k, 1, server, other, 7, t[5]), 0);
	assert_int_equal(keyring_stream_tag(k, 1, server, 7, t[6]), 0);
	assert_int_equal(keyring_stream_tag(k, 1, server2, 7, t[7]), 0);
	for (size_t a = 0; a < 8; a++)
		for (size_t b = 0; b < a; b++)
			assert_memory_not_equal(t[a], t[b], SEAL_TAG_SIZE);
	assert_int_equal(keyring_meter_tag(k, 0, server, account, 7, again), -ENOKEY);
	assert_int_equal(keyring_meter_tag(k, 2, server, account, 7, again), -ENOKEY);
	assert_int_equal(keyring_month_begin(k, 202612, NOW_MS), 0);
	k = reopen(p, k);
	assert_int_equal(keyring_meter_tag(k, 1, server, account, 7, again), 0);
	assert_memory_equal(again, t[2], SEAL_TAG_SIZE);
	assert_int_equal(keyring_meter_tag(k, 2, server, account, 7, again), 0);
	assert_memory_not_equal(again, t[2], SEAL_TAG_SIZE);
	assert_int_equal(keyring_meters_drop(k), 0);
	assert_int_equal(keyring_stream_tag(k, 1, server, 7, again), -ENOKEY);
	assert_int_equal(keyring_stream_tag(k, 2, server, 7, again), 0);
	keyring_close(k);
}

static void the_clocks_hold_is_kept(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);

	assert_int_equal(keyring_held_set(k, 5000), 0);
	k = reopen(p, k);
	assert_int_equal(keyring_held_ms(k), 5000);
	disk_reset();
	assert_int_equal(keyring_held_set(k, 5000), 0);
	assert_int_equal(disk.count, 0);
	assert_int_equal(keyring_held_set(k, INT64_MIN), -EINVAL);
	assert_int_equal(keyring_held_set(k, -1), 0);
	assert_int_equal(disk.count, 4); /* two slots, a write and a sync each */
	assert_int_equal(keyring_held_ms(k), -1);
	assert_int_equal(keyring_forget_days(k, TODAY + 1, TODAY - 88), 0);
	assert_int_equal(keyring_held_ms(k), 0); /* it was of the day before */
	keyring_close(k);
}

/* --- Failures and crashes --- */

/* The change of the tests below: TODAY + 1 comes, TODAY - 89 is destroyed. */
static int move_on(struct keyring *k)
{
	return keyring_forget_days(k, TODAY + 1, TODAY - 88);
}

static void a_failed_write_or_sync_is_the_last(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key, same;

	for (size_t n = 0; n < 8; n++) {
		disk_reset();
		disk.fail_at = n / 2;
		disk.cut = n % 2 == 0 && n / 2 % 2 == 0; /* of writes: with half of it written */
		assert_int_equal(keyring_day_make(k, TODAY - (int32_t)n, &key), -EIO);
		/* Memory is as it was, and stays so. */
		assert_int_equal(keyring_day(k, TODAY - (int32_t)n, &same), -ENOKEY);
		disk_reset();
		assert_int_equal(keyring_held_set(k, 1), -EIO);
		assert_int_equal(keyring_day_make(k, TODAY - 20, &same), -EIO);
		assert_int_equal(disk.count, 0);
		/* Opening brings one or the other, whole. */
		k = reopen(p, k);
		assert_slots_alike(p);
		assert_int_equal(keyring_day_make(k, TODAY - (int32_t)n, &key), 0);
	}
	assert_int_equal(keyring_days(k, NULL, 0), 8);
	disk.fail_at = disk.count + 3;
	keyring_close(k);
	assert_int_equal(keyring_open(&k, p->path, NULL), 0);
	assert_int_equal(keyring_settle(k), -EIO);
	keyring_close(k);
	disk_reset();
	k = reopen(p, NULL);
	assert_int_equal(keyring_days(k, NULL, 0), 8);
	keyring_close(k);
}

static void short_writes_are_completed(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);

	for (size_t n = 0; n < 2; n++) {
		disk_reset();
		disk.cut = disk.mend = true;
		disk.fail_at = n * 2;
		assert_int_equal(keyring_held_set(k, 9 + (int64_t)n), 0);
		assert_int_equal(disk.count, 5);
		assert_slots_alike(p);
	}
	k = reopen(p, k);
	assert_int_equal(keyring_held_ms(k), 10);
	keyring_close(k);
}

/* What opening after a crash must bring: the old content, the new, or either. */
enum outcome { OLD = 1, NEW = 2, EITHER = 3 };

struct history {
	const struct place *p;
	struct masked doomed; /* destroyed by the change */
	struct masked kept;
};

static enum outcome outcome_of(struct keyring *k)
{
	struct seal_key key;
	bool there = keyring_day(k, TODAY - 89, &key) == 0;

	assert_int_equal(keyring_newest_day(k), there ? TODAY : TODAY + 1);
	assert_int_equal(keyring_first_day(k), there ? TODAY - 89 : TODAY - 88);
	assert_int_equal(keyring_days(k, NULL, 0), there ? 2 : 1);
	assert_int_equal(keyring_day(k, TODAY, &key), 0);
	return there ? OLD : NEW;
}

/* Opens what a crash left; afterwards both slots are whole and alike. */
static enum outcome crash_check(const struct history *h, const uint8_t image[FILE_SIZE])
{
	struct keyring *k = NULL;
	uint8_t after[FILE_SIZE];
	enum outcome got;
	bool there;

	image_write(h->p, image);
	k = reopen(h->p, NULL);
	got = outcome_of(k);
	keyring_close(k);
	image_read(h->p, after);
	if (memcmp(after, after + SLOT, SLOT) != 0)
		fail_msg("the slots differ");
	there = masked_in(after + 328, 2 * 36, &h->doomed);
	if (there != (got == OLD) || (!there && masked_in(after, FILE_SIZE, &h->doomed)))
		fail_msg("the destroyed key is in the file");
	if (!masked_in(after + 328, 2 * 36, &h->kept))
		fail_msg("the kept key is not in the file");
	return got;
}

/*
 * Plays recorded operations on an image and checks every crash in each write:
 * its first bytes written, its last bytes written, any of its sectors written.
 * Between two writes there is a sync, so that only one is ever in flight.
 */
static void crash_everywhere(const struct history *h, const uint8_t start[FILE_SIZE],
			     const struct op *ops, size_t count, size_t step,
			     const enum outcome *allowed)
{
	uint8_t image[FILE_SIZE], torn[FILE_SIZE];
	uint32_t seed = 1;

	memcpy(image, start, FILE_SIZE);
	for (size_t i = 0; i < count; i++) {
		size_t at = (size_t)ops[i].at;

		assert_int_equal(ops[i].sync, i % 2);
		if (ops[i].sync)
			continue;
		for (size_t cut = 0; cut <= SLOT; cut += step) {
			memcpy(torn, image, FILE_SIZE);
			memcpy(torn + at, ops[i].data, cut);
			assert_true(crash_check(h, torn) & allowed[i / 2]);
			memcpy(torn, image, FILE_SIZE);
			memcpy(torn + at + cut, ops[i].data + cut, SLOT - cut);
			assert_true(crash_check(h, torn) & allowed[i / 2]);
		}
		for (size_t n = 0; n < 256 / step; n++) {
			seed = seed * 1664525 + 1013904223;
			memcpy(torn, image, FILE_SIZE);
			for (size_t s = 0; s < SLOT / 512; s++)
				if (seed >> (8 + s) & 1)
					memcpy(torn + at + s * 512, ops[i].data + s * 512, 512);
			assert_true(crash_check(h, torn) & allowed[i / 2]);
		}
		memcpy(image + at, ops[i].data, SLOT);
	}
	assert_true(crash_check(h, image) & allowed[count / 2 - 1]);
}

/* A keyring with the change ready to be made; its image, and the change's writes. */
static void history_make(struct history *h, uint8_t before[FILE_SIZE], struct op ops[4])
{
	struct keyring *k = create(h->p);
	struct seal_key key;

	assert_int_equal(keyring_day_make(k, TODAY - 89, &key), 0);
	mask(&h->doomed, &key);
	assert_int_equal(keyring_day_make(k, TODAY, &key), 0);
	mask(&h->kept, &key);
	image_read(h->p, before);
	disk_reset();
	disk.recording = true;
	assert_int_equal(move_on(k), 0);
	assert_int_equal(disk.count, 4);
	memcpy(ops, disk.ops, 4 * sizeof(ops[0]));
	disk_reset();
	keyring_close(k);
}

static void a_crash_anywhere_in_a_change_leaves_the_old_or_the_new(void **state)
{
	static const enum outcome allowed[] = { EITHER, NEW };
	struct history h = { .p = *state };
	uint8_t before[FILE_SIZE];
	struct op ops[4];

	history_make(&h, before, ops);
	crash_everywhere(&h, before, ops, 4, SANITIZED ? 29 : 5, allowed);
}

/* The opening after a crash may be cut off as well, and the one after that. */
static void a_crash_anywhere_in_the_opening_after_a_crash_loses_nothing(void **state)
{
	static const size_t cuts[] = { 0, 20, 329, 400, SLOT };
	struct history h = { .p = *state };
	uint8_t before[FILE_SIZE], crashed[FILE_SIZE];
	struct op ops[4], again[4];

	history_make(&h, before, ops);
	for (size_t second = 0; second < 2; second++) {
		for (size_t c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++) {
			enum outcome allowed[2];
			struct keyring *k;

			memcpy(crashed, before, FILE_SIZE);
			if (second)
				memcpy(crashed, ops[0].data, SLOT);
			memcpy(crashed + ops[second * 2].at, ops[second * 2].data, cuts[c]);
			image_write(h.p, crashed);
			disk_reset();
			disk.recording = true;
			k = reopen(h.p, NULL);
			allowed[0] = allowed[1] = outcome_of(k);
			keyring_close(k);
			assert_int_equal(disk.count, 4);
			memcpy(again, disk.ops, sizeof(again));
			disk_reset();
			crash_everywhere(&h, crashed, again, 4, 101, allowed);
		}
	}
}

/* --- Threads --- */

static void *change_in_thread(void *arg)
{
	return move_on(arg) == 0 ? arg : NULL;
}

static void no_reader_waits_for_the_disk(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct seal_key key;
	pthread_t thread;
	int tell[2], go[2];
	void *r;
	char c = 0;

	assert_int_equal(keyring_day_make(k, TODAY - 89, &key), 0);
	assert_int_equal(pipe(tell), 0);
	assert_int_equal(pipe(go), 0);
	disk_reset();
	disk.tell_fd = tell[1];
	disk.wait_fd = go[0];
	assert_int_equal(pthread_create(&thread, NULL, change_in_thread, k), 0);
	for (int sync = 0; sync < 2; sync++) {
		assert_int_equal(read(tell[0], &c, 1), 1);
		/* The disk hangs, and all can be read: as it was. */
		assert_int_equal(keyring_day(k, TODAY - 89, &key), 0);
		assert_int_equal(keyring_newest_day(k), TODAY);
		assert_int_equal(keyring_days(k, NULL, 0), 1);
		assert_int_equal(write(go[1], &c, 1), 1);
	}
	assert_int_equal(pthread_join(thread, &r), 0);
	assert_non_null(r);
	assert_int_equal(keyring_day(k, TODAY - 89, &key), -ENOKEY);
	for (int i = 0; i < 2; i++) {
		(void)close(tell[i]);
		(void)close(go[i]);
	}
	disk_reset();
	keyring_close(k);
}

static void *read_in_thread(void *arg)
{
	struct keyring *k = arg;
	uint8_t account[32] = { 0 }, tag[SEAL_TAG_SIZE];
	struct keyring_journal j;
	struct seal_key key;

	for (int i = 0; i < 300; i++) {
		int32_t newest = keyring_newest_day(k);
		int r = keyring_day_make(k, newest, &key);

		if (r != 0 && r != -ESTALE)
			return NULL;
		keyring_total_tag(k, account, tag);
		keyring_journal_info(k, KEYRING_SESSIONS, &j);
		r = keyring_journal(k, KEYRING_SESSIONS, j.epoch, &key);
		if (r != 0 && r != -ENOKEY)
			return NULL;
		(void)keyring_first_day(k);
		(void)keyring_generation(k);
	}
	return k;
}

static void threads_may_read_make_and_destroy_at_once(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	pthread_t threads[3];
	void *r;

	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_in_thread, k), 0);
	for (int32_t i = 0; i < 100; i++) {
		assert_int_equal(keyring_forget_days(k, TODAY + i, TODAY + i - 2), 0);
		assert_int_equal(keyring_journal_drop(k, KEYRING_SESSIONS), 0);
		assert_int_equal(keyring_journal_renew(k, KEYRING_SESSIONS, i), 0);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], &r), 0);
		assert_non_null(r);
	}
	k = reopen(p, k);
	assert_int_equal(keyring_newest_day(k), TODAY + 99);
	assert_true(keyring_days(k, NULL, 0) <= 3);
	keyring_close(k);
}

static int initialise(void **state)
{
	(void)state;
	return seal_init();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_keyring_is_private_and_opens_again),
		TEST(a_new_keyring_never_replaces_anything),
		TEST(a_keyring_that_could_not_be_made_leaves_nothing),
		TEST(only_a_private_plain_file_of_ones_own_is_opened),
		TEST(a_file_of_another_user_is_refused),
		TEST(a_keyring_in_use_cannot_be_opened_for_writing),
		TEST(opening_writes_nothing_and_settling_once),
		TEST(looking_only_writes_nothing),
		TEST(files_of_another_size_are_damage),
		TEST(one_damaged_slot_is_repaired_from_the_other),
		TEST(two_damaged_slots_are_refused_and_left_alone),
		TEST(another_format_version_is_told_and_left_alone),
		TEST(slots_of_one_generation_that_differ_are_refused),
		TEST(the_last_generation_is_never_passed),
		TEST(a_days_key_is_made_once_and_durable_in_both_slots),
		TEST(days_outside_the_keyrings_range_get_no_key),
		TEST(forgotten_days_never_come_back),
		TEST(no_day_outlives_the_ninety_whatever_the_horizon),
		TEST(a_destroyed_key_is_in_no_byte_of_file_and_memory),
		TEST(after_closing_no_key_is_in_memory),
		TEST(a_journal_has_at_most_two_keys),
		TEST(a_month_turns_in_two_writes_and_its_key_dies_in_the_first),
		TEST(a_months_turn_ends_after_the_usage_journals_old_key),
		TEST(a_days_mark_lives_as_long_as_its_key),
		TEST(the_months_and_the_meters_keys_die_in_both_slots),
		TEST(meter_generations_go_round_past_255),
		TEST(tags_tell_everything_apart_and_need_their_key),
		TEST(the_clocks_hold_is_kept),
		TEST(a_failed_write_or_sync_is_the_last),
		TEST(short_writes_are_completed),
		TEST(a_crash_anywhere_in_a_change_leaves_the_old_or_the_new),
		TEST(a_crash_anywhere_in_the_opening_after_a_crash_loses_nothing),
		TEST(no_reader_waits_for_the_disk),
		TEST(threads_may_read_make_and_destroy_at_once),
	};

	return cmocka_run_group_tests_name("keyring", tests, initialise, NULL);
}
