/* SPDX-License-Identifier: ISC */
/*
 * journal: the log of a book's effects, one LMDB environment, the only truth.
 *
 * Effects are committed in batches, numbered from 1 without a gap.  A batch is
 * one durable LMDB transaction of one or more sealed blocks, keyed by
 * batch << 16 | block; a block is at most one page.  The oldest batches are
 * cut off in the same transactions.  Blocks are sealed under the book's
 * journal key of an epoch (the only thing in clear besides numbers); when the
 * cut has passed the last block of the old epoch, that key is destroyed.
 *
 * One thread at a time (the book's writer).  Knows nothing of what effects
 * mean.  A file is walked by pagecheck before it is mapped.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include "effect.h"
#include "fault.h"
#include "keyring.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

/* What one batch can hold: 65,535 blocks of 83 effects; more is -E2BIG. */
#define JOURNAL_BATCH_MAX ((size_t)65535 * 83)

struct journal_options {
	const char *path; /* of the file, "…/sessions.mdb" */
	const char *name; /* for faults, "sessions.mdb" */
	enum keyring_book book;
	struct keyring *keyring; /* borrowed, outlives the journal */
	size_t map_bytes;	 /* fixed size of the sparse map; 0: 64 GiB */
	size_t reserve_bytes;	 /* space kept ahead; 0: 4 MiB */
	bool readonly;		 /* for audit: nothing is written, made, cut or destroyed */
};

/*
 * Opens or makes the file (0600, directory synced; readonly: -ENOENT).
 * -EBADMSG: damaged; -ENOKEY: a block under an unknown key; -EPROTO: another
 * format; fault says which block.  Nothing is changed when it fails.
 *
 * Readonly may be used beside a running daemon, whose lock file it then takes
 * part in, and on a copy, also in a directory that cannot be written.
 */
int journal_open(struct journal **out, const struct journal_options *options, struct fault *fault);
void journal_close(struct journal *j); /* NULL is fine */

/* Called for the effects of one block, in order. Nonzero stops and is handed back. */
typedef int journal_fn(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg);
/*
 * Reads everything, oldest first; verifies that no batch and no block is
 * missing (of the oldest batch the first blocks may be cut off).  To be called
 * once after journal_open(), before the first commit.  Errors as above.  When
 * all went well, an old key that no block needs any more is destroyed.
 *
 * Beside a running daemon (readonly) what is cut off meanwhile is passed over,
 * and -ENOKEY may mean no more than that a key was renewed since the keyring
 * was read.
 */
int journal_replay(struct journal *j, journal_fn *fn, void *arg, struct fault *fault);

uint64_t journal_first(const struct journal *j);   /* oldest batch kept, 0: none */
uint64_t journal_last(const struct journal *j);	   /* newest batch, 0: none ever */
uint64_t journal_effects(const struct journal *j); /* effects in the log now */
uint64_t journal_bytes(const struct journal *j); /* size of the file in use, free pages included */

/*
 * Makes sure that a commit of up to n effects finds its space.  -ENOSPC: there
 * is none now (also when the map is full: fault then says so): nothing
 * happened, try again later.  Any other failure: end the process.
 */
int journal_reserve(struct journal *j, size_t n, struct fault *fault);
/*
 * The same, from what journal_reserve() keeps back for it: for logging again
 * what lives, some of it at a time, and cutting what was before.  So a key can
 * die though the disk is full.
 */
int journal_reserve_spare(struct journal *j, size_t n, struct fault *fault);
/*
 * Gives the disk back what was reserved beyond that, for others who need it
 * more.  0; a failure is one to end the process for.
 */
int journal_release(struct journal *j);
/* As much of it at a time, as a rule. */
#define JOURNAL_SPARE_EFFECTS ((size_t)48 * 83)
/*
 * One durable transaction: the effects become batch journal_last() + 1, and
 * batches below cut are deleted (a bounded number of blocks at a time, so it
 * may take some commits; the newest batch always stays, so that numbers never
 * begin again).  *batch receives the newest batch's number.
 *
 * n = 0 makes no batch (*batch is journal_last()) and writes nothing unless
 * something is to be cut.  One exception: when the newest batch is still under
 * the old key, an empty batch is made, under the new one, so that the cut can
 * pass the old key also when nothing happens any more.
 *
 * When no block of the old epoch is left its key is destroyed afterwards.
 * -E2BIG: n > JOURNAL_BATCH_MAX, nothing happened.  Any other failure: end the
 * process without an acknowledgement.
 */
int journal_commit(struct journal *j, const uint8_t (*effects)[EFFECT_SIZE], size_t n, uint64_t cut,
		   uint64_t *batch);
/* True when the old key still lives: no renewal yet. */
bool journal_old_key(const struct journal *j);
/* The oldest living key of this journal was made then (wall clock). */
int64_t journal_oldest_key_ms(const struct journal *j);
/* New blocks are sealed under a new key from now on.  -EBUSY while an old one lives. */
int journal_renew(struct journal *j, int64_t now_ms);
/* The keyring has an epoch that was not made by journal_renew(): use it. */
void journal_epoch_changed(struct journal *j);

#endif
