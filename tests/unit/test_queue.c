/* SPDX-License-Identifier: ISC */
/* queue: order, bounds, and no bell lost between two threads. */
#include "queue.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MANY 300000u

static void put(struct queue *q, uint64_t v)
{
	*(uint64_t *)queue_place(q, 0) = v;
	queue_push(q, 1);
}

static uint64_t item(struct queue *q, size_t i)
{
	return *(uint64_t *)queue_item(q, i);
}

static void keeps_order_round_and_round(void **state)
{
	struct queue *q = NULL;

	(void)state;
	assert_int_equal(queue_new(&q, sizeof(uint64_t), 4), 0);
	for (uint64_t i = 0; i < 100; i += 3) {
		for (uint64_t j = 0; j < 3; j++)
			put(q, i + j);
		assert_int_equal(queue_ready(q), 3);
		for (size_t j = 0; j < 3; j++)
			assert_int_equal(item(q, j), i + j);
		queue_pop(q, 3);
	}
	queue_free(q);
}

static void says_how_much_room_there_is(void **state)
{
	struct queue *q = NULL;

	(void)state;
	assert_int_equal(queue_new(&q, sizeof(uint64_t), 4), 0);
	assert_int_equal(queue_room(q), 4);
	for (uint64_t i = 0; i < 4; i++)
		put(q, i);
	assert_int_equal(queue_room(q), 0);
	queue_pop(q, 1);
	assert_int_equal(queue_room(q), 1);
	queue_free(q);
}

static void the_bell_rings_only_for_a_sleeper(void **state)
{
	struct queue *q = NULL;
	struct pollfd p;

	(void)state;
	assert_int_equal(queue_new(&q, sizeof(uint64_t), 4), 0);
	p = (struct pollfd){ .fd = queue_fd(q), .events = POLLIN };
	assert_true(queue_may_sleep(q));
	assert_int_equal(poll(&p, 1, 0), 0);
	put(q, 1);
	queue_ring(q);
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_false(queue_may_sleep(q)); /* reads the bell, sees the item */
	assert_int_equal(poll(&p, 1, 0), 0);
	queue_free(q);
}

static void *producer(void *arg)
{
	struct queue *q = arg;

	for (uint64_t i = 0; i < MANY;) {
		size_t room = queue_room(q), n = 0;

		for (; n < room && i < MANY; n++, i++)
			*(uint64_t *)queue_place(q, n) = i;
		queue_push(q, n);
		queue_ring(q);
	}
	return NULL;
}

static void two_threads_lose_nothing(void **state)
{
	struct queue *q = NULL;
	pthread_t t;
	uint64_t next = 0;

	(void)state;
	assert_int_equal(queue_new(&q, sizeof(uint64_t), 64), 0);
	assert_int_equal(pthread_create(&t, NULL, producer, q), 0);
	while (next < MANY) {
		size_t n = queue_ready(q);

		for (size_t i = 0; i < n; i++)
			assert_int_equal(item(q, i), next++);
		queue_pop(q, n);
		if (n == 0 && queue_may_sleep(q)) {
			struct pollfd p = { .fd = queue_fd(q), .events = POLLIN };

			/* A bell that was lost would end in this limit. */
			assert_int_equal(poll(&p, 1, 60000), 1);
		}
	}
	assert_int_equal(pthread_join(t, NULL), 0);
	queue_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_order_round_and_round),
		cmocka_unit_test(says_how_much_room_there_is),
		cmocka_unit_test(the_bell_rings_only_for_a_sleeper),
		cmocka_unit_test(two_threads_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
