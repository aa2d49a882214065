/* SPDX-License-Identifier: ISC */
/*
 * A keyring's slot, and a line of mountinfo, from any bytes: no crash, and a
 * slot that is accepted is the one encoding of its content.
 *
 * The first byte says what the rest is: a slot as it stands, a slot whose
 * magic, version and checksum are made right first (else no input comes past
 * them), or a line.
 */
#include "fuzz.h"
#include "keyringfs.h"
#include "keyslot.h"

#include <nolog/frame.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_AT (KEYSLOT_SIZE - 32)

enum kind { KIND_SLOT, KIND_BODY, KIND_LINE };

static void try_slot(const uint8_t *image)
{
	static const struct keyslot none;
	static struct keyslot slot;
	uint8_t again[KEYSLOT_SIZE];
	int r = keyslot_decode(&slot, image);

	if (r < 0) {
		if (memcmp(&slot, &none, sizeof(slot)) != 0)
			abort();
		return;
	}
	if (keyslot_check(&slot) < 0)
		abort();
	keyslot_encode(again, &slot);
	if (memcmp(again, image, KEYSLOT_SIZE) != 0)
		abort();
}

static void try_line(const uint8_t *data, size_t size)
{
	char *line = malloc(size + 1);

	if (!line)
		abort();
	memcpy(line, data, size);
	line[size] = '\0';
	(void)keyringfs_mount_line(line, 254, 0);
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t image[KEYSLOT_SIZE] = { 0 };

	if (size < 1 || seal_init() < 0)
		return 0;
	if (data[0] % 3 == KIND_LINE) {
		try_line(data + 1, size - 1);
		return 0;
	}
	memcpy(image, data + 1, size - 1 < KEYSLOT_SIZE ? size - 1 : KEYSLOT_SIZE);
	if (data[0] % 3 == KIND_BODY) {
		memcpy(image, "nologkey", 8);
		nolog_put32(image + 8, SEAL_FORMAT);
		seal_digest(image + DIGEST_AT, image, DIGEST_AT);
	}
	try_slot(image);
	return 0;
}

static void seed_slot(uint8_t *out, uint32_t days)
{
	static struct keyslot s;

	memset(&s, 0, sizeof(s));
	s.generation = 1;
	memset(s.store, 1, sizeof(s.store));
	s.newest_day = 20779;
	s.first_day = 20779 - 89;
	for (uint32_t i = 0; i < 2; i++) {
		s.month[i] = (struct keyslot_month){ .month = 202611 - i, .key = { i == 0 } };
		s.meter[i] = (struct keyslot_meter){ .generation = 2 - i, .key = { 1 } };
		s.journal[i][0] = (struct keyslot_journal){ .epoch = 2, .key = { { 1 } } };
		s.journal[i][1] = (struct keyslot_journal){ .epoch = 1, .key = { { 1 } } };
	}
	s.day_count = days;
	for (uint32_t i = 0; i < days; i++)
		s.days[i] = (struct keyslot_day){ .day = 20690 + (int32_t)i, .key = { { 1 } } };
	keyslot_encode(out, &s);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	static const char line[] = "36 35 254:0 / / rw shared:1 - ext4 /dev/vda rw,data=journal\n";

	if (max < 1 + KEYSLOT_SIZE || n > 4 || seal_init() < 0)
		return 0;
	if (n == 4) {
		out[0] = KIND_LINE;
		memcpy(out + 1, line, sizeof(line) - 1);
		return sizeof(line);
	}
	out[0] = n % 2 ? KIND_BODY : KIND_SLOT;
	seed_slot(out + 1, n < 2 ? 2 : 91);
	return 1 + KEYSLOT_SIZE;
}
