/* SPDX-License-Identifier: ISC */
/* refresh: the round of the slices, its two paces, and how far the log may be cut. */
#include "refresh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#define PASS_MS (30 * 60 * 1000)

static void nothing_is_cut_before_every_slice_was_logged(void **state)
{
	struct refresh *r;

	(void)state;
	assert_int_equal(refresh_new(&r, 4, PASS_MS, 10), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(refresh_next(r), i);
		refresh_logged(r, i, 20 + i, 0);
		assert_int_equal(refresh_cut(r, UINT64_MAX), 10);
	}
	assert_int_equal(refresh_passes(r), 0);
	refresh_logged(r, 3, 23, 0);
	assert_int_equal(refresh_passes(r), 1);
	assert_int_equal(refresh_next(r), 0);
	assert_int_equal(refresh_cut(r, UINT64_MAX), 20);
	refresh_logged(r, 0, 24, 0);
	assert_int_equal(refresh_cut(r, UINT64_MAX), 21);
	refresh_free(r);
}

static void nothing_is_cut_that_day_files_do_not_hold(void **state)
{
	struct refresh *r;

	(void)state;
	assert_int_equal(refresh_new(&r, 1, PASS_MS, 5), 0);
	refresh_logged(r, 0, 100, 0);
	assert_int_equal(refresh_cut(r, 7), 7);
	assert_int_equal(refresh_cut(r, 100), 100);
	assert_int_equal(refresh_cut(r, 101), 100);
	refresh_free(r);
}

static void a_pass_ends_in_time_although_nothing_happens(void **state)
{
	struct refresh *r;
	int64_t now_ms = 0;
	unsigned most = 0;

	(void)state;
	assert_int_equal(refresh_new(&r, 4096, PASS_MS, 0), 0);
	for (int pass = 0; pass < 3; pass++) {
		int64_t began_ms = now_ms;

		for (unsigned done = 0; done < 4096;) {
			unsigned n;

			now_ms += refresh_wait_ms(r, now_ms);
			n = refresh_due(r, now_ms, 0, 1000, 1000);
			assert_true(n > 0);
			most = n > most ? n : most;
			for (; n > 0 && done < 4096; n--, done++)
				refresh_logged(r, refresh_next(r), 1, now_ms);
		}
		assert_true(now_ms - began_ms <= PASS_MS + 1);
		assert_true(now_ms - began_ms >= PASS_MS - 1000);
	}
	assert_int_equal(refresh_passes(r), 3);
	assert_true(most <= 2);
	refresh_free(r);
}

static void after_a_long_while_a_commit_logs_no_more_than_a_few_slices(void **state)
{
	struct refresh *r;
	unsigned commits = 0;

	(void)state;
	assert_int_equal(refresh_new(&r, 4096, PASS_MS, 0), 0);
	while (refresh_wait_ms(r, 10 * PASS_MS) == 0) {
		unsigned n = refresh_due(r, 10 * PASS_MS, 0, 1000, 1000);

		assert_in_range(n, 1, 64);
		for (; n > 0; n--)
			refresh_logged(r, refresh_next(r), 1, 10 * PASS_MS);
		commits++;
	}
	/* One pass catches up with however many were missed. */
	assert_in_range(refresh_passes(r), 1, 2);
	assert_true(commits > 64);
	refresh_free(r);
}

/*
 * Events append, slices are logged, the front is cut: how long does the log
 * get?  F lags by flush batches.  Returns the log's length, *written all that
 * was appended for one effect of an event.
 */
static double run(size_t live, size_t per_commit, unsigned commits, unsigned lag, double *written)
{
	const unsigned slices = 4096;
	uint64_t *length = calloc(commits + 1, sizeof(*length));
	struct refresh *r;
	size_t log = live, all = 0, events = 0;
	uint64_t front = 0;

	assert_non_null(length);
	assert_int_equal(refresh_new(&r, slices, PASS_MS, 0), 0);
	length[0] = live;
	for (unsigned b = 1; b <= commits; b++) {
		unsigned n = refresh_due(r, b, per_commit, live, log);

		assert_true(n <= slices);
		length[b] = per_commit + n * live / slices;
		log += length[b];
		all += length[b];
		events += per_commit;
		for (; n > 0; n--)
			refresh_logged(r, refresh_next(r), b, b);
		while (front < refresh_cut(r, b > lag ? b - lag : 0))
			log -= length[front++];
	}
	free(length);
	refresh_free(r);
	*written = (double)all / (double)events;
	return (double)log;
}

static void under_load_the_log_stays_near_one_and_a_half_times_the_live_entries(void **state)
{
	double written, log;

	(void)state;
	log = run(3000000, 16384, 3000, 4, &written);
	assert_true(log < 1.6 * 3000000 + 262144);
	assert_true(written < 3.5);
	log = run(3000000, 100, 60000, 10, &written);
	assert_true(log < 1.6 * 3000000 + 262144);
	assert_true(written < 3.5);
	log = run(100, 16384, 3000, 4, &written);
	assert_true(log < 400000);
	assert_true(written < 1.5);
	log = run(0, 1, 60000, 4, &written);
	assert_true(log < 400000);
}

static void a_log_that_may_not_be_cut_is_not_made_longer_without_end(void **state)
{
	double written;

	(void)state;
	(void)run(1000000, 1000, 20000, 30000, &written);
	assert_true(written < 5.5);
	(void)run(1000, 10, 20000, 30000, &written);
	assert_true(written < 2);
}

static void a_single_slice_is_a_round_of_its_own(void **state)
{
	struct refresh *r;

	(void)state;
	assert_int_equal(refresh_new(&r, 1, 1, 0), 0);
	assert_int_equal(refresh_due(r, 1000, 0, 0, 0), 1);
	refresh_logged(r, 0, 1, 1000);
	assert_int_equal(refresh_next(r), 0);
	assert_true(refresh_wait_ms(r, 1000) <= 1);
	refresh_free(r);
	refresh_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_cut_before_every_slice_was_logged),
		cmocka_unit_test(nothing_is_cut_that_day_files_do_not_hold),
		cmocka_unit_test(a_pass_ends_in_time_although_nothing_happens),
		cmocka_unit_test(after_a_long_while_a_commit_logs_no_more_than_a_few_slices),
		cmocka_unit_test(
			under_load_the_log_stays_near_one_and_a_half_times_the_live_entries),
		cmocka_unit_test(a_log_that_may_not_be_cut_is_not_made_longer_without_end),
		cmocka_unit_test(a_single_slice_is_a_round_of_its_own),
	};

	return cmocka_run_group_tests_name("refresh", tests, NULL, NULL);
}
