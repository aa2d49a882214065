/* SPDX-License-Identifier: ISC */
/*
 * A nologd that says whatever it is told to, for the tests of the client
 * library.  It listens on a real Unix socket in a fresh directory and is moved
 * step by step in the test's own thread: nothing here waits or sleeps.  Time is
 * the test's as well: the program that includes this gets a clock_gettime()
 * whose monotonic clock stands still until fake_clock_advance().
 * It knows frames, but not what they mean to nologd.
 */
#ifndef NOLOG_FAKESERVER_H
#define NOLOG_FAKESERVER_H

#include <nolog/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct fake {
	char dir[64]; /* the run directory to be given to the client */
	struct sockaddr_un address;
	enum nolog_role role;
	int listener;
	int fd;	     /* the connection, -1: none */
	size_t have; /* bytes of the frame that has not come whole */
	uint8_t part[NOLOG_FRAME_SIZE];
};

static int64_t fake_clock_ms = 1000000;
static bool fake_clock_runs; /* for the few tests that use a thread: the real one */

/* Takes the C library's place in this program; CLOCK_MONOTONIC only is false. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
	if (clock != CLOCK_MONOTONIC || fake_clock_runs)
		return (int)syscall(SYS_clock_gettime, clock, out);
	out->tv_sec = fake_clock_ms / 1000;
	out->tv_nsec = fake_clock_ms % 1000 * 1000000;
	return 0;
}

static inline void fake_clock_advance(int64_t ms)
{
	fake_clock_ms += ms;
}

/* What must not fail in a test's own surroundings. */
static inline void fake_must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	abort();
}

static inline void fake_listen(struct fake *f)
{
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fake_must(f->listener >= 0, "socket");
	fake_must(bind(f->listener, (const struct sockaddr *)&f->address, sizeof(f->address)) == 0,
		  "bind");
	fake_must(listen(f->listener, 16) == 0, "listen");
}

/* Nobody is there any more: connecting is refused. */
static inline void fake_unlisten(struct fake *f)
{
	if (f->listener >= 0)
		(void)close(f->listener);
	f->listener = -1;
	(void)unlink(f->address.sun_path);
}

static inline void fake_open(struct fake *f, enum nolog_role role)
{
	const char *tmp = getenv("TMPDIR");
	int n;

	memset(f, 0, sizeof(*f));
	f->role = role;
	f->fd = -1;
	n = snprintf(f->dir, sizeof(f->dir), "%s/nolog-fake-XXXXXX", tmp ? tmp : "/tmp");
	if (n < 0 || (size_t)n >= sizeof(f->dir))
		memcpy(f->dir, "/tmp/nolog-fake-XXXXXX", sizeof("/tmp/nolog-fake-XXXXXX"));
	fake_must(mkdtemp(f->dir) != NULL, "mkdtemp");
	f->address.sun_family = AF_UNIX;
	(void)snprintf(f->address.sun_path, sizeof(f->address.sun_path), "%s/%s", f->dir,
		       nolog_socket_name(role));
	fake_listen(f);
}

static inline void fake_hangup(struct fake *f)
{
	if (f->fd >= 0)
		(void)close(f->fd);
	f->fd = -1;
	f->have = 0;
}

static inline void fake_close(struct fake *f)
{
	fake_hangup(f);
	fake_unlisten(f);
	(void)rmdir(f->dir);
}

/* Takes a waiting connection in place of the present one; false when none waits. */
static inline bool fake_accept(struct fake *f)
{
	int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return false;
	fake_hangup(f);
	f->fd = fd;
	return true;
}

/* Up to n bytes of what the client has sent; 0 when there are none, -1 at the end. */
static inline int fake_read(struct fake *f, void *out, size_t n)
{
	ssize_t got = n > 0 ? recv(f->fd, out, n, 0) : 0;

	if (got < 0)
		return errno == EAGAIN ? 0 : -1;
	return got == 0 && n > 0 ? -1 : (int)got;
}

/* The client's next whole frame; false when there is none. */
static inline bool fake_next(struct fake *f, struct nolog_frame *out)
{
	int n = fake_read(f, f->part + f->have, sizeof(f->part) - f->have);

	if (n > 0)
		f->have += (size_t)n;
	if (f->have < sizeof(f->part))
		return false;
	f->have = 0;
	nolog_frame_decode(out, f->part);
	return true;
}

/* Sends bytes as they are; a client that is gone does not matter. */
static inline void fake_write(struct fake *f, const void *bytes, size_t n)
{
	if (n > 0)
		(void)send(f->fd, bytes, n, MSG_NOSIGNAL);
}

static inline void fake_send(struct fake *f, const struct nolog_frame *frame)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];

	nolog_frame_encode(bytes, frame);
	fake_write(f, bytes, sizeof(bytes));
}

/* A frame without a body that matters: WELCOME, ACK, REFUSED. */
static inline void fake_say(struct fake *f, enum nolog_type type, uint64_t seq, uint16_t code)
{
	struct nolog_frame frame = { .type = (uint8_t)type, .code = code, .seq = seq };

	fake_send(f, &frame);
}

#endif
