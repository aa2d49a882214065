/* SPDX-License-Identifier: ISC */
/* notify: see notify.h. */
#include "notify.h"

#include <nolog/text.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_FDS_START 3
#define LISTEN_FDS_MAX 64

static struct sockaddr_un manager;
static socklen_t manager_len; /* 0: none */
static int manager_fd = -1;
static int64_t watchdog_ms;

static bool number(const char *name, uint64_t *out)
{
	const char *text = getenv(name);

	return text && nolog_u64_parse(out, text) == 0;
}

void notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;
	uint64_t usec, pid;

	if (n > 1 && n < sizeof(manager.sun_path) && (path[0] == '/' || path[0] == '@')) {
		manager.sun_family = AF_UNIX;
		memcpy(manager.sun_path, path, n);
		if (path[0] == '@')
			manager.sun_path[0] = 0; /* abstract */
		manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
		/* Made now: the sandbox allows no new sockets later. */
		manager_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	}
	if (number("WATCHDOG_USEC", &usec) &&
	    (!number("WATCHDOG_PID", &pid) || pid == (uint64_t)getpid()))
		watchdog_ms = (int64_t)(usec / 1000);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void notify_send(const char *state)
{
	if (!manager_len || manager_fd < 0)
		return;
	/* A manager that does not listen is no reason to stop. */
	(void)sendto(manager_fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
		     (struct sockaddr *)&manager, manager_len);
}

int64_t notify_watchdog_ms(void)
{
	return manager_fd < 0 ? 0 : watchdog_ms;
}

int notify_listen_fds(notify_fd_fn *fn, void *arg)
{
	const char *names = getenv("LISTEN_FDNAMES");
	char *copy = strdup(names ? names : "");
	char *rest = copy;
	uint64_t count = 0, pid = 0;
	int r = 0;

	if (!copy)
		return -ENOMEM;
	if (!getenv("LISTEN_FDS") || !getenv("LISTEN_PID"))
		goto out;
	if (!number("LISTEN_PID", &pid) || !number("LISTEN_FDS", &count) ||
	    count > LISTEN_FDS_MAX) {
		r = -EINVAL;
		goto out;
	}
	if (pid != (uint64_t)getpid())
		goto out;
	for (int i = 0; i < (int)count && r >= 0; i++) {
		const char *name = rest ? strsep(&rest, ":") : "";
		int fd = LISTEN_FDS_START + i;
		int flags = fcntl(fd, F_GETFD);

		if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
			r = -errno;
		else
			r = fn(fd, name, arg);
	}
	if (r >= 0)
		r = (int)count;
out:
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	free(copy);
	return r;
}
