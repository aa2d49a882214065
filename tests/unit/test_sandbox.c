/* SPDX-License-Identifier: ISC */
/* sandbox: what was given up is gone, for every thread; what is needed still works. */
#include "sandbox.h"

#include "childtest.h"
#include "journal.h"
#include "keyring.h"
#include "seal.h"

#include <errno.h>
#include <ftw.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define SOMEBODY 54321

/* --- Hardening and dropping --- */

static void hardened(void **state)
{
	struct rlimit limit;

	(void)state;
	assert_int_equal(sandbox_harden(), 0);
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
	assert_int_equal(limit.rlim_max, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(limit.rlim_cur, limit.rlim_max);
}

static void expect_no_capability(bool bounding)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[2] = { 0 };

	assert_int_equal(syscall(SYS_capget, &header, have), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(have[i].effective | have[i].permitted | have[i].inheritable, 0);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		assert_int_not_equal(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0), 1);
		if (bounding)
			assert_int_equal(prctl(PR_CAPBSET_READ, cap), 0);
	}
}

static void dropped_in_place(void **state)
{
	bool root = geteuid() == 0 && prctl(PR_CAPBSET_READ, 8 /* CAP_SETPCAP */) == 1;

	(void)state;
	assert_int_equal(sandbox_harden(), 0);
	assert_int_equal(sandbox_drop(geteuid(), getegid()), 0);
	expect_no_capability(root);
	assert_int_equal(sandbox_drop(geteuid(), getegid()), 0); /* once more does no harm */
}

static void dropped_to_somebody(void **state)
{
	uid_t u[3];
	gid_t g[3];

	(void)state;
	assert_int_equal(sandbox_harden(), 0);
	if (sandbox_drop(SOMEBODY, SOMEBODY) == -EPERM)
		_exit(CHILD_SKIP); /* root in name only */
	expect_no_capability(true);
	assert_int_equal(getresuid(&u[0], &u[1], &u[2]), 0);
	assert_int_equal(getresgid(&g[0], &g[1], &g[2]), 0);
	for (int i = 0; i < 3; i++)
		assert_true(u[i] == SOMEBODY && g[i] == SOMEBODY);
	assert_int_equal(getgroups(0, NULL), 0);
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	assert_int_equal(setuid(0), -1);
	assert_int_equal(setgid(0), -1);
	assert_int_equal(sandbox_drop(0, 0), -EPERM);
}

static void a_hardened_process_leaves_no_core_and_gains_nothing(void **state)
{
	(void)state;
	child_run(hardened, NULL);
}

static void after_dropping_there_is_no_capability(void **state)
{
	(void)state;
	child_run(dropped_in_place, NULL);
}

static void dropping_to_a_user_is_for_good(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	child_run(dropped_to_somebody, NULL);
}

/* --- The list of system calls --- */

static void enter(void)
{
	assert_int_equal(sandbox_harden(), 0);
	assert_int_equal(sandbox_drop(geteuid(), getegid()), 0);
	assert_int_equal(sandbox_enter(), 0);
}

static void makes_a_socket(void **state)
{
	(void)state;
	enter();
	(void)socket(AF_UNIX, SOCK_STREAM, 0);
}

static void executes(void **state)
{
	char *argv[] = { NULL };

	(void)state;
	enter();
	(void)execve("/bin/true", argv, argv);
}

static void traces(void **state)
{
	(void)state;
	enter();
	(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static void asks_who_is_there(void **state)
{
	(void)state;
	enter();
	(void)syscall(SYS_kill, getpid(), 0);
}

static void *socket_when_rung(void *arg)
{
	const int *bell = arg;
	uint64_t rung;

	if (read(*bell, &rung, sizeof(rung)) == sizeof(rung))
		(void)socket(AF_UNIX, SOCK_STREAM, 0);
	return NULL;
}

static void an_older_thread_makes_a_socket(void **state)
{
	int bell = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, socket_when_rung, &bell), 0);
	enter();
	assert_int_equal(write(bell, &one, sizeof(one)), sizeof(one));
	(void)pthread_join(t, NULL);
}

static void any_other_call_is_death_for_the_process(void **state)
{
	static void (*const deeds[])(void **) = { makes_a_socket, executes, traces,
						  asks_who_is_there,
						  an_older_thread_makes_a_socket };

	(void)state;
	if (SANITIZED)
		skip();
	for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
		int status = child_status(deeds[i], NULL);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
	}
}

struct store {
	char dir[200], ring[256], path[256];
};

static void *touch_memory(void *arg)
{
	size_t size = (size_t)8 << 20;
	char *p = malloc(size);

	if (p)
		memset(p, 1, size);
	free(p);
	return arg;
}

static int take(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	(void)batch;
	(void)effects;
	*(size_t *)arg += n;
	return 0;
}

static void commit(struct journal *j, size_t n)
{
	uint8_t(*effects)[EFFECT_SIZE] = calloc(n, EFFECT_SIZE);
	uint64_t batch;

	assert_non_null(effects);
	assert_int_equal(journal_reserve(j, n, NULL), 0);
	assert_int_equal(journal_commit(j, (const uint8_t(*)[EFFECT_SIZE])effects, n, 0, &batch),
			 0);
	free(effects);
}

static void use_files(const struct store *s)
{
	char path[300], to[300];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof(path), "%s/file", s->dir);
	(void)snprintf(to, sizeof(to), "%s/moved", s->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, path, 4), 4);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fdatasync(fd), 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(rename(path, to), 0);
	assert_int_equal(unlink(to), 0);
}

/* What the threads do all day: the log, its keys, files, memory, time, new threads. */
static void works_on(void **state)
{
	const struct store *s = *state;
	struct journal_options o = { .path = s->path,
				     .name = "usage.mdb",
				     .book = KEYRING_USAGE,
				     .map_bytes = (size_t)1 << 30 };
	struct pollfd p = { .fd = -1 };
	struct timespec now;
	struct journal *j;
	size_t n = 0;
	pthread_t t;

	assert_int_equal(keyring_create(&o.keyring, s->ring, 20779, 202611, 1, NULL), 0);
	assert_int_equal(journal_open(&j, &o, NULL), 0);
	assert_int_equal(journal_replay(j, take, &n, NULL), 0);
	enter();
	commit(j, 10);
	assert_int_equal(journal_renew(j, 2), 0);
	commit(j, 83 * 5000); /* so many that its file is opened anew */
	assert_int_equal(keyring_forget_days(o.keyring, 20780, 20780 - 89), 0);
	journal_close(j);
	assert_int_equal(journal_open(&j, &o, NULL), 0);
	assert_int_equal(journal_replay(j, take, &n, NULL), 0);
	assert_int_equal(n, 10 + 83 * 5000);
	use_files(s);
	assert_int_equal(pthread_create(&t, NULL, touch_memory, NULL), 0);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(poll(&p, 1, 1), 0);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	journal_close(j);
	keyring_close(o.keyring);
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void what_the_daemon_does_goes_on(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct store s;

	(void)state;
	assert_int_equal(seal_init(), 0);
	(void)snprintf(s.dir, sizeof(s.dir), "%.150s/sandbox-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(s.dir));
	(void)snprintf(s.ring, sizeof(s.ring), "%s/keyring", s.dir);
	(void)snprintf(s.path, sizeof(s.path), "%s/usage.mdb", s.dir);
	child_run(works_on, &s);
	assert_int_equal(nftw(s.dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hardened_process_leaves_no_core_and_gains_nothing),
		cmocka_unit_test(after_dropping_there_is_no_capability),
		cmocka_unit_test(dropping_to_a_user_is_for_good),
		cmocka_unit_test(any_other_call_is_death_for_the_process),
		cmocka_unit_test(what_the_daemon_does_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
