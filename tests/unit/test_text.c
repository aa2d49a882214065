/* SPDX-License-Identifier: ISC */
/*
 * nolog/text.h: every text form, where it ends, and what is not of it.
 */
#include <nolog/text.h>

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* --- Addresses --------------------------------------------------------- */

static void addresses_are_read_and_printed_the_one_way(void **state)
{
	static const char *const same[] = {
		"0.0.0.0",
		"10.8.0.2",
		"255.255.255.255",
		"::",
		"::1",
		"2001:db8::7",
		"2001:db8:0:1:1:1:1:1",
		"2001:db8::1:0:0:1",
		"fe80::1",
		"ff02::fb",
		"1:2:3:4:5:6:7:8",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	};
	static const char *const other[][2] = {
		{ "::ffff:10.8.0.2", "10.8.0.2" },
		{ "::FFFF:0a08:0002", "10.8.0.2" },
		{ "2001:DB8:0:0:0:0:0:7", "2001:db8::7" },
		{ "2001:0db8:0000:0000:0001:0000:0000:0001", "2001:db8::1:0:0:1" },
	};
	char text[NOLOG_IP_TEXT];
	uint8_t ip[16];

	(void)state;
	for (size_t i = 0; i < COUNT(same); i++) {
		assert_int_equal(nolog_ip_parse(ip, same[i]), 0);
		assert_int_equal(nolog_ip_format(text, ip), 0);
		assert_string_equal(text, same[i]);
	}
	for (size_t i = 0; i < COUNT(other); i++) {
		assert_int_equal(nolog_ip_parse(ip, other[i][0]), 0);
		assert_int_equal(nolog_ip_format(text, ip), 0);
		assert_string_equal(text, other[i][1]);
	}
}

static void ipv4_is_the_mapped_form(void **state)
{
	static const uint8_t want[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 8, [15] = 2 };
	static const uint8_t v4[4] = { 10, 8, 0, 2 };
	uint8_t ip[16];

	(void)state;
	assert_int_equal(nolog_ip_parse(ip, "10.8.0.2"), 0);
	assert_memory_equal(ip, want, 16);
	assert_true(nolog_ip_is_v4(ip));
	memset(ip, 0xee, 16);
	nolog_ip_from_v4(ip, v4);
	assert_memory_equal(ip, want, 16);
	assert_int_equal(nolog_ip_parse(ip, "::10.8.0.2"), 0);
	assert_false(nolog_ip_is_v4(ip));
}

static void what_is_no_address_is_refused_and_changes_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"10.8.0",
		"10.8.0.2.1",
		"10.8.0.256",
		"10.8.0.02",
		"010.8.0.2",
		" 10.8.0.2",
		"10.8.0.2 ",
		"10.8.0.2:80",
		"10.8.0.2/32",
		"[::1]",
		"::1%eth0",
		"fe80::1%1",
		":::",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"::12345",
		"::g",
		"localhost",
		"0x0a080002",
		"168296450",
		"10.8",
		"2001:db8::1::2",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001",
	};
	uint8_t ip[16], len_ip[16], before[16];
	unsigned len = 77;

	(void)state;
	memset(ip, 0xa5, 16);
	memset(len_ip, 0xa5, 16);
	memset(before, 0xa5, 16);
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(nolog_ip_parse(ip, bad[i]), -EINVAL);
		if (strcmp(bad[i], "10.8.0.2/32") != 0)
			assert_int_equal(nolog_prefix_parse(len_ip, &len, bad[i]), -EINVAL);
	}
	assert_memory_equal(ip, before, 16);
	assert_memory_equal(len_ip, before, 16);
	assert_int_equal(len, 77);
}

/* --- Prefixes ---------------------------------------------------------- */

static void prefix_lengths_are_in_128_bit_terms(void **state)
{
	static const struct {
		const char *text, *again;
		unsigned len;
	} good[] = {
		{ "10.0.0.0/8", "10.0.0.0/8", 104 },
		{ "10.8.0.2", "10.8.0.2", 128 },
		{ "10.8.0.2/32", "10.8.0.2", 128 },
		{ "0.0.0.0/0", "0.0.0.0/0", 96 },
		{ "::/0", "::/0", 0 },
		{ "2001:db8::/32", "2001:db8::/32", 32 },
		{ "2001:db8::7", "2001:db8::7", 128 },
		{ "2001:db8::7/128", "2001:db8::7", 128 },
		{ "10.8.0.2/9", "10.8.0.2/9", 105 },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8", 104 },
		{ "::ffff:0:0/96", "0.0.0.0/0", 96 },
		{ "::ffff:0:0/95", "::ffff:0.0.0.0/95", 95 },
		{ "10.0.0.0/008", "10.0.0.0/8", 104 },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127",
		  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/127", 127 },
	};
	char text[NOLOG_PREFIX_TEXT];
	uint8_t ip[16];
	unsigned len;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		assert_int_equal(nolog_prefix_parse(ip, &len, good[i].text), 0);
		assert_int_equal(len, good[i].len);
		assert_int_equal(nolog_prefix_format(text, ip, len), 0);
		assert_string_equal(text, good[i].again);
	}
	assert_int_equal(nolog_prefix_format(text, ip, 129), -ERANGE);
	assert_string_equal(text, "");
}

static void prefixes_out_of_range_or_form_are_refused(void **state)
{
	static const char *const form[] = { "/8",	    "10.0.0.0/",    "10.0.0.0/-1",
					    "10.0.0.0/+8",  "10.0.0.0/8 ",  "10.0.0.0/ 8",
					    "10.0.0.0/8/8", "10.0.0.0/0x8", "10.0.0.0/255.0.0.0",
					    "10/8",	    "::/" };
	static const char *const range[] = { "10.0.0.0/33", "::/129", "10.0.0.0/128",
					     "::/4294967296", "::/18446744073709551616" };
	uint8_t ip[16];
	unsigned len;

	(void)state;
	for (size_t i = 0; i < COUNT(form); i++)
		assert_int_equal(nolog_prefix_parse(ip, &len, form[i]), -EINVAL);
	for (size_t i = 0; i < COUNT(range); i++)
		assert_int_equal(nolog_prefix_parse(ip, &len, range[i]), -ERANGE);
}

static void a_prefix_matches_exactly_its_first_bits(void **state)
{
	uint8_t prefix[16], ip[16];

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		prefix[i] = (uint8_t)(i * 37 + 11);
	for (unsigned len = 0; len <= 128; len++)
		for (unsigned bit = 0; bit < 128; bit++) {
			memcpy(ip, prefix, 16);
			ip[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
			assert_int_equal(nolog_prefix_match(ip, prefix, len), bit >= len);
			assert_int_equal(nolog_prefix_match(prefix, prefix, len), true);
		}
	assert_false(nolog_prefix_match(prefix, prefix, 129));
}

static void length_zero_is_both_families_and_96_is_ipv4(void **state)
{
	uint8_t ip4[16], ip6[16], prefix[16];
	unsigned len;

	(void)state;
	assert_int_equal(nolog_ip_parse(ip4, "203.0.113.7"), 0);
	assert_int_equal(nolog_ip_parse(ip6, "2001:db8::7"), 0);
	assert_int_equal(nolog_prefix_parse(prefix, &len, "::/0"), 0);
	assert_true(nolog_prefix_match(ip4, prefix, len) && nolog_prefix_match(ip6, prefix, len));
	assert_int_equal(nolog_prefix_parse(prefix, &len, "0.0.0.0/0"), 0);
	assert_true(nolog_prefix_match(ip4, prefix, len));
	assert_false(nolog_prefix_match(ip6, prefix, len));
}

/* --- Server IDs -------------------------------------------------------- */

static void server_ids_are_read_and_printed(void **state)
{
	static const char *const good[] = { "a", "nl-ams-03", "abcdefghijklmnop", "0.-9" };
	static const char *const bad[] = {
		"", "A", "nl ams", "nl_ams", "abcdefghijklmnopq", "a\n", "\xc3\xa4", "a/b"
	};
	uint8_t id[16], zero[16] = { 0 };
	char text[NOLOG_SERVER_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		memset(id, 0xee, 16);
		assert_int_equal(nolog_server_parse(id, good[i]), 0);
		assert_true(nolog_server_valid(id));
		assert_int_equal(nolog_server_format(text, id), 0);
		assert_string_equal(text, good[i]);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(nolog_server_parse(id, bad[i]), -EINVAL);
	assert_int_equal(nolog_server_format(text, zero), 0);
	assert_string_equal(text, "");
	zero[3] = 'x';
	assert_int_equal(nolog_server_format(text, zero), -EINVAL);
	assert_string_equal(text, "");
}

/* --- Numbers ----------------------------------------------------------- */

static void numbers_are_decimal_digits_only(void **state)
{
	static const char *const bad[] = { "",
					   " 1",
					   "1 ",
					   "+1",
					   "-1",
					   "0x1",
					   "1e3",
					   "1.0",
					   "1,0",
					   "١",
					   "1a",
					   "\n",
					   "18446744073709551616x" };
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(nolog_u64_parse(&v, bad[i]), -EINVAL);
	assert_int_equal(nolog_u64_parse(&v, "18446744073709551616"), -ERANGE);
	assert_int_equal(nolog_u64_parse(&v, "99999999999999999999999"), -ERANGE);
	assert_int_equal(v, 7);
	assert_int_equal(nolog_u64_parse(&v, "18446744073709551615"), 0);
	assert_true(v == UINT64_MAX);
	assert_int_equal(nolog_u64_parse(&v, "0"), 0);
	assert_int_equal(v, 0);
	assert_int_equal(nolog_u64_parse(&v, "0017"), 0);
	assert_int_equal(v, 17);
}

/* --- Times ------------------------------------------------------------- */

static void times_are_read_to_the_millisecond(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-11-22T08:00:00Z", 1795334400000 },
		{ "2026-11-22t08:00:00z", 1795334400000 },
		{ "2026-11-22 08:00:00Z", 1795334400000 },
		{ "2026-11-22T09:00:00+01:00", 1795334400000 },
		{ "2026-11-22T02:30:00-05:30", 1795334400000 },
		{ "2026-11-22T08:00:00-00:00", 1795334400000 },
		{ "2026-11-23T07:59:00+23:59", 1795334400000 },
		{ "2026-11-22T08:00:00.5Z", 1795334400500 },
		{ "2026-11-22T08:00:00.001Z", 1795334400001 },
		{ "2026-11-22T08:00:00.0019999999999999999999999999Z", 1795334400001 },
		{ "2026-11-22T08:00:00.99999+00:00", 1795334400999 },
		{ "1969-12-31T23:59:59.9999Z", -1 },
		{ "1969-12-31T23:59:59.9981Z", -2 },
		{ "2024-02-29T00:00:00Z", 1709164800000 },
		{ "2000-02-29T23:59:59Z", 951868799000 },
		{ "0000-01-01T00:00:00Z", -62167219200000 },
		{ "0000-01-01T00:00:00+23:59", -62167305540000 },
		{ "9999-12-31T23:59:59.999Z", 253402300799999 },
		{ "9999-12-31T23:59:59.999-23:59", 253402387139999 },
		{ "2016-12-31T23:59:60Z", 1483228800000 },
		{ "2016-12-31T23:59:60.25Z", 1483228800250 },
		{ "2017-01-01T00:59:60+01:00", 1483228800000 },
		{ "@0", 0 },
		{ "@-0", 0 },
		{ "@1795334400", 1795334400000 },
		{ "@1795334400.25", 1795334400250 },
		{ "@0001.9999", 1999 },
		{ "@-1", -1000 },
		{ "@-0.5", -500 },
		{ "@-0.0005", -1 },
		{ "@-0.0010000", -1 },
		{ "@-0.0010001", -2 },
		{ "@9223372036854775.807", INT64_MAX },
		{ "@9223372036854775.8079", INT64_MAX },
		{ "@-9223372036854775.808", INT64_MIN },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		int64_t ms = 1;

		if (nolog_time_parse(&ms, good[i].text) != 0 || ms != good[i].ms)
			fail_msg("%s: %lld", good[i].text, (long long)ms);
	}
}

static void times_of_another_form_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"now",
		"2026-11-22",
		"2026-11-22T08:00:00",
		"2026-11-22T08:00Z",
		"2026-11-22T08Z",
		"2026-11-22T08:00:00.Z",
		"2026-11-22T08:00:00,5Z",
		"2026-11-22T08:00:00+01",
		"2026-11-22T08:00:00+0100",
		"2026-11-22T08:00:00+1:00",
		"2026-11-22T08:00:00 Z",
		"2026-11-22T08:00:00Z ",
		" 2026-11-22T08:00:00Z",
		"2026-11-22T08:00:00ZZ",
		"2026-11-22  08:00:00Z",
		"2026-11-22_08:00:00Z",
		"2026/11/22T08:00:00Z",
		"26-11-22T08:00:00Z",
		"+2026-11-22T08:00:00Z",
		"12026-11-22T08:00:00Z",
		"2026-1-22T08:00:00Z",
		"2026-11-22T8:00:00Z",
		"2026-11-22T-8:00:00Z",
		"20261122T080000Z",
		"2026-W47-7T08:00:00Z",
		"2026-11-22T08:00:00UTC",
		"2026-11-22T08:00:00\u221201:00",
		"1795334400",
		"@",
		"@-",
		"@+1",
		"@1.",
		"@.5",
		"@1e3",
		"@ 1",
		"@1 ",
		"@--1",
		"@1.5.5",
		"@0x10",
		"@-.5",
		"@99999999999999999999x",
		"2026-13-22T08:00:00",
	};
	int64_t ms = 42;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (nolog_time_parse(&ms, bad[i]) != -EINVAL || ms != 42)
			fail_msg("%s", bad[i]);
}

static void times_that_do_not_exist_are_refused(void **state)
{
	static const char *const bad[] = {
		"2026-00-22T08:00:00Z",	      "2026-13-22T08:00:00Z",	   "2026-11-00T08:00:00Z",
		"2026-11-31T08:00:00Z",	      "2026-01-32T08:00:00Z",	   "2026-02-29T08:00:00Z",
		"2024-02-30T08:00:00Z",	      "1900-02-29T08:00:00Z",	   "2100-02-29T08:00:00Z",
		"2026-11-22T24:00:00Z",	      "2026-11-22T08:60:00Z",	   "2026-11-22T08:00:61Z",
		"2026-11-22T08:00:00+24:00",  "2026-11-22T08:00:00+01:60", "2026-11-22T23:59:60Z",
		"2016-12-31T23:58:60Z",	      "2016-12-31T22:59:60Z",	   "2017-01-01T00:59:60Z",
		"2016-12-31T23:59:60+01:00",  "@9223372036854775.808",	   "@-9223372036854775.809",
		"@-9223372036854775.8080001", "@9223372036854776",	   "@18446744073709551616",
		"@99999999999999999999999",
	};
	int64_t ms = 42;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++)
		if (nolog_time_parse(&ms, bad[i]) != -ERANGE || ms != 42)
			fail_msg("%s", bad[i]);
}

static void every_day_of_the_calendar_is_what_the_c_library_says(void **state)
{
	(void)state;
	for (int64_t day = -720000; day < 2940000; day += 1) {
		int64_t year;
		unsigned month, mday;

		nolog_civil_from_days(day, &year, &month, &mday);
		assert_true(nolog_days_from_civil(year, month, mday) == day);
		if (day % 97 == 0) {
			time_t t = (time_t)day * 86400;
			struct tm tm;

			assert_non_null(gmtime_r(&t, &tm));
			assert_true(year == tm.tm_year + 1900 && month == (unsigned)tm.tm_mon + 1 &&
				    mday == (unsigned)tm.tm_mday);
		}
	}
}

static void times_are_printed_and_read_back(void **state)
{
	static const int64_t times[] = { 0,
					 -1,
					 1,
					 999,
					 1000,
					 -1000,
					 -86400000,
					 -86400001,
					 1795334400000,
					 951868799999,
					 -62167219200000,
					 253402300799999 };
	char text[NOLOG_TIME_TEXT];
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < COUNT(times); i++) {
		assert_int_equal(nolog_time_format(text, times[i]), 0);
		assert_int_equal(strlen(text), NOLOG_TIME_TEXT - 1);
		assert_int_equal(nolog_time_parse(&ms, text), 0);
		assert_true(ms == times[i]);
	}
	assert_int_equal(nolog_time_format(text, 1795334400000), 0);
	assert_string_equal(text, "2026-11-22T08:00:00.000Z");
	assert_int_equal(nolog_time_format(text, -1), 0);
	assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void a_time_without_a_four_digit_year_is_not_printed(void **state)
{
	static const int64_t times[] = { INT64_MIN, INT64_MAX, -62167219200001, 253402300800000 };
	char text[NOLOG_TIME_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(times); i++) {
		memset(text, 'x', sizeof(text));
		assert_int_equal(nolog_time_format(text, times[i]), -ERANGE);
		assert_string_equal(text, "");
	}
}

/* --- Durations --------------------------------------------------------- */

static void durations_are_read_and_printed(void **state)
{
	static const struct {
		const char *text, *again;
		int64_t ms;
	} good[] = {
		{ "500ms", "500ms", 500 },
		{ "5s", "5s", 5000 },
		{ "10min", "10min", 600000 },
		{ "2h", "2h", 7200000 },
		{ "90d", "90d", 7776000000 },
		{ "0s", "0s", 0 },
		{ "0d", "0s", 0 },
		{ "60s", "1min", 60000 },
		{ "24h", "1d", 86400000 },
		{ "90min", "90min", 5400000 },
		{ "1500ms", "1500ms", 1500 },
		{ "007s", "7s", 7000 },
		{ "9223372036854775807ms", "9223372036854775807ms", INT64_MAX },
		{ "106751991167d", "106751991167d", 9223372036828800000 },
	};
	char text[NOLOG_DURATION_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		int64_t ms = -1;

		assert_int_equal(nolog_duration_parse(&ms, good[i].text), 0);
		assert_true(ms == good[i].ms);
		assert_int_equal(nolog_duration_format(text, ms), 0);
		assert_string_equal(text, good[i].again);
	}
	assert_int_equal(nolog_duration_format(text, -1), -ERANGE);
	assert_string_equal(text, "");
}

static void durations_of_another_form_or_too_long_are_refused(void **state)
{
	static const char *const form[] = {
		"",    "5",	   "s",	   "5 s",     " 5s",  "5s ",
		"-5s", "+5s",	   "1.5s", "5S",      "5sec", "5m",
		"5mi", "5minutes", "5w",   "1h30min", "0x5s", "99999999999999999999w"
	};
	static const char *const range[] = {
		"9223372036854775808ms",  "9223372036854776s",	      "106751991168d",
		"18446744073709551616ms", "99999999999999999999999d", "2562047788016h",
		"153722867280913min"
	};
	int64_t ms = 42;

	(void)state;
	for (size_t i = 0; i < COUNT(form); i++)
		if (nolog_duration_parse(&ms, form[i]) != -EINVAL || ms != 42)
			fail_msg("%s", form[i]);
	for (size_t i = 0; i < COUNT(range); i++)
		if (nolog_duration_parse(&ms, range[i]) != -ERANGE || ms != 42)
			fail_msg("%s", range[i]);
}

static void neither_the_time_zone_nor_the_locale_matters(void **state)
{
	char text[NOLOG_TIME_TEXT];
	int64_t ms;

	(void)state;
	assert_int_equal(setenv("TZ", "Asia/Kathmandu", 1), 0);
	tzset();
	(void)setlocale(LC_ALL, "");
	assert_int_equal(nolog_time_parse(&ms, "2026-11-22T08:00:00.25Z"), 0);
	assert_true(ms == 1795334400250);
	assert_int_equal(nolog_time_format(text, ms), 0);
	assert_string_equal(text, "2026-11-22T08:00:00.250Z");
	assert_int_equal(unsetenv("TZ"), 0);
	tzset();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_read_and_printed_the_one_way),
		cmocka_unit_test(ipv4_is_the_mapped_form),
		cmocka_unit_test(what_is_no_address_is_refused_and_changes_nothing),
		cmocka_unit_test(prefix_lengths_are_in_128_bit_terms),
		cmocka_unit_test(prefixes_out_of_range_or_form_are_refused),
		cmocka_unit_test(a_prefix_matches_exactly_its_first_bits),
		cmocka_unit_test(length_zero_is_both_families_and_96_is_ipv4),
		cmocka_unit_test(server_ids_are_read_and_printed),
		cmocka_unit_test(numbers_are_decimal_digits_only),
		cmocka_unit_test(times_are_read_to_the_millisecond),
		cmocka_unit_test(times_of_another_form_are_refused),
		cmocka_unit_test(times_that_do_not_exist_are_refused),
		cmocka_unit_test(every_day_of_the_calendar_is_what_the_c_library_says),
		cmocka_unit_test(times_are_printed_and_read_back),
		cmocka_unit_test(a_time_without_a_four_digit_year_is_not_printed),
		cmocka_unit_test(durations_are_read_and_printed),
		cmocka_unit_test(durations_of_another_form_or_too_long_are_refused),
		cmocka_unit_test(neither_the_time_zone_nor_the_locale_matters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
