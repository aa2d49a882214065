/* SPDX-License-Identifier: ISC */
/*
 * Any text to every parser of nolog/text.h: a result is given with 0 only, and
 * what is printed of it is read back as the same.
 */
#include <nolog/text.h>

#include <stdlib.h>

#include "fuzz.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* 0 with a result, or one of the two errors and nothing written. */
static bool parsed(int r, bool written)
{
	must(r == 0 || r == -EINVAL || r == -ERANGE);
	must(r == 0 || !written);
	return r == 0;
}

static void addresses(const char *text)
{
	uint8_t ip[16] = { 0xa5, 0x5a }, again[16], before[16] = { 0xa5, 0x5a };
	char out[NOLOG_PREFIX_TEXT];
	unsigned len = 999, again_len;
	int r = nolog_ip_parse(ip, text);

	if (parsed(r, memcmp(ip, before, 16) != 0)) {
		must(nolog_ip_format(out, ip) == 0 && nolog_ip_parse(again, out) == 0);
		must(memcmp(ip, again, 16) == 0);
	}
	r = nolog_prefix_parse(ip, &len, text);
	if (parsed(r, len != 999)) {
		must(len <= NOLOG_PREFIX_MAX && nolog_prefix_match(ip, ip, len));
		must(nolog_prefix_format(out, ip, len) == 0);
		must(nolog_prefix_parse(again, &again_len, out) == 0);
		must(len == again_len && memcmp(ip, again, 16) == 0);
	}
}

static void servers(const char *text)
{
	uint8_t id[16] = { 0 };
	char out[NOLOG_SERVER_TEXT];

	if (!parsed(nolog_server_parse(id, text), id[0] != 0))
		return;
	must(nolog_server_valid(id));
	must(nolog_server_format(out, id) == 0 && strcmp(out, text) == 0);
}

static void times(const char *text)
{
	char out[NOLOG_TIME_TEXT], length[NOLOG_DURATION_TEXT];
	int64_t t = 4711, again;
	int r = nolog_time_parse(&t, text);

	if (parsed(r, t != 4711) && nolog_time_format(out, t) == 0)
		must(nolog_time_parse(&again, out) == 0 && again == t);
	t = 4711;
	r = nolog_duration_parse(&t, text);
	if (parsed(r, t != 4711)) {
		must(t >= 0 && nolog_duration_format(length, t) == 0);
		must(nolog_duration_parse(&again, length) == 0 && again == t);
	}
}

static void numbers(const char *text, const uint8_t *data, size_t size)
{
	char out[NOLOG_IP_TEXT > NOLOG_TIME_TEXT ? NOLOG_IP_TEXT : NOLOG_TIME_TEXT];
	uint8_t ip[16] = { 0 };
	uint64_t v = 4711;
	int64_t t;

	(void)parsed(nolog_u64_parse(&v, text), v != 4711);
	/* And any bytes as what is to be printed. */
	memcpy(ip, data, size < 16 ? size : 16);
	must(nolog_ip_format(out, ip) == 0);
	memcpy(&t, ip, sizeof(t));
	(void)nolog_time_format(out, t);
	if (nolog_time_format(out, t / 1000000) == 0)
		must(nolog_time_parse(&t, out) == 0);
	(void)nolog_server_format(out, ip);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	addresses(text);
	servers(text);
	times(text);
	if (size > 0)
		numbers(text, data, size);
	free(text);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	static const char *const seeds[] = {
		"10.8.0.2",
		"10.0.0.0/8",
		"2001:db8::7/32",
		"::ffff:10.8.0.2/104",
		"nl-ams-03",
		"2026-11-22T08:00:00.123+01:00",
		"2016-12-31 23:59:60z",
		"@1795334400.25",
		"@-0.0005",
		"@9223372036854775.807",
		"500ms",
		"10min",
		"90d",
		"18446744073709551615",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n]);
	if (len > max)
		return 0;
	memcpy(out, seeds[n], len);
	return len;
}
