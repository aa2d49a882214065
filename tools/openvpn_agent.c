/* SPDX-License-Identifier: ISC */
/*
 * openvpn_agent: see the header.  One thread around one poll(2): hooks on a
 * socket, two reporters, the servers' lives, signals, and a few times.
 */
#include "openvpn_agent.h"

#include "openvpn_book.h"
#include "openvpn_statusfile.h"

#include <errno.h>
#include <limits.h>
#include <nolog/client.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX 16  /* hooks at once: OpenVPN waits for each, so there is one a server */
#define SERVERS_MAX 8 /* OpenVPN servers that share a server ID, which they should not */
#define ANSWER_MS 150 /* how long a hook waits for nologd's acknowledgement */
#define GRACE_MS (INT64_C(10) * 60 * 1000) /* a dead server that is to come back has come back */
#define LINGER_MS (INT64_C(3600) * 1000)   /* then what nologd has not taken is given up */
#define STOP_MS 5000			   /* the same when the system is going down */
#define RETRY_MS 10000			   /* what was refused for lack of room */
#define LOOK_MS 2000			   /* where a process cannot be watched, look this often */

/*
 * Events that may wait in each queue.  More are kept in the book, and sent as
 * these leave; what is here a session needs twice.
 */
#define QUEUE_EVENTS 8192
#define STACK_WIPED 65536 /* more than all calls below the loop take */

enum role { SESSIONS, USAGE, ROLES };

struct peer {
	int fd; /* -1: free */
	bool waiting;
	bool shared;
	bool blind;
	uint64_t handle;
	int64_t answer_by_ms;
};

struct server {
	int32_t pid; /* 0: free */
	int pidfd;   /* -1: cannot be watched */
};

struct agent {
	const struct openvpn_agent_config *config;
	struct openvpn_book *book;
	struct nolog_reporter *reporter[ROLES];
	int error[ROLES]; /* what its last step said */
	struct openvpn_statusfile status;
	enum openvpn_account account;
	struct peer peers[PEERS_MAX];
	struct server servers[SERVERS_MAX];
	int listen_fd;
	int signal_fd;
	bool alone;	     /* for one event only */
	bool heard;	     /* an event has come */
	bool unreadable;     /* the status file, when it was last tried */
	bool blind_told;     /* a hook was told so */
	unsigned usage_code; /* what bytes were refused with */
	bool usage_told;     /* a hook was told so */
	bool retired;	     /* another agent takes over, */
	int64_t retired_ms;
	bool slow;     /* nologd has not acknowledged what came last */
	bool stopping; /* SIGTERM: the system is going down, */
	int64_t stopping_ms;
	bool dead;	    /* the last server has died, */
	int64_t died_ms;    /* here on the clock that runs */
	int64_t died_at_ms; /* and here on the wall's */
	int64_t born_ms;
	int64_t retry_ms;
};

static int64_t clock_ms(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t); /* cannot fail: the clock exists */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int64_t now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

/* --- What the book wants ------------------------------------------------- */

/* Room for more than there is to be said at once. */
static bool has_room(const struct agent *a, enum role role)
{
	struct nolog_reporter_stats s;

	nolog_reporter_stats(a->reporter[role], &s);
	return s.queued < QUEUE_EVENTS / 2;
}

static int agent_send(const struct nolog_frame *event, uint64_t *number, void *arg)
{
	struct agent *a = arg;
	enum role role = event->type == NOLOG_USAGE ? USAGE : SESSIONS;

	/* Who is alive now is nothing that nologd must be told later. */
	if (event->type == NOLOG_ALIVE &&
	    (!nolog_reporter_welcomed(a->reporter[role]) || !has_room(a, role)))
		return -EAGAIN;
	return nolog_reporter_send(a->reporter[role], event, number);
}

static uint32_t agent_random(void *arg)
{
	uint32_t n = 0;

	(void)arg;
	while (n == 0)
		if (getrandom(&n, sizeof(n), 0) != sizeof(n))
			n = 0; /* interrupted */
	return n;
}

static void peer_close(struct peer *p)
{
	(void)close(p->fd);
	*p = (struct peer){ .fd = -1 };
}

static enum openvpn_outcome outcome(const struct agent *a, enum role role)
{
	if (a->error[role] == -EACCES)
		return OPENVPN_DENIED;
	if (a->error[role] < 0)
		return OPENVPN_STRANGE;
	return nolog_reporter_fd(a->reporter[role]) < 0 ? OPENVPN_AWAY : OPENVPN_LATE;
}

/* Usage is committed on nologd's own tick: a hook waits for sessions only. */
static void peer_answer(struct agent *a, struct peer *p, enum openvpn_outcome sessions,
			unsigned code)
{
	enum openvpn_outcome usage = outcome(a, USAGE);
	struct openvpn_answer answer = {
		.sessions = sessions,
		.usage = usage == OPENVPN_LATE ? OPENVPN_DONE : usage,
		.code = code,
		.shared = p->shared,
		.blind = p->blind,
	};

	if (answer.usage == OPENVPN_DONE && a->usage_code && !a->usage_told) {
		answer.usage = OPENVPN_REFUSED;
		answer.usage_code = a->usage_code;
		a->usage_told = true;
	}
	/* A hook that has gone does not miss it. */
	(void)send(p->fd, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
	peer_close(p);
}

static void agent_settled(uint64_t handle, unsigned code, void *arg)
{
	struct agent *a = arg;

	a->slow = false;
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (a->peers[i].waiting && a->peers[i].handle == handle)
			peer_answer(a, &a->peers[i], code ? OPENVPN_REFUSED : OPENVPN_DONE, code);
}

static void agent_lost(const struct nolog_frame *event, enum nolog_lost what, unsigned code,
		       void *arg)
{
	struct agent *a = arg;

	/* Plain differences, which could be lost otherwise, are not sent here. */
	if (what != NOLOG_LOST_REFUSED)
		return;
	if (event->type == NOLOG_USAGE)
		a->usage_code = code;
	openvpn_book_refused(a->book, event, code);
}

/* --- The servers' lives -------------------------------------------------- */

static bool server_lives(const struct server *s)
{
	struct pollfd p = { .fd = s->pidfd, .events = POLLIN };

	if (s->pidfd >= 0)
		return poll(&p, 1, 0) == 0;
	return kill(s->pid, 0) == 0 || errno == EPERM;
}

static void server_forget(struct server *s)
{
	if (s->pidfd >= 0)
		(void)close(s->pidfd);
	*s = (struct server){ .pidfd = -1 };
}

/* Notices who has died; the last one's death is noted down. */
static void servers_look(struct agent *a)
{
	bool died = false, lives = false;

	for (size_t i = 0; i < SERVERS_MAX; i++) {
		struct server *s = &a->servers[i];

		if (s->pid && !server_lives(s)) {
			server_forget(s);
			died = true;
		}
		lives = lives || s->pid;
	}
	/* Or it had died before its first hook came here. */
	if (lives || a->dead || !(died || a->heard) || a->alone)
		return;
	a->dead = true;
	a->died_ms = now_ms();
	a->died_at_ms = clock_ms(CLOCK_REALTIME);
	/* Its last figures may be in the file. */
	openvpn_statusfile_hurry(&a->status, a->died_ms);
}

/*
 * The server that called lives if it is the one that waits for this hook, and is
 * watched from now on.  Returns whether there are others.
 */
static bool servers_watch(struct agent *a, int32_t pid, bool waits)
{
	struct server *room = NULL;
	bool known = false, others = false;

	servers_look(a);
	for (size_t i = 0; i < SERVERS_MAX; i++) {
		struct server *s = &a->servers[i];

		if (!s->pid)
			room = s;
		else if (s->pid == pid)
			known = true;
		else
			others = true;
	}
	if (!waits)
		return others;
	if (!known && room) {
		room->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		/* No such process: it has died while its hook was on its way. */
		if (room->pidfd >= 0 || errno != ESRCH)
			room->pid = pid;
	}
	a->dead = a->dead && !known && !(room && room->pid);
	return others;
}

/* --- The hooks ----------------------------------------------------------- */

/* Whether this hook is to be told that there is no status file. */
static bool tell_blind(struct agent *a)
{
	if (a->blind_told || (a->status.path[0] && !a->unreadable))
		return false;
	a->blind_told = true;
	return true;
}

static void agent_event(struct agent *a, struct peer *p, const struct openvpn_message *m)
{
	bool others = false;
	int r;

	a->heard = true;
	a->account = m->account;
	if (!a->alone) {
		others = servers_watch(a, m->event.daemon_pid, m->watch);
		if (m->status[0])
			openvpn_statusfile_set(&a->status, m->status, m->tick_ms, now_ms());
		p->blind = tell_blind(a);
	}
	p->shared = others;
	p->handle = m->event.handle;
	/* One hook waits for a nologd that is slow, not all of them. */
	p->answer_by_ms = now_ms() + (a->slow ? 0 : ANSWER_MS);
	p->waiting = true;
	r = openvpn_book_event(a->book, &m->event,
			       (others ? 0 : OPENVPN_ALONE) |
				       (a->status.path[0] || m->counted ? OPENVPN_COUNTED : 0),
			       clock_ms(CLOCK_REALTIME));
	if (r == 1)
		peer_answer(a, p, OPENVPN_DONE, 0);
	else if (r < 0)
		peer_answer(a, p, OPENVPN_FULL, 0);
}

/*
 * A hook of another version has come, and more will.  Its sessions are another
 * agent's from now on, which takes them from the status file or hears of them at
 * their ends; this one tells what it has counted, and finishes.  But what nologd
 * does not have yet could arrive in the wrong order from two: then it is served
 * by a process of its own, which counts no bytes.
 */
static void agent_retire(struct agent *a)
{
	if (a->alone || a->retired || openvpn_book_pending(a->book) > 0)
		return;
	a->retired = true;
	a->retired_ms = now_ms();
	(void)close(a->listen_fd);
	a->listen_fd = -1;
	openvpn_statusfile_set(&a->status, "", 0, 0);
	openvpn_book_leave(a->book);
}

static void peer_read(struct agent *a, struct peer *p)
{
	struct openvpn_message m = { 0 };
	ssize_t n = recv(p->fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (p->waiting || n < (ssize_t)sizeof(m) || m.version != OPENVPN_MESSAGE_VERSION) {
		if (n >= (ssize_t)sizeof(m.version) && m.version != OPENVPN_MESSAGE_VERSION &&
		    m.version >> 32 == OPENVPN_MESSAGE_MAGIC)
			agent_retire(a);
		peer_close(p);
		explicit_bzero(&m, sizeof(m));
		return;
	}
	m.status[sizeof(m.status) - 1] = '\0';
	agent_event(a, p, &m);
	explicit_bzero(&m, sizeof(m));
}

/* Only the user that this process runs as may speak to it, whoever finds its name. */
static bool peer_is_ours(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

static void agent_accept(struct agent *a)
{
	struct peer *free_peer = NULL;
	int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return; /* it has gone again */
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (a->peers[i].fd < 0)
			free_peer = &a->peers[i];
	if (!free_peer || !peer_is_ours(fd)) {
		(void)close(fd);
		return;
	}
	*free_peer = (struct peer){ .fd = fd };
}

/* --- The loop ------------------------------------------------------------ */

static void on_client(const struct openvpn_client *c, void *arg)
{
	struct agent *a = arg;

	openvpn_book_reading(a->book, c, now_ms());
}

static void agent_read_status(struct agent *a)
{
	const char *text;
	size_t len;
	int r = openvpn_statusfile_step(&a->status, now_ms(), &text, &len);

	if (r == 1) {
		openvpn_book_readings_begin(a->book, a->status.written_ms,
					    a->dead ? 0 : clock_ms(CLOCK_REALTIME));
		r = openvpn_status_read(text, len, a->account, on_client, a);
		if (r == 0)
			openvpn_book_readings_end(a->book);
		/* Nothing is in it before OpenVPN has first written it. */
		a->unreadable = r < 0 && len > 0;
		openvpn_statusfile_done(&a->status);
	} else if (r < 0 && r != -EBUSY) {
		a->unreadable = true;
	}
}

/* Sends and receives, and tells the book and the hooks what came of it. */
static void agent_step(struct agent *a)
{
	struct nolog_reporter_stats s[ROLES];

	for (size_t i = 0; i < ROLES; i++) {
		/* An error lasts until something has been said since: later steps are silent. */
		int r = nolog_reporter_step(a->reporter[i]);

		if (r < 0 || nolog_reporter_welcomed(a->reporter[i]))
			a->error[i] = r;
		nolog_reporter_stats(a->reporter[i], &s[i]);
	}
	openvpn_book_acked(a->book, s[SESSIONS].acknowledged + s[SESSIONS].dropped,
			   s[USAGE].acknowledged + s[USAGE].dropped);
	for (size_t i = 0; i < PEERS_MAX; i++) {
		struct peer *p = &a->peers[i];

		if (!p->waiting)
			continue;
		if (outcome(a, SESSIONS) != OPENVPN_LATE) {
			peer_answer(a, p, outcome(a, SESSIONS), 0);
		} else if (now_ms() >= p->answer_by_ms) {
			a->slow = true;
			peer_answer(a, p, OPENVPN_LATE, 0);
		}
	}
}

static bool agent_idle(const struct agent *a)
{
	for (size_t i = 0; i < ROLES; i++) {
		struct nolog_reporter_stats s;

		nolog_reporter_stats(a->reporter[i], &s);
		if (s.queued > 0)
			return false;
	}
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (a->peers[i].fd >= 0)
			return false;
	return openvpn_book_pending(a->book) == 0;
}

/* When a dead server's agent gives up what nologd does not take. */
static int64_t agent_end(const struct agent *a)
{
	int64_t from = a->died_ms > a->stopping_ms ? a->died_ms : a->stopping_ms;

	return a->stopping ? from + STOP_MS : a->died_ms + LINGER_MS;
}

/* True when there is nothing left to do, or nothing left to hope for. */
static bool agent_done(struct agent *a)
{
	int64_t now = now_ms();

	if (a->alone)
		return (a->heard && agent_idle(a)) || now - a->born_ms >= a->config->life_ms;
	if (a->retired)
		return agent_idle(a) || now - a->retired_ms >= LINGER_MS;
	if (!a->dead)
		/* A hook that started this process and never spoke leaves it without a server. */
		return !a->heard && now - a->born_ms >= STOP_MS;
	if (openvpn_statusfile_busy(&a->status) && now - a->died_ms < STOP_MS)
		return false;
	if (a->stopping || now - a->died_ms >= GRACE_MS)
		openvpn_book_died(a->book, a->died_at_ms);
	if (openvpn_book_open(a->book) == 0 && agent_idle(a))
		return true;
	return now >= agent_end(a);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return b < a ? b : a;
}

/* Milliseconds until something is to be done though nothing happens; -1: never. */
static int agent_timeout(const struct agent *a)
{
	int64_t now = now_ms(), at = INT64_MAX;

	for (size_t i = 0; i < ROLES; i++) {
		int t = nolog_reporter_timeout_ms(a->reporter[i]);

		if (t >= 0)
			at = earlier(at, now + t);
	}
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (a->peers[i].waiting)
			at = earlier(at, a->peers[i].answer_by_ms);
	for (size_t i = 0; i < SERVERS_MAX; i++)
		if (a->servers[i].pid && a->servers[i].pidfd < 0)
			at = earlier(at, now + LOOK_MS);
	if (openvpn_book_pending(a->book) > 0)
		at = earlier(at, a->retry_ms);
	at = earlier(at, openvpn_statusfile_due(&a->status));
	if (a->alone)
		at = earlier(at, a->born_ms + a->config->life_ms);
	else if (!a->heard)
		at = earlier(at, a->born_ms + STOP_MS);
	if (a->retired)
		at = earlier(at, a->retired_ms + LINGER_MS);
	else if (a->dead)
		at = earlier(at, agent_end(a));
	if (a->dead && !a->retired && now < a->died_ms + GRACE_MS)
		at = earlier(at, a->died_ms + GRACE_MS);
	if (at == INT64_MAX)
		return -1;
	at -= now;
	return at <= 0 ? 0 : at > INT_MAX ? INT_MAX : (int)at;
}

static void agent_signals(struct agent *a)
{
	struct signalfd_siginfo info;

	while (read(a->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM && !a->stopping) {
			a->stopping = true;
			a->stopping_ms = now_ms();
		}
}

/* Waits, and sees to whatever has come. */
static void agent_poll(struct agent *a)
{
	struct pollfd p[2 + ROLES + PEERS_MAX + SERVERS_MAX];
	size_t n = 0, peers;

	p[n++] = (struct pollfd){ .fd = a->signal_fd, .events = POLLIN };
	p[n++] = (struct pollfd){ .fd = a->listen_fd, .events = POLLIN };
	for (size_t i = 0; i < ROLES; i++)
		p[n++] = (struct pollfd){ .fd = nolog_reporter_fd(a->reporter[i]),
					  .events = nolog_reporter_events(a->reporter[i]) };
	for (size_t i = 0; i < SERVERS_MAX; i++)
		p[n++] = (struct pollfd){ .fd = a->servers[i].pid ? a->servers[i].pidfd : -1,
					  .events = POLLIN };
	peers = n;
	for (size_t i = 0; i < PEERS_MAX; i++)
		p[n++] = (struct pollfd){ .fd = a->peers[i].fd, .events = POLLIN };
	if (poll(p, n, agent_timeout(a)) < 0)
		return; /* interrupted, though no signal is let through */
	if (p[0].revents)
		agent_signals(a);
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (p[peers + i].revents)
			peer_read(a, &a->peers[i]);
	if (p[1].revents)
		agent_accept(a);
	servers_look(a);
}

static int agent_open(struct agent *a, const struct openvpn_agent_config *config)
{
	static const enum nolog_role roles[ROLES] = { NOLOG_ROLE_SESSIONS, NOLOG_ROLE_USAGE };
	const struct openvpn_book_ops ops = {
		.send = agent_send,
		.settled = agent_settled,
		.random = agent_random,
		.arg = a,
	};
	sigset_t all;
	int r = openvpn_book_new(&a->book, &ops);

	for (size_t i = 0; i < ROLES && r == 0; i++) {
		struct nolog_reporter_options o = {
			.run_dir = config->run_dir,
			.role = roles[i],
			.server = config->server,
			.queue_events = QUEUE_EVENTS,
			.lost = agent_lost,
			.arg = a,
		};

		r = nolog_reporter_new(&a->reporter[i], &o);
	}
	if (r < 0)
		return r;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	a->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	return a->signal_fd < 0 ? -errno : 0;
}

static void agent_close(struct agent *a)
{
	/* First: a hook that comes now must find nobody, and start another. */
	if (a->listen_fd >= 0)
		(void)close(a->listen_fd);
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (a->peers[i].fd >= 0)
			(void)close(a->peers[i].fd);
	for (size_t i = 0; i < SERVERS_MAX; i++)
		server_forget(&a->servers[i]);
	for (size_t i = 0; i < ROLES; i++)
		nolog_reporter_free(a->reporter[i]);
	if (a->signal_fd >= 0)
		(void)close(a->signal_fd);
	openvpn_statusfile_done(&a->status);
	openvpn_book_free(a->book);
}

/*
 * What the loop's calls have left on the stack, of events and readings, and at
 * first what this process's hook has: it would lie there until something as deep
 * is called.
 */
__attribute__((noinline)) static void wipe_stack(void)
{
	uint8_t below[STACK_WIPED];

	explicit_bzero(below, sizeof(below));
}

/* What nologd may take by now that it did not take before. */
static void agent_retry(struct agent *a)
{
	bool due = now_ms() >= a->retry_ms;

	if (due)
		a->retry_ms = now_ms() + RETRY_MS;
	if (due || (openvpn_book_full(a->book) && has_room(a, SESSIONS) && has_room(a, USAGE)))
		openvpn_book_retry(a->book);
}

int openvpn_agent_run(const struct openvpn_agent_config *config)
{
	struct agent a = {
		.config = config,
		.listen_fd = config->listen_fd,
		.alone = config->listen_fd < 0,
		.signal_fd = -1,
		.born_ms = now_ms(),
	};
	int r;

	for (size_t i = 0; i < PEERS_MAX; i++)
		a.peers[i].fd = -1;
	for (size_t i = 0; i < SERVERS_MAX; i++)
		a.servers[i].pidfd = -1;
	a.peers[0].fd = config->peer_fd;
	a.retry_ms = a.born_ms + RETRY_MS;
	wipe_stack();
	r = agent_open(&a, config);
	while (r == 0 && !agent_done(&a)) {
		agent_poll(&a);
		agent_read_status(&a);
		agent_retry(&a);
		agent_step(&a);
		wipe_stack();
	}
	agent_close(&a);
	return r;
}
