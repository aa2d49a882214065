/* SPDX-License-Identifier: ISC */
/*
 * childtest: a part of a test in a process of its own, for what a process does
 * once or cannot undo: mounts, limits, users, crashes.  What fails in the child
 * ends there, and fails the test.
 */
#ifndef CHILDTEST_H
#define CHILDTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHILD_SKIP 77

/* The wait status of fn(arg); when fn returns the child exits with 0, or 1 if an assertion failed. */
static inline int child_status(void (*fn)(void **), void *arg)
{
	const struct CMUnitTest test = { "in a child", fn, NULL, NULL, arg };
	int status, null;
	pid_t child;

	(void)fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (null < 0 || dup2(null, STDOUT_FILENO) < 0)
			_exit(1);
		_exit(_cmocka_run_group_tests("in a child", &test, 1, NULL, NULL) != 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

/* It has to return, or to _exit(CHILD_SKIP). */
static inline void child_run(void (*fn)(void **), void *arg)
{
	int status = child_status(fn, arg);

	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == CHILD_SKIP)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#endif
