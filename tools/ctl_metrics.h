/* SPDX-License-Identifier: ISC */
/*
 * ctl_metrics: nologd's metrics as a table, as JSON and as OpenMetrics.  Pure
 * but for the stream they are printed to.  It prints whatever names nologd
 * sends; those it knows get an explanation.
 */
#ifndef CTL_METRICS_H
#define CTL_METRICS_H

#include <nolog/frame.h>

#include <stdio.h>

struct ctl_metric {
	char name[NOLOG_METRIC_SIZE + 1];
	uint64_t value;
};

void ctl_metrics_table(FILE *out, const struct ctl_metric *metrics, size_t n);
void ctl_metrics_json(FILE *out, const struct ctl_metric *metrics, size_t n);
/* OpenMetrics 1.0 text, "# EOF" at its end; names ending in _total are counters, others gauges. */
void ctl_metrics_openmetrics(FILE *out, const struct ctl_metric *metrics, size_t n);

#endif
