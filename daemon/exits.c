/* SPDX-License-Identifier: ISC */
/*
 * exits: the list of shared exit addresses, sorted twice.  Once by address, to
 * tell whether one is shared, and once by server, to tell who is behind a
 * prefix.  Knows no session and no configuration file.
 */
#include "exits.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct exits {
	atomic_uint refs;
	size_t n;
	struct exits_entry *by_ip, *by_server; /* two halves of one allocation */
	struct exits_entry entries[];
};

static int order_ip(const void *a, const void *b)
{
	const struct exits_entry *x = a, *y = b;
	int r = memcmp(x->ip, y->ip, NOLOG_IP_SIZE);

	return r ? r : memcmp(x->server.b, y->server.b, SERVER_KEY_SIZE);
}

static int order_server(const void *a, const void *b)
{
	const struct exits_entry *x = a, *y = b;
	int r = memcmp(x->server.b, y->server.b, SERVER_KEY_SIZE);

	return r ? r : memcmp(x->ip, y->ip, NOLOG_IP_SIZE);
}

struct exits *exits_new(const struct exits_entry *entries, size_t n)
{
	struct exits *x;

	if (n > SIZE_MAX / 4 / sizeof(*entries))
		return NULL;
	x = calloc(1, sizeof(*x) + 2 * n * sizeof(*entries));
	if (!x)
		return NULL;
	atomic_init(&x->refs, 1);
	x->n = n;
	x->by_ip = x->entries;
	x->by_server = x->entries + n;
	if (n == 0)
		return x;
	memcpy(x->by_ip, entries, n * sizeof(*entries));
	memcpy(x->by_server, entries, n * sizeof(*entries));
	qsort(x->by_ip, n, sizeof(*entries), order_ip);
	qsort(x->by_server, n, sizeof(*entries), order_server);
	return x;
}

struct exits *exits_ref(struct exits *x)
{
	if (x)
		atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
	return x;
}

void exits_unref(struct exits *x)
{
	if (x && atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) == 1)
		free(x);
}

static int find_ip(const void *key, const void *entry)
{
	return memcmp(key, ((const struct exits_entry *)entry)->ip, NOLOG_IP_SIZE);
}

bool exits_shared(const struct exits *x, const uint8_t ip[NOLOG_IP_SIZE])
{
	return x && x->n && bsearch(ip, x->by_ip, x->n, sizeof(*x->by_ip), find_ip);
}

static bool within(const uint8_t *a, const uint8_t *b, unsigned length)
{
	unsigned whole = length / 8, rest = length % 8;

	return memcmp(a, b, whole) == 0 &&
	       (rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0);
}

size_t exits_servers(const struct exits *x, const uint8_t ip[NOLOG_IP_SIZE], unsigned length,
		     struct server_key *out, size_t max)
{
	const struct server_key *last = NULL;
	size_t found = 0;

	for (size_t i = 0; x && i < x->n; i++) {
		const struct exits_entry *e = &x->by_server[i];

		if ((last && memcmp(last->b, e->server.b, SERVER_KEY_SIZE) == 0) ||
		    !within(e->ip, ip, length))
			continue;
		last = &e->server;
		if (found < max)
			out[found] = e->server;
		found++;
	}
	return found;
}

size_t exits_count(const struct exits *x)
{
	return x ? x->n : 0;
}
