/* SPDX-License-Identifier: ISC */
/*
 * ctl_lookup: who had this address, or was on this server, at that time.
 *
 * The answer is collected before it is printed: its number of candidates and
 * the widths of its columns are known only then, and what cannot be printed
 * whole is better known to be so before the first line.
 */
#include "ctl_lookup.h"

#include "ctl.h"
#include "ctl_ask.h"
#include "ctl_out.h"

#include <errno.h>
#include <stdlib.h>

#define TIMEOUT_MS 600000 /* of silence: a scan of everything sends nothing until it finds */
#define TIME_MS 24	  /* characters of a time, whole and without its fraction */
#define TIME_S 20

struct answer {
	struct ctl_record *at;
	size_t n, room;
};

static int64_t add_ms(int64_t a, int64_t b)
{
	int64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return b < 0 ? INT64_MIN : INT64_MAX;
	return sum;
}

int ctl_lookup_frame(struct nolog_frame *out, const struct ctl_args *args,
		     char error[CTL_ERROR_TEXT])
{
	struct nolog_frame f = { .type = NOLOG_LOOKUP };

	if (!(args->given & (CTL_BIT(PREFIX) | CTL_BIT(SERVER)))) {
		(void)snprintf(error, CTL_ERROR_TEXT, "IP[/LEN] or --server S is missing");
		return -EINVAL;
	}
	f.u.lookup.from_ms = INT64_MIN;
	f.u.lookup.to_ms = INT64_MAX;
	if (ctl_given(args, CTL_BIT(AT))) {
		f.u.lookup.from_ms = add_ms(args->at_ms, -args->slack_ms);
		f.u.lookup.to_ms = add_ms(args->at_ms, args->slack_ms);
	}
	if (ctl_given(args, CTL_BIT(FROM)))
		f.u.lookup.from_ms = args->from_ms;
	if (ctl_given(args, CTL_BIT(TO)))
		f.u.lookup.to_ms = args->to_ms;
	if (f.u.lookup.from_ms > f.u.lookup.to_ms) {
		(void)snprintf(error, CTL_ERROR_TEXT, "--from is later than --to");
		return -EINVAL;
	}
	/* Without an address: length 0, any address of both families. */
	f.code = (uint16_t)args->prefix.len;
	memcpy(f.u.lookup.ip, args->prefix.ip, NOLOG_IP_SIZE);
	memcpy(f.u.lookup.server, args->server, NOLOG_SERVER_SIZE);
	*out = f;
	return 0;
}

static int collect(const struct nolog_frame *f, void *arg)
{
	struct answer *a = arg;
	struct ctl_record *r;

	if (f->type != NOLOG_RECORD)
		return 0;
	if (a->n == a->room) {
		size_t room = a->room ? a->room * 2 : 64;
		struct ctl_record *at = reallocarray(a->at, room, sizeof(*at));

		if (!at)
			return -ENOMEM;
		a->at = at;
		a->room = room;
	}
	r = &a->at[a->n++];
	memcpy(r->ip, f->u.record.ip, NOLOG_IP_SIZE);
	memcpy(r->server, f->u.record.server, NOLOG_SERVER_SIZE);
	r->start_ms = f->u.record.start_ms;
	r->end_ms = f->u.record.end_ms;
	r->code = f->code;
	return 0;
}

static int compare(const void *one, const void *two)
{
	const struct ctl_record *a = one, *b = two;
	int r;

	if (a->start_ms != b->start_ms)
		return a->start_ms < b->start_ms ? -1 : 1;
	r = memcmp(a->ip, b->ip, NOLOG_IP_SIZE);
	if (r == 0)
		r = memcmp(a->server, b->server, NOLOG_SERVER_SIZE);
	if (r == 0 && a->end_ms != b->end_ms)
		r = a->end_ms < b->end_ms ? -1 : 1;
	return r;
}

void ctl_records_sort(struct ctl_record *records, size_t n)
{
	if (n > 1)
		qsort(records, n, sizeof(*records), compare);
}

/* A record's texts. */
struct line {
	char ip[NOLOG_IP_TEXT];
	char server[NOLOG_SERVER_TEXT];
	char start[NOLOG_DURATION_TEXT + 8];
	char end[NOLOG_DURATION_TEXT + 8];
	const char *note;
};

static void line_of(struct line *l, const struct ctl_record *r)
{
	static const char *const notes[] = { "", "candidate", "part", "candidate, part" };

	(void)nolog_ip_format(l->ip, r->ip);		 /* has room: cannot fail */
	(void)nolog_server_format(l->server, r->server); /* an ID that is none stays empty */
	ctl_time_text(l->start, r->start_ms);
	if (r->code & NOLOG_RECORD_OPEN)
		(void)snprintf(l->end, sizeof(l->end), "open");
	else
		ctl_time_text(l->end, r->end_ms);
	l->note = notes[(r->code & NOLOG_RECORD_CANDIDATE ? 1 : 0) |
			(r->code & NOLOG_RECORD_PART ? 2 : 0)];
}

void ctl_records_json(FILE *out, const struct ctl_record *records, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool open = records[i].code & NOLOG_RECORD_OPEN;
		const char *quote = open ? "" : "\"";
		struct line l;

		line_of(&l, &records[i]);
		(void)fprintf(out,
			      "{\"ip\":\"%s\",\"server\":\"%s\",\"start\":\"%s\",\"end\":%s%s%s,"
			      "\"open\":%s,\"candidate\":%s%s}\n",
			      l.ip, l.server, l.start, quote, open ? "null" : l.end, quote,
			      open ? "true" : "false",
			      records[i].code & NOLOG_RECORD_CANDIDATE ? "true" : "false",
			      records[i].code & NOLOG_RECORD_PART ? ",\"part\":true" : "");
	}
}

/* How wide the columns are; what is wider than the terminal gives up first fractions, then rows. */
struct layout {
	int ip, server, time, note;
	bool two_lines;
};

static int wider(int width, const char *text)
{
	int n = (int)strlen(text);

	return n > width ? n : width;
}

static struct layout layout_of(const struct ctl_record *records, size_t n, unsigned columns)
{
	struct layout w = { (int)strlen("IP"), (int)strlen("SERVER"), TIME_MS, 0, false };
	int wide;

	for (size_t i = 0; i < n; i++) {
		struct line l;

		line_of(&l, &records[i]);
		w.ip = wider(w.ip, l.ip);
		w.server = wider(w.server, l.server);
		w.note = wider(w.note, l.note);
	}
	wide = w.ip + 2 + w.server + 2 + 2 + (w.note ? w.note + 2 : 0);
	if (wide + 2 * w.time > (int)columns)
		w.time = TIME_S;
	if (wide + 2 * w.time > (int)columns) {
		w.two_lines = true;
		wide -= w.ip; /* the two blanks behind it are the second line's indent */
		w.time = wide + 2 * TIME_MS > (int)columns ? TIME_S : TIME_MS;
	}
	return w;
}

/* A time cut to the column's width: the fraction goes, the Z stays. */
static void cut_time(char *text, int width)
{
	if (width == TIME_S && strlen(text) == TIME_MS)
		memcpy(text + TIME_S - 1, "Z", 2);
}

static void print_line(FILE *out, const struct layout *w, const struct line *l)
{
	if (w->two_lines)
		(void)fprintf(out, "%s\n  ", l->ip);
	else
		(void)fprintf(out, "%-*s  ", w->ip, l->ip);
	(void)fprintf(out, "%-*s  %-*s  ", w->server, l->server, w->time, l->start);
	if (*l->note)
		(void)fprintf(out, "%-*s  %s\n", w->time, l->end, l->note);
	else
		(void)fprintf(out, "%s\n", l->end);
}

void ctl_records_table(FILE *out, const struct ctl_record *records, size_t n, unsigned columns)
{
	struct layout w = layout_of(records, n, columns < 80 ? 80 : columns);
	struct line l = { "IP", "SERVER", "START", "END", w.note ? "NOTE" : "" };

	if (n == 0)
		return;
	print_line(out, &w, &l);
	for (size_t i = 0; i < n; i++) {
		line_of(&l, &records[i]);
		cut_time(l.start, w.time);
		cut_time(l.end, w.time);
		print_line(out, &w, &l);
	}
}

void ctl_records_candidates(FILE *out, const struct ctl_record *records, size_t n,
			    const struct ctl_prefix *asked)
{
	char text[NOLOG_PREFIX_TEXT] = "";
	const char *where = "shared exits";
	size_t candidates = 0, parts = 0;

	for (size_t i = 0; i < n; i++) {
		bool candidate = (records[i].code & NOLOG_RECORD_CANDIDATE) != 0;

		candidates += candidate;
		parts += candidate && (records[i].code & NOLOG_RECORD_PART);
	}
	if (candidates == 0)
		return;
	if (asked)
		(void)nolog_prefix_format(text, asked->ip,
					  asked->len); /* was parsed: cannot fail */
	if (asked && asked->len == NOLOG_PREFIX_MAX)
		where = "the shared exit ";
	else if (asked)
		where = "shared exits in ";
	if (parts) /* how many sessions they make is what could not be told */
		(void)fprintf(out, "%zu record%s of candidates behind %s%s, %zu of them part%s;\n",
			      candidates, candidates > 1 ? "s" : "", where, text, parts,
			      parts > 1 ? "s" : "");
	else
		(void)fprintf(out, "%zu candidate%s behind %s%s; ", candidates,
			      candidates > 1 ? "s" : "", where, text);
	(void)fprintf(out, "%s cannot be told\n",
		      candidates > 1 ? "which one it was" : "whether it was this one");
}

/* What DONE said about how much of the answer this is. */
static enum ctl_exit judge(const struct nolog_frame *done, size_t n)
{
	switch (done->code) {
	case NOLOG_DONE_COMPLETE:
		return n ? CTL_YES : CTL_NO;
	case NOLOG_DONE_LIMIT:
		ctl_say("warning: the limit of records was reached after %zu: there are more; ask "
			"for a shorter time or a longer prefix",
			n);
		return n ? CTL_YES : CTL_ERROR;
	case NOLOG_DONE_STOPPING:
		ctl_say("warning: NOT COMPLETE: nologd is stopping; ask again");
		return CTL_ERROR;
	default:
		ctl_say("warning: NOT COMPLETE: a part of the store could not be read; 'nologctl "
			"audit' names it");
		return CTL_ERROR;
	}
}

enum ctl_exit ctl_lookup(const struct ctl_args *args, const char *name)
{
	struct nolog_frame request, done;
	char error[CTL_ERROR_TEXT];
	struct answer a = { 0 };
	enum ctl_exit status = CTL_ERROR;
	int r;

	if (ctl_lookup_frame(&request, args, error) < 0) {
		ctl_say("%s: %s", name, error);
		return CTL_ERROR;
	}
	r = ctl_ask(args, NOLOG_ROLE_LOOKUP, &request, collect, &a, &done, TIMEOUT_MS);
	ctl_records_sort(a.at, a.n);
	if (ctl_given(args, CTL_BIT(JSON))) {
		ctl_records_json(stdout, a.at, a.n);
	} else {
		ctl_records_table(stdout, a.at, a.n, ctl_columns(stdout));
		ctl_records_candidates(stdout, a.at, a.n,
				       ctl_given(args, CTL_BIT(PREFIX)) ? &args->prefix : NULL);
	}
	if (r == 0)
		status = judge(&done, a.n);
	else if (a.n > 0)
		ctl_say("warning: NOT COMPLETE: the answer ended early");
	if (status == CTL_NO && !ctl_given(args, CTL_BIT(JSON)))
		ctl_say("no session found");
	free(a.at);
	return status;
}
