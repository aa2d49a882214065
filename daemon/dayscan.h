/* SPDX-License-Identifier: ISC */
/*
 * dayscan: going through the runs of one day's file for the rows of some
 * addresses, a bounded number of blocks at a time.  Blocks whose addresses the
 * index shows to be others are not read.  Knows no look-up.
 */
#ifndef DAYSCAN_H
#define DAYSCAN_H

#include "dayrun.h"

struct dayrange {
	dayaddr low, high; /* inclusive */
};

/* What a server is to the question, by its place in the day's list. */
#define DAYSCAN_OWN 1u	  /* its sessions belong to it when their address does */
#define DAYSCAN_BEHIND 2u /* they belong to it whatever their address */

/* False: stop. */
typedef bool dayscan_fn(const struct dayrow *row, void *arg);

struct dayscan {
	/* the question, borrowed */
	const struct dayrange *ranges; /* ascending, apart */
	size_t ranges_n;
	struct dayrange own;	/* addresses that DAYSCAN_OWN goes for */
	const uint8_t *servers; /* servers_n of DAYSCAN_; NULL: all are DAYSCAN_OWN */
	uint32_t servers_n;	/* in the day's list, when it began */
	uint32_t from, to;	/* milliseconds of the day that a row must touch */
	bool crossing;		/* only rows that go on on another day, whatever their time */
	struct dayrun *const *runs;
	uint32_t runs_n;
	dayscan_fn *fn;
	void *arg;
	/* where it is: zeros at first */
	uint32_t run, block;
	enum dayfamily family;
	size_t range;
	/* what it met */
	uint64_t unreadable; /* blocks */
	uint64_t bad_block;  /* number of the last of them */
};

/*
 * Goes on in the runs' open file for at most *budget blocks, which it counts
 * down.  1: there is more; 0: done; 2: fn said stop; or -errno.  Blocks that
 * cannot be read are counted and passed over.
 */
int dayscan_step(struct dayscan *s, struct dayfile *f, unsigned *budget);
/* All rows of an opened block that are asked for.  -EBADMSG: a row that cannot be. */
int dayscan_block(struct dayscan *s, enum dayfamily family, const uint8_t *bytes, size_t len,
		  bool *stop);

#endif
