/* SPDX-License-Identifier: ISC */
/*
 * openvpn_book: see the header.
 *
 * A session is found by its handle, which the hooks know, and by its address in
 * the tunnel and its start, which the status file knows.
 */
#include "openvpn_book.h"

#include <errno.h>
#include <nolog/client.h>
#include <stdlib.h>
#include <sys/queue.h>

#define BUCKETS 4096 /* a power of two */

struct session {
	LIST_ENTRY(session) by_handle;
	LIST_ENTRY(session) by_pool;
	LIST_ENTRY(session) pending;
	uint64_t handle;
	int64_t start_ms;
	int64_t end_ms;
	int64_t heard_ms; /* when its connect was heard, 0: it was not */
	uint64_t rx;	  /* the highest reading so far */
	uint64_t tx;
	int64_t read_ms;	 /* when a reading was last sent */
	uint64_t session_number; /* its last event that nologd has not acknowledged, or 0 */
	uint64_t usage_number;
	uint32_t meter; /* 0: none yet */
	uint32_t pass;	/* the last one of the status file that had it */
	unsigned code;	/* what its last event was refused with */
	bool first;	/* its next reading is the meter's first */
	bool ended;
	bool adopted; /* known from the status file only: no hook has told of it, no handle */
	bool is_pending;
	bool retry_session;
	bool retry_usage;
	bool has_account;
	bool has_pool;
	uint8_t ip[NOLOG_IP_SIZE];
	uint8_t pool[NOLOG_IP_SIZE];
	uint8_t account[NOLOG_ACCOUNT_SIZE];
};

LIST_HEAD(sessions, session);

/* The RESTART that nologd does not have yet. */
struct restart {
	int64_t at_ms;
	uint64_t number; /* 0: not on its way */
	bool retry;
};

struct openvpn_book {
	struct openvpn_book_ops ops;
	struct restart restart;
	int64_t daemon_start_ms; /* of the newest server seen */
	int32_t daemon_pid;
	uint32_t pass;
	int64_t written_ms; /* of this pass: see openvpn_book_readings_begin() */
	int64_t alive_ms;
	bool adopting; /* this pass takes sessions it does not know */
	bool full;
	size_t count;
	size_t open;
	size_t pending_count;
	struct sessions pending;
	struct sessions by_handle[BUCKETS];
	struct sessions by_pool[BUCKETS];
};

/* Both keys are as good as random, or spread by their last bytes. */
static struct sessions *handle_bucket(struct openvpn_book *b, uint64_t handle)
{
	return &b->by_handle[handle % BUCKETS];
}

static struct sessions *pool_bucket(struct openvpn_book *b, const uint8_t pool[NOLOG_IP_SIZE])
{
	return &b->by_pool[(nolog_get32(pool + 12) * 2654435761u) >> 20];
}

static_assert(BUCKETS == 1u << 12, "pool_bucket() takes the upper 12 bits of 32");

/* An open session before an ended one: a handle may be used again. */
static struct session *find_handle(struct openvpn_book *b, uint64_t handle)
{
	struct session *s, *found = NULL;

	LIST_FOREACH(s, handle_bucket(b, handle), by_handle)
	if (s->handle == handle && !s->adopted && (!found || !s->ended))
		found = s;
	return found;
}

static struct session *find_pool(struct openvpn_book *b, const uint8_t pool[NOLOG_IP_SIZE],
				 int64_t start_ms)
{
	struct session *s, *found = NULL;

	LIST_FOREACH(s, pool_bucket(b, pool), by_pool)
	if (s->has_pool && s->start_ms == start_ms && memcmp(s->pool, pool, sizeof(s->pool)) == 0 &&
	    (!found || !s->ended))
		found = s;
	return found;
}

static struct session *session_new(struct openvpn_book *b, uint64_t handle,
				   const uint8_t pool[NOLOG_IP_SIZE], int64_t start_ms)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->handle = handle;
	s->start_ms = start_ms;
	memcpy(s->pool, pool, sizeof(s->pool));
	LIST_INSERT_HEAD(handle_bucket(b, handle), s, by_handle);
	LIST_INSERT_HEAD(pool_bucket(b, pool), s, by_pool);
	b->count++;
	b->open++;
	return s;
}

static void session_free(struct openvpn_book *b, struct session *s)
{
	LIST_REMOVE(s, by_handle);
	LIST_REMOVE(s, by_pool);
	if (s->is_pending) {
		LIST_REMOVE(s, pending);
		b->pending_count--;
	}
	if (!s->ended)
		b->open--;
	b->count--;
	explicit_bzero(s, sizeof(*s));
	free(s);
}

static void session_end(struct openvpn_book *b, struct session *s, int64_t end_ms)
{
	if (!s->ended)
		b->open--;
	s->ended = true;
	s->end_ms = end_ms;
}

static void set_pending(struct openvpn_book *b, struct session *s)
{
	if (s->is_pending)
		return;
	s->is_pending = true;
	LIST_INSERT_HEAD(&b->pending, s, pending);
	b->pending_count++;
}

/* Leaves the list of pending sessions when nothing is; an ended one is forgotten then. */
static void settle(struct openvpn_book *b, struct session *s)
{
	if (s->session_number || s->usage_number || s->retry_session || s->retry_usage)
		return;
	if (s->is_pending) {
		LIST_REMOVE(s, pending);
		s->is_pending = false;
		b->pending_count--;
	}
	if (s->ended)
		session_free(b, s);
}

/* 0 when it is on its way. */
static int send_frame(struct openvpn_book *b, const struct nolog_frame *f, uint64_t *number)
{
	int r = b->ops.send(f, number, b->ops.arg);

	b->full = b->full || r < 0;
	return r;
}

/* Sends one event of a session: START while it is open, then END, or SESSION when told so. */
static void send_session(struct openvpn_book *b, struct session *s, enum nolog_type type)
{
	struct nolog_frame f = { .type = (uint8_t)type };

	if (type == NOLOG_START) {
		f.u.start.handle = s->handle;
		f.u.start.start_ms = s->start_ms;
		memcpy(f.u.start.ip, s->ip, sizeof(s->ip));
	} else if (type == NOLOG_END) {
		f.u.end.handle = s->handle;
		f.u.end.end_ms = s->end_ms;
	} else {
		f.u.session.start_ms = s->start_ms;
		f.u.session.end_ms = s->end_ms;
		memcpy(f.u.session.ip, s->ip, sizeof(s->ip));
	}
	set_pending(b, s);
	s->code = NOLOG_OK;
	s->retry_session = send_frame(b, &f, &s->session_number) < 0;
}

/* Sends the meter's reading as it is known; the last one when the session has ended. */
static void send_usage(struct openvpn_book *b, struct session *s)
{
	struct nolog_frame f = { .type = NOLOG_USAGE };

	if (s->meter == 0)
		s->meter = b->ops.random(b->ops.arg);
	f.code = (uint16_t)((s->first ? NOLOG_USAGE_FIRST : 0) | (s->ended ? NOLOG_USAGE_LAST : 0));
	f.aux = s->meter;
	memcpy(f.u.usage.account, s->account, sizeof(s->account));
	f.u.usage.rx = s->rx;
	f.u.usage.tx = s->tx;
	set_pending(b, s);
	if (send_frame(b, &f, &s->usage_number) < 0) {
		s->retry_usage = true;
		return;
	}
	s->retry_usage = false;
	s->first = false;
}

/*
 * A reading never falls within a session, but the status file may be older than
 * what is known, and some servers' counters are not to be trusted: a smaller
 * figure would be taken for a meter that began again, and counted whole.
 */
static bool raise_reading(struct session *s, uint64_t rx, uint64_t tx)
{
	bool changed = rx > s->rx || tx > s->tx;

	s->rx = rx > s->rx ? rx : s->rx;
	s->tx = tx > s->tx ? tx : s->tx;
	return changed;
}

/* Ends one session that its server did not end. */
static void cut_off(struct openvpn_book *b, struct session *s, int64_t at_ms)
{
	session_end(b, s, at_ms > s->start_ms ? at_ms : s->start_ms);
	if (s->meter != 0)
		send_usage(b, s);
	/* RESTART ends what began before it; times of OpenVPN are whole seconds. */
	if ((s->start_ms >= at_ms || s->retry_session) && !s->adopted)
		send_session(b, s, NOLOG_END);
	settle(b, s);
}

static void send_restart(struct openvpn_book *b)
{
	struct nolog_frame f = { .type = NOLOG_RESTART, .u.restart.at_ms = b->restart.at_ms };

	b->restart.retry = send_frame(b, &f, &b->restart.number) < 0;
}

/*
 * Ends the open sessions that began up to last_ms at at_ms: with one RESTART,
 * which also ends what only nologd knows.
 */
static void restart(struct openvpn_book *b, int64_t at_ms, int64_t last_ms)
{
	struct session *s, *next;

	b->restart.at_ms = at_ms;
	send_restart(b);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (s = LIST_FIRST(&b->by_handle[i]); s; s = next) {
			next = LIST_NEXT(s, by_handle);
			if (!s->ended && s->start_ms <= last_ms)
				cut_off(b, s, at_ms);
		}
	}
}

int openvpn_book_new(struct openvpn_book **out, const struct openvpn_book_ops *ops)
{
	struct openvpn_book *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->ops = *ops;
	b->adopting = true;
	*out = b;
	return 0;
}

void openvpn_book_free(struct openvpn_book *b)
{
	struct session *s;

	if (!b)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while ((s = LIST_FIRST(&b->by_handle[i])))
			session_free(b, s);
	free(b);
}

/* What a hook tells of a session, old or new. */
static void describe(struct session *s, const struct openvpn_event *e)
{
	memcpy(s->ip, e->ip, sizeof(s->ip));
	s->has_pool = e->has_pool;
	if (e->has_account) {
		memcpy(s->account, e->account, sizeof(s->account));
		s->has_account = true;
	}
}

static int on_connect(struct openvpn_book *b, const struct openvpn_event *e, int64_t now_ms)
{
	struct session *s = find_handle(b, e->handle);

	if (s && !s->ended)
		return s->session_number || s->retry_session ? 0 : 1;
	if (b->count >= OPENVPN_SESSIONS_MAX)
		return -ENOSPC;
	s = session_new(b, e->handle, e->pool, e->start_ms);
	if (!s)
		return -ENOMEM;
	describe(s, e);
	s->first = true;
	s->heard_ms = now_ms;
	send_session(b, s, NOLOG_START);
	return 0;
}

static int on_disconnect(struct openvpn_book *b, const struct openvpn_event *e, bool counted)
{
	struct session *s = find_handle(b, e->handle);

	if (!s && e->has_pool) {
		s = find_pool(b, e->pool, e->start_ms);
		s = s && s->adopted ? s : NULL;
	}
	if (s && s->ended)
		return s->session_number || s->retry_session ? 0 : 1;
	if (!s) {
		if (b->count >= OPENVPN_SESSIONS_MAX)
			return -ENOSPC;
		s = session_new(b, e->handle, e->pool, e->start_ms);
		if (!s)
			return -ENOMEM;
		s->first = !counted;
		describe(s, e);
	} else if (s->adopted) {
		LIST_REMOVE(s, by_handle);
		s->handle = e->handle;
		s->adopted = false;
		LIST_INSERT_HEAD(handle_bucket(b, s->handle), s, by_handle);
		describe(s, e);
	}
	session_end(b, s, e->end_ms);
	send_session(b, s, NOLOG_END);
	if (s->has_account && (e->has_bytes || s->meter != 0)) {
		if (e->has_bytes)
			(void)raise_reading(s, e->rx, e->tx);
		send_usage(b, s);
	}
	return 0;
}

int openvpn_book_event(struct openvpn_book *b, const struct openvpn_event *e, unsigned flags,
		       int64_t now_ms)
{
	bool other = e->daemon_start_ms != b->daemon_start_ms || e->daemon_pid != b->daemon_pid;

	if (e->kind == OPENVPN_DISCONNECT)
		return on_disconnect(b, e, flags & OPENVPN_COUNTED);
	if (other && e->daemon_start_ms > 0 && e->daemon_start_ms >= b->daemon_start_ms) {
		/* A clock that was set back meanwhile must not make it end its own sessions. */
		if (flags & OPENVPN_ALONE)
			restart(b,
				e->daemon_start_ms < e->start_ms ? e->daemon_start_ms : e->start_ms,
				INT64_MAX);
		b->daemon_start_ms = e->daemon_start_ms;
		b->daemon_pid = e->daemon_pid;
	}
	return on_connect(b, e, now_ms);
}

void openvpn_book_readings_begin(struct openvpn_book *b, int64_t written_ms, int64_t alive_ms)
{
	b->pass++;
	b->written_ms = written_ms;
	b->alive_ms = alive_ms;
}

/*
 * A client no hook has told of: this program was started in the middle of its
 * session.  Its first reading is a baseline.  Only the first pass takes such: later
 * ones would take sessions that have ended since the file was written.
 */
static struct session *adopt(struct openvpn_book *b, const struct openvpn_client *c)
{
	struct session *s;

	if (!b->adopting || !c->name || b->count >= OPENVPN_SESSIONS_MAX)
		return NULL;
	s = session_new(b, 0, c->pool, c->start_ms);
	if (!s)
		return NULL;
	s->adopted = true;
	s->has_pool = true;
	s->has_account = true;
	nolog_account(s->account, c->name, c->name_len);
	return s;
}

/*
 * A session that stands in the file is alive, which lets nologd end by its
 * max-silence those whose end was lost.  One that nologd has ended or lost in the
 * meantime is refused, and begun again.
 */
static void send_alive(struct openvpn_book *b, const struct session *s)
{
	struct nolog_frame f = { .type = NOLOG_ALIVE };
	uint64_t number;

	if (b->alive_ms < s->start_ms || s->adopted || s->code != NOLOG_OK || s->session_number ||
	    s->retry_session)
		return;
	f.u.alive.handle = s->handle;
	f.u.alive.at_ms = b->alive_ms;
	(void)b->ops.send(&f, &number, b->ops.arg); /* the next one says more */
}

/*
 * OpenVPN writes a session's address into the file only after its connect hook.
 * In an older file the line is that of another session, which had the address
 * before and began in the same second.  When the hook came long after the start,
 * clocks or hooks are not OpenVPN's own, and this says nothing.
 */
static bool is_another(const struct openvpn_book *b, const struct session *s)
{
	return b->written_ms <= s->heard_ms && s->heard_ms - s->start_ms < OPENVPN_HANDSHAKE_MS;
}

void openvpn_book_reading(struct openvpn_book *b, const struct openvpn_client *c, int64_t now_ms)
{
	struct session *s = find_pool(b, c->pool, c->start_ms);
	bool changed;

	if (!s)
		s = adopt(b, c);
	if (!s || s->ended || is_another(b, s))
		return;
	s->pass = b->pass;
	send_alive(b, s);
	changed = raise_reading(s, c->rx, c->tx);
	/* One reading at a time is on its way: the next one says all that this one would. */
	if (!s->has_account || s->usage_number)
		return;
	if (changed || s->meter == 0 || now_ms - s->read_ms >= OPENVPN_READ_MAX_MS) {
		s->read_ms = now_ms;
		send_usage(b, s);
	}
}

void openvpn_book_readings_end(struct openvpn_book *b)
{
	struct session *s, *next;

	b->adopting = false;
	/* What was adopted and has left the file has ended, and its hook went elsewhere. */
	for (s = LIST_FIRST(handle_bucket(b, 0)); s; s = next) {
		next = LIST_NEXT(s, by_handle);
		if (!s->adopted || s->ended || s->pass == b->pass)
			continue;
		session_end(b, s, s->start_ms);
		send_usage(b, s);
	}
}

void openvpn_book_died(struct openvpn_book *b, int64_t at_ms)
{
	if (b->open > 0)
		restart(b, at_ms, at_ms);
}

static struct session *find_number(struct openvpn_book *b, const struct nolog_frame *f)
{
	struct session *s;

	LIST_FOREACH(s, &b->pending, pending)
	if ((f->type == NOLOG_USAGE ? s->usage_number : s->session_number) == f->seq)
		return s;
	return NULL;
}

void openvpn_book_leave(struct openvpn_book *b)
{
	struct session *s, *next;

	for (size_t i = 0; i < BUCKETS; i++) {
		for (s = LIST_FIRST(&b->by_handle[i]); s; s = next) {
			next = LIST_NEXT(s, by_handle);
			if (s->ended)
				continue;
			session_end(b, s, s->start_ms);
			if (s->meter != 0)
				send_usage(b, s);
			settle(b, s);
		}
	}
}

/* By its meter, since two readings of a session may be on their way: one, and the last. */
static struct session *find_meter(struct openvpn_book *b, uint32_t meter)
{
	struct session *s;

	LIST_FOREACH(s, &b->pending, pending)
	if (s->meter == meter)
		return s;
	return NULL;
}

static void usage_refused(struct openvpn_book *b, const struct nolog_frame *f, unsigned code)
{
	struct session *s = f->aux ? find_meter(b, f->aux) : NULL;

	if (!s)
		return;
	s->first = s->first || (f->code & NOLOG_USAGE_FIRST);
	/* The next reading says the same, unless there is none. */
	if (!s->ended || code != NOLOG_OVER_CAPACITY)
		return;
	if (f->code & NOLOG_USAGE_LAST) {
		s->retry_usage = true;
	} else if (s->first) {
		/*
		 * The last reading is on its way behind a first one that was not taken:
		 * it will count nothing, and close its meter.  All of it is told again
		 * on another.
		 */
		s->retry_usage = true;
		s->meter = 0;
	}
}

/* What nologd may take at another time: it has room again, or the clock has come so far. */
static bool worth_a_retry(unsigned code)
{
	return code == NOLOG_OVER_CAPACITY || code == NOLOG_TIME_RANGE;
}

static void session_refused(struct openvpn_book *b, const struct nolog_frame *f, unsigned code)
{
	struct session *s = f->seq ? find_number(b, f) : NULL;

	if (!s)
		return;
	if (f->type == NOLOG_END && code == NOLOG_UNKNOWN_HANDLE) {
		send_session(b, s, NOLOG_SESSION);
		return;
	}
	s->retry_session = worth_a_retry(code);
	/* A START that comes twice has been heard. */
	s->code = f->type == NOLOG_START && code == NOLOG_HANDLE_OPEN ? NOLOG_OK : code;
}

static void alive_refused(struct openvpn_book *b, const struct nolog_frame *f, unsigned code)
{
	struct session *s = find_handle(b, f->u.alive.handle);

	if (code == NOLOG_UNKNOWN_HANDLE && s && !s->ended && !s->session_number &&
	    !s->retry_session)
		send_session(b, s, NOLOG_START);
}

void openvpn_book_refused(struct openvpn_book *b, const struct nolog_frame *f, unsigned code)
{
	switch (f->type) {
	case NOLOG_USAGE:
		usage_refused(b, f, code);
		break;
	case NOLOG_ALIVE:
		alive_refused(b, f, code);
		break;
	case NOLOG_RESTART:
		if (f->seq && f->seq == b->restart.number)
			b->restart.retry = worth_a_retry(code);
		break;
	default:
		session_refused(b, f, code);
	}
}

void openvpn_book_acked(struct openvpn_book *b, uint64_t sessions, uint64_t usage)
{
	struct session *s, *next;

	if (b->restart.number && b->restart.number <= sessions)
		b->restart.number = 0;
	for (s = LIST_FIRST(&b->pending); s; s = next) {
		next = LIST_NEXT(s, pending);
		if (s->usage_number && s->usage_number <= usage)
			s->usage_number = 0;
		if (s->session_number && s->session_number <= sessions) {
			s->session_number = 0;
			b->ops.settled(s->handle, s->code, b->ops.arg);
		}
		settle(b, s);
	}
}

/* A RESTART that comes late must not end what has begun since. */
static void retry_restart(struct openvpn_book *b)
{
	struct session *s;

	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH(s, &b->by_handle[i], by_handle)
	if (!s->ended && !s->adopted && s->start_ms < b->restart.at_ms)
		b->restart.at_ms = s->start_ms;
	send_restart(b);
}

void openvpn_book_retry(struct openvpn_book *b)
{
	b->full = false;
	if (b->restart.retry && !b->restart.number)
		retry_restart(b);
	for (struct session *s = LIST_FIRST(&b->pending); s && !b->full;
	     s = LIST_NEXT(s, pending)) {
		if (s->retry_session && !s->session_number)
			send_session(b, s, s->ended ? NOLOG_END : NOLOG_START);
		if (s->retry_usage && !s->usage_number)
			send_usage(b, s);
	}
}

size_t openvpn_book_open(const struct openvpn_book *b)
{
	return b->open;
}

size_t openvpn_book_pending(const struct openvpn_book *b)
{
	return b->pending_count + (b->restart.number || b->restart.retry);
}

bool openvpn_book_full(const struct openvpn_book *b)
{
	return b->full;
}
