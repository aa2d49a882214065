/* SPDX-License-Identifier: ISC */
/*
 * dayrun: runs, their index, and their writing.  Knows no manifest: a run that
 * is written belongs to the day only when the manifest says so.
 */
#include "dayrun.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct dayrun *dayrun_new(uint32_t id, const uint64_t rows[DAYFAMILIES])
{
	struct dayrun *run = calloc(1, sizeof(*run));

	if (!run)
		return NULL;
	run->id = id;
	run->refs = 1;
	for (int f = 0; f < DAYFAMILIES; f++) {
		run->rows[f] = rows[f];
		run->blocks[f] = (uint32_t)dayblock_count(rows[f], dayrow_block[f]);
		run->index[f] = calloc(run->blocks[f] + 1, dayaddr_size[f]);
		if (!run->index[f]) {
			dayrun_unref(run);
			return NULL;
		}
	}
	return run;
}

struct dayrun *dayrun_ref(struct dayrun *run)
{
	run->refs++;
	return run;
}

void dayrun_wipe(struct dayrun *run)
{
	for (int f = 0; f < DAYFAMILIES; f++)
		if (run->index[f])
			seal_wipe(run->index[f], run->blocks[f] * dayaddr_size[f]);
}

void dayrun_unref(struct dayrun *run)
{
	if (!run || --run->refs > 0)
		return;
	dayrun_wipe(run);
	for (int f = 0; f < DAYFAMILIES; f++)
		free(run->index[f]);
	free(run);
}

uint64_t dayrun_rows(const struct dayrun *run)
{
	return run->rows[DAYFAMILY_4] + run->rows[DAYFAMILY_6];
}

uint64_t dayrun_total_blocks(const uint64_t rows[DAYFAMILIES])
{
	uint64_t total = 0;

	for (int f = 0; f < DAYFAMILIES; f++) {
		uint64_t blocks = dayblock_count(rows[f], dayrow_block[f]);

		total += blocks + dayblock_count(blocks, dayaddr_block[f]);
	}
	return total;
}

unsigned dayrun_class(const struct dayrun *run)
{
	uint64_t rows = dayrun_rows(run);
	unsigned class = 0;

	while (rows >= 8) {
		rows /= 8;
		class ++;
	}
	return class;
}

static int load_index(struct dayrun *run, enum dayfamily family, struct dayfile *f,
		      struct dayread *read, unsigned *used, uint64_t *number)
{
	uint8_t bytes[DAYBLOCK_SIZE];
	uint32_t per = dayaddr_block[family];
	dayaddr last = 0;

	for (uint32_t i = 0; i * per < run->blocks[family]; i++) {
		uint32_t first = i * per, left = run->blocks[family] - first;
		int r;

		if (++*used % DAYFILE_READ_MAX == 0) {
			dayread_end(read);
			r = dayread_begin(read, f);
			if (r < 0)
				return r;
		}
		*number = dayblock_number(run->id, DAYBLOCK_INDEX + family, i);
		r = dayread_get(read, *number, bytes, sizeof(bytes));
		if (r >= 0)
			r = dayindex_decode(run->index[family] + first * dayaddr_size[family],
					    family, left < per ? left : per, bytes, (size_t)r,
					    &last);
		if (r < 0) {
			seal_wipe(bytes, sizeof(bytes));
			return r == -ENOENT ? -EBADMSG : r;
		}
	}
	seal_wipe(bytes, sizeof(bytes));
	return 0;
}

int dayrun_load(struct dayrun **out, struct dayfile *f, const struct manifest_run *m,
		struct fault *fault)
{
	struct dayrun *run = dayrun_new(m->id, m->rows);
	struct dayread read;
	uint64_t number = 0;
	unsigned used = 0;
	int r;

	if (!run)
		return -ENOMEM;
	r = dayread_begin(&read, f);
	for (int family = 0; r == 0 && family < DAYFAMILIES; family++)
		r = load_index(run, (enum dayfamily)family, f, &read, &used, &number);
	dayread_end(&read);
	if (r < 0) {
		dayrun_unref(run);
		if (fault && fault->error == 0) {
			fault->error = r;
			fault->what = "a block of a run's index cannot be read";
			fault->block = number;
		}
		return r;
	}
	*out = run;
	return 0;
}

/* --- Writing --- */

static int put(struct dayrunwriter *w, unsigned kind, uint32_t index, const void *in, size_t len)
{
	int r;

	if (!w->txn) {
		r = daywrite_begin(&w->txn, w->file, w->chunk, 0);
		if (r < 0)
			return r;
		w->in_txn = 0;
	}
	r = daywrite_put(w->txn, dayblock_number(w->run->id, kind, index), in, len);
	if (r < 0 || w->chunk == 0 || ++w->in_txn < w->chunk)
		return r;
	r = daywrite_commit(w->txn);
	w->txn = NULL;
	return r;
}

int dayrunwriter_begin(struct dayrunwriter *w, struct dayfile *f, uint32_t id,
		       const uint64_t rows[DAYFAMILIES], uint32_t chunk, struct daywrite *txn)
{
	w->file = f;
	w->txn = txn;
	w->chunk = chunk;
	w->in_txn = 0;
	w->family = DAYFAMILY_4;
	w->fill = w->block = 0;
	memset(w->added, 0, sizeof(w->added));
	w->run = NULL;
	for (int i = 0; i < DAYFAMILIES; i++)
		if (dayblock_count(rows[i], dayrow_block[i]) > DAYBLOCK_INDEX_MAX)
			return -E2BIG;
	w->run = dayrun_new(id, rows);
	return w->run ? 0 : -ENOMEM;
}

static int flush_block(struct dayrunwriter *w)
{
	int r = 0;

	if (w->fill)
		r = put(w, DAYBLOCK_ROWS + w->family, w->block++, w->bytes,
			w->fill * dayrow_size[w->family]);
	w->fill = 0;
	return r;
}

int dayrunwriter_add(struct dayrunwriter *w, enum dayfamily family, const struct dayrow *row)
{
	int r = 0;

	if (family != w->family) {
		r = flush_block(w);
		w->family = family;
		w->block = 0;
	}
	if (r < 0 || w->added[family]++ >= w->run->rows[family])
		return r < 0 ? r : -EBADMSG;
	if (w->fill == 0)
		memcpy(w->run->index[family] + w->block * dayaddr_size[family],
		       row->ip + NOLOG_IP_SIZE - dayaddr_size[family], dayaddr_size[family]);
	dayrow_encode(w->bytes + w->fill * dayrow_size[family], family, row);
	if (++w->fill == dayrow_block[family])
		r = flush_block(w);
	return r;
}

static int put_index(struct dayrunwriter *w, enum dayfamily family)
{
	uint32_t per = dayaddr_block[family], blocks = w->run->blocks[family];
	int r = 0;

	for (uint32_t i = 0; r == 0 && i * per < blocks; i++) {
		uint32_t left = blocks - i * per;

		r = put(w, DAYBLOCK_INDEX + family, i,
			w->run->index[family] + i * per * dayaddr_size[family],
			(left < per ? left : per) * dayaddr_size[family]);
	}
	return r;
}

int dayrunwriter_finish(struct dayrunwriter *w, struct dayrun **out)
{
	int r = flush_block(w);

	for (int f = 0; r == 0 && f < DAYFAMILIES; f++)
		r = w->added[f] == w->run->rows[f] ? put_index(w, (enum dayfamily)f) : -EBADMSG;
	if (r == 0 && w->chunk && w->txn) {
		r = daywrite_commit(w->txn);
		w->txn = NULL;
	}
	if (r < 0)
		return r;
	seal_wipe(w->bytes, sizeof(w->bytes));
	*out = w->run;
	w->run = NULL;
	return 0;
}

void dayrunwriter_drop(struct dayrunwriter *w)
{
	if (w->chunk)
		daywrite_abort(w->txn);
	w->txn = NULL;
	dayrun_unref(w->run);
	w->run = NULL;
	seal_wipe(w->bytes, sizeof(w->bytes));
}
