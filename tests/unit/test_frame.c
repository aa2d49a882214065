/* SPDX-License-Identifier: ISC */
/*
 * nolog/frame.h against the contract: every frame's bytes are written out here
 * by hand, at the offsets of nolog-frame(5), and must come out of the encoder
 * and go into the decoder just so.
 */
#include <nolog/frame.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define IP4 "00000000000000000000ffff0a080002"
#define IP6 "20010db8000000000000000000000007"
#define SERVER "6e6c2d616d732d303300000000000000" /* nl-ams-03 */
#define HASH "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define METRIC_NAME "73657373696f6e735f6f70656e00000000000000000000000000000000000000"
#define Z4 "00000000"
#define Z8 "0000000000000000"
#define Z16 Z8 Z8
#define SEQ "0807060504030201"
#define A64 "1817161514131211"
#define B64 "2827262524232221"
#define NEG "feffffffffffffff"

static const uint8_t ip4[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 8, [15] = 2 };
static const uint8_t ip6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 };

/* One of each frame; the members of the union that its bytes stand for are set by fill(). */
static const struct known {
	uint8_t type;
	enum nolog_role role;
	bool from_client;
	uint16_t code;
	uint32_t aux;
	uint64_t seq;
	const char *hex;
} known[] = {
	{ NOLOG_HELLO, NOLOG_ROLE_SESSIONS, true, 0, 0, 0, "01010000" Z4 Z8 SERVER A64 Z16 Z8 },
	{ NOLOG_HELLO, NOLOG_ROLE_USAGE, true, 0, 0, 0, "01010000" Z4 Z8 SERVER A64 Z16 Z8 },
	{ NOLOG_START, NOLOG_ROLE_SESSIONS, true, 0, 0, 1, "10010000" Z4 SEQ A64 B64 IP4 Z16 },
	{ NOLOG_END, NOLOG_ROLE_SESSIONS, true, 0, 0, 1, "11010000" Z4 SEQ A64 B64 Z16 Z16 },
	{ NOLOG_SESSION, NOLOG_ROLE_SESSIONS, true, 0, 0, 1, "12010000" Z4 SEQ NEG B64 IP6 Z16 },
	{ NOLOG_ALIVE, NOLOG_ROLE_SESSIONS, true, 0, 0, 1, "13010000" Z4 SEQ A64 B64 Z16 Z16 },
	{ NOLOG_RESTART, NOLOG_ROLE_SESSIONS, true, 0, 0, 1, "14010000" Z4 SEQ A64 Z8 Z16 Z16 },
	{ NOLOG_USAGE, NOLOG_ROLE_USAGE, true, 0, 0, 1, "18010000" Z4 SEQ HASH A64 B64 },
	{ NOLOG_USAGE, NOLOG_ROLE_USAGE, true, 3, 0x44332211, 1,
	  "18010300"
	  "11223344" SEQ HASH A64 B64 },
	{ NOLOG_LOOKUP, NOLOG_ROLE_LOOKUP, true, 128, 0, 1, "20018000" Z4 SEQ IP6 SERVER A64 B64 },
	{ NOLOG_QUOTA, NOLOG_ROLE_QUOTA, true, 0, 0, 1, "30010000" Z4 SEQ HASH Z16 },
	{ NOLOG_STATUS, NOLOG_ROLE_ADMIN, true, 0, 0, 1, "40010000" Z4 SEQ Z16 Z16 Z16 },
	{ NOLOG_ACK, NOLOG_ROLE_SESSIONS, false, 0, 0, 1, "80010000" Z4 SEQ Z16 Z16 Z16 },
	{ NOLOG_WELCOME, NOLOG_ROLE_USAGE, false, 0, 0, 1, "81010000" Z4 SEQ A64 Z8 Z16 Z16 },
	{ NOLOG_REFUSED, NOLOG_ROLE_QUOTA, false, 0x1234, 0, 1, "8f013412" Z4 SEQ Z16 Z16 Z16 },
	{ NOLOG_RECORD, NOLOG_ROLE_LOOKUP, false, 7, 0, 1, "a0010700" Z4 SEQ IP6 SERVER NEG B64 },
	{ NOLOG_DONE, NOLOG_ROLE_LOOKUP, false, 3, 0, 1, "a1010300" Z4 SEQ A64 Z8 Z16 Z16 },
	{ NOLOG_DONE, NOLOG_ROLE_ADMIN, false, 0, 0, 1, "a1010000" Z4 SEQ A64 Z8 Z16 Z16 },
	{ NOLOG_TOTAL, NOLOG_ROLE_QUOTA, false, 0, 0, 1,
	  "b0010000" Z4 SEQ A64 B64 "3837363534333231"
	  "5a280300" Z16 Z4 },
	{ NOLOG_METRIC, NOLOG_ROLE_ADMIN, false, 0, 0, 1, "c0010000" Z4 SEQ METRIC_NAME A64 Z8 },
};
#define KNOWN (sizeof(known) / sizeof(known[0]))

static unsigned nibble(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void unhex(uint8_t out[NOLOG_FRAME_SIZE], const char *hex)
{
	assert_int_equal(strlen(hex), 2 * NOLOG_FRAME_SIZE);
	for (size_t i = 0; i < NOLOG_FRAME_SIZE; i++)
		out[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
}

#define A UINT64_C(0x1112131415161718)
#define B UINT64_C(0x2122232425262728)
#define C INT64_C(0x3132333435363738)

static void server_id(uint8_t out[16])
{
	memset(out, 0, 16);
	memcpy(out, "nl-ams-03", 9);
}

static void hash(uint8_t out[32])
{
	for (uint8_t i = 0; i < 32; i++)
		out[i] = i;
}

/* Sets the fields of a known frame one by one: the names are part of the interface. */
static void fill(struct nolog_frame *f, const struct known *k)
{
	memset(f, 0x5a, sizeof(*f)); /* what a type does not name may hold anything */
	f->type = k->type;
	f->code = k->code;
	f->aux = k->aux;
	f->seq = k->seq ? UINT64_C(0x0102030405060708) : 0;
	switch (k->type) {
	case NOLOG_HELLO:
		server_id(f->u.hello.server);
		f->u.hello.stream = A;
		break;
	case NOLOG_START:
		f->u.start.handle = A;
		f->u.start.start_ms = (int64_t)B;
		memcpy(f->u.start.ip, ip4, 16);
		break;
	case NOLOG_END:
		f->u.end.handle = A;
		f->u.end.end_ms = (int64_t)B;
		break;
	case NOLOG_SESSION:
		f->u.session.start_ms = -2;
		f->u.session.end_ms = (int64_t)B;
		memcpy(f->u.session.ip, ip6, 16);
		break;
	case NOLOG_ALIVE:
		f->u.alive.handle = A;
		f->u.alive.at_ms = (int64_t)B;
		break;
	case NOLOG_RESTART:
		f->u.restart.at_ms = (int64_t)A;
		break;
	case NOLOG_USAGE:
		hash(f->u.usage.account);
		f->u.usage.rx = A;
		f->u.usage.tx = B;
		break;
	case NOLOG_LOOKUP:
		memcpy(f->u.lookup.ip, ip6, 16);
		server_id(f->u.lookup.server);
		f->u.lookup.from_ms = (int64_t)A;
		f->u.lookup.to_ms = (int64_t)B;
		break;
	case NOLOG_QUOTA:
		hash(f->u.quota.account);
		break;
	case NOLOG_WELCOME:
		f->u.welcome.now_ms = (int64_t)A;
		break;
	case NOLOG_RECORD:
		memcpy(f->u.record.ip, ip6, 16);
		server_id(f->u.record.server);
		f->u.record.start_ms = -2;
		f->u.record.end_ms = (int64_t)B;
		break;
	case NOLOG_DONE:
		f->u.done.count = A;
		break;
	case NOLOG_TOTAL:
		f->u.total.rx = A;
		f->u.total.tx = B;
		f->u.total.resets_ms = C;
		f->u.total.month = 206938;
		break;
	case NOLOG_METRIC:
		memset(f->u.metric.name, 0, 32);
		memcpy(f->u.metric.name, "sessions_open", 13);
		f->u.metric.value = A;
		break;
	default:
		break;
	}
}

static void every_frame_is_encoded_to_the_bytes_of_the_contract(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		uint8_t want[NOLOG_FRAME_SIZE], got[NOLOG_FRAME_SIZE];
		struct nolog_frame f;

		unhex(want, known[i].hex);
		fill(&f, &known[i]);
		memset(got, 0xee, sizeof(got));
		nolog_frame_encode(got, &f);
		assert_memory_equal(got, want, sizeof(want));
	}
}

static void decoding_and_encoding_again_gives_the_same_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		uint8_t want[NOLOG_FRAME_SIZE], got[NOLOG_FRAME_SIZE];
		struct nolog_frame f;

		unhex(want, known[i].hex);
		memset(&f, 0x5a, sizeof(f));
		nolog_frame_decode(&f, want);
		assert_int_equal(f.type, known[i].type);
		assert_int_equal(f.code, known[i].code);
		assert_int_equal(f.aux, known[i].aux);
		nolog_frame_encode(got, &f);
		assert_memory_equal(got, want, sizeof(want));
	}
}

static void decoded_fields_have_the_values_of_their_bytes(void **state)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];
	struct nolog_frame f;

	(void)state;
	unhex(bytes, known[4].hex);
	nolog_frame_decode(&f, bytes);
	assert_int_equal(f.seq, UINT64_C(0x0102030405060708));
	assert_true(f.u.session.start_ms == -2);
	assert_true(f.u.session.end_ms == (int64_t)B);
	assert_memory_equal(f.u.session.ip, ip6, 16);
	unhex(bytes, known[8].hex);
	nolog_frame_decode(&f, bytes);
	assert_int_equal(f.aux, 0x44332211);
	assert_int_equal(f.code, NOLOG_USAGE_LAST | NOLOG_USAGE_FIRST);
	assert_true(f.u.usage.rx == A && f.u.usage.tx == B);
	unhex(bytes, known[18].hex);
	nolog_frame_decode(&f, bytes);
	assert_int_equal(f.u.total.month, 206938);
	assert_true(f.u.total.resets_ms == C);
}

static void an_unknown_type_is_decoded_to_its_header(void **state)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];
	struct nolog_frame f;

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	nolog_frame_decode(&f, bytes);
	assert_int_equal(f.type, 0xff);
	assert_int_equal(f.code, 0xffff);
	assert_true(f.aux == UINT32_MAX && f.seq == UINT64_MAX);
	nolog_frame_encode(bytes, &f);
	assert_true(nolog_all_zero(bytes + 16, 48));
}

static void every_known_frame_passes_the_check_of_its_own_socket_only(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		const struct known *k = &known[i];
		uint8_t bytes[NOLOG_FRAME_SIZE];

		unhex(bytes, k->hex);
		assert_int_equal(nolog_frame_check(bytes, k->role, k->from_client), NOLOG_OK);
		assert_int_equal(nolog_frame_check(bytes, k->role, !k->from_client),
				 NOLOG_UNKNOWN_TYPE);
		for (unsigned role = 0; role < NOLOG_ROLES; role++) {
			enum nolog_refusal want = NOLOG_WRONG_SOCKET;

			for (size_t j = 0; j < KNOWN; j++)
				if (known[j].type == k->type && known[j].role == role)
					want = NOLOG_OK;
			/* Spoken on both reporting sockets, or everywhere, but listed once. */
			if ((k->type == NOLOG_ACK || k->type == NOLOG_WELCOME) &&
			    role <= NOLOG_ROLE_USAGE)
				want = NOLOG_OK;
			if (k->type == NOLOG_REFUSED)
				want = NOLOG_OK;
			if (k->type == NOLOG_DONE && k->code && role == NOLOG_ROLE_ADMIN)
				want = NOLOG_OK;
			assert_int_equal(nolog_frame_check(bytes, role, k->from_client), want);
		}
	}
}

/* The mask of the code bits a type uses, and whether it uses aux, by hand. */
static unsigned code_mask(uint8_t type)
{
	switch (type) {
	case NOLOG_USAGE:
	case NOLOG_DONE:
		return 3;
	case NOLOG_RECORD:
		return 7;
	case NOLOG_LOOKUP:
	case NOLOG_REFUSED:
		return 0xffff;
	default:
		return 0;
	}
}

static void every_bit_of_code_and_aux_that_is_not_used_is_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		const struct known *k = &known[i];
		uint8_t bytes[NOLOG_FRAME_SIZE];

		unhex(bytes, k->hex);
		for (unsigned bit = 0; bit < 16; bit++) {
			if (code_mask(k->type) & 1u << bit)
				continue;
			nolog_put16(bytes + 2, (uint16_t)(k->code | 1u << bit));
			assert_int_equal(nolog_frame_check(bytes, k->role, k->from_client),
					 NOLOG_MALFORMED);
		}
		nolog_put16(bytes + 2, k->code);
		for (unsigned bit = 0; bit < 32 && k->type != NOLOG_USAGE; bit++) {
			nolog_put32(bytes + 4, 1u << bit);
			assert_int_equal(nolog_frame_check(bytes, k->role, k->from_client),
					 NOLOG_MALFORMED);
		}
	}
}

static size_t body_size(uint8_t type)
{
	static const uint8_t sizes[256] = {
		[0x01] = 24, [0x10] = 32, [0x11] = 16, [0x12] = 32, [0x13] = 16, [0x14] = 8,
		[0x18] = 48, [0x20] = 48, [0x30] = 32, [0x40] = 0,  [0x80] = 0,	 [0x81] = 8,
		[0x8f] = 0,  [0xa0] = 48, [0xa1] = 8,  [0xb0] = 28, [0xc0] = 40,
	};

	return sizes[type];
}

static void every_byte_after_the_last_field_must_be_zero(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		const struct known *k = &known[i];
		uint8_t bytes[NOLOG_FRAME_SIZE];

		unhex(bytes, k->hex);
		for (size_t at = 16 + body_size(k->type); at < NOLOG_FRAME_SIZE; at++)
			for (unsigned bit = 0; bit < 8; bit++) {
				bytes[at] = (uint8_t)(1u << bit);
				assert_int_equal(nolog_frame_check(bytes, k->role, k->from_client),
						 NOLOG_MALFORMED);
				bytes[at] = 0;
			}
		assert_int_equal(nolog_frame_check(bytes, k->role, k->from_client), NOLOG_OK);
	}
}

static void the_order_of_checks_is_version_type_socket_malformed(void **state)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];

	(void)state;
	/* All four at once, then one less each time. */
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_USAGE, true), NOLOG_BAD_VERSION);
	bytes[1] = 1;
	assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_USAGE, true), NOLOG_UNKNOWN_TYPE);
	bytes[0] = NOLOG_START;
	assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_USAGE, true), NOLOG_WRONG_SOCKET);
	assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_SESSIONS, true), NOLOG_MALFORMED);
}

static void only_the_listed_types_are_known(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 256; type++)
		for (unsigned role = 0; role < NOLOG_ROLES; role++)
			for (unsigned client = 0; client < 2; client++) {
				uint8_t bytes[NOLOG_FRAME_SIZE] = { (uint8_t)type, 1 };
				bool listed = false;

				for (size_t i = 0; i < KNOWN; i++)
					listed = listed || (known[i].type == type &&
							    known[i].from_client == client);
				assert_int_equal(nolog_frame_check(bytes, role, client) ==
							 NOLOG_UNKNOWN_TYPE,
						 !listed);
			}
}

static void only_version_one_is_known(void **state)
{
	uint8_t bytes[NOLOG_FRAME_SIZE] = { NOLOG_STATUS };

	(void)state;
	for (unsigned version = 0; version < 256; version++) {
		bytes[1] = (uint8_t)version;
		assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_ADMIN, true),
				 version == 1 ? NOLOG_OK : NOLOG_BAD_VERSION);
	}
}

static enum nolog_refusal check_hello(const char *id, size_t n, uint64_t seq)
{
	struct nolog_frame f = { .type = NOLOG_HELLO, .seq = seq };
	uint8_t bytes[NOLOG_FRAME_SIZE];

	memcpy(f.u.hello.server, id, n);
	nolog_frame_encode(bytes, &f);
	return nolog_frame_check(bytes, NOLOG_ROLE_SESSIONS, true);
}

static void hello_is_malformed_with_a_bad_server_or_a_seq(void **state)
{
	(void)state;
	assert_int_equal(check_hello("a", 1, 0), NOLOG_OK);
	assert_int_equal(check_hello("abcdefghijklmnop", 16, 0), NOLOG_OK);
	assert_int_equal(check_hello("09.-az", 6, 0), NOLOG_OK);
	assert_int_equal(check_hello("", 0, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("A", 1, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("a b", 3, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("a_b", 3, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("a\0b", 3, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("\0ab", 3, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("a\xc3\xa4", 3, 0), NOLOG_MALFORMED);
	assert_int_equal(check_hello("a", 1, 1), NOLOG_MALFORMED);
}

static void plain_usage_with_meter_bits_is_malformed(void **state)
{
	struct nolog_frame f = { .type = NOLOG_USAGE, .seq = 1 };
	uint8_t bytes[NOLOG_FRAME_SIZE];

	(void)state;
	for (uint16_t code = 0; code < 8; code++)
		for (uint32_t aux = 0; aux < 2; aux++) {
			f.code = code;
			f.aux = aux;
			memset(&f.u, 0, sizeof(f.u));
			nolog_frame_encode(bytes, &f);
			assert_int_equal(nolog_frame_check(bytes, NOLOG_ROLE_USAGE, true),
					 code > 3 || (code && !aux) ? NOLOG_MALFORMED : NOLOG_OK);
		}
}

static enum nolog_refusal check_lookup(unsigned len, const char *server, int64_t from, int64_t to)
{
	struct nolog_frame f = { .type = NOLOG_LOOKUP, .code = (uint16_t)len, .seq = 9 };
	uint8_t bytes[NOLOG_FRAME_SIZE];

	memcpy(f.u.lookup.server, server, strlen(server));
	f.u.lookup.from_ms = from;
	f.u.lookup.to_ms = to;
	nolog_frame_encode(bytes, &f);
	return nolog_frame_check(bytes, NOLOG_ROLE_LOOKUP, true);
}

static void lookup_is_malformed_with_a_long_prefix_a_bad_server_or_times_reversed(void **state)
{
	(void)state;
	assert_int_equal(check_lookup(0, "", 0, 0), NOLOG_OK);
	assert_int_equal(check_lookup(128, "a", INT64_MIN, INT64_MAX), NOLOG_OK);
	assert_int_equal(check_lookup(129, "", 0, 0), NOLOG_MALFORMED);
	assert_int_equal(check_lookup(65535, "", 0, 0), NOLOG_MALFORMED);
	assert_int_equal(check_lookup(0, "", 1, 0), NOLOG_MALFORMED);
	assert_int_equal(check_lookup(0, "", 0, -1), NOLOG_MALFORMED);
	assert_int_equal(check_lookup(0, "", -1, 0), NOLOG_OK);
	assert_int_equal(check_lookup(0, "NL", 0, 0), NOLOG_MALFORMED);
}

static void seq_is_not_judged_by_the_check(void **state)
{
	(void)state;
	for (size_t i = 0; i < KNOWN; i++) {
		uint8_t bytes[NOLOG_FRAME_SIZE];

		unhex(bytes, known[i].hex);
		if (known[i].type == NOLOG_HELLO)
			continue;
		nolog_put64(bytes + 8, 0);
		assert_int_equal(nolog_frame_check(bytes, known[i].role, known[i].from_client),
				 NOLOG_OK);
		nolog_put64(bytes + 8, UINT64_MAX);
		assert_int_equal(nolog_frame_check(bytes, known[i].role, known[i].from_client),
				 NOLOG_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_frame_is_encoded_to_the_bytes_of_the_contract),
		cmocka_unit_test(decoding_and_encoding_again_gives_the_same_bytes),
		cmocka_unit_test(decoded_fields_have_the_values_of_their_bytes),
		cmocka_unit_test(an_unknown_type_is_decoded_to_its_header),
		cmocka_unit_test(every_known_frame_passes_the_check_of_its_own_socket_only),
		cmocka_unit_test(every_bit_of_code_and_aux_that_is_not_used_is_malformed),
		cmocka_unit_test(every_byte_after_the_last_field_must_be_zero),
		cmocka_unit_test(the_order_of_checks_is_version_type_socket_malformed),
		cmocka_unit_test(only_the_listed_types_are_known),
		cmocka_unit_test(only_version_one_is_known),
		cmocka_unit_test(hello_is_malformed_with_a_bad_server_or_a_seq),
		cmocka_unit_test(plain_usage_with_meter_bits_is_malformed),
		cmocka_unit_test(
			lookup_is_malformed_with_a_long_prefix_a_bad_server_or_times_reversed),
		cmocka_unit_test(seq_is_not_judged_by_the_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
