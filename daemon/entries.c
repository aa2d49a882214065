/* SPDX-License-Identifier: ISC */
/*
 * entries: the open sessions and the ways to find one.  Refuses to know what
 * time it is, what a session may be and what becomes of it.
 */
#include "entries.h"

#include "seal.h"

#include <errno.h>
#include <stdlib.h>

static struct entry_place place_of(uint64_t hash)
{
	return (struct entry_place){ (uint16_t)(hash >> 52), (uint16_t)hash };
}
static_assert(ENTRIES_SLICES == 1 << (64 - 52), "the slice is the hash's top bits");

/* --- Servers: a server is there while it has open sessions. --- */

static bool server_same(const struct server_key *a, const struct server_key *b)
{
	return memcmp(a->b, b->b, SERVER_KEY_SIZE) == 0;
}

static uint16_t server_hash(const struct entries *t, const struct server_key *key)
{
	return (uint16_t)seal_hash(t->hash_key, key->b, SERVER_KEY_SIZE);
}

static uint32_t server_find(const struct entries *t, const struct server_key *key, uint16_t hash)
{
	const struct slots *slots = &t->server_slots;
	uint32_t id, pos = slots_seek(slots, hash, slots_home(slots, hash), &id);

	while (id != 0 && !server_same(&t->servers[id].key, key))
		pos = slots_seek(slots, hash, slots_after(slots, pos), &id);
	return id;
}

uint32_t entries_server(const struct entries *t, const struct server_key *key)
{
	uint32_t id = t->server_last;

	if (id != 0 && server_same(&t->servers[id].key, key))
		return id;
	return server_find(t, key, server_hash(t, key));
}

static int servers_grow(struct entries *t)
{
	uint32_t room = t->servers_room ? t->servers_room * 2 : 64;
	struct entry_server *servers;

	if (t->servers_n < t->servers_room)
		return 0;
	servers = realloc(t->servers, room * sizeof(*servers));
	if (!servers)
		return -ENOMEM;
	t->servers = servers;
	t->servers_room = room;
	return 0;
}

/* The server's number; makes it, without a session yet, when it is unknown. */
static uint32_t server_make(struct entries *t, const struct server_key *key)
{
	uint32_t id = entries_server(t, key);
	uint16_t hash;

	if (id != 0)
		return id;
	if (t->server_slots.used == ENTRIES_SERVERS_MAX || slots_room(&t->server_slots) < 0)
		return 0;
	id = t->servers_free;
	if (id != 0) {
		t->servers_free = t->servers[id].first;
	} else {
		if (servers_grow(t) < 0)
			return 0;
		id = t->servers_n++;
	}
	hash = server_hash(t, key);
	t->servers[id] = (struct entry_server){ .key = *key, .hash = hash };
	slots_add(&t->server_slots, hash, id);
	return id;
}

static void server_forget(struct entries *t, uint32_t id)
{
	struct slots *slots = &t->server_slots;

	slots_remove(slots, slots_where(slots, t->servers[id].hash, id));
	t->servers[id] = (struct entry_server){ .first = t->servers_free };
	t->servers_free = id;
	if (t->server_last == id)
		t->server_last = 0;
}

static void server_link(struct entries *t, uint32_t id)
{
	struct entry *e = entries_at(t, id);
	struct entry_server *server = &t->servers[e->server];

	e->server_prev = 0;
	e->server_next = server->first;
	if (server->first != 0)
		entries_at(t, server->first)->server_prev = id;
	server->first = id;
	server->count++;
}

static void server_unlink(struct entries *t, const struct entry *e)
{
	struct entry_server *server = &t->servers[e->server];

	if (e->server_next != 0)
		entries_at(t, e->server_next)->server_prev = e->server_prev;
	if (e->server_prev != 0)
		entries_at(t, e->server_prev)->server_next = e->server_next;
	else
		server->first = e->server_next;
	if (--server->count == 0)
		server_forget(t, e->server);
}

/* --- Addresses --- */

void entries_ip(const struct entries *t, const struct entry *e, uint8_t ip[NOLOG_IP_SIZE])
{
	uint32_t address = e->address;

	if (e->is6) {
		memcpy(ip, pool_at(&t->addresses, address), NOLOG_IP_SIZE);
		return;
	}
	memset(ip, 0, 10);
	memset(ip + 10, 0xff, 2);
	memcpy(ip + 12, &address, 4);
}

static bool address_is(const struct entries *t, const struct entry *e,
		       const uint8_t ip[NOLOG_IP_SIZE])
{
	uint8_t own[NOLOG_IP_SIZE];

	entries_ip(t, e, own);
	return memcmp(own, ip, NOLOG_IP_SIZE) == 0;
}

static struct entry_place address_place(const struct entries *t, const uint8_t ip[NOLOG_IP_SIZE])
{
	return place_of(seal_hash(t->hash_key, ip, NOLOG_IP_SIZE));
}

static uint32_t address_first(const struct entries *t, struct entry_place at,
			      const uint8_t ip[NOLOG_IP_SIZE])
{
	const struct slots *slots = &t->address_slots[at.slice];
	uint32_t id, pos = slots_seek(slots, at.hash, slots_home(slots, at.hash), &id);

	while (id != 0 && !address_is(t, entries_at(t, id), ip))
		pos = slots_seek(slots, at.hash, slots_after(slots, pos), &id);
	return id;
}

uint32_t entries_first_at(const struct entries *t, const uint8_t ip[NOLOG_IP_SIZE])
{
	return address_first(t, address_place(t, ip), ip);
}

/* What address_link() will need. */
static int address_reserve(struct entries *t, struct entry_place at,
			   const uint8_t ip[NOLOG_IP_SIZE])
{
	int r = slots_room(&t->address_slots[at.slice]);

	if (r == 0 && !effect_ip_is4(ip))
		r = pool_reserve(&t->addresses);
	return r;
}

/* A second session of an address goes behind the first: the slot stays as it is. */
static void address_link(struct entries *t, uint32_t id, struct entry_place at,
			 const uint8_t ip[NOLOG_IP_SIZE])
{
	uint32_t address, first = address_first(t, at, ip);
	struct entry *e = entries_at(t, id);

	e->is6 = !effect_ip_is4(ip);
	if (e->is6) {
		address = pool_take(&t->addresses);
		memcpy(pool_at(&t->addresses, address), ip, NOLOG_IP_SIZE);
	} else {
		memcpy(&address, ip + 12, 4);
	}
	e->address = address;
	e->address_prev = first;
	e->address_next = 0;
	if (first == 0) {
		slots_add(&t->address_slots[at.slice], at.hash, id);
		return;
	}
	e->address_next = entries_at(t, first)->address_next;
	if (e->address_next != 0)
		entries_at(t, e->address_next)->address_prev = id;
	entries_at(t, first)->address_next = id;
}

static void address_unlink(struct entries *t, uint32_t id)
{
	struct entry *e = entries_at(t, id);
	uint8_t ip[NOLOG_IP_SIZE];
	struct entry_place at;
	struct slots *slots;
	uint32_t pos;

	entries_ip(t, e, ip);
	if (e->is6)
		pool_give(&t->addresses, e->address);
	if (e->address_next != 0)
		entries_at(t, e->address_next)->address_prev = e->address_prev;
	if (e->address_prev != 0) {
		entries_at(t, e->address_prev)->address_next = e->address_next;
		return;
	}
	at = address_place(t, ip);
	slots = &t->address_slots[at.slice];
	pos = slots_where(slots, at.hash, id);
	if (e->address_next != 0)
		slots_set(slots, pos, at.hash, e->address_next);
	else
		slots_remove(slots, pos);
}

int entries_set_ip(struct entries *t, uint32_t id, const uint8_t ip[NOLOG_IP_SIZE])
{
	struct entry_place at = address_place(t, ip);

	if (address_is(t, entries_at(t, id), ip))
		return 0;
	if (address_reserve(t, at, ip) < 0)
		return -ENOMEM;
	address_unlink(t, id);
	address_link(t, id, at, ip);
	return 0;
}

/* --- Sessions --- */

struct entry_place entries_place(const struct entries *t, const struct server_key *server,
				 uint64_t handle)
{
	uint8_t key[SERVER_KEY_SIZE + 8];

	memcpy(key, server->b, SERVER_KEY_SIZE);
	nolog_put64(key + SERVER_KEY_SIZE, handle);
	return place_of(seal_hash(t->hash_key, key, sizeof(key)));
}

uint32_t entries_find(struct entries *t, const struct server_key *server, uint64_t handle,
		      struct entry_place at)
{
	const struct slots *slots = &t->slices[at.slice];
	uint32_t server_id = t->server_last = entries_server(t, server);
	uint32_t id, pos = slots_seek(slots, at.hash, slots_home(slots, at.hash), &id);

	while (id != 0) {
		const struct entry *e = entries_at(t, id);

		if (e->handle == handle && e->server == server_id)
			break;
		pos = slots_seek(slots, at.hash, slots_after(slots, pos), &id);
	}
	return id;
}

uint32_t entries_add(struct entries *t, const struct server_key *server, uint64_t handle,
		     struct entry_place at, const uint8_t ip[NOLOG_IP_SIZE])
{
	struct entry_place address_at = address_place(t, ip);
	uint32_t server_id, id;

	if (pool_reserve(&t->pool) < 0 || slots_room(&t->slices[at.slice]) < 0 ||
	    address_reserve(t, address_at, ip) < 0)
		return 0;
	server_id = server_make(t, server);
	if (server_id == 0)
		return 0;
	id = pool_take(&t->pool);
	*entries_at(t, id) = (struct entry){ .handle = handle, .server = (uint16_t)server_id };
	slots_add(&t->slices[at.slice], at.hash, id);
	server_link(t, id);
	address_link(t, id, address_at, ip);
	t->count++;
	return id;
}

void entries_remove(struct entries *t, uint32_t id, struct entry_place at)
{
	const struct entry *e = entries_at(t, id);
	struct slots *slots = &t->slices[at.slice];

	/* The neighbours are somewhere else in memory: have them fetched meanwhile. */
	__builtin_prefetch(pool_at(&t->pool, e->server_next ? e->server_next : id));
	__builtin_prefetch(pool_at(&t->pool, e->server_prev ? e->server_prev : id));
	if (t->address_walk == id)
		t->address_walk = e->address_next;
	if (t->server_walk == id)
		t->server_walk = e->server_next;
	slots_remove(slots, slots_where(slots, at.hash, id));
	address_unlink(t, id);
	server_unlink(t, e);
	pool_give(&t->pool, id);
	t->count--;
}

void entries_init(struct entries *t, const uint8_t hash_key[16])
{
	memset(t, 0, sizeof(*t));
	memcpy(t->hash_key, hash_key, sizeof(t->hash_key));
	pool_init(&t->pool, sizeof(struct entry));
	pool_init(&t->addresses, NOLOG_IP_SIZE);
	t->servers_n = 1;
}

void entries_done(struct entries *t)
{
	for (unsigned i = 0; i < ENTRIES_SLICES; i++) {
		free(t->slices[i].at);
		free(t->address_slots[i].at);
	}
	free(t->server_slots.at);
	free(t->servers);
	pool_free(&t->pool);
	pool_free(&t->addresses);
}
