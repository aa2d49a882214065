/* SPDX-License-Identifier: ISC */
/*
 * dayfinish: a thread that makes answers of what large look-ups have found,
 * which takes seconds, so that the rows that wait need not wait for it.  Knows
 * no day.
 */
#ifndef DAYFINISH_H
#define DAYFINISH_H

#include "lookup.h"

struct dayfinish;

/* Finishes one; it is the callee's. */
typedef void dayfinish_fn(struct lookup *l, void *arg);
int dayfinish_start(struct dayfinish **out, dayfinish_fn *finish, void *arg);
/* One after the other, in this order. */
void dayfinish_give(struct dayfinish *f, struct lookup *l);
/* Finishes what it has, ends the thread, frees; NULL is fine. */
void dayfinish_stop(struct dayfinish *f);

#endif
