/* SPDX-License-Identifier: ISC */
/* openvpn_hand: see the header. */
#include "openvpn_hand.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <nolog/client.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 400  /* more than the agent takes when nologd is slow */
#define TRIES 4	     /* an agent may end just now, another hook may start one */
#define DEPTH_MAX 16 /* shells between OpenVPN and this program */
#define BACKLOG 16

/* How long an event without agent tries: an END brings its START with it, not the reverse. */
#define CONNECT_LIFE_MS 3000
#define DISCONNECT_LIFE_MS (10 * 60 * 1000)
#define INLINE_LIFE_MS 250 /* the same when no process could be started */

/* --- Is it OpenVPN that called? ------------------------------------------ */

/* The parent of a process, 0 when it cannot be told. */
static pid_t parent_of(pid_t pid)
{
	char path[32], text[512];
	const char *p;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	/* pid (name) state parent: the name may hold anything, also parentheses. */
	p = strrchr(text, ')');
	if (!p || strlen(p) < 5)
		return 0;
	return (pid_t)strtol(p + 4, NULL, 10);
}

bool openvpn_called_by(int32_t server)
{
	pid_t pid = getppid();

	if (server <= 0)
		return false;
	for (unsigned i = 0; i < DEPTH_MAX && pid > 1; i++) {
		if (pid == server)
			return true;
		pid = parent_of(pid);
	}
	return pid == server;
}

/* --- The agent's address ------------------------------------------------- */

static socklen_t agent_address(struct sockaddr_un *out, const char *run_dir, const char *server)
{
	static const char hex[] = "0123456789abcdef", name[] = "nolog-openvpn-";
	char text[PATH_MAX + 64];
	uint8_t hash[NOLOG_ACCOUNT_SIZE];
	char *p = out->sun_path;
	int n = snprintf(text, sizeof(text), "%ju %s %s", (uintmax_t)geteuid(), server, run_dir);

	nolog_account(hash, text, strnlen(text, n < 0 ? 0 : sizeof(text)));
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	*p++ = '\0'; /* abstract */
	memcpy(p, name, sizeof(name) - 1);
	p += sizeof(name) - 1;
	for (size_t i = 0; i < 16; i++) {
		*p++ = hex[hash[i] >> 4];
		*p++ = hex[hash[i] & 15];
	}
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)(p - out->sun_path));
}

/* The address as socket calls want it: of any family, and aligned for it. */
union any_address {
	struct sockaddr any;
	struct sockaddr_un un;
};

static bool same_user(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == geteuid();
}

/* --- Starting it --------------------------------------------------------- */

/*
 * The environment names the client and where it comes from; it would lie in the
 * background process's memory, and in /proc, for as long as that lives.
 */
static void wipe_environment(void)
{
	for (char **e = environ; e && *e; e++)
		explicit_bzero(*e, strlen(*e));
	environ = NULL;
}

/* What a background process must not keep of the one that called the hook. */
static void leave(int *fd)
{
	static const struct rlimit none = { 0, 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)setsid();
	/*
	 * main() has seen to it that the socket is none of the three.  In a chroot
	 * there may be no /dev/null: then they are the socket, which is not printed to.
	 */
	for (int i = 0; i < 3; i++)
		(void)dup2(null >= 0 ? null : *fd, i);
	if (*fd != 3 && dup2(*fd, 3) == 3)
		*fd = 3;
	(void)fcntl(*fd, F_SETFD, FD_CLOEXEC);
	(void)close_range(4, ~0u, 0);
	/* Holds no mount; all paths are absolute, so if it fails, nothing does. */
	if (chdir("/") < 0)
		errno = 0;
	/* Nobody reads its memory: no core file, no debugger of the same user. */
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	wipe_environment();
}

/*
 * Starts a process that runs the agent; the parent's fd stays open.  The event is
 * handed over in a moment, and is not to lie in the agent's memory besides.  0 or
 * -errno.
 */
static int start(struct openvpn_agent_config *c, struct openvpn_message *m)
{
	int *fd = c->listen_fd >= 0 ? &c->listen_fd : &c->peer_fd;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return 0;
	explicit_bzero(m, sizeof(*m));
	leave(fd);
	_exit(openvpn_agent_run(c) < 0);
}

/* 0: there is an agent now, ours or one that was quicker; or -errno. */
static int start_agent(const char *run_dir, const char *server, struct openvpn_message *m)
{
	struct openvpn_agent_config c = { .run_dir = run_dir, .server = server, .peer_fd = -1 };
	union any_address address;
	socklen_t len = agent_address(&address.un, run_dir, server);
	int r;

	c.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c.listen_fd < 0)
		return -errno;
	if (bind(c.listen_fd, &address.any, len) < 0)
		r = errno == EADDRINUSE ? 0 : -errno;
	else
		r = listen(c.listen_fd, BACKLOG) < 0 ? -errno : start(&c, m);
	(void)close(c.listen_fd);
	return r;
}

/* --- Handing over -------------------------------------------------------- */

/* 1: answered; 0: no answer in time, though it may have been heard; -errno: not heard. */
static int speak(int fd, const struct openvpn_message *m, struct openvpn_answer *answer)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n = send(fd, m, sizeof(*m), MSG_NOSIGNAL);

	if (n < 0)
		return -errno;
	if (poll(&p, 1, WAIT_MS) <= 0)
		return 0;
	n = recv(fd, answer, sizeof(*answer), MSG_DONTWAIT);
	return n == (ssize_t)sizeof(*answer) ? 1 : -ECONNRESET;
}

/* The same with the agent, started where needed and m->watch. */
static int speak_to_agent(const char *run_dir, const char *server, struct openvpn_message *m,
			  struct openvpn_answer *answer)
{
	int r = -ECONNREFUSED;

	for (unsigned i = 0; i < TRIES; i++) {
		union any_address address;
		socklen_t len = agent_address(&address.un, run_dir, server);
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		if (fd < 0)
			return -errno;
		if (connect(fd, &address.any, len) < 0)
			r = -errno;
		else
			r = same_user(fd) ? speak(fd, m, answer) : -EPERM;
		(void)close(fd);
		if (r >= 0 || r == -EPERM)
			return r;
		if (r == -EAGAIN)
			return 0; /* it has too much to do */
		if (r == -ECONNREFUSED && (!m->watch || start_agent(run_dir, server, m) < 0))
			return r;
	}
	return r;
}

/* Without agent: a process for this event alone, or if that cannot be, this one. */
static int speak_alone(const char *run_dir, const char *server, struct openvpn_message *m,
		       struct openvpn_answer *answer)
{
	struct openvpn_agent_config c = { .run_dir = run_dir, .server = server, .listen_fd = -1 };
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	c.peer_fd = pair[1];
	c.life_ms = m->event.kind == OPENVPN_CONNECT ? CONNECT_LIFE_MS : DISCONNECT_LIFE_MS;
	if (start(&c, m) == 0) {
		(void)close(pair[1]);
		r = speak(pair[0], m, answer);
	} else {
		c.life_ms = INLINE_LIFE_MS;
		r = send(pair[0], m, sizeof(*m), MSG_NOSIGNAL) < 0 ? -errno : openvpn_agent_run(&c);
		if (r == 0 &&
		    recv(pair[0], answer, sizeof(*answer), MSG_DONTWAIT) == sizeof(*answer))
			r = 1;
	}
	(void)close(pair[0]);
	return r;
}

void openvpn_hand_over(const char *run_dir, const char *server, struct openvpn_message *m,
		       struct openvpn_answer *answer)
{
	m->version = OPENVPN_MESSAGE_VERSION;
	*answer = (struct openvpn_answer){ .sessions = OPENVPN_UNHEARD };
	/* One that is there already knows the session, whoever called: it must hear of its end. */
	if (speak_to_agent(run_dir, server, m, answer) >= 0)
		return;
	/* What one has read in a status file before is not known here, and must not count twice. */
	m->counted = m->status[0] != '\0' && m->event.kind == OPENVPN_DISCONNECT;
	(void)speak_alone(run_dir, server, m, answer);
}
