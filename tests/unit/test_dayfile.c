/* SPDX-License-Identifier: ISC */
/* One day's file: sealed blocks by number, durable, and nothing readable without the key. */
#include "daytest.h"

#include "dayblock.h"
#include "dayfile.h"

static struct dayfile_home home_of(struct place *p)
{
	struct dayfile_home home = { .dir = p->root, .keyring = p->keyring, .map_bytes = 1 << 28 };
	struct seal_key key;

	keyring_store(p->keyring, home.store);
	assert_int_equal(keyring_day_make(p->keyring, TODAY, &key), 0);
	return home;
}

static struct dayfile *new_file(const struct dayfile_home *home)
{
	struct dayfile *f;

	assert_int_equal(dayfile_open(&f, home, TODAY, DAYFILE_TEMPORARY, NULL), 0);
	return f;
}

static void put(struct dayfile *f, uint64_t number, const char *text)
{
	struct daywrite *w;

	assert_int_equal(daywrite_begin(&w, f, 1, 0), 0);
	assert_int_equal(daywrite_put(w, number, text, strlen(text)), 0);
	assert_int_equal(daywrite_commit(w), 0);
}

static int get(struct dayfile *f, uint64_t number, char out[100])
{
	struct dayread r;
	int n;

	assert_int_equal(dayread_begin(&r, f), 0);
	n = dayread_get(&r, number, (uint8_t *)out, 100);
	dayread_end(&r);
	return n;
}

static void block_comes_back_under_its_number_only(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct dayfile *f;
	uint64_t number = 0, count;
	struct dayread r;
	char out[100];

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	f = new_file(&home);
	put(f, 7, "seven");
	put(f, dayblock_number(3, DAYBLOCK_ROWS, 1), "three");
	assert_int_equal(get(f, 7, out), 5);
	assert_memory_equal(out, "seven", 5);
	assert_int_equal(get(f, 8, out), -ENOENT);
	assert_int_equal(dayfile_count(f, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(dayread_begin(&r, f), 0);
	assert_int_equal(dayread_next(&r, &number), 1);
	assert_int_equal(number, 7);
	number++;
	assert_int_equal(dayread_next(&r, &number), 1);
	assert_int_equal(number, dayblock_number(3, DAYBLOCK_ROWS, 1));
	number++;
	assert_int_equal(dayread_next(&r, &number), 0);
	dayread_end(&r);
	dayfile_close(f);
	place_remove(&p);
}

static void aborted_change_leaves_nothing(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct daywrite *w;
	struct dayfile *f;
	char out[100];

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	f = new_file(&home);
	put(f, 1, "old");
	assert_int_equal(daywrite_begin(&w, f, 1, 1), 0);
	assert_int_equal(daywrite_put(w, 1, "new", 3), 0);
	assert_int_equal(daywrite_del(w, 99), 0);
	daywrite_abort(w);
	assert_int_equal(get(f, 1, out), 3);
	assert_memory_equal(out, "old", 3);
	assert_int_equal(daywrite_begin(&w, f, 0, 1), 0);
	assert_int_equal(daywrite_del(w, 1), 0);
	assert_int_equal(daywrite_commit(w), 0);
	assert_int_equal(get(f, 1, out), -ENOENT);
	dayfile_close(f);
	place_remove(&p);
}

static void without_the_key_nothing_is_read_or_written(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct daywrite *w;
	struct dayfile *f;
	char out[100];

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	f = new_file(&home);
	put(f, 1, "old");
	assert_int_equal(keyring_forget_days(p.keyring, TODAY + 90, TODAY + 1), 0);
	assert_int_equal(get(f, 1, out), -ENOKEY);
	assert_int_equal(daywrite_begin(&w, f, 1, 0), 0);
	assert_int_equal(daywrite_put(w, 1, "new", 3), -ENOKEY);
	daywrite_abort(w);
	dayfile_close(f);
	place_remove(&p);
}

static void complete_file_takes_the_pages_it_uses(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct dayfile *f;
	char path[300], from[300], out[100];
	struct stat st;

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	f = new_file(&home);
	put(f, 1, "old");
	assert_int_equal(dayfile_seal_temporary(f), 0);
	(void)snprintf(from, sizeof(from), "%s/.2026-11-22.mdb", p.root);
	(void)snprintf(path, sizeof(path), "%s/2026-11-22.mdb", p.root);
	assert_int_equal(stat(from, &st), 0);
	assert_in_range(st.st_size, 3 * 4096, 8 * 4096);
	assert_int_equal(rename(from, path), 0);
	assert_int_equal(dayfile_open(&f, &home, TODAY, DAYFILE_LIVE, NULL), 0);
	assert_int_equal(get(f, 1, out), 3);
	put(f, 2, "more");
	dayfile_close(f);
	/* also by one that only reads */
	assert_int_equal(dayfile_open(&f, &home, TODAY, DAYFILE_READONLY, NULL), 0);
	assert_int_equal(get(f, 2, out), 4);
	dayfile_close(f);
	place_remove(&p);
}

static void swapped_file_cannot_be_opened(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct seal_key key;
	struct dayfile *f;
	char path[300], from[300], out[100];

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	assert_int_equal(keyring_day_make(p.keyring, TODAY - 1, &key), 0);
	f = new_file(&home);
	put(f, 1, "old");
	assert_int_equal(dayfile_seal_temporary(f), 0);
	(void)snprintf(from, sizeof(from), "%s/.2026-11-22.mdb", p.root);
	(void)snprintf(path, sizeof(path), "%s/2026-11-21.mdb", p.root);
	assert_int_equal(rename(from, path), 0);
	assert_int_equal(dayfile_open(&f, &home, TODAY - 1, DAYFILE_LIVE, NULL), 0);
	assert_int_equal(get(f, 1, out), -EBADMSG);
	dayfile_close(f);
	place_remove(&p);
}

/* Every overflow page of the file claims to be a thousand pages long. */
static void lie_about_overflow_pages(struct place *p)
{
	char path[300], from[300];
	uint8_t page[4096];
	const uint32_t pages = 1000;
	int fd, lied = 0;

	(void)snprintf(from, sizeof(from), "%s/.2026-11-22.mdb", p->root);
	(void)snprintf(path, sizeof(path), "%s/2026-11-22.mdb", p->root);
	assert_int_equal(rename(from, path), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (off_t at = 2 * 4096; pread(fd, page, sizeof(page), at) == 4096; at += 4096) {
		if (!(page[10] & 0x04))
			continue;
		assert_int_equal(pwrite(fd, &pages, sizeof(pages), at + 12), sizeof(pages));
		lied++;
	}
	assert_true(lied > 0);
	(void)close(fd);
}

static void a_damaged_overflow_header_is_not_believed(void **state)
{
	static uint8_t block[4000];
	struct place p;
	struct dayfile_home home;
	struct daywrite *w;
	struct dayfile *f;

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	f = new_file(&home);
	assert_int_equal(daywrite_begin(&w, f, 1, 0), 0);
	assert_int_equal(daywrite_put(w, 1, block, sizeof(block)), 0);
	assert_int_equal(daywrite_commit(w), 0);
	assert_int_equal(daywrite_begin(&w, f, 1, 1), 0);
	assert_int_equal(daywrite_put(w, 1, block, sizeof(block)),
			 0); /* a sound one may be replaced */
	assert_int_equal(daywrite_commit(w), 0);
	assert_int_equal(dayfile_seal_temporary(f), 0);
	lie_about_overflow_pages(&p);
	assert_int_equal(dayfile_open(&f, &home, TODAY, DAYFILE_LIVE, NULL), 0);
	assert_int_equal(daywrite_begin(&w, f, 1, 1), 0);
	assert_int_equal(daywrite_del(w, 1), -EBADMSG);
	daywrite_abort(w);
	assert_int_equal(daywrite_begin(&w, f, 1, 1), 0);
	assert_int_equal(daywrite_put(w, 1, "x", 1), -EBADMSG);
	daywrite_abort(w);
	dayfile_close(f);
	place_remove(&p);
}

static void full_map_is_no_room_and_no_harm(void **state)
{
	struct place p;
	struct dayfile_home home;
	struct daywrite *w;
	struct dayfile *f;
	char out[100];
	int r, n = 0;

	(void)state;
	place_make(&p, TODAY);
	home = home_of(&p);
	home.map_bytes = 1 << 20;
	f = new_file(&home);
	while ((r = daywrite_begin(&w, f, 1, 0)) == 0) {
		char bytes[4000] = { 0 };

		assert_int_equal(daywrite_put(w, (uint64_t)n++, bytes, sizeof(bytes)), 0);
		assert_int_equal(daywrite_commit(w), 0);
	}
	assert_int_equal(r, -ENOSPC);
	assert_in_range(n, 100, 256);
	assert_int_equal(get(f, 0, out), -EBADMSG); /* longer than asked for */
	dayfile_close(f);
	place_remove(&p);
}

static void damage_of_the_file_system_is_no_damage_of_a_day(void **state)
{
	(void)state;
	assert_int_equal(dayfile_errno(EBADMSG), -EIO);
	assert_int_equal(dayfile_errno(ENOSPC), -ENOSPC);
}

static void files_set_aside_have_names_of_their_own(void **state)
{
	char name[DAYFILE_NAME_SIZE];

	(void)state;
	dayfile_aside_name(name, TODAY, 1);
	assert_string_equal(name, "2026-11-22.damaged");
	dayfile_aside_name(name, TODAY, 2);
	assert_string_equal(name, "2026-11-22.damaged-2");
	dayfile_aside_name(name, TODAY, DAYFILE_ASIDE_MAX);
	assert_string_equal(name, "2026-11-22.damaged-9999");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(block_comes_back_under_its_number_only),
		cmocka_unit_test(aborted_change_leaves_nothing),
		cmocka_unit_test(without_the_key_nothing_is_read_or_written),
		cmocka_unit_test(complete_file_takes_the_pages_it_uses),
		cmocka_unit_test(swapped_file_cannot_be_opened),
		cmocka_unit_test(a_damaged_overflow_header_is_not_believed),
		cmocka_unit_test(full_map_is_no_room_and_no_harm),
		cmocka_unit_test(damage_of_the_file_system_is_no_damage_of_a_day),
		cmocka_unit_test(files_set_aside_have_names_of_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
