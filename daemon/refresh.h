/* SPDX-License-Identifier: ISC */
/*
 * refresh: which slices to log again, and how far the log may be cut.  Pure.
 *
 * With each commit the writer logs the live entries of some slices again and
 * notes the batch.  Everything before min(min p[s], F) may go, where p[s] is
 * the batch in which slice s was last logged whole and F the highest batch
 * whose finished sessions are all in day files.  Slices go round and round, so
 * the oldest p is that of the next one.
 */
#ifndef REFRESH_H
#define REFRESH_H

#include <stddef.h>
#include <stdint.h>

struct refresh;

/* A log that begins at batch first (all p[s] = first: the log as a whole holds each slice). */
int refresh_new(struct refresh **out, unsigned slices, int64_t pass_ms, uint64_t first);
void refresh_free(struct refresh *r);
/*
 * How many slices the next commit should log again: enough that a pass ends
 * within pass_ms of running time, and that the log's length in effects (log)
 * stays near one and a half times the live entries (live) plus a constant.
 * appended is what this commit logs anyway.  To be asked once a commit: what
 * small commits are owed adds up.
 */
unsigned refresh_due(struct refresh *r, int64_t running_ms, size_t appended, size_t live,
		     size_t log);
/* Milliseconds of running time until a slice is due although nothing happens. */
int64_t refresh_wait_ms(const struct refresh *r, int64_t running_ms);
/* The slice to log next. */
unsigned refresh_next(const struct refresh *r);
/* It was logged whole in this batch, which is durable. */
void refresh_logged(struct refresh *r, unsigned slice, uint64_t batch, int64_t running_ms);
/* Batches below this may go, given that those below flushed are not needed for day files. */
uint64_t refresh_cut(const struct refresh *r, uint64_t flushed);
/* How many passes have been completed since refresh_new(). */
uint64_t refresh_passes(const struct refresh *r);

#endif
