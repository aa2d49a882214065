/* SPDX-License-Identifier: ISC */
/*
 * Any bytes as a log: what decodes must encode to the same bytes, and whatever
 * a log says, replay must neither crash nor lose count; afterwards events are
 * decided on what it left.
 */
#include "effect.h"
#include "seal.h"
#include "sessions.h"
#include "streams.h"
#include "usage.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct books {
	struct sessions *sessions;
	struct streams *streams;
	struct usage *usage;
	struct effects out;
};

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void replay(struct books *b, const uint8_t in[EFFECT_SIZE], bool *known_server,
		   struct server_key *server)
{
	struct effect e;
	uint8_t again[EFFECT_SIZE], id[NOLOG_SERVER_SIZE];
	int taken = 0;

	if (effect_decode(&e, in) < 0)
		return;
	effect_encode(again, &e);
	must(memcmp(again, in, EFFECT_SIZE) == 0);
	taken += sessions_apply(b->sessions, &e, 0) == 0;
	taken += streams_apply(b->streams, &e, 0) == 0;
	taken += usage_apply(b->usage, &e, 0) == 0;
	must(taken <= 1);
	if (e.type == EFFECT_OPEN) {
		must(server_unpack(id, &e.u.open.server));
		*server = e.u.open.server;
		*known_server = true;
	}
}

static int count_one(const struct sessions_entry *e, void *arg)
{
	uint8_t id[NOLOG_SERVER_SIZE];

	must(server_unpack(id, e->server) && e->start_ms >= 0 && e->alive_ms >= 0);
	++*(size_t *)arg;
	return 0;
}

/* Everything once: logged again, silent, restarted; no count may be off. */
static void decide(struct books *b, const struct server_key *server)
{
	const struct sessions_rules rules = { .max_silence_ms = 1, .max_open = 100 };
	const struct sessions_time t = { .now_ms = EFFECT_MS_MAX,
					 .horizon_ms = INT64_C(1) << 40,
					 .keep_ms = INT64_C(1) << 40,
					 .running_ms = 1000000 };
	struct nolog_frame f = { .type = NOLOG_RESTART };
	size_t n = 0, logged, gone;

	for (unsigned i = 0; i < SESSIONS_SLICES; i++) {
		(void)sessions_scan(b->sessions, i, count_one, &n);
		sessions_refresh(b->sessions, &t, i, &b->out);
	}
	must(n == sessions_open(b->sessions) && n == b->out.n);
	logged = b->out.n;
	for (unsigned i = 0; i < SESSIONS_SLICES; i++)
		sessions_expire(b->sessions, &rules, &t, i, &b->out);
	gone = b->out.n - logged;
	must(n - gone == sessions_open(b->sessions));
	f.u.restart.at_ms = EFFECT_MS_MAX;
	must(sessions_decide(b->sessions, &rules, &t, server, &f, &b->out) == NOLOG_OK);
	effects_clear(&b->out);
	for (unsigned i = 0; i < USAGE_SLICES; i++)
		usage_refresh(b->usage, i, &b->out);
	must(b->out.n == usage_accounts(b->usage) + usage_meters(b->usage));
	effects_clear(&b->out);
	for (unsigned i = 0; i < STREAMS_SLICES; i++)
		streams_refresh(b->streams, i, &b->out);
	must(b->out.n == streams_count(b->streams));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16] = { 1 };
	struct books b = { 0 };
	struct server_key server = { { 0 } };
	bool known_server = false;

	if (seal_init() < 0 || sessions_new(&b.sessions, key) < 0 || streams_new(&b.streams) < 0 ||
	    usage_new(&b.usage) < 0)
		abort();
	for (; size >= EFFECT_SIZE; data += EFFECT_SIZE, size -= EFFECT_SIZE)
		replay(&b, data, &known_server, &server);
	if (known_server)
		decide(&b, &server);
	sessions_free(b.sessions);
	streams_free(b.streams);
	usage_free(b.usage);
	effects_free(&b.out);
	return 0;
}
