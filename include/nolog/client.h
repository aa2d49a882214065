/* SPDX-License-Identifier: ISC */
/*
 * nolog/client.h: the client library of nologd, nolog-client(3).
 *
 * Two things are here.  A *reporter* sends events to sessions.sock or
 * usage.sock: it keeps every event in a bounded queue in memory until nologd
 * has acknowledged it, reconnects by itself, and sends again what WELCOME says
 * was not durable; nothing is ever written to disk.  A *query* asks one of the
 * other sockets and reads the answer.
 *
 * A reporter never blocks unless told to (nolog_reporter_connect, _flush): put
 * its file descriptor and the events it wants into your own loop, call
 * nolog_reporter_step() when they are there or the timeout has passed, and ask
 * for descriptor, events and timeout again after every call of _step() and
 * _send(), since they change.
 *
 * All functions return 0 or a negative errno unless they say otherwise.
 * Different reporters and queries may be used by different threads; each one by
 * one thread at a time.  A reporter or query belongs to the process that made
 * it: after fork(2) the parent goes on with it, and in the child it does nothing
 * but say -ECHILD and be freed; a child makes its own.  SIGPIPE is never raised,
 * descriptors are closed on exec.  Addresses, times and server IDs are as in
 * nolog/frame.h; their text forms are in nolog/text.h.
 */
#ifndef NOLOG_CLIENT_H
#define NOLOG_CLIENT_H

#include <nolog/frame.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NOLOG_RUN_DIR "/run/nologd"
#define NOLOG_QUEUE_EVENTS 65536 /* the default bound of a reporter's queue */

/* The file name of a role's socket in the run directory: "sessions.sock", ...; NULL: no role. */
const char *nolog_socket_name(enum nolog_role role);

/* A short English word for a refusal: "unknown handle"; never NULL. */
const char *nolog_refusal_text(unsigned code);

/*
 * The account of a name of len bytes: unkeyed BLAKE2b-256 (RFC 7693), exactly
 * the bytes given, no trimming, no case folding.
 */
void nolog_account(uint8_t out[NOLOG_ACCOUNT_SIZE], const void *name, size_t len);

/* --- Reporting --------------------------------------------------------- */

struct nolog_reporter;

/* What became of an event that was not simply acknowledged. */
enum nolog_lost {
	NOLOG_LOST_REFUSED, /* nologd refused it: code says why */
	NOLOG_LOST_STREAM,  /* nologd forgot the stream; a plain usage difference that had
				been sent and may or may not have been counted: dropped */
};

/*
 * Called from nolog_reporter_step(), _connect() or _flush() for an event that
 * nologd refused, once that is durable, or that had to be dropped (code 0).
 * event is borrowed for the call; event->seq is the number that
 * nolog_reporter_send() gave.  It has left the queue and has been counted, and
 * further events may be sent from within (SESSION after an unknown handle, say):
 * there is room for one at least.  The reporter must not be stepped, flushed or
 * freed from within.
 */
typedef void nolog_lost_fn(const struct nolog_frame *event, enum nolog_lost what, unsigned code,
			   void *arg);

struct nolog_reporter_options {
	const char *run_dir;  /* NULL: NOLOG_RUN_DIR */
	enum nolog_role role; /* NOLOG_ROLE_SESSIONS or NOLOG_ROLE_USAGE */
	const char *server;   /* server ID, 1-16 of [a-z0-9.-] */
	uint64_t stream;      /* 0: a fresh random one; else resume this one */
	bool one_shot;	      /* stream 0 on the wire: what may have counted is never sent again */
	size_t queue_events;  /* bound of unacknowledged events; 0: NOLOG_QUEUE_EVENTS */
	nolog_lost_fn *lost;  /* NULL: only counted */
	void *arg;
};

/* sent = acknowledged + dropped + queued, at all times. */
struct nolog_reporter_stats {
	uint64_t sent;	       /* events accepted by nolog_reporter_send() */
	uint64_t acknowledged; /* of these: durable, or refused */
	uint64_t refused;      /* of the acknowledged: refused */
	uint64_t dropped;      /* NOLOG_LOST_STREAM */
	uint64_t connects;     /* connections that were made, welcomed or not */
	uint64_t queued;       /* neither acknowledged nor dropped yet */
};

/*
 * Makes a reporter; connects at the first step, not here, so it succeeds while
 * nologd is away.  Strings are copied.  -EINVAL: bad role, server ID, or
 * one_shot with a stream; -ENAMETOOLONG: the socket's path; -ENOMEM.
 */
int nolog_reporter_new(struct nolog_reporter **out, const struct nolog_reporter_options *options);

/* Closes and frees; what is still queued is gone (flush first).  NULL is fine. */
void nolog_reporter_free(struct nolog_reporter *r);

/*
 * Queues one event: type, code, aux and body of START, END, SESSION, ALIVE,
 * RESTART or USAGE; seq is ignored and assigned.  The events' numbers rise by
 * one from 1, over reconnects, resumed and changed streams alike; *number (if
 * not NULL) receives it.  -EAGAIN: the queue is full, step and try again;
 * -EINVAL: not an event of this role, or malformed; -EPIPE: a one-shot
 * connection has ended early; -ECHILD: as nolog_reporter_step() has said.
 */
int nolog_reporter_send(struct nolog_reporter *r, const struct nolog_frame *event,
			uint64_t *number);

/* The same, a function a kind of event. */
int nolog_report_start(struct nolog_reporter *r, uint64_t handle, int64_t start_ms,
		       const uint8_t ip[NOLOG_IP_SIZE]);
int nolog_report_end(struct nolog_reporter *r, uint64_t handle, int64_t end_ms);
int nolog_report_session(struct nolog_reporter *r, int64_t start_ms, int64_t end_ms,
			 const uint8_t ip[NOLOG_IP_SIZE]);
int nolog_report_alive(struct nolog_reporter *r, uint64_t handle, int64_t at_ms);
int nolog_report_restart(struct nolog_reporter *r, int64_t at_ms);
/* meter 0: rx and tx are differences; else readings, flags NOLOG_USAGE_FIRST, _LAST. */
int nolog_report_usage(struct nolog_reporter *r, const uint8_t account[NOLOG_ACCOUNT_SIZE],
		       uint64_t rx, uint64_t tx, uint32_t meter, unsigned flags);

/* The descriptor to watch, -1 while there is none (waiting to reconnect). */
int nolog_reporter_fd(const struct nolog_reporter *r);
/* The poll(2) events wanted of it: POLLIN, with POLLOUT while something waits to be sent. */
short nolog_reporter_events(const struct nolog_reporter *r);
/* Milliseconds until step wants to be called without an event; -1: never. */
int nolog_reporter_timeout_ms(const struct nolog_reporter *r);

/*
 * Connects, sends and receives as far as possible without blocking, but does a
 * bounded amount of work.  0, also while nologd is away: reconnection is tried
 * after 0.1 s, doubling to 5 s.  The following close the connection, are told
 * once for each time they happen, and keep what is queued; whoever goes on
 * stepping tries again (after 5 s), so that a daemon's mistake can be repaired:
 * -EPROTO: what answers is not nologd, or not of this version; -EACCES: nologd
 * refused HELLO (this server may not report here) or the socket may not be
 * connected to.  -EPIPE, and from then on always: a one-shot connection ended
 * with events sent and not acknowledged; whether they counted is unknown, and
 * stats.queued tells how many there are.  -ECHILD, and from then on always: this
 * process is a child of the one that made the reporter; what is queued is the
 * parent's to send, and what the child has queued is not sent.
 *
 * An event refused with one of the codes 1 to 4, which nologd says only of
 * frames it cannot read, is handed to lost like others; the rest is sent again.
 */
int nolog_reporter_step(struct nolog_reporter *r);
/*
 * Steps until nologd has welcomed this reporter, or timeout_ms has passed (-1:
 * no limit).  0; -ETIMEDOUT; or an error of nolog_reporter_step().
 */
int nolog_reporter_connect(struct nolog_reporter *r, int timeout_ms);
/*
 * Steps until everything queued is acknowledged or dropped, or timeout_ms has
 * passed (-1: no limit).  0; -ETIMEDOUT: still queued, nothing is lost; or an
 * error of nolog_reporter_step().
 */
int nolog_reporter_flush(struct nolog_reporter *r, int timeout_ms);

/* The stream in use (it changes when nologd has forgotten it); 0 when one-shot. */
uint64_t nolog_reporter_stream(const struct nolog_reporter *r);
/*
 * The seq that was durable of the resumed stream when this reporter was first
 * welcomed: how many of the stream's events need not be sent again.  Those sent
 * to this reporter come after it on the wire, though their numbers rise from 1.
 * 0 before the first WELCOME, and when the stream is new or was forgotten.
 */
uint64_t nolog_reporter_welcome_seq(const struct nolog_reporter *r);
/* True while connected and welcomed. */
bool nolog_reporter_welcomed(const struct nolog_reporter *r);
void nolog_reporter_stats(const struct nolog_reporter *r, struct nolog_reporter_stats *out);

/* --- Asking ------------------------------------------------------------ */

struct nolog_query;

/*
 * Connects to lookup.sock, quota.sock or admin.sock of run_dir (NULL: the
 * default).  -ENOENT, -ECONNREFUSED: no nologd there; -EACCES: not for you;
 * -ETIMEDOUT: it took no connection for 5 s; -EINVAL: not such a role;
 * -ENAMETOOLONG: the socket's path.
 */
int nolog_query_open(struct nolog_query **out, const char *run_dir, enum nolog_role role);
void nolog_query_close(struct nolog_query *q); /* NULL is fine */

/* One answer frame, borrowed; return nonzero to stop early (handed back, connection closed). */
typedef int nolog_answer_fn(const struct nolog_frame *answer, void *arg);

/*
 * Sends one LOOKUP, QUOTA or STATUS (seq is assigned) and calls answer (if not
 * NULL) for every RECORD, TOTAL or METRIC; then *end (if not NULL) holds the
 * DONE or TOTAL that ended it, or the REFUSED; with every other error it is
 * zero, type included.  The answer is whole when this returns 0 and end->code
 * (enum nolog_done_code) is 0.
 *
 * 0; -EINVAL: not a request of this role, or malformed (nothing was sent);
 * -EPROTO: refused (end->type NOLOG_REFUSED, end->code) or not nologd; -EPIPE:
 * the connection ended before the answer did: what answer saw is incomplete;
 * -ETIMEDOUT: silence for timeout_ms (-1: no limit); -ECHILD: another process
 * has opened this query.  After any error but -EINVAL and -ECHILD the connection is closed and all that is left is
 * nolog_query_close(); asking again gives -ENOTCONN.
 */
int nolog_query_ask(struct nolog_query *q, const struct nolog_frame *request,
		    nolog_answer_fn *answer, void *arg, struct nolog_frame *end, int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
