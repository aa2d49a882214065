/* SPDX-License-Identifier: ISC */
/* clock: when the time is judged by, and when it is held. */
#include "clock.h"

#include "calendar.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define TODAY 20779
#define HOUR_MS INT64_C(3600000)

/* Noon of a day, some time after boot. */
static struct clock_reading noon(int32_t day, int64_t boot_ms, bool vouched)
{
	struct clock_reading r = {
		.wall_ms = calendar_day_start(day) + CALENDAR_DAY_MS / 2,
		.boot_ms = boot_ms,
		.mono_ms = boot_ms,
		.vouched = vouched,
	};

	return r;
}

static struct clock *make(enum clock_trust trust, int32_t newest_day, int64_t held_ms)
{
	struct clock *c;

	assert_int_equal(clock_new(&c, trust, newest_day, held_ms), 0);
	return c;
}

static bool tick(struct clock *c, int32_t day, int64_t boot_ms, bool vouched)
{
	struct clock_reading r = noon(day, boot_ms, vouched);

	return clock_tick(c, &r);
}

static bool judge(int32_t day, bool vouched, int64_t held_ms, enum clock_trust trust)
{
	struct clock_reading r = noon(day, 0, vouched);

	return clock_judge(&r, TODAY, held_ms, trust);
}

static void the_newest_day_and_the_next_fit_without_the_kernels_word(void **state)
{
	(void)state;
	for (int vouched = 0; vouched < 2; vouched++) {
		assert_false(judge(TODAY, vouched, 0, CLOCK_TRUST_KERNEL));
		assert_false(judge(TODAY + 1, vouched, 0, CLOCK_TRUST_KERNEL));
	}
}

static void a_clock_behind_is_held_even_when_it_is_vouched_for(void **state)
{
	struct clock_reading r = { .wall_ms = calendar_day_start(TODAY) - 1, .vouched = true };

	(void)state;
	assert_true(judge(TODAY - 1, false, 0, CLOCK_TRUST_KERNEL));
	assert_true(judge(TODAY - 1, true, 0, CLOCK_TRUST_KERNEL));
	assert_true(judge(0, true, 1 - CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
	assert_true(clock_judge(&r, TODAY, 0, CLOCK_TRUST_KERNEL));
	r.wall_ms++;
	assert_false(clock_judge(&r, TODAY, 0, CLOCK_TRUST_KERNEL));
}

static void a_clock_behind_is_used_after_24_hours_only_when_vouched_for(void **state)
{
	(void)state;
	assert_false(judge(TODAY - 3, true, -CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
	assert_true(judge(TODAY - 3, false, -CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
	assert_true(judge(TODAY - 3, true, CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
}

static void a_clock_ahead_is_held_until_vouched_for_or_24_hours_are_over(void **state)
{
	(void)state;
	assert_true(judge(TODAY + 2, false, 0, CLOCK_TRUST_KERNEL));
	assert_true(judge(TODAY + 2, false, CLOCK_HOLD_MAX_MS - 1, CLOCK_TRUST_KERNEL));
	assert_false(judge(TODAY + 2, false, CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
	assert_true(judge(TODAY + 2, false, -CLOCK_HOLD_MAX_MS, CLOCK_TRUST_KERNEL));
	assert_false(judge(TODAY + 2, true, 0, CLOCK_TRUST_KERNEL));
	assert_false(judge(TODAY + 20000, true, 0, CLOCK_TRUST_KERNEL));
}

static void trust_always_takes_the_clock_as_it_is(void **state)
{
	struct clock *c = make(CLOCK_TRUST_ALWAYS, TODAY, 5000);

	(void)state;
	assert_false(judge(0, false, 0, CLOCK_TRUST_ALWAYS));
	assert_false(judge(TODAY + 2000, false, 0, CLOCK_TRUST_ALWAYS));
	assert_false(tick(c, TODAY + 5, 0, false));
	assert_int_equal(clock_held_ms(c), 0);
	clock_trust_set(c, CLOCK_TRUST_KERNEL);
	assert_true(tick(c, TODAY + 5, 1000, false));
	clock_trust_set(c, CLOCK_TRUST_ALWAYS);
	assert_false(tick(c, TODAY + 5, 2000, false));
	clock_free(c);
}

static void extreme_times_and_days_are_judged_without_overflow(void **state)
{
	struct clock_reading r = { .wall_ms = INT64_MIN };

	(void)state;
	assert_true(clock_judge(&r, TODAY, 0, CLOCK_TRUST_KERNEL));
	assert_false(clock_judge(&r, INT32_MIN, 0, CLOCK_TRUST_KERNEL));
	r.wall_ms = INT64_MAX;
	assert_true(clock_judge(&r, TODAY, 0, CLOCK_TRUST_KERNEL));
	assert_false(clock_judge(&r, INT32_MAX, 0, CLOCK_TRUST_KERNEL));
	assert_false(clock_judge(&r, INT32_MAX - 1, 0, CLOCK_TRUST_KERNEL));
}

static void held_time_is_the_boot_time_between_ticks_that_were_held(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	assert_false(tick(c, TODAY, 1000, false));
	assert_true(tick(c, TODAY + 9, 900000, false)); /* what was before fitted */
	assert_int_equal(clock_held_ms(c), 0);
	assert_true(tick(c, TODAY + 9, 901000, false));
	assert_int_equal(clock_held_ms(c), 1000);
	assert_true(tick(c, TODAY + 9, 900000, false)); /* never backwards */
	assert_int_equal(clock_held_ms(c), 1000);
	assert_true(tick(c, TODAY + 9, 900000 + HOUR_MS, false));
	assert_int_equal(clock_held_ms(c), HOUR_MS + 1000);
	assert_false(tick(c, TODAY + 9, 900001 + HOUR_MS, true)); /* vouched for: over at once */
	assert_int_equal(clock_held_ms(c), 0);
	clock_free(c);
}

static void a_hold_ends_after_24_hours_and_does_not_begin_again(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	for (int64_t h = 0; h < 24; h++)
		assert_true(tick(c, TODAY + 5, h * HOUR_MS, false));
	assert_false(tick(c, TODAY + 5, 24 * HOUR_MS, false));
	assert_false(tick(c, TODAY + 5, 25 * HOUR_MS, false));
	assert_int_equal(clock_held_ms(c), CLOCK_HOLD_MAX_MS);
	clock_newest_day_set(c, TODAY + 5);
	assert_false(tick(c, TODAY + 5, 25 * HOUR_MS + 1000, false));
	assert_int_equal(clock_held_ms(c), 0);
	clock_free(c);
}

static void held_time_goes_on_after_a_restart(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 23 * HOUR_MS);

	(void)state;
	assert_true(tick(c, TODAY + 5, 7, false));
	assert_int_equal(clock_held_ms(c), 23 * HOUR_MS);
	assert_true(tick(c, TODAY + 5, 6 + HOUR_MS, false));
	assert_false(tick(c, TODAY + 5, 7 + HOUR_MS, false));
	clock_free(c);
	c = make(CLOCK_TRUST_KERNEL, TODAY, 23 * HOUR_MS); /* and not when it fits now */
	assert_false(tick(c, TODAY, 7, false));
	assert_int_equal(clock_held_ms(c), 0);
	clock_free(c);
}

static void time_spent_behind_does_not_count_for_a_clock_that_jumps_ahead(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	assert_true(tick(c, TODAY - 9, 0, true));
	assert_false(tick(c, TODAY - 9, CLOCK_HOLD_MAX_MS, true));
	assert_true(tick(c, TODAY + 900, CLOCK_HOLD_MAX_MS + 1000, false));
	assert_int_equal(clock_held_ms(c), 0);
	clock_free(c);
}

static void nor_across_a_restart(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);
	int64_t kept;

	(void)state;
	assert_true(tick(c, TODAY - 9, 0, false));
	assert_true(tick(c, TODAY - 9, CLOCK_HOLD_MAX_MS, false));
	kept = clock_held_ms(c);
	assert_int_equal(kept, -CLOCK_HOLD_MAX_MS);
	clock_free(c);
	c = make(CLOCK_TRUST_KERNEL, TODAY, kept);
	assert_true(tick(c, TODAY + 400, 0, false));
	assert_int_equal(clock_held_ms(c), 0);
	clock_free(c);
	c = make(CLOCK_TRUST_KERNEL, TODAY, kept); /* but for one that is behind still */
	assert_true(tick(c, TODAY - 9, 0, false));
	assert_int_equal(clock_held_ms(c), kept);
	assert_false(tick(c, TODAY - 9, 1000, true));
	clock_free(c);
}

static void the_newest_day_never_moves_back(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	clock_newest_day_set(c, TODAY - 1);
	assert_true(tick(c, TODAY - 1, 0, true));
	clock_newest_day_set(c, TODAY + 1);
	assert_true(tick(c, TODAY, 0, true));
	clock_free(c);
}

static void running_time_leaves_out_holds_and_standstills(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	assert_int_equal(clock_running_at(c, 0), 0);
	assert_false(tick(c, TODAY, 1000000, false)); /* the beginning */
	assert_int_equal(clock_running_at(c, 1000000), 0);
	assert_false(tick(c, TODAY, 1001000, false));
	assert_int_equal(clock_running_at(c, 1001000), 1000);
	assert_int_equal(clock_running_at(c, 1001300), 1300); /* between ticks it runs on */
	assert_true(tick(c, TODAY - 1, 1002000, false));
	assert_int_equal(clock_running_at(c, 1002900), 2000); /* held, it does not */
	assert_true(tick(c, TODAY - 1, 1003000, false));
	assert_false(tick(c, TODAY, 1004000, false)); /* from 1002000 on it was held */
	assert_int_equal(clock_running_at(c, 1004000), 2000);
	assert_int_equal(clock_running_at(c, 1004000 + 10 * HOUR_MS), 7000);
	assert_false(tick(c, TODAY, 1004000 + 10 * HOUR_MS, false)); /* the process was stopped */
	assert_int_equal(clock_running_at(c, 1004000 + 10 * HOUR_MS), 7000);
	assert_false(tick(c, TODAY, 0, false)); /* never backwards */
	assert_int_equal(clock_running_at(c, 0), 7000);
	clock_free(c);
}

static void held_is_told_between_ticks_by_the_clock_of_now(void **state)
{
	struct clock_reading r;
	struct clock *c;
	int32_t today;

	(void)state;
	clock_read(&r);
	today = calendar_day(r.wall_ms);
	c = make(CLOCK_TRUST_KERNEL, today - 10, 0);
	assert_true(clock_held(c)); /* before the first tick nobody vouches */
	assert_false(tick(c, today - 10, 0, false));
	assert_true(clock_held(c)); /* the tick's clock fitted, now's does not */
	assert_false(tick(c, today - 10, 0, true));
	assert_false(clock_held(c));
	clock_trust_set(c, CLOCK_TRUST_ALWAYS);
	assert_false(clock_held(c));
	clock_free(c);
	c = make(CLOCK_TRUST_KERNEL, today + 10, 0);
	assert_true(clock_held(c));
	clock_free(c);
}

static void readings_are_of_the_machines_clocks(void **state)
{
	struct clock_reading a, b;
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);

	(void)state;
	clock_read(&a);
	clock_read(&b);
	assert_true(b.boot_ms >= a.boot_ms && b.mono_ms >= a.mono_ms);
	assert_true(clock_now(c) >= a.wall_ms);
	clock_free(c);
}

static void *ask(void *arg)
{
	const struct clock *c = arg;
	int64_t sum = 0;

	for (int i = 0; i < 20000; i++)
		sum += clock_now(c) > 0 && clock_held(c) && clock_held_ms(c) < INT64_MAX &&
		       clock_running_ms(c) >= 0;
	return sum >= 0 ? arg : NULL;
}

static void other_threads_may_ask_while_the_owner_ticks(void **state)
{
	struct clock *c = make(CLOCK_TRUST_KERNEL, TODAY, 0);
	pthread_t threads[2];
	void *r;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask, c), 0);
	for (int i = 0; i < 20000; i++) {
		(void)tick(c, TODAY + i % 4, i, i % 7 == 0);
		if (i % 1000 == 0)
			clock_newest_day_set(c, TODAY + i / 1000);
		clock_trust_set(c, i % 3 ? CLOCK_TRUST_KERNEL : CLOCK_TRUST_ALWAYS);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &r), 0);
		assert_ptr_equal(r, c);
	}
	clock_free(c);
	clock_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_day_and_the_next_fit_without_the_kernels_word),
		cmocka_unit_test(a_clock_behind_is_held_even_when_it_is_vouched_for),
		cmocka_unit_test(a_clock_behind_is_used_after_24_hours_only_when_vouched_for),
		cmocka_unit_test(a_clock_ahead_is_held_until_vouched_for_or_24_hours_are_over),
		cmocka_unit_test(trust_always_takes_the_clock_as_it_is),
		cmocka_unit_test(extreme_times_and_days_are_judged_without_overflow),
		cmocka_unit_test(held_time_is_the_boot_time_between_ticks_that_were_held),
		cmocka_unit_test(a_hold_ends_after_24_hours_and_does_not_begin_again),
		cmocka_unit_test(held_time_goes_on_after_a_restart),
		cmocka_unit_test(time_spent_behind_does_not_count_for_a_clock_that_jumps_ahead),
		cmocka_unit_test(nor_across_a_restart),
		cmocka_unit_test(the_newest_day_never_moves_back),
		cmocka_unit_test(running_time_leaves_out_holds_and_standstills),
		cmocka_unit_test(held_is_told_between_ticks_by_the_clock_of_now),
		cmocka_unit_test(readings_are_of_the_machines_clocks),
		cmocka_unit_test(other_threads_may_ask_while_the_owner_ticks),
	};

	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
