/* SPDX-License-Identifier: ISC */
/* sessions: the rules of the contract's "Sessions"; the ledger is the fold of its effects. */
#include "sessions.h"

#include "calendar.h"
#include "seal.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define DAY CALENDAR_DAY_MS
#define TODAY (INT64_C(20779) * DAY) /* 2026-11-22 */
#define NOW (TODAY + DAY / 2)
#define HORIZON (TODAY - 89 * DAY)

struct desk {
	struct sessions *s;
	struct sessions_rules rules;
	struct sessions_time t;
	struct effects out;
	struct server_key a, b;
};

static const uint8_t hash_key[16] = { 1, 2, 3 };

static struct server_key server(const char *name)
{
	uint8_t id[NOLOG_SERVER_SIZE] = { 0 };
	struct server_key key;

	for (size_t i = 0; name[i]; i++)
		id[i] = (uint8_t)name[i];
	server_pack(&key, id);
	return key;
}

static int open_desk(void **state)
{
	struct desk *d = calloc(1, sizeof(*d));

	assert_non_null(d);
	assert_int_equal(sessions_new(&d->s, hash_key), 0);
	d->rules.max_open = 1000;
	d->t = (struct sessions_time){ .now_ms = NOW, .horizon_ms = HORIZON, .keep_ms = HORIZON };
	d->a = server("nl-ams-03");
	d->b = server("de-fra-01");
	*state = d;
	return 0;
}

static int close_desk(void **state)
{
	struct desk *d = *state;

	sessions_free(d->s);
	effects_free(&d->out);
	free(d);
	return 0;
}

static void ip4(uint8_t ip[16], uint32_t host)
{
	static const uint8_t prefix[16] = { [10] = 0xff, 0xff, 10 };

	memcpy(ip, prefix, 16);
	ip[13] = (uint8_t)(host >> 16);
	ip[14] = (uint8_t)(host >> 8);
	ip[15] = (uint8_t)host;
}

static void ip6(uint8_t ip[16], uint32_t host)
{
	static const uint8_t prefix[16] = { 0x20, 0x01, 0x0d, 0xb8 };

	memcpy(ip, prefix, 16);
	nolog_put32(ip + 12, host);
}

/* Each returns the refusal, and leaves only its own effects in d->out. */
static enum nolog_refusal decide(struct desk *d, const struct server_key *who,
				 const struct nolog_frame *f)
{
	effects_clear(&d->out);
	return sessions_decide(d->s, &d->rules, &d->t, who, f, &d->out);
}

static enum nolog_refusal start(struct desk *d, uint64_t handle, int64_t at, uint32_t host)
{
	struct nolog_frame f = { .type = NOLOG_START };

	f.u.start.handle = handle;
	f.u.start.start_ms = at;
	ip4(f.u.start.ip, host);
	return decide(d, &d->a, &f);
}

static enum nolog_refusal end(struct desk *d, uint64_t handle, int64_t at)
{
	struct nolog_frame f = { .type = NOLOG_END };

	f.u.end.handle = handle;
	f.u.end.end_ms = at;
	return decide(d, &d->a, &f);
}

static enum nolog_refusal alive(struct desk *d, uint64_t handle, int64_t at)
{
	struct nolog_frame f = { .type = NOLOG_ALIVE };

	f.u.alive.handle = handle;
	f.u.alive.at_ms = at;
	return decide(d, &d->a, &f);
}

static enum nolog_refusal session(struct desk *d, int64_t from, int64_t to, uint32_t host)
{
	struct nolog_frame f = { .type = NOLOG_SESSION };

	f.u.session.start_ms = from;
	f.u.session.end_ms = to;
	ip4(f.u.session.ip, host);
	return decide(d, &d->a, &f);
}

static enum nolog_refusal restart(struct desk *d, int64_t at)
{
	struct nolog_frame f = { .type = NOLOG_RESTART };

	f.u.restart.at_ms = at;
	return decide(d, &d->a, &f);
}

static struct effect effect(const struct desk *d, size_t i)
{
	struct effect e;

	assert_true(i < d->out.n);
	assert_int_equal(effect_decode(&e, d->out.at[i]), 0);
	return e;
}

static void expect_close(const struct desk *d, int64_t from, int64_t to)
{
	struct effect e = effect(d, 0);

	assert_int_equal(d->out.n, 1);
	assert_int_equal(e.type, EFFECT_CLOSE);
	assert_int_equal(e.u.close.start_ms, from);
	assert_int_equal(e.u.close.end_ms, to);
}

static void expect_one(const struct desk *d, enum effect_type type)
{
	assert_int_equal(d->out.n, 1);
	assert_int_equal(effect(d, 0).type, type);
}

/* --- START and END --- */

static void a_start_opens_and_an_end_makes_the_record(void **state)
{
	struct desk *d = *state;
	struct effect e;
	uint8_t ip[16];

	ip4(ip, 2);
	assert_int_equal(start(d, 7, NOW - 5000, 2), NOLOG_OK);
	expect_one(d, EFFECT_OPEN);
	e = effect(d, 0);
	assert_int_equal(e.u.open.handle, 7);
	assert_int_equal(e.u.open.start_ms, NOW - 5000);
	assert_int_equal(e.u.open.alive_ms, 0);
	assert_memory_equal(e.u.open.ip, ip, 16);
	assert_memory_equal(&e.u.open.server, &d->a, sizeof(d->a));
	assert_int_equal(sessions_open(d->s), 1);
	assert_int_equal(sessions_open_at(d->s, &d->a), 1);

	assert_int_equal(end(d, 7, NOW), NOLOG_OK);
	expect_close(d, NOW - 5000, NOW);
	e = effect(d, 0);
	assert_memory_equal(e.u.close.ip, ip, 16);
	assert_memory_equal(&e.u.close.server, &d->a, sizeof(d->a));
	assert_int_equal(sessions_open(d->s), 0);
	assert_int_equal(sessions_open_at(d->s, &d->a), 0);
}

static void a_start_of_an_open_handle_is_17_whatever_else_is_wrong(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 0, NOW, 2), NOLOG_OK);
	assert_int_equal(start(d, 0, NOW, 2), NOLOG_HANDLE_OPEN);
	assert_int_equal(start(d, 0, NOW + DAY, 2), NOLOG_HANDLE_OPEN);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(sessions_open(d->s), 1);
}

static void a_handle_is_any_number_and_forgotten_with_its_session(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, UINT64_MAX, NOW, 2), NOLOG_OK);
	assert_int_equal(start(d, 0, NOW, 2), NOLOG_OK);
	assert_int_equal(end(d, UINT64_MAX, NOW), NOLOG_OK);
	assert_int_equal(end(d, UINT64_MAX, NOW), NOLOG_UNKNOWN_HANDLE);
	assert_int_equal(start(d, UINT64_MAX, NOW, 3), NOLOG_OK);
	assert_int_equal(end(d, UINT64_MAX, NOW), NOLOG_OK);
	assert_int_equal(end(d, 0, NOW), NOLOG_OK);
}

static void two_servers_may_use_one_handle(void **state)
{
	struct desk *d = *state;
	struct nolog_frame f = { .type = NOLOG_END };

	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OK);
	f.u.end.handle = 1;
	f.u.end.end_ms = NOW;
	assert_int_equal(decide(d, &d->b, &f), NOLOG_UNKNOWN_HANDLE);
	f.type = NOLOG_START;
	memset(&f.u, 0, sizeof(f.u));
	f.u.start.handle = 1;
	f.u.start.start_ms = NOW;
	assert_int_equal(decide(d, &d->b, &f), NOLOG_OK);
	assert_int_equal(sessions_open(d->s), 2);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	assert_int_equal(sessions_open_at(d->s, &d->b), 1);
}

static void times_past_five_minutes_from_now_are_18(void **state)
{
	struct desk *d = *state;
	const int64_t limit = NOW + SESSIONS_FUTURE_MS;

	assert_int_equal(start(d, 1, limit + 1, 2), NOLOG_TIME_RANGE);
	assert_int_equal(start(d, 1, INT64_MAX, 2), NOLOG_TIME_RANGE);
	assert_int_equal(start(d, 1, limit, 2), NOLOG_OK);
	assert_int_equal(end(d, 1, limit + 1), NOLOG_TIME_RANGE);
	assert_int_equal(alive(d, 1, limit + 1), NOLOG_TIME_RANGE);
	assert_int_equal(alive(d, 1, limit), NOLOG_OK);
	assert_int_equal(end(d, 1, limit), NOLOG_OK);
	assert_int_equal(session(d, NOW, limit + 1, 2), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, limit + 1, limit + 1, 2), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, NOW, limit, 2), NOLOG_OK);
	assert_int_equal(restart(d, limit + 1), NOLOG_TIME_RANGE);
	assert_int_equal(restart(d, limit), NOLOG_OK);
}

static void times_that_cannot_be_stored_are_18_even_under_a_mad_clock(void **state)
{
	struct desk *d = *state;

	d->t.now_ms = INT64_MAX;
	assert_int_equal(start(d, 1, EFFECT_MS_MAX + 1, 2), NOLOG_TIME_RANGE);
	assert_int_equal(start(d, 1, EFFECT_MS_MAX, 2), NOLOG_OK);
	d->t.keep_ms = d->t.horizon_ms = INT64_MAX;
	assert_int_equal(end(d, 1, INT64_MAX), NOLOG_TIME_RANGE);
	assert_int_equal(end(d, 1, EFFECT_MS_MAX), NOLOG_OK);
	d->t = (struct sessions_time){ INT64_MIN, INT64_MIN, INT64_MIN, 0 };
	assert_int_equal(start(d, 1, 0, 2), NOLOG_TIME_RANGE);
	assert_int_equal(start(d, 1, INT64_MIN, 2), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.open.start_ms, 0);
}

static void an_end_before_its_start_is_18_and_the_session_stays_open(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OK);
	assert_int_equal(end(d, 1, NOW - 1), NOLOG_TIME_RANGE);
	assert_int_equal(end(d, 1, HORIZON - DAY), NOLOG_TIME_RANGE);
	assert_int_equal(end(d, 1, INT64_MIN), NOLOG_TIME_RANGE);
	assert_int_equal(sessions_open(d->s), 1);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	expect_close(d, NOW, NOW);
	assert_int_equal(session(d, NOW, NOW - 1, 2), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, NOW, NOW, 2), NOLOG_OK);
}

static void a_midnight_start_inside_the_horizon_is_no_cut_one(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, TODAY, 2), NOLOG_OK);
	assert_int_equal(end(d, 1, TODAY - 1), NOLOG_TIME_RANGE);
	assert_int_equal(end(d, 1, TODAY), NOLOG_OK);
}

/* --- The horizon --- */

static void a_start_before_the_horizon_is_cut(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, HORIZON - 5, 2), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.open.start_ms, HORIZON);
	assert_int_equal(start(d, 2, -12345, 2), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.open.start_ms, HORIZON);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	expect_close(d, HORIZON, NOW);
}

static void an_end_before_the_horizon_is_accepted_and_nothing_is_kept(void **state)
{
	struct desk *d = *state;

	for (uint64_t h = 1; h <= 4; h++)
		assert_int_equal(start(d, h, HORIZON - 100, 2), NOLOG_OK);
	assert_int_equal(end(d, 1, HORIZON - 50), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
	/* Nobody knows any more that this one is before the start. */
	assert_int_equal(end(d, 2, HORIZON - 500), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
	assert_int_equal(end(d, 3, -1), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
	assert_int_equal(end(d, 4, HORIZON), NOLOG_OK);
	expect_close(d, HORIZON, HORIZON);
	assert_int_equal(sessions_open(d->s), 0);
}

static void what_will_soon_be_forgotten_is_not_taken_any_more(void **state)
{
	struct desk *d = *state;

	d->t.keep_ms = HORIZON + DAY; /* the last two hours of a day */
	assert_int_equal(session(d, HORIZON, HORIZON + DAY - 1, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(session(d, HORIZON, HORIZON + DAY + 1, 2), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.whole.start_ms, HORIZON + DAY);
	assert_int_equal(start(d, 1, HORIZON + 1, 2), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.open.start_ms, HORIZON + DAY);
	assert_int_equal(end(d, 1, HORIZON + 2), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
}

static void a_true_start_that_only_the_horizon_passed_is_still_compared(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, HORIZON + 1000, 2), NOLOG_OK);
	d->t.horizon_ms = d->t.keep_ms = HORIZON + DAY;
	assert_int_equal(end(d, 1, HORIZON + 999), NOLOG_TIME_RANGE);
	assert_int_equal(end(d, 1, HORIZON + 1001), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
}

static void nothing_begins_when_the_present_is_forgotten(void **state)
{
	struct desk *d = *state;

	/* The newest day seen is months ahead of the clock. */
	d->t.horizon_ms = d->t.keep_ms = d->t.now_ms + DAY;
	assert_int_equal(start(d, 1, d->t.now_ms, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, d->t.now_ms - 1, d->t.now_ms, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(sessions_open(d->s), 0);
}

static void a_session_wholly_before_the_horizon_is_21(void **state)
{
	struct desk *d = *state;

	assert_int_equal(session(d, HORIZON - 100, HORIZON - 1, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, -100, -50, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, INT64_MIN, INT64_MIN, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, HORIZON - 100, HORIZON, 2), NOLOG_OK);
	assert_int_equal(session(d, INT64_MIN, HORIZON + 7, 2), NOLOG_OK);
	expect_one(d, EFFECT_WHOLE);
	assert_int_equal(effect(d, 0).u.whole.start_ms, HORIZON);
	assert_int_equal(effect(d, 0).u.whole.end_ms, HORIZON + 7);
}

static void open_sessions_are_cut_as_the_horizon_moves(void **state)
{
	struct desk *d = *state;
	bool seen = false;

	assert_int_equal(start(d, 1, HORIZON + 10, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, HORIZON + 20), NOLOG_OK);
	d->t.horizon_ms = d->t.keep_ms = HORIZON + DAY;
	for (unsigned i = 0; i < SESSIONS_SLICES; i++) {
		effects_clear(&d->out);
		sessions_refresh(d->s, &d->t, i, &d->out);
		if (d->out.n == 0)
			continue;
		seen = true;
		expect_one(d, EFFECT_OPEN);
		assert_int_equal(effect(d, 0).u.open.start_ms, HORIZON + DAY);
		/* That there was a sign of life is kept; when, is not. */
		assert_int_equal(effect(d, 0).u.open.alive_ms, 1);
	}
	assert_true(seen);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	expect_close(d, HORIZON + DAY, NOW);
}

/* --- ALIVE, silence, RESTART --- */

static void an_unknown_handle_is_16(void **state)
{
	struct desk *d = *state;

	assert_int_equal(end(d, 1, NOW + DAY), NOLOG_UNKNOWN_HANDLE);
	assert_int_equal(alive(d, 1, NOW + DAY), NOLOG_UNKNOWN_HANDLE);
	assert_int_equal(start(d, 2, NOW, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW), NOLOG_UNKNOWN_HANDLE);
}

static void an_alive_older_than_the_last_is_ignored(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, NOW - 1000, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW - 10), NOLOG_OK);
	expect_one(d, EFFECT_ALIVE);
	assert_int_equal(effect(d, 0).u.alive.alive_ms, NOW - 10);
	assert_int_equal(alive(d, 1, NOW - 20), NOLOG_OK);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(alive(d, 1, NOW - 10), NOLOG_OK);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(alive(d, 1, NOW), NOLOG_OK);
	expect_one(d, EFFECT_ALIVE);
}

static void an_alive_before_the_start_counts_as_one_at_the_start(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW - DAY), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.alive.alive_ms, NOW);
	assert_int_equal(alive(d, 1, INT64_MIN), NOLOG_OK);
	assert_int_equal(d->out.n, 0);
}

static void expire_all(struct desk *d)
{
	effects_clear(&d->out);
	for (unsigned i = 0; i < SESSIONS_SLICES; i++)
		sessions_expire(d->s, &d->rules, &d->t, i, &d->out);
}

static void a_silent_session_ends_at_its_last_alive(void **state)
{
	struct desk *d = *state;

	d->rules.max_silence_ms = 60000;
	assert_int_equal(start(d, 1, NOW - 5000, 2), NOLOG_OK);
	assert_int_equal(start(d, 2, NOW - 5000, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW - 100), NOLOG_OK);
	d->t.running_ms = 59000;
	expire_all(d);
	assert_int_equal(d->out.n, 0);
	d->t.running_ms = 61000;
	expire_all(d);
	expect_close(d, NOW - 5000, NOW - 100);
	/* The one that never sent ALIVE is not waited for. */
	d->t.running_ms = INT64_C(100) * DAY;
	expire_all(d);
	assert_int_equal(d->out.n, 0);
	assert_int_equal(sessions_open(d->s), 1);
}

/* One that comes late, or again and again, says nothing of now. */
static void an_alive_older_than_the_last_is_no_sign_of_life(void **state)
{
	struct desk *d = *state;

	d->rules.max_silence_ms = 60000;
	assert_int_equal(start(d, 1, NOW - 5000, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW - 100), NOLOG_OK);
	d->t.running_ms = 40000;
	assert_int_equal(alive(d, 1, NOW - 101), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW - 5000), NOLOG_OK);
	d->t.running_ms = 61000;
	expire_all(d);
	expect_close(d, NOW - 5000, NOW - 100);
}

static void silence_is_never_too_long_when_it_has_no_limit(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, NOW - 5000, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, NOW), NOLOG_OK);
	d->t.running_ms = INT64_C(1000) * DAY;
	expire_all(d);
	assert_int_equal(d->out.n, 0);
}

static void a_session_last_heard_of_before_the_horizon_leaves_nothing(void **state)
{
	struct desk *d = *state;

	d->rules.max_silence_ms = 60000;
	assert_int_equal(start(d, 1, HORIZON - 5000, 2), NOLOG_OK);
	assert_int_equal(alive(d, 1, HORIZON - 100), NOLOG_OK);
	assert_int_equal(effect(d, 0).u.alive.alive_ms, 1);
	d->t.running_ms = 61000;
	expire_all(d);
	expect_one(d, EFFECT_GONE);
	assert_int_equal(sessions_open(d->s), 0);
}

static void a_restart_ends_what_began_before_it(void **state)
{
	struct desk *d = *state;
	struct nolog_frame f = { .type = NOLOG_START };

	assert_int_equal(restart(d, NOW), NOLOG_OK);
	for (uint64_t h = 0; h < 100; h++)
		assert_int_equal(start(d, h, NOW - 100 + (int64_t)h, 2), NOLOG_OK);
	f.u.start.handle = 1;
	f.u.start.start_ms = NOW - 100;
	assert_int_equal(decide(d, &d->b, &f), NOLOG_OK);
	assert_int_equal(restart(d, NOW - 50), NOLOG_OK);
	assert_int_equal(d->out.n, 50);
	for (size_t i = 0; i < 50; i++) {
		struct effect e = effect(d, i);

		assert_int_equal(e.type, EFFECT_CLOSE);
		assert_true(e.u.close.handle < 50);
		assert_int_equal(e.u.close.start_ms, NOW - 100 + (int64_t)e.u.close.handle);
		assert_int_equal(e.u.close.end_ms, NOW - 50);
	}
	assert_int_equal(sessions_open_at(d->s, &d->a), 50);
	assert_int_equal(sessions_open_at(d->s, &d->b), 1);
	assert_int_equal(restart(d, NOW), NOLOG_OK);
	assert_int_equal(sessions_open_at(d->s, &d->a), 0);
	assert_int_equal(sessions_open_at(d->s, &d->b), 1);
}

/* Sessions that go between the pieces, the one it stands at too, are no stumbling block. */
static void a_restart_may_come_in_pieces(void **state)
{
	struct desk *d = *state;
	struct nolog_frame f = { .type = NOLOG_ALIVE };
	size_t closed = 0;
	unsigned pieces = 0;

	for (uint64_t h = 0; h < 1000; h++) {
		assert_int_equal(start(d, h, h % 3 ? NOW - 100 : NOW, 2), NOLOG_OK);
		f.u.alive.handle = h;
		f.u.alive.at_ms = NOW;
		if (h % 100 == 0)
			assert_int_equal(decide(d, &d->a, &f), NOLOG_OK);
	}
	d->rules.restart_most = 10;
	do {
		assert_int_equal(restart(d, NOW - 50), NOLOG_OK);
		assert_in_range(d->out.n, 0, 10);
		closed += d->out.n;
		if (pieces++ != 20)
			continue;
		/* Silence ends ten. */
		d->rules.max_silence_ms = 1000;
		d->t.running_ms += 2000;
		effects_clear(&d->out);
		for (unsigned s = 0; s < SESSIONS_SLICES; s++)
			sessions_expire(d->s, &d->rules, &d->t, s, &d->out);
		closed += d->out.n;
	} while (sessions_restarting(d->s));
	assert_in_range(pieces, 99, 101);
	for (uint64_t h = 0; h < 1000; h++)
		closed += end(d, h, NOW) == NOLOG_OK && h % 3 == 0;
	assert_int_equal(closed, 1000);
	assert_int_equal(sessions_open(d->s), 0);
	/* A server that has none left in the middle of it. */
	for (uint64_t h = 0; h < 20; h++)
		assert_int_equal(start(d, h, NOW - 100, 2), NOLOG_OK);
	assert_int_equal(restart(d, NOW), NOLOG_OK);
	assert_true(sessions_restarting(d->s));
	assert_int_equal(restart(d, NOW), NOLOG_OK);
	assert_false(sessions_restarting(d->s));
	assert_int_equal(sessions_open(d->s), 0);
}

static void a_restart_before_the_horizon_keeps_nothing(void **state)
{
	struct desk *d = *state;

	assert_int_equal(start(d, 1, HORIZON - 100, 2), NOLOG_OK);
	assert_int_equal(start(d, 2, HORIZON + 100, 2), NOLOG_OK);
	assert_int_equal(restart(d, HORIZON - 50), NOLOG_OK);
	expect_one(d, EFFECT_GONE);
	assert_int_equal(sessions_open(d->s), 1);
}

/* --- Addresses and limits --- */

static void addresses_outside_the_allowed_prefixes_are_19(void **state)
{
	struct desk *d = *state;
	struct sessions_prefix allow[2] = { { .length = 96 + 15 }, { .length = 35 } };
	struct nolog_frame f = { .type = NOLOG_START };

	ip4(allow[0].ip, 0x80000);
	ip6(allow[1].ip, 0x55);
	d->rules.allow = allow;
	d->rules.allow_count = 2;
	assert_int_equal(start(d, 1, NOW, 0x80000), NOLOG_OK);
	assert_int_equal(start(d, 2, NOW, 0x9ffff), NOLOG_OK);
	assert_int_equal(start(d, 3, NOW, 0xa0000), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(start(d, 3, NOW, 0x7ffff), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(start(d, 3, NOW + DAY, 0x7ffff), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, NOW, NOW, 0x7ffff), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(session(d, 0, 1, 0x7ffff), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, NOW, NOW, 0x80001), NOLOG_OK);
	f.u.start.handle = 9;
	f.u.start.start_ms = NOW;
	ip6(f.u.start.ip, 1);
	f.u.start.ip[4] = 0x1f;
	assert_int_equal(decide(d, &d->a, &f), NOLOG_OK);
	f.u.start.handle = 10;
	f.u.start.ip[4] = 0x20;
	assert_int_equal(decide(d, &d->a, &f), NOLOG_IP_NOT_ALLOWED);
	allow[1].length = 0; /* any */
	assert_int_equal(decide(d, &d->a, &f), NOLOG_OK);
}

static void more_open_sessions_than_allowed_are_22_last_of_all(void **state)
{
	struct desk *d = *state;

	d->rules.max_open = 2;
	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OK);
	assert_int_equal(start(d, 2, NOW, 2), NOLOG_OK);
	assert_int_equal(start(d, 3, NOW, 2), NOLOG_OVER_CAPACITY);
	assert_int_equal(start(d, 2, NOW, 2), NOLOG_HANDLE_OPEN);
	assert_int_equal(start(d, 3, NOW + DAY, 2), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, NOW, NOW, 2), NOLOG_OK);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	assert_int_equal(start(d, 3, NOW, 2), NOLOG_OK);
}

static void more_servers_than_there_are_numbers_are_22(void **state)
{
	struct desk *d = *state;
	struct nolog_frame f = { .type = NOLOG_START };

	d->rules.max_open = SIZE_MAX;
	f.u.start.start_ms = NOW;
	for (unsigned i = 0; i <= SESSIONS_SERVERS_MAX; i++) {
		char name[12];
		struct server_key key;

		(void)snprintf(name, sizeof(name), "s%u", i);
		key = server(name);
		assert_int_equal(decide(d, &key, &f),
				 i < SESSIONS_SERVERS_MAX ? NOLOG_OK : NOLOG_OVER_CAPACITY);
	}
	/* A server that has no session left makes room for another. */
	f.type = NOLOG_RESTART;
	memset(&f.u, 0, sizeof(f.u));
	f.u.restart.at_ms = NOW + 1;
	d->b = server("s77");
	assert_int_equal(decide(d, &d->b, &f), NOLOG_OK);
	assert_int_equal(d->out.n, 1);
	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OK);
}

static void a_server_without_room_comes_last_among_the_refusals(void **state)
{
	struct desk *d = *state;
	struct sessions_prefix allow = { .length = 96 };

	d->rules.server_full = true;
	d->rules.allow = &allow;
	d->rules.allow_count = 1;
	memcpy(allow.ip, (const uint8_t[16]){ [10] = 0xff, [11] = 0xff }, 16);
	assert_int_equal(session(d, NOW, NOW + DAY, 2), NOLOG_TIME_RANGE);
	assert_int_equal(session(d, 0, 1, 2), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(session(d, NOW, NOW, 2), NOLOG_OVER_CAPACITY);
	assert_int_equal(start(d, 1, NOW + DAY, 2), NOLOG_TIME_RANGE);
	assert_int_equal(start(d, 1, NOW, 2), NOLOG_OVER_CAPACITY);
	assert_int_equal(end(d, 1, NOW), NOLOG_UNKNOWN_HANDLE);
	assert_int_equal(restart(d, NOW), NOLOG_OK);
	allow.ip[11] = 0xfe;
	assert_int_equal(session(d, NOW, NOW, 2), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(start(d, 1, NOW, 2), NOLOG_IP_NOT_ALLOWED);
}

/* --- Looking --- */

struct found {
	size_t n;
	uint64_t handles; /* their sum */
	size_t stop_at;
};

static int count(const struct sessions_entry *e, void *arg)
{
	struct found *f = arg;

	f->handles += e->handle;
	return ++f->n == f->stop_at ? 5 : 0;
}

static void sessions_are_found_by_exact_address(void **state)
{
	struct desk *d = *state;
	struct found f = { 0 };
	struct nolog_frame six = { .type = NOLOG_START };
	uint8_t ip[16];

	for (uint64_t h = 0; h < 30; h++)
		assert_int_equal(start(d, h, NOW, (uint32_t)(h % 3)), NOLOG_OK);
	six.u.start.handle = 1000;
	six.u.start.start_ms = NOW;
	ip6(six.u.start.ip, 1);
	assert_int_equal(decide(d, &d->a, &six), NOLOG_OK);

	ip4(ip, 1);
	assert_int_equal(sessions_find(d->s, ip, count, &f), 0);
	assert_int_equal(f.n, 10);
	assert_int_equal(f.handles, 1 + 4 + 7 + 10 + 13 + 16 + 19 + 22 + 25 + 28);
	assert_int_equal(end(d, 1, NOW), NOLOG_OK);
	assert_int_equal(end(d, 13, NOW), NOLOG_OK);
	f = (struct found){ 0 };
	assert_int_equal(sessions_find(d->s, ip, count, &f), 0);
	assert_int_equal(f.n, 8);
	f = (struct found){ .stop_at = 3 };
	assert_int_equal(sessions_find(d->s, ip, count, &f), 5);
	assert_int_equal(f.n, 3);
	f = (struct found){ 0 };
	ip4(ip, 99);
	assert_int_equal(sessions_find(d->s, ip, count, &f), 0);
	assert_int_equal(f.n, 0);
	ip6(ip, 1);
	assert_int_equal(sessions_find(d->s, ip, count, &f), 0);
	assert_int_equal(f.handles, 1000);
}

static void an_address_is_walked_in_pieces(void **state)
{
	struct desk *d = *state;
	struct found f = { 0 };
	uint64_t gone = 0, begun = 0;
	uint8_t ip[16];

	for (uint64_t h = 0; h < 100; h++)
		assert_int_equal(start(d, h, NOW, 1), NOLOG_OK);
	ip4(ip, 1);
	sessions_walk(d->s, ip);
	/* Each time the one that it stands at goes, which is the newest not met, and one begins. */
	while (sessions_walk_on(d->s, 3, count, &f)) {
		if (gone < 12)
			assert_int_equal(end(d, 100 - f.n - gone++, NOW), NOLOG_OK);
		assert_int_equal(start(d, 1000 + begun++, NOW, 1), NOLOG_OK);
	}
	assert_int_equal(f.n, 100 - gone);
	assert_int_equal(gone, 12);
	f = (struct found){ .stop_at = 3 };
	sessions_walk(d->s, ip);
	assert_false(sessions_walk_on(d->s, 100, count, &f));
	assert_int_equal(f.n, 3);
	ip4(ip, 77);
	sessions_walk(d->s, ip);
	assert_false(sessions_walk_on(d->s, 100, count, &f));
}

static void a_scan_of_all_slices_meets_every_session_once(void **state)
{
	struct desk *d = *state;
	struct found f = { 0 };

	for (uint64_t h = 0; h < 500; h++)
		assert_int_equal(start(d, h, NOW, (uint32_t)h), NOLOG_OK);
	for (unsigned i = 0; i < SESSIONS_SLICES; i++)
		assert_int_equal(sessions_scan(d->s, i, count, &f), 0);
	assert_int_equal(f.n, 500);
	assert_int_equal(f.handles, 499 * 500 / 2);
}

/* --- Replay --- */

static void replay_refuses_nothing_and_knows_its_book(void **state)
{
	struct desk *d = *state;
	struct effect e = { .type = EFFECT_CLOSE };

	e.u.close.server = d->a;
	assert_int_equal(sessions_apply(d->s, &e, 0), 0); /* of a session that is not open */
	e = (struct effect){ .type = EFFECT_ALIVE, .u.alive.server = d->a, .u.alive.alive_ms = 5 };
	assert_int_equal(sessions_apply(d->s, &e, 0), 0);
	e = (struct effect){ .type = EFFECT_WHOLE, .u.whole.server = d->a };
	assert_int_equal(sessions_apply(d->s, &e, 0), 0);
	e = (struct effect){ .type = EFFECT_OPEN, .u.open.server = d->a, .u.open.start_ms = 3 };
	assert_int_equal(sessions_apply(d->s, &e, 0), 0);
	assert_int_equal(sessions_apply(d->s, &e, 0), 0);
	assert_int_equal(sessions_open(d->s), 1);
	for (unsigned type = EFFECT_STREAM; type <= EFFECT_TURN; type++) {
		e = (struct effect){ .type = (uint8_t)type };
		assert_int_equal(sessions_apply(d->s, &e, 0), -EBADMSG);
	}
}

static void replay_counts_silence_from_itself(void **state)
{
	struct desk *d = *state;
	struct effect e = { .type = EFFECT_OPEN };

	e.u.open.server = d->a;
	e.u.open.start_ms = NOW - 1000;
	e.u.open.alive_ms = NOW - 500;
	assert_int_equal(sessions_apply(d->s, &e, 5000), 0);
	d->rules.max_silence_ms = 60000;
	d->t.running_ms = 64000;
	expire_all(d);
	assert_int_equal(d->out.n, 0);
	d->t.running_ms = 66000;
	expire_all(d);
	expect_close(d, NOW - 1000, NOW - 500);
}

static void an_open_logged_again_with_another_address_is_found_there_only(void **state)
{
	struct desk *d = *state;
	struct effect e = { .type = EFFECT_OPEN };
	struct found f = { 0 };
	uint8_t four[16], six[16];

	ip4(four, 1);
	ip6(six, 1);
	e.u.open.server = d->a;
	for (int i = 0; i < 7; i++) {
		memcpy(e.u.open.ip, i % 2 ? six : four, 16);
		assert_int_equal(sessions_apply(d->s, &e, 0), 0);
	}
	assert_int_equal(sessions_find(d->s, six, count, &f), 0);
	assert_int_equal(f.n, 0);
	assert_int_equal(sessions_find(d->s, four, count, &f), 0);
	assert_int_equal(f.n, 1);
}

/* --- The ledger against the fold of its effects, over random events --- */

static uint64_t random_state;

static uint32_t pick(uint32_t below)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

static int dump_one(const struct sessions_entry *e, void *arg)
{
	struct effect effect = { .type = EFFECT_OPEN };

	effect.u.open.server = *e->server;
	effect.u.open.handle = e->handle;
	memcpy(effect.u.open.ip, e->ip, 16);
	effect.u.open.start_ms = e->start_ms;
	effect.u.open.alive_ms = e->alive_ms;
	effects_add(arg, &effect);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, EFFECT_SIZE);
}

static void dump(const struct sessions *s, struct effects *out)
{
	effects_clear(out);
	for (unsigned i = 0; i < SESSIONS_SLICES; i++)
		assert_int_equal(sessions_scan(s, i, dump_one, out), 0);
	if (out->n)
		qsort(out->at, out->n, EFFECT_SIZE, compare);
}

static void assert_same(const struct sessions *a, const struct sessions *b)
{
	struct effects x = { 0 }, y = { 0 };

	assert_int_equal(sessions_open(a), sessions_open(b));
	dump(a, &x);
	dump(b, &y);
	assert_int_equal(x.n, y.n);
	if (x.n)
		assert_memory_equal(x.at, y.at, x.n * EFFECT_SIZE);
	effects_free(&x);
	effects_free(&y);
}

/* Few handles, servers and addresses, so that everything meets everything. */
static void random_event(struct nolog_frame *f, int64_t now_ms, uint32_t handles)
{
	static const uint8_t types[] = { NOLOG_START, NOLOG_START, NOLOG_START,	  NOLOG_START,
					 NOLOG_END,   NOLOG_END,   NOLOG_SESSION, NOLOG_ALIVE };
	uint32_t six = pick(4);
	int64_t at = now_ms - (int64_t)pick(pick(3) ? 100000 : (uint32_t)(10 * DAY));

	*f = (struct nolog_frame){ .type = types[pick(sizeof(types))] };
	if (pick(20000) == 0)
		f->type = NOLOG_RESTART;
	switch (f->type) {
	case NOLOG_START:
		f->u.start.handle = pick(handles);
		f->u.start.start_ms = at;
		six == 0 ? ip6(f->u.start.ip, pick(500)) : ip4(f->u.start.ip, pick(500));
		break;
	case NOLOG_END:
		f->u.end.handle = pick(handles);
		f->u.end.end_ms = at;
		break;
	case NOLOG_SESSION:
		f->u.session.start_ms = at - 500;
		f->u.session.end_ms = at;
		break;
	case NOLOG_ALIVE:
		f->u.alive.handle = pick(handles);
		f->u.alive.at_ms = at;
		break;
	default:
		f->u.restart.at_ms = at;
		break;
	}
}

static void the_ledger_is_the_fold_of_its_effects(void **state)
{
	struct desk *d = *state;
	struct server_key servers[8];
	struct sessions *fold;
	uint8_t other_key[16] = { 9 };

	random_state = 42;
	for (unsigned i = 0; i < 8; i++) {
		char name[] = { 's', (char)('0' + i), 0 };

		servers[i] = server(name);
	}
	assert_int_equal(sessions_new(&fold, other_key), 0);
	d->rules.max_open = 30000;
	d->rules.max_silence_ms = 3600000;
	for (int i = 0; i < 400000; i++) {
		struct nolog_frame f;

		random_event(&f, d->t.now_ms, 5000);
		(void)decide(d, &servers[pick(8)], &f);
		d->t.now_ms += pick(1000);
		d->t.running_ms += pick(1000);
		d->t.horizon_ms = (d->t.now_ms / DAY - 3) * DAY;
		d->t.keep_ms = ((d->t.now_ms + DAY / 12) / DAY - 3) * DAY;
		sessions_refresh(d->s, &d->t, pick(SESSIONS_SLICES), &d->out);
		sessions_expire(d->s, &d->rules, &d->t, pick(SESSIONS_SLICES), &d->out);
		for (size_t k = 0; k < d->out.n; k++) {
			struct effect e = effect(d, k);

			if (e.type == EFFECT_CLOSE) {
				assert_true(e.u.close.start_ms >= d->t.horizon_ms);
				assert_true(e.u.close.start_ms <= e.u.close.end_ms);
			}
			assert_int_equal(sessions_apply(fold, &e, 0), 0);
		}
		if (i % 20000 == 0)
			assert_same(d->s, fold);
	}
	assert_same(d->s, fold);
	assert_true(sessions_open(fold) > 1000);
	sessions_free(fold);
}

static void every_index_agrees_after_random_events(void **state)
{
	struct desk *d = *state;
	struct found all = { 0 };
	size_t at_server;
	uint8_t ip[16];

	random_state = 7;
	d->rules.max_open = SIZE_MAX;
	for (int i = 0; i < 200000; i++) {
		struct nolog_frame f;

		random_event(&f, d->t.now_ms, 20000);
		(void)decide(d, pick(2) ? &d->a : &d->b, &f);
	}
	for (uint32_t host = 0; host < 500; host++) {
		ip4(ip, host);
		assert_int_equal(sessions_find(d->s, ip, count, &all), 0);
		ip6(ip, host);
		assert_int_equal(sessions_find(d->s, ip, count, &all), 0);
	}
	assert_int_equal(all.n, sessions_open(d->s));
	at_server = sessions_open_at(d->s, &d->a) + sessions_open_at(d->s, &d->b);
	assert_int_equal(at_server, sessions_open(d->s));
	assert_int_equal(restart(d, d->t.now_ms + 1), NOLOG_OK);
	assert_int_equal(sessions_open(d->s), sessions_open_at(d->s, &d->b));
}

/* --- What it costs: printed, and the memory asserted --- */

static double cpu_ns(void)
{
	struct timespec t;

	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void a_million_open_sessions_fit_in_64_bytes_each(void **state)
{
	struct desk *d = *state;
	const uint32_t n = 1000000;
	struct server_key servers[64];
	size_t before, after;
	double t0, t1;

	for (unsigned i = 0; i < 64; i++) {
		char name[] = { 's', (char)('0' + i / 10), (char)('0' + i % 10), 0 };

		servers[i] = server(name);
	}
	d->rules.max_open = n;
	random_state = 1;
	(void)start(d, 1, NOW, 1), (void)end(d, 1, NOW); /* the effects' own room */
	before = in_use();
	t0 = cpu_ns();
	for (uint32_t i = 0; i < n; i++) {
		struct nolog_frame f = { .type = NOLOG_START };

		f.u.start.handle = i;
		f.u.start.start_ms = NOW;
		ip4(f.u.start.ip, i);
		assert_int_equal(decide(d, &servers[i % 64], &f), NOLOG_OK);
	}
	t1 = cpu_ns();
	after = in_use();
	print_message("%u open: %.1f bytes each, START %.0f ns\n", n, (double)(after - before) / n,
		      (t1 - t0) / n);
	if (after > before) /* a checking allocator tells nothing */
		assert_true(after - before <= (size_t)64 * n);

	t0 = cpu_ns();
	for (uint32_t k = 0; k < n; k++) {
		struct nolog_frame f = { .type = NOLOG_END };
		uint32_t i = pick(n);

		f.u.end.handle = i;
		f.u.end.end_ms = NOW;
		assert_int_equal(decide(d, &servers[i % 64], &f), NOLOG_OK);
		f = (struct nolog_frame){ .type = NOLOG_START };
		f.u.start.handle = i;
		f.u.start.start_ms = NOW;
		ip4(f.u.start.ip, i);
		assert_int_equal(decide(d, &servers[i % 64], &f), NOLOG_OK);
	}
	t1 = cpu_ns();
	print_message("END or START at random: %.0f ns\n", (t1 - t0) / n / 2);
}

static void a_million_sessions_of_one_address_are_no_burden(void **state)
{
	struct desk *d = *state;
	const uint32_t n = 1000000;
	struct found f = { 0 };
	uint8_t ip[16];

	d->rules.max_open = n;
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(start(d, i, NOW, 1), NOLOG_OK);
	ip4(ip, 1);
	assert_int_equal(sessions_find(d->s, ip, count, &f), 0);
	assert_int_equal(f.n, n);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(end(d, (uint64_t)i * 7919 % n, NOW), NOLOG_OK);
	assert_int_equal(sessions_open(d->s), 0);
}

#define DESK(test) cmocka_unit_test_setup_teardown(test, open_desk, close_desk)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DESK(a_start_opens_and_an_end_makes_the_record),
		DESK(a_start_of_an_open_handle_is_17_whatever_else_is_wrong),
		DESK(a_handle_is_any_number_and_forgotten_with_its_session),
		DESK(two_servers_may_use_one_handle),
		DESK(times_past_five_minutes_from_now_are_18),
		DESK(times_that_cannot_be_stored_are_18_even_under_a_mad_clock),
		DESK(an_end_before_its_start_is_18_and_the_session_stays_open),
		DESK(a_midnight_start_inside_the_horizon_is_no_cut_one),
		DESK(a_start_before_the_horizon_is_cut),
		DESK(an_end_before_the_horizon_is_accepted_and_nothing_is_kept),
		DESK(what_will_soon_be_forgotten_is_not_taken_any_more),
		DESK(a_true_start_that_only_the_horizon_passed_is_still_compared),
		DESK(nothing_begins_when_the_present_is_forgotten),
		DESK(a_session_wholly_before_the_horizon_is_21),
		DESK(open_sessions_are_cut_as_the_horizon_moves),
		DESK(an_unknown_handle_is_16),
		DESK(an_alive_older_than_the_last_is_ignored),
		DESK(an_alive_before_the_start_counts_as_one_at_the_start),
		DESK(a_silent_session_ends_at_its_last_alive),
		DESK(an_alive_older_than_the_last_is_no_sign_of_life),
		DESK(silence_is_never_too_long_when_it_has_no_limit),
		DESK(a_session_last_heard_of_before_the_horizon_leaves_nothing),
		DESK(a_restart_ends_what_began_before_it),
		DESK(a_restart_may_come_in_pieces),
		DESK(a_restart_before_the_horizon_keeps_nothing),
		DESK(addresses_outside_the_allowed_prefixes_are_19),
		DESK(more_open_sessions_than_allowed_are_22_last_of_all),
		DESK(more_servers_than_there_are_numbers_are_22),
		DESK(sessions_are_found_by_exact_address),
		DESK(an_address_is_walked_in_pieces),
		DESK(a_server_without_room_comes_last_among_the_refusals),
		DESK(a_scan_of_all_slices_meets_every_session_once),
		DESK(replay_refuses_nothing_and_knows_its_book),
		DESK(replay_counts_silence_from_itself),
		DESK(an_open_logged_again_with_another_address_is_found_there_only),
		DESK(the_ledger_is_the_fold_of_its_effects),
		DESK(every_index_agrees_after_random_events),
		DESK(a_million_open_sessions_fit_in_64_bytes_each),
		DESK(a_million_sessions_of_one_address_are_no_burden),
	};

	if (seal_init() < 0)
		return 1;
	return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
