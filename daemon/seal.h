/* SPDX-License-Identifier: ISC */
/*
 * seal: authenticated encryption of blocks, keyed hashes, random bytes.
 *
 * XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, libsodium's IETF variant)
 * with a random nonce a block; the associated data bind a block to its store,
 * file, key epoch and number, so that no block can be moved or swapped.  Knows
 * no file and keeps no key: keys live in keyring.c.
 */
#ifndef SEAL_H
#define SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAL_KEY_SIZE 32
#define SEAL_OVERHEAD 40 /* nonce 24, tag 16 */
#define SEAL_HASH_KEY_SIZE 16
#define SEAL_TAG_SIZE 16
#define SEAL_STORE_SIZE 16
#define SEAL_FORMAT 1 /* version of everything on disk */

struct seal_key {
	uint8_t bytes[SEAL_KEY_SIZE];
};

/* Where a block belongs. */
struct seal_place {
	uint8_t store[SEAL_STORE_SIZE]; /* the store's random ID, from the keyring */
	uint64_t file;			/* SEAL_FILE_* below, or the day's number */
	uint64_t epoch;			/* of the key */
	uint64_t block;			/* its number in the file */
};
#define SEAL_FILE_SESSIONS (UINT64_C(1) << 40)
#define SEAL_FILE_USAGE (UINT64_C(2) << 40)
#define SEAL_FILE_DAY(day) (UINT64_C(3) << 40 | (uint32_t)(day))

/* Before anything else; may be called again, from any thread.  0 or -EIO. */
int seal_init(void) __attribute__((warn_unused_result));

/*
 * Seals len bytes from in to out, which has room for len + SEAL_OVERHEAD
 * (nonce, ciphertext, tag).  in and out must not overlap.  Never fails.
 */
void seal_block(uint8_t *out, const struct seal_key *key, const struct seal_place *place,
		const void *in, size_t len);
/*
 * Opens sealed_len bytes into out, which has room for sealed_len -
 * SEAL_OVERHEAD.  -EBADMSG: not what was sealed, or not there, or not with
 * this key; out is then zeros.
 */
int seal_open(uint8_t *out, const struct seal_key *key, const struct seal_place *place,
	      const void *in, size_t sealed_len) __attribute__((warn_unused_result));

/* SipHash-2-4 with 128 and 64 bits of output. */
void seal_tag(uint8_t out[SEAL_TAG_SIZE], const uint8_t key[SEAL_HASH_KEY_SIZE], const void *in,
	      size_t len);
uint64_t seal_hash(const uint8_t key[SEAL_HASH_KEY_SIZE], const void *in, size_t len);
/* Unkeyed BLAKE2b-256, for checksums. */
void seal_digest(uint8_t out[32], const void *in, size_t len);

void seal_random(void *out, size_t len);
void seal_wipe(void *p, size_t len);
/*
 * Zeroed memory between guard pages, locked, outside core dumps and wiped when
 * freed.  NULL when there is none, or when it cannot be locked
 * (RLIMIT_MEMLOCK): key memory that may be swapped out is no key memory.
 */
void *seal_alloc(size_t len);
void seal_free(void *p);

#endif
