/* SPDX-License-Identifier: ISC */
/* log: one line a call in one write, with the priority that the service manager wants. */
#include "log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct ear {
	int kept, fd; /* standard error as it was; where we listen */
	char line[4096];
	size_t n;
};

static int setup(void **state)
{
	struct ear *e = calloc(1, sizeof(*e));
	int pair[2];

	assert_non_null(e);
	/* A socket that keeps the writes apart. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	(void)fflush(stderr);
	e->kept = dup(STDERR_FILENO);
	assert_true(e->kept >= 0);
	assert_true(dup2(pair[1], STDERR_FILENO) >= 0);
	close(pair[1]);
	e->fd = pair[0];
	unsetenv("JOURNAL_STREAM");
	log_init();
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct ear *e = *state;

	assert_true(dup2(e->kept, STDERR_FILENO) >= 0);
	close(e->kept);
	close(e->fd);
	free(e);
	return 0;
}

/* What one write brought: exactly one line. */
static const char *hear(struct ear *e)
{
	ssize_t n = recv(e->fd, e->line, sizeof(e->line) - 1, MSG_DONTWAIT);

	assert_true(n > 1);
	e->n = (size_t)n;
	e->line[e->n] = 0;
	assert_int_equal(strlen(e->line), e->n);
	assert_ptr_equal(strchr(e->line, '\n'), e->line + e->n - 1);
	e->line[e->n - 1] = 0;
	return e->line;
}

static void expect_silence(struct ear *e)
{
	assert_int_equal(recv(e->fd, e->line, sizeof(e->line), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void every_message_is_one_line(void **state)
{
	struct ear *e = *state;

	for (int m = 0; m < LOG_MESSAGE_COUNT; m++) {
		const char *line;

		log_say((enum log_message)m, INT64_MIN, INT64_MAX, 20261122);
		line = hear(e);
		assert_memory_equal(line, "nologd: ", 8);
		assert_true(strlen(line) > 12);
		assert_null(strchr(line, '%'));
	}
	expect_silence(e);
}

static void numbers_stand_where_they_belong(void **state)
{
	struct ear *e = *state;

	log_say(LOG_STARTED, 1, 22, 333);
	assert_string_equal(hear(e),
			    "nologd: started: 1 open sessions, 22 accounts, 333 days held");
}

static void under_the_service_manager_a_line_has_its_priority(void **state)
{
	struct ear *e = *state;

	assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
	log_init();
	for (int m = 0; m < LOG_MESSAGE_COUNT; m++) {
		const char *line;

		log_say((enum log_message)m, 1, 2, 3);
		line = hear(e);
		assert_int_equal(line[0], '<');
		assert_in_range(line[1], '0', '7');
		assert_int_equal(line[2], '>');
		assert_int_not_equal(line[3], ' ');
	}
	log_error("%s", "that was typed");
	assert_string_equal(hear(e), "<3>that was typed");
	unsetenv("JOURNAL_STREAM");
	log_init();
	log_say(LOG_READY, 0, 0, 0);
	assert_string_equal(hear(e), "nologd: ready");
}

static void an_over_long_line_is_cut_and_ends(void **state)
{
	struct ear *e = *state;
	char text[5000];

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = 0;
	log_error("%s", text);
	assert_in_range(strlen(hear(e)), 800, 1023);
	expect_silence(e);
}

static void what_was_typed_makes_no_second_line(void **state)
{
	struct ear *e = *state;

	log_error("%s: %s", "/etc/a\nnologd: ready", "\x1b[2J\r\x7f");
	assert_string_equal(hear(e), "nologd: /etc/a?nologd: ready: ?[2J??");
	log_error("%s", "/etc/\xc3\xa4"); /* other alphabets stay */
	assert_string_equal(hear(e), "nologd: /etc/\xc3\xa4");
}

static void a_fault_names_file_and_block(void **state)
{
	struct ear *e = *state;
	struct fault fault = { 0 };

	log_fault(&fault); /* even one that says nothing */
	assert_true(strlen(hear(e)) > 8);
	(void)fault_set(&fault, -EIO, "usage.mdb", 0, "commit failed");
	log_fault(&fault);
	assert_string_equal(hear(e), "nologd: usage.mdb: commit failed (Input/output error)");
	(void)fault_set(&fault, -EBADMSG, "days/2026-11-22.mdb", UINT64_MAX,
			"block that was changed");
	log_fault(&fault);
	assert_string_equal(hear(e),
			    "nologd: days/2026-11-22.mdb: block 18446744073709551615: block "
			    "that was changed (Bad message)");
}

static void a_log_that_cannot_be_written_is_no_reason_to_stop(void **state)
{
	struct ear *e = *state;

	close(e->fd);
	close(STDERR_FILENO);
	log_say(LOG_READY, 0, 0, 0);
	log_error("%s", "nobody hears it");
	e->fd = -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_message_is_one_line),
		TEST(numbers_stand_where_they_belong),
		TEST(under_the_service_manager_a_line_has_its_priority),
		TEST(an_over_long_line_is_cut_and_ends),
		TEST(what_was_typed_makes_no_second_line),
		TEST(a_fault_names_file_and_block),
		TEST(a_log_that_cannot_be_written_is_no_reason_to_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
