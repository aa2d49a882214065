/* SPDX-License-Identifier: ISC */
/* effect: every record survives its encoding, and nothing else is decoded. */
#include "effect.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static struct server_key server(const char *name)
{
	uint8_t id[NOLOG_SERVER_SIZE] = { 0 };
	struct server_key key;

	for (size_t i = 0; name[i]; i++)
		id[i] = (uint8_t)name[i];
	server_pack(&key, id);
	return key;
}

static void server_ids_of_every_length_and_letter_survive_packing(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		uint8_t id[NOLOG_SERVER_SIZE] = { 0 }, back[NOLOG_SERVER_SIZE];
		size_t n = 1 + (size_t)(next_random(&seed) % NOLOG_SERVER_SIZE);
		struct server_key key;

		for (size_t k = 0; k < n; k++)
			id[k] = (uint8_t)alphabet[next_random(&seed) % 38];
		server_pack(&key, id);
		assert_true(server_unpack(back, &key));
		assert_memory_equal(id, back, sizeof(id));
	}
}

static void the_longest_ids_survive_packing(void **state)
{
	static const char *const names[] = {
		"----------------", "aaaaaaaaaaaaaaaa", "a",	     "-",
		"aaaaaaaa",	    "--------",		"---------", "nl-ams-03"
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct server_key key = server(names[i]);
		uint8_t back[NOLOG_SERVER_SIZE + 1] = { 0 };

		assert_true(server_unpack(back, &key));
		assert_string_equal((char *)back, names[i]);
	}
}

static void bytes_that_are_no_server_are_not_unpacked(void **state)
{
	uint8_t id[NOLOG_SERVER_SIZE];
	struct server_key key = { { 0 } };
	uint64_t seed = 2;

	(void)state;
	assert_false(server_unpack(id, &key));
	memset(&key, 0xff, sizeof(key));
	assert_false(server_unpack(id, &key));
	assert_true(nolog_all_zero(id, sizeof(id)));
	key = server("a");
	key.b[SERVER_KEY_SIZE - 1] |= 0x40; /* the first of the two bits without use */
	assert_false(server_unpack(id, &key));
	for (int i = 0; i < 100000; i++) {
		for (size_t k = 0; k < SERVER_KEY_SIZE; k++)
			key.b[k] = (uint8_t)next_random(&seed);
		if (server_unpack(id, &key)) { /* what is unpacked is packed the same */
			struct server_key again;

			assert_true(nolog_server_valid(id));
			server_pack(&again, id);
			assert_memory_equal(&again, &key, sizeof(key));
		}
	}
}

static struct effect filled(uint8_t type)
{
	struct effect e = { .type = (uint8_t)type };

	switch (type) {
	case EFFECT_OPEN:
		e.u.open.server = server("nl-ams-03");
		e.u.open.handle = UINT64_MAX;
		memset(e.u.open.ip, 0x11, 16);
		e.u.open.start_ms = EFFECT_MS_MAX;
		e.u.open.alive_ms = 0;
		break;
	case EFFECT_CLOSE:
		e.u.close.server = server("a");
		e.u.close.handle = 0;
		memset(e.u.close.ip, 0x22, 16);
		e.u.close.start_ms = 1;
		e.u.close.end_ms = INT64_C(0x010203040506);
		break;
	case EFFECT_WHOLE:
		e.u.whole.server = server("de.fra-1");
		memset(e.u.whole.ip, 0x33, 16);
		e.u.whole.start_ms = 5;
		e.u.whole.end_ms = 6;
		break;
	case EFFECT_ALIVE:
		e.u.alive.server = server("b");
		e.u.alive.handle = 9;
		e.u.alive.alive_ms = 10;
		break;
	case EFFECT_GONE:
		e.u.gone.server = server("c");
		e.u.gone.handle = 11;
		break;
	case EFFECT_STREAM:
		memset(e.u.stream.stream, 0x44, 16);
		e.u.stream.seq = 12;
		e.u.stream.generation = 13;
		break;
	case EFFECT_TOTAL:
		memset(e.u.total.account, 0x55, 16);
		e.u.total.rx = 14;
		e.u.total.tx = UINT64_MAX;
		break;
	case EFFECT_METER:
		memset(e.u.meter.meter, 0x66, 16);
		e.u.meter.rx = 15;
		e.u.meter.tx = 16;
		e.u.meter.generation = 17;
		e.u.meter.state = METER_CLOSED;
		break;
	default:
		e.u.turn.month = 202612;
		break;
	}
	return e;
}

static void every_effect_survives_its_encoding(void **state)
{
	(void)state;
	for (unsigned type = EFFECT_OPEN; type <= EFFECT_TURN; type++) {
		struct effect e = filled((uint8_t)type), back;
		uint8_t bytes[EFFECT_SIZE], again[EFFECT_SIZE];

		effect_encode(bytes, &e);
		assert_int_equal(effect_decode(&back, bytes), 0);
		assert_int_equal(back.type, type);
		effect_encode(again, &back);
		assert_memory_equal(bytes, again, EFFECT_SIZE);
	}
}

static void a_close_is_laid_out_to_the_byte(void **state)
{
	struct effect e = filled(EFFECT_CLOSE), back;
	uint8_t bytes[EFFECT_SIZE];
	static const uint8_t start[] = { 1, 0, 0, 0, 0, 0 }, end[] = { 6, 5, 4, 3, 2, 1 };

	(void)state;
	effect_encode(bytes, &e);
	assert_int_equal(bytes[0], EFFECT_CLOSE);
	assert_memory_equal(bytes + 1, &e.u.close.server, SERVER_KEY_SIZE);
	assert_true(nolog_all_zero(bytes + 12, 8));
	assert_memory_equal(bytes + 20, e.u.close.ip, 16);
	assert_memory_equal(bytes + 36, start, 6);
	assert_memory_equal(bytes + 42, end, 6);
	assert_int_equal(effect_decode(&back, bytes), 0);
	assert_int_equal(back.u.close.start_ms, 1);
	assert_int_equal(back.u.close.end_ms, INT64_C(0x010203040506));
}

static void unknown_types_are_not_decoded(void **state)
{
	struct effect e;

	(void)state;
	for (unsigned type = 0; type < 256; type++) {
		uint8_t bytes[EFFECT_SIZE] = { (uint8_t)type };

		if (type < EFFECT_OPEN || type > EFFECT_TURN)
			assert_int_equal(effect_decode(&e, bytes), -EBADMSG);
	}
}

static void bytes_without_a_name_must_be_zero(void **state)
{
	struct effect e;

	(void)state;
	for (size_t k = 0; k < effect_schema_count; k++) {
		uint8_t bytes[EFFECT_SIZE];
		size_t used = 0;

		if (effect_schema[k].size != EFFECT_SIZE)
			continue;
		e = filled((uint8_t)(EFFECT_OPEN + k));
		effect_encode(bytes, &e);
		for (size_t i = 0; i < effect_schema[k].n; i++)
			used += effect_schema[k].fields[i].size;
		for (size_t i = used; i < EFFECT_SIZE; i++) {
			assert_int_equal(bytes[i], 0);
			bytes[i] = 1;
			assert_int_equal(effect_decode(&e, bytes), -EBADMSG);
			bytes[i] = 0;
		}
		assert_int_equal(effect_decode(&e, bytes), 0);
	}
}

static void a_server_that_is_none_is_not_decoded(void **state)
{
	struct effect e = filled(EFFECT_GONE);
	uint8_t bytes[EFFECT_SIZE];

	(void)state;
	effect_encode(bytes, &e);
	memset(bytes + 1, 0, SERVER_KEY_SIZE);
	assert_int_equal(effect_decode(&e, bytes), -EBADMSG);
}

static void the_schema_names_every_field_of_every_record(void **state)
{
	static const char *const forbidden[] = { "destination", "name", "text", "data" };

	(void)state;
	assert_int_equal(effect_schema_count, EFFECT_TURN + 2);
	for (size_t k = 0; k < effect_schema_count; k++) {
		const struct record_schema *r = &effect_schema[k];
		size_t sum = 0;

		assert_true(r->record[0] && r->book[0] && r->why[0] && r->n > 0);
		for (size_t i = 0; i < r->n; i++) {
			assert_true(r->fields[i].name[0] && r->fields[i].why[0]);
			assert_true(r->fields[i].size > 0);
			for (size_t b = 0; b < sizeof(forbidden) / sizeof(forbidden[0]); b++)
				assert_string_not_equal(r->fields[i].name, forbidden[b]);
			sum += r->fields[i].size;
		}
		if (strcmp(r->book, "days") == 0)
			assert_int_equal(sum, r->size);
		else
			assert_true(sum <= r->size && r->size == EFFECT_SIZE);
	}
}

static void no_record_has_a_session_and_an_account(void **state)
{
	(void)state;
	for (size_t k = 0; k < effect_schema_count; k++) {
		bool session = false, account = false;

		for (size_t i = 0; i < effect_schema[k].n; i++) {
			const char *name = effect_schema[k].fields[i].name;

			session |= strcmp(name, "ip") == 0 || strcmp(name, "handle") == 0;
			account |= strcmp(name, "account") == 0 || strcmp(name, "meter") == 0;
		}
		assert_false(session && account);
	}
}

static void row_fields_are_encoded_from_their_list(void **state)
{
	static const uint8_t ip[16] = { [10] = 0xff, 0xff, 10, 8, 0, 2 };
	struct {
		ROW4_FIELDS(EFFECT_DECL)
	} row = { .server = 7, .start = 1u | ROW_MORE, .end = 86400000 }, back;
	uint8_t bytes[ROW4_SIZE], *p = bytes;
	const uint8_t *q = bytes;

	(void)state;
	memcpy(row.ip, ip, 16);
#define PUT(kind, n, why) (EFFECT_PUT_##kind(p, row.n), p += EFFECT_SIZE_##kind);
#define GET(kind, n, why) (EFFECT_GET_##kind(q, back.n), q += EFFECT_SIZE_##kind);
	ROW4_FIELDS(PUT)
	ROW4_FIELDS(GET)
#undef PUT
#undef GET
	assert_memory_equal(bytes, "\x0a\x08\x00\x02\x07\x00", 6);
	assert_memory_equal(back.ip, ip, 16);
	assert_true(effect_ip_is4(back.ip));
	assert_int_equal(back.server, 7);
	assert_int_equal(back.start, 1u | ROW_MORE);
	assert_int_equal(back.end, 86400000);
}

static void an_array_of_effects_grows_and_keeps_its_room(void **state)
{
	struct effects out = { 0 };
	struct effect e = filled(EFFECT_WHOLE), back;
	size_t room;

	(void)state;
	assert_int_equal(effects_reserve(&out, 0), 0);
	assert_int_equal(effects_reserve(&out, SIZE_MAX), -ENOMEM);
	for (int i = 0; i < 10000; i++) {
		e.u.whole.end_ms = 100 + i;
		effects_add(&out, &e);
	}
	assert_int_equal(out.n, 10000);
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(effect_decode(&back, out.at[i]), 0);
		assert_int_equal(back.u.whole.end_ms, 100 + i);
	}
	room = out.room;
	effects_clear(&out);
	assert_int_equal(out.n, 0);
	assert_int_equal(out.room, room);
	assert_int_equal(effects_reserve(&out, room), 0);
	assert_int_equal(out.room, room);
	effects_free(&out);
	assert_null(out.at);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_ids_of_every_length_and_letter_survive_packing),
		cmocka_unit_test(the_longest_ids_survive_packing),
		cmocka_unit_test(bytes_that_are_no_server_are_not_unpacked),
		cmocka_unit_test(every_effect_survives_its_encoding),
		cmocka_unit_test(a_close_is_laid_out_to_the_byte),
		cmocka_unit_test(unknown_types_are_not_decoded),
		cmocka_unit_test(bytes_without_a_name_must_be_zero),
		cmocka_unit_test(a_server_that_is_none_is_not_decoded),
		cmocka_unit_test(the_schema_names_every_field_of_every_record),
		cmocka_unit_test(no_record_has_a_session_and_an_account),
		cmocka_unit_test(row_fields_are_encoded_from_their_list),
		cmocka_unit_test(an_array_of_effects_grows_and_keeps_its_room),
	};

	return cmocka_run_group_tests_name("effect", tests, NULL, NULL);
}
