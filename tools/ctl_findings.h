/* SPDX-License-Identifier: ISC */
/*
 * ctl_findings: what an audit found, kept until it is sure and then printed.
 * A finding names a file, a block and what is wrong, never what stands there.
 */
#ifndef CTL_FINDINGS_H
#define CTL_FINDINGS_H

#include "fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct ctl_findings {
	struct fault *at;
	size_t n, room;
	size_t more; /* no memory, or more than anybody reads: these are only counted */
};

/* The same once more, in the same block as the one before, is the same finding. */
void ctl_findings_add(struct ctl_findings *f, const struct fault *fault);
/* Takes back all but the first n: the file is looked at again. */
void ctl_findings_back(struct ctl_findings *f, size_t n);
void ctl_findings_done(struct ctl_findings *f);
size_t ctl_findings_count(const struct ctl_findings *f);
/* A line each; kind is what each is called. */
void ctl_findings_print(FILE *out, const struct ctl_findings *f, const char *kind, bool json);

#endif
