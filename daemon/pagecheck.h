/* SPDX-License-Identifier: ISC */
/*
 * pagecheck: is this file an LMDB environment that can be mapped safely?
 *
 * LMDB trusts the structure of its files: damaged pages make it crash or
 * answer wrongly.  This walks them with plain reads before anything is mapped:
 * meta pages, numbers, flags, bounds, node offsets, key order, each page once,
 * depth.  It knows LMDB 0.9's data format 1 with the machine's page size, only
 * what nologd uses of it (one integer-keyed main database, overflow pages, the
 * free list), and calls everything else damage.  It reads no content, and
 * includes no <lmdb.h>: the format is described here by itself.
 */
#ifndef PAGECHECK_H
#define PAGECHECK_H

#include "fault.h"

#include <stdbool.h>
#include <stdint.h>

struct pagecheck_result {
	uint64_t pages;	    /* pages in use, meta pages included */
	uint64_t last_page; /* highest page number ever allocated */
	uint64_t entries;   /* of the main database */
	uint64_t txn; /* the transaction whose state was checked; set also on damage below it */
};

/*
 * Checks the file behind fd as it would be seen by a reader now (the newer
 * valid meta page).  name goes into the fault.  An empty file (size 0) is fine
 * and gives zeros.  deep also reads every overflow page's header.
 * Only a deep check makes a file safe to write to: LMDB trusts the length in
 * an overflow page's header when it deletes.  0, -EBADMSG with fault set, or
 * the errno of a read.
 *
 * In a file that is being written the pages of the checked state may be used
 * again two commits later: what is found then is no damage.  Whoever checks a
 * live file compares out->txn with pagecheck_txn() afterwards.
 */
int pagecheck_fd(int fd, const char *name, bool deep, struct pagecheck_result *out,
		 struct fault *fault);
/* The number of the newest transaction; -EBADMSG when the meta pages do not say. */
int pagecheck_txn(int fd, uint64_t *txn);
/* The same, and the highest page that it has allocated. */
int pagecheck_newest(int fd, uint64_t *txn, uint64_t *last_page);

#endif
