/* SPDX-License-Identifier: ISC */
/*
 * sessions: the rules of the contract's "Sessions" in pure form.  Refuses to
 * know clocks, files, accounts and what becomes of a session that has ended.
 *
 * Everything an event needs is reserved before the first change, so that a
 * refusal leaves nothing behind.
 */
#include "sessions.h"

#include "calendar.h"
#include "entries.h"

#include <errno.h>
#include <stdlib.h>

#define HEARD_UNIT_MS 512
/*
 * The last sign of life of a session that is not heard of since before
 * keep_ms: that there was one is still needed, when it was must be forgotten.
 */
#define ALIVE_LONG_AGO 1

struct sessions {
	struct entries table;
};
static_assert(SESSIONS_SLICES == ENTRIES_SLICES && SESSIONS_SERVERS_MAX == ENTRIES_SERVERS_MAX,
	      "entries.h is a part of sessions");

/* Running time in units, rounded up: rather a little late than early. */
static uint32_t heard_now(int64_t running_ms)
{
	return (uint32_t)((running_ms + HEARD_UNIT_MS - 1) / HEARD_UNIT_MS);
}

/* --- Deciding --- */

/* What is kept begins here; never before 1970, so that what is cut can be encoded. */
static int64_t floor_ms(const struct sessions_time *t)
{
	return t->keep_ms < 0 ? 0 : t->keep_ms > EFFECT_MS_MAX ? EFFECT_MS_MAX : t->keep_ms;
}

static bool in_future(const struct sessions_time *t, int64_t ms)
{
	return ms > EFFECT_MS_MAX ||
	       (t->now_ms < EFFECT_MS_MAX && ms > t->now_ms + SESSIONS_FUTURE_MS);
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/*
 * Whether a start may be a horizon instead of the true one: it is a midnight
 * that is not above what is kept.  Of such a session nobody can say any more
 * that an end comes before its start.
 */
static bool start_was_cut(const struct sessions_time *t, int64_t start_ms)
{
	return start_ms <= floor_ms(t) && start_ms % CALENDAR_DAY_MS == 0;
}

static bool prefix_holds(const struct sessions_prefix *p, const uint8_t ip[NOLOG_IP_SIZE])
{
	unsigned whole = p->length / 8u, rest = p->length % 8u;

	if (memcmp(p->ip, ip, whole) != 0)
		return false;
	return rest == 0 || ((p->ip[whole] ^ ip[whole]) & (0xff00u >> rest & 0xffu)) == 0;
}

static bool address_allowed(const struct sessions_rules *rules, const uint8_t ip[NOLOG_IP_SIZE])
{
	for (size_t i = 0; i < rules->allow_count; i++)
		if (prefix_holds(&rules->allow[i], ip))
			return true;
	return rules->allow_count == 0;
}

static void emit_open(const struct sessions *s, uint32_t id, struct effects *out)
{
	const struct entry *e = entries_at(&s->table, id);
	struct effect effect = { .type = EFFECT_OPEN };

	effect.u.open.server = *entries_server_key(&s->table, e);
	effect.u.open.handle = e->handle;
	entries_ip(&s->table, e, effect.u.open.ip);
	effect.u.open.start_ms = effect_get_ms(e->start);
	effect.u.open.alive_ms = effect_get_ms(e->alive);
	effects_add(out, &effect);
}

/* Ends a session; what of it lies before what is kept leaves no trace. */
static void end_session(struct sessions *s, const struct sessions_time *t, uint32_t id,
			struct entry_place at, int64_t end_ms, struct effects *out)
{
	const struct entry *e = entries_at(&s->table, id);
	struct effect effect = { .type = EFFECT_GONE };

	if (end_ms >= floor_ms(t)) {
		effect.type = EFFECT_CLOSE;
		effect.u.close.server = *entries_server_key(&s->table, e);
		effect.u.close.handle = e->handle;
		entries_ip(&s->table, e, effect.u.close.ip);
		effect.u.close.start_ms = later(effect_get_ms(e->start), floor_ms(t));
		effect.u.close.end_ms = end_ms;
	} else {
		effect.u.gone.server = *entries_server_key(&s->table, e);
		effect.u.gone.handle = e->handle;
	}
	entries_remove(&s->table, id, at);
	effects_add(out, &effect);
}

/* The same for one that was not found by its place. */
static void end_found(struct sessions *s, const struct sessions_time *t, uint32_t id,
		      int64_t end_ms, struct effects *out)
{
	const struct entry *e = entries_at(&s->table, id);

	end_session(s, t, id, entries_place(&s->table, entries_server_key(&s->table, e), e->handle),
		    end_ms, out);
}

static enum nolog_refusal decide_start(struct sessions *s, const struct sessions_rules *rules,
				       const struct sessions_time *t,
				       const struct server_key *server,
				       const struct nolog_frame *event, struct effects *out)
{
	const __typeof__(event->u.start) *start = &event->u.start;
	struct entry_place at = entries_place(&s->table, server, start->handle);
	uint32_t id;

	if (entries_find(&s->table, server, start->handle, at) != 0)
		return NOLOG_HANDLE_OPEN;
	if (in_future(t, start->start_ms))
		return NOLOG_TIME_RANGE;
	/* A clock so far behind the newest day that its present is forgotten: nothing could be kept. */
	if (t->now_ms < t->horizon_ms)
		return NOLOG_DAY_FORGOTTEN;
	if (!address_allowed(rules, start->ip))
		return NOLOG_IP_NOT_ALLOWED;
	if (rules->server_full || s->table.count >= rules->max_open || effects_reserve(out, 1) < 0)
		return NOLOG_OVER_CAPACITY;
	id = entries_add(&s->table, server, start->handle, at, start->ip);
	if (id == 0)
		return NOLOG_OVER_CAPACITY;
	effect_put_ms(entries_at(&s->table, id)->start, later(start->start_ms, floor_ms(t)));
	emit_open(s, id, out);
	return NOLOG_OK;
}

static enum nolog_refusal decide_end(struct sessions *s, const struct sessions_time *t,
				     const struct server_key *server,
				     const struct nolog_frame *event, struct effects *out)
{
	uint64_t handle = event->u.end.handle;
	struct entry_place at = entries_place(&s->table, server, handle);
	uint32_t id = entries_find(&s->table, server, handle, at);
	int64_t start_ms, end_ms = event->u.end.end_ms;

	if (id == 0)
		return NOLOG_UNKNOWN_HANDLE;
	if (in_future(t, end_ms))
		return NOLOG_TIME_RANGE;
	start_ms = effect_get_ms(entries_at(&s->table, id)->start);
	if (end_ms < start_ms && !start_was_cut(t, start_ms))
		return NOLOG_TIME_RANGE;
	if (effects_reserve(out, 1) < 0)
		return NOLOG_OVER_CAPACITY;
	end_session(s, t, id, at, end_ms, out);
	return NOLOG_OK;
}

static enum nolog_refusal decide_session(const struct sessions_rules *rules,
					 const struct sessions_time *t,
					 const struct server_key *server,
					 const struct nolog_frame *event, struct effects *out)
{
	const __typeof__(event->u.session) *whole = &event->u.session;
	struct effect effect = { .type = EFFECT_WHOLE };

	if (in_future(t, whole->start_ms) || in_future(t, whole->end_ms) ||
	    whole->end_ms < whole->start_ms)
		return NOLOG_TIME_RANGE;
	/*
	 * An end on the horizon is not before it: that moment is kept.  In a day's
	 * last two hours nothing of it is taken any more, and what is not kept is
	 * not acknowledged as if it were.
	 */
	if (whole->end_ms < t->horizon_ms || whole->end_ms < floor_ms(t))
		return NOLOG_DAY_FORGOTTEN;
	if (!address_allowed(rules, whole->ip))
		return NOLOG_IP_NOT_ALLOWED;
	if (rules->server_full || effects_reserve(out, 1) < 0)
		return NOLOG_OVER_CAPACITY;
	effect.u.whole.server = *server;
	memcpy(effect.u.whole.ip, whole->ip, NOLOG_IP_SIZE);
	effect.u.whole.start_ms = later(whole->start_ms, floor_ms(t));
	effect.u.whole.end_ms = whole->end_ms;
	effects_add(out, &effect);
	return NOLOG_OK;
}

/*
 * The start is a sign of life too: an ALIVE before it counts as one at the
 * start, so that the session cannot end before it began.
 */
static enum nolog_refusal decide_alive(struct sessions *s, const struct sessions_time *t,
				       const struct server_key *server,
				       const struct nolog_frame *event, struct effects *out)
{
	uint64_t handle = event->u.alive.handle;
	uint32_t id = entries_find(&s->table, server, handle,
				   entries_place(&s->table, server, handle));
	struct effect effect = { .type = EFFECT_ALIVE };
	int64_t start_ms, last_ms, at_ms = event->u.alive.at_ms;
	struct entry *e;

	if (id == 0)
		return NOLOG_UNKNOWN_HANDLE;
	if (in_future(t, at_ms))
		return NOLOG_TIME_RANGE;
	e = entries_at(&s->table, id);
	start_ms = effect_get_ms(e->start);
	last_ms = effect_get_ms(e->alive);
	if (at_ms < start_ms)
		at_ms = start_was_cut(t, start_ms) ? ALIVE_LONG_AGO : start_ms;
	if (at_ms < floor_ms(t) || at_ms < ALIVE_LONG_AGO)
		at_ms = ALIVE_LONG_AGO;
	if (at_ms < last_ms)
		return NOLOG_OK;
	if (at_ms > last_ms) {
		if (effects_reserve(out, 1) < 0)
			return NOLOG_OVER_CAPACITY;
		effect_put_ms(e->alive, at_ms);
		effect.u.alive.server = *server;
		effect.u.alive.handle = handle;
		effect.u.alive.alive_ms = at_ms;
		effects_add(out, &effect);
	}
	e->heard = heard_now(t->running_ms) & ENTRY_HEARD_MAX;
	return NOLOG_OK;
}

/*
 * A session whose start was cut is ended even by a RESTART that may be older
 * than it: should that be wrong, its END is refused with 16 and the reporter
 * sends SESSION; the other mistake would leave a session open for good.
 */
static enum nolog_refusal decide_restart(struct sessions *s, const struct sessions_rules *rules,
					 const struct sessions_time *t,
					 const struct server_key *server,
					 const struct nolog_frame *event, struct effects *out)
{
	int64_t at_ms = event->u.restart.at_ms;
	uint32_t *next = &s->table.server_walk, server_id = entries_server(&s->table, server);
	size_t most;

	if (*next == 0) {
		if (in_future(t, at_ms))
			return NOLOG_TIME_RANGE;
		if (server_id == 0)
			return NOLOG_OK;
		*next = s->table.servers[server_id].first;
	}
	assert(entries_at(&s->table, *next)->server == server_id);
	most = s->table.servers[server_id].count;
	if (rules->restart_most && most > rules->restart_most)
		most = rules->restart_most;
	if (effects_reserve(out, most) < 0) {
		*next = 0;
		return NOLOG_OVER_CAPACITY;
	}
	while (*next != 0 && most-- > 0) {
		uint32_t id = *next;
		const struct entry *e = entries_at(&s->table, id);
		int64_t start_ms = effect_get_ms(e->start);

		*next = e->server_next;
		if (start_ms < at_ms || start_was_cut(t, start_ms))
			end_found(s, t, id, at_ms, out);
	}
	return NOLOG_OK;
}

bool sessions_restarting(const struct sessions *s)
{
	return s->table.server_walk != 0;
}

enum nolog_refusal sessions_decide(struct sessions *s, const struct sessions_rules *rules,
				   const struct sessions_time *t, const struct server_key *server,
				   const struct nolog_frame *event, struct effects *out)
{
	switch (event->type) {
	case NOLOG_START:
		return decide_start(s, rules, t, server, event, out);
	case NOLOG_END:
		return decide_end(s, t, server, event, out);
	case NOLOG_SESSION:
		return decide_session(rules, t, server, event, out);
	case NOLOG_ALIVE:
		return decide_alive(s, t, server, event, out);
	case NOLOG_RESTART:
		return decide_restart(s, rules, t, server, event, out);
	default:
		return NOLOG_UNKNOWN_TYPE;
	}
}

/* --- What time does --- */

static bool is_silent(const struct sessions_rules *rules, const struct sessions_time *t,
		      const struct entry *e)
{
	return effect_get_ms(e->alive) != 0 &&
	       t->running_ms - (int64_t)e->heard * HEARD_UNIT_MS >= rules->max_silence_ms;
}

void sessions_expire(struct sessions *s, const struct sessions_rules *rules,
		     const struct sessions_time *t, unsigned slice, struct effects *out)
{
	struct slots *slots = &s->table.slices[slice];
	uint32_t pos = 0;

	while (rules->max_silence_ms > 0 && pos < slots->cap) {
		uint32_t id = slots_id(slots, pos);
		const struct entry *e = id != 0 ? entries_at(&s->table, id) : NULL;
		int64_t end_ms;

		if (!e || !is_silent(rules, t, e)) {
			pos++;
			continue;
		}
		end_ms = effect_get_ms(e->alive);
		if (end_ms != ALIVE_LONG_AGO)
			end_ms = later(end_ms, effect_get_ms(e->start));
		end_found(s, t, id, end_ms, out); /* another may have moved to pos */
	}
}

void sessions_refresh(struct sessions *s, const struct sessions_time *t, unsigned slice,
		      struct effects *out)
{
	const struct slots *slots = &s->table.slices[slice];
	int64_t floor = floor_ms(t);

	for (uint32_t pos = 0; pos < slots->cap; pos++) {
		uint32_t id = slots_id(slots, pos);
		struct entry *e;
		int64_t alive_ms;

		if (id == 0)
			continue;
		e = entries_at(&s->table, id);
		effect_put_ms(e->start, later(effect_get_ms(e->start), floor));
		alive_ms = effect_get_ms(e->alive);
		if (alive_ms != 0 && alive_ms < floor)
			effect_put_ms(e->alive, ALIVE_LONG_AGO);
		emit_open(s, id, out);
	}
}

/* --- Replay --- */

static int apply_open(struct sessions *s, const struct effect *e, int64_t running_ms)
{
	const __typeof__(e->u.open) *open = &e->u.open;
	struct entry_place at = entries_place(&s->table, &open->server, open->handle);
	uint32_t id = entries_find(&s->table, &open->server, open->handle, at);
	struct entry *entry;

	if (id == 0)
		id = entries_add(&s->table, &open->server, open->handle, at, open->ip);
	else if (entries_set_ip(&s->table, id, open->ip) < 0)
		return -ENOMEM;
	if (id == 0)
		return -ENOMEM;
	entry = entries_at(&s->table, id);
	effect_put_ms(entry->start, open->start_ms);
	effect_put_ms(entry->alive, open->alive_ms);
	entry->heard = heard_now(running_ms) & ENTRY_HEARD_MAX;
	return 0;
}

static void apply_end(struct sessions *s, const struct server_key *server, uint64_t handle)
{
	struct entry_place at = entries_place(&s->table, server, handle);
	uint32_t id = entries_find(&s->table, server, handle, at);

	if (id != 0)
		entries_remove(&s->table, id, at);
}

/* A log that was cut may begin with the sign of life of a session that is logged again later. */
static void apply_alive(struct sessions *s, const struct effect *e, int64_t running_ms)
{
	const struct server_key *server = &e->u.alive.server;
	uint64_t handle = e->u.alive.handle;
	uint32_t id = entries_find(&s->table, server, handle,
				   entries_place(&s->table, server, handle));

	if (id == 0)
		return;
	effect_put_ms(entries_at(&s->table, id)->alive, e->u.alive.alive_ms);
	entries_at(&s->table, id)->heard = heard_now(running_ms) & ENTRY_HEARD_MAX;
}

int sessions_apply(struct sessions *s, const struct effect *e, int64_t running_ms)
{
	switch (e->type) {
	case EFFECT_OPEN:
		return apply_open(s, e, running_ms);
	case EFFECT_CLOSE:
		apply_end(s, &e->u.close.server, e->u.close.handle);
		return 0;
	case EFFECT_GONE:
		apply_end(s, &e->u.gone.server, e->u.gone.handle);
		return 0;
	case EFFECT_ALIVE:
		apply_alive(s, e, running_ms);
		return 0;
	case EFFECT_WHOLE:
		return 0;
	default:
		return -EBADMSG;
	}
}

/* --- Looking --- */

static int show(const struct sessions *s, uint32_t id, sessions_fn *fn, void *arg)
{
	const struct entry *e = entries_at(&s->table, id);
	uint8_t ip[NOLOG_IP_SIZE];
	struct sessions_entry seen = {
		.server = entries_server_key(&s->table, e),
		.handle = e->handle,
		.ip = ip,
		.start_ms = effect_get_ms(e->start),
		.alive_ms = effect_get_ms(e->alive),
	};

	entries_ip(&s->table, e, ip);
	return fn(&seen, arg);
}

int sessions_find(const struct sessions *s, const uint8_t ip[NOLOG_IP_SIZE], sessions_fn *fn,
		  void *arg)
{
	uint32_t id = entries_first_at(&s->table, ip);
	int r = 0;

	for (; id != 0 && r == 0; id = entries_at(&s->table, id)->address_next)
		r = show(s, id, fn, arg);
	return r;
}

void sessions_walk(struct sessions *s, const uint8_t ip[NOLOG_IP_SIZE])
{
	s->table.address_walk = entries_first_at(&s->table, ip);
}

bool sessions_walk_on(struct sessions *s, size_t most, sessions_fn *fn, void *arg)
{
	uint32_t *next = &s->table.address_walk;

	while (*next != 0 && most-- > 0) {
		uint32_t id = *next;

		*next = entries_at(&s->table, id)->address_next;
		if (show(s, id, fn, arg))
			*next = 0;
	}
	return *next != 0;
}

int sessions_scan(const struct sessions *s, unsigned slice, sessions_fn *fn, void *arg)
{
	const struct slots *slots = &s->table.slices[slice];
	int r = 0;

	for (uint32_t pos = 0; pos < slots->cap && r == 0; pos++)
		if (slots_id(slots, pos) != 0)
			r = show(s, slots_id(slots, pos), fn, arg);
	return r;
}

size_t sessions_open(const struct sessions *s)
{
	return s->table.count;
}

size_t sessions_open_at(const struct sessions *s, const struct server_key *server)
{
	uint32_t id = entries_server(&s->table, server);

	return id != 0 ? s->table.servers[id].count : 0;
}

int sessions_new(struct sessions **out, const uint8_t hash_key[16])
{
	struct sessions *s = malloc(sizeof(*s));

	if (!s)
		return -ENOMEM;
	entries_init(&s->table, hash_key);
	*out = s;
	return 0;
}

void sessions_free(struct sessions *s)
{
	if (!s)
		return;
	entries_done(&s->table);
	free(s);
}
