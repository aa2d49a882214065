/* SPDX-License-Identifier: ISC */
/*
 * day: loading a day's file, and the changes of its manifest.  Knows no clock,
 * no thread and no other day.
 */
#include "day.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Blocks deleted in one transaction. */
#define DELETE_CHUNK 512

struct day *day_new(int32_t number)
{
	struct day *d = calloc(1, sizeof(*d));

	if (d) {
		d->number = number;
		d->next_run = 1;
	}
	return d;
}

void day_unload(struct day *d)
{
	for (uint32_t i = 0; i < d->n; i++)
		dayrun_unref(d->runs[i]);
	for (uint32_t i = 0; i < d->retired_n; i++)
		dayrun_unref(d->retired[i]);
	free(d->runs);
	free(d->retired);
	free(d->garbage);
	d->retired = NULL;
	d->retired_n = d->retired_room = 0;
	dayservers_clear(&d->servers);
	d->runs = NULL;
	d->garbage = NULL;
	d->n = d->room = d->garbage_n = d->garbage_room = 0;
	d->generation = d->through = 0;
	d->next_run = 1;
	d->rewritten = false;
}

void day_free(struct day *d)
{
	if (!d)
		return;
	dayfile_close(d->file);
	day_unload(d);
	daywait_clear(&d->wait);
	free(d);
}

uint64_t day_rows(const struct day *d)
{
	uint64_t rows = 0;

	for (uint32_t i = 0; i < d->n; i++)
		rows += dayrun_rows(d->runs[i]);
	return rows;
}

int day_garbage_add(struct day *d, uint32_t id)
{
	if (d->garbage_n == d->garbage_room) {
		uint32_t room = d->garbage_room ? 2 * d->garbage_room : 8;
		void *garbage = reallocarray(d->garbage, room, sizeof(*d->garbage));

		if (!garbage)
			return -ENOMEM;
		d->garbage = garbage;
		d->garbage_room = room;
	}
	d->garbage[d->garbage_n++] = id;
	return 0;
}

/* Room for one more. */
static int runs_reserve(struct day *d)
{
	uint32_t room = d->room ? 2 * d->room : 16;
	struct dayrun **runs;

	if (d->n < d->room)
		return 0;
	runs = reallocarray(d->runs, room, sizeof(struct dayrun *));
	if (!runs)
		return -ENOMEM;
	d->runs = runs;
	d->room = room;
	return 0;
}

/* By its number; there is room. */
static void runs_insert(struct day *d, struct dayrun *run)
{
	uint32_t i = d->n++;

	assert(run);
	for (; i > 0 && d->runs[i - 1]->id > run->id; i--)
		d->runs[i] = d->runs[i - 1];
	d->runs[i] = run;
}

/* --- Loading --- */

static int load_manifest(struct day *d, struct dayread *read, struct manifest *m)
{
	uint8_t *bytes = malloc(MANIFEST_SIZE_MAX);
	int r;

	if (!bytes)
		return -ENOMEM;
	r = dayread_get(read, DAYBLOCK_MANIFEST_NUMBER, bytes, MANIFEST_SIZE_MAX);
	if (r >= 0)
		r = manifest_decode(m, bytes, (size_t)r, d->number);
	free(bytes);
	return r == -ENOENT ? -EBADMSG : r;
}

static int load_servers(struct day *d, struct dayread *read, uint32_t n, uint64_t *number)
{
	struct server_key keys[DAYSERVERS_BLOCK];
	uint8_t bytes[DAYBLOCK_SIZE];

	for (uint32_t first = 0; first < n; first += DAYSERVERS_BLOCK) {
		uint32_t left = n - first < DAYSERVERS_BLOCK ? n - first : DAYSERVERS_BLOCK;
		int r;

		*number = dayblock_number(0, DAYBLOCK_SERVERS, first / DAYSERVERS_BLOCK);
		r = dayread_get(read, *number, bytes, sizeof(bytes));
		if (r >= 0)
			r = dayservers_decode(keys, left, bytes, (size_t)r);
		if (r < 0)
			return r == -ENOENT ? -EBADMSG : r;
		for (uint32_t i = 0; i < left; i++) {
			int32_t place = dayservers_add(&d->servers, &keys[i]);

			if (place < 0)
				return place;
			if (place != (int32_t)(first + i))
				return -EBADMSG; /* there twice */
		}
	}
	return 0;
}

static bool in_manifest(const struct day *d, uint32_t id)
{
	for (uint32_t i = 0; i < d->n; i++)
		if (d->runs[i]->id == id)
			return true;
	return false;
}

/*
 * More or fewer blocks than the manifest says: a crash has left those of runs
 * that never came into it, or that had left it.
 */
static int find_garbage(struct day *d, bool *missing)
{
	uint64_t expected = day_manifest_blocks(d->servers.n, 0), count, number;
	int r = dayfile_count(d->file, &count);

	for (uint32_t i = 0; i < d->n; i++)
		expected += dayrun_total_blocks(d->runs[i]->rows);
	*missing = count < expected;
	if (r < 0 || count <= expected)
		return r;
	for (number = dayblock_number(1, 0, 0);;) {
		struct dayread read;
		uint32_t id;

		r = dayread_begin(&read, d->file);
		if (r == 0)
			r = dayread_next(&read, &number);
		dayread_end(&read);
		if (r <= 0)
			return r;
		id = (uint32_t)(number >> 32);
		r = in_manifest(d, id) ? 0 : day_garbage_add(d, id);
		if (r < 0)
			return r;
		if (id >= d->next_run)
			d->next_run = id + 1;
		if (id == UINT32_MAX)
			return -EBADMSG;
		number = dayblock_number(id + 1, 0, 0);
	}
}

static int load_runs(struct day *d, const struct manifest *m, struct fault *fault)
{
	for (uint32_t i = 0; i < m->n; i++) {
		struct dayrun *run;
		int r = runs_reserve(d);

		if (r == 0)
			r = dayrun_load(&run, d->file, &m->runs[i], fault);
		if (r < 0)
			return r;
		runs_insert(d, run);
	}
	return 0;
}

int day_load(struct day *d, struct fault *fault)
{
	struct manifest m = { 0 };
	struct fault found = { 0 };
	uint64_t number = DAYBLOCK_MANIFEST_NUMBER;
	const char *what = "the manifest cannot be read";
	struct dayread read;
	bool missing = false;
	char name[32];
	int r = dayread_begin(&read, d->file);

	if (r == 0)
		r = load_manifest(d, &read, &m);
	if (r == 0) {
		what = "the list of servers cannot be read";
		r = load_servers(d, &read, m.servers, &number);
	}
	dayread_end(&read);
	if (r == 0) {
		what = "a run cannot be read";
		d->next_run = m.next_run;
		d->generation = m.generation;
		d->through = m.through;
		d->rewritten = m.rewritten;
		r = load_runs(d, &m, &found);
	}
	if (r == 0)
		r = find_garbage(d, &missing);
	free(m.runs);
	dayfile_fault_name(name, d->number);
	if (r == 0) {
		d->bytes = dayfile_bytes(d->file);
		if (missing)
			(void)fault_set(fault, -EBADMSG, name, 0, "blocks are missing");
		return 0;
	}
	day_unload(d);
	return fault_set(fault, r, name, found.error ? found.block : number,
			 found.error ? found.what : what);
}

/* --- Writing --- */

uint64_t day_manifest_blocks(uint32_t servers, uint32_t runs)
{
	return dayblock_count(servers, DAYSERVERS_BLOCK) + 1 +
	       manifest_size(runs) / DAYBLOCK_SIZE * 2;
}

int day_write_manifest(struct daywrite *w, const struct manifest *m,
		       const struct server_key *servers, uint32_t servers_from)
{
	/* From the block that was not full. */
	uint32_t block = servers_from / DAYSERVERS_BLOCK;
	uint8_t *bytes = malloc(manifest_size(m->n));
	int r = bytes ? 0 : -ENOMEM;

	static_assert(sizeof(*servers) == SERVER_KEY_SIZE, "servers are written as they stand");
	for (uint32_t at = block * DAYSERVERS_BLOCK;
	     r == 0 && servers_from < m->servers && at < m->servers; at += DAYSERVERS_BLOCK) {
		uint32_t left = m->servers - at;

		if (left > DAYSERVERS_BLOCK)
			left = DAYSERVERS_BLOCK;
		r = daywrite_put(w, dayblock_number(0, DAYBLOCK_SERVERS, block++), servers + at,
				 left * sizeof(*servers));
	}
	if (r == 0) {
		manifest_encode(bytes, m);
		r = daywrite_put(w, DAYBLOCK_MANIFEST_NUMBER, bytes, manifest_size(m->n));
	}
	free(bytes);
	return r;
}

int day_write_empty(struct dayfile *f, int32_t number)
{
	static const struct server_key no_server;
	struct manifest m = { .day = number, .next_run = 1, .generation = 1 };
	struct daywrite *w;
	int r = daywrite_begin(&w, f, 1, 0);

	if (r < 0)
		return r;
	r = day_write_manifest(w, &m, &no_server, 0);
	if (r < 0) {
		daywrite_abort(w);
		return r;
	}
	return daywrite_commit(w);
}

static bool among(struct dayrun *const *runs, uint32_t n, const struct dayrun *run)
{
	for (uint32_t i = 0; i < n; i++)
		if (runs[i] == run)
			return true;
	return false;
}

/* The manifest as it will be: without olds, with run. */
static int next_manifest(const struct day *d, struct manifest *m, struct dayrun *const *olds,
			 uint32_t n, const struct dayrun *run)
{
	uint32_t at;

	*m = (struct manifest){
		.day = d->number,
		.rewritten = d->rewritten,
		.next_run = d->next_run,
		.servers = d->servers.n,
		.generation = d->generation + 1,
		.through = d->through,
	};
	if (d->n - n >= DAYBLOCK_RUNS_MAX)
		return -EAGAIN; /* until they have been merged */
	m->runs = calloc(d->n + 1, sizeof(*m->runs));
	if (!m->runs)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->n; i++) {
		if (among(olds, n, d->runs[i]))
			continue;
		m->runs[m->n].id = d->runs[i]->id;
		memcpy(m->runs[m->n].rows, d->runs[i]->rows, sizeof(run->rows));
		m->n++;
	}
	for (at = m->n++; at > 0 && m->runs[at - 1].id > run->id; at--)
		m->runs[at] = m->runs[at - 1];
	m->runs[at].id = run->id;
	memcpy(m->runs[at].rows, run->rows, sizeof(run->rows));
	return 0;
}

/* What waits and has a place; new servers are added to the list. */
static int place_rows(struct day *d, struct dayrow *rows, uint64_t counts[DAYFAMILIES])
{
	uint32_t at[DAYFAMILIES] = { 0 };

	counts[DAYFAMILY_4] = counts[DAYFAMILY_6] = 0;
	for (uint32_t i = 0; i < d->wait.n; i++)
		counts[dayfamily_of(d->wait.rows[i].ip)]++;
	at[DAYFAMILY_6] = (uint32_t)counts[DAYFAMILY_4];
	for (uint32_t i = 0; i < d->wait.n; i++) {
		const struct daywait_row *row = &d->wait.rows[i];
		int32_t place = dayservers_add(&d->servers, &row->server);
		struct dayrow *to;

		if (place == -ENOSPC)
			continue;
		if (place < 0)
			return place;
		to = &rows[at[dayfamily_of(row->ip)]++];
		memcpy(to->ip, row->ip, sizeof(to->ip));
		to->server = (uint16_t)place;
		to->start = row->start;
		to->end = row->end;
	}
	counts[DAYFAMILY_6] = at[DAYFAMILY_6] - counts[DAYFAMILY_4];
	if (at[DAYFAMILY_4] < counts[DAYFAMILY_4])
		memmove(rows + at[DAYFAMILY_4], rows + counts[DAYFAMILY_4],
			counts[DAYFAMILY_6] * sizeof(*rows));
	counts[DAYFAMILY_4] = at[DAYFAMILY_4];
	return 0;
}

/* The same, IPv4 first, each part sorted. */
static int sorted_rows(struct day *d, struct dayrow **out, uint64_t counts[DAYFAMILIES])
{
	struct dayrow *rows = malloc(2 * d->wait.n * sizeof(*rows));
	int r = rows ? place_rows(d, rows, counts) : -ENOMEM;

	if (r < 0) {
		if (rows)
			seal_wipe(rows, d->wait.n * sizeof(*rows));
		free(rows);
		return r;
	}
	dayrows_sort(rows, rows + d->wait.n, counts[DAYFAMILY_4]);
	dayrows_sort(rows + counts[DAYFAMILY_4], rows + d->wait.n, counts[DAYFAMILY_6]);
	*out = rows;
	return 0;
}

static int write_run(struct day *d, struct daywrite *txn, const struct dayrow *rows,
		     const uint64_t counts[DAYFAMILIES], struct dayrun **out)
{
	struct dayrunwriter *w = malloc(sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	r = dayrunwriter_begin(w, d->file, d->next_run, counts, 0, txn);
	for (uint64_t i = 0; r == 0 && i < counts[DAYFAMILY_4] + counts[DAYFAMILY_6]; i++)
		r = dayrunwriter_add(w, i < counts[DAYFAMILY_4] ? DAYFAMILY_4 : DAYFAMILY_6,
				     &rows[i]);
	if (r == 0)
		r = dayrunwriter_finish(w, out);
	if (r < 0)
		dayrunwriter_drop(w);
	free(w);
	return r;
}

/* The run, new servers, and a manifest that has them: one transaction. */
static int commit_run(struct day *d, uint64_t through, const struct dayrow *rows,
		      const uint64_t counts[DAYFAMILIES], uint32_t servers_from,
		      struct dayrun **out)
{
	uint64_t puts = dayrun_total_blocks(counts) + day_manifest_blocks(d->servers.n, d->n + 1);
	struct manifest m = { 0 };
	struct daywrite *w;
	int r = daywrite_begin(&w, d->file, puts, 0);

	*out = NULL;
	if (r < 0)
		return r;
	r = write_run(d, w, rows, counts, out);
	if (r == 0)
		r = next_manifest(d, &m, NULL, 0, *out);
	if (r == 0) {
		m.next_run = d->next_run + 1;
		m.through = through;
		r = day_write_manifest(w, &m, d->servers.keys, servers_from);
	}
	free(m.runs);
	if (r < 0)
		daywrite_abort(w);
	else
		r = daywrite_commit(w);
	if (r < 0) {
		dayrun_unref(*out);
		*out = NULL;
	}
	return r;
}

static bool has_place(const struct daywait_row *row, const void *arg)
{
	return dayservers_find(arg, &row->server) >= 0;
}

int day_flush(struct day *d, uint64_t through)
{
	uint64_t counts[DAYFAMILIES];
	uint32_t servers = d->servers.n;
	struct dayrow *rows = NULL;
	struct dayrun *run = NULL;
	uint64_t n = 0;
	int r = runs_reserve(d);

	if (r == 0)
		r = sorted_rows(d, &rows, counts);
	if (r == 0)
		n = counts[DAYFAMILY_4] + counts[DAYFAMILY_6];
	if (r == 0 && n < d->wait.n)
		through = d->wait.oldest > d->through ? d->wait.oldest - 1 : d->through;
	if (r == 0 && n == 0)
		d->wait.stuck = d->wait.n;
	else if (r == 0)
		r = commit_run(d, through, rows, counts, servers, &run);
	if (rows)
		seal_wipe(rows, 2 * d->wait.n * sizeof(*rows));
	free(rows);
	if (r < 0) {
		dayservers_cut(&d->servers, servers);
		return r;
	}
	if (!run)
		return 0;
	runs_insert(d, run);
	d->next_run++;
	d->generation++;
	d->through = through;
	d->bytes = dayfile_bytes(d->file);
	if (n == d->wait.n)
		daywait_clear(&d->wait);
	else
		daywait_drop(&d->wait, has_place, &d->servers);
	return 0;
}

static void replace_runs(struct day *d, struct dayrun *const *olds, uint32_t n, struct dayrun *run)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < d->n; i++)
		if (!among(olds, n, d->runs[i]))
			d->runs[kept++] = d->runs[i];
	d->n = kept;
	for (uint32_t i = 0; i < n; i++)
		d->retired[d->retired_n++] = olds[i];
	runs_insert(d, run);
}

static int retired_reserve(struct day *d, uint32_t n)
{
	struct dayrun **retired;

	if (d->retired_room - d->retired_n >= n)
		return 0;
	retired = reallocarray(d->retired, d->retired_n + n, sizeof(struct dayrun *));
	if (!retired)
		return -ENOMEM;
	d->retired = retired;
	d->retired_room = d->retired_n + n;
	return 0;
}

int day_reap(struct day *d)
{
	uint32_t kept = 0;
	int r = 0;

	for (uint32_t i = 0; i < d->retired_n; i++) {
		struct dayrun *run = d->retired[i];

		if (r == 0 && run->refs == 1) {
			r = day_garbage_add(d, run->id);
			if (r == 0) {
				dayrun_unref(run);
				continue;
			}
		}
		d->retired[kept++] = run;
	}
	d->retired_n = kept;
	return r;
}

int day_switch(struct day *d, struct dayrun *const *olds, uint32_t n, struct dayrun *run)
{
	struct manifest m = { 0 };
	struct daywrite *w;
	int r = runs_reserve(d);

	if (r == 0)
		r = retired_reserve(d, n);
	if (r == 0)
		r = daywrite_begin(&w, d->file, day_manifest_blocks(0, d->n + 1), 0);
	if (r < 0)
		return r;
	r = next_manifest(d, &m, olds, n, run);
	if (r == 0)
		r = day_write_manifest(w, &m, d->servers.keys, m.servers);
	free(m.runs);
	if (r < 0) {
		daywrite_abort(w);
		return r;
	}
	r = daywrite_commit(w);
	if (r < 0)
		return r;
	d->generation++;
	replace_runs(d, olds, n, run);
	return 0;
}

int day_delete_run(struct dayfile *f, uint32_t id)
{
	uint64_t numbers[DELETE_CHUNK];

	for (;;) {
		uint64_t number = dayblock_number(id, 0, 0);
		struct daywrite *w;
		struct dayread read;
		uint32_t n = 0;
		int r = dayread_begin(&read, f);

		while (r == 0 && n < DELETE_CHUNK) {
			r = dayread_next(&read, &number);
			if (r <= 0 || number >> 32 != id)
				break;
			numbers[n++] = number++;
			r = 0;
		}
		dayread_end(&read);
		if (r < 0 || n == 0)
			return r < 0 ? r : 0;
		r = daywrite_begin(&w, f, 1, n);
		if (r < 0)
			return r;
		for (uint32_t i = 0; r == 0 && i < n; i++)
			r = daywrite_del(w, numbers[i]);
		if (r == 0) {
			r = daywrite_commit(w);
		} else {
			daywrite_abort(w);
		}
		if (r < 0)
			return r;
	}
}
