/* SPDX-License-Identifier: ISC */
/*
 * ctl: what nologctl's commands share: their exit statuses, and their names
 * for the table in nologctl.c.  Each command is a file of its own.
 */
#ifndef CTL_H
#define CTL_H

#include "ctl_args.h"

enum ctl_exit {
	CTL_YES = 0,
	CTL_NO = 1,    /* a negative answer: nothing found, over the limit, refused, a finding */
	CTL_ERROR = 2, /* no answer, or not a whole one */
};

/* A command; name is its own, for those that share a function. */
typedef enum ctl_exit ctl_command_fn(const struct ctl_args *args, const char *name);

ctl_command_fn ctl_one_event; /* start, end, session, usage */
ctl_command_fn ctl_report;
ctl_command_fn ctl_lookup;
ctl_command_fn ctl_quota;
ctl_command_fn ctl_status;
ctl_command_fn ctl_metrics;
ctl_command_fn ctl_policy;
ctl_command_fn ctl_audit;

#endif
