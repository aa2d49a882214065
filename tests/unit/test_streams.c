/* SPDX-License-Identifier: ISC */
/* streams: positions are taken, moved, logged and forgotten. */
#include "streams.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static int open_streams(void **state)
{
	struct streams *s;

	assert_int_equal(streams_new(&s), 0);
	*state = s;
	return 0;
}

static int close_streams(void **state)
{
	streams_free(*state);
	return 0;
}

static void make_id(uint8_t id[16], uint32_t n)
{
	memset(id, 0, 16);
	nolog_put32(id, n * 2654435761u);
	nolog_put32(id + 8, n * 2246822519u + 1);
}

static struct effect effect(const struct effects *out, size_t i)
{
	struct effect e;

	assert_true(i < out->n);
	assert_int_equal(effect_decode(&e, out->at[i]), 0);
	assert_int_equal(e.type, EFFECT_STREAM);
	return e;
}

static void an_unknown_stream_stands_at_zero(void **state)
{
	struct streams *s = *state;
	struct effects out = { 0 };
	uint8_t id[16];

	make_id(id, 1);
	assert_int_equal(streams_get(s, id), 0);
	streams_emit(s, id, &out);
	assert_int_equal(out.n, 0);
	assert_int_equal(streams_move(s, id, id, 1, &out), 0);
	assert_int_equal(out.n, 0);
	assert_int_equal(streams_count(s), 0);
}

static void a_position_is_taken_and_logged(void **state)
{
	struct streams *s = *state;
	struct effects out = { 0 };
	uint8_t id[16];

	for (uint32_t i = 0; i < 5000; i++) {
		make_id(id, i);
		assert_int_equal(streams_set(s, id, 3, i + 1, 0), 0);
		assert_int_equal(streams_set(s, id, 3, i + 2, 0), 0);
	}
	assert_int_equal(streams_count(s), 5000);
	for (uint32_t i = 0; i < 5000; i++) {
		make_id(id, i);
		assert_int_equal(streams_get(s, id), i + 2);
	}
	streams_emit(s, id, &out);
	assert_int_equal(effect(&out, 0).u.stream.seq, 5001);
	assert_int_equal(effect(&out, 0).u.stream.generation, 3);
	assert_memory_equal(effect(&out, 0).u.stream.stream, id, 16);
	effects_free(&out);
}

static void a_moved_stream_keeps_its_position_under_the_new_id(void **state)
{
	struct streams *s = *state;
	struct effects out = { 0 };
	uint8_t from[16], to[16];

	make_id(from, 1);
	make_id(to, 2);
	assert_int_equal(streams_set(s, from, 1, 77, 0), 0);
	assert_int_equal(streams_move(s, from, to, 2, &out), 0);
	assert_int_equal(streams_get(s, from), 0);
	assert_int_equal(streams_get(s, to), 77);
	assert_int_equal(streams_count(s), 1);
	assert_int_equal(out.n, 2);
	assert_int_equal(effect(&out, 0).u.stream.seq, 77);
	assert_int_equal(effect(&out, 0).u.stream.generation, 2);
	assert_int_equal(effect(&out, 1).u.stream.seq, 0);
	effects_free(&out);
}

static void a_stream_without_a_frame_for_seven_days_is_forgotten(void **state)
{
	struct streams *s = *state;
	struct effects out = { 0 };
	uint8_t old[16], young[16];

	make_id(old, 1);
	make_id(young, 2);
	assert_int_equal(streams_set(s, old, 1, 5, 1000), 0);
	assert_int_equal(streams_set(s, young, 1, 6, 1001), 0);
	for (unsigned i = 0; i < STREAMS_SLICES; i++)
		streams_expire(s, i, STREAMS_IDLE_MS + 999, &out);
	assert_int_equal(out.n, 0);
	for (unsigned i = 0; i < STREAMS_SLICES; i++)
		streams_expire(s, i, STREAMS_IDLE_MS + 1000, &out);
	assert_int_equal(out.n, 1);
	assert_memory_equal(effect(&out, 0).u.stream.stream, old, 16);
	assert_int_equal(effect(&out, 0).u.stream.seq, 0);
	assert_int_equal(streams_get(s, old), 0);
	assert_int_equal(streams_get(s, young), 6);
	effects_free(&out);
}

static void a_dead_key_takes_its_streams_with_it(void **state)
{
	struct streams *s = *state;
	struct effects out = { 0 };
	uint8_t id[16];

	for (uint32_t i = 0; i < 3000; i++) {
		make_id(id, i);
		assert_int_equal(streams_set(s, id, i % 3 == 0 ? 1 : 2, 1, 0), 0);
	}
	for (unsigned i = 0; i < STREAMS_SLICES; i++)
		streams_drop_generation(s, i, 1, &out);
	assert_int_equal(out.n, 1000);
	assert_int_equal(streams_count(s), 2000);
	effects_free(&out);
}

static void the_ledger_is_the_fold_of_its_effects(void **state)
{
	struct streams *s = *state, *fold;
	struct effects out = { 0 };
	uint8_t id[16], to[16];

	assert_int_equal(streams_new(&fold), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		make_id(id, i % 700);
		assert_int_equal(streams_set(s, id, 1, i + 1, i), 0);
		streams_emit(s, id, &out);
		if (i % 5 == 0) {
			make_id(to, i % 700 + 10000);
			assert_int_equal(streams_move(s, id, to, 2, &out), 0);
		}
		streams_refresh(s, i % STREAMS_SLICES, &out);
		streams_expire(s, i % STREAMS_SLICES, i % 3 ? 0 : STREAMS_IDLE_MS, &out);
	}
	for (size_t i = 0; i < out.n; i++) {
		struct effect e = effect(&out, i);

		assert_int_equal(streams_apply(fold, &e, 0), 0);
	}
	assert_int_equal(streams_count(fold), streams_count(s));
	for (uint32_t i = 0; i < 20000; i++) {
		make_id(id, i);
		assert_int_equal(streams_get(fold, id), streams_get(s, id));
	}
	streams_free(fold);
	effects_free(&out);
}

static void replay_takes_stream_effects_only(void **state)
{
	struct effect e = { .type = EFFECT_TURN };

	assert_int_equal(streams_apply(*state, &e, 0), -EBADMSG);
}

#define STREAMS(test) cmocka_unit_test_setup_teardown(test, open_streams, close_streams)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STREAMS(an_unknown_stream_stands_at_zero),
		STREAMS(a_position_is_taken_and_logged),
		STREAMS(a_moved_stream_keeps_its_position_under_the_new_id),
		STREAMS(a_stream_without_a_frame_for_seven_days_is_forgotten),
		STREAMS(a_dead_key_takes_its_streams_with_it),
		STREAMS(the_ledger_is_the_fold_of_its_effects),
		STREAMS(replay_takes_stream_effects_only),
	};

	return cmocka_run_group_tests_name("streams", tests, NULL, NULL);
}
