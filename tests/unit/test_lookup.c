/* SPDX-License-Identifier: ISC */
/* What belongs to an answer, and how rows become sessions again. */
#include "daytest.h"

#define A 0x0a000001u

static void add(struct lookup *l, uint32_t ip, unsigned server, int64_t start, int64_t end,
		unsigned flags)
{
	struct lookup_row row = { .server = server_make(server),
				  .flags = (uint8_t)flags,
				  .start_ms = start,
				  .end_ms = end };

	ip4_make(row.ip, ip);
	assert_true(lookup_wants(l, row.ip, &row.server));
	assert_true(lookup_add(l, &row));
}

static struct lookup *ask(uint32_t ip, unsigned length, struct exits *x)
{
	uint8_t b[16];

	ip4_make(b, ip);
	return ask_make(b, length, -1, INT64_MIN, INT64_MAX, x, 100);
}

/* It is among them, in whatever order. */
static void expect(struct lookup *l, int64_t start, int64_t end, unsigned code)
{
	for (size_t i = 0; i < l->record_count; i++)
		if (l->records[i].start_ms == start && l->records[i].end_ms == end &&
		    l->records[i].code == code)
			return;
	fail_msg("%lld..%lld code %u is not there", (long long)start, (long long)end, code);
}

static struct exits *shared(uint32_t ip, unsigned server)
{
	struct exits_entry e = { .server = server_make(server) };

	ip4_make(e.ip, ip);
	return exits_new(&e, 1);
}

static void bits_beyond_the_length_are_ignored(void **state)
{
	struct lookup *l = ask(0x0a0000ff, 96 + 24, NULL);
	struct server_key s = server_make(1);
	uint8_t ip[16];

	(void)state;
	for (uint32_t i = 0; i < 256; i += 5) {
		ip4_make(ip, 0x0a000000 + i);
		assert_true(lookup_wants(l, ip, &s));
	}
	ip4_make(ip, 0x0a000100);
	assert_false(lookup_wants(l, ip, &s));
	assert_false(lookup_exact(l));
	lookup_free(l);
	l = ask(A, 0, NULL);
	memset(ip, 0x20, 16);
	assert_true(lookup_wants(l, ip, &s));
	lookup_free(l);
	l = ask(A, 128, NULL);
	assert_true(lookup_exact(l));
	lookup_free(l);
}

static void server_and_address_must_both_hold(void **state)
{
	struct server_key one = server_make(1), two = server_make(2);
	struct lookup *l;
	uint8_t ip[16];

	(void)state;
	ip4_make(ip, A);
	l = ask_make(ip, 128, 1, 0, 0, NULL, 1);
	assert_true(lookup_wants(l, ip, &one));
	assert_false(lookup_wants(l, ip, &two));
	ip4_make(ip, A + 1);
	assert_false(lookup_wants(l, ip, &one));
	lookup_free(l);
}

static void those_behind_a_shared_exit_are_candidates(void **state)
{
	struct exits *x = shared(0xcb007107, 1);
	struct lookup *l = ask(0xcb007107, 128, x);
	struct server_key one = server_make(1), two = server_make(2);
	uint8_t ip[16];

	(void)state;
	ip4_make(ip, A);
	assert_false(lookup_exact(l));
	assert_true(lookup_wants(l, ip, &one));
	assert_false(lookup_wants(l, ip, &two));
	add(l, A, 1, T0, T0 + 1, 0);
	add(l, 0xcb007107, 1, T0, T0 + 1, 0);
	lookup_finish(l, 0);
	expect(l, T0, T0 + 1, NOLOG_RECORD_CANDIDATE);
	expect(l, T0, T0 + 1, 0);
	lookup_free(l);
	exits_unref(x);
}

static void parts_are_joined_where_there_is_one_on_each_side(void **state)
{
	struct lookup *l = ask(A, 128, NULL);

	(void)state;
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0 - DAY, T0, LOOKUP_BEFORE | LOOKUP_AFTER);
	add(l, A, 1, T0 - DAY - HOUR, T0 - DAY, LOOKUP_AFTER);
	add(l, A, 2, T0 - HOUR, T0, LOOKUP_AFTER); /* another server's */
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 2);
	expect(l, T0 - DAY - HOUR, T0 + HOUR, 0);
	expect(l, T0 - HOUR, T0, NOLOG_RECORD_PART);
	lookup_free(l);
}

static void parts_with_a_choice_are_given_each(void **state)
{
	struct lookup *l = ask(A, 128, NULL);

	(void)state;
	add(l, A, 1, T0 - 2 * HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0, T0 + 2 * HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0, T0 + 3 * HOUR, 0); /* began then: not one of them */
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 5);
	expect(l, T0 - 2 * HOUR, T0, NOLOG_RECORD_PART);
	expect(l, T0 - HOUR, T0, NOLOG_RECORD_PART);
	expect(l, T0, T0 + HOUR, NOLOG_RECORD_PART);
	expect(l, T0, T0 + 2 * HOUR, NOLOG_RECORD_PART);
	expect(l, T0, T0 + 3 * HOUR, 0);
	lookup_free(l);
}

static void one_start_is_one_session_with_the_latest_end(void **state)
{
	struct lookup *l = ask(A, 128, NULL);

	(void)state;
	add(l, A, 1, T0, T0 + HOUR, 0);
	add(l, A, 1, T0, T0 + 2 * HOUR, 0);
	add(l, A, 1, T0, T0 + HOUR, 0);
	add(l, A, 1, T0 + 5, INT64_MAX, LOOKUP_OPEN);
	add(l, A, 1, T0 + 5, T0 + HOUR, 0);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 2);
	expect(l, T0, T0 + 2 * HOUR, 0);
	expect(l, T0 + 5, 0, NOLOG_RECORD_OPEN);
	lookup_free(l);
}

static void one_start_over_midnight_is_one_session_too(void **state)
{
	struct lookup *l = ask(A, 128, NULL);

	(void)state;
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0 - HOUR, T0 - 1, 0);
	add(l, A, 1, T0, T0 + 2 * HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 1);
	expect(l, T0 - HOUR, T0 + 2 * HOUR, 0);
	lookup_free(l);
}

static void on_a_shared_address_nothing_is_taken_for_the_same(void **state)
{
	struct exits *x = shared(A, 1);
	struct lookup *l = ask(A, 128, x);

	(void)state;
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	add(l, A, 1, T0 + 5, T0 + HOUR, 0);
	add(l, A, 1, T0 + 5, T0 + HOUR, 0);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 6);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(l->records[i].code, i < 4 ? NOLOG_RECORD_PART : 0);
	lookup_free(l);
	exits_unref(x);
}

static void horizon_cuts_and_makes_whole(void **state)
{
	struct lookup *l = ask(A, 128, NULL);

	(void)state;
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	add(l, A, 2, T0 - 3 * HOUR, T0 - HOUR, 0);
	add(l, A, 3, T0 - 3 * HOUR, INT64_MAX, LOOKUP_OPEN);
	add(l, A, 4, T0, T0, 0);
	lookup_finish(l, T0);
	assert_int_equal(l->record_count, 3);
	expect(l, T0, T0 + HOUR, 0);
	expect(l, T0, 0, NOLOG_RECORD_OPEN);
	expect(l, T0, T0, 0);
	lookup_free(l);
}

static void what_does_not_touch_after_joining_is_not_given(void **state)
{
	struct lookup *l;
	uint8_t ip[16];

	(void)state;
	ip4_make(ip, A);
	l = ask_make(ip, 128, -1, T0 + HOUR, T0 + HOUR, NULL, 10);
	add(l, A, 1, T0 - HOUR, T0, LOOKUP_AFTER);
	add(l, A, 1, T0, T0 + HOUR, LOOKUP_BEFORE); /* touches at its end */
	add(l, A, 2, T0 - HOUR, T0, LOOKUP_AFTER);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 1);
	expect(l, T0 - HOUR, T0 + HOUR, 0);
	lookup_free(l);
}

/* A candidate that could not be read would have been another: no session is put together then. */
static void an_incomplete_answer_joins_nothing(void **state)
{
	static const unsigned codes[] = { NOLOG_DONE_UNREADABLE, NOLOG_DONE_LIMIT,
					  NOLOG_DONE_STOPPING };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct lookup *l = ask(A, 128, NULL);

		add(l, A, 1, T0 - 1000, T0, LOOKUP_AFTER);
		add(l, A, 1, T0, T0 + 60000, LOOKUP_BEFORE);
		add(l, A, 1, T0, T0 + 50000, LOOKUP_BEFORE);
		add(l, A, 1, T0 + 70000, T0 + 80000, 0);
		l->code = codes[i];
		lookup_finish(l, 0);
		assert_int_equal(l->code, codes[i]);
		assert_int_equal(l->record_count, 4);
		expect(l, T0 - 1000, T0, NOLOG_RECORD_PART);
		expect(l, T0, T0 + 60000, NOLOG_RECORD_PART);
		expect(l, T0, T0 + 50000, NOLOG_RECORD_PART);
		expect(l, T0 + 70000, T0 + 80000, 0);
		lookup_free(l);
	}
}

static void limit_is_told(void **state)
{
	struct lookup *l;
	uint8_t ip[16];

	(void)state;
	ip4_make(ip, A);
	l = ask_make(ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 2);
	for (int i = 0; i < 3; i++)
		add(l, A, 1, T0 + i, T0 + i, 0);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 2);
	assert_int_equal(l->code, NOLOG_DONE_LIMIT);
	lookup_free(l);
	l = ask_make(ip, 128, -1, INT64_MIN, INT64_MAX, NULL, 2);
	for (int i = 0; i < 1000000; i++) {
		struct lookup_row row = { .start_ms = i, .end_ms = i };

		if (!lookup_add(l, &row))
			break;
		assert_in_range(i, 0, 100000);
	}
	assert_int_equal(l->code, NOLOG_DONE_LIMIT);
	lookup_free(l);
}

static void open_at(struct lookup *l, uint32_t ip, unsigned server, uint64_t handle, int64_t start)
{
	struct lookup_row row = { .server = server_make(server),
				  .flags = LOOKUP_OPEN,
				  .start_ms = start,
				  .end_ms = INT64_MAX,
				  .handle = handle };

	ip4_make(row.ip, ip);
	assert_true(lookup_add(l, &row));
}

static void what_was_open_and_has_ended_is_left_out(void **state)
{
	struct lookup *l = ask(A, 128, NULL);
	struct server_key one = server_make(1), two = server_make(2);

	(void)state;
	lookup_note_ended(l, &one, 5); /* before any was found */
	open_at(l, A, 1, 5, T0);
	open_at(l, A, 1, 6, T0 + 1);
	open_at(l, A, 2, 5, T0 + 2);
	lookup_note_ended(l, &two, 6); /* of nobody here */
	lookup_note_ended(l, &one, 6);
	lookup_note_ended(l, &one, 6);
	open_at(l, A, 1, 6, T0 + 3); /* began after that */
	add(l, A, 1, T0 + 1, T0 + 9, 0);
	add(l, A, 1, T0 + 4, T0 + 9, 0); /* not open: whatever has its number */
	lookup_note_ended(l, &one, 0);
	lookup_finish(l, 0);
	assert_int_equal(l->code, NOLOG_DONE_COMPLETE);
	assert_int_equal(l->record_count, 5);
	expect(l, T0, 0, NOLOG_RECORD_OPEN);
	expect(l, T0 + 1, T0 + 9, 0);
	expect(l, T0 + 2, 0, NOLOG_RECORD_OPEN);
	expect(l, T0 + 3, 0, NOLOG_RECORD_OPEN);
	expect(l, T0 + 4, T0 + 9, 0);
	lookup_free(l);
}

/* What will be left out takes no room from what days has of it. */
static void what_has_ended_does_not_count_for_the_limit(void **state)
{
	const unsigned n = 10000;
	struct server_key one = server_make(1);
	struct lookup *l;

	(void)state;
	l = ask_make(NULL, 0, -1, INT64_MIN, INT64_MAX, NULL, n);
	for (unsigned i = 0; i < n; i++)
		open_at(l, A + i, 1, i, T0 - HOUR);
	for (unsigned i = 0; i < n; i++)
		lookup_note_ended(l, &one, i);
	for (unsigned i = 0; i < n; i++) {
		add(l, A + i, 1, T0 - HOUR, T0, LOOKUP_AFTER);
		add(l, A + i, 1, T0, T0 + HOUR, LOOKUP_BEFORE);
	}
	lookup_finish(l, 0);
	assert_int_equal(l->code, NOLOG_DONE_COMPLETE);
	assert_int_equal(l->record_count, n);
	lookup_free(l);
}

static void what_was_found_is_never_moved_to_make_room(void **state)
{
	struct lookup *l = ask_make(NULL, 0, -1, INT64_MIN, INT64_MAX, NULL, 1000000);
	const struct lookup_row *first;
	struct lookup_record r;

	(void)state;
	add(l, A, 1, T0, T0, 0);
	first = lookup_row_at(l, 0);
	for (int i = 1; i < 100000; i++)
		add(l, A + (uint32_t)i, 1, T0 + i, T0 + i, 0);
	assert_ptr_equal(lookup_row_at(l, 0), first);
	for (int i = 0; i < 100000; i += 77)
		assert_int_equal(lookup_row_at(l, (size_t)i)->start_ms, T0 + i);
	lookup_finish(l, 0);
	assert_int_equal(l->record_count, 100000);
	assert_int_equal(l->n, 0);
	for (int i = 100000; i-- > 0;) {
		assert_true(lookup_take(l, &r));
		assert_int_equal(r.start_ms, T0 + i);
	}
	assert_false(lookup_take(l, &r));
	lookup_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bits_beyond_the_length_are_ignored),
		cmocka_unit_test(server_and_address_must_both_hold),
		cmocka_unit_test(those_behind_a_shared_exit_are_candidates),
		cmocka_unit_test(parts_are_joined_where_there_is_one_on_each_side),
		cmocka_unit_test(parts_with_a_choice_are_given_each),
		cmocka_unit_test(one_start_is_one_session_with_the_latest_end),
		cmocka_unit_test(one_start_over_midnight_is_one_session_too),
		cmocka_unit_test(on_a_shared_address_nothing_is_taken_for_the_same),
		cmocka_unit_test(horizon_cuts_and_makes_whole),
		cmocka_unit_test(what_does_not_touch_after_joining_is_not_given),
		cmocka_unit_test(an_incomplete_answer_joins_nothing),
		cmocka_unit_test(limit_is_told),
		cmocka_unit_test(what_was_open_and_has_ended_is_left_out),
		cmocka_unit_test(what_has_ended_does_not_count_for_the_limit),
		cmocka_unit_test(what_was_found_is_never_moved_to_make_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
