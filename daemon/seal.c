/* SPDX-License-Identifier: ISC */
/*
 * seal: authenticated encryption of blocks, keyed hashes, random bytes.
 *
 * The one wrapper around libsodium.  Knows no file, no clock and no meaning of
 * what it seals, and keeps no key.
 *
 * A nonce is 24 random bytes: with 2^48 blocks under one key, far more than a
 * day can hold, two are alike with probability 2^-97, so no counter has to
 * survive a crash, a rolled-back file or a copied machine.
 */
#include "seal.h"

#include <errno.h>
#include <nolog/frame.h> /* little-endian bytes */
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define MAC_SIZE crypto_aead_xchacha20poly1305_ietf_ABYTES
#define PLACE_SIZE (1 + SEAL_STORE_SIZE + 3 * 8)
#define POOL_NONCES 64
#define ALLOC_ALIGN 16

_Static_assert(SEAL_KEY_SIZE == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "AEAD key");
_Static_assert(SEAL_OVERHEAD == NONCE_SIZE + MAC_SIZE, "nonce and tag");
_Static_assert(SEAL_HASH_KEY_SIZE == crypto_shorthash_siphashx24_KEYBYTES, "SipHash key");
_Static_assert(SEAL_HASH_KEY_SIZE == crypto_shorthash_siphash24_KEYBYTES, "SipHash key");
_Static_assert(SEAL_TAG_SIZE == crypto_shorthash_siphashx24_BYTES, "SipHash-128");
_Static_assert(crypto_shorthash_siphash24_BYTES == 8, "SipHash-64");

/*
 * Nonces drawn ahead: a system call a block costs more than sealing it.  A
 * thread's own, so without a lock; each is wiped as it is used, so that none
 * can be used again.
 */
struct nonce_pool {
	unsigned int left;
	unsigned int fork; /* of fork_count when it was filled */
	uint8_t nonces[POOL_NONCES][NONCE_SIZE];
};
static _Thread_local struct nonce_pool pool;

/*
 * A forked child inherits the pool, and both would seal under the same nonces:
 * the child must find its copy stale.
 */
static atomic_uint fork_count;

static void forked(void)
{
	atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed);
}

static int init_result;

static void init_once(void)
{
	if (sodium_init() < 0 || pthread_atfork(NULL, NULL, forked) != 0)
		init_result = -EIO;
}

int seal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, init_once); /* cannot fail with a valid once */
	return init_result;
}

static void nonce_take(uint8_t out[NONCE_SIZE])
{
	unsigned int now = atomic_load_explicit(&fork_count, memory_order_relaxed);

	if (pool.left == 0 || pool.fork != now) {
		randombytes_buf(pool.nonces, sizeof(pool.nonces));
		pool.left = POOL_NONCES;
		pool.fork = now;
	}
	pool.left--;
	memcpy(out, pool.nonces[pool.left], NONCE_SIZE);
	sodium_memzero(pool.nonces[pool.left], NONCE_SIZE);
}

/* The associated data: everything that says where a block belongs. */
static void place_encode(uint8_t out[PLACE_SIZE], const struct seal_place *place)
{
	out[0] = SEAL_FORMAT;
	memcpy(out + 1, place->store, SEAL_STORE_SIZE);
	nolog_put64(out + 17, place->file);
	nolog_put64(out + 25, place->epoch);
	nolog_put64(out + 33, place->block);
}

void seal_block(uint8_t *out, const struct seal_key *key, const struct seal_place *place,
		const void *in, size_t len)
{
	uint8_t ad[PLACE_SIZE];

	place_encode(ad, place);
	nonce_take(out);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE_SIZE, NULL, in, len, ad,
							 sizeof(ad), NULL, out,
							 key->bytes); /* always 0 */
}

int seal_open(uint8_t *out, const struct seal_key *key, const struct seal_place *place,
	      const void *in, size_t sealed_len)
{
	const uint8_t *sealed = in;
	uint8_t ad[PLACE_SIZE];

	if (sealed_len < SEAL_OVERHEAD)
		return -EBADMSG;
	place_encode(ad, place);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed + NONCE_SIZE,
						       sealed_len - NONCE_SIZE, ad, sizeof(ad),
						       sealed, key->bytes) != 0) {
		memset(out, 0, sealed_len - SEAL_OVERHEAD); /* libsodium does; promised here */
		return -EBADMSG;
	}
	return 0;
}

void seal_tag(uint8_t out[SEAL_TAG_SIZE], const uint8_t key[SEAL_HASH_KEY_SIZE], const void *in,
	      size_t len)
{
	(void)crypto_shorthash_siphashx24(out, in, len, key); /* always 0 */
}

uint64_t seal_hash(const uint8_t key[SEAL_HASH_KEY_SIZE], const void *in, size_t len)
{
	uint8_t h[crypto_shorthash_siphash24_BYTES];

	(void)crypto_shorthash_siphash24(h, in, len, key); /* always 0 */
	return nolog_get64(h);
}

void seal_digest(uint8_t out[32], const void *in, size_t len)
{
	(void)crypto_generichash(out, 32, in, len, NULL, 0); /* 0 for every valid size */
}

void seal_random(void *out, size_t len)
{
	randombytes_buf(out, len);
}

void seal_wipe(void *p, size_t len)
{
	sodium_memzero(p, len);
}

void *seal_alloc(size_t len)
{
	size_t rounded;
	void *p;

	if (len > SIZE_MAX - (ALLOC_ALIGN - 1))
		return NULL;
	/* sodium_malloc() puts the end at a guard page: only round sizes are aligned. */
	rounded = (len + ALLOC_ALIGN - 1) / ALLOC_ALIGN * ALLOC_ALIGN;
	p = sodium_malloc(rounded);
	if (!p)
		return NULL;
	/* It locks, and does not say when that failed; locking again changes nothing but tells. */
	if (mlock(p, rounded) < 0) {
		sodium_free(p);
		return NULL;
	}
	memset(p, 0, rounded);
	return p;
}

void seal_free(void *p)
{
	sodium_free(p); /* wipes; NULL is fine */
}
