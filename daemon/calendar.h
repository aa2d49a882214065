/* SPDX-License-Identifier: ISC */
/*
 * calendar: UTC days, months and the horizon.  Pure: no clock, no I/O.
 *
 * A day is its number since 1970-01-01 (proleptic Gregorian, UTC, no leap
 * seconds: Unix time has none).  A month is YYYYMM.
 */
#ifndef CALENDAR_H
#define CALENDAR_H

#include <stdbool.h>
#include <stdint.h>

#define CALENDAR_DAY_MS INT64_C(86400000)
/* The promise: nothing is kept past this, whatever the configuration says. */
#define CALENDAR_RETENTION_MAX 90
/* What is written to the journal is cut to the horizon as it will be then. */
#define CALENDAR_AHEAD_MS (INT64_C(2) * 3600 * 1000)
#define CALENDAR_NAME_SIZE 11 /* "YYYY-MM-DD" and NUL */

/*
 * The day that holds a time; rounds towards the past for times before 1970.
 * Times beyond the 32-bit days give the first or the last of them.
 */
int32_t calendar_day(int64_t ms);
/* 00:00 UTC of a day, Unix milliseconds. */
int64_t calendar_day_start(int32_t day);
/* The month (YYYYMM) that holds a day; 0 for years before 0000. */
uint32_t calendar_month(int32_t day);
/* The first day of the month after the one that holds day. */
int32_t calendar_next_month(int32_t day);
/* day as YYYYMMDD, for metrics; 0 outside the years 0000-9999. */
uint32_t calendar_number(int32_t day);
/*
 * The oldest day that is kept when today is the newest.  A retention outside
 * 1..90 days is taken as the nearest of them: the ceiling holds here too.
 */
int32_t calendar_horizon(int32_t today, int retention_days);
/* 00:00 of the oldest kept day at time ms. */
int64_t calendar_horizon_ms(int64_t ms, int retention_days);
/* "YYYY-MM-DD"; years 0000-9999 only (-ERANGE otherwise). */
int calendar_name(char out[CALENDAR_NAME_SIZE], int32_t day);
/* The opposite, exactly ten characters and a real date, else -EINVAL. */
int calendar_parse(int32_t *day, const char *name) __attribute__((warn_unused_result));

#endif
