/* SPDX-License-Identifier: ISC */
/*
 * sort: qsort(3) for what must not stay behind.
 *
 * The C library sorts in a buffer of its own and frees it as it is; what is
 * sorted here are addresses.  A stable merge sort whose buffer is wiped.  Pure.
 */
#ifndef SORT_H
#define SORT_H

#include <stddef.h>

typedef int sort_fn(const void *a, const void *b);

/*
 * Sorts n elements of size bytes; equal ones stay in their order.  Needs as
 * much memory again while it works: -ENOMEM, and nothing has moved.
 */
int sort_wiped(void *base, size_t n, size_t size, sort_fn *order)
	__attribute__((warn_unused_result));

#endif
