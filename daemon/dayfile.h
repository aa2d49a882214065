/* SPDX-License-Identifier: ISC */
/*
 * dayfile: one day's file, an LMDB environment of sealed blocks by number.
 *
 * The only place of the days that includes <lmdb.h>.  Knows numbers, keys and
 * lengths; not what a block holds.  Each block is opened and sealed with the
 * key as the keyring has it at that moment, so that nothing outlives a
 * destroyed key.
 *
 * A file may be read and written by several threads, each with transactions of
 * its own; opening and closing is for one thread, while no other uses it.
 */
#ifndef DAYFILE_H
#define DAYFILE_H

#include "calendar.h"
#include "fault.h"
#include "keyring.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* errno of a system call.  EBADMSG is the file system's own damage there, not a day's. */
static inline int dayfile_errno(int error)
{
	return error == EBADMSG ? -EIO : -error;
}

#define DAYFILE_NAME_SIZE 24 /* "YYYY-MM-DD.damaged-NNNN" and NUL */
#define DAYFILE_ASIDE_MAX 9999u
#define DAYFILE_MAP (UINT64_C(64) << 30)
#define DAYFILE_READ_MAX 256 /* blocks, in one read transaction */

/* Where the files are. */
struct dayfile_home {
	const char *dir;
	struct keyring *keyring;
	uint8_t store[SEAL_STORE_SIZE];
	size_t map_bytes;
};

struct dayfile;

enum dayfile_mode {
	DAYFILE_LIVE,	   /* exists, is walked first, may be written */
	DAYFILE_TEMPORARY, /* made anew under a name that begins with a dot */
	DAYFILE_READONLY,  /* of a daemon that runs (through the lock file), or of a copy */
};

/* "YYYY-MM-DD.mdb", with a dot before it when temporary. */
void dayfile_name(char out[DAYFILE_NAME_SIZE], int32_t day, bool temporary);
/* "YYYY-MM-DD.damaged", "YYYY-MM-DD.damaged-2" and so on: it was set aside as the n-th of its day. */
void dayfile_aside_name(char out[DAYFILE_NAME_SIZE], int32_t day, unsigned n);
/* "days/YYYY-MM-DD.mdb", for faults. */
void dayfile_fault_name(char out[32], int32_t day);

/* -EBADMSG: damaged; -ENOENT; -ENOSPC: no room for the lock file or a new file. */
int dayfile_open(struct dayfile **out, const struct dayfile_home *home, int32_t day,
		 enum dayfile_mode mode, struct fault *fault);
void dayfile_close(struct dayfile *f); /* NULL is fine */
/*
 * Closes, whatever it returns, a temporary file that is complete, cut to the
 * pages it uses, and synced: ready to be renamed.
 */
int dayfile_seal_temporary(struct dayfile *f);

/* Blocks in the file. */
int dayfile_count(struct dayfile *f, uint64_t *out);
/* Bytes the file takes. */
uint64_t dayfile_bytes(struct dayfile *f);

/* A consistent view, for at most DAYFILE_READ_MAX blocks. */
struct dayread {
	struct dayfile *file;
	void *txn;
	unsigned dbi;
};
int dayread_begin(struct dayread *r, struct dayfile *f);
void dayread_end(struct dayread *r); /* also when it did not begin */
/*
 * Opens a block into out.  Its length, or -ENOENT: no such block; -EBADMSG: it
 * cannot be opened, or is longer than max; -ENOKEY: the day is forgotten.
 */
int dayread_get(struct dayread *r, uint64_t number, uint8_t *out, size_t max);
/* The lowest number from *number on: 1 and it, 0 when there is none, or -errno. */
int dayread_next(struct dayread *r, uint64_t *number);

/* One durable change. */
struct daywrite;
/*
 * Begins one that puts at most puts blocks of a page and deletes at most dels;
 * waits for another thread's.  -ENOSPC: there is no room for it now (nothing
 * happened); anything else is a real failure.
 */
int daywrite_begin(struct daywrite **out, struct dayfile *f, uint64_t puts, uint64_t dels);
int daywrite_put(struct daywrite *w, uint64_t number, const void *in, size_t len);
int daywrite_del(struct daywrite *w, uint64_t number); /* 0 also when there is none */
int daywrite_commit(struct daywrite *w);	       /* frees w, whatever it returns */
void daywrite_abort(struct daywrite *w);	       /* NULL is fine */

#endif
