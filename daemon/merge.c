/* SPDX-License-Identifier: ISC */
/*
 * merge: k sorted runs into one.  A heap of the runs' next rows; blocks are read
 * as they are needed, in short transactions, and written in others.
 */
#include "merge.h"

#include "seal.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Blocks in a write transaction: short beside a flush; nobody waits for a new file. */
#define CHUNK_SAME 128
#define CHUNK_NEW 2048

struct source {
	struct dayrow row; /* the next one */
	struct dayrun *run;
	uint32_t block, at, n; /* the next block; rows passed and in the block at hand */
	uint8_t bytes[DAYBLOCK_SIZE];
};

struct work {
	struct mergejob *job;
	const atomic_bool *cancel;
	struct dayread read;
	unsigned used; /* blocks in the read transaction */
	enum dayfamily family;
	struct source *sources;
	struct source **heap;
	uint32_t heap_n;
	struct dayrunwriter writer;
};

static int order_servers(const void *a, const void *b)
{
	return memcmp(a, b, SERVER_KEY_SIZE);
}

/* The day's servers in another order; false: no memory. */
static bool sort_servers(struct mergejob *job, const struct dayservers *servers)
{
	struct server_key *keys = calloc(servers->n + 1, sizeof(*keys));
	bool good = keys;

	job->places = calloc(servers->n + 1, sizeof(*job->places));
	if (good && servers->n) {
		memcpy(keys, servers->keys, servers->n * sizeof(*keys));
		qsort(keys, servers->n, sizeof(*keys), order_servers);
	}
	for (uint32_t i = 0; good && i < servers->n; i++)
		good = dayservers_add(&job->servers, &keys[i]) >= 0;
	for (uint32_t i = 0; good && job->places && i < servers->n; i++)
		job->places[i] = (uint16_t)dayservers_find(&job->servers, &servers->keys[i]);
	free(keys);
	return good && job->places;
}

struct mergejob *mergejob_new(enum mergejob_kind kind, const struct day *d,
			      struct dayrun *const *runs, uint32_t n)
{
	struct mergejob *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->kind = kind;
	job->day = d->number;
	job->file = d->file;
	job->generation = d->generation;
	job->through = d->through;
	job->runs = calloc(n + 1, sizeof(struct dayrun *));
	job->ids = calloc(d->garbage_n + 1, sizeof(*job->ids));
	if (!job->runs || !job->ids || (kind == MERGE_REWRITE && !sort_servers(job, &d->servers))) {
		mergejob_free(job);
		return NULL;
	}
	for (; kind != MERGE_DELETE && job->n < n; job->n++)
		job->runs[job->n] = dayrun_ref(runs[job->n]);
	if (kind == MERGE_DELETE)
		for (; job->n < d->garbage_n; job->n++)
			job->ids[job->n] = d->garbage[job->n];
	job->servers_n = d->servers.n;
	return job;
}

void mergejob_free(struct mergejob *job)
{
	if (!job)
		return;
	for (uint32_t i = 0; job->kind != MERGE_DELETE && i < job->n; i++)
		dayrun_unref(job->runs[i]);
	dayrun_unref(job->run);
	free(job->runs);
	free(job->ids);
	dayservers_clear(&job->servers);
	free(job->places);
	free(job);
}

/* --- Reading --- */

static int bad_block(struct work *w, struct source *s, uint64_t number)
{
	char name[32];

	dayfile_fault_name(name, w->job->day);
	w->job->bad = s->run;
	return fault_set(&w->job->fault, -EBADMSG, name, number, "a block of rows cannot be read");
}

static int read_block(struct work *w, struct source *s)
{
	uint64_t number = dayblock_number(s->run->id, DAYBLOCK_ROWS + w->family, s->block);
	int r = 0;

	if (atomic_load_explicit(w->cancel, memory_order_relaxed))
		return -ECANCELED;
	if (w->used++ % DAYFILE_READ_MAX == 0) {
		dayread_end(&w->read);
		r = dayread_begin(&w->read, w->job->file);
	}
	if (r == 0)
		r = dayread_get(&w->read, number, s->bytes, sizeof(s->bytes));
	if (r >= 0)
		r = dayrows_count(w->family, (size_t)r);
	if (r == -EBADMSG || r == -ENOENT)
		return bad_block(w, s, number);
	if (r < 0)
		return r;
	s->block++;
	s->at = 0;
	s->n = (uint32_t)r;
	return 0;
}

/* The run's next row: 1 and it, 0 at the end. */
static int next_row(struct work *w, struct source *s)
{
	struct dayrow row;
	int r;

	if (s->at == s->n) {
		if (s->block == s->run->blocks[w->family])
			return 0;
		r = read_block(w, s);
		if (r < 0)
			return r;
	}
	dayrow_decode(&row, w->family, s->bytes + s->at++ * dayrow_size[w->family]);
	/* Out of order would go out of order into the new run, where it is not found. */
	if (!dayrow_good(&row, w->job->servers_n) ||
	    ((s->block > 1 || s->at > 1) && dayrow_order(&s->row, &row) > 0))
		return bad_block(
			w, s, dayblock_number(s->run->id, DAYBLOCK_ROWS + w->family, s->block - 1));
	if (w->job->places)
		row.server = w->job->places[row.server];
	s->row = row;
	return 1;
}

/* --- The heap: the least row is on top --- */

static void sift_down(struct work *w, uint32_t i)
{
	struct source *s = w->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= w->heap_n)
			break;
		if (child + 1 < w->heap_n &&
		    dayrow_order(&w->heap[child + 1]->row, &w->heap[child]->row) < 0)
			child++;
		if (dayrow_order(&s->row, &w->heap[child]->row) <= 0)
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = s;
}

static int fill_heap(struct work *w)
{
	w->heap_n = 0;
	for (uint32_t i = 0; i < w->job->n; i++) {
		struct source *s = &w->sources[i];
		int r;

		s->run = w->job->runs[i];
		s->block = s->at = s->n = 0;
		r = next_row(w, s);
		if (r < 0)
			return r;
		if (r)
			w->heap[w->heap_n++] = s;
	}
	for (uint32_t i = w->heap_n / 2; i-- > 0;)
		sift_down(w, i);
	return 0;
}

static int merge_family(struct work *w)
{
	int r = fill_heap(w);

	while (r == 0 && w->heap_n) {
		struct source *s = w->heap[0];

		r = dayrunwriter_add(&w->writer, w->family, &s->row);
		if (r < 0)
			break;
		r = next_row(w, s);
		if (r < 0)
			break;
		if (r == 0)
			w->heap[0] = w->heap[--w->heap_n];
		if (w->heap_n)
			sift_down(w, 0);
		r = 0;
	}
	return r;
}

/* All runs of the job into one of the file. */
static int merge_into(struct mergejob *job, struct dayfile *f, uint32_t id, uint32_t chunk,
		      const atomic_bool *cancel)
{
	struct work *w = calloc(1, sizeof(*w));
	uint64_t rows[DAYFAMILIES] = { 0 };
	int r = -ENOMEM;

	if (!w)
		return r;
	w->job = job;
	w->cancel = cancel;
	w->sources = calloc(job->n + 1, sizeof(*w->sources));
	w->heap = calloc(job->n + 1, sizeof(struct source *));
	for (uint32_t i = 0; i < job->n; i++)
		for (int k = 0; k < DAYFAMILIES; k++)
			rows[k] += job->runs[i]->rows[k];
	if (w->sources && w->heap)
		r = dayrunwriter_begin(&w->writer, f, id, rows, chunk, NULL);
	for (int k = 0; r == 0 && k < DAYFAMILIES; k++) {
		w->family = (enum dayfamily)k;
		r = merge_family(w);
	}
	dayread_end(&w->read);
	if (r == 0)
		r = dayrunwriter_finish(&w->writer, &job->run);
	dayrunwriter_drop(&w->writer);
	if (w->sources)
		seal_wipe(w->sources, (job->n + 1) * sizeof(*w->sources));
	free(w->sources);
	free(w->heap);
	free(w);
	return r;
}

/* --- Jobs --- */

static int write_manifest(struct mergejob *job, struct dayfile *f)
{
	struct manifest_run run = { .id = job->run->id };
	struct manifest m = {
		.day = job->day,
		.rewritten = true,
		.next_run = run.id + 1,
		.servers = job->servers_n,
		.generation = job->generation + 1,
		.through = job->through,
		.n = 1,
		.runs = &run,
	};
	struct daywrite *txn;
	int r = daywrite_begin(&txn, f, day_manifest_blocks(m.servers, 1), 0);

	if (r < 0)
		return r;
	memcpy(run.rows, job->run->rows, sizeof(run.rows));
	r = day_write_manifest(txn, &m, job->servers.keys, 0);
	if (r < 0) {
		daywrite_abort(txn);
		return r;
	}
	return daywrite_commit(txn);
}

static int rewrite(struct mergejob *job, const struct dayfile_home *home, const atomic_bool *cancel)
{
	struct dayfile *f;
	int r = dayfile_open(&f, home, job->day, DAYFILE_TEMPORARY, &job->fault);

	if (r < 0)
		return r;
	r = merge_into(job, f, 1, CHUNK_NEW, cancel);
	if (r == 0)
		r = write_manifest(job, f);
	if (r < 0) {
		dayfile_close(f);
		return r;
	}
	return dayfile_seal_temporary(f);
}

static int delete_runs(struct mergejob *job, const atomic_bool *cancel)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < job->n; i++)
		r = atomic_load(cancel) ? -ECANCELED : day_delete_run(job->file, job->ids[i]);
	return r;
}

void mergejob_run(struct mergejob *job, const struct dayfile_home *home, const atomic_bool *cancel)
{
	switch (job->kind) {
	case MERGE_RUNS:
		job->error = merge_into(job, job->file, job->id, CHUNK_SAME, cancel);
		break;
	case MERGE_REWRITE:
		job->error = rewrite(job, home, cancel);
		break;
	case MERGE_DELETE:
		job->error = delete_runs(job, cancel);
		break;
	}
	if (job->error < 0 && job->fault.error == 0) {
		char name[32];

		dayfile_fault_name(name, job->day);
		(void)fault_set(&job->fault, job->error, name, 0, "runs cannot be merged");
	}
}

/* --- The thread --- */

struct merger {
	struct dayfile_home home;
	void (*done)(void *arg);
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	int bell;
	struct mergejob *given, *finished; /* under the lock, as is quit */
	bool quit;
	atomic_bool cancel;
};

static void ring(struct merger *m)
{
	const uint64_t one = 1;

	/* The counter cannot run over: it is read before each wait. */
	if (write(m->bell, &one, sizeof(one)) < 0)
		return;
}

/* Waits for a job; NULL: it is over. */
static struct mergejob *wait_job(struct merger *m)
{
	for (;;) {
		struct pollfd p = { .fd = m->bell, .events = POLLIN };
		struct mergejob *job;
		uint64_t count;
		bool quit;

		pthread_mutex_lock(&m->lock);
		job = m->given;
		m->given = NULL;
		quit = m->quit;
		pthread_mutex_unlock(&m->lock);
		if (job || quit)
			return job;
		(void)poll(&p, 1, -1); /* interrupted: looks again */
		if (read(m->bell, &count, sizeof(count)) < 0)
			continue;
	}
}

static void *merger_main(void *arg)
{
	struct merger *m = arg;
	struct mergejob *job;

	while ((job = wait_job(m))) {
		mergejob_run(job, &m->home, &m->cancel);
		pthread_mutex_lock(&m->lock);
		m->finished = job;
		pthread_mutex_unlock(&m->lock);
		m->done(m->arg);
	}
	return NULL;
}

int merger_start(struct merger **out, const struct dayfile_home *home, void (*done)(void *arg),
		 void *arg)
{
	struct merger *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->home = *home;
	m->done = done;
	m->arg = arg;
	m->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->bell < 0) {
		r = -errno;
		free(m);
		return r;
	}
	pthread_mutex_init(&m->lock, NULL);
	r = pthread_create(&m->thread, NULL, merger_main, m);
	if (r) {
		(void)close(m->bell); /* an eventfd holds nothing */
		pthread_mutex_destroy(&m->lock);
		free(m);
		return -r;
	}
	*out = m;
	return 0;
}

void merger_give(struct merger *m, struct mergejob *job)
{
	atomic_store(&m->cancel, false);
	pthread_mutex_lock(&m->lock);
	m->given = job;
	pthread_mutex_unlock(&m->lock);
	ring(m);
}

struct mergejob *merger_take(struct merger *m)
{
	struct mergejob *job;

	pthread_mutex_lock(&m->lock);
	job = m->finished;
	m->finished = NULL;
	pthread_mutex_unlock(&m->lock);
	return job;
}

void merger_cancel(struct merger *m)
{
	atomic_store(&m->cancel, true);
}

struct mergejob *merger_stop(struct merger *m)
{
	struct mergejob *job;

	if (!m)
		return NULL;
	merger_cancel(m);
	pthread_mutex_lock(&m->lock);
	m->quit = true;
	pthread_mutex_unlock(&m->lock);
	ring(m);
	(void)pthread_join(m->thread, NULL); /* ours, joined once */
	job = m->finished ? m->finished : m->given;
	if (job && job == m->given)
		job->error = -ECANCELED;
	(void)close(m->bell); /* an eventfd holds nothing */
	pthread_mutex_destroy(&m->lock);
	free(m);
	return job;
}
