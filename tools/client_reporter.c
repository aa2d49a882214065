/* SPDX-License-Identifier: ISC */
/*
 * The reporter: one stream of events to nologd, over as many connections as it
 * takes.  A connection is made, says HELLO, is welcomed, and from then on sends
 * what the queue holds and reads what became of it; when it ends, WELCOME on
 * the next one tells where to go on.  Knows no file and no account's name, and
 * prints nothing: what went wrong is returned, what was lost is handed to the
 * caller.
 */
#include "client_queue.h"

#include <nolog/text.h>

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS 5000
#define SEND_MAX 65536	/* bytes a send(2) */
#define READ_SIZE 16384 /* bytes a recv(2) */
#define STEP_ROUNDS 64	/* sends and receives a step: others want the thread too */

struct nolog_reporter {
	pid_t owner; /* the process that made it */
	struct nolog_queue queue;
	struct sockaddr_un address;
	enum nolog_role role;
	bool one_shot;
	nolog_lost_fn *lost;
	void *arg;
	uint8_t server[NOLOG_SERVER_SIZE];
	uint64_t stream; /* 0 when one-shot */
	bool known;	 /* the stream has been welcomed: its position is the queue's */
	bool ever_welcomed;
	uint64_t welcome_seq; /* of the first WELCOME */

	/* This connection. */
	int fd; /* -1: none */
	bool welcomed;
	bool broken;   /* nothing more can be sent, but answers may lie there still */
	bool progress; /* something was acknowledged */
	int64_t welcomed_ms;
	size_t hello_left; /* bytes of HELLO to be sent */
	size_t part;	   /* bytes sent of the frame at queue.next */
	size_t have;	   /* bytes in buffer: part of a frame */
	uint8_t hello[NOLOG_FRAME_SIZE];

	/* The next one. */
	int64_t retry_at_ms;
	int retry_ms;
	int failed; /* the error for good: of a one-shot connection, or in a child */

	struct nolog_reporter_stats stats;
	uint8_t buffer[READ_SIZE];
};

/* --- Making ------------------------------------------------------------ */

static uint64_t random_stream(void)
{
	uint64_t stream;

	do
		randombytes_buf(&stream, sizeof(stream));
	while (stream == 0);
	return stream;
}

int nolog_reporter_new(struct nolog_reporter **out, const struct nolog_reporter_options *o)
{
	struct nolog_reporter *r;
	int err;

	if (o->role != NOLOG_ROLE_SESSIONS && o->role != NOLOG_ROLE_USAGE)
		return -EINVAL;
	if (!o->server || (o->one_shot && o->stream != 0))
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->owner = getpid();
	r->fd = -1;
	r->role = o->role;
	r->one_shot = o->one_shot;
	r->lost = o->lost;
	r->arg = o->arg;
	r->retry_ms = RETRY_FIRST_MS;
	if (!o->one_shot)
		r->stream = o->stream ? o->stream : random_stream();
	r->retry_at_ms = nolog_monotonic_ms();
	err = nolog_server_parse(r->server, o->server);
	if (err == 0)
		err = nolog_socket_address(&r->address, o->run_dir, o->role);
	if (err == 0)
		err = nolog_queue_init(&r->queue,
				       o->queue_events ? o->queue_events : NOLOG_QUEUE_EVENTS);
	if (err < 0) {
		nolog_reporter_free(r);
		return err;
	}
	*out = r;
	return 0;
}

void nolog_reporter_free(struct nolog_reporter *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		(void)close(r->fd);
	nolog_queue_done(&r->queue);
	free(r);
}

/* --- Connections ------------------------------------------------------- */

/* Ends the connection; the next is tried after wait_ms. */
static void reporter_close(struct nolog_reporter *r, int wait_ms)
{
	if (r->fd >= 0)
		(void)close(r->fd);
	r->fd = -1;
	r->welcomed = false;
	r->retry_at_ms = nolog_monotonic_ms() + wait_ms;
	/* What was sent without stream may have counted: sending it again could count it twice. */
	if (r->one_shot && r->queue.sent != r->queue.head)
		r->failed = -EPIPE;
	nolog_queue_rewind(&r->queue);
}

/* The connection is gone, or could not be made: later again, and later each time. */
static void reporter_retry(struct nolog_reporter *r)
{
	if (r->welcomed && (r->progress || nolog_monotonic_ms() - r->welcomed_ms >= RETRY_LAST_MS))
		r->retry_ms = RETRY_FIRST_MS;
	reporter_close(r, r->retry_ms);
	r->retry_ms = r->retry_ms < RETRY_LAST_MS / 2 ? r->retry_ms * 2 : RETRY_LAST_MS;
}

/* Something that will hardly be better the next time. */
static int reporter_fail(struct nolog_reporter *r, int err)
{
	r->retry_ms = RETRY_LAST_MS;
	reporter_close(r, RETRY_LAST_MS);
	return err;
}

/* 0, though there may be no connection yet; -EACCES. */
static int reporter_open(struct nolog_reporter *r)
{
	struct nolog_frame hello = { .type = NOLOG_HELLO };
	int fd = nolog_socket_connect(&r->address, 0);

	if (fd == -EACCES || fd == -EPERM)
		return reporter_fail(r, -EACCES);
	if (fd < 0) {
		reporter_retry(r);
		return 0;
	}
	r->fd = fd;
	r->broken = r->progress = false;
	r->part = r->have = 0;
	memcpy(hello.u.hello.server, r->server, sizeof(r->server));
	hello.u.hello.stream = r->stream;
	nolog_frame_encode(r->hello, &hello);
	r->hello_left = sizeof(r->hello);
	r->stats.connects++;
	return 0;
}

/* --- What nologd says -------------------------------------------------- */

/* Counts an event that left the queue; the caller is told of it by reporter_tell(). */
static void reporter_count(struct nolog_reporter *r, enum nolog_lost what)
{
	if (what == NOLOG_LOST_REFUSED) {
		r->stats.refused++;
		r->stats.acknowledged++;
	} else {
		r->stats.dropped++;
	}
}

static void reporter_tell(struct nolog_reporter *r, struct nolog_frame *event, enum nolog_lost what,
			  uint16_t code)
{
	if (r->lost)
		r->lost(event, what, code, r->arg);
	explicit_bzero(event, sizeof(*event));
}

/* Everything before position end is durable, or was refused. */
static void reporter_acknowledge(struct nolog_reporter *r, uint64_t end)
{
	struct nolog_queue *q = &r->queue;

	if (end == q->head)
		return;
	r->progress = true;
	while (q->refused > 0 && q->head != end) {
		struct nolog_frame event;
		uint16_t code;

		nolog_queue_pop(q, &event, &code);
		if (code) {
			reporter_count(r, NOLOG_LOST_REFUSED);
			reporter_tell(r, &event, NOLOG_LOST_REFUSED, code);
		} else {
			r->stats.acknowledged++;
			explicit_bzero(&event, sizeof(event));
		}
	}
	r->stats.acknowledged += end - q->head;
	nolog_queue_pop_until(q, end);
}

static enum nolog_lost reporter_lost(uint16_t code)
{
	return code ? NOLOG_LOST_REFUSED : NOLOG_LOST_STREAM;
}

/* nologd does not know where the stream stands: begin another, at once. */
static void reporter_new_stream(struct nolog_reporter *r)
{
	struct nolog_queue_dropped dropped[NOLOG_QUEUE_DROP_MAX];
	struct nolog_queue *q = &r->queue;
	size_t n;

	/* Before the callbacks: whoever looks from within sees a reporter without connection. */
	reporter_close(r, 0);
	r->stream = random_stream();
	r->known = false;
	/*
	 * They have left the queue, and are counted, before the first is told of;
	 * each leaves room for one event, whatever is sent for those before it.
	 */
	while ((n = nolog_queue_restart(q, dropped)) > 0) {
		for (size_t i = 0; i < n; i++)
			reporter_count(r, reporter_lost(dropped[i].code));
		for (size_t i = 0; i < n; i++) {
			q->reserved = n - 1 - i;
			reporter_tell(r, &dropped[i].event, reporter_lost(dropped[i].code),
				      dropped[i].code);
		}
	}
}

static int reporter_welcome(struct nolog_reporter *r, const struct nolog_frame *f)
{
	struct nolog_queue *q = &r->queue;
	uint64_t acknowledged = nolog_queue_acknowledged(q);

	if (r->one_shot && f->seq != 0)
		return -EPROTO;
	if (r->one_shot || !r->known) {
		/* Nothing of this stream was sent here: what nologd has of it comes before. */
		nolog_queue_renumber(q, f->seq + 1);
	} else if (f->seq - acknowledged > q->sent - q->head) {
		/*
		 * Forgotten (0), restored from an older state, or somebody else
		 * has used the stream: what it stands for is not what was sent.
		 */
		reporter_new_stream(r);
		return 0;
	} else {
		reporter_acknowledge(r, f->seq - q->shift + 1);
	}
	nolog_queue_rewind(q);
	if (!r->ever_welcomed)
		r->welcome_seq = f->seq;
	r->ever_welcomed = r->known = r->welcomed = true;
	r->welcomed_ms = nolog_monotonic_ms();
	return 0;
}

static int reporter_ack(struct nolog_reporter *r, const struct nolog_frame *f)
{
	struct nolog_queue *q = &r->queue;
	uint64_t acknowledged = nolog_queue_acknowledged(q);

	if (f->seq <= acknowledged)
		return 0; /* nothing new */
	if (f->seq - acknowledged > q->next - q->head)
		return -EPROTO;
	reporter_acknowledge(r, f->seq - q->shift + 1);
	return 0;
}

/*
 * An event that nologd closes the connection for.  Everything before it is
 * acknowledged, so it is the oldest here; it and what follows was not applied.
 * After 5, WELCOME tells where the stream stands; any other code says that this
 * frame will never be read, and as it took no seq, the next one takes its.
 */
static int reporter_refused_close(struct nolog_reporter *r, const struct nolog_frame *f)
{
	struct nolog_queue *q = &r->queue;
	uint64_t acknowledged = nolog_queue_acknowledged(q);
	struct nolog_frame event;
	uint16_t code;

	if (f->seq != acknowledged + 1 || q->next == q->head)
		return -EPROTO;
	q->sent = q->head;
	if (f->code == NOLOG_BAD_SEQUENCE) {
		reporter_retry(r);
		return 0;
	}
	reporter_retry(r);
	nolog_queue_pop(q, &event, &code);
	nolog_queue_renumber(q, acknowledged + 1);
	reporter_count(r, NOLOG_LOST_REFUSED);
	reporter_tell(r, &event, NOLOG_LOST_REFUSED, f->code);
	return 0;
}

static int reporter_refused(struct nolog_reporter *r, const struct nolog_frame *f)
{
	if (f->code == NOLOG_OK)
		return -EPROTO;
	if (!r->welcomed) {
		if (f->seq != 0)
			return -EPROTO;
		if (f->code == NOLOG_SERVER_NOT_ALLOWED)
			return -EACCES;
		if (f->code <= NOLOG_BAD_SEQUENCE)
			return -EPROTO;
		reporter_retry(r); /* over capacity, say */
		return 0;
	}
	if (f->code <= NOLOG_BAD_SEQUENCE)
		return reporter_refused_close(r, f);
	return nolog_queue_refuse(&r->queue, f->seq, f->code);
}

static int reporter_frame(struct nolog_reporter *r, const uint8_t bytes[NOLOG_FRAME_SIZE])
{
	struct nolog_frame f;

	if (nolog_frame_check(bytes, r->role, false) != NOLOG_OK)
		return -EPROTO;
	nolog_frame_decode(&f, bytes);
	if (f.type == NOLOG_REFUSED)
		return reporter_refused(r, &f);
	if (f.type == NOLOG_WELCOME && !r->welcomed)
		return reporter_welcome(r, &f);
	if (f.type == NOLOG_ACK && r->welcomed)
		return reporter_ack(r, &f);
	return -EPROTO;
}

/* --- Sending and receiving --------------------------------------------- */

/* All whole frames in the buffer, as long as the connection they came on is there. */
static int reporter_frames(struct nolog_reporter *r)
{
	size_t at = 0;

	for (; r->fd >= 0 && r->have - at >= NOLOG_FRAME_SIZE; at += NOLOG_FRAME_SIZE) {
		int err = reporter_frame(r, r->buffer + at);

		if (err < 0)
			return reporter_fail(r, err);
	}
	if (r->fd < 0)
		return 0;
	r->have -= at;
	memmove(r->buffer, r->buffer + at, r->have);
	return 0;
}

/* 1: read something, 0: nothing there, or an error of step. */
static int reporter_read(struct nolog_reporter *r)
{
	ssize_t n = recv(r->fd, r->buffer + r->have, sizeof(r->buffer) - r->have, 0);
	int err;

	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !r->broken)
		return 0;
	if (n <= 0) {
		reporter_retry(r); /* half a frame in the buffer is nothing */
		return 0;
	}
	r->have += (size_t)n;
	err = reporter_frames(r);
	return err < 0 ? err : 1;
}

/* The bytes to be sent next: HELLO, and once that is answered, events. */
static size_t reporter_pending(const struct nolog_reporter *r, const uint8_t **bytes)
{
	if (r->hello_left > 0) {
		*bytes = r->hello + sizeof(r->hello) - r->hello_left;
		return r->hello_left;
	}
	return r->welcomed ? nolog_queue_pending(&r->queue, r->part, bytes) : 0;
}

/* 1: sent something, 0: nothing to send or no room. */
static int reporter_write(struct nolog_reporter *r)
{
	const uint8_t *bytes;
	size_t len = r->broken ? 0 : reporter_pending(r, &bytes);
	ssize_t n;

	if (len == 0)
		return 0;
	n = send(r->fd, bytes, len < SEND_MAX ? len : SEND_MAX, MSG_NOSIGNAL);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0) {
		/* What nologd said before it closed is to be read before the end is. */
		r->broken = errno != EAGAIN && errno != EWOULDBLOCK;
		return r->broken;
	}
	if (r->hello_left > 0) {
		r->hello_left -= (size_t)n;
		return 1;
	}
	r->part += (size_t)n;
	nolog_queue_advance(&r->queue, r->part / NOLOG_FRAME_SIZE);
	r->part %= NOLOG_FRAME_SIZE;
	return 1;
}

/*
 * In a child of fork(2) the stream and the connection are the parent's: what is
 * said on them here would be taken for repeats of what the parent says.
 */
static int reporter_disown(struct nolog_reporter *r)
{
	if (r->fd >= 0)
		(void)close(r->fd); /* the parent has its own descriptor of it */
	r->fd = -1;
	r->welcomed = false;
	r->failed = -ECHILD;
	return r->failed;
}

int nolog_reporter_step(struct nolog_reporter *r)
{
	if (r->owner != getpid() && r->failed != -ECHILD)
		return reporter_disown(r);
	for (unsigned round = 0; round < STEP_ROUNDS; round++) {
		int got, put = 0;

		if (r->failed < 0)
			return r->failed;
		if (r->fd < 0) {
			if (nolog_monotonic_ms() < r->retry_at_ms)
				return 0;
			got = reporter_open(r);
			if (got < 0)
				return got;
			if (r->fd < 0)
				continue;
		}
		/* Read first: a daemon that cannot get rid of its answers reads no more events. */
		got = reporter_read(r);
		if (got < 0)
			return got;
		if (r->fd >= 0)
			put = reporter_write(r);
		if (r->fd >= 0 && !got && !put)
			return 0;
	}
	return r->failed;
}

/* --- Waiting ----------------------------------------------------------- */

int nolog_reporter_fd(const struct nolog_reporter *r)
{
	return r->fd;
}

short nolog_reporter_events(const struct nolog_reporter *r)
{
	const uint8_t *bytes;

	if (r->fd < 0)
		return 0;
	return reporter_pending(r, &bytes) > 0 ? POLLIN | POLLOUT : POLLIN;
}

int nolog_reporter_timeout_ms(const struct nolog_reporter *r)
{
	int64_t left;

	if (r->fd >= 0 || r->failed < 0)
		return -1;
	left = r->retry_at_ms - nolog_monotonic_ms();
	return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* Steps until done says so. */
static int reporter_wait(struct nolog_reporter *r, bool (*done)(const struct nolog_reporter *),
			 int timeout_ms)
{
	int64_t end = nolog_monotonic_ms() + timeout_ms;

	for (;;) {
		struct pollfd p;
		int64_t left;
		int wait, err = nolog_reporter_step(r);

		if (done(r))
			return 0;
		if (err < 0)
			return err;
		wait = nolog_reporter_timeout_ms(r);
		if (timeout_ms >= 0) {
			left = end - nolog_monotonic_ms();
			if (left <= 0)
				return -ETIMEDOUT;
			if (wait < 0 || wait > left)
				wait = (int)left;
		}
		p = (struct pollfd){ .fd = r->fd, .events = nolog_reporter_events(r) };
		/* Woken for nothing, or by a signal: the next step finds out. */
		(void)poll(&p, 1, wait);
	}
}

static bool reporter_is_empty(const struct nolog_reporter *r)
{
	return r->queue.head == r->queue.tail;
}

int nolog_reporter_connect(struct nolog_reporter *r, int timeout_ms)
{
	return reporter_wait(r, nolog_reporter_welcomed, timeout_ms);
}

int nolog_reporter_flush(struct nolog_reporter *r, int timeout_ms)
{
	if (reporter_is_empty(r))
		return 0;
	return reporter_wait(r, reporter_is_empty, timeout_ms);
}

/* --- Telling ----------------------------------------------------------- */

uint64_t nolog_reporter_stream(const struct nolog_reporter *r)
{
	return r->stream;
}

uint64_t nolog_reporter_welcome_seq(const struct nolog_reporter *r)
{
	return r->welcome_seq;
}

bool nolog_reporter_welcomed(const struct nolog_reporter *r)
{
	return r->welcomed;
}

void nolog_reporter_stats(const struct nolog_reporter *r, struct nolog_reporter_stats *out)
{
	*out = r->stats;
	out->sent = r->queue.accepted;
	out->queued = r->queue.tail - r->queue.head;
}

/* --- Events ------------------------------------------------------------ */

int nolog_reporter_send(struct nolog_reporter *r, const struct nolog_frame *event, uint64_t *number)
{
	int err = r->failed < 0 ? r->failed : nolog_queue_push(&r->queue, event, r->role);

	if (err == 0 && number)
		*number = r->queue.accepted;
	return err;
}

/* Sends one that lies on the stack, and leaves nothing of it there. */
static int reporter_report(struct nolog_reporter *r, struct nolog_frame *event)
{
	int err = nolog_reporter_send(r, event, NULL);

	explicit_bzero(event, sizeof(*event));
	return err;
}

int nolog_report_start(struct nolog_reporter *r, uint64_t handle, int64_t start_ms,
		       const uint8_t ip[NOLOG_IP_SIZE])
{
	struct nolog_frame f = { .type = NOLOG_START };

	f.u.start.handle = handle;
	f.u.start.start_ms = start_ms;
	memcpy(f.u.start.ip, ip, NOLOG_IP_SIZE);
	return reporter_report(r, &f);
}

int nolog_report_end(struct nolog_reporter *r, uint64_t handle, int64_t end_ms)
{
	struct nolog_frame f = { .type = NOLOG_END };

	f.u.end.handle = handle;
	f.u.end.end_ms = end_ms;
	return reporter_report(r, &f);
}

int nolog_report_session(struct nolog_reporter *r, int64_t start_ms, int64_t end_ms,
			 const uint8_t ip[NOLOG_IP_SIZE])
{
	struct nolog_frame f = { .type = NOLOG_SESSION };

	f.u.session.start_ms = start_ms;
	f.u.session.end_ms = end_ms;
	memcpy(f.u.session.ip, ip, NOLOG_IP_SIZE);
	return reporter_report(r, &f);
}

int nolog_report_alive(struct nolog_reporter *r, uint64_t handle, int64_t at_ms)
{
	struct nolog_frame f = { .type = NOLOG_ALIVE };

	f.u.alive.handle = handle;
	f.u.alive.at_ms = at_ms;
	return reporter_report(r, &f);
}

int nolog_report_restart(struct nolog_reporter *r, int64_t at_ms)
{
	struct nolog_frame f = { .type = NOLOG_RESTART };

	f.u.restart.at_ms = at_ms;
	return reporter_report(r, &f);
}

int nolog_report_usage(struct nolog_reporter *r, const uint8_t account[NOLOG_ACCOUNT_SIZE],
		       uint64_t rx, uint64_t tx, uint32_t meter, unsigned flags)
{
	struct nolog_frame f = { .type = NOLOG_USAGE, .aux = meter };

	if (flags > (NOLOG_USAGE_FIRST | NOLOG_USAGE_LAST))
		return -EINVAL;
	f.code = (uint16_t)flags;
	memcpy(f.u.usage.account, account, NOLOG_ACCOUNT_SIZE);
	f.u.usage.rx = rx;
	f.u.usage.tx = tx;
	return reporter_report(r, &f);
}
