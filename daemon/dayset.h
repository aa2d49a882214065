/* SPDX-License-Identifier: ISC */
/*
 * dayset: all the days there are, and the directory of their files.
 *
 * Makes, opens, renames and removes files, and keeps at most DAYSET_OPEN of
 * them open.  Knows no row and no look-up.  Owned by the days thread.
 */
#ifndef DAYSET_H
#define DAYSET_H

#include "day.h"

#define DAYSET_OPEN 16u /* files open at a time */

struct dayset {
	struct dayfile_home home;
	int dirfd;
	struct day **at; /* by number */
	size_t n, room;
	unsigned open;
	uint64_t clock; /* counts uses, for the least recent */
};

/* Makes the directory when it is absent.  home->dir must live as long as the set. */
int dayset_open(struct dayset *s, const struct dayfile_home *home, struct fault *fault);
void dayset_close(struct dayset *s);

/*
 * Looks through the directory before anything is changed there: -EINVAL: a
 * file that does not belong there; -ENOKEY: a file of a day from first on
 * whose key is gone.
 */
int dayset_survey(struct dayset *s, int32_t first, struct fault *fault);
/*
 * Removes files of days before first, lock files without their file, and, when
 * nobody is making one, temporary files.
 */
int dayset_clean(struct dayset *s, int32_t first, bool temporaries, struct fault *fault);
/*
 * Calls fn for each day's file, ascending, and for those that were set aside;
 * nonzero stops and is handed back.  aside: 0, or the how manieth it is.
 */
typedef int dayset_file_fn(int32_t day, unsigned aside, void *arg);
int dayset_each_file(struct dayset *s, dayset_file_fn *fn, void *arg);
/* Says to audits that a daemon has the directory, as long as it is open. */
void dayset_hold(struct dayset *s);
/* True while another process does. */
bool dayset_held(const struct dayset *s);

struct day *dayset_find(const struct dayset *s, int32_t number);
/* The same, added when it is not there; NULL: no memory. */
struct day *dayset_get(struct dayset *s, int32_t number);
/* The index of the first day that is not before number. */
size_t dayset_from(const struct dayset *s, int32_t number);
/* Opens the day's file, which exists, if it is not open; closes another if need be. */
int dayset_use(struct dayset *s, struct day *d, struct fault *fault);
/* Makes the day's file, empty, and opens it.  -ENOSPC: no room now. */
int dayset_make(struct dayset *s, struct day *d, struct fault *fault);
/*
 * Puts the complete temporary file in the place of the day's, and opens it.
 * -EAGAIN: an audit is opening files, nothing happened.
 */
int dayset_replace(struct dayset *s, struct day *d, struct fault *fault);
/* Removes the temporary file of a day, if there is one. */
void dayset_drop_temporary(struct dayset *s, int32_t number);
/*
 * The day's damaged file gets another name, and is not looked at any more; the
 * day goes on without a file.  Nobody else has it open.
 */
int dayset_set_aside(struct dayset *s, struct day *d, struct fault *fault);
/*
 * Unlinks the day's files, those set aside too; it is closed first unless the
 * other thread has it.
 */
int dayset_unlink(struct dayset *s, struct day *d);
/* Takes the day out of the set; it is the caller's to free. */
void dayset_take(struct dayset *s, struct day *d);
int dayset_sync(struct dayset *s);

/*
 * The day of "YYYY-MM-DD.mdb" or "YYYY-MM-DD.mdb-lock", with or without a dot
 * before it, or of "YYYY-MM-DD.damaged", "-2" and so on: *aside tells which.
 */
enum dayset_name { DAYSET_FILE, DAYSET_LOCK, DAYSET_TEMPORARY, DAYSET_ASIDE, DAYSET_NONE };
enum dayset_name dayset_parse(const char *name, int32_t *day, unsigned *aside);

#endif
