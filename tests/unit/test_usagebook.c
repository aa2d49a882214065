/* SPDX-License-Identifier: ISC */
/*
 * usagebook: totals and meters over the month's turn, whatever interrupts it.
 * The book is driven by hand, with its real writer (whose thread does not run),
 * journal and keyring: so the time is ours.
 */
#include "usagebook.h"

#include "calendar.h"
#include "childtest.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MANY 100000u /* meters: their logging again takes several commits */

struct place {
	char dir[200], ring[256], path[256];
	struct keyring *keyring;
	struct clock *clock;
	struct journal *journal;
	struct usagebook *usagebook;
	struct writer_book book;
	struct writer *writer;
	struct fault fault;
	int64_t running_ms; /* 0: the clock's */
	int64_t now, turn;  /* now, in the month that was; the turn's first millisecond */
	int crash_at;	    /* the moment at which it dies, in a child; 0: none */
};

static struct place *crashing;

static void failed(const struct fault *fault, void *arg)
{
	(void)fault;
	(void)arg;
}

static void crash_here(void)
{
	if (crashing && crashing->crash_at && --crashing->crash_at == 0)
		_exit(9);
}

/* After a commit. */
static void committed(void *arg, uint64_t batch, const struct effects *effects)
{
	(void)arg;
	(void)batch;
	(void)effects;
	crash_here();
}

/* Before a commit, also one that only cuts. */
static uint64_t flushed(void *arg)
{
	(void)arg;
	crash_here();
	return UINT64_MAX - 1;
}

static void open_clock(struct place *p, enum clock_trust trust, int32_t newest)
{
	struct clock_reading r;

	clock_free(p->clock);
	clock_read(&r);
	r.vouched = false;
	assert_int_equal(clock_new(&p->clock, trust, newest, 0), 0);
	(void)clock_tick(p->clock, &r);
}

static void open_book(struct place *p)
{
	struct usage_rules rules = { 1 << 20, 1 << 20 };
	struct journal_options jo = { .path = p->path,
				      .name = "usage.mdb",
				      .book = KEYRING_USAGE,
				      .map_bytes = (size_t)1 << 30,
				      .reserve_bytes = 1 << 18 };
	struct writer_options o = {
		.book = &p->book, .retention_days = 90, .links = 8, .events = { failed, NULL }
	};

	jo.keyring = o.keyring = p->keyring;
	assert_int_equal(journal_open(&p->journal, &jo, &p->fault), 0);
	assert_int_equal(usagebook_new(&p->usagebook, p->keyring, p->clock, &rules), 0);
	p->book = *usagebook_writer(p->usagebook);
	p->book.committed = committed;
	p->book.flushed = flushed;
	o.journal = p->journal;
	o.clock = p->clock;
	assert_int_equal(writer_new(&p->writer, &o), 0);
	usagebook_attach(p->usagebook, p->writer);
	assert_int_equal(writer_replay(p->writer, &p->fault), 0);
}

static void open_store(struct place *p)
{
	assert_int_equal(keyring_open(&p->keyring, p->ring, NULL), 0);
	open_clock(p, CLOCK_TRUST_ALWAYS, keyring_newest_day(p->keyring));
	open_book(p);
}

/* As a crash would: nothing is written at the end. */
static void close_store(struct place *p)
{
	writer_free(p->writer);
	journal_close(p->journal);
	usagebook_free(p->usagebook);
	clock_free(p->clock);
	keyring_close(p->keyring);
	p->writer = NULL;
	p->journal = NULL;
	p->usagebook = NULL;
	p->clock = NULL;
	p->keyring = NULL;
}

static void crash(struct place *p)
{
	close_store(p);
	open_store(p);
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	const char *tmp = getenv("TMPDIR");
	struct clock_reading r;
	int32_t today;

	assert_non_null(p);
	clock_read(&r);
	today = calendar_day(r.wall_ms);
	p->now = r.wall_ms;
	p->turn = calendar_day_start(calendar_next_month(today));
	assert_int_equal(seal_init(), 0);
	(void)snprintf(p->dir, sizeof(p->dir), "%.150s/usagebook-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	(void)snprintf(p->ring, sizeof(p->ring), "%s/keyring", p->dir);
	(void)snprintf(p->path, sizeof(p->path), "%s/usage.mdb", p->dir);
	assert_int_equal(
		keyring_create(&p->keyring, p->ring, today, calendar_month(today), p->now, NULL),
		0);
	open_clock(p, CLOCK_TRUST_ALWAYS, today);
	open_book(p);
	*state = p;
	return 0;
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct place *p = *state;

	close_store(p);
	assert_int_equal(nftw(p->dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(p);
	return 0;
}

/* --- What happens to it --- */

static struct sessions_time at(const struct place *p, int64_t now)
{
	return (struct sessions_time){
		.now_ms = now,
		.running_ms = p->running_ms ? p->running_ms : clock_running_ms(p->clock),
	};
}

static const struct writer_link *reporter(void)
{
	static struct writer_link link = { .server = "s", .stream = 7 };

	server_pack(&link.server_key, link.server);
	return &link;
}

static void decide(struct place *p, uint32_t account, uint32_t meter, unsigned flags, uint64_t rx,
		   uint64_t tx)
{
	struct sessions_time t = at(p, p->now);
	struct nolog_frame f = { .type = NOLOG_USAGE, .code = (uint16_t)flags, .aux = meter };

	nolog_put32(f.u.usage.account, account);
	f.u.usage.rx = rx;
	f.u.usage.tx = tx;
	assert_int_equal(p->book.decide(p->book.arg, reporter(), &t, &f, writer_effects(p->writer)),
			 NOLOG_OK);
}

static void commit(struct place *p)
{
	struct sessions_time t = at(p, p->now);

	assert_int_equal(writer_commit_waiting(p->writer, &t, true, &p->fault), 0);
}

static void count(struct place *p, uint32_t account, uint32_t meter, unsigned flags, uint64_t rx)
{
	decide(p, account, meter, flags, rx, 2 * rx);
	commit(p);
}

static void upkeep(struct place *p, int64_t now)
{
	struct sessions_time t = at(p, now);

	assert_int_equal(p->book.upkeep(p->book.arg, p->writer, &t, &p->fault), 0);
}

static struct nolog_frame total(struct place *p, uint32_t account, int64_t now)
{
	struct queue *q = writer_answers(p->writer);
	struct nolog_frame f = { .type = NOLOG_QUOTA, .seq = 5 };
	struct request r = { .link = 9, .kind = REQUEST_FRAME };
	struct sessions_time t = at(p, now);
	const struct answer *a;

	nolog_put32(f.u.quota.account, account);
	nolog_frame_encode(r.u.frame, &f);
	p->book.query(p->book.arg, &r, &t);
	assert_int_equal(queue_ready(q), 1);
	a = queue_item(q, 0);
	assert_int_equal(a->link, 9);
	assert_int_equal(a->taken, 1);
	assert_int_equal(a->kind, ANSWER_FRAME);
	assert_false(a->close);
	nolog_frame_decode(&f, a->frame);
	assert_int_equal(f.type, NOLOG_TOTAL);
	assert_int_equal(f.seq, 5);
	queue_pop(q, 1);
	return f;
}

static void expect_total(struct place *p, uint32_t account, int64_t now, uint64_t rx,
			 int64_t month_of)
{
	struct nolog_frame f = total(p, account, now);
	int32_t day = calendar_day(month_of);

	assert_int_equal(f.u.total.rx, rx);
	assert_int_equal(f.u.total.tx, 2 * rx);
	assert_int_equal(f.u.total.month, calendar_month(day));
	assert_int_equal(f.u.total.resets_ms, calendar_day_start(calendar_next_month(day)));
}

struct census {
	size_t totals, meters, turns;
};

static int count_effects(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct census *c = arg;

	(void)batch;
	for (size_t i = 0; i < n; i++) {
		c->totals += effects[i][0] == EFFECT_TOTAL;
		c->meters += effects[i][0] == EFFECT_METER;
		c->turns += effects[i][0] == EFFECT_TURN;
	}
	return 0;
}

/* What the log holds, read by another than its writer. */
static struct census read_log(struct place *p)
{
	struct census c = { 0 };
	struct journal_options jo = { .path = p->path,
				      .name = "usage.mdb",
				      .book = KEYRING_USAGE,
				      .map_bytes = (size_t)1 << 30,
				      .readonly = true };
	struct journal *j = NULL;

	close_store(p);
	assert_int_equal(keyring_open(&p->keyring, p->ring, NULL), 0);
	jo.keyring = p->keyring;
	assert_int_equal(journal_open(&j, &jo, &p->fault), 0);
	assert_int_equal(journal_replay(j, count_effects, &c, &p->fault), 0);
	journal_close(j);
	open_clock(p, CLOCK_TRUST_ALWAYS, keyring_newest_day(p->keyring));
	open_book(p);
	return c;
}

/* --- The month --- */

static void totals_are_counted_and_come_back(void **state)
{
	struct place *p = *state;

	count(p, 1, 0, 0, 10);
	count(p, 1, 0, 0, 5);
	count(p, 2, 4, NOLOG_USAGE_FIRST, 100);
	count(p, 2, 4, 0, 130);
	expect_total(p, 1, p->now, 15, p->now);
	crash(p);
	expect_total(p, 1, p->now, 15, p->now);
	expect_total(p, 2, p->now, 130, p->now);
	expect_total(p, 3, p->now, 0, p->now); /* unknown: as one without traffic */
}

static void from_midnight_on_a_total_is_zero(void **state)
{
	struct place *p = *state;

	count(p, 1, 0, 0, 10);
	expect_total(p, 1, p->turn - 1, 10, p->turn - 1);
	expect_total(p, 1, p->turn, 0, p->turn); /* before the turn has been done */
	upkeep(p, p->turn - 1);
	expect_total(p, 1, p->turn - 1, 10, p->turn - 1);
	upkeep(p, p->turn);
	expect_total(p, 1, p->turn, 0, p->turn);
	expect_total(p, 1, p->turn - 1, 0, p->turn); /* days only move forward */
	decide(p, 1, 0, 0, 3, 6);
	commit(p);
	expect_total(p, 1, p->turn + 5, 3, p->turn);
}

static void a_held_clock_turns_no_month(void **state)
{
	struct place *p = *state;
	int32_t today = calendar_day(p->now);

	count(p, 1, 0, 0, 10);
	close_store(p);
	assert_int_equal(keyring_open(&p->keyring, p->ring, NULL), 0);
	open_clock(p, CLOCK_TRUST_KERNEL, today - 100); /* far ahead, and nobody vouches */
	open_book(p);
	assert_true(clock_held(p->clock));
	expect_total(p, 1, p->turn + 40 * CALENDAR_DAY_MS, 10, p->now);
	assert_int_equal(writer_catch_up(p->writer, &p->fault), 0);
	expect_total(p, 1, p->now, 10, p->now);

	close_store(p);
	assert_int_equal(keyring_open(&p->keyring, p->ring, NULL), 0);
	open_clock(p, CLOCK_TRUST_KERNEL, today + 100); /* behind */
	open_book(p);
	assert_true(clock_held(p->clock));
	expect_total(p, 1, p->now - 300 * CALENDAR_DAY_MS, 10, p->now);
}

static void a_start_in_a_later_month_turns_it_first(void **state)
{
	struct place *p = *state;
	uint32_t month = calendar_month(calendar_day(p->now)), before = month - 1;

	if (month % 100 == 1)
		before = month - 100 + 11;
	close_store(p);
	assert_int_equal(unlink(p->ring), 0);
	assert_int_equal(unlink(p->path), 0);
	assert_int_equal(keyring_create(&p->keyring, p->ring, calendar_day(p->now) - 40, before,
					p->now - 40 * CALENDAR_DAY_MS, NULL),
			 0);
	open_clock(p, CLOCK_TRUST_ALWAYS, 0);
	open_book(p);
	count(p, 1, 0, 0, 10);
	assert_int_equal(keyring_month(p->keyring), before);
	crash(p);
	assert_int_equal(writer_catch_up(p->writer, &p->fault), 0);
	assert_int_equal(keyring_month(p->keyring), month);
	expect_total(p, 1, p->now, 0, p->now);
}

static void a_meter_counts_only_its_difference_over_the_turn(void **state)
{
	struct place *p = *state;

	count(p, 1, 4, NOLOG_USAGE_FIRST, 100);
	upkeep(p, p->turn);
	count(p, 1, 4, 0, 130);
	expect_total(p, 1, p->turn, 30, p->turn);
	crash(p);
	count(p, 1, 4, 0, 131);
	expect_total(p, 1, p->turn, 31, p->turn);
}

static void check_old_key_goes(struct place *p, int64_t days, bool running)
{
	struct keyring_meters meters;
	uint8_t id[2][16], generation = 0;
	struct writer_link other = *reporter();

	p->running_ms = 1;
	other.stream = 8;
	assert_int_equal(p->book.stream_id(p->book.arg, &other, &generation, id[0]), 0);
	assert_int_equal(streams_set(writer_streams(p->writer), id[0], generation, 5, 0), 0);
	streams_emit(writer_streams(p->writer), id[0], writer_effects(p->writer));
	count(p, 1, 4, NOLOG_USAGE_FIRST, 100);
	count(p, 1, 5, NOLOG_USAGE_FIRST, 100);
	upkeep(p, p->turn);
	count(p, 1, 4, 0, 101); /* moves under the new key */
	p->running_ms = running ? days * CALENDAR_DAY_MS : 3600000;
	upkeep(p, p->turn + days * CALENDAR_DAY_MS - 1);
	keyring_meters(p->keyring, &meters);
	assert_int_equal(meters.old_generation, generation);
	assert_int_equal(streams_get(writer_streams(p->writer), id[0]), 5);
	p->running_ms += running;
	upkeep(p, p->turn + days * CALENDAR_DAY_MS);
	keyring_meters(p->keyring, &meters);
	assert_int_equal(meters.old_generation, 0);
	assert_int_equal(streams_get(writer_streams(p->writer), id[0]), 0);
	assert_int_equal(keyring_stream_tag(p->keyring, generation, other.server, 8, id[1]),
			 -ENOKEY);
	p->running_ms = 0;
	crash(p);
	count(p, 1, 4, 0, 103);
	count(p, 1, 5, 0, 900); /* unknown by now: a baseline */
	expect_total(p, 1, p->turn, 3, p->turn);
	assert_int_equal(streams_count(writer_streams(p->writer)), 0);
}

static void meters_and_streams_of_the_old_key_go_after_seven_days(void **state)
{
	check_old_key_goes(*state, 7, true);
}

/* Nobody could report while it was not running; but not for ever. */
static void of_a_daemon_that_was_down_they_go_after_fourteen(void **state)
{
	check_old_key_goes(*state, 14, false);
}

static void two_turns_one_after_the_other(void **state)
{
	struct place *p = *state;
	int64_t second = calendar_day_start(calendar_next_month(calendar_day(p->turn)));

	count(p, 1, 4, NOLOG_USAGE_FIRST, 100);
	upkeep(p, p->turn);
	count(p, 1, 4, 0, 101);
	upkeep(p, second);
	count(p, 1, 4, 0, 103);
	expect_total(p, 1, second, 2, second);
	crash(p);
	expect_total(p, 1, second, 2, second);
}

/* --- Crashes in the turn --- */

/* What must hold when it is over, however it came about. */
static void check_turned(struct place *p)
{
	struct census c;

	assert_false(keyring_month_turning(p->keyring));
	assert_int_equal(keyring_month(p->keyring), calendar_month(calendar_day(p->turn)));
	assert_false(journal_old_key(p->journal));
	c = read_log(p);
	assert_int_equal(c.totals, 0); /* not even under the key that lives */
	assert_true(c.turns > 0);
	for (int i = 0; i < 2; i++) {
		expect_total(p, 1, p->turn, 10u * (unsigned)i, p->turn);
		if (i == 0)
			count(p, 1, 4, 0, 110);
		crash(p);
	}
}

static void a_crash_right_after_the_keys_were_made(void **state)
{
	struct place *p = *state;

	count(p, 1, 4, NOLOG_USAGE_FIRST, 100);
	count(p, 2, 0, 0, 7);
	assert_int_equal(
		keyring_month_begin(p->keyring, calendar_month(calendar_day(p->turn)), p->turn), 0);
	crash(p);
	/* Nobody can ask, but if he could: */
	expect_total(p, 1, p->turn, 0, p->turn);
	upkeep(p, p->turn);
	check_turned(p);
}

static void a_crash_after_the_turn_was_finished(void **state)
{
	struct place *p = *state;

	count(p, 1, 4, NOLOG_USAGE_FIRST, 100);
	upkeep(p, p->turn);
	crash(p);
	upkeep(p, p->turn);
	check_turned(p);
}

static void turn_in_a_child(void **state)
{
	struct place *p = *state;

	crashing = p;
	open_store(p);
	upkeep(p, p->turn);
	close_store(p);
}

static void copy(const char *from, const char *to)
{
	static char piece[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, piece, sizeof(piece))) > 0)
		assert_int_equal(write(out, piece, (size_t)n), n);
	assert_int_equal(n, 0);
	close(in);
	close(out);
}

static void a_crash_around_each_commit_of_a_turn_of_many_meters(void **state)
{
	struct place *p = *state;
	char ring[300], path[300], lock[300];
	int status, n = 0;

	(void)snprintf(ring, sizeof(ring), "%s.kept", p->ring);
	(void)snprintf(path, sizeof(path), "%s.kept", p->path);
	(void)snprintf(lock, sizeof(lock), "%s-lock", p->path);
	for (uint32_t i = 1; i <= MANY; i++)
		decide(p, i % 1000 + 1000, i, NOLOG_USAGE_FIRST, i, i);
	decide(p, 1, 4, NOLOG_USAGE_FIRST, 100, 200);
	commit(p);
	close_store(p);
	copy(p->ring, ring);
	copy(p->path, path);
	do {
		p->crash_at = ++n;
		status = child_status(turn_in_a_child, p);
		assert_true(WIFEXITED(status));
		open_store(p);
		upkeep(p, p->turn);
		check_turned(p);
		close_store(p);
		copy(ring, p->ring);
		copy(path, p->path);
		(void)unlink(lock);
	} while (WEXITSTATUS(status) == 9);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(n > 4); /* it was more than one */
}

/* --- Other requests --- */

static void new_rules_count_at_once(void **state)
{
	struct place *p = *state;
	struct usage_rules *rules = malloc(sizeof(*rules));
	struct request r = { .kind = REQUEST_RULES };
	struct sessions_time t = at(p, p->now);
	struct nolog_frame f = { .type = NOLOG_USAGE };

	assert_non_null(rules);
	*rules = (struct usage_rules){ .max_accounts = 1, .max_meters = 1 };
	count(p, 1, 0, 0, 10);
	r.u.pointer = rules;
	p->book.query(p->book.arg, &r, &t);
	f.u.usage.account[0] = 2;
	f.u.usage.rx = 1;
	assert_int_equal(p->book.decide(p->book.arg, reporter(), &t, &f, writer_effects(p->writer)),
			 NOLOG_OVER_CAPACITY);
	count(p, 1, 0, 0, 10);
	expect_total(p, 1, p->now, 20, p->now);
}

static void a_bad_question_is_refused_in_its_turn(void **state)
{
	struct place *p = *state;
	struct queue *q = writer_answers(p->writer);
	struct request r = { .link = 9, .kind = REQUEST_REFUSE, .code = NOLOG_MALFORMED };
	struct sessions_time t = at(p, p->now);
	struct nolog_frame f = { .type = NOLOG_QUOTA, .seq = 5 };
	struct writer_stats stats;
	const struct answer *a;

	nolog_frame_encode(r.u.frame, &f);
	p->book.query(p->book.arg, &r, &t);
	a = queue_item(q, 0);
	nolog_frame_decode(&f, a->frame);
	assert_true(a->close);
	assert_int_equal(a->taken, 1);
	assert_int_equal(f.type, NOLOG_REFUSED);
	assert_int_equal(f.code, NOLOG_MALFORMED);
	assert_int_equal(f.seq, 5);
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.refused[NOLOG_MALFORMED], 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(totals_are_counted_and_come_back),
		TEST(from_midnight_on_a_total_is_zero),
		TEST(a_held_clock_turns_no_month),
		TEST(a_start_in_a_later_month_turns_it_first),
		TEST(a_meter_counts_only_its_difference_over_the_turn),
		TEST(meters_and_streams_of_the_old_key_go_after_seven_days),
		TEST(of_a_daemon_that_was_down_they_go_after_fourteen),
		TEST(two_turns_one_after_the_other),
		TEST(a_crash_right_after_the_keys_were_made),
		TEST(a_crash_after_the_turn_was_finished),
		TEST(a_crash_around_each_commit_of_a_turn_of_many_meters),
		TEST(new_rules_count_at_once),
		TEST(a_bad_question_is_refused_in_its_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
