/* SPDX-License-Identifier: ISC */
/*
 * openvpn_book: the sessions of one OpenVPN server, and what is to be reported
 * of them.  Events of the hooks, readings of the status file, answers of nologd
 * and the server's death go in; frames come out.
 *
 * Pure: no socket, no file, no clock, no randomness of its own.  It keeps a
 * session until nologd has it, and then forgets it; it knows no name and no
 * address but the session's.
 */
#ifndef OPENVPN_BOOK_H
#define OPENVPN_BOOK_H

#include "openvpn_status.h"

/* More sessions at once than one OpenVPN process can serve. */
#define OPENVPN_SESSIONS_MAX 16384

/* A meter must be read at least daily: unchanged readings are repeated this often. */
#define OPENVPN_READ_MAX_MS (INT64_C(6) * 3600 * 1000)

/* OpenVPN calls its hook so long after a session's start at most, and some more. */
#define OPENVPN_HANDSHAKE_MS (INT64_C(90) * 1000)

struct openvpn_book;

struct openvpn_book_ops {
	/*
	 * Queues a frame for its socket; *number rises by one per frame and socket.
	 * 0 or -errno: then an ALIVE is left out, and everything else tried again.
	 */
	int (*send)(const struct nolog_frame *event, uint64_t *number, void *arg);
	/* What was reported of a session is durable, or was refused with code. */
	void (*settled)(uint64_t handle, unsigned code, void *arg);
	/* A random number that is not 0. */
	uint32_t (*random)(void *arg);
	void *arg;
};

int openvpn_book_new(struct openvpn_book **out, const struct openvpn_book_ops *ops);
void openvpn_book_free(struct openvpn_book *b); /* NULL is fine */

/*
 * No other OpenVPN server that reports here lives, so that a new
 * daemon_start_time means that this one was started again, and all that began
 * before is over.
 */
#define OPENVPN_ALONE 1u
/*
 * The status file is read, so that a session that is unknown at its end was
 * perhaps counted in part by another process: its bytes are no news.
 */
#define OPENVPN_COUNTED 2u

/*
 * A hook was called, at now_ms on the wall's clock.  1: nothing needs to be reported; 0: settled() will be
 * called; -ENOSPC: too many sessions; -ENOMEM.
 */
int openvpn_book_event(struct openvpn_book *b, const struct openvpn_event *e, unsigned flags,
		       int64_t now_ms);

/*
 * The status file was read: begin, a reading for each of its clients, end.
 * written_ms is when the file was written, alive_ms is now, or 0 when the server
 * that wrote it is dead, both on the wall's clock; now_ms is any clock that runs.
 */
void openvpn_book_readings_begin(struct openvpn_book *b, int64_t written_ms, int64_t alive_ms);
void openvpn_book_reading(struct openvpn_book *b, const struct openvpn_client *c, int64_t now_ms);
void openvpn_book_readings_end(struct openvpn_book *b);

/* The server is dead since at_ms and was not started again: what is open ends there. */
void openvpn_book_died(struct openvpn_book *b, int64_t at_ms);

/* Another process reports from now on: tells what was counted, ends no session. */
void openvpn_book_leave(struct openvpn_book *b);

/* nologd refused this event, whose seq is its number. */
void openvpn_book_refused(struct openvpn_book *b, const struct nolog_frame *f, unsigned code);
/* Everything up to these numbers is durable or was refused. */
void openvpn_book_acked(struct openvpn_book *b, uint64_t sessions, uint64_t usage);
/* Sends again what was refused and need not be for good, and what send() did not take. */
void openvpn_book_retry(struct openvpn_book *b);
/* True when send() has not taken something since the last retry. */
bool openvpn_book_full(const struct openvpn_book *b);

size_t openvpn_book_open(const struct openvpn_book *b);	   /* sessions that have not ended */
size_t openvpn_book_pending(const struct openvpn_book *b); /* what nologd does not have whole */

#endif
