/* SPDX-License-Identifier: ISC */
/*
 * keyslot: what a keyring holds, and its 4,096 bytes on disk.
 *
 * Layout, in the order of the code below:
 *
 *      0  magic[8] "nologkey"
 *      8  u32 format version; all versions have magic, version and digest here
 *     12  u32 number of day keys
 *     16  u64 generation, store[16], i32 newest day, i32 first day, i64 held ms
 *     56  2 x month   { u32 month, key[16] }
 *     96  2 x meter   { u32 generation, i64 created ms, key[16] }
 *    152  2 books x 2 { u32 epoch, i64 created ms, key[32] }
 *    328  92 x day    { i32 day, key[32] }
 *   3640  zeros
 *   3696  92 x u32 mark, of the days above
 *   4064  BLAKE2b-256 of all that is before
 *
 * The digest finds torn writes and rot.  It is no secret and proves nothing:
 * who can write here has all the keys.
 */
#include "keyslot.h"

#include "calendar.h"

#include <assert.h>
#include <errno.h>
#include <nolog/frame.h> /* little-endian bytes */
#include <stdbool.h>
#include <string.h>

#define DIGEST_SIZE 32
#define DIGEST_AT (KEYSLOT_SIZE - DIGEST_SIZE)
#define VERSION_AT 8
#define BODY_AT 12
#define DAYS_AT 328
#define KEYS_END (DAYS_AT + KEYSLOT_DAYS_MAX * (4 + SEAL_KEY_SIZE))
#define MARKS_AT (DIGEST_AT - KEYSLOT_DAYS_MAX * 4)

static const uint8_t magic[VERSION_AT] = { 'n', 'o', 'l', 'o', 'g', 'k', 'e', 'y' };

/*
 * BLAKE2b leaves the last bytes it was given (two blocks of 128, and they are
 * not wiped) on the stack: let those be marks, and no key.
 */
static_assert(KEYS_END <= MARKS_AT && MARKS_AT + 2 * 128 <= DIGEST_AT,
	      "keys in the digest's last blocks");

static void put_u32(uint8_t **at, uint32_t v)
{
	nolog_put32(*at, v);
	*at += 4;
}

static void put_u64(uint8_t **at, uint64_t v)
{
	nolog_put64(*at, v);
	*at += 8;
}

static void put_bytes(uint8_t **at, const uint8_t *v, size_t len)
{
	memcpy(*at, v, len);
	*at += len;
}

static uint32_t get_u32(const uint8_t **at)
{
	uint32_t v = nolog_get32(*at);

	*at += 4;
	return v;
}

static uint64_t get_u64(const uint8_t **at)
{
	uint64_t v = nolog_get64(*at);

	*at += 8;
	return v;
}

static void get_bytes(uint8_t *v, const uint8_t **at, size_t len)
{
	memcpy(v, *at, len);
	*at += len;
}

void keyslot_encode(uint8_t out[KEYSLOT_SIZE], const struct keyslot *s)
{
	uint8_t *at = out;

	memset(out, 0, KEYSLOT_SIZE);
	put_bytes(&at, magic, sizeof(magic));
	put_u32(&at, SEAL_FORMAT);
	put_u32(&at, s->day_count);
	put_u64(&at, s->generation);
	put_bytes(&at, s->store, sizeof(s->store));
	put_u32(&at, (uint32_t)s->newest_day);
	put_u32(&at, (uint32_t)s->first_day);
	put_u64(&at, (uint64_t)s->held_ms);
	for (size_t i = 0; i < 2; i++) {
		put_u32(&at, s->month[i].month);
		put_bytes(&at, s->month[i].key, sizeof(s->month[i].key));
	}
	for (size_t i = 0; i < 2; i++) {
		put_u32(&at, s->meter[i].generation);
		put_u64(&at, (uint64_t)s->meter[i].created_ms);
		put_bytes(&at, s->meter[i].key, sizeof(s->meter[i].key));
	}
	for (size_t i = 0; i < 4; i++) {
		const struct keyslot_journal *j = &s->journal[i / 2][i % 2];

		put_u32(&at, j->epoch);
		put_u64(&at, (uint64_t)j->created_ms);
		put_bytes(&at, j->key.bytes, sizeof(j->key.bytes));
	}
	assert(at == out + DAYS_AT);
	for (size_t i = 0; i < KEYSLOT_DAYS_MAX; i++) {
		put_u32(&at, (uint32_t)s->days[i].day);
		put_bytes(&at, s->days[i].key.bytes, sizeof(s->days[i].key.bytes));
	}
	assert(at == out + KEYS_END);
	for (size_t i = 0; i < KEYSLOT_DAYS_MAX; i++)
		nolog_put32(out + MARKS_AT + 4 * i, s->days[i].mark);
	seal_digest(out + DIGEST_AT, out, DIGEST_AT);
}

static void decode_body(struct keyslot *s, const uint8_t *in)
{
	const uint8_t *at = in + BODY_AT;

	s->day_count = get_u32(&at);
	s->generation = get_u64(&at);
	get_bytes(s->store, &at, sizeof(s->store));
	s->newest_day = (int32_t)get_u32(&at);
	s->first_day = (int32_t)get_u32(&at);
	s->held_ms = (int64_t)get_u64(&at);
	for (size_t i = 0; i < 2; i++) {
		s->month[i].month = get_u32(&at);
		get_bytes(s->month[i].key, &at, sizeof(s->month[i].key));
	}
	for (size_t i = 0; i < 2; i++) {
		s->meter[i].generation = get_u32(&at);
		s->meter[i].created_ms = (int64_t)get_u64(&at);
		get_bytes(s->meter[i].key, &at, sizeof(s->meter[i].key));
	}
	for (size_t i = 0; i < 4; i++) {
		struct keyslot_journal *j = &s->journal[i / 2][i % 2];

		j->epoch = get_u32(&at);
		j->created_ms = (int64_t)get_u64(&at);
		get_bytes(j->key.bytes, &at, sizeof(j->key.bytes));
	}
	assert(at == in + DAYS_AT);
	for (size_t i = 0; i < KEYSLOT_DAYS_MAX; i++) {
		s->days[i].day = (int32_t)get_u32(&at);
		get_bytes(s->days[i].key.bytes, &at, sizeof(s->days[i].key.bytes));
	}
	assert(at == in + KEYS_END);
	for (size_t i = 0; i < KEYSLOT_DAYS_MAX; i++)
		s->days[i].mark = nolog_get32(in + MARKS_AT + 4 * i);
}

/* A key is there exactly when its name is: random keys are never all zeros. */
static bool key_fits(bool named, const uint8_t *key, size_t len)
{
	return named != nolog_all_zero(key, len);
}

static bool month_valid(uint32_t month)
{
	return month / 100 <= 9999 && month % 100 >= 1 && month % 100 <= 12;
}

static bool months_fit(const struct keyslot_month m[2])
{
	if (!month_valid(m[0].month) || !key_fits(true, m[0].key, sizeof(m[0].key)))
		return false;
	if (m[1].month != 0 && (!month_valid(m[1].month) || m[1].month >= m[0].month))
		return false;
	return key_fits(false, m[1].key, sizeof(m[1].key));
}

static bool meters_fit(const struct keyslot_meter m[2])
{
	uint32_t before = m[0].generation == 1 ? 255 : m[0].generation - 1;

	if (m[0].generation < 1 || m[0].generation > 255 ||
	    !key_fits(true, m[0].key, sizeof(m[0].key)))
		return false;
	if (m[1].generation == 0)
		return m[1].created_ms == 0 && key_fits(false, m[1].key, sizeof(m[1].key));
	return m[1].generation == before && key_fits(true, m[1].key, sizeof(m[1].key));
}

static bool journals_fit(const struct keyslot_journal j[2])
{
	if (j[0].epoch == 0 || !key_fits(true, j[0].key.bytes, SEAL_KEY_SIZE))
		return false;
	if (j[1].epoch == 0)
		return j[1].created_ms == 0 && key_fits(false, j[1].key.bytes, SEAL_KEY_SIZE);
	return j[1].epoch == j[0].epoch - 1 && key_fits(true, j[1].key.bytes, SEAL_KEY_SIZE);
}

static bool days_fit(const struct keyslot *s)
{
	if (s->newest_day < 0 || s->newest_day > KEYSLOT_DAY_MAX || s->first_day > s->newest_day ||
	    s->first_day < calendar_horizon(s->newest_day, CALENDAR_RETENTION_MAX))
		return false;
	if (s->day_count > KEYSLOT_DAYS_MAX)
		return false;
	for (uint32_t i = 0; i < s->day_count; i++) {
		const struct keyslot_day *d = &s->days[i];

		if (d->day < s->first_day || d->day > s->newest_day + 1 ||
		    (i > 0 && d->day <= s->days[i - 1].day) ||
		    !key_fits(true, d->key.bytes, SEAL_KEY_SIZE))
			return false;
	}
	for (uint32_t i = s->day_count; i < KEYSLOT_DAYS_MAX; i++)
		if (s->days[i].day != 0 || s->days[i].mark != 0 ||
		    !key_fits(false, s->days[i].key.bytes, SEAL_KEY_SIZE))
			return false;
	return true;
}

int keyslot_check(const struct keyslot *s)
{
	if (s->generation == 0 || s->generation > INT64_MAX || s->held_ms == INT64_MIN ||
	    nolog_all_zero(s->store, sizeof(s->store)) || !months_fit(s->month) ||
	    !meters_fit(s->meter) || !journals_fit(s->journal[0]) || !journals_fit(s->journal[1]) ||
	    !days_fit(s))
		return -EBADMSG;
	return 0;
}

int keyslot_decode(struct keyslot *s, const uint8_t in[KEYSLOT_SIZE])
{
	uint8_t digest[DIGEST_SIZE];
	int r;

	seal_wipe(s, sizeof(*s));
	seal_digest(digest, in, DIGEST_AT);
	if (memcmp(in, magic, sizeof(magic)) != 0 ||
	    memcmp(digest, in + DIGEST_AT, sizeof(digest)) != 0)
		return -EBADMSG;
	/* Only what is whole can be said to be of another version. */
	if (nolog_get32(in + VERSION_AT) != SEAL_FORMAT)
		return -EPROTO;
	if (!nolog_all_zero(in + KEYS_END, MARKS_AT - KEYS_END))
		return -EBADMSG;
	decode_body(s, in);
	r = keyslot_check(s);
	if (r < 0)
		seal_wipe(s, sizeof(*s));
	return r;
}
