/* SPDX-License-Identifier: ISC */
/*
 * dayoracle: what a look-up must answer, from the sessions themselves, by the
 * contract's words and brute force.  Shares no code with what it judges.
 */
#ifndef DAYORACLE_H
#define DAYORACLE_H

#include "daytest.h"

#define ORACLE_MAX 4000

struct told { /* a session as it was reported */
	uint8_t ip[16];
	unsigned server;
	int64_t start, end;
};

struct exit_of {
	uint8_t ip[16];
	unsigned server;
};

struct oracle {
	struct told told[ORACLE_MAX];
	size_t n;
	struct exit_of exits[4];
	size_t exits_n;
	int64_t horizon;
};

struct expected {
	uint8_t ip[16];
	unsigned server;
	int64_t start, end;
	unsigned code;
};

struct piece {
	struct told t;
	bool before, after, gone, blind; /* blind: its true start is not known */
	int64_t first;			 /* start of the first piece joined to it */
};

static inline bool oracle_same_bits(const uint8_t *a, const uint8_t *b, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		if ((a[i / 8] ^ b[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

static inline bool oracle_shared(const struct oracle *o, const uint8_t *ip)
{
	for (size_t i = 0; i < o->exits_n; i++)
		if (memcmp(o->exits[i].ip, ip, 16) == 0)
			return true;
	return false;
}

static inline bool oracle_pair(const struct told *a, const struct told *b)
{
	return a->server == b->server && memcmp(a->ip, b->ip, 16) == 0;
}

/* The pieces of all sessions, one a day, those that are there twice once. */
static inline size_t oracle_pieces(const struct oracle *o, struct piece *out)
{
	size_t n = 0;

	for (size_t i = 0; i < o->n; i++) {
		int64_t at = o->told[i].start;

		do {
			int64_t day = at >= 0 ? at / DAY : -1;
			int64_t stop = (day + 1) * DAY;
			struct piece p = { .t = o->told[i] };
			bool twice = false;

			p.before = at != o->told[i].start;
			p.after = o->told[i].end > stop;
			p.t.start = p.first = at;
			p.t.end = p.after ? stop : o->told[i].end;
			at = stop;
			if (day * DAY < o->horizon)
				continue;
			if (p.t.start == o->horizon)
				p.before = false;
			for (size_t k = 0; k < n && !oracle_shared(o, p.t.ip); k++)
				twice |= oracle_pair(&out[k].t, &p.t) &&
					 out[k].t.start == p.t.start && out[k].t.end == p.t.end &&
					 out[k].before == p.before && out[k].after == p.after;
			if (!twice)
				out[n++] = p;
		} while (at < o->told[i].end);
	}
	return n;
}

/* One midnight of one address and server. */
static inline void oracle_join(const struct oracle *o, struct piece *p, size_t n, int64_t midnight,
			       const struct told *pair)
{
	size_t left = 0, right = 0, lefts = 0, rights = 0;

	for (size_t i = 0; i < n; i++) {
		if (!oracle_pair(&p[i].t, pair) || p[i].gone)
			continue;
		if (p[i].after && p[i].t.end == midnight) {
			left = i;
			lefts++;
		}
		if (p[i].before && p[i].t.start == midnight) {
			/* the one that goes on, or ends last */
			if (rights++ == 0 || p[i].after > p[right].after ||
			    (p[i].after == p[right].after && p[i].t.end > p[right].t.end))
				right = i;
		}
	}
	if (rights == 0)
		return;
	if (lefts == 1 && (rights == 1 || (!oracle_shared(o, pair->ip) && !p[left].blind))) {
		for (size_t i = 0; i < n; i++)
			if (i != right && oracle_pair(&p[i].t, pair) && p[i].before &&
			    p[i].t.start == midnight)
				p[i].gone = true;
		p[right].first = p[left].first;
		p[right].blind = p[left].blind;
		p[left].gone = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (oracle_pair(&p[i].t, pair) && p[i].before && p[i].t.start == midnight)
			p[i].blind = true;
}

static inline int oracle_order(const void *a, const void *b)
{
	const struct expected *x = a, *y = b;
	int r = memcmp(x->ip, y->ip, 16);

	if (r)
		return r;
	if (x->server != y->server)
		return x->server < y->server ? -1 : 1;
	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return (int)x->code - (int)y->code;
}

/* The answer, sorted; out has room for all pieces. */
static inline size_t oracle_answer(const struct oracle *o, const uint8_t *ip, unsigned length,
				   int server, int64_t from, int64_t to, struct expected *out)
{
	struct piece *p = calloc(ORACLE_MAX * 8, sizeof(*p));
	size_t n = oracle_pieces(o, p), count = 0;

	assert_true(n < ORACLE_MAX * 8);
	for (int64_t m = o->horizon; m <= o->horizon + 92 * DAY; m += DAY)
		for (size_t i = 0; i < n; i++)
			if (p[i].before && p[i].t.start == m && !p[i].blind && !p[i].gone &&
			    p[i].first == m)
				oracle_join(o, p, n, m, &p[i].t);
	for (size_t i = 0; i < n; i++) {
		bool own = oracle_same_bits(p[i].t.ip, ip, length), behind = false, later = false;
		struct expected e = { .server = p[i].t.server,
				      .start = p[i].first,
				      .end = p[i].t.end };

		for (size_t k = 0; k < o->exits_n; k++)
			behind |= o->exits[k].server == e.server &&
				  oracle_same_bits(o->exits[k].ip, ip, length);
		if (p[i].gone || (!own && !behind) ||
		    (server >= 0 && e.server != (unsigned)server) || e.start > to || e.end < from)
			continue;
		for (size_t k = 0; k < n; k++)
			later |= k != i && !p[k].gone && !p[k].blind && !p[i].blind &&
				 oracle_pair(&p[k].t, &p[i].t) && p[k].first == e.start &&
				 (p[k].t.end > e.end ||
				  (p[k].t.end == e.end && p[k].after > p[i].after)) &&
				 !oracle_shared(o, p[i].t.ip);
		/* joined ones that are alike in all are one too */
		for (size_t k = 0; k < i; k++)
			later |= !p[k].gone && !p[k].blind && !p[i].blind &&
				 oracle_pair(&p[k].t, &p[i].t) && p[k].first == e.start &&
				 p[k].t.end == e.end && p[k].after == p[i].after &&
				 !oracle_shared(o, p[i].t.ip);
		if (later)
			continue;
		memcpy(e.ip, p[i].t.ip, 16);
		e.code = (own ? 0 : NOLOG_RECORD_CANDIDATE) |
			 (p[i].blind || p[i].after ? NOLOG_RECORD_PART : 0);
		out[count++] = e;
	}
	free(p);
	qsort(out, count, sizeof(*out), oracle_order);
	return count;
}

static inline struct exits *oracle_exits(const struct oracle *o)
{
	struct exits_entry e[4];
	struct exits *x;

	for (size_t i = 0; i < o->exits_n; i++) {
		memcpy(e[i].ip, o->exits[i].ip, 16);
		e[i].server = server_make(o->exits[i].server);
	}
	x = exits_new(e, o->exits_n);
	assert_non_null(x);
	return x;
}

/* A look-up's records as the oracle writes them, sorted. */
static inline size_t oracle_read(const struct lookup *l, struct expected *out)
{
	for (size_t i = 0; i < l->record_count; i++) {
		const struct lookup_record *r = &l->records[i];
		uint8_t id[NOLOG_SERVER_SIZE + 1] = { 0 };

		assert_true(server_unpack(id, &r->server));
		memcpy(out[i].ip, r->ip, 16);
		out[i].server = (unsigned)strtoul((char *)id + 2, NULL, 10);
		out[i].start = r->start_ms;
		out[i].end = r->end_ms;
		out[i].code = r->code;
	}
	qsort(out, l->record_count, sizeof(*out), oracle_order);
	return l->record_count;
}

static inline void oracle_print(const char *who, const struct expected *e, size_t n)
{
	for (size_t i = 0; i < n; i++)
		print_message("%s %02x%02x%02x s-%u %lld..%lld code %u\n", who, e[i].ip[13],
			      e[i].ip[14], e[i].ip[15], e[i].server, (long long)(e[i].start - T0),
			      (long long)(e[i].end - T0), e[i].code);
}

#endif
