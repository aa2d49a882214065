/* SPDX-License-Identifier: ISC */
/*
 * The log's rules, held against random histories with a crash possible at
 * every step.
 *
 * The ledgers, streams and the refresh are the real ones; the journal, the day
 * files and the keys are a few arrays.  Beside them lives a twin that never
 * crashes and is given every event once, when it has become durable.  After
 * every crash and replay, and all the time:
 *
 *   - the ledger, folded from a log that is cut all the time, is the twin;
 *   - every finished session is in exactly one run, or waits for one;
 *   - a stream stands where the last durable event of it left it;
 *   - every block that is left can be opened: its key lives.
 *
 * The same model with one of the rules switched off must come out wrong, or it
 * would prove nothing.  NOLOG_MODEL_SEED runs the one history of that seed.
 */
#include "calendar.h"
#include "effect.h"
#include "refresh.h"
#include "seal.h"
#include "sessions.h"
#include "streams.h"
#include "usage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define UNITS 8u /* what the refresh goes round: 512 slices and 32 of the streams each */
#define REPORTERS 3u
#define BATCHES 400u
#define STEPS 60u
#define HISTORIES 1000u
#define BROKEN_HISTORIES 500u /* a broken rule must show within these */
#define DAY CALENDAR_DAY_MS
#define EPOCH_MS (INT64_C(20000) * DAY)
#define RETENTION 3

enum rule {
	ALL_RULES,
	NO_F,	       /* cut without regard to what day files hold */
	NO_P,	       /* cut without regard to what was logged again */
	NO_THROUGH,    /* replay rows whatever the day's file holds */
	EARLY_P,       /* cut before what was logged again is durable */
	EARLY_KEY,     /* destroy the old key before the cut has passed its last block */
	REPEAT_EVENTS, /* a reporter that repeats is not told from a new one */
};

struct row {
	int32_t day;
	struct server_key server;
	uint8_t ip[16];
	int64_t start_ms, end_ms;
	uint64_t batch;
};

struct rows {
	struct row *at;
	size_t n, room;
};

struct batch {
	uint8_t (*effects)[EFFECT_SIZE];
	size_t n;
	unsigned epoch;
};

struct through {
	int32_t day;
	uint64_t batch;
};

/* What survives a crash. */
struct disk {
	struct batch log[BATCHES + 1]; /* from 1; those before first are gone */
	uint64_t first, last;
	unsigned key_old, key; /* epochs; equal when there is no old one */
	uint64_t old_last;     /* last block under the old key */
	struct rows runs;
	struct through through[64];
	size_t days;
};

struct ledger {
	struct sessions *sessions;
	struct usage *usage;
};

struct model {
	uint64_t random;
	enum rule rule;
	bool usage; /* which book */
	bool wrong;
	const char *what;
	struct disk disk;

	struct ledger ledger;
	struct streams *streams;
	struct refresh *refresh;
	struct rows waiting;
	struct effects out;
	int64_t running_ms;
	/* The batch in the making: events taken up to, silence, units logged again, the turn. */
	uint64_t taken[REPORTERS];
	size_t silent_from, silent_to;
	unsigned first_unit, units;
	bool turns;

	struct ledger twin;
	uint64_t twin_taken[REPORTERS];
	struct effects twin_out;
	struct rows finished; /* what the twin has seen end */
	int64_t now_ms;
	uint8_t generation;
	uint64_t events, crashes;
};

static const uint8_t hash_key[16] = { 5 };
static struct server_key servers[REPORTERS];

/* --- Small things --- */

static uint64_t mix(uint64_t z)
{
	z += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint32_t pick(struct model *m, uint32_t below)
{
	m->random = mix(m->random);
	return (uint32_t)(m->random >> 32) % below;
}

static void fail_with(struct model *m, const char *what)
{
	if (!m->wrong)
		m->what = what;
	m->wrong = true;
}

static void tag(uint8_t out[16], uint64_t what, uint64_t key)
{
	nolog_put64(out, mix(what * 977 + key));
	nolog_put64(out + 8, mix(what * 983 + key + 1));
}

static void rows_add(struct rows *r, const struct row *row)
{
	if (r->n == r->room) {
		r->room = r->room ? r->room * 2 : 256;
		r->at = realloc(r->at, r->room * sizeof(*r->at));
		assert_non_null(r->at);
	}
	r->at[r->n++] = *row;
}

static int row_compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;
	int r = memcmp(x->ip, y->ip, 16);

	if (r == 0)
		r = memcmp(&x->server, &y->server, sizeof(x->server));
	if (r == 0)
		r = (x->start_ms > y->start_ms) - (x->start_ms < y->start_ms);
	if (r == 0)
		r = (x->end_ms > y->end_ms) - (x->end_ms < y->end_ms);
	return r;
}

/* Splits a finished session at midnight; an end at 24:00 belongs to the day that ends. */
static void rows_split(struct rows *rows, const struct effect *e, uint64_t batch)
{
	struct row row = { .batch = batch };
	int64_t start_ms, end_ms;

	if (e->type == EFFECT_CLOSE) {
		row.server = e->u.close.server;
		memcpy(row.ip, e->u.close.ip, 16);
		start_ms = e->u.close.start_ms;
		end_ms = e->u.close.end_ms;
	} else if (e->type == EFFECT_WHOLE) {
		row.server = e->u.whole.server;
		memcpy(row.ip, e->u.whole.ip, 16);
		start_ms = e->u.whole.start_ms;
		end_ms = e->u.whole.end_ms;
	} else {
		return;
	}
	do {
		int64_t midnight;

		row.day = calendar_day(start_ms);
		midnight = calendar_day_start(row.day + 1);
		row.start_ms = start_ms;
		row.end_ms = end_ms < midnight ? end_ms : midnight;
		rows_add(rows, &row);
		start_ms = midnight;
	} while (start_ms < end_ms);
}

static void rows_forget(struct rows *rows, int32_t horizon)
{
	size_t kept = 0;

	for (size_t i = 0; i < rows->n; i++)
		if (rows->at[i].day >= horizon)
			rows->at[kept++] = rows->at[i];
	rows->n = kept;
}

static struct through *through_of(struct disk *d, int32_t day)
{
	for (size_t i = 0; i < d->days; i++)
		if (d->through[i].day == day)
			return &d->through[i];
	assert_true(d->days < sizeof(d->through) / sizeof(d->through[0]));
	d->through[d->days] = (struct through){ .day = day };
	return &d->through[d->days++];
}

/* --- The two books --- */

static struct sessions_time time_of(const struct model *m)
{
	return (struct sessions_time){
		.now_ms = m->now_ms,
		.horizon_ms = calendar_horizon_ms(m->now_ms, RETENTION),
		.keep_ms = calendar_horizon_ms(m->now_ms + CALENDAR_AHEAD_MS, RETENTION),
		.running_ms = m->running_ms,
	};
}

static void ledger_new(const struct model *m, struct ledger *l)
{
	*l = (struct ledger){ 0 };
	assert_int_equal(m->usage ? usage_new(&l->usage) : sessions_new(&l->sessions, hash_key), 0);
}

static void ledger_free(struct ledger *l)
{
	sessions_free(l->sessions);
	usage_free(l->usage);
}

/* The event that a reporter's number stands for: always the same, however often it is sent. */
static void session_event(struct nolog_frame *f, unsigned reporter, uint64_t seq)
{
	static const uint8_t types[] = { NOLOG_START, NOLOG_START, NOLOG_START, NOLOG_START,
					 NOLOG_END,   NOLOG_END,   NOLOG_ALIVE, NOLOG_SESSION };
	uint64_t h = mix(reporter * UINT64_C(1000003) + seq);
	int64_t at_ms = EPOCH_MS + (int64_t)seq * 1000000 - (int64_t)(h >> 8) % 4000000;
	uint8_t ip[16] = { [10] = 0xff, 0xff };

	nolog_put32(ip + 12, reporter << 24 | (uint32_t)seq); /* tells the sessions apart */
	*f = (struct nolog_frame){ .type = h % 40 == 0 ? NOLOG_RESTART : types[h % 8] };
	h >>= 40;
	switch (f->type) {
	case NOLOG_START:
		f->u.start.handle = h % 12;
		f->u.start.start_ms = at_ms;
		memcpy(f->u.start.ip, ip, 16);
		break;
	case NOLOG_END:
		f->u.end.handle = h % 12;
		f->u.end.end_ms = at_ms;
		break;
	case NOLOG_ALIVE:
		f->u.alive.handle = h % 12;
		f->u.alive.at_ms = at_ms;
		break;
	case NOLOG_SESSION:
		f->u.session.start_ms = at_ms - (int64_t)(h % 100000000);
		f->u.session.end_ms = at_ms;
		memcpy(f->u.session.ip, ip, 16);
		break;
	default:
		f->u.restart.at_ms = at_ms;
		break;
	}
}

static void usage_of(const struct model *m, struct usage_event *e, unsigned reporter, uint64_t seq)
{
	uint64_t h = mix(reporter * UINT64_C(1000003) + seq), meter = reporter * 100 + h % 9;

	*e = (struct usage_event){ .metered = h % 3 != 0,
				   .generation = m->generation,
				   .old_generation = (uint8_t)(m->generation - 1),
				   .flags = (h >> 16) % 5 == 0 ? (unsigned)(h >> 24) % 4 : 0,
				   .rx = (h >> 32) % 100000 + seq * 50,
				   .tx = (h >> 40) % 1000 };
	tag(e->account, h % 7, 3);
	tag(e->meter, meter, m->generation + 100u);
	tag(e->old_meter, meter, m->generation + 99u);
}

static void decide(const struct model *m, struct ledger *l, unsigned reporter, uint64_t seq,
		   struct effects *out)
{
	static const struct usage_rules usage_rules = { 100, 100 };
	static const struct sessions_rules rules = { .max_open = 1000, .max_silence_ms = 600 };
	struct sessions_time t = time_of(m);

	if (m->usage) {
		struct usage_event e;

		usage_of(m, &e, reporter, seq);
		(void)usage_decide(l->usage, &usage_rules, &e, 0, out);
	} else {
		struct nolog_frame f;

		session_event(&f, reporter, seq);
		(void)sessions_decide(l->sessions, &rules, &t, &servers[reporter], &f, out);
	}
}

static void refresh_unit(const struct model *m, struct ledger *l, unsigned unit,
			 struct effects *out)
{
	struct sessions_time t = time_of(m);

	for (unsigned i = unit; i < SESSIONS_SLICES; i += UNITS)
		if (m->usage)
			usage_refresh(l->usage, i, out);
		else
			sessions_refresh(l->sessions, &t, i, out);
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

static void dump(const struct model *m, const struct ledger *l, struct effects *out)
{
	for (unsigned i = 0; i < SESSIONS_SLICES; i++)
		if (m->usage)
			usage_refresh(l->usage, i, out);
		else
			(void)sessions_scan(l->sessions, i, dump_one, out);
	if (out->n)
		qsort(out->at, out->n, EFFECT_SIZE, compare);
}

static int apply(const struct model *m, struct ledger *l, const struct effect *e)
{
	return m->usage ? usage_apply(l->usage, e, 0) : sessions_apply(l->sessions, e, 0);
}

static void stream_id(uint8_t id[16], unsigned reporter)
{
	tag(id, reporter, 77);
}

/* --- What must hold --- */

static void check_ledger(struct model *m)
{
	struct effects a = { 0 }, b = { 0 };

	dump(m, &m->ledger, &a);
	dump(m, &m->twin, &b);
	if (a.n != b.n || (a.n && memcmp(a.at, b.at, a.n * EFFECT_SIZE) != 0))
		fail_with(m, "the ledger is not the twin");
	effects_free(&a);
	effects_free(&b);
}

static void check_streams(struct model *m)
{
	for (unsigned r = 0; r < REPORTERS; r++) {
		uint8_t id[16];

		stream_id(id, r);
		if (streams_get(m->streams, id) != m->twin_taken[r])
			fail_with(m, "a stream stands elsewhere");
	}
}

static void check_rows(struct model *m)
{
	struct rows all = { 0 };

	for (size_t i = 0; i < m->disk.runs.n; i++)
		rows_add(&all, &m->disk.runs.at[i]);
	for (size_t i = 0; i < m->waiting.n; i++)
		rows_add(&all, &m->waiting.at[i]);
	if (all.n)
		qsort(all.at, all.n, sizeof(*all.at), row_compare);
	if (m->finished.n)
		qsort(m->finished.at, m->finished.n, sizeof(*m->finished.at), row_compare);
	if (all.n != m->finished.n)
		fail_with(m, all.n < m->finished.n ? "a finished session is lost"
						   : "a finished session is there twice");
	for (size_t i = 0; i < all.n && i < m->finished.n; i++)
		if (row_compare(&all.at[i], &m->finished.at[i]) != 0)
			fail_with(m, "a finished session is another one");
	free(all.at);
}

static void check(struct model *m)
{
	check_ledger(m);
	check_streams(m);
	check_rows(m);
}

/* --- The daemon's side --- */

static void forget_days(struct model *m)
{
	int32_t horizon = calendar_day(time_of(m).horizon_ms);

	rows_forget(&m->disk.runs, horizon);
	rows_forget(&m->waiting, horizon);
	rows_forget(&m->finished, horizon);
}

static uint64_t flushed(const struct model *m)
{
	uint64_t f = m->disk.last;

	for (size_t i = 0; i < m->waiting.n; i++)
		if (m->waiting.at[i].batch - 1 < f)
			f = m->waiting.at[i].batch - 1;
	return f;
}

static void cut(struct model *m)
{
	struct disk *d = &m->disk;
	uint64_t to = refresh_cut(m->refresh, m->rule == NO_F ? UINT64_MAX : flushed(m) + 1);

	if (m->rule == NO_P)
		to = flushed(m) + 1;
	if (to > d->last + 1)
		to = d->last + 1;
	for (; d->first < to; d->first++)
		free(d->log[d->first].effects);
	if (d->key_old != d->key && d->first > d->old_last)
		d->key_old = d->key; /* the old one is destroyed */
}

static void renew_key(struct model *m)
{
	struct disk *d = &m->disk;

	if (d->key_old != d->key)
		return; /* the cut has not passed the last renewal yet */
	d->old_last = d->last;
	d->key++;
	if (m->rule == EARLY_KEY)
		d->key_old = d->key;
}

/* Writes the waiting rows of one day as a run, with how far that goes: one transaction. */
static void flush_day(struct model *m, int32_t day)
{
	struct through *t = through_of(&m->disk, day);
	size_t kept = 0;

	for (size_t i = 0; i < m->waiting.n; i++) {
		if (m->waiting.at[i].day == day)
			rows_add(&m->disk.runs, &m->waiting.at[i]);
		else
			m->waiting.at[kept++] = m->waiting.at[i];
	}
	m->waiting.n = kept;
	t->batch = m->disk.last;
}

static void batch_begin(struct model *m)
{
	effects_clear(&m->out);
	m->silent_from = m->silent_to = 0;
	m->units = 0;
	m->turns = false;
}

/* The memory is lost; then start-up. */
static void crash(struct model *m)
{
	struct disk *d = &m->disk;

	m->crashes++;
	ledger_free(&m->ledger);
	streams_free(m->streams);
	refresh_free(m->refresh);
	m->waiting.n = 0;
	batch_begin(m);
	m->running_ms = 0;
	ledger_new(m, &m->ledger);
	assert_int_equal(streams_new(&m->streams), 0);
	for (uint64_t b = d->first; b <= d->last; b++) {
		if (d->log[b].epoch != d->key && d->log[b].epoch != d->key_old)
			fail_with(m, "a block is under no living key");
		for (size_t i = 0; i < d->log[b].n; i++) {
			struct effect e;
			size_t from = m->waiting.n, kept = from;

			assert_int_equal(effect_decode(&e, d->log[b].effects[i]), 0);
			if (e.type == EFFECT_STREAM) {
				assert_int_equal(streams_apply(m->streams, &e, 0), 0);
				continue;
			}
			assert_int_equal(apply(m, &m->ledger, &e), 0);
			rows_split(&m->waiting, &e, b);
			for (size_t k = from; k < m->waiting.n; k++)
				if (m->rule == NO_THROUGH ||
				    b > through_of(d, m->waiting.at[k].day)->batch)
					m->waiting.at[kept++] = m->waiting.at[k];
			m->waiting.n = kept;
		}
	}
	assert_int_equal(refresh_new(&m->refresh, UNITS, 100, d->first), 0);
	forget_days(m);
	for (unsigned r = 0; r < REPORTERS; r++) {
		uint8_t id[16];

		stream_id(id, r);
		m->taken[r] = streams_get(m->streams, id);
	}
	check(m);
}

static bool may_crash(struct model *m)
{
	if (pick(m, 25) != 0)
		return false;
	crash(m);
	return true;
}

/* Takes some events; a reporter sends again what was not acknowledged, and sometimes more. */
static void take_events(struct model *m)
{
	for (unsigned n = pick(m, 12); n > 0; n--) {
		unsigned r = pick(m, REPORTERS);
		uint64_t seq = m->taken[r] + 1;

		if (seq > 1 && pick(m, 6) == 0) {
			seq--; /* a repeat */
			if (m->rule != REPEAT_EVENTS)
				continue;
		}
		decide(m, &m->ledger, r, seq, &m->out);
		if (seq > m->taken[r])
			m->taken[r] = seq;
	}
	for (unsigned r = 0; r < REPORTERS; r++) {
		uint8_t id[16];

		stream_id(id, r);
		if (streams_get(m->streams, id) == m->taken[r])
			continue;
		assert_int_equal(streams_set(m->streams, id, 1, m->taken[r], m->running_ms), 0);
		streams_emit(m->streams, id, &m->out);
	}
}

static void twin_ends(struct model *m, uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct effect e;

		assert_int_equal(effect_decode(&e, effects[i]), 0);
		rows_split(&m->finished, &e, m->disk.last);
	}
}

/*
 * The batch is durable: the twin decides its events itself, each once.  Only
 * silence it is told of, for its running time is another.
 */
static void tell_twin(struct model *m)
{
	effects_clear(&m->twin_out);
	for (unsigned r = 0; r < REPORTERS; r++)
		for (; m->twin_taken[r] < m->taken[r]; m->twin_taken[r]++, m->events++)
			decide(m, &m->twin, r, m->twin_taken[r] + 1, &m->twin_out);
	twin_ends(m, m->twin_out.at, m->twin_out.n);
	twin_ends(m, m->out.at + m->silent_from, m->silent_to - m->silent_from);
	for (size_t i = m->silent_from; i < m->silent_to; i++) {
		struct effect e;

		assert_int_equal(effect_decode(&e, m->out.at[i]), 0);
		assert_int_equal(apply(m, &m->twin, &e), 0);
	}
	if (m->turns)
		usage_turn(m->twin.usage, 202612, &m->twin_out);
	for (unsigned i = 0; i < m->units; i++)
		refresh_unit(m, &m->twin, (m->first_unit + i) % UNITS, &m->twin_out);
}

static void append(struct model *m)
{
	struct disk *d = &m->disk;
	struct batch *b = &d->log[d->last + 1];

	b->n = m->out.n;
	b->epoch = d->key;
	b->effects = malloc((b->n + 1) * EFFECT_SIZE);
	assert_non_null(b->effects);
	if (b->n)
		memcpy(b->effects, m->out.at, b->n * EFFECT_SIZE);
	d->last++;
	tell_twin(m);
}

static void hand_on(struct model *m)
{
	for (size_t i = 0; i < m->out.n; i++) {
		struct effect e;

		assert_int_equal(effect_decode(&e, m->out.at[i]), 0);
		rows_split(&m->waiting, &e, m->disk.last);
	}
	batch_begin(m);
}

static size_t log_length(const struct disk *d)
{
	size_t n = 0;

	for (uint64_t b = d->first; b <= d->last; b++)
		n += d->log[b].n;
	return n;
}

/* True when it came to its end without a crash. */
static bool commit(struct model *m, unsigned units)
{
	unsigned first = m->first_unit = refresh_next(m->refresh);

	m->units = units;
	for (unsigned i = 0; i < units; i++) {
		unsigned unit = (first + i) % UNITS;

		refresh_unit(m, &m->ledger, unit, &m->out);
		for (unsigned k = unit; k < STREAMS_SLICES; k += UNITS)
			streams_refresh(m->streams, k, &m->out);
		if (m->rule == EARLY_P)
			refresh_logged(m->refresh, unit, m->disk.last + 1, m->running_ms);
	}
	if (m->rule == EARLY_P)
		cut(m);
	if (may_crash(m))
		return false;
	append(m);
	if (may_crash(m))
		return false;
	for (unsigned i = 0; i < units && m->rule != EARLY_P; i++)
		refresh_logged(m->refresh, (first + i) % UNITS, m->disk.last, m->running_ms);
	hand_on(m);
	return true;
}

static void flush_some(struct model *m)
{
	while (m->waiting.n > 0) {
		flush_day(m, m->waiting.at[pick(m, (uint32_t)m->waiting.n)].day);
		if (may_crash(m))
			return;
	}
}

/* The month's turn: totals zero, all logged again under a new key, cut, old key destroyed. */
static void turn(struct model *m)
{
	if (m->disk.key_old != m->disk.key)
		return;
	usage_turn(m->ledger.usage, 202612, &m->out);
	m->turns = true;
	renew_key(m);
	if (!commit(m, 0))
		return;
	m->generation++;
	if (commit(m, UNITS))
		cut(m);
}

static void expire_some(struct model *m)
{
	static const struct sessions_rules rules = { .max_silence_ms = 600 };
	struct sessions_time t = time_of(m);

	m->silent_from = m->out.n;
	for (unsigned i = pick(m, 16); !m->usage && i < SESSIONS_SLICES; i += 16)
		sessions_expire(m->ledger.sessions, &rules, &t, i, &m->out);
	m->silent_to = m->out.n;
}

static void step(struct model *m)
{
	uint64_t most = 0;
	unsigned units;

	m->running_ms += pick(m, 60);
	m->now_ms += pick(m, 3000000);
	for (unsigned r = 0; r < REPORTERS; r++)
		most = m->twin_taken[r] > most ? m->twin_taken[r] : most;
	if (m->now_ms < EPOCH_MS + (int64_t)most * 1000000)
		m->now_ms = EPOCH_MS + (int64_t)most * 1000000;
	forget_days(m);
	take_events(m);
	if (pick(m, 4) == 0)
		expire_some(m);
	units = refresh_due(m->refresh, m->running_ms, m->out.n, 50, log_length(&m->disk));
	if (!commit(m, units))
		return;
	if (pick(m, 4) == 0)
		check_ledger(m);
	if (pick(m, 4) == 0)
		renew_key(m);
	if (pick(m, 5) == 0)
		flush_some(m);
	if (pick(m, 3) == 0)
		cut(m);
	if (m->usage && pick(m, 20) == 0)
		turn(m);
	(void)may_crash(m);
}

static bool history(uint64_t seed, bool usage, enum rule rule, struct model *counts)
{
	struct model *m = calloc(1, sizeof(*m));
	bool wrong;

	assert_non_null(m);
	m->random = mix(seed);
	m->rule = rule;
	m->usage = usage;
	m->now_ms = EPOCH_MS;
	m->generation = 2;
	m->disk.first = 1;
	m->disk.key = m->disk.key_old = 1;
	ledger_new(m, &m->ledger);
	ledger_new(m, &m->twin);
	assert_int_equal(streams_new(&m->streams), 0);
	assert_int_equal(refresh_new(&m->refresh, UNITS, 100, 1), 0);
	for (unsigned i = 0; i < STEPS && !m->wrong; i++)
		step(m);
	if (!m->wrong)
		crash(m);
	wrong = m->wrong;
	if (wrong && rule == ALL_RULES)
		print_error("NOLOG_MODEL_SEED=%llu, %s: %s\n", (unsigned long long)seed,
			    usage ? "usage" : "sessions", m->what);
	counts->events += m->events;
	counts->crashes += m->crashes;
	counts->finished.n += m->finished.n;
	for (; m->disk.first <= m->disk.last; m->disk.first++)
		free(m->disk.log[m->disk.first].effects);
	ledger_free(&m->ledger);
	ledger_free(&m->twin);
	streams_free(m->streams);
	refresh_free(m->refresh);
	effects_free(&m->out);
	effects_free(&m->twin_out);
	free(m->waiting.at);
	free(m->finished.at);
	free(m->disk.runs.at);
	free(m);
	return wrong;
}

/* --- The tests --- */

static bool chosen_seed(uint64_t *seed)
{
	const char *text = getenv("NOLOG_MODEL_SEED");

	if (text)
		*seed = strtoull(text, NULL, 0);
	return text != NULL;
}

static void hold(bool usage)
{
	struct model counts = { 0 };
	uint64_t seed, wrong = 0;

	if (chosen_seed(&seed)) {
		assert_false(history(seed, usage, ALL_RULES, &counts));
		return;
	}
	for (seed = 1; seed <= HISTORIES; seed++)
		wrong += history(seed, usage, ALL_RULES, &counts);
	print_message("%u histories, %llu events, %llu crashes, %zu parts of sessions\n", HISTORIES,
		      (unsigned long long)counts.events, (unsigned long long)counts.crashes,
		      counts.finished.n);
	assert_int_equal(wrong, 0);
	assert_true(counts.crashes > HISTORIES && counts.events > HISTORIES * STEPS);
	assert_true(usage || counts.finished.n > HISTORIES);
}

static void break_rule(bool usage, enum rule rule)
{
	struct model counts = { 0 };

	for (uint64_t seed = 1; seed <= BROKEN_HISTORIES; seed++)
		if (history(seed, usage, rule, &counts))
			return;
	fail_msg("a model without rule %d held", (int)rule);
}

static void the_sessions_book_survives_crashes_at_every_step(void **state)
{
	(void)state;
	hold(false);
}

static void the_usage_book_survives_crashes_at_every_step(void **state)
{
	(void)state;
	hold(true);
}

static void a_cut_without_regard_to_day_files_loses_finished_sessions(void **state)
{
	(void)state;
	break_rule(false, NO_F);
}

static void a_cut_without_regard_to_what_was_logged_again_loses_live_entries(void **state)
{
	(void)state;
	break_rule(false, NO_P);
	break_rule(true, NO_P);
}

static void a_replay_without_through_gives_finished_sessions_twice(void **state)
{
	(void)state;
	break_rule(false, NO_THROUGH);
}

static void a_cut_before_the_refresh_is_durable_loses_live_entries(void **state)
{
	(void)state;
	break_rule(false, EARLY_P);
	break_rule(true, EARLY_P);
}

static void a_key_destroyed_before_the_cut_leaves_blocks_that_cannot_be_opened(void **state)
{
	(void)state;
	break_rule(false, EARLY_KEY);
	break_rule(true, EARLY_KEY);
}

static void a_repeat_that_is_taken_again_is_counted_twice(void **state)
{
	(void)state;
	break_rule(false, REPEAT_EVENTS);
	break_rule(true, REPEAT_EVENTS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_sessions_book_survives_crashes_at_every_step),
		cmocka_unit_test(the_usage_book_survives_crashes_at_every_step),
		cmocka_unit_test(a_cut_without_regard_to_day_files_loses_finished_sessions),
		cmocka_unit_test(a_cut_without_regard_to_what_was_logged_again_loses_live_entries),
		cmocka_unit_test(a_replay_without_through_gives_finished_sessions_twice),
		cmocka_unit_test(a_cut_before_the_refresh_is_durable_loses_live_entries),
		cmocka_unit_test(
			a_key_destroyed_before_the_cut_leaves_blocks_that_cannot_be_opened),
		cmocka_unit_test(a_repeat_that_is_taken_again_is_counted_twice),
	};

	if (seal_init() < 0)
		return 1;
	for (unsigned i = 0; i < REPORTERS; i++) {
		uint8_t id[NOLOG_SERVER_SIZE] = { 's', (uint8_t)('0' + i) };

		server_pack(&servers[i], id);
	}
	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
