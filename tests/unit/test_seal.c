/* SPDX-License-Identifier: ISC */
/* seal: what was sealed opens in its place only, and key memory is what it promises. */
#include "seal.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Sanitizers make mlock() a no-operation. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define TEXT "a sealed block of a day"
#define TEXT_LEN (sizeof(TEXT) - 1)
#define NONCE_SIZE 24

static struct seal_key counting_key(void)
{
	struct seal_key key;

	for (size_t i = 0; i < SEAL_KEY_SIZE; i++)
		key.bytes[i] = (uint8_t)i;
	return key;
}

static struct seal_place a_place(void)
{
	struct seal_place place = { .file = SEAL_FILE_DAY(20779), .epoch = 7, .block = 42 };

	for (size_t i = 0; i < SEAL_STORE_SIZE; i++)
		place.store[i] = (uint8_t)(0xa0 + i);
	return place;
}

static bool zeros(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

static int initialise(void **state)
{
	(void)state;
	return seal_init();
}

/*
 * Made by an implementation in Python that agrees with the test vector A.3.1 of
 * draft-irtf-cfrg-xchacha-03: counting_key(), nonce 40..57, a_place(), TEXT.
 */
static void a_block_sealed_by_another_implementation_opens(void **state)
{
	static const uint8_t sealed[TEXT_LEN + SEAL_OVERHEAD] = {
		0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c,
		0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0xb5, 0x19,
		0x76, 0x15, 0xb1, 0x8c, 0x1c, 0x72, 0xaf, 0x96, 0xeb, 0xd1, 0xcc, 0xf7, 0x45,
		0xfd, 0xf4, 0x9a, 0xcc, 0xe4, 0x77, 0x38, 0x2a, 0x7d, 0xc2, 0xc9, 0xc1, 0x31,
		0xc5, 0x43, 0x3c, 0xcb, 0x93, 0x1e, 0x00, 0x84, 0x19, 0xc9, 0xf6,
	};
	struct seal_key key = counting_key();
	struct seal_place place = a_place();
	uint8_t out[TEXT_LEN];

	(void)state;
	assert_int_equal(seal_open(out, &key, &place, sealed, sizeof(sealed)), 0);
	assert_memory_equal(out, TEXT, TEXT_LEN);
}

static void hashes_give_the_published_values(void **state)
{
	static const uint8_t tag_of_nothing[SEAL_TAG_SIZE] = {
		0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
		0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93,
	};
	static const uint8_t tag_of_15[SEAL_TAG_SIZE] = {
		0x54, 0x93, 0xe9, 0x99, 0x33, 0xb0, 0xa8, 0x11,
		0x7e, 0x08, 0xec, 0x0f, 0x97, 0xcf, 0xc3, 0xd9,
	};
	static const uint8_t digest_of_abc[32] = {
		0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72, 0x31, 0x71, 0xef,
		0x3f, 0xee, 0x98, 0x57, 0x9b, 0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb,
		0x3e, 0x42, 0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19,
	};
	struct seal_key counting = counting_key();
	uint8_t out[32];

	(void)state;
	seal_tag(out, counting.bytes, "", 0);
	assert_memory_equal(out, tag_of_nothing, SEAL_TAG_SIZE);
	seal_tag(out, counting.bytes, counting.bytes, 15);
	assert_memory_equal(out, tag_of_15, SEAL_TAG_SIZE);
	/* SipHash, Aumasson and Bernstein, appendix A. */
	assert_true(seal_hash(counting.bytes, counting.bytes, 15) == UINT64_C(0xa129ca6149be45e5));
	seal_digest(out, "abc", 3);
	assert_memory_equal(out, digest_of_abc, 32);
}

static void what_was_sealed_opens_whatever_its_length(void **state)
{
	struct seal_key key = counting_key();
	struct seal_place place = a_place();
	uint8_t *in = malloc(5000), *sealed = malloc(5000 + SEAL_OVERHEAD), *out = malloc(5000);

	(void)state;
	assert_true(in && sealed && out);
	seal_random(in, 5000);
	for (size_t len = 0; len <= 5000; len += len < 300 ? 1 : 47) {
		seal_block(sealed, &key, &place, in, len);
		assert_int_equal(seal_open(out, &key, &place, sealed, len + SEAL_OVERHEAD), 0);
		assert_memory_equal(out, in, len);
	}
	free(in);
	free(sealed);
	free(out);
}

static void a_block_with_any_changed_bit_is_refused_and_gives_zeros(void **state)
{
	struct seal_key key = counting_key();
	struct seal_place place = a_place();
	uint8_t sealed[TEXT_LEN + SEAL_OVERHEAD], out[TEXT_LEN];

	(void)state;
	seal_block(sealed, &key, &place, TEXT, TEXT_LEN);
	for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		memset(out, 0xff, sizeof(out));
		assert_int_equal(seal_open(out, &key, &place, sealed, sizeof(sealed)), -EBADMSG);
		assert_true(zeros(out, sizeof(out)));
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(seal_open(out, &key, &place, sealed, sizeof(sealed)), 0);
}

static void a_shortened_block_is_refused(void **state)
{
	struct seal_key key = counting_key();
	struct seal_place place = a_place();
	uint8_t sealed[TEXT_LEN + SEAL_OVERHEAD], out[TEXT_LEN];

	(void)state;
	seal_block(sealed, &key, &place, TEXT, TEXT_LEN);
	for (size_t len = 0; len < sizeof(sealed); len++)
		assert_int_equal(seal_open(out, &key, &place, sealed, len), -EBADMSG);
}

static void a_block_opens_in_its_place_and_with_its_key_only(void **state)
{
	struct seal_key key = counting_key(), other_key = counting_key();
	struct seal_place place = a_place(), other;
	uint8_t sealed[TEXT_LEN + SEAL_OVERHEAD], out[TEXT_LEN];

	(void)state;
	seal_block(sealed, &key, &place, TEXT, TEXT_LEN);
	other_key.bytes[31] ^= 1;
	assert_int_equal(seal_open(out, &other_key, &place, sealed, sizeof(sealed)), -EBADMSG);
	for (size_t bit = 0; bit < 64; bit++) {
		other = place;
		other.file ^= UINT64_C(1) << bit;
		assert_int_equal(seal_open(out, &key, &other, sealed, sizeof(sealed)), -EBADMSG);
		other = place;
		other.epoch ^= UINT64_C(1) << bit;
		assert_int_equal(seal_open(out, &key, &other, sealed, sizeof(sealed)), -EBADMSG);
		other = place;
		other.block ^= UINT64_C(1) << bit;
		assert_int_equal(seal_open(out, &key, &other, sealed, sizeof(sealed)), -EBADMSG);
	}
	for (size_t i = 0; i < SEAL_STORE_SIZE; i++) {
		other = place;
		other.store[i] ^= 0x80;
		assert_int_equal(seal_open(out, &key, &other, sealed, sizeof(sealed)), -EBADMSG);
	}
	assert_int_equal(seal_open(out, &key, &place, sealed, sizeof(sealed)), 0);
}

static void files_of_the_store_never_share_a_number(void **state)
{
	(void)state;
	assert_true(SEAL_FILE_DAY(INT32_MIN) >> 40 == 3 && SEAL_FILE_DAY(INT32_MAX) >> 40 == 3);
	assert_true(SEAL_FILE_DAY(-1) >> 40 == 3 && SEAL_FILE_DAY(-1) != SEAL_FILE_DAY(1));
	assert_true(SEAL_FILE_SESSIONS != SEAL_FILE_USAGE);
}

#define BLOCKS 2000

/* Leaves the nonces of BLOCKS blocks at arg. */
static void *draw(void *arg)
{
	uint8_t *nonces = arg;
	struct seal_key key = counting_key();
	struct seal_place place = a_place();

	for (size_t i = 0; i < BLOCKS; i++) {
		uint8_t sealed[SEAL_OVERHEAD + 1];

		seal_block(sealed, &key, &place, "x", 1);
		memcpy(nonces + i * NONCE_SIZE, sealed, NONCE_SIZE);
	}
	return NULL;
}

static int nonce_compare(const void *a, const void *b)
{
	return memcmp(a, b, NONCE_SIZE);
}

static void assert_all_different(uint8_t *nonces, size_t n)
{
	qsort(nonces, n, NONCE_SIZE, nonce_compare);
	for (size_t i = 1; i < n; i++)
		assert_true(nonce_compare(nonces + (i - 1) * NONCE_SIZE, nonces + i * NONCE_SIZE));
	assert_false(zeros(nonces, NONCE_SIZE));
}

static void no_nonce_is_used_twice_by_any_thread(void **state)
{
	uint8_t *nonces = malloc((size_t)4 * BLOCKS * NONCE_SIZE);
	pthread_t threads[3];

	(void)state;
	assert_non_null(nonces);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, draw, nonces + i * BLOCKS * NONCE_SIZE),
			0);
	(void)draw(nonces + (size_t)3 * BLOCKS * NONCE_SIZE);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_all_different(nonces, (size_t)4 * BLOCKS);
	free(nonces);
}

static void a_forked_child_uses_none_of_its_parents_nonces(void **state)
{
	uint8_t *nonces = malloc((size_t)2 * BLOCKS * NONCE_SIZE);
	int pipes[2], status;
	size_t got = 0;
	pid_t child;

	(void)state;
	assert_non_null(nonces);
	(void)draw(nonces); /* 2000 is no multiple of 64: the pool is half full */
	assert_int_equal(pipe(pipes), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		(void)draw(nonces);
		_exit(write(pipes[1], nonces, (size_t)BLOCKS * NONCE_SIZE) ==
				      (ssize_t)BLOCKS * NONCE_SIZE
			      ? 0
			      : 1);
	}
	(void)draw(nonces);
	while (got < (size_t)BLOCKS * NONCE_SIZE) {
		ssize_t n = read(pipes[0], nonces + (size_t)BLOCKS * NONCE_SIZE + got,
				 (size_t)BLOCKS * NONCE_SIZE - got);

		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_all_different(nonces, (size_t)2 * BLOCKS);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	free(nonces);
}

static void key_memory_is_zeroed_aligned_and_wiped(void **state)
{
	static const size_t sizes[] = { 1, 15, 16, 17, 4095, 4096, 16000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *p = seal_alloc(sizes[i]);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		assert_true(zeros(p, sizes[i]));
		memset(p, 0xff, sizes[i]);
		seal_wipe(p, sizes[i]);
		assert_true(zeros(p, sizes[i]));
		seal_free(p);
	}
	seal_free(NULL);
	assert_null(seal_alloc(SIZE_MAX));
	assert_null(seal_alloc(SIZE_MAX / 2));
}

/* The flags that the kernel keeps for the pages at p (proc(5), VmFlags). */
static void page_flags(const void *p, char *out, size_t max)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	unsigned long from, to;
	bool here = false;

	assert_non_null(f);
	out[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (uintptr_t)p >= from && (uintptr_t)p < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			(void)snprintf(out, max, "%s", line + 8);
	}
	(void)fclose(f);
}

static void key_memory_is_locked_and_outside_core_dumps(void **state)
{
	char flags[512];
	void *p;

	(void)state;
	if (SANITIZED)
		skip();
	p = seal_alloc(100);
	assert_non_null(p);
	page_flags(p, flags, sizeof(flags));
	assert_non_null(strstr(flags, " lo"));
	assert_non_null(strstr(flags, " dd"));
	seal_free(p);
}

static void key_memory_that_cannot_be_locked_is_none(void **state)
{
	struct rlimit none = { 0, 0 };
	int status;
	pid_t child;

	(void)state;
	if (SANITIZED)
		skip();
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (setrlimit(RLIMIT_MEMLOCK, &none) < 0)
			_exit(2);
		/* Root locks without a limit. */
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(3);
		_exit(seal_alloc(32) == NULL ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_block_sealed_by_another_implementation_opens),
		cmocka_unit_test(hashes_give_the_published_values),
		cmocka_unit_test(what_was_sealed_opens_whatever_its_length),
		cmocka_unit_test(a_block_with_any_changed_bit_is_refused_and_gives_zeros),
		cmocka_unit_test(a_shortened_block_is_refused),
		cmocka_unit_test(a_block_opens_in_its_place_and_with_its_key_only),
		cmocka_unit_test(files_of_the_store_never_share_a_number),
		cmocka_unit_test(no_nonce_is_used_twice_by_any_thread),
		cmocka_unit_test(a_forked_child_uses_none_of_its_parents_nonces),
		cmocka_unit_test(key_memory_is_zeroed_aligned_and_wiped),
		cmocka_unit_test(key_memory_is_locked_and_outside_core_dumps),
		cmocka_unit_test(key_memory_that_cannot_be_locked_is_none),
	};

	return cmocka_run_group_tests_name("seal", tests, initialise, NULL);
}
