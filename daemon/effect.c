/* SPDX-License-Identifier: ISC */
/*
 * effect: encoding, decoding and growing arrays of what is stored.
 *
 * Everything here is made from the lists in effect.h; this file names no field
 * of its own.  Knows no ledger, no file and no key.
 */
#include "effect.h"

#include <errno.h>
#include <stdlib.h>

#define HALF_CHARS 8
#define HALF_BITS 43
#define LETTERS 39u
static const char letters[LETTERS + 1] = "\0abcdefghijklmnopqrstuvwxyz0123456789.-";

static unsigned letter_number(uint8_t c)
{
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 1u;
	if (c >= '0' && c <= '9')
		return c - '0' + 27u;
	return c == '.' ? 37u : c == '-' ? 38u : 0u;
}

static uint64_t half_pack(const uint8_t *id)
{
	uint64_t v = 0;

	for (size_t i = HALF_CHARS; i-- > 0;)
		v = v * LETTERS + letter_number(id[i]);
	return v;
}

/* What is left over of v is not zero when it was no half. */
static uint64_t half_unpack(uint8_t *id, uint64_t v)
{
	for (size_t i = 0; i < HALF_CHARS; i++) {
		id[i] = (uint8_t)letters[v % LETTERS];
		v /= LETTERS;
	}
	return v;
}

/* 86 bits: the low half's 43, then the high half's. */
void server_pack(struct server_key *out, const uint8_t id[NOLOG_SERVER_SIZE])
{
	uint64_t low = half_pack(id), high = half_pack(id + HALF_CHARS);

	assert(nolog_server_valid(id));
	nolog_put64(out->b, low | high << HALF_BITS);
	high >>= 64 - HALF_BITS;
	nolog_put16(out->b + 8, (uint16_t)high);
	out->b[10] = (uint8_t)(high >> 16);
}

bool server_unpack(uint8_t id[NOLOG_SERVER_SIZE], const struct server_key *key)
{
	uint64_t word = nolog_get64(key->b);
	uint64_t top = nolog_get16(key->b + 8) | (uint64_t)key->b[10] << 16;
	uint64_t low = word & ((UINT64_C(1) << HALF_BITS) - 1);
	uint64_t high = word >> HALF_BITS | top << (64 - HALF_BITS);

	if (half_unpack(id, low) == 0 && half_unpack(id + HALF_CHARS, high) == 0 &&
	    nolog_server_valid(id))
		return true;
	memset(id, 0, NOLOG_SERVER_SIZE);
	return false;
}

void effect_encode(uint8_t out[EFFECT_SIZE], const struct effect *e)
{
	uint8_t *p = out + 1;

	memset(out, 0, EFFECT_SIZE);
	out[0] = e->type;
	switch (e->type) {
#define EFFECT_F(kind, n, why) (EFFECT_PUT_##kind(p, body->n), p += EFFECT_SIZE_##kind);
#define EFFECT_X(number, NAME, name, book, why)                 \
	case number: {                                          \
		const __typeof__(e->u.name) *body = &e->u.name; \
		EFFECT_##NAME##_FIELDS(EFFECT_F) break;         \
	}
		EFFECTS(EFFECT_X)
#undef EFFECT_X
#undef EFFECT_F
	default:
		assert(0 && "an effect of no known type");
		break;
	}
}

#define EFFECT_GOOD_U8(v) true
#define EFFECT_GOOD_U16(v) true
#define EFFECT_GOOD_U32(v) true
#define EFFECT_GOOD_U64(v) true
#define EFFECT_GOOD_MS(v) true
#define EFFECT_GOOD_SRV(v) server_unpack(id, &(v))
#define EFFECT_GOOD_IP(v) true
#define EFFECT_GOOD_TAG(v) true

int effect_decode(struct effect *e, const uint8_t in[EFFECT_SIZE])
{
	const uint8_t *p = in + 1;
	struct effect found = { .type = in[0] };
	uint8_t id[NOLOG_SERVER_SIZE];
	bool good = true;

	switch (in[0]) {
#define EFFECT_F(kind, n, why)                              \
	do {                                                \
		EFFECT_GET_##kind(p, body->n);              \
		good = good && EFFECT_GOOD_##kind(body->n); \
		p += EFFECT_SIZE_##kind;                    \
	} while (0);
#define EFFECT_X(number, NAME, name, book, why)                 \
	case number: {                                          \
		__typeof__(found.u.name) *body = &found.u.name; \
		EFFECT_##NAME##_FIELDS(EFFECT_F) break;         \
	}
		EFFECTS(EFFECT_X)
#undef EFFECT_X
#undef EFFECT_F
	default:
		return -EBADMSG;
	}
	if (!good || !nolog_all_zero(p, (size_t)(in + EFFECT_SIZE - p)))
		return -EBADMSG;
	*e = found;
	return 0;
}

int effects_reserve(struct effects *e, size_t n)
{
	size_t room = e->room ? e->room : 64, used = e->n;
	void *at;

	if (n <= e->room - e->n)
		return 0;
	if (n > SIZE_MAX / EFFECT_SIZE / 4 - e->n)
		return -ENOMEM;
	while (room - e->n < n)
		room *= 2;
	/* Not realloc(3): what it leaves behind would not be wiped. */
	at = malloc(room * EFFECT_SIZE);
	if (!at)
		return -ENOMEM;
	if (used)
		memcpy(at, e->at, used * EFFECT_SIZE);
	effects_free(e);
	e->n = used;
	e->at = at;
	e->room = room;
	return 0;
}

void effects_add(struct effects *e, const struct effect *effect)
{
	/* The ledger has changed already: without its effect nothing that follows would be true. */
	if (e->n == e->room && effects_reserve(e, 1) < 0)
		abort();
	effect_encode(e->at[e->n], effect);
	e->n++;
}

void effects_clear(struct effects *e)
{
	/* What was decided lies in the journal, sealed, and nowhere else. */
	if (e->n)
		explicit_bzero(e->at, e->n * sizeof(*e->at));
	e->n = 0;
}

void effects_free(struct effects *e)
{
	effects_clear(e);
	free(e->at);
	*e = (struct effects){ 0 };
}

/* clang-format off */
#define SCHEMA_F(kind, n, why) { #n, EFFECT_SIZE_##kind, why },
#define EFFECT_X(number, NAME, name, book, why)                                 \
	static const struct field_schema name##_fields[] = {                    \
		{ "type", 1, "which record it is: " #number },                  \
		EFFECT_##NAME##_FIELDS(SCHEMA_F)                                \
	};
EFFECTS(EFFECT_X)
#undef EFFECT_X
/* clang-format on */
static const struct field_schema row4_fields[] = { ROW4_FIELDS(SCHEMA_F) };
static const struct field_schema row6_fields[] = { ROW6_FIELDS(SCHEMA_F) };

#define BOOK_SESSIONS "sessions"
#define BOOK_USAGE "usage"
#define BOOK_BOTH "both"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* clang-format off */
const struct record_schema effect_schema[] = {
#define EFFECT_X(number, NAME, name, book, why) \
	{ #name, BOOK_##book, why, name##_fields, COUNT(name##_fields), EFFECT_SIZE },
	EFFECTS(EFFECT_X)
#undef EFFECT_X
	{ "row4", "days", "the part of a finished IPv4 session in one day", row4_fields,
	  COUNT(row4_fields), ROW4_SIZE },
	{ "row6", "days", "the part of a finished IPv6 session in one day", row6_fields,
	  COUNT(row6_fields), ROW6_SIZE },
};
/* clang-format on */
const size_t effect_schema_count = COUNT(effect_schema);
