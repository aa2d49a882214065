/* SPDX-License-Identifier: ISC */
/*
 * ctl_ask: asking nologd, reading an account's name, and saying in plain words
 * why one or the other did not work.
 */
#ifndef CTL_ASK_H
#define CTL_ASK_H

#include "ctl_args.h"

#include <nolog/client.h>

#define CTL_ACCOUNT_BYTES 4096 /* the longest name */

/* The run directory the user named, or the default. */
const char *ctl_run_dir(const struct ctl_args *args);

/*
 * Asks once and says what went wrong; timeout_ms is that of
 * nolog_query_ask().  *end is zero when nothing ended the answer.
 */
int ctl_ask(const struct ctl_args *args, enum nolog_role role, const struct nolog_frame *request,
	    nolog_answer_fn *answer, void *arg, struct nolog_frame *end, int timeout_ms);

/* Says why a role's socket could not be used: error is a negative errno. */
void ctl_ask_failed(const struct ctl_args *args, enum nolog_role role, int error);

/*
 * The account whose name is the one line on descriptor fd, its newline not
 * counted.  The name is wiped and never printed.  0, or -EINVAL or another
 * errno, which it says itself.
 */
int ctl_ask_account(uint8_t out[NOLOG_ACCOUNT_SIZE], int fd);

#endif
