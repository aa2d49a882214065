/* SPDX-License-Identifier: ISC */
/*
 * dayrun: one sorted run of a day's file: its index in memory, and the writing
 * of a new one.  A run never changes once it is whole; any thread may read it.
 */
#ifndef DAYRUN_H
#define DAYRUN_H

#include "dayblock.h"
#include "dayfile.h"
#include "fault.h"

struct dayrun {
	uint32_t id;
	uint64_t rows[DAYFAMILIES];
	uint32_t blocks[DAYFAMILIES];
	uint8_t *index[DAYFAMILIES]; /* the first address of each block, dayindex_at() */
	/* of the days thread only: */
	bool damaged;  /* a block could not be read: not to be merged */
	unsigned refs; /* the day's, and one of each that goes through it or merges it */
};

/* With one reference and room for its index, which is to be filled.  NULL: no memory. */
struct dayrun *dayrun_new(uint32_t id, const uint64_t rows[DAYFAMILIES]);
struct dayrun *dayrun_ref(struct dayrun *run);
void dayrun_unref(struct dayrun *run); /* frees with the last; NULL is fine */
/* The day is forgotten: so are the addresses of the index, whoever still has the run. */
void dayrun_wipe(struct dayrun *run);
uint64_t dayrun_rows(const struct dayrun *run);
/* Blocks it takes in the file, those of its index included. */
uint64_t dayrun_total_blocks(const uint64_t rows[DAYFAMILIES]);
/* Its size class: merging eight of one class makes one of the next. */
unsigned dayrun_class(const struct dayrun *run);
/* Reads the index.  -EBADMSG: a block of it is missing or wrong; or what reading returned. */
int dayrun_load(struct dayrun **out, struct dayfile *f, const struct manifest_run *m,
		struct fault *fault);

/* --- Writing one: all IPv4 rows, then all IPv6 rows, sorted; as many as were announced --- */
struct dayrunwriter {
	struct dayfile *file;
	struct dayrun *run;
	struct daywrite *txn;
	uint32_t chunk;	 /* blocks in a transaction of its own, 0: all in the caller's */
	uint32_t in_txn; /* blocks */
	enum dayfamily family;
	uint32_t fill, block; /* rows in the block, number of it */
	uint64_t added[DAYFAMILIES];
	uint8_t bytes[DAYBLOCK_SIZE];
};

/*
 * chunk > 0: in short transactions of its own.  chunk 0: in the caller's txn,
 * which stays the caller's.
 */
int dayrunwriter_begin(struct dayrunwriter *w, struct dayfile *f, uint32_t id,
		       const uint64_t rows[DAYFAMILIES], uint32_t chunk, struct daywrite *txn);
int dayrunwriter_add(struct dayrunwriter *w, enum dayfamily family, const struct dayrow *row);
/* Writes the rest and the index, and commits its own.  -EBADMSG: not as many rows as announced. */
int dayrunwriter_finish(struct dayrunwriter *w, struct dayrun **out);
void dayrunwriter_drop(struct dayrunwriter *w); /* after a failure, or when begin failed */

#endif
