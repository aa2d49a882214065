/* SPDX-License-Identifier: ISC */
/*
 * nolog/text.h: the text forms every program of nologd reads and prints.
 *
 * Addresses, prefixes, server IDs, times, durations and numbers mean the same
 * in the configuration, on a command line and in an adapter, because all of
 * them are read here.  Nothing here allocates, asks the locale, the time zone
 * or the clock; it knows of no frame, file or option, and prints no message:
 * whoever asked for the text knows what to say about it.
 *
 * Every function returns 0, -EINVAL (the text is not of this form) or -ERANGE
 * (it is, but there is no such value: month 13, 10.0.0.0/33, a number too
 * large), and writes its results only with 0; a formatter that fails leaves an
 * empty string.  Text is read as a whole: no white space or anything else may
 * stand before or after.
 */
#ifndef NOLOG_TEXT_H
#define NOLOG_TEXT_H

#include <nolog/frame.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Room for each formatted text, with its terminating zero. */
#define NOLOG_IP_TEXT 46       /* ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255 */
#define NOLOG_PREFIX_TEXT 50   /* the same and /128 */
#define NOLOG_SERVER_TEXT 17   /* 16 characters */
#define NOLOG_TIME_TEXT 25     /* 2026-11-22T08:00:00.000Z */
#define NOLOG_DURATION_TEXT 23 /* 9223372036854775807ms */

#define NOLOG_PREFIX_MAX 128 /* the length that means one address */
#define NOLOG_PREFIX_V4 96   /* what an IPv4 length is added to */

/* The twelve bytes before an IPv4 address: ::ffff:0:0/96. */
static inline bool nolog_ip_is_v4(const uint8_t ip[NOLOG_IP_SIZE])
{
	return nolog_all_zero(ip, 10) && ip[10] == 0xff && ip[11] == 0xff;
}

/* The 16-byte form of an IPv4 address of four bytes in network order. */
static inline void nolog_ip_from_v4(uint8_t out[NOLOG_IP_SIZE], const uint8_t v4[4])
{
	memset(out, 0, 10);
	out[10] = 0xff;
	out[11] = 0xff;
	memcpy(out + 12, v4, 4);
}

/*
 * --- Numbers ---
 */

static inline bool nolog_is_digit_(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * Reads the digits at *p, at least one, and moves *p behind them, also when
 * they are too many.
 */
static inline int nolog_digits_(const char **p, uint64_t *out)
{
	uint64_t v = 0;
	bool over = false;

	if (!nolog_is_digit_(**p))
		return -EINVAL;
	for (; nolog_is_digit_(**p); (*p)++) {
		uint64_t digit = (uint64_t)(**p - '0');

		over = over || v > (UINT64_MAX - digit) / 10;
		v = v * 10 + digit;
	}
	if (over)
		return -ERANGE;
	*out = v;
	return 0;
}

/* A whole number in decimal digits: no sign, no other base. */
static inline int nolog_u64_parse(uint64_t *out, const char *text)
{
	uint64_t v;
	int r = nolog_digits_(&text, &v);

	if (r == -EINVAL || *text)
		return -EINVAL;
	if (r < 0)
		return r;
	*out = v;
	return 0;
}

/* Writes v in decimal with at least width digits (0-20) and returns its end; no zero is written. */
static inline char *nolog_put_decimal_(char *out, uint64_t v, unsigned width)
{
	char digits[20];
	unsigned n = 0;

	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	for (; width > n; width--)
		*out++ = '0';
	while (n > 0)
		*out++ = digits[--n];
	return out;
}

/*
 * --- Addresses and prefixes ---
 */

/* "10.8.0.2" or "2001:db8::7"; no zone, no port, no brackets, no leading zeros. */
static inline int nolog_ip_parse(uint8_t out[NOLOG_IP_SIZE], const char *text)
{
	uint8_t v4[4], v6[NOLOG_IP_SIZE];

	if (inet_pton(AF_INET, text, v4) == 1) {
		nolog_ip_from_v4(out, v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, v6) != 1)
		return -EINVAL;
	memcpy(out, v6, sizeof(v6));
	return 0;
}

/* IPv4 dotted, IPv6 as RFC 5952 has it. */
static inline int nolog_ip_format(char out[NOLOG_IP_TEXT], const uint8_t ip[NOLOG_IP_SIZE])
{
	const char *done;

	out[0] = '\0';
	if (nolog_ip_is_v4(ip))
		done = inet_ntop(AF_INET, ip + 12, out, NOLOG_IP_TEXT);
	else
		done = inet_ntop(AF_INET6, ip, out, NOLOG_IP_TEXT);
	return done ? 0 : -EINVAL;
}

/*
 * An address, or an address and a length: "10.0.0.0/8" is 104 in 128-bit
 * terms, since IPv4 /n is 96+n; "10.8.0.2" is 128, "0.0.0.0/0" is 96 (all of
 * IPv4), "::/0" is 0 (all of both families).  Bits beyond the length are left
 * as they were written; nolog_prefix_match() does not look at them.
 */
static inline int nolog_prefix_parse(uint8_t out[NOLOG_IP_SIZE], unsigned *len, const char *text)
{
	char address[NOLOG_IP_TEXT];
	uint8_t ip[NOLOG_IP_SIZE];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	unsigned base;
	uint64_t v;
	int r;

	if (n >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, n);
	address[n] = '\0';
	r = nolog_ip_parse(ip, address);
	if (r < 0)
		return r;
	/* What was written with colons counts its length in 128 bits, ::ffff:10.0.0.0/104 too. */
	base = strchr(address, ':') ? 0 : NOLOG_PREFIX_V4;
	v = NOLOG_PREFIX_MAX - base;
	if (slash)
		r = nolog_u64_parse(&v, slash + 1);
	if (r < 0)
		return r;
	if (v > NOLOG_PREFIX_MAX - base)
		return -ERANGE;
	memcpy(out, ip, sizeof(ip));
	*len = base + (unsigned)v;
	return 0;
}

/* The text that nolog_prefix_parse() reads back; a whole address without a length. */
static inline int nolog_prefix_format(char out[NOLOG_PREFIX_TEXT], const uint8_t ip[NOLOG_IP_SIZE],
				      unsigned len)
{
	bool v4 = nolog_ip_is_v4(ip) && len >= NOLOG_PREFIX_V4;
	char *p = out;

	out[0] = '\0';
	if (len > NOLOG_PREFIX_MAX)
		return -ERANGE;
	if (v4 || !nolog_ip_is_v4(ip)) {
		(void)nolog_ip_format(out, ip); /* has room: cannot fail */
	} else {
		/* Dotted would turn the length into IPv4's: keep the colons. */
		memcpy(out, "::ffff:", 8);
		(void)inet_ntop(AF_INET, ip + 12, out + 7, NOLOG_PREFIX_TEXT - 7);
	}
	p += strlen(out);
	if (len < NOLOG_PREFIX_MAX) {
		*p++ = '/';
		p = nolog_put_decimal_(p, v4 ? len - NOLOG_PREFIX_V4 : len, 0);
		*p = '\0';
	}
	return 0;
}

/* True when the first len bits of both are the same; a length over 128 matches nothing. */
static inline bool nolog_prefix_match(const uint8_t ip[NOLOG_IP_SIZE],
				      const uint8_t prefix[NOLOG_IP_SIZE], unsigned len)
{
	unsigned bytes = len / 8, bits = len % 8;

	if (len > NOLOG_PREFIX_MAX || memcmp(ip, prefix, bytes) != 0)
		return false;
	return bits == 0 || ((ip[bytes] ^ prefix[bytes]) & (0xff00u >> bits) & 0xff) == 0;
}

/*
 * --- Server IDs ---
 */

/* 1 to 16 of [a-z0-9.-]. */
static inline int nolog_server_parse(uint8_t out[NOLOG_SERVER_SIZE], const char *text)
{
	uint8_t id[NOLOG_SERVER_SIZE] = { 0 };

	for (size_t i = 0; text[i] != '\0'; i++) {
		if (i == NOLOG_SERVER_SIZE)
			return -EINVAL;
		id[i] = (uint8_t)text[i];
	}
	if (!nolog_server_valid(id))
		return -EINVAL;
	memcpy(out, id, sizeof(id));
	return 0;
}

/* -EINVAL for what is not a server ID; the empty one is "". */
static inline int nolog_server_format(char out[NOLOG_SERVER_TEXT],
				      const uint8_t id[NOLOG_SERVER_SIZE])
{
	out[0] = '\0';
	if (nolog_all_zero(id, NOLOG_SERVER_SIZE))
		return 0;
	if (!nolog_server_valid(id))
		return -EINVAL;
	memcpy(out, id, NOLOG_SERVER_SIZE);
	out[NOLOG_SERVER_SIZE] = '\0';
	return 0;
}

/*
 * --- Times ---
 */

#define NOLOG_DAY_MS 86400000

/*
 * Days since 1970-01-01 of a day of the proleptic Gregorian calendar, and back.
 * Years run from March here, so that the leap day is a year's last, and eras of
 * 400 years have all the same 146,097 days.
 */
static inline int64_t nolog_days_from_civil(int64_t year, unsigned month, unsigned day)
{
	int64_t y = year - (month <= 2);
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day -
			      1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static inline void nolog_civil_from_days(int64_t days, int64_t *year, unsigned *month,
					 unsigned *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t day_of_era = z - era * 146097;
	int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 -
			       day_of_era / 146096) /
			      365;
	int64_t day_of_year = day_of_era -
			      (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t m = (5 * day_of_year + 2) / 153;

	*day = (unsigned)(day_of_year - (153 * m + 2) / 5 + 1);
	*month = (unsigned)(m < 10 ? m + 3 : m - 9);
	*year = year_of_era + era * 400 + (*month <= 2);
}

static inline unsigned nolog_days_of_month(int64_t year, unsigned month)
{
	static const uint8_t days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
		return 29;
	return days[month - 1];
}

/* Reads exactly n digits and then `after`, if that is not zero. */
static inline int nolog_fixed_(const char **p, unsigned n, char after, unsigned *out)
{
	unsigned v = 0;

	for (; n > 0; n--, (*p)++) {
		if (!nolog_is_digit_(**p))
			return -EINVAL;
		v = v * 10 + (unsigned)(**p - '0');
	}
	if (after && *(*p)++ != after)
		return -EINVAL;
	*out = v;
	return 0;
}

/*
 * Reads an optional fraction: '.' and one digit or more.  *ms is its whole
 * milliseconds, *more tells whether anything is left below them.
 */
static inline int nolog_fraction_(const char **p, unsigned *ms, bool *more)
{
	unsigned weight = 100;

	*ms = 0;
	*more = false;
	if (**p != '.')
		return 0;
	(*p)++;
	if (!nolog_is_digit_(**p))
		return -EINVAL;
	for (; nolog_is_digit_(**p); (*p)++, weight /= 10) {
		*ms += weight * (unsigned)(**p - '0');
		*more = *more || (weight == 0 && **p != '0');
	}
	return 0;
}

/* What follows '@': seconds since 1970, perhaps negative, perhaps with a fraction. */
static inline int nolog_time_seconds_(int64_t *out, const char *p)
{
	bool negative = *p == '-', more;
	uint64_t seconds = 0, magnitude;
	unsigned ms;
	int over, r;

	p += negative;
	over = nolog_digits_(&p, &seconds);
	if (over == -EINVAL)
		return over;
	r = nolog_fraction_(&p, &ms, &more);
	if (r < 0 || *p)
		return -EINVAL;
	if (over < 0 || seconds > INT64_MAX / 1000)
		return -ERANGE;
	/* Towards the past: below zero the rest makes it one millisecond earlier. */
	magnitude = seconds * 1000 + ms + (negative && more);
	if (magnitude > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*out = (int64_t)(negative ? 0 - magnitude : magnitude);
	return 0;
}

/* The offset a time must have: Z, or +hh:mm or -hh:mm, in minutes east. */
static inline int nolog_time_offset_(const char **p, int64_t *minutes)
{
	unsigned hours, rest;
	char sign = **p;

	if (sign == 'Z' || sign == 'z') {
		(*p)++;
		*minutes = 0;
		return 0;
	}
	if (sign != '+' && sign != '-')
		return -EINVAL;
	(*p)++;
	if (nolog_fixed_(p, 2, ':', &hours) < 0 || nolog_fixed_(p, 2, '\0', &rest) < 0)
		return -EINVAL;
	if (hours > 23 || rest > 59)
		return -ERANGE;
	*minutes = (int64_t)(hours * 60 + rest);
	if (sign == '-')
		*minutes = -*minutes;
	return 0;
}

/* A leap second ends a month in UTC, nothing else: at is the instant after its minute. */
static inline bool nolog_time_ends_month_(int64_t at)
{
	unsigned month, day;
	int64_t year;

	if (at % 86400 != 0)
		return false;
	nolog_civil_from_days(at / 86400, &year, &month, &day);
	return day == 1;
}

/*
 * A time: RFC 3339 with its offset ("2026-11-22T08:00:00.5+01:00"; small t and
 * z and a space for the T are taken, as the RFC allows), or @ and Unix seconds
 * ("@1795334400.25").  What lies below a millisecond is cut off towards the
 * past.  A leap second is the first second of the next day, as in POSIX.
 */
static inline int nolog_time_parse(int64_t *out, const char *text)
{
	unsigned year, month, day, hour, minute, second, ms;
	int64_t offset, minutes;
	const char *p = text;
	bool more;
	int r;

	if (*p == '@')
		return nolog_time_seconds_(out, p + 1);
	if (nolog_fixed_(&p, 4, '-', &year) < 0 || nolog_fixed_(&p, 2, '-', &month) < 0 ||
	    nolog_fixed_(&p, 2, '\0', &day) < 0)
		return -EINVAL;
	if (*p != 'T' && *p != 't' && *p != ' ')
		return -EINVAL;
	p++;
	if (nolog_fixed_(&p, 2, ':', &hour) < 0 || nolog_fixed_(&p, 2, ':', &minute) < 0 ||
	    nolog_fixed_(&p, 2, '\0', &second) < 0 || nolog_fraction_(&p, &ms, &more) < 0)
		return -EINVAL;
	r = nolog_time_offset_(&p, &offset);
	if (r == -EINVAL || *p)
		return -EINVAL;
	if (r < 0 || month < 1 || month > 12 || day < 1 || day > nolog_days_of_month(year, month) ||
	    hour > 23 || minute > 59 || second > 60)
		return -ERANGE;
	minutes = nolog_days_from_civil(year, month, day) * 1440 + (int64_t)(hour * 60 + minute) -
		  offset;
	if (second == 60 && !nolog_time_ends_month_((minutes + 1) * 60))
		return -ERANGE;
	*out = (minutes * 60 + second) * 1000 + ms;
	return 0;
}

/* "2026-11-22T08:00:00.000Z"; -ERANGE outside the years 0 to 9999. */
static inline int nolog_time_format(char out[NOLOG_TIME_TEXT], int64_t time_ms)
{
	int64_t days = time_ms / NOLOG_DAY_MS, rest = time_ms % NOLOG_DAY_MS, year;
	unsigned month, day;
	char *p = out;

	out[0] = '\0';
	if (rest < 0) {
		rest += NOLOG_DAY_MS;
		days--;
	}
	nolog_civil_from_days(days, &year, &month, &day);
	if (year < 0 || year > 9999)
		return -ERANGE;
	p = nolog_put_decimal_(p, (uint64_t)year, 4);
	*p++ = '-';
	p = nolog_put_decimal_(p, month, 2);
	*p++ = '-';
	p = nolog_put_decimal_(p, day, 2);
	*p++ = 'T';
	p = nolog_put_decimal_(p, (uint64_t)rest / 3600000, 2);
	*p++ = ':';
	p = nolog_put_decimal_(p, (uint64_t)rest / 60000 % 60, 2);
	*p++ = ':';
	p = nolog_put_decimal_(p, (uint64_t)rest / 1000 % 60, 2);
	*p++ = '.';
	p = nolog_put_decimal_(p, (uint64_t)rest % 1000, 3);
	*p++ = 'Z';
	*p = '\0';
	return 0;
}

/*
 * --- Durations ---
 */

/* The units of a duration, the largest first. */
struct nolog_unit_ {
	char name[4];
	int64_t ms;
};
/* clang-format off */
#define NOLOG_UNITS_ \
	{ { "d", 86400000 }, { "h", 3600000 }, { "min", 60000 }, { "s", 1000 }, { "ms", 1 } }
/* clang-format on */

/* A whole number and its unit: 500ms, 5s, 10min, 2h, 90d. */
static inline int nolog_duration_parse(int64_t *out, const char *text)
{
	static const struct nolog_unit_ units[] = NOLOG_UNITS_;
	uint64_t v = 0;
	int r = nolog_digits_(&text, &v);

	if (r == -EINVAL)
		return r;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(text, units[i].name) != 0)
			continue;
		if (r < 0 || v > (uint64_t)(INT64_MAX / units[i].ms))
			return -ERANGE;
		*out = (int64_t)v * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

/* In the largest unit that leaves no rest; 0 is "0s".  Below zero there is none: -ERANGE. */
static inline int nolog_duration_format(char out[NOLOG_DURATION_TEXT], int64_t duration_ms)
{
	static const struct nolog_unit_ units[] = NOLOG_UNITS_;
	const struct nolog_unit_ *unit = &units[3];
	char *p;

	out[0] = '\0';
	if (duration_ms < 0)
		return -ERANGE;
	if (duration_ms > 0)
		for (unit = units; duration_ms % unit->ms != 0;)
			unit++;
	p = nolog_put_decimal_(out, (uint64_t)(duration_ms / unit->ms), 0);
	memcpy(p, unit->name, strlen(unit->name) + 1);
	return 0;
}

#endif
