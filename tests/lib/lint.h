/* SPDX-License-Identifier: ISC */
/*
 * Included before everything when clang-tidy analyses the sources, never when
 * they are compiled: tells it that errno is positive.  It cannot work that out
 * of a condition (clang 14 does not follow the sign of -errno), and would warn
 * of the paths on which a call failed with -errno and that was 0; so errno is
 * one of a few values here, and cannot be set.
 */
#include <errno.h>

int lint_any(void);

static inline int *lint_errno(int *e)
{
	switch (lint_any()) {
	case 0:
		*e = EAGAIN;
		break;
	case 1:
		*e = ENOENT;
		break;
	default:
		*e = EIO;
		break;
	}
	return e;
}

#undef errno
#define errno (*lint_errno(&(int){ 0 }))
