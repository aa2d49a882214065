/* SPDX-License-Identifier: ISC */
/*
 * ctl_args: nologctl's options, read from the words of a command line or of
 * an event line of `report`.
 *
 * Every option is one row of a table in ctl_args.c; a command says with two
 * sets of bits which ones it needs and which it may have, and its usage line
 * is made from the same bits.  Knows no frame and prints nothing itself: what
 * is wrong is put into words for whoever asked.
 */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <nolog/frame.h>

#include <stdio.h>

enum ctl_option {
	CTL_RUN,
	CTL_JSON,
	CTL_HELP,
	CTL_VERSION,
	CTL_SERVER,
	CTL_HANDLE,
	CTL_IP,
	CTL_AT,
	CTL_SLACK,
	CTL_FROM,
	CTL_TO,
	CTL_RX,
	CTL_TX,
	CTL_METER,
	CTL_FIRST,
	CTL_LAST,
	CTL_STREAM,
	CTL_LIMIT,
	CTL_STATE,
	CTL_KEYRING,
	CTL_PREFIX, /* the one that is a word of its own: IP[/LEN] */
	CTL_OPTIONS,
};
#define CTL_BIT(option) (1u << CTL_##option)
/* What may stand before and after every command. */
#define CTL_GLOBAL (CTL_BIT(RUN) | CTL_BIT(JSON) | CTL_BIT(HELP))

#define CTL_ERROR_TEXT 256

/* An address and its length in 128-bit terms. */
struct ctl_prefix {
	uint8_t ip[NOLOG_IP_SIZE];
	unsigned len;
};

struct ctl_args {
	unsigned given; /* CTL_BIT of what was there */
	bool quiet; /* error texts do not repeat what was written: it was no user who typed it */

	const char *run; /* borrowed from the words, like state */
	const char *state;
	const char *keyring;
	uint8_t server[NOLOG_SERVER_SIZE];
	uint64_t handle;
	uint8_t ip[NOLOG_IP_SIZE];
	int64_t at_ms, slack_ms, from_ms, to_ms;
	uint64_t rx, tx;
	uint32_t meter;
	uint64_t stream;
	uint64_t limit;
	struct ctl_prefix prefix;
};

static inline bool ctl_given(const struct ctl_args *a, unsigned bits)
{
	return (a->given & bits) == bits;
}

/*
 * Reads options of the allowed set, "--name value", "--name=value" or a flag,
 * into a, up to the first word that is none (or "--", which is passed over).
 * Returns the number of words taken, or -EINVAL with the reason in error.
 */
int ctl_args_read(struct ctl_args *a, unsigned allowed, char *const words[], int n,
		  char error[CTL_ERROR_TEXT]);

/* Reads the text of one option that stands there without its name; 0 or -EINVAL. */
int ctl_args_value(struct ctl_args *a, enum ctl_option option, const char *what, const char *text,
		   char error[CTL_ERROR_TEXT]);

/* 0, or -EINVAL when one of needs is missing or an option stands without the one it belongs to. */
int ctl_args_check(const struct ctl_args *a, unsigned needs, char error[CTL_ERROR_TEXT]);

/* " --server S --handle H [--at TIME]", broken into lines; it begins in that column. */
void ctl_args_synopsis(FILE *out, unsigned needs, unsigned may, size_t column);
/* A line for each option of the set. */
void ctl_args_describe(FILE *out, unsigned set);

#endif
