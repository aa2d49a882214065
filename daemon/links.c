/* SPDX-License-Identifier: ISC */
/* links: see links.h.  Slots are the loop's connection numbers, so the table is an array. */
#include "links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct links {
	struct link **at;
	size_t max;
	size_t top; /* no entry at or above it */
};

int links_new(struct links **out, size_t max)
{
	struct links *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->at = calloc(max ? max : 1, sizeof(struct link *));
	if (!l->at) {
		free(l);
		return -ENOMEM;
	}
	l->max = max;
	*out = l;
	return 0;
}

void links_free(struct links *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->top; i++)
		free(l->at[i]);
	free(l->at);
	free(l);
}

static size_t slot_of(uint64_t id)
{
	return (size_t)(id & UINT32_MAX);
}

struct link *links_get(struct links *l, uint64_t id)
{
	size_t slot = slot_of(id);

	if (slot >= l->top || !l->at[slot] || l->at[slot]->id != id)
		return NULL;
	return l->at[slot];
}

struct link *links_add(struct links *l, uint64_t id)
{
	size_t slot = slot_of(id);

	if (slot >= l->max)
		return NULL;
	if (!l->at[slot])
		l->at[slot] = malloc(sizeof(struct link));
	if (!l->at[slot])
		return NULL;
	if (slot >= l->top)
		l->top = slot + 1;
	memset(l->at[slot], 0, sizeof(struct link));
	l->at[slot]->id = id;
	l->at[slot]->first = true;
	return l->at[slot];
}

void links_remove(struct links *l, uint64_t id)
{
	size_t slot = slot_of(id);

	if (!links_get(l, id))
		return;
	free(l->at[slot]);
	l->at[slot] = NULL;
	while (l->top && !l->at[l->top - 1])
		l->top--;
}

struct link *links_with_stream(struct links *l, const uint8_t stream_id[16], const struct link *but)
{
	/* Once a connection, not once an event: no index. */
	for (size_t i = 0; i < l->top; i++) {
		struct link *k = l->at[i];

		if (k && k != but && !k->dead && k->who.stream &&
		    memcmp(k->stream_id, stream_id, sizeof(k->stream_id)) == 0)
			return k;
	}
	return NULL;
}

struct link *links_next(struct links *l, const struct link *after)
{
	for (size_t i = after ? slot_of(after->id) + 1 : 0; i < l->top; i++)
		if (l->at[i])
			return l->at[i];
	return NULL;
}

static bool fits(const struct link *k, uint64_t seq)
{
	if (seq == 0)
		return false; /* also what comes after the last number there is */
	return k->first ? seq - 1 <= k->taken_to : seq == k->next;
}

bool link_wait(struct link *k, uint64_t seq)
{
	bool expected = k->waiting ? seq != 0 && seq == k->coming : fits(k, seq);

	k->coming = seq + 1;
	k->waiting++;
	return expected;
}

void link_again(struct link *k)
{
	k->next--;
	k->taken_to--;
}

enum link_verdict link_sequence(struct link *k, uint64_t seq)
{
	if (!fits(k, seq))
		return LINK_REFUSE;
	k->first = false;
	k->next = seq + 1;
	if (seq <= k->taken_to)
		return LINK_REPEAT;
	k->taken_to = seq;
	return LINK_TAKE;
}
