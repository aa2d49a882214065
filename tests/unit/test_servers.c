/* SPDX-License-Identifier: ISC */
/* Which servers have a place: those of living days and of open sessions, and no other. */
#include "daytest.h"
#include "servers.h"

static bool is_open(const struct server_key *server, void *arg)
{
	struct server_key one = server_make(*(unsigned *)arg);

	return memcmp(server, &one, sizeof(one)) == 0;
}

static struct servers *make(void)
{
	static const uint8_t key[16] = { 1 };
	struct servers *s = NULL;

	assert_int_equal(servers_new(&s, key), 0);
	return s;
}

static void note(struct servers *s, unsigned n, int32_t day)
{
	struct server_key key = server_make(n);

	assert_true(servers_room(s, &key));
	assert_int_equal(servers_note(s, &key, day), 0);
}

static bool room(struct servers *s, unsigned n)
{
	struct server_key key = server_make(n);

	return servers_room(s, &key);
}

static void there_is_room_for_as_many_as_a_day_s_list_has(void **state)
{
	struct servers *s = make();
	struct server_key one_more = server_make(SERVERS_MAX);

	(void)state;
	for (unsigned i = 0; i < SERVERS_MAX; i++) {
		note(s, i, 5);
		note(s, i / 2, 3); /* is there already */
	}
	assert_int_equal(servers_count(s), SERVERS_MAX);
	assert_false(room(s, SERVERS_MAX));
	assert_true(room(s, 0));
	assert_true(room(s, SERVERS_MAX - 1));
	/* What is there is there; but nobody else gets in. */
	assert_int_equal(servers_note(s, &one_more, 5), 0);
	assert_true(room(s, SERVERS_MAX));
	assert_false(room(s, SERVERS_MAX + 1));
	servers_free(s);
}

static void the_last_day_of_a_server_counts(void **state)
{
	struct servers *s = make();
	unsigned open = 3;

	(void)state;
	note(s, 1, 7);
	note(s, 1, 5);
	note(s, 2, 5);
	note(s, 2, 6);
	note(s, 3, INT32_MIN);
	note(s, 4, INT32_MIN);
	servers_forget(s, 7, is_open, &open);
	assert_int_equal(servers_count(s), 2); /* 1 and 3 */
	note(s, 1, INT32_MIN);
	note(s, 3, 9);
	assert_int_equal(servers_count(s), 2);
	open = 9;
	servers_forget(s, 8, is_open, &open);
	assert_int_equal(servers_count(s), 1);
	servers_forget(s, 10, is_open, &open);
	assert_int_equal(servers_count(s), 0);
	servers_forget(s, 11, is_open, &open);
	servers_free(s);
	servers_free(NULL);
}

static void those_that_stay_are_found_and_the_others_make_room(void **state)
{
	struct servers *s = make();
	unsigned open = UINT32_MAX;

	(void)state;
	for (unsigned day = 0; day < 20; day++) {
		for (unsigned i = 0; i < SERVERS_MAX / 2; i++)
			note(s, day * (SERVERS_MAX / 2) + i, (int32_t)day);
		servers_forget(s, (int32_t)day - 1, is_open, &open);
		assert_int_equal(servers_count(s), (day ? 2 : 1) * (SERVERS_MAX / 2));
		servers_forget(s, (int32_t)day, is_open, &open);
		assert_int_equal(servers_count(s), SERVERS_MAX / 2);
		for (unsigned i = 0; i < SERVERS_MAX / 2; i++)
			note(s, day * (SERVERS_MAX / 2) + i, (int32_t)day);
		assert_int_equal(servers_count(s), SERVERS_MAX / 2);
	}
	servers_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_room_for_as_many_as_a_day_s_list_has),
		cmocka_unit_test(the_last_day_of_a_server_counts),
		cmocka_unit_test(those_that_stay_are_found_and_the_others_make_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
