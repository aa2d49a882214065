/* SPDX-License-Identifier: ISC */
/*
 * streams: positions by keyed hash, in 256 small tables.  Refuses to know
 * servers, stream numbers and keys.
 */
#include "streams.h"

#include "tags.h"

#include <errno.h>
#include <stdlib.h>

/* An entry: the id, then these. */
#define AT_SEQ 16
#define AT_TOUCHED 24 /* running time */
#define AT_GENERATION 30
#define AT_MARK 31
static const struct tags_shape shape = { .size = 32, .mark = AT_MARK };

struct streams {
	size_t count;
	struct tags slices[STREAMS_SLICES];
};

static struct tags *slice_of(struct streams *s, const uint8_t id[16])
{
	return &s->slices[id[0]];
}

static uint8_t *find(const struct streams *s, const uint8_t id[16])
{
	return tags_find(&s->slices[id[0]], shape, id);
}

static void set_touched(uint8_t *e, int64_t running_ms)
{
	effect_put_ms(e + AT_TOUCHED, running_ms < 0 ? 0 : running_ms);
}

/* The entry of id, made when there is none; NULL without memory. */
static uint8_t *make(struct streams *s, const uint8_t id[16])
{
	struct tags *t = slice_of(s, id);
	uint8_t *e = find(s, id);

	if (e)
		return e;
	if (tags_room(t, shape) < 0)
		return NULL;
	e = tags_add(t, shape, id);
	e[AT_MARK] = 1;
	s->count++;
	return e;
}

static void emit(const uint8_t *id, uint64_t seq, uint8_t generation, struct effects *out)
{
	struct effect effect = { .type = EFFECT_STREAM };

	memcpy(effect.u.stream.stream, id, 16);
	effect.u.stream.seq = seq;
	effect.u.stream.generation = generation;
	effects_add(out, &effect);
}

static void drop(struct streams *s, uint8_t *e)
{
	tags_remove(slice_of(s, e), shape, e);
	s->count--;
}

static void forget(struct streams *s, uint8_t *e, struct effects *out)
{
	emit(e, 0, e[AT_GENERATION], out);
	drop(s, e);
}

uint64_t streams_get(const struct streams *s, const uint8_t id[16])
{
	const uint8_t *e = find(s, id);

	return e ? nolog_get64(e + AT_SEQ) : 0;
}

int streams_set(struct streams *s, const uint8_t id[16], uint8_t generation, uint64_t seq,
		int64_t running_ms)
{
	uint8_t *e = make(s, id);

	if (!e)
		return -ENOMEM;
	nolog_put64(e + AT_SEQ, seq);
	e[AT_GENERATION] = generation;
	set_touched(e, running_ms);
	return 0;
}

int streams_move(struct streams *s, const uint8_t from[16], const uint8_t to[16],
		 uint8_t generation, struct effects *out)
{
	uint8_t *new, *old = find(s, from), copy[32];

	if (!old || memcmp(from, to, 16) == 0)
		return 0;
	memcpy(copy, old, sizeof(copy));
	if (effects_reserve(out, 2) < 0)
		return -ENOMEM;
	new = make(s, to);
	if (!new)
		return -ENOMEM;
	memcpy(new + AT_SEQ, copy + AT_SEQ, AT_GENERATION - AT_SEQ);
	new[AT_GENERATION] = generation;
	emit(to, nolog_get64(copy + AT_SEQ), generation, out);
	forget(s, find(s, from), out); /* found again: making the new one may have moved it */
	return 0;
}

void streams_emit(const struct streams *s, const uint8_t id[16], struct effects *out)
{
	const uint8_t *e = find(s, id);

	if (e)
		emit(e, nolog_get64(e + AT_SEQ), e[AT_GENERATION], out);
}

void streams_refresh(const struct streams *s, unsigned slice, struct effects *out)
{
	const struct tags *t = &s->slices[slice];

	for (uint32_t pos = 0; pos < t->cap; pos++) {
		const uint8_t *e = tags_entry(t, shape, pos);

		if (e)
			emit(e, nolog_get64(e + AT_SEQ), e[AT_GENERATION], out);
	}
}

void streams_expire(struct streams *s, unsigned slice, int64_t running_ms, struct effects *out)
{
	const struct tags *t = &s->slices[slice];
	uint32_t pos = 0;

	while (pos < t->cap) {
		uint8_t *e = tags_entry(t, shape, pos);

		if (e && running_ms - effect_get_ms(e + AT_TOUCHED) >= STREAMS_IDLE_MS)
			forget(s, e, out);
		else
			pos++;
	}
}

void streams_drop_generation(struct streams *s, unsigned slice, uint8_t generation,
			     struct effects *out)
{
	const struct tags *t = &s->slices[slice];
	uint32_t pos = 0;

	while (pos < t->cap) {
		uint8_t *e = tags_entry(t, shape, pos);

		if (e && e[AT_GENERATION] == generation)
			forget(s, e, out);
		else
			pos++;
	}
}

int streams_apply(struct streams *s, const struct effect *e, int64_t running_ms)
{
	uint8_t *old;

	if (e->type != EFFECT_STREAM)
		return -EBADMSG;
	if (e->u.stream.seq != 0)
		return streams_set(s, e->u.stream.stream, e->u.stream.generation, e->u.stream.seq,
				   running_ms);
	old = find(s, e->u.stream.stream);
	if (old)
		drop(s, old);
	return 0;
}

size_t streams_count(const struct streams *s)
{
	return s->count;
}

int streams_new(struct streams **out)
{
	struct streams *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*out = s;
	return 0;
}

void streams_free(struct streams *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < STREAMS_SLICES; i++)
		tags_clear(&s->slices[i], shape);
	free(s);
}
