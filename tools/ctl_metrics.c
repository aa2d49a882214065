/* SPDX-License-Identifier: ISC */
/*
 * ctl_metrics: what nologd's metrics mean, and three ways to print them.
 * Knows no socket.
 */
#include "ctl_metrics.h"

#include "ctl_out.h"

#define PREFIX "nologd_"
#define TOTAL "_total"

/* The groups of the table, in its order. */
enum group { SESSIONS, USAGE, ASKED, STORED, CLOCK, PROCESS, GROUPS };

static const char *const titles[GROUPS] = {
	[SESSIONS] = "Sessions", [USAGE] = "Usage",	     [ASKED] = "Questions",
	[STORED] = "Store",	 [CLOCK] = "Clock and keys", [PROCESS] = "Process",
};

/* What is known about a metric; alarm is what its being above 0 means, if that is bad. */
struct known {
	const char *name;
	enum group group;
	const char *help;
	const char *alarm;
};

static const struct known known[] = {
	{ "sessions_open", SESSIONS, "Sessions open now", NULL },
	{ "sessions_started_total", SESSIONS, "Sessions that were started", NULL },
	{ "sessions_ended_total", SESSIONS, "Sessions that ended", NULL },
	{ "sessions_frames_total", SESSIONS, "Session reports taken", NULL },
	{ "usage_frames_total", USAGE, "Usage reports taken", NULL },
	{ "usage_accounts", USAGE, "Accounts with a total this month", NULL },
	{ "usage_meters", USAGE, "Meters known", NULL },
	{ "usage_month", USAGE, "The month of the totals, YYYYMM", NULL },
	{ "month_turns_total", USAGE, "Months that began", NULL },
	{ "lookups_total", ASKED, "Look-ups answered", NULL },
	{ "quotas_total", ASKED, "Totals answered", NULL },
	{ "days_held", STORED, "Days that have a file", NULL },
	{ "oldest_day", STORED, "The oldest day that is held, YYYYMMDD", NULL },
	{ "newest_day", STORED, "The newest day that was seen, YYYYMMDD", NULL },
	{ "retention_days", STORED, "Days that are kept, today included", NULL },
	{ "days_forgotten_total", STORED, "Days that were forgotten", NULL },
	{ "rows_waiting", STORED, "Records that are in no day file yet", NULL },
	{ "rows_stored", STORED, "Records in day files", NULL },
	{ "day_runs", STORED, "Sorted runs in day files", NULL },
	{ "day_bytes", STORED, "Size of all day files", NULL },
	{ "unreadable_total", STORED, "Blocks and files that could not be read",
	  "something in the store cannot be read; 'nologctl audit' names it" },
	{ "stalled", CLOCK, "1 while nothing is taken",
	  "nothing is acknowledged: no disk space, or the clock is held" },
	{ "clock_held", CLOCK, "1 while the clock is not judged by",
	  "the clock is behind the newest day, or far ahead and not synchronised" },
	{ "keyring_weak", CLOCK, "1 when overwriting a key may not erase it on this file system",
	  "this file system may keep an overwritten key" },
	{ "keyring_generation", CLOCK, "How often the keyring was written", NULL },
	{ "sessions_key_age_seconds", CLOCK, "Age of the oldest key of the sessions' log", NULL },
	{ "usage_key_age_seconds", CLOCK, "Age of the oldest key of the usage log", NULL },
	{ "sessions_key_late", CLOCK, "1 while the renewal of the sessions' log key is late",
	  "the key of the sessions' log is older than it should be" },
	{ "usage_key_late", CLOCK, "1 while the renewal of the usage log's key is late",
	  "the key of the usage log is older than it should be" },
	{ "refused_total", PROCESS, "Frames refused", NULL },
	{ "connections_open", PROCESS, "Connections open now", NULL },
	{ "connections_total", PROCESS, "Connections accepted", NULL },
	{ "connections_refused_total", PROCESS, "Connections turned away", NULL },
	{ "uptime_seconds", PROCESS, "Time since the start while the clock was not held", NULL },
};

/* Where names that are not known belong, by how they begin. */
static const struct {
	const char *prefix;
	enum group group;
} beginnings[] = {
	{ "session", SESSIONS }, { "usage", USAGE },   { "account", USAGE }, { "meter", USAGE },
	{ "month", USAGE },	 { "lookup", ASKED },  { "quota", ASKED },   { "record", ASKED },
	{ "day", STORED },	 { "row", STORED },    { "run", STORED },    { "journal", STORED },
	{ "waiting", STORED },	 { "flush", STORED },  { "merge", STORED },  { "rewrite", STORED },
	{ "forgotten", STORED }, { "unread", STORED }, { "commit", STORED }, { "store", STORED },
	{ "clock", CLOCK },	 { "key", CLOCK },
};

static const struct known *known_of(const char *name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

static enum group group_of(const char *name)
{
	const struct known *k = known_of(name);

	if (k)
		return k->group;
	for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
		if (strncmp(name, beginnings[i].prefix, strlen(beginnings[i].prefix)) == 0)
			return beginnings[i].group;
	return PROCESS;
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && strcmp(name + n - m, end) == 0;
}

static void print_row(FILE *out, const struct ctl_metric *m, int width)
{
	const struct known *k = known_of(m->name);
	char bytes[CTL_BYTES_TEXT];

	(void)fprintf(out, "  %-*s  %llu", width, m->name, (unsigned long long)m->value);
	if (ends_with(m->name, "_bytes") && m->value >= 1024) {
		ctl_bytes_text(bytes, m->value);
		(void)fprintf(out, "  (%s)", bytes);
	}
	(void)fputc('\n', out);
	if (k && k->alarm && m->value > 0)
		(void)fprintf(out, "    ! %s\n", k->alarm);
}

void ctl_metrics_table(FILE *out, const struct ctl_metric *metrics, size_t n)
{
	int width = 0;

	for (size_t i = 0; i < n; i++)
		if ((int)strlen(metrics[i].name) > width)
			width = (int)strlen(metrics[i].name);
	for (unsigned g = 0; g < GROUPS; g++) {
		bool titled = false;

		for (size_t i = 0; i < n; i++) {
			if (group_of(metrics[i].name) != g)
				continue;
			if (!titled)
				(void)fprintf(out, "%s\n", titles[g]);
			titled = true;
			print_row(out, &metrics[i], width);
		}
	}
}

void ctl_metrics_json(FILE *out, const struct ctl_metric *metrics, size_t n)
{
	(void)fputc('{', out);
	for (size_t i = 0; i < n; i++)
		(void)fprintf(out, "%s\"%s\":%llu", i ? "," : "", metrics[i].name,
			      (unsigned long long)metrics[i].value);
	(void)fputs("}\n", out);
}

/* "journal_bytes" without a unit of its own gets none; the unit must be how the name ends. */
static const char *unit_of(const char *family)
{
	static const char *const units[] = { "bytes", "seconds", "milliseconds", "days", "ms" };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(family), m = strlen(units[i]);

		if (n > m && family[n - m - 1] == '_' && strcmp(family + n - m, units[i]) == 0)
			return units[i];
	}
	return NULL;
}

/* True when another metric has the name that this counter's family would have. */
static bool name_taken(const struct ctl_metric *metrics, size_t n, const char *family)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(metrics[i].name, family) == 0)
			return true;
	return false;
}

void ctl_metrics_openmetrics(FILE *out, const struct ctl_metric *metrics, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct ctl_metric *m = &metrics[i];
		bool counter = ends_with(m->name, TOTAL);
		const struct known *k = known_of(m->name);
		char family[NOLOG_METRIC_SIZE + 1];
		const char *type = counter ? "counter" : "gauge", *unit;

		/* A counter's family is named without what its sample ends in. */
		(void)snprintf(family, sizeof(family), "%.*s",
			       (int)(strlen(m->name) - (counter ? strlen(TOTAL) : 0)), m->name);
		if (counter && name_taken(metrics, n, family)) {
			(void)snprintf(family, sizeof(family), "%s", m->name);
			type = "unknown"; /* a name may stand for one family only */
		}
		unit = unit_of(family);
		(void)fprintf(out, "# TYPE " PREFIX "%s %s\n", family, type);
		if (unit)
			(void)fprintf(out, "# UNIT " PREFIX "%s %s\n", family, unit);
		if (k)
			(void)fprintf(out, "# HELP " PREFIX "%s %s.\n", family, k->help);
		(void)fprintf(out, PREFIX "%s %llu\n", m->name, (unsigned long long)m->value);
	}
	(void)fputs("# EOF\n", out);
}
