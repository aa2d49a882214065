/* SPDX-License-Identifier: ISC */
/* Large answers are finished on a thread of their own, in order, every one. */
#include "daytest.h"

#include "dayfinish.h"

#include <pthread.h>
#include <stdatomic.h>

struct seen {
	pthread_t caller;
	pthread_mutex_t held; /* while it is, the thread stands still */
	atomic_uint n;
	uint64_t last;
	bool in_order, elsewhere;
};

static void finish(struct lookup *l, void *arg)
{
	struct seen *s = arg;

	(void)pthread_mutex_lock(&s->held);
	s->in_order = s->in_order && l->seq == s->last + 1;
	s->elsewhere = s->elsewhere && !pthread_equal(pthread_self(), s->caller);
	s->last = l->seq;
	lookup_finish(l, 0);
	lookup_free(l);
	atomic_fetch_add(&s->n, 1);
	(void)pthread_mutex_unlock(&s->held);
}

static void all_are_finished_in_order_without_holding_up_who_gives(void **state)
{
	struct seen s = { .caller = pthread_self(), .in_order = true, .elsewhere = true };
	struct dayfinish *f = NULL;

	(void)state;
	assert_int_equal(pthread_mutex_init(&s.held, NULL), 0);
	assert_int_equal(dayfinish_start(&f, finish, &s), 0);
	(void)pthread_mutex_lock(&s.held);
	for (uint64_t i = 1; i <= 50; i++) {
		struct lookup *l = ask_make(NULL, 0, -1, 0, 1, NULL, 5);

		l->seq = i;
		dayfinish_give(f, l);
	}
	assert_int_equal(atomic_load(&s.n), 0);
	(void)pthread_mutex_unlock(&s.held);
	dayfinish_stop(f);
	assert_int_equal(atomic_load(&s.n), 50);
	assert_true(s.in_order && s.elsewhere);
	(void)pthread_mutex_destroy(&s.held);
}

static void it_ends_when_there_is_nothing(void **state)
{
	struct seen s = { .caller = pthread_self() };
	struct dayfinish *f = NULL;

	(void)state;
	assert_int_equal(dayfinish_start(&f, finish, &s), 0);
	dayfinish_stop(f);
	dayfinish_stop(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_finished_in_order_without_holding_up_who_gives),
		cmocka_unit_test(it_ends_when_there_is_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
