/* SPDX-License-Identifier: ISC */
/*
 * dayblock: what the blocks of a day's file hold, once they are opened.  Pure:
 * bytes to numbers and back; knows no LMDB, no key and no file.
 *
 * Blocks are numbered run << 32 | kind << 24 | index, so that a run's blocks
 * lie together.  Run 0 is the day's own: its manifest and its list of servers.
 * All blocks of a kind but the last are full, so that the number of rows tells
 * the number of blocks.  Rows are sorted by address and start; a block of the
 * index holds the first addresses of the run's blocks.
 *
 * Whatever a decoder is given was sealed by this daemon; it is still judged
 * byte by byte, because the daemon may have been another version, or wrong.
 */
#ifndef DAYBLOCK_H
#define DAYBLOCK_H

#include "effect.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An LMDB page less its header and what sealing adds. */
#define DAYBLOCK_SIZE 4040
#define DAYBLOCK_DAY_MS UINT32_C(86400000)
#define DAYBLOCK_SERVERS_MAX 65536u
#define DAYBLOCK_INDEX_MAX ((UINT32_C(1) << 24) - 1) /* blocks of a kind in a run */
#define DAYBLOCK_RUNS_MAX 4096u

enum dayblock_kind {
	DAYBLOCK_MANIFEST = 1, /* of run 0 */
	DAYBLOCK_SERVERS = 2,  /* of run 0 */
	DAYBLOCK_INDEX = 3,    /* + family */
	DAYBLOCK_ROWS = 5,     /* + family */
};

/* The two parts of a run. */
enum dayfamily { DAYFAMILY_4, DAYFAMILY_6 };
#define DAYFAMILIES 2

static inline uint64_t dayblock_number(uint32_t run, unsigned kind, uint32_t index)
{
	return (uint64_t)run << 32 | (uint64_t)kind << 24 | index;
}
#define DAYBLOCK_MANIFEST_NUMBER dayblock_number(0, DAYBLOCK_MANIFEST, 0)

/* An address as a number, IPv4 as ::ffff:a.b.c.d. */
__extension__ typedef unsigned __int128 dayaddr;
#define DAYADDR_4 ((dayaddr)0xffff << 32)
#define DAYADDR_MAX (~(dayaddr)0)

static inline dayaddr dayaddr_of(const uint8_t ip[NOLOG_IP_SIZE])
{
	uint64_t half[2];

	memcpy(half, ip, sizeof(half));
	return (dayaddr)__builtin_bswap64(half[0]) << 64 | __builtin_bswap64(half[1]);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "dayaddr_of() and LMDB's integer keys");
static_assert(sizeof(size_t) == 8, "block numbers are LMDB integer keys");

struct dayrow {
	uint8_t ip[NOLOG_IP_SIZE];
	uint16_t server;
	uint32_t start, end; /* with ROW_MORE */
};

/* Bytes of a row and of an address in the index, and how many a block holds. */
extern const size_t dayrow_size[DAYFAMILIES];
extern const size_t dayaddr_size[DAYFAMILIES];
extern const uint32_t dayrow_block[DAYFAMILIES];
extern const uint32_t dayaddr_block[DAYFAMILIES];
#define DAYSERVERS_BLOCK ((uint32_t)(DAYBLOCK_SIZE / SERVER_KEY_SIZE))

static inline enum dayfamily dayfamily_of(const uint8_t ip[NOLOG_IP_SIZE])
{
	return effect_ip_is4(ip) ? DAYFAMILY_4 : DAYFAMILY_6;
}

/* How many blocks n items take. */
static inline uint64_t dayblock_count(uint64_t n, uint32_t per_block)
{
	return n / per_block + (n % per_block != 0);
}

static inline void dayrow_encode(uint8_t *p, enum dayfamily family, const struct dayrow *row)
{
#define DAYROW_PUT(kind, n, why) EFFECT_PUT_##kind(p, row->n), p += EFFECT_SIZE_##kind;
	if (family == DAYFAMILY_4) {
		ROW4_FIELDS(DAYROW_PUT)
	} else {
		ROW6_FIELDS(DAYROW_PUT)
	}
#undef DAYROW_PUT
}

static inline void dayrow_decode(struct dayrow *row, enum dayfamily family, const uint8_t *p)
{
#define DAYROW_GET(kind, n, why) EFFECT_GET_##kind(p, row->n), p += EFFECT_SIZE_##kind;
	if (family == DAYFAMILY_4) {
		ROW4_FIELDS(DAYROW_GET)
	} else {
		ROW6_FIELDS(DAYROW_GET)
	}
#undef DAYROW_GET
}

/* False when the row's times are not within a day, or its server is none of so many. */
static inline bool dayrow_good(const struct dayrow *row, uint32_t servers)
{
	uint32_t start = row->start & ~ROW_MORE, end = row->end & ~ROW_MORE;

	return row->server < servers && start <= end && start < DAYBLOCK_DAY_MS &&
	       end <= DAYBLOCK_DAY_MS && (start == row->start || start == 0) &&
	       (end == row->end || end == DAYBLOCK_DAY_MS);
}

/* By address and start: servers change places when a day is rewritten. */
int dayrow_order(const struct dayrow *a, const struct dayrow *b);
/*
 * How many rows an opened block of rows holds.  -EBADMSG: none, or not whole
 * ones, or more than go into one.  The rows are judged by dayrow_good().
 */
int dayrows_count(enum dayfamily family, size_t len);

struct manifest_run {
	uint32_t id; /* from 1 */
	uint64_t rows[DAYFAMILIES];
};

struct manifest {
	int32_t day;
	bool rewritten;	     /* as one run, after the day was over */
	uint32_t next_run;   /* numbers from here on have not been used */
	uint32_t servers;    /* in the list */
	uint64_t generation; /* of this manifest, from 1 */
	uint64_t through;    /* all rows of batches up to it are in the runs */
	uint32_t n;
	struct manifest_run *runs; /* ids ascending */
};

#define MANIFEST_HEAD 40
#define MANIFEST_RUN 20
#define MANIFEST_SIZE_MAX (MANIFEST_HEAD + DAYBLOCK_RUNS_MAX * MANIFEST_RUN)

static inline size_t manifest_size(uint32_t runs)
{
	return MANIFEST_HEAD + (size_t)runs * MANIFEST_RUN;
}

/* out has room for manifest_size(m->n). */
void manifest_encode(uint8_t *out, const struct manifest *m);
/* -EBADMSG; -EPROTO: another format; -ENOMEM.  The caller frees m->runs. */
int manifest_decode(struct manifest *m, const uint8_t *in, size_t len, int32_t day);

/* The n servers of a block; -EBADMSG. */
int dayservers_decode(struct server_key *out, size_t n, const uint8_t *in, size_t len);
/* Copies the n addresses of an index block, ascending from *last, which moves on; -EBADMSG. */
int dayindex_decode(uint8_t *out, enum dayfamily family, size_t n, const uint8_t *in, size_t len,
		    dayaddr *last);

/* The i-th address of an index as it is stored: 4 or 16 bytes each. */
static inline dayaddr dayindex_at(const uint8_t *index, enum dayfamily family, uint64_t i)
{
	if (family == DAYFAMILY_4) {
		uint32_t be;

		memcpy(&be, index + 4 * i, sizeof(be));
		return DAYADDR_4 | __builtin_bswap32(be);
	}
	return dayaddr_of(index + 16 * i);
}

#endif
