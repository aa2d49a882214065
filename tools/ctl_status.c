/* SPDX-License-Identifier: ISC */
/*
 * ctl_status: `status` and `metrics`: nologd's own numbers.
 */
#include "ctl_status.h"

#include "ctl.h"
#include "ctl_ask.h"
#include "ctl_out.h"

#include <errno.h>
#include <stdlib.h>

#define TIMEOUT_MS 10000 /* of silence */

static int collect(const struct nolog_frame *f, void *arg)
{
	struct ctl_status *s = arg;

	if (f->type != NOLOG_METRIC)
		return 0;
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 64;
		struct ctl_metric *at = reallocarray(s->metrics, room, sizeof(*at));

		if (!at)
			return -ENOMEM;
		s->metrics = at;
		s->room = room;
	}
	memcpy(s->metrics[s->n].name, f->u.metric.name, NOLOG_METRIC_SIZE);
	s->metrics[s->n].name[NOLOG_METRIC_SIZE] = '\0';
	s->metrics[s->n++].value = f->u.metric.value;
	return 0;
}

/* The same as ctl_ask(), without a word. */
static int ask_quietly(const struct ctl_args *args, const struct nolog_frame *request,
		       struct ctl_status *s, struct nolog_frame *end)
{
	struct nolog_query *q;
	int r = nolog_query_open(&q, ctl_run_dir(args), NOLOG_ROLE_ADMIN);

	if (r < 0)
		return r;
	r = nolog_query_ask(q, request, collect, s, end, TIMEOUT_MS);
	nolog_query_close(q);
	return r;
}

int ctl_status_ask(struct ctl_status *out, const struct ctl_args *args, bool quiet)
{
	const struct nolog_frame request = { .type = NOLOG_STATUS };
	struct nolog_frame end;
	int r;

	*out = (struct ctl_status){ 0 };
	if (quiet)
		r = ask_quietly(args, &request, out, &end);
	else
		r = ctl_ask(args, NOLOG_ROLE_ADMIN, &request, collect, out, &end, TIMEOUT_MS);
	if (r == 0 && end.code != NOLOG_DONE_COMPLETE) {
		r = -EAGAIN;
		if (!quiet)
			ctl_say("nologd's answer is not complete: it is stopping; ask again");
	}
	if (r != 0)
		ctl_status_done(out);
	return r;
}

void ctl_status_done(struct ctl_status *s)
{
	free(s->metrics);
	*s = (struct ctl_status){ 0 };
}

uint64_t ctl_status_value(const struct ctl_status *s, const char *name, uint64_t otherwise)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->metrics[i].name, name) == 0)
			return s->metrics[i].value;
	return otherwise;
}

enum ctl_exit ctl_status(const struct ctl_args *args, const char *name)
{
	struct ctl_status s;

	(void)name;
	if (ctl_status_ask(&s, args, false) != 0)
		return CTL_ERROR;
	if (ctl_given(args, CTL_BIT(JSON)))
		ctl_metrics_json(stdout, s.metrics, s.n);
	else
		ctl_metrics_table(stdout, s.metrics, s.n);
	ctl_status_done(&s);
	return CTL_YES;
}

enum ctl_exit ctl_metrics(const struct ctl_args *args, const char *name)
{
	struct ctl_status s;

	(void)name;
	if (ctl_status_ask(&s, args, false) != 0)
		return CTL_ERROR;
	if (ctl_given(args, CTL_BIT(JSON)))
		ctl_metrics_json(stdout, s.metrics, s.n);
	else
		ctl_metrics_openmetrics(stdout, s.metrics, s.n);
	ctl_status_done(&s);
	return CTL_YES;
}
