/* SPDX-License-Identifier: ISC */
/*
 * nologctl's pure parts: options, event lines, the printing of answers, the
 * policy's words, the audit's rules.
 */
#include "ctl_args.h"
#include "ctl_check.h"
#include "ctl_event.h"
#include "ctl_findings.h"
#include "ctl_lookup.h"
#include "ctl_metrics.h"
#include "ctl_out.h"
#include "ctl_policy.h"
#include "ctl_slack.h"

#include "usage.h"

#include <nolog/client.h>
#include <nolog/text.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW INT64_C(1795334400000) /* 2026-11-22T08:00:00Z */
#define ALL ((1u << CTL_OPTIONS) - 1)

/* --- Options --------------------------------------------------------------- */

/* Reads the words of text, which are at most 15. */
static int read_words(struct ctl_args *a, unsigned allowed, const char *text, char *error)
{
	static char copy[512]; /* what is borrowed from it lives as long as the test */
	char *words[16];
	int n = 0;

	(void)snprintf(copy, sizeof(copy), "%s", text);
	for (char *w = strtok(copy, " "); w && n < 15; w = strtok(NULL, " "))
		words[n++] = w;
	*error = '\0';
	return ctl_args_read(a, allowed, words, n, error);
}

static void options_are_read_with_a_blank_and_with_an_equals_sign(void **state)
{
	struct ctl_args a = { 0 };
	char error[CTL_ERROR_TEXT];
	int n = read_words(&a, ALL,
			   "--server=nl-ams-03 --handle 18446744073709551615 --ip 10.8.0.2 "
			   "--at=@1795334400 --slack 10min --json",
			   error);

	(void)state;
	assert_int_equal(n, 9);
	assert_memory_equal(a.server, "nl-ams-03\0\0\0\0\0\0\0", 16);
	assert_true(a.handle == UINT64_MAX);
	assert_int_equal(a.ip[12], 10);
	assert_int_equal(a.at_ms, NOW);
	assert_int_equal(a.slack_ms, 600000);
	assert_int_equal(a.given, CTL_BIT(SERVER) | CTL_BIT(HANDLE) | CTL_BIT(IP) | CTL_BIT(AT) |
					  CTL_BIT(SLACK) | CTL_BIT(JSON));
}

static void reading_stops_at_the_first_word_that_is_no_option(void **state)
{
	struct ctl_args a = { 0 };
	char error[CTL_ERROR_TEXT];

	(void)state;
	assert_int_equal(read_words(&a, CTL_GLOBAL, "--run /r lookup --json", error), 2);
	assert_string_equal(a.run, "/r");
	assert_int_equal(a.given, CTL_BIT(RUN));
}

static void an_address_is_taken_where_one_may_stand_and_only_once(void **state)
{
	struct ctl_args a = { 0 };
	char error[CTL_ERROR_TEXT];

	(void)state;
	assert_int_equal(read_words(&a, ALL, "--json 10.8.0.0/16 --at @0 10.8.0.2", error), 4);
	assert_int_equal(a.prefix.len, 112);
	a = (struct ctl_args){ 0 };
	assert_int_equal(read_words(&a, ALL, "-- ::/0 --json", error), 2);
	assert_int_equal(a.prefix.len, 0);
}

static void what_is_wrong_with_an_option_is_said_with_what_is_expected(void **state)
{
	static const struct {
		const char *words, *error;
	} wrong[] = {
		{ "--at 2026-11-22T08:00:00", "--at: '2026-11-22T08:00:00' has no offset; write "
					      "2026-11-22T08:00:00Z or +01:00" },
		{ "--at yesterday", "--at: 'yesterday' is no time; 2026-11-22T08:00:00Z, "
				    "2026-11-22T09:00:00+01:00 or @1795334400 are" },
		{ "--at 2026-13-22T08:00:00Z",
		  "--at: '2026-13-22T08:00:00Z' is not in the calendar" },
		{ "--slack 10", "--slack: '10' is no duration; a whole number and ms, s, min, h or "
				"d is expected (10min)" },
		{ "--ip 10.8.0.0/16", "--ip: '10.8.0.0/16' is no address; one like 10.8.0.2 or "
				      "2001:db8::7 is expected" },
		{ "10.8.0.0/33", "address: '10.8.0.0/33' is longer than its address; /0 to /32 for "
				 "IPv4, /0 to /128 for IPv6" },
		{ "--server NL", "--server: 'NL' is no server ID; 1 to 16 of a-z, 0-9, '.' and '-' "
				 "are expected" },
		{ "--handle -1", "--handle: '-1' is no whole number" },
		{ "--rx 18446744073709551616",
		  "--rx: '18446744073709551616' is too large; 0 to 18446744073709551615 are "
		  "possible" },
		{ "--meter 0", "--meter: '0' is no meter; 1 to 4294967295 are possible" },
		{ "--meter 4294967296",
		  "--meter: '4294967296' is no meter; 1 to 4294967295 are possible" },
		{ "--stream 0",
		  "--stream: '0' is no stream; 1 to 18446744073709551615 are possible" },
		{ "--run=", "--run: '' is empty; name a directory" },
		{ "--json --json", "--json is there twice" },
		{ "--handle 1 --handle 2", "--handle is there twice" },
		{ "--json=1", "--json takes no value" },
		{ "--handle", "--handle: H is missing behind it" },
		{ "--handl 1", "'--handl' does not belong here" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		struct ctl_args a = { 0 };
		char error[CTL_ERROR_TEXT];

		assert_int_equal(read_words(&a, ALL, wrong[i].words, error), -EINVAL);
		assert_string_equal(error, wrong[i].error);
	}
}

static void what_is_missing_or_does_not_fit_together_is_named(void **state)
{
	static const struct {
		const char *words;
		unsigned needs;
		const char *error;
	} wrong[] = {
		{ "--handle 1", CTL_BIT(HANDLE) | CTL_BIT(SERVER), "--server S is missing" },
		{ "", CTL_BIT(PREFIX), "IP[/LEN] is missing" },
		{ "--slack 5s", 0, "--slack needs --at beside it" },
		{ "--first", 0, "--first needs --meter beside it" },
		{ "--at @0 --from @0", 0, "--at and --from exclude each other" },
	};
	struct ctl_args a;
	char error[CTL_ERROR_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		a = (struct ctl_args){ 0 };
		assert_true(read_words(&a, ALL, wrong[i].words, error) >= 0);
		assert_int_equal(ctl_args_check(&a, wrong[i].needs, error), -EINVAL);
		assert_string_equal(error, wrong[i].error);
	}
	a = (struct ctl_args){ 0 };
	assert_int_equal(read_words(&a, ALL, "--meter 1 --first --last", error), 4);
	assert_int_equal(ctl_args_check(&a, CTL_BIT(METER), error), 0);
}

/* --- Event lines ----------------------------------------------------------- */

static int read_line(struct nolog_frame *f, const char *text, char *error)
{
	char line[CTL_LINE_BYTES + 1];

	(void)snprintf(line, sizeof(line), "%s", text);
	*error = '\0';
	return ctl_event_line(f, line, strlen(line), NOW, error);
}

static void every_event_has_its_line(void **state)
{
	struct nolog_frame f;
	char error[CTL_ERROR_TEXT];
	uint8_t account[32];

	(void)state;
	assert_int_equal(read_line(&f, "start --handle 7 --ip 10.8.0.2 --at @5.25", error), 0);
	assert_int_equal(f.type, NOLOG_START);
	assert_int_equal(f.u.start.handle, 7);
	assert_int_equal(f.u.start.start_ms, 5250);
	assert_int_equal(f.u.start.ip[15], 2);

	assert_int_equal(read_line(&f, "\tend  --handle=7\r", error), 0);
	assert_int_equal(f.type, NOLOG_END);
	assert_int_equal(f.u.end.end_ms, NOW);

	assert_int_equal(
		read_line(&f, "session --ip 2001:db8::7 --from @1 --to 1970-01-01T01:00:02+01:00",
			  error),
		0);
	assert_int_equal(f.type, NOLOG_SESSION);
	assert_int_equal(f.u.session.start_ms, 1000);
	assert_int_equal(f.u.session.end_ms, 2000);

	assert_int_equal(read_line(&f, "alive --handle 9", error), 0);
	assert_int_equal(f.type, NOLOG_ALIVE);
	assert_int_equal(f.u.alive.at_ms, NOW);

	assert_int_equal(read_line(&f, "restart --at @3", error), 0);
	assert_int_equal(f.type, NOLOG_RESTART);
	assert_int_equal(f.u.restart.at_ms, 3000);

	assert_int_equal(read_line(&f, "usage alice 10 20", error), 0);
	nolog_account(account, "alice", 5);
	assert_int_equal(f.type, NOLOG_USAGE);
	assert_memory_equal(f.u.usage.account, account, 32);
	assert_int_equal(f.u.usage.rx, 10);
	assert_int_equal(f.u.usage.tx, 20);
	assert_int_equal(f.aux, 0);
	assert_int_equal(f.code, 0);

	assert_int_equal(read_line(&f, "usage --json 1 2 77 last first", error), 0);
	nolog_account(account, "--json", 6);
	assert_memory_equal(f.u.usage.account, account, 32);
	assert_int_equal(f.aux, 77);
	assert_int_equal(f.code, NOLOG_USAGE_FIRST | NOLOG_USAGE_LAST);
}

static void blank_lines_and_comments_are_no_events(void **state)
{
	static const char *const lines[] = { "", "  \t ", "\r", "# start", "  #" };
	struct nolog_frame f;
	char error[CTL_ERROR_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++)
		assert_int_equal(read_line(&f, lines[i], error), 1);
}

static void a_bad_line_is_explained_without_repeating_it(void **state)
{
	static const char *const lines[] = {
		"canary --handle 1",
		"canary",
		"start --handle canary --ip 10.8.0.2",
		"start --handle 1 --ip canary",
		"start --handle 1 --ip 10.8.0.2 canary",
		"start --handle 1 --ip 10.8.0.2 --canary",
		"start --handle 1 --ip 10.8.0.2 --at canary",
		"start --handle 1 --ip 10.8.0.2 --server canary",
		"start --handle 1 --ip 10.8.0.2 --run canary",
		"start --handle 1",
		"session --ip 10.8.0.2 --from @1",
		"usage canary",
		"usage canary 1",
		"usage canary 1 canary",
		"usage canary 1 2 0",
		"usage canary 1 2 first",
		"usage canary 1 2 3 canary",
		"usage canary 1 2 3 first first",
		"usage canary 1 2 3 first last last",
		"start canary b c d e f g h i j k l m n o p q r s t",
	};
	struct nolog_frame f;

	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		char error[CTL_ERROR_TEXT];

		assert_int_equal(read_line(&f, lines[i], error), -EINVAL);
		assert_true(strlen(error) > 0);
		assert_null(strstr(error, "canary"));
	}
}

static void a_line_with_a_zero_byte_is_refused(void **state)
{
	char line[] = "start --handle 1 --ip 10.8.0.2\0 --at @1";
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(ctl_event_line(&f, line, sizeof(line) - 1, NOW, error), -EINVAL);
}

static void a_time_without_offset_in_a_line_is_explained_without_it(void **state)
{
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(read_line(&f, "restart --at 2026-11-22T08:00:00", error), -EINVAL);
	assert_string_equal(error, "--at: has no offset; write Z or +01:00 behind it");
}

/* --- Look-ups -------------------------------------------------------------- */

static int question(struct nolog_frame *f, const char *words, char *error)
{
	struct ctl_args a = { 0 };

	assert_true(read_words(&a, ALL, words, error) >= 0);
	return ctl_lookup_frame(f, &a, error);
}

static void a_look_up_without_a_time_asks_for_everything_kept(void **state)
{
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(question(&f, "10.8.0.2", error), 0);
	assert_int_equal(f.type, NOLOG_LOOKUP);
	assert_int_equal(f.code, 128);
	assert_true(f.u.lookup.from_ms == INT64_MIN);
	assert_true(f.u.lookup.to_ms == INT64_MAX);
	assert_true(nolog_all_zero(f.u.lookup.server, 16));
}

static void a_look_up_by_server_asks_for_any_address(void **state)
{
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(question(&f, "--server nl --from @1 --to @2", error), 0);
	assert_int_equal(f.code, 0);
	assert_int_equal(f.u.lookup.from_ms, 1000);
	assert_int_equal(f.u.lookup.to_ms, 2000);
	assert_int_equal(question(&f, "--server nl 10.0.0.0/8", error), 0);
	assert_int_equal(f.code, 104);
}

static void slack_widens_the_instant_on_both_sides_and_never_wraps(void **state)
{
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(question(&f, "::1 --at @10 --slack 2s", error), 0);
	assert_int_equal(f.u.lookup.from_ms, 8000);
	assert_int_equal(f.u.lookup.to_ms, 12000);
	assert_int_equal(question(&f, "::1 --at @100000 --slack 106751991167d", error), 0);
	assert_true(f.u.lookup.to_ms == INT64_MAX);
	assert_int_equal(question(&f, "::1 --at @-9223372036854775 --slack 1h", error), 0);
	assert_true(f.u.lookup.from_ms == INT64_MIN);
}

static void a_look_up_that_makes_no_sense_is_not_asked(void **state)
{
	char error[CTL_ERROR_TEXT];
	struct nolog_frame f;

	(void)state;
	assert_int_equal(question(&f, "--at @1", error), -EINVAL);
	assert_string_equal(error, "IP[/LEN] or --server S is missing");
	assert_int_equal(question(&f, "::1 --from @2 --to @1", error), -EINVAL);
	assert_string_equal(error, "--from is later than --to");
}

/* --- What is printed ------------------------------------------------------- */

static struct ctl_record record(const char *ip, const char *server, int64_t start_ms,
				int64_t end_ms, unsigned code)
{
	struct ctl_record r = { .start_ms = start_ms, .end_ms = end_ms, .code = code };

	assert_int_equal(nolog_ip_parse(r.ip, ip), 0);
	assert_int_equal(nolog_server_parse(r.server, server), 0);
	return r;
}

/* The text that a function prints; the caller frees it. */
struct printed {
	char *text;
	size_t size;
	FILE *out;
};

static void print_begin(struct printed *p)
{
	p->out = open_memstream(&p->text, &p->size);
	assert_non_null(p->out);
}

static const char *print_end(struct printed *p)
{
	assert_int_equal(fclose(p->out), 0);
	return p->text;
}

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	while (*text) {
		size_t n = strcspn(text, "\n");

		longest = n > longest ? n : longest;
		text += n + (text[n] == '\n');
	}
	return longest;
}

static void records_are_printed_as_json_to_the_byte(void **state)
{
	struct ctl_record r[] = {
		record("10.8.0.2", "nl-ams-03", NOW, NOW + 1800000, 0),
		record("2001:db8::7", "x", NOW + 1, 0, NOLOG_RECORD_OPEN | NOLOG_RECORD_CANDIDATE),
		record("10.8.0.2", "y", NOW, NOW, NOLOG_RECORD_PART),
	};
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_records_json(p.out, r, COUNT(r));
	assert_string_equal(
		print_end(&p),
		"{\"ip\":\"10.8.0.2\",\"server\":\"nl-ams-03\",\"start\":\"2026-11-22T08:00:00.000Z\","
		"\"end\":\"2026-11-22T08:30:00.000Z\",\"open\":false,\"candidate\":false}\n"
		"{\"ip\":\"2001:db8::7\",\"server\":\"x\",\"start\":\"2026-11-22T08:00:00.001Z\","
		"\"end\":null,\"open\":true,\"candidate\":true}\n"
		"{\"ip\":\"10.8.0.2\",\"server\":\"y\",\"start\":\"2026-11-22T08:00:00.000Z\","
		"\"end\":\"2026-11-22T08:00:00.000Z\",\"open\":false,\"candidate\":false,"
		"\"part\":true}\n");
	free(p.text);
}

static void records_are_put_in_the_order_of_time(void **state)
{
	struct ctl_record r[] = {
		record("10.8.0.2", "b", 2, 9, 0),
		record("10.8.0.3", "a", 1, 9, 0),
		record("10.8.0.2", "a", 2, 9, 0),
		record("10.8.0.1", "c", 2, 9, 0),
	};

	(void)state;
	ctl_records_sort(r, COUNT(r));
	assert_int_equal(r[0].ip[15], 3);
	assert_int_equal(r[1].ip[15], 1);
	assert_int_equal(r[2].server[0], 'a');
	assert_int_equal(r[3].server[0], 'b');
	ctl_records_sort(NULL, 0);
}

static void the_table_has_a_header_and_explicit_utc(void **state)
{
	struct ctl_record r[] = { record("10.8.0.2", "nl", NOW, NOW + 1, 0),
				  record("10.8.0.3", "nl", NOW, 0, NOLOG_RECORD_OPEN) };
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_records_table(p.out, r, COUNT(r), 80);
	assert_string_equal(print_end(&p),
			    "IP        SERVER  START                     END\n"
			    "10.8.0.2  nl      2026-11-22T08:00:00.000Z  2026-11-22T08:00:00.001Z\n"
			    "10.8.0.3  nl      2026-11-22T08:00:00.000Z  open\n");
	free(p.text);
}

static void nothing_found_is_no_table(void **state)
{
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_records_table(p.out, NULL, 0, 80);
	assert_string_equal(print_end(&p), "");
	free(p.text);
}

static void the_table_fits_the_terminal_whatever_is_in_it(void **state)
{
	static const char *const ips[] = { "10.8.0.2", "255.255.255.255", "2001:db8::7",
					   "2001:db80:ffff:ffff:ffff:ffff:ffff:ffff" };
	static const char *const servers[] = { "n", "nl-ams-03", "abcdefghijklmnop" };

	(void)state;
	for (size_t i = 0; i < COUNT(ips); i++)
		for (size_t j = 0; j < COUNT(servers); j++)
			for (unsigned code = 0; code < 8; code++) {
				struct ctl_record r = record(ips[i], servers[j], NOW, NOW, code);
				struct printed p;

				print_begin(&p);
				ctl_records_table(p.out, &r, 1, 80);
				assert_true(longest_line(print_end(&p)) <= 80);
				assert_non_null(strstr(p.text, ips[i]));
				assert_non_null(strstr(p.text, servers[j]));
				assert_non_null(strstr(p.text, "2026-11-22T08:00:00"));
				assert_true((code & NOLOG_RECORD_CANDIDATE) == 0 ||
					    strstr(p.text, "candidate"));
				free(p.text);
			}
}

static void candidates_are_counted_and_said_to_be_no_more_than_that(void **state)
{
	struct ctl_record r[] = {
		record("10.8.0.2", "nl", NOW, NOW, NOLOG_RECORD_CANDIDATE),
		record("203.0.113.7", "nl", NOW, NOW, 0),
		record("10.8.0.3", "nl", NOW, NOW, NOLOG_RECORD_CANDIDATE),
		record("10.8.0.4", "nl", NOW, NOW, NOLOG_RECORD_CANDIDATE | NOLOG_RECORD_OPEN),
	};
	struct ctl_prefix one, many;
	struct printed p;

	(void)state;
	assert_int_equal(nolog_prefix_parse(one.ip, &one.len, "203.0.113.7"), 0);
	assert_int_equal(nolog_prefix_parse(many.ip, &many.len, "203.0.113.0/24"), 0);
	print_begin(&p);
	ctl_records_candidates(p.out, r, 4, &one);
	ctl_records_candidates(p.out, r, 1, &one);
	ctl_records_candidates(p.out, r + 1, 1, &one);
	ctl_records_candidates(p.out, r, 4, &many);
	r[1].code = r[2].code = NOLOG_RECORD_CANDIDATE | NOLOG_RECORD_PART;
	ctl_records_candidates(p.out, r, 4, &one);
	assert_string_equal(
		print_end(&p),
		"3 candidates behind the shared exit 203.0.113.7; which one it was cannot be told\n"
		"1 candidate behind the shared exit 203.0.113.7; whether it was this one cannot be "
		"told\n"
		"3 candidates behind shared exits in 203.0.113.0/24; which one it was cannot be "
		"told\n"
		"4 records of candidates behind the shared exit 203.0.113.7, 2 of them parts;\n"
		"which one it was cannot be told\n");
	free(p.text);
}

static const struct ctl_metric metrics[] = {
	{ "sessions_open", 3 },	   { "refused_total", UINT64_MAX }, { "stalled", 1 },
	{ "days_bytes", 5 << 20 }, { "something_new", 7 },
};

static void metrics_are_openmetrics_text(void **state)
{
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_metrics_openmetrics(p.out, metrics, COUNT(metrics));
	assert_string_equal(print_end(&p), "# TYPE nologd_sessions_open gauge\n"
					   "# HELP nologd_sessions_open Sessions open now.\n"
					   "nologd_sessions_open 3\n"
					   "# TYPE nologd_refused counter\n"
					   "# HELP nologd_refused Frames refused.\n"
					   "nologd_refused_total 18446744073709551615\n"
					   "# TYPE nologd_stalled gauge\n"
					   "# HELP nologd_stalled 1 while nothing is taken.\n"
					   "nologd_stalled 1\n"
					   "# TYPE nologd_days_bytes gauge\n"
					   "# UNIT nologd_days_bytes bytes\n"
					   "nologd_days_bytes 5242880\n"
					   "# TYPE nologd_something_new gauge\n"
					   "nologd_something_new 7\n"
					   "# EOF\n");
	free(p.text);
}

static void two_metrics_never_share_a_family(void **state)
{
	static const struct ctl_metric same[] = { { "links", 1 }, { "links_total", 2 } };
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_metrics_openmetrics(p.out, same, COUNT(same));
	assert_string_equal(print_end(&p), "# TYPE nologd_links gauge\nnologd_links 1\n"
					   "# TYPE nologd_links_total unknown\n"
					   "nologd_links_total 2\n# EOF\n");
	free(p.text);
}

static void status_is_one_object_and_a_table_with_every_metric(void **state)
{
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_metrics_json(p.out, metrics, COUNT(metrics));
	ctl_metrics_json(p.out, NULL, 0);
	assert_string_equal(print_end(&p),
			    "{\"sessions_open\":3,\"refused_total\":18446744073709551615,"
			    "\"stalled\":1,\"days_bytes\":5242880,\"something_new\":7}\n{}\n");
	free(p.text);
	print_begin(&p);
	ctl_metrics_table(p.out, metrics, COUNT(metrics));
	(void)print_end(&p);
	for (size_t i = 0; i < COUNT(metrics); i++)
		assert_non_null(strstr(p.text, metrics[i].name));
	assert_non_null(strstr(p.text, "5242880  (5.0 MiB)"));
	assert_non_null(strstr(p.text, "! nothing is acknowledged"));
	assert_true(longest_line(p.text) <= 80);
	free(p.text);
}

static void strange_text_cannot_break_out_of_json_or_the_terminal(void **state)
{
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_json_text(p.out, "a\"\\\n\x1b\xc3\xa4\x7f");
	ctl_plain_text(p.out, "a\x1b[2J\xff");
	assert_string_equal(print_end(&p), "\"a\\\"\\\\\\u000a\\u001b\\ufffd\\ufffd\\u007f\""
					   "a?[2J?");
	free(p.text);
}

static void sizes_are_short_and_never_1024_of_anything(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1048575, "1.0 MiB" },
		{ UINT64_C(3650722201), "3.4 GiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char text[CTL_BYTES_TEXT];

	(void)state;
	for (size_t i = 0; i < COUNT(sizes); i++) {
		ctl_bytes_text(text, sizes[i].bytes);
		assert_string_equal(text, sizes[i].text);
	}
}

/* --- Policy ---------------------------------------------------------------- */

static void the_policy_says_of_every_stored_record_how_long_it_is_kept(void **state)
{
	char kept[CTL_KEPT_TEXT];

	(void)state;
	for (size_t i = 0; i < effect_schema_count; i++)
		assert_true(ctl_policy_kept(kept, effect_schema[i].record, 90));
	assert_false(ctl_policy_kept(kept, "browsing", 90));
	assert_true(ctl_policy_kept(kept, "row4", 90));
	assert_string_equal(kept, "90 days: today (UTC) and the 89 before it");
	assert_true(ctl_policy_kept(kept, "row6", 1));
	assert_string_equal(kept, "1 day: until 00:00 UTC");
}

static size_t times(const char *text, const char *word)
{
	size_t n = 0;

	for (text = strstr(text, word); text; text = strstr(text + 1, word))
		n++;
	return n;
}

static void the_policy_prints_every_field_of_the_schema(void **state)
{
	char want[256];
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_policy_json(p.out, 30, true);
	(void)print_end(&p);
	assert_non_null(strstr(p.text, "{\"retention_days\":30,\"retention_days_max\":90,"
				       "\"configured\":true}\n"));
	assert_int_equal(times(p.text, "{\"record\":"), effect_schema_count);
	for (size_t i = 0; i < effect_schema_count; i++) {
		const struct record_schema *r = &effect_schema[i];
		const char *at;

		(void)snprintf(want, sizeof(want), "{\"record\":\"%s\",", r->record);
		at = strstr(p.text, want);
		assert_non_null(at);
		for (size_t j = 0; j < r->n; j++) {
			(void)snprintf(want, sizeof(want), "{\"name\":\"%s\",\"bytes\":%zu,",
				       r->fields[j].name, r->fields[j].size);
			at = strstr(at, want);
			assert_non_null(at);
		}
	}
	free(p.text);
}

static void and_so_does_what_a_person_reads(void **state)
{
	struct printed p;
	char want[128];

	(void)state;
	print_begin(&p);
	ctl_policy_text(p.out, 90, true);
	(void)print_end(&p);
	for (size_t i = 0; i < effect_schema_count; i++) {
		const struct record_schema *r = &effect_schema[i];
		const char *at;

		(void)snprintf(want, sizeof(want), "\n  %-8s  %s; %zu bytes\n", r->record, r->why,
			       r->size);
		assert_int_equal(times(p.text, want), 1);
		at = strstr(p.text, want);
		at = strstr(at, "            kept ");
		for (size_t j = 0; j < r->n; j++) {
			(void)snprintf(want, sizeof(want), "\n            %-10s %2zu  ",
				       r->fields[j].name, r->fields[j].size);
			at = strstr(at, want);
			assert_non_null(at);
			at += strlen(want) - 1;
		}
	}
	free(p.text);
}

static void the_policy_fits_a_terminal(void **state)
{
	struct printed p;

	(void)state;
	print_begin(&p);
	ctl_policy_text(p.out, 90, false);
	assert_true(longest_line(print_end(&p)) <= 80);
	assert_non_null(strstr(p.text, "at most 90 days"));
	assert_null(strstr(p.text, "unknown\n"));
	free(p.text);
}

/* --- Audit ----------------------------------------------------------------- */

static const char *check(const struct effect *e, enum keyring_book book)
{
	const struct ctl_bounds b = { .horizon_ms = 1000000, .latest_ms = 2000000 };
	uint8_t raw[EFFECT_SIZE];

	effect_encode(raw, e);
	return ctl_check_effect(&b, book, raw);
}

static struct effect effect_of(uint8_t type)
{
	struct effect e = { .type = type };
	const uint8_t id[NOLOG_SERVER_SIZE] = "nl";
	struct server_key key;

	server_pack(&key, id);
	switch (type) {
	case EFFECT_OPEN:
		e.u.open.server = key;
		e.u.open.start_ms = 1500000;
		break;
	case EFFECT_CLOSE:
		e.u.close.server = key;
		e.u.close.start_ms = e.u.close.end_ms = 1500000;
		break;
	case EFFECT_WHOLE:
		e.u.whole.server = key;
		e.u.whole.start_ms = e.u.whole.end_ms = 1500000;
		break;
	case EFFECT_ALIVE:
		e.u.alive.server = key;
		break;
	case EFFECT_GONE:
		e.u.gone.server = key;
		break;
	case EFFECT_TURN:
		e.u.turn.month = 202611;
		break;
	default:
		break;
	}
	return e;
}

static void a_record_belongs_to_its_book_only(void **state)
{
	static const struct {
		uint8_t type;
		bool sessions, usage;
	} books[] = {
		{ EFFECT_OPEN, true, false },  { EFFECT_CLOSE, true, false },
		{ EFFECT_WHOLE, true, false }, { EFFECT_ALIVE, true, false },
		{ EFFECT_GONE, true, false },  { EFFECT_STREAM, true, true },
		{ EFFECT_TOTAL, false, true }, { EFFECT_METER, false, true },
		{ EFFECT_TURN, false, true },
	};
	const uint8_t none[EFFECT_SIZE] = { 0xee };
	const struct ctl_bounds b = { 0 };

	(void)state;
	for (size_t i = 0; i < COUNT(books); i++) {
		struct effect e = effect_of(books[i].type);

		assert_true((check(&e, KEYRING_SESSIONS) == NULL) == books[i].sessions);
		assert_true((check(&e, KEYRING_USAGE) == NULL) == books[i].usage);
	}
	assert_non_null(ctl_check_effect(&b, KEYRING_SESSIONS, none));
}

static void a_record_outside_its_time_is_a_finding(void **state)
{
	struct effect e = effect_of(EFFECT_OPEN);

	(void)state;
	e.u.open.start_ms = 1000000;
	assert_null(check(&e, KEYRING_SESSIONS));
	e.u.open.start_ms = 999999;
	assert_non_null(check(&e, KEYRING_SESSIONS));
	e.u.open.start_ms = 2000001;
	assert_non_null(check(&e, KEYRING_SESSIONS));
	e = effect_of(EFFECT_CLOSE);
	e.u.close.end_ms = 1499999;
	assert_non_null(check(&e, KEYRING_SESSIONS));
	e.u.close.end_ms = 2000001;
	assert_non_null(check(&e, KEYRING_SESSIONS));
	e = effect_of(EFFECT_WHOLE);
	e.u.whole.start_ms = 999999;
	assert_non_null(check(&e, KEYRING_SESSIONS));
	e = effect_of(EFFECT_ALIVE);
	e.u.alive.alive_ms = 2000001;
	assert_non_null(check(&e, KEYRING_SESSIONS));
}

static void a_total_or_meter_that_cannot_be_is_a_finding(void **state)
{
	struct effect e = effect_of(EFFECT_TOTAL);

	(void)state;
	e.u.total.tx = USAGE_TOTAL_END - 1;
	assert_null(check(&e, KEYRING_USAGE));
	e.u.total.tx = USAGE_TOTAL_END;
	assert_non_null(check(&e, KEYRING_USAGE));
	e = effect_of(EFFECT_METER);
	e.u.meter.state = 3;
	assert_non_null(check(&e, KEYRING_USAGE));
	e = effect_of(EFFECT_TURN);
	e.u.turn.month = 202613;
	assert_non_null(check(&e, KEYRING_USAGE));
}

static void findings_name_file_and_block_and_can_be_taken_back(void **state)
{
	struct ctl_findings f = { 0 };
	struct fault one;
	struct printed p;

	(void)state;
	(void)fault_set(&one, -EBADMSG, "days/2026-11-22.mdb", 12, "block that was changed");
	ctl_findings_add(&f, &one);
	(void)fault_set(&one, -EBADMSG, "sessions.mdb", 7 << 16 | 2, "a \"thing\"");
	ctl_findings_add(&f, &one);
	ctl_findings_add(&f, &one);
	one.block++;
	ctl_findings_add(&f, &one);
	assert_int_equal(ctl_findings_count(&f), 3);
	ctl_findings_back(&f, 2);
	assert_int_equal(ctl_findings_count(&f), 2);
	print_begin(&p);
	ctl_findings_print(p.out, &f, "finding", false);
	ctl_findings_print(p.out, &f, "note", true);
	assert_string_equal(print_end(&p),
			    "finding: days/2026-11-22.mdb, block 12: block that was changed\n"
			    "finding: sessions.mdb, batch 7, block 2: a \"thing\"\n"
			    "{\"note\":\"block that was changed\",\"file\":\"days/2026-11-22.mdb\","
			    "\"block\":12}\n"
			    "{\"note\":\"a \\\"thing\\\"\",\"file\":\"sessions.mdb\","
			    "\"block\":458754}\n");
	free(p.text);
	ctl_findings_done(&f);
}

/* A data file of two meta pages, nothing else in use, and two pages more. */
static FILE *file_with(const uint8_t page[4096], size_t second)
{
	static const uint8_t nothing[4096];
	FILE *file = tmpfile();

	assert_non_null(file);
	for (uint64_t i = 0; i < 2; i++) {
		uint8_t meta[4096] = { 0 };

		nolog_put64(meta, i);
		nolog_put16(meta + 10, 8);
		nolog_put32(meta + 16, 0xbeefc0de);
		nolog_put32(meta + 20, 1);
		nolog_put32(meta + 40, 4096);
		nolog_put64(meta + 136, 1); /* the last page */
		nolog_put64(meta + 144, i);
		assert_int_equal(fwrite(meta, sizeof(meta), 1, file), 1);
	}
	assert_int_equal(fwrite(nothing, sizeof(nothing), 1, file), 1);
	assert_int_equal(fwrite(page, second, 1, file), 1);
	assert_int_equal(fflush(file), 0);
	return file;
}

static const char *behind(const uint8_t page[4096], size_t n)
{
	FILE *file = file_with(page, n);
	const char *what = ctl_slack_data(fileno(file));

	assert_int_equal(fclose(file), 0);
	return what;
}

static void behind_the_last_page_is_nothing_but_what_lmdb_writes(void **state)
{
	uint8_t page[4096] = { 0 };

	(void)state;
	if (sysconf(_SC_PAGESIZE) != 4096)
		skip();
	assert_null(behind(page, 4096));
	assert_null(behind(page, 100));
	page[4095] = 1;
	assert_non_null(behind(page, 4096));
	nolog_put64(page, 3); /* its own number */
	nolog_put16(page + 10, 4);
	assert_null(behind(page, 4096));
	assert_non_null(behind(page, 4000)); /* part of one */
	nolog_put16(page + 10, 5);
	assert_non_null(behind(page, 4096));
	nolog_put64(page, 4);
	nolog_put16(page + 10, 4);
	assert_non_null(behind(page, 4096));
	/* the rest of a long free list: highest first */
	memset(page, 0, sizeof(page));
	for (unsigned i = 0; i < 100; i++)
		nolog_put64(page + 8 * (size_t)i, 5000 - 2 * i);
	assert_null(behind(page, 4096));
	nolog_put64(page + 8 * 99, 6000);
	assert_non_null(behind(page, 4096));
	nolog_put64(page + 8 * 99, 0);
	nolog_put64(page + 8 * 100, 7);
	assert_non_null(behind(page, 4096));
	memset(page, 'a', 8); /* a text of eight */
	memset(page + 8, 0, sizeof(page) - 8);
	assert_non_null(behind(page, 4096));
}

static void a_flood_of_findings_is_counted_to_the_last(void **state)
{
	struct ctl_findings f = { 0 };
	struct fault one;

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		(void)fault_set(&one, -EBADMSG, "usage.mdb", i, "x");
		ctl_findings_add(&f, &one);
	}
	assert_int_equal(ctl_findings_count(&f), 100000);
	ctl_findings_back(&f, 99999);
	assert_int_equal(ctl_findings_count(&f), 99999);
	ctl_findings_back(&f, 3);
	assert_int_equal(ctl_findings_count(&f), 3);
	ctl_findings_back(&f, 0);
	assert_int_equal(ctl_findings_count(&f), 0);
	ctl_findings_add(&f, &one);
	assert_int_equal(ctl_findings_count(&f), 1);
	ctl_findings_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_read_with_a_blank_and_with_an_equals_sign),
		cmocka_unit_test(reading_stops_at_the_first_word_that_is_no_option),
		cmocka_unit_test(an_address_is_taken_where_one_may_stand_and_only_once),
		cmocka_unit_test(what_is_wrong_with_an_option_is_said_with_what_is_expected),
		cmocka_unit_test(what_is_missing_or_does_not_fit_together_is_named),
		cmocka_unit_test(every_event_has_its_line),
		cmocka_unit_test(blank_lines_and_comments_are_no_events),
		cmocka_unit_test(a_bad_line_is_explained_without_repeating_it),
		cmocka_unit_test(a_line_with_a_zero_byte_is_refused),
		cmocka_unit_test(a_time_without_offset_in_a_line_is_explained_without_it),
		cmocka_unit_test(a_look_up_without_a_time_asks_for_everything_kept),
		cmocka_unit_test(a_look_up_by_server_asks_for_any_address),
		cmocka_unit_test(slack_widens_the_instant_on_both_sides_and_never_wraps),
		cmocka_unit_test(a_look_up_that_makes_no_sense_is_not_asked),
		cmocka_unit_test(records_are_printed_as_json_to_the_byte),
		cmocka_unit_test(records_are_put_in_the_order_of_time),
		cmocka_unit_test(the_table_has_a_header_and_explicit_utc),
		cmocka_unit_test(nothing_found_is_no_table),
		cmocka_unit_test(the_table_fits_the_terminal_whatever_is_in_it),
		cmocka_unit_test(candidates_are_counted_and_said_to_be_no_more_than_that),
		cmocka_unit_test(metrics_are_openmetrics_text),
		cmocka_unit_test(two_metrics_never_share_a_family),
		cmocka_unit_test(status_is_one_object_and_a_table_with_every_metric),
		cmocka_unit_test(strange_text_cannot_break_out_of_json_or_the_terminal),
		cmocka_unit_test(sizes_are_short_and_never_1024_of_anything),
		cmocka_unit_test(the_policy_says_of_every_stored_record_how_long_it_is_kept),
		cmocka_unit_test(the_policy_prints_every_field_of_the_schema),
		cmocka_unit_test(and_so_does_what_a_person_reads),
		cmocka_unit_test(the_policy_fits_a_terminal),
		cmocka_unit_test(a_record_belongs_to_its_book_only),
		cmocka_unit_test(a_record_outside_its_time_is_a_finding),
		cmocka_unit_test(a_total_or_meter_that_cannot_be_is_a_finding),
		cmocka_unit_test(findings_name_file_and_block_and_can_be_taken_back),
		cmocka_unit_test(behind_the_last_page_is_nothing_but_what_lmdb_writes),
		cmocka_unit_test(a_flood_of_findings_is_counted_to_the_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
