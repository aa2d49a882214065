/* SPDX-License-Identifier: ISC */
/* sort: order, stability, and nothing left behind. */
#include "sort.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct thing {
	uint32_t key, number;
	uint8_t pad[5];
} __attribute__((packed));

/* In the place of the C library's, with and without FORTIFY. */
size_t wiped;
bool no_memory;
void __explicit_bzero_chk(void *at, size_t n, size_t room);

void explicit_bzero(void *at, size_t n)
{
	volatile uint8_t *p = at;

	for (size_t i = 0; i < n; i++)
		p[i] = 0;
	wiped += n;
}

void __explicit_bzero_chk(void *at, size_t n, size_t room)
{
	(void)room;
	explicit_bzero(at, n);
}

void *reallocarray(void *at, size_t n, size_t size)
{
	return no_memory ? NULL : realloc(at, n * size);
}

static int order(const void *a, const void *b)
{
	const struct thing *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static void anything_comes_out_in_order_and_equals_stay_in_theirs(void **state)
{
	static struct thing t[1100];

	(void)state;
	srandom(7);
	for (size_t n = 0; n < 1100; n += n < 70 ? 1 : 97) {
		uint64_t sum = 0, after = 0;

		for (uint32_t i = 0; i < n; i++) {
			t[i] = (struct thing){ .key = (uint32_t)random() % (n % 3 ? 50 : 100000),
					       .number = i };
			sum += t[i].key;
		}
		assert_int_equal(sort_wiped(t, n, sizeof(t[0]), order), 0);
		for (size_t i = 0; i < n; i++)
			after += t[i].key;
		assert_int_equal(sum, after);
		for (size_t i = 1; i < n; i++)
			assert_true(t[i - 1].key < t[i].key ||
				    (t[i - 1].key == t[i].key && t[i - 1].number < t[i].number));
	}
}

static void sorted_and_reversed_rows_too(void **state)
{
	static struct thing t[1000];

	(void)state;
	for (int reversed = 0; reversed < 2; reversed++) {
		for (uint32_t i = 0; i < 1000; i++)
			t[i] = (struct thing){ .key = reversed ? 999 - i : i, .number = i };
		assert_int_equal(sort_wiped(t, 1000, sizeof(t[0]), order), 0);
		for (uint32_t i = 0; i < 1000; i++)
			assert_int_equal(t[i].key, i);
	}
}

static void without_memory_nothing_moves(void **state)
{
	struct thing t[2] = { { .key = 2 }, { .key = 1 } };

	(void)state;
	no_memory = true;
	assert_int_equal(sort_wiped(t, 2, sizeof(t[0]), order), -ENOMEM);
	no_memory = false;
	assert_int_equal(t[0].key, 2);
}

static void the_buffer_is_wiped(void **state)
{
	static struct thing t[500];

	(void)state;
	for (uint32_t i = 0; i < 500; i++)
		t[i].key = 1000 - i;
	wiped = 0;
	assert_int_equal(sort_wiped(t, 500, sizeof(t[0]), order), 0);
	assert_int_equal(wiped, sizeof(t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(anything_comes_out_in_order_and_equals_stay_in_theirs),
		cmocka_unit_test(sorted_and_reversed_rows_too),
		cmocka_unit_test(without_memory_nothing_moves),
		cmocka_unit_test(the_buffer_is_wiped),
	};

	return cmocka_run_group_tests_name("sort", tests, NULL, NULL);
}
