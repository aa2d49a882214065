/* SPDX-License-Identifier: ISC */
/*
 * entries: the open sessions and the ways to find one.  For sessions.c only,
 * which knows what they mean; here they are only found, entered and removed.
 *
 * An entry takes 46 bytes in a pool that grows by chunks and never moves; two
 * tables of slots find it, one by server and handle, one by address (which
 * holds the first entry of each address only, the others hang on a chain: a
 * million sessions of one address are one slot).  All that can fail comes
 * before the first change.  An IPv4 session takes 60 to 63 bytes altogether.
 */
#ifndef ENTRIES_H
#define ENTRIES_H

#include "effect.h"
#include "pool.h"
#include "slots.h"

#include <nolog/frame.h>

#include <stdint.h>

#define ENTRIES_SLICES 4096
#define ENTRIES_SERVERS_MAX 65535
#define ENTRY_HEARD_MAX 0x7fffffffu

struct entry {
	uint64_t handle;
	uint32_t address; /* IPv4, or a number in the pool of IPv6 addresses */
	uint32_t server_next, server_prev;
	uint32_t address_next, address_prev;
	uint32_t heard : 31; /* when an ALIVE came last; its unit is the ledger's business */
	uint32_t is6 : 1;
	uint16_t server;
	uint8_t start[6];
	uint8_t alive[6];
} __attribute__((packed, aligned(2)));
static_assert(sizeof(struct entry) == 46, "an open session takes 46 bytes and its slots");

struct entry_server {
	struct server_key key;
	uint16_t hash;
	uint32_t first; /* of its sessions; of the next free server when it has none */
	uint32_t count;
};

struct entries {
	uint8_t hash_key[16];
	size_t count;
	struct pool pool;
	struct pool addresses;	      /* IPv6 */
	struct entry_server *servers; /* from 1 */
	uint32_t servers_n, servers_room, servers_free;
	uint32_t server_last; /* found last: events come in runs of one server */
	/*
	 * Where a walk along the sessions of an address, and one along those of a
	 * server, will go on; 0: at the end.  When that session goes, at the next.
	 */
	uint32_t address_walk, server_walk;
	struct slots server_slots;
	struct slots slices[ENTRIES_SLICES];
	struct slots address_slots[ENTRIES_SLICES];
};

/* Where the keyed hash of a session or an address leads. */
struct entry_place {
	uint16_t slice;
	uint16_t hash;
};

void entries_init(struct entries *t, const uint8_t hash_key[16]);
void entries_done(struct entries *t);

static inline struct entry *entries_at(const struct entries *t, uint32_t id)
{
	return (struct entry *)(void *)pool_at(&t->pool, id);
}

static inline const struct server_key *entries_server_key(const struct entries *t,
							  const struct entry *e)
{
	return &t->servers[e->server].key;
}

struct entry_place entries_place(const struct entries *t, const struct server_key *server,
				 uint64_t handle);
/* All numbers below: 0 for none. */
/* The session of this server and handle, whose place it is. */
uint32_t entries_find(struct entries *t, const struct server_key *server, uint64_t handle,
		      struct entry_place at);
/* Enters one that is not there; its other fields are zero.  0: no memory, or a server too many. */
uint32_t entries_add(struct entries *t, const struct server_key *server, uint64_t handle,
		     struct entry_place at, const uint8_t ip[NOLOG_IP_SIZE]);
/* at: its place, which costs a hash when it is not at hand. */
void entries_remove(struct entries *t, uint32_t id, struct entry_place at);
/* Gives it another address; -ENOMEM, nothing changed. */
int entries_set_ip(struct entries *t, uint32_t id, const uint8_t ip[NOLOG_IP_SIZE]);
void entries_ip(const struct entries *t, const struct entry *e, uint8_t ip[NOLOG_IP_SIZE]);
/* The first session of an address; the others follow by address_next. */
uint32_t entries_first_at(const struct entries *t, const uint8_t ip[NOLOG_IP_SIZE]);
/* The server, if it has open sessions: servers[] holds the first and their number. */
uint32_t entries_server(const struct entries *t, const struct server_key *key);

#endif
