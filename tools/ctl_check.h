/* SPDX-License-Identifier: ISC */
/*
 * ctl_check: may this effect be in this book's journal?  Pure: what the policy
 * promises about a record, judged from its bytes and two instants.
 */
#ifndef CTL_CHECK_H
#define CTL_CHECK_H

#include "effect.h"
#include "keyring.h"

struct ctl_bounds {
	int64_t horizon_ms; /* nothing that is kept is earlier */
	int64_t latest_ms;  /* or later */
};

/* NULL: it may; else what is wrong, without content. */
const char *ctl_check_effect(const struct ctl_bounds *b, enum keyring_book book,
			     const uint8_t effect[EFFECT_SIZE]);

#endif
