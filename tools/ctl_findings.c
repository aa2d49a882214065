/* SPDX-License-Identifier: ISC */
/*
 * ctl_findings: what an audit found.  Knows no store.
 */
#include "ctl_findings.h"

#include "ctl_out.h"

#include <stdlib.h>

#define FINDINGS_MAX 10000 /* kept and printed */

static bool same(const struct fault *a, const struct fault *b)
{
	return a->block == b->block && strcmp(a->file, b->file) == 0 &&
	       strcmp(a->what, b->what) == 0;
}

static bool grow(struct ctl_findings *f)
{
	size_t room = f->room ? f->room * 2 : 16;
	struct fault *at;

	if (f->n < f->room)
		return true;
	at = reallocarray(f->at, room, sizeof(*at));
	if (!at)
		return false;
	f->at = at;
	f->room = room;
	return true;
}

void ctl_findings_add(struct ctl_findings *f, const struct fault *fault)
{
	if (f->more == 0 && f->n > 0 && same(&f->at[f->n - 1], fault))
		return;
	if (f->more > 0 || f->n == FINDINGS_MAX || !grow(f))
		f->more++;
	else
		f->at[f->n++] = *fault;
}

void ctl_findings_back(struct ctl_findings *f, size_t n)
{
	if (n >= f->n) {
		f->more = n - f->n;
	} else {
		f->n = n;
		f->more = 0;
	}
}

void ctl_findings_done(struct ctl_findings *f)
{
	free(f->at);
	*f = (struct ctl_findings){ 0 };
}

size_t ctl_findings_count(const struct ctl_findings *f)
{
	return f->n + f->more;
}

/* A journal's blocks are numbered batch << 16 | block; other files just count. */
static void print_block(FILE *out, const struct fault *f, bool json)
{
	unsigned long long block = f->block;

	if (block == 0)
		return;
	if (json)
		(void)fprintf(out, ",\"block\":%llu", block);
	else if (!strchr(f->file, '/') && block > 0xffff)
		(void)fprintf(out, ", batch %llu, block %llu", block >> 16, block & 0xffff);
	else
		(void)fprintf(out, ", block %llu", block);
}

void ctl_findings_print(FILE *out, const struct ctl_findings *f, const char *kind, bool json)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct fault *one = &f->at[i];

		if (json) {
			(void)fprintf(out, "{\"%s\":", kind);
			ctl_json_text(out, one->what);
			(void)fputs(",\"file\":", out);
			ctl_json_text(out, one->file);
			print_block(out, one, true);
			(void)fputs("}\n", out);
		} else {
			(void)fprintf(out, "%s: ", kind);
			ctl_plain_text(out, one->file);
			print_block(out, one, false);
			(void)fprintf(out, ": %s\n", one->what);
		}
	}
	if (f->more > 0 && !json)
		(void)fprintf(out, "%s: and %zu more\n", kind, f->more);
}
