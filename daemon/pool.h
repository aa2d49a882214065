/* SPDX-License-Identifier: ISC */
/*
 * pool: items of one size by number, from 1 up; chunks that never move, so
 * that growing costs one allocation whatever the pool holds.  What is given
 * back is wiped and taken again first.  Knows nothing of what it keeps.
 */
#ifndef POOL_H
#define POOL_H

#include <nolog/frame.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define POOL_CHUNK_BITS 12
#define POOL_CHUNK_ITEMS (UINT32_C(1) << POOL_CHUNK_BITS)

struct pool {
	uint8_t **chunks;
	size_t chunks_n, chunks_room;
	size_t item;   /* bytes, at least 4 */
	uint32_t next; /* never taken yet */
	uint32_t free; /* first of those given back, linked through their first bytes */
};

static inline uint8_t *pool_at(const struct pool *p, uint32_t id)
{
	return p->chunks[id >> POOL_CHUNK_BITS] + (id & (POOL_CHUNK_ITEMS - 1)) * p->item;
}

static inline int pool_chunk(struct pool *p)
{
	uint8_t *chunk;

	if (p->chunks_n == p->chunks_room) {
		size_t room = p->chunks_room ? p->chunks_room * 2 : 64;
		uint8_t **chunks = realloc(p->chunks, room * sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		p->chunks = chunks;
		p->chunks_room = room;
	}
	if (p->chunks_n == UINT32_MAX >> POOL_CHUNK_BITS)
		return -ENOMEM;
	chunk = malloc(POOL_CHUNK_ITEMS * p->item);
	if (!chunk)
		return -ENOMEM;
	p->chunks[p->chunks_n++] = chunk;
	return 0;
}

/* One more pool_take() will do. */
static inline int pool_reserve(struct pool *p)
{
	if (p->free != 0 || p->next >> POOL_CHUNK_BITS < p->chunks_n)
		return 0;
	return pool_chunk(p);
}

static inline uint32_t pool_take(struct pool *p)
{
	uint32_t id = p->free;

	if (id == 0)
		return p->next++;
	p->free = nolog_get32(pool_at(p, id));
	return id;
}

static inline void pool_give(struct pool *p, uint32_t id)
{
	uint8_t *item = pool_at(p, id);

	memset(item, 0, p->item);
	nolog_put32(item, p->free);
	p->free = id;
}

static inline void pool_init(struct pool *p, size_t item)
{
	*p = (struct pool){ .item = item, .next = 1 };
}

static inline void pool_free(struct pool *p)
{
	for (size_t i = 0; i < p->chunks_n; i++)
		free(p->chunks[i]);
	free(p->chunks);
}

#endif
