/* SPDX-License-Identifier: ISC */
/*
 * sessions: the ledger of open sessions.  Pure: no I/O, no clock, no LMDB, no
 * libevent; knows no account and no day file.
 *
 * It decides events at a time it is told, under rules it is told, and yields
 * effects; it is itself the fold of the effects it has yielded.  Sessions lie
 * in slices by a keyed hash of server and handle; every slice is a table of
 * its own, so that growing one is a small thing.  Exact addresses and servers
 * are found by chains through the entries.
 */
#ifndef SESSIONS_H
#define SESSIONS_H

#include "effect.h"

#include <nolog/frame.h>

#include <stdbool.h>

#define SESSIONS_SLICES 4096
#define SESSIONS_FUTURE_MS (INT64_C(5) * 60 * 1000)
#define SESSIONS_SERVERS_MAX 65535 /* with open sessions at a time; one more is 22 */

struct sessions;

struct sessions_prefix {
	uint8_t ip[NOLOG_IP_SIZE];
	uint8_t length; /* 0-128 */
};

/* Read during calls only; may be another one at every call. */
struct sessions_rules {
	const struct sessions_prefix *allow; /* none: any address */
	size_t allow_count;
	int64_t max_silence_ms; /* 0: never */
	size_t max_open;
	bool server_full;    /* no room for this server: what would be kept of it is 22 */
	size_t restart_most; /* sessions that a RESTART looks at in one call; 0: all */
};

struct sessions_time {
	int64_t now_ms;	    /* of the commit */
	int64_t horizon_ms; /* 00:00 of the oldest day that is kept */
	int64_t keep_ms;    /* the same as it will be in two hours: what is yielded is cut to it */
	int64_t running_ms; /* unstalled running time, for silence */
};

/* One open session as others see it; borrowed for the call. */
struct sessions_entry {
	const struct server_key *server;
	uint64_t handle;
	const uint8_t *ip;
	int64_t start_ms;
	int64_t alive_ms; /* 0: none */
};

int sessions_new(struct sessions **out, const uint8_t hash_key[16]);
void sessions_free(struct sessions *s);
size_t sessions_open(const struct sessions *s);
/* How many open sessions this server has: what a RESTART can at most yield. */
size_t sessions_open_at(const struct sessions *s, const struct server_key *server);

/*
 * Decides one START, END, SESSION, ALIVE or RESTART of a server, changes the
 * ledger and appends its effects.  Returns NOLOG_OK or the refusal (16-22),
 * checked in the contract's order; a refused event yields nothing.  The
 * server need not be known before.  What the contract leaves open:
 *
 * - An end on the horizon itself is kept: [horizon, horizon].
 * - An ALIVE before its session's start counts as one at the start.
 * - Of a session whose start was cut the true start is no longer known: an END
 *   before the cut start is accepted, and RESTART ends it whatever `at` is.
 *   A start is taken for a cut one when it is a midnight not above keep_ms.
 */
enum nolog_refusal sessions_decide(struct sessions *s, const struct sessions_rules *rules,
				   const struct sessions_time *t, const struct server_key *server,
				   const struct nolog_frame *event, struct effects *out);
/*
 * True when the RESTART that was decided last has more sessions to look at: it
 * is to be decided again, and no other event before it.
 */
bool sessions_restarting(const struct sessions *s);

/* Ends, with effects, those of a slice that were silent for too long. */
void sessions_expire(struct sessions *s, const struct sessions_rules *rules,
		     const struct sessions_time *t, unsigned slice, struct effects *out);
/*
 * Appends the slice's open sessions as OPEN effects, cut to t->keep_ms, and so
 * cut in the ledger too.  A last sign of life before it becomes 1: there was
 * one.
 */
void sessions_refresh(struct sessions *s, const struct sessions_time *t, unsigned slice,
		      struct effects *out);
/* Replay of an effect: sets and removes, asks nothing.  -EBADMSG: not one of this book; -ENOMEM. */
int sessions_apply(struct sessions *s, const struct effect *e, int64_t running_ms);

/* Calls fn for every open session of an address; fn must not change s; nonzero stops. */
typedef int sessions_fn(const struct sessions_entry *e, void *arg);
int sessions_find(const struct sessions *s, const uint8_t ip[NOLOG_IP_SIZE], sessions_fn *fn,
		  void *arg);
/*
 * The same in pieces, between which sessions may begin and end: all that are
 * open now and do not end before they are met.  One walk at a time: beginning
 * one ends the other.  sessions_walk_on() meets at most `most`; false: it is over.
 */
void sessions_walk(struct sessions *s, const uint8_t ip[NOLOG_IP_SIZE]);
bool sessions_walk_on(struct sessions *s, size_t most, sessions_fn *fn, void *arg);
/* The same as sessions_find() for every open session of a slice. */
int sessions_scan(const struct sessions *s, unsigned slice, sessions_fn *fn, void *arg);

#endif
