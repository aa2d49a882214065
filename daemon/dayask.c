/* SPDX-License-Identifier: ISC */
/*
 * dayask: which days a look-up needs, and which rows of them.  Joins nothing:
 * lookup.c does, with the rows that are collected here.
 */
#include "dayask.h"

#include "dayscan.h"

#include "seal.h"
#include "sort.h"

#include <errno.h>
#include <stdlib.h>

#define DAY_MS CALENDAR_DAY_MS

/* A row that waited when the look-up began, goes on on another day, and is no answer yet. */
struct held {
	int32_t day;
	struct daywait_row row;
};

/*
 * An address and server whose rows at the ends of a day are needed, to tell
 * whether a part has one candidate to be joined with.  Where there are two,
 * more do not matter: so two of each are kept, of those that come from the day
 * before the ones with the latest ends.
 */
struct want {
	int32_t day;
	uint8_t ip[NOLOG_IP_SIZE];
	struct server_key server;
	uint8_t both, before, after; /* how many; "both" last the whole day */
	uint32_t ends[2], starts[2];
};

struct dayview {
	int32_t day;
	unsigned asides; /* of the day: when there are more, these runs are in none of its files */
	struct dayrun **runs; /* referenced */
	uint32_t n;
};

struct dayask {
	struct lookup *l;
	int32_t horizon, first, last; /* days */
	struct dayview *views;	      /* of the days with a file, as it began */
	size_t views_n, view;	      /* the next one to be looked at */
	struct held *held;
	size_t held_n, held_room;
	bool full, around; /* nothing more fits; the second part has begun */
	/* the day it is at */
	bool scanning;
	struct dayscan scan;
	int32_t at;
	unsigned at_asides;
	struct day *day; /* that, for the step */
	uint8_t *servers;
	struct dayrange *ranges;
	size_t ranges_n;
	/* the days around */
	struct want *wants; /* [0, done) were looked at, [done, n) are being, both sorted */
	size_t wants_n, wants_room, done, group, group_end;
	size_t rows_done; /* of the look-up's, whose neighbours are wants */
	uint64_t unreadable;
	struct fault fault;
};

static void wipe_free(void *p, size_t size)
{
	if (p)
		seal_wipe(p, size);
	free(p);
}

/* Arrays of addresses do not leave copies behind: *room grows; false: no memory. */
static bool grow(void **array, size_t n, size_t *room, size_t size)
{
	size_t more = *room ? 2 * *room : 16;
	void *new = reallocarray(NULL, more, size);

	if (!new)
		return false;
	if (n)
		memcpy(new, *array, n * size);
	wipe_free(*array, n * size);
	*array = new;
	*room = more;
	return true;
}

static void no_memory(struct dayask *a)
{
	if (a->l->code == NOLOG_DONE_COMPLETE)
		a->l->code = NOLOG_DONE_UNREADABLE;
	a->full = true;
}

static struct lookup_row lookup_row_of(int32_t day, const uint8_t ip[NOLOG_IP_SIZE],
				       const struct server_key *server, uint32_t start,
				       uint32_t end)
{
	int64_t zero = calendar_day_start(day);
	struct lookup_row row = {
		.server = *server,
		.flags = (uint8_t)((start & ROW_MORE ? LOOKUP_BEFORE : 0) |
				   (end & ROW_MORE ? LOOKUP_AFTER : 0)),
		.start_ms = zero + (start & ~ROW_MORE),
		.end_ms = zero + (end & ~ROW_MORE),
	};

	memcpy(row.ip, ip, sizeof(row.ip));
	return row;
}

/* --- What waits --- */

static void hold(struct dayask *a, int32_t day, const struct daywait_row *row)
{
	if (a->held_n == a->held_room) {
		void *held = a->held;

		if (!grow(&held, a->held_n, &a->held_room, sizeof(*a->held))) {
			no_memory(a);
			return;
		}
		a->held = held;
	}
	a->held[a->held_n++] = (struct held){ .day = day, .row = *row };
}

static void take_waiting(struct dayask *a, int32_t day, const struct daywait_row *row)
{
	struct lookup_row found;

	if (a->full || !lookup_wants(a->l, row->ip, &row->server))
		return;
	found = lookup_row_of(day, row->ip, &row->server, row->start, row->end);
	if (lookup_touches(a->l, found.start_ms, found.end_ms))
		a->full = !lookup_add(a->l, &found);
	else if (found.flags)
		hold(a, day, row);
}

static void take_all_waiting(struct dayask *a, const struct day *d)
{
	const struct daywait_row *row;

	if (lookup_exact(a->l)) {
		for (row = daywait_first(&d->wait, a->l->ip); row;
		     row = daywait_next(&d->wait, row))
			take_waiting(a, d->number, row);
		return;
	}
	for (uint32_t i = 0; i < d->wait.n; i++)
		take_waiting(a, d->number, &d->wait.rows[i]);
}

static bool add_view(struct dayask *a, const struct day *d)
{
	struct dayview *view = &a->views[a->views_n];

	view->runs = calloc(d->n + 1, sizeof(struct dayrun *));
	if (!view->runs)
		return false;
	for (uint32_t i = 0; i < d->n; i++)
		view->runs[i] = dayrun_ref(d->runs[i]);
	view->n = d->n;
	view->day = d->number;
	view->asides = d->asides;
	a->views_n++;
	return true;
}

int dayask_new(struct dayask **out, struct lookup *l, struct dayset *set, int32_t horizon)
{
	struct dayask *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->l = l;
	a->horizon = horizon;
	/* Midnight belongs to both its days. */
	a->first = calendar_day(l->from_ms > INT64_MIN ? l->from_ms - 1 : l->from_ms);
	if (a->first < horizon)
		a->first = horizon;
	a->last = calendar_day(l->to_ms);
	a->views = calloc(set->n + 1, sizeof(*a->views));
	if (!a->views) {
		free(a);
		return -ENOMEM;
	}
	for (size_t i = dayset_from(set, horizon); i < set->n; i++) {
		struct day *d = set->at[i];

		if ((day_has_files(d) || d->lost) && !add_view(a, d)) {
			dayask_free(a);
			return -ENOMEM;
		}
		take_all_waiting(a, d);
	}
	*out = a;
	return 0;
}

void dayask_free(struct dayask *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->views_n; i++) {
		for (uint32_t k = 0; k < a->views[i].n; k++)
			dayrun_unref(a->views[i].runs[k]);
		free(a->views[i].runs);
	}
	free(a->views);
	wipe_free(a->held, a->held_n * sizeof(*a->held));
	free(a->servers);
	wipe_free(a->ranges, a->ranges_n * sizeof(*a->ranges));
	wipe_free(a->wants, a->wants_n * sizeof(*a->wants));
	free(a);
}

uint64_t dayask_unreadable(struct dayask *a, struct fault *fault)
{
	uint64_t n = a->unreadable;

	if (n)
		*fault = a->fault;
	a->unreadable = 0;
	a->fault = (struct fault){ 0 };
	return n;
}

static void note_unreadable(struct dayask *a, uint64_t n)
{
	a->unreadable += n;
	if (a->l->code == NOLOG_DONE_COMPLETE)
		a->l->code = NOLOG_DONE_UNREADABLE;
}

/* --- A day --- */

/* Opens the day of a view; false: there is nothing to be read (any more). */
static bool use_day(struct dayask *a, struct dayset *set, const struct dayview *view)
{
	int r;

	a->at = view->day;
	a->at_asides = view->asides;
	a->day = dayset_find(set, view->day);
	if (a->day && (a->day->damaged || a->day->asides || a->day->lost))
		note_unreadable(a, 0); /* reported when it was found */
	if (!a->day || a->day->damaged || a->day->asides != view->asides || view->n == 0)
		return false;
	r = dayset_use(set, a->day, &a->fault);
	if (r < 0) {
		if (r == -EBADMSG)
			a->day->damaged = true;
		note_unreadable(a, 1);
		return false;
	}
	return true;
}

static bool new_ranges(struct dayask *a, size_t n)
{
	wipe_free(a->ranges, a->ranges_n * sizeof(*a->ranges));
	a->ranges = calloc(n, sizeof(*a->ranges));
	a->ranges_n = a->ranges ? n : 0;
	return a->ranges;
}

static void begin_scan(struct dayask *a, const struct dayview *view, dayscan_fn *fn)
{
	a->scan = (struct dayscan){
		.ranges = a->ranges,
		.ranges_n = 1,
		.own = { 0, DAYADDR_MAX },
		.servers_n = a->day->servers.n,
		.to = DAYBLOCK_DAY_MS,
		.runs = view->runs,
		.runs_n = view->n,
		.fn = fn,
		.arg = a,
	};
	a->scanning = true;
}

/* True when the budget is spent before the day is done. */
static bool go_on(struct dayask *a, struct dayset *set, unsigned *budget)
{
	int r;

	a->day = dayset_find(set, a->at);
	if (a->day && a->day->asides != a->at_asides)
		note_unreadable(a, 0);
	if (!a->day || a->day->asides != a->at_asides) { /* forgotten or set aside meanwhile */
		a->scanning = false;
		return false;
	}
	r = dayset_use(set, a->day, &a->fault);
	if (r == 0)
		r = dayscan_step(&a->scan, a->day->file, budget);
	if (r == -ENOKEY && a->at < keyring_first_day(set->home.keyring)) {
		/* Midnight has come while it was being read: nothing of it is an answer any more. */
		a->scanning = false;
		a->scan.unreadable = 0;
		return false;
	}
	if (a->scan.unreadable || r < 0) {
		char name[32];

		dayfile_fault_name(name, a->at);
		if (a->scan.unreadable)
			(void)fault_set(&a->fault, -EBADMSG, name, a->scan.bad_block,
					"a block of rows cannot be read");
		else if (a->fault.error == 0)
			(void)fault_set(&a->fault, r, name, 0, "cannot be read");
		note_unreadable(a, a->scan.unreadable ? a->scan.unreadable : 1);
		a->scan.unreadable = 0;
	}
	if (r == 2)
		a->full = true;
	if (r == 1)
		return true;
	a->scanning = false;
	return false;
}

/* --- The days asked for --- */

static bool found_row(const struct dayrow *row, void *arg)
{
	struct dayask *a = arg;
	struct lookup_row found = lookup_row_of(
		a->day->number, row->ip, &a->day->servers.keys[row->server], row->start, row->end);

	return lookup_add(a->l, &found);
}

static struct dayrange prefix_range(const struct lookup *l)
{
	struct dayrange range = { .low = dayaddr_of(l->ip) };

	range.high = l->length == 0	? DAYADDR_MAX
		     : l->length == 128 ? range.low
					: range.low | DAYADDR_MAX >> l->length;
	return range;
}

/*
 * What each server of the day is to the question.  1: some are something,
 * *behind tells whether any is behind; 0: none is; -ENOMEM.
 */
static int sort_servers(struct dayask *a, bool *behind)
{
	const struct lookup *l = a->l;
	struct dayservers *s = &a->day->servers;
	bool any = !l->one_server;
	int32_t place;

	*behind = false;
	free(a->servers);
	a->servers = NULL;
	if (!l->one_server && l->behind_count == 0)
		return 1;
	a->servers = malloc(s->n + 1);
	if (!a->servers)
		return -ENOMEM;
	memset(a->servers, l->one_server ? 0 : (int)DAYSCAN_OWN, s->n + 1);
	place = l->one_server ? dayservers_find(s, &l->server) : -ENOENT;
	if (place >= 0) {
		a->servers[place] = DAYSCAN_OWN;
		any = true;
	}
	for (size_t i = 0; i < l->behind_count; i++) {
		place = dayservers_find(s, &l->behind[i]);
		if (place < 0)
			continue;
		a->servers[place] |= DAYSCAN_BEHIND;
		any = *behind = true;
	}
	return any;
}

static void begin_window_day(struct dayask *a, struct dayset *set, const struct dayview *view)
{
	int64_t zero = calendar_day_start(view->day);
	bool behind;
	int r;

	if (view->day < a->first || view->day > a->last || !use_day(a, set, view))
		return;
	r = sort_servers(a, &behind);
	if (r == 0)
		return;
	if (r < 0 || !new_ranges(a, 1)) {
		no_memory(a);
		return;
	}
	begin_scan(a, view, found_row);
	a->scan.servers = a->servers;
	a->scan.own = prefix_range(a->l);
	a->ranges[0] = behind ? (struct dayrange){ 0, DAYADDR_MAX } : a->scan.own;
	if (a->l->from_ms > zero)
		a->scan.from = (uint32_t)(a->l->from_ms - zero);
	if (a->l->to_ms < zero + DAY_MS)
		a->scan.to = (uint32_t)(a->l->to_ms - zero);
}

/* --- The days around --- */

static int order_place(const struct want *x, const struct want *y)
{
	int r = memcmp(x->ip, y->ip, NOLOG_IP_SIZE);

	return r ? r : memcmp(x->server.b, y->server.b, SERVER_KEY_SIZE);
}

static int order_wants(const void *a, const void *b)
{
	const struct want *x = a, *y = b;

	return x->day != y->day ? (x->day < y->day ? -1 : 1) : order_place(x, y);
}

/* All rows of the day touch the time asked for: none is left that could be wanted. */
static bool all_asked_for(const struct lookup *l, int32_t day)
{
	return l->from_ms <= calendar_day_start(day) &&
	       l->to_ms >= calendar_day_start(day) + DAY_MS;
}

static void add_want(struct dayask *a, const struct lookup_row *row, int32_t day)
{
	struct want want = { .day = day, .server = row->server };

	if (a->full || day < a->horizon || all_asked_for(a->l, day))
		return;
	memcpy(want.ip, row->ip, sizeof(want.ip));
	if (a->done && bsearch(&want, a->wants, a->done, sizeof(want), order_wants))
		return;
	if (a->wants_n == a->wants_room) {
		void *wants = a->wants;

		if (!grow(&wants, a->wants_n, &a->wants_room, sizeof(want))) {
			no_memory(a);
			return;
		}
		a->wants = wants;
	}
	a->wants[a->wants_n++] = want;
}

/*
 * Around what matched, both sides of each midnight that it crosses.  Beyond
 * that only what lasts a whole day leads on.
 */
static void add_wants(struct dayask *a)
{
	const uint8_t both = LOOKUP_BEFORE | LOOKUP_AFTER;
	bool first = a->done == 0;
	size_t kept;

	for (; a->rows_done < a->l->n; a->rows_done++) {
		const struct lookup_row *row = lookup_row_at(a->l, a->rows_done);
		int32_t day = calendar_day(row->start_ms);

		if (!(row->flags & both) || (!first && (row->flags & both) != both))
			continue;
		add_want(a, row, day);
		if (row->flags & LOOKUP_BEFORE)
			add_want(a, row, day - 1);
		if (row->flags & LOOKUP_AFTER)
			add_want(a, row, day + 1);
	}
	if (a->wants_n == a->done)
		return;
	if (sort_wiped(a->wants + a->done, a->wants_n - a->done, sizeof(*a->wants), order_wants) <
	    0) {
		no_memory(a);
		return;
	}
	kept = a->done + 1;
	for (size_t i = kept; i < a->wants_n; i++)
		if (order_wants(&a->wants[kept - 1], &a->wants[i]) != 0)
			a->wants[kept++] = a->wants[i];
	a->wants_n = kept;
}

/* Of those that begin before: the two with the latest ends. */
static void offer_before(struct want *w, uint32_t end, bool shared)
{
	if (!shared &&
	    ((w->before > 0 && w->ends[0] == end) || (w->before > 1 && w->ends[1] == end)))
		return;
	if (w->before == 0 || end > w->ends[0]) {
		w->ends[1] = w->ends[0];
		w->ends[0] = end;
	} else if (w->before == 1 || end > w->ends[1]) {
		w->ends[1] = end;
	}
	if (w->before < 2)
		w->before++;
}

static void offer_after(struct want *w, uint32_t start, bool shared)
{
	if (w->after == 2 || (!shared && w->after == 1 && w->starts[0] == start))
		return;
	w->starts[w->after++] = start;
}

/* A row of the day of the group: is it at an end that is wanted, and not known already? */
static void offer(struct dayask *a, const uint8_t ip[NOLOG_IP_SIZE],
		  const struct server_key *server, uint32_t start, uint32_t end)
{
	struct want key = { .day = a->wants[a->group].day, .server = *server }, *w;
	struct lookup_row row = lookup_row_of(key.day, ip, server, start, end);
	bool shared;

	if (lookup_touches(a->l, row.start_ms, row.end_ms))
		return; /* it is in the answer already */
	memcpy(key.ip, ip, sizeof(key.ip));
	w = bsearch(&key, a->wants + a->group, a->group_end - a->group, sizeof(key), order_wants);
	if (!w)
		return;
	shared = exits_shared(a->l->exits, ip);
	if (start & end & ROW_MORE) {
		if (w->both < (shared ? 2 : 1))
			w->both++;
	} else if (start & ROW_MORE) {
		offer_before(w, end, shared);
	} else {
		offer_after(w, start, shared);
	}
}

static bool offer_row(const struct dayrow *row, void *arg)
{
	struct dayask *a = arg;

	offer(a, row->ip, &a->day->servers.keys[row->server], row->start, row->end);
	return true;
}

static void add_found(struct dayask *a, const struct want *w, uint32_t start, uint32_t end)
{
	struct lookup_row row = lookup_row_of(w->day, w->ip, &w->server, start, end);

	if (!a->full && !lookup_add(a->l, &row))
		a->full = true;
}

/* The rows of the group are known: they go to the look-up. */
static void end_group(struct dayask *a)
{
	const uint32_t all = DAYBLOCK_DAY_MS | ROW_MORE;
	int32_t day = a->wants[a->group].day;

	for (size_t i = 0; i < a->held_n; i++)
		if (a->held[i].day == day)
			offer(a, a->held[i].row.ip, &a->held[i].row.server, a->held[i].row.start,
			      a->held[i].row.end);
	for (size_t i = a->group; i < a->group_end; i++) {
		const struct want *w = &a->wants[i];

		for (unsigned k = 0; k < w->both; k++)
			add_found(a, w, ROW_MORE, all);
		for (unsigned k = 0; k < w->before; k++)
			add_found(a, w, ROW_MORE, w->ends[k]);
		for (unsigned k = 0; k < w->after; k++)
			add_found(a, w, w->starts[k], all);
	}
	a->group = a->group_end;
}

static const struct dayview *view_of(const struct dayask *a, int32_t day)
{
	for (size_t i = 0; i < a->views_n; i++)
		if (a->views[i].day == day)
			return &a->views[i];
	return NULL;
}

/* One range an address; the group is sorted by them. */
static bool group_ranges(struct dayask *a, size_t *n)
{
	if (!new_ranges(a, a->group_end - a->group))
		return false;
	*n = 0;
	for (size_t i = a->group; i < a->group_end; i++) {
		dayaddr ip = dayaddr_of(a->wants[i].ip);

		if (*n == 0 || a->ranges[*n - 1].low != ip)
			a->ranges[(*n)++] = (struct dayrange){ ip, ip };
	}
	return true;
}

/* The next day around: true when there is one. */
static bool begin_group(struct dayask *a, struct dayset *set)
{
	const struct dayview *view;
	size_t n;

	if (a->group == a->wants_n) {
		if (sort_wiped(a->wants, a->wants_n, sizeof(*a->wants), order_wants) < 0)
			no_memory(a);
		a->done = a->group = a->group_end = a->wants_n;
		add_wants(a);
		if (a->full || a->group == a->wants_n)
			return false;
	}
	a->group_end = a->group + 1;
	while (a->group_end < a->wants_n && a->wants[a->group_end].day == a->wants[a->group].day)
		a->group_end++;
	view = view_of(a, a->wants[a->group].day);
	if (!view || !use_day(a, set, view))
		return true;
	if (!group_ranges(a, &n)) {
		no_memory(a);
		return false;
	}
	begin_scan(a, view, offer_row);
	a->scan.ranges_n = n;
	a->scan.crossing = true;
	return true;
}

/* --- On its way --- */

static bool step_window(struct dayask *a, struct dayset *set, unsigned *budget)
{
	while (!a->full) {
		if (a->scanning && go_on(a, set, budget))
			return true;
		if (a->full || a->view == a->views_n)
			break;
		begin_window_day(a, set, &a->views[a->view++]);
	}
	return false;
}

static bool step_around(struct dayask *a, struct dayset *set, unsigned *budget)
{
	while (!a->full) {
		if (a->scanning && go_on(a, set, budget))
			return true;
		if (a->group < a->group_end)
			end_group(a);
		if (a->full || !begin_group(a, set))
			break;
	}
	return false;
}

bool dayask_step(struct dayask *a, struct dayset *set, unsigned budget)
{
	if (!a->around) {
		if (step_window(a, set, &budget))
			return true;
		a->around = true;
	}
	return step_around(a, set, &budget);
}
