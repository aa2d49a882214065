/* SPDX-License-Identifier: ISC */
/*
 * daytest: what the tests of the days share: a directory that goes away, a
 * keyring in it, effects and look-ups made from a few numbers.
 */
#ifndef DAYTEST_H
#define DAYTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "calendar.h"
#include "days.h"
#include "keyring.h"
#include "lookup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TODAY 20779 /* 2026-11-22 */
#define HOUR INT64_C(3600000)
#define DAY CALENDAR_DAY_MS
#define T0 (TODAY * DAY)

struct place {
	char root[200], dir[220], ring[220];
	struct keyring *keyring;
};

static inline void place_make(struct place *p, int32_t today)
{
	const char *tmp = getenv("TMPDIR");

	(void)snprintf(p->root, sizeof(p->root), "%s/nologd-days-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->root));
	(void)snprintf(p->dir, sizeof(p->dir), "%s/days", p->root);
	(void)snprintf(p->ring, sizeof(p->ring), "%s/keyring", p->root);
	assert_int_equal(seal_init(), 0);
	assert_int_equal(keyring_create(&p->keyring, p->ring, today, calendar_month(today),
					today * DAY, NULL),
			 0);
}

static inline int place_unlink(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void place_remove(struct place *p)
{
	keyring_close(p->keyring);
	assert_int_equal(nftw(p->root, place_unlink, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static inline void ip4_make(uint8_t ip[16], uint32_t v)
{
	memset(ip, 0, 10);
	memset(ip + 10, 0xff, 2);
	for (int i = 0; i < 4; i++)
		ip[12 + i] = (uint8_t)(v >> (24 - 8 * i));
}

static inline struct server_key server_make(unsigned n)
{
	uint8_t id[NOLOG_SERVER_SIZE] = { 0 };
	struct server_key key;

	(void)snprintf((char *)id, sizeof(id), "s-%u", n);
	server_pack(&key, id);
	return key;
}

static inline void whole_make(uint8_t out[EFFECT_SIZE], const uint8_t ip[16], unsigned server,
			      int64_t start, int64_t end)
{
	struct effect e = { .type = EFFECT_WHOLE };

	e.u.whole.server = server_make(server);
	memcpy(e.u.whole.ip, ip, 16);
	e.u.whole.start_ms = start;
	e.u.whole.end_ms = end;
	effect_encode(out, &e);
}

/* server < 0: any */
static inline struct lookup *ask_make(const uint8_t ip[16], unsigned length, int server,
				      int64_t from, int64_t to, struct exits *exits, size_t limit)
{
	struct nolog_frame f = { .type = NOLOG_LOOKUP, .code = (uint16_t)length };
	struct lookup *l;

	if (ip)
		memcpy(f.u.lookup.ip, ip, 16);
	if (server >= 0) {
		struct server_key key = server_make((unsigned)server);

		assert_true(server_unpack(f.u.lookup.server, &key));
	}
	f.u.lookup.from_ms = from;
	f.u.lookup.to_ms = to;
	l = lookup_new(&f, exits, limit);
	assert_non_null(l);
	return l;
}

static inline double seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* xorshift64*, so that a seed says everything */
static inline uint64_t dice(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}

static inline uint64_t dice_below(uint64_t *state, uint64_t n)
{
	return dice(state) % n;
}

#endif
