/* SPDX-License-Identifier: ISC */
/*
 * conn: the connections: frames in, checked by role; answers out.
 *
 * Reads no further than there is room for, per connection and in the queue
 * behind it, so that a peer that does not read, or a writer that cannot
 * commit, costs bounded memory.  Never blocks.  Decides nothing that depends
 * on a ledger.
 */
#include "log.h"
#include "server.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_FLIGHT_MAX 8192u	    /* frames of a connection that are not yet answered */
#define USAGE_IN_FLIGHT_MAX 65536u  /* where that takes a tick, or as many frames as this */
#define READ_FRAMES 1024u	    /* of one recv(2) */
#define OUT_BYTES_MAX (256u * 1024) /* of a connection before it is read no further */
#define PATIENCE_S 30		    /* for a peer that does not read what it asked for */
#define HURRIED_PATIENCE_S 1	    /* the same, when others wait for the memory it holds */
#define LOOKUPS_AT_ONCE 32u	    /* on their way: nobody knows yet how large their answers are */
#define SCANS_AT_ONCE 2u /* of them, that may collect all there is: each in memory of its own */
#define PLACES_KEPT 64u	 /* connections that reporters cannot have */
#define MINUTE_MS 60000
#define NO_CONN UINT32_MAX

struct conn {
	struct server *server;
	int fd; /* -1: closed, its writer has not confirmed yet */
	enum nolog_role role;
	uint32_t slot, generation;
	uid_t uid;
	bool greeted; /* HELLO was taken */
	bool known;   /* its writer has heard of it */
	bool told;    /* its writer has been told that it is gone */
	bool deaf;    /* nothing more is read: refused, end of file, or stopping */
	bool ending;  /* close when everything is written */
	bool paused;  /* reading waits for room */
	bool listed;  /* in server->dirty */
	bool blocked; /* the socket takes no more at the moment */
	bool hurried; /* blocked, and others wait for the memory it holds */
	uint8_t id[NOLOG_SERVER_SIZE];
	uint8_t partial[NOLOG_FRAME_SIZE];
	size_t partial_n;
	uint32_t in_flight;
	bool ack_waiting;
	uint8_t ack[NOLOG_FRAME_SIZE];
	struct lookup *answer; /* being written */
	uint64_t answered;     /* records of it */
	bool asking;	       /* a look-up is on its way */
	uint64_t seq;	       /* of the STATUS being answered */
	struct evbuffer *out;
	struct event readable, writable;
	struct conn *next_dirty;
};

struct lookup_user {
	uid_t uid;
	int64_t minute;
	uint64_t count;
};

struct lookup_box {
	pthread_mutex_t lock;
	struct lookup *first, **last;
	int fd;
};

static uint8_t scratch[(READ_FRAMES + 1) * NOLOG_FRAME_SIZE]; /* the loop thread's */

static uint64_t link_of(const struct conn *c)
{
	return (uint64_t)c->generation << 32 | c->slot;
}

static struct conn *conn_of(struct server *s, uint64_t link)
{
	uint32_t slot = (uint32_t)link;
	struct conn *c = slot < s->slots ? s->conns[slot] : NULL;

	return c && c->generation == (uint32_t)(link >> 32) ? c : NULL;
}

static bool reports(const struct conn *c)
{
	return c->role == NOLOG_ROLE_SESSIONS || c->role == NOLOG_ROLE_USAGE;
}

static struct writer *writer_of(const struct conn *c)
{
	bool usage = c->role == NOLOG_ROLE_USAGE || c->role == NOLOG_ROLE_QUOTA;

	return c->server->writers[usage ? BOOK_USAGE : BOOK_SESSIONS];
}

/* Where this connection's requests go. */
static struct queue *queue_of(const struct conn *c)
{
	return reports(c) ? writer_requests(writer_of(c)) : writer_queries(writer_of(c));
}

/* --- The box of answered look-ups --- */

struct lookup_box *lookup_box_new(void)
{
	struct lookup_box *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->last = &b->first;
	b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->fd < 0 || pthread_mutex_init(&b->lock, NULL) != 0) {
		if (b->fd >= 0)
			close(b->fd);
		free(b);
		return NULL;
	}
	return b;
}

static struct lookup *box_take(struct lookup_box *b)
{
	struct lookup *l;

	(void)pthread_mutex_lock(&b->lock);
	l = b->first;
	b->first = NULL;
	b->last = &b->first;
	(void)pthread_mutex_unlock(&b->lock);
	return l;
}

void lookup_box_free(struct lookup_box *b)
{
	if (!b)
		return;
	for (struct lookup *l = box_take(b), *next; l; l = next) {
		next = l->next;
		lookup_free(l);
	}
	(void)pthread_mutex_destroy(&b->lock);
	close(b->fd);
	free(b);
}

int lookup_box_fd(const struct lookup_box *b)
{
	return b->fd;
}

void lookup_box_put(struct lookup_box *b, struct lookup *l)
{
	uint64_t one = 1;

	l->next = NULL;
	(void)pthread_mutex_lock(&b->lock);
	*b->last = l;
	b->last = &l->next;
	(void)pthread_mutex_unlock(&b->lock);
	if (write(b->fd, &one, sizeof(one)) < 0)
		return; /* it is ringing already */
}

/* --- Ending --- */

static void forget_answer(struct conn *c)
{
	if (!c->answer)
		return;
	c->server->result_bytes -= c->answer->record_count * sizeof(*c->answer->records);
	lookup_free(c->answer);
	c->answer = NULL;
}

static void conn_free(struct conn *c)
{
	struct server *s = c->server;

	s->conns[c->slot] = NULL;
	if (c->slot < s->free_hint)
		s->free_hint = c->slot;
	evbuffer_free(c->out);
	free(c);
}

/* Tells the writer; the slot is free when it confirms. */
static void tell_gone(struct conn *c)
{
	struct queue *q = queue_of(c);
	struct request *r;

	if (queue_room(q) == 0)
		return; /* conns_resume() tries again */
	r = queue_place(q, 0);
	*r = (struct request){ .link = link_of(c), .kind = REQUEST_CLOSED };
	queue_push(q, 1);
	queue_ring(q);
	c->told = true;
	c->server->lingering--;
}

static void conn_close(struct conn *c)
{
	struct server *s = c->server;

	if (c->fd < 0)
		return;
	(void)event_del(&c->readable);
	(void)event_del(&c->writable);
	close(c->fd);
	c->fd = -1;
	s->conn_count--;
	if (c->paused)
		s->paused--;
	c->paused = false;
	if (s->accept_paused) {
		s->accept_paused = false;
		for (int i = 0; i < NOLOG_ROLES; i++)
			(void)event_add(s->accepting[i], NULL);
	}
	forget_answer(c);
	if (c->known) {
		s->lingering++;
		tell_gone(c);
	} else if (!c->listed) {
		conn_free(c);
	}
}

/* --- Writing --- */

static void mark_dirty(struct conn *c)
{
	if (c->listed)
		return;
	c->listed = true;
	c->next_dirty = c->server->dirty;
	c->server->dirty = c;
}

static void out_frame(struct conn *c, const struct nolog_frame *f)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];

	nolog_frame_encode(bytes, f);
	if (evbuffer_add(c->out, bytes, sizeof(bytes)) < 0)
		c->ending = c->deaf =
			true; /* no memory: it cannot be told; it must not wait for ever */
	mark_dirty(c);
}

static void take_ack(struct conn *c)
{
	if (!c->ack_waiting)
		return;
	c->ack_waiting = false;
	if (evbuffer_add(c->out, c->ack, sizeof(c->ack)) < 0)
		c->ending = c->deaf = true;
}

static void record_frame(uint64_t seq, const struct lookup_record *r, struct nolog_frame *f)
{
	*f = (struct nolog_frame){ .type = NOLOG_RECORD, .code = r->code, .seq = seq };
	memcpy(f->u.record.ip, r->ip, sizeof(f->u.record.ip));
	(void)server_unpack(f->u.record.server, &r->server);
	f->u.record.start_ms = r->start_ms;
	f->u.record.end_ms = r->code & NOLOG_RECORD_OPEN ? 0 : r->end_ms;
}

/* As much of a look-up's answer as a connection may hold; DONE at its end. */
static void fill_answer(struct conn *c)
{
	struct lookup *l = c->answer;
	struct lookup_record r;
	struct nolog_frame f;

	if (!l)
		return;
	while (evbuffer_get_length(c->out) < OUT_BYTES_MAX && lookup_take(l, &r)) {
		c->server->result_bytes -= sizeof(r);
		c->answered++;
		record_frame(l->seq, &r, &f);
		out_frame(c, &f);
	}
	if (l->record_count)
		return;
	f = (struct nolog_frame){ .type = NOLOG_DONE, .code = (uint16_t)l->code, .seq = l->seq };
	f.u.done.count = c->answered;
	out_frame(c, &f);
	forget_answer(c);
	c->asking = false;
}

/* Answers that nobody reads hold all the memory that look-ups may have. */
static bool pressed(const struct server *s)
{
	return s->result_bytes >= s->config->memory;
}

static void wait_writable(struct conn *c)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };

	if (c->blocked)
		return;
	c->blocked = true;
	c->hurried = c->answer && pressed(c->server);
	if (c->hurried)
		patience.tv_sec = HURRIED_PATIENCE_S;
	(void)event_add(&c->writable, &patience);
}

void conns_hurry(struct server *s)
{
	struct timeval patience = { .tv_sec = HURRIED_PATIENCE_S };

	for (uint32_t i = 0; pressed(s) && i < s->slots; i++) {
		struct conn *c = s->conns[i];

		/* Once only, so that the time runs out; who reads is blocked anew. */
		if (c && c->fd >= 0 && c->answer && c->blocked && !c->hurried) {
			c->hurried = true;
			(void)event_add(&c->writable, &patience);
		}
	}
}

static void resume(struct conn *c);

/* Writes until the socket takes no more.  May free c. */
static void conn_flush(struct conn *c)
{
	for (;;) {
		if (evbuffer_get_length(c->out) == 0) {
			take_ack(c);
			fill_answer(c);
		}
		if (evbuffer_get_length(c->out) == 0)
			break;
		if (evbuffer_write(c->out, c->fd) > 0)
			continue;
		if (errno == EAGAIN || errno == EINTR)
			wait_writable(c);
		else
			conn_close(c);
		return;
	}
	if (c->ending || (c->deaf && !c->in_flight && !c->asking && !c->server->stopping))
		conn_close(c);
	else
		resume(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;

	(void)fd;
	c->blocked = false;
	if (what & EV_TIMEOUT)
		conn_close(c); /* it asked, and does not read */
	else
		conn_flush(c);
}

static bool flush_dirty(struct server *s)
{
	bool all = true;

	while (s->dirty) {
		struct conn *c = s->dirty;

		s->dirty = c->next_dirty;
		c->listed = false;
		if (c->fd < 0) {
			if (!c->known)
				conn_free(c);
			continue;
		}
		if (!c->blocked)
			conn_flush(c);
		all = false;
	}
	return all;
}

bool conns_flush(struct server *s)
{
	bool all = flush_dirty(s);

	for (uint32_t i = 0; i < s->slots; i++) {
		struct conn *c = s->conns[i];

		if (c && c->fd >= 0 && (evbuffer_get_length(c->out) || c->ack_waiting || c->answer))
			all = false;
	}
	return all;
}

/* --- Reading --- */

static void refuse_here(struct conn *c, unsigned code, uint64_t seq)
{
	struct nolog_frame f = { .type = NOLOG_REFUSED, .code = (uint16_t)code, .seq = seq };

	c->server->refused[code & 31]++;
	out_frame(c, &f);
	c->deaf = c->ending = true;
}

/* In its turn, behind what came before it. */
static void refuse_in_turn(struct conn *c, struct request *r, unsigned code)
{
	r->kind = REQUEST_REFUSE;
	r->code = (uint8_t)code;
	c->deaf = true;
}

static unsigned judge_report(struct conn *c, const uint8_t *frame)
{
	unsigned code = nolog_frame_check(frame, c->role, true);

	if (code)
		return code;
	if ((frame[0] == NOLOG_HELLO) == c->greeted)
		return NOLOG_MALFORMED; /* a second HELLO, or a frame before it */
	if (frame[0] == NOLOG_HELLO) {
		if (!config_server_allowed(c->server->config, frame + NOLOG_FRAME_HEADER))
			return NOLOG_SERVER_NOT_ALLOWED;
		memcpy(c->id, frame + NOLOG_FRAME_HEADER, sizeof(c->id));
		c->greeted = true;
	}
	return NOLOG_OK;
}

/* Frames of a reporter, or questions for totals, to their writer. */
static void pass_on(struct conn *c, const uint8_t *frames, size_t n)
{
	struct queue *q = queue_of(c);
	size_t i;

	for (i = 0; i < n && !c->deaf; i++) {
		const uint8_t *frame = frames + i * NOLOG_FRAME_SIZE;
		struct request *r = queue_place(q, i);
		unsigned code = reports(c) ? judge_report(c, frame)
					   : nolog_frame_check(frame, c->role, true);

		r->link = link_of(c);
		r->kind = REQUEST_FRAME;
		r->code = 0;
		memcpy(r->u.frame, frame, NOLOG_FRAME_SIZE);
		if (code)
			refuse_in_turn(c, r, code);
		else if (!reports(c))
			c->server->quotas_total++;
	}
	if (reports(c) && i)
		c->known = true;
	c->in_flight += (uint32_t)i;
	queue_push(q, i);
	queue_ring(q);
}

static void metric_frame(const char *name, uint64_t value, void *arg)
{
	struct conn *c = arg;
	struct nolog_frame f = { .type = NOLOG_METRIC };

	f.seq = c->seq;
	/* A name of 32 bytes has no NUL, and needs none. */
	memcpy(f.u.metric.name, name, strnlen(name, sizeof(f.u.metric.name)));
	f.u.metric.value = value;
	out_frame(c, &f);
}

static void tell_status(struct conn *c, const uint8_t *frame)
{
	unsigned code = nolog_frame_check(frame, c->role, true);
	struct nolog_frame f = { .type = NOLOG_DONE, .seq = nolog_get64(frame + 8) };

	if (code) {
		refuse_here(c, code, f.seq);
		return;
	}
	c->seq = f.seq;
	f.u.done.count = status_each(c->server, metric_frame, c);
	out_frame(c, &f);
}

/* The rate of a user's look-ups; false when he has had this minute's. */
static bool within_rate(struct server *s, uid_t uid)
{
	int64_t minute = clock_running_ms(s->clock) / MINUTE_MS;
	struct lookup_user *u = NULL, *more;

	if (s->config->lookups == 0)
		return true;
	for (size_t i = 0; i < s->user_count && !u; i++)
		if (s->users[i].uid == uid)
			u = &s->users[i];
	if (!u) {
		more = reallocarray(s->users, s->user_count + 1, sizeof(*more));
		if (!more)
			return false;
		s->users = more;
		u = &s->users[s->user_count++];
		*u = (struct lookup_user){ .uid = uid, .minute = minute };
	}
	if (u->minute != minute) {
		u->minute = minute;
		u->count = 0;
	}
	return u->count++ < s->config->lookups;
}

static void pass_lookup(struct server *s, struct lookup *l)
{
	struct queue *q = writer_queries(s->writers[BOOK_SESSIONS]);
	struct request *r = queue_place(q, 0);

	*r = (struct request){ .link = l->link, .kind = REQUEST_LOOKUP, .u.pointer = l };
	queue_push(q, 1);
	queue_ring(q);
}

/*
 * Those that can find millions of sessions go a few at a time, so that how many
 * ask for everything is no question of memory; when it ends, all, to be told so.
 */
static void begin_scans(struct server *s)
{
	while (s->later && (s->stopping || s->scans < SCANS_AT_ONCE) &&
	       queue_room(writer_queries(s->writers[BOOK_SESSIONS]))) {
		struct lookup *l = s->later;
		const struct conn *c = conn_of(s, l->link);

		s->later = l->next;
		if (!s->later)
			s->later_last = &s->later;
		l->next = NULL;
		if (!c || c->fd < 0) { /* nobody waits for it any more */
			s->asked--;
			lookup_free(l);
			continue;
		}
		s->scans++;
		pass_lookup(s, l);
	}
}

static void ask_lookup(struct conn *c, const uint8_t *frame)
{
	struct server *s = c->server;
	unsigned code = nolog_frame_check(frame, c->role, true);
	struct nolog_frame f;
	struct lookup *l;

	nolog_frame_decode(&f, frame);
	if (!code && !within_rate(s, c->uid))
		code = NOLOG_OVER_CAPACITY;
	l = code ? NULL : lookup_new(&f, s->config->exits, s->config->records);
	if (!code && !l)
		code = NOLOG_OVER_CAPACITY;
	if (code) {
		refuse_here(c, code, f.seq);
		return;
	}
	s->lookups_total++;
	s->asked++;
	l->link = link_of(c);
	l->seq = f.seq;
	c->asking = true;
	if (lookup_exact(l)) {
		pass_lookup(s, l);
		return;
	}
	*s->later_last = l;
	s->later_last = &l->next;
	begin_scans(s);
}

/* Frames that it may yet send before some are answered. */
static uint32_t window(const struct conn *c)
{
	return (c->role == NOLOG_ROLE_USAGE ? USAGE_IN_FLIGHT_MAX : IN_FLIGHT_MAX) - c->in_flight;
}

/* How many frames may be read from it now. */
static size_t read_room(struct conn *c)
{
	struct server *s = c->server;
	size_t room;

	if (evbuffer_get_length(c->out) >= OUT_BYTES_MAX)
		return 0;
	switch (c->role) {
	case NOLOG_ROLE_LOOKUP:
		return !c->asking && s->asked < LOOKUPS_AT_ONCE && queue_room(queue_of(c)) &&
		       !pressed(s);
	case NOLOG_ROLE_ADMIN:
		return 1;
	case NOLOG_ROLE_SESSIONS:
	case NOLOG_ROLE_USAGE:
	case NOLOG_ROLE_QUOTA:
		break;
	}
	room = queue_room(queue_of(c));
	if (room > window(c))
		room = window(c);
	return room < READ_FRAMES ? room : READ_FRAMES;
}

static void pause_reading(struct conn *c)
{
	if (!c->paused)
		c->server->paused++;
	c->paused = true;
	(void)event_del(&c->readable);
}

static void resume(struct conn *c)
{
	if (c->fd < 0 || !c->paused || c->deaf || read_room(c) == 0)
		return;
	c->paused = false;
	c->server->paused--;
	(void)event_add(&c->readable, NULL);
}

static void handle_frames(struct conn *c, const uint8_t *frames, size_t n)
{
	if (n == 0)
		return;
	if (c->role == NOLOG_ROLE_LOOKUP)
		ask_lookup(c, frames);
	else if (c->role == NOLOG_ROLE_ADMIN)
		tell_status(c, frames);
	else
		pass_on(c, frames, n);
}

/* The peer sends no more: what it sent is answered, then the connection ends. */
static void end_of_input(struct conn *c)
{
	c->deaf = true;
	mark_dirty(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct server *s = c->server;
	size_t room = read_room(c), have, n;
	ssize_t got;

	(void)what;
	if (c->deaf || room == 0) {
		pause_reading(c);
		return;
	}
	memcpy(scratch, c->partial, c->partial_n);
	got = recv(fd, scratch + c->partial_n, room * NOLOG_FRAME_SIZE - c->partial_n, 0);
	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			conn_close(c);
		return;
	}
	if (got == 0) {
		end_of_input(c);
	} else {
		have = c->partial_n + (size_t)got;
		n = have / NOLOG_FRAME_SIZE;
		c->partial_n = have % NOLOG_FRAME_SIZE;
		handle_frames(c, scratch, n);
		memcpy(c->partial, scratch + n * NOLOG_FRAME_SIZE, c->partial_n);
		explicit_bzero(scratch, have);
	}
	if (c->fd >= 0 && c->deaf)
		pause_reading(c);
	(void)flush_dirty(s);
}

void conns_resume(struct server *s)
{
	if (!s->paused && !s->lingering)
		return;
	for (uint32_t i = 0; i < s->slots; i++) {
		struct conn *c = s->conns[i];

		if (!c)
			continue;
		if (c->fd < 0 && c->known && !c->told)
			tell_gone(c);
		else
			resume(c);
	}
}

/* --- Answers --- */

static void take_answer(struct server *s, const struct answer *a)
{
	struct conn *c = conn_of(s, a->link);

	if (!c)
		return;
	if (a->kind == ANSWER_GONE) {
		c->known = false;
		if (c->fd < 0 && !c->listed)
			conn_free(c);
		return;
	}
	if (c->fd < 0)
		return;
	c->in_flight -= a->taken < c->in_flight ? a->taken : c->in_flight;
	if (a->kind == ANSWER_ACK) {
		memcpy(c->ack, a->frame, sizeof(c->ack));
		c->ack_waiting = true; /* in the place of an earlier one not yet written */
	}
	if (a->close) {
		take_ack(c);
		c->deaf = c->ending = true;
	}
	if (a->kind == ANSWER_FRAME && evbuffer_add(c->out, a->frame, sizeof(a->frame)) < 0)
		c->deaf = c->ending = true;
	mark_dirty(c);
}

void conns_take_answers(struct server *s, int book)
{
	struct queue *q = writer_answers(s->writers[book]);

	do {
		size_t n = queue_ready(q);

		for (size_t i = 0; i < n; i++)
			take_answer(s, queue_item(q, i));
		queue_pop(q, n);
	} while (!queue_may_sleep(q));
	(void)flush_dirty(s);
	conns_resume(s);
}

void conns_take_lookups(struct server *s)
{
	uint64_t rung;

	if (read(lookup_box_fd(s->box), &rung, sizeof(rung)) < 0 && errno != EAGAIN)
		return;
	for (struct lookup *l = box_take(s->box), *next; l; l = next) {
		struct conn *c = conn_of(s, l->link);

		next = l->next;
		s->asked--;
		s->scans -= !lookup_exact(l);
		if (!c || c->fd < 0) {
			lookup_free(l);
			continue;
		}
		s->result_bytes += l->record_count * sizeof(*l->records);
		c->answer = l;
		c->answered = 0;
		mark_dirty(c);
	}
	begin_scans(s);
	(void)flush_dirty(s);
	conns_resume(s);
}

/* --- Beginning --- */

int conns_init(struct server *s)
{
	/* Closed ones keep their slot until their writer confirms: room for both. */
	s->slots = (uint32_t)s->config->connections * 2;
	s->conns = calloc(s->slots, sizeof(struct conn *));
	s->later_last = &s->later;
	return s->conns ? 0 : -ENOMEM;
}

void conns_free(struct server *s)
{
	for (uint32_t i = 0; s->conns && i < s->slots; i++) {
		struct conn *c = s->conns[i];

		if (!c)
			continue;
		if (c->fd >= 0) {
			(void)event_del(&c->readable);
			(void)event_del(&c->writable);
			close(c->fd);
			forget_answer(c);
		}
		evbuffer_free(c->out);
		free(c);
	}
	for (struct lookup *l = s->later, *next; l; l = next) {
		next = l->next;
		lookup_free(l);
	}
	free(s->conns);
	free(s->users);
	s->conns = NULL;
	s->users = NULL;
}

static uint32_t free_slot(struct server *s)
{
	for (uint32_t i = s->free_hint; i < s->slots; i++)
		if (!s->conns[i]) {
			s->free_hint = i + 1;
			return i;
		}
	return NO_CONN;
}

/* Reporters cannot take the last places: the abuse desk, billing and the operator get in. */
static uint64_t places(const struct server *s, enum nolog_role role)
{
	uint64_t all = s->config->connections, kept = all / 8;

	if (role != NOLOG_ROLE_SESSIONS && role != NOLOG_ROLE_USAGE)
		return all;
	return all - (kept < PLACES_KEPT ? kept : PLACES_KEPT);
}

static struct conn *conn_new(struct server *s, enum nolog_role role, int fd, uid_t uid)
{
	uint32_t slot = s->conn_count < places(s, role) ? free_slot(s) : NO_CONN;
	struct conn *c = slot == NO_CONN ? NULL : calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->out = evbuffer_new();
	if (!c->out) {
		free(c);
		return NULL;
	}
	c->server = s;
	c->fd = fd;
	c->role = role;
	c->slot = slot;
	c->generation = ++s->generation;
	c->uid = uid;
	return c;
}

void conn_accepted(struct server *s, enum nolog_role role, int fd)
{
	struct conn *c;
	uid_t uid = 0;

	if (!listen_allows(&s->sockets, role, fd, &uid) || s->stopping) {
		s->turned_away_total++;
		close(fd);
		return;
	}
	c = conn_new(s, role, fd, uid);
	if (!c) {
		s->turned_away_total++;
		if (!s->said_too_many) /* once: who knocks does not write the log */
			log_say(LOG_TOO_MANY, (long long)s->config->connections, 0, 0);
		s->said_too_many = true;
		close(fd);
		return;
	}
	if (event_assign(&c->readable, s->base, fd, EV_READ | EV_PERSIST, on_readable, c) < 0 ||
	    event_assign(&c->writable, s->base, fd, EV_WRITE, on_writable, c) < 0 ||
	    event_add(&c->readable, NULL) < 0) {
		close(fd);
		evbuffer_free(c->out);
		free(c);
		return;
	}
	s->conns[c->slot] = c;
	s->conn_count++;
	s->connections_total++;
}

void conns_stop_reading(struct server *s)
{
	for (uint32_t i = 0; i < s->slots; i++) {
		struct conn *c = s->conns[i];

		if (c && c->fd >= 0) {
			c->deaf = true;
			pause_reading(c);
		}
	}
	begin_scans(s);
}

void conns_check_servers(struct server *s)
{
	for (uint32_t i = 0; i < s->slots; i++) {
		struct conn *c = s->conns[i];

		if (c && c->fd >= 0 && c->greeted && !config_server_allowed(s->config, c->id))
			conn_close(c);
	}
}
