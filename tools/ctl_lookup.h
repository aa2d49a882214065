/* SPDX-License-Identifier: ISC */
/*
 * ctl_lookup: the answer to a look-up, put in order and printed.  Pure but for
 * the stream it is printed to.
 */
#ifndef CTL_LOOKUP_H
#define CTL_LOOKUP_H

#include "ctl_args.h"

struct ctl_record {
	uint8_t ip[NOLOG_IP_SIZE];
	uint8_t server[NOLOG_SERVER_SIZE];
	int64_t start_ms, end_ms;
	unsigned code; /* NOLOG_RECORD_* */
};

/* By start, then address, then server. */
void ctl_records_sort(struct ctl_record *records, size_t n);
/* One object a line, as the contract has it. */
void ctl_records_json(FILE *out, const struct ctl_record *records, size_t n);
/* A table of at most columns (80 at least) characters a line; nothing when n is 0. */
void ctl_records_table(FILE *out, const struct ctl_record *records, size_t n, unsigned columns);
/* The sentence about the candidates; asked may be NULL (a server was asked for, no address). */
void ctl_records_candidates(FILE *out, const struct ctl_record *records, size_t n,
			    const struct ctl_prefix *asked);

/* The frame that asks for it; -EINVAL: error says what does not fit together. */
int ctl_lookup_frame(struct nolog_frame *out, const struct ctl_args *args,
		     char error[CTL_ERROR_TEXT]);

#endif
