/* SPDX-License-Identifier: ISC */
/*
 * clock: what time it is, and whether that may be judged by.
 *
 * Knows no file and sets no clock: the newest day and the time held so far come
 * from the keyring's owner and go back to him.
 */
#include "clock.h"

#include "calendar.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/timex.h>
#include <time.h>

/*
 * Running time a tick may add.  Ticks come every second; a longer gap means that
 * the process was stopped, and it was not there to hear anybody.
 */
#define RUN_MAX_MS 5000

enum fit { FIT, FIT_BEHIND, FIT_AHEAD };

/*
 * What other threads read is atomic, each alone: a reader that meets the loop
 * thread between two stores sees a state that was or will be true.
 */
struct clock {
	_Atomic(int32_t) newest_day;
	_Atomic(int64_t) held_ms;      /* for how long it has not fitted; behind: negative */
	_Atomic(int64_t) running_ms;   /* as of the last tick */
	_Atomic(int64_t) tick_mono_ms; /* of the last tick; -1 before the first */
	atomic_int trust;
	atomic_bool vouched; /* at the last tick; false before the first */
	atomic_bool held;    /* at the last tick; false before the first */

	/* The owner's alone. */
	bool ticked;
	enum fit fit; /* at the last tick */
	int64_t last_boot_ms;
};

static int64_t read_ms(clockid_t id)
{
	struct timespec ts;

	if (clock_gettime(id, &ts) < 0)
		abort(); /* these clocks are there on every Linux since 2.6.39 */
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void clock_read(struct clock_reading *out)
{
	struct timex tx = { .modes = 0 }; /* asks, sets nothing; needs no privilege */
	int state = adjtimex(&tx);

	out->wall_ms = read_ms(CLOCK_REALTIME);
	out->boot_ms = read_ms(CLOCK_BOOTTIME);
	out->mono_ms = read_ms(CLOCK_MONOTONIC);
	/* A sandbox may forbid the question: then nobody vouches. */
	out->vouched = state >= 0 && state != TIME_ERROR && !(tx.status & STA_UNSYNC);
}

/* How the wall clock fits the newest day, as far as can be seen from here. */
static enum fit fit_of(const struct clock_reading *r, int32_t newest_day)
{
	int64_t day = calendar_day(r->wall_ms);

	if (day < newest_day)
		return FIT_BEHIND;
	return day > (int64_t)newest_day + 1 && !r->vouched ? FIT_AHEAD : FIT;
}

/* Of a time held, what counts for a clock that fits like this. */
static int64_t counts_for(enum fit fit, int64_t held_ms)
{
	int64_t ms = fit == FIT_AHEAD ? held_ms : fit == FIT_BEHIND ? -held_ms : 0;

	return ms > 0 ? ms : 0;
}

bool clock_judge(const struct clock_reading *r, int32_t newest_day, int64_t held_ms,
		 enum clock_trust trust)
{
	enum fit fit = fit_of(r, newest_day);

	if (trust == CLOCK_TRUST_ALWAYS || fit == FIT)
		return false;
	if (counts_for(fit, held_ms) < CLOCK_HOLD_MAX_MS)
		return true;
	/*
	 * Ahead for 24 hours: what must be forgotten cannot wait for ever.  Behind:
	 * nothing waits to be forgotten, so only a clock that is vouched for may
	 * say that it was the newest day that was wrong.
	 */
	return fit == FIT_BEHIND && !r->vouched;
}

static int64_t since(int64_t now, int64_t then)
{
	return now > then ? now - then : 0;
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int clock_new(struct clock **out, enum clock_trust trust, int32_t newest_day, int64_t held_ms)
{
	struct clock *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	atomic_init(&c->newest_day, newest_day);
	atomic_init(&c->held_ms, held_ms < 0 ? -least(-held_ms, CLOCK_HOLD_MAX_MS)
					     : least(held_ms, CLOCK_HOLD_MAX_MS));
	atomic_init(&c->running_ms, 0);
	atomic_init(&c->tick_mono_ms, -1);
	atomic_init(&c->trust, (int)trust);
	atomic_init(&c->vouched, false);
	atomic_init(&c->held, false);
	*out = c;
	return 0;
}

void clock_free(struct clock *c)
{
	free(c);
}

void clock_trust_set(struct clock *c, enum clock_trust trust)
{
	atomic_store(&c->trust, (int)trust);
}

bool clock_tick(struct clock *c, const struct clock_reading *r)
{
	enum clock_trust trust = (enum clock_trust)atomic_load(&c->trust);
	int32_t newest_day = atomic_load(&c->newest_day);
	int64_t held_ms = atomic_load(&c->held_ms), ran = 0, held_for;
	enum fit fit = trust == CLOCK_TRUST_ALWAYS ? FIT : fit_of(r, newest_day);
	bool held;

	/* Time spent behind is no reason to believe a clock that is ahead, nor across a restart. */
	held_for = counts_for(fit, held_ms);
	/* A time between two ticks counts as what the first of them found. */
	if (c->ticked && c->fit == fit && fit != FIT)
		held_for = least(held_for + since(r->boot_ms, c->last_boot_ms), CLOCK_HOLD_MAX_MS);
	if (c->ticked && !atomic_load(&c->held))
		ran = least(since(r->mono_ms, atomic_load(&c->tick_mono_ms)), RUN_MAX_MS);
	held_ms = fit == FIT_BEHIND ? -held_for : held_for;
	held = clock_judge(r, newest_day, held_ms, trust);
	c->ticked = true;
	c->fit = fit;
	c->last_boot_ms = r->boot_ms;
	/* In this order another thread can see a tick too little, never one too much. */
	atomic_store(&c->tick_mono_ms, r->mono_ms);
	atomic_fetch_add(&c->running_ms, ran);
	atomic_store(&c->held_ms, held_ms);
	atomic_store(&c->vouched, r->vouched);
	atomic_store(&c->held, held); /* last: until then the old answer holds */
	return held;
}

void clock_newest_day_set(struct clock *c, int32_t day)
{
	if (day > atomic_load(&c->newest_day))
		atomic_store(&c->newest_day, day);
}

int64_t clock_now(const struct clock *c)
{
	(void)c;
	return read_ms(CLOCK_REALTIME);
}

bool clock_held(const struct clock *c)
{
	struct clock_reading r = { .wall_ms = clock_now(c), .vouched = atomic_load(&c->vouched) };

	return atomic_load(&c->held) ||
	       clock_judge(&r, atomic_load(&c->newest_day), atomic_load(&c->held_ms),
			   (enum clock_trust)atomic_load(&c->trust));
}

int64_t clock_held_ms(const struct clock *c)
{
	return atomic_load(&c->held_ms);
}

int64_t clock_running_at(const struct clock *c, int64_t mono_ms)
{
	int64_t ran = atomic_load(&c->running_ms), ticked_ms = atomic_load(&c->tick_mono_ms);

	/* Since the last tick it runs on as the next one will count it. */
	if (ticked_ms < 0 || atomic_load(&c->held))
		return ran;
	return ran + least(since(mono_ms, ticked_ms), RUN_MAX_MS);
}

int64_t clock_running_ms(const struct clock *c)
{
	return clock_running_at(c, read_ms(CLOCK_MONOTONIC));
}
