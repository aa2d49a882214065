/* SPDX-License-Identifier: ISC */
/*
 * sessionbook: the book of sessions: the sessions ledger at its writer, what
 * ended handed on to days, look-ups passed on with the open sessions.
 *
 * Knows no account.  After sessionbook_new() everything happens on the
 * writer's thread, except sessionbook_stats().
 */
#ifndef SESSIONBOOK_H
#define SESSIONBOOK_H

#include "days.h"
#include "sessions.h"
#include "writer.h"

struct sessionbook;

/* Owned by the book once sent to it (REQUEST_RULES); made by sessionbook_rules_new(). */
struct sessionbook_rules;
struct sessionbook_rules *sessionbook_rules_new(const struct sessions_rules *rules);
void sessionbook_rules_free(struct sessionbook_rules *r);

struct sessionbook_stats {
	uint64_t open, started, ended;
};

/* days is borrowed; rules become the book's. */
int sessionbook_new(struct sessionbook **out, struct days *days, struct keyring *keyring,
		    struct sessionbook_rules *rules);
void sessionbook_free(struct sessionbook *b);
/* What its writer needs. */
const struct writer_book *sessionbook_writer(const struct sessionbook *b);
void sessionbook_stats(const struct sessionbook *b, struct sessionbook_stats *out);

#endif
