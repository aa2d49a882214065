/* SPDX-License-Identifier: ISC */
/* keyslot: one content has one encoding, and nothing else is accepted. */
#include "keyslot.h"

#include "calendar.h"

#include <errno.h>
#include <nolog/frame.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TODAY 20779
#define DIGEST_AT (KEYSLOT_SIZE - 32)

static struct keyslot slot, back; /* of tests: no real key is in them */
static uint8_t image[KEYSLOT_SIZE];

static void resum(void)
{
	seal_digest(image + DIGEST_AT, image, DIGEST_AT);
}

/* Every field in use and different. */
static void fill(void)
{
	memset(&slot, 0, sizeof(slot));
	slot.generation = 0x0102030405060708;
	seal_random(slot.store, sizeof(slot.store));
	slot.newest_day = TODAY;
	slot.first_day = TODAY - 89;
	slot.held_ms = 3600000;
	for (uint32_t i = 0; i < 2; i++) {
		slot.month[i].month = 202611 - i;
		if (i == 0)
			seal_random(slot.month[i].key, sizeof(slot.month[i].key));
		slot.meter[i].generation = 9 - i;
		slot.meter[i].created_ms = 1000 + i;
		seal_random(slot.meter[i].key, sizeof(slot.meter[i].key));
		for (uint32_t b = 0; b < 2; b++) {
			slot.journal[b][i].epoch = 70 + 10 * b - i;
			slot.journal[b][i].created_ms = -5 - (int64_t)i;
			seal_random(slot.journal[b][i].key.bytes, SEAL_KEY_SIZE);
		}
	}
	slot.day_count = 91;
	for (uint32_t i = 0; i < slot.day_count; i++) {
		slot.days[i].day = TODAY - 89 + (int32_t)i;
		seal_random(slot.days[i].key.bytes, SEAL_KEY_SIZE);
		slot.days[i].mark = 1000 + i + (i % 3 == 0 ? KEYSLOT_DAY_LOST : 0);
	}
}

static void what_is_encoded_is_decoded_alike(void **state)
{
	uint8_t again[KEYSLOT_SIZE];

	(void)state;
	fill();
	assert_int_equal(keyslot_check(&slot), 0);
	keyslot_encode(image, &slot);
	assert_int_equal(keyslot_decode(&back, image), 0);
	assert_int_equal(back.generation, slot.generation);
	assert_int_equal(back.newest_day, TODAY);
	assert_int_equal(back.first_day, TODAY - 89);
	assert_int_equal(back.held_ms, 3600000);
	assert_int_equal(back.journal[1][1].epoch, 79);
	assert_int_equal(back.journal[1][1].created_ms, -6);
	assert_memory_equal(back.days, slot.days, sizeof(slot.days));
	keyslot_encode(again, &back);
	assert_memory_equal(again, image, KEYSLOT_SIZE);
}

static void the_layout_stays_as_it_is_written_down(void **state)
{
	(void)state;
	fill();
	keyslot_encode(image, &slot);
	assert_memory_equal(image, "nologkey", 8);
	assert_int_equal(nolog_get32(image + 8), SEAL_FORMAT);
	assert_int_equal(nolog_get32(image + 12), 91);
	assert_memory_equal(image + 16, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
	assert_memory_equal(image + 24, slot.store, 16);
	assert_int_equal(nolog_get32(image + 40), TODAY);
	assert_int_equal(nolog_get32(image + 44), TODAY - 89);
	assert_int_equal(nolog_get64(image + 48), 3600000);
	assert_int_equal(nolog_get32(image + 76), 202610);
	assert_memory_equal(image + 108, slot.meter[0].key, 16);
	assert_memory_equal(image + 164, slot.journal[0][0].key.bytes, 32);
	assert_memory_equal(image + 296, slot.journal[1][1].key.bytes, 32);
	assert_int_equal(nolog_get32(image + 328), TODAY - 89);
	assert_memory_equal(image + 332 + 36 * 90, slot.days[90].key.bytes, 32);
	assert_true(nolog_all_zero(image + 328 + 36 * 91, 3696 - 328 - 36 * 91));
	assert_int_equal(nolog_get32(image + 3696 + 4 * 90), slot.days[90].mark);
	assert_int_equal(nolog_get32(image + 3696 + 4 * 91), 0);
}

static void a_slot_with_any_changed_bit_is_damage_and_leaves_no_key(void **state)
{
	static const struct keyslot none;

	(void)state;
	fill();
	keyslot_encode(image, &slot);
	for (size_t bit = 0; bit < (size_t)KEYSLOT_SIZE * 8; bit += bit < 2900 ? 1 : 61) {
		image[bit / 8] ^= (uint8_t)(1u << bit % 8);
		memset(&back, 0xff, sizeof(back));
		assert_int_equal(keyslot_decode(&back, image), -EBADMSG);
		assert_memory_equal(&back, &none, sizeof(back));
		image[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(keyslot_decode(&back, image), 0);
}

static void a_whole_slot_of_another_version_is_told_from_damage(void **state)
{
	(void)state;
	fill();
	keyslot_encode(image, &slot);
	nolog_put32(image + 8, SEAL_FORMAT + 1);
	assert_int_equal(keyslot_decode(&back, image), -EBADMSG);
	resum();
	assert_int_equal(keyslot_decode(&back, image), -EPROTO);
	nolog_put32(image + 8, 0);
	resum();
	assert_int_equal(keyslot_decode(&back, image), -EPROTO);
	image[0] ^= 1; /* and not a keyring at all */
	resum();
	assert_int_equal(keyslot_decode(&back, image), -EBADMSG);
}

static void unused_bytes_must_be_zero(void **state)
{
	(void)state;
	fill();
	slot.day_count = 90;
	memset(&slot.days[90], 0, sizeof(slot.days[90]));
	keyslot_encode(image, &slot);
	for (size_t at = 328 + 36 * 90; at < DIGEST_AT; at++) {
		if (at == 3696)
			at += 4u * 90; /* the marks of the days that are there */
		image[at] = 1;
		resum();
		assert_int_equal(keyslot_decode(&back, image), -EBADMSG);
		image[at] = 0;
	}
	resum();
	assert_int_equal(keyslot_decode(&back, image), 0);
}

#define REFUSED(change)                                                   \
	do {                                                              \
		fill();                                                   \
		change;                                                   \
		assert_int_equal(keyslot_check(&slot), -EBADMSG);         \
		keyslot_encode(image, &slot);                             \
		assert_int_equal(keyslot_decode(&back, image), -EBADMSG); \
	} while (0)

static void days_out_of_order_or_range_are_damage(void **state)
{
	(void)state;
	REFUSED(slot.days[5].day = slot.days[4].day);
	REFUSED(slot.days[5].day = slot.days[7].day);
	REFUSED(slot.days[0].day = slot.first_day - 1);
	REFUSED(slot.days[90].day = TODAY + 2);
	REFUSED(slot.first_day = TODAY - 88);
	REFUSED(slot.first_day = TODAY - 90);
	REFUSED(slot.newest_day = TODAY - 1);
	REFUSED(slot.newest_day = -1);
	REFUSED(slot.newest_day = KEYSLOT_DAY_MAX + 1);
	REFUSED(slot.day_count = 90);
	REFUSED(slot.day_count = 92);
	REFUSED(slot.day_count = 93);
	REFUSED(slot.day_count = UINT32_MAX);
	REFUSED(memset(&slot.days[17].key, 0, sizeof(slot.days[17].key)));
	REFUSED((slot.day_count = 0, slot.first_day = TODAY + 1));
}

static void contradictory_fields_are_damage(void **state)
{
	(void)state;
	REFUSED(slot.generation = 0);
	REFUSED(slot.generation = UINT64_MAX);
	REFUSED(slot.held_ms = INT64_MIN);
	REFUSED(memset(slot.store, 0, sizeof(slot.store)));
	REFUSED(slot.month[0].month = 0);
	REFUSED(slot.month[0].month = 202613);
	REFUSED(slot.month[0].month = 202600);
	REFUSED(slot.month[0].month = 1000001);
	REFUSED(slot.month[1].month = 202611);
	REFUSED(slot.month[1].month = 202612);
	REFUSED(memset(slot.month[0].key, 0, sizeof(slot.month[0].key)));
	REFUSED(slot.month[1].key[3] = 1);
	REFUSED(slot.days[91].mark = 1);
	REFUSED(slot.meter[0].generation = 0);
	REFUSED(slot.meter[0].generation = 256);
	REFUSED(slot.meter[1].generation = 7);
	REFUSED(slot.meter[1].generation = 0);
	REFUSED(memset(slot.meter[1].key, 0, sizeof(slot.meter[1].key)));
	REFUSED(slot.journal[0][0].epoch = 0);
	REFUSED(slot.journal[0][1].epoch = 68);
	REFUSED(slot.journal[1][1].epoch = 0);
	REFUSED(memset(&slot.journal[1][1].key, 0, SEAL_KEY_SIZE));
	REFUSED((slot.journal[1][1].epoch = 0, memset(&slot.journal[1][1].key, 0, SEAL_KEY_SIZE)));
}

static void old_keys_may_be_none_and_generations_go_round(void **state)
{
	(void)state;
	fill();
	memset(&slot.month[1], 0, sizeof(slot.month[1]));
	memset(&slot.journal[0][1], 0, sizeof(slot.journal[0][1]));
	memset(&slot.journal[1][1], 0, sizeof(slot.journal[1][1]));
	slot.meter[0].generation = 1;
	slot.meter[1].generation = 255;
	assert_int_equal(keyslot_check(&slot), 0);
	memset(&slot.meter[1], 0, sizeof(slot.meter[1]));
	memset(slot.days, 0, sizeof(slot.days));
	slot.day_count = 0;
	assert_int_equal(keyslot_check(&slot), 0);
}

static int initialise(void **state)
{
	(void)state;
	return seal_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_is_decoded_alike),
		cmocka_unit_test(the_layout_stays_as_it_is_written_down),
		cmocka_unit_test(a_slot_with_any_changed_bit_is_damage_and_leaves_no_key),
		cmocka_unit_test(a_whole_slot_of_another_version_is_told_from_damage),
		cmocka_unit_test(unused_bytes_must_be_zero),
		cmocka_unit_test(days_out_of_order_or_range_are_damage),
		cmocka_unit_test(contradictory_fields_are_damage),
		cmocka_unit_test(old_keys_may_be_none_and_generations_go_round),
	};

	return cmocka_run_group_tests_name("keyslot", tests, initialise, NULL);
}
