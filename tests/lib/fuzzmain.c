/* SPDX-License-Identifier: ISC */
/*
 * A fuzzer as a plain test, for any compiler: runs the empty input, the seeds
 * made by code (fuzz_seed), the seeds in tests/fuzz/corpus/NAME, and for each
 * seed a fixed series of truncations and changed bytes, the same every time.
 * Knows nothing of what is fuzzed.
 *
 *	fuzz_X				all that
 *	fuzz_X FILE...			these inputs, as they are (a finding again)
 *	fuzz_X --write-seeds DIR	the seeds made by code, as files
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define SEED_MAX ((size_t)1 << 20)
#define SEEDS_MAX 4096
#define CHANGES 200	 /* changed copies of a seed */
#define CUTS 100	 /* truncations of a seed */
#define BYTES_MAX 65536u /* of larger seeds only this many bytes are changed */

static unsigned inputs;

/* In a block of exactly its size, so that a sanitizer sees the first byte too many. */
static void run_one(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1);

	if (!copy)
		abort();
	if (size > 0)
		memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	inputs++;
}

/* xorshift: the same series on every machine. */
static uint32_t next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 16);
}

static void run_changed(uint8_t *data, size_t size)
{
	uint64_t state = 0x6e6f6c6f67640000u + size;
	size_t reach = size < BYTES_MAX ? size : BYTES_MAX;
	size_t step = size / CUTS + 1;

	run_one(data, size);
	for (size_t cut = 0; cut < size; cut += step)
		run_one(data, cut);
	for (unsigned i = 0; i < CHANGES && size > 0; i++) {
		size_t at = next(&state) % reach;
		uint8_t was = data[at];

		data[at] ^= (uint8_t)(i % 2 ? 1u << next(&state) % 8 : next(&state) | 1u);
		run_one(data, size);
		data[at] = was;
	}
}

static size_t read_file(const char *path, uint8_t *out)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	n = fread(out, 1, SEED_MAX, f);
	(void)fclose(f); /* only read */
	return n;
}

static void run_corpus(const char *name, uint8_t *buf)
{
	char path[4096];
	struct dirent **entries;
	int n;

	(void)snprintf(path, sizeof(path), "tests/fuzz/corpus/%s", name);
	n = scandir(path, &entries, NULL, alphasort);
	if (n < 0)
		return; /* no such seeds */
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.') {
			(void)snprintf(path, sizeof(path), "tests/fuzz/corpus/%s/%s", name,
				       entries[i]->d_name);
			run_changed(buf, read_file(path, buf));
		}
		free(entries[i]);
	}
	free(entries);
}

static int write_seeds(const char *dir, uint8_t *buf)
{
	for (unsigned n = 0; fuzz_seed && n < SEEDS_MAX; n++) {
		char path[4096];
		size_t size = fuzz_seed(n, buf, SEED_MAX);
		FILE *f;

		if (size == 0)
			break;
		(void)snprintf(path, sizeof(path), "%s/seed-%u", dir, n);
		f = fopen(path, "wb");
		if (!f || fwrite(buf, 1, size, f) != size || fclose(f) != 0) {
			fprintf(stderr, "%s: %s\n", path, strerror(errno));
			return 2;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0];
	uint8_t *buf = malloc(SEED_MAX);
	int r = 0;

	if (!buf)
		return 2;
	if (argc == 3 && strcmp(argv[1], "--write-seeds") == 0) {
		r = write_seeds(argv[2], buf);
	} else if (argc > 1) {
		for (int i = 1; i < argc; i++)
			run_one(buf, read_file(argv[i], buf));
	} else {
		run_one((const uint8_t *)"", 0);
		for (unsigned n = 0; fuzz_seed && n < SEEDS_MAX; n++) {
			size_t size = fuzz_seed(n, buf, SEED_MAX);

			if (size == 0)
				break;
			run_changed(buf, size);
		}
		run_corpus(strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name, buf);
		printf("%s: %u inputs\n", name, inputs);
	}
	free(buf);
	return r;
}
