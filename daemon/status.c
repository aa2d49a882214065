/* SPDX-License-Identifier: ISC */
/* status: what STATUS tells, metric by metric.  Numbers only; of nobody in particular. */
#include "calendar.h"
#include "server.h"

#include <stdio.h>

struct telling {
	status_fn *fn;
	void *arg;
	size_t n;
};

static void tell(struct telling *t, const char *name, uint64_t value)
{
	t->fn(name, value, t->arg);
	t->n++;
}

static uint64_t refused_with(const struct server *s, const struct writer_stats w[BOOKS], int code)
{
	return s->refused[code] + w[BOOK_SESSIONS].refused[code] + w[BOOK_USAGE].refused[code];
}

static void tell_refused(struct server *s, const struct writer_stats w[BOOKS], struct telling *t)
{
	static const struct {
		int code;
		const char *name;
	} codes[] = {
		{ NOLOG_MALFORMED, "refused_malformed_total" },
		{ NOLOG_UNKNOWN_TYPE, "refused_unknown_type_total" },
		{ NOLOG_BAD_VERSION, "refused_version_total" },
		{ NOLOG_WRONG_SOCKET, "refused_wrong_socket_total" },
		{ NOLOG_BAD_SEQUENCE, "refused_sequence_total" },
		{ NOLOG_UNKNOWN_HANDLE, "refused_unknown_handle_total" },
		{ NOLOG_HANDLE_OPEN, "refused_handle_open_total" },
		{ NOLOG_TIME_RANGE, "refused_time_total" },
		{ NOLOG_IP_NOT_ALLOWED, "refused_address_total" },
		{ NOLOG_SERVER_NOT_ALLOWED, "refused_server_total" },
		{ NOLOG_DAY_FORGOTTEN, "refused_forgotten_total" },
		{ NOLOG_OVER_CAPACITY, "refused_capacity_total" },
	};
	uint64_t total = 0;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		total += refused_with(s, w, codes[i].code);
	tell(t, "refused_total", total);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		tell(t, codes[i].name, refused_with(s, w, codes[i].code));
}

static void tell_writer(const struct writer_stats *w, const char *book, struct telling *t)
{
	const struct {
		const char *name;
		uint64_t value;
	} metrics[] = {
		{ "batches_total", w->batches },
		{ "effects_total", w->effects },
		{ "commit_usec_total", w->commit_us },
		{ "repeats_total", w->repeats },
		{ "journal_bytes", w->journal_bytes },
		{ "journal_effects", w->journal_effects },
		{ "streams", w->streams },
		{ "passes_total", w->passes },
		{ "key_renewals_total", w->renewals },
		{ "key_age_seconds", (uint64_t)(w->key_age_ms / 1000) },
		{ "key_late", w->key_late },
	};
	char name[NOLOG_METRIC_SIZE + 1];

	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s_%s", book, metrics[i].name);
		tell(t, name, metrics[i].value);
	}
}

static void tell_days(struct server *s, struct telling *t)
{
	struct days_stats d;

	days_stats(s->days, &d);
	tell(t, "days_held", d.days_held);
	tell(t, "oldest_day", d.days_held ? calendar_number(d.oldest_day) : 0);
	tell(t, "newest_day", calendar_number(keyring_newest_day(s->keyring)));
	tell(t, "days_forgotten_total", d.forgotten_days);
	tell(t, "rows_waiting", d.waiting_rows);
	tell(t, "rows_stored", d.rows);
	tell(t, "day_runs", d.runs);
	tell(t, "day_bytes", d.bytes);
	tell(t, "day_flushes_total", d.flushes);
	tell(t, "day_merges_total", d.merges);
	tell(t, "day_rewrites_total", d.rewrites);
	tell(t, "unreadable_total", d.unreadable);
}

size_t status_each(struct server *s, status_fn *fn, void *arg)
{
	struct telling t = { fn, arg, 0 };
	struct writer_stats w[BOOKS];
	struct sessionbook_stats sessions;
	struct usagebook_stats usage;
	bool held = clock_held(s->clock);

	for (int i = 0; i < BOOKS; i++)
		writer_stats(s->writers[i], &w[i]);
	sessionbook_stats(s->sessionbook, &sessions);
	usagebook_stats(s->usagebook, &usage);
	tell(&t, "sessions_open", sessions.open);
	tell(&t, "sessions_started_total", sessions.started);
	tell(&t, "sessions_ended_total", sessions.ended);
	tell(&t, "sessions_frames_total", w[BOOK_SESSIONS].frames);
	tell(&t, "usage_frames_total", w[BOOK_USAGE].frames);
	tell(&t, "usage_accounts", usage.accounts);
	tell(&t, "usage_meters", usage.meters);
	tell(&t, "usage_month", usage.month);
	tell(&t, "month_turns_total", usage.turns);
	tell_refused(s, w, &t);
	tell(&t, "lookups_total", s->lookups_total);
	tell(&t, "quotas_total", s->quotas_total);
	tell_days(s, &t);
	tell(&t, "retention_days", s->config->retention_days);
	tell(&t, "stalled",
	     held || w[BOOK_SESSIONS].stalled_space || w[BOOK_SESSIONS].stalled_room ||
		     w[BOOK_USAGE].stalled_space);
	tell(&t, "clock_held", held);
	tell(&t, "keyring_weak", keyring_weak(s->keyring));
	tell(&t, "keyring_generation", keyring_generation(s->keyring));
	tell(&t, "connections_open", s->conn_count);
	tell(&t, "connections_total", s->connections_total);
	tell(&t, "connections_refused_total", s->turned_away_total);
	tell(&t, "uptime_seconds", (uint64_t)(clock_running_ms(s->clock) / 1000));
	tell_writer(&w[BOOK_SESSIONS], "sessions", &t);
	tell_writer(&w[BOOK_USAGE], "usage", &t);
	return t.n;
}
