/* SPDX-License-Identifier: ISC */
/*
 * openvpn_statusfile: reads OpenVPN's status file on a tick, whole.
 *
 * OpenVPN writes the file in place, line by line, so that a reader may find new
 * lines before the rest of old ones.  A text is good when the file is the same
 * on two reads a moment apart; of the first one only a hash is kept, since it
 * names people.  What it says is openvpn_status's to know.
 */
#ifndef OPENVPN_STATUSFILE_H
#define OPENVPN_STATUSFILE_H

#include "openvpn_agent.h"

#define OPENVPN_SETTLE_MS 200	       /* between the two reads */
#define OPENVPN_STATUS_MAX (16u << 20) /* bytes; a client takes some 200 */

/* Zero is one without a file. */
struct openvpn_statusfile {
	char path[OPENVPN_PATH_MAX];
	int64_t tick_ms;
	int64_t due_ms;
	uint8_t seen[NOLOG_ACCOUNT_SIZE]; /* the hash of the first of the two reads */
	bool has_seen;
	char *text; /* the second, until openvpn_statusfile_done() */
	size_t len;
	int64_t written_ms; /* when that was last written, on the wall's clock */
	unsigned tries;
	bool hurried; /* the next text is waited for */
};

/* Another file ("": none) or tick; the first read is due at once. */
void openvpn_statusfile_set(struct openvpn_statusfile *s, const char *path, int64_t tick_ms,
			    int64_t now_ms);
/* The next read is due now. */
void openvpn_statusfile_hurry(struct openvpn_statusfile *s, int64_t now_ms);
/* True from _hurry() until a text has come or been given up. */
bool openvpn_statusfile_busy(const struct openvpn_statusfile *s);
/* When step wants to be called; INT64_MAX: never. */
int64_t openvpn_statusfile_due(const struct openvpn_statusfile *s);
/*
 * Reads when it is time.  1: *text is the file, until openvpn_statusfile_done();
 * 0: not yet; -errno: it cannot be read, and is tried again on the next tick.
 */
int openvpn_statusfile_step(struct openvpn_statusfile *s, int64_t now_ms, const char **text,
			    size_t *len);
/* Wipes and frees the text. */
void openvpn_statusfile_done(struct openvpn_statusfile *s);

#endif
