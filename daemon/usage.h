/* SPDX-License-Identifier: ISC */
/*
 * usage: the ledger of the month's totals.  Pure: no I/O, no clock; knows no
 * session, no server and no account, only tags.
 */
#ifndef USAGE_H
#define USAGE_H

#include "effect.h"

#define USAGE_SLICES 4096
#define USAGE_TOTAL_END (UINT64_C(1) << 63) /* a total that would reach it is refused */
#define USAGE_METER_IDLE_MS (INT64_C(7) * 24 * 3600 * 1000)
#define USAGE_METER_CLOSED_MS (INT64_C(24) * 3600 * 1000)

struct usage;

struct usage_rules {
	size_t max_accounts;
	size_t max_meters;
};

struct usage_event {
	uint8_t account[16]; /* tag */
	bool metered;
	uint8_t meter[16];	/* tag under the meter key in use */
	uint8_t generation;	/* of that key */
	uint8_t old_meter[16];	/* tag under the key before it */
	uint8_t old_generation; /* 0: there is none */
	unsigned flags;		/* NOLOG_USAGE_FIRST, _LAST */
	uint64_t rx, tx;
};

int usage_new(struct usage **out);
void usage_free(struct usage *u);
size_t usage_accounts(const struct usage *u);
size_t usage_meters(const struct usage *u);

/*
 * Decides one USAGE, changes the ledger and appends its effects.  NOLOG_OK or
 * NOLOG_OVER_CAPACITY (a total would reach 2^63, or limits are reached); what
 * is refused changes nothing, the meter included.
 */
enum nolog_refusal usage_decide(struct usage *u, const struct usage_rules *rules,
				const struct usage_event *event, int64_t running_ms,
				struct effects *out);
/* The total of an account's tag; zeros when there is none. */
void usage_total(const struct usage *u, const uint8_t account[16], uint64_t *rx, uint64_t *tx);

/* Appends a slice's totals and meters. */
void usage_refresh(const struct usage *u, unsigned slice, struct effects *out);
/*
 * Forgets, with effects, meters of a slice: closed for a day, or without a
 * reading for 7 days of running time.  They count as unknown before that too.
 */
void usage_expire(struct usage *u, unsigned slice, int64_t running_ms, struct effects *out);
/* Forgets, with effects, the meters of a slice under this key generation. */
void usage_drop_generation(struct usage *u, unsigned slice, uint8_t generation,
			   struct effects *out);
/* All totals are zero: yields TURN; the meters stay (log them by usage_refresh()). */
void usage_turn(struct usage *u, uint32_t month, struct effects *out);
/* Replay of an effect.  -EBADMSG, -ENOMEM. */
int usage_apply(struct usage *u, const struct effect *e, int64_t running_ms);

#endif
