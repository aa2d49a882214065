/* SPDX-License-Identifier: ISC */
/*
 * exits: which addresses are shared exits of which servers.  Pure; immutable
 * once made, and counted, so that a look-up keeps the one it began with while
 * the configuration is reread.
 */
#ifndef EXITS_H
#define EXITS_H

#include "effect.h"

#include <stdbool.h>
#include <stddef.h>

struct exits;

struct exits_entry {
	uint8_t ip[NOLOG_IP_SIZE];
	struct server_key server;
};

/* Copies the entries; one address may belong to several servers. NULL: no memory. */
struct exits *exits_new(const struct exits_entry *entries, size_t n);
struct exits *exits_ref(struct exits *x);
void exits_unref(struct exits *x); /* frees with the last; NULL is fine; any thread */

/* True when ip is a shared exit address of any server. */
bool exits_shared(const struct exits *x, const uint8_t ip[NOLOG_IP_SIZE]);
/*
 * The servers that have an exit address within the prefix (length 0-128; 0 is
 * any address), each once, ascending.  Returns their number, at most max written.
 */
size_t exits_servers(const struct exits *x, const uint8_t ip[NOLOG_IP_SIZE], unsigned length,
		     struct server_key *out, size_t max);
size_t exits_count(const struct exits *x);

#endif
