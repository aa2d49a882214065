/* SPDX-License-Identifier: ISC */
/*
 * What a fuzzer (tests/fuzz/fuzz_X.c) consists of.  libFuzzer drives it under
 * `make fuzz`; tests/lib/fuzzmain.c drives it through its seeds in `make check`.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Looks at one input; returns 0, or aborts when a promise is broken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Optional: seeds made by code.  Writes seed number n (from 0) to out and
 * returns its length, at most max; 0 when there is no such seed.
 */
__attribute__((weak)) size_t fuzz_seed(unsigned n, uint8_t *out, size_t max);

#endif
