/* SPDX-License-Identifier: ISC */
/*
 * daywait: the rows of one day that are in no file yet, in memory, found by
 * address.  Knows no file and no batch but the oldest.
 */
#ifndef DAYWAIT_H
#define DAYWAIT_H

#include "dayblock.h"

struct daywait_row {
	uint8_t ip[NOLOG_IP_SIZE];
	struct server_key server;
	uint32_t start, end; /* milliseconds of the day, with ROW_MORE */
	uint32_t next;	     /* of the same chain, number + 1 */
};

struct daywait {
	struct daywait_row *rows;
	uint32_t n, room;
	uint32_t *heads; /* of the chains, number + 1; a power of two of them */
	uint32_t heads_n;
	uint32_t stuck;	  /* the first rows so many, which could not be written */
	uint64_t oldest;  /* batch of the first row, or an older one */
	uint64_t fresh;	  /* of the first that is not stuck */
	int64_t since_ms; /* when that came */
};

/* -ENOMEM: nothing changed.  row->next is not looked at. */
int daywait_add(struct daywait *w, const struct daywait_row *row, uint64_t batch, int64_t now_ms);
/* The first row that may have this address, and the next one; NULL: no more.  Compare. */
const struct daywait_row *daywait_first(const struct daywait *w, const uint8_t ip[NOLOG_IP_SIZE]);
const struct daywait_row *daywait_next(const struct daywait *w, const struct daywait_row *row);
/* Takes out the rows that drop says true of; what is left is stuck. */
typedef bool daywait_drop_fn(const struct daywait_row *row, const void *arg);
void daywait_drop(struct daywait *w, daywait_drop_fn *drop, const void *arg);
/* Wipes and frees; empty afterwards. */
void daywait_clear(struct daywait *w);

/* Sorts by dayrow_order(); spare is as long as rows. */
void dayrows_sort(struct dayrow *rows, struct dayrow *spare, size_t n);

#endif
