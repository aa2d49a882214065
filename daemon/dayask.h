/* SPDX-License-Identifier: ISC */
/*
 * dayask: a look-up on its way through the days.
 *
 * First the days of the time asked for; then, for the parts of longer sessions
 * that were found, the days around, for the same addresses and servers only,
 * as far as the parts go on.  It sees what there was when it began: the rows
 * that waited then are looked at at once, and of each day it keeps the runs
 * there were.  While one is under way, runs may come and retire, but a day's
 * file must not be replaced by another.
 */
#ifndef DAYASK_H
#define DAYASK_H

#include "dayset.h"
#include "lookup.h"

struct dayask;

/* Begins; l stays the caller's.  Days before horizon are not looked at.  -ENOMEM. */
int dayask_new(struct dayask **out, struct lookup *l, struct dayset *set, int32_t horizon);
void dayask_free(struct dayask *a); /* NULL is fine */
/*
 * Reads at most budget blocks.  True: there is more.  What cannot be read makes
 * the look-up's code NOLOG_DONE_UNREADABLE.
 */
bool dayask_step(struct dayask *a, struct dayset *set, unsigned budget);
/* What could not be read since the last call, and how many blocks or files. */
uint64_t dayask_unreadable(struct dayask *a, struct fault *fault);

#endif
