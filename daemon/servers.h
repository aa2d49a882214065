/* SPDX-License-Identifier: ISC */
/*
 * servers: which servers stand, or may yet stand, in the lists of the living
 * days: those that have a row in one, and those with open sessions.
 *
 * A day's list has room for so many and no more.  As each is a part of this
 * one, none can overflow while this one does not grow beyond SERVERS_MAX; and
 * as a server leaves it with the last day that knows it, a server that fits
 * has room.  One look into a table an event.  Pure.
 */
#ifndef SERVERS_H
#define SERVERS_H

#include "effect.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVERS_MAX 65535u /* a day's list has 65,536 places */

struct servers;

int servers_new(struct servers **out, const uint8_t hash_key[16]);
void servers_free(struct servers *s); /* NULL is fine */
size_t servers_count(const struct servers *s);
/* True when it is there, or there is room for one more: servers_note() will not fail. */
bool servers_room(struct servers *s, const struct server_key *server);
/*
 * A row of it lies on that day, or none after it; INT32_MIN: it has an open
 * session.  Enters it, whatever SERVERS_MAX is: what is there is there.  -ENOMEM.
 */
int servers_note(struct servers *s, const struct server_key *server, int32_t day);
/* Lets go of those that have no row on first or later, and of which has_open is not true. */
typedef bool servers_open_fn(const struct server_key *server, void *arg);
void servers_forget(struct servers *s, int32_t first, servers_open_fn *has_open, void *arg);

#endif
