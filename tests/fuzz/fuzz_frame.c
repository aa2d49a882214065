/* SPDX-License-Identifier: ISC */
/*
 * Any 64 bytes as a frame, on every socket, from either side: what passes the
 * check is all in its fields, so that it is encoded to the same bytes again.
 */
#include <nolog/frame.h>

#include <stdlib.h>

#include "fuzz.h"

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void one_frame(const uint8_t bytes[NOLOG_FRAME_SIZE], enum nolog_role role, bool from_client)
{
	enum nolog_refusal verdict = nolog_frame_check(bytes, role, from_client);
	uint8_t again[NOLOG_FRAME_SIZE];
	struct nolog_frame f;

	must(verdict <= NOLOG_WRONG_SOCKET);
	must((verdict == NOLOG_BAD_VERSION) == (bytes[1] != NOLOG_FRAME_VERSION));
	nolog_frame_decode(&f, bytes);
	nolog_frame_encode(again, &f);
	must(again[1] == NOLOG_FRAME_VERSION);
	if (verdict == NOLOG_OK) {
		must(from_client == (f.type < 0x80));
		must(memcmp(bytes, again, sizeof(again)) == 0);
	}
	/* What was encoded is decoded to the same, whatever it was. */
	nolog_frame_decode(&f, again);
	nolog_frame_encode(again, &f);
	if (verdict == NOLOG_OK)
		must(memcmp(bytes, again, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (; size >= NOLOG_FRAME_SIZE; data += NOLOG_FRAME_SIZE, size -= NOLOG_FRAME_SIZE)
		for (unsigned role = 0; role < NOLOG_ROLES; role++) {
			one_frame(data, role, true);
			one_frame(data, role, false);
		}
	return 0;
}

/* A seed a type, zero but for what it must have. */
size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
#define NOLOG_X(number, NAME, name, roles, mask, aux) number,
	static const uint8_t types[] = { NOLOG_FRAMES(NOLOG_X) };
#undef NOLOG_X
	struct nolog_frame f = { 0 };

	if (n >= sizeof(types) || max < NOLOG_FRAME_SIZE)
		return 0;
	f.type = types[n];
	f.seq = f.type == NOLOG_HELLO ? 0 : 1;
	if (f.type == NOLOG_HELLO)
		memcpy(f.u.hello.server, "nl-ams-03", 9);
	nolog_frame_encode(out, &f);
	return NOLOG_FRAME_SIZE;
}
