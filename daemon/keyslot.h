/* SPDX-License-Identifier: ISC */
/*
 * keyslot: what a keyring holds, and its 4,096 bytes on disk.
 *
 * Pure: encodes, decodes and checks; knows no file, no clock, no lock and makes
 * no key.  Everything is fixed-size, little-endian, version first, unused bytes
 * zero: of one content there is one encoding, and whatever else comes is
 * damage.  All functions may be called from any thread.
 *
 * The structs hold keys: they belong into seal_alloc()ed memory.
 */
#ifndef KEYSLOT_H
#define KEYSLOT_H

#include "seal.h"

#include <stdint.h>

#define KEYSLOT_SIZE 4096
#define KEYSLOT_DAYS_MAX 92 /* 90 kept, one to come, one to spare */
/* The newest day that a keyring may have seen: 9999-12-30, so that the next has a name. */
#define KEYSLOT_DAY_MAX 2932895

struct keyslot_month {
	uint32_t month; /* YYYYMM; 0: none */
	uint8_t key
		[SEAL_HASH_KEY_SIZE]; /* zeros in the old one: it died when the new one was made */
};

struct keyslot_meter {
	uint32_t generation; /* 1..255; 0: none */
	int64_t created_ms;
	uint8_t key[SEAL_HASH_KEY_SIZE];
};

struct keyslot_journal {
	uint32_t epoch; /* 0: none */
	int64_t created_ms;
	struct seal_key key;
};

/* Of a day's mark: rows of it are lost, or its file is another than it was. */
#define KEYSLOT_DAY_LOST (UINT32_C(1) << 31)

struct keyslot_day {
	int32_t day;
	struct seal_key key;
	uint32_t mark; /* how often its file had been written, and KEYSLOT_DAY_LOST */
};

/*
 * Of each pair [0] is current and always there, [1] is old and may be none.  An
 * old month says that its turn is not finished.
 */
struct keyslot {
	uint64_t generation; /* from 1, rises with every write */
	uint8_t store[SEAL_STORE_SIZE];
	int32_t newest_day;
	int32_t first_day;
	int64_t held_ms; /* clock_held_ms() */
	struct keyslot_month month[2];
	struct keyslot_meter meter[2];
	struct keyslot_journal journal[2][2]; /* by enum keyring_book */
	uint32_t day_count;
	struct keyslot_day days[KEYSLOT_DAYS_MAX]; /* ascending; unused ones zero */
};

/* The rules below hold: 0, else -EBADMSG.  What is encoded must keep them. */
int keyslot_check(const struct keyslot *s) __attribute__((warn_unused_result));
void keyslot_encode(uint8_t out[KEYSLOT_SIZE], const struct keyslot *s);
/*
 * -EBADMSG: damaged, or against the rules; -EPROTO: whole, but another format
 * version.  *s is then zeros.
 */
int keyslot_decode(struct keyslot *s, const uint8_t in[KEYSLOT_SIZE])
	__attribute__((warn_unused_result));

#endif
