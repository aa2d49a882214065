/* SPDX-License-Identifier: ISC */
/* config: what is read, what is printed, and how a mistake is named. */
#include "config.h"

#include <nolog/text.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	char dir[64];
	char path[96];
	char error[512];
	struct config *c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	if (!f)
		return -1;
	(void)snprintf(f->dir, sizeof(f->dir), "%.40s/config-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->dir))
		return -1;
	(void)snprintf(f->path, sizeof(f->path), "%s/nologd.conf", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	config_free(f->c);
	(void)unlink(f->path);
	(void)rmdir(f->dir);
	free(f);
	return 0;
}

static int read_text(struct fixture *f, const char *text)
{
	FILE *file = fopen(f->path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	config_free(f->c);
	f->c = NULL;
	return config_read(&f->c, f->path, false, NULL, NULL, f->error, sizeof(f->error));
}

/* The text is refused, and the line that says so holds every word of these. */
static void refused(struct fixture *f, const char *text, const char *line, const char *words)
{
	char where[128], copy[256], *rest = copy, *word;

	assert_int_equal(read_text(f, text), -EINVAL);
	assert_null(f->c);
	(void)snprintf(where, sizeof(where), "%s:%s: ", f->path, line);
	assert_non_null(strstr(f->error, where));
	(void)snprintf(copy, sizeof(copy), "%s", words);
	while ((word = strsep(&rest, "|")))
		if (!strstr(f->error, word))
			fail_msg("\"%s\" does not say \"%s\"", f->error, word);
	assert_null(strchr(f->error, '\n'));
}

static void an_absent_file_may_be_empty_unless_named(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(config_read(&f->c, "/nonexistent/nologd.conf", false, NULL, NULL, f->error,
				     sizeof(f->error)),
			 -ENOENT);
	assert_non_null(strstr(f->error, "/nonexistent/nologd.conf"));
	assert_int_equal(config_read(&f->c, "/nonexistent/nologd.conf", true, NULL, NULL, f->error,
				     sizeof(f->error)),
			 0);
	assert_string_equal(f->c->state, CONFIG_STATE);
	assert_string_equal(f->c->keyring, CONFIG_STATE "/keyring");
	assert_string_equal(f->c->run, CONFIG_RUN);
	assert_int_equal(f->c->retention_days, 90);
	assert_int_equal(f->c->tick_ms, 5000);
	assert_int_equal(f->c->trust, CLOCK_TRUST_KERNEL);
	assert_true(f->c->any_server);
	assert_true(f->c->absent);
	assert_int_equal(read_text(f, ""), 0);
	assert_false(f->c->absent);
}

static void the_command_line_wins(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "[store]\npath = /a\n[sockets]\ndirectory = /b\n"), 0);
	assert_string_equal(f->c->state, "/a");
	config_free(f->c);
	f->c = NULL;
	assert_int_equal(config_read(&f->c, f->path, false, "/c", "/d", f->error, sizeof(f->error)),
			 0);
	assert_string_equal(f->c->state, "/c");
	assert_string_equal(f->c->keyring, "/c/keyring");
	assert_string_equal(f->c->run, "/d");
}

static void ninety_days_are_the_most(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "[store]\nretention-days = 30\n"), 0);
	assert_int_equal(f->c->retention_days, 30);
	refused(f, "[store]\nretention-days = 91\n", "2", "retention-days|91|1 to 90");
	refused(f, "[store]\nretention-days = 0\n", "2", "retention-days|1 to 90");
	refused(f, "[store]\nretention-days = 90d\n", "2", "retention-days|90d|1 to 90");
}

static void unknown_things_are_named(void **state)
{
	struct fixture *f = *state;

	refused(f, "[store]\npaht = /x\n", "2", "[store] paht|no such key");
	refused(f, "\n[stoer]\npath = /x\n", "2", "[stoer]|no such section|servers");
	refused(f, "[stoer]\n", "1", "[stoer]|no such section"); /* an empty one, too */
	refused(f, "path = /x\n", "1", "path|before the first [section]");
	refused(f, "[store]\nnonsense\n", "2", "key = value");
	refused(f, "[store\n", "1", "key = value");
}

static void values_out_of_range_are_named(void **state)
{
	struct fixture *f = *state;

	refused(f, "[usage]\ntick = 49ms\n", "2", "tick|49ms|50ms to 60s");
	refused(f, "[usage]\ntick = 61s\n", "2", "tick|50ms to 60s");
	refused(f, "[usage]\ntick = 5\n", "2", "tick|duration");
	refused(f, "[clock]\ntrust = maybe\n", "2", "trust|maybe|kernel or always");
	refused(f, "[sessions]\nallow = 10.0.0.0/33\n", "2", "allow|10.0.0.0/33|prefixes");
	refused(f, "[sessions]\nallow = 10.0.0.0/8,\n", "2", "allow|prefixes");
	refused(f, "[store]\npath = relative\n", "2", "path|absolute");
	refused(f, "[limits]\nconnections = 0\n", "2", "connections|1 to");
	refused(f, "[limits]\nmemory = 99999999999G\n", "2", "memory|bytes");
	refused(f, "[servers]\nNL-1 = 203.0.113.7\n", "2", "NL-1|server ID");
	refused(f, "[servers]\nnl-1 = 203.0.113\n", "2", "nl-1|203.0.113|addresses");
	refused(f, "[store]\npath = /a\npath = /b\n", "3", "path|twice");
}

static void a_line_that_would_be_cut_is_refused(void **state)
{
	struct fixture *f = *state;
	char text[600];
	size_t n = (size_t)snprintf(text, sizeof(text), "[sessions]\nallow = ");

	/* Valid up to any cut: only its length is wrong. */
	while (n < 500)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "10.0.0.0/8, ");
	(void)snprintf(text + n, sizeof(text) - n, "10.0.0.0/8\n");
	refused(f, text, "2", "too long");
}

static void the_longest_line_is_taken_whole(void **state)
{
	struct fixture *f = *state;
	char text[512];
	size_t n = (size_t)snprintf(text, sizeof(text), "[sessions]\n"), begin = n;

	n += (size_t)snprintf(text + n, sizeof(text) - n, "allow = 10.0.0.0/8");
	while (n - begin < 198)
		text[n++] = ' ';
	text[n - 1] = '\n';
	text[n] = 0;
	assert_int_equal(read_text(f, text), 0);
	assert_int_equal(f->c->allow_count, 1);
}

static void servers_and_their_exits(void **state)
{
	struct fixture *f = *state;
	uint8_t id[NOLOG_SERVER_SIZE], ip[NOLOG_IP_SIZE];

	assert_int_equal(read_text(f, "[servers]\n"
				      "nl-ams-03 = 203.0.113.7, 2001:db8::7\n"
				      "de-1 =\n"
				      "nl-ams-03 = 203.0.113.8\n"),
			 0);
	assert_false(f->c->any_server);
	assert_int_equal(f->c->server_count, 2);
	assert_int_equal(f->c->exit_count, 3);
	assert_int_equal(nolog_server_parse(id, "de-1"), 0);
	assert_true(config_server_allowed(f->c, id));
	assert_int_equal(nolog_server_parse(id, "fr-1"), 0);
	assert_false(config_server_allowed(f->c, id));
	assert_int_equal(nolog_ip_parse(ip, "203.0.113.8"), 0);
	assert_true(exits_shared(f->c->exits, ip));
	assert_int_equal(nolog_ip_parse(ip, "203.0.113.9"), 0);
	assert_false(exits_shared(f->c->exits, ip));
}

static void an_empty_servers_section_allows_none(void **state)
{
	struct fixture *f = *state;
	uint8_t id[NOLOG_SERVER_SIZE];

	assert_int_equal(read_text(f, "[servers]\n"), 0);
	assert_int_equal(nolog_server_parse(id, "de-1"), 0);
	assert_false(config_server_allowed(f->c, id));
	assert_int_equal(read_text(f, "[store]\n"), 0);
	assert_true(config_server_allowed(f->c, id));
}

static void a_mark_at_the_beginning_hides_no_section(void **state)
{
	struct fixture *f = *state;
	uint8_t id[NOLOG_SERVER_SIZE];

	assert_int_equal(nolog_server_parse(id, "de-1"), 0);
	assert_int_equal(read_text(f, "\xef\xbb\xbf[servers]\nnl-1 =\n"), 0);
	assert_false(config_server_allowed(f->c, id));
	assert_int_equal(f->c->server_count, 1);
	assert_int_equal(read_text(f, "\xef\xbb\xbf[servers]\n"), 0);
	assert_false(config_server_allowed(f->c, id));
	refused(f, "\xef\xbb\xbf[sevrers]\n", "1", "[sevrers]|no such section");
	refused(f, "[store]\n\xef\xbb\xbf[servers]\n", "2", "key = value");
}

static void nothing_may_follow_a_section_on_its_line(void **state)
{
	struct fixture *f = *state;

	refused(f, "[store] path = /x\n", "1", "[store]|a line of its own");
	refused(f, "[servers] nl-1 =\n", "1", "[servers]");
	refused(f, "[store]x\n", "1", "[store]");
	refused(f, "[store]]\n", "1", "[store]");
	assert_int_equal(read_text(f, "[store] \t\r\npath = /x\n[usage] ; a\n[clock]# b\n"),
			 -EINVAL);
	assert_int_equal(read_text(f, "[store] \t\r\npath = /x\n[usage] ; a\n[clock] # b\n"), 0);
	assert_string_equal(f->c->state, "/x");
}

static void comments_and_indented_lines(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_text(f, "    # one\n\t; two\n  [store]   # three\n"
				      "    path = /a#b;c # four\n"
				      "\t  retention-days = 7 ; five # six\n"
				      "    [servers]\n"
				      "    nl-1 = 203.0.113.7   # seven\n"
				      "    de-1 = # eight\n"
				      "    [sessions]\n"
				      "    allow = 10.8.0.0/16\n"
				      "    max-silence = 30min#nine\n"),
			 -EINVAL);
	assert_non_null(strstr(f->error, ":11: "));
	assert_int_equal(read_text(f, "    # one\n\t; two\n  [store]   # three\n"
				      "    path = /a#b;c # four\n"
				      "\t  retention-days = 7 ; five # six\n"
				      "    [servers]\n"
				      "    nl-1 = 203.0.113.7   # seven\n"
				      "    de-1 = # eight\n"
				      "    [sessions]\n"
				      "    allow = 10.8.0.0/16\n"
				      "    max-silence = 30min\n"),
			 0);
	assert_string_equal(f->c->state, "/a#b;c");
	assert_int_equal(f->c->retention_days, 7);
	assert_int_equal(f->c->server_count, 2);
	assert_int_equal(f->c->exit_count, 1);
	assert_int_equal(f->c->allow_count, 1);
	assert_int_equal(f->c->max_silence_ms, 30 * 60000);
}

static void paths_that_no_line_can_hold_are_refused(void **state)
{
	struct fixture *f = *state;
	char longest[200];
	const char *bad[] = { "relative", "",	   "/a ",    "/a\t",   "/a ;b",
			      "/a #b",	  "/a\nb", "/a\x01", "/a\x7f", longest };

	memset(longest, 'a', sizeof(longest) - 1);
	longest[0] = '/';
	longest[198 - strlen("path = ") + 1] = 0;
	assert_int_equal(read_text(f, ""), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config_free(f->c);
		f->c = NULL;
		assert_int_equal(config_read(&f->c, f->path, false, bad[i], NULL, f->error,
					     sizeof(f->error)),
				 -EINVAL);
		assert_non_null(strstr(f->error, "--state "));
		assert_non_null(strstr(f->error,
				       bad[i] == longest ? "...: too long; " : ": not allowed; "));
	}
	assert_int_equal(
		config_read(&f->c, f->path, false, NULL, "/a #b", f->error, sizeof(f->error)),
		-EINVAL);
	assert_non_null(strstr(f->error, "--run /a #b: not allowed"));
	longest[strlen(longest) - 1] = 0;
	assert_int_equal(
		config_read(&f->c, f->path, false, longest, NULL, f->error, sizeof(f->error)), 0);
	refused(f, "[store]\npath = /a\x01b\n", "2", "path|not allowed");
	refused(f, "[store]\nkeyring = /a\tb\n", "2", "keyring|not allowed");
	refused(f, "[store]\nuser = a\tb\n", "2", "user|not allowed");
}

static void users_and_groups_that_are_none_are_named_with_their_line(void **state)
{
	struct fixture *f = *state;
	char expected[256];

	assert_int_equal(read_text(f, "[store]\nuser = root\n[sockets]\nusage-group = root\n"), 0);
	assert_int_equal(config_check_names(f->c, f->path, f->error, sizeof(f->error)), 0);
	assert_int_equal(read_text(f, "[store]\n\nuser = no-such-user-here\n"), 0);
	assert_int_equal(config_check_names(f->c, f->path, f->error, sizeof(f->error)), -EINVAL);
	(void)snprintf(expected, sizeof(expected),
		       "%s:3: [store] user = no-such-user-here: no such user", f->path);
	assert_string_equal(f->error, expected);
	assert_int_equal(read_text(f, "[sockets]\nlookup-group = no-such-group-here\n"), 0);
	assert_int_equal(config_check_names(f->c, f->path, f->error, sizeof(f->error)), -EINVAL);
	assert_non_null(
		strstr(f->error, ":2: [sockets] lookup-group = no-such-group-here: no such group"));
}

static void a_directory_is_no_configuration(void **state)
{
	struct fixture *f = *state;
	char expected[128];

	assert_int_equal(config_read(&f->c, f->dir, false, NULL, NULL, f->error, sizeof(f->error)),
			 -EINVAL);
	(void)snprintf(expected, sizeof(expected), "%s: cannot be read: Is a directory", f->dir);
	assert_string_equal(f->error, expected);
}

static void repeated_allow_adds(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		read_text(f, "[sessions]\nallow = 10.8.0.0/16, fd00::/8\nallow = 10.9.0.1\n"), 0);
	assert_int_equal(f->c->allow_count, 3);
	assert_int_equal(f->c->allow[0].length, 112);
	assert_int_equal(f->c->allow[1].length, 8);
	assert_int_equal(f->c->allow[2].length, 128);
}

static char *printed(const struct config *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	assert_non_null(to);
	assert_int_equal(config_print(c, to), 0);
	assert_int_equal(fclose(to), 0);
	return text;
}

static void what_is_printed_reads_back_to_the_same(void **state)
{
	struct fixture *f = *state;
	char *first, *again;

	assert_int_equal(read_text(f, "[store]\npath = /s\nretention-days = 7\n"
				      "[sockets]\nlookup-group = abuse\n"
				      "[servers]\na = 203.0.113.7,203.0.113.9\nb =\n"
				      "[sessions]\nallow = 0.0.0.0/0, ::/0\nmax-silence = 90min\n"
				      "[usage]\ntick = 50ms\n[clock]\ntrust = always\n"
				      "[limits]\nmemory = 3M\nrecords = 5\n"),
			 0);
	first = printed(f->c);
	assert_int_equal(read_text(f, first), 0);
	again = printed(f->c);
	assert_string_equal(first, again);
	assert_int_equal(f->c->memory, 3 << 20);
	assert_int_equal(f->c->max_silence_ms, 90 * 60000);
	free(first);
	free(again);
}

static void a_keyring_is_printed_only_when_it_was_named(void **state)
{
	struct fixture *f = *state;
	char *text;

	assert_int_equal(read_text(f, "[store]\npath = /s\n"), 0);
	text = printed(f->c);
	assert_null(strstr(text, "keyring"));
	free(text);
	assert_int_equal(read_text(f, "[store]\npath = /s\nkeyring = /k\n"), 0);
	text = printed(f->c);
	assert_non_null(strstr(text, "keyring = /k\n"));
	free(text);
}

static void what_cannot_change_is_named(void **state)
{
	struct fixture *f = *state;
	struct config *before;

	assert_int_equal(read_text(f, "[store]\nretention-days = 7\n"), 0);
	before = f->c;
	f->c = NULL;
	assert_int_equal(read_text(f, "[store]\nretention-days = 8\n"), 0);
	assert_string_equal(config_fixed_difference(before, f->c), "retention-days");
	assert_int_equal(read_text(f, "[store]\nretention-days = 7\n[usage]\ntick = 1s\n"), 0);
	assert_null(config_fixed_difference(before, f->c));
	config_free(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(an_absent_file_may_be_empty_unless_named),
		T(the_command_line_wins),
		T(ninety_days_are_the_most),
		T(unknown_things_are_named),
		T(values_out_of_range_are_named),
		T(a_line_that_would_be_cut_is_refused),
		T(the_longest_line_is_taken_whole),
		T(servers_and_their_exits),
		T(an_empty_servers_section_allows_none),
		T(a_mark_at_the_beginning_hides_no_section),
		T(nothing_may_follow_a_section_on_its_line),
		T(comments_and_indented_lines),
		T(paths_that_no_line_can_hold_are_refused),
		T(users_and_groups_that_are_none_are_named_with_their_line),
		T(a_directory_is_no_configuration),
		T(repeated_allow_adds),
		T(what_is_printed_reads_back_to_the_same),
		T(a_keyring_is_printed_only_when_it_was_named),
		T(what_cannot_change_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
