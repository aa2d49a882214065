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

static int setup(void **state)
{
	struct desk *d = calloc(1, sizeof(*d));
	struct days_options o = {
		.retention_days = 90, .today = TODAY, .vouched = true, .map_bytes = (size_t)1 << 30
	};
	struct exits_entry shared;

	assert_non_null(d);
	place_make(&d->place, TODAY);
	d->now = NOW;
	assert_int_equal(pthread_mutex_init(&d->lock, NULL), 0);
	d->bell = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	assert_true(d->bell >= 0);
	o.dir = d->place.dir;
	o.keyring = d->place.keyring;
	o.events.answered = answered;
	o.events.arg = d;
	assert_int_equal(days_open(&d->days, &o, NULL), 0);
	assert_int_equal(days_start(d->days), 0);
	ip4_make(shared.ip, EXIT_IP);
	shared.server = server_make(WATCHED);
	d->exits = exits_new(&shared, 1);
	assert_non_null(d->exits);
	assert_int_equal(sessionbook_new(&d->sessionbook, d->days, d->place.keyring,
					 rules_make(1 << 20, NULL)),
			 0);
	d->book = sessionbook_writer(d->sessionbook);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* The n-th of many server IDs. */
static enum nolog_refusal start_at(struct desk *d, unsigned n)
{
	struct writer_link link = { .stream = 1 };
	struct sessions_time t = moment(d);
	struct nolog_frame f = { .type = NOLOG_START };
	char name[24];

	(void)snprintf(name, sizeof(name), "s-%u", n);
	memcpy(link.server, name, strlen(name));
	server_pack(&link.server_key, link.server);
	f.u.start.handle = 1;
	f.u.start.start_ms = d->now;
	ip4_make(f.u.start.ip, 1);
	effects_clear(&d->out);
	return d->book->decide(d->book->arg, &link, &t, &f, &d->out);
}

static void a_new_server_is_refused_before_a_day_s_list_is_full(void **state)
{
	struct desk *d = *state;
	unsigned taken = 0;

	while (taken < 65536 && start_at(d, taken) == NOLOG_OK)
		taken++;
	/* Below what a day's list can hold, with room to spare; and it stays so. */
	assert_int_equal(taken, 60000);
	assert_int_equal(start_at(d, taken), NOLOG_OVER_CAPACITY);
	assert_int_equal(start_at(d, taken + 1), NOLOG_OVER_CAPACITY);
	/* Those that are known go on. */
	assert_int_equal(start_at(d, 5), NOLOG_HANDLE_OPEN);
}

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
		TEST(a_new_server_is_refused_before_a_day_s_list_is_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
