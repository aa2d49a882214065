/* SPDX-License-Identifier: ISC */
/*
 * servers: a list with a table over it, and for each the last day that knows
 * it.  Knows no session and no clock.
 */
#include "servers.h"

#include "seal.h"
#include "slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct known {
	struct server_key key;
	uint16_t hash;
	int32_t day; /* its last row's, or a later one */
};

struct servers {
	uint8_t hash_key[16];
	struct slots slots;
	struct known *at; /* from 1 */
	uint32_t n, room;
	uint32_t last; /* found last: events come in runs of one server */
};

static bool same(const struct server_key *a, const struct server_key *b)
{
	return memcmp(a->b, b->b, SERVER_KEY_SIZE) == 0;
}

static uint16_t hash_of(const struct servers *s, const struct server_key *server)
{
	return (uint16_t)seal_hash(s->hash_key, server->b, SERVER_KEY_SIZE);
}

/* Its number; 0: it is not there. */
static uint32_t find(struct servers *s, const struct server_key *server)
{
	uint32_t id, pos;
	uint16_t hash;

	if (s->last != 0 && same(&s->at[s->last].key, server))
		return s->last;
	hash = hash_of(s, server);
	pos = slots_seek(&s->slots, hash, slots_home(&s->slots, hash), &id);
	while (id != 0 && !same(&s->at[id].key, server))
		pos = slots_seek(&s->slots, hash, slots_after(&s->slots, pos), &id);
	return s->last = id;
}

/* For one more. */
static int reserve(struct servers *s)
{
	uint32_t room = s->room ? 2 * s->room : 64;
	struct known *more;

	if (slots_room(&s->slots) < 0)
		return -ENOMEM;
	if (s->n < s->room)
		return 0;
	more = reallocarray(s->at, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	s->at = more;
	s->room = room;
	return 0;
}

size_t servers_count(const struct servers *s)
{
	return s->slots.used;
}

bool servers_room(struct servers *s, const struct server_key *server)
{
	return find(s, server) != 0 || (s->slots.used < SERVERS_MAX && reserve(s) == 0);
}

int servers_note(struct servers *s, const struct server_key *server, int32_t day)
{
	uint32_t id = find(s, server);

	if (id != 0) {
		if (s->at[id].day < day)
			s->at[id].day = day;
		return 0;
	}
	if (reserve(s) < 0)
		return -ENOMEM;
	id = s->n++;
	s->at[id] = (struct known){ .key = *server, .hash = hash_of(s, server), .day = day };
	slots_add(&s->slots, s->at[id].hash, id);
	s->last = id;
	return 0;
}

/* Once a day: what stays moves together, and the table is made anew. */
void servers_forget(struct servers *s, int32_t first, servers_open_fn *has_open, void *arg)
{
	uint32_t kept = 1;

	for (uint32_t id = 1; id < s->n; id++)
		if (s->at[id].day >= first || has_open(&s->at[id].key, arg))
			s->at[kept++] = s->at[id];
	if (kept == s->n)
		return;
	memset(&s->at[kept], 0, (s->n - kept) * sizeof(*s->at));
	memset(s->slots.at, 0, (size_t)s->slots.cap * SLOT_SIZE);
	s->slots.used = 0;
	s->n = kept;
	s->last = 0;
	for (uint32_t id = 1; id < s->n; id++)
		slots_add(&s->slots, s->at[id].hash, id);
}

int servers_new(struct servers **out, const uint8_t hash_key[16])
{
	struct servers *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	memcpy(s->hash_key, hash_key, sizeof(s->hash_key));
	s->n = 1;
	*out = s;
	return 0;
}

void servers_free(struct servers *s)
{
	if (!s)
		return;
	free(s->slots.at);
	free(s->at);
	free(s);
}
