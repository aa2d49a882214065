/* SPDX-License-Identifier: ISC */
/*
 * fault: what was wrong with the store, said precisely and without content.
 *
 * Filled in by whoever finds it, logged once by whoever called.  what is a
 * string literal; file is the name below the state directory ("keyring",
 * "days/2026-11-22.mdb"); block is the block's or page's number or 0.
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdint.h>
#include <stdio.h>

struct fault {
	int error; /* negative errno, 0: no fault */
	const char *what;
	char file[32];
	uint64_t block;
};

/* Sets it (f may be NULL) and returns error, for "return fault_set(...)". */
static inline int fault_set(struct fault *f, int error, const char *file, uint64_t block,
			    const char *what)
{
	if (f) {
		f->error = error;
		f->what = what;
		f->block = block;
		(void)snprintf(f->file, sizeof(f->file), "%s", file); /* cut, never overrun */
	}
	return error;
}

#endif
