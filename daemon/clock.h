/* SPDX-License-Identifier: ISC */
/*
 * clock: what time it is, and whether that may be judged by.
 *
 * Days only move forward.  While the wall clock does not fit the newest day
 * seen it is *held*, and nothing is judged by it:
 *
 *   - more than a day ahead, and the kernel does not vouch for it (adjtimex:
 *     unsynchronised): until it does, the clock fits, or 24 hours of
 *     CLOCK_BOOTTIME have passed;
 *   - behind, vouched for or not: until the clock fits, or it is vouched for
 *     and 24 hours have passed.  Then it was the newest day that was wrong: the
 *     clock is used, and the newest day and all that was forgotten stay.
 *
 * Whoever judges by a clock that is not held must still expect a day before the
 * newest (then, and with trust always).
 *
 * One owner (the loop thread) calls clock_new(), clock_read(), clock_tick() and
 * clock_free(); any thread may call the others.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_HOLD_MAX_MS (INT64_C(24) * 3600 * 1000)

struct clock;
enum clock_trust { CLOCK_TRUST_KERNEL, CLOCK_TRUST_ALWAYS };

/* A reading of the machine's clocks; tests make their own. */
struct clock_reading {
	int64_t wall_ms;
	int64_t boot_ms; /* CLOCK_BOOTTIME: the 24 hours */
	int64_t mono_ms; /* CLOCK_MONOTONIC: running time */
	bool vouched;	 /* the kernel says the wall clock is synchronised */
};
void clock_read(struct clock_reading *out);

/*
 * The rule alone, pure: given the newest day seen, for how long the clock has
 * not fitted so far (ahead: positive, behind: negative) and a reading, is it
 * held?
 */
bool clock_judge(const struct clock_reading *r, int32_t newest_day, int64_t held_ms,
		 enum clock_trust trust);

/* newest_day and held_ms are the keyring's. */
int clock_new(struct clock **out, enum clock_trust trust, int32_t newest_day, int64_t held_ms);
void clock_free(struct clock *c);
void clock_trust_set(struct clock *c, enum clock_trust trust);
/*
 * Takes a reading; at least once a second.  Returns true when held.  The first
 * one sets the beginning; a time between two counts as what the first found.
 */
bool clock_tick(struct clock *c, const struct clock_reading *r);
/* The newest day has moved on; never back. */
void clock_newest_day_set(struct clock *c, int32_t day);
/* Wall clock now, Unix milliseconds UTC. */
int64_t clock_now(const struct clock *c);
/*
 * Also true between ticks when the wall clock now does not fit the newest day.
 * Before the first tick nobody vouches.
 */
bool clock_held(const struct clock *c);
/*
 * For the keyring: for how long the clock has not fitted, positive when it is
 * ahead and negative when it is behind; 0 once it fits.  Stays at
 * CLOCK_HOLD_MAX_MS after that, also across restarts: a hold that has ended
 * must not begin again before the newest day has moved.  Time of the one kind
 * never counts for the other.
 */
int64_t clock_held_ms(const struct clock *c);
/*
 * Running time: milliseconds since the first tick, without those that were
 * held, and without gaps between ticks past 5 s (then the process was
 * stopped).  Asked by another thread in the moment of a tick it may step back
 * by as much as a tick.
 */
int64_t clock_running_ms(const struct clock *c);
/* The same at a given reading of CLOCK_MONOTONIC. */
int64_t clock_running_at(const struct clock *c, int64_t mono_ms);

#endif
