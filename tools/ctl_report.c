/* SPDX-License-Identifier: ISC */
/*
 * ctl_report: events from standard input, an event a line, each kept once.
 *
 * Session and usage events go over two reporters with one stream number, so
 * that the n-th event of a kind is that kind's seq n: a run that is repeated
 * with the same input and --stream skips what nologd has durable already.
 * Memory is bounded by the two queues, whatever the input's length.
 *
 * What it says about a line is its number and what was wrong, never what
 * stands in it.
 */
#include "ctl_ask.h"
#include "ctl_event.h"
#include "ctl_out.h"
#include "ctl_reporter.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define QUEUE_EVENTS 32768 /* unacknowledged, a book */
#define READ_BYTES 65536   /* of standard input at a time */
#define AWAY_MS 3000	   /* so long without nologd is worth a word */

struct channel {
	struct nolog_reporter *reporter; /* NULL until the first event of its kind */
	enum nolog_role role;
	bool failed;   /* it will not be better: it is not stepped any more */
	uint64_t seen; /* events of this kind in the input so far */
	uint64_t skip; /* of these, durable since an earlier run */
	uint64_t refused;
	uint64_t *lines; /* event number % QUEUE_EVENTS: its line */
	struct report *report;
};

struct report {
	const struct ctl_args *args;
	bool json;
	uint64_t stream;
	uint64_t line;		    /* number of the line at hand, from 1 */
	struct channel channels[2]; /* sessions, usage */
	bool dropped;		    /* an event was lost for good */
	int64_t away_since_ms;	    /* 0: nologd is there */
	bool away_said;
	size_t have; /* bytes in buffer: an unfinished line */
	char buffer[READ_BYTES + CTL_LINE_BYTES + 2];
};

static enum ctl_exit worse(enum ctl_exit a, enum ctl_exit b)
{
	return a > b ? a : b;
}

/* An event that nologd refused, or of which nobody can tell whether it counted. */
static void lost(const struct nolog_frame *event, enum nolog_lost what, unsigned code, void *arg)
{
	struct channel *c = arg;
	unsigned long long line = c->lines[event->seq % QUEUE_EVENTS];

	if (what == NOLOG_LOST_REFUSED)
		c->refused++;
	else
		c->report->dropped = true;
	if (c->report->json) {
		(void)printf("{\"line\":%llu,\"event\":\"%s\",\"accepted\":%s", line,
			     ctl_event_name(event->type),
			     what == NOLOG_LOST_REFUSED ? "false" : "null");
		if (what == NOLOG_LOST_REFUSED)
			ctl_json_refusal(stdout, code);
		(void)puts("}");
	} else if (what == NOLOG_LOST_REFUSED) {
		ctl_say("line %llu: %s (%u)", line, nolog_refusal_text(code), code);
	} else {
		ctl_say("line %llu: nologd has forgotten the stream; whether this was counted "
			"cannot be told",
			line);
	}
}

/* --- Stepping ------------------------------------------------------------- */

/* Says once that nologd is away, and once that it is back. */
static void watch(struct report *rp)
{
	bool away = false;
	int64_t now_ms;

	for (int i = 0; i < 2; i++)
		if (rp->channels[i].reporter && !rp->channels[i].failed)
			away = away || !nolog_reporter_welcomed(rp->channels[i].reporter);
	if (!away) {
		if (rp->away_said)
			ctl_say("nologd is back");
		rp->away_since_ms = 0;
		rp->away_said = false;
		return;
	}
	now_ms = ctl_now_ms();
	if (rp->away_since_ms == 0)
		rp->away_since_ms = now_ms;
	if (!rp->away_said && now_ms - rp->away_since_ms >= AWAY_MS) {
		ctl_say("nologd is away; waiting for it");
		rp->away_said = true;
	}
}

/*
 * Waits for the reporters, and for standard input if input is wanted, and
 * steps.  Returns CTL_YES, or how to end; *readable tells about the input.
 */
static enum ctl_exit pump(struct report *rp, bool input, bool *readable)
{
	struct pollfd p[3] = { { .fd = input ? STDIN_FILENO : -1, .events = POLLIN },
			       { .fd = -1 },
			       { .fd = -1 } };
	int timeout_ms = -1;

	for (int i = 0; i < 2; i++) {
		const struct nolog_reporter *r = rp->channels[i].reporter;
		int own_ms;

		if (!r || rp->channels[i].failed)
			continue;
		own_ms = nolog_reporter_timeout_ms(r);
		p[i + 1].fd = nolog_reporter_fd(r);
		p[i + 1].events = nolog_reporter_events(r);
		if (own_ms >= 0 && (timeout_ms < 0 || own_ms < timeout_ms))
			timeout_ms = own_ms;
	}
	if (poll(p, 3, timeout_ms) < 0)
		p[0].revents = 0; /* a signal: step, and come again */
	if (readable)
		*readable = p[0].revents != 0;
	for (int i = 0; i < 2; i++) {
		struct channel *c = &rp->channels[i];
		int error = c->reporter && !c->failed ? nolog_reporter_step(c->reporter) : 0;

		c->failed = c->failed || error < 0;
		if (error < 0)
			return ctl_reporter_failed(c->reporter, rp->args, c->role, error);
	}
	watch(rp);
	return CTL_YES;
}

/* Until everything that was sent is acknowledged. */
static enum ctl_exit flush(struct report *rp)
{
	for (;;) {
		uint64_t queued = 0;
		enum ctl_exit status;

		for (int i = 0; i < 2; i++) {
			struct nolog_reporter_stats stats = { 0 };

			if (rp->channels[i].reporter && !rp->channels[i].failed)
				nolog_reporter_stats(rp->channels[i].reporter, &stats);
			queued += stats.queued;
		}
		if (queued == 0)
			return CTL_YES;
		status = pump(rp, false, NULL);
		if (status != CTL_YES)
			return status;
	}
}

/* --- Events --------------------------------------------------------------- */

static enum ctl_exit channel_open(struct report *rp, struct channel *c)
{
	const struct nolog_reporter_options options = {
		.stream = rp->stream, .queue_events = QUEUE_EVENTS, .lost = lost, .arg = c
	};
	enum ctl_exit status;

	c->lines = calloc(QUEUE_EVENTS, sizeof(*c->lines));
	if (!c->lines) {
		ctl_say("%s", strerror(ENOMEM));
		return CTL_ERROR;
	}
	if (ctl_reporter_open(&c->reporter, rp->args, c->role, &options, &status) < 0)
		return status;
	c->skip = nolog_reporter_welcome_seq(c->reporter);
	return CTL_YES;
}

static enum ctl_exit report_event(struct report *rp, const struct nolog_frame *event)
{
	struct channel *c = &rp->channels[ctl_event_role(event) == NOLOG_ROLE_USAGE];
	enum ctl_exit status = c->reporter ? CTL_YES : channel_open(rp, c);
	int error = -EAGAIN;

	if (status != CTL_YES)
		return status;
	if (c->seen++ < c->skip)
		return CTL_YES;
	while (error == -EAGAIN) {
		uint64_t number;

		error = nolog_reporter_send(c->reporter, event, &number);
		if (error == 0)
			c->lines[number % QUEUE_EVENTS] = rp->line;
		if (error == -EAGAIN)
			status = pump(rp, false, NULL);
		if (status != CTL_YES)
			return status;
	}
	return error < 0 ? ctl_reporter_failed(c->reporter, rp->args, c->role, error) : CTL_YES;
}

static enum ctl_exit report_line(struct report *rp, char *line, size_t len)
{
	char error[CTL_ERROR_TEXT] = "longer than 4096 bytes";
	struct nolog_frame event;
	int r = -EINVAL;

	rp->line++;
	line[len] = '\0';
	if (len <= CTL_LINE_BYTES)
		r = ctl_event_line(&event, line, len, ctl_now_ms(), error);
	if (r == 0)
		return report_event(rp, &event);
	if (r > 0)
		return CTL_YES;
	ctl_say("line %llu: %s", (unsigned long long)rp->line, error);
	return CTL_ERROR;
}

/* All whole lines of the buffer; at the end of the input also one without an end. */
static enum ctl_exit report_lines(struct report *rp, bool end)
{
	char *at = rp->buffer, *stop = rp->buffer + rp->have;
	enum ctl_exit status = CTL_YES;

	while (status == CTL_YES && at < stop) {
		char *newline = memchr(at, '\n', (size_t)(stop - at));

		/* What is longer than any line is judged before it is all there. */
		if (!newline && !end && stop - at <= CTL_LINE_BYTES)
			break;
		if (!newline)
			newline = stop;
		status = report_line(rp, at, (size_t)(newline - at));
		at = newline < stop ? newline + 1 : stop;
	}
	rp->have = (size_t)(stop - at);
	memmove(rp->buffer, at, rp->have);
	return status;
}

/* Reads what is there; *end at the end of the input. */
static enum ctl_exit report_read(struct report *rp, bool *end)
{
	ssize_t n = read(STDIN_FILENO, rp->buffer + rp->have, READ_BYTES);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return CTL_YES;
	if (n < 0) {
		ctl_say("standard input: %s", strerror(errno));
		return CTL_ERROR;
	}
	rp->have += (size_t)n;
	*end = n == 0;
	return report_lines(rp, *end);
}

/* --- The whole ------------------------------------------------------------ */

/* A run that resumes a stream must have what is durable of it in its input. */
static enum ctl_exit check_resumed(const struct report *rp)
{
	enum ctl_exit status = CTL_YES;

	for (int i = 0; i < 2; i++) {
		const struct channel *c = &rp->channels[i];

		if (!c->reporter || c->seen >= c->skip)
			continue;
		ctl_say("the input has %llu %s events, but %llu of this stream are durable "
			"already: it is not the input that the stream began with",
			(unsigned long long)c->seen, i ? "usage" : "session",
			(unsigned long long)c->skip);
		status = CTL_ERROR;
	}
	return status;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void summary(const struct report *rp)
{
	const struct channel *s = &rp->channels[0], *u = &rp->channels[1];

	(void)printf("{\"lines\":%llu,\"events\":%llu,\"skipped\":%llu,\"refused\":%llu,"
		     "\"stream\":%llu}\n",
		     (unsigned long long)rp->line, (unsigned long long)(s->seen + u->seen),
		     (unsigned long long)(least(s->skip, s->seen) + least(u->skip, u->seen)),
		     (unsigned long long)(s->refused + u->refused), (unsigned long long)rp->stream);
}

static enum ctl_exit report_all(struct report *rp)
{
	enum ctl_exit status = CTL_YES, flushed;
	bool end = false, readable;

	while (status == CTL_YES && !end) {
		status = pump(rp, true, &readable);
		if (status == CTL_YES && readable)
			status = report_read(rp, &end);
	}
	flushed = flush(rp);
	status = worse(status, flushed);
	if (end)
		status = worse(status, check_resumed(rp));
	if (rp->json)
		summary(rp);
	/* After an interruption the same stream is what makes the next run exact. */
	if (status == CTL_ERROR && !ctl_given(rp->args, CTL_BIT(STREAM)) &&
	    rp->channels[0].seen + rp->channels[1].seen > 0)
		ctl_say("to go on with the same input: --stream %llu",
			(unsigned long long)rp->stream);
	if (rp->dropped)
		return CTL_ERROR;
	return worse(status, rp->channels[0].refused + rp->channels[1].refused ? CTL_NO : CTL_YES);
}

static uint64_t random_stream(void)
{
	uint64_t v = 0;

	while (v == 0)
		if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
			v = 0; /* a signal */
	return v;
}

enum ctl_exit ctl_report(const struct ctl_args *args, const char *name)
{
	struct report *rp = calloc(1, sizeof(*rp));
	enum ctl_exit status;

	if (!rp) {
		ctl_say("%s: %s", name, strerror(ENOMEM));
		return CTL_ERROR;
	}
	rp->args = args;
	rp->json = ctl_given(args, CTL_BIT(JSON));
	rp->stream = ctl_given(args, CTL_BIT(STREAM)) ? args->stream : random_stream();
	for (int i = 0; i < 2; i++) {
		rp->channels[i].role = i ? NOLOG_ROLE_USAGE : NOLOG_ROLE_SESSIONS;
		rp->channels[i].report = rp;
	}
	status = report_all(rp);
	for (int i = 0; i < 2; i++) {
		nolog_reporter_free(rp->channels[i].reporter);
		free(rp->channels[i].lines);
	}
	explicit_bzero(rp->buffer, sizeof(rp->buffer)); /* accounts' names */
	free(rp);
	return status;
}
