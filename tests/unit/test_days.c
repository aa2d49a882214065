/* SPDX-License-Identifier: ISC */
/* The days as their users see them: rows in, answers out, nothing after the horizon. */
#include "daykeep.h"
#include "dayoracle.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* In the place of the C library's: a file system may say that its own structures are damaged. */
static atomic_bool unlinking_fails;

int unlinkat(int dir, const char *name, int flags)
{
	if (atomic_load(&unlinking_fails)) {
		errno = EBADMSG;
		return -1;
	}
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

/* --- A running store --- */

struct store {
	struct place place;
	struct days *days;
	struct days_options options;
	pthread_mutex_t lock;
	pthread_cond_t bell;
	struct lookup *answers;
	struct fault fault;
	unsigned faults, progress;
	uint64_t batch;
};

static void on_answer(struct lookup *l, void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->lock);
	l->next = s->answers;
	s->answers = l;
	pthread_cond_broadcast(&s->bell);
	pthread_mutex_unlock(&s->lock);
}

static pthread_mutex_t large = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool large_came;

/* While large is locked, the thread that hands on a large one waits. */
static void on_large_answer(struct lookup *l, void *arg)
{
	bool wait = l->record_count > 1000;

	atomic_store(&large_came, wait || atomic_load(&large_came));
	if (wait)
		(void)pthread_mutex_lock(&large);
	on_answer(l, arg);
	if (wait)
		(void)pthread_mutex_unlock(&large);
}

static void on_progress(void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->lock);
	s->progress++;
	pthread_cond_broadcast(&s->bell);
	pthread_mutex_unlock(&s->lock);
}

static void on_failure(const struct fault *fault, void *arg)
{
	struct store *s = arg;

	pthread_mutex_lock(&s->lock);
	s->fault = *fault;
	s->faults++;
	print_message("reported: %s: %s: %s\n", fault->file, fault->what, strerror(-fault->error));
	pthread_cond_broadcast(&s->bell);
	pthread_mutex_unlock(&s->lock);
}

static void store_init(struct store *s, int32_t today)
{
	memset(s, 0, sizeof(*s));
	place_make(&s->place, today);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->bell, NULL);
	s->options = (struct days_options){
		.dir = s->place.dir,
		.keyring = s->place.keyring,
		.retention_days = 90,
		.today = today,
		.vouched = true,
		.map_bytes = (size_t)1 << 32,
		.rewrite_after_ms = 1000000,
		.events = { on_answer, on_progress, on_failure, s },
	};
}

static void store_start(struct store *s)
{
	struct fault fault = { 0 };
	int r = days_open(&s->days, &s->options, &fault);

	if (r)
		print_message("%d %s %s\n", r, fault.what, fault.file);
	assert_int_equal(r, 0);
	assert_int_equal(days_start(s->days), 0);
}

static void store_stop(struct store *s)
{
	struct fault fault = { 0 };
	int r = days_stop(s->days, &fault);

	if (r)
		print_message("%d %s %s\n", r, fault.what, fault.file);
	assert_int_equal(r, 0);
	s->days = NULL;
}

static void store_end(struct store *s)
{
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->bell);
	place_remove(&s->place);
}

static void store_put(struct store *s, const struct told *t, size_t n)
{
	uint8_t(*effects)[EFFECT_SIZE] = calloc(n + 1, EFFECT_SIZE);

	for (size_t i = 0; i < n; i++)
		whole_make(effects[i], t[i].ip, t[i].server, t[i].start, t[i].end);
	assert_int_equal(days_put(s->days, ++s->batch, (const uint8_t(*)[EFFECT_SIZE])effects, n),
			 0);
	free(effects);
}

static struct lookup *store_answer(struct store *s)
{
	struct lookup *l;

	pthread_mutex_lock(&s->lock);
	while (!s->answers)
		pthread_cond_wait(&s->bell, &s->lock);
	l = s->answers;
	s->answers = l->next;
	pthread_mutex_unlock(&s->lock);
	return l;
}

static struct lookup *store_ask(struct store *s, const uint8_t *ip, unsigned length, int server,
				int64_t from, int64_t to, struct exits *x, size_t limit)
{
	days_ask(s->days, ask_make(ip, length, server, from, to, x, limit));
	return store_answer(s);
}

/* Waits until the callbacks have brought it about. */
static void store_wait_flushed(struct store *s)
{
	days_flush_soon(s->days);
	pthread_mutex_lock(&s->lock);
	while (days_flushed(s->days) < s->batch && s->faults == 0)
		pthread_cond_wait(&s->bell, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void store_advance(struct store *s, int32_t today)
{
	days_advance(s->days, today);
	pthread_mutex_lock(&s->lock);
	while (days_forgotten(s->days) < today && s->faults == 0)
		pthread_cond_wait(&s->bell, &s->lock);
	pthread_mutex_unlock(&s->lock);
	s->options.today = today;
}

static bool has_file(struct store *s, int32_t day)
{
	char name[CALENDAR_NAME_SIZE], path[300];

	assert_int_equal(calendar_name(name, day), 0);
	(void)snprintf(path, sizeof(path), "%s/%s.mdb", s->place.dir, name);
	return access(path, F_OK) == 0;
}

/* --- What each does --- */

static struct told told_make(uint32_t ip, unsigned server, int64_t start, int64_t end)
{
	struct told t = { .server = server, .start = start, .end = end };

	ip4_make(t.ip, ip);
	return t;
}

static void check_one(struct store *s, const struct told *t, int64_t start, int64_t end,
		      unsigned code)
{
	struct lookup *l = store_ask(s, t->ip, 128, -1, t->start, t->end, NULL, 100);

	assert_int_equal(l->code, 0);
	assert_int_equal(l->record_count, 1);
	assert_int_equal(l->records[0].start_ms, start);
	assert_int_equal(l->records[0].end_ms, end);
	assert_int_equal(l->records[0].code, code);
	lookup_free(l);
}

static void row_is_found_before_and_after_it_is_written(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0 + HOUR, T0 + 2 * HOUR);
	struct days_stats stats;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	check_one(&s, &t, t.start, t.end, 0);
	store_wait_flushed(&s);
	assert_int_equal(days_flushed(s.days), 1);
	check_one(&s, &t, t.start, t.end, 0);
	store_put(&s, NULL, 0);
	assert_int_equal(days_flushed(s.days), 2); /* nothing waits */
	store_stop(&s);
	store_start(&s);
	check_one(&s, &t, t.start, t.end, 0);
	days_stats(s.days, &stats);
	assert_int_equal(stats.days_held, 1);
	assert_int_equal(stats.oldest_day, TODAY);
	assert_int_equal(stats.rows, 1);
	store_stop(&s);
	store_end(&s);
}

static void replay_drops_what_the_files_have(void **state)
{
	struct told t[2] = { told_make(0x0a000001, 1, T0 - 26 * HOUR, T0 + HOUR),
			     told_make(0x0a000002, 1, T0, T0) };
	uint8_t effects[2][EFFECT_SIZE];
	struct days_stats stats;
	struct fault fault;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, t, 1);
	store_stop(&s);
	for (int i = 0; i < 2; i++)
		whole_make(effects[i], t[i].ip, t[i].server, t[i].start, t[i].end);
	assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
	assert_int_equal(days_replay(s.days, 1, (const uint8_t(*)[EFFECT_SIZE])effects, 1), 0);
	assert_int_equal(days_flushed(s.days), 1);
	assert_int_equal(days_replay(s.days, 2, (const uint8_t(*)[EFFECT_SIZE])(effects + 1), 1),
			 0);
	assert_int_equal(days_flushed(s.days), 1);
	days_stats(s.days, &stats);
	assert_int_equal(stats.waiting_rows, 1);
	assert_int_equal(stats.rows, 3);
	assert_int_equal(days_start(s.days), 0);
	s.batch = 2;
	check_one(&s, &t[0], t[0].start, t[0].end, 0);
	check_one(&s, &t[1], t[1].start, t[1].end, 0);
	store_stop(&s);
	store_end(&s);
}

static void forgetting_destroys_the_key_and_then_the_file(void **state)
{
	struct told t[3] = { told_make(0x0a000001, 1, T0 - 2 * DAY, T0 - 2 * DAY + HOUR),
			     told_make(0x0a000002, 1, T0 - DAY - HOUR, T0 - DAY + HOUR),
			     told_make(0x0a000003, 1, T0, T0 + HOUR) };
	struct seal_key key;
	struct lookup *l;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	s.options.retention_days = 3;
	store_start(&s);
	store_put(&s, t, 3);
	store_wait_flushed(&s);
	store_put(&s, t, 1); /* waits */
	assert_true(has_file(&s, TODAY - 2));
	assert_true(days_flushed(s.days) < s.batch);
	store_advance(&s, TODAY + 1);
	assert_int_equal(keyring_day(s.place.keyring, TODAY - 2, &key), -ENOKEY);
	assert_false(has_file(&s, TODAY - 2));
	assert_true(has_file(&s, TODAY - 1));
	assert_int_equal(days_flushed(s.days), s.batch);
	l = store_ask(&s, t[0].ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 10);
	assert_int_equal(l->record_count, 0);
	assert_int_equal(l->code, 0);
	lookup_free(l);
	check_one(&s, &t[1], T0 - DAY, t[1].end, 0); /* cut, and whole */
	store_put(&s, t, 1);			     /* too late: nothing is kept */
	store_wait_flushed(&s);
	assert_false(has_file(&s, TODAY - 2));
	store_advance(&s, TODAY + 100);
	assert_false(has_file(&s, TODAY));
	store_stop(&s);
	store_end(&s);
}

static void day_without_its_key_ends_the_start_and_changes_nothing(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct place other;
	struct fault fault = { 0 };
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	store_stop(&s);
	place_make(&other, TODAY);
	s.options.keyring = other.keyring;
	assert_int_equal(days_open(&s.days, &s.options, &fault), -ENOKEY);
	assert_string_equal(fault.file, "days/2026-11-22.mdb");
	assert_true(has_file(&s, TODAY));
	/* its file is still not removed when the clock says it is old, but nobody vouches */
	s.options.today += 100;
	s.options.vouched = false;
	assert_int_equal(days_open(&s.days, &s.options, &fault), -ENOKEY);
	s.options.vouched = true;
	assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
	assert_false(has_file(&s, TODAY));
	days_free(s.days);
	place_remove(&other);
	store_end(&s);
}

static void strange_file_ends_the_start_and_stays(void **state)
{
	char path[300];
	struct fault fault;
	struct store s;
	int fd;

	(void)state;
	store_init(&s, TODAY);
	assert_int_equal(mkdir(s.place.dir, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/2026-02-30.mdb", s.place.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(days_open(&s.days, &s.options, &fault), -EINVAL);
	assert_int_equal(access(path, F_OK), 0);
	store_end(&s);
}

static void damaged_day_is_reported_and_the_others_are_served(void **state)
{
	struct told t[2] = { told_make(0x0a000001, 1, T0 - HOUR, T0 + HOUR),
			     told_make(0x0a000002, 1, T0 - 5 * DAY, T0 - 5 * DAY + HOUR) };
	char path[300];
	struct lookup *l;
	struct store s;
	int fd;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, t, 2);
	store_stop(&s);
	(void)snprintf(path, sizeof(path), "%s/2026-11-21.mdb", s.place.dir);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	for (off_t at = 2 * 4096; at < 20 * 4096; at += 64)
		assert_int_equal(pwrite(fd, "damage", 6, at), 6);
	close(fd);
	store_start(&s);
	assert_int_equal(s.faults, 1);
	assert_int_equal(s.fault.error, -EBADMSG);
	assert_string_equal(s.fault.file, "days/2026-11-21.mdb");
	check_one(&s, &t[1], t[1].start, t[1].end, 0);
	/* its first part cannot be read, the second says so */
	l = store_ask(&s, t[0].ip, 128, -1, T0 + 1, INT64_MAX, NULL, 10);
	assert_int_equal(l->record_count, 1);
	assert_int_equal(l->code, NOLOG_DONE_UNREADABLE);
	assert_int_equal(l->records[0].start_ms, T0);
	assert_int_equal(l->records[0].end_ms, T0 + HOUR);
	assert_int_equal(l->records[0].code, NOLOG_RECORD_PART);
	lookup_free(l);
	assert_true(has_file(&s, TODAY - 1));
	store_stop(&s);
	store_end(&s);
}

/* --- Set aside --- */

static void path_of(const struct store *s, char path[300], const char *name)
{
	(void)snprintf(path, 300, "%s/%s", s->place.dir, name);
}

static bool has_name(const struct store *s, const char *name)
{
	char path[300];

	path_of(s, path, name);
	return access(path, F_OK) == 0;
}

static void file_copy(const char *from, const char *to)
{
	static char piece[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, piece, sizeof(piece))) > 0)
		assert_int_equal(write(out, piece, (size_t)n), n);
	assert_int_equal(n, 0);
	close(in);
	close(out);
}

static void damage(const struct store *s, const char *name)
{
	char path[300];
	int fd;

	path_of(s, path, name);
	fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	for (off_t at = 2 * 4096; at < 20 * 4096; at += 64)
		assert_int_equal(pwrite(fd, "damage", 6, at), 6);
	close(fd);
}

/*
 * What is not seen until it is written to: every overflow page claims to be
 * many.  A list of hundreds of servers has one, and a manifest of many runs.
 */
static void damage_quietly(const struct store *s, const char *name)
{
	const uint32_t pages = 1000;
	uint8_t page[4096];
	char path[300];
	int fd;

	path_of(s, path, name);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	for (off_t at = 2 * 4096; pread(fd, page, sizeof(page), at) == 4096; at += 4096)
		if (page[10] & 0x04)
			assert_int_equal(pwrite(fd, &pages, sizeof(pages), at + 12), sizeof(pages));
	close(fd);
}

/* Also when there is damage. */
static void wait_flushed_anyhow(struct store *s)
{
	days_flush_soon(s->days);
	pthread_mutex_lock(&s->lock);
	while (days_flushed(s->days) < s->batch)
		pthread_cond_wait(&s->bell, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void check_found(struct store *s, const struct told *t, size_t n, unsigned code)
{
	struct lookup *l = store_ask(s, t->ip, 128, -1, t->start, t->end, NULL, 100);

	assert_int_equal(l->record_count, n);
	assert_int_equal(l->code, code);
	lookup_free(l);
}

static void damaged_file_is_set_aside_when_rows_wait_for_its_day(void **state)
{
	struct told t[4] = { told_make(0x0a000001, 1, T0, T0 + HOUR),
			     told_make(0x0a000002, 2, T0, T0 + HOUR),
			     told_make(0x0a000003, 300, T0, T0 + HOUR),
			     told_make(0x0a000004, 1, T0 - 2 * DAY, T0 - 2 * DAY + HOUR) };
	struct told many[300];
	struct days_stats stats;
	struct seal_key key;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t[0], 1);
	store_put(&s, &t[3], 1);
	store_stop(&s);
	damage(&s, "2026-11-22.mdb");
	store_start(&s);
	assert_int_equal(s.faults, 1);
	assert_false(has_name(&s, "2026-11-22.damaged")); /* nothing waits */
	store_put(&s, &t[1], 1);
	wait_flushed_anyhow(&s);
	assert_int_equal(s.faults, 2);
	assert_int_equal(s.fault.error, -EBADMSG);
	assert_string_equal(s.fault.file, "days/2026-11-22.mdb");
	assert_string_equal(s.fault.what, "set aside as damaged; its day goes on in a new file");
	assert_true(has_name(&s, "2026-11-22.damaged") && has_name(&s, "2026-11-22.mdb"));
	for (int restart = 0; restart < 2; restart++) {
		check_found(&s, &t[0], 0, NOLOG_DONE_UNREADABLE);
		check_found(&s, &t[1], 1, NOLOG_DONE_UNREADABLE);
		check_found(&s, &t[3], 1, NOLOG_DONE_COMPLETE);
		days_stats(s.days, &stats);
		assert_int_equal(stats.days_held, 2);
		assert_int_equal(stats.through, 3);
		assert_int_equal(stats.servers, 1);
		store_stop(&s);
		store_start(&s);
	}
	assert_int_equal(s.faults, 2);
	for (unsigned i = 0; i < 300; i++)
		many[i] = told_make(0x0b000000 + i, i, T0, T0 + HOUR);
	store_put(&s, many, 300);
	store_stop(&s);
	/* again; this time it is seen when it is written to */
	damage_quietly(&s, "2026-11-22.mdb");
	store_start(&s);
	check_found(&s, &t[1], 1, NOLOG_DONE_UNREADABLE);
	assert_int_equal(s.faults, 2);
	store_put(&s, &t[2], 1);
	wait_flushed_anyhow(&s);
	assert_int_equal(s.faults, 4);
	assert_true(has_name(&s, "2026-11-22.damaged-2"));
	check_found(&s, &t[1], 0, NOLOG_DONE_UNREADABLE);
	check_found(&s, &t[2], 1, NOLOG_DONE_UNREADABLE);
	/* they are forgotten with the day */
	s.faults = 0;
	store_advance(&s, TODAY + 89);
	assert_true(has_name(&s, "2026-11-22.damaged"));
	store_advance(&s, TODAY + 90);
	assert_int_equal(keyring_day(s.place.keyring, TODAY, &key), -ENOKEY);
	assert_false(has_name(&s, "2026-11-22.damaged") || has_name(&s, "2026-11-22.damaged-2") ||
		     has_name(&s, "2026-11-22.mdb"));
	store_stop(&s);
	store_end(&s);
}

/* What the file system can put back, or take away, without the keyring. */
static void a_day_s_file_that_is_older_or_missing_is_said_in_every_answer(void **state)
{
	struct told t[4] = { told_make(0x0a000001, 1, T0, T0 + HOUR),
			     told_make(0x0a000002, 2, T0, T0 + HOUR),
			     told_make(0x0a000003, 3, T0 - DAY, T0 - DAY + HOUR),
			     told_make(0x0a000004, 4, T0 - 2 * DAY, T0 - 2 * DAY + HOUR) };
	char path[300], kept[300];
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t[0], 1);
	store_put(&s, &t[3], 1);
	store_stop(&s);
	path_of(&s, path, "2026-11-22.mdb");
	path_of(&s, kept, "../kept");
	file_copy(path, kept);
	store_start(&s);
	store_put(&s, &t[1], 1);
	store_put(&s, &t[2], 1);
	store_stop(&s);
	assert_int_equal(s.faults, 0);
	file_copy(kept, path);
	path_of(&s, path, "2026-11-21.mdb");
	assert_int_equal(unlink(path), 0);
	for (int restart = 0; restart < 3; restart++) {
		store_start(&s);
		assert_int_equal(s.faults, restart < 2 ? 2 * (restart + 1) : 4);
		check_found(&s, &t[0], 1, NOLOG_DONE_UNREADABLE);
		check_found(&s, &t[1], 0, NOLOG_DONE_UNREADABLE);
		check_found(&s, &t[2], restart == 2, NOLOG_DONE_UNREADABLE);
		check_found(&s, &t[3], 1, NOLOG_DONE_COMPLETE);
		if (restart == 1) { /* it goes on in what there is, and stays said */
			store_put(&s, &t[0], 1);
			store_put(&s, &t[2], 1);
		}
		store_stop(&s);
	}
	store_start(&s);
	store_advance(&s, TODAY + 90);
	check_found(&s, &t[0], 0, NOLOG_DONE_COMPLETE);
	store_stop(&s);
	store_end(&s);
}

static void crash_after_setting_aside_loses_no_waiting_row(void **state)
{
	struct told t[2] = { told_make(0x0a000001, 1, T0, T0 + HOUR),
			     told_make(0x0a000002, 2, T0, T0 + HOUR) };
	char from[300], to[300];
	uint8_t effect[1][EFFECT_SIZE];
	struct days_stats stats;
	struct fault fault;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t[0], 1);
	store_stop(&s);
	path_of(&s, from, "2026-11-22.mdb");
	path_of(&s, to, "2026-11-22.damaged-7");
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
	days_stats(s.days, &stats);
	assert_int_equal(stats.days_held, 1);
	assert_int_equal(stats.through, 0);
	for (uint64_t i = 0; i < 2; i++) {
		whole_make(effect[0], t[i].ip, t[i].server, t[i].start, t[i].end);
		assert_int_equal(
			days_replay(s.days, i + 1, (const uint8_t(*)[EFFECT_SIZE])effect, 1), 0);
	}
	assert_int_equal(days_start(s.days), 0);
	s.batch = 2;
	store_wait_flushed(&s);
	assert_int_equal(s.faults, 0);
	for (int i = 0; i < 2; i++)
		check_found(&s, &t[i], 1, NOLOG_DONE_UNREADABLE);
	store_stop(&s);
	damage(&s, "2026-11-22.mdb");
	store_start(&s);
	store_put(&s, &t[1], 1);
	wait_flushed_anyhow(&s);
	assert_true(has_name(&s, "2026-11-22.damaged-8"));
	store_stop(&s);
	/* over the horizon, when nobody is there to see it */
	s.options.today = TODAY + 90;
	store_start(&s);
	assert_false(has_name(&s, "2026-11-22.damaged-7") || has_name(&s, "2026-11-22.damaged-8"));
	store_stop(&s);
	store_end(&s);
}

static void only_names_that_are_given_are_taken_for_files_set_aside(void **state)
{
	static const struct {
		const char *name;
		unsigned aside;
	} names[] = {
		{ "2026-11-22.damaged", 1 },	     { "2026-11-22.damaged-2", 2 },
		{ "2026-11-22.damaged-9999", 9999 }, { "2026-11-22.damaged-10000", 0 },
		{ "2026-11-22.damaged-1", 0 },	     { "2026-11-22.damaged-02", 0 },
		{ "2026-11-22.damaged-", 0 },	     { "2026-11-22.damagedx", 0 },
		{ ".2026-11-22.damaged", 0 },	     { "2026-02-30.damaged", 0 },
		{ "2026-11-22.damaged-2x", 0 },	     { "2026-11-22.damaged-4294967298", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		unsigned aside = 77;
		int32_t day = 0;
		enum dayset_name kind = dayset_parse(names[i].name, &day, &aside);

		assert_int_equal(kind, names[i].aside ? DAYSET_ASIDE : DAYSET_NONE);
		assert_int_equal(aside, names[i].aside);
		if (names[i].aside)
			assert_int_equal(day, TODAY);
	}
}

/* --- Room, and answers that take long --- */

static void waiting_rows_are_counted_as_rows_from_the_moment_they_are_put(void **state)
{
	uint8_t effects[4][EFFECT_SIZE];
	uint8_t ip[16];
	struct days_stats stats;
	struct store s;
	size_t all;

	(void)state;
	ip4_make(ip, 7);
	whole_make(effects[0], ip, 1, T0 + 1, T0 + HOUR);
	whole_make(effects[1], ip, 1, T0 - 10 * DAY, T0 + HOUR);
	whole_make(effects[2], ip, 1, T0 - 300 * DAY, T0 + HOUR);
	memset(effects[3], 0, EFFECT_SIZE);
	effects[3][0] = EFFECT_OPEN;
	assert_int_equal(days_rows((const uint8_t(*)[EFFECT_SIZE])effects, 1), 1);
	assert_int_equal(days_rows((const uint8_t(*)[EFFECT_SIZE])effects + 1, 1), 11);
	assert_int_equal(days_rows((const uint8_t(*)[EFFECT_SIZE])effects + 2, 1), 91);
	assert_int_equal(days_rows((const uint8_t(*)[EFFECT_SIZE])effects, 4), 103);
	store_init(&s, TODAY);
	s.options.flush_rows = 1000;
	assert_int_equal(days_open(&s.days, &s.options, NULL), 0);
	all = days_room(s.days);
	assert_int_equal(all, 4000);
	/* Before its thread has looked at any of it. */
	assert_int_equal(days_put(s.days, 1, (const uint8_t(*)[EFFECT_SIZE])effects, 4), 0);
	assert_int_equal(days_room(s.days), all - 103);
	for (uint64_t batch = 2; batch <= 40; batch++)
		assert_int_equal(days_put(s.days, batch, (const uint8_t(*)[EFFECT_SIZE])effects, 4),
				 0);
	assert_int_equal(days_room(s.days), 0);
	s.batch = 40;
	assert_int_equal(days_start(s.days), 0);
	store_wait_flushed(&s);
	/* What was counted on and is not kept is given back. */
	assert_int_equal(days_room(s.days), all);
	do
		days_stats(s.days, &stats);
	while (stats.rows != (uint64_t)40 * (1 + 11 + 90));
	assert_int_equal(stats.waiting_rows, 0);
	store_stop(&s);
	store_end(&s);
}

static int count_server(int32_t day, const struct server_key *server, void *arg)
{
	unsigned *n = arg;
	struct server_key one = server_make((unsigned)(TODAY - day)), all = server_make(9);

	assert_true(memcmp(server, &one, sizeof(one)) == 0 ||
		    memcmp(server, &all, sizeof(all)) == 0);
	return ++*n == 5 ? 77 : 0;
}

static void every_list_of_servers_is_told(void **state)
{
	struct store s;
	unsigned n = 0;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	for (unsigned day = 0; day < 3; day++) {
		int64_t at = T0 - day * DAY;
		struct told t[2] = { told_make(1, day, at, at), told_make(1, 9, at, at) };

		if (day < 2)
			store_put(&s, t, 2);
		else
			store_put(&s, t, 1);
	}
	store_stop(&s);
	assert_int_equal(days_open(&s.days, &s.options, NULL), 0);
	assert_int_equal(days_each_server(s.days, count_server, &n), 77);
	assert_int_equal(n, 5);
	n = 5;
	assert_int_equal(days_each_server(s.days, count_server, &n), 0);
	assert_int_equal(n, 10);
	assert_int_equal(days_start(s.days), 0);
	store_stop(&s);
	store_end(&s);
}

/* Whoever makes a large answer stands still; rows are written, small answers given. */
static void an_answer_that_takes_long_holds_nothing_up(void **state)
{
	enum { ROWS = 5000 };
	struct told *t = calloc(ROWS, sizeof(*t));
	struct lookup *l;
	struct store s;

	(void)state;
	assert_non_null(t);
	for (uint32_t i = 0; i < ROWS; i++)
		t[i] = told_make(0x0a000000 + i, 1, T0 + i, T0 + HOUR);
	store_init(&s, TODAY);
	s.options.events.answered = on_large_answer;
	store_start(&s);
	store_put(&s, t, ROWS);
	store_wait_flushed(&s);
	(void)pthread_mutex_lock(&large);
	days_ask(s.days, ask_make(NULL, 0, -1, INT64_MIN, INT64_MAX, NULL, 100000));
	while (!atomic_load(&large_came))
		(void)sched_yield();
	l = store_ask(&s, t[7].ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 10);
	assert_int_equal(l->record_count, 1);
	lookup_free(l);
	store_put(&s, t, 1);
	store_wait_flushed(&s);
	assert_null(s.answers);
	(void)pthread_mutex_unlock(&large);
	l = store_answer(&s);
	assert_int_equal(l->code, NOLOG_DONE_COMPLETE);
	assert_int_equal(l->record_count, ROWS);
	lookup_free(l);
	store_stop(&s);
	store_end(&s);
	free(t);
}

/* --- Failures --- */

static void thread_that_failed_moves_nothing_on(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct told wrong = told_make(0x0a000001, 1, T0 + HOUR, T0);
	struct days_stats stats;
	struct fault fault;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	store_put(&s, &wrong, 1);
	pthread_mutex_lock(&s.lock);
	while (s.faults == 0)
		pthread_cond_wait(&s.bell, &s.lock);
	pthread_mutex_unlock(&s.lock);
	assert_int_equal(s.fault.error, -EIO); /* that of damage would let it go on */
	assert_false(days_room(s.days));
	store_put(&s, NULL, 0);
	store_put(&s, &t, 1);
	days_flush_soon(s.days);
	lookup_free(store_ask(&s, t.ip, 128, -1, 0, 0, NULL, 1)); /* behind it in the queue */
	assert_int_equal(days_flushed(s.days), 0);
	assert_false(days_room(s.days));
	days_stats(s.days, &stats);
	assert_in_range(stats.waiting_rows, 2, 3);
	assert_int_equal(days_stop(s.days, &fault), -EIO);
	assert_int_equal(fault.error, -EIO);
	store_end(&s);
}

static void damaged_file_system_ends_it_and_is_no_damaged_day(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct fault fault;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	store_wait_flushed(&s);
	atomic_store(&unlinking_fails, true);
	store_advance(&s, TODAY + 90);
	atomic_store(&unlinking_fails, false);
	assert_int_equal(s.fault.error, -EIO);
	assert_true(days_forgotten(s.days) < TODAY + 90);
	assert_int_equal(days_stop(s.days, &fault), -EIO);
	store_end(&s);
}

/* --- Without the thread --- */

struct bare {
	struct daykeep k;
	int64_t now;
	struct merger *merger;
	int done[2];
};

static void bare_open(struct bare *b, struct store *s)
{
	memset(b, 0, sizeof(*b));
	b->now = 1000000;
	assert_int_equal(daykeep_open(&b->k, &s->options, b->now, NULL), 0);
}

static void bare_add(struct bare *b, struct store *s, const struct told *t)
{
	uint8_t effect[EFFECT_SIZE];

	whole_make(effect, t->ip, t->server, t->start, t->end);
	assert_int_equal(daykeep_add(&b->k, ++s->batch, effect, b->now), 0);
	b->k.handed = s->batch;
}

static void bare_flush(struct bare *b)
{
	struct fault fault = { 0 };
	bool wrote;

	assert_int_equal(daykeep_flush(&b->k, b->now, &wrote, &fault), 0);
	assert_true(wrote);
}

/* So many runs that the manifest takes a page of its own. */
static void bare_fill(struct bare *b, struct store *s)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);

	for (int i = 0; i < 120; i++) {
		bare_add(b, s, &t);
		bare_flush(b);
	}
}

static void on_done(void *arg)
{
	struct bare *b = arg;

	assert_int_equal(write(b->done[1], "x", 1), 1);
}

static void wish_to_write_outlasts_a_rewrite(void **state)
{
	struct told t[2] = { told_make(0x0a000001, 1, T0 - DAY, T0 - DAY + HOUR),
			     told_make(0x0a000002, 1, T0, T0 + HOUR) };
	struct store s;
	struct bare b;

	(void)state;
	store_init(&s, TODAY);
	bare_open(&b, &s);
	bare_add(&b, &s, &t[0]);
	bare_add(&b, &s, &t[1]);
	dayset_find(&b.k.set, TODAY - 1)->held = true;
	assert_true(daykeep_due_ms(&b.k, 0) > b.now);
	assert_true(daykeep_due_ms(&b.k, 2) <= b.now);
	bare_flush(&b);
	assert_int_equal(daykeep_flushed(&b.k), 0);
	assert_int_equal(daykeep_due_ms(&b.k, 2), INT64_MAX);
	/* what came later has time, though the wish is not fulfilled yet */
	bare_add(&b, &s, &t[1]);
	assert_true(daykeep_due_ms(&b.k, 2) > b.now);
	dayset_find(&b.k.set, TODAY - 1)->held = false;
	assert_true(daykeep_due_ms(&b.k, 2) <= b.now);
	bare_flush(&b);
	assert_int_equal(daykeep_flushed(&b.k), 3);
	daykeep_close(&b.k);
	store_end(&s);
}

/* Their runs would show in what order they came for as long as the day is kept. */
static void late_rows_are_sorted_in_a_day_later_however_few(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0 - DAY, T0 - DAY + HOUR);
	struct store s;
	struct bare b;
	struct day *d;

	(void)state;
	store_init(&s, TODAY);
	bare_open(&b, &s);
	assert_int_equal(merger_start(&b.k.merger, &b.k.set.home, on_done, &b), 0);
	for (int i = 0; i < 100; i++)
		bare_add(&b, &s, &t);
	bare_flush(&b);
	d = dayset_find(&b.k.set, TODAY - 1);
	d->rewritten = true;
	d->rewritten_ms = b.now;
	b.now += s.options.rewrite_after_ms;
	assert_int_equal(daykeep_plan_ms(&b.k, b.now), INT64_MAX);
	bare_add(&b, &s, &t);
	bare_flush(&b);
	assert_int_equal(daykeep_plan_ms(&b.k, b.now), d->rewritten_ms + DAY);
	for (int i = 0; i < 20; i++)
		bare_add(&b, &s, &t);
	bare_flush(&b);
	assert_int_equal(daykeep_plan_ms(&b.k, b.now), 1000000 + s.options.rewrite_after_ms);
	b.k.merger = (assert_null(merger_stop(b.k.merger)), NULL);
	daykeep_close(&b.k);
	store_end(&s);
}

/* Keys die at midnight whatever this thread does at the moment. */
static void a_key_that_died_before_the_days_were_told_ends_nothing(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0 - 89 * DAY, T0 - 89 * DAY + HOUR);
	struct told now = told_make(0x0a000002, 1, T0, T0 + HOUR);
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	store_wait_flushed(&s);
	check_found(&s, &t, 1, NOLOG_DONE_COMPLETE);
	assert_int_equal(keyring_forget_days(s.place.keyring, TODAY + 1, TODAY - 88), 0);
	check_found(&s, &t, 0, NOLOG_DONE_COMPLETE);
	store_put(&s, &t, 1);
	store_put(&s, &now, 1);
	store_wait_flushed(&s);
	check_found(&s, &now, 1, NOLOG_DONE_COMPLETE);
	store_advance(&s, TODAY + 1);
	assert_false(has_name(&s, "2026-08-25.mdb"));
	assert_int_equal(s.faults, 0);
	store_stop(&s);
	store_end(&s);
}

static void eight_runs_found_at_a_start_are_merged_though_nothing_happens(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct days_stats stats;
	double since = seconds();
	struct store s;
	struct bare b;

	(void)state;
	store_init(&s, TODAY);
	bare_open(&b, &s);
	for (int i = 0; i < 8; i++) {
		bare_add(&b, &s, &t);
		bare_flush(&b);
	}
	daykeep_close(&b.k);
	store_start(&s);
	do {
		(void)sched_yield();
		days_stats(s.days, &stats);
	} while ((stats.merges == 0 || stats.runs != 1) && seconds() - since < 20);
	assert_int_equal(stats.merges, 1);
	store_stop(&s);
	bare_open(&b, &s);
	assert_int_equal(b.k.set.at[0]->n, 1);
	/* blocks that nobody needs are work too */
	assert_int_equal(day_garbage_add(b.k.set.at[0], 3), 0);
	assert_int_equal(merger_start(&b.k.merger, &b.k.set.home, on_done, &b), 0);
	assert_true(daykeep_plan_ms(&b.k, b.now) <= b.now);
	b.k.set.at[0]->garbage_n = 0;
	assert_true(daykeep_plan_ms(&b.k, b.now) > b.now);
	daykeep_give_up(&b.k, merger_stop(b.k.merger));
	daykeep_close(&b.k);
	store_end(&s);
}

static void damage_that_shows_when_a_merge_is_put_in_place_goes_on(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct fault fault = { 0 };
	struct store s;
	struct bare b;
	char byte;

	(void)state;
	store_init(&s, TODAY);
	bare_open(&b, &s);
	assert_int_equal(pipe(b.done), 0);
	assert_int_equal(merger_start(&b.k.merger, &b.k.set.home, on_done, &b), 0);
	bare_fill(&b, &s);
	assert_int_equal(daykeep_plan(&b.k, b.now, &fault), 0);
	assert_non_null(b.k.job);
	assert_int_equal(read(b.done[0], &byte, 1), 1);
	damage_quietly(&s, "2026-11-22.mdb");
	assert_int_equal(daykeep_settle(&b.k, b.now, false, &fault), 0);
	assert_null(b.k.done);
	assert_true(b.k.set.at[0]->damaged);
	assert_int_equal(s.faults, 1);
	assert_int_equal(s.fault.error, -EBADMSG);
	assert_int_equal(daykeep_due_ms(&b.k, UINT64_MAX), INT64_MAX);
	bare_add(&b, &s, &t);
	assert_int_equal(daykeep_flushed(&b.k), 120);
	bare_flush(&b);
	assert_int_equal(daykeep_flushed(&b.k), 121);
	assert_true(has_name(&s, "2026-11-22.damaged"));
	assert_int_equal(b.k.set.at[0]->n, 1);
	daykeep_give_up(&b.k, merger_stop(b.k.merger));
	daykeep_close(&b.k);
	close(b.done[0]);
	close(b.done[1]);
	store_end(&s);
}

/* The other thread works with the file: it is set aside when that has let go. */
static void damaged_file_in_use_is_set_aside_later(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct fault fault = { 0 };
	struct store s;
	struct bare b;
	bool wrote;
	char byte;

	(void)state;
	store_init(&s, TODAY);
	bare_open(&b, &s);
	assert_int_equal(pipe(b.done), 0);
	assert_int_equal(merger_start(&b.k.merger, &b.k.set.home, on_done, &b), 0);
	bare_fill(&b, &s);
	bare_add(&b, &s, &t);
	assert_int_equal(daykeep_plan(&b.k, b.now, &fault), 0);
	assert_int_equal(read(b.done[0], &byte, 1), 1);
	damage_quietly(&s, "2026-11-22.mdb");
	assert_int_equal(daykeep_flush(&b.k, b.now, &wrote, &fault), 0);
	assert_false(wrote);
	assert_true(b.k.set.at[0]->damaged);
	assert_false(has_name(&s, "2026-11-22.damaged"));
	assert_int_equal(daykeep_due_ms(&b.k, UINT64_MAX), INT64_MAX);
	assert_int_equal(daykeep_flushed(&b.k), 120);
	assert_int_equal(daykeep_settle(&b.k, b.now, false, &fault), 0);
	assert_int_equal(daykeep_due_ms(&b.k, UINT64_MAX), 0);
	bare_flush(&b);
	assert_true(has_name(&s, "2026-11-22.damaged"));
	assert_int_equal(daykeep_flushed(&b.k), 121);
	daykeep_give_up(&b.k, merger_stop(b.k.merger));
	daykeep_close(&b.k);
	close(b.done[0]);
	close(b.done[1]);
	store_end(&s);
}

static void full_list_of_servers_holds_up_only_rows_of_others(void **state)
{
	const unsigned most = 65536, more = 3;
	struct told *t = calloc(most + more, sizeof(*t));
	struct days_stats stats;
	struct fault fault;
	struct store s;
	struct bare b;
	bool wrote;

	(void)state;
	store_init(&s, TODAY);
	for (unsigned i = 0; i < most + more; i++) {
		t[i] = told_make(0x0a000000 + i, i, T0, T0 + HOUR);
		if (i % 5 == 0)
			t[i].ip[0] = 0x20;
	}
	bare_open(&b, &s);
	for (unsigned i = 0; i < most + more; i++)
		bare_add(&b, &s, &t[i]);
	bare_flush(&b);
	assert_int_equal(b.k.waiting, more);
	assert_false(b.k.no_space);
	assert_int_equal(daykeep_due_ms(&b.k, UINT64_MAX), INT64_MAX); /* not again and again */
	/* those of known servers go on being written, also when they come between */
	bare_add(&b, &s, &t[most]);
	bare_add(&b, &s, &t[0]);
	assert_true(daykeep_due_ms(&b.k, s.batch) <= b.now);
	bare_flush(&b);
	assert_int_equal(b.k.waiting, more + 1);
	bare_add(&b, &s, &t[most + 1]);
	assert_int_equal(daykeep_flush(&b.k, b.now, &wrote, NULL), 0);
	assert_false(wrote);
	assert_int_equal(daykeep_due_ms(&b.k, UINT64_MAX), INT64_MAX);
	assert_int_equal(b.k.waiting, more + 2);
	assert_true(daykeep_flushed(&b.k) <= most);
	daykeep_stats(&b.k, &stats);
	assert_int_equal(stats.rows, most + 1);
	daykeep_close(&b.k);
	/* a crash: what could not be written is not lost */
	assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
	days_stats(s.days, &stats);
	assert_int_equal(stats.servers, most);
	assert_true(stats.through <= most);
	for (unsigned i = 0; i < most + more; i++) {
		uint8_t effect[1][EFFECT_SIZE];

		whole_make(effect[0], t[i].ip, t[i].server, t[i].start, t[i].end);
		assert_int_equal(
			days_replay(s.days, i + 1, (const uint8_t(*)[EFFECT_SIZE])effect, 1), 0);
	}
	assert_int_equal(days_start(s.days), 0);
	for (unsigned i = most - 2; i < most + more; i++)
		check_one(&s, &t[i], t[i].start, t[i].end, 0);
	check_one(&s, &t[0], t[0].start, t[0].end, 0);
	assert_int_equal(days_stop(s.days, &fault), -ENOSPC);
	free(t);
	store_end(&s);
}

static void sessions_of_ninety_days_are_found_whole(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0 - 89 * DAY + HOUR, T0 + HOUR);
	struct days_stats stats;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	store_put(&s, &t, 1);
	check_one(&s, &t, t.start, t.end, 0);
	store_wait_flushed(&s);
	check_one(&s, &t, t.start, t.end, 0);
	store_stop(&s);
	store_start(&s);
	days_stats(s.days, &stats);
	assert_int_equal(stats.days_held, 90);
	check_one(&s, &t, t.start, t.end, 0);
	store_advance(&s, TODAY + 1);
	check_one(&s, &t, T0 - 88 * DAY, t.end, 0);
	store_stop(&s);
	store_end(&s);
}

/* --- Against the oracle --- */

static void random_session(uint64_t *seed, struct told *t, unsigned addresses)
{
	uint64_t a = dice_below(seed, addresses);
	static const int64_t lengths[] = {
		0, 1000, HOUR, 3 * HOUR, 24 * HOUR, 30 * HOUR, 70 * HOUR
	};

	memset(t, 0, sizeof(*t));
	if (a % 3 == 2) { /* 2001:db8::x and a few far off */
		t->ip[0] = a % 5 ? 0x20 : 0xfe;
		t->ip[1] = 0x01;
		t->ip[15] = (uint8_t)a;
	} else {
		ip4_make(t->ip, 0x0a000000 + (uint32_t)a);
	}
	t->server = (unsigned)dice_below(seed, 3);
	t->end = T0 - (int64_t)dice_below(seed, 120) * HOUR + 23 * HOUR;
	if (dice_below(seed, 3) == 0)
		t->end = t->end / DAY * DAY; /* midnight */
	t->start = t->end - lengths[dice_below(seed, 7)];
	if (dice_below(seed, 6) == 0)
		t->start = t->start / DAY * DAY;
}

static void compare(struct store *s, const struct oracle *o, struct exits *x, uint64_t *seed,
		    unsigned addresses)
{
	static const unsigned lengths[] = { 128, 128, 128, 127, 126, 120, 96, 97,
					    90,	 64,  16,  8,	3,   1,	  0 };
	struct expected *want = calloc(ORACLE_MAX * 8, sizeof(*want)), *got;
	int64_t from = INT64_MIN, to = INT64_MAX;
	size_t wanted, found;
	struct lookup *l;
	struct told t;
	unsigned length = lengths[dice_below(seed, 15)];
	int server = dice_below(seed, 2) ? -1 : (int)dice_below(seed, 4);

	random_session(seed, &t, addresses);
	if (dice_below(seed, 3)) {
		from = T0 - (int64_t)dice_below(seed, 130) * HOUR;
		to = from + (int64_t)dice_below(seed, 4) * 8 * HOUR;
	}
	wanted = oracle_answer(o, t.ip, length, server, from, to, want);
	l = store_ask(s, t.ip, length, server, from, to, x, 100000);
	got = calloc(l->record_count + 1, sizeof(*got));
	found = oracle_read(l, got);
	if (l->code != 0 || found != wanted || memcmp(got, want, found * sizeof(*got)) != 0) {
		print_message("length %u server %d from %lld to %lld address %02x%02x code %u\n",
			      length, server, (long long)(from - T0), (long long)(to - T0),
			      t.ip[14], t.ip[15], l->code);
		oracle_print("want", want, wanted);
		oracle_print("got ", got, found);
		fail();
	}
	lookup_free(l);
	free(got);
	free(want);
}

/* Stops with everything in the log again: what is in files must not come twice. */
static void reopen(struct store *s, const struct oracle *o, const uint64_t *batches)
{
	struct fault fault;

	store_stop(s);
	assert_int_equal(days_open(&s->days, &s->options, &fault), 0);
	for (size_t i = 0; i < o->n; i++) {
		uint8_t effect[1][EFFECT_SIZE];

		whole_make(effect[0], o->told[i].ip, o->told[i].server, o->told[i].start,
			   o->told[i].end);
		assert_int_equal(
			days_replay(s->days, batches[i], (const uint8_t(*)[EFFECT_SIZE])effect, 1),
			0);
	}
	assert_int_equal(days_start(s->days), 0);
}

static struct days_stats histories; /* of their ends */

static void one_history(uint64_t seed)
{
	static uint64_t batches[ORACLE_MAX];
	struct oracle *o = calloc(1, sizeof(*o));
	unsigned addresses = 3 + (unsigned)dice_below(&seed, 40);
	int32_t today = TODAY;
	struct days_stats stats;
	struct exits *x;
	struct store s;

	store_init(&s, TODAY);
	s.options.retention_days = 4;
	s.options.flush_rows = 1 + dice_below(&seed, 40);
	s.options.rewrite_after_ms = 1;
	o->horizon = T0 - 3 * DAY;
	o->exits_n = dice_below(&seed, 3);
	for (size_t i = 0; i < o->exits_n; i++) {
		struct told t;

		random_session(&seed, &t, addresses);
		memcpy(o->exits[i].ip, t.ip, 16);
		o->exits[i].server = t.server;
	}
	x = oracle_exits(o);
	store_start(&s);
	for (int step = 0; step < 60; step++) {
		size_t n = dice_below(&seed, 12);

		for (size_t i = 0; i < n; i++) {
			random_session(&seed, &o->told[o->n + i], addresses);
			batches[o->n + i] = s.batch + 1;
		}
		store_put(&s, o->told + o->n, n);
		o->n += n;
		if (dice_below(&seed, 10) == 0)
			days_flush_soon(s.days);
		if (dice_below(&seed, 30) == 0) {
			store_advance(&s, ++today);
			o->horizon += DAY;
		}
		if (dice_below(&seed, 20) == 0)
			reopen(&s, o, batches);
		for (int i = 0; i < 3; i++)
			compare(&s, o, x, &seed, addresses);
	}
	assert_int_equal(s.faults, 0);
	days_stats(s.days, &stats);
	histories.merges += stats.merges;
	histories.rewrites += stats.rewrites;
	histories.flushes += stats.flushes;
	store_stop(&s);
	exits_unref(x);
	free(o);
	store_end(&s);
}

static void random_histories_are_answered_as_the_contract_says(void **state)
{
	const char *more = getenv("NOLOG_TEST_SEEDS");
	unsigned long n = more ? strtoul(more, NULL, 10) : 12;

	(void)state;
	for (unsigned long i = 1; i <= n; i++)
		one_history(i * 7919);
	print_message("%llu flushes, %llu merges, %llu rewrites at the ends\n",
		      (unsigned long long)histories.flushes, (unsigned long long)histories.merges,
		      (unsigned long long)histories.rewrites);
}

/* Asks for nothing until the other thread's work shows. */
static void wait_runs(struct store *s, uint64_t runs)
{
	struct days_stats stats;

	do {
		lookup_free(store_ask(s, NULL, 128, -1, 0, 0, NULL, 1));
		days_stats(s->days, &stats);
	} while (stats.runs != runs);
	assert_int_equal(s->faults, 0);
}

static void eight_runs_become_one_and_a_closed_day_a_new_file(void **state)
{
	struct told t = told_make(0x0a000001, 1, T0, T0 + HOUR);
	struct days_stats stats;
	struct store s;

	(void)state;
	store_init(&s, TODAY);
	s.options.rewrite_after_ms = 1;
	store_start(&s);
	for (int i = 0; i < 9; i++) {
		t.start++;
		store_put(&s, &t, 1);
		store_wait_flushed(&s);
	}
	wait_runs(&s, 2);
	days_stats(s.days, &stats);
	assert_int_equal(stats.merges, 1);
	assert_int_equal(stats.rows, 9);
	store_advance(&s, TODAY + 1);
	wait_runs(&s, 1);
	days_stats(s.days, &stats);
	assert_int_equal(stats.rewrites, 1);
	assert_int_equal(stats.rows, 9);
	store_stop(&s);
	store_start(&s);
	for (int64_t start = T0 + 1; start <= T0 + 9; start++) {
		struct lookup *l = store_ask(&s, t.ip, 128, -1, start, start, NULL, 100);

		assert_int_equal(l->record_count, start - T0); /* those that have begun */
		lookup_free(l);
	}
	store_stop(&s);
	store_end(&s);
}

/* --- Much --- */

static void many_rows(struct store *s, size_t n, size_t batch, uint32_t addresses, uint64_t *seed)
{
	uint8_t(*effects)[EFFECT_SIZE] = calloc(batch, EFFECT_SIZE);
	struct server_key servers[20];

	for (unsigned i = 0; i < 20; i++)
		servers[i] = server_make(i);
	for (size_t done = 0; done < n; done += batch) {
		size_t m = n - done < batch ? n - done : batch;

		for (size_t i = 0; i < m; i++) {
			struct effect e = { .type = EFFECT_WHOLE };

			ip4_make(e.u.whole.ip, 0x0a000000 + (uint32_t)dice_below(seed, addresses));
			e.u.whole.server = servers[dice_below(seed, 20)];
			e.u.whole.start_ms = T0 + (int64_t)dice_below(seed, 20 * 3600000);
			e.u.whole.end_ms = e.u.whole.start_ms + (int64_t)dice_below(seed, 3600000);
			effect_encode(effects[i], &e);
		}
		assert_int_equal(
			days_put(s->days, ++s->batch, (const uint8_t(*)[EFFECT_SIZE])effects, m),
			0);
		while (!days_room(s->days)) {
			pthread_mutex_lock(&s->lock);
			if (!days_room(s->days) && !s->faults)
				pthread_cond_wait(&s->bell, &s->lock);
			pthread_mutex_unlock(&s->lock);
		}
		assert_int_equal(s->faults, 0);
	}
	free(effects);
}

static void a_million_sessions_on_one_address_are_found(void **state)
{
	const size_t n = 1000000;
	uint64_t seed = 1;
	struct lookup *l;
	struct store s;
	uint8_t ip[16];
	double t;

	(void)state;
	store_init(&s, TODAY);
	store_start(&s);
	many_rows(&s, n, 10000, 1, &seed);
	store_wait_flushed(&s);
	ip4_make(ip, 0x0a000000);
	t = seconds();
	l = store_ask(&s, ip, 128, -1, T0 + 4 * HOUR, T0 + 4 * HOUR, NULL, 2000000);
	print_message("at one time among %zu at one address: %zu records, %.1f ms\n", n,
		      l->record_count, (seconds() - t) * 1e3);
	assert_int_equal(l->code, 0);
	assert_in_range(l->record_count, 10000, 50000);
	lookup_free(l);
	l = store_ask(&s, ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 2000000);
	assert_int_equal(l->code, 0);
	/* of one server and start the latest end only: a few fall together */
	assert_in_range(l->record_count, 985000, n);
	lookup_free(l);
	l = store_ask(&s, ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 1000);
	assert_int_equal(l->code, NOLOG_DONE_LIMIT);
	assert_int_equal(l->record_count, 1000);
	lookup_free(l);
	store_stop(&s);
	store_end(&s);
}

static void time_exact(struct store *s, unsigned n, const char *what)
{
	uint64_t seed = 7;
	double t = seconds();
	uint8_t ip[16];

	for (unsigned i = 0; i < n; i++) {
		ip4_make(ip, 0x0a000000 + (uint32_t)dice_below(&seed, 1000000));
		lookup_free(store_ask(s, ip, 128, -1, T0 + 5 * HOUR, T0 + 5 * HOUR, NULL, 1000));
	}
	print_message("%s: exact look-up %.1f us, both ways between threads included\n", what,
		      (seconds() - t) * 1e6 / n);
}

static void speed_is_printed(void **state)
{
	struct days_stats stats;
	uint64_t seed = 3;
	struct lookup *l;
	struct store s;
	char what[64];
	double t;

	(void)state;
	store_init(&s, TODAY);
	s.options.flush_rows = 65536;
	store_start(&s);
	many_rows(&s, 65535, 65535, 1000000, &seed);
	t = seconds();
	store_wait_flushed(&s);
	print_message("65,535 rows sorted, sealed and written in %.1f ms\n", (seconds() - t) * 1e3);
	store_stop(&s);
	store_end(&s);

	store_init(&s, TODAY);
	t = seconds();
	store_start(&s);
	many_rows(&s, 983040, 16384, 1000000, &seed);
	store_wait_flushed(&s);
	t = seconds() - t;
	days_stats(s.days, &stats);
	print_message("983,040 rows written in %.2f s, %llu flushes, %llu runs, %.1f bytes a row\n",
		      t, (unsigned long long)stats.flushes, (unsigned long long)stats.runs,
		      (double)stats.bytes / 983040);
	(void)snprintf(what, sizeof(what), "a million rows in %llu runs",
		       (unsigned long long)stats.runs);
	time_exact(&s, 2000, what);
	t = seconds();
	l = store_ask(&s, NULL, 0, 7, T0 + 5 * HOUR, T0 + 5 * HOUR + 60000, NULL, 100000);
	print_message("by server and time in a million rows: %zu records, %.1f ms\n",
		      l->record_count, (seconds() - t) * 1e3);
	assert_int_equal(l->code, 0);
	lookup_free(l);
	store_stop(&s);
	store_end(&s);

	/* many runs: sizes that are not merged */
	store_init(&s, TODAY);
	store_start(&s);
	for (size_t n = 7; n < 1000000; n *= 8)
		for (int i = 0; i < 7; i++) {
			many_rows(&s, n, 16384, 1000000, &seed);
			store_wait_flushed(&s);
		}
	days_stats(s.days, &stats);
	(void)snprintf(what, sizeof(what), "%llu rows in %llu runs", (unsigned long long)stats.rows,
		       (unsigned long long)stats.runs);
	time_exact(&s, 2000, what);
	store_stop(&s);
	store_end(&s);
}

/* --- Another process looks --- */

static void print_finding(const struct fault *fault, void *arg)
{
	(void)arg;
	print_message("finding: %s block %llx: %s\n", fault->file, (unsigned long long)fault->block,
		      fault->what);
}

/* Audits until told to stop; what it found is its exit status. */
static void auditor(struct store *s, int from, int to)
{
	struct days_audit sum;
	struct keyring *k;
	int found = 0;
	char byte;

	if (fcntl(from, F_SETFL, O_NONBLOCK) < 0)
		_exit(100);
	do {
		int r;

		if (keyring_open_readonly(&k, s->place.ring, NULL) < 0)
			_exit(101);
		r = days_audit(s->place.dir, k, TODAY - 89, TODAY, s->options.map_bytes,
			       print_finding, NULL, NULL, &sum);
		keyring_close(k);
		found += r < 0 ? 102 : r;
		if (write(to, "x", 1) != 1)
			_exit(103);
	} while (found == 0 && read(from, &byte, 1) != 1);
	_exit(found);
}

static void audit_of_a_running_store_finds_nothing(void **state)
{
	int to[2], from[2], status;
	struct days_stats stats;
	uint64_t seed = 4;
	struct store s;
	pid_t pid;
	char byte;

	(void)state;
	store_init(&s, TODAY);
	s.options.rewrite_after_ms = 1;
	s.options.flush_rows = 50;
	store_start(&s); /* the days' keys are there before the auditor reads the keyring */
	for (int day = 0; day < 3; day++) {
		struct told t = told_make(1, 1, T0 - day * DAY, T0 - day * DAY + 1);

		store_put(&s, &t, 1);
	}
	store_stop(&s);
	assert_int_equal(pipe(to), 0);
	assert_int_equal(pipe(from), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		auditor(&s, to[0], from[1]);
	store_start(&s);
	for (int audits = 0; audits < 10;) {
		struct told t[10];
		struct pollfd p = { .fd = from[0], .events = POLLIN };

		for (int i = 0; i < 10; i++) {
			t[i] = told_make((uint32_t)dice_below(&seed, 1000),
					 (unsigned)dice_below(&seed, 9),
					 T0 - (int64_t)dice_below(&seed, 3) * DAY, 0);
			t[i].end = t[i].start + HOUR;
		}
		store_put(&s, t, 10);
		store_wait_flushed(&s);
		if (poll(&p, 1, 0) == 1)
			audits += read(from[0], &byte, 1) == 1 ? 1 : 1000;
	}
	assert_int_equal(write(to[1], "x", 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	days_stats(s.days, &stats);
	print_message("audited during %llu flushes, %llu merges, %llu rewrites\n",
		      (unsigned long long)stats.flushes, (unsigned long long)stats.merges,
		      (unsigned long long)stats.rewrites);
	assert_int_equal(s.faults, 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
	store_stop(&s);
	store_end(&s);
}

/* --- Killed --- */

/* Writes batches of one row a session each, session i at address i, and tells after each put. */
static void child(struct store *s, int out, const struct told *t, const uint64_t *batches, size_t n)
{
	struct fault fault;

	if (days_open(&s->days, &s->options, &fault) < 0)
		_exit(2);
	for (size_t i = 0; i < n; i++) {
		uint8_t e[1][EFFECT_SIZE];

		whole_make(e[0], t[i].ip, t[i].server, t[i].start, t[i].end);
		if (days_replay(s->days, batches[i], (const uint8_t(*)[EFFECT_SIZE])e, 1) < 0)
			_exit(3);
	}
	if (days_start(s->days) < 0)
		_exit(4);
	for (;;) {
		/* what was acknowledged before is replayed the next time; new batches have no rows */
		if (days_put(s->days, ++s->batch, NULL, 0) < 0 || s->faults)
			_exit(5);
		days_flush_soon(s->days);
		if (write(out, "x", 1) != 1)
			_exit(6);
		(void)usleep(200);
	}
}

static void killed_at_any_point_every_row_is_there_once(void **state)
{
	enum { N = 3000 };
	struct told *t = calloc(N, sizeof(*t));
	uint64_t *batches = calloc(N, sizeof(*batches));
	uint64_t seed = 99;
	struct store s;
	size_t n = 0;

	(void)state;
	store_init(&s, TODAY);
	s.options.rewrite_after_ms = 1;
	s.options.flush_rows = 5;
	for (int round = 0; round < 40; round++) {
		int pipes[2], status;
		char byte;
		pid_t pid;

		/* a few more sessions in the log, of yesterday and the day before */
		s.batch = ((uint64_t)round + 1) * 1000000;
		for (unsigned i = 0; i < 20 + dice_below(&seed, 50) && n < N; i++, n++) {
			batches[n] = ++s.batch;
			t[n] = told_make(0x0a000000 + (uint32_t)n, (unsigned)n % 7,
					 T0 - DAY - (int64_t)dice_below(&seed, DAY),
					 T0 - DAY + HOUR);
		}
		assert_int_equal(pipe(pipes), 0);
		/* the child has its own keyring open: one process at a time has it */
		keyring_close(s.place.keyring);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			if (keyring_open(&s.place.keyring, s.place.ring, NULL) < 0)
				_exit(7);
			s.options.keyring = s.place.keyring;
			close(pipes[0]);
			child(&s, pipes[1], t, batches, n);
		}
		close(pipes[1]);
		for (uint64_t k = dice_below(&seed, 25); k > 0; k--)
			if (read(pipes[0], &byte, 1) != 1)
				break;
		(void)usleep((useconds_t)dice_below(&seed, 3000)); /* not to wait for anything */
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		close(pipes[0]);
		assert_int_equal(keyring_open(&s.place.keyring, s.place.ring, NULL), 0);
		s.options.keyring = s.place.keyring;
	}
	s.options.flush_rows = 0;
	{
		struct fault fault;
		struct exits_entry shared = { .server = server_make(0) };
		struct days_stats stats;
		struct lookup *l;
		struct exits *x;

		assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
		for (size_t i = 0; i < n; i++) {
			uint8_t e[1][EFFECT_SIZE];

			whole_make(e[0], t[i].ip, t[i].server, t[i].start, t[i].end);
			assert_int_equal(days_replay(s.days, batches[i],
						     (const uint8_t(*)[EFFECT_SIZE])e, 1),
					 0);
		}
		days_stats(s.days, &stats);
		assert_int_equal(days_start(s.days), 0);
		/* each row counts: of a shared address nothing is taken for the same */
		x = exits_new(&shared, 1);
		l = store_ask(&s, NULL, 0, -1, INT64_MIN, INT64_MAX, x, 100000);
		assert_int_equal(l->code, 0);
		assert_int_equal(l->record_count, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(l->records[i].code, 0);
		lookup_free(l);
		exits_unref(x);
		days_flush_soon(s.days);
		store_stop(&s);
		assert_int_equal(days_open(&s.days, &s.options, &fault), 0);
		days_stats(s.days, &stats);
		/* two rows each but those that began at midnight */
		assert_in_range(stats.rows, n, 2 * n);
		{
			uint64_t rows = 0;

			for (size_t i = 0; i < n; i++)
				rows += t[i].start >= T0 - DAY ? 1 : 2;
			assert_int_equal(stats.rows, rows);
		}
		days_free(s.days);
	}
	assert_int_equal(s.faults, 0);
	free(t);
	free(batches);
	store_end(&s);
}

static void without_space_rows_wait_and_forgetting_goes_on(void **state)
{
	char options[64], path[300];
	uint64_t seed = 5;
	struct days_stats stats;
	struct told t = told_make(0x0a000001, 1, T0 - DAY, T0 - DAY + HOUR);
	struct store s;
	int fd;

	(void)state;
	if (geteuid() != 0) {
		print_message("skipped: needs root for a file system of its own\n");
		return;
	}
	store_init(&s, TODAY);
	s.options.retention_days = 2; /* and no day is old enough to be rewritten */
	s.options.flush_rows = 1000;
	assert_int_equal(mkdir(s.place.dir, 0700), 0);
	(void)snprintf(options, sizeof(options), "size=%u", 6u << 20);
	if (mount("none", s.place.dir, "tmpfs", 0, options) < 0) {
		print_message("skipped: cannot mount\n");
		store_end(&s);
		return;
	}
	store_start(&s);
	store_put(&s, &t, 1);
	store_wait_flushed(&s);
	(void)snprintf(path, sizeof(path), "%s/.2026-11-01.mdb", s.place.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	while (write(fd, &s, 4096 < sizeof(s) ? 4096 : sizeof(s)) > 0)
		;
	assert_false(days_no_space(s.days));
	/* what does not fit any more waits */
	while (days_room(s.days)) {
		struct told more = told_make((uint32_t)dice(&seed), 1, T0, T0 + HOUR);

		store_put(&s, &more, 1);
	}
	while (!days_no_space(s.days))
		(void)sched_yield();
	days_stats(s.days, &stats);
	assert_in_range(stats.waiting_rows, 1, 4000);
	assert_true(days_flushed(s.days) < s.batch);
	store_advance(&s, TODAY + 1);
	assert_false(has_file(&s, TODAY - 1));
	assert_int_equal(s.faults, 0);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	store_wait_flushed(&s);
	assert_int_equal(s.faults, 0);
	assert_true(days_room(s.days));
	lookup_free(store_ask(&s, t.ip, 128, -1, 0, 0, NULL, 1)); /* it has looked again */
	assert_false(days_no_space(s.days));
	store_stop(&s);
	assert_int_equal(umount(s.place.dir), 0);
	store_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(row_is_found_before_and_after_it_is_written),
		cmocka_unit_test(replay_drops_what_the_files_have),
		cmocka_unit_test(forgetting_destroys_the_key_and_then_the_file),
		cmocka_unit_test(day_without_its_key_ends_the_start_and_changes_nothing),
		cmocka_unit_test(strange_file_ends_the_start_and_stays),
		cmocka_unit_test(damaged_day_is_reported_and_the_others_are_served),
		cmocka_unit_test(damaged_file_is_set_aside_when_rows_wait_for_its_day),
		cmocka_unit_test(crash_after_setting_aside_loses_no_waiting_row),
		cmocka_unit_test(only_names_that_are_given_are_taken_for_files_set_aside),
		cmocka_unit_test(waiting_rows_are_counted_as_rows_from_the_moment_they_are_put),
		cmocka_unit_test(every_list_of_servers_is_told),
		cmocka_unit_test(an_answer_that_takes_long_holds_nothing_up),
		cmocka_unit_test(thread_that_failed_moves_nothing_on),
		cmocka_unit_test(damaged_file_system_ends_it_and_is_no_damaged_day),
		cmocka_unit_test(wish_to_write_outlasts_a_rewrite),
		cmocka_unit_test(late_rows_are_sorted_in_a_day_later_however_few),
		cmocka_unit_test(a_key_that_died_before_the_days_were_told_ends_nothing),
		cmocka_unit_test(a_day_s_file_that_is_older_or_missing_is_said_in_every_answer),
		cmocka_unit_test(eight_runs_found_at_a_start_are_merged_though_nothing_happens),
		cmocka_unit_test(damage_that_shows_when_a_merge_is_put_in_place_goes_on),
		cmocka_unit_test(damaged_file_in_use_is_set_aside_later),
		cmocka_unit_test(full_list_of_servers_holds_up_only_rows_of_others),
		cmocka_unit_test(sessions_of_ninety_days_are_found_whole),
		cmocka_unit_test(random_histories_are_answered_as_the_contract_says),
		cmocka_unit_test(eight_runs_become_one_and_a_closed_day_a_new_file),
		cmocka_unit_test(a_million_sessions_on_one_address_are_found),
		cmocka_unit_test(audit_of_a_running_store_finds_nothing),
		cmocka_unit_test(killed_at_any_point_every_row_is_there_once),
		cmocka_unit_test(without_space_rows_wait_and_forgetting_goes_on),
		cmocka_unit_test(speed_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
