/* SPDX-License-Identifier: ISC */
/*
 * ctl_status: asking nologd for its metrics.
 */
#ifndef CTL_STATUS_H
#define CTL_STATUS_H

#include "ctl_args.h"
#include "ctl_metrics.h"

struct ctl_status {
	struct ctl_metric *metrics;
	size_t n, room;
};

/* 0; says what went wrong unless quiet. */
int ctl_status_ask(struct ctl_status *out, const struct ctl_args *args, bool quiet);
void ctl_status_done(struct ctl_status *s);
/* The value of a name, or otherwise when there is none. */
uint64_t ctl_status_value(const struct ctl_status *s, const char *name, uint64_t otherwise);

#endif
