/* SPDX-License-Identifier: ISC */
/*
 * ctl_policy: the policy in words, made from the schema that the encoder uses.
 */
#ifndef CTL_POLICY_H
#define CTL_POLICY_H

#include <stdbool.h>
#include <stdio.h>

#define CTL_KEPT_TEXT 128

/*
 * For how long a record of the schema is kept; false: nobody has said so of
 * this one, which a test forbids.
 */
bool ctl_policy_kept(char out[CTL_KEPT_TEXT], const char *record, int retention_days);

/* The whole policy; configured: the days are this nologd's and not the ceiling. */
void ctl_policy_text(FILE *out, int retention_days, bool configured);
void ctl_policy_json(FILE *out, int retention_days, bool configured);

#endif
