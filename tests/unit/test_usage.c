/* SPDX-License-Identifier: ISC */
/* usage: every rule of the contract's "Usage", and that the ledger is the fold of its effects. */
#include "usage.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define FIRST NOLOG_USAGE_FIRST
#define LAST NOLOG_USAGE_LAST

struct till {
	struct usage *u;
	struct usage_rules rules;
	struct effects out;
	int64_t running_ms;
};

static int open_till(void **state)
{
	struct till *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_int_equal(usage_new(&t->u), 0);
	t->rules = (struct usage_rules){ 1000, 1000 };
	*state = t;
	return 0;
}

static int close_till(void **state)
{
	struct till *t = *state;

	usage_free(t->u);
	effects_free(&t->out);
	free(t);
	return 0;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint32_t pick(uint32_t below)
{
	return (uint32_t)(next_random() >> 32) % below;
}

/* Stands in for the keyed hash. */
static void tag(uint8_t out[16], uint64_t what, uint64_t key)
{
	uint64_t kept = random_state;

	random_state = what * UINT64_C(0x2545f4914f6cdd1d) + key;
	nolog_put64(out, next_random());
	nolog_put64(out + 8, next_random());
	random_state = kept;
}

static enum nolog_refusal plain(struct till *t, uint64_t account, uint64_t rx, uint64_t tx)
{
	struct usage_event e = { .rx = rx, .tx = tx };

	tag(e.account, account, 1);
	effects_clear(&t->out);
	return usage_decide(t->u, &t->rules, &e, t->running_ms, &t->out);
}

/* A reading under the meter key of a generation; the one before it may still be known. */
static enum nolog_refusal reading(struct till *t, uint64_t account, uint64_t meter, unsigned flags,
				  uint64_t rx, uint64_t tx, uint8_t generation)
{
	struct usage_event e = { .metered = true,
				 .generation = generation,
				 .old_generation = (uint8_t)(generation - 1),
				 .flags = flags,
				 .rx = rx,
				 .tx = tx };

	tag(e.account, account, 1);
	tag(e.meter, meter, generation + 100u);
	tag(e.old_meter, meter, generation + 99u);
	effects_clear(&t->out);
	return usage_decide(t->u, &t->rules, &e, t->running_ms, &t->out);
}

static void expect_total(const struct till *t, uint64_t account, uint64_t rx, uint64_t tx)
{
	uint8_t id[16];
	uint64_t got_rx, got_tx;

	tag(id, account, 1);
	usage_total(t->u, id, &got_rx, &got_tx);
	assert_int_equal(got_rx, rx);
	assert_int_equal(got_tx, tx);
}

static struct effect effect(const struct till *t, size_t i)
{
	struct effect e;

	assert_true(i < t->out.n);
	assert_int_equal(effect_decode(&e, t->out.at[i]), 0);
	return e;
}

/* --- Plain differences --- */

static void an_unknown_account_is_zero(void **state)
{
	expect_total(*state, 1, 0, 0);
}

static void plain_differences_add_up(void **state)
{
	struct till *t = *state;

	assert_int_equal(plain(t, 1, 10, 20), NOLOG_OK);
	assert_int_equal(plain(t, 1, 1, 2), NOLOG_OK);
	assert_int_equal(plain(t, 2, 5, 0), NOLOG_OK);
	expect_total(t, 1, 11, 22);
	expect_total(t, 2, 5, 0);
	assert_int_equal(usage_accounts(t->u), 2);
	assert_int_equal(t->out.n, 1);
	assert_int_equal(effect(t, 0).type, EFFECT_TOTAL);
	assert_int_equal(effect(t, 0).u.total.rx, 5);
}

static void nothing_used_leaves_nothing(void **state)
{
	struct till *t = *state;

	assert_int_equal(plain(t, 1, 0, 0), NOLOG_OK);
	assert_int_equal(t->out.n, 0);
	assert_int_equal(usage_accounts(t->u), 0);
}

static void a_total_that_would_reach_2_63_is_22_and_changes_nothing(void **state)
{
	struct till *t = *state;

	assert_int_equal(plain(t, 1, USAGE_TOTAL_END, 0), NOLOG_OVER_CAPACITY);
	assert_int_equal(plain(t, 1, 0, UINT64_MAX), NOLOG_OVER_CAPACITY);
	assert_int_equal(plain(t, 1, USAGE_TOTAL_END - 1, 5), NOLOG_OK);
	assert_int_equal(plain(t, 1, 1, 1), NOLOG_OVER_CAPACITY);
	assert_int_equal(plain(t, 1, UINT64_MAX, 1), NOLOG_OVER_CAPACITY);
	assert_int_equal(t->out.n, 0);
	assert_int_equal(plain(t, 1, 0, 1), NOLOG_OK);
	expect_total(t, 1, USAGE_TOTAL_END - 1, 6);
	assert_int_equal(reading(t, 1, 7, 0, 5, 5, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, 0, 6, 6, 1), NOLOG_OVER_CAPACITY);
	/* The meter stands where it stood. */
	assert_int_equal(reading(t, 1, 7, 0, 5, 8, 1), NOLOG_OK);
	expect_total(t, 1, USAGE_TOTAL_END - 1, 9);
}

static void more_accounts_or_meters_than_allowed_are_22(void **state)
{
	struct till *t = *state;

	t->rules = (struct usage_rules){ 2, 2 };
	assert_int_equal(plain(t, 1, 1, 1), NOLOG_OK);
	assert_int_equal(reading(t, 2, 1, FIRST, 1, 1, 1), NOLOG_OK);
	assert_int_equal(plain(t, 3, 1, 1), NOLOG_OVER_CAPACITY);
	assert_int_equal(reading(t, 3, 2, FIRST, 1, 1, 1), NOLOG_OVER_CAPACITY);
	assert_int_equal(usage_meters(t->u), 1);
	assert_int_equal(plain(t, 1, 1, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 2, FIRST, 1, 1, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 3, FIRST, 1, 1, 1), NOLOG_OVER_CAPACITY);
	expect_total(t, 1, 3, 3);
	/* One that only moves to the new key is not one more. */
	assert_int_equal(reading(t, 1, 2, 0, 2, 2, 2), NOLOG_OK);
	assert_int_equal(usage_meters(t->u), 2);
	expect_total(t, 1, 4, 4);
}

/* --- Meters --- */

static void a_first_reading_counts_from_zero_and_the_next_the_difference(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	expect_total(t, 1, 100, 200);
	assert_int_equal(t->out.n, 2);
	assert_int_equal(effect(t, 1).type, EFFECT_METER);
	assert_int_equal(effect(t, 1).u.meter.state, METER_RUNNING);
	assert_int_equal(effect(t, 1).u.meter.tx, 200);
	assert_int_equal(reading(t, 1, 7, 0, 150, 200, 1), NOLOG_OK);
	expect_total(t, 1, 150, 200);
}

static void an_unknown_meter_without_the_first_bit_only_sets_the_baseline(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, 0, 100, 200, 1), NOLOG_OK);
	expect_total(t, 1, 0, 0);
	assert_int_equal(t->out.n, 1);
	assert_int_equal(effect(t, 0).type, EFFECT_METER);
	assert_int_equal(reading(t, 1, 7, 0, 101, 203, 1), NOLOG_OK);
	expect_total(t, 1, 1, 3);
}

static void a_repeated_reading_counts_nothing(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(t->out.n, 0);
	assert_int_equal(reading(t, 1, 7, FIRST, 110, 200, 1), NOLOG_OK);
	expect_total(t, 1, 110, 200);
}

static void a_reading_of_which_either_part_fell_counts_whole(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, 0, 300, 10, 1), NOLOG_OK);
	expect_total(t, 1, 400, 210);
	assert_int_equal(reading(t, 1, 7, 0, 5, 50, 1), NOLOG_OK);
	expect_total(t, 1, 405, 260);
	assert_int_equal(reading(t, 1, 7, 0, 0, 0, 1), NOLOG_OK);
	expect_total(t, 1, 405, 260);
	assert_int_equal(reading(t, 1, 7, 0, 1, 1, 1), NOLOG_OK);
	expect_total(t, 1, 406, 261);
}

static void after_its_last_reading_a_meter_is_ignored_for_a_day(void **state)
{
	struct till *t = *state;

	t->running_ms = 12345;
	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, LAST, 110, 210, 1), NOLOG_OK);
	assert_int_equal(effect(t, 1).u.meter.state, METER_CLOSED);
	expect_total(t, 1, 110, 210);
	t->running_ms += USAGE_METER_CLOSED_MS - 1;
	assert_int_equal(reading(t, 1, 7, FIRST, 500, 500, 1), NOLOG_OK);
	assert_int_equal(t->out.n, 0);
	assert_int_equal(reading(t, 1, 7, LAST, 500, 500, 1), NOLOG_OK);
	expect_total(t, 1, 110, 210);
	t->running_ms += 1;
	assert_int_equal(reading(t, 1, 7, FIRST, 5, 5, 1), NOLOG_OK);
	expect_total(t, 1, 115, 215);
	assert_int_equal(usage_meters(t->u), 1);
}

static void first_and_last_at_once_count_whole_and_close(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST | LAST, 100, 200, 1), NOLOG_OK);
	expect_total(t, 1, 100, 200);
	assert_int_equal(reading(t, 1, 7, FIRST | LAST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(t->out.n, 0);
	expect_total(t, 1, 100, 200);
}

static void the_last_reading_of_an_unknown_meter_counts_nothing_and_closes(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, LAST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, 0, 150, 250, 1), NOLOG_OK);
	expect_total(t, 1, 0, 0);
	assert_int_equal(usage_meters(t->u), 1);
}

static void expire(struct till *t)
{
	effects_clear(&t->out);
	for (unsigned i = 0; i < USAGE_SLICES; i++)
		usage_expire(t->u, i, t->running_ms, &t->out);
}

static void a_meter_without_a_reading_for_seven_days_is_forgotten(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 8, FIRST | LAST, 1, 1, 1), NOLOG_OK);
	t->running_ms = USAGE_METER_CLOSED_MS - 1;
	expire(t);
	assert_int_equal(t->out.n, 0);
	t->running_ms = USAGE_METER_CLOSED_MS;
	expire(t);
	assert_int_equal(t->out.n, 1);
	assert_int_equal(effect(t, 0).u.meter.state, METER_FORGOTTEN);
	assert_int_equal(effect(t, 0).u.meter.rx, 0);
	/* A reading that counts nothing is a reading too. */
	assert_int_equal(reading(t, 1, 7, 0, 100, 200, 1), NOLOG_OK);
	t->running_ms = USAGE_METER_IDLE_MS;
	expire(t);
	assert_int_equal(t->out.n, 0);
	t->running_ms = USAGE_METER_CLOSED_MS + USAGE_METER_IDLE_MS;
	/* Forgotten also before it is swept away: a baseline. */
	assert_int_equal(reading(t, 1, 7, 0, 1000, 2000, 1), NOLOG_OK);
	expect_total(t, 1, 101, 201);
	t->running_ms += USAGE_METER_IDLE_MS;
	expire(t);
	assert_int_equal(t->out.n, 1);
	assert_int_equal(usage_meters(t->u), 0);
}

static void a_meter_under_the_old_key_moves_when_it_is_read(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(reading(t, 1, 7, 0, 101, 202, 2), NOLOG_OK);
	expect_total(t, 1, 101, 202);
	assert_int_equal(t->out.n, 3);
	assert_int_equal(effect(t, 0).type, EFFECT_TOTAL);
	assert_int_equal(effect(t, 1).u.meter.state, METER_FORGOTTEN);
	assert_int_equal(effect(t, 1).u.meter.generation, 1);
	assert_int_equal(effect(t, 2).u.meter.state, METER_RUNNING);
	assert_int_equal(effect(t, 2).u.meter.generation, 2);
	assert_int_equal(usage_meters(t->u), 1);
	/* A closed one moves too, and stays closed. */
	assert_int_equal(reading(t, 1, 8, FIRST | LAST, 5, 5, 2), NOLOG_OK);
	assert_int_equal(reading(t, 1, 8, FIRST, 50, 50, 3), NOLOG_OK);
	assert_int_equal(t->out.n, 2);
	assert_int_equal(effect(t, 1).u.meter.state, METER_CLOSED);
	assert_int_equal(effect(t, 1).u.meter.rx, 5);
	expect_total(t, 1, 106, 207);
}

static void a_dead_key_takes_its_meters_with_it(void **state)
{
	struct till *t = *state;
	size_t n = 0;

	for (uint64_t m = 1; m <= 100; m++)
		assert_int_equal(reading(t, 1, m, FIRST, 1, 1, m % 2 ? 1 : 2), NOLOG_OK);
	effects_clear(&t->out);
	for (unsigned i = 0; i < USAGE_SLICES; i++)
		usage_drop_generation(t->u, i, 1, &t->out);
	n = t->out.n;
	assert_int_equal(n, 50);
	assert_int_equal(usage_meters(t->u), 50);
	expect_total(t, 1, 100, 100);
}

static void at_the_turn_totals_are_zero_and_meters_go_on(void **state)
{
	struct till *t = *state;

	assert_int_equal(reading(t, 1, 7, FIRST, 100, 200, 1), NOLOG_OK);
	assert_int_equal(plain(t, 2, 1, 1), NOLOG_OK);
	effects_clear(&t->out);
	usage_turn(t->u, 202612, &t->out);
	assert_int_equal(t->out.n, 1);
	assert_int_equal(effect(t, 0).type, EFFECT_TURN);
	assert_int_equal(effect(t, 0).u.turn.month, 202612);
	expect_total(t, 1, 0, 0);
	assert_int_equal(usage_accounts(t->u), 0);
	assert_int_equal(usage_meters(t->u), 1);
	assert_int_equal(reading(t, 1, 7, 0, 130, 200, 2), NOLOG_OK);
	expect_total(t, 1, 30, 0);
}

/* --- Replay --- */

static void replay_refuses_what_no_ledger_yields(void **state)
{
	struct till *t = *state;
	struct effect e = { .type = EFFECT_TOTAL, .u.total.rx = USAGE_TOTAL_END };

	assert_int_equal(usage_apply(t->u, &e, 0), -EBADMSG);
	e = (struct effect){ .type = EFFECT_METER, .u.meter.state = 3 };
	assert_int_equal(usage_apply(t->u, &e, 0), -EBADMSG);
	for (unsigned type = EFFECT_OPEN; type <= EFFECT_STREAM; type++) {
		e = (struct effect){ .type = (uint8_t)type };
		assert_int_equal(usage_apply(t->u, &e, 0), -EBADMSG);
	}
	e = (struct effect){ .type = EFFECT_METER, .u.meter.state = METER_FORGOTTEN };
	assert_int_equal(usage_apply(t->u, &e, 0), 0); /* of one that is not there */
	e.u.meter.state = METER_RUNNING;	       /* a tag of zeros is as good as any */
	assert_int_equal(usage_apply(t->u, &e, 0), 0);
	e = (struct effect){ .type = EFFECT_TOTAL };
	assert_int_equal(usage_apply(t->u, &e, 0), 0);
	assert_int_equal(usage_apply(t->u, &e, 0), 0);
	assert_int_equal(usage_accounts(t->u), 1);
	assert_int_equal(usage_meters(t->u), 1);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, EFFECT_SIZE);
}

static void assert_same(const struct usage *a, const struct usage *b)
{
	struct effects x = { 0 }, y = { 0 };

	assert_int_equal(usage_accounts(a), usage_accounts(b));
	assert_int_equal(usage_meters(a), usage_meters(b));
	for (unsigned i = 0; i < USAGE_SLICES; i++) {
		usage_refresh(a, i, &x);
		usage_refresh(b, i, &y);
	}
	assert_int_equal(x.n, usage_accounts(a) + usage_meters(a));
	assert_int_equal(x.n, y.n);
	if (x.n) {
		qsort(x.at, x.n, EFFECT_SIZE, compare);
		qsort(y.at, y.n, EFFECT_SIZE, compare);
		assert_memory_equal(x.at, y.at, x.n * EFFECT_SIZE);
	}
	effects_free(&x);
	effects_free(&y);
}

static void the_ledger_is_the_fold_of_its_effects(void **state)
{
	struct till *t = *state;
	struct usage *fold;
	uint8_t generation = 1;

	random_state = 11;
	assert_int_equal(usage_new(&fold), 0);
	t->rules = (struct usage_rules){ 3000, 3000 };
	for (int i = 0; i < 200000; i++) {
		uint64_t account = pick(4000), meter = account * 2 + pick(2);
		unsigned slice = pick(USAGE_SLICES);

		if (pick(20000) == 0)
			generation++;
		if (pick(3) == 0)
			(void)plain(t, account, pick(1000), pick(1000));
		else
			(void)reading(t, account, meter, pick(10) ? 0 : pick(4), pick(100000),
				      pick(100000), generation);
		t->running_ms += pick(100000);
		if (pick(30000) == 0)
			usage_turn(t->u, 202611, &t->out);
		usage_refresh(t->u, pick(USAGE_SLICES), &t->out);
		usage_expire(t->u, slice, t->running_ms, &t->out);
		if (generation > 1)
			usage_drop_generation(t->u, slice, (uint8_t)(generation - 2), &t->out);
		for (size_t k = 0; k < t->out.n; k++) {
			struct effect e = effect(t, k);

			assert_int_equal(usage_apply(fold, &e, 0), 0);
		}
		if (i % 10000 == 0)
			assert_same(t->u, fold);
	}
	assert_same(t->u, fold);
	assert_true(usage_accounts(fold) > 100 && usage_meters(fold) > 100);
	usage_free(fold);
}

static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void a_million_accounts_fit_in_48_bytes_each(void **state)
{
	struct till *t = *state;
	const uint32_t n = 1000000;
	size_t before, after;

	t->rules.max_accounts = n;
	assert_int_equal(plain(t, 0, 1, 1), NOLOG_OK);
	before = in_use();
	for (uint32_t i = 1; i < n; i++)
		assert_int_equal(plain(t, i, 1, 1), NOLOG_OK);
	after = in_use();
	print_message("%u accounts: %.1f bytes each\n", n, (double)(after - before) / n);
	if (after > before) /* a checking allocator tells nothing */
		assert_true(after - before <= (size_t)48 * n);
}

#define TILL(test) cmocka_unit_test_setup_teardown(test, open_till, close_till)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TILL(an_unknown_account_is_zero),
		TILL(plain_differences_add_up),
		TILL(nothing_used_leaves_nothing),
		TILL(a_total_that_would_reach_2_63_is_22_and_changes_nothing),
		TILL(more_accounts_or_meters_than_allowed_are_22),
		TILL(a_first_reading_counts_from_zero_and_the_next_the_difference),
		TILL(an_unknown_meter_without_the_first_bit_only_sets_the_baseline),
		TILL(a_repeated_reading_counts_nothing),
		TILL(a_reading_of_which_either_part_fell_counts_whole),
		TILL(after_its_last_reading_a_meter_is_ignored_for_a_day),
		TILL(first_and_last_at_once_count_whole_and_close),
		TILL(the_last_reading_of_an_unknown_meter_counts_nothing_and_closes),
		TILL(a_meter_without_a_reading_for_seven_days_is_forgotten),
		TILL(a_meter_under_the_old_key_moves_when_it_is_read),
		TILL(a_dead_key_takes_its_meters_with_it),
		TILL(at_the_turn_totals_are_zero_and_meters_go_on),
		TILL(replay_refuses_what_no_ledger_yields),
		TILL(the_ledger_is_the_fold_of_its_effects),
		TILL(a_million_accounts_fit_in_48_bytes_each),
	};

	return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
