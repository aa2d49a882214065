/* SPDX-License-Identifier: ISC */
/*
 * slots: an open-addressing table of 32-bit numbers that have a 16-bit hash.
 *
 * Six bytes a slot: the hash beside the number, so that probing, growing and
 * deleting never touch what the numbers stand for; only a hit does.  Linear
 * probing, deletion by shifting back (no tombstones), any capacity (the home
 * is hash * capacity / 2^16), growth by a fifth at five sixths: between 7.2 and
 * 8.7 bytes an entry.  Meant for many small tables; number 0 is "empty".
 * The hash must be keyed: what reporters choose must not choose the slot.
 */
#ifndef SLOTS_H
#define SLOTS_H

#include <nolog/frame.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_SIZE 6u

struct slots {
	uint8_t *at;
	uint32_t cap, used;
};

static inline uint16_t slots_hash(const struct slots *t, uint32_t pos)
{
	return nolog_get16(t->at + (size_t)pos * SLOT_SIZE);
}

static inline uint32_t slots_id(const struct slots *t, uint32_t pos)
{
	return nolog_get32(t->at + (size_t)pos * SLOT_SIZE + 2);
}

static inline void slots_set(struct slots *t, uint32_t pos, uint16_t hash, uint32_t id)
{
	nolog_put16(t->at + (size_t)pos * SLOT_SIZE, hash);
	nolog_put32(t->at + (size_t)pos * SLOT_SIZE + 2, id);
}

static inline uint32_t slots_home(const struct slots *t, uint16_t hash)
{
	return (uint32_t)((uint64_t)hash * t->cap >> 16);
}

static inline uint32_t slots_after(const struct slots *t, uint32_t pos)
{
	return pos + 1 == t->cap ? 0 : pos + 1;
}

/*
 * The first slot from pos on with this hash; its number goes to *id, 0 when
 * there is none.  Begin at slots_home(), go on at slots_after(); a table has
 * always an empty slot once it has any.
 */
static inline uint32_t slots_seek(const struct slots *t, uint16_t hash, uint32_t pos, uint32_t *id)
{
	*id = 0;
	if (t->cap == 0)
		return 0;
	while ((*id = slots_id(t, pos)) != 0 && slots_hash(t, pos) != hash)
		pos = slots_after(t, pos);
	return pos;
}

/* The slot of an entry that is there. */
static inline uint32_t slots_where(const struct slots *t, uint16_t hash, uint32_t id)
{
	uint32_t found, pos = slots_seek(t, hash, slots_home(t, hash), &found);

	while (found != id)
		pos = slots_seek(t, hash, slots_after(t, pos), &found);
	return pos;
}

/* Needs room made by slots_room(). */
static inline void slots_add(struct slots *t, uint16_t hash, uint32_t id)
{
	uint32_t pos = slots_home(t, hash);

	while (slots_id(t, pos) != 0)
		pos = slots_after(t, pos);
	slots_set(t, pos, hash, id);
	t->used++;
}

/* Room for one more; -ENOMEM, nothing changed. */
static inline int slots_room(struct slots *t)
{
	struct slots bigger = { .cap = t->cap + t->cap / 5 + 5 };

	if ((t->used + 1) <= (uint64_t)t->cap * 5 / 6)
		return 0;
	if (bigger.cap < t->cap)
		return -ENOMEM;
	bigger.at = calloc(bigger.cap, SLOT_SIZE);
	if (!bigger.at)
		return -ENOMEM;
	for (uint32_t pos = 0; pos < t->cap; pos++)
		if (slots_id(t, pos) != 0)
			slots_add(&bigger, slots_hash(t, pos), slots_id(t, pos));
	free(t->at);
	*t = bigger;
	return 0;
}

/* Empties the slot at pos and shifts back what had to go past it. */
static inline void slots_remove(struct slots *t, uint32_t pos)
{
	uint32_t hole = pos;

	for (;;) {
		uint32_t home, from_home, from_hole;

		pos = slots_after(t, pos);
		if (slots_id(t, pos) == 0)
			break;
		home = slots_home(t, slots_hash(t, pos));
		from_home = pos >= home ? pos - home : pos + t->cap - home;
		from_hole = pos >= hole ? pos - hole : pos + t->cap - hole;
		if (from_home < from_hole)
			continue;
		slots_set(t, hole, slots_hash(t, pos), slots_id(t, pos));
		hole = pos;
	}
	slots_set(t, hole, 0, 0);
	t->used--;
}

#endif
