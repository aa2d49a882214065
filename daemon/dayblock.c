/* SPDX-License-Identifier: ISC */
/*
 * dayblock: the manifest, the list of servers and the index of a day's file,
 * field by field.  Knows no LMDB, no key and no file.
 */
#include "dayblock.h"

#include "seal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REWRITTEN 1u

const size_t dayrow_size[DAYFAMILIES] = { ROW4_SIZE, ROW6_SIZE };
const size_t dayaddr_size[DAYFAMILIES] = { EFFECT_SIZE_IP4, EFFECT_SIZE_IP };
const uint32_t dayrow_block[DAYFAMILIES] = { DAYBLOCK_SIZE / ROW4_SIZE, DAYBLOCK_SIZE / ROW6_SIZE };
const uint32_t dayaddr_block[DAYFAMILIES] = { DAYBLOCK_SIZE / EFFECT_SIZE_IP4,
					      DAYBLOCK_SIZE / EFFECT_SIZE_IP };

int dayrow_order(const struct dayrow *a, const struct dayrow *b)
{
	uint32_t start_a = a->start & ~ROW_MORE, start_b = b->start & ~ROW_MORE;
	int r = memcmp(a->ip, b->ip, NOLOG_IP_SIZE);

	return r ? r : start_a < start_b ? -1 : start_a > start_b;
}

int dayrows_count(enum dayfamily family, size_t len)
{
	if (len == 0 || len % dayrow_size[family] != 0 || len > DAYBLOCK_SIZE)
		return -EBADMSG;
	return (int)(len / dayrow_size[family]);
}

void manifest_encode(uint8_t *out, const struct manifest *m)
{
	uint8_t *p = out + MANIFEST_HEAD;

	nolog_put32(out, SEAL_FORMAT);
	nolog_put32(out + 4, m->rewritten ? REWRITTEN : 0);
	nolog_put32(out + 8, (uint32_t)m->day);
	nolog_put32(out + 12, m->next_run);
	nolog_put32(out + 16, m->servers);
	nolog_put32(out + 20, m->n);
	nolog_put64(out + 24, m->generation);
	nolog_put64(out + 32, m->through);
	for (uint32_t i = 0; i < m->n; i++, p += MANIFEST_RUN) {
		nolog_put32(p, m->runs[i].id);
		nolog_put64(p + 4, m->runs[i].rows[DAYFAMILY_4]);
		nolog_put64(p + 12, m->runs[i].rows[DAYFAMILY_6]);
	}
}

static bool run_good(const struct manifest *m, const struct manifest_run *run, uint32_t last)
{
	if (run->id <= last || run->id >= m->next_run)
		return false;
	for (int f = 0; f < DAYFAMILIES; f++)
		if (run->rows[f] > (uint64_t)DAYBLOCK_INDEX_MAX * dayrow_block[f])
			return false;
	return run->rows[DAYFAMILY_4] + run->rows[DAYFAMILY_6] > 0;
}

static int runs_decode(struct manifest *m, const uint8_t *p)
{
	uint32_t last = 0;

	m->runs = calloc(m->n ? m->n : 1, sizeof(*m->runs));
	if (!m->runs)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->n; i++, p += MANIFEST_RUN) {
		struct manifest_run *run = &m->runs[i];

		run->id = nolog_get32(p);
		run->rows[DAYFAMILY_4] = nolog_get64(p + 4);
		run->rows[DAYFAMILY_6] = nolog_get64(p + 12);
		if (!run_good(m, run, last))
			return -EBADMSG;
		last = run->id;
	}
	return 0;
}

int manifest_decode(struct manifest *m, const uint8_t *in, size_t len, int32_t day)
{
	struct manifest found = { 0 };
	int r;

	if (len < MANIFEST_HEAD)
		return -EBADMSG;
	if (nolog_get32(in) != SEAL_FORMAT)
		return -EPROTO;
	found.rewritten = nolog_get32(in + 4) & REWRITTEN;
	found.day = (int32_t)nolog_get32(in + 8);
	found.next_run = nolog_get32(in + 12);
	found.servers = nolog_get32(in + 16);
	found.n = nolog_get32(in + 20);
	found.generation = nolog_get64(in + 24);
	found.through = nolog_get64(in + 32);
	if (nolog_get32(in + 4) & ~REWRITTEN || found.day != day || found.generation == 0 ||
	    found.servers > DAYBLOCK_SERVERS_MAX || found.n > DAYBLOCK_RUNS_MAX ||
	    len != manifest_size(found.n))
		return -EBADMSG;
	r = runs_decode(&found, in + MANIFEST_HEAD);
	if (r < 0) {
		free(found.runs);
		return r;
	}
	*m = found;
	return 0;
}

int dayservers_decode(struct server_key *out, size_t n, const uint8_t *in, size_t len)
{
	uint8_t id[NOLOG_SERVER_SIZE];

	if (len != n * SERVER_KEY_SIZE)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		memcpy(out[i].b, in + i * SERVER_KEY_SIZE, SERVER_KEY_SIZE);
		if (!server_unpack(id, &out[i]))
			return -EBADMSG;
	}
	return 0;
}

int dayindex_decode(uint8_t *out, enum dayfamily family, size_t n, const uint8_t *in, size_t len,
		    dayaddr *last)
{
	if (len != n * dayaddr_size[family])
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		dayaddr a = dayindex_at(in, family, i);

		if (a < *last)
			return -EBADMSG;
		*last = a;
	}
	if (len)
		memcpy(out, in, len);
	return 0;
}
