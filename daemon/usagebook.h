/* SPDX-License-Identifier: ISC */
/*
 * usagebook: the book of totals: the usage ledger at its writer, accounts and
 * meters made tags before anything is stored, totals answered, the month's
 * turn.
 *
 * Knows no session.  After usagebook_new() everything happens on the writer's
 * thread, except usagebook_stats().
 */
#ifndef USAGEBOOK_H
#define USAGEBOOK_H

#include "usage.h"
#include "writer.h"

struct usagebook;

struct usagebook_stats {
	uint64_t accounts, meters, turns;
	uint32_t month;
};

int usagebook_new(struct usagebook **out, struct keyring *keyring, struct clock *clock,
		  const struct usage_rules *rules);
void usagebook_free(struct usagebook *b);
const struct writer_book *usagebook_writer(const struct usagebook *b);
/* Totals are answered through this one; after writer_new(), before anything else. */
void usagebook_attach(struct usagebook *b, struct writer *w);
void usagebook_stats(const struct usagebook *b, struct usagebook_stats *out);

#endif
