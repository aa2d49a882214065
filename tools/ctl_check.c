/* SPDX-License-Identifier: ISC */
/*
 * ctl_check: the rules of a journal's effects, for the audit.  Knows no file.
 */
#include "ctl_check.h"

#include "usage.h"

#define SESSIONS (1u << KEYRING_SESSIONS)
#define USAGE (1u << KEYRING_USAGE)
#define BOTH (SESSIONS | USAGE)

/* The books of each type, from the schema; 0: there is no such type. */
static unsigned books_of(uint8_t type)
{
	static const unsigned books[UINT8_MAX + 1] = {
#define EFFECT_X(number, NAME, name, book, why) [EFFECT_##NAME] = (book),
		EFFECTS(EFFECT_X)
#undef EFFECT_X
	};

	return books[type];
}

static const char *check_interval(const struct ctl_bounds *b, int64_t start_ms, int64_t end_ms)
{
	if (start_ms < b->horizon_ms)
		return "a record that begins before the horizon";
	if (end_ms < start_ms)
		return "a record that ends before it begins";
	if (end_ms > b->latest_ms)
		return "a record that ends in the future";
	return NULL;
}

static const char *check_open(const struct ctl_bounds *b, int64_t start_ms, int64_t alive_ms)
{
	if (start_ms < b->horizon_ms)
		return "an open session that begins before the horizon";
	if (start_ms > b->latest_ms || alive_ms > b->latest_ms)
		return "an open session of the future";
	return NULL;
}

const char *ctl_check_effect(const struct ctl_bounds *b, enum keyring_book book,
			     const uint8_t effect[EFFECT_SIZE])
{
	struct effect e;

	if (effect_decode(&e, effect) < 0)
		return "a record that is none";
	if (!(books_of(e.type) & 1u << book))
		return "a record of the other book";
	switch (e.type) {
	case EFFECT_OPEN:
		return check_open(b, e.u.open.start_ms, e.u.open.alive_ms);
	case EFFECT_CLOSE:
		return check_interval(b, e.u.close.start_ms, e.u.close.end_ms);
	case EFFECT_WHOLE:
		return check_interval(b, e.u.whole.start_ms, e.u.whole.end_ms);
	case EFFECT_ALIVE:
		return e.u.alive.alive_ms > b->latest_ms ? "a sign of life of the future" : NULL;
	case EFFECT_TOTAL:
		if (e.u.total.rx >= USAGE_TOTAL_END || e.u.total.tx >= USAGE_TOTAL_END)
			return "a total that is too large";
		return NULL;
	case EFFECT_METER:
		return e.u.meter.state > METER_CLOSED ? "a meter in no state" : NULL;
	case EFFECT_TURN:
		if (e.u.turn.month % 100 < 1 || e.u.turn.month % 100 > 12)
			return "a turn to a month that is none";
		return NULL;
	default:
		return NULL;
	}
}
