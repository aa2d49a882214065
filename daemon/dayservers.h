/* SPDX-License-Identifier: ISC */
/*
 * dayservers: a day's list of servers, whose places stand for them in its rows.
 * In order of first appearance; nothing is ever taken out, but what was added
 * for a change that did not happen.  Pure.
 */
#ifndef DAYSERVERS_H
#define DAYSERVERS_H

#include "effect.h"

#include <stdint.h>

struct dayservers {
	struct server_key *keys;
	uint32_t n, room;
	uint32_t *slots; /* place + 1, by hash; a power of two, at least twice room */
	uint32_t slots_n;
};

/* The server's place, or -ENOENT. */
int32_t dayservers_find(const struct dayservers *s, const struct server_key *key);
/* Its place, new when it has none; -ENOSPC: the list is full; -ENOMEM. */
int32_t dayservers_add(struct dayservers *s, const struct server_key *key);
/* Back to the first n. */
void dayservers_cut(struct dayservers *s, uint32_t n);
void dayservers_clear(struct dayservers *s);

#endif
