/* SPDX-License-Identifier: ISC */
/*
 * daywait: waiting rows, chained by address, and the sorting of rows before
 * they are written.  Knows no file and no server's number.
 */
#include "daywait.h"

#include "seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_FIRST 64
#define ROWS_MAX (UINT32_C(1) << 30)

static uint32_t chain_of(const struct daywait *w, const uint8_t ip[NOLOG_IP_SIZE])
{
	uint64_t half[2], h;

	memcpy(half, ip, sizeof(half));
	h = (half[0] * UINT64_C(0x9e3779b97f4a7c15)) ^ half[1];
	h *= UINT64_C(0xd6e8feb86659fd93);
	h ^= h >> 32;
	h *= UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(h >> 32) & (w->heads_n - 1);
}

static void link_row(struct daywait *w, uint32_t i)
{
	uint32_t *head = &w->heads[chain_of(w, w->rows[i].ip)];

	w->rows[i].next = *head;
	*head = i + 1;
}

/* Twice the room, as many chains as rows. */
static int grow(struct daywait *w)
{
	uint32_t room = w->room ? 2 * w->room : ROWS_FIRST;
	struct daywait_row *rows;
	uint32_t *heads;

	if (w->room >= ROWS_MAX)
		return -ENOMEM;
	heads = calloc(room, sizeof(*heads));
	if (!heads)
		return -ENOMEM;
	rows = malloc(room * sizeof(*rows));
	if (!rows) {
		free(heads);
		return -ENOMEM;
	}
	if (w->n) {
		memcpy(rows, w->rows, w->n * sizeof(*rows));
		seal_wipe(w->rows, w->n * sizeof(*rows));
	}
	free(w->rows);
	free(w->heads);
	w->rows = rows;
	w->room = room;
	w->heads = heads;
	w->heads_n = room;
	for (uint32_t i = 0; i < w->n; i++)
		link_row(w, i);
	return 0;
}

int daywait_add(struct daywait *w, const struct daywait_row *row, uint64_t batch, int64_t now_ms)
{
	if (w->n == w->room) {
		int r = grow(w);

		if (r < 0)
			return r;
	}
	if (w->n == 0)
		w->oldest = batch;
	if (w->n == w->stuck) {
		w->fresh = batch;
		w->since_ms = now_ms;
	}
	w->rows[w->n] = *row;
	link_row(w, w->n++);
	return 0;
}

static const struct daywait_row *row_at(const struct daywait *w, uint32_t number)
{
	return number ? &w->rows[number - 1] : NULL;
}

const struct daywait_row *daywait_first(const struct daywait *w, const uint8_t ip[NOLOG_IP_SIZE])
{
	return w->n ? row_at(w, w->heads[chain_of(w, ip)]) : NULL;
}

const struct daywait_row *daywait_next(const struct daywait *w, const struct daywait_row *row)
{
	return row_at(w, row->next);
}

void daywait_drop(struct daywait *w, daywait_drop_fn *drop, const void *arg)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < w->n; i++)
		if (!drop(&w->rows[i], arg))
			w->rows[kept++] = w->rows[i];
	if (kept == 0) {
		daywait_clear(w);
		return;
	}
	seal_wipe(w->rows + kept, (w->n - kept) * sizeof(*w->rows));
	w->n = w->stuck = kept;
	memset(w->heads, 0, w->heads_n * sizeof(*w->heads));
	for (uint32_t i = 0; i < kept; i++)
		link_row(w, i);
}

void daywait_clear(struct daywait *w)
{
	if (w->rows)
		seal_wipe(w->rows, w->n * sizeof(*w->rows));
	free(w->rows);
	free(w->heads);
	*w = (struct daywait){ 0 };
}

/* The bytes that decide the order, the least first; those that are alike in all are passed over. */
#define SORT_BYTES 22
static const uint8_t sort_offset[SORT_BYTES] = {
	offsetof(struct dayrow, server),
	offsetof(struct dayrow, server) + 1,
	offsetof(struct dayrow, start),
	offsetof(struct dayrow, start) + 1,
	offsetof(struct dayrow, start) + 2,
	offsetof(struct dayrow, start) + 3,
	15,
	14,
	13,
	12,
	11,
	10,
	9,
	8,
	7,
	6,
	5,
	4,
	3,
	2,
	1,
	0,
};
static_assert(offsetof(struct dayrow, ip) == 0, "the address comes first");

/* A row's byte; of the start's highest, not the mark that it began earlier. */
static inline unsigned sort_byte(const struct dayrow *row, unsigned b)
{
	unsigned v = ((const uint8_t *)row)[sort_offset[b]];

	return b == 5 ? v & 0x7f : v;
}

static void move_rows(struct dayrow *to, const struct dayrow *from, size_t n, unsigned b,
		      const uint32_t count[256])
{
	size_t at[256], sum = 0;

	for (unsigned v = 0; v < 256; v++) {
		at[v] = sum;
		sum += count[v];
	}
	for (size_t i = 0; i < n; i++)
		to[at[sort_byte(&from[i], b)]++] = from[i];
}

void dayrows_sort(struct dayrow *rows, struct dayrow *spare, size_t n)
{
	uint32_t count[SORT_BYTES][256];
	struct dayrow *from = rows, *to = spare;

	if (n < 2)
		return;
	memset(count, 0, sizeof(count));
	for (size_t i = 0; i < n; i++)
		for (unsigned b = 0; b < SORT_BYTES; b++)
			count[b][sort_byte(&rows[i], b)]++;
	for (unsigned b = 0; b < SORT_BYTES; b++) {
		struct dayrow *other = from;

		if (count[b][sort_byte(&rows[0], b)] == n)
			continue; /* all alike */
		move_rows(to, from, n, b, count[b]);
		from = to;
		to = other;
	}
	if (from != rows)
		memcpy(rows, from, n * sizeof(*rows));
}
