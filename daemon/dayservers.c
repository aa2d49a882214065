/* SPDX-License-Identifier: ISC */
/*
 * dayservers: a list and a table over it.  Knows no file.
 */
#include "dayservers.h"

#include "dayblock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t slot_of(const struct dayservers *s, const struct server_key *key)
{
	uint64_t a = nolog_get64(key->b), b = nolog_get16(key->b + 8) | (uint64_t)key->b[10] << 16;
	uint64_t h = (a ^ (b << 40)) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(h >> 32) & (s->slots_n - 1);
}

/* The slot that holds the key, or the free one where it would be. */
static uint32_t *slot_find(const struct dayservers *s, const struct server_key *key)
{
	uint32_t i = slot_of(s, key);

	while (s->slots[i] && memcmp(&s->keys[s->slots[i] - 1], key, SERVER_KEY_SIZE) != 0)
		i = (i + 1) & (s->slots_n - 1);
	return &s->slots[i];
}

int32_t dayservers_find(const struct dayservers *s, const struct server_key *key)
{
	uint32_t slot = s->n ? *slot_find(s, key) : 0;

	return slot ? (int32_t)(slot - 1) : -ENOENT;
}

static void rehash(struct dayservers *s)
{
	memset(s->slots, 0, s->slots_n * sizeof(*s->slots));
	for (uint32_t i = 0; i < s->n; i++)
		*slot_find(s, &s->keys[i]) = i + 1;
}

static int grow(struct dayservers *s)
{
	uint32_t room = s->room ? 2 * s->room : 32;
	struct server_key *keys = reallocarray(s->keys, room, sizeof(*keys));
	uint32_t *slots;

	if (!keys)
		return -ENOMEM;
	s->keys = keys;
	slots = calloc(2 * (size_t)room, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(s->slots);
	s->slots = slots;
	s->slots_n = 2 * room;
	s->room = room;
	rehash(s);
	return 0;
}

int32_t dayservers_add(struct dayservers *s, const struct server_key *key)
{
	int32_t found = dayservers_find(s, key);
	int r;

	if (found >= 0)
		return found;
	if (s->n == DAYBLOCK_SERVERS_MAX)
		return -ENOSPC;
	if (s->n == s->room) {
		r = grow(s);
		if (r < 0)
			return r;
	}
	s->keys[s->n] = *key;
	*slot_find(s, key) = s->n + 1;
	return (int32_t)s->n++;
}

void dayservers_cut(struct dayservers *s, uint32_t n)
{
	if (n >= s->n)
		return;
	s->n = n;
	rehash(s);
}

void dayservers_clear(struct dayservers *s)
{
	free(s->keys);
	free(s->slots);
	*s = (struct dayservers){ 0 };
}
