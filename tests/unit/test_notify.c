/* SPDX-License-Identifier: ISC */
/*
 * notify: what the service manager says in the environment is heard once, and
 * nothing is passed on.  Each case is a process of its own, as the environment
 * and descriptor 3 are.
 */
#include "notify.h"

#include "childtest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define FIRST 3 /* of the descriptors that are handed over */

static void set(const char *name, const char *value)
{
	assert_int_equal(setenv(name, value, 1), 0);
}

static void set_number(const char *name, long long value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%lld", value);
	set(name, text);
}

static void expect_clean(void)
{
	static const char *const names[] = { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
					     "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_null(getenv(names[i]));
}

/* --- sd_notify --- */

/* The manager's end; name as in NOTIFY_SOCKET. */
static int manager(const char *name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_true(n < sizeof(at.sun_path));
	memcpy(at.sun_path, name, n);
	if (name[0] == '@')
		at.sun_path[0] = 0;
	assert_int_equal(bind(fd, (struct sockaddr *)&at,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)),
			 0);
	set("NOTIFY_SOCKET", name);
	return fd;
}

static void expect_word(int fd, const char *word)
{
	char text[200];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = 0;
	assert_string_equal(text, word);
}

static void abstract_name(char name[64])
{
	(void)snprintf(name, 64, "@nologd-test-notify-%ld", (long)getpid());
}

static void abstract(void **state)
{
	char name[64];
	int fd;

	(void)state;
	abstract_name(name);
	fd = manager(name);
	notify_init();
	expect_clean();
	notify_send("READY=1\nSTATUS=word");
	expect_word(fd, "READY=1\nSTATUS=word");
	notify_send("STOPPING=1");
	expect_word(fd, "STOPPING=1");
	assert_int_equal(notify_watchdog_ms(), 0);
	close(fd);
	notify_send("READY=1"); /* nobody there any more: no reason to stop */
}

static void path(void **state)
{
	const char *tmp = getenv("TMPDIR");
	char name[90];
	int fd;

	(void)state;
	(void)snprintf(name, sizeof(name), "%.50s/notify-%ld", tmp ? tmp : "/tmp", (long)getpid());
	fd = manager(name);
	notify_init();
	notify_send("READY=1");
	expect_word(fd, "READY=1");
	assert_int_equal(unlink(name), 0);
	notify_send("READY=1");
}

static void unusable(void **state)
{
	char name[200];

	(void)state;
	memset(name, 'a', sizeof(name));
	name[sizeof(name) - 1] = 0;
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			name[0] = '/'; /* too long */
		if (i == 2)
			name[1] = 0; /* nothing but the slash */
		if (i == 3)
			name[0] = 0;
		set("NOTIFY_SOCKET", name);
		set("WATCHDOG_USEC", "3000000");
		notify_init();
		notify_send("READY=1");
		assert_int_equal(notify_watchdog_ms(), 0); /* nobody to be told */
		expect_clean();
	}
}

struct dog {
	const char *usec;
	int pid; /* 0: none, 1: ours, 2: another's */
	int64_t ms;
};

static void watchdog(void **state)
{
	const struct dog *dog = *state;
	char name[64];

	abstract_name(name);
	(void)manager(name);
	set("WATCHDOG_USEC", dog->usec);
	if (dog->pid)
		set_number("WATCHDOG_PID", dog->pid == 1 ? getpid() : getppid());
	notify_init();
	assert_int_equal(notify_watchdog_ms(), dog->ms);
	expect_clean();
}

static void a_manager_with_an_abstract_name_is_told(void **state)
{
	(void)state;
	child_run(abstract, NULL);
}

static void a_manager_with_a_path_is_told(void **state)
{
	(void)state;
	child_run(path, NULL);
}

static void a_name_that_cannot_be_used_is_none(void **state)
{
	(void)state;
	child_run(unusable, NULL);
}

static void the_watchdog_is_heard_when_it_means_us(void **state)
{
	struct dog dogs[] = { { "3000000", 0, 3000 },
			      { "3000000", 1, 3000 },
			      { "3000000", 2, 0 },
			      { "soon", 1, 0 },
			      { "-5", 1, 0 },
			      { "", 1, 0 },
			      { "18446744073709551615", 1, INT64_C(18446744073709551) } };

	(void)state;
	for (size_t i = 0; i < sizeof(dogs) / sizeof(dogs[0]); i++)
		child_run(watchdog, &dogs[i]);
}

/* --- sd_listen_fds --- */

struct handed {
	const char *fds, *names; /* NULL: not set */
	const char *pid;	 /* NULL: ours, "": not set */
	int open;		 /* so many are there */
	int result;
	int refuse; /* the callback fails at this one, from 1; 0: never */
	const char *seen;
	/* what the callback makes of it */
	int count;
	char log[64];
};

static int note(int fd, const char *name, void *arg)
{
	struct handed *h = arg;

	assert_int_equal(fd, FIRST + h->count);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	h->count++;
	if (h->count == h->refuse)
		return -ENOTSUP;
	(void)snprintf(h->log + strlen(h->log), sizeof(h->log) - strlen(h->log), "[%s]", name);
	return 0;
}

static void listen_fds(void **state)
{
	struct handed *h = *state;

	for (int fd = FIRST; fd < FIRST + 4; fd++)
		(void)close(fd);
	for (int fd = FIRST; fd < FIRST + h->open; fd++)
		assert_int_equal(socket(AF_UNIX, SOCK_STREAM, 0), fd);
	if (h->fds)
		set("LISTEN_FDS", h->fds);
	if (h->names)
		set("LISTEN_FDNAMES", h->names);
	if (!h->pid)
		set_number("LISTEN_PID", getpid());
	else if (*h->pid)
		set("LISTEN_PID", h->pid);
	assert_int_equal(notify_listen_fds(note, h), h->result);
	assert_string_equal(h->log, h->seen);
	expect_clean();
	assert_int_equal(notify_listen_fds(note, h), 0); /* once only */
}

static void expect_handed(struct handed h)
{
	child_run(listen_fds, &h);
}

static void descriptors_come_with_their_names(void **state)
{
	(void)state;
	expect_handed((struct handed){
		.fds = "2", .names = "a:b", .open = 2, .result = 2, .seen = "[a][b]" });
	expect_handed((struct handed){
		.fds = "3", .names = "a::c", .open = 3, .result = 3, .seen = "[a][][c]" });
}

static void names_may_be_missing(void **state)
{
	(void)state;
	expect_handed((struct handed){ .fds = "2", .open = 2, .result = 2, .seen = "[][]" });
	expect_handed((struct handed){
		.fds = "3", .names = "a", .open = 3, .result = 3, .seen = "[a][][]" });
	expect_handed((struct handed){
		.fds = "1", .names = "a:b", .open = 1, .result = 1, .seen = "[a]" });
}

static void what_is_not_for_us_is_left_alone(void **state)
{
	(void)state;
	expect_handed((struct handed){ .fds = "2", .pid = "1", .open = 2, .seen = "" });
	expect_handed((struct handed){ .fds = "2", .pid = "", .open = 2, .seen = "" });
	expect_handed((struct handed){ .open = 2, .seen = "" });
	expect_handed((struct handed){ .fds = "0", .seen = "" });
}

static void numbers_that_are_none_are_an_error(void **state)
{
	(void)state;
	expect_handed((struct handed){ .fds = "two", .open = 2, .result = -EINVAL, .seen = "" });
	expect_handed((struct handed){ .fds = "", .result = -EINVAL, .seen = "" });
	expect_handed((struct handed){ .fds = "-1", .result = -EINVAL, .seen = "" });
	expect_handed((struct handed){ .fds = "65", .result = -EINVAL, .seen = "" });
	expect_handed((struct handed){
		.fds = "2", .pid = "me", .open = 2, .result = -EINVAL, .seen = "" });
}

static void a_descriptor_that_is_not_there_is_an_error(void **state)
{
	(void)state;
	expect_handed((struct handed){
		.fds = "2", .names = "a:b", .open = 1, .result = -EBADF, .seen = "[a]" });
}

static void what_the_taker_refuses_is_handed_back(void **state)
{
	(void)state;
	expect_handed((struct handed){ .fds = "2",
				       .names = "a:b",
				       .open = 2,
				       .refuse = 2,
				       .result = -ENOTSUP,
				       .seen = "[a]" });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_manager_with_an_abstract_name_is_told),
		cmocka_unit_test(a_manager_with_a_path_is_told),
		cmocka_unit_test(a_name_that_cannot_be_used_is_none),
		cmocka_unit_test(the_watchdog_is_heard_when_it_means_us),
		cmocka_unit_test(descriptors_come_with_their_names),
		cmocka_unit_test(names_may_be_missing),
		cmocka_unit_test(what_is_not_for_us_is_left_alone),
		cmocka_unit_test(numbers_that_are_none_are_an_error),
		cmocka_unit_test(a_descriptor_that_is_not_there_is_an_error),
		cmocka_unit_test(what_the_taker_refuses_is_handed_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
