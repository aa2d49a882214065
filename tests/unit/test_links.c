/* SPDX-License-Identifier: ISC */
/* links: sequence numbers and who has a stream. */
#include "links.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void takes_each_number_once(void **state)
{
	struct link k = { .first = true };

	(void)state;
	assert_int_equal(link_sequence(&k, 1), LINK_TAKE);
	assert_int_equal(link_sequence(&k, 2), LINK_TAKE);
	assert_int_equal(k.taken_to, 2);
}

static void refuses_a_gap_and_a_number_again(void **state)
{
	struct link k = { .first = true };

	(void)state;
	assert_int_equal(link_sequence(&k, 2), LINK_REFUSE);
	assert_int_equal(link_sequence(&k, 1), LINK_TAKE);
	assert_int_equal(link_sequence(&k, 1), LINK_REFUSE);
	assert_int_equal(link_sequence(&k, 3), LINK_REFUSE);
	assert_int_equal(k.taken_to, 1);
}

static void may_begin_earlier_after_a_reconnect(void **state)
{
	struct link k = { .first = true, .taken_to = 10 };

	(void)state;
	assert_int_equal(link_sequence(&k, 9), LINK_REPEAT);
	assert_int_equal(link_sequence(&k, 10), LINK_REPEAT);
	assert_int_equal(link_sequence(&k, 11), LINK_TAKE);
	assert_int_equal(k.taken_to, 11);
}

static void may_not_begin_later_than_the_next(void **state)
{
	struct link k = { .first = true, .taken_to = 10 };

	(void)state;
	assert_int_equal(link_sequence(&k, 12), LINK_REFUSE);
	assert_int_equal(k.taken_to, 10);
}

static void refuses_zero_and_a_wrap(void **state)
{
	struct link k = { .first = true, .taken_to = UINT64_MAX - 1 };

	(void)state;
	assert_int_equal(link_sequence(&k, 0), LINK_REFUSE);
	assert_int_equal(link_sequence(&k, UINT64_MAX), LINK_TAKE);
	assert_int_equal(link_sequence(&k, 0), LINK_REFUSE);
	assert_int_equal(link_sequence(&k, UINT64_MAX), LINK_REFUSE);
}

static void knows_of_a_gap_before_its_turn(void **state)
{
	struct link k = { .first = true, .taken_to = 10 };

	(void)state;
	assert_true(link_wait(&k, 9)); /* a repeat */
	assert_true(link_wait(&k, 10));
	assert_false(link_wait(&k, 12));
	assert_int_equal(k.waiting, 3);
	k = (struct link){ .next = 5, .taken_to = 4 };
	assert_false(link_wait(&k, 6));
	k.waiting = 0;
	assert_false(link_wait(&k, 0));
	k.waiting = 0;
	assert_true(link_wait(&k, 5));
	assert_true(link_wait(&k, 6));
	k = (struct link){ .next = UINT64_MAX, .taken_to = UINT64_MAX - 1 };
	assert_true(link_wait(&k, UINT64_MAX));
	assert_false(link_wait(&k, 0)); /* it wraps */
}

static void takes_a_number_once_more_when_there_is_more(void **state)
{
	struct link k = { .first = true };

	(void)state;
	for (uint64_t seq = 1; seq < 3; seq++) {
		assert_int_equal(link_sequence(&k, seq), LINK_TAKE);
		link_again(&k);
		assert_int_equal(k.taken_to, seq - 1);
		assert_int_equal(link_sequence(&k, seq + 1), LINK_REFUSE);
		assert_int_equal(link_sequence(&k, seq), LINK_TAKE);
	}
}

static void finds_by_slot_and_generation(void **state)
{
	struct links *l = NULL;
	uint64_t id = UINT64_C(7) << 32 | 3;

	(void)state;
	assert_int_equal(links_new(&l, 8), 0);
	assert_null(links_get(l, id));
	assert_non_null(links_add(l, id));
	assert_non_null(links_get(l, id));
	assert_null(links_get(l, UINT64_C(8) << 32 | 3)); /* the slot's next owner is another */
	assert_null(links_add(l, UINT64_C(1) << 32 | 8)); /* out of range */
	links_remove(l, id);
	assert_null(links_get(l, id));
	links_free(l);
}

static void finds_the_living_link_of_a_stream(void **state)
{
	struct links *l = NULL;
	struct link *a, *b;

	(void)state;
	assert_int_equal(links_new(&l, 8), 0);
	a = links_add(l, 1);
	b = links_add(l, 2);
	a->who.stream = b->who.stream = 5;
	memset(a->stream_id, 9, sizeof(a->stream_id));
	memset(b->stream_id, 9, sizeof(b->stream_id));
	assert_ptr_equal(links_with_stream(l, b->stream_id, b), a);
	a->dead = true;
	assert_null(links_with_stream(l, b->stream_id, b));
	assert_ptr_equal(links_next(l, NULL), a);
	assert_ptr_equal(links_next(l, a), b);
	assert_null(links_next(l, b));
	links_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_each_number_once),
		cmocka_unit_test(refuses_a_gap_and_a_number_again),
		cmocka_unit_test(may_begin_earlier_after_a_reconnect),
		cmocka_unit_test(may_not_begin_later_than_the_next),
		cmocka_unit_test(refuses_zero_and_a_wrap),
		cmocka_unit_test(knows_of_a_gap_before_its_turn),
		cmocka_unit_test(takes_a_number_once_more_when_there_is_more),
		cmocka_unit_test(finds_by_slot_and_generation),
		cmocka_unit_test(finds_the_living_link_of_a_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
