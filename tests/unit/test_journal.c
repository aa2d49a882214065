/* SPDX-License-Identifier: ISC */
/*
 * journal: what was committed comes back, in order, whatever happened; what
 * was cut does not, and takes its key with it; damage is reported, never met.
 */
#include "journal.h"

#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MAP ((size_t)1 << 30)
#define NOW INT64_C(1795340000000)

struct fixture {
	char dir[200], ring[256], path[256];
	struct keyring *keyring;
	struct journal *journal;
};

/* --- Effects: told by their batch and place alone --- */

static uint64_t mix(uint64_t z)
{
	z += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void effect_of(uint8_t out[EFFECT_SIZE], uint64_t batch, size_t i)
{
	for (unsigned w = 0; w < EFFECT_SIZE / 8; w++)
		nolog_put64(out + (size_t)w * 8, mix(batch * 6700417 + i * 8 + w));
}

static size_t count_of(uint64_t batch)
{
	return (size_t)(1 + mix(batch) % 300);
}

static uint8_t (*batch_of(uint64_t batch, size_t n))[EFFECT_SIZE]
{
	uint8_t(*e)[EFFECT_SIZE] = malloc(n ? n * EFFECT_SIZE : 1);

	assert_non_null(e);
	for (size_t i = 0; i < n; i++)
		effect_of(e[i], batch, i);
	return e;
}

/* --- Fixture --- */

static struct journal_options options_of(const struct fixture *f)
{
	return (struct journal_options){ .path = f->path,
					 .name = "sessions.mdb",
					 .book = KEYRING_SESSIONS,
					 .keyring = f->keyring,
					 .map_bytes = MAP,
					 .reserve_bytes = 1 << 16 };
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	assert_non_null(f);
	assert_int_equal(seal_init(), 0);
	(void)snprintf(f->dir, sizeof(f->dir), "%.150s/journal-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->ring, sizeof(f->ring), "%s/keyring", f->dir);
	(void)snprintf(f->path, sizeof(f->path), "%s/sessions.mdb", f->dir);
	assert_int_equal(keyring_create(&f->keyring, f->ring, 20779, 202611, NOW, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {
		"keyring",   "sessions.mdb", "sessions.mdb-lock", "sessions.mdb.new", "copy",
		"copy-lock", "ring"
	};
	struct fixture *f = *state;
	char path[512];

	journal_close(f->journal);
	keyring_close(f->keyring);
	(void)chmod(f->dir, 0700);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* --- Reading it back --- */

struct heard {
	uint64_t batch;	 /* the newest seen */
	size_t in_batch; /* effects of it so far */
	uint64_t effects, hash;
	bool wrong;
	bool jumps; /* the front may be cut off while we read */
	int answer;
	unsigned calls;
};

static int hear(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct heard *h = arg;

	if (batch != h->batch) {
		h->wrong |= batch < h->batch;
		h->batch = batch;
		h->in_batch = 0;
	}
	for (size_t i = 0; i < n; i++) {
		h->hash = mix(h->hash ^ batch);
		for (unsigned w = 0; w < EFFECT_SIZE; w += 8)
			h->hash = mix(h->hash ^ nolog_get64(effects[i] + w));
		h->in_batch++;
	}
	h->effects += n;
	h->calls++;
	return h->answer;
}

/* Where in its batch a block begins that begins with this effect. */
static size_t place_in(uint64_t batch, const uint8_t effect[EFFECT_SIZE])
{
	uint8_t expected[EFFECT_SIZE];
	size_t i;

	for (i = 0; i < 500000; i += 83) {
		effect_of(expected, batch, i);
		if (memcmp(expected, effect, EFFECT_SIZE) == 0)
			break;
	}
	return i;
}

/* Also that each effect is the one that was committed; of the oldest batch the end may do. */
static int hear_exactly(uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n, void *arg)
{
	struct heard *h = arg;
	uint8_t expected[EFFECT_SIZE];

	if (batch != h->batch) {
		size_t from = h->batch == 0 || h->jumps ? place_in(batch, effects[0]) : 0;

		(void)hear(batch, effects, 0, h);
		h->in_batch = from;
	} else if (h->jumps) {
		h->in_batch = place_in(batch, effects[0]);
	}
	for (size_t i = 0; i < n; i++) {
		effect_of(expected, batch, h->in_batch + i);
		h->wrong |= memcmp(expected, effects[i], EFFECT_SIZE) != 0;
	}
	return hear(batch, effects, n, h);
}

static void reopen(struct fixture *f, struct heard *h)
{
	struct journal_options o = options_of(f);
	struct fault fault = { 0 };

	journal_close(f->journal);
	f->journal = NULL;
	memset(h, 0, sizeof(*h));
	assert_int_equal(journal_open(&f->journal, &o, &fault), 0);
	assert_int_equal(journal_replay(f->journal, hear_exactly, h, &fault), 0);
	assert_false(h->wrong);
	assert_int_equal(h->effects, journal_effects(f->journal));
}

static uint64_t commit(struct fixture *f, size_t n, uint64_t cut)
{
	uint64_t next = journal_last(f->journal) + 1, batch = 0;
	uint8_t(*e)[EFFECT_SIZE] = batch_of(next, n);
	struct fault fault = { 0 };

	assert_int_equal(journal_reserve(f->journal, n, &fault), 0);
	assert_int_equal(
		journal_commit(f->journal, (const uint8_t(*)[EFFECT_SIZE])e, n, cut, &batch), 0);
	free(e);
	return batch;
}

static off_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static uint8_t *contents_of(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	uint8_t *p;

	assert_true(fd >= 0);
	*size = (size_t)size_of(path);
	p = malloc(*size);
	assert_non_null(p);
	assert_int_equal(pread(fd, p, *size, 0), *size);
	assert_int_equal(close(fd), 0);
	return p;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	assert_int_equal(close(fd), 0);
}

static void epochs(const struct fixture *f, uint32_t *now, uint32_t *old)
{
	struct keyring_journal info;

	keyring_journal_info(f->keyring, KEYRING_SESSIONS, &info);
	*now = info.epoch;
	*old = info.old_epoch;
}

/* --- Committing and reading --- */

static void what_was_committed_comes_back_in_order_after_reopening(void **state)
{
	static const size_t sizes[] = { 1, 40, 41, 42, 82, 83, 84, 166, 167, 1000, 16384, 1 };
	struct fixture *f = *state;
	struct heard h;
	uint64_t total = 0;

	reopen(f, &h);
	assert_int_equal(journal_first(f->journal), 0);
	assert_int_equal(journal_last(f->journal), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(commit(f, sizes[i], 0), i + 1);
		total += sizes[i];
		assert_int_equal(journal_effects(f->journal), total);
		if (i % 3 == 0)
			reopen(f, &h);
	}
	reopen(f, &h);
	assert_int_equal(h.effects, total);
	assert_int_equal(h.batch, sizeof(sizes) / sizeof(sizes[0]));
	assert_int_equal(journal_first(f->journal), 1);
	assert_int_equal(journal_last(f->journal), h.batch);
}

static void the_file_is_its_owners_alone_and_no_other_is_left(void **state)
{
	struct fixture *f = *state;
	char made[300];
	struct heard h;
	struct stat st;

	(void)snprintf(made, sizeof(made), "%s.new", f->path);
	write_file(made, "left by a crash", 15);
	reopen(f, &h);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(made, F_OK), -1);
	(void)snprintf(made, sizeof(made), "%s-lock", f->path);
	assert_int_equal(stat(made, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(st.st_blocks > 0); /* written through a mapping: it needs its space */
}

static void a_commit_of_nothing_writes_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t *before, *after;
	size_t size, again;
	struct heard h;

	reopen(f, &h);
	assert_int_equal(commit(f, 0, 0), 0);
	(void)commit(f, 100, 0);
	before = contents_of(f->path, &size);
	assert_int_equal(commit(f, 0, 0), 1);
	assert_int_equal(commit(f, 0, 1), 1);
	assert_int_equal(commit(f, 0, 1000), 1); /* the newest stays */
	after = contents_of(f->path, &again);
	assert_int_equal(size, again);
	assert_memory_equal(before, after, size);
	free(before);
	free(after);
	reopen(f, &h);
	assert_int_equal(h.effects, 100);
}

static void a_batch_of_too_many_effects_is_refused_and_nothing_happens(void **state)
{
	struct fixture *f = *state;
	uint64_t batch = 7;
	struct heard h;

	reopen(f, &h);
	assert_int_equal(journal_commit(f->journal, NULL, JOURNAL_BATCH_MAX + 1, 0, &batch),
			 -E2BIG);
	assert_int_equal(batch, 7);
	assert_int_equal(commit(f, 3, 0), 1);
}

static void a_callback_that_stops_is_handed_back(void **state)
{
	static const int answers[] = { 1, 42, -EINTR };
	struct fixture *f = *state;
	struct journal_options o = options_of(f);
	struct heard h;

	reopen(f, &h);
	(void)commit(f, 1000, 0);
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		memset(&h, 0, sizeof(h));
		h.answer = answers[i];
		journal_close(f->journal);
		f->journal = NULL;
		assert_int_equal(journal_open(&f->journal, &o, NULL), 0);
		assert_int_equal(journal_replay(f->journal, hear, &h, NULL), answers[i]);
		assert_int_equal(h.calls, 1);
	}
}

/* --- Cutting and keys --- */

static void cutting_is_bounded_and_goes_on_until_it_is_done(void **state)
{
	struct fixture *f = *state;
	unsigned commits = 0;
	struct heard h;

	reopen(f, &h);
	(void)commit(f, (size_t)83 * 1000, 0);
	for (int i = 0; i < 3; i++)
		(void)commit(f, 10, 0);
	while (journal_first(f->journal) < 3) {
		assert_int_equal(commit(f, 0, 3), 4);
		commits++;
		reopen(f, &h); /* also half-way through a batch */
	}
	assert_int_equal(commits, 4); /* 1,001 blocks, 256 at a time */
	assert_int_equal(journal_first(f->journal), 3);
	assert_int_equal(h.effects, 20);
}

static void numbers_go_on_when_all_but_the_newest_is_cut(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	for (uint64_t i = 1; i <= 10; i++)
		assert_int_equal(commit(f, 5, i + 100), i);
	assert_int_equal(journal_first(f->journal), 10);
	reopen(f, &h);
	assert_int_equal(journal_first(f->journal), 10);
	assert_int_equal(journal_last(f->journal), 10);
	assert_int_equal(h.effects, 5);
	assert_int_equal(commit(f, 5, 11), 11);
}

static void the_old_key_is_destroyed_only_when_the_cut_has_passed_it(void **state)
{
	struct fixture *f = *state;
	uint32_t now, old;
	struct heard h;

	reopen(f, &h);
	for (int i = 0; i < 6; i++)
		(void)commit(f, 200, 0);
	assert_false(journal_old_key(f->journal));
	assert_int_equal(journal_oldest_key_ms(f->journal), NOW);
	assert_int_equal(journal_renew(f->journal, NOW + 1000), 0);
	assert_int_equal(journal_renew(f->journal, NOW + 2000), -EBUSY);
	assert_true(journal_old_key(f->journal));
	for (uint64_t cut = 1; cut <= 6; cut++) {
		(void)commit(f, 50, cut);
		assert_true(journal_old_key(f->journal));
		assert_int_equal(journal_oldest_key_ms(f->journal), NOW);
		if (cut % 2)
			reopen(f, &h); /* does not forget which batch it waits for */
	}
	(void)commit(f, 50, 7);
	assert_false(journal_old_key(f->journal));
	assert_int_equal(journal_oldest_key_ms(f->journal), NOW + 1000);
	epochs(f, &now, &old);
	assert_int_equal(now, 2);
	assert_int_equal(old, 0);
	reopen(f, &h);
	assert_int_equal(journal_first(f->journal), 7);
	assert_int_equal(journal_renew(f->journal, NOW + 3000), 0);
}

static void an_empty_journal_needs_no_old_key(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	assert_int_equal(journal_renew(f->journal, NOW + 1000), 0);
	assert_false(journal_old_key(f->journal));
	/* and one that was left behind by a crash goes when it is opened */
	assert_int_equal(keyring_journal_renew(f->keyring, KEYRING_SESSIONS, NOW + 2000), 0);
	reopen(f, &h);
	assert_false(journal_old_key(f->journal));
}

static void an_old_key_that_no_block_needs_is_destroyed_after_replay(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	(void)commit(f, 10, 0);
	assert_int_equal(journal_renew(f->journal, NOW + 1000), 0);
	reopen(f, &h);
	assert_true(journal_old_key(f->journal));
	(void)commit(f, 10, 0);
	(void)commit(f, 10, 2);
	assert_false(journal_old_key(f->journal));
}

static void an_idle_journal_lets_go_of_its_old_key(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	assert_int_equal(commit(f, 10, 0), 1);
	for (uint64_t hour = 1; hour <= 5; hour++) {
		assert_int_equal(journal_renew(f->journal, NOW + (int64_t)hour * 3600000), 0);
		if (hour % 2)
			reopen(f, &h);
		assert_int_equal(commit(f, 0, hour), hour + 1); /* an empty batch in its place */
		assert_true(journal_old_key(f->journal));
		assert_int_equal(commit(f, 0, hour + 1), hour + 1);
		assert_false(journal_old_key(f->journal));
		assert_int_equal(journal_effects(f->journal), 0);
	}
	reopen(f, &h);
	assert_int_equal(journal_first(f->journal), 6);
	assert_int_equal(commit(f, 3, 0), 7);
}

static void a_key_that_somebody_else_renewed_is_used(void **state)
{
	struct fixture *f = *state;
	uint32_t now, old;
	struct heard h;

	reopen(f, &h);
	(void)commit(f, 10, 0);
	assert_int_equal(keyring_journal_renew(f->keyring, KEYRING_SESSIONS, NOW + 5), 0);
	journal_epoch_changed(f->journal);
	(void)commit(f, 10, 2);
	assert_false(journal_old_key(f->journal));
	epochs(f, &now, &old);
	assert_int_equal(now, 2);
	reopen(f, &h);
	assert_int_equal(h.effects, 10);
}

/* --- Size and space --- */

static void the_file_keeps_its_size_over_thousands_of_commits(void **state)
{
	struct fixture *f = *state;
	uint64_t settled = 0, old = 0;
	struct heard h;

	reopen(f, &h);
	for (uint64_t i = 1; i <= 2000; i++) {
		(void)commit(f, count_of(i), i > 50 ? i - 50 : 0);
		if (!old && i % 97 == 0 && !journal_old_key(f->journal))
			assert_int_equal(journal_renew(f->journal, NOW + (int64_t)i), 0);
		if (i == 500)
			settled = journal_bytes(f->journal);
	}
	assert_in_range(journal_bytes(f->journal), 1, settled + settled / 4);
	assert_in_range(journal_effects(f->journal), 1, 51 * 300);
	reopen(f, &h);
	assert_int_equal(journal_last(f->journal) - journal_first(f->journal), 50);
}

static void no_commit_needs_more_than_was_reserved(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	for (uint64_t i = 1; i <= 400; i++) {
		uint64_t random = mix(i), last = journal_last(f->journal);
		size_t n = random % 20 == 0 ? random % 200000 : random % 3000;
		off_t reserved;
		struct fault fault = { 0 };

		if (random % 50 == 7)
			n = 0;
		assert_int_equal(journal_reserve(f->journal, n, &fault), 0);
		reserved = size_of(f->path);
		(void)commit(f, n, i % 3 == 0 && last > random % 9 ? last - random % 9 : 0);
		assert_in_range(journal_bytes(f->journal), 1, reserved);
		assert_int_equal(size_of(f->path), reserved);
		if (i % 150 == 0)
			reopen(f, &h);
	}
	reopen(f, &h);
}

static void a_full_map_is_no_space_and_says_so(void **state)
{
	struct fixture *f = *state;
	struct journal_options o = options_of(f);
	struct fault fault = { 0 };
	struct heard h = { 0 };
	unsigned commits = 0;
	int r;

	o.map_bytes = (size_t)4 << 20;
	assert_int_equal(journal_open(&f->journal, &o, &fault), 0);
	assert_int_equal(journal_replay(f->journal, hear, &h, &fault), 0);
	while ((r = journal_reserve(f->journal, 1000, &fault)) == 0 && commits < 1000) {
		(void)commit(f, 1000, 0);
		commits++;
	}
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(fault.what, "largest"));
	assert_in_range(commits, 10, 999);
	(void)commit(f, 0, commits);
	reopen(f, &h); /* still what it was */
	assert_int_equal(journal_last(f->journal), commits);
}

static void put_line(const char *path, const char *line)
{
	int fd = open(path, O_WRONLY);

	if (fd >= 0 && write(fd, line, strlen(line)) < 0)
		(void)line; /* then the mount will fail, and tell */
	if (fd >= 0)
		(void)close(fd);
}

/* A mount namespace of our own: as root, or as root of a user namespace. */
static bool own_mounts(void)
{
	char map[64];
	unsigned uid = getuid(), gid = getgid();

	if (unshare(CLONE_NEWNS) == 0)
		return true;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	put_line("/proc/self/setgroups", "deny");
	(void)snprintf(map, sizeof(map), "0 %u 1", uid);
	put_line("/proc/self/uid_map", map);
	(void)snprintf(map, sizeof(map), "0 %u 1", gid);
	put_line("/proc/self/gid_map", map);
	return true;
}

/* In a file system of 3 MiB.  0: held, 77: not permitted to make one here. */
static int on_a_small_disk(struct fixture *f)
{
	struct journal_options o;
	struct fault fault = { 0 };
	struct heard h = { 0 };
	unsigned commits = 0, again = 0;
	int r;

	if (!own_mounts())
		return 77;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", f->dir, "tmpfs", 0, "size=3m") < 0)
		return 77;
	if (keyring_create(&f->keyring, f->ring, 20779, 202611, NOW, NULL) < 0)
		return 1;
	o = options_of(f);
	o.reserve_bytes = 0; /* 4 MiB: more than there is, and yet some commits must pass */
	if (journal_open(&f->journal, &o, &fault) < 0 ||
	    journal_replay(f->journal, hear, &h, &fault) < 0)
		return 2;
	while ((r = journal_reserve(f->journal, 500, &fault)) == 0 && commits < 1000) {
		(void)commit(f, 500, 0);
		commits++;
	}
	if (r != -ENOSPC || fault.error != -ENOSPC || commits < 20)
		return 3;
	while (journal_reserve(f->journal, 0, &fault) == 0 && again++ < 100)
		(void)commit(f, 0, commits);
	journal_close(f->journal);
	f->journal = NULL;
	memset(&h, 0, sizeof(h));
	if (journal_open(&f->journal, &o, &fault) < 0 ||
	    journal_replay(f->journal, hear_exactly, &h, &fault) < 0 || h.wrong ||
	    h.batch != commits)
		return 4;
	return 0;
}

static void a_full_disk_is_told_before_a_commit_and_harms_nothing(void **state)
{
	struct fixture *f = *state;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(on_a_small_disk(f));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* --- Crashes --- */

static void commit_until_killed(struct fixture *f, int pipe_fd)
{
	struct heard h;

	assert_int_equal(keyring_open(&f->keyring, f->ring, NULL), 0);
	reopen(f, &h);
	for (int i = 1;; i++) {
		uint64_t next = journal_last(f->journal) + 1, batch;

		if (i % 40 == 0 && !journal_old_key(f->journal))
			assert_int_equal(journal_renew(f->journal, NOW), 0);
		batch = commit(f, count_of(next), next > 20 ? next - 20 : 0);
		if (write(pipe_fd, &batch, sizeof(batch)) != sizeof(batch))
			_exit(0);
	}
}

/* Kills the child after some reports, at no particular point; the last batch it reported. */
static uint64_t kill_at_random(struct fixture *f, uint64_t seed)
{
	uint64_t reported = 0, more;
	volatile unsigned spin = (unsigned)(mix(seed) % 400000);
	unsigned reports = (unsigned)(mix(seed ^ 1) % 30);
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(fds[0]);
		commit_until_killed(f, fds[1]);
	}
	assert_int_equal(close(fds[1]), 0);
	for (unsigned i = 0; i < reports; i++)
		assert_int_equal(read(fds[0], &reported, sizeof(reported)), sizeof(reported));
	while (spin > 0)
		spin--;
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	while (read(fds[0], &more, sizeof(more)) == sizeof(more))
		reported = more;
	assert_int_equal(close(fds[0]), 0);
	return reported;
}

static void what_was_reported_survives_kill_9_at_any_point(void **state)
{
	struct fixture *f = *state;
	uint64_t known = 0;
	struct heard h;

	keyring_close(f->keyring);
	f->keyring = NULL;
	for (uint64_t round = 0; round < 40; round++) {
		uint64_t reported = kill_at_random(f, round), last;

		if (reported > known)
			known = reported;
		assert_int_equal(keyring_open(&f->keyring, f->ring, NULL), 0);
		reopen(f, &h);
		last = journal_last(f->journal);
		assert_in_range(last, known, known + 1);
		if (known > 21) {
			assert_in_range(journal_first(f->journal), 1, known - 19);
			assert_int_equal(h.batch, last);
		}
		known = commit(f, count_of(last + 1), 0);
		assert_int_equal(known, last + 1);
		journal_close(f->journal);
		keyring_close(f->keyring);
		f->journal = NULL;
		f->keyring = NULL;
	}
}

static void a_batch_of_thousands_of_blocks_is_one_commit(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	(void)commit(f, 10, 0);
	(void)commit(f, 400000, 0); /* 4,820 blocks: LMDB's memory is given back after it */
	assert_int_equal(commit(f, 10, 2), 3);
	reopen(f, &h);
	assert_int_equal(h.effects, 400010);
	assert_int_equal(journal_first(f->journal), 2);
}

/* --- Audits beside a running daemon, and of copies --- */

static int read_only(struct fixture *f, const char *path, struct heard *h, struct fault *fault)
{
	struct journal_options o = options_of(f);
	struct journal *j;
	int r;

	memset(h, 0, sizeof(*h));
	h->jumps = true;
	o.path = path;
	o.readonly = true;
	r = journal_open(&j, &o, fault);
	if (r < 0)
		return r;
	r = journal_replay(j, hear_exactly, h, fault);
	journal_close(j);
	return r;
}

static void commit_under_load(struct fixture *f, int ready, int stop)
{
	struct heard h;
	char byte = 1;

	assert_int_equal(fcntl(stop, F_SETFL, O_NONBLOCK), 0);
	reopen(f, &h);
	(void)commit(f, 300000, 0);
	for (int i = 0; read(stop, &byte, 1) != 0; i++) { /* 0: the other end is closed */
		uint64_t next = journal_last(f->journal) + 1;

		(void)commit(f, 20 + next % 3, next > 300 ? next - 300 : 0);
		if (i == 10)
			assert_int_equal(write(ready, &byte, 1), 1);
	}
	_exit(0);
}

static void a_journal_in_use_can_be_audited(void **state)
{
	struct fixture *f = *state;
	struct fault fault = { 0 };
	int ready[2], stop[2], status;
	struct heard h = { 0 };
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(stop[1]);
		commit_under_load(f, ready[1], stop[0]);
	}
	assert_int_equal(close(stop[0]), 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	for (int i = 0; i < 30; i++) {
		uint64_t before = h.batch;

		assert_int_equal(read_only(f, f->path, &h, &fault), 0);
		assert_false(h.wrong);
		assert_true(h.effects > 0 && (i == 0 || h.batch >= before));
	}
	assert_int_equal(close(stop[1]), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(close(ready[0]) | close(ready[1]), 0);
}

static void a_copy_in_a_directory_that_cannot_be_written_is_read(void **state)
{
	struct fixture *f = *state;
	struct fault fault = { 0 };
	uint8_t *bytes, *after;
	struct heard h;
	char copy[300], lock[320];
	size_t size, again;

	reopen(f, &h);
	(void)commit(f, 5000, 0);
	bytes = contents_of(f->path, &size);
	(void)snprintf(copy, sizeof(copy), "%s/copy", f->dir);
	(void)snprintf(lock, sizeof(lock), "%s-lock", copy);
	write_file(copy, bytes, size);
	assert_int_equal(chmod(copy, 0400), 0);
	assert_int_equal(chmod(f->dir, 0500), 0);
	assert_int_equal(read_only(f, copy, &h, &fault), 0);
	assert_int_equal(h.effects, 5000);
	assert_int_equal(access(lock, F_OK), -1); /* nothing was made */
	assert_int_equal(chmod(f->dir, 0700), 0);
	write_file(lock, "of another machine", 18); /* copied with the rest */
	assert_int_equal(chmod(lock, 0400), 0);
	assert_int_equal(chmod(f->dir, 0500), 0);
	assert_int_equal(read_only(f, copy, &h, &fault), 0);
	assert_int_equal(h.effects, 5000);
	after = contents_of(copy, &again);
	assert_int_equal(size, again);
	assert_memory_equal(bytes, after, size);
	assert_int_equal(read_only(f, "/nonexistent", &h, &fault), -ENOENT);
	free(bytes);
	free(after);
}

/* --- Damage --- */

/* Changes the file with LMDB's own hand, as a mischief-maker with the library would. */
static void tamper(const char *path, uint64_t take_from, uint64_t put_to, bool remove)
{
	uint8_t copy[4096];
	MDB_val key = { sizeof(take_from), &take_from }, value;
	MDB_txn *txn;
	MDB_env *env;
	MDB_dbi dbi;

	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_set_mapsize(env, MAP), 0);
	assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &dbi), 0);
	assert_int_equal(mdb_get(txn, dbi, &key, &value), 0);
	memcpy(copy, value.mv_data, value.mv_size);
	value.mv_data = copy;
	if (remove)
		assert_int_equal(mdb_del(txn, dbi, &key, NULL), 0);
	key.mv_data = &put_to;
	if (put_to)
		assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

#define BLOCK(batch, index) ((uint64_t)(batch) << 16 | (index))

static void missing_moved_and_repeated_blocks_are_found(void **state)
{
	static const struct {
		uint64_t from, to;
		bool remove;
	} cases[] = {
		{ BLOCK(3, 1), 0, true },	     /* a block inside a batch */
		{ BLOCK(3, 0), 0, true },	     /* its first */
		{ BLOCK(3, 2), 0, true },	     /* its last */
		{ BLOCK(5, 2), 0, true },	     /* the last of all */
		{ BLOCK(3, 1), BLOCK(3, 0), false }, /* one in another's place */
		{ BLOCK(2, 1), BLOCK(3, 1), false },
		{ BLOCK(1, 0), BLOCK(6, 0), true },  /* the oldest as the newest */
		{ BLOCK(5, 2), BLOCK(5, 3), false }, /* one too many */
		{ BLOCK(1, 0), BLOCK(0, 5), true },  /* in batch 0 */
		{ 0, 0, true },			     /* the format's record */
		{ BLOCK(1, 0), 0, false },	     /* nothing: all is well */
	};
	struct fixture *f = *state;
	struct fault fault = { 0 };
	struct heard h;
	uint8_t *bytes;
	char copy[300];
	size_t size;

	reopen(f, &h);
	for (int i = 0; i < 5; i++)
		(void)commit(f, 200, 0);
	bytes = contents_of(f->path, &size);
	(void)snprintf(copy, sizeof(copy), "%s/copy", f->dir);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int expected = i + 1 == sizeof(cases) / sizeof(cases[0]) ? 0 : -EBADMSG;

		write_file(copy, bytes, size);
		tamper(copy, cases[i].from, cases[i].to, cases[i].remove);
		memset(&fault, 0, sizeof(fault));
		assert_int_equal(read_only(f, copy, &h, &fault), expected);
		assert_int_equal(fault.error, expected);
		assert_false(expected && !fault.what);
	}
	free(bytes);
}

static void another_store_another_book_and_another_format_are_told_apart(void **state)
{
	struct fixture *f = *state;
	struct journal_options o;
	struct fault fault = { 0 };
	struct keyring *other;
	struct heard h = { 0 };
	uint8_t record[12];
	char ring[300];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	uint64_t zero = 0;
	MDB_val key = { sizeof(zero), &zero }, value = { sizeof(record), record };

	reopen(f, &h);
	(void)commit(f, 10, 0);
	journal_close(f->journal);
	f->journal = NULL;

	(void)snprintf(ring, sizeof(ring), "%s/ring", f->dir);
	assert_int_equal(keyring_create(&other, ring, 20779, 202611, NOW, NULL), 0);
	o = options_of(f);
	o.keyring = other;
	assert_int_equal(journal_open(&f->journal, &o, &fault), 0); /* also of epoch 1 */
	assert_int_equal(journal_replay(f->journal, hear, &h, &fault), -EBADMSG);
	assert_int_equal(fault.block, BLOCK(1, 0));
	journal_close(f->journal);
	f->journal = NULL;
	keyring_close(other);

	o = options_of(f);
	o.book = KEYRING_USAGE;
	assert_int_equal(journal_open(&f->journal, &o, &fault), -EBADMSG);
	assert_non_null(strstr(fault.what, "book"));

	nolog_put32(record, SEAL_FORMAT + 1);
	nolog_put32(record + 4, ~(uint32_t)(SEAL_FORMAT + 1));
	nolog_put32(record + 8, KEYRING_SESSIONS);
	assert_int_equal(mdb_env_create(&env), 0);
	assert_int_equal(mdb_env_open(env, f->path, MDB_NOSUBDIR | MDB_NOLOCK, 0600), 0);
	assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &dbi), 0);
	assert_int_equal(mdb_put(txn, dbi, &key, &value, 0), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	o = options_of(f);
	assert_int_equal(journal_open(&f->journal, &o, &fault), -EPROTO);
	assert_non_null(strstr(fault.what, "format"));
}

static void a_block_under_an_unknown_key_is_told_when_opening(void **state)
{
	struct fixture *f = *state;
	struct journal_options o;
	struct fault fault = { 0 };
	struct heard h = { 0 };
	uint8_t *ring;
	size_t size;

	ring = contents_of(f->ring, &size);
	reopen(f, &h);
	(void)commit(f, 10, 0);
	assert_int_equal(journal_renew(f->journal, NOW + 1), 0);
	(void)commit(f, 10, 0);
	journal_close(f->journal);
	f->journal = NULL;
	keyring_close(f->keyring);
	write_file(f->ring, ring, size); /* as it was before the renewal */
	free(ring);
	assert_int_equal(keyring_open(&f->keyring, f->ring, NULL), 0);
	o = options_of(f);
	assert_int_equal(journal_open(&f->journal, &o, &fault), -ENOKEY);
	assert_int_equal(fault.block, BLOCK(2, 0));
}

/* What the child that tries changed bits tells the parent, and where it is. */
struct trials {
	volatile size_t at;
	volatile unsigned exact, told, wrong;
};

struct flips {
	struct fixture *f;
	const uint8_t *bytes;
	size_t size, trials;
	struct heard expected;
	struct trials *shared;
};

/* A place to change: the structure of its page as likely as its contents. */
static size_t place_of(const struct flips *s, size_t trial)
{
	uint64_t random = mix(trial / 8);
	size_t page = trial / 8 % (s->size / 4096) * 4096;

	switch (random % 4) {
	case 0:
		return page + random / 4 % 16;
	case 1:
		return page + random / 4 % 192;
	case 2:
		return page + 4096 - 1 - random / 4 % 600;
	default:
		return page + random / 4 % 4096;
	}
}

static void try_one(const struct flips *s, size_t trial, int fd)
{
	struct journal_options o = options_of(s->f);
	size_t at = place_of(s, trial);
	uint8_t changed = (uint8_t)(s->bytes[at] ^ 1u << trial % 8);
	struct fault fault = { 0 };
	struct journal *j = NULL;
	struct heard h = { 0 };
	bool write = trial % 16 == 9;
	int r;

	assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
	o.readonly = !write;
	r = journal_open(&j, &o, &fault);
	if (r == 0)
		r = journal_replay(j, hear, &h, &fault);
	if (r < 0) {
		s->shared->told += 1;
		s->shared->wrong += fault.error != r || !fault.what;
	} else {
		s->shared->exact += 1;
		s->shared->wrong += h.hash != s->expected.hash || h.effects != s->expected.effects;
	}
	if (r == 0 && write) {
		/* what passes can also be written to */
		uint8_t(*e)[EFFECT_SIZE] = batch_of(h.batch + 1, 100);
		uint64_t batch;

		for (int i = 0; i < 3; i++)
			s->shared->wrong += journal_commit(j, (const uint8_t(*)[EFFECT_SIZE])e, 100,
							   h.batch, &batch) != 0;
		free(e);
	}
	journal_close(j);
	if (write) {
		assert_int_equal(pwrite(fd, s->bytes, s->size, 0), s->size);
		assert_int_equal(ftruncate(fd, (off_t)s->size), 0);
	} else {
		assert_int_equal(pwrite(fd, &s->bytes[at], 1, (off_t)at), 1);
	}
}

static void try_changed_bits(struct fixture *f, size_t trials)
{
	struct flips s = { .f = f, .trials = trials };
	int fd, crashes = 0, status;

	reopen(f, &s.expected);
	memset(&s.expected, 0, sizeof(s.expected));
	assert_int_equal(read_only(f, f->path, &s.expected, NULL), 0);
	journal_close(f->journal);
	f->journal = NULL;
	s.bytes = contents_of(f->path, &s.size);
	s.shared = mmap(NULL, sizeof(*s.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	assert_true(s.shared != MAP_FAILED);
	fd = open(f->path, O_RDWR);
	assert_true(fd >= 0);
	while (s.shared->at < trials) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			for (; s.shared->at < trials; s.shared->at += 1) {
				alarm(20); /* a hang ends, too */
				try_one(&s, s.shared->at, fd);
			}
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			break;
		crashes++;
		print_message("bit %zu at %zu: status %#x\n", s.shared->at % 8,
			      place_of(&s, s.shared->at), (unsigned)status);
		assert_int_equal(pwrite(fd, s.bytes, s.size, 0), s.size);
		s.shared->at += 1;
	}
	print_message("%zu changed bits: %u reported, %u without effect, %u wrong, %d crashes\n",
		      trials, s.shared->told, s.shared->exact, s.shared->wrong, crashes);
	assert_int_equal(crashes, 0);
	assert_int_equal(s.shared->wrong, 0);
	assert_int_equal(s.shared->told + s.shared->exact, trials);
	assert_in_range(s.shared->told, trials / 4, trials);
	assert_int_equal(close(fd), 0);
	assert_int_equal(munmap(s.shared, sizeof(*s.shared)), 0);
	free((void *)(uintptr_t)s.bytes);
}

static void a_changed_bit_in_a_small_journal_is_reported_or_without_effect(void **state)
{
	struct fixture *f = *state;
	struct journal_options o = options_of(f);
	struct heard h = { 0 };

	o.reserve_bytes = 4096;
	assert_int_equal(journal_open(&f->journal, &o, NULL), 0);
	assert_int_equal(journal_replay(f->journal, hear, &h, NULL), 0);
	for (uint64_t i = 1; i <= 12; i++) {
		uint64_t batch;
		uint8_t(*e)[EFFECT_SIZE] = batch_of(i, 150);

		assert_int_equal(journal_commit(f->journal, (const uint8_t(*)[EFFECT_SIZE])e,
						i % 4 ? 150 : 3, i > 6 ? i - 6 : 0, &batch),
				 0);
		free(e);
	}
	try_changed_bits(f, 6000);
}

static void a_changed_bit_in_a_larger_journal_is_reported_or_without_effect(void **state)
{
	struct fixture *f = *state;
	struct heard h;

	reopen(f, &h);
	for (uint64_t i = 1; i <= 120; i++)
		(void)commit(f, 3 * count_of(i), i > 60 ? i - 60 : 0);
	try_changed_bits(f, 8000);
}

/* --- Speed: printed, not judged --- */

static void commits_of_16384_effects(void **state)
{
	struct fixture *f = *state;
	uint8_t(*e)[EFFECT_SIZE] = batch_of(1, 16384);
	struct timespec from, to;
	struct fault fault;
	uint64_t batch;
	struct heard h;
	double s;

	reopen(f, &h);
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint64_t i = 1; i <= 200; i++) {
		assert_int_equal(journal_reserve(f->journal, 16384, &fault), 0);
		assert_int_equal(journal_commit(f->journal, (const uint8_t(*)[EFFECT_SIZE])e, 16384,
						i > 20 ? i - 20 : 0, &batch),
				 0);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	s = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
	print_message("commits of 16,384 effects: %.2f ms each, %.0f effects/s, file %.1f MB\n",
		      s * 5, 200 * 16384 / s, (double)journal_bytes(f->journal) / 1e6);
	free(e);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_was_committed_comes_back_in_order_after_reopening),
		T(the_file_is_its_owners_alone_and_no_other_is_left),
		T(a_commit_of_nothing_writes_nothing),
		T(a_batch_of_too_many_effects_is_refused_and_nothing_happens),
		T(a_callback_that_stops_is_handed_back),
		T(a_batch_of_thousands_of_blocks_is_one_commit),
		T(cutting_is_bounded_and_goes_on_until_it_is_done),
		T(numbers_go_on_when_all_but_the_newest_is_cut),
		T(the_old_key_is_destroyed_only_when_the_cut_has_passed_it),
		T(an_empty_journal_needs_no_old_key),
		T(an_old_key_that_no_block_needs_is_destroyed_after_replay),
		T(an_idle_journal_lets_go_of_its_old_key),
		T(a_key_that_somebody_else_renewed_is_used),
		T(the_file_keeps_its_size_over_thousands_of_commits),
		T(no_commit_needs_more_than_was_reserved),
		T(a_full_map_is_no_space_and_says_so),
		T(a_full_disk_is_told_before_a_commit_and_harms_nothing),
		T(what_was_reported_survives_kill_9_at_any_point),
		T(a_journal_in_use_can_be_audited),
		T(a_copy_in_a_directory_that_cannot_be_written_is_read),
		T(missing_moved_and_repeated_blocks_are_found),
		T(another_store_another_book_and_another_format_are_told_apart),
		T(a_block_under_an_unknown_key_is_told_when_opening),
		T(a_changed_bit_in_a_small_journal_is_reported_or_without_effect),
		T(a_changed_bit_in_a_larger_journal_is_reported_or_without_effect),
		T(commits_of_16384_effects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
