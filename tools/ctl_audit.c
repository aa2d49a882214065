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

#include "calendar.h"
#include "days.h"
#include "journal.h"
#include "sessions.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_DIR "/var/lib/nologd"
#define TRY_AGAIN_MS 500
#define DAYS_MAX 128 /* more than a keyring has room for */

enum part_id { FILES, KEYRING, SESSIONS, USAGE, DAYS, PARTS };

/* What was verified of a part; findings are those of the last try. */
struct part {
	uint64_t files, blocks, records;
	size_t findings;
};

struct audit {
	const char *dir;
	bool json, show;	 /* show: progress, on a terminal */
	struct keyring *keyring; /* NULL: it cannot be opened */
	int32_t today, horizon;
	struct ctl_bounds bounds;
	struct part parts[PARTS];
	struct ctl_findings findings;
	bool weak;
	/* of the journal at hand */
	enum keyring_book book;
	const char *file;
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
	ctl_say("%s%s%s: %s%s%s", a->dir, *name ? "/" : "", name, what ? what : "",
		what ? ": " : "", strerror(-error));
	return error;
}

/* What is wrong with the store is a finding; what keeps us from looking is not. */
static int sort_out(struct audit *a, const char *name, int error, const struct fault *f)
{
	char path[PATH_MAX];

	path_of(a, path, name);
	switch (error) {
	case -EACCES:
		if (access(path, R_OK) < 0)
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
	{ "keyring", false, true },
	{ "sessions.mdb", false, true },
	{ "sessions.mdb-lock", false, false },
	{ "sessions.mdb.new", false, false },
	{ "usage.mdb", false, true },
	{ "usage.mdb-lock", false, false },
	{ "usage.mdb.new", false, false },
	{ "days", true, true },
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

/* One entry of the directory; what has vanished since it was listed is fine. */
static int look_file(struct audit *a, struct part *p, const char *name, uid_t owner)
{
	char path[PATH_MAX];
	struct stat st;

	path_of(a, path, name);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : cannot(a, name, -errno, NULL);
	check_mode(a, name, &st, owner);
	p->files += S_ISREG(st.st_mode) ? 1 : 0;
	return 0;
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
		bool known = *below; /* what may be in days/ is days_audit()'s to say */

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		(void)snprintf(name, sizeof(name), "%s%s%s", below, *below ? "/" : "",
			       entry->d_name);
		for (size_t i = 0; i < EXPECTED; i++)
			known = known || strcmp(expected[i].name, name) == 0;
		if (!known)
			found(a, name, 0, "has no place in the store");
		r = look_file(a, p, name, owner);
	}
	if (r == 0 && errno != 0)
		r = cannot(a, below, -errno, NULL);
	(void)closedir(d); /* was only read */
	return r;
}

static int look_files(struct audit *a, struct part *p)
{
	char path[PATH_MAX];
	struct stat st, one;
	int r;

	if (stat(a->dir, &st) < 0)
		return cannot(a, "", -errno, NULL);
	if (!S_ISDIR(st.st_mode))
		return cannot(a, "", -ENOTDIR, NULL);
	check_mode(a, ".", &st, st.st_uid);
	for (size_t i = 0; i < EXPECTED; i++) {
		path_of(a, path, expected[i].name);
		if (lstat(path, &one) < 0 && errno == ENOENT && expected[i].needed)
			found(a, expected[i].name, 0, "is missing");
	}
	r = look_dir(a, p, "", st.st_uid);
	return r < 0 ? r : look_dir(a, p, "days", st.st_uid);
}

/* --- Keyring -------------------------------------------------------------- */

/* The horizon is the keyring's or the present clock's, whichever is later. */
static void set_bounds(struct audit *a)
{
	int64_t now_ms = ctl_now_ms(), end_ms;
	int32_t newest = keyring_newest_day(a->keyring), day = calendar_day(now_ms);

	a->today = newest > day ? newest : day;
	a->horizon = calendar_horizon(a->today, CALENDAR_RETENTION_MAX);
	end_ms = calendar_day_start(newest + 1);
	a->bounds.horizon_ms = calendar_day_start(a->horizon);
	a->bounds.latest_ms = (now_ms > end_ms ? now_ms : end_ms) + SESSIONS_FUTURE_MS;
}

static int look_keyring(struct audit *a, struct part *p)
{
	char path[PATH_MAX];
	struct fault f = { 0 };
	int32_t days[DAYS_MAX];
	size_t n;
	int r;

	path_of(a, path, "keyring");
	keyring_close(a->keyring);
	a->keyring = NULL;
	r = keyring_open_readonly(&a->keyring, path, &f);
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
	if (access(path, F_OK) < 0 && errno == ENOENT)
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

	ctl_findings_add(&a->findings, finding);
}

static void day_progress(int32_t day, const struct days_audit *so_far, void *arg)
{
	const struct audit *a = arg;
	char name[CALENDAR_NAME_SIZE];

	if (a->show && calendar_name(name, day) == 0)
		(void)fprintf(stderr, "\r\033[Kdays/%s: %llu files, %llu records", name,
			      (unsigned long long)so_far->files, (unsigned long long)so_far->rows);
}

static int look_days(struct audit *a, struct part *p)
{
	struct days_audit sums = { 0 };
	char path[PATH_MAX];
	int r;

	path_of(a, path, "days");
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0; /* said already */
	r = days_audit(path, a->keyring, a->horizon, a->today, 0, day_found, day_progress, a,
		       &sums);
	p->files = sums.files;
	p->blocks = sums.blocks;
	p->records = sums.rows;
	return r < 0 ? cannot(a, "days", r, NULL) : 0;
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
		(void)printf(",\"keyring_weak\":%s", a->weak ? "true" : "false");
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

enum ctl_exit ctl_audit(const struct ctl_args *args, const char *name)
{
	struct audit a = {
		.dir = args->state ? args->state : STATE_DIR,
		.json = ctl_given(args, CTL_BIT(JSON)),
		.show = isatty(STDERR_FILENO),
	};
	enum ctl_exit status = CTL_ERROR;
	int r = seal_init();

	if (r < 0)
		ctl_say("%s: cryptography: %s", name, strerror(-r));
	else
		r = audit_all(&a);
	ctl_findings_print(stdout, &a.findings, a.json);
	if (r == 0) {
		print_sum(&a);
		status = ctl_findings_count(&a.findings) ? CTL_NO : CTL_YES;
	}
	keyring_close(a.keyring);
	ctl_findings_done(&a.findings);
	return status;
}
