/* SPDX-License-Identifier: ISC */
/*
 * writer: see writer.h.
 *
 * One round of the thread: answer queries, take what the loop has put, decide,
 * commit, hand on, answer.  What it refuses to know: what an event means, who
 * asks, and any address, account or handle.
 */
#include "writer.h"

#include "calendar.h"
#include "links.h"
#include "log.h"
#include "refresh.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REQUEST_ROOM (1u << 16)
#define QUERY_ROOM (1u << 12)
#define ANSWER_ROOM (1u << 16)
#define COMMIT_EFFECTS_MAX (1u << 20) /* of one transaction, as a rule */
#define IDLE_MS 2000		      /* refresh and expiry while nothing happens */
#define RETRY_MS 200		      /* while there is no space */
#define RELOG_EFFECTS (1u << 16)      /* of a transaction when everything is logged again */
#define RELOG_POLL_MS 5
#define RELOG_START_POLLS 600
#define STOP_PATIENCE 300 /* stalled rounds before it stops without; what is hopeless ... */
#define STOP_HOPELESS 12  /* ... counts as so many */
#define EVENT_EFFECTS 4	  /* at most, as a rule: of an event with its stream's position */
#define STREAMS_PASS_MS (INT64_C(3600) * 1000)

struct writer {
	struct writer_options o;
	struct queue *requests, *queries, *answers;
	struct links *links;
	struct streams *streams;
	struct refresh *refresh;

	/* the batch in the making */
	struct request *pending;
	size_t pending_n;
	int64_t pending_since; /* running time of the first */
	bool force;	       /* commit now: somebody waits for the order of things */
	bool spare;	       /* what is logged again may take the room that is kept back */
	bool ahead;	       /* the ledger knows what is not durable yet */
	struct effects effects;
	struct answer *later; /* answers that wait for the commit */
	size_t later_n, later_room;

	unsigned expire_next, expire_streams_next;
	int64_t expire_since, expire_streams_since;
	int64_t committed_ms; /* running time of the last batch */
	int32_t cut_day;      /* what is in the log was cut as on this day, or a later one */
	int64_t seen_ms;      /* the clock's running time when last looked at, */
	int64_t stalled_ms;   /* and how much of it was stalled */
	bool was_stalled;     /* since then */
	bool short_room;      /* days finds no space, whether or not it must be waited for */
	int stop_patience;    /* what is left of it */

	pthread_t thread;
	bool started;
	atomic_bool stopping, stopped, dropped;
	atomic_bool woken; /* since it last looked at what is not in a queue */
	_Atomic int64_t tick_ms;

	/* counted here, read anywhere */
	_Atomic uint64_t frames, repeats, batches, effects_total, refused[32], commit_us, renewals;
	_Atomic uint64_t journal_bytes, journal_effects, stream_count, passes;
	_Atomic int64_t key_age_ms, heard_ms;
	atomic_bool stalled_space, stalled_room, key_late;
};

static void count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static void gauge(_Atomic uint64_t *c, uint64_t v)
{
	atomic_store_explicit(c, v, memory_order_relaxed);
}

static int64_t monotonic_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* --- Making and ending --- */

void writer_free(struct writer *w)
{
	if (!w)
		return;
	queue_free(w->requests);
	queue_free(w->queries);
	queue_free(w->answers);
	links_free(w->links);
	streams_free(w->streams);
	refresh_free(w->refresh);
	effects_free(&w->effects);
	free(w->pending);
	free(w->later);
	free(w);
}

int writer_new(struct writer **out, const struct writer_options *options)
{
	struct writer *w = calloc(1, sizeof(*w));
	int r = -ENOMEM;

	if (!w)
		return -ENOMEM;
	w->o = *options;
	w->cut_day = INT32_MIN;
	atomic_init(&w->tick_ms, options->tick_ms);
	w->pending = calloc(options->book->batch_events, sizeof(*w->pending));
	if (!w->pending)
		goto fail;
	if ((r = queue_new(&w->requests, sizeof(struct request), REQUEST_ROOM)) < 0 ||
	    (r = queue_new(&w->queries, sizeof(struct request), QUERY_ROOM)) < 0 ||
	    (r = queue_new(&w->answers, sizeof(struct answer), ANSWER_ROOM)) < 0 ||
	    (r = links_new(&w->links, options->links)) < 0)
		goto fail;
	r = streams_new(&w->streams);
	if (r < 0)
		goto fail;
	*out = w;
	return 0;
fail:
	writer_free(w);
	return r;
}

struct queue *writer_requests(struct writer *w)
{
	return w->requests;
}

struct queue *writer_queries(struct writer *w)
{
	return w->queries;
}

struct queue *writer_answers(struct writer *w)
{
	return w->answers;
}

struct effects *writer_effects(struct writer *w)
{
	return &w->effects;
}

struct journal *writer_journal(struct writer *w)
{
	return w->o.journal;
}

struct streams *writer_streams(struct writer *w)
{
	return w->streams;
}

void writer_wake(struct writer *w)
{
	atomic_store(&w->woken, true);
	queue_wake(w->requests);
}

void writer_tick_set(struct writer *w, int64_t tick_ms)
{
	atomic_store(&w->tick_ms, tick_ms);
	writer_wake(w);
}

void writer_stats(const struct writer *w, struct writer_stats *out)
{
#define GET(field) atomic_load_explicit(&w->field, memory_order_relaxed)
	out->frames = GET(frames);
	out->repeats = GET(repeats);
	out->batches = GET(batches);
	out->effects = GET(effects_total);
	for (size_t i = 0; i < 32; i++)
		out->refused[i] = GET(refused[i]);
	out->commit_us = GET(commit_us);
	out->journal_bytes = GET(journal_bytes);
	out->journal_effects = GET(journal_effects);
	out->streams = GET(stream_count);
	out->passes = GET(passes);
	out->renewals = GET(renewals);
	out->key_age_ms = GET(key_age_ms);
	out->stalled_space = GET(stalled_space);
	out->stalled_room = GET(stalled_room);
	out->key_late = GET(key_late);
	out->heard_ms = GET(heard_ms);
#undef GET
}

/*
 * Running time, less what was stalled: nobody who could not be heard was silent.
 * A time between two looks counts as what the first of them found.
 */
static int64_t running(struct writer *w)
{
	int64_t now = clock_running_ms(w->o.clock);

	if (w->was_stalled && now > w->seen_ms)
		w->stalled_ms += now - w->seen_ms;
	if (now > w->seen_ms)
		w->seen_ms = now;
	return w->seen_ms - w->stalled_ms;
}

static void set_stalled(struct writer *w, bool stalled)
{
	(void)running(w);
	w->was_stalled = stalled;
}

/* Days only move forward. */
static int32_t day_at(const struct writer *w, int64_t at_ms)
{
	int32_t day = calendar_day(at_ms), newest = keyring_newest_day(w->o.keyring);

	return day < newest ? newest : day;
}

/* What lies before it is forgotten; also what was once, when less was kept. */
static int64_t kept_from(const struct writer *w, int32_t today)
{
	int32_t horizon = calendar_horizon(today, w->o.retention_days);
	int32_t first = keyring_first_day(w->o.keyring);

	return calendar_day_start(horizon < first ? first : horizon);
}

/*
 * What is logged at a time is cut to this: to the horizon as it will be two
 * hours later, but never into today, which a retention of one day would do.
 */
static int64_t cut_at(const struct writer *w, int64_t at_ms)
{
	int64_t kept = kept_from(w, day_at(w, at_ms + CALENDAR_AHEAD_MS));
	int64_t today = calendar_day_start(day_at(w, at_ms));

	return kept < today ? kept : today;
}

/* The time of a commit. */
static void moment(struct writer *w, struct sessions_time *t)
{
	int64_t now = clock_now(w->o.clock);

	t->now_ms = now;
	t->horizon_ms = kept_from(w, day_at(w, now));
	t->keep_ms = cut_at(w, now);
	t->running_ms = running(w);
}

/* --- Answers --- */

/* The loop always empties this queue, so there is room soon. */
static void put_answers(struct writer *w, const struct answer *a, size_t n)
{
	while (n) {
		size_t room = queue_room(w->answers);

		if (room > n)
			room = n;
		for (size_t i = 0; i < room; i++)
			memcpy(queue_place(w->answers, i), &a[i], sizeof(*a));
		queue_push(w->answers, room);
		queue_ring(w->answers);
		a += room;
		n -= room;
		if (n)
			(void)poll(NULL, 0, 1);
	}
}

void writer_count_refused(struct writer *w, unsigned code)
{
	count(&w->refused[code & 31], 1);
}

void writer_answer(struct writer *w, const struct answer *a)
{
	put_answers(w, a, 1);
}

/* For after the commit; the memory is the process's life. */
static struct answer *later(struct writer *w, struct link *k)
{
	struct answer *a;

	if (w->later_n == w->later_room) {
		size_t room = w->later_room ? 2 * w->later_room : 1024;
		struct answer *more = reallocarray(w->later, room, sizeof(*more));

		if (!more) {
			log_say(LOG_NO_MEMORY, 0, 0, 0);
			abort();
		}
		w->later = more;
		w->later_room = room;
	}
	a = &w->later[w->later_n++];
	memset(a, 0, sizeof(*a));
	a->link = k->id;
	a->taken = k->done;
	k->done = 0;
	return a;
}

static void answer_frame(struct answer *a, uint8_t type, uint16_t code, uint64_t seq)
{
	struct nolog_frame f = { .type = type, .code = code, .seq = seq };

	nolog_frame_encode(a->frame, &f);
}

static void acknowledge(struct writer *w, struct link *k)
{
	struct answer *a;

	if (!k->dirty)
		return;
	k->dirty = false;
	a = later(w, k);
	a->kind = ANSWER_ACK;
	answer_frame(a, NOLOG_ACK, 0, k->next - 1);
}

static void refuse(struct writer *w, struct link *k, unsigned code, uint64_t seq)
{
	count(&w->refused[code & 31], 1);
	answer_frame(later(w, k), NOLOG_REFUSED, (uint16_t)code, seq);
}

/* Refuses and closes, after what came before is acknowledged. */
static void refuse_and_close(struct writer *w, struct link *k, unsigned code, uint64_t seq)
{
	acknowledge(w, k);
	refuse(w, k, code, seq);
	w->later[w->later_n - 1].close = true;
	k->dead = true;
}

static void gone(struct writer *w, uint64_t id)
{
	struct answer a = { .link = id, .kind = ANSWER_GONE };

	links_remove(w->links, id);
	put_answers(w, &a, 1);
}

/* --- Taking requests --- */

/* The stream's name under the key in use; one known under the key before it moves. */
static int name_stream(struct writer *w, struct link *k)
{
	const struct writer_book *b = w->o.book;
	uint8_t old = b->old_generation(b->arg), old_id[16];
	int r;

	k->generation = 0;
	r = b->stream_id(b->arg, &k->who, &k->generation, k->stream_id);
	if (r < 0 || !old || streams_get(w->streams, k->stream_id))
		return r;
	if (b->stream_id(b->arg, &k->who, &old, old_id) < 0 || !streams_get(w->streams, old_id))
		return 0;
	return streams_move(w->streams, old_id, k->stream_id, k->generation, &w->effects);
}

/* Greets; false when frames of the same stream wait and must be committed first. */
static bool hello(struct writer *w, const struct request *r)
{
	struct nolog_frame f;
	struct link *k, *older;
	struct answer *a;

	k = links_add(w->links, r->link);
	if (!k) { /* out of memory: it comes again */
		put_answers(w, &(struct answer){ r->link, 1, ANSWER_CLOSE, true, { 0 } }, 1);
		return true;
	}
	nolog_frame_decode(&f, r->u.frame);
	memcpy(k->who.server, f.u.hello.server, sizeof(k->who.server));
	server_pack(&k->who.server_key, k->who.server);
	k->who.stream = f.u.hello.stream;
	k->done = 1;
	if (k->who.stream) {
		if (name_stream(w, k) < 0) {
			refuse_and_close(w, k, NOLOG_OVER_CAPACITY, 0);
			return true;
		}
		older = links_with_stream(w->links, k->stream_id, k);
		if (older && older->waiting) {
			links_remove(w->links, r->link);
			return false;
		}
		if (older) {
			a = later(w, older);
			a->kind = ANSWER_CLOSE;
			a->close = true;
			older->dead = true;
		}
		k->taken_to = streams_get(w->streams, k->stream_id);
	}
	f = (struct nolog_frame){ .type = NOLOG_WELCOME, .seq = k->taken_to };
	f.u.welcome.now_ms = clock_now(w->o.clock);
	nolog_frame_encode(later(w, k)->frame, &f);
	return true;
}

/* False: commit what waits first, then again. */
static bool take_one(struct writer *w, const struct request *r)
{
	struct link *k = links_get(w->links, r->link);

	switch ((enum request_kind)r->kind) {
	case REQUEST_FRAME:
		if (r->u.frame[0] == NOLOG_HELLO)
			return hello(w, r);
		if (!k || k->dead)
			return true;
		if (!w->pending_n)
			w->pending_since = running(w);
		/* What ends the connection does not wait for the tick. */
		if (!link_wait(k, nolog_get64(r->u.frame + 8)))
			w->force = true;
		w->pending[w->pending_n++] = *r;
		return true;
	case REQUEST_REFUSE:
		if (k && k->dead)
			return true;
		if (k && k->waiting)
			return false;
		if (!k)
			k = links_add(w->links, r->link);
		if (k)
			refuse_and_close(w, k, r->code, nolog_get64(r->u.frame + 8));
		return true;
	case REQUEST_CLOSED:
		if (k && k->waiting)
			k->closed = true;
		else
			gone(w, r->link);
		return true;
	case REQUEST_LOOKUP:
	case REQUEST_RULES:
		break;
	}
	return true;
}

static void take(struct writer *w)
{
	size_t ready = queue_ready(w->requests), i;

	for (i = 0; i < ready && w->pending_n < w->o.book->batch_events; i++)
		if (!take_one(w, queue_item(w->requests, i))) {
			w->force = true;
			break;
		}
	if (i)
		queue_pop(w->requests, i);
}

static void send_later(struct writer *w)
{
	put_answers(w, w->later, w->later_n);
	if (w->later_n)
		explicit_bzero(w->later, w->later_n * sizeof(*w->later));
	w->later_n = 0;
}

/* --- Deciding --- */

/* False: there is more of it. */
static bool decide_one(struct writer *w, const struct request *r, const struct sessions_time *t)
{
	const struct writer_book *b = w->o.book;
	struct link *k = links_get(w->links, r->link);
	struct nolog_frame f;
	enum nolog_refusal code;

	assert(k); /* it stays while frames of it wait */
	k->waiting--;
	k->done++;
	if (k->dead)
		return true;
	nolog_frame_decode(&f, r->u.frame);
	switch (link_sequence(k, f.seq)) {
	case LINK_REFUSE:
		refuse_and_close(w, k, NOLOG_BAD_SEQUENCE, f.seq);
		return true;
	case LINK_REPEAT:
		count(&w->repeats, 1);
		k->dirty = true;
		return true;
	case LINK_TAKE:
		break;
	}
	code = b->decide(b->arg, &k->who, t, &f, &w->effects);
	if (code == NOLOG_OK && b->more && b->more(b->arg)) {
		link_again(k);
		k->waiting++;
		k->done--;
		return false;
	}
	count(&w->frames, 1);
	k->dirty = k->moved = true;
	if (code != NOLOG_OK)
		refuse(w, k, code, f.seq);
	return true;
}

/* After the last frame of a batch: where its stream stands now, and its acknowledgement. */
static int settle(struct writer *w, struct link *k, const struct sessions_time *t)
{
	int r = 0;

	if (k->moved && k->who.stream) {
		r = streams_set(w->streams, k->stream_id, k->generation, k->taken_to,
				t->running_ms);
		if (r < 0)
			return r;
		streams_emit(w->streams, k->stream_id, &w->effects);
	}
	k->moved = false;
	acknowledge(w, k);
	if (k->closed && !k->waiting)
		gone(w, k->id);
	return 0;
}

static int commit(struct writer *w, struct fault *fault);

/* The answers of what was decided wait in w->later for the commit. */
static int settle_all(struct writer *w, size_t from, size_t to, const struct sessions_time *t,
		      struct fault *fault)
{
	for (size_t i = from; i < to; i++) {
		struct link *k = links_get(w->links, w->pending[i].link);

		if (k && (k->dirty || k->moved || k->closed) && settle(w, k, t) < 0)
			return fault_set(fault, -ENOMEM, "", 0, "streams");
	}
	return 0;
}

/* The first n frames that waited are over. */
static void drop_pending(struct writer *w, size_t n)
{
	w->pending_n -= n;
	memmove(w->pending, w->pending + n, w->pending_n * sizeof(*w->pending));
	explicit_bzero(w->pending + w->pending_n, n * sizeof(*w->pending));
}

/*
 * What waits, as far as there is room further down: the rest goes first when
 * there is again, and what was decided before it is committed.
 */
static int decide(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	size_t from = 0, to = 0, n = w->pending_n;
	bool room = true;
	int r = 0;

	while (to < n && r == 0 && room) {
		to += decide_one(w, &w->pending[to], t);
		w->ahead = true;
		room = w->o.book->room(w->o.book->arg);
		/*
		 * RESTARTs can yield more than a transaction should hold.  What is
		 * decided so far becomes one, together with its positions: a SESSION
		 * without its position would be taken twice after a crash.
		 */
		if (to < n && w->effects.n < COMMIT_EFFECTS_MAX && room)
			continue;
		r = settle_all(w, from, to, t, fault);
		if (r == 0 && to < n)
			r = commit(w, fault);
		from = to;
	}
	drop_pending(w, to);
	/* What is left was due. */
	w->force = w->pending_n > 0;
	return r;
}

/* --- Committing --- */

static size_t live(const struct writer *w)
{
	return w->o.book->live(w->o.book->arg) + streams_count(w->streams);
}

static void refresh_slice(struct writer *w, unsigned slice, const struct sessions_time *t)
{
	const struct writer_book *b = w->o.book;

	if (slice < b->slices)
		b->refresh(b->arg, t, slice, &w->effects);
	else
		streams_refresh(w->streams, slice - b->slices, &w->effects);
}

static uint64_t cut_of(const struct writer *w)
{
	/* F is the last batch that is not needed: what lies up to it may go. */
	return refresh_cut(w->refresh, w->o.book->flushed(w->o.book->arg) + 1);
}

static bool stall(struct writer *w, atomic_bool *flag, enum log_message message, bool on)
{
	if (atomic_exchange(flag, on) != on)
		log_say(on ? message : LOG_RESUMED, 0, 0, 0);
	(void)w;
	return on;
}

static void serve_queries(struct writer *w);

/* For the watchdog: it goes on, though it may wait. */
static void alive(struct writer *w)
{
	atomic_store_explicit(&w->heard_ms, clock_running_ms(w->o.clock), memory_order_relaxed);
}

/* Days that find no room stop it only when it must wait for them: asked where it does. */
static void show_no_room(struct writer *w, bool waits)
{
	const struct writer_book *b = w->o.book;
	bool none = b->no_space && b->no_space(b->arg);
	bool was_short = w->short_room, was_stalled = atomic_load(&w->stalled_room);

	w->short_room = none;
	atomic_store(&w->stalled_room, none && waits);
	if (none && waits && !was_stalled)
		log_say(LOG_STALLED_DAYS, 0, 0, 0);
	else if (none && !was_short)
		log_say(LOG_SHORT_DAYS, 0, 0, 0);
	else if (!none && was_short)
		log_say(LOG_RESUMED, 0, 0, 0);
}

/*
 * While something is waited for, look-ups and totals go on; except where the
 * ledger is ahead of the log: it would show, or hide, what nobody was told.
 */
static void serve_meanwhile(struct writer *w, int ms)
{
	struct pollfd p = { .fd = queue_fd(w->queries), .events = POLLIN };
	struct sessions_time t;
	bool more;

	set_stalled(w, true);
	moment(w, &t);
	alive(w);
	if (w->ahead) {
		(void)poll(NULL, 0, ms);
		return;
	}
	serve_queries(w);
	more = w->o.book->work(w->o.book->arg, &t);
	if (queue_may_sleep(w->queries) && !more)
		(void)poll(&p, 1, ms);
}

/* -ENOSPC: it is stalled. */
static int try_space(struct writer *w, size_t n, struct fault *fault)
{
	size_t least = n < JOURNAL_BATCH_MAX ? n : JOURNAL_BATCH_MAX;
	int r = w->spare ? journal_reserve_spare(w->o.journal, least, fault)
			 : journal_reserve(w->o.journal, least, fault);

	(void)stall(w, &w->stalled_space, LOG_STALLED_SPACE, r == -ENOSPC);
	return r;
}

/* Waits for space; -ECANCELED: asked to stop before there was any. */
static int reserve_space(struct writer *w, size_t n, struct fault *fault)
{
	for (;;) {
		int r = try_space(w, n, fault);

		if (r != -ENOSPC)
			return r;
		if (atomic_load(&w->stopping) || !w->started)
			return w->started ? -ECANCELED : -ENOSPC;
		serve_meanwhile(w, RETRY_MS);
	}
}

/*
 * What the batch in the making may come to.  Its space is asked for before
 * anything is decided: a full disk then finds the ledger as it was acknowledged.
 */
static size_t batch_effects(const struct writer *w)
{
	return w->effects.n + EVENT_EFFECTS * w->pending_n;
}

static const char *book_file(const struct writer *w)
{
	return w->o.book->book == KEYRING_SESSIONS ? "sessions.mdb" : "usage.mdb";
}

/* One transaction of the effects from first on. */
static int commit_some(struct writer *w, size_t first, size_t n, struct fault *fault)
{
	uint64_t before = journal_last(w->o.journal), batch;
	uint8_t(*at)[EFFECT_SIZE] = n ? w->effects.at + first : NULL;
	int r = journal_commit(w->o.journal, (const uint8_t(*)[EFFECT_SIZE])at, n, cut_of(w),
			       &batch);

	if (r < 0)
		return fault_set(fault, r, book_file(w), 0, "commit failed");
	if (batch != before) { /* also an empty one, or F would stay behind it */
		struct effects part = { .at = at, .n = n, .room = n };

		count(&w->batches, 1);
		count(&w->effects_total, n);
		w->o.book->committed(w->o.book->arg, batch, &part);
	}
	return 0;
}

/*
 * Everything in w->effects, durable when it returns 0: in one transaction,
 * unless a single RESTART ended more than a journal's batch can hold.  Then
 * its stream's position stands in the last, and a crash in between makes the
 * reporter repeat it, which is harmless.
 */
static int commit(struct writer *w, struct fault *fault)
{
	int64_t began = monotonic_us();
	size_t done = 0, n;
	int r;

	do {
		n = w->effects.n - done;
		if (n > JOURNAL_BATCH_MAX)
			n = JOURNAL_BATCH_MAX;
		r = reserve_space(w, n, fault); /* cutting needs some as well */
		if (r == 0)
			r = commit_some(w, done, n, fault);
		if (r < 0)
			return r;
		done += n;
	} while (done < w->effects.n);
	if (w->effects.n)
		count(&w->commit_us, (uint64_t)(monotonic_us() - began));
	effects_clear(&w->effects);
	w->ahead = false;
	return 0;
}

/* Logs n slices again with what the batch has anyway, and commits. */
static int commit_slices(struct writer *w, unsigned n, const struct sessions_time *t,
			 struct fault *fault)
{
	unsigned total = w->o.book->slices + STREAMS_SLICES, first = refresh_next(w->refresh);
	/*
	 * The batch they are in, or one before it when a huge batch becomes
	 * several; for slices that are empty, the first that is not needed.
	 */
	uint64_t batch = journal_last(w->o.journal) + 1;
	int r;

	for (unsigned i = 0; i < n; i++)
		refresh_slice(w, (first + i) % total, t);
	r = commit(w, fault);
	for (unsigned i = 0; i < n && r == 0; i++)
		refresh_logged(w->refresh, (first + i) % total, batch, t->running_ms);
	return r;
}

static int commit_batch(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	unsigned total = w->o.book->slices + STREAMS_SLICES;
	unsigned n = refresh_due(w->refresh, t->running_ms, w->effects.n, live(w),
				 journal_effects(w->o.journal));

	w->committed_ms = t->running_ms;
	return commit_slices(w, n < total ? n : total, t, fault);
}

/* One pass over everything, a thousandth of it at a time. */
static int relog_pass(struct writer *w, struct fault *fault)
{
	unsigned total = w->o.book->slices + STREAMS_SLICES, step;
	struct sessions_time t;
	size_t effects = RELOG_EFFECTS;
	int r = 0;

	if (journal_reserve(w->o.journal, effects, NULL) < 0)
		effects = JOURNAL_SPARE_EFFECTS;
	moment(w, &t);
	step = (unsigned)(effects * total / (live(w) + 1)) + 1;
	for (unsigned done = 0; done < total && r == 0; done += step) {
		if (step > total - done)
			step = total - done;
		r = commit_slices(w, step, &t, fault);
		t.running_ms = running(w);
		alive(w);
	}
	return r;
}

/*
 * The rest is what days has not written yet, and the bounded pace of cutting.
 * Before the start nobody waits long for a disk that is full.
 */
static int cut_old_key(struct writer *w, struct fault *fault)
{
	const struct writer_book *b = w->o.book;
	unsigned patience = RELOG_START_POLLS;

	b->flush(b->arg);
	while (journal_old_key(w->o.journal)) {
		uint64_t before = journal_first(w->o.journal);
		int r = commit(w, fault);

		if (r < 0)
			return r;
		if (journal_first(w->o.journal) != before)
			continue;
		if (atomic_load(&w->stopping))
			return -ECANCELED;
		show_no_room(w, true);
		if (b->no_space && b->no_space(b->arg)) {
			/* The journal's own reserve is worth nothing while it must not grow. */
			r = journal_release(w->o.journal);
			if (r < 0)
				return fault_set(fault, r, book_file(w), 0, "cannot be shortened");
		}
		if (!w->started && patience-- == 0)
			return fault_set(fault, -ENOSPC, book_file(w), 0,
					 "no room for what is to leave it");
		serve_meanwhile(w, RELOG_POLL_MS);
	}
	return 0;
}

int writer_relog(struct writer *w, struct fault *fault)
{
	int r;

	w->spare = true;
	r = relog_pass(w, fault);
	if (r == 0)
		r = cut_old_key(w, fault);
	w->spare = false;
	return r;
}

int writer_commit_waiting(struct writer *w, const struct sessions_time *t, bool wait,
			  struct fault *fault)
{
	size_t n = batch_effects(w);
	int r = wait ? reserve_space(w, n, fault) : try_space(w, n, fault);

	if (r == 0)
		r = decide(w, t, fault);
	/* Nothing is refreshed with it: that could need more room than there is. */
	if (r == 0)
		r = commit(w, fault);
	if (r == 0)
		send_later(w);
	return r;
}

int writer_rename_streams(struct writer *w)
{
	for (struct link *k = links_next(w->links, NULL); k; k = links_next(w->links, k)) {
		int r = k->who.stream && !k->dead ? name_stream(w, k) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- Keys --- */

/* Every block under a key that is too old for the horizon is logged again under a new one. */
static int replace_late_key(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	int r = 0;

	if (w->started) /* at a start it is the downtime that was long */
		log_say(LOG_KEY_LATE, (t->now_ms - journal_oldest_key_ms(w->o.journal)) / 60000, 0,
			0);
	if (journal_old_key(w->o.journal))
		r = writer_relog(w, fault);
	if (r == 0)
		r = journal_renew(w->o.journal, t->now_ms);
	if (r == 0)
		r = writer_relog(w, fault);
	/* By the key's age alone it would be late for ever when the newest day is not today's. */
	if (r == 0)
		w->cut_day = day_at(w, t->now_ms);
	return r;
}

/* Could a block under a key of that age know a day that is forgotten today? */
static bool knows_forgotten(const struct writer *w, int64_t made_ms, int32_t today)
{
	int32_t day = calendar_day(made_ms), then = calendar_day(made_ms + CALENDAR_AHEAD_MS);

	/* With one day kept, nothing of the day before may be known. */
	return w->o.retention_days == 1 ? day < today : then < today;
}

static int keep_keys(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	struct keyring_journal info;
	int64_t oldest = journal_oldest_key_ms(w->o.journal), age = t->now_ms - oldest;
	int32_t today = day_at(w, t->now_ms);
	bool narrowed = w->o.narrowed && w->cut_day == INT32_MIN;
	bool late = w->o.book->book == KEYRING_SESSIONS && w->cut_day < today &&
		    (narrowed || knows_forgotten(w, oldest, today));
	int r = 0;

	/*
	 * A process that never lives as long as a pass would keep a key for as
	 * long as it is restarted: what is this old at a start goes at once.
	 */
	if (!w->started && age > w->o.book->key_ms + w->o.book->pass_ms)
		late = true;

	atomic_store(&w->key_age_ms, age > 0 ? age : 0);
	atomic_store(&w->key_late, late || age > 2 * w->o.book->key_ms + w->o.book->pass_ms);
	if (late)
		return replace_late_key(w, t, fault);
	keyring_journal_info(w->o.keyring, w->o.book->book, &info);
	age = t->now_ms - info.created_ms;
	if (!journal_old_key(w->o.journal) && (age >= w->o.book->key_ms || age < 0)) {
		r = journal_renew(w->o.journal, t->now_ms);
		if (r < 0)
			return fault_set(fault, r, "keyring", 0, "a journal key cannot be renewed");
		count(&w->renewals, 1);
	}
	return r;
}

/* --- Silence and age --- */

/* How many of total things a pass of pass_ms is behind since since; moves since on. */
static unsigned behind(int64_t *since, int64_t now, int64_t pass_ms, unsigned total)
{
	int64_t n = (now - *since) * total / pass_ms;

	if (n <= 0)
		return 0;
	if (n >= total) {
		*since = now;
		return total;
	}
	*since += n * pass_ms / total; /* the fraction of one is still to come */
	return (unsigned)n;
}

static void expire(struct writer *w, const struct sessions_time *t)
{
	const struct writer_book *b = w->o.book;
	int64_t pass = b->expire_ms(b->arg);
	unsigned n = 0;

	if (pass)
		n = behind(&w->expire_since, t->running_ms, pass, b->slices);
	else
		w->expire_since = t->running_ms; /* it may be asked for at any time */
	for (; n && b->room(b->arg); n--) {
		b->expire(b->arg, t, w->expire_next, &w->effects);
		w->expire_next = (w->expire_next + 1) % b->slices;
	}
	w->expire_since -= n * pass / b->slices; /* those are still to come */
	n = behind(&w->expire_streams_since, t->running_ms, STREAMS_PASS_MS, STREAMS_SLICES);
	while (n--) {
		streams_expire(w->streams, w->expire_streams_next, t->running_ms, &w->effects);
		w->expire_streams_next = (w->expire_streams_next + 1) % STREAMS_SLICES;
	}
	w->ahead = w->ahead || w->effects.n;
}

/* --- The thread --- */

static void serve_queries(struct writer *w)
{
	struct sessions_time t;
	size_t n = queue_ready(w->queries);

	if (!n)
		return;
	moment(w, &t);
	for (size_t i = 0; i < n; i++)
		w->o.book->query(w->o.book->arg, queue_item(w->queries, i), &t);
	queue_pop(w->queries, n);
	queue_ring(w->answers);
}

/* Whether what waits is to be decided now. */
static bool batch_due(struct writer *w, int64_t running_ms)
{
	int64_t tick = atomic_load(&w->tick_ms);

	return w->pending_n && (w->force || tick == 0 || w->pending_n == w->o.book->batch_events ||
				running_ms - w->pending_since >= tick || atomic_load(&w->stopping));
}

static int decide_and_commit(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	bool due = batch_due(w, t->running_ms);
	int r = 0;

	/* A batch's positions stand in one transaction with its events. */
	if (due && w->effects.n >= COMMIT_EFFECTS_MAX / 2)
		r = commit(w, fault);
	if (r == 0 && due)
		r = decide(w, t, fault);
	/* After what waited has been heard: it may be a sign of life. */
	if (r == 0)
		expire(w, t);
	/* Refreshing, silence and age do not wait for the tick, nor the tick for them. */
	if (r == 0 && (due || w->effects.n || t->running_ms - w->committed_ms >= IDLE_MS))
		r = commit_batch(w, t, fault);
	return r;
}

static int round_of_work(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	int r;

	take(w);
	r = try_space(w, batch_effects(w), fault);
	if (r == -ENOSPC) {
		send_later(w); /* greetings, which promise nothing new */
		return 0;
	}
	if (r == 0)
		r = decide_and_commit(w, t, fault);
	if (r == 0)
		send_later(w);
	return r;
}

/* What has to end by the clock, whether or not there is room for anything new. */
static int end_what_is_over(struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	int r = w->o.book->upkeep(w->o.book->arg, w, t, fault);

	return r == 0 ? keep_keys(w, t, fault) : r;
}

static void show(struct writer *w)
{
	gauge(&w->journal_bytes, journal_bytes(w->o.journal));
	gauge(&w->journal_effects, journal_effects(w->o.journal));
	gauge(&w->stream_count, streams_count(w->streams));
	gauge(&w->passes, refresh_passes(w->refresh));
	alive(w);
}

/* Sleeps until there is something to do. */
static void sleep_a_while(struct writer *w, bool idle, bool stalled, int64_t running_ms)
{
	struct pollfd p[2] = {
		{ .fd = queue_fd(w->requests), .events = POLLIN },
		{ .fd = queue_fd(w->queries), .events = POLLIN },
	};
	bool empty = queue_may_sleep(w->requests), none = queue_may_sleep(w->queries);
	int64_t wait = stalled ? RETRY_MS : IDLE_MS, tick = atomic_load(&w->tick_ms);

	if (!idle || !none || (!empty && !stalled))
		return;
	/* Its bell may have been read just now, together with the others. */
	if (atomic_exchange(&w->woken, false))
		return;
	if (w->pending_n && !stalled && w->pending_since + tick - running_ms < wait)
		wait = w->pending_since + tick - running_ms;
	if (wait > 0)
		(void)poll(p, 2, (int)wait);
}

/* A greeting or a farewell that gets no answer loses nothing. */
static bool events_wait(struct writer *w)
{
	size_t n = queue_ready(w->requests);

	for (size_t i = 0; i < n; i++) {
		const struct request *r = queue_item(w->requests, i);

		if (r->kind == REQUEST_FRAME && r->u.frame[0] != NOLOG_HELLO)
			return true;
	}
	return w->pending_n > 0;
}

/* Stalled while it is to end: it may be that days is about to make room, or that there is no hope. */
static bool has_patience(struct writer *w)
{
	bool hopeless = atomic_load(&w->stalled_space) || atomic_load(&w->stalled_room);

	w->stop_patience -= hopeless ? STOP_HOPELESS : 1;
	return !clock_held(w->o.clock) && w->stop_patience > 0;
}

static bool finished(struct writer *w, bool idle, bool stalled)
{
	if (!atomic_load(&w->stopping) || !idle || queue_ready(w->queries))
		return false;
	if (stalled) {
		if (!events_wait(w))
			return true;
		if (has_patience(w))
			return false;
		atomic_store(&w->dropped, true);
		return true;
	}
	return !w->pending_n && !queue_ready(w->requests) && !w->effects.n;
}

/* One round; false: it is over, with *r. */
static bool go_round(struct writer *w, struct fault *fault, int *r)
{
	const struct writer_book *b = w->o.book;
	bool held = clock_held(w->o.clock), idle, stalled, room;
	struct sessions_time t;

	serve_queries(w);
	moment(w, &t);
	idle = !b->work(b->arg, &t);
	/* Asked before the moment and after it: nothing is judged by a clock that leaps. */
	held = held || clock_held(w->o.clock);
	*r = held ? 0 : end_what_is_over(w, &t, fault);
	if (*r < 0)
		return false;
	room = b->room(b->arg) > 0;
	show_no_room(w, !room);
	moment(w, &t); /* that may have taken its time */
	held = held || clock_held(w->o.clock);
	*r = held || !room ? 0 : round_of_work(w, &t, fault);
	if (*r < 0)
		return false;
	stalled = held || !room || atomic_load(&w->stalled_space);
	set_stalled(w, stalled && !held); /* the clock's running time leaves out holds itself */
	if (!stalled)
		w->stop_patience = STOP_PATIENCE;
	show(w);
	if (finished(w, idle, stalled))
		return false;
	sleep_a_while(w, idle, stalled, t.running_ms);
	return true;
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct fault fault = { 0 };
	int r = 0;

	while (go_round(w, &fault, &r))
		;
	if (r < 0 && r != -ECANCELED) {
		if (fault.error != r)
			(void)fault_set(&fault, r, book_file(w), 0, "its writer cannot go on");
		w->o.events.failed(&fault, w->o.events.arg);
	}
	if (r < 0 && (r != -ECANCELED || events_wait(w)))
		atomic_store(&w->dropped, true);
	atomic_store(&w->stopped, true);
	queue_wake(w->answers);
	return NULL;
}

/* --- Start and end --- */

struct replaying {
	struct writer *w;
	int64_t running_ms;
};

static int replay_block(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct replaying *p = arg;
	const struct writer_book *b = p->w->o.book;
	struct effect e;
	int r = 0;

	(void)batch;
	for (size_t i = 0; i < n && r == 0; i++) {
		r = effect_decode(&e, effects[i]);
		if (r < 0)
			return r;
		if (e.type == EFFECT_STREAM)
			r = streams_apply(p->w->streams, &e, p->running_ms);
		else
			r = b->apply(b->arg, &e, p->running_ms);
	}
	if (r == 0 && b->replayed)
		r = b->replayed(b->arg, batch, effects, n);
	return r;
}

int writer_replay(struct writer *w, struct fault *fault)
{
	struct replaying p = { .w = w, .running_ms = clock_running_ms(w->o.clock) };
	uint64_t first;
	int r = journal_replay(w->o.journal, replay_block, &p, fault);

	if (r < 0)
		return r;
	/* The newest may be empty, and then nobody was told of it. */
	if (w->o.book->replayed && journal_last(w->o.journal))
		r = w->o.book->replayed(w->o.book->arg, journal_last(w->o.journal), NULL, 0);
	if (r < 0)
		return r;
	first = journal_first(w->o.journal);
	w->expire_since = w->expire_streams_since = w->committed_ms = p.running_ms;
	return refresh_new(&w->refresh, w->o.book->slices + STREAMS_SLICES, w->o.book->pass_ms,
			   first ? first : journal_last(w->o.journal) + 1);
}

int writer_catch_up(struct writer *w, struct fault *fault)
{
	struct sessions_time t;
	int r;

	if (clock_held(w->o.clock))
		return 0;
	moment(w, &t);
	r = w->o.book->upkeep(w->o.book->arg, w, &t, fault);
	if (r == 0)
		r = keep_keys(w, &t, fault);
	/* On a full disk it starts and is stalled: what had to be done is done when there is room. */
	if (r == -ENOSPC)
		r = 0;
	if (r == 0)
		show(w);
	return r;
}

int writer_start(struct writer *w)
{
	int r;

	w->started = true;
	w->stop_patience = STOP_PATIENCE;
	r = pthread_create(&w->thread, NULL, writer_main, w);
	if (r)
		w->started = false;
	return -r;
}

void writer_stop(struct writer *w)
{
	atomic_store(&w->stopping, true);
	writer_wake(w);
}

bool writer_stopped(const struct writer *w)
{
	return atomic_load(&w->stopped);
}

bool writer_dropped(const struct writer *w)
{
	return atomic_load(&w->dropped);
}

void writer_join(struct writer *w)
{
	if (w->started)
		(void)pthread_join(w->thread, NULL);
	w->started = false;
}
