/* SPDX-License-Identifier: ISC */
/*
 * merge: what is done to day files behind the days thread's back: runs merged
 * into one, closed days written anew, the blocks of retired runs deleted.
 *
 * The work prepares; the days thread puts its outcome into the manifest.  A
 * job is given to the thread below and taken back when it is done; the runs
 * and the open file of a job do not change meanwhile.  Rows pass through in
 * blocks: memory is one block a run, whatever their size.  Knows no day but
 * the one of its job, and no manifest but the one of a new file.
 */
#ifndef MERGE_H
#define MERGE_H

#include "day.h"

#include <stdatomic.h>
#include <stdbool.h>

enum mergejob_kind {
	MERGE_RUNS,    /* into one, in the same file */
	MERGE_REWRITE, /* into one, in a new file beside it, complete and synced */
	MERGE_DELETE,  /* the blocks of runs that nobody needs */
};

struct mergejob {
	enum mergejob_kind kind;
	int32_t day;
	struct dayfile *file; /* open, borrowed */
	struct dayrun **runs; /* n of them, each with a reference of the job's */
	uint32_t n;
	uint32_t id;	    /* of the run to be written */
	uint32_t *ids;	    /* MERGE_DELETE: n of them */
	uint32_t servers_n; /* of the day */
	/*
	 * MERGE_REWRITE: the day's in the order of their names, so that the new file
	 * does not tell which was heard of first, and where each of the old order is.
	 */
	struct dayservers servers;
	uint16_t *places;
	uint64_t generation, through; /* MERGE_REWRITE: of the day */
	/* the outcome */
	int error; /* -ECANCELED; -ENOSPC: later; -ENOKEY: forgotten; -EBADMSG: see fault */
	struct fault fault;
	struct dayrun *bad; /* the run with the block that cannot be read */
	struct dayrun *run; /* the new one */
};

/* With a reference of each run; MERGE_DELETE has the day's garbage.  NULL: no memory. */
struct mergejob *mergejob_new(enum mergejob_kind kind, const struct day *d,
			      struct dayrun *const *runs, uint32_t n);
void mergejob_free(struct mergejob *job); /* days thread; the new run too, unless it was taken */
/* Does it, wherever it is called; sets the outcome. */
void mergejob_run(struct mergejob *job, const struct dayfile_home *home, const atomic_bool *cancel);

struct merger;
/* done is called on its thread when a job can be taken back. home is copied, its dir is not. */
int merger_start(struct merger **out, const struct dayfile_home *home, void (*done)(void *arg),
		 void *arg);
/* One at a time; it is the thread's until taken back. */
void merger_give(struct merger *m, struct mergejob *job);
struct mergejob *merger_take(struct merger *m); /* NULL: not done yet, or none was given */
/* The job at hand ends soon with -ECANCELED, if it is not done. */
void merger_cancel(struct merger *m);
/* Cancels, ends the thread, and hands back what it had; NULL is fine. */
struct mergejob *merger_stop(struct merger *m);

#endif
