/* SPDX-License-Identifier: ISC */
/*
 * daykeep: the rules of keeping days: which rows wait, when they are written,
 * what is merged and rewritten, and what is forgotten.  No thread, no queue
 * and no clock of its own: the days thread calls, and says what time it is.
 */
#ifndef DAYKEEP_H
#define DAYKEEP_H

#include "days.h"
#include "dayset.h"
#include "merge.h"

struct daykeep {
	struct days_options options;
	struct dayset set;
	int32_t today, first;  /* nothing is kept of days before first */
	int32_t forgotten;     /* the newest today whose forgetting is complete; 0: none yet */
	uint64_t handed;       /* the highest batch whose rows have all been added */
	size_t waiting;	       /* rows, of all days */
	int64_t retry_ms;      /* something could not be written: not again before; 0: it could */
	bool no_space;	       /* for want of space */
	bool urgent;	       /* what waits must go now: it may take the space kept back */
	int spare_fd;	       /* a file without a name that keeps it; -1: none */
	off_t spare;	       /* bytes of it */
	int64_t spare_ms;      /* not tried again before */
	struct merger *merger; /* NULL: nothing is merged */
	struct mergejob *job;  /* given to it */
	struct mergejob *done; /* taken back, its outcome not yet in the day */
	struct day *gone;      /* forgotten while the job had its file */
	int64_t plan_ms;       /* no new job before */
	int64_t moved_ms;      /* since when today is today */
	uint64_t flushes, merges, rewrites, forgotten_days, unreadable;
};

/* Opens the directory and every day's file; as days_open() says. */
int daykeep_open(struct daykeep *k, const struct days_options *options, int64_t now_ms,
		 struct fault *fault);
void daykeep_close(struct daykeep *k); /* the merger has been stopped */
/*
 * The start has succeeded: that rows of days are lost, which daykeep_open() has
 * found, is noted in the keyring for as long as these days are kept.
 */
int daykeep_start(struct daykeep *k, struct fault *fault);

/*
 * One effect of a batch: a CLOSE or WHOLE is cut at midnight, and what is not
 * in the files yet waits.  Others are ignored.  -EBADMSG: no effect; -ENOMEM.
 */
int daykeep_add(struct daykeep *k, uint64_t batch, const uint8_t effect[EFFECT_SIZE],
		int64_t now_ms);
/*
 * When what waits is to be written: rows of batches up to soon as soon as
 * possible; INT64_MAX: nothing is, or nothing can be.
 */
int64_t daykeep_due_ms(const struct daykeep *k, uint64_t soon);
/* True while a want of space keeps rows from being written. */
bool daykeep_no_space(const struct daykeep *k);
/*
 * Writes what waits, but what cannot be written now: for want of space
 * (k->retry_ms is set; when k->urgent, the space kept back is used first), or
 * of a day that is being rewritten.  A damaged file is
 * set aside for it.  *wrote: some was.  A failure is one that must end the
 * process.
 */
int daykeep_flush(struct daykeep *k, int64_t now_ms, bool *wrote, struct fault *fault);
/* The highest batch whose rows are all in files. */
uint64_t daykeep_flushed(const struct daykeep *k);
/* Forgets, keys first, then files. */
int daykeep_forget(struct daykeep *k, int32_t today, int64_t now_ms, struct fault *fault);
/* Gives the merger something to do, if there is any and it is idle. */
int daykeep_plan(struct daykeep *k, int64_t now_ms, struct fault *fault);
/* When daykeep_plan() or _settle() has something to do though nothing happens; INT64_MAX: not. */
int64_t daykeep_plan_ms(const struct daykeep *k, int64_t now_ms);
/*
 * Takes back what the merger has done and puts it into the day; a file is
 * replaced only while nobody is going through files (asking).
 */
int daykeep_settle(struct daykeep *k, int64_t now_ms, bool asking, struct fault *fault);
/* The merger was stopped, job is what it had: rows that were held back may be written. */
void daykeep_give_up(struct daykeep *k, struct mergejob *job);
/* Reports damage, which does not end the process. */
void daykeep_report(struct daykeep *k, const struct fault *fault, uint64_t n);
void daykeep_stats(const struct daykeep *k, struct days_stats *out);

#endif
