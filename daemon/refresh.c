/* SPDX-License-Identifier: ISC */
/*
 * refresh: the round of the slices and its pace.  Refuses to know what a slice
 * holds.
 *
 * Two paces, of which the faster counts.  By time, a slice is due every
 * pass_ms / slices.  By load: between two turns of a slice the log grows by
 * all live entries and by what events append, so that it stays at one and a
 * half times the live entries plus a constant if a pass is made for every
 * "half the live entries plus the constant" that events append.  What the log
 * exceeds its aim by says how many slices that is; but no more than twice the
 * share of what was appended, for when the log is long because nothing may be
 * cut (F lags), writing more would only make it longer.
 */
#include "refresh.h"

#include <errno.h>
#include <stdlib.h>

/* A log this long is not worth shortening: 12 MiB of effects. */
#define LOG_SLACK ((size_t)256 * 1024)
/* Slices at once by time, after a while without commits: no commit may grow with the state. */
#define CATCH_UP 32

struct refresh {
	unsigned slices, next;
	int64_t interval_us; /* between slices */
	int64_t due_us;	     /* when the next one is */
	double credit;	     /* slices that load may still ask for */
	uint64_t logged;     /* slices, ever */
	uint64_t p[];
};

int refresh_new(struct refresh **out, unsigned slices, int64_t pass_ms, uint64_t first)
{
	struct refresh *r = calloc(1, sizeof(*r) + slices * sizeof(r->p[0]));

	if (!r)
		return -ENOMEM;
	r->slices = slices;
	r->interval_us = pass_ms * 1000 / (int64_t)slices;
	if (r->interval_us < 1)
		r->interval_us = 1;
	r->due_us = r->interval_us;
	for (unsigned i = 0; i < slices; i++)
		r->p[i] = first;
	*out = r;
	return 0;
}

void refresh_free(struct refresh *r)
{
	free(r);
}

static unsigned due_by_time(const struct refresh *r, int64_t running_ms)
{
	int64_t late_us = running_ms * 1000 - r->due_us;

	if (late_us < 0)
		return 0;
	return late_us / r->interval_us >= CATCH_UP ? CATCH_UP
						    : (unsigned)(late_us / r->interval_us) + 1;
}

unsigned refresh_due(struct refresh *r, int64_t running_ms, size_t appended, size_t live,
		     size_t log)
{
	/* What events append while all slices are logged once. */
	double pass = (double)live / 2 + (double)LOG_SLACK;
	double aim = (double)live + pass;
	double excess = ((double)log + (double)appended - aim) / pass * r->slices;
	double share = (double)appended / pass * r->slices;
	unsigned by_time = due_by_time(r, running_ms), by_load = 0;

	/* Kept from commit to commit, so that small ones add up; but not saved up while idle. */
	r->credit += 2 * share;
	if (r->credit > 2 * share + 1)
		r->credit = 2 * share + 1;
	if (excess > r->credit)
		excess = r->credit;
	if (excess >= 1)
		by_load = excess < r->slices ? (unsigned)excess : r->slices;
	r->credit -= by_load;
	if (by_time < by_load)
		by_time = by_load;
	return by_time < r->slices ? by_time : r->slices;
}

int64_t refresh_wait_ms(const struct refresh *r, int64_t running_ms)
{
	int64_t wait_us = r->due_us - running_ms * 1000;

	return wait_us > 0 ? (wait_us + 999) / 1000 : 0;
}

unsigned refresh_next(const struct refresh *r)
{
	return r->next;
}

void refresh_logged(struct refresh *r, unsigned slice, uint64_t batch, int64_t running_ms)
{
	int64_t now_us = running_ms * 1000;
	int64_t pass_ago_us = now_us - r->interval_us * r->slices;

	r->p[slice] = batch;
	r->next = slice + 1 == r->slices ? 0 : slice + 1;
	r->logged++;
	/* One interval after this was due; after now when it was early; never a pass behind. */
	if (r->due_us > now_us)
		r->due_us = now_us;
	if (r->due_us < pass_ago_us)
		r->due_us = pass_ago_us;
	r->due_us += r->interval_us;
}

uint64_t refresh_cut(const struct refresh *r, uint64_t flushed)
{
	return r->p[r->next] < flushed ? r->p[r->next] : flushed;
}

uint64_t refresh_passes(const struct refresh *r)
{
	return r->logged / r->slices;
}
