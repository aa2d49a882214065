/* SPDX-License-Identifier: ISC */
/*
 * calendar: UTC days, months and the horizon.
 *
 * Pure arithmetic: knows no clock, no time zone, no locale and no libc time
 * function.  Times come from peers, so every 64-bit time is accepted; what lies
 * outside the 32-bit days sticks to the nearest of them instead of wrapping.
 */
#include "calendar.h"

#include <errno.h>
#include <string.h>

#define DAYS_PER_ERA 146097 /* 400 Gregorian years */
#define DAYS_TO_1970 719468 /* from 0000-03-01 */

struct date {
	int64_t year;
	unsigned int month; /* 1..12 */
	unsigned int day;   /* 1..31 */
};

/*
 * Counted in eras of 400 years that begin on 1 March, so that the leap day is
 * the last of its year: Howard Hinnant, "chrono-compatible low-level date
 * algorithms".
 */
static struct date date_of(int32_t day)
{
	int64_t z = (int64_t)day + DAYS_TO_1970;
	int64_t era = (z >= 0 ? z : z - (DAYS_PER_ERA - 1)) / DAYS_PER_ERA;
	int64_t doe = z - era * DAYS_PER_ERA;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t shifted = (5 * doy + 2) / 153; /* months since March */
	struct date d;

	d.day = (unsigned int)(doy - (153 * shifted + 2) / 5 + 1);
	d.month = (unsigned int)(shifted < 10 ? shifted + 3 : shifted - 9);
	d.year = yoe + era * 400 + (d.month <= 2);
	return d;
}

static int64_t day_of(int64_t year, unsigned int month, unsigned int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t yoe = y - era * 400;
	int64_t doy = (153 * (month > 2 ? (int64_t)month - 3 : (int64_t)month + 9) + 2) / 5 + day -
		      1;
	int64_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

	return era * DAYS_PER_ERA + doe - DAYS_TO_1970;
}

static int32_t clamp_day(int64_t day)
{
	if (day < INT32_MIN)
		return INT32_MIN;
	if (day > INT32_MAX)
		return INT32_MAX;
	return (int32_t)day;
}

int32_t calendar_day(int64_t ms)
{
	int64_t day = ms / CALENDAR_DAY_MS;

	if (ms % CALENDAR_DAY_MS < 0) /* C rounds to zero, days begin at their start */
		day--;
	return clamp_day(day);
}

int64_t calendar_day_start(int32_t day)
{
	return day * CALENDAR_DAY_MS;
}

uint32_t calendar_month(int32_t day)
{
	struct date d = date_of(day);

	/* No overflow: a 32-bit day lies within six million years. */
	return d.year < 0 ? 0 : (uint32_t)(d.year * 100 + d.month);
}

int32_t calendar_next_month(int32_t day)
{
	struct date d = date_of(day);

	if (d.month == 12)
		return clamp_day(day_of(d.year + 1, 1, 1));
	return clamp_day(day_of(d.year, d.month + 1, 1));
}

uint32_t calendar_number(int32_t day)
{
	struct date d = date_of(day);

	if (d.year < 0 || d.year > 9999)
		return 0;
	return (uint32_t)(d.year * 10000 + d.month * 100 + d.day);
}

int32_t calendar_horizon(int32_t today, int retention_days)
{
	/* Configuration has refused others long before; the promise must not hang on that. */
	if (retention_days < 1)
		retention_days = 1;
	if (retention_days > CALENDAR_RETENTION_MAX)
		retention_days = CALENDAR_RETENTION_MAX;
	return clamp_day((int64_t)today - (retention_days - 1));
}

int64_t calendar_horizon_ms(int64_t ms, int retention_days)
{
	return calendar_day_start(calendar_horizon(calendar_day(ms), retention_days));
}

static void put_digits(char *out, unsigned int value, int digits)
{
	while (digits-- > 0) {
		out[digits] = (char)('0' + value % 10);
		value /= 10;
	}
}

static int get_digits(unsigned int *value, const char *in, int digits)
{
	unsigned int v = 0;

	for (int i = 0; i < digits; i++) {
		if (in[i] < '0' || in[i] > '9')
			return -EINVAL;
		v = v * 10 + (unsigned int)(in[i] - '0');
	}
	*value = v;
	return 0;
}

int calendar_name(char out[CALENDAR_NAME_SIZE], int32_t day)
{
	struct date d = date_of(day);

	if (d.year < 0 || d.year > 9999)
		return -ERANGE;
	put_digits(out, (unsigned int)d.year, 4);
	out[4] = '-';
	put_digits(out + 5, d.month, 2);
	out[7] = '-';
	put_digits(out + 8, d.day, 2);
	out[10] = '\0';
	return 0;
}

int calendar_parse(int32_t *day, const char *name)
{
	unsigned int y, m, d;
	struct date back;
	int32_t v;

	if (strnlen(name, CALENDAR_NAME_SIZE) != CALENDAR_NAME_SIZE - 1 || name[4] != '-' ||
	    name[7] != '-' || get_digits(&y, name, 4) < 0 || get_digits(&m, name + 5, 2) < 0 ||
	    get_digits(&d, name + 8, 2) < 0 || m < 1 || m > 12 || d < 1 || d > 31)
		return -EINVAL;
	v = clamp_day(day_of(y, m, d));
	back = date_of(v); /* 30 February comes back as a day of March */
	if (back.month != m || back.day != d)
		return -EINVAL;
	*day = v;
	return 0;
}
