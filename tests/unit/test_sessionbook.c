/* SPDX-License-Identifier: ISC */
/*
 * sessionbook: look-ups see each session once, whatever happens to it while
 * they look; and the rules that count are the last ones sent.  The book is
 * driven by hand; behind it are the real days.
 */
#include "sessionbook.h"

#include "daytest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define NOW (T0 + 12 * HOUR)
#define WATCHED 1u    /* the server that is asked for */
#define OTHER 9u      /* the one whose sessions make a look-up take its time */
#define FILLER 30000u /* sessions of it */
#define EACH 100u     /* sessions of the watched one */
#define EXIT_IP 0x0a0000fe

struct desk {
	struct place place;
	struct days *days;
	struct sessionbook *sessionbook;
	const struct writer_book *book;
	struct exits *exits;
	struct effects out;
	uint64_t batch;
	int64_t now;

	pthread_mutex_t lock;
	struct lookup *answered;
	int bell;
};

static void answered(struct lookup *l, void *arg)
{
	struct desk *d = arg;
	uint64_t one = 1;

	(void)pthread_mutex_lock(&d->lock);
	l->next = d->answered;
	d->answered = l;
	(void)pthread_mutex_unlock(&d->lock);
	if (write(d->bell, &one, sizeof(one)) < 0)
		return;
}

static struct sessionbook_rules *rules_make(size_t max_open, const struct sessions_prefix *allow)
{
	struct sessions_rules rules = { .max_open = max_open,
					.allow = allow,
					.allow_count = !!allow };
	struct sessionbook_rules *r = sessionbook_rules_new(&rules);

	assert_non_null(r);
	return r;
}

/* The stations from days up, in the daemon's order. */
static void open_stations(struct desk *d, int32_t today)
{
	struct days_options o = {
		.retention_days = 90, .today = today, .vouched = true, .map_bytes = (size_t)1 << 30
	};

	o.dir = d->place.dir;
	o.keyring = d->place.keyring;
	o.events.answered = answered;
	o.events.arg = d;
	assert_int_equal(days_open(&d->days, &o, NULL), 0);
	assert_int_equal(sessionbook_new(&d->sessionbook, d->days, d->place.keyring,
					 rules_make(1 << 20, NULL)),
			 0);
	d->book = sessionbook_writer(d->sessionbook);
	assert_int_equal(days_start(d->days), 0);
}

static int setup(void **state)
{
	struct desk *d = calloc(1, sizeof(*d));
	struct exits_entry shared;

	assert_non_null(d);
	place_make(&d->place, TODAY);
	d->now = NOW;
	assert_int_equal(pthread_mutex_init(&d->lock, NULL), 0);
	d->bell = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	assert_true(d->bell >= 0);
	ip4_make(shared.ip, EXIT_IP);
	shared.server = server_make(WATCHED);
	d->exits = exits_new(&shared, 1);
	assert_non_null(d->exits);
	open_stations(d, TODAY);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	struct desk *d = *state;

	if (d->days)
		assert_int_equal(days_stop(d->days, NULL), 0);
	sessionbook_free(d->sessionbook);
	while (d->answered) {
		struct lookup *l = d->answered;

		d->answered = l->next;
		lookup_free(l);
	}
	effects_free(&d->out);
	exits_unref(d->exits);
	close(d->bell);
	(void)pthread_mutex_destroy(&d->lock);
	place_remove(&d->place);
	free(d);
	return 0;
}

/* --- What happens to it --- */

static struct sessions_time moment(const struct desk *d)
{
	return (struct sessions_time){ .now_ms = d->now,
				       .horizon_ms = T0 - 89 * DAY,
				       .keep_ms = T0 - 89 * DAY };
}

static enum nolog_refusal decide(struct desk *d, unsigned server, const struct nolog_frame *f)
{
	struct writer_link link = { .server_key = server_make(server), .stream = 1 };
	struct sessions_time t = moment(d);

	return d->book->decide(d->book->arg, &link, &t, f, &d->out);
}

static enum nolog_refusal start(struct desk *d, unsigned server, uint64_t handle, uint32_t ip,
				int64_t at)
{
	struct nolog_frame f = { .type = NOLOG_START };

	f.u.start.handle = handle;
	f.u.start.start_ms = at;
	ip4_make(f.u.start.ip, ip);
	return decide(d, server, &f);
}

static enum nolog_refusal end(struct desk *d, unsigned server, uint64_t handle, int64_t at)
{
	struct nolog_frame f = { .type = NOLOG_END };

	f.u.end.handle = handle;
	f.u.end.end_ms = at;
	return decide(d, server, &f);
}

static void commit(struct desk *d)
{
	d->book->committed(d->book->arg, ++d->batch, &d->out);
	effects_clear(&d->out);
}

static bool work(struct desk *d)
{
	struct sessions_time t = moment(d);

	return d->book->work(d->book->arg, &t);
}

static void ask(struct desk *d, const uint8_t *ip, unsigned length, int server, size_t limit)
{
	struct request r = { .kind = REQUEST_LOOKUP };
	struct sessions_time t = moment(d);

	r.u.pointer = ask_make(ip, length, server, 0, NOW + DAY, d->exits, limit);
	d->book->query(d->book->arg, &r, &t);
}

static struct lookup *answer(struct desk *d)
{
	struct pollfd p = { .fd = d->bell, .events = POLLIN };
	struct lookup *l, **at;
	uint64_t rung;

	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_int_equal(read(d->bell, &rung, sizeof(rung)), sizeof(rung));
	(void)pthread_mutex_lock(&d->lock);
	for (at = &d->answered; (*at)->next;)
		at = &(*at)->next;
	l = *at;
	*at = NULL;
	(void)pthread_mutex_unlock(&d->lock);
	return l;
}

/* The only answer's records, and how many of them are open. */
static void expect_answer(struct desk *d, unsigned code, size_t records, size_t open)
{
	struct lookup *l = answer(d);
	size_t n = 0;

	for (size_t i = 0; i < l->record_count; i++)
		n += l->records[i].code & NOLOG_RECORD_OPEN;
	assert_int_equal(l->code, code);
	assert_int_equal(l->record_count, records);
	assert_int_equal(n, open);
	lookup_free(l);
}

static void fill(struct desk *d)
{
	for (uint32_t i = 0; i < FILLER; i++)
		assert_int_equal(start(d, OTHER, i, 0x0b000000 + i, NOW - HOUR), NOLOG_OK);
	commit(d);
}

/* ip(i) is its own address, or the shared one. */
static void open_watched(struct desk *d, bool shared)
{
	for (uint32_t i = 0; i < EACH; i++)
		assert_int_equal(
			start(d, WATCHED, i, shared ? EXIT_IP : 0x0a000100 + i, NOW - HOUR),
			NOLOG_OK);
	commit(d);
}

static void end_watched(struct desk *d, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		assert_int_equal(end(d, WATCHED, i, NOW - 1000), NOLOG_OK);
	commit(d);
}

/* --- Look-ups --- */

static void an_address_is_found_open_and_ended(void **state)
{
	struct desk *d = *state;
	uint8_t ip[16];

	ip4_make(ip, 0x0a000105);
	open_watched(d, false);
	ask(d, ip, 128, -1, 10);
	expect_answer(d, NOLOG_DONE_COMPLETE, 1, 1);
	end_watched(d, 5, 6);
	ask(d, ip, 128, -1, 10);
	expect_answer(d, NOLOG_DONE_COMPLETE, 1, 0);
	assert_int_equal(start(d, WATCHED, 5, 0x0a000105, NOW), NOLOG_OK);
	commit(d);
	ask(d, ip, 128, -1, 10);
	expect_answer(d, NOLOG_DONE_COMPLETE, 2, 1);
	assert_false(work(d));
}

static void a_scan_is_made_in_pieces(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, false);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	assert_false(work(d));
	expect_answer(d, NOLOG_DONE_COMPLETE, EACH, EACH);
	ask(d, NULL, 0, WATCHED + 1, 1000);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_COMPLETE, 0, 0);
}

static void what_ends_while_a_scan_is_under_way_is_given_once(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, false);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	end_watched(d, 0, EACH / 2);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_COMPLETE, EACH, EACH / 2);
}

static void what_ends_begins_and_ends_again_meanwhile_is_given_once_each(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, false);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	end_watched(d, 0, EACH);
	for (uint32_t i = 0; i < EACH; i++)
		assert_int_equal(start(d, WATCHED, i, 0x0a000100 + i, NOW - 500), NOLOG_OK);
	commit(d);
	for (uint32_t i = 0; i < EACH; i++)
		assert_int_equal(end(d, WATCHED, i, NOW), NOLOG_OK);
	commit(d);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_COMPLETE, 2 * EACH, 0);
}

/* Address, server and start are the same: only the handles tell them apart. */
static void sessions_that_look_the_same_are_not_taken_for_each_other(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, true);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	end_watched(d, 0, EACH / 2);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_COMPLETE, EACH, EACH / 2);
}

static void a_handle_that_comes_back_the_same_is_given_once_for_each_time(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, true);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	for (int round = 0; round < 3; round++) {
		end_watched(d, 0, EACH);
		open_watched(d, true);
	}
	end_watched(d, 0, EACH);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_COMPLETE, 4 * EACH, 0);
}

static void look_ups_beside_each_other_are_all_answered(void **state)
{
	struct desk *d = *state;
	unsigned rounds = 0;

	fill(d);
	open_watched(d, false);
	for (int i = 0; i < 20; i++)
		ask(d, NULL, 0, WATCHED, 1000);
	while (work(d)) {
		if (rounds++ == 10)
			end_watched(d, 0, EACH / 2);
	}
	/* A round is a bounded piece, however many ask. */
	assert_in_range(rounds, 20, 60);
	for (int i = 0; i < 20; i++) {
		struct lookup *l = answer(d);

		assert_int_equal(l->code, NOLOG_DONE_COMPLETE);
		assert_int_equal(l->record_count, EACH);
		lookup_free(l);
	}
}

static void too_many_stop_at_the_limit(void **state)
{
	struct desk *d = *state;

	fill(d);
	ask(d, NULL, 0, OTHER, 10);
	while (work(d))
		;
	expect_answer(d, NOLOG_DONE_LIMIT, 10, 10);
}

static void a_book_that_ends_frees_what_was_asked(void **state)
{
	struct desk *d = *state;

	fill(d);
	open_watched(d, false);
	ask(d, NULL, 0, WATCHED, 1000);
	assert_true(work(d));
	end_watched(d, 0, 10);
	/* the teardown, and the sanitizers, see to the rest */
}

/* --- Rules, counts, replay --- */

static void the_rules_that_were_sent_last_count(void **state)
{
	struct desk *d = *state;
	struct sessions_prefix prefix = { .length = 120 };
	struct request r = { .kind = REQUEST_RULES };
	struct sessions_time t = moment(d);

	ip4_make(prefix.ip, 0x0a000100);
	open_watched(d, false);
	r.u.pointer = rules_make(EACH + 1, &prefix);
	memset(prefix.ip, 0, sizeof(prefix.ip)); /* they are a copy */
	d->book->query(d->book->arg, &r, &t);
	assert_int_equal(start(d, WATCHED, 500, 0x0b000000, NOW), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(start(d, WATCHED, 500, 0x0a000101, NOW), NOLOG_OK);
	assert_int_equal(start(d, WATCHED, 501, 0x0a000101, NOW), NOLOG_OVER_CAPACITY);
	r.u.pointer = rules_make(EACH + 2, NULL);
	d->book->query(d->book->arg, &r, &t);
	assert_int_equal(start(d, WATCHED, 501, 0x0b000000, NOW), NOLOG_OK);
}

static void it_counts_what_began_and_ended(void **state)
{
	struct desk *d = *state;
	struct nolog_frame restart = { .type = NOLOG_RESTART }, whole = { .type = NOLOG_SESSION };
	struct sessionbook_stats stats;

	open_watched(d, false);
	end_watched(d, 0, 10);
	assert_int_equal(end(d, WATCHED, 0, NOW), NOLOG_UNKNOWN_HANDLE);
	whole.u.session.start_ms = NOW - 5;
	whole.u.session.end_ms = NOW;
	ip4_make(whole.u.session.ip, 1);
	assert_int_equal(decide(d, WATCHED, &whole), NOLOG_OK);
	restart.u.restart.at_ms = NOW;
	assert_int_equal(decide(d, WATCHED, &restart), NOLOG_OK);
	sessionbook_stats(d->sessionbook, &stats);
	assert_int_equal(stats.open, 0);
	assert_int_equal(stats.started, EACH + 1);
	assert_int_equal(stats.ended, EACH + 1);
}

static void what_was_logged_comes_back(void **state)
{
	struct desk *d = *state;
	struct sessionbook *again;
	const struct writer_book *book;
	struct effects log = { 0 };
	struct effect e;
	struct sessionbook_stats stats;

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(start(d, WATCHED, i, i, NOW - 5), NOLOG_OK);
	assert_int_equal(end(d, WATCHED, 1, NOW), NOLOG_OK);
	for (size_t i = 0; i < d->out.n; i++) {
		assert_int_equal(effect_decode(&e, d->out.at[i]), 0);
		effects_add(&log, &e);
	}
	assert_int_equal(sessionbook_new(&again, d->days, d->place.keyring, rules_make(9, NULL)),
			 0);
	book = sessionbook_writer(again);
	for (size_t i = 0; i < log.n; i++) {
		assert_int_equal(effect_decode(&e, log.at[i]), 0);
		assert_int_equal(book->apply(book->arg, &e, 0), 0);
	}
	sessionbook_stats(again, &stats);
	assert_int_equal(stats.open, 2);
	sessionbook_free(again);
	effects_free(&log);
}

/* --- Many sessions of one address --- */

#define CROWD_IP 0x0a090909
#define CROWD 50000u /* more than a round looks at */

static void open_crowd(struct desk *d)
{
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(start(d, OTHER, i, CROWD_IP, NOW - HOUR + i), NOLOG_OK);
	commit(d);
}

static void ask_crowd(struct desk *d)
{
	uint8_t ip[16];

	ip4_make(ip, CROWD_IP);
	ask(d, ip, 128, -1, 1000000);
}

static void an_address_of_many_is_looked_at_in_pieces(void **state)
{
	struct desk *d = *state;
	unsigned rounds = 1;
	uint8_t ip[16];

	open_crowd(d);
	open_watched(d, false);
	ask_crowd(d);
	ip4_make(ip, 0x0a000105);
	ask(d, ip, 128, -1, 10); /* one with few does not wait for it */
	expect_answer(d, NOLOG_DONE_COMPLETE, 1, 1);
	while (work(d))
		rounds++;
	assert_int_equal(rounds, 3);
	expect_answer(d, NOLOG_DONE_COMPLETE, CROWD, CROWD);
}

/* Ends those that were and were not looked at, the first and the next among them. */
static void what_ends_while_an_address_is_walked_is_given_once(void **state)
{
	struct desk *d = *state;
	uint32_t ended = 0;

	open_crowd(d);
	ask_crowd(d);
	for (uint32_t round = 0; work(d); round++) {
		for (uint32_t i = round; i < CROWD; i += 7)
			ended += end(d, OTHER, i, NOW) == NOLOG_OK;
		commit(d);
	}
	assert_in_range(ended, CROWD / 7, CROWD / 2);
	expect_answer(d, NOLOG_DONE_COMPLETE, CROWD, CROWD - ended);
}

static void all_may_end_while_an_address_is_walked(void **state)
{
	struct desk *d = *state;

	open_crowd(d);
	ask_crowd(d);
	assert_true(work(d));
	for (uint32_t i = 0; i < CROWD; i++)
		assert_int_equal(end(d, OTHER, i, NOW), NOLOG_OK);
	commit(d);
	assert_int_equal(start(d, OTHER, 1, CROWD_IP, NOW), NOLOG_OK);
	commit(d);
	assert_false(work(d));
	expect_answer(d, NOLOG_DONE_COMPLETE, CROWD, 0);
	/* Nothing of that walk is left: the next one begins at the beginning. */
	ask_crowd(d);
	expect_answer(d, NOLOG_DONE_COMPLETE, CROWD + 1, 1);
}

static void walks_beside_each_other_are_all_answered(void **state)
{
	struct desk *d = *state;
	unsigned rounds = 0;

	open_crowd(d);
	ask_crowd(d);
	ask(d, NULL, 0, OTHER, 1000000);
	ask_crowd(d);
	while (work(d))
		if (rounds++ == 3)
			assert_int_equal(end(d, OTHER, 7, NOW), NOLOG_OK), commit(d);
	for (int i = 0; i < 3; i++) {
		struct lookup *l = answer(d);

		assert_int_equal(l->code, NOLOG_DONE_COMPLETE);
		assert_int_equal(l->record_count, CROWD);
		lookup_free(l);
	}
}

/* --- Room for rows --- */

static enum nolog_refusal whole(struct desk *d, unsigned server, int64_t from, int64_t to)
{
	struct nolog_frame f = { .type = NOLOG_SESSION };

	f.u.session.start_ms = from;
	f.u.session.end_ms = to;
	ip4_make(f.u.session.ip, 7);
	return decide(d, server, &f);
}

/* A day each session touches is a row: what is decided counts, committed or not. */
static void the_bound_on_waiting_rows_counts_rows(void **state)
{
	struct desk *d = *state;
	struct days_stats stats;
	size_t n = 0;

	while (d->book->room(d->book->arg)) {
		assert_int_equal(whole(d, WATCHED, NOW - 80 * DAY, NOW), NOLOG_OK);
		n += 81;
		assert_in_range(n, 1, 300000);
	}
	assert_in_range(n, 4 * 65536, 4 * 65536 + 80);
	commit(d); /* handed on: days counts them now */
	days_stats(d->days, &stats);
	assert_in_range(stats.waiting_rows, 0, n);
	while (!d->book->room(d->book->arg))
		(void)poll(NULL, 0, 1);
}

static void a_restart_of_many_comes_in_pieces(void **state)
{
	struct desk *d = *state;
	struct nolog_frame f = { .type = NOLOG_RESTART };
	struct sessionbook_stats stats;
	unsigned pieces = 1;

	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(start(d, OTHER, i, i, NOW - HOUR), NOLOG_OK);
	assert_int_equal(start(d, WATCHED, 1, 1, NOW - HOUR), NOLOG_OK);
	commit(d);
	f.u.restart.at_ms = NOW;
	for (;; pieces++) {
		assert_int_equal(decide(d, OTHER, &f), NOLOG_OK);
		assert_in_range(d->out.n, 0, 300);
		commit(d);
		if (!d->book->more(d->book->arg))
			break;
	}
	assert_in_range(pieces, 30, 100);
	sessionbook_stats(d->sessionbook, &stats);
	assert_int_equal(stats.open, 1);
	assert_int_equal(stats.ended, 10000);
}

/* --- Places in the days' lists --- */

static enum nolog_refusal report(struct desk *d, unsigned n, const struct nolog_frame *f)
{
	struct writer_link link = { .stream = 1 };
	struct sessions_time t = moment(d);
	char name[24];

	(void)snprintf(name, sizeof(name), "s-%u", n);
	memcpy(link.server, name, strlen(name));
	server_pack(&link.server_key, link.server);
	return d->book->decide(d->book->arg, &link, &t, f, &d->out);
}

/* The n-th of many server IDs. */
static enum nolog_refusal start_at(struct desk *d, unsigned n)
{
	struct nolog_frame f = { .type = NOLOG_START };

	f.u.start.handle = 1;
	f.u.start.start_ms = d->now;
	ip4_make(f.u.start.ip, 1);
	return report(d, n, &f);
}

static enum nolog_refusal end_at(struct desk *d, unsigned n)
{
	struct nolog_frame f = { .type = NOLOG_END };

	f.u.end.handle = 1;
	f.u.end.end_ms = d->now;
	return report(d, n, &f);
}

static enum nolog_refusal whole_at(struct desk *d, unsigned n, int64_t from, int64_t to)
{
	struct nolog_frame f = { .type = NOLOG_SESSION };

	f.u.session.start_ms = from;
	f.u.session.end_ms = to;
	ip4_make(f.u.session.ip, 1);
	return report(d, n, &f);
}

static void whole_of_each(struct desk *d, unsigned from, unsigned to, int64_t at)
{
	for (unsigned i = from; i < to; i++)
		assert_int_equal(whole_at(d, i, at, at), NOLOG_OK);
	commit(d);
}

/* Everything goes into files, and all begins again with them. */
static void stations_again(struct desk *d, int32_t today)
{
	assert_int_equal(days_stop(d->days, NULL), 0);
	sessionbook_free(d->sessionbook);
	d->now += (today - calendar_day(d->now)) * DAY;
	open_stations(d, today);
}

#define ALL 65535u /* places */

static void a_new_server_is_refused_when_a_day_s_list_could_be_full(void **state)
{
	struct desk *d = *state;
	struct nolog_frame restart = { .type = NOLOG_RESTART };
	unsigned taken = 0;

	restart.u.restart.at_ms = NOW;
	/* One that has no sessions takes no place. */
	assert_int_equal(report(d, 100000, &restart), NOLOG_OK);
	while (taken < 70000 && start_at(d, taken) == NOLOG_OK)
		taken++;
	assert_int_equal(taken, ALL);
	assert_int_equal(start_at(d, taken), NOLOG_OVER_CAPACITY);
	assert_int_equal(start_at(d, taken + 1), NOLOG_OVER_CAPACITY);
	assert_int_equal(report(d, taken, &restart), NOLOG_OK);
	/* Those that are known go on. */
	assert_int_equal(start_at(d, 5), NOLOG_HANDLE_OPEN);
	assert_int_equal(end_at(d, 5), NOLOG_OK);
	assert_int_equal(start_at(d, 5), NOLOG_OK);
	commit(d);
}

static void a_server_without_room_is_refused_in_its_turn(void **state)
{
	struct desk *d = *state;
	struct request r = { .kind = REQUEST_RULES };
	struct sessions_prefix prefix = { .length = 128 };
	struct sessions_time t = moment(d);

	whole_of_each(d, 0, ALL, NOW);
	ip4_make(prefix.ip, 1);
	r.u.pointer = rules_make(9, &prefix);
	d->book->query(d->book->arg, &r, &t);
	assert_int_equal(whole_at(d, ALL, NOW, NOW + HOUR), NOLOG_TIME_RANGE);
	assert_int_equal(whole_at(d, ALL, T0 - 100 * DAY, T0 - 99 * DAY), NOLOG_DAY_FORGOTTEN);
	assert_int_equal(whole_at(d, ALL, NOW, NOW), NOLOG_OVER_CAPACITY);
	ip4_make(prefix.ip, 2);
	r.u.pointer = rules_make(9, &prefix);
	d->book->query(d->book->arg, &r, &t);
	assert_int_equal(whole_at(d, ALL, NOW, NOW), NOLOG_IP_NOT_ALLOWED);
	assert_int_equal(start_at(d, ALL), NOLOG_IP_NOT_ALLOWED);
}

/* Nobody is counted twice, however often it begins again. */
static void after_a_restart_the_same_servers_fit(void **state)
{
	struct desk *d = *state;

	whole_of_each(d, 0, 40000, NOW);
	stations_again(d, TODAY);
	whole_of_each(d, 0, 40000, NOW);
	stations_again(d, TODAY + 1);
	whole_of_each(d, 0, 40000, d->now);
	/* The others' days live: together they fill the list. */
	whole_of_each(d, 40000, ALL, d->now);
	assert_int_equal(whole_at(d, ALL, d->now, d->now), NOLOG_OVER_CAPACITY);
	stations_again(d, TODAY + 1);
	assert_int_equal(whole_at(d, ALL, d->now, d->now), NOLOG_OVER_CAPACITY);
	whole_of_each(d, 30000, 50000, d->now);
}

/* What was logged and is in no file yet counts as well. */
static void servers_of_the_log_have_their_places(void **state)
{
	struct desk *d = *state;
	struct effect e = { .type = EFFECT_OPEN };

	for (unsigned i = 0; i < ALL; i++) {
		e.type = i % 2 ? EFFECT_OPEN : EFFECT_WHOLE;
		e.u.open.server = server_make(i);
		if (e.type == EFFECT_OPEN) {
			e.u.open.handle = 1;
			e.u.open.start_ms = e.u.open.alive_ms = NOW;
		} else {
			e.u.whole.start_ms = e.u.whole.end_ms = NOW;
		}
		assert_int_equal(d->book->apply(d->book->arg, &e, 0), 0);
	}
	/* Of one that ended so early nothing is kept. */
	e = (struct effect){ .type = EFFECT_OPEN };
	e.u.open.server = server_make(ALL);
	assert_int_equal(d->book->apply(d->book->arg, &e, 0), 0);
	e = (struct effect){ .type = EFFECT_GONE };
	e.u.gone.server = server_make(ALL);
	assert_int_equal(d->book->apply(d->book->arg, &e, 0), 0);
	assert_false(work(d));
	assert_int_equal(start_at(d, ALL), NOLOG_OVER_CAPACITY);
	assert_int_equal(whole_at(d, 0, NOW, NOW), NOLOG_OK);
	assert_int_equal(end_at(d, 1), NOLOG_OK);
	commit(d);
}

static void with_a_day_go_the_servers_that_only_it_knew(void **state)
{
	struct desk *d = *state;

	whole_of_each(d, 0, 20000, NOW - 88 * DAY);	/* gone the day after tomorrow */
	whole_of_each(d, 20000, ALL - 1, NOW);		/* stay */
	whole_of_each(d, 0, 10000, NOW - 10 * DAY);	/* known by a later day too */
	assert_int_equal(start_at(d, 15000), NOLOG_OK); /* still open then */
	assert_int_equal(start_at(d, ALL - 1), NOLOG_OK);
	commit(d);
	assert_int_equal(start_at(d, ALL), NOLOG_OVER_CAPACITY);
	days_advance(d->days, TODAY + 2);
	while (days_forgotten(d->days) < TODAY + 2)
		(void)poll(NULL, 0, 1);
	d->now += 2 * DAY;
	assert_false(work(d));
	/* 9,999 places: 10,000 that only that day knew, less the one that is open. */
	whole_of_each(d, ALL, ALL + 9999, d->now);
	assert_int_equal(start_at(d, ALL + 9999), NOLOG_OVER_CAPACITY);
	assert_int_equal(start_at(d, 12000), NOLOG_OVER_CAPACITY);
	assert_int_equal(start_at(d, 9999), NOLOG_OK);
	assert_int_equal(end_at(d, 15000), NOLOG_OK);
	commit(d);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_address_is_found_open_and_ended),
		TEST(a_scan_is_made_in_pieces),
		TEST(what_ends_while_a_scan_is_under_way_is_given_once),
		TEST(what_ends_begins_and_ends_again_meanwhile_is_given_once_each),
		TEST(sessions_that_look_the_same_are_not_taken_for_each_other),
		TEST(a_handle_that_comes_back_the_same_is_given_once_for_each_time),
		TEST(look_ups_beside_each_other_are_all_answered),
		TEST(too_many_stop_at_the_limit),
		TEST(a_book_that_ends_frees_what_was_asked),
		TEST(the_rules_that_were_sent_last_count),
		TEST(it_counts_what_began_and_ended),
		TEST(what_was_logged_comes_back),
		TEST(an_address_of_many_is_looked_at_in_pieces),
		TEST(what_ends_while_an_address_is_walked_is_given_once),
		TEST(all_may_end_while_an_address_is_walked),
		TEST(walks_beside_each_other_are_all_answered),
		TEST(the_bound_on_waiting_rows_counts_rows),
		TEST(a_restart_of_many_comes_in_pieces),
		TEST(a_new_server_is_refused_when_a_day_s_list_could_be_full),
		TEST(a_server_without_room_is_refused_in_its_turn),
		TEST(after_a_restart_the_same_servers_fit),
		TEST(servers_of_the_log_have_their_places),
		TEST(with_a_day_go_the_servers_that_only_it_knew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
