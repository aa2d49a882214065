/* SPDX-License-Identifier: ISC */
/* sessionbook: see sessionbook.h. */
#include "sessionbook.h"

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
#define SERVERS_MAX 60000u /* of a day; its list has room for 65,536 */
#define SERVER_SLOTS (1u << 17)
#define SCAN_SESSIONS 20000 /* looked at between two commits */

struct sessionbook_rules {
	struct sessions_rules rules;
	struct sessions_prefix allow[];
};

/* A session that ended while a look-up was looking. */
struct ended {
	struct server_key server;
	uint64_t handle;
	size_t seen; /* rows that had been found before it ended */
};

/* A look-up that must see every open session, slice by slice between commits. */
struct scan {
	struct lookup *lookup;
	unsigned next; /* slice */
	/* Of the rows found: address, server and start need not tell two sessions apart. */
	uint64_t *handles;
	size_t handles_room;
	/* What ended since it began: if it was seen open it is to be taken out, as days has it. */
	struct ended *ended;
	size_t ended_n, ended_room;
	struct scan *after;
};

struct known_server {
	struct server_key key;
	bool used;
};

struct sessionbook {
	struct writer_book writer;
	struct sessions *sessions;
	struct days *days;
	struct sessionbook_rules *rules;
	uint8_t stream_key[SEAL_HASH_KEY_SIZE];
	struct scan *scans;
	struct known_server *servers;	  /* SERVER_SLOTS of them, by hash */
	size_t servers_n, servers_before; /* known; in the longest list of a day at the start */
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

/* --- Which servers have reported --- */

/* Where a server is, or would be; b->servers is never full. */
static size_t server_at(const struct sessionbook *b, const struct server_key *server)
{
	size_t at = seal_hash(b->stream_key, server, sizeof(*server)) % SERVER_SLOTS;

	while (b->servers[at].used && memcmp(&b->servers[at].key, server, sizeof(*server)) != 0)
		at = (at + 1) % SERVER_SLOTS;
	return at;
}

static void know_server(struct sessionbook *b, const struct server_key *server)
{
	struct known_server *s = &b->servers[server_at(b, server)];

	if (s->used || b->servers_n >= SERVERS_MAX)
		return;
	s->used = true;
	s->key = *server;
	b->servers_n++;
}

/*
 * A day's list of server IDs has 65,536 places.  Those that a day has already
 * and those that have reported since the start are fewer, or a new one is
 * refused: what it reports could not be written.
 */
static bool server_fits(const struct sessionbook *b, const struct server_key *server)
{
	return b->servers[server_at(b, server)].used ||
	       b->servers_n + b->servers_before < SERVERS_MAX;
}

static enum nolog_refusal decide(void *arg, const struct writer_link *link,
				 const struct sessions_time *t, const struct nolog_frame *event,
				 struct effects *out)
{
	struct sessionbook *b = arg;
	size_t before = sessions_open(b->sessions), after;
	struct sessions_rules rules = b->rules->rules;
	enum nolog_refusal r;

	/* As if nothing more could be opened: in its place among the refusals. */
	if (!server_fits(b, &link->server_key)) {
		if (event->type == NOLOG_SESSION)
			return NOLOG_OVER_CAPACITY;
		rules.max_open = 0;
	}
	r = sessions_decide(b->sessions, &rules, t, &link->server_key, event, out);
	if (r != NOLOG_OK)
		return r;
	know_server(b, &link->server_key);
	after = sessions_open(b->sessions);
	if (event->type == NOLOG_START || event->type == NOLOG_SESSION)
		atomic_fetch_add_explicit(&b->started, 1, memory_order_relaxed);
	if (event->type == NOLOG_SESSION || event->type == NOLOG_END)
		atomic_fetch_add_explicit(&b->ended, 1, memory_order_relaxed);
	else if (after < before)
		atomic_fetch_add_explicit(&b->ended, before - after, memory_order_relaxed);
	show_open(b);
	return r;
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
	size_t before = sessions_open(b->sessions);

	sessions_expire(b->sessions, &b->rules->rules, t, slice, out);
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

	/* Every layout of this book begins with the server. */
	if (r == 0)
		know_server(b, &e->u.open.server);
	show_open(b);
	return r;
}

static int replayed(void *arg, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	struct sessionbook *b = arg;

	return days_replay(b->days, batch, effects, n);
}

/* --- Scans --- */

static void note_ended(struct scan *s, const struct effect *e)
{
	if (s->lookup->n == 0 || !lookup_wants(s->lookup, e->u.close.ip, &e->u.close.server))
		return;
	if (s->ended_n == s->ended_room) {
		size_t room = s->ended_room ? 2 * s->ended_room : 256;
		struct ended *more = reallocarray(s->ended, room, sizeof(*more));

		if (!more) { /* one may be given twice, and the answer says so */
			s->lookup->code = NOLOG_DONE_UNREADABLE;
			return;
		}
		s->ended = more;
		s->ended_room = room;
	}
	s->ended[s->ended_n++] = (struct ended){ .server = e->u.close.server,
						 .handle = e->u.close.handle,
						 .seen = s->lookup->n };
}

static int committed_scan(struct sessionbook *b, const struct effects *effects)
{
	struct effect e;

	for (size_t i = 0; i < effects->n; i++) {
		if (effects->at[i][0] != EFFECT_CLOSE || effect_decode(&e, effects->at[i]) < 0)
			continue;
		for (struct scan *s = b->scans; s; s = s->after)
			note_ended(s, &e);
	}
	return 0;
}

static void committed(void *arg, uint64_t batch, const struct effects *effects)
{
	struct sessionbook *b = arg;

	/* Out of memory here would lose what is durable in the journal only: days ends the process. */
	if (days_put(b->days, batch, (const uint8_t(*)[EFFECT_SIZE])effects->at, effects->n) < 0)
		abort();
	if (b->scans)
		(void)committed_scan(b, effects);
}

struct collecting {
	struct lookup *lookup;
	const struct sessions_time *t;
	struct scan *scan; /* NULL: all of it at once */
};

/* Whose row the newest one is. */
static bool note_handle(struct scan *s, uint64_t handle)
{
	size_t n = s->lookup->n;

	if (n > s->handles_room) {
		uint64_t *more = reallocarray(s->handles, s->lookup->room, sizeof(*more));

		if (!more) {
			s->lookup->n--;
			s->lookup->code = NOLOG_DONE_UNREADABLE;
			return false;
		}
		s->handles = more;
		s->handles_room = s->lookup->room;
	}
	s->handles[n - 1] = handle;
	return true;
}

static int collect(const struct sessions_entry *e, void *arg)
{
	const struct collecting *c = arg;
	struct lookup_row row = { .server = *e->server, .flags = LOOKUP_OPEN };

	row.start_ms = e->start_ms > c->t->horizon_ms ? e->start_ms : c->t->horizon_ms;
	row.end_ms = INT64_MAX;
	if (!lookup_wants(c->lookup, e->ip, e->server) ||
	    !lookup_touches(c->lookup, row.start_ms, row.end_ms))
		return 0;
	memcpy(row.ip, e->ip, sizeof(row.ip));
	if (!lookup_add(c->lookup, &row))
		return 1;
	return c->scan && !note_handle(c->scan, e->handle);
}

static int compare_ended(const void *a, const void *b)
{
	const struct ended *x = a, *y = b;
	int r = memcmp(&x->server, &y->server, sizeof(x->server));

	return r ? r : (x->handle > y->handle) - (x->handle < y->handle);
}

/* Of several ends under one handle, the last counts for what was seen before it. */
static void unite_ended(struct scan *s)
{
	size_t n = 0;

	qsort(s->ended, s->ended_n, sizeof(*s->ended), compare_ended);
	for (size_t i = 0; i < s->ended_n; i++) {
		if (n == 0 || compare_ended(&s->ended[n - 1], &s->ended[i]) != 0)
			s->ended[n++] = s->ended[i];
		else if (s->ended[n - 1].seen < s->ended[i].seen)
			s->ended[n - 1].seen = s->ended[i].seen;
	}
	s->ended_n = n;
}

/* Takes out of the answer what was seen open and has ended since: days has it. */
static void subtract_ended(struct scan *s)
{
	struct lookup *l = s->lookup;
	size_t kept = 0;

	if (!s->ended_n)
		return;
	unite_ended(s);
	for (size_t i = 0; i < l->n; i++) {
		struct ended key = { .server = l->rows[i].server, .handle = s->handles[i] };
		const struct ended *e = bsearch(&key, s->ended, s->ended_n, sizeof(key),
						compare_ended);

		if (!e || e->seen <= i)
			l->rows[kept++] = l->rows[i];
	}
	l->n = kept;
}

static void scan_done(struct sessionbook *b, struct scan **at)
{
	struct scan *s = *at;

	*at = s->after;
	subtract_ended(s);
	days_ask(b->days, s->lookup);
	free(s->handles);
	free(s->ended);
	free(s);
}

/* Some slices, one look-up after the other: how many ask must not delay a commit. */
static bool work(void *arg, const struct sessions_time *t)
{
	struct sessionbook *b = arg;
	size_t per_slice = sessions_open(b->sessions) / SESSIONS_SLICES + 1;
	size_t slices = SCAN_SESSIONS / per_slice + 1;

	while (b->scans && slices) {
		struct scan *s = b->scans;
		struct collecting c = { s->lookup, t, s };

		for (; slices && s->next < SESSIONS_SLICES; slices--)
			if (sessions_scan(b->sessions, s->next++, collect, &c))
				s->next = SESSIONS_SLICES; /* full */
		if (s->next >= SESSIONS_SLICES)
			scan_done(b, &b->scans);
	}
	return b->scans != NULL;
}

static void ask(struct sessionbook *b, struct lookup *l, const struct sessions_time *t)
{
	struct collecting c = { l, t, NULL };
	struct scan *s, **at;

	l->horizon_ms = t->horizon_ms;
	if (lookup_exact(l) && l->behind_count == 0) {
		(void)sessions_find(b->sessions, l->ip, collect, &c);
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

	return days_room(b->days);
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
		free(s->handles);
		free(s->ended);
		free(s);
	}
	sessions_free(b->sessions);
	sessionbook_rules_free(b->rules);
	free(b->servers);
	free(b);
}

int sessionbook_new(struct sessionbook **out, struct days *days, struct keyring *keyring,
		    struct sessionbook_rules *rules)
{
	struct sessionbook *b = calloc(1, sizeof(*b));
	uint8_t key[SEAL_HASH_KEY_SIZE];
	struct days_stats stats;
	int r;

	if (!b)
		return -ENOMEM;
	seal_random(key, sizeof(key));
	b->servers = calloc(SERVER_SLOTS, sizeof(*b->servers));
	r = b->servers ? sessions_new(&b->sessions, key) : -ENOMEM;
	if (r < 0) {
		free(b->servers);
		free(b);
		return r;
	}
	days_stats(days, &stats);
	b->servers_before = stats.servers;
	b->days = days;
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
