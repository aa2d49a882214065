/* SPDX-License-Identifier: ISC */
/*
 * ctl_out: how nologctl writes: messages, JSON strings, times, sizes.  Knows
 * no command.  What goes to standard output is buffered there, and
 * ctl_out_end() tells at the end whether all of it arrived.
 */
#ifndef CTL_OUT_H
#define CTL_OUT_H

#include "ctl.h"

#include <nolog/text.h>

#include <stdio.h>

#define CTL_BYTES_TEXT 16

/* A line on standard error, "nologctl: " before it. */
void ctl_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* text as a JSON string with its quotes; what is not ASCII becomes U+FFFD. */
void ctl_json_text(FILE *out, const char *text);
/* text for a terminal: what is not printable ASCII becomes '?'. */
void ctl_plain_text(FILE *out, const char *text);
/* RFC 3339 with milliseconds; a time that has no such text as "@" and seconds. */
void ctl_time_text(char out[NOLOG_DURATION_TEXT + 8], int64_t time_ms);
/* "3.4 GiB"; below 1024 the number and "B". */
void ctl_bytes_text(char out[CTL_BYTES_TEXT], uint64_t bytes);

/* Columns of the terminal that out is, 80 for everything else. */
unsigned ctl_columns(FILE *out);

/* Writes out what is buffered; CTL_ERROR, and says so, when standard output did not take it. */
enum ctl_exit ctl_out_end(enum ctl_exit status);

#endif
