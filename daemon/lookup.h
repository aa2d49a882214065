/* SPDX-License-Identifier: ISC */
/*
 * lookup: one question about sessions on its way through the stations.  Pure:
 * collects rows, and at the end makes sessions of them: identical ones once,
 * adjoining parts joined where exactly one stands on each side of midnight.
 *
 * A look-up is made by the loop, gets the open sessions from the session
 * writer, waiting and stored rows from days, and goes back to the loop, owned
 * by whoever has it.
 */
#ifndef LOOKUP_H
#define LOOKUP_H

#include "effect.h"
#include "exits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a collected row. */
#define LOOKUP_OPEN 1u	 /* has not ended; end_ms is INT64_MAX */
#define LOOKUP_BEFORE 2u /* began on an earlier day: start_ms is that day's 00:00 */
#define LOOKUP_AFTER 4u	 /* went on the next day: end_ms is the next day's 00:00 */

struct lookup_row {
	uint8_t ip[NOLOG_IP_SIZE];
	struct server_key server;
	uint8_t flags;
	int64_t start_ms, end_ms;
	uint64_t handle; /* of an open one: address, server and start need not tell two apart */
};

/* An open session that ended after the rows before seen had been found. */
struct lookup_ended {
	struct server_key server;
	uint64_t handle;
	size_t seen;
};

#define LOOKUP_CHUNK 512u

/* An answer, in the terms of the RECORD frame; code as there. */
struct lookup_record {
	uint8_t ip[NOLOG_IP_SIZE];
	struct server_key server;
	uint8_t code;
	int64_t start_ms, end_ms;
};

struct lookup {
	/* the question */
	uint8_t ip[NOLOG_IP_SIZE]; /* bits beyond length are zero */
	uint8_t length;		   /* 0: any address of both families */
	bool one_server;
	struct server_key server; /* if one_server */
	int64_t from_ms, to_ms;	  /* both inclusive */
	int64_t horizon_ms;	  /* when it was asked; 0: whatever the stations keep */
	size_t limit;		  /* of records */
	struct exits *exits;	  /* counted; may be NULL */
	struct server_key *
		behind; /* servers with a shared exit address in the prefix (and equal to server if one_server); ascending */
	size_t behind_count;

	/* where it came from; the stations do not look */
	void *asker;
	uint64_t link, seq;

	/* what was found: in chunks, so that collecting never moves it */
	struct lookup_row **chunks; /* of LOOKUP_CHUNK rows */
	size_t chunks_n, chunks_room;
	size_t n;
	struct lookup_ended *ended;
	size_t ended_n, ended_room;
	unsigned code;		 /* enum nolog_done_code, the first that is not 0 stays */
	struct lookup_row *rows; /* all of them, while finishing */

	/* the answer, after lookup_finish() */
	struct lookup_record *records;
	size_t record_count;

	struct lookup *next; /* for whoever holds it in a list */
};

/* Makes one from a checked LOOKUP frame; takes its own reference of exits.  NULL: no memory. */
struct lookup *lookup_new(const struct nolog_frame *question, struct exits *exits, size_t limit);
void lookup_free(struct lookup *l); /* NULL is fine */

/* True when the prefix is one address: found by an index, not by a scan. */
bool lookup_exact(const struct lookup *l);
/* True when a session of this address and server belongs to the answer, whatever its time. */
bool lookup_wants(const struct lookup *l, const uint8_t ip[NOLOG_IP_SIZE],
		  const struct server_key *server);
/* True when [start_ms, end_ms] touches the time asked for. */
bool lookup_touches(const struct lookup *l, int64_t start_ms, int64_t end_ms);
/* The i-th row that was added, before lookup_finish(). */
static inline const struct lookup_row *lookup_row_at(const struct lookup *l, size_t i)
{
	return &l->chunks[i / LOOKUP_CHUNK][i % LOOKUP_CHUNK];
}
/*
 * Adds a row that lookup_wants().  Rows with LOOKUP_BEFORE or _AFTER are to be
 * added for joining even when their own time does not touch.  False when it is
 * full (2 x limit rows: code becomes NOLOG_DONE_LIMIT) or memory ran out (code
 * becomes NOLOG_DONE_UNREADABLE): stop collecting.
 */
bool lookup_add(struct lookup *l, const struct lookup_row *row);
/*
 * A session has ended that may be among the open rows added so far: such a row
 * will be left out, as days has what has ended.
 */
void lookup_note_ended(struct lookup *l, const struct server_key *server, uint64_t handle);
/*
 * Makes the records, in one go, which takes seconds for millions of rows: for
 * no thread that others wait for.  Drops what has ended and rows before horizon_ms and cuts the others to it
 * (a first part there is whole), joins, drops what does not touch, removes
 * duplicates, sets codes, applies the limit, frees the rows.
 */
void lookup_finish(struct lookup *l, int64_t horizon_ms);
/*
 * Takes the last of the records out; false: there is none.  Its memory goes
 * little by little, so that freeing millions at the end is no pause.
 */
bool lookup_take(struct lookup *l, struct lookup_record *out);

#endif
