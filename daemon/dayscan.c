/* SPDX-License-Identifier: ISC */
/*
 * dayscan: from ranges of addresses to blocks, from blocks to rows.
 */
#include "dayscan.h"

#include <errno.h>

/* The last address that block i of a run may hold. */
static dayaddr block_last(const struct dayrun *run, enum dayfamily family, uint32_t i)
{
	return i + 1 < run->blocks[family] ? dayindex_at(run->index[family], family, i + 1)
					   : DAYADDR_MAX;
}

/* The first block from i on whose first address is not below a. */
static uint32_t block_from(const struct dayrun *run, enum dayfamily family, uint32_t i, dayaddr a)
{
	uint32_t high = run->blocks[family];

	while (i < high) {
		uint32_t middle = i + (high - i) / 2;

		if (dayindex_at(run->index[family], family, middle) < a)
			i = middle + 1;
		else
			high = middle;
	}
	return i;
}

/* The first range from s->range on that does not end below a. */
static void range_from(struct dayscan *s, dayaddr a)
{
	size_t low = s->range, high = s->ranges_n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->ranges[middle].high < a)
			low = middle + 1;
		else
			high = middle;
	}
	s->range = low;
}

/* Moves s->block on to the next that can hold something; false: none in this part of the run. */
static bool next_block(struct dayscan *s, const struct dayrun *run)
{
	while (s->block < run->blocks[s->family]) {
		dayaddr low;
		uint32_t next;

		range_from(s, dayindex_at(run->index[s->family], s->family, s->block));
		if (s->range == s->ranges_n)
			return false;
		low = s->ranges[s->range].low;
		if (low <= block_last(run, s->family, s->block))
			return true;
		/* The block before the first that begins there may still end there. */
		next = block_from(run, s->family, s->block + 1, low);
		s->block = next > s->block + 1 ? next - 1 : next;
	}
	return false;
}

static bool wanted(const struct dayscan *s, const struct dayrow *row, dayaddr a)
{
	unsigned server = s->servers ? s->servers[row->server] : DAYSCAN_OWN;

	if (!(server & DAYSCAN_BEHIND) &&
	    (!(server & DAYSCAN_OWN) || a < s->own.low || a > s->own.high))
		return false;
	if (s->crossing)
		return (row->start | row->end) & ROW_MORE;
	return (row->start & ~ROW_MORE) <= s->to && (row->end & ~ROW_MORE) >= s->from;
}

int dayscan_block(struct dayscan *s, enum dayfamily family, const uint8_t *bytes, size_t len,
		  bool *stop)
{
	int n = dayrows_count(family, len);
	size_t range = s->range;
	struct dayrow row;

	for (int i = 0; i < n; i++, bytes += dayrow_size[family]) {
		dayaddr a;

		dayrow_decode(&row, family, bytes);
		if (!dayrow_good(&row, s->servers_n))
			return -EBADMSG;
		a = dayaddr_of(row.ip);
		while (range < s->ranges_n && a > s->ranges[range].high)
			range++;
		if (range == s->ranges_n)
			break;
		if (a < s->ranges[range].low || !wanted(s, &row, a))
			continue;
		if (!s->fn(&row, s->arg)) {
			*stop = true;
			break;
		}
	}
	return n < 0 ? n : 0;
}

/* One block; what cannot be read is counted. */
static int read_block(struct dayscan *s, struct dayread *read, struct dayrun *run, bool *stop)
{
	uint64_t number = dayblock_number(run->id, DAYBLOCK_ROWS + s->family, s->block);
	uint8_t bytes[DAYBLOCK_SIZE];
	int r = dayread_get(read, number, bytes, sizeof(bytes));

	if (r >= 0)
		r = dayscan_block(s, s->family, bytes, (size_t)r, stop);
	seal_wipe(bytes, sizeof(bytes));
	if (r != -EBADMSG && r != -ENOENT)
		return r;
	run->damaged = true;
	s->unreadable++;
	s->bad_block = number;
	return 0;
}

/* Moves on to the next run, or the next part of it. */
static void next_part(struct dayscan *s)
{
	s->block = 0;
	s->range = 0;
	if (s->family == DAYFAMILY_4) {
		s->family = DAYFAMILY_6;
	} else {
		s->family = DAYFAMILY_4;
		s->run++;
	}
}

int dayscan_step(struct dayscan *s, struct dayfile *f, unsigned *budget)
{
	struct dayread read = { 0 };
	unsigned used = 0;
	bool stop = false;
	int r = 0;

	while (r == 0 && !stop && s->run < s->runs_n && *budget) {
		if (!next_block(s, s->runs[s->run])) {
			next_part(s);
			continue;
		}
		if (used++ % DAYFILE_READ_MAX == 0) {
			dayread_end(&read);
			r = dayread_begin(&read, f);
			if (r < 0)
				break;
		}
		r = read_block(s, &read, s->runs[s->run], &stop);
		s->block++;
		(*budget)--;
	}
	dayread_end(&read);
	return r < 0 ? r : stop ? 2 : s->run < s->runs_n;
}
