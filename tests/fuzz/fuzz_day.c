/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as what an opened block of a day's file holds: they are refused, or
 * mean something that encodes to the same bytes; no row comes out that is not
 * within the day, or whose server is not in the list.
 *
 * The first byte chooses the kind of block, the second how many servers or
 * entries there are.
 */
#include "dayblock.h"
#include "dayscan.h"
#include "fuzz.h"

#include <stdlib.h>

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void manifest(const uint8_t *in, size_t len)
{
	const int32_t day = len >= 12 ? (int32_t)nolog_get32(in + 8) : 0;
	struct manifest m;
	uint8_t *again;

	if (manifest_decode(&m, in, len, day) < 0)
		return;
	must(m.n <= DAYBLOCK_RUNS_MAX && manifest_size(m.n) == len);
	for (uint32_t i = 0; i < m.n; i++)
		must(m.runs[i].id > 0 && m.runs[i].id < m.next_run);
	again = malloc(len);
	must(again);
	manifest_encode(again, &m);
	must(memcmp(again, in, len) == 0);
	free(again);
	free(m.runs);
}

static void servers(size_t n, const uint8_t *in, size_t len)
{
	struct server_key keys[256];
	uint8_t id[NOLOG_SERVER_SIZE];

	if (dayservers_decode(keys, n, in, len) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		must(server_unpack(id, &keys[i]) && nolog_server_valid(id));
}

static void index_block(enum dayfamily family, size_t n, const uint8_t *in, size_t len)
{
	uint8_t out[256 * NOLOG_IP_SIZE];
	dayaddr last = 0;

	if (dayindex_decode(out, family, n, in, len, &last) < 0)
		return;
	for (size_t i = 1; i < n; i++)
		must(dayindex_at(out, family, i - 1) <= dayindex_at(out, family, i));
	must(n == 0 || last == dayindex_at(out, family, n - 1));
}

static bool see_row(const struct dayrow *row, void *arg)
{
	const struct dayscan *s = arg;

	must(row->server < s->servers_n);
	must((row->start & ~ROW_MORE) <= (row->end & ~ROW_MORE));
	must((row->end & ~ROW_MORE) <= DAYBLOCK_DAY_MS);
	return row->start != 77; /* stops there */
}

static void rows(enum dayfamily family, uint32_t count, const uint8_t *in, size_t len)
{
	struct dayrange ranges[2] = { { DAYADDR_4, DAYADDR_4 + 0x7fffffff },
				      { (dayaddr)1 << 120, DAYADDR_MAX } };
	struct dayscan s = {
		.ranges = ranges,
		.ranges_n = 2,
		.own = { 0, DAYADDR_MAX },
		.servers_n = count,
		.to = DAYBLOCK_DAY_MS,
		.crossing = count % 2,
		.fn = see_row,
	};
	uint8_t again[ROW6_SIZE];
	bool stop = false;
	int n = dayrows_count(family, len);

	s.arg = &s;
	if (dayscan_block(&s, family, in, len, &stop) < 0)
		return;
	must(n > 0);
	for (int i = 0; i < n; i++) {
		const uint8_t *p = in + (size_t)i * dayrow_size[family];
		struct dayrow row;

		dayrow_decode(&row, family, p);
		dayrow_encode(again, family, &row);
		must(memcmp(again, p, dayrow_size[family]) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	switch (data[0] % 6) {
	case 0:
		manifest(data + 2, size - 2);
		break;
	case 1:
		servers(data[1], data + 2, size - 2);
		break;
	case 2:
	case 3:
		index_block((enum dayfamily)(data[0] % 2), data[1], data + 2, size - 2);
		break;
	default:
		rows((enum dayfamily)(data[0] % 2), data[1], data + 2, size - 2);
		break;
	}
	return 0;
}
