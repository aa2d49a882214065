/* SPDX-License-Identifier: ISC */
/* calendar: days, months and the horizon agree with an independent count of days. */
#include "calendar.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DAY_2026_11_22 20779
#define DAY_9999_12_31 2932896
#define DAY_0000_01_01 (-719528)

static bool leap(unsigned int y)
{
	return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

static unsigned int month_days(unsigned int y, unsigned int m)
{
	static const unsigned int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return days[m - 1] + (m == 2 && leap(y));
}

static void every_day_of_ten_thousand_years_has_its_date(void **state)
{
	int32_t day = DAY_0000_01_01;
	char want[64], got[CALENDAR_NAME_SIZE];
	int32_t back;

	(void)state;
	for (unsigned int y = 0; y <= 9999; y++) {
		for (unsigned int m = 1; m <= 12; m++) {
			int32_t first = day, next = day + (int32_t)month_days(y, m);

			for (unsigned int d = 1; day < next; d++, day++) {
				if (calendar_month(day) != y * 100 + m ||
				    calendar_next_month(day) != next ||
				    calendar_number(day) != y * 10000 + m * 100 + d)
					fail_msg("day %d", day);
				if (d > 1 && day < next - 1 && day - first != 14)
					continue; /* names: the first, a middle and the last */
				(void)snprintf(want, sizeof(want), "%04u-%02u-%02u", y, m, d);
				assert_int_equal(calendar_name(got, day), 0);
				assert_string_equal(got, want);
				assert_int_equal(calendar_parse(&back, want), 0);
				assert_int_equal(back, day);
			}
		}
	}
	assert_int_equal(day - 1, DAY_9999_12_31);
}

static void a_day_begins_at_midnight_and_ends_before_the_next(void **state)
{
	(void)state;
	assert_int_equal(calendar_day(0), 0);
	assert_int_equal(calendar_day(CALENDAR_DAY_MS - 1), 0);
	assert_int_equal(calendar_day(CALENDAR_DAY_MS), 1);
	assert_int_equal(calendar_day(-1), -1);
	assert_int_equal(calendar_day(-CALENDAR_DAY_MS), -1);
	assert_int_equal(calendar_day(-CALENDAR_DAY_MS - 1), -2);
	for (int32_t day = -1000; day <= 40000; day++) {
		int64_t start = calendar_day_start(day);

		assert_int_equal(calendar_day(start), day);
		assert_int_equal(calendar_day(start - 1), day - 1);
		assert_int_equal(calendar_day(start + CALENDAR_DAY_MS - 1), day);
	}
	assert_int_equal(calendar_day(INT64_C(1795305600000)), DAY_2026_11_22);
}

static void times_beyond_all_days_stick_to_the_nearest_day(void **state)
{
	(void)state;
	assert_int_equal(calendar_day(INT64_MAX), INT32_MAX);
	assert_int_equal(calendar_day(INT64_MIN), INT32_MIN);
	assert_int_equal(calendar_day(calendar_day_start(INT32_MAX)), INT32_MAX);
	assert_int_equal(calendar_day(calendar_day_start(INT32_MIN)), INT32_MIN);
	assert_int_equal(calendar_horizon(INT32_MIN, 90), INT32_MIN);
	assert_int_equal(calendar_next_month(INT32_MAX), INT32_MAX);
	assert_true(calendar_next_month(INT32_MIN) > INT32_MIN);
	assert_int_equal(calendar_month(INT32_MIN), 0);
	assert_true(calendar_month(INT32_MAX) > 999912);
	assert_int_equal(calendar_number(INT32_MAX), 0);
	assert_int_equal(calendar_number(INT32_MIN), 0);
}

static void ninety_days_are_today_and_the_89_before_it(void **state)
{
	int64_t midnight = calendar_day_start(DAY_2026_11_22);

	(void)state;
	assert_int_equal(calendar_horizon(DAY_2026_11_22, 90), DAY_2026_11_22 - 89);
	assert_int_equal(calendar_horizon(DAY_2026_11_22, 1), DAY_2026_11_22);
	assert_int_equal(calendar_horizon_ms(midnight, 90), midnight - 89 * CALENDAR_DAY_MS);
	assert_int_equal(calendar_horizon_ms(midnight - 1, 90), midnight - 90 * CALENDAR_DAY_MS);
	assert_int_equal(calendar_horizon_ms(midnight + CALENDAR_DAY_MS - 1, 1), midnight);
}

static void no_retention_reaches_past_ninety_days(void **state)
{
	(void)state;
	for (int days = -3; days < 400; days++) {
		int32_t horizon = calendar_horizon(DAY_2026_11_22, days);

		assert_in_range(DAY_2026_11_22 - horizon, 0, 89);
	}
	assert_int_equal(calendar_horizon(DAY_2026_11_22, 91), DAY_2026_11_22 - 89);
	assert_int_equal(calendar_horizon(DAY_2026_11_22, 0), DAY_2026_11_22);
}

static void names_are_exact_or_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"2026-11-2",
		"2026-11-222",
		"2026-11-22 ",
		" 2026-11-22",
		"2026-13-01",
		"2026-00-01",
		"2026-01-00",
		"2026-01-32",
		"2026-02-29",
		"2100-02-29",
		"2026-04-31",
		"2026/11/22",
		"2026-11/22",
		"20261122",
		"+026-11-22",
		"2026-+1-22",
		"2026-11--2",
		"2026-11-2\n",
		"2026-1a-22",
		"2026-11-22.",
		"-026-11-22",
		"2026-11-22T0",
		"999999-01-01",
		"0000000000",
	};
	char name[CALENDAR_NAME_SIZE] = "untouched";
	int32_t day = 4711;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(calendar_parse(&day, bad[i]), -EINVAL);
		assert_int_equal(day, 4711);
	}
	assert_int_equal(calendar_parse(&day, "2024-02-29"), 0);
	assert_int_equal(day, 19782);
	assert_int_equal(calendar_parse(&day, "2026-11-22"), 0);
	assert_int_equal(day, DAY_2026_11_22);
	assert_int_equal(calendar_name(name, DAY_9999_12_31 + 1), -ERANGE);
	assert_int_equal(calendar_name(name, DAY_0000_01_01 - 1), -ERANGE);
	assert_int_equal(calendar_name(name, INT32_MIN), -ERANGE);
	assert_string_equal(name, "untouched");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_day_of_ten_thousand_years_has_its_date),
		cmocka_unit_test(a_day_begins_at_midnight_and_ends_before_the_next),
		cmocka_unit_test(times_beyond_all_days_stick_to_the_nearest_day),
		cmocka_unit_test(ninety_days_are_today_and_the_89_before_it),
		cmocka_unit_test(no_retention_reaches_past_ninety_days),
		cmocka_unit_test(names_are_exact_or_refused),
	};

	return cmocka_run_group_tests_name("calendar", tests, NULL, NULL);
}
