/* SPDX-License-Identifier: ISC */
/*
 * daykeep: adding, writing, merging and forgetting.  Knows no queue and no
 * look-up.
 */
#include "daykeep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define FLUSH_ROWS 65536
#define FLUSH_MS 600000
#define REWRITE_AFTER_MS (INT64_C(3) * 3600 * 1000)
/* After there was no space, or an audit was in the way. */
#define RETRY_MS 1000
/* After merging failed for want of space. */
#define REPLAN_MS 10000
/* A new file that cannot be put in place because somebody always reads is given up after this. */
#define REPLACE_MS 60000
/* And a day that could not be rewritten is left alone so long. */
#define REWRITE_AGAIN_MS 600000
/* Runs of one size that are merged. */
#define MERGE_WIDTH 8
/* Kept back on the disk for all rows that may wait, but no more than an eighth of a small one. */
#define SPARE_BYTES ((off_t)16 << 20)
#define SPARE_PART 8
/* Sizes of runs: powers of eight. */
#define CLASSES 24

void daykeep_report(struct daykeep *k, const struct fault *fault, uint64_t n)
{
	struct fault f = *fault;

	k->unreadable += n;
	f.error = -EBADMSG; /* whatever it was: it goes on */
	if (k->options.events.failed)
		k->options.events.failed(&f, k->options.events.arg);
}

/* --- Space kept back --- */

/*
 * On a full disk a day must be forgotten on time.  The journal's key dies when
 * what it has sealed is logged again, and finished sessions cannot be: they
 * must be in their day's file first.  So there is space that nobody else gets,
 * in a file without a name, which goes with the process.
 */
static void spare_open(struct daykeep *k)
{
	k->spare_fd = openat(k->set.dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
}

static void spare_close(struct daykeep *k)
{
	if (k->spare_fd >= 0)
		(void)close(k->spare_fd); /* it held nothing */
	k->spare_fd = -1;
	k->spare = 0;
}

static void spare_take(struct daykeep *k, int64_t now_ms)
{
	struct statfs fs;
	off_t size = SPARE_BYTES;

	if (k->spare_fd < 0 || k->spare || now_ms < k->spare_ms)
		return;
	k->spare_ms = now_ms + REPLAN_MS;
	if (daykeep_no_space(k))
		return;
	if (fstatfs(k->spare_fd, &fs) == 0 && (off_t)fs.f_blocks * fs.f_bsize / SPARE_PART < size)
		size = (off_t)fs.f_blocks * fs.f_bsize / SPARE_PART;
	if (fallocate(k->spare_fd, 0, 0, size) == 0)
		k->spare = size;
	else if (errno == EOPNOTSUPP || errno == ENOSYS)
		spare_close(k); /* not on this file system */
	else if (ftruncate(k->spare_fd, 0) < 0)
		return; /* a part of it stays until the next try */
}

static bool spare_give(struct daykeep *k)
{
	if (!k->spare || ftruncate(k->spare_fd, 0) < 0)
		return false;
	k->spare = 0;
	/* Some file systems give out again only what is durably free. */
	return fdatasync(k->spare_fd) == 0;
}

/* --- Opening --- */

/* A damaged file system under the keyring is no damaged day. */
static int keyring_fault(struct fault *fault, int r)
{
	return fault_set(fault, dayfile_errno(-r), "keyring", 0, "cannot be written");
}

struct opening {
	struct daykeep *k;
	struct fault *fault;
};

/* What a restart or the operator can mend is no damage: it ends the start. */
static bool can_be_mended(int r)
{
	switch (r) {
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
	case -EPROTO:
	case -ENOSPC:
	case -EDQUOT:
	case -EAGAIN:
	case -EACCES:
	case -EPERM:
		return true;
	default:
		return false;
	}
}

static int open_day(int32_t number, unsigned aside, void *arg)
{
	const struct opening *o = arg;
	struct daykeep *k = o->k;
	struct fault fault = { 0 };
	struct day *d;
	int r;

	if (number < k->first)
		return 0; /* its key is gone; the file goes when the clock is vouched for */
	d = dayset_get(&k->set, number);
	if (!d)
		return -ENOMEM;
	if (aside) {
		if (aside > d->asides)
			d->asides = aside;
		return 0;
	}
	d->exists = true;
	r = dayset_use(&k->set, d, &fault);
	if (r == 0)
		r = day_load(d, &fault);
	if (can_be_mended(r)) {
		*o->fault = fault;
		return r;
	}
	if (r < 0)
		d->damaged = true;
	if (fault.error)
		daykeep_report(k, &fault, 1);
	return 0;
}

/*
 * What the keyring knows of a day's file, and the file does not know of itself:
 * whether it is there, and not an older one.  What is missing is not in the
 * journal any more, so it is lost; the rest is served, and every answer says so.
 */
static int check_mark(struct daykeep *k, int32_t number)
{
	struct day *d = dayset_find(&k->set, number);
	struct fault said = { 0 };
	const char *what = NULL;
	uint32_t times = 0;
	bool lost = false;
	char name[32];

	if (!keyring_day_mark(k->options.keyring, number, &times, &lost))
		return 0;
	if (d && d->asides)
		what = NULL; /* another file than the one that was noted, and every answer says so */
	else if (times && (!d || !d->exists))
		what = "is missing: what is not in the journal any more is lost";
	else if (d && d->exists && !d->damaged && (d->generation & KEYRING_TIMES_MAX) < times)
		what = "is older than it was: what is not in the journal any more is lost";
	if (!what && !lost)
		return 0;
	if (!d)
		d = dayset_get(&k->set, number);
	if (!d)
		return -ENOMEM;
	d->lost = true;
	if (what) {
		dayfile_fault_name(name, number);
		(void)fault_set(&said, -EBADMSG, name, 0, what);
		daykeep_report(k, &said, 1);
	}
	return 0;
}

static int check_marks(struct daykeep *k)
{
	int32_t days[KEYRING_DAYS_MAX];
	size_t n = keyring_days(k->options.keyring, days, KEYRING_DAYS_MAX);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		if (days[i] >= k->first)
			r = check_mark(k, days[i]);
	return r;
}

int daykeep_start(struct daykeep *k, struct fault *fault)
{
	int r = 0;

	for (size_t i = 0; i < k->set.n && r == 0; i++)
		if (k->set.at[i]->lost)
			r = keyring_day_lost_set(k->options.keyring, k->set.at[i]->number);
	return r < 0 ? keyring_fault(fault, r) : 0;
}

static void set_defaults(struct days_options *o)
{
	if (o->flush_rows == 0)
		o->flush_rows = FLUSH_ROWS;
	if (o->flush_ms == 0)
		o->flush_ms = FLUSH_MS;
	if (o->rewrite_after_ms == 0)
		o->rewrite_after_ms = REWRITE_AFTER_MS;
}

int daykeep_open(struct daykeep *k, const struct days_options *options, int64_t now_ms,
		 struct fault *fault)
{
	struct dayfile_home home = {
		.dir = options->dir,
		.keyring = options->keyring,
		.map_bytes = options->map_bytes,
	};
	int32_t horizon = calendar_horizon(options->today, options->retention_days);
	int32_t first = keyring_first_day(options->keyring);
	struct fault found = { 0 };
	struct opening opening = { .k = k, .fault = &found };
	int r;

	*k = (struct daykeep){
		.options = *options, .today = options->today, .moved_ms = now_ms, .spare_fd = -1
	};
	set_defaults(&k->options);
	keyring_store(options->keyring, home.store);
	/* Unless the clock is vouched for, only what has been forgotten already is. */
	k->first = options->vouched && first < horizon ? horizon : first;
	r = dayset_open(&k->set, &home, fault);
	if (r == 0)
		dayset_hold(&k->set);
	if (r == 0)
		r = dayset_survey(&k->set, k->first, fault);
	if (r == 0 && options->vouched) {
		r = keyring_forget_days(options->keyring, options->today, horizon);
		if (r < 0)
			r = keyring_fault(fault, r);
	}
	if (r == 0)
		r = dayset_clean(&k->set, options->vouched ? k->first : INT32_MIN, true, fault);
	if (r == 0) {
		r = dayset_each_file(&k->set, open_day, &opening);
		if (r < 0 && found.error == 0)
			(void)fault_set(&found, r, "days", 0, "the files cannot be opened");
		if (r < 0 && fault)
			*fault = found;
	}
	if (r == 0 && (r = check_marks(k)) < 0)
		(void)fault_set(fault, r, "days", 0, "no memory");
	if (r < 0) {
		dayset_close(&k->set);
		return r;
	}
	k->forgotten = options->vouched ? options->today : 0;
	spare_open(k);
	spare_take(k, now_ms);
	return 0;
}

void daykeep_close(struct daykeep *k)
{
	daykeep_give_up(k, k->job);
	spare_close(k);
	dayset_close(&k->set);
}

/* --- Adding --- */

struct part {
	int32_t day;
	uint32_t start, end;
};

static int add_part(struct daykeep *k, uint64_t batch, struct daywait_row *row,
		    const struct part *part, int64_t now_ms)
{
	struct day *d = dayset_get(&k->set, part->day);
	int r;

	if (!d)
		return -ENOMEM;
	if (d->exists && batch <= d->through)
		return 0; /* replayed, and in a run */
	row->start = part->start;
	row->end = part->end;
	r = daywait_add(&d->wait, row, batch, now_ms);
	if (r == 0)
		k->waiting++;
	return r;
}

/* Cut at midnight; 24:00 belongs to the day that ends. */
static int add_session(struct daykeep *k, uint64_t batch, struct daywait_row *row, int64_t start_ms,
		       int64_t end_ms, int64_t now_ms)
{
	int32_t first = calendar_day(start_ms), last = calendar_day(end_ms), from;

	if (end_ms > start_ms && end_ms == calendar_day_start(last))
		last--;
	from = last - CALENDAR_RETENTION_MAX; /* no day before that is kept by anybody */
	if (from < k->first)
		from = k->first;
	if (from < first)
		from = first;
	for (int32_t day = from; day <= last; day++) {
		struct part part = { .day = day,
				     .start = ROW_MORE,
				     .end = DAYBLOCK_DAY_MS | ROW_MORE };
		int r;

		if (day == first)
			part.start = (uint32_t)(start_ms - calendar_day_start(day));
		if (day == last)
			part.end = (uint32_t)(end_ms - calendar_day_start(day));
		r = add_part(k, batch, row, &part, now_ms);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The effect as a row, less its times, and these; 0: it is none. */
static int row_of(struct daywait_row *row, int64_t times_ms[2], const uint8_t effect[EFFECT_SIZE])
{
	struct effect e;
	int r = effect_decode(&e, effect);

	if (r == 0 && e.type == EFFECT_CLOSE) {
		row->server = e.u.close.server;
		memcpy(row->ip, e.u.close.ip, sizeof(row->ip));
		times_ms[0] = e.u.close.start_ms;
		times_ms[1] = e.u.close.end_ms;
		r = 1;
	} else if (r == 0 && e.type == EFFECT_WHOLE) {
		row->server = e.u.whole.server;
		memcpy(row->ip, e.u.whole.ip, sizeof(row->ip));
		times_ms[0] = e.u.whole.start_ms;
		times_ms[1] = e.u.whole.end_ms;
		r = 1;
	}
	seal_wipe(&e, sizeof(e));
	return r;
}

int daykeep_add(struct daykeep *k, uint64_t batch, const uint8_t effect[EFFECT_SIZE],
		int64_t now_ms)
{
	struct daywait_row row = { 0 };
	int64_t times_ms[2] = { 0 };
	int r = row_of(&row, times_ms, effect);

	if (r > 0)
		r = times_ms[0] <= times_ms[1]
			    ? add_session(k, batch, &row, times_ms[0], times_ms[1], now_ms)
			    : -EBADMSG;
	seal_wipe(&row, sizeof(row));
	return r;
}

/* --- Writing --- */

/* A damaged file is set aside when the other thread has let go of it. */
static bool can_flush(const struct day *d)
{
	return d->wait.n > d->wait.stuck && !d->held && !(d->damaged && d->busy);
}

int64_t daykeep_due_ms(const struct daykeep *k, uint64_t soon)
{
	int64_t since = INT64_MAX;
	bool now = false;
	size_t rows = 0;

	for (size_t i = 0; i < k->set.n; i++) {
		const struct day *d = k->set.at[i];

		if (!can_flush(d))
			continue;
		rows += d->wait.n - d->wait.stuck;
		now |= d->wait.fresh <= soon;
		if (d->wait.since_ms < since)
			since = d->wait.since_ms;
	}
	if (rows == 0)
		return INT64_MAX;
	if (now || rows >= k->options.flush_rows)
		since = 0;
	else
		since += k->options.flush_ms;
	return since < k->retry_ms ? k->retry_ms : since;
}

bool daykeep_no_space(const struct daykeep *k)
{
	return k->no_space && daykeep_due_ms(k, 0) != INT64_MAX;
}

static void drop_waiting(struct daykeep *k, struct day *d)
{
	k->waiting -= d->wait.n;
	daywait_clear(&d->wait);
}

static int make_file(struct daykeep *k, struct day *d, struct fault *fault)
{
	struct seal_key key;
	int r = keyring_day_make(k->options.keyring, d->number, &key);

	seal_wipe(&key, sizeof(key));
	if (r < 0)
		return r == -ESTALE ? r : keyring_fault(fault, r);
	return dayset_make(&k->set, d, fault);
}

static int flush_day(struct daykeep *k, struct day *d, struct fault *fault)
{
	uint32_t n = d->wait.n;
	char name[32];
	int r = d->exists ? dayset_use(&k->set, d, fault) : make_file(k, d, fault);

	if (r < 0)
		return r;
	r = day_flush(d, k->handed);
	if (r < 0) {
		dayfile_fault_name(name, d->number);
		return fault_set(fault, r, name, 0, "cannot be written");
	}
	k->waiting -= n - d->wait.n;
	return 0;
}

/* Out of the way, so that the day's rows have where to go. */
static int set_aside(struct daykeep *k, struct day *d, struct fault *fault)
{
	struct fault said = { 0 };
	char name[32];
	int r;

	dayfile_fault_name(name, d->number);
	if (!d->exists)
		return fault_set(fault, -EIO, name, 0, "cannot be made");
	if (k->done && k->done->day == d->number && !k->gone) {
		/* It is of the file that goes. */
		if (k->done->kind == MERGE_REWRITE)
			dayset_drop_temporary(&k->set, d->number);
		mergejob_free(k->done);
		k->done = NULL;
		d->held = false;
	}
	r = dayset_set_aside(&k->set, d, fault);
	if (r < 0)
		return r;
	d->wait.stuck = 0;
	(void)fault_set(&said, -EBADMSG, name, 0,
			"set aside as damaged; its day goes on in a new file");
	daykeep_report(k, &said, 0);
	return 0;
}

/* A day's rows; -EBUSY: the other thread has the damaged file. */
static int flush_anyhow(struct daykeep *k, struct day *d, struct fault *fault)
{
	int r = d->damaged ? -EBADMSG : flush_day(k, d, fault);

	if (r != -EBADMSG)
		return r;
	if (!d->damaged) {
		d->damaged = true;
		daykeep_report(k, fault, 1);
	}
	if (d->busy) {
		merger_cancel(k->merger);
		return -EBUSY;
	}
	r = set_aside(k, d, fault);
	if (r == 0)
		r = flush_day(k, d, fault);
	if (r == -EBADMSG) /* the new one too */
		r = fault->error = -EIO;
	return r;
}

/* Its key may have died since this thread was told of the day. */
static bool forgotten(const struct daykeep *k, const struct day *d, int error)
{
	return error == -ESTALE ||
	       (error == -ENOKEY && d->number < keyring_first_day(k->options.keyring));
}

/* Which files there are, and which states of them, for the next start to hold them against. */
static int note_written(struct daykeep *k, struct keyring_written *written, size_t n,
			struct fault *fault)
{
	int r = keyring_days_written(k->options.keyring, written, n);

	return r < 0 ? keyring_fault(fault, r) : 0;
}

int daykeep_flush(struct daykeep *k, int64_t now_ms, bool *wrote, struct fault *fault)
{
	struct keyring_written written[KEYRING_DAYS_MAX];
	size_t n = 0;

	*wrote = k->no_space = false;
	k->retry_ms = 0;
	for (size_t i = 0; i < k->set.n; i++) {
		struct day *d = k->set.at[i];
		struct fault found = { 0 };
		size_t before = k->waiting;
		int r;

		if (!can_flush(d))
			continue;
		r = flush_anyhow(k, d, &found);
		if (r == -ENOSPC && k->urgent && spare_give(k))
			r = flush_anyhow(k, d, &found);
		*wrote |= k->waiting < before;
		if (k->waiting < before && n < KEYRING_DAYS_MAX)
			written[n++] = (struct keyring_written){ d->number,
								 (uint32_t)d->generation };
		if (r == -ENOSPC || r == -ERANGE || r == -EAGAIN) {
			/* -ERANGE: the keyring is a day behind; -EAGAIN: the merger is */
			k->retry_ms = now_ms + RETRY_MS;
			k->no_space |= r == -ENOSPC;
		} else if (forgotten(k, d, r)) {
			drop_waiting(k, d);
		} else if (r < 0 && r != -EBUSY) {
			if (fault)
				*fault = found;
			return r;
		}
	}
	if (!*wrote)
		return 0;
	k->flushes++;
	return note_written(k, written, n, fault);
}

uint64_t daykeep_flushed(const struct daykeep *k)
{
	uint64_t flushed = k->handed;

	for (size_t i = 0; i < k->set.n; i++) {
		const struct day *d = k->set.at[i];

		if (d->wait.n && d->wait.oldest <= flushed)
			flushed = d->wait.oldest - 1;
	}
	return flushed;
}

/* --- Forgetting --- */

static int forget_day(struct daykeep *k, struct day *d)
{
	int r = day_has_files(d) ? dayset_unlink(&k->set, d) : 0;

	if (r < 0)
		return r;
	k->forgotten_days += day_has_files(d);
	drop_waiting(k, d);
	for (uint32_t i = 0; i < d->n; i++)
		dayrun_wipe(d->runs[i]);
	for (uint32_t i = 0; i < d->retired_n; i++)
		dayrun_wipe(d->retired[i]);
	dayset_take(&k->set, d);
	if (d->busy) {
		merger_cancel(k->merger);
		k->gone = d;
	} else {
		day_free(d);
	}
	return 0;
}

int daykeep_forget(struct daykeep *k, int32_t today, int64_t now_ms, struct fault *fault)
{
	int32_t horizon = calendar_horizon(today, k->options.retention_days);
	bool any = false;
	int r;

	if (today < k->today || (today == k->today && k->forgotten == today))
		return 0;
	r = keyring_forget_days(k->options.keyring, today, horizon);
	if (r < 0)
		return keyring_fault(fault, r);
	if (today > k->today)
		k->moved_ms = now_ms;
	k->today = today;
	if (k->first < horizon)
		k->first = horizon;
	while (k->set.n && k->set.at[0]->number < k->first) {
		any |= day_has_files(k->set.at[0]);
		r = forget_day(k, k->set.at[0]);
		if (r < 0)
			return fault_set(fault, r, "days", 0, "a file cannot be removed");
	}
	/* Also those of a start whose clock nobody vouched for. */
	r = k->forgotten == 0 ? dayset_clean(&k->set, k->first, false, fault) : 0;
	if (r == 0 && any) {
		r = dayset_sync(&k->set);
		if (r < 0)
			(void)fault_set(fault, r, "days", 0, "cannot be synced");
	}
	if (r == 0)
		k->forgotten = today;
	return r;
}

/* --- Merging --- */

/* The smallest size of which there are eight runs; CLASSES: none. */
static unsigned find_class(const struct day *d)
{
	unsigned count[CLASSES] = { 0 }, class = 0;

	for (uint32_t i = 0; i < d->n; i++)
		count[dayrun_class(d->runs[i])] += !d->runs[i]->damaged;
	while (class < CLASSES && count[class] < MERGE_WIDTH)
		class ++;
	return class;
}

/* Eight runs of one size, the oldest; false: there are none. */
static bool find_runs(const struct day *d, struct dayrun *found[MERGE_WIDTH])
{
	unsigned class = find_class(d), n = 0;

	for (uint32_t i = 0; i < d->n && class < CLASSES && n < MERGE_WIDTH; i++)
		if (!d->runs[i]->damaged && dayrun_class(d->runs[i]) == class)
			found[n++] = d->runs[i];
	return n == MERGE_WIDTH;
}

/* True when there are runs to be merged, or blocks that nobody needs. */
static bool has_work(const struct day *d)
{
	for (uint32_t i = 0; i < d->retired_n; i++)
		if (d->retired[i]->refs == 1)
			return true;
	return d->garbage_n || find_class(d) < CLASSES;
}

/* Since when a day may be rewritten. */
static int64_t rewrite_ms(const struct daykeep *k, const struct day *d)
{
	int64_t ms;

	if (d->number >= k->today)
		return INT64_MAX;
	/* Of an older one nobody knows how long ago it ended, but it was long enough. */
	ms = d->number == k->today - 1 ? k->moved_ms + k->options.rewrite_after_ms : k->moved_ms;
	return ms < d->not_before_ms ? d->not_before_ms : ms;
}

enum rewriting { REWRITE_NOT, REWRITE_TOMORROW, REWRITE_SOON };

/*
 * Once after its end; again when late rows have come to an eighth of it, and a
 * day later when there are any: their runs show in what order they came.  Not
 * while a part of it cannot be read: what is left stays as it is.
 */
static enum rewriting wants_rewriting(const struct day *d)
{
	uint64_t rows = 0, most = 0;

	if (d->n == 0)
		return REWRITE_NOT;
	for (uint32_t i = 0; i < d->n; i++) {
		uint64_t n = dayrun_rows(d->runs[i]);

		if (d->runs[i]->damaged)
			return REWRITE_NOT;
		rows += n;
		if (n > most)
			most = n;
	}
	if (!d->rewritten || (rows - most) * 8 >= rows)
		return REWRITE_SOON;
	return d->n > 1 ? REWRITE_TOMORROW : REWRITE_NOT;
}

/* When it is to be rewritten; INT64_MAX: it need not be. */
static int64_t rewrite_due_ms(const struct daykeep *k, const struct day *d)
{
	enum rewriting wanted = wants_rewriting(d);
	int64_t ms = rewrite_ms(k, d);

	if (wanted == REWRITE_NOT)
		return INT64_MAX;
	if (wanted == REWRITE_TOMORROW && ms < d->rewritten_ms + CALENDAR_DAY_MS)
		ms = d->rewritten_ms + CALENDAR_DAY_MS;
	return ms;
}

static int give(struct daykeep *k, struct day *d, enum mergejob_kind kind,
		struct dayrun *const *runs, uint32_t n, int64_t now_ms, struct fault *fault)
{
	struct fault found = { 0 };
	struct mergejob *job;
	int r = dayset_use(&k->set, d, &found);

	if (r == -EBADMSG) {
		d->damaged = true;
		daykeep_report(k, &found, 1);
		return 0;
	}
	if (r == -ENOSPC) {
		k->plan_ms = now_ms + REPLAN_MS;
		return 0;
	}
	if (r < 0) {
		if (fault)
			*fault = found;
		return r;
	}
	job = mergejob_new(kind, d, runs, n);
	if (!job)
		return fault_set(fault, -ENOMEM, "days", 0, "no memory");
	if (kind == MERGE_RUNS)
		job->id = d->next_run++;
	if (kind == MERGE_REWRITE) {
		dayset_drop_temporary(&k->set, d->number);
		d->held = true;
	}
	d->busy = true;
	k->job = job;
	merger_give(k->merger, job);
	return 0;
}

int daykeep_plan(struct daykeep *k, int64_t now_ms, struct fault *fault)
{
	struct dayrun *runs[MERGE_WIDTH];

	spare_take(k, now_ms);
	if (!k->merger || k->job || k->done || now_ms < k->plan_ms)
		return 0;
	for (size_t i = k->set.n; i-- > 0;) {
		struct day *d = k->set.at[i];

		if (!d->exists || d->damaged)
			continue;
		if (day_reap(d) < 0)
			return fault_set(fault, -ENOMEM, "days", 0, "no memory");
		if (d->garbage_n)
			return give(k, d, MERGE_DELETE, NULL, 0, now_ms, fault);
		if (find_runs(d, runs))
			return give(k, d, MERGE_RUNS, runs, MERGE_WIDTH, now_ms, fault);
	}
	for (size_t i = 0; i < k->set.n; i++) {
		struct day *d = k->set.at[i];

		if (d->exists && !d->damaged && now_ms >= rewrite_due_ms(k, d))
			return give(k, d, MERGE_REWRITE, d->runs, d->n, now_ms, fault);
	}
	return 0;
}

static int64_t jobs_ms(const struct daykeep *k, int64_t now_ms)
{
	int64_t next = INT64_MAX;

	if (!k->merger || k->job)
		return INT64_MAX;
	if (k->done)
		return now_ms + RETRY_MS;
	for (size_t i = 0; i < k->set.n; i++) {
		const struct day *d = k->set.at[i];
		int64_t ms = INT64_MAX;

		if (!d->exists || d->damaged)
			continue;
		if (has_work(d))
			ms = now_ms;
		else
			ms = rewrite_due_ms(k, d);
		if (ms < next)
			next = ms;
	}
	if (k->plan_ms > now_ms && next > k->plan_ms)
		next = k->plan_ms; /* something failed for want of space */
	return next < k->plan_ms ? k->plan_ms : next;
}

int64_t daykeep_plan_ms(const struct daykeep *k, int64_t now_ms)
{
	int64_t next = jobs_ms(k, now_ms);

	if (k->spare_fd >= 0 && !k->spare && k->spare_ms < next)
		next = k->spare_ms;
	return next;
}

/* --- What the merger has done --- */

/* What it wrote into the file is in no manifest, and goes. */
static int drop_outcome(struct daykeep *k, struct day *d, struct mergejob *job)
{
	d->held = false;
	if (job->kind == MERGE_REWRITE)
		dayset_drop_temporary(&k->set, d->number);
	return job->kind == MERGE_RUNS ? day_garbage_add(d, job->id) : 0;
}

static int job_failed(struct daykeep *k, struct day *d, struct mergejob *job, int64_t now_ms,
		      struct fault *fault)
{
	int r = drop_outcome(k, d, job);

	if (r < 0)
		return fault_set(fault, r, "days", 0, "no memory");
	switch (job->error) {
	case -ENOSPC:
		k->plan_ms = now_ms + REPLAN_MS;
		if (job->kind == MERGE_REWRITE)
			d->not_before_ms = now_ms + REWRITE_AGAIN_MS;
		return 0;
	case -ECANCELED:
	case -ENOKEY:
		return 0;
	case -EBADMSG:
		if (job->bad)
			job->bad->damaged = true;
		else
			d->damaged = true;
		daykeep_report(k, &job->fault, 1);
		return 0;
	default:
		if (fault)
			*fault = job->fault;
		return job->error;
	}
}

static void take_new_file(struct day *d, struct mergejob *job, int64_t now_ms)
{
	uint64_t through = job->through, generation = job->generation + 1;
	struct dayservers servers = d->servers;

	for (uint32_t i = 0; i < d->n; i++)
		dayrun_unref(d->runs[i]);
	for (uint32_t i = 0; i < d->retired_n; i++)
		dayrun_unref(d->retired[i]);
	d->retired_n = d->garbage_n = 0;
	d->runs[0] = job->run;
	d->n = 1;
	d->next_run = job->run->id + 1;
	job->run = NULL;
	d->servers = job->servers; /* in another order */
	job->servers = servers;
	d->rewritten = true;
	d->rewritten_ms = now_ms;
	d->through = through;
	d->generation = generation;
	d->bytes = dayfile_bytes(d->file);
	d->held = false;
}

/* 0: it is in the day; -EAGAIN: not now; else a failure. */
static int put_outcome(struct daykeep *k, struct day *d, struct mergejob *job, int64_t now_ms,
		       bool asking, struct fault *fault)
{
	char name[32];
	int r;

	switch (job->kind) {
	case MERGE_RUNS:
		r = dayset_use(&k->set, d, fault);
		if (r == 0)
			r = day_switch(d, job->runs, job->n, job->run);
		if (r < 0) {
			dayfile_fault_name(name, d->number);
			return r == -ENOSPC ? -EAGAIN
					    : fault_set(fault, r, name, 0, "cannot be written");
		}
		job->run = NULL;
		k->merges++;
		return 0;
	case MERGE_REWRITE:
		if (asking && now_ms < k->plan_ms + REPLACE_MS)
			return -EAGAIN;
		if (asking) {
			d->not_before_ms = now_ms + REWRITE_AGAIN_MS;
			return drop_outcome(k, d, job);
		}
		r = dayset_replace(&k->set, d, fault);
		if (r == 0) {
			take_new_file(d, job, now_ms);
			k->rewrites++;
		}
		return r;
	case MERGE_DELETE:
		memmove(d->garbage, d->garbage + job->n,
			(d->garbage_n - job->n) * sizeof(*d->garbage));
		d->garbage_n -= job->n;
		return 0;
	}
	return 0;
}

/* Nothing goes into a damaged file; one that proves to be is no worse than one that was. */
static int put_or_drop(struct daykeep *k, struct day *d, int64_t now_ms, bool asking,
		       struct fault *fault)
{
	struct fault found = { 0 };
	int r = 0;

	if (!d->damaged)
		r = put_outcome(k, d, k->done, now_ms, asking, &found);
	if (r == -EBADMSG) {
		d->damaged = true;
		daykeep_report(k, &found, 1);
	} else if (r < 0 && !forgotten(k, d, r)) {
		if (fault)
			*fault = found;
		return r;
	}
	r = d->damaged || r < 0 ? drop_outcome(k, d, k->done) : 0;
	return r < 0 ? fault_set(fault, r, "days", 0, "no memory") : 0;
}

int daykeep_settle(struct daykeep *k, int64_t now_ms, bool asking, struct fault *fault)
{
	struct day *d;
	int r = 0;

	if (k->job && !k->done) {
		k->done = merger_take(k->merger);
		if (!k->done)
			return 0;
		k->job = NULL;
		k->plan_ms = now_ms;
		d = k->gone ? NULL : dayset_find(&k->set, k->done->day);
		if (d)
			d->busy = false;
	}
	if (!k->done)
		return 0;
	d = k->gone ? NULL : dayset_find(&k->set, k->done->day);
	if (d && k->done->error < 0)
		r = job_failed(k, d, k->done, now_ms, fault);
	else if (d)
		r = put_or_drop(k, d, now_ms, asking, fault);
	else
		dayset_drop_temporary(&k->set, k->done->day); /* the day is forgotten */
	if (r == -EAGAIN)
		return 0;
	mergejob_free(k->done);
	k->done = NULL;
	day_free(k->gone);
	k->gone = NULL;
	return r;
}

void daykeep_give_up(struct daykeep *k, struct mergejob *job)
{
	struct mergejob *both[2] = { job, k->done };

	for (int i = 0; i < 2; i++) {
		struct day *d = both[i] ? dayset_find(&k->set, both[i]->day) : NULL;

		if (d) {
			d->busy = d->held = false;
			dayset_drop_temporary(&k->set, d->number);
		}
		mergejob_free(both[i]);
	}
	day_free(k->gone);
	k->job = k->done = NULL;
	k->gone = NULL;
	k->merger = NULL;
}

void daykeep_stats(const struct daykeep *k, struct days_stats *out)
{
	*out = (struct days_stats){
		.waiting_rows = k->waiting,
		.flushes = k->flushes,
		.merges = k->merges,
		.rewrites = k->rewrites,
		.forgotten_days = k->forgotten_days,
		.unreadable = k->unreadable,
	};
	for (size_t i = 0; i < k->set.n; i++) {
		const struct day *d = k->set.at[i];

		if (!day_has_files(d))
			continue;
		if (out->days_held++ == 0)
			out->oldest_day = d->number;
		if (d->servers.n > out->servers)
			out->servers = d->servers.n;
		if (d->through > out->through)
			out->through = d->through;
		out->runs += d->n;
		out->rows += day_rows(d);
		out->bytes += d->bytes;
	}
}
