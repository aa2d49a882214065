/* SPDX-License-Identifier: ISC */
/* sort: see sort.h.  Bottom up: runs of one, two, four elements, from one array to the other. */
#include "sort.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The runs [0, half) and [half, end) of from as one run of to. */
static void merge(char *to, const char *from, size_t half, size_t end, size_t size, sort_fn *order)
{
	size_t left = 0, right = half;

	/* Mostly sorted already is what comes here: often there is nothing to choose. */
	if (half < end && order(from + half - size, from + half) <= 0) {
		memcpy(to, from, end);
		return;
	}
	while (left < half && right < end) {
		bool take_right = order(from + right, from + left) < 0;
		size_t *at = take_right ? &right : &left;

		memcpy(to, from + *at, size);
		*at += size;
		to += size;
	}
	memcpy(to, from + left, half - left);
	memcpy(to + (half - left), from + right, end - right);
}

int sort_wiped(void *base, size_t n, size_t size, sort_fn *order)
{
	char *from = base, *to, *spare;
	size_t all = n * size;

	if (n < 2)
		return 0;
	spare = reallocarray(NULL, n, size);
	if (!spare)
		return -ENOMEM;
	to = spare;
	for (size_t run = size; run < all; run *= 2) {
		char *other = from;

		for (size_t at = 0; at < all; at += 2 * run) {
			size_t left = all - at;

			merge(to + at, from + at, run < left ? run : left,
			      2 * run < left ? 2 * run : left, size, order);
		}
		from = to;
		to = other;
	}
	if (from != base)
		memcpy(base, from, all);
	explicit_bzero(spare, all);
	free(spare);
	return 0;
}
