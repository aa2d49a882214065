/* SPDX-License-Identifier: ISC */
/*
 * dayaudit: days_audit(): is every block of the day files there, whole, in its
 * order, and nothing else beside it?
 *
 * Another process than the daemon, perhaps while that is running: it reads
 * through LMDB's lock file, and opens files under a shared lock of their
 * directory, so that none is replaced meanwhile.  A file is looked at again
 * when it changed under its eyes.  What a daemon has in a file while it works,
 * blocks of runs that are coming or going, is told of a store at rest: there it
 * was left by one that ended.  Changes nothing.
 */
#include "days.h"

#include "calendar.h"
#include "dayset.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* How often a file that changes meanwhile is begun again. */
#define TRIES 8
/* How long a day that is being made may have its key and no file. */
#define MAKING_MS 200
/* More than a keyring has room for. */
#define DAYS_MAX 128

struct audit {
	struct dayset set;
	int32_t horizon, today;
	days_finding_fn *finding;
	days_progress_fn *progress;
	void *arg;
	struct days_audit sum;
	/* the file at hand */
	struct day *day;
	char name[32];
	struct dayread read;
	unsigned used;
	uint64_t blocks, rows, findings;
	struct fault *list; /* of findings, told when the file has kept still */
};

#define LIST_MAX 64

static void find_kind(struct audit *a, int kind, uint64_t block, const char *what)
{
	if (a->findings < LIST_MAX)
		(void)fault_set(&a->list[a->findings], kind, a->name, block, what);
	a->findings++;
}

static void find(struct audit *a, uint64_t block, const char *what)
{
	find_kind(a, -EBADMSG, block, what);
}

static int get(struct audit *a, uint64_t number, uint8_t *out, size_t max)
{
	int r;

	if (a->used++ % DAYFILE_READ_MAX == 0) {
		dayread_end(&a->read);
		r = dayread_begin(&a->read, a->day->file);
		if (r < 0)
			return r;
	}
	a->blocks++;
	return dayread_get(&a->read, number, out, max);
}

/* The rows of a block: within the day, in order, as many as there should be. */
static void check_rows(struct audit *a, const struct dayrun *run, enum dayfamily family, uint32_t i,
		       const uint8_t *bytes, size_t len, struct dayrow *last)
{
	uint64_t number = dayblock_number(run->id, DAYBLOCK_ROWS + family, i);
	uint64_t left = run->rows[family] - (uint64_t)i * dayrow_block[family];
	int n = dayrows_count(family, len);
	struct dayrow row;

	if (n < 0 || (uint64_t)n != (left < dayrow_block[family] ? left : dayrow_block[family])) {
		find(a, number, "a block does not hold as many rows as it should");
		return;
	}
	for (int k = 0; k < n; k++) {
		dayrow_decode(&row, family, bytes + (size_t)k * dayrow_size[family]);
		if (!dayrow_good(&row, a->day->servers.n)) {
			find(a, number, "a row lies outside its day or names no server");
			return;
		}
		if ((i || k) && dayrow_order(last, &row) > 0) {
			find(a, number, "rows are not in order");
			return;
		}
		if (family == DAYFAMILY_6 && effect_ip_is4(row.ip)) {
			find(a, number, "an IPv4 address is among the IPv6 ones");
			return;
		}
		if (k == 0 && dayaddr_of(row.ip) != dayindex_at(run->index[family], family, i)) {
			find(a, number, "the index names another address");
			return;
		}
		*last = row;
	}
	a->rows += (uint64_t)n;
}

static int check_run(struct audit *a, const struct dayrun *run)
{
	uint8_t bytes[DAYBLOCK_SIZE];
	struct dayrow last = { 0 };

	for (int f = 0; f < DAYFAMILIES; f++) {
		for (uint32_t i = 0; i < run->blocks[f]; i++) {
			uint64_t number = dayblock_number(run->id, DAYBLOCK_ROWS + (unsigned)f, i);
			int r = get(a, number, bytes, sizeof(bytes));

			if (r == -ENOKEY)
				return r;
			if (r == -ENOENT)
				find(a, number, "a block is missing");
			else if (r < 0)
				find(a, number, "a block cannot be opened");
			else
				check_rows(a, run, (enum dayfamily)f, i, bytes, (size_t)r, &last);
		}
	}
	seal_wipe(bytes, sizeof(bytes));
	return 0;
}

enum block_kind { BLOCK_EXPECTED, BLOCK_OF_NO_RUN, BLOCK_TOO_MANY };

/* Is it one of the blocks that the manifest makes us expect? */
static enum block_kind block_kind(const struct day *d, uint64_t number)
{
	uint32_t id = (uint32_t)(number >> 32), index = (uint32_t)number & DAYBLOCK_INDEX_MAX;
	unsigned kind = (unsigned)(number >> 24) & 0xff;

	if (id == 0)
		return number == DAYBLOCK_MANIFEST_NUMBER ||
				       (kind == DAYBLOCK_SERVERS &&
					index < dayblock_count(d->servers.n, DAYSERVERS_BLOCK))
			       ? BLOCK_EXPECTED
			       : BLOCK_TOO_MANY;
	for (uint32_t i = 0; i < d->n; i++) {
		const struct dayrun *run = d->runs[i];

		if (run->id != id)
			continue;
		for (unsigned f = 0; f < DAYFAMILIES; f++)
			if ((kind == DAYBLOCK_ROWS + f && index < run->blocks[f]) ||
			    (kind == DAYBLOCK_INDEX + f &&
			     index < dayblock_count(run->blocks[f], dayaddr_block[f])))
				return BLOCK_EXPECTED;
		return BLOCK_TOO_MANY;
	}
	return BLOCK_OF_NO_RUN;
}

/* A block of no run is at least one of this day's: 1, 0 when it was told, -ENOKEY. */
static int check_stray(struct audit *a, uint64_t number)
{
	uint8_t bytes[DAYBLOCK_SIZE];
	int r = dayread_get(&a->read, number, bytes, sizeof(bytes));

	seal_wipe(bytes, sizeof(bytes));
	if (r >= 0 || r == -ENOKEY)
		return r < 0 ? r : 1;
	find(a, number, "a block that no run has, and that cannot be opened");
	return 0;
}

static int check_numbers(struct audit *a)
{
	uint64_t number = 0, stray = 0;
	int r = 0;

	for (unsigned n = 0; r >= 0; n++) {
		if (n % DAYFILE_READ_MAX == 0) {
			dayread_end(&a->read);
			r = dayread_begin(&a->read, a->day->file);
			if (r < 0)
				break;
		}
		r = dayread_next(&a->read, &number);
		if (r <= 0)
			break;
		switch (block_kind(a->day, number)) {
		case BLOCK_EXPECTED:
			break;
		case BLOCK_TOO_MANY:
			find(a, number, "a block that no run has");
			break;
		case BLOCK_OF_NO_RUN: /* said once */
			r = check_stray(a, number);
			if (r > 0)
				stray = stray ? stray : number;
			break;
		}
		if (number++ == UINT64_MAX)
			break;
	}
	/* Of a run that is being written, or was merged and is being deleted. */
	if (r >= 0 && stray && !dayset_held(&a->set))
		find_kind(a, -EAGAIN, stray,
			  "holds blocks of a run that was being written or merged: the next start "
			  "removes them");
	return r < 0 ? r : 0;
}

/* What the keyring has noted of the day, and its file would not tell. */
static void check_mark(struct audit *a)
{
	uint32_t times = 0;
	bool lost = false;

	if (!keyring_day_mark(a->set.home.keyring, a->day->number, &times, &lost))
		return;
	if ((a->day->generation & KEYRING_TIMES_MAX) < times)
		find(a, 0, "is older than it was: what is not in the journal any more is lost");
	else if (lost)
		find(a, 0, "was found missing, or older than it had been: rows of it may be lost");
}

static int check_open_file(struct audit *a)
{
	struct fault fault = { 0 };
	int r = day_load(a->day, &fault);

	if (r < 0) {
		find(a, fault.block, fault.what);
		return r == -ENOMEM || r == -ENOKEY ? r : 0;
	}
	if (fault.error)
		find(a, 0, fault.what);
	check_mark(a);
	if (a->day->through > a->sum.through)
		a->sum.through = a->day->through;
	a->blocks += day_manifest_blocks(a->day->servers.n, 0);
	for (uint32_t i = 0; r == 0 && i < a->day->n; i++)
		r = check_run(a, a->day->runs[i]);
	if (r == 0)
		r = check_numbers(a);
	dayread_end(&a->read);
	return r;
}

/* Opens the file while nobody can replace it. */
static int open_file(struct audit *a, struct fault *fault)
{
	int r;

	while (flock(a->set.dirfd, LOCK_SH) < 0)
		if (errno != EINTR)
			return fault_set(fault, -errno, a->name, 0,
					 "the directory cannot be locked");
	r = dayfile_open(&a->day->file, &a->set.home, a->day->number, DAYFILE_READONLY, fault);
	(void)flock(a->set.dirfd, LOCK_UN); /* cannot fail for a lock that is held */
	return r;
}

/* The manifest's generation now, 0: cannot be read. */
static uint64_t generation(struct audit *a)
{
	struct day *d = day_new(a->day->number);
	uint64_t found = 0;

	if (!d)
		return 0;
	d->file = a->day->file;
	if (day_load(d, NULL) == 0)
		found = d->generation;
	d->file = NULL;
	day_free(d);
	return found;
}

/* One look at a file: 1: it changed meanwhile. */
static int look(struct audit *a, int32_t number)
{
	struct fault fault = { 0 };
	bool changed = false;
	int r;

	a->findings = a->blocks = a->rows = 0;
	a->used = 0;
	a->day = day_new(number);
	if (!a->day)
		return -ENOMEM;
	r = open_file(a, &fault);
	if (r == 0) {
		r = check_open_file(a);
		changed = a->findings && generation(a) != a->day->generation;
	} else if (r != -ENOENT && r != -ENOMEM && r != -EACCES) {
		find(a, fault.block, fault.what);
		changed = true; /* it may have been walked while it was written */
		r = 0;
	}
	day_free(a->day);
	a->day = NULL;
	return r < 0 ? r : changed;
}

static void tell(struct audit *a)
{
	for (uint64_t i = 0; i < a->findings && i < LIST_MAX; i++)
		if (a->finding)
			a->finding(&a->list[i], a->arg);
	a->sum.findings += a->findings;
	a->sum.blocks += a->blocks;
	a->sum.rows += a->rows;
}

static void name_aside(struct audit *a, int32_t day, unsigned aside)
{
	char name[DAYFILE_NAME_SIZE];

	dayfile_aside_name(name, day, aside);
	(void)snprintf(a->name, sizeof(a->name), "days/%s", name);
}

static int audit_file(int32_t day, unsigned aside, void *arg)
{
	struct audit *a = arg;
	struct seal_key key;
	int r = 1;

	dayfile_fault_name(a->name, day);
	if (aside)
		name_aside(a, day, aside);
	a->findings = a->blocks = a->rows = 0;
	a->sum.files++;
	if (day < a->horizon) {
		find(a, 0, "a day before the horizon has a file");
	} else if (day > a->today + 1) {
		find(a, 0, "a day that has not come has a file");
	} else if (aside) {
		find(a, 0, "was set aside as damaged: what it holds is not served");
	} else if (keyring_day(a->set.home.keyring, day, &key) < 0) {
		find(a, 0, "its key is not in the keyring");
	} else {
		seal_wipe(&key, sizeof(key));
		for (int i = 0; r == 1 && i < TRIES; i++)
			r = look(a, day);
		/* Forgotten since the directory was read: nothing is wrong with that. */
		if (r == -ENOENT || r == -ENOKEY)
			return 0;
		if (r < 0)
			return r;
	}
	tell(a);
	if (a->progress)
		a->progress(day, &a->sum, a->arg);
	return 0;
}

/* --- Keys --- */

struct keys {
	int32_t days[DAYS_MAX]; /* without a file */
	size_t n;
};

static int strike_key(int32_t day, unsigned aside, void *arg)
{
	struct keys *keys = arg;

	(void)aside;
	for (size_t i = 0; i < keys->n; i++)
		if (keys->days[i] == day)
			keys->days[i--] = keys->days[--keys->n];
	return 0;
}

/* A day that has a key has a file, be it one that was set aside. */
static int audit_keys(struct audit *a)
{
	struct keys keys;
	int r;

	keys.n = keyring_days(a->set.home.keyring, keys.days, DAYS_MAX);
	for (size_t i = 0; i < keys.n; i++)
		if (keys.days[i] < a->horizon) /* said elsewhere */
			keys.days[i--] = keys.days[--keys.n];
	r = dayset_each_file(&a->set, strike_key, &keys);
	/* A day that is being made has its key first. */
	for (int i = 0; i < TRIES && r == 0 && keys.n && dayset_held(&a->set); i++) {
		(void)poll(NULL, 0, MAKING_MS);
		r = dayset_each_file(&a->set, strike_key, &keys);
	}
	a->findings = a->blocks = a->rows = 0;
	for (size_t i = 0; r == 0 && i < keys.n; i++) {
		uint32_t times = 0;
		bool lost = false;

		dayfile_fault_name(a->name, keys.days[i]);
		(void)keyring_day_mark(a->set.home.keyring, keys.days[i], &times, &lost);
		if (times || lost)
			find(a, 0, "is missing: what is not in the journal any more is lost");
		else
			find_kind(a, -ENOENT, 0, "is missing: the keyring has its key");
	}
	if (r == 0)
		tell(a);
	return r;
}

int days_audit(const char *dir, struct keyring *keyring, int32_t horizon, int32_t today,
	       size_t map_bytes, days_finding_fn *finding, days_progress_fn *progress, void *arg,
	       struct days_audit *out)
{
	struct dayfile_home home = { .dir = dir, .keyring = keyring, .map_bytes = map_bytes };
	struct fault fault = { 0 };
	struct audit a = {
		.horizon = horizon,
		.today = today,
		.finding = finding,
		.progress = progress,
		.arg = arg,
	};
	int r;

	if (access(dir, F_OK) < 0)
		return -errno;
	keyring_store(keyring, home.store);
	a.list = calloc(LIST_MAX, sizeof(*a.list));
	if (!a.list)
		return -ENOMEM;
	r = dayset_open(&a.set, &home, &fault);
	if (r == 0 && dayset_survey(&a.set, INT32_MAX, &fault) == -EINVAL) {
		if (finding)
			finding(&fault, arg);
		a.sum.findings++;
	}
	if (r == 0)
		r = dayset_each_file(&a.set, audit_file, &a);
	if (r == 0)
		r = audit_keys(&a);
	dayset_close(&a.set);
	free(a.list);
	if (r < 0)
		return r;
	*out = a.sum;
	return a.sum.findings > INT32_MAX ? INT32_MAX : (int)a.sum.findings;
}
