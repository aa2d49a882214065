/* SPDX-License-Identifier: ISC */
/*
 * tags: an open-addressing table of small fixed entries that begin with a
 * 16-byte keyed hash, which is its own hash.
 *
 * Linear probing, deletion by shifting back, any capacity, growth by a fifth
 * at five sixths.  Meant for many small tables, so that growing one is never a
 * pause.  An entry is bytes; the byte at mark is not zero in one that is there.
 * The two numbers are constants of the caller and fold into the code.
 */
#ifndef TAGS_H
#define TAGS_H

#include <nolog/frame.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TAG_BYTES 16

struct tags {
	uint8_t *at;
	uint32_t cap, used;
};

struct tags_shape {
	size_t size, mark;
};

static inline uint8_t *tags_at(const struct tags *t, struct tags_shape shape, uint32_t pos)
{
	return t->at + (size_t)pos * shape.size;
}

/* The entry in the slot at pos, NULL when it is empty. */
static inline uint8_t *tags_entry(const struct tags *t, struct tags_shape shape, uint32_t pos)
{
	uint8_t *e = tags_at(t, shape, pos);

	return e[shape.mark] != 0 ? e : NULL;
}

/* By other bytes of the tag than those that name the slice, which are the first two. */
static inline uint32_t tags_home(const struct tags *t, const uint8_t tag[TAG_BYTES])
{
	return (uint32_t)((uint64_t)nolog_get32(tag + 8) * t->cap >> 32);
}

static inline uint32_t tags_after(const struct tags *t, uint32_t pos)
{
	return pos + 1 == t->cap ? 0 : pos + 1;
}

static inline uint8_t *tags_find(const struct tags *t, struct tags_shape shape,
				 const uint8_t tag[TAG_BYTES])
{
	uint8_t *e;

	if (t->cap == 0)
		return NULL;
	for (uint32_t pos = tags_home(t, tag); (e = tags_entry(t, shape, pos)) != NULL;
	     pos = tags_after(t, pos))
		if (memcmp(e, tag, TAG_BYTES) == 0)
			return e;
	return NULL;
}

/*
 * A slot for a tag that is not there, its tag filled in; the caller fills in
 * the rest and the mark at once.  Needs room made by tags_room().
 */
static inline uint8_t *tags_add(struct tags *t, struct tags_shape shape,
				const uint8_t tag[TAG_BYTES])
{
	uint32_t pos = tags_home(t, tag);

	while (tags_entry(t, shape, pos))
		pos = tags_after(t, pos);
	t->used++;
	memcpy(tags_at(t, shape, pos), tag, TAG_BYTES);
	return tags_at(t, shape, pos);
}

/* Empties it; what stood there is wiped. */
static inline void tags_clear(struct tags *t, struct tags_shape shape)
{
	if (t->at)
		explicit_bzero(t->at, (size_t)t->cap * shape.size);
	free(t->at);
	*t = (struct tags){ 0 };
}

/* Room for one more; -ENOMEM, nothing changed.  Entries move. */
static inline int tags_room(struct tags *t, struct tags_shape shape)
{
	struct tags bigger = { .cap = t->cap + t->cap / 5 + 5 };

	if ((t->used + 1) <= (uint64_t)t->cap * 5 / 6)
		return 0;
	if (bigger.cap < t->cap)
		return -ENOMEM;
	bigger.at = calloc(bigger.cap, shape.size);
	if (!bigger.at)
		return -ENOMEM;
	for (uint32_t pos = 0; pos < t->cap; pos++) {
		const uint8_t *e = tags_entry(t, shape, pos);

		if (e)
			memcpy(tags_add(&bigger, shape, e), e, shape.size);
	}
	tags_clear(t, shape);
	*t = bigger;
	return 0;
}

/* Removes an entry and shifts back what had to go past it: look at its slot again. */
static inline void tags_remove(struct tags *t, struct tags_shape shape, uint8_t *entry)
{
	uint32_t hole = (uint32_t)((size_t)(entry - t->at) / shape.size), pos = hole;

	for (;;) {
		uint32_t home, from_home, from_hole;
		const uint8_t *e;

		pos = tags_after(t, pos);
		e = tags_entry(t, shape, pos);
		if (!e)
			break;
		home = tags_home(t, e);
		from_home = pos >= home ? pos - home : pos + t->cap - home;
		from_hole = pos >= hole ? pos - hole : pos + t->cap - hole;
		if (from_home < from_hole)
			continue;
		memcpy(tags_at(t, shape, hole), e, shape.size);
		hole = pos;
	}
	memset(tags_at(t, shape, hole), 0, shape.size);
	t->used--;
}

#endif
