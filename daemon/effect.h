/* SPDX-License-Identifier: ISC */
/*
 * effect: what is stored, field by field.
 *
 * The ledgers decide and yield effects: fixed 48-byte records, each complete
 * in itself and absolute (a value, never a difference), so that replaying a
 * log of them sets and removes and asks nothing else.  The rows of the day
 * files are here too.  Every layout is one list of fields, and the encoder,
 * the decoder, the check of its size and `nologctl policy` are made from it:
 * what is not in a list cannot be stored.
 *
 * Kinds: U8 U16 U32 U64 little-endian; MS a time in 48 bits of Unix
 * milliseconds; SRV a server ID packed to 11 bytes; IP 16 bytes; IP4 the last
 * four of them; TAG a 16-byte keyed hash.
 */
#ifndef EFFECT_H
#define EFFECT_H

#include <nolog/frame.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EFFECT_SIZE 48
#define SERVER_KEY_SIZE 11
#define EFFECT_MS_MAX ((INT64_C(1) << 48) - 1)

/*
 * A server ID in 11 bytes: two halves of 8 characters of a 39-letter alphabet
 * (none, a-z, 0-9, '.', '-'), 43 bits each.
 */
struct server_key {
	uint8_t b[SERVER_KEY_SIZE];
};

/* id must be nolog_server_valid(). */
void server_pack(struct server_key *out, const uint8_t id[NOLOG_SERVER_SIZE]);
/* False when the bytes are not what server_pack() makes; out is then zeros. */
bool server_unpack(uint8_t id[NOLOG_SERVER_SIZE], const struct server_key *key);

/* F(kind, name, what it is for) */
/* clang-format off */
#define EFFECT_OPEN_FIELDS(F)                                        \
	F(SRV, server, "server ID")                                  \
	F(U64, handle, "the server's number for the open session")   \
	F(IP, ip, "session IP")                                      \
	F(MS, start_ms, "start")                                     \
	F(MS, alive_ms, "last sign of life, 0: none")
#define EFFECT_CLOSE_FIELDS(F)                                       \
	F(SRV, server, "server ID")                                  \
	F(U64, handle, "the server's number for the open session")   \
	F(IP, ip, "session IP")                                      \
	F(MS, start_ms, "start")                                     \
	F(MS, end_ms, "end")
#define EFFECT_WHOLE_FIELDS(F)                                       \
	F(SRV, server, "server ID")                                  \
	F(IP, ip, "session IP")                                      \
	F(MS, start_ms, "start")                                     \
	F(MS, end_ms, "end")
#define EFFECT_ALIVE_FIELDS(F)                                       \
	F(SRV, server, "server ID")                                  \
	F(U64, handle, "the server's number for the open session")   \
	F(MS, alive_ms, "last sign of life")
#define EFFECT_GONE_FIELDS(F)                                        \
	F(SRV, server, "server ID")                                  \
	F(U64, handle, "the server's number for the ended session")
#define EFFECT_STREAM_FIELDS(F)                                      \
	F(TAG, stream, "keyed hash of server and stream")            \
	F(U64, seq, "last number taken, 0: forgotten")               \
	F(U8, generation, "of the key of the hash")
#define EFFECT_TOTAL_FIELDS(F)                                       \
	F(TAG, account, "keyed hash of the account, key of the month") \
	F(U64, rx, "bytes in this month")                            \
	F(U64, tx, "bytes out this month")
#define EFFECT_METER_FIELDS(F)                                       \
	F(TAG, meter, "keyed hash of server, account and meter")     \
	F(U64, rx, "last reading in")                                \
	F(U64, tx, "last reading out")                               \
	F(U8, generation, "of the key of the hash")                  \
	F(U8, state, "1 running, 2 closed, 0 forgotten")
#define EFFECT_TURN_FIELDS(F) F(U32, month, "all totals are zero; the month that begins")

/* X(number, NAME, name, book, purpose); book: SESSIONS, USAGE or BOTH. */
#define EFFECTS(X)                                                                       \
	X(1, OPEN, open, SESSIONS, "a session that is open")                             \
	X(2, CLOSE, close, SESSIONS, "an open session that ended")                       \
	X(3, WHOLE, whole, SESSIONS, "a session reported when it was over")              \
	X(4, ALIVE, alive, SESSIONS, "a sign of life of an open session")                \
	X(5, GONE, gone, SESSIONS, "an open session of which nothing is kept")           \
	X(6, STREAM, stream, BOTH, "how far a reporter's stream has been taken")         \
	X(7, TOTAL, total, USAGE, "an account's total of the month")                     \
	X(8, METER, meter, USAGE, "the last reading of a meter")                         \
	X(9, TURN, turn, USAGE, "the month's turn")
/* clang-format on */

#define EFFECT_X(number, NAME, name, book, why) EFFECT_##NAME = number,
enum effect_type { EFFECTS(EFFECT_X) };
#undef EFFECT_X

enum meter_state { METER_FORGOTTEN = 0, METER_RUNNING = 1, METER_CLOSED = 2 };

#define EFFECT_SIZE_U8 1
#define EFFECT_SIZE_U16 2
#define EFFECT_SIZE_U32 4
#define EFFECT_SIZE_U64 8
#define EFFECT_SIZE_MS 6
#define EFFECT_SIZE_SRV SERVER_KEY_SIZE
#define EFFECT_SIZE_IP 16
#define EFFECT_SIZE_IP4 4
#define EFFECT_SIZE_TAG 16

#define EFFECT_DECL_U8(n) uint8_t n;
#define EFFECT_DECL_U16(n) uint16_t n;
#define EFFECT_DECL_U32(n) uint32_t n;
#define EFFECT_DECL_U64(n) uint64_t n;
#define EFFECT_DECL_MS(n) int64_t n;
#define EFFECT_DECL_SRV(n) struct server_key n;
#define EFFECT_DECL_IP(n) uint8_t n[16];
#define EFFECT_DECL_TAG(n) uint8_t n[16];
#define EFFECT_DECL_IP4(n) uint8_t n[16];
#define EFFECT_DECL(kind, n, why) EFFECT_DECL_##kind(n)
#define EFFECT_SUM(kind, n, why) +EFFECT_SIZE_##kind

struct effect {
	uint8_t type; /* enum effect_type */
	union {
#define EFFECT_X(number, NAME, name, book, why)     \
	struct {                                    \
		EFFECT_##NAME##_FIELDS(EFFECT_DECL) \
	} name;
		EFFECTS(EFFECT_X)
#undef EFFECT_X
	} u;
};

#define EFFECT_X(number, NAME, name, book, why)                              \
	static_assert(1 + EFFECT_##NAME##_FIELDS(EFFECT_SUM) <= EFFECT_SIZE, \
		      #NAME " does not fit an effect");
EFFECTS(EFFECT_X)
#undef EFFECT_X

/* Times must lie within 0..EFFECT_MS_MAX (asserted); unused bytes become zero. */
void effect_encode(uint8_t out[EFFECT_SIZE], const struct effect *e);
/* -EBADMSG: unknown type, server that is none, or unused bytes that are not zero. */
int effect_decode(struct effect *e, const uint8_t in[EFFECT_SIZE])
	__attribute__((warn_unused_result));

static inline void effect_put_ms(uint8_t *p, int64_t ms)
{
	assert(ms >= 0 && ms <= EFFECT_MS_MAX);
	nolog_put32(p, (uint32_t)ms);
	nolog_put16(p + 4, (uint16_t)(ms >> 32));
}

static inline int64_t effect_get_ms(const uint8_t *p)
{
	return nolog_get32(p) | (int64_t)nolog_get16(p + 4) << 32;
}

/*
 * The times of an encoded effect that is a finished session, a CLOSE or WHOLE;
 * they are its last fields.  False: it is none.
 */
static inline bool effect_times(const uint8_t in[EFFECT_SIZE], int64_t *start_ms, int64_t *end_ms)
{
	const uint8_t *end = in + 1;

	if (in[0] == EFFECT_CLOSE)
		end += EFFECT_CLOSE_FIELDS(EFFECT_SUM);
	else if (in[0] == EFFECT_WHOLE)
		end += EFFECT_WHOLE_FIELDS(EFFECT_SUM);
	else
		return false;
	*start_ms = effect_get_ms(end - 2 * EFFECT_SIZE_MS);
	*end_ms = effect_get_ms(end - EFFECT_SIZE_MS);
	return true;
}

/* A growing array of encoded effects: the outcome of a batch. */
struct effects {
	uint8_t (*at)[EFFECT_SIZE];
	size_t n, room;
};
/* Makes room for n more; -ENOMEM, nothing changed. */
int effects_reserve(struct effects *e, size_t n);
/* Appends one.  Makes room if need be, and ends the process when there is no memory for it. */
void effects_add(struct effects *e, const struct effect *effect);
void effects_clear(struct effects *e); /* keeps the room */
void effects_free(struct effects *e);

/*
 * The rows of a day file.  start and end are milliseconds of that day, end up
 * to 86,400,000; the top bit of start is set when the session began on an
 * earlier day, of end when it went on the next.
 */
/* clang-format off */
#define ROW4_FIELDS(F)                                               \
	F(IP4, ip, "session IP, IPv4")                               \
	F(U16, server, "server ID, by its place in the day's list")  \
	F(U32, start, "start, milliseconds of the day; began earlier") \
	F(U32, end, "end, milliseconds of the day; went on")
#define ROW6_FIELDS(F)                                               \
	F(IP, ip, "session IP, IPv6")                                \
	F(U16, server, "server ID, by its place in the day's list")  \
	F(U32, start, "start, milliseconds of the day; began earlier") \
	F(U32, end, "end, milliseconds of the day; went on")
/* clang-format on */
#define ROW4_SIZE (0 ROW4_FIELDS(EFFECT_SUM))
#define ROW6_SIZE (0 ROW6_FIELDS(EFFECT_SUM))
#define ROW_MORE (UINT32_C(1) << 31)

static_assert(ROW4_SIZE == 14 && ROW6_SIZE == 26, "rows as DESIGN.md says");

/*
 * One field each, for whoever encodes a list: p is uint8_t *, v the member.
 * EFFECT_GET_SRV copies; server_unpack() judges it.
 */
#define EFFECT_PUT_U8(p, v) ((p)[0] = (v))
#define EFFECT_PUT_U16(p, v) nolog_put16(p, v)
#define EFFECT_PUT_U32(p, v) nolog_put32(p, v)
#define EFFECT_PUT_U64(p, v) nolog_put64(p, v)
#define EFFECT_PUT_MS(p, v) effect_put_ms(p, v)
#define EFFECT_PUT_SRV(p, v) memcpy(p, (v).b, SERVER_KEY_SIZE)
#define EFFECT_PUT_IP(p, v) memcpy(p, v, 16)
#define EFFECT_PUT_IP4(p, v) memcpy(p, (v) + 12, 4)
#define EFFECT_PUT_TAG(p, v) memcpy(p, v, 16)
#define EFFECT_GET_U8(p, v) ((v) = (p)[0])
#define EFFECT_GET_U16(p, v) ((v) = nolog_get16(p))
#define EFFECT_GET_U32(p, v) ((v) = nolog_get32(p))
#define EFFECT_GET_U64(p, v) ((v) = nolog_get64(p))
#define EFFECT_GET_MS(p, v) ((v) = effect_get_ms(p))
#define EFFECT_GET_SRV(p, v) memcpy((v).b, p, SERVER_KEY_SIZE)
#define EFFECT_GET_IP(p, v) memcpy(v, p, 16)
#define EFFECT_GET_IP4(p, v) (memset(v, 0, 10), memset((v) + 10, 0xff, 2), memcpy((v) + 12, p, 4))
#define EFFECT_GET_TAG(p, v) memcpy(v, p, 16)

/* True for ::ffff:a.b.c.d. */
static inline bool effect_ip_is4(const uint8_t ip[NOLOG_IP_SIZE])
{
	return nolog_all_zero(ip, 10) && ip[10] == 0xff && ip[11] == 0xff;
}

/*
 * The schema, made from the lists above: what `nologctl policy` prints.  A
 * record that is an effect takes EFFECT_SIZE bytes whatever its fields need.
 */
struct field_schema {
	const char *name;
	size_t size;
	const char *why;
};

struct record_schema {
	const char *record;
	const char *book; /* "sessions", "usage", "both"; "days" for the rows of day files */
	const char *why;
	const struct field_schema *fields;
	size_t n;    /* of fields */
	size_t size; /* bytes it takes */
};

extern const struct record_schema effect_schema[];
extern const size_t effect_schema_count;

#endif
