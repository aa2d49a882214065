/* SPDX-License-Identifier: ISC */
/*
 * days: finished sessions, from the commit that made them to the midnight
 * that forgets them.
 *
 * Rows handed on by the session writer are split at midnight UTC and wait in
 * memory (they are in the journal too) until there are enough of them or they
 * have waited long enough; then they go, sorted, as a sealed run into the file
 * of each day, together with the number of the batch up to which that day is
 * complete.  A second thread merges runs and rewrites closed days, a third makes
 * large answers.  Look-ups come through the same queue as the rows, so that
 * nothing moves past them.
 *
 * The thread sleeps in poll(2) on an eventfd.  No call below waits for a disk,
 * except days_open(), days_stop() and days_audit().
 */
#ifndef DAYS_H
#define DAYS_H

#include "effect.h"
#include "fault.h"
#include "keyring.h"
#include "lookup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct days;

/* What days reports upward, called on its threads. */
struct days_events {
	/* A look-up is answered; it is the callee's now.  On two threads, at the same time. */
	void (*answered)(struct lookup *l, void *arg);
	/* Rows were written or memory came free: F has moved, or there is room again. */
	void (*progressed)(void *arg);
	/*
	 * A failure that must end the process (I/O, memory): nothing is written any
	 * more; or damage of a day (-EBADMSG, and nothing else is): the days go on.
	 */
	void (*failed)(const struct fault *fault, void *arg);
	void *arg;
};

struct days_options {
	const char *dir;	 /* the directory "…/days", made (0700) when absent */
	struct keyring *keyring; /* borrowed */
	int retention_days;
	int32_t today;	   /* at the start; days before the horizon are removed when vouched */
	bool vouched;	   /* the clock is: expired files may be removed */
	size_t flush_rows; /* 0: 65,536 */
	int64_t flush_ms;  /* 0: 600,000 */
	int64_t rewrite_after_ms; /* 0: 3 h after a day's end it is rewritten as one run */
	size_t map_bytes;	  /* 0: 64 GiB a file */
	struct days_events events;
};

struct days_stats {
	size_t waiting_rows; /* not yet in a file, the queue included */
	unsigned days_held;  /* days with a file */
	int32_t oldest_day;  /* of these; 0: none */
	uint64_t runs;
	uint64_t rows;	/* stored */
	uint64_t bytes; /* of all day files */
	uint64_t flushes, merges, rewrites, forgotten_days;
	uint64_t unreadable; /* blocks or files that could not be read */
	size_t servers;	     /* in the longest list of a day's */
	uint64_t through;    /* the highest batch up to which a day's file says it is complete */
};

/*
 * Opens the day files, removes those that fell out of the horizon and left
 * over temporary ones, reads dictionaries and block indexes.  A living day's
 * file without its key: -ENOKEY; two damaged manifests or the like: the file
 * is reported through events.failed, not served, and the others are (it is
 * not touched, until rows of its day are to be written: then it is set aside
 * as YYYY-MM-DD.damaged, reported again, and they go into a new one; look-ups
 * of the day are incomplete from then on).  days_stats() is good after it.
 * Starts no thread.
 */
int days_open(struct days **out, const struct days_options *options, struct fault *fault);
/*
 * Replay, before days_start(): the CLOSE and WHOLE effects of a batch wait
 * again, less what the days' files already have.  Others are ignored.
 */
int days_replay(struct days *d, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n);
/*
 * After the replay, with the journal's last batch: -EBADMSG when a day's file
 * knows of a later one.  An older journal was put in the place of the one that
 * goes with them, and what its next batches hold would be taken for old.
 */
int days_check_last(const struct days *d, uint64_t last, struct fault *fault);
/* Before days_start(): calls fn for every server in the list of every day that has a file. */
typedef int days_server_fn(int32_t day, const struct server_key *server, void *arg);
int days_each_server(const struct days *d, days_server_fn *fn, void *arg); /* nonzero stops */
int days_start(struct days *d);
/* Writes every waiting row into its day's file, ends the threads, closes, frees.  Look-ups still waiting are answered with code 3. */
int days_stop(struct days *d, struct fault *fault);
/* Frees without writing, for failed starts; threads must not be running. */
void days_free(struct days *d);

/*
 * Hands on the CLOSE and WHOLE effects of a durable batch (others are passed
 * over), in order of batches; to be called for every batch, also without any.
 * Copies.  Never blocks: the caller looks at days_room() before it decides more.
 */
int days_put(struct days *d, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n);
/*
 * How many rows may wait beside those that do (4 x flush_rows altogether), and
 * how many these effects will come to: one for each day that a session touches.
 */
size_t days_room(const struct days *d);
size_t days_rows(const uint8_t (*effects)[EFFECT_SIZE], size_t n);
/* True while waiting rows could not be written for want of space; it is tried again. */
bool days_no_space(const struct days *d);
/* F: the highest batch whose finished sessions are all in day files. */
uint64_t days_flushed(const struct days *d);
/* Asks; answered through events.answered, exact addresses before scans. */
void days_ask(struct days *d, struct lookup *l);
/* Write what waits now, without waiting for more (a late key renewal needs it). */
void days_flush_soon(struct days *d);

/*
 * The day has moved on: the days before the new horizon are destroyed (keys
 * first, then files).  Returns when the message is queued; days_forgotten()
 * tells when it has been done.
 */
void days_advance(struct days *d, int32_t today);
/* The newest `today` whose forgetting is complete. */
int32_t days_forgotten(const struct days *d);
void days_stats(struct days *d, struct days_stats *out);

/*
 * Audit of a day's file, live or a copy, by another process: every block of
 * the manifest is there and opens, no other is, every row lies within the
 * day, sorted, its server in the dictionary, no file beside the expected.
 * finding is called for each; returns the number of findings or -errno.
 *
 * Two kinds of finding are for the caller to judge.  -ENOENT: a day has a key
 * and no file; that is in order while the day's rows wait in the journal.
 * -EAGAIN: sealed blocks of a run that a daemon which ended left behind; the
 * next one removes them.  All others have -EBADMSG.  Nor does it see the
 * journal: the number of its last batch, read after this, must not be below
 * through, or it is an older one than the days (days_check_last()).
 */
struct days_audit {
	uint64_t files, blocks, rows, findings;
	uint64_t through; /* the highest batch up to which a day says that it is complete */
};
typedef void days_finding_fn(const struct fault *finding, void *arg);
typedef void days_progress_fn(int32_t day, const struct days_audit *so_far, void *arg);
int days_audit(const char *dir, struct keyring *keyring, int32_t horizon, int32_t today,
	       size_t map_bytes, days_finding_fn *finding, days_progress_fn *progress, void *arg,
	       struct days_audit *out);

#endif
