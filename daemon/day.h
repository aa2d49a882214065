/* SPDX-License-Identifier: ISC */
/*
 * day: one UTC day: its file, what of it is kept in memory (servers, runs and
 * their indexes), and the rows that wait to go there.
 *
 * Owned by the days thread.  What another thread may use while it works for a
 * day: the open file, and runs, which do not change.
 */
#ifndef DAY_H
#define DAY_H

#include "dayfile.h"
#include "dayrun.h"
#include "dayservers.h"
#include "daywait.h"

struct day {
	int32_t number;
	bool exists;	       /* has a file */
	bool damaged;	       /* which cannot be read: reported, not served; set aside to write */
	unsigned asides;       /* files of the day that were: what they held is not served */
	bool lost;	       /* rows that it had are gone: its file is missing, or an older one */
	bool busy;	       /* the other thread works with its file: stays open */
	bool held;	       /* it is being rewritten: its rows wait */
	struct dayfile *file;  /* when open */
	int64_t not_before_ms; /* rewriting it failed: not again before */
	int64_t rewritten_ms;  /* when that was done last; 0: not since the start */
	uint64_t used;	       /* when last, for closing the least recently used */
	uint64_t bytes;	       /* of the file, when last seen */
	struct dayservers servers;
	struct dayrun **runs; /* ids ascending */
	uint32_t n, room;
	bool rewritten;
	uint32_t next_run;
	uint64_t generation, through;
	struct dayrun **retired; /* out of the manifest; somebody may be going through them */
	uint32_t retired_n, retired_room;
	uint32_t *garbage; /* runs that nobody needs, but their blocks are in the file */
	uint32_t garbage_n, garbage_room;
	struct daywait wait;
};

struct day *day_new(int32_t number); /* NULL: no memory */
/* Lets go of runs and servers, as if there were no file. */
void day_unload(struct day *d);
void day_free(struct day *d); /* closes, wipes what waits; NULL is fine */

/*
 * Reads manifest, servers and indexes of the open file.  -EBADMSG and the
 * like: fault says what; the day is then as day_new() made it.  0 with a fault
 * set: some of it is missing, the rest can be served.
 */
int day_load(struct day *d, struct fault *fault);
/* Makes the open, empty, temporary file one of a day without runs. */
int day_write_empty(struct dayfile *f, int32_t number);
/*
 * Writes what waits as a run, complete through that batch.  Rows whose servers
 * have no place in the list any more stay, and are stuck: the day is complete
 * to before them only, so that a crash leaves some rows twice rather than none.
 * -ENOSPC: no room now, -EAGAIN: too many runs; nothing happened.
 */
int day_flush(struct day *d, uint64_t through);
/*
 * Puts run in the place of olds (n of them, in the day) in the manifest; they
 * retire.  -ENOSPC as above; run is the day's when 0 is returned.
 */
int day_switch(struct day *d, struct dayrun *const *olds, uint32_t n, struct dayrun *run);
/* Retired runs that nobody has any more become garbage; -ENOMEM. */
int day_reap(struct day *d);
/* Notes a run number whose blocks are to be deleted; -ENOMEM. */
int day_garbage_add(struct day *d, uint32_t id);
uint64_t day_rows(const struct day *d);
/* Its own, or some that were set aside. */
static inline bool day_has_files(const struct day *d)
{
	return d->exists || d->asides;
}

/* For whoever writes a day's file anew: its servers and a manifest, in one transaction. */
int day_write_manifest(struct daywrite *w, const struct manifest *m,
		       const struct server_key *servers, uint32_t servers_from);
/* Blocks that takes at most. */
uint64_t day_manifest_blocks(uint32_t servers, uint32_t runs);
/* Deletes the blocks of a run, some at a time.  -ENOSPC: no room for that now. */
int day_delete_run(struct dayfile *f, uint32_t id);

#endif
