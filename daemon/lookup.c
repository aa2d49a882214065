/* SPDX-License-Identifier: ISC */
/*
 * lookup: what belongs to an answer, and how rows become sessions again.
 *
 * Sessions were cut at midnight when they were stored.  Their parts are put
 * together by address and server alone, which is all that is kept: so only
 * where there is no choice.  Knows no file and no clock.
 */
#include "lookup.h"

#include "sort.h"

#include <stdlib.h>
#include <string.h>

/* Room beyond two rows a record, for few sessions of very many days. */
#define ROWS_EXTRA 8192

/* Records after which some memory is given back. */
#define TAKE_RECORDS 16384

/* While finishing, beside the LOOKUP_ flags of a row. */
#define ROW_TAIL 64u  /* its true start is not known */
#define ROW_GONE 128u /* has become part of another row */

static void code_set(struct lookup *l, unsigned code)
{
	if (l->code == NOLOG_DONE_COMPLETE)
		l->code = code;
}

/* The servers behind the exit addresses in the prefix. */
static bool find_behind(struct lookup *l)
{
	size_t n = exits_servers(l->exits, l->ip, l->length, NULL, 0), kept = 0;

	if (n == 0)
		return true;
	l->behind = calloc(n, sizeof(*l->behind));
	if (!l->behind)
		return false;
	(void)exits_servers(l->exits, l->ip, l->length, l->behind, n); /* n again */
	for (size_t i = 0; i < n; i++)
		if (!l->one_server || memcmp(&l->behind[i], &l->server, SERVER_KEY_SIZE) == 0)
			l->behind[kept++] = l->behind[i];
	l->behind_count = kept;
	return true;
}

struct lookup *lookup_new(const struct nolog_frame *question, struct exits *exits, size_t limit)
{
	struct lookup *l = calloc(1, sizeof(*l));
	unsigned length = question->code;

	if (!l)
		return NULL;
	assert(question->type == NOLOG_LOOKUP && length <= 128);
	l->length = (uint8_t)length;
	for (unsigned i = 0; i < NOLOG_IP_SIZE; i++) {
		unsigned keep = length >= 8 * (i + 1) ? 8 : length > 8 * i ? length - 8 * i : 0;

		l->ip[i] = (uint8_t)(question->u.lookup.ip[i] & (0xff00u >> keep));
	}
	l->one_server = !nolog_all_zero(question->u.lookup.server, NOLOG_SERVER_SIZE);
	if (l->one_server)
		server_pack(&l->server, question->u.lookup.server);
	l->from_ms = question->u.lookup.from_ms;
	l->to_ms = question->u.lookup.to_ms;
	l->limit = limit;
	l->exits = exits_ref(exits);
	/* Nobody is behind "any address": every session is there by its own. */
	if (length > 0 && !find_behind(l)) {
		lookup_free(l);
		return NULL;
	}
	return l;
}

/* Addresses do not stay behind in memory that is free. */
static void wipe_free(void *p, size_t size)
{
	if (p)
		explicit_bzero(p, size);
	free(p);
}

static void free_chunks(struct lookup *l)
{
	for (size_t i = 0; i < l->chunks_n; i++)
		wipe_free(l->chunks[i], LOOKUP_CHUNK * sizeof(**l->chunks));
	free(l->chunks);
	l->chunks = NULL;
	l->chunks_n = l->chunks_room = 0;
}

static void free_ended(struct lookup *l)
{
	wipe_free(l->ended, l->ended_n * sizeof(*l->ended));
	l->ended = NULL;
	l->ended_n = l->ended_room = 0;
}

/* Whoever collects has others waiting: nothing that was found is copied to make room. */
static bool add_chunk(struct lookup *l)
{
	if (l->chunks_n == l->chunks_room) {
		size_t room = l->chunks_room ? 2 * l->chunks_room : 16;
		void *more = reallocarray(l->chunks, room, sizeof(struct lookup_row *));

		if (!more)
			return false;
		l->chunks = more;
		l->chunks_room = room;
	}
	l->chunks[l->chunks_n] = malloc(LOOKUP_CHUNK * sizeof(**l->chunks));
	if (!l->chunks[l->chunks_n])
		return false;
	l->chunks_n++;
	return true;
}

void lookup_free(struct lookup *l)
{
	if (!l)
		return;
	exits_unref(l->exits);
	free(l->behind);
	free_chunks(l);
	free_ended(l);
	wipe_free(l->records, l->record_count * sizeof(*l->records));
	wipe_free(l, sizeof(*l));
}

bool lookup_exact(const struct lookup *l)
{
	return l->length == 128 && l->behind_count == 0;
}

static bool in_prefix(const struct lookup *l, const uint8_t ip[NOLOG_IP_SIZE])
{
	unsigned whole = l->length / 8u, rest = l->length % 8u;

	return memcmp(ip, l->ip, whole) == 0 &&
	       (rest == 0 || ((ip[whole] ^ l->ip[whole]) >> (8 - rest)) == 0);
}

static int order_server(const void *a, const void *b)
{
	return memcmp(a, b, SERVER_KEY_SIZE);
}

bool lookup_wants(const struct lookup *l, const uint8_t ip[NOLOG_IP_SIZE],
		  const struct server_key *server)
{
	if (l->one_server && memcmp(server, &l->server, SERVER_KEY_SIZE) != 0)
		return false;
	if (in_prefix(l, ip))
		return true;
	return l->behind_count &&
	       bsearch(server, l->behind, l->behind_count, sizeof(*l->behind), order_server);
}

bool lookup_touches(const struct lookup *l, int64_t start_ms, int64_t end_ms)
{
	return start_ms <= l->to_ms && end_ms >= l->from_ms;
}

bool lookup_add(struct lookup *l, const struct lookup_row *row)
{
	size_t most = l->limit > SIZE_MAX / 4 ? SIZE_MAX / 2 : 2 * l->limit + ROWS_EXTRA;

	/* Those that have ended will go, and come again from days. */
	if (l->n >= most + l->ended_n) {
		code_set(l, NOLOG_DONE_LIMIT);
		return false;
	}
	if (l->n == l->chunks_n * LOOKUP_CHUNK && !add_chunk(l)) {
		code_set(l, NOLOG_DONE_UNREADABLE);
		return false;
	}
	l->chunks[l->n / LOOKUP_CHUNK][l->n % LOOKUP_CHUNK] = *row;
	l->n++;
	return true;
}

void lookup_note_ended(struct lookup *l, const struct server_key *server, uint64_t handle)
{
	if (l->n == 0)
		return;
	if (l->ended_n == l->ended_room) {
		size_t room = l->ended_room ? 2 * l->ended_room : 256;
		struct lookup_ended *more = reallocarray(l->ended, room, sizeof(*more));

		if (!more) { /* one may be given twice, and the answer says so */
			code_set(l, NOLOG_DONE_UNREADABLE);
			return;
		}
		l->ended = more;
		l->ended_room = room;
	}
	l->ended[l->ended_n++] = (struct lookup_ended){ .server = *server,
							.handle = handle,
							.seen = l->n };
}

/* --- Finishing --- */

/* All rows in one place. */
static void gather_rows(struct lookup *l)
{
	struct lookup_row *rows = l->n ? calloc(l->n, sizeof(*rows)) : NULL;
	size_t n = rows ? l->n : 0;

	if (l->n && !rows)
		code_set(l, NOLOG_DONE_UNREADABLE);
	for (size_t at = 0; at < n; at += LOOKUP_CHUNK)
		memcpy(rows + at, l->chunks[at / LOOKUP_CHUNK],
		       (n - at < LOOKUP_CHUNK ? n - at : LOOKUP_CHUNK) * sizeof(*rows));
	free_chunks(l);
	l->rows = rows;
	l->n = n;
}

static int order_ended(const void *a, const void *b)
{
	const struct lookup_ended *x = a, *y = b;
	int r = memcmp(&x->server, &y->server, sizeof(x->server));

	return r ? r : (x->handle > y->handle) - (x->handle < y->handle);
}

/* Of several ends under one handle, the last counts for what was seen before it. */
static void unite_ended(struct lookup *l)
{
	size_t n = 0;

	if (sort_wiped(l->ended, l->ended_n, sizeof(*l->ended), order_ended) < 0) {
		code_set(l, NOLOG_DONE_UNREADABLE); /* some may be given twice */
		l->ended_n = 0;
	}
	for (size_t i = 0; i < l->ended_n; i++) {
		if (n == 0 || order_ended(&l->ended[n - 1], &l->ended[i]) != 0)
			l->ended[n++] = l->ended[i];
		else if (l->ended[n - 1].seen < l->ended[i].seen)
			l->ended[n - 1].seen = l->ended[i].seen;
	}
	l->ended_n = n;
}

/* Takes out what was seen open and has ended since; rows stand as they were added. */
static void drop_ended(struct lookup *l)
{
	size_t kept = 0;

	if (!l->ended_n)
		return;
	unite_ended(l);
	for (size_t i = 0; i < l->n; i++) {
		struct lookup_ended key = { .server = l->rows[i].server,
					    .handle = l->rows[i].handle };
		const struct lookup_ended *e = l->rows[i].flags & LOOKUP_OPEN
						       ? bsearch(&key, l->ended, l->ended_n,
								 sizeof(key), order_ended)
						       : NULL;

		if (!e || e->seen <= i)
			l->rows[kept++] = l->rows[i];
	}
	l->n = kept;
}

/* The same address and server stand together: 0. */
static int order_pair(const struct lookup_row *x, const struct lookup_row *y)
{
	int r = memcmp(x->ip, y->ip, NOLOG_IP_SIZE);

	return r ? r : memcmp(x->server.b, y->server.b, SERVER_KEY_SIZE);
}

/* By pair and start, what goes on from the day before first; the latest end last. */
static int order_rows(const void *a, const void *b)
{
	const struct lookup_row *x = a, *y = b;
	int r = order_pair(x, y);

	if (r)
		return r;
	if (x->start_ms != y->start_ms)
		return x->start_ms < y->start_ms ? -1 : 1;
	if ((x->flags ^ y->flags) & LOOKUP_BEFORE)
		return x->flags & LOOKUP_BEFORE ? -1 : 1;
	if (x->end_ms != y->end_ms)
		return x->end_ms < y->end_ms ? -1 : 1;
	return (int)x->flags - (int)y->flags;
}

static bool identical(const struct lookup_row *x, const struct lookup_row *y)
{
	return order_rows(x, y) == 0;
}

static void sort_rows(struct lookup *l)
{
	if (sort_wiped(l->rows, l->n, sizeof(*l->rows), order_rows) < 0) {
		code_set(l, NOLOG_DONE_UNREADABLE);
		l->n = 0;
	}
}

/*
 * Rows before the horizon go, the others are cut to it.  24:00 belongs to the
 * day that ends: a row that only reaches the horizon lies before it.
 */
static void cut_rows(struct lookup *l, int64_t horizon_ms)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct lookup_row *row = &l->rows[i];

		if (row->start_ms < horizon_ms && row->end_ms <= horizon_ms)
			continue;
		if (row->start_ms <= horizon_ms) {
			row->start_ms = horizon_ms > row->start_ms ? horizon_ms : row->start_ms;
			row->flags &= (uint8_t)~LOOKUP_BEFORE;
		}
		l->rows[kept++] = *row;
	}
	l->n = kept;
}

/* The candidates on the near side of a midnight. */
struct left {
	int64_t midnight_ms;
	size_t row; /* the last of them */
	unsigned count;
};

static void left_note(struct left *left, const struct lookup_row *rows, size_t i)
{
	if (!(rows[i].flags & LOOKUP_AFTER) || rows[i].flags & ROW_GONE)
		return;
	if (left->count == 0 || left->midnight_ms != rows[i].end_ms)
		*left = (struct left){ .midnight_ms = rows[i].end_ms };
	left->row = i;
	left->count++;
}

/*
 * rows[first..end) begin at one midnight and go on from the day before.  One
 * candidate on each side is a session.  Several that follow one whose start
 * is known are one session too, told more than once: the latest end holds;
 * not on a shared address, where they may be anybody's.
 */
static bool join(struct lookup_row *rows, size_t first, size_t end, const struct left *left,
		 bool shared)
{
	struct lookup_row *near = &rows[left->row], *far = &rows[end - 1];
	bool one = left->count == 1 && left->midnight_ms == far->start_ms;

	if (!one || (end - first > 1 && (shared || near->flags & ROW_TAIL))) {
		for (size_t i = first; i < end; i++)
			rows[i].flags |= ROW_TAIL;
		return false;
	}
	for (size_t i = first; i + 1 < end; i++)
		rows[i].flags |= ROW_GONE;
	far->start_ms = near->start_ms;
	far->flags = (uint8_t)((far->flags & ~LOOKUP_BEFORE) | (near->flags & ROW_TAIL));
	near->flags |= ROW_GONE;
	return true;
}

/* Joins the rows [first, end) of one address and server, sorted.  True when any was. */
static bool join_pair(struct lookup_row *rows, size_t first, size_t end, bool shared)
{
	struct left left = { 0 };
	bool any = false;

	for (size_t i = first, next; i < end; i = next) {
		next = i + 1;
		if (rows[i].flags & LOOKUP_BEFORE) {
			while (next < end && rows[next].flags & LOOKUP_BEFORE &&
			       rows[next].start_ms == rows[i].start_ms)
				next++;
			if (join(rows, i, next, &left, shared))
				any = true;
		}
		for (size_t k = i; k < next; k++)
			left_note(&left, rows, k);
	}
	return any;
}

static size_t pair_end(const struct lookup *l, size_t first)
{
	size_t end = first + 1;

	while (end < l->n && order_pair(&l->rows[first], &l->rows[end]) == 0)
		end++;
	return end;
}

/* Takes out what is gone, and, of each pair that is not shared, what stands there twice. */
static void drop_rows(struct lookup *l, bool doubles)
{
	size_t kept = 0;

	for (size_t first = 0, end; first < l->n; first = end) {
		size_t begin = kept;
		bool shared = exits_shared(l->exits, l->rows[first].ip);

		end = pair_end(l, first);
		for (size_t i = first; i < end; i++) {
			if (l->rows[i].flags & ROW_GONE)
				continue;
			if (doubles && !shared && kept > begin &&
			    identical(&l->rows[kept - 1], &l->rows[i]))
				continue;
			l->rows[kept++] = l->rows[i];
		}
	}
	l->n = kept;
}

static void join_rows(struct lookup *l)
{
	bool any = false;

	for (size_t first = 0, end; first < l->n; first = end) {
		end = pair_end(l, first);
		if (join_pair(l->rows, first, end, exits_shared(l->exits, l->rows[first].ip)))
			any = true;
	}
	drop_rows(l, false);
	if (any)
		sort_rows(l);
}

/*
 * Where rows are missing, the one candidate may be one of several: a session
 * that never was is worse than one in parts.
 */
static void part_rows(struct lookup *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->rows[i].flags & LOOKUP_BEFORE)
			l->rows[i].flags |= ROW_TAIL;
}

/*
 * True when a later row tells the same session with a later end.  Rows whose
 * start is not known stand among those that start at that midnight.
 */
static bool told_later(const struct lookup *l, size_t i)
{
	const struct lookup_row *row = &l->rows[i];

	if (row->flags & ROW_TAIL || exits_shared(l->exits, row->ip))
		return false;
	for (size_t k = i + 1; k < l->n; k++) {
		if (l->rows[k].start_ms != row->start_ms || order_pair(&l->rows[k], row) != 0)
			return false;
		if (!(l->rows[k].flags & ROW_TAIL))
			return true;
	}
	return false;
}

static void make_record(const struct lookup *l, struct lookup_record *r,
			const struct lookup_row *row)
{
	bool open = row->flags & LOOKUP_OPEN;

	memcpy(r->ip, row->ip, sizeof(r->ip));
	r->server = row->server;
	r->start_ms = row->start_ms;
	r->end_ms = open ? 0 : row->end_ms;
	r->code = open ? NOLOG_RECORD_OPEN : 0;
	if (!in_prefix(l, row->ip))
		r->code |= NOLOG_RECORD_CANDIDATE;
	if (row->flags & (ROW_TAIL | LOOKUP_AFTER))
		r->code |= NOLOG_RECORD_PART;
}

static void make_records(struct lookup *l)
{
	size_t most = l->n < l->limit ? l->n : l->limit;

	if (most == 0) {
		if (l->n)
			code_set(l, NOLOG_DONE_LIMIT);
		return;
	}
	l->records = calloc(most, sizeof(*l->records));
	if (!l->records) {
		code_set(l, NOLOG_DONE_UNREADABLE);
		return;
	}
	for (size_t i = 0; i < l->n; i++) {
		if (!lookup_touches(l, l->rows[i].start_ms, l->rows[i].end_ms) || told_later(l, i))
			continue;
		if (l->record_count == l->limit) {
			code_set(l, NOLOG_DONE_LIMIT);
			return;
		}
		make_record(l, &l->records[l->record_count++], &l->rows[i]);
	}
}

void lookup_finish(struct lookup *l, int64_t horizon_ms)
{
	size_t gathered;

	gather_rows(l);
	gathered = l->n;
	drop_ended(l);
	cut_rows(l, horizon_ms);
	sort_rows(l);
	drop_rows(l, true);
	if (l->code == NOLOG_DONE_COMPLETE)
		join_rows(l);
	else
		part_rows(l);
	make_records(l);
	wipe_free(l->rows, gathered * sizeof(*l->rows));
	l->rows = NULL;
	l->n = 0;
	free_ended(l);
}

bool lookup_take(struct lookup *l, struct lookup_record *out)
{
	struct lookup_record *less;

	if (l->record_count == 0)
		return false;
	l->record_count--;
	*out = l->records[l->record_count];
	explicit_bzero(&l->records[l->record_count], sizeof(*out));
	if (l->record_count == 0 || l->record_count % TAKE_RECORDS != 0)
		return true;
	less = reallocarray(l->records, l->record_count, sizeof(*less));
	if (less)
		l->records = less;
	return true;
}
