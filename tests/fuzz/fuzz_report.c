/* SPDX-License-Identifier: ISC */
/*
 * The event lines of `nologctl report`: whatever the bytes, a line is an event
 * that nologd can read, or nothing, or is refused with a reason.
 */
#include "ctl_event.h"
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>

#define NOW INT64_C(1795334400000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[CTL_ERROR_TEXT] = "";
	uint8_t bytes[NOLOG_FRAME_SIZE];
	struct nolog_frame f;
	char *line;
	int r;

	if (size > CTL_LINE_BYTES)
		return 0;
	/* In a block of exactly its size, so that a byte too many is seen. */
	line = malloc(size + 1);
	if (!line)
		abort();
	if (size > 0)
		memcpy(line, data, size);
	line[size] = '\0';
	r = ctl_event_line(&f, line, size, NOW, error);
	free(line);
	if (r == 0) {
		nolog_frame_encode(bytes, &f);
		if (nolog_frame_check(bytes, ctl_event_role(&f), true) != NOLOG_OK)
			abort();
	} else if (r == -EINVAL ? error[0] == '\0' : r != 1) {
		abort();
	}
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	static const char *const seeds[] = {
		"start --handle 18446744073709551615 --ip 10.8.0.2 --at 2026-11-22T08:00:00.5+01:00",
		"start --ip=2001:db8::7 --handle=1",
		"end --handle 7 --at @1795334400.25",
		"session --ip 255.255.255.255 --from 2026-11-22T08:00:00Z --to @-1",
		"alive --handle 0\r",
		"restart",
		"\t# nothing",
		"usage alice 18446744073709551615 0",
		"usage -- 1 2 4294967295 first last",
		"usage a b c d e f g h i j k l m n o p q",
	};
	size_t len;

	if (n >= sizeof(seeds) / sizeof(seeds[0]))
		return 0;
	len = strlen(seeds[n]);
	if (len > max)
		return 0;
	memcpy(out, seeds[n], len);
	return len;
}
