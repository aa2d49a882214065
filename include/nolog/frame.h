/* SPDX-License-Identifier: ISC */
/*
 * nolog/frame.h: the wire of nologd, nolog-frame(5).
 *
 * Every message, both ways, on every socket, is one frame of exactly 64 bytes,
 * little-endian, without padding.  What a frame carries is one list of fields
 * below; the struct, the encoder, the decoder and the check that the rest is
 * zero are all made from that list, so they cannot disagree, and a frame that
 * outgrows its 48 bytes of body does not compile.
 *
 * Nothing here allocates, blocks, or needs more than libc; all functions are
 * pure and may be called from any thread.
 *
 * Units: times are Unix milliseconds, UTC.  Addresses are 16 bytes in network
 * order, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).  A server ID is 1 to 16
 * bytes of [a-z0-9.-], zero padded.  An account is the unkeyed BLAKE2b-256
 * (RFC 7693) of its name: the name itself never crosses a socket.
 *
 * These headers are C11 and later, and C++17 and later.
 */
#ifndef NOLOG_FRAME_H
#define NOLOG_FRAME_H

#if !defined(__cplusplus) && (!defined(__STDC_VERSION__) || __STDC_VERSION__ < 201112L)
#error "nolog/frame.h needs C11 or later (-std=c11)"
#endif

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NOLOG_FRAME_SIZE 64
#define NOLOG_FRAME_HEADER 16
#define NOLOG_FRAME_VERSION 1
#define NOLOG_IP_SIZE 16
#define NOLOG_SERVER_SIZE 16
#define NOLOG_ACCOUNT_SIZE 32
#define NOLOG_METRIC_SIZE 32

/* The five sockets; each speaks for one role and accepts only its frames. */
enum nolog_role {
	NOLOG_ROLE_SESSIONS,
	NOLOG_ROLE_USAGE,
	NOLOG_ROLE_LOOKUP,
	NOLOG_ROLE_QUOTA,
	NOLOG_ROLE_ADMIN,
};
#define NOLOG_ROLES 5

/* Why a frame was refused: the code of a REFUSED frame.  0 is no refusal. */
enum nolog_refusal {
	NOLOG_OK = 0,
	NOLOG_MALFORMED = 1,
	NOLOG_UNKNOWN_TYPE = 2,
	NOLOG_BAD_VERSION = 3,
	NOLOG_WRONG_SOCKET = 4,
	NOLOG_BAD_SEQUENCE = 5,
	NOLOG_UNKNOWN_HANDLE = 16,
	NOLOG_HANDLE_OPEN = 17,
	NOLOG_TIME_RANGE = 18,
	NOLOG_IP_NOT_ALLOWED = 19,
	NOLOG_SERVER_NOT_ALLOWED = 20,
	NOLOG_DAY_FORGOTTEN = 21,
	NOLOG_OVER_CAPACITY = 22,
};

/* Code bits. */
#define NOLOG_USAGE_LAST 1u	  /* USAGE: last reading of this meter */
#define NOLOG_USAGE_FIRST 2u	  /* USAGE: first reading, counts from zero */
#define NOLOG_RECORD_OPEN 1u	  /* RECORD: still open, end_ms is 0 */
#define NOLOG_RECORD_CANDIDATE 2u /* RECORD: one of those behind a shared exit address */
#define NOLOG_RECORD_PART 4u	  /* RECORD: its other parts could not be told */

/* The code of DONE. */
enum nolog_done_code {
	NOLOG_DONE_COMPLETE = 0,
	NOLOG_DONE_UNREADABLE = 1, /* something could not be read */
	NOLOG_DONE_LIMIT = 2,	   /* the limit of records was reached */
	NOLOG_DONE_STOPPING = 3,   /* the daemon is stopping */
};

/*
 * The fields of each frame's body, in order: F(kind, name).
 * Kinds: U32, U64, I64 and byte arrays B16, B32.
 */
#define NOLOG_HELLO_FIELDS(F) F(B16, server) F(U64, stream)
#define NOLOG_START_FIELDS(F) F(U64, handle) F(I64, start_ms) F(B16, ip)
#define NOLOG_END_FIELDS(F) F(U64, handle) F(I64, end_ms)
#define NOLOG_SESSION_FIELDS(F) F(I64, start_ms) F(I64, end_ms) F(B16, ip)
#define NOLOG_ALIVE_FIELDS(F) F(U64, handle) F(I64, at_ms)
#define NOLOG_RESTART_FIELDS(F) F(I64, at_ms)
#define NOLOG_USAGE_FIELDS(F) F(B32, account) F(U64, rx) F(U64, tx)
#define NOLOG_LOOKUP_FIELDS(F) F(B16, ip) F(B16, server) F(I64, from_ms) F(I64, to_ms)
#define NOLOG_QUOTA_FIELDS(F) F(B32, account)
#define NOLOG_STATUS_FIELDS(F)
#define NOLOG_ACK_FIELDS(F)
#define NOLOG_WELCOME_FIELDS(F) F(I64, now_ms)
#define NOLOG_REFUSED_FIELDS(F)
#define NOLOG_RECORD_FIELDS(F) F(B16, ip) F(B16, server) F(I64, start_ms) F(I64, end_ms)
#define NOLOG_DONE_FIELDS(F) F(U64, count)
#define NOLOG_TOTAL_FIELDS(F) F(U64, rx) F(U64, tx) F(I64, resets_ms) F(U32, month)
#define NOLOG_METRIC_FIELDS(F) F(B32, name) F(U64, value)

/* The roles a frame is spoken in, as bits of 1 << enum nolog_role. */
#define NOLOG_IN_REPORTS (1u << NOLOG_ROLE_SESSIONS | 1u << NOLOG_ROLE_USAGE)
#define NOLOG_IN_SESSIONS (1u << NOLOG_ROLE_SESSIONS)
#define NOLOG_IN_USAGE (1u << NOLOG_ROLE_USAGE)
#define NOLOG_IN_LOOKUP (1u << NOLOG_ROLE_LOOKUP)
#define NOLOG_IN_QUOTA (1u << NOLOG_ROLE_QUOTA)
#define NOLOG_IN_ADMIN (1u << NOLOG_ROLE_ADMIN)
#define NOLOG_IN_ALL ((1u << NOLOG_ROLES) - 1)

/*
 * Every frame there is: X(number, NAME, name, roles, code_mask, aux_used).
 * Numbers below 0x80 come from clients, the others from the daemon.
 */
#define NOLOG_FRAMES(X)                                             \
	X(0x01, HELLO, hello, NOLOG_IN_REPORTS, 0, 0)               \
	X(0x10, START, start, NOLOG_IN_SESSIONS, 0, 0)              \
	X(0x11, END, end, NOLOG_IN_SESSIONS, 0, 0)                  \
	X(0x12, SESSION, session, NOLOG_IN_SESSIONS, 0, 0)          \
	X(0x13, ALIVE, alive, NOLOG_IN_SESSIONS, 0, 0)              \
	X(0x14, RESTART, restart, NOLOG_IN_SESSIONS, 0, 0)          \
	X(0x18, USAGE, usage, NOLOG_IN_USAGE, 3, 1)                 \
	X(0x20, LOOKUP, lookup, NOLOG_IN_LOOKUP, 0xffff, 0)         \
	X(0x30, QUOTA, quota, NOLOG_IN_QUOTA, 0, 0)                 \
	X(0x40, STATUS, status, NOLOG_IN_ADMIN, 0, 0)               \
	X(0x80, ACK, ack, NOLOG_IN_REPORTS, 0, 0)                   \
	X(0x81, WELCOME, welcome, NOLOG_IN_REPORTS, 0, 0)           \
	X(0x8f, REFUSED, refused, NOLOG_IN_ALL, 0xffff, 0)          \
	X(0xa0, RECORD, record, NOLOG_IN_LOOKUP, 7, 0)              \
	X(0xa1, DONE, done, NOLOG_IN_LOOKUP | NOLOG_IN_ADMIN, 3, 0) \
	X(0xb0, TOTAL, total, NOLOG_IN_QUOTA, 0, 0)                 \
	X(0xc0, METRIC, metric, NOLOG_IN_ADMIN, 0, 0)

#define NOLOG_X(number, NAME, name, roles, mask, aux) NOLOG_##NAME = number,
enum nolog_type { NOLOG_FRAMES(NOLOG_X) };
#undef NOLOG_X

/* Widths and C types of the kinds. */
#define NOLOG_SIZE_U32 4
#define NOLOG_SIZE_U64 8
#define NOLOG_SIZE_I64 8
#define NOLOG_SIZE_B16 16
#define NOLOG_SIZE_B32 32
#define NOLOG_DECL_U32(n) uint32_t n;
#define NOLOG_DECL_U64(n) uint64_t n;
#define NOLOG_DECL_I64(n) int64_t n;
#define NOLOG_DECL_B16(n) uint8_t n[16];
#define NOLOG_DECL_B32(n) uint8_t n[32];

#define NOLOG_DECL(kind, n) NOLOG_DECL_##kind(n)
#define NOLOG_SUM(kind, n) +NOLOG_SIZE_##kind

/* One struct a frame, in a union: struct nolog_frame f; f.u.start.handle. */
struct nolog_frame {
	uint8_t type; /* enum nolog_type; the version is always 1 */
	uint16_t code;
	uint32_t aux;
	uint64_t seq;
	union {
		uint8_t none;
#define NOLOG_X(number, NAME, name, roles, mask, aux) \
	struct {                                      \
		uint8_t none_;                        \
		NOLOG_##NAME##_FIELDS(NOLOG_DECL)     \
	} name;
		NOLOG_FRAMES(NOLOG_X)
#undef NOLOG_X
	} u;
};

#define NOLOG_X(number, NAME, name, roles, mask, aux)                                              \
	static_assert(NOLOG_FRAME_HEADER + 0 NOLOG_##NAME##_FIELDS(NOLOG_SUM) <= NOLOG_FRAME_SIZE, \
		      #NAME " does not fit a frame");
NOLOG_FRAMES(NOLOG_X)
#undef NOLOG_X

/* Little-endian, whatever the machine; compilers make one move of each. */
static inline void nolog_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void nolog_put32(uint8_t *p, uint32_t v)
{
	nolog_put16(p, (uint16_t)v);
	nolog_put16(p + 2, (uint16_t)(v >> 16));
}

static inline void nolog_put64(uint8_t *p, uint64_t v)
{
	nolog_put32(p, (uint32_t)v);
	nolog_put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint16_t nolog_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}

static inline uint32_t nolog_get32(const uint8_t *p)
{
	return nolog_get16(p) | (uint32_t)nolog_get16(p + 2) << 16;
}

static inline uint64_t nolog_get64(const uint8_t *p)
{
	return nolog_get32(p) | (uint64_t)nolog_get32(p + 4) << 32;
}

#define NOLOG_PUT_U32(p, v) nolog_put32(p, v)
#define NOLOG_PUT_U64(p, v) nolog_put64(p, v)
#define NOLOG_PUT_I64(p, v) nolog_put64(p, (uint64_t)(v))
#define NOLOG_PUT_B16(p, v) memcpy(p, v, 16)
#define NOLOG_PUT_B32(p, v) memcpy(p, v, 32)
#define NOLOG_GET_U32(p, v) v = nolog_get32(p)
#define NOLOG_GET_U64(p, v) v = nolog_get64(p)
#define NOLOG_GET_I64(p, v) v = (int64_t)nolog_get64(p)
#define NOLOG_GET_B16(p, v) memcpy(v, p, 16)
#define NOLOG_GET_B32(p, v) memcpy(v, p, 32)

/* Encodes f into its 64 bytes; what f's type does not name becomes zero. */
static inline void nolog_frame_encode(uint8_t out[NOLOG_FRAME_SIZE], const struct nolog_frame *f)
{
	uint8_t *p = out + NOLOG_FRAME_HEADER;

	memset(out, 0, NOLOG_FRAME_SIZE);
	out[0] = f->type;
	out[1] = NOLOG_FRAME_VERSION;
	nolog_put16(out + 2, f->code);
	nolog_put32(out + 4, f->aux);
	nolog_put64(out + 8, f->seq);
	switch (f->type) {
#define NOLOG_F(kind, n) (NOLOG_PUT_##kind(p, body->n), p += NOLOG_SIZE_##kind);
#define NOLOG_X(number, NAME, name, roles, mask, aux_used)      \
	case number: {                                          \
		const __typeof__(f->u.name) *body = &f->u.name; \
		(void)body;                                     \
		NOLOG_##NAME##_FIELDS(NOLOG_F) break;           \
	}
		NOLOG_FRAMES(NOLOG_X)
#undef NOLOG_X
#undef NOLOG_F
	default:
		break;
	}
}

/*
 * Decodes without judging: header and body fields of a known type; of an
 * unknown type the header only.  Use nolog_frame_check() on what comes from
 * outside.
 */
static inline void nolog_frame_decode(struct nolog_frame *f, const uint8_t in[NOLOG_FRAME_SIZE])
{
	const uint8_t *p = in + NOLOG_FRAME_HEADER;

	f->type = in[0];
	f->code = nolog_get16(in + 2);
	f->aux = nolog_get32(in + 4);
	f->seq = nolog_get64(in + 8);
	switch (f->type) {
#define NOLOG_F(kind, n)                      \
	do {                                  \
		NOLOG_GET_##kind(p, body->n); \
		p += NOLOG_SIZE_##kind;       \
	} while (0);
#define NOLOG_X(number, NAME, name, roles, mask, aux_used) \
	case number: {                                     \
		__typeof__(f->u.name) *body = &f->u.name;  \
		(void)body;                                \
		NOLOG_##NAME##_FIELDS(NOLOG_F) break;      \
	}
		NOLOG_FRAMES(NOLOG_X)
#undef NOLOG_X
#undef NOLOG_F
	default:
		break;
	}
	(void)p;
}

/* True when id is a server ID: 1-16 of [a-z0-9.-], then only zeros. */
static inline bool nolog_server_valid(const uint8_t id[NOLOG_SERVER_SIZE])
{
	size_t n = 0;

	while (n < NOLOG_SERVER_SIZE &&
	       ((id[n] >= 'a' && id[n] <= 'z') || (id[n] >= '0' && id[n] <= '9') || id[n] == '.' ||
		id[n] == '-'))
		n++;
	if (n == 0)
		return false;
	for (; n < NOLOG_SERVER_SIZE; n++)
		if (id[n] != 0)
			return false;
	return true;
}

/* True when all n bytes at p are zero. */
static inline bool nolog_all_zero(const uint8_t *p, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= p[i];
	return any == 0;
}

/*
 * Judges a frame as the daemon does, in the contract's order: 3 version, 2
 * unknown type (every type from 0x80 is unknown when from_client), 4 not on
 * this socket, 1 malformed.  Sequence and meaning are the ledger's to judge.
 * Returns NOLOG_OK or the refusal.
 */
static inline enum nolog_refusal nolog_frame_check(const uint8_t in[NOLOG_FRAME_SIZE],
						   enum nolog_role role, bool from_client)
{
	unsigned roles, mask, uses_aux;
	size_t body;
	uint16_t code = nolog_get16(in + 2);
	uint32_t aux = nolog_get32(in + 4);

	if (in[1] != NOLOG_FRAME_VERSION)
		return NOLOG_BAD_VERSION;
	if (from_client == (in[0] >= 0x80))
		return NOLOG_UNKNOWN_TYPE;
	switch (in[0]) {
#define NOLOG_X(number, NAME, name, r, m, a)               \
	case number:                                       \
		roles = (r);                               \
		mask = (m);                                \
		uses_aux = (a);                            \
		body = 0 NOLOG_##NAME##_FIELDS(NOLOG_SUM); \
		break;
		NOLOG_FRAMES(NOLOG_X)
#undef NOLOG_X
	default:
		return NOLOG_UNKNOWN_TYPE;
	}
	if (!(roles & 1u << role))
		return NOLOG_WRONG_SOCKET;
	if ((code & ~mask) != 0 || (!uses_aux && aux != 0))
		return NOLOG_MALFORMED;
	if (!nolog_all_zero(in + NOLOG_FRAME_HEADER + body,
			    NOLOG_FRAME_SIZE - NOLOG_FRAME_HEADER - body))
		return NOLOG_MALFORMED;
	switch (in[0]) {
	case NOLOG_HELLO:
		if (nolog_get64(in + 8) != 0 || !nolog_server_valid(in + 16))
			return NOLOG_MALFORMED;
		break;
	case NOLOG_USAGE:
		if (aux == 0 && code != 0)
			return NOLOG_MALFORMED;
		break;
	case NOLOG_LOOKUP:
		if (code > 128 || (int64_t)nolog_get64(in + 48) > (int64_t)nolog_get64(in + 56))
			return NOLOG_MALFORMED;
		if (!nolog_all_zero(in + 32, NOLOG_SERVER_SIZE) && !nolog_server_valid(in + 32))
			return NOLOG_MALFORMED;
		break;
	default:
		break;
	}
	return NOLOG_OK;
}

#endif
