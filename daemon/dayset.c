/* SPDX-License-Identifier: ISC */
/*
 * dayset: the directory of day files.  Knows names, not contents.
 *
 * A file appears under its name only when it is whole: made under another,
 * synced, renamed, the directory synced.  LMDB's lock file holds the number of
 * the last transaction of the data file it was made for, so it never outlives
 * that: it goes whenever the data file is replaced.  Audits open files under a
 * shared lock of the directory, so that they never get one with the other's.
 */
#include "dayset.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* "", "-2" to "-9999": the first, the second and so on; 0: none of these. */
static unsigned parse_aside(const char *s)
{
	unsigned n = 0;

	if (*s == '\0')
		return 1;
	if (*s++ != '-' || *s == '0')
		return 0;
	for (; *s >= '0' && *s <= '9' && n <= DAYFILE_ASIDE_MAX; s++)
		n = 10 * n + (unsigned)(*s - '0');
	return *s == '\0' && n >= 2 && n <= DAYFILE_ASIDE_MAX ? n : 0;
}

enum dayset_name dayset_parse(const char *name, int32_t *day, unsigned *aside)
{
	static const char damaged[] = ".damaged";
	bool dot = name[0] == '.';
	const char *rest = dot ? name + 1 : name;
	char date[CALENDAR_NAME_SIZE];

	*aside = 0;

	if (strnlen(rest, sizeof(date)) < sizeof(date))
		return DAYSET_NONE;
	memcpy(date, rest, sizeof(date) - 1);
	date[sizeof(date) - 1] = '\0';
	rest += sizeof(date) - 1;
	if (calendar_parse(day, date) < 0)
		return DAYSET_NONE;
	if (strcmp(rest, ".mdb") == 0)
		return dot ? DAYSET_TEMPORARY : DAYSET_FILE;
	if (strcmp(rest, ".mdb-lock") == 0)
		return dot ? DAYSET_TEMPORARY : DAYSET_LOCK;
	if (!dot && strncmp(rest, damaged, strlen(damaged)) == 0)
		*aside = parse_aside(rest + strlen(damaged));
	return *aside ? DAYSET_ASIDE : DAYSET_NONE;
}

int dayset_open(struct dayset *s, const struct dayfile_home *home, struct fault *fault)
{
	bool made = mkdir(home->dir, 0700) == 0;

	*s = (struct dayset){ .home = *home, .dirfd = -1 };
	if (!made && errno != EEXIST)
		return fault_set(fault, dayfile_errno(errno), "days", 0, "cannot be made");
	s->dirfd = open(home->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (s->dirfd < 0)
		return fault_set(fault, dayfile_errno(errno), "days", 0, "cannot be opened");
	if (made) {
		int parent = openat(s->dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		int r = parent < 0 || fsync(parent) < 0 ? dayfile_errno(errno) : 0;

		if (parent >= 0)
			(void)close(parent); /* synced */
		if (r < 0)
			return fault_set(fault, r, "days", 0, "cannot be synced");
	}
	return 0;
}

void dayset_close(struct dayset *s)
{
	for (size_t i = 0; i < s->n; i++)
		day_free(s->at[i]);
	free(s->at);
	if (s->dirfd >= 0)
		(void)close(s->dirfd); /* only read */
	*s = (struct dayset){ .dirfd = -1 };
}

static int order_names(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* The names in the directory, sorted, in one allocation each; *n of them. */
static int list_names(struct dayset *s, char (**out)[DAYFILE_NAME_SIZE], size_t *n, char *strange,
		      size_t strange_size)
{
	int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	char(*names)[DAYFILE_NAME_SIZE] = NULL;
	size_t room = 0, count = 0;
	struct dirent *e;
	unsigned aside;
	int32_t day;
	int r = dir ? 0 : dayfile_errno(errno);

	if (!dir && fd >= 0)
		(void)close(fd); /* only read */
	while (r == 0 && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (dayset_parse(e->d_name, &day, &aside) == DAYSET_NONE) {
			(void)snprintf(strange, strange_size, "days/%.20s", e->d_name);
			continue;
		}
		if (count == room) {
			void *more = reallocarray(names, room ? 2 * room : 64, sizeof(*names));

			room = room ? 2 * room : 64;
			if (!more) {
				r = -ENOMEM;
				break;
			}
			names = more;
		}
		(void)snprintf(names[count++], DAYFILE_NAME_SIZE, "%.23s", e->d_name);
	}
	if (r == 0 && errno)
		r = dayfile_errno(errno);
	if (dir)
		(void)closedir(dir); /* only read */
	if (r < 0) {
		free(names);
		return r;
	}
	if (count > 1)
		qsort(names, count, sizeof(*names), order_names);
	*out = names;
	*n = count;
	return 0;
}

int dayset_survey(struct dayset *s, int32_t first, struct fault *fault)
{
	char(*names)[DAYFILE_NAME_SIZE];
	char strange[32] = "";
	struct seal_key key;
	unsigned aside;
	int32_t day;
	size_t n;
	int r = list_names(s, &names, &n, strange, sizeof(strange));

	if (r < 0)
		return fault_set(fault, r, "days", 0, "cannot be read");
	if (strange[0])
		r = fault_set(fault, -EINVAL, strange, 0, "does not belong here");
	for (size_t i = 0; r == 0 && i < n; i++) {
		enum dayset_name kind = dayset_parse(names[i], &day, &aside);

		if ((kind != DAYSET_FILE && kind != DAYSET_ASIDE) || day < first)
			continue;
		r = keyring_day(s->home.keyring, day, &key);
		seal_wipe(&key, sizeof(key));
		if (r < 0) {
			char name[32];

			dayfile_fault_name(name, day);
			(void)fault_set(fault, r, name, 0, "its key is not in the keyring");
		}
	}
	free(names);
	return r;
}

static bool listed(char (*names)[DAYFILE_NAME_SIZE], size_t n, int32_t day)
{
	char name[DAYFILE_NAME_SIZE];

	dayfile_name(name, day, false);
	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

int dayset_clean(struct dayset *s, int32_t first, bool temporaries, struct fault *fault)
{
	char(*names)[DAYFILE_NAME_SIZE];
	char strange[32];
	bool any = false;
	unsigned aside;
	int32_t day;
	size_t n;
	int r = list_names(s, &names, &n, strange, sizeof(strange));

	if (r < 0)
		return fault_set(fault, r, "days", 0, "cannot be read");
	for (size_t i = 0; r == 0 && i < n; i++) {
		enum dayset_name kind = dayset_parse(names[i], &day, &aside);

		if (kind == DAYSET_TEMPORARY
			    ? !temporaries
			    : day >= first && (kind != DAYSET_LOCK || listed(names, n, day)))
			continue;
		if (unlinkat(s->dirfd, names[i], 0) < 0 && errno != ENOENT)
			r = fault_set(fault, dayfile_errno(errno), "days", 0,
				      "a file cannot be removed");
		any = true;
	}
	free(names);
	if (r == 0 && any) {
		r = dayset_sync(s);
		if (r < 0)
			(void)fault_set(fault, r, "days", 0, "cannot be synced");
	}
	return r;
}

int dayset_each_file(struct dayset *s, dayset_file_fn *fn, void *arg)
{
	char(*names)[DAYFILE_NAME_SIZE];
	char strange[32];
	unsigned aside;
	int32_t day;
	size_t n;
	int r = list_names(s, &names, &n, strange, sizeof(strange));

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++) {
		enum dayset_name kind = dayset_parse(names[i], &day, &aside);

		if (kind == DAYSET_FILE || kind == DAYSET_ASIDE)
			r = fn(day, aside, arg);
	}
	free(names);
	return r;
}

/* --- The set --- */

size_t dayset_from(const struct dayset *s, int32_t number)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->at[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct day *dayset_find(const struct dayset *s, int32_t number)
{
	size_t i = dayset_from(s, number);

	return i < s->n && s->at[i]->number == number ? s->at[i] : NULL;
}

struct day *dayset_get(struct dayset *s, int32_t number)
{
	size_t i = dayset_from(s, number);
	struct day *d;

	if (i < s->n && s->at[i]->number == number)
		return s->at[i];
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		void *at = reallocarray(s->at, room, sizeof(struct day *));

		if (!at)
			return NULL;
		s->at = at;
		s->room = room;
	}
	d = day_new(number);
	if (!d)
		return NULL;
	memmove(s->at + i + 1, s->at + i, (s->n - i) * sizeof(struct day *));
	s->at[i] = d;
	s->n++;
	return d;
}

void dayset_take(struct dayset *s, struct day *d)
{
	size_t i = dayset_from(s, d->number);

	assert(i < s->n && s->at[i] == d);
	if (d->file)
		s->open--;
	s->n--;
	memmove(s->at + i, s->at + i + 1, (s->n - i) * sizeof(struct day *));
}

static void close_file(struct dayset *s, struct day *d)
{
	if (!d->file)
		return;
	dayfile_close(d->file);
	d->file = NULL;
	s->open--;
}

static void close_oldest(struct dayset *s)
{
	struct day *oldest = NULL;

	for (size_t i = 0; i < s->n; i++) {
		struct day *d = s->at[i];

		if (d->file && !d->busy && (!oldest || d->used < oldest->used))
			oldest = d;
	}
	if (oldest)
		close_file(s, oldest);
}

int dayset_use(struct dayset *s, struct day *d, struct fault *fault)
{
	int r;

	d->used = ++s->clock;
	if (d->file)
		return 0;
	if (s->open >= DAYSET_OPEN)
		close_oldest(s);
	r = dayfile_open(&d->file, &s->home, d->number, DAYFILE_LIVE, fault);
	if (r < 0)
		return r;
	s->open++;
	return 0;
}

/* The names of a day's files, temporary or not. */
static void names_of(int32_t day, bool temporary, char name[DAYFILE_NAME_SIZE],
		     char lock[DAYFILE_NAME_SIZE + 8])
{
	dayfile_name(name, day, temporary);
	(void)snprintf(lock, DAYFILE_NAME_SIZE + 8, "%s-lock", name);
}

static int unlink_at(struct dayset *s, const char *name)
{
	return unlinkat(s->dirfd, name, 0) < 0 && errno != ENOENT ? dayfile_errno(errno) : 0;
}

void dayset_drop_temporary(struct dayset *s, int32_t number)
{
	char name[DAYFILE_NAME_SIZE], lock[DAYFILE_NAME_SIZE + 8];

	names_of(number, true, name, lock);
	/* What is left over is removed at the next start. */
	(void)unlink_at(s, name);
	(void)unlink_at(s, lock);
}

/* The temporary file becomes the day's. */
static int rename_file(struct dayset *s, int32_t number)
{
	char from[DAYFILE_NAME_SIZE], to[DAYFILE_NAME_SIZE];
	char from_lock[DAYFILE_NAME_SIZE + 8], to_lock[DAYFILE_NAME_SIZE + 8];
	int r;

	names_of(number, true, from, from_lock);
	names_of(number, false, to, to_lock);
	if (renameat(s->dirfd, from, s->dirfd, to) < 0)
		return dayfile_errno(errno);
	r = unlink_at(s, to_lock);
	if (r == 0)
		r = unlink_at(s, from_lock);
	return r < 0 ? r : dayset_sync(s);
}

int dayset_make(struct dayset *s, struct day *d, struct fault *fault)
{
	struct dayfile *f;
	char name[32];
	int r;

	dayfile_fault_name(name, d->number);
	dayset_drop_temporary(s, d->number);
	r = dayfile_open(&f, &s->home, d->number, DAYFILE_TEMPORARY, fault);
	if (r == 0) {
		r = day_write_empty(f, d->number);
		if (r < 0)
			dayfile_close(f);
		else
			r = dayfile_seal_temporary(f);
		if (r == 0)
			r = rename_file(s, d->number);
		if (r < 0)
			(void)fault_set(fault, r, name, 0, "cannot be made");
	}
	if (r < 0) {
		dayset_drop_temporary(s, d->number);
		return r;
	}
	d->exists = true;
	r = dayset_use(s, d, fault);
	return r < 0 ? r : day_load(d, fault);
}

int dayset_replace(struct dayset *s, struct day *d, struct fault *fault)
{
	char name[32];
	int r;

	if (flock(s->dirfd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : dayfile_errno(errno);
	dayfile_fault_name(name, d->number);
	close_file(s, d);
	r = rename_file(s, d->number);
	if (r < 0)
		(void)fault_set(fault, r, name, 0, "cannot be replaced");
	else
		r = dayset_use(s, d, fault);
	(void)flock(s->dirfd, LOCK_UN); /* cannot fail for a lock that is held */
	return r;
}

int dayset_set_aside(struct dayset *s, struct day *d, struct fault *fault)
{
	char name[DAYFILE_NAME_SIZE], lock[DAYFILE_NAME_SIZE + 8], to[DAYFILE_NAME_SIZE];
	char fault_name[32];
	int r = 0;

	close_file(s, d);
	names_of(d->number, false, name, lock);
	dayfile_aside_name(to, d->number, d->asides + 1);
	if (d->asides == DAYFILE_ASIDE_MAX)
		r = -EEXIST;
	else if (renameat(s->dirfd, name, s->dirfd, to) < 0)
		r = dayfile_errno(errno);
	if (r == 0)
		r = unlink_at(s, lock);
	if (r == 0)
		r = dayset_sync(s);
	if (r < 0) {
		dayfile_fault_name(fault_name, d->number);
		return fault_set(fault, r, fault_name, 0, "is damaged and cannot be set aside");
	}
	day_unload(d);
	d->asides++;
	d->exists = d->damaged = false;
	d->bytes = 0;
	return 0;
}

int dayset_unlink(struct dayset *s, struct day *d)
{
	char name[DAYFILE_NAME_SIZE], lock[DAYFILE_NAME_SIZE + 8];
	int r;

	if (!d->busy)
		close_file(s, d);
	names_of(d->number, false, name, lock);
	r = unlink_at(s, name);
	if (r == 0)
		r = unlink_at(s, lock);
	for (unsigned i = 1; r == 0 && i <= d->asides; i++) {
		dayfile_aside_name(name, d->number, i);
		r = unlink_at(s, name);
	}
	return r;
}

/*
 * A lock that is asked about and never waited for, beside the one that guards
 * the opening of files.  On a file system that has no such locks an audit takes
 * a store that runs for a copy.
 */
void dayset_hold(struct dayset *s)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	(void)fcntl(s->dirfd, F_OFD_SETLK, &lock);
}

bool dayset_held(const struct dayset *s)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(s->dirfd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int dayset_sync(struct dayset *s)
{
	return fsync(s->dirfd) < 0 ? dayfile_errno(errno) : 0;
}
