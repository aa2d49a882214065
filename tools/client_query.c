/* SPDX-License-Identifier: ISC */
/*
 * The query: one question at a time to lookup.sock, quota.sock or admin.sock,
 * and its answer, frame by frame.  Keeps nothing of what was asked or answered,
 * and gives no answer for whole that was cut off.
 */
#include "client_internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_MS 5000
#define READ_SIZE 65536

struct nolog_query {
	pid_t owner; /* the process that made it */
	int fd;	     /* -1: closed after an error */
	enum nolog_role role;
	uint64_t seq;
	size_t at, have; /* of buffer: bytes read from it, bytes in it */
	uint8_t buffer[READ_SIZE];
};

int nolog_query_open(struct nolog_query **out, const char *run_dir, enum nolog_role role)
{
	struct sockaddr_un address;
	struct nolog_query *q;
	int r;

	if (role != NOLOG_ROLE_LOOKUP && role != NOLOG_ROLE_QUOTA && role != NOLOG_ROLE_ADMIN)
		return -EINVAL;
	r = nolog_socket_address(&address, run_dir, role);
	if (r < 0)
		return r;
	q = malloc(sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->owner = getpid();
	q->role = role;
	q->seq = 0;
	q->at = q->have = 0;
	q->fd = nolog_socket_connect(&address, CONNECT_MS);
	if (q->fd < 0) {
		r = q->fd == -EAGAIN ? -ETIMEDOUT : q->fd;
		free(q);
		return r;
	}
	*out = q;
	return 0;
}

void nolog_query_close(struct nolog_query *q)
{
	if (!q)
		return;
	if (q->fd >= 0)
		(void)close(q->fd);
	explicit_bzero(q->buffer, sizeof(q->buffer));
	free(q);
}

/* Until the socket is ready or timeout_ms of silence have passed. */
static int query_wait(const struct nolog_query *q, short events, int timeout_ms)
{
	int64_t end = nolog_monotonic_ms() + timeout_ms;

	for (;;) {
		struct pollfd p = { .fd = q->fd, .events = events };
		int64_t left = end - nolog_monotonic_ms();
		int r = poll(&p, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int query_send(const struct nolog_query *q, const uint8_t frame[NOLOG_FRAME_SIZE],
		      int timeout_ms)
{
	for (size_t at = 0; at < NOLOG_FRAME_SIZE;) {
		ssize_t n = send(q->fd, frame + at, NOLOG_FRAME_SIZE - at, MSG_NOSIGNAL);
		int r = 0;

		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			r = query_wait(q, POLLOUT, timeout_ms);
		else if (errno != EINTR)
			return 0; /* closed: why may still lie there to be read */
		if (r < 0)
			return r;
	}
	return 0;
}

/* The next frame of the answer. */
static int query_receive(struct nolog_query *q, const uint8_t **frame, int timeout_ms)
{
	while (q->have - q->at < NOLOG_FRAME_SIZE) {
		ssize_t n;
		int r = 0;

		q->have -= q->at;
		memmove(q->buffer, q->buffer + q->at, q->have);
		q->at = 0;
		n = recv(q->fd, q->buffer + q->have, sizeof(q->buffer) - q->have, 0);
		if (n > 0)
			q->have += (size_t)n;
		else if (n == 0 || errno == ECONNRESET)
			r = -EPIPE;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			r = query_wait(q, POLLIN, timeout_ms);
		else if (errno != EINTR)
			r = -errno;
		if (r < 0)
			return r;
	}
	*frame = q->buffer + q->at;
	q->at += NOLOG_FRAME_SIZE;
	return 0;
}

/* [a-z0-9_], then only zeros: what prints it need not look again. */
static bool metric_name_valid(const uint8_t name[NOLOG_METRIC_SIZE])
{
	size_t n = 0;

	while (n < NOLOG_METRIC_SIZE && ((name[n] >= 'a' && name[n] <= 'z') ||
					 (name[n] >= '0' && name[n] <= '9') || name[n] == '_'))
		n++;
	return n > 0 && nolog_all_zero(name + n, NOLOG_METRIC_SIZE - n);
}

static bool record_valid(const struct nolog_frame *f)
{
	if (!nolog_server_valid(f->u.record.server))
		return false;
	if (f->code & NOLOG_RECORD_OPEN)
		return f->u.record.end_ms == 0;
	return f->u.record.start_ms <= f->u.record.end_ms;
}

/* A frame that is well-formed may still say what nologd never says. */
static bool answer_valid(const struct nolog_frame *f)
{
	switch (f->type) {
	case NOLOG_RECORD:
		return record_valid(f);
	case NOLOG_METRIC:
		return metric_name_valid(f->u.metric.name);
	case NOLOG_TOTAL:
		return f->u.total.month % 100 >= 1 && f->u.total.month % 100 <= 12;
	case NOLOG_REFUSED:
		return f->code != NOLOG_OK;
	default:
		return true;
	}
}

/* Reads the answer up to what ends it, which is left in *end. */
static int query_answer(struct nolog_query *q, nolog_answer_fn *answer, void *arg,
			struct nolog_frame *end, int timeout_ms)
{
	for (uint64_t count = 0;; count++) {
		const uint8_t *bytes;
		struct nolog_frame f;
		int r = query_receive(q, &bytes, timeout_ms);

		if (r < 0)
			return r;
		if (nolog_frame_check(bytes, q->role, false) != NOLOG_OK)
			return -EPROTO;
		nolog_frame_decode(&f, bytes);
		if (f.seq != q->seq || !answer_valid(&f))
			return -EPROTO;
		/* One that does not count what was sent has lost something on the way. */
		if (f.type == NOLOG_DONE && f.u.done.count != count)
			return -EPROTO;
		if (f.type != NOLOG_DONE && f.type != NOLOG_REFUSED && answer) {
			r = answer(&f, arg);
			if (r != 0)
				return r;
		}
		if (f.type == NOLOG_RECORD || f.type == NOLOG_METRIC)
			continue;
		*end = f;
		return f.type == NOLOG_REFUSED ? -EPROTO : 0;
	}
}

int nolog_query_ask(struct nolog_query *q, const struct nolog_frame *request,
		    nolog_answer_fn *answer, void *arg, struct nolog_frame *end, int timeout_ms)
{
	struct nolog_frame f = *request, last = { 0 };
	uint8_t bytes[NOLOG_FRAME_SIZE];
	int r;

	if (end)
		*end = last;
	f.seq = q->seq + 1;
	nolog_frame_encode(bytes, &f);
	if (nolog_frame_check(bytes, q->role, true) != NOLOG_OK)
		return -EINVAL;
	/* Answers to a child's questions and to its parent's would be mixed up. */
	if (q->owner != getpid())
		return -ECHILD;
	if (q->fd < 0)
		return -ENOTCONN;
	q->seq++;
	r = query_send(q, bytes, timeout_ms);
	if (r == 0)
		r = query_answer(q, answer, arg, &last, timeout_ms);
	if (end)
		*end = last;
	if (r != 0) {
		(void)close(q->fd);
		q->fd = -1;
	}
	return r;
}
