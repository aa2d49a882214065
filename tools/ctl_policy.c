/* SPDX-License-Identifier: ISC */
/*
 * ctl_policy: what is kept, field by field, where, for what, for how long, and
 * what cannot be kept.
 *
 * Fields and sizes come from the table that the encoder is made of; here is
 * only what a table of bytes cannot know: why, and until when.
 */
#include "ctl_policy.h"

#include "ctl.h"
#include "ctl_out.h"
#include "ctl_status.h"

#include "calendar.h"
#include "effect.h"

struct keep {
	const char *record;
	const char *kept; /* NULL: as long as its day */
};

static const struct keep keeps[] = {
	{ "open", "while the session is open, and about an hour more" },
	{ "close", "until its day's file has it, and about an hour more" },
	{ "whole", "until its day's file has it, and about an hour more" },
	{ "alive", "until the next one or the end, and about an hour more" },
	{ "gone", "about an hour" },
	{ "stream", "7 days after its last report, and about an hour more" },
	{ "total", "until 00:00 UTC of the next first of a month" },
	{ "meter", "24 hours after its last reading, 7 days when there is none" },
	{ "turn", "about an hour" },
	{ "row4", NULL },
	{ "row6", NULL },
};

/* The files of a book, and what it is for. */
static const struct book {
	const char *name;
	const char *title;
	const char *files[2];
	const char *purpose;
} books[] = {
	{ "sessions",
	  "Open sessions and those that just ended",
	  { "sessions.mdb", NULL },
	  "to answer who had an address at a time, when it attacked somebody" },
	{ "days",
	  "Finished sessions",
	  { "days/YYYY-MM-DD.mdb", NULL },
	  "to answer who had an address at a time, when it attacked somebody" },
	{ "usage",
	  "Amounts of data of the current month",
	  { "usage.mdb", NULL },
	  "to know when an account has used up its month" },
	{ "both",
	  "How far reports have been taken",
	  { "sessions.mdb", "usage.mdb" },
	  "to count a report once that is sent twice" },
};
#define BOOKS (sizeof(books) / sizeof(books[0]))

/* What is on the disk beside the records. */
static const char *const beside[] = {
	"keyring: random keys (a day's, the month's for accounts, two for each log and for meters),"
	" the newest day, how often each day's file was written, how long the clock was not trusted; each key is overwritten when its time"
	" is over, and what it sealed cannot be read any more",
	"days/YYYY-MM-DD.mdb: the day's list of server IDs, and how many runs and blocks there are;"
	" sealed, as long as the day",
	"in clear: numbers of batches, blocks and keys, and what a file system shows: sizes and"
	" times of files",
};

static const char *const never[] = {
	"destination addresses, names, ports, bytes of traffic: no field could hold them",
	"an account's name or its plain hash: only a keyed tag, whose key dies with the month",
	"which account had which session: no record, no key and no order of arrival names both",
	"free text: every field has a fixed size",
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

bool ctl_policy_kept(char out[CTL_KEPT_TEXT], const char *record, int retention_days)
{
	for (size_t i = 0; i < COUNT(keeps); i++) {
		if (strcmp(keeps[i].record, record) != 0)
			continue;
		if (keeps[i].kept)
			(void)snprintf(out, CTL_KEPT_TEXT, "%s", keeps[i].kept);
		else if (retention_days == 1)
			(void)snprintf(out, CTL_KEPT_TEXT, "1 day: until 00:00 UTC");
		else
			(void)snprintf(out, CTL_KEPT_TEXT,
				       "%d days: today (UTC) and the %d before it", retention_days,
				       retention_days - 1);
		return true;
	}
	return false;
}

/* text in lines of at most 80 columns, indented, the first as it stands. */
static void wrap(FILE *out, const char *text, int indent)
{
	int column = indent;

	while (*text) {
		int n = (int)strcspn(text, " ");

		if (column > indent && column + 1 + n > 80) {
			(void)fprintf(out, "\n%*s", indent, "");
			column = indent;
		} else if (column > indent) {
			(void)fputc(' ', out);
			column++;
		}
		(void)fprintf(out, "%.*s", n, text);
		column += n;
		text += n;
		text += strspn(text, " ");
	}
	(void)fputc('\n', out);
}

static void text_record(FILE *out, const struct record_schema *r, int retention_days)
{
	char kept[CTL_KEPT_TEXT] = "unknown";

	(void)ctl_policy_kept(kept, r->record, retention_days); /* a test knows that it knows all */
	(void)fprintf(out, "  %-8s  %s; %zu bytes\n", r->record, r->why, r->size);
	(void)fprintf(out, "            kept ");
	wrap(out, kept, 17);
	for (size_t i = 0; i < r->n; i++) {
		(void)fprintf(out, "            %-10s %2zu  ", r->fields[i].name,
			      r->fields[i].size);
		wrap(out, r->fields[i].why, 27);
	}
}

void ctl_policy_text(FILE *out, int retention_days, bool configured)
{
	(void)fprintf(out, "Sessions are kept for %s%d day%s, today included (UTC).\n",
		      configured ? "" : "at most ", retention_days, retention_days == 1 ? "" : "s");
	(void)fprintf(out, "No configuration makes it more than %d.\n", CALENDAR_RETENTION_MAX);
	for (size_t i = 0; i < BOOKS; i++) {
		const struct book *b = &books[i];

		(void)fprintf(out, "\n%s: %s%s%s\n  ", b->title, b->files[0],
			      b->files[1] ? " and " : "", b->files[1] ? b->files[1] : "");
		wrap(out, b->purpose, 2);
		for (size_t j = 0; j < effect_schema_count; j++)
			if (strcmp(effect_schema[j].book, b->name) == 0)
				text_record(out, &effect_schema[j], retention_days);
	}
	(void)fputs("\nBeside these:\n", out);
	for (size_t i = 0; i < COUNT(beside); i++) {
		(void)fputs("  ", out);
		wrap(out, beside[i], 2);
	}
	(void)fputs("\nCannot be kept:\n", out);
	for (size_t i = 0; i < COUNT(never); i++) {
		(void)fputs("  ", out);
		wrap(out, never[i], 2);
	}
}

static void json_list(FILE *out, const char *name, const char *const *texts, size_t n)
{
	(void)fprintf(out, "{\"%s\":[", name);
	for (size_t i = 0; i < n; i++) {
		(void)fputs(i ? "," : "", out);
		ctl_json_text(out, texts[i]);
	}
	(void)fputs("]}\n", out);
}

static void json_record(FILE *out, const struct book *b, const struct record_schema *r,
			int retention_days)
{
	char kept[CTL_KEPT_TEXT] = "unknown";

	(void)ctl_policy_kept(kept, r->record, retention_days);
	(void)fprintf(out, "{\"record\":\"%s\",\"files\":[\"%s\"%s%s%s],\"what\":", r->record,
		      b->files[0], b->files[1] ? ",\"" : "", b->files[1] ? b->files[1] : "",
		      b->files[1] ? "\"" : "");
	ctl_json_text(out, r->why);
	(void)fputs(",\"purpose\":", out);
	ctl_json_text(out, b->purpose);
	(void)fprintf(out, ",\"kept\":\"%s\",\"bytes\":%zu,\"fields\":[", kept, r->size);
	for (size_t i = 0; i < r->n; i++) {
		(void)fprintf(out, "%s{\"name\":\"%s\",\"bytes\":%zu,\"what\":", i ? "," : "",
			      r->fields[i].name, r->fields[i].size);
		ctl_json_text(out, r->fields[i].why);
		(void)fputc('}', out);
	}
	(void)fputs("]}\n", out);
}

void ctl_policy_json(FILE *out, int retention_days, bool configured)
{
	(void)fprintf(out, "{\"retention_days\":%d,\"retention_days_max\":%d,\"configured\":%s}\n",
		      retention_days, CALENDAR_RETENTION_MAX, configured ? "true" : "false");
	for (size_t i = 0; i < BOOKS; i++)
		for (size_t j = 0; j < effect_schema_count; j++)
			if (strcmp(effect_schema[j].book, books[i].name) == 0)
				json_record(out, &books[i], &effect_schema[j], retention_days);
	json_list(out, "beside", beside, COUNT(beside));
	json_list(out, "never", never, COUNT(never));
}

enum ctl_exit ctl_policy(const struct ctl_args *args, const char *name)
{
	struct ctl_status s;
	uint64_t days = 0;

	(void)name;
	/* Without a nologd, or without its leave, the ceiling is what is promised. */
	if (ctl_status_ask(&s, args, true) == 0) {
		days = ctl_status_value(&s, "retention_days", 0);
		ctl_status_done(&s);
	}
	if (days > CALENDAR_RETENTION_MAX)
		days = 0;
	if (ctl_given(args, CTL_BIT(JSON)))
		ctl_policy_json(stdout, days ? (int)days : CALENDAR_RETENTION_MAX, days > 0);
	else
		ctl_policy_text(stdout, days ? (int)days : CALENDAR_RETENTION_MAX, days > 0);
	return CTL_YES;
}
