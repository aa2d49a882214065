/* SPDX-License-Identifier: ISC */
/*
 * keyring: the only secret of the store, and its forgetting.
 *
 * The file is two slots (keyslot.c), always written whole.  At rest both are
 * valid and alike.  A change is written to slot 0, synced, written to slot 1,
 * synced.  Wherever that is cut off:
 *
 *   - while slot 0 is written it may be torn; slot 1 is whole, with the old
 *     content;
 *   - between the two both are whole, and the higher generation counts;
 *   - while slot 1 is written it may be torn; slot 0 is whole and durable, with
 *     the new content.
 *
 * Opening takes the newest whole slot, and the first write after it begins with
 * the other one: a whole slot is never overwritten before the other one is whole
 * and durable.  keyring_settle() is that write where nothing else is changed: a
 * key that was destroyed in one slot is gone from both after the next start, and
 * a key that was handed out is never lost.
 *
 * After a failed write or sync nobody knows what the disk holds (Linux may
 * call lost pages clean, and the next fsync a success), so nothing more is
 * written: every later change fails with -EIO.
 *
 * Refuses to know what the keys are for, what time it is, and when to forget.
 */
#include "keyring.h"

#include "calendar.h"
#include "keyringfs.h"
#include "keyslot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nolog/frame.h> /* little-endian bytes */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOTS 2
#define FILE_SIZE (SLOTS * KEYSLOT_SIZE)
#define FAULT_FILE "keyring"

static_assert(KEYRING_DAYS_MAX == KEYSLOT_DAYS_MAX && KEYRING_TIMES_MAX == ~KEYSLOT_DAY_LOST,
	      "as keyring.h says");

/* All key bytes there are, in locked memory. */
struct vault {
	struct keyslot now;  /* durable in both slots; under the read lock */
	struct keyslot next; /* being made; under the change lock, as is image */
	uint8_t image[FILE_SIZE];
};

struct keyring {
	pthread_mutex_t change; /* held across writes; taken before read */
	pthread_mutex_t read;	/* never held across anything that waits */
	struct vault *v;
	int fd;
	bool readonly;
	bool broken;  /* a write has failed; under the change lock */
	bool settled; /* the slots are alike; under the change lock */
	size_t first; /* the slot to be written first; under the change lock */
	bool repaired;
	bool weak;
};

/* --- The file --- */

static int slot_write(int fd, size_t slot, const uint8_t image[KEYSLOT_SIZE])
{
	size_t done = 0;

	while (done < KEYSLOT_SIZE) {
		ssize_t n = pwrite(fd, image + done, KEYSLOT_SIZE - done,
				   (off_t)(slot * KEYSLOT_SIZE + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return fdatasync(fd) < 0 ? -errno : 0;
}

/* Writes next to both slots, the given one first. */
static int slots_write(struct keyring *k, size_t first)
{
	int r;

	if (keyslot_check(&k->v->next) < 0)
		return -EINVAL; /* never write what could not be read again */
	keyslot_encode(k->v->image, &k->v->next);
	r = slot_write(k->fd, first, k->v->image);
	if (r == 0)
		r = slot_write(k->fd, 1 - first, k->v->image);
	if (r < 0)
		k->broken = true;
	seal_wipe(k->v->image, sizeof(k->v->image));
	return r;
}

static int file_read(int fd, uint8_t out[FILE_SIZE])
{
	size_t done = 0;

	while (done < FILE_SIZE) {
		ssize_t n = pread(fd, out + done, FILE_SIZE - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG; /* shorter than it said */
		done += (size_t)n;
	}
	return 0;
}

/* The directory a path lies in, opened, and the name below it. */
static int dir_open(const char *path, const char **base)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX] = ".";
	int fd;

	*base = slash ? slash + 1 : path;
	if (**base == '\0')
		return -EINVAL;
	if (slash) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);

		if (len >= sizeof(dir))
			return -ENAMETOOLONG;
		memcpy(dir, path, len);
		dir[len] = '\0';
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* What is wrong with the file before a byte of it is read; NULL: nothing. */
static const char *file_objection(const struct stat *st, const struct stat *dir)
{
	uid_t me = geteuid();

	if (!S_ISREG(st->st_mode))
		return "is not a plain file";
	if (st->st_nlink != 1)
		return "has a second name (hard link)";
	/* Root, before it drops and in an audit, takes the owner of the directory for its user. */
	if (st->st_uid != me && st->st_uid != 0 && !(me == 0 && st->st_uid == dir->st_uid))
		return "belongs to another user";
	if (st->st_mode & (S_IRWXG | S_IRWXO))
		return "is open to others than its owner (chmod 600)";
	return NULL;
}

static int file_check(int fd, int dir, bool readonly, struct fault *fault)
{
	const char *objection;
	struct stat st, dst;

	if (fstat(fd, &st) < 0 || fstat(dir, &dst) < 0)
		return fault_set(fault, -errno, FAULT_FILE, 0, "cannot be looked at");
	objection = file_objection(&st, &dst);
	if (objection)
		return fault_set(fault, -EACCES, FAULT_FILE, 0, objection);
	if (st.st_size != FILE_SIZE)
		return fault_set(fault, -EBADMSG, FAULT_FILE, 0, "is damaged: wrong size");
	if (!readonly && flock(fd, LOCK_EX | LOCK_NB) < 0)
		return fault_set(fault, -EBUSY, FAULT_FILE, 0, "is in use by another process");
	return 0;
}

static int open_failed(int error, struct fault *fault)
{
	switch (error) {
	case ENOENT:
		return fault_set(fault, -ENOENT, FAULT_FILE, 0, "is missing");
	case ELOOP: /* O_NOFOLLOW */
	case EISDIR:
	case ENXIO: /* a socket */
		return fault_set(fault, -EACCES, FAULT_FILE, 0, "is not a plain file");
	default:
		return fault_set(fault, -error, FAULT_FILE, 0, "cannot be opened");
	}
}

/* Opens it and makes sure that it is what it should be. */
static int file_open(const char *path, bool readonly, struct fault *fault)
{
	/* Nonblocking, so that a FIFO in its place is refused and not waited for. */
	int flags = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	const char *base;
	int dir, fd, r;

	dir = dir_open(path, &base);
	if (dir < 0)
		return fault_set(fault, dir, FAULT_FILE, 0, "cannot open its directory");
	fd = openat(dir, base, flags | (readonly ? O_RDONLY : O_RDWR));
	r = fd < 0 ? open_failed(errno, fault) : file_check(fd, dir, readonly, fault);
	(void)close(dir); /* was only read */
	if (r == 0)
		return fd;
	if (fd >= 0)
		(void)close(fd); /* nothing was written */
	return r;
}

/* --- Making, opening, closing --- */

static struct keyring *keyring_alloc(struct fault *fault)
{
	struct keyring *k = calloc(1, sizeof(*k));

	if (!k) {
		(void)fault_set(fault, -ENOMEM, FAULT_FILE, 0, "out of memory");
		return NULL;
	}
	k->fd = -1;
	(void)pthread_mutex_init(&k->change, NULL); /* cannot fail on Linux */
	(void)pthread_mutex_init(&k->read, NULL);
	k->v = seal_alloc(sizeof(*k->v));
	if (!k->v) {
		(void)fault_set(fault, -ENOMEM, FAULT_FILE, 0,
				"no locked memory for the keys (RLIMIT_MEMLOCK)");
		keyring_close(k);
		return NULL;
	}
	return k;
}

void keyring_close(struct keyring *k)
{
	if (!k)
		return;
	if (k->fd >= 0)
		(void)close(k->fd); /* all that was written is synced */
	seal_free(k->v);
	(void)pthread_mutex_destroy(&k->read); /* nobody holds them any more */
	(void)pthread_mutex_destroy(&k->change);
	free(k);
}

static void first_content(struct keyslot *s, int32_t today, uint32_t month, int64_t now_ms)
{
	s->generation = 1;
	seal_random(s->store, sizeof(s->store));
	s->newest_day = today;
	/* Sessions that began before the installation may still be reported. */
	s->first_day = calendar_horizon(today, CALENDAR_RETENTION_MAX);
	s->month[0].month = month;
	seal_random(s->month[0].key, sizeof(s->month[0].key));
	s->meter[0].generation = 1;
	s->meter[0].created_ms = now_ms;
	seal_random(s->meter[0].key, sizeof(s->meter[0].key));
	for (size_t book = 0; book < 2; book++) {
		s->journal[book][0].epoch = 1;
		s->journal[book][0].created_ms = now_ms;
		seal_random(s->journal[book][0].key.bytes, SEAL_KEY_SIZE);
	}
}

/* Writes the first content and syncs the file, not yet its name. */
static int first_write(struct keyring *k)
{
	int r;

	if (fchmod(k->fd, S_IRUSR | S_IWUSR) < 0) /* whatever the umask */
		return -errno;
	if (flock(k->fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	r = slots_write(k, 0);
	if (r < 0)
		return r;
	return fsync(k->fd) < 0 ? -errno : 0;
}

/*
 * The file gets its name when it is complete, so that a crash leaves either a
 * keyring or none.  This is no rename: no key has ever been in another file.
 * -EOPNOTSUPP where the file system has no nameless files or /proc is missing.
 */
static int create_nameless(struct keyring *k, int dir, const char *base)
{
	char link[64];
	int r;

	k->fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (k->fd < 0)
		return errno == EISDIR || errno == EINVAL ? -EOPNOTSUPP : -errno;
	r = first_write(k);
	if (r < 0)
		return r;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", k->fd); /* always fits */
	if (linkat(AT_FDCWD, link, dir, base, AT_SYMLINK_FOLLOW) < 0)
		return errno == ENOENT ? -EOPNOTSUPP : -errno;
	return 0;
}

static int create_named(struct keyring *k, int dir, const char *base)
{
	int r;

	k->fd = openat(dir, base, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR | O_CLOEXEC,
		       S_IRUSR | S_IWUSR);
	if (k->fd < 0)
		return -errno;
	r = first_write(k);
	if (r < 0)
		(void)unlinkat(dir, base, 0); /* it is ours, and of no use */
	return r;
}

static int create_file(struct keyring *k, const char *path)
{
	const char *base;
	int dir, r;

	dir = dir_open(path, &base);
	if (dir < 0)
		return dir;
	r = create_nameless(k, dir, base);
	if (r == -EOPNOTSUPP) {
		if (k->fd >= 0)
			(void)close(k->fd); /* it has no name and goes with this */
		r = create_named(k, dir, base);
	}
	if (r == 0 && fsync(dir) < 0)
		r = -errno;
	(void)close(dir); /* synced, or failed */
	return r;
}

int keyring_create(struct keyring **out, const char *path, int32_t today, uint32_t month,
		   int64_t now_ms, struct fault *fault)
{
	struct keyring *k;
	int r;

	k = keyring_alloc(fault);
	if (!k)
		return -ENOMEM;
	first_content(&k->v->next, today, month, now_ms);
	if (keyslot_check(&k->v->next) < 0) {
		r = fault_set(fault, -EINVAL, FAULT_FILE, 0, "cannot be made at such a time");
		goto fail;
	}
	r = create_file(k, path);
	if (r < 0) {
		(void)fault_set(fault, r, FAULT_FILE, 0,
				r == -EEXIST ? "is already there" : "cannot be made");
		goto fail;
	}
	k->v->now = k->v->next;
	seal_wipe(&k->v->next, sizeof(k->v->next));
	k->settled = true;
	k->weak = keyringfs_weak(k->fd);
	*out = k;
	return 0;
fail:
	keyring_close(k);
	return r;
}

/*
 * Reads both slots and leaves the newest whole content in now; returns its
 * slot.  *damaged: the other one is not whole.
 */
static int slots_read(struct keyring *k, bool *damaged, struct fault *fault)
{
	struct vault *v = k->v;
	int r, r0, r1, newest = 0;

	r = file_read(k->fd, v->image);
	if (r < 0)
		return fault_set(fault, r, FAULT_FILE, 0, "cannot be read");
	r0 = keyslot_decode(&v->now, v->image);
	r1 = keyslot_decode(&v->next, v->image + KEYSLOT_SIZE);
	if (r0 == -EPROTO || r1 == -EPROTO)
		r = fault_set(fault, -EPROTO, FAULT_FILE, 0, "is of another format version");
	else if (r0 < 0 && r1 < 0)
		r = fault_set(fault, -EBADMSG, FAULT_FILE, 0, "is damaged in both slots");
	else if (r0 == 0 && r1 == 0 && v->now.generation == v->next.generation &&
		 memcmp(v->image, v->image + KEYSLOT_SIZE, KEYSLOT_SIZE) != 0)
		/* No crash makes this: it was put together from two files. */
		r = fault_set(fault, -EBADMSG, FAULT_FILE, 0, "is damaged: its slots contradict");
	*damaged = r0 < 0 || r1 < 0;
	if (r0 < 0 || (r1 == 0 && v->next.generation > v->now.generation)) {
		v->now = v->next;
		newest = 1;
	}
	seal_wipe(v->image, sizeof(v->image));
	seal_wipe(&v->next, sizeof(v->next));
	return r < 0 ? r : newest;
}

static int open_any(struct keyring **out, const char *path, bool readonly, struct fault *fault)
{
	struct keyring *k;
	int r, tries = readonly ? 3 : 1;

	k = keyring_alloc(fault);
	if (!k)
		return -ENOMEM;
	k->readonly = readonly;
	k->fd = r = file_open(path, readonly, fault);
	if (r < 0)
		goto fail;
	/* Without the lock the owner may be writing a slot at this moment: look again. */
	do
		r = slots_read(k, &k->repaired, fault);
	while (--tries > 0 && (r == -EBADMSG || k->repaired));
	if (r < 0)
		goto fail;
	k->first = r == 0 ? 1 : 0; /* the newest whole one last */
	k->weak = keyringfs_weak(k->fd);
	if (fault)
		fault->error = 0; /* of an earlier try */
	*out = k;
	return 0;
fail:
	keyring_close(k);
	return r;
}

int keyring_open(struct keyring **out, const char *path, struct fault *fault)
{
	return open_any(out, path, false, fault);
}

int keyring_open_readonly(struct keyring **out, const char *path, struct fault *fault)
{
	return open_any(out, path, true, fault);
}

bool keyring_repaired(const struct keyring *k)
{
	return k->repaired;
}

bool keyring_weak(const struct keyring *k)
{
	return k->weak;
}

/* --- Reading and changing --- */

static const struct keyslot *read_lock(struct keyring *k)
{
	(void)pthread_mutex_lock(&k->read); /* a plain mutex does not fail */
	return &k->v->now;
}

static void read_unlock(struct keyring *k)
{
	(void)pthread_mutex_unlock(&k->read);
}

/* Changes the content to be; UNCHANGED: there is nothing to do; or an error. */
typedef int edit_fn(struct keyslot *next, const void *arg);
#define UNCHANGED 1

static int change_locked(struct keyring *k, edit_fn *edit, const void *arg)
{
	struct vault *v = k->v;
	int r;

	if (k->readonly)
		return -EROFS;
	if (k->broken)
		return -EIO;
	v->next = v->now; /* now only changes under the change lock, too */
	r = edit(&v->next, arg);
	if (r == 0) {
		v->next.generation++;
		r = slots_write(k, k->first);
	}
	if (r == 0) {
		k->first = 0;
		k->settled = true;
		(void)read_lock(k);
		v->now = v->next;
		read_unlock(k);
	}
	seal_wipe(&v->next, sizeof(v->next));
	return r == UNCHANGED ? 0 : r;
}

static int change(struct keyring *k, edit_fn *edit, const void *arg)
{
	int r;

	(void)pthread_mutex_lock(&k->change); /* a plain mutex does not fail */
	r = change_locked(k, edit, arg);
	(void)pthread_mutex_unlock(&k->change);
	return r;
}

static int edit_nothing(struct keyslot *next, const void *arg)
{
	(void)next;
	return *(const bool *)arg ? UNCHANGED : 0;
}

int keyring_settle(struct keyring *k)
{
	return change(k, edit_nothing, &k->settled);
}

uint64_t keyring_generation(struct keyring *k)
{
	uint64_t v = read_lock(k)->generation;

	read_unlock(k);
	return v;
}

void keyring_store(struct keyring *k, uint8_t out[SEAL_STORE_SIZE])
{
	memcpy(out, read_lock(k)->store, SEAL_STORE_SIZE);
	read_unlock(k);
}

/* --- Days --- */

int32_t keyring_newest_day(struct keyring *k)
{
	int32_t v = read_lock(k)->newest_day;

	read_unlock(k);
	return v;
}

int32_t keyring_first_day(struct keyring *k)
{
	int32_t v = read_lock(k)->first_day;

	read_unlock(k);
	return v;
}

/* The place of the first key whose day is not before day. */
static uint32_t day_place(const struct keyslot *s, int32_t day)
{
	uint32_t i = 0;

	while (i < s->day_count && s->days[i].day < day)
		i++;
	return i;
}

struct forget_args {
	int32_t today, horizon;
};

static int edit_forget(struct keyslot *s, const void *arg)
{
	const struct forget_args *a = arg;
	int32_t newest = a->today > s->newest_day ? a->today : s->newest_day;
	int32_t ceiling = calendar_horizon(newest, CALENDAR_RETENTION_MAX);
	int32_t first = a->horizon > s->first_day ? a->horizon : s->first_day;
	uint32_t gone;

	if (newest > KEYSLOT_DAY_MAX || a->horizon > newest)
		return -ERANGE;
	if (first < ceiling)
		first = ceiling;
	if (newest == s->newest_day && first == s->first_day)
		return UNCHANGED; /* no key is before first_day */
	/* A hold was of the newest day before: none of it counts for another. */
	if (newest != s->newest_day)
		s->held_ms = 0;
	gone = day_place(s, first);
	s->newest_day = newest;
	s->first_day = first;
	s->day_count -= gone;
	memmove(s->days, s->days + gone, s->day_count * sizeof(s->days[0]));
	seal_wipe(s->days + s->day_count, gone * sizeof(s->days[0]));
	return 0;
}

int keyring_forget_days(struct keyring *k, int32_t today, int32_t horizon)
{
	struct forget_args a = { today, horizon };

	return change(k, edit_forget, &a);
}

int keyring_day(struct keyring *k, int32_t day, struct seal_key *out)
{
	const struct keyslot *s = read_lock(k);
	uint32_t i = day_place(s, day);
	int r = -ENOKEY;

	if (i < s->day_count && s->days[i].day == day) {
		*out = s->days[i].key;
		r = 0;
	}
	read_unlock(k);
	return r;
}

static int edit_day(struct keyslot *s, const void *arg)
{
	int32_t day = *(const int32_t *)arg;
	uint32_t i = day_place(s, day);

	if (i < s->day_count && s->days[i].day == day)
		return UNCHANGED; /* another thread was faster */
	if (day < s->first_day)
		return -ESTALE;
	if (day > s->newest_day + 1)
		return -ERANGE;
	if (s->day_count == KEYSLOT_DAYS_MAX)
		return -ENOSPC;
	memmove(s->days + i + 1, s->days + i, (s->day_count - i) * sizeof(s->days[0]));
	s->days[i].day = day;
	s->days[i].mark = 0;
	seal_random(s->days[i].key.bytes, SEAL_KEY_SIZE);
	s->day_count++;
	return 0;
}

int keyring_day_make(struct keyring *k, int32_t day, struct seal_key *out)
{
	int r = keyring_day(k, day, out);

	if (r != -ENOKEY)
		return r;
	r = change(k, edit_day, &day);
	if (r < 0)
		return r;
	r = keyring_day(k, day, out);
	return r == -ENOKEY ? -ESTALE : r; /* made, and forgotten at once by another thread */
}

static struct keyslot_day *day_entry(struct keyslot *s, int32_t day)
{
	uint32_t i = day_place(s, day);

	return i < s->day_count && s->days[i].day == day ? &s->days[i] : NULL;
}

struct written_args {
	const struct keyring_written *days;
	size_t n;
};

static int edit_written(struct keyslot *s, const void *arg)
{
	const struct written_args *a = arg;
	int r = UNCHANGED;

	for (size_t i = 0; i < a->n; i++) {
		struct keyslot_day *d = day_entry(s, a->days[i].day);
		uint32_t mark = a->days[i].times & ~KEYSLOT_DAY_LOST;

		if (!d || mark == (d->mark & ~KEYSLOT_DAY_LOST))
			continue;
		d->mark = mark | (d->mark & KEYSLOT_DAY_LOST);
		r = 0;
	}
	return r;
}

int keyring_days_written(struct keyring *k, const struct keyring_written *days, size_t n)
{
	struct written_args a = { days, n };

	return change(k, edit_written, &a);
}

static int edit_lost(struct keyslot *s, const void *arg)
{
	struct keyslot_day *d = day_entry(s, *(const int32_t *)arg);

	if (!d || d->mark & KEYSLOT_DAY_LOST)
		return UNCHANGED;
	d->mark |= KEYSLOT_DAY_LOST;
	return 0;
}

int keyring_day_lost_set(struct keyring *k, int32_t day)
{
	return change(k, edit_lost, &day);
}

bool keyring_day_mark(struct keyring *k, int32_t day, uint32_t *times, bool *lost)
{
	const struct keyslot *s = read_lock(k);
	uint32_t i = day_place(s, day);
	bool there = i < s->day_count && s->days[i].day == day;

	if (there) {
		*times = s->days[i].mark & ~KEYSLOT_DAY_LOST;
		*lost = (s->days[i].mark & KEYSLOT_DAY_LOST) != 0;
	}
	read_unlock(k);
	return there;
}

size_t keyring_days(struct keyring *k, int32_t *days, size_t max)
{
	const struct keyslot *s = read_lock(k);
	size_t count = s->day_count;

	for (size_t i = 0; i < count && i < max; i++)
		days[i] = s->days[i].day;
	read_unlock(k);
	return count;
}

/* --- Journals --- */

void keyring_journal_info(struct keyring *k, enum keyring_book book, struct keyring_journal *out)
{
	const struct keyslot_journal *j = read_lock(k)->journal[book];

	out->epoch = j[0].epoch;
	out->created_ms = j[0].created_ms;
	out->old_epoch = j[1].epoch;
	out->old_created_ms = j[1].created_ms;
	read_unlock(k);
}

int keyring_journal(struct keyring *k, enum keyring_book book, uint32_t epoch, struct seal_key *out)
{
	const struct keyslot_journal *j = read_lock(k)->journal[book];
	int r = -ENOKEY;

	for (size_t i = 0; i < 2 && epoch != 0 && r < 0; i++)
		if (j[i].epoch == epoch) {
			*out = j[i].key;
			r = 0;
		}
	read_unlock(k);
	return r;
}

struct renew_args {
	enum keyring_book book;
	int64_t now_ms;
};

static int journal_renew(struct keyslot_journal j[2], int64_t now_ms)
{
	if (j[1].epoch != 0)
		return -EBUSY;
	if (j[0].epoch == UINT32_MAX)
		return -EOVERFLOW; /* after 80,000 years */
	j[1] = j[0];
	j[0].epoch++;
	j[0].created_ms = now_ms;
	seal_random(j[0].key.bytes, SEAL_KEY_SIZE);
	return 0;
}

static int edit_journal_renew(struct keyslot *s, const void *arg)
{
	const struct renew_args *a = arg;

	return journal_renew(s->journal[a->book], a->now_ms);
}

int keyring_journal_renew(struct keyring *k, enum keyring_book book, int64_t now_ms)
{
	struct renew_args a = { book, now_ms };

	return change(k, edit_journal_renew, &a);
}

static int edit_journal_drop(struct keyslot *s, const void *arg)
{
	struct keyslot_journal *old = &s->journal[*(const enum keyring_book *)arg][1];

	if (old->epoch == 0)
		return UNCHANGED;
	seal_wipe(old, sizeof(*old));
	return 0;
}

int keyring_journal_drop(struct keyring *k, enum keyring_book book)
{
	return change(k, edit_journal_drop, &book);
}

/* --- Months and meters --- */

uint32_t keyring_month(struct keyring *k)
{
	uint32_t v = read_lock(k)->month[0].month;

	read_unlock(k);
	return v;
}

bool keyring_month_turning(struct keyring *k)
{
	bool v = read_lock(k)->month[1].month != 0;

	read_unlock(k);
	return v;
}

struct month_args {
	uint32_t month;
	int64_t now_ms;
};

static int edit_month_begin(struct keyslot *s, const void *arg)
{
	const struct month_args *a = arg;

	if (s->month[1].month != 0)
		return -EBUSY;
	if (a->month <= s->month[0].month)
		return -ESTALE;
	s->month[1].month = s->month[0].month;
	s->month[0].month = a->month;
	seal_random(s->month[0].key, sizeof(s->month[0].key));
	s->meter[1] = s->meter[0];
	s->meter[0].generation = s->meter[1].generation % 255 + 1; /* 1..255, never 0 */
	s->meter[0].created_ms = a->now_ms;
	seal_random(s->meter[0].key, sizeof(s->meter[0].key));
	return 0;
}

int keyring_month_begin(struct keyring *k, uint32_t month, int64_t now_ms)
{
	struct month_args a = { month, now_ms };

	return change(k, edit_month_begin, &a);
}

static int edit_month_finish(struct keyslot *s, const void *arg)
{
	(void)arg;
	if (s->month[1].month == 0)
		return UNCHANGED;
	if (s->journal[KEYRING_USAGE][1].epoch != 0)
		return -EBUSY;
	s->month[1].month = 0;
	return 0;
}

int keyring_month_finish(struct keyring *k)
{
	return change(k, edit_month_finish, NULL);
}

void keyring_meters(struct keyring *k, struct keyring_meters *out)
{
	const struct keyslot_meter *m = read_lock(k)->meter;

	out->generation = (uint8_t)m[0].generation; /* checked: 0..255 */
	out->old_generation = (uint8_t)m[1].generation;
	out->created_ms = m[0].created_ms;
	read_unlock(k);
}

static int edit_meters_drop(struct keyslot *s, const void *arg)
{
	(void)arg;
	if (s->meter[1].generation == 0)
		return UNCHANGED;
	seal_wipe(&s->meter[1], sizeof(s->meter[1]));
	return 0;
}

int keyring_meters_drop(struct keyring *k)
{
	return change(k, edit_meters_drop, NULL);
}

/*
 * What is hashed begins with its kind: a meter's tag and a stream's lie under
 * the same key and must never meet.  The hash is computed under the lock, so
 * that the key is copied nowhere.
 */
enum tag_kind { TAG_TOTAL = 1, TAG_METER, TAG_STREAM };

void keyring_total_tag(struct keyring *k, const uint8_t account[32], uint8_t out[SEAL_TAG_SIZE])
{
	uint8_t msg[1 + 32] = { TAG_TOTAL };

	memcpy(msg + 1, account, 32);
	seal_tag(out, read_lock(k)->month[0].key, msg, sizeof(msg));
	read_unlock(k);
}

static int meter_key_tag(struct keyring *k, uint8_t generation, const uint8_t *msg, size_t len,
			 uint8_t out[SEAL_TAG_SIZE])
{
	const struct keyslot_meter *m = read_lock(k)->meter;
	int r = -ENOKEY;

	for (size_t i = 0; i < 2 && generation != 0 && r < 0; i++)
		if (m[i].generation == generation) {
			seal_tag(out, m[i].key, msg, len);
			r = 0;
		}
	read_unlock(k);
	return r;
}

int keyring_meter_tag(struct keyring *k, uint8_t generation, const uint8_t server[16],
		      const uint8_t account[32], uint32_t meter, uint8_t out[SEAL_TAG_SIZE])
{
	uint8_t msg[1 + 16 + 32 + 4] = { TAG_METER };

	memcpy(msg + 1, server, 16);
	memcpy(msg + 17, account, 32);
	nolog_put32(msg + 49, meter);
	return meter_key_tag(k, generation, msg, sizeof(msg), out);
}

int keyring_stream_tag(struct keyring *k, uint8_t generation, const uint8_t server[16],
		       uint64_t stream, uint8_t out[SEAL_TAG_SIZE])
{
	uint8_t msg[1 + 16 + 8] = { TAG_STREAM };

	memcpy(msg + 1, server, 16);
	nolog_put64(msg + 17, stream);
	return meter_key_tag(k, generation, msg, sizeof(msg), out);
}

/* --- The clock's hold --- */

int64_t keyring_held_ms(struct keyring *k)
{
	int64_t v = read_lock(k)->held_ms;

	read_unlock(k);
	return v;
}

static int edit_held(struct keyslot *s, const void *arg)
{
	int64_t held_ms = *(const int64_t *)arg;

	if (held_ms == s->held_ms)
		return UNCHANGED;
	s->held_ms = held_ms;
	return 0;
}

int keyring_held_set(struct keyring *k, int64_t held_ms)
{
	return change(k, edit_held, &held_ms);
}
