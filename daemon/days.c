/* SPDX-License-Identifier: ISC */
/*
 * days: the thread of the finished sessions, its queue, and the look-ups.
 *
 * What to write, merge and forget is daykeep.c's to say, where a row is found
 * dayask.c's.  Here is the order of things: the queue comes first, then what
 * is due to be written, then one slice of one look-up that takes longer.
 */
#include "days.h"

#include "calendar.h"
#include "dayask.h"
#include "dayfinish.h"
#include "daykeep.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Waiting rows, in terms of a flush, from which on the writer is to wait. */
#define ROOM_FLUSHES 4
/* Blocks read for a look-up before the queue is looked at again. */
#define SLICE 256
/* Look-ups that go on in turns; more begin when one of them is done. */
#define TURNS 4
/* Rows of an answer that are made records of at once. */
#define FINISH_ROWS 4096

enum message_kind { MESSAGE_ROWS, MESSAGE_ASK, MESSAGE_ADVANCE };

struct message {
	struct message *next;
	enum message_kind kind;
	int32_t today;	       /* ADVANCE */
	struct lookup *lookup; /* ASK */
	uint64_t batch;	       /* ROWS: effects of it */
	size_t n, rows;	       /* effects, and what they may come to */
	uint8_t effects[][EFFECT_SIZE];
};

/* A look-up that takes longer. */
struct turn {
	struct turn *next;
	struct lookup *lookup;
	struct dayask *ask;
};

struct days {
	struct daykeep keep; /* the thread's, once it runs */
	struct days_events events;
	size_t room_rows;
	int bell;

	pthread_mutex_t lock; /* of the queue and of stats */
	struct message *first, **last;
	uint64_t handed; /* the last batch that was put */
	struct days_stats stats;

	atomic_size_t waiting; /* rows in the queue (as days_rows() counts) and in memory */
	atomic_uint_fast64_t flushed;
	atomic_int forgotten;
	atomic_bool flush_soon, stop, no_space;
	atomic_int broken; /* it has failed: nothing is written any more */

	pthread_t thread;
	struct dayfinish *finish;
	bool started;
	uint64_t soon; /* rows of batches up to it are to be written without waiting for more */
	bool stopping; /* look-ups get nothing any more */
	struct fault fault;
	struct turn *turns, **turns_last;
};

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void ring(void *arg)
{
	const struct days *d = arg;
	const uint64_t one = 1;

	/* The counter cannot run over: it is read before each wait. */
	if (write(d->bell, &one, sizeof(one)) < 0)
		return;
}

/* F never goes back, nor on when rows may be missing; true when it moved. */
static bool raise_flushed(struct days *d, uint64_t batch)
{
	uint_fast64_t seen = atomic_load(&d->flushed);

	while (seen < batch && !atomic_load(&d->broken))
		if (atomic_compare_exchange_weak(&d->flushed, &seen, batch))
			return true;
	return false;
}

/* --- Opening --- */

int days_open(struct days **out, const struct days_options *options, struct fault *fault)
{
	struct days *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return fault_set(fault, -ENOMEM, "days", 0, "no memory");
	d->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->bell < 0) {
		r = fault_set(fault, -errno, "days", 0, "no eventfd");
		free(d);
		return r;
	}
	pthread_mutex_init(&d->lock, NULL);
	d->last = &d->first;
	d->turns_last = &d->turns;
	d->events = options->events;
	r = daykeep_open(&d->keep, options, now_ms(), fault);
	if (r < 0) {
		(void)close(d->bell); /* an eventfd holds nothing */
		pthread_mutex_destroy(&d->lock);
		free(d);
		return r;
	}
	d->room_rows = ROOM_FLUSHES * d->keep.options.flush_rows;
	atomic_store(&d->forgotten, d->keep.forgotten);
	daykeep_stats(&d->keep, &d->stats);
	*out = d;
	return 0;
}

int days_replay(struct days *d, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = daykeep_add(&d->keep, batch, effects[i], now_ms());

		if (r < 0)
			return r;
	}
	if (batch > d->handed)
		d->handed = d->keep.handed = batch;
	atomic_store(&d->waiting, d->keep.waiting);
	/* A batch may come in several pieces: so it may go back by one. */
	atomic_store(&d->flushed, daykeep_flushed(&d->keep));
	return 0;
}

int days_check_last(const struct days *d, uint64_t last, struct fault *fault)
{
	const struct dayset *set = &d->keep.set;

	for (size_t i = 0; i < set->n; i++)
		if (set->at[i]->exists && set->at[i]->through > last)
			return fault_set(fault, -EBADMSG, "sessions.mdb", 0,
					 "is older than the days' files: put back the one that "
					 "goes with them");
	return 0;
}

/* --- The queue, from other threads --- */

static struct message *message_new(enum message_kind kind, size_t effects)
{
	struct message *m = malloc(sizeof(*m) + effects * EFFECT_SIZE);

	if (m)
		*m = (struct message){ .kind = kind };
	return m;
}

/* What was in it are addresses. */
static void message_free(struct message *m)
{
	if (m->n)
		seal_wipe(m->effects, m->n * EFFECT_SIZE);
	free(m);
}

static void send_message(struct days *d, struct message *m)
{
	bool was_empty;

	pthread_mutex_lock(&d->lock);
	was_empty = !d->first;
	*d->last = m;
	d->last = &m->next;
	if (m->kind == MESSAGE_ROWS)
		d->handed = m->batch;
	pthread_mutex_unlock(&d->lock);
	if (was_empty)
		ring(d);
}

/* As daykeep cuts it; a session that ends at 24:00 counts for the day after too. */
static size_t rows_of(const uint8_t effect[EFFECT_SIZE])
{
	int64_t start_ms, end_ms;
	int32_t days;

	if (!effect_times(effect, &start_ms, &end_ms))
		return 0;
	days = calendar_day(end_ms) - calendar_day(start_ms);
	return days < 0 ? 1
			: 1 + (size_t)(days < CALENDAR_RETENTION_MAX ? days
								     : CALENDAR_RETENTION_MAX);
}

size_t days_rows(const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	size_t rows = 0;

	for (size_t i = 0; i < n; i++)
		rows += rows_of(effects[i]);
	return rows;
}

/* A batch without rows is not worth waking anybody. */
static void put_nothing(struct days *d, uint64_t batch)
{
	pthread_mutex_lock(&d->lock);
	d->handed = batch;
	if (atomic_load(&d->waiting) == 0)
		(void)raise_flushed(d, batch); /* the caller sees it */
	pthread_mutex_unlock(&d->lock);
}

int days_put(struct days *d, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	struct message *m;
	size_t sessions = 0, rows = 0;

	for (size_t i = 0; i < n; i++) {
		size_t of_it = rows_of(effects[i]);

		sessions += of_it > 0;
		rows += of_it;
	}
	if (rows == 0) {
		put_nothing(d, batch);
		return 0;
	}
	m = message_new(MESSAGE_ROWS, sessions);
	if (!m)
		return -ENOMEM;
	m->batch = batch;
	m->rows = rows;
	for (size_t i = 0; i < n; i++)
		if (rows_of(effects[i]))
			memcpy(m->effects[m->n++], effects[i], EFFECT_SIZE);
	atomic_fetch_add(&d->waiting, rows);
	send_message(d, m);
	return 0;
}

size_t days_room(const struct days *d)
{
	size_t waiting = atomic_load(&d->waiting);

	return waiting < d->room_rows && !atomic_load(&d->broken) ? d->room_rows - waiting : 0;
}

bool days_no_space(const struct days *d)
{
	return atomic_load(&d->no_space);
}

uint64_t days_flushed(const struct days *d)
{
	return atomic_load(&d->flushed);
}

int32_t days_forgotten(const struct days *d)
{
	return (int32_t)atomic_load(&d->forgotten);
}

/* On whichever thread. */
static void finish(struct lookup *l, void *arg)
{
	struct days *d = arg;
	int64_t first_ms = calendar_day_start(keyring_first_day(d->keep.options.keyring));

	/* Sorting millions of rows would hold up the end. */
	if (atomic_load(&d->stop) && l->n > FINISH_ROWS) {
		if (l->code == NOLOG_DONE_COMPLETE)
			l->code = NOLOG_DONE_STOPPING;
		l->n = 0;
	}
	/* Whoever asks after midnight gets nothing from before the horizon, forgotten yet or not. */
	lookup_finish(l, first_ms < l->horizon_ms ? l->horizon_ms : first_ms);
	if (d->events.answered)
		d->events.answered(l, d->events.arg);
	else
		lookup_free(l);
}

static void answer(struct days *d, struct lookup *l, unsigned code)
{
	if (l->code == NOLOG_DONE_COMPLETE)
		l->code = code;
	if (d->finish && (l->n > FINISH_ROWS || l->ended_n > FINISH_ROWS))
		dayfinish_give(d->finish, l);
	else
		finish(l, d);
}

void days_ask(struct days *d, struct lookup *l)
{
	struct message *m = message_new(MESSAGE_ASK, 0);

	if (!m) {
		/* Without memory for a message the asker gets an empty answer at once. */
		l->n = 0;
		l->code = NOLOG_DONE_UNREADABLE;
		if (d->events.answered)
			d->events.answered(l, d->events.arg);
		return;
	}
	m->lookup = l;
	send_message(d, m);
}

void days_flush_soon(struct days *d)
{
	atomic_store(&d->flush_soon, true);
	ring(d);
}

void days_advance(struct days *d, int32_t today)
{
	struct message *m = message_new(MESSAGE_ADVANCE, 0);

	if (!m)
		return; /* days_forgotten() stays behind; the caller asks again */
	m->today = today;
	send_message(d, m);
}

void days_stats(struct days *d, struct days_stats *out)
{
	pthread_mutex_lock(&d->lock);
	*out = d->stats;
	pthread_mutex_unlock(&d->lock);
	out->waiting_rows = atomic_load(&d->waiting);
}

/* --- The thread --- */

/* The end.  -EBADMSG is what goes on: whoever is told must not mistake this for it. */
static void failed(struct days *d, int error, const struct fault *fault)
{
	if (d->broken)
		return;
	error = error == -EBADMSG ? -EIO : error;
	d->broken = error;
	d->fault = *fault;
	if (d->fault.error == 0)
		d->fault = (struct fault){ .what = "failed", .file = "days" };
	d->fault.error = error;
	if (d->events.failed)
		d->events.failed(&d->fault, d->events.arg);
}

static void no_memory(struct days *d)
{
	failed(d, -ENOMEM,
	       &(struct fault){ .error = -ENOMEM, .what = "no memory", .file = "days" });
}

static void publish(struct days *d)
{
	struct days_stats stats;

	daykeep_stats(&d->keep, &stats);
	pthread_mutex_lock(&d->lock);
	d->stats = stats;
	pthread_mutex_unlock(&d->lock);
	atomic_store(&d->no_space, daykeep_no_space(&d->keep));
}

/* F or the room for rows has moved. */
static void progressed(struct days *d)
{
	publish(d);
	if (d->events.progressed)
		d->events.progressed(d->events.arg);
}

static void take_rows(struct days *d, const struct message *m)
{
	size_t before = d->keep.waiting, n;

	for (size_t i = 0; i < m->n && !d->broken; i++) {
		int r = daykeep_add(&d->keep, m->batch, m->effects[i], now_ms());

		if (r == -ENOMEM)
			no_memory(d);
		else if (r < 0)
			failed(d, r,
			       &(struct fault){ .error = r,
						.what = "what was handed on is no row",
						.file = "days" });
	}
	if (d->broken)
		return; /* they wait for ever */
	/* Not all that were counted on are kept. */
	n = d->keep.waiting - before;
	assert(n <= m->rows);
	atomic_fetch_sub(&d->waiting, m->rows - n);
	d->keep.handed = m->batch;
}

static void note_unreadable(struct days *d, struct dayask *ask)
{
	struct fault fault;
	uint64_t n = dayask_unreadable(ask, &fault);

	if (n)
		daykeep_report(&d->keep, &fault, n);
}

/* A slice of a look-up; true when it is over. */
static bool go_on(struct days *d, struct lookup *l, struct dayask *ask)
{
	bool more = dayask_step(ask, &d->keep.set, SLICE);

	note_unreadable(d, ask);
	if (more)
		return false;
	dayask_free(ask);
	answer(d, l, NOLOG_DONE_COMPLETE);
	return true;
}

static void begin(struct days *d, struct lookup *l)
{
	struct dayask *ask;
	struct turn *t;

	if (dayask_new(&ask, l, &d->keep.set, d->keep.first) < 0) {
		answer(d, l, NOLOG_DONE_UNREADABLE);
		return;
	}
	if (lookup_exact(l) && go_on(d, l, ask))
		return;
	t = malloc(sizeof(*t));
	if (!t) {
		dayask_free(ask);
		answer(d, l, NOLOG_DONE_UNREADABLE);
		return;
	}
	*t = (struct turn){ .lookup = l, .ask = ask };
	*d->turns_last = t;
	d->turns_last = &t->next;
}

/* Of the first few the front one; it goes behind them unless it is over. */
static void take_turn(struct days *d)
{
	struct turn *t = d->turns, **at;

	d->turns = t->next;
	if (!d->turns)
		d->turns_last = &d->turns;
	if (go_on(d, t->lookup, t->ask)) {
		free(t);
		return;
	}
	at = &d->turns;
	for (unsigned i = 1; i < TURNS && *at; i++)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	if (!t->next)
		d->turns_last = &t->next;
}

static void stop_turns(struct days *d)
{
	while (d->turns) {
		struct turn *t = d->turns;

		d->turns = t->next;
		dayask_free(t->ask);
		answer(d, t->lookup, NOLOG_DONE_STOPPING);
		free(t);
	}
	d->turns_last = &d->turns;
}

static void advance(struct days *d, int32_t today)
{
	struct fault fault = { 0 };
	size_t before = d->keep.waiting;
	int r;

	if (d->broken)
		return;
	r = daykeep_forget(&d->keep, today, now_ms(), &fault);
	atomic_fetch_sub(&d->waiting, before - d->keep.waiting);
	if (r < 0) {
		failed(d, r, &fault);
		return;
	}
	atomic_store(&d->forgotten, d->keep.forgotten);
	(void)raise_flushed(d, daykeep_flushed(&d->keep));
	progressed(d);
}

static void take_message(struct days *d, struct message *m)
{
	switch (m->kind) {
	case MESSAGE_ROWS:
		take_rows(d, m);
		break;
	case MESSAGE_ASK:
		if (d->stopping)
			answer(d, m->lookup, NOLOG_DONE_STOPPING);
		else
			begin(d, m->lookup);
		break;
	case MESSAGE_ADVANCE:
		advance(d, m->today);
		break;
	}
}

/* All that is in the queue; handed is read with it: nothing of those batches is left there. */
static void drain(struct days *d)
{
	struct message *m, *next;
	uint64_t handed;
	/* Asked for before the queue is read: what was put before that is in it. */
	bool soon = atomic_exchange(&d->flush_soon, false);

	pthread_mutex_lock(&d->lock);
	m = d->first;
	d->first = NULL;
	d->last = &d->first;
	handed = d->handed;
	pthread_mutex_unlock(&d->lock);
	for (; m; m = next) {
		next = m->next;
		take_message(d, m);
		message_free(m);
	}
	d->keep.handed = handed;
	if (soon)
		d->soon = handed;
}

static void flush(struct days *d)
{
	struct fault fault = { 0 };
	size_t before = d->keep.waiting;
	bool wrote;
	int r;

	d->keep.urgent = daykeep_flushed(&d->keep) < d->soon;
	r = daykeep_flush(&d->keep, now_ms(), &wrote, &fault);

	atomic_fetch_sub(&d->waiting, before - d->keep.waiting);
	if (r < 0) {
		failed(d, r, &fault);
		return;
	}
	if (raise_flushed(d, daykeep_flushed(&d->keep)) || wrote)
		progressed(d);
}

static void work(struct days *d)
{
	struct fault fault = { 0 };
	int64_t now = now_ms();
	int r;

	if (d->broken)
		return;
	r = daykeep_settle(&d->keep, now, d->turns, &fault);
	if (r == 0 && daykeep_due_ms(&d->keep, d->soon) <= now)
		flush(d);
	else if (r == 0 && raise_flushed(d, daykeep_flushed(&d->keep)))
		progressed(d); /* rows that are not kept, or none */
	if (r == 0 && !d->broken)
		r = daykeep_plan(&d->keep, now, &fault);
	if (r < 0)
		failed(d, r, &fault);
}

static int timeout_ms(struct days *d)
{
	int64_t now = now_ms(), next = daykeep_due_ms(&d->keep, d->soon), plan;

	if (d->turns)
		return 0;
	if (d->broken)
		return -1;
	plan = daykeep_plan_ms(&d->keep, now);
	if (plan < next)
		next = plan;
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

static void *days_main(void *arg)
{
	struct days *d = arg;

	while (!atomic_load(&d->stop)) {
		struct pollfd p = { .fd = d->bell, .events = POLLIN };
		uint64_t count;

		(void)poll(&p, 1, timeout_ms(d)); /* interrupted: looks, and sleeps again */
		if (p.revents & POLLIN && read(d->bell, &count, sizeof(count)) < 0)
			continue;
		drain(d);
		work(d);
		if (d->turns)
			take_turn(d);
		publish(d);
	}
	return NULL;
}

int days_each_server(const struct days *d, days_server_fn *fn, void *arg)
{
	const struct dayset *set = &d->keep.set;
	int r = 0;

	for (size_t i = 0; i < set->n && r == 0; i++)
		for (uint32_t k = 0; k < set->at[i]->servers.n && r == 0; k++)
			r = fn(set->at[i]->number, &set->at[i]->servers.keys[k], arg);
	return r;
}

int days_start(struct days *d)
{
	struct dayfile_home home = d->keep.set.home;
	sigset_t all, old;
	int r;

	r = daykeep_start(&d->keep, NULL);
	if (r < 0)
		return r;
	/* Signals are the main thread's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	r = dayfinish_start(&d->finish, finish, d);
	if (r == 0)
		r = merger_start(&d->keep.merger, &home, ring, d);
	if (r == 0) {
		r = -pthread_create(&d->thread, NULL, days_main, d);
		if (r < 0) {
			(void)merger_stop(d->keep.merger); /* it had nothing */
			d->keep.merger = NULL;
		}
	}
	if (r < 0) {
		dayfinish_stop(d->finish);
		d->finish = NULL;
	}
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	d->started = r == 0;
	return r;
}

int days_stop(struct days *d, struct fault *fault)
{
	int r;

	if (d->started) {
		atomic_store(&d->stop, true);
		ring(d);
		(void)pthread_join(d->thread, NULL); /* ours, joined once */
		daykeep_give_up(&d->keep, merger_stop(d->keep.merger));
		d->started = false;
	}
	d->stopping = true;
	stop_turns(d);
	drain(d); /* what came while it stopped */
	dayfinish_stop(d->finish);
	d->finish = NULL;
	d->soon = d->keep.handed; /* nothing waits any more */
	if (!d->broken)
		flush(d);
	r = d->broken ? d->broken : d->keep.waiting ? -ENOSPC : 0;
	if (d->broken && fault)
		*fault = d->fault;
	else if (r < 0)
		(void)fault_set(fault, r, "days", 0,
				"no room for what waits; it stays in the journal");
	days_free(d);
	return r;
}

void days_free(struct days *d)
{
	struct message *m, *next;

	if (!d)
		return;
	assert(!d->started);
	for (m = d->first; m; m = next) {
		next = m->next;
		lookup_free(m->lookup);
		message_free(m);
	}
	daykeep_close(&d->keep);
	(void)close(d->bell); /* an eventfd holds nothing */
	pthread_mutex_destroy(&d->lock);
	free(d);
}
