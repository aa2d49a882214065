/* SPDX-License-Identifier: ISC */
/*
 * ctl_audit: is the store what the policy says?
 *
 * Reads everything there is with the eyes of the daemon, its own code and its
 * keys, and writes nothing.  A live store changes meanwhile: keys are renewed,
 * blocks cut off, files rewritten and forgotten.  So what looks wrong is looked
 * at again with a fresh keyring, and only what stays wrong is a finding.
 */
#include "ctl.h"
#include "ctl_check.h"
#include "ctl_findings.h"
#include "ctl_out.h"
#include "ctl_reporter.h"
#include "ctl_slack.h"

#include "calendar.h"
#include "days.h"
#include "journal.h"
#include "sessions.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_DIR "/var/lib/nologd"
#define KEYRING_NAME "keyring"
#define TRY_AGAIN_MS 500
#define KEY_TRIES 3
#define DAYS_MAX 128 /* more than a keyring has room for */
#define WAITING_WORDS (DAYS_MAX / 64)

enum part_id { FILES, KEYRING, SESSIONS, USAGE, DAYS, PARTS };

/* What was verified of a part; findings are those of the last try. */
struct part {
	uint64_t files, blocks, records;
	size_t findings;
};

struct audit {
	const char *dir;
	char ring[PATH_MAX];	 /* the keyring's path */
	bool apart;		 /* which is not in the state directory */
	bool json, show;	 /* show: progress, on a terminal */
	struct keyring *keyring; /* NULL: it cannot be opened */
	int32_t today, horizon;
	struct ctl_bounds bounds;
	struct part parts[PARTS];
	struct ctl_findings findings, notes;
	bool weak;
	/* of the journal at hand */
	enum keyring_book book;
	const char *file;
	/* of the days at hand */
	struct ctl_findings missing; /* they have a key and no file */
	uint64_t waiting
		[WAITING_WORDS]; /* a bit a day from the horizon on: rows are in the journal */
};

/*
 * One look at a part: 0, also with findings, or -errno when it cannot be
 * judged, which has been said.
 */
typedef int look_fn(struct audit *a, struct part *p);

static void found(struct audit *a, const char *file, uint64_t block, const char *what)
{
	struct fault f = { .error = -EBADMSG, .what = what, .block = block };
	size_t n = strnlen(file, sizeof(f.file) - 1);

	memcpy(f.file, file, n);
	if (file[n]) /* a strange file may have a long name */
		memcpy(f.file + n - 3, "...", 3);
	ctl_findings_add(&a->findings, &f);
}

static void path_of(const struct audit *a, char out[PATH_MAX], const char *name)
{
	(void)snprintf(out, PATH_MAX, "%s/%s", a->dir, name); /* too long: it will not be there */
}

static int cannot(const struct audit *a, const char *name, int error, const char *what)
{
	char path[PATH_MAX];

	path_of(a, path, name);
	ctl_say("%s: %s%s%s",
		strcmp(name, KEYRING_NAME) == 0 ? a->ring
		: *name				? path
						: a->dir,
		what ? what : "", what ? ": " : "", strerror(-error));
	return error;
}

/* What is something else, or is not there, is said where the files are. */
static bool is_there(const struct audit *a, const char *name, mode_t kind)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(a, path, name);
	return lstat(path, &st) < 0 ? errno != ENOENT : (st.st_mode & S_IFMT) == kind;
}

/* What is wrong with the store is a finding; what keeps us from looking is not. */
static int sort_out(struct audit *a, const char *name, int error, const struct fault *f)
{
	char path[PATH_MAX];

	path_of(a, path, name);
	switch (error) {
	case -EACCES:
		if (access(strcmp(name, KEYRING_NAME) == 0 ? a->ring : path, R_OK) < 0)
			return cannot(a, name, error, NULL);
		break;
	case -EBADMSG:
	case -ENOKEY:
	case -ENOENT:
		break;
	default:
		return cannot(a, name, error, f->what);
	}
	found(a, name, f->block, f->what ? f->what : "cannot be read");
	return 0;
}

/* --- Files ---------------------------------------------------------------- */

/* Everything that may be in the state directory; .new is what is being made. */
static const struct {
	const char *name;
	bool dir, needed;
} expected[] = {
	{ KEYRING_NAME, false, true },	       { "sessions.mdb", false, true },
	{ "sessions.mdb-lock", false, false }, { "sessions.mdb.new", false, false },
	{ "usage.mdb", false, true },	       { "usage.mdb-lock", false, false },
	{ "usage.mdb.new", false, false },     { "days", true, true },
};
#define EXPECTED (sizeof(expected) / sizeof(expected[0]))

/* Open to nobody but its owner, who is the directory's; one name, no link. */
static void check_mode(struct audit *a, const char *name, const struct stat *st, uid_t owner)
{
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		found(a, name, 0, "is neither file nor directory");
	else if (st->st_mode & (S_IRWXG | S_IRWXO))
		found(a, name, 0, "is open to others than its owner");
	if (st->st_uid != owner)
		found(a, name, 0, "belongs to another user than its directory");
	if (S_ISREG(st->st_mode) && st->st_nlink > 1)
		found(a, name, 0, "has a second name (hard link)");
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n >= m && strcmp(name + n - m, end) == 0;
}

/* Where no record is, nothing else is either.  What cannot be opened has vanished, or others say so. */
static void check_slack(struct audit *a, const char *name, const char *path)
{
	const char *what = NULL;
	int fd;

	if (!ends_with(name, ".mdb") && !ends_with(name, ".mdb-lock"))
		return;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	what = ends_with(name, ".mdb") ? ctl_slack_data(fd) : ctl_slack_lock(fd);
	(void)close(fd); /* only read */
	if (what)
		found(a, name, 0, what);
}

/* One entry of the directory; what has vanished since it was listed is fine. */
static int look_file(struct audit *a, struct part *p, const char *name, uid_t owner)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(a, path, name);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : cannot(a, name, -errno, NULL);
	check_mode(a, name, &st, owner);
	if (S_ISREG(st.st_mode)) {
		check_slack(a, name, path);
		p->files++;
	}
	return 0;
}

/* True while a nologd has the state, or when that cannot be told. */
static bool in_use(const struct audit *a)
{
	int fd = open(a->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool used = fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0;

	if (fd >= 0)
		(void)close(fd); /* and the lock is gone */
	return used;
}

/* An entry of the state directory: may it be there, and be what it is? */
static void check_place(struct audit *a, const char *name)
{
	for (size_t i = 0; i < EXPECTED; i++) {
		if (strcmp(expected[i].name, name) != 0)
			continue;
		if (!is_there(a, name, expected[i].dir ? S_IFDIR : S_IFREG) &&
		    (is_there(a, name, S_IFDIR) || is_there(a, name, S_IFREG)))
			found(a, name, 0, "is a directory in a file's place, or a file in one's");
		/* Only then the lock is asked for: a nologd that starts at that moment would miss it. */
		if (ends_with(name, ".new") && !in_use(a))
			found(a, name, 0, "is left over: no nologd makes it");
		if (a->apart && strcmp(name, KEYRING_NAME) == 0)
			found(a, name, 0, "has no place in the store: the keyring is elsewhere");
		return;
	}
	found(a, name, 0, "has no place in the store");
}

/* All entries of a directory below the state directory, "" for itself. */
static int look_dir(struct audit *a, struct part *p, const char *below, uid_t owner)
{
	char path[PATH_MAX], name[NAME_MAX + 8];
	const struct dirent *entry;
	int r = 0;
	DIR *d;

	path_of(a, path, below);
	d = opendir(path);
	if (!d)
		return errno == ENOENT && *below ? 0 : cannot(a, below, -errno, NULL);
	while (r == 0 && (errno = 0, entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		(void)snprintf(name, sizeof(name), "%s%s%s", below, *below ? "/" : "",
			       entry->d_name);
		if (!*below) /* what may be in days/ is days_audit()'s to say */
			check_place(a, name);
		r = look_file(a, p, name, owner);
	}
	if (r == 0 && errno != 0)
		r = cannot(a, below, -errno, NULL);
	(void)closedir(d); /* was only read */
	return r;
}

static void check_missing(struct audit *a)
{
	char path[PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < EXPECTED; i++) {
		bool ring = strcmp(expected[i].name, KEYRING_NAME) == 0;

		path_of(a, path, expected[i].name);
		if (!expected[i].needed || (ring && a->apart) || lstat(path, &st) == 0 ||
		    errno != ENOENT)
			continue;
		found(a, expected[i].name, 0,
		      ring ? "is missing; where [store] keyring names another place, say --keyring"
			   : "is missing");
	}
}

static int look_files(struct audit *a, struct part *p)
{
	struct stat st;
	int r;

	if (stat(a->dir, &st) < 0)
		return cannot(a, "", -errno, NULL);
	if (!S_ISDIR(st.st_mode))
		return cannot(a, "", -ENOTDIR, NULL);
	check_mode(a, ".", &st, st.st_uid);
	check_missing(a);
	r = look_dir(a, p, "", st.st_uid);
	return r < 0 || !is_there(a, "days", S_IFDIR) ? r : look_dir(a, p, "days", st.st_uid);
}

/* --- Keyring -------------------------------------------------------------- */

/*
 * The horizon is the present clock's, the keyring's newest day's, or that of
 * the days that it has forgotten, whichever is the latest: fewer may be kept.
 */
static void set_bounds(struct audit *a)
{
	int64_t now_ms = ctl_now_ms(), end_ms;
	int32_t newest = keyring_newest_day(a->keyring), day = calendar_day(now_ms);
	int32_t first = keyring_first_day(a->keyring);

	a->today = newest > day ? newest : day;
	a->horizon = calendar_horizon(a->today, CALENDAR_RETENTION_MAX);
	if (first > a->horizon)
		a->horizon = first;
	end_ms = calendar_day_start(newest + 1);
	a->bounds.horizon_ms = calendar_day_start(a->horizon);
	a->bounds.latest_ms = (now_ms > end_ms ? now_ms : end_ms) + SESSIONS_FUTURE_MS;
}

static int look_keyring(struct audit *a, struct part *p)
{
	struct fault f = { 0 };
	int32_t days[DAYS_MAX];
	size_t n;
	int r;

	keyring_close(a->keyring);
	a->keyring = NULL;
	r = keyring_open_readonly(&a->keyring, a->ring, &f);
	if (r == -ENOENT && a->apart)
		return cannot(a, KEYRING_NAME, r, NULL);
	if (r == -ENOENT)
		return 0; /* said already */
	if (r < 0)
		return sort_out(a, "keyring", r, &f);
	set_bounds(a);
	p->files = 1;
	p->blocks = 2;
	if (keyring_repaired(a->keyring))
		found(a, "keyring", 0, "one of its two slots is damaged");
	a->weak = keyring_weak(a->keyring);
	n = keyring_days(a->keyring, days, DAYS_MAX);
	p->records = n;
	for (size_t i = 0; i < n; i++)
		if (days[i] < a->horizon)
			found(a, "keyring", 0,
			      "still has the key of a day that is over the horizon");
	if (keyring_month_turning(a->keyring))
		found(a, "keyring", 0, "still has the key of last month's totals");
	return 0;
}

/* --- Journals ------------------------------------------------------------- */

static int look_block(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct audit *a = arg;
	struct part *p = &a->parts[a->book == KEYRING_SESSIONS ? SESSIONS : USAGE];

	p->blocks++;
	for (size_t i = 0; i < n; i++) {
		const char *what = ctl_check_effect(&a->bounds, a->book, effects[i]);

		p->records++;
		if (what)
			found(a, a->file, batch << 16, what);
	}
	if (a->show && p->blocks % 4096 == 0)
		(void)fprintf(stderr, "\r\033[K%s: %llu blocks", a->file,
			      (unsigned long long)p->blocks);
	return 0;
}

static int look_journal(struct audit *a, struct part *p, enum keyring_book book, const char *name)
{
	char path[PATH_MAX];
	const struct journal_options options = {
		.path = path, .name = name, .book = book, .keyring = a->keyring, .readonly = true
	};
	struct fault f = { 0 };
	struct journal *j;
	int r;

	path_of(a, path, name);
	a->book = book;
	a->file = name;
	if (!is_there(a, name, S_IFREG))
		return 0; /* said already */
	p->files = 1;
	r = journal_open(&j, &options, &f);
	if (r < 0)
		return sort_out(a, name, r, &f);
	r = journal_replay(j, look_block, a, &f);
	journal_close(j);
	return r < 0 ? sort_out(a, name, r, &f) : 0;
}

static int look_sessions(struct audit *a, struct part *p)
{
	return look_journal(a, p, KEYRING_SESSIONS, "sessions.mdb");
}

static int look_usage(struct audit *a, struct part *p)
{
	return look_journal(a, p, KEYRING_USAGE, "usage.mdb");
}

/* --- Days ----------------------------------------------------------------- */

static void day_found(const struct fault *finding, void *arg)
{
	struct audit *a = arg;

	ctl_findings_add(finding->error == -ENOENT   ? &a->missing
			 : finding->error == -EAGAIN ? &a->notes
						     : &a->findings,
			 finding);
}

static void day_progress(int32_t day, const struct days_audit *so_far, void *arg)
{
	const struct audit *a = arg;
	char name[CALENDAR_NAME_SIZE];

	if (a->show && calendar_name(name, day) == 0)
		(void)fprintf(stderr, "\r\033[Kdays/%s: %llu files, %llu records", name,
			      (unsigned long long)so_far->files, (unsigned long long)so_far->rows);
}

/* Marks the days that a finished session of the journal touches. */
static int mark_waiting(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct audit *a = arg;
	struct effect e = { 0 };

	(void)batch;
	for (size_t i = 0; i < n; i++) {
		int64_t start_ms, end_ms;

		if (effect_decode(&e, effects[i]) < 0 ||
		    (e.type != EFFECT_CLOSE && e.type != EFFECT_WHOLE))
			continue;
		start_ms = e.type == EFFECT_CLOSE ? e.u.close.start_ms : e.u.whole.start_ms;
		end_ms = e.type == EFFECT_CLOSE ? e.u.close.end_ms : e.u.whole.end_ms;
		if (end_ms > start_ms) /* an end at 24:00 is the ending day's */
			end_ms--;
		for (int32_t d = calendar_day(start_ms); d <= calendar_day(end_ms); d++)
			if (d >= a->horizon && d - a->horizon < DAYS_MAX)
				a->waiting[(d - a->horizon) / 64] |= UINT64_C(1)
								     << (d - a->horizon) % 64;
	}
	seal_wipe(&e, sizeof(e));
	return 0;
}

/* file: "days/YYYY-MM-DD.mdb" */
static bool waits(const struct audit *a, const struct fault *file)
{
	char date[CALENDAR_NAME_SIZE] = "";
	int32_t d;

	memcpy(date, file->file + strlen("days/"), sizeof(date) - 1);
	if (calendar_parse(&d, date) < 0 || d < a->horizon || d - a->horizon >= DAYS_MAX)
		return false;
	return a->waiting[(d - a->horizon) / 64] >> (d - a->horizon) % 64 & 1;
}

/*
 * A day gets its key, and then its first rows.  Where nologd ended in between
 * the rows are still in the journal, and the next start writes them.
 */
static void judge_missing(struct audit *a)
{
	for (size_t i = 0; i < a->missing.n; i++) {
		struct fault f = a->missing.at[i];

		if (waits(a, &f)) {
			f.what = "has a key and no file yet: its sessions are in the journal";
			ctl_findings_add(&a->notes, &f);
		} else {
			ctl_findings_add(&a->findings, &f);
		}
	}
}

/*
 * The days and the journal belong together.  The journal is read after the
 * days: what these have was in it before.  Its key may have been renewed since
 * the keyring was read.
 */
static int look_behind_days(struct audit *a, uint64_t through)
{
	char path[PATH_MAX];
	struct fault f = { 0 };
	struct journal_options options = {
		.path = path, .name = "sessions.mdb", .book = KEYRING_SESSIONS, .readonly = true
	};
	struct journal *j = NULL;
	struct part unused;
	int r = -ENOKEY;

	path_of(a, path, options.name);
	memset(a->waiting, 0, sizeof(a->waiting));
	for (unsigned i = 0; r == -ENOKEY && i < KEY_TRIES && a->keyring; i++) {
		if (i > 0)
			(void)look_keyring(a, &unused);
		options.keyring = a->keyring;
		r = a->keyring ? journal_open(&j, &options, &f) : -ENOKEY;
		if (r == 0 && a->missing.n)
			r = journal_replay(j, mark_waiting, a, &f);
		if (r == 0 && journal_last(j) < through)
			found(a, options.name, 0,
			      "is older than the days' files: put back the one that goes with them");
		journal_close(j);
		j = NULL;
	}
	judge_missing(a);
	return r;
}

static int look_days(struct audit *a, struct part *p)
{
	struct days_audit sums = { 0 };
	char path[PATH_MAX];
	int r;

	path_of(a, path, "days");
	if (!is_there(a, "days", S_IFDIR))
		return 0; /* said already */
	ctl_findings_back(&a->missing, 0);
	ctl_findings_back(&a->notes, 0);
	r = days_audit(path, a->keyring, a->horizon, a->today, 0, day_found, day_progress, a,
		       &sums);
	p->files = sums.files;
	p->blocks = sums.blocks;
	p->records = sums.rows;
	if (r < 0)
		return cannot(a, "days", r, NULL);
	if (is_there(a, "sessions.mdb", S_IFREG))
		(void)look_behind_days(a,
				       sums.through); /* what is wrong with it was said with it */
	else
		judge_missing(a);
	return 0;
}

/* --- The whole ------------------------------------------------------------ */

/* tries: a month's turn takes a second or two; days_audit() looks twice by itself. */
static const struct {
	const char *name;
	look_fn *look;
	bool needs_keys;
	unsigned tries;
} parts[PARTS] = {
	[FILES] = { "files", look_files, false, 4 },
	[KEYRING] = { "keyring", look_keyring, false, 6 },
	[SESSIONS] = { "sessions.mdb", look_sessions, true, 4 },
	[USAGE] = { "usage.mdb", look_usage, true, 4 },
	[DAYS] = { "days", look_days, true, 2 },
};

/* Looks until nothing is found, but no more often than a live store can explain. */
static int audit_part(struct audit *a, enum part_id id)
{
	size_t before = ctl_findings_count(&a->findings);
	int r = 0;

	for (unsigned i = 0; i < parts[id].tries; i++) {
		struct part unused = { 0 }, *p = &a->parts[id];
		bool keyless = !a->keyring && parts[id].needs_keys;

		if (i > 0) {
			(void)poll(NULL, 0, TRY_AGAIN_MS);
			ctl_findings_back(&a->findings, before);
			if (parts[id].needs_keys)
				r = look_keyring(a, &unused);
			ctl_findings_back(&a->findings, before); /* said in its own part */
			if (!keyless && parts[id].needs_keys && !a->keyring)
				found(a, "keyring", 0, "cannot be read any more");
		}
		*p = (struct part){ 0 };
		if (r == 0 && (a->keyring || !parts[id].needs_keys))
			r = parts[id].look(a, p);
		p->findings = ctl_findings_count(&a->findings) - before;
		if (r < 0 || p->findings == 0)
			break;
	}
	return r;
}

static void print_table(const struct audit *a)
{
	(void)printf("%-14s %8s %12s %14s %10s\n", "PART", "FILES", "BLOCKS", "RECORDS",
		     "FINDINGS");
	for (unsigned i = 0; i < PARTS; i++) {
		const struct part *p = &a->parts[i];

		(void)printf("%-14s %8llu %12llu %14llu %10zu\n", parts[i].name,
			     (unsigned long long)p->files, (unsigned long long)p->blocks,
			     (unsigned long long)p->records, p->findings);
	}
}

static void print_sum(const struct audit *a)
{
	size_t n = ctl_findings_count(&a->findings);
	char horizon[CALENDAR_NAME_SIZE] = "";

	if (a->horizon != 0)
		(void)calendar_name(horizon, a->horizon); /* stays empty outside the calendar */
	if (a->json) {
		(void)printf("{\"sound\":%s,\"findings\":%zu,\"horizon\":", n ? "false" : "true",
			     n);
		ctl_json_text(stdout, horizon);
		(void)printf(",\"keyring_weak\":%s,\"notes\":%zu", a->weak ? "true" : "false",
			     ctl_findings_count(&a->notes));
		for (unsigned i = 0; i < PARTS; i++)
			(void)printf(",\"%s\":{\"files\":%llu,\"blocks\":%llu,\"records\":%llu,"
				     "\"findings\":%zu}",
				     parts[i].name, (unsigned long long)a->parts[i].files,
				     (unsigned long long)a->parts[i].blocks,
				     (unsigned long long)a->parts[i].records, a->parts[i].findings);
		(void)puts("}");
		return;
	}
	print_table(a);
	if (n == 0)
		(void)printf(
			"sound: nothing is older than %s, nothing is there that has no place\n",
			horizon);
	else
		(void)printf("NOT sound: %zu finding%s\n", n, n > 1 ? "s" : "");
	if (a->weak)
		(void)puts("note: this file system may keep an overwritten key (keyring_weak)");
}

static int audit_all(struct audit *a)
{
	int r = 0;

	for (unsigned i = 0; i < PARTS && r == 0; i++)
		r = audit_part(a, (enum part_id)i);
	if (a->show)
		(void)fputs("\r\033[K", stderr);
	return r;
}

/* The keyring's place: named, or in the state directory. */
static void place_keyring(struct audit *a, const char *named)
{
	struct stat here, there;

	path_of(a, a->ring, KEYRING_NAME);
	if (!named)
		return;
	a->apart = lstat(named, &there) < 0 || lstat(a->ring, &here) < 0 ||
		   here.st_dev != there.st_dev || here.st_ino != there.st_ino;
	(void)snprintf(a->ring, sizeof(a->ring), "%s", named); /* too long: it will not be there */
}

enum ctl_exit ctl_audit(const struct ctl_args *args, const char *name)
{
	struct audit a = {
		.dir = args->state ? args->state : STATE_DIR,
		.json = ctl_given(args, CTL_BIT(JSON)),
		.show = isatty(STDERR_FILENO),
	};
	enum ctl_exit status = CTL_ERROR;
	int r = seal_init();

	place_keyring(&a, args->keyring);
	if (r < 0)
		ctl_say("%s: cryptography: %s", name, strerror(-r));
	else
		r = audit_all(&a);
	ctl_findings_print(stdout, &a.findings, "finding", a.json);
	ctl_findings_print(stdout, &a.notes, "note", a.json);
	if (r == 0) {
		print_sum(&a);
		status = ctl_findings_count(&a.findings) ? CTL_NO : CTL_YES;
	}
	keyring_close(a.keyring);
	ctl_findings_done(&a.findings);
	ctl_findings_done(&a.notes);
	ctl_findings_done(&a.missing);
	return status;
}
