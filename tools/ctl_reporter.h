/* SPDX-License-Identifier: ISC */
/*
 * ctl_reporter: what the one-shot commands and `report` share: making a
 * reporter that has been welcomed, and saying why there is none.
 */
#ifndef CTL_REPORTER_H
#define CTL_REPORTER_H

#include "ctl.h"

#include <nolog/client.h>

/*
 * A reporter for the role, connected and welcomed; options need not name run
 * directory, role and server, which come from args.  *exit_status tells how to
 * end when it returns an error, which has been said by then: CTL_NO when
 * nologd does not let this server report, else CTL_ERROR.
 */
int ctl_reporter_open(struct nolog_reporter **out, const struct ctl_args *args,
		      enum nolog_role role, const struct nolog_reporter_options *options,
		      enum ctl_exit *exit_status);

/* Says what an error of nolog_reporter_step() means, and how to end. */
enum ctl_exit ctl_reporter_failed(const struct nolog_reporter *r, const struct ctl_args *args,
				  enum nolog_role role, int error);

/* ,"code":16,"reason":"unknown handle" */
void ctl_json_refusal(FILE *out, unsigned code);

int64_t ctl_now_ms(void);

#endif
