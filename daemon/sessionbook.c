/* SPDX-License-Identifier: ISC */
/* sessionbook: see sessionbook.h. */
#include "sessionbook.h"

#include "calendar.h"
#include "servers.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_EVENTS (1u << 15)
#define PASS_MS (INT64_C(30) * 60 * 1000)
#define KEY_MS (INT64_C(60) * 60 * 1000)
#define EXPIRE_FRACTION 8
#define EXPIRE_MIN_MS 250
#define EXPIRE_MAX_MS (INT64_C(10) * 60 * 1000)
#define SCAN_SESSIONS 20000   /* looked at between two commits */
#define FIND_SESSIONS 1000u   /* of one address, at once */
#define RESTART_SESSIONS 256u /* looked at by a RESTART before the room for rows is asked for */

struct sessionbook_rules {
	struct sessions_rules rules;
	struct sessions_prefix allow[];
};

/* A look-up that takes longer, piece by piece between commits. */
struct scan {
	struct lookup *lookup;
	bool begun;
	unsigned next; /* slice, of one that must see every open session */
	struct scan *after;
};

struct sessionbook {
	struct writer_book writer;
	struct sessions *sessions;
	struct days *days;
	struct keyring *keyring;
	struct sessionbook_rules *rules;
	uint8_t stream_key[SEAL_HASH_KEY_SIZE];
	struct scan *scans;
	struct servers *servers;
	int32_t first_day; /* that they were last looked through for */
	size_t rows;	   /* decided, and not yet handed on to days */
	_Atomic uint64_t open, started, ended;
};

struct sessionbook_rules *sessionbook_rules_new(const struct sessions_rules *rules)
{
	size_t size = rules->allow_count * sizeof(struct sessions_prefix);
	struct sessionbook_rules *r = malloc(sizeof(*r) + size);

	if (!r)
		return NULL;
	r->rules = *rules;
	if (size)
		memcpy(r->allow, rules->allow, size);
	r->rules.allow = r->allow;
	return r;
}

void sessionbook_rules_free(struct sessionbook_rules *r)
{
	free(r);
}

/* Sessions may meet their stream in the same log: a hash under the store's own number will do. */
static int stream_id(void *arg, const struct writer_link *link, uint8_t *generation, uint8_t id[16])
{
	const struct sessionbook *b = arg;
	uint8_t in[NOLOG_SERVER_SIZE + 8];

	memcpy(in, link->server, NOLOG_SERVER_SIZE);
	nolog_put64(in + NOLOG_SERVER_SIZE, link->stream);
	seal_tag(id, b->stream_key, in, sizeof(in));
	*generation = 1;
	return 0;
}

static uint8_t old_generation(void *arg)
{
	(void)arg;
	return 0;
}

static void show_open(struct sessionbook *b)
{
	atomic_store_explicit(&b->open, sessions_open(b->sessions), memory_order_relaxed);
}

/* --- Which servers a day's list may have to name --- */

/* The sessions that these effects finish: their servers, and the rows they will be. */
static void note_finished(struct sessionbook *b, const struct effects *effects, size_t from)
{
	int64_t start_ms, end_ms;
	struct effect e;

	b->rows += days_rows((const uint8_t(*)[EFFECT_SIZE])effects->at + from, effects->n - from);
	for (size_t i = from; i < effects->n; i++)
		if (effect_times(effects->at[i], &start_ms, &end_ms) &&
		    effect_decode(&e, effects->at[i]) == 0)
			/* It had an open session: it is there, and this cannot fail. */
			(void)servers_note(b->servers, &e.u.close.server, calendar_day(end_ms));
}

static bool has_open(const struct server_key *server, void *arg)
{
	const struct sessionbook *b = arg;

	return sessions_open_at(b->sessions, server) > 0;
}

/* With the days that were forgotten go the servers that only they knew. */
static void forget_servers(struct sessionbook *b)
{
	int32_t first = keyring_first_day(b->keyring);

	if (first == b->first_day)
		return;
	b->first_day = first;
	servers_forget(b->servers, first, has_open, b);
}

/* The last day that a server of an accepted event will be known by. */
static int32_t last_day(const struct nolog_frame *event)
{
	switch (event->type) {
	case NOLOG_END:
		return calendar_day(event->u.end.end_ms);
	case NOLOG_SESSION:
		return calendar_day(event->u.session.end_ms);
	case NOLOG_RESTART:
		return calendar_day(event->u.restart.at_ms);
	default:
		return INT32_MIN; /* it has an open session */
	}
}

static void count_event(struct sessionbook *b, const struct nolog_frame *event, size_t before)
{
	size_t after = sessions_open(b->sessions);

	if (event->type == NOLOG_START || event->type == NOLOG_SESSION)
		atomic_fetch_add_explicit(&b->started, 1, memory_order_relaxed);
	if (event->type == NOLOG_SESSION || event->type == NOLOG_END)
		atomic_fetch_add_explicit(&b->ended, 1, memory_order_relaxed);
	else if (after < before)
		atomic_fetch_add_explicit(&b->ended, before - after, memory_order_relaxed);
	show_open(b);
}

static enum nolog_refusal decide(void *arg, const struct writer_link *link,
				 const struct sessions_time *t, const struct nolog_frame *event,
				 struct effects *out)
{
	struct sessionbook *b = arg;
	size_t before = sessions_open(b->sessions), from = out->n;
	struct sessions_rules rules = b->rules->rules;
	enum nolog_refusal r;

	rules.server_full = !servers_room(b->servers, &link->server_key);
	rules.restart_most = RESTART_SESSIONS;
	r = sessions_decide(b->sessions, &rules, t, &link->server_key, event, out);
	if (r != NOLOG_OK)
		return r;
	/* There is room for it; what yields nothing, as a RESTART of no session, takes none. */
	if (out->n > from)
		(void)servers_note(b->servers, &link->server_key, last_day(event));
	b->rows += days_rows((const uint8_t(*)[EFFECT_SIZE])out->at + from, out->n - from);
	count_event(b, event, before);
	return r;
}

static bool more(void *arg)
{
	const struct sessionbook *b = arg;

	return sessions_restarting(b->sessions);
}

static void refresh(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	struct sessionbook *b = arg;

	sessions_refresh(b->sessions, t, slice, out);
}

static int64_t expire_ms(void *arg)
{
	const struct sessionbook *b = arg;
	int64_t pass = b->rules->rules.max_silence_ms / EXPIRE_FRACTION;

	if (b->rules->rules.max_silence_ms == 0)
		return 0;
	if (pass < EXPIRE_MIN_MS)
		return EXPIRE_MIN_MS;
	return pass < EXPIRE_MAX_MS ? pass : EXPIRE_MAX_MS;
}

static void expire(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	struct sessionbook *b = arg;
	size_t before = sessions_open(b->sessions), from = out->n;

	sessions_expire(b->sessions, &b->rules->rules, t, slice, out);
	note_finished(b, out, from);
	atomic_fetch_add_explicit(&b->ended, before - sessions_open(b->sessions),
				  memory_order_relaxed);
	show_open(b);
}

static size_t live(void *arg)
{
	const struct sessionbook *b = arg;

	return sessions_open(b->sessions);
}

static int apply(void *arg, const struct effect *e, int64_t running_ms)
{
	struct sessionbook *b = arg;
	int r = sessions_apply(b->sessions, e, running_ms);

	if (r == 0 && e->type == EFFECT_OPEN)
		r = servers_note(b->servers, &e->u.open.server, INT32_MIN);
	else if (r == 0 && e->type == EFFECT_CLOSE)
		r = servers_note(b->servers, &e->u.close.server, calendar_day(e->u.close.end_ms));
	else if (r == 0 && e->type == EFFECT_WHOLE)
		r = servers_note(b->servers, &e->u.whole.server, calendar_day(e->u.whole.end_ms));
	show_open(b);
	return r;
}

static int replayed(void *arg, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	struct sessionbook *b = arg;

	return days_replay(b->days, batch, effects, n);
}

/* --- Scans --- */

static void tell_scans(struct sessionbook *b, const struct effects *effects)
{
	struct effect e;

	for (size_t i = 0; i < effects->n; i++) {
		if (effects->at[i][0] != EFFECT_CLOSE || effect_decode(&e, effects->at[i]) < 0)
			continue;
		for (struct scan *s = b->scans; s; s = s->after)
			if (lookup_wants(s->lookup, e.u.close.ip, &e.u.close.server))
				lookup_note_ended(s->lookup, &e.u.close.server, e.u.close.handle);
	}
}

static void committed(void *arg, uint64_t batch, const struct effects *effects)
{
	struct sessionbook *b = arg;

	b->rows -= days_rows((const uint8_t(*)[EFFECT_SIZE])effects->at, effects->n);
	/* Out of memory here would lose what is durable in the journal only: days ends the process. */
	if (days_put(b->days, batch, (const uint8_t(*)[EFFECT_SIZE])effects->at, effects->n) < 0)
		abort();
	if (b->scans)
		tell_scans(b, effects);
}

struct collecting {
	struct lookup *lookup;
	const struct sessions_time *t;
	size_t few; /* collect_few(): sessions that it may still look at */
};

/* 1: it is full. */
static int collect(const struct sessions_entry *e, void *arg)
{
	const struct collecting *c = arg;
	struct lookup_row row = {
		.server = *e->server, .flags = LOOKUP_OPEN, .end_ms = INT64_MAX, .handle = e->handle
	};

	row.start_ms = e->start_ms > c->t->horizon_ms ? e->start_ms : c->t->horizon_ms;
	if (!lookup_wants(c->lookup, e->ip, e->server) ||
	    !lookup_touches(c->lookup, row.start_ms, row.end_ms))
		return 0;
	memcpy(row.ip, e->ip, sizeof(row.ip));
	return !lookup_add(c->lookup, &row);
}

/* 2: there are more than a few. */
static int collect_few(const struct sessions_entry *e, void *arg)
{
	struct collecting *c = arg;

	return c->few-- == 0 ? 2 : collect(e, arg);
}

/* A piece of a walk along the sessions of one address; false: it is over. */
static bool walk(struct sessionbook *b, struct scan *s, struct collecting *c)
{
	if (!s->begun)
		sessions_walk(b->sessions, s->lookup->ip);
	s->begun = true;
	return sessions_walk_on(b->sessions, SCAN_SESSIONS, collect, c);
}

/* Some slices of all there are; false: it is over. */
static bool scan(struct sessionbook *b, struct scan *s, struct collecting *c)
{
	size_t per_slice = sessions_open(b->sessions) / SESSIONS_SLICES + 1;
	size_t slices = SCAN_SESSIONS / per_slice + 1;

	for (; slices && s->next < SESSIONS_SLICES; slices--)
		if (sessions_scan(b->sessions, s->next++, collect, c))
			return false; /* full */
	return s->next < SESSIONS_SLICES;
}

/* A piece of one look-up: how many ask must not delay a commit. */
static bool work(void *arg, const struct sessions_time *t)
{
	struct sessionbook *b = arg;
	struct scan *s = b->scans;
	struct collecting c = { .t = t };

	forget_servers(b);
	if (!s)
		return false;
	c.lookup = s->lookup;
	if (lookup_exact(s->lookup) ? walk(b, s, &c) : scan(b, s, &c))
		return true;
	b->scans = s->after;
	days_ask(b->days, s->lookup);
	free(s);
	return b->scans != NULL;
}

/* Most addresses have few sessions.  False: this one has more, and needs a walk. */
static bool find_at_once(struct sessionbook *b, struct lookup *l, const struct sessions_time *t)
{
	struct collecting c = { l, t, FIND_SESSIONS };

	if (sessions_find(b->sessions, l->ip, collect_few, &c) != 2)
		return true;
	l->n = 0; /* again from the first on */
	return false;
}

static void ask(struct sessionbook *b, struct lookup *l, const struct sessions_time *t)
{
	struct scan *s, **at;

	l->horizon_ms = t->horizon_ms;
	if (lookup_exact(l) && find_at_once(b, l, t)) {
		days_ask(b->days, l);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		l->code = NOLOG_DONE_UNREADABLE;
		days_ask(b->days, l);
		return;
	}
	s->lookup = l;
	for (at = &b->scans; *at;)
		at = &(*at)->after;
	*at = s;
}

static void query(void *arg, const struct request *r, const struct sessions_time *t)
{
	struct sessionbook *b = arg;

	if (r->kind == REQUEST_LOOKUP) {
		ask(b, r->u.pointer, t);
	} else if (r->kind == REQUEST_RULES) {
		sessionbook_rules_free(b->rules);
		b->rules = r->u.pointer;
	}
}

static uint64_t flushed(void *arg)
{
	const struct sessionbook *b = arg;

	return days_flushed(b->days);
}

static void flush(void *arg)
{
	const struct sessionbook *b = arg;

	days_flush_soon(b->days);
}

static bool room(void *arg)
{
	const struct sessionbook *b = arg;

	return days_room(b->days) > b->rows;
}

static bool no_space(void *arg)
{
	const struct sessionbook *b = arg;

	return days_no_space(b->days);
}

static int upkeep(void *arg, struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	(void)arg;
	(void)w;
	(void)t;
	(void)fault;
	return 0;
}

void sessionbook_free(struct sessionbook *b)
{
	if (!b)
		return;
	while (b->scans) {
		struct scan *s = b->scans;

		b->scans = s->after;
		lookup_free(s->lookup);
		free(s);
	}
	sessions_free(b->sessions);
	servers_free(b->servers);
	sessionbook_rules_free(b->rules);
	free(b);
}

static int know_server(int32_t day, const struct server_key *server, void *arg)
{
	struct sessionbook *b = arg;

	return servers_note(b->servers, server, day);
}

int sessionbook_new(struct sessionbook **out, struct days *days, struct keyring *keyring,
		    struct sessionbook_rules *rules)
{
	struct sessionbook *b = calloc(1, sizeof(*b));
	uint8_t key[SEAL_HASH_KEY_SIZE];
	int r;

	if (!b)
		return -ENOMEM;
	seal_random(key, sizeof(key));
	r = sessions_new(&b->sessions, key);
	if (r == 0)
		r = servers_new(&b->servers, key);
	if (r == 0)
		r = days_each_server(days, know_server, b);
	if (r < 0) {
		sessionbook_free(b);
		return r;
	}
	b->days = days;
	b->keyring = keyring;
	b->first_day = INT32_MIN; /* what the log names besides is looked through as well */
	b->rules = rules;
	keyring_store(keyring, b->stream_key);
	b->writer = (struct writer_book){
		.book = KEYRING_SESSIONS,
		.slices = SESSIONS_SLICES,
		.batch_events = BATCH_EVENTS,
		.pass_ms = PASS_MS,
		.key_ms = KEY_MS,
		.arg = b,
		.stream_id = stream_id,
		.old_generation = old_generation,
		.decide = decide,
		.more = more,
		.refresh = refresh,
		.expire = expire,
		.expire_ms = expire_ms,
		.live = live,
		.apply = apply,
		.replayed = replayed,
		.committed = committed,
		.flushed = flushed,
		.flush = flush,
		.room = room,
		.no_space = no_space,
		.query = query,
		.work = work,
		.upkeep = upkeep,
	};
	*out = b;
	return 0;
}

const struct writer_book *sessionbook_writer(const struct sessionbook *b)
{
	return &b->writer;
}

void sessionbook_stats(const struct sessionbook *b, struct sessionbook_stats *out)
{
	out->open = atomic_load_explicit(&b->open, memory_order_relaxed);
	out->started = atomic_load_explicit(&b->started, memory_order_relaxed);
	out->ended = atomic_load_explicit(&b->ended, memory_order_relaxed);
}
