/* SPDX-License-Identifier: ISC */
/* Runs become one, whatever is in them; what cannot be read is left alone; audit sees it all. */
#include "daytest.h"

#include "dayask.h"
#include "daykeep.h"
#include "dayscan.h"

/* A day with its file, without any thread. */
struct yard {
	struct place place;
	struct dayset set;
	struct day *day;
	uint64_t batch, seed;
};

static void yard_make(struct yard *y)
{
	struct dayfile_home home = { .map_bytes = (size_t)1 << 30 };
	struct seal_key key;

	memset(y, 0, sizeof(*y));
	place_make(&y->place, TODAY);
	y->seed = 17;
	home.dir = y->place.dir;
	home.keyring = y->place.keyring;
	keyring_store(home.keyring, home.store);
	assert_int_equal(keyring_day_make(home.keyring, TODAY, &key), 0);
	assert_int_equal(dayset_open(&y->set, &home, NULL), 0);
	y->day = dayset_get(&y->set, TODAY);
	assert_non_null(y->day);
	assert_int_equal(dayset_make(&y->set, y->day, NULL), 0);
}

static void yard_remove(struct yard *y)
{
	dayset_close(&y->set);
	place_remove(&y->place);
}

/* n rows of both families, few addresses, so that many are alike. */
static void flush(struct yard *y, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct daywait_row row = { .server = server_make(
						   (unsigned)dice_below(&y->seed, 9)) };

		if (dice_below(&y->seed, 3))
			ip4_make(row.ip, 0x0a000000 + (uint32_t)dice_below(&y->seed, 500));
		else
			row.ip[0] = 0x20, row.ip[15] = (uint8_t)dice(&y->seed);
		row.start = (uint32_t)dice_below(&y->seed, 86400000);
		row.end = row.start;
		if (dice_below(&y->seed, 10) == 0)
			row.start = ROW_MORE;
		assert_int_equal(daywait_add(&y->day->wait, &row, ++y->batch, 0), 0);
	}
	assert_int_equal(day_flush(y->day, y->batch), 0);
}

struct sum {
	const struct dayservers *servers;
	uint64_t rows, digest;
};

static bool add_row(const struct dayrow *row, void *arg)
{
	struct sum *sum = arg;
	uint64_t h = row->start * UINT64_C(0x9e3779b97f4a7c15) ^ row->end;

	for (int i = 0; i < 16; i++)
		h = (h ^ row->ip[i]) * UINT64_C(0x100000001b3);
	for (unsigned i = 0; i < SERVER_KEY_SIZE; i++)
		h = (h ^ sum->servers->keys[row->server].b[i]) * UINT64_C(0x100000001b3);
	sum->rows++;
	sum->digest += h * UINT64_C(0xd6e8feb86659fd93); /* in any order */
	return true;
}

static struct sum sum_of(struct yard *y)
{
	struct dayrange all = { 0, DAYADDR_MAX };
	struct sum sum = { .servers = &y->day->servers };
	unsigned budget = 1u << 30;
	struct dayscan scan = {
		.ranges = &all,
		.ranges_n = 1,
		.own = all,
		.servers_n = y->day->servers.n,
		.to = DAYBLOCK_DAY_MS,
		.runs = y->day->runs,
		.runs_n = y->day->n,
		.fn = add_row,
		.arg = &sum,
	};

	assert_int_equal(dayset_use(&y->set, y->day, NULL), 0);
	assert_int_equal(dayscan_step(&scan, y->day->file, &budget), 0);
	assert_int_equal(scan.unreadable, 0);
	return sum;
}

static struct mergejob *merge(struct yard *y, enum mergejob_kind kind)
{
	struct mergejob *job = mergejob_new(kind, y->day, y->day->runs, y->day->n);
	atomic_bool cancel = false;

	assert_non_null(job);
	if (kind == MERGE_RUNS)
		job->id = y->day->next_run++;
	mergejob_run(job, &y->set.home, &cancel);
	return job;
}

static void print_finding(const struct fault *fault, void *arg)
{
	(void)arg;
	print_message("finding: %s block %llx: %s\n", fault->file, (unsigned long long)fault->block,
		      fault->what);
}

static int audit(struct yard *y, struct days_audit *out)
{
	return days_audit(y->place.dir, y->place.keyring, TODAY - 89, TODAY, (size_t)1 << 30,
			  print_finding, NULL, NULL, out);
}

static void merged_runs_hold_the_same_rows(void **state)
{
	struct days_audit sum;
	struct mergejob *job;
	struct sum before;
	struct yard y;
	uint32_t n;

	(void)state;
	yard_make(&y);
	for (unsigned i = 0; i < 8; i++)
		flush(&y, 1 + i * i * 97);
	before = sum_of(&y);
	job = merge(&y, MERGE_RUNS);
	assert_int_equal(job->error, 0);
	n = job->n;
	assert_int_equal(day_switch(y.day, job->runs, job->n, job->run), 0);
	job->run = NULL;
	assert_int_equal(y.day->n, 1);
	assert_true(sum_of(&y).rows == before.rows && sum_of(&y).digest == before.digest);
	/* somebody goes through the old ones as long as the job has them */
	assert_int_equal(day_reap(y.day), 0);
	assert_int_equal(y.day->garbage_n, 0);
	mergejob_free(job);
	assert_int_equal(day_reap(y.day), 0);
	assert_int_equal(y.day->garbage_n, n);
	job = merge(&y, MERGE_DELETE);
	assert_int_equal(job->error, 0);
	mergejob_free(job);
	assert_int_equal(audit(&y, &sum), 0);
	assert_int_equal(sum.rows, before.rows);
	yard_remove(&y);
}

static void rewritten_day_is_one_run_in_a_new_file(void **state)
{
	struct days_audit sum;
	struct mergejob *job;
	struct sum before;
	struct yard y;
	uint64_t bytes;

	(void)state;
	yard_make(&y);
	for (unsigned i = 0; i < 20; i++)
		flush(&y, 500);
	before = sum_of(&y);
	bytes = dayfile_bytes(y.day->file);
	job = merge(&y, MERGE_REWRITE);
	assert_int_equal(job->error, 0);
	mergejob_free(job);
	assert_int_equal(dayset_replace(&y.set, y.day, NULL), 0);
	day_unload(y.day);
	assert_int_equal(day_load(y.day, NULL), 0);
	assert_int_equal(y.day->n, 1);
	assert_true(y.day->rewritten);
	assert_int_equal(y.day->through, y.batch);
	/* in an order that does not tell which came first */
	for (uint32_t i = 1; i < y.day->servers.n; i++)
		assert_true(memcmp(&y.day->servers.keys[i - 1], &y.day->servers.keys[i],
				   SERVER_KEY_SIZE) < 0);
	assert_int_equal(y.day->servers.n, 9);
	assert_true(sum_of(&y).rows == before.rows && sum_of(&y).digest == before.digest);
	assert_true(dayfile_bytes(y.day->file) < bytes);
	flush(&y, 10); /* late ones come as another run */
	assert_int_equal(y.day->n, 2);
	assert_int_equal(audit(&y, &sum), 0);
	assert_int_equal(sum.rows, before.rows + 10);
	yard_remove(&y);
}

static void cancelled_job_leaves_what_the_next_opening_finds(void **state)
{
	struct mergejob *job;
	atomic_bool cancel = true;
	struct sum before;
	struct yard y;

	(void)state;
	yard_make(&y);
	for (unsigned i = 0; i < 8; i++)
		flush(&y, 300);
	before = sum_of(&y);
	job = mergejob_new(MERGE_RUNS, y.day, y.day->runs, y.day->n);
	job->id = y.day->next_run;
	mergejob_run(job, &y.set.home, &cancel);
	assert_int_equal(job->error, -ECANCELED);
	mergejob_free(job);
	/* done, but nobody put it into the manifest: a crash */
	job = merge(&y, MERGE_RUNS);
	assert_int_equal(job->error, 0);
	{
		uint32_t id = job->run->id;

		mergejob_free(job);
		day_unload(y.day);
		assert_int_equal(day_load(y.day, NULL), 0);
		assert_int_equal(y.day->n, 8);
		assert_int_equal(y.day->garbage_n, 1);
		assert_int_equal(y.day->garbage[0], id);
		assert_int_equal(y.day->next_run, id + 1);
	}
	job = merge(&y, MERGE_DELETE);
	assert_int_equal(job->error, 0);
	mergejob_free(job);
	day_unload(y.day);
	assert_int_equal(day_load(y.day, NULL), 0);
	assert_int_equal(y.day->garbage_n, 0);
	assert_true(sum_of(&y).digest == before.digest);
	yard_remove(&y);
}

static void unreadable_block_stops_the_merge_and_is_found_by_the_audit(void **state)
{
	struct days_audit sum;
	struct mergejob *job;
	struct daywrite *w;
	struct yard y;

	(void)state;
	yard_make(&y);
	for (unsigned i = 0; i < 8; i++)
		flush(&y, 600);
	assert_int_equal(daywrite_begin(&w, y.day->file, 1, 0), 0);
	assert_int_equal(daywrite_del(w, dayblock_number(3, DAYBLOCK_ROWS, 1)), 0);
	assert_int_equal(daywrite_commit(w), 0);
	job = merge(&y, MERGE_RUNS);
	assert_int_equal(job->error, -EBADMSG);
	assert_ptr_equal(job->bad, y.day->runs[2]);
	assert_null(job->run);
	assert_int_equal(job->fault.block, dayblock_number(3, DAYBLOCK_ROWS, 1));
	mergejob_free(job);
	assert_true(audit(&y, &sum) >= 1);
	yard_remove(&y);
}

static void audit_finds_what_does_not_belong_there(void **state)
{
	char path[300], row[ROW4_SIZE * 2] = { 0 };
	struct days_audit sum;
	struct daywrite *w;
	struct yard y;
	int fd;

	(void)state;
	yard_make(&y);
	flush(&y, 600);
	assert_int_equal(audit(&y, &sum), 0);
	assert_int_equal(sum.rows, 600);
	assert_int_equal(sum.files, 1);
	/* a block too many, and one with a row that ends before it begins */
	memset(row, 0xff, sizeof(row));
	assert_int_equal(daywrite_begin(&w, y.day->file, 2, 0), 0);
	assert_int_equal(daywrite_put(w, dayblock_number(1, DAYBLOCK_ROWS, 77), row, sizeof(row)),
			 0);
	assert_int_equal(daywrite_commit(w), 0);
	assert_int_equal(audit(&y, &sum), 1);
	assert_int_equal(daywrite_begin(&w, y.day->file, 2, 1), 0);
	assert_int_equal(daywrite_del(w, dayblock_number(1, DAYBLOCK_ROWS, 77)), 0);
	assert_int_equal(daywrite_put(w, dayblock_number(1, DAYBLOCK_ROWS, 0), row, sizeof(row)),
			 0);
	assert_int_equal(daywrite_commit(w), 0);
	assert_int_equal(audit(&y, &sum), 1);
	(void)snprintf(path, sizeof(path), "%s/notes.txt", y.place.dir);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(audit(&y, &sum), 2);
	yard_remove(&y);
}

static void blocks_of_no_run_are_found_in_a_store_at_rest(void **state)
{
	struct days_audit sum;
	struct dayset running;
	struct mergejob *job;
	struct yard y;

	(void)state;
	yard_make(&y);
	for (unsigned i = 0; i < 8; i++)
		flush(&y, 300);
	job = merge(&y, MERGE_RUNS); /* nobody puts it into the manifest */
	assert_int_equal(job->error, 0);
	mergejob_free(job);
	assert_int_equal(audit(&y, &sum), 1);
	/* while a daemon has it, they may be coming or going */
	assert_int_equal(dayset_open(&running, &y.set.home, NULL), 0);
	dayset_hold(&running);
	assert_true(dayset_held(&y.set));
	assert_int_equal(audit(&y, &sum), 0);
	dayset_close(&running);
	assert_false(dayset_held(&y.set));
	assert_int_equal(audit(&y, &sum), 1);
	yard_remove(&y);
}

static void audit_finds_missing_files_and_those_set_aside(void **state)
{
	struct days_audit sum;
	struct seal_key key;
	struct yard y;

	(void)state;
	yard_make(&y);
	flush(&y, 10);
	assert_int_equal(keyring_day_make(y.place.keyring, TODAY - 3, &key), 0);
	assert_int_equal(audit(&y, &sum), 1); /* a key without a file */
	assert_int_equal(dayset_set_aside(&y.set, y.day, NULL), 0);
	assert_int_equal(audit(&y, &sum), 2); /* the file that was set aside is one of its key */
	assert_int_equal(sum.rows, 0);
	assert_int_equal(dayset_make(&y.set, y.day, NULL), 0);
	flush(&y, 5);
	assert_int_equal(audit(&y, &sum), 2);
	assert_int_equal(sum.rows, 5);
	yard_remove(&y);
}

/* Its runs' numbers are those of others in the new file, and its servers' places too. */
static void question_under_way_reads_nothing_of_the_file_that_follows(void **state)
{
	struct fault fault = { 0 };
	struct lookup *l;
	struct dayask *a;
	struct yard y;

	(void)state;
	for (int scanning = 0; scanning < 2; scanning++) {
		yard_make(&y);
		flush(&y, 3000);
		l = ask_make(NULL, 0, -1, INT64_MIN, INT64_MAX, NULL, 10000);
		assert_int_equal(dayask_new(&a, l, &y.set, TODAY - 89), 0);
		if (scanning)
			assert_true(dayask_step(a, &y.set, 1));
		assert_int_equal(dayset_set_aside(&y.set, y.day, NULL), 0);
		assert_int_equal(dayset_make(&y.set, y.day, NULL), 0);
		flush(&y, 1);
		l->n = 0;
		while (dayask_step(a, &y.set, 1))
			;
		assert_int_equal(l->n, 0);
		assert_int_equal(l->code, NOLOG_DONE_UNREADABLE);
		assert_int_equal(dayask_unreadable(a, &fault),
				 0); /* it was said when it was set aside */
		dayask_free(a);
		lookup_free(l);
		yard_remove(&y);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(merged_runs_hold_the_same_rows),
		cmocka_unit_test(rewritten_day_is_one_run_in_a_new_file),
		cmocka_unit_test(cancelled_job_leaves_what_the_next_opening_finds),
		cmocka_unit_test(unreadable_block_stops_the_merge_and_is_found_by_the_audit),
		cmocka_unit_test(audit_finds_what_does_not_belong_there),
		cmocka_unit_test(blocks_of_no_run_are_found_in_a_store_at_rest),
		cmocka_unit_test(audit_finds_missing_files_and_those_set_aside),
		cmocka_unit_test(question_under_way_reads_nothing_of_the_file_that_follows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
