/* SPDX-License-Identifier: ISC */
/* listen: see listen.h. */
#include "listen.h"

#include "notify.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096

static const char *const names[NOLOG_ROLES] = {
	[NOLOG_ROLE_SESSIONS] = "sessions", [NOLOG_ROLE_USAGE] = "usage",
	[NOLOG_ROLE_LOOKUP] = "lookup",	    [NOLOG_ROLE_QUOTA] = "quota",
	[NOLOG_ROLE_ADMIN] = "admin",
};

const char *listen_role_name(enum nolog_role role)
{
	return names[role];
}

/* "sessions", "sessions.sock", "nologd-sessions.socket": the role, or -1. */
static int role_of(const char *name)
{
	static const char unit[] = "nologd-";
	const char *slash = strrchr(name, '/');

	if (slash)
		name = slash + 1;
	if (strncmp(name, unit, sizeof(unit) - 1) == 0)
		name += sizeof(unit) - 1;
	for (int i = 0; i < NOLOG_ROLES; i++) {
		size_t n = strlen(names[i]);

		if (strncmp(name, names[i], n) == 0 &&
		    (!name[n] || strcmp(name + n, ".sock") == 0 ||
		     strcmp(name + n, ".socket") == 0))
			return i;
	}
	return -1;
}

static int option(int fd, int name)
{
	int value = -1;
	socklen_t n = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &n) < 0 ? -1 : value;
}

/*
 * Whoever handed it over has said by the file's group and mode who may connect,
 * and the configuration nothing: the group that may write is the one.
 */
static void take_group(struct listen_sockets *l, int role, const char *path)
{
	struct stat st;

	if (l->grouped[role] || *path != '/' || lstat(path, &st) < 0)
		return; /* without a file that can be asked it stays with user and root */
	l->grouped[role] = S_ISSOCK(st.st_mode) && (st.st_mode & S_IWGRP);
	l->group[role] = st.st_gid;
}

/* One that was handed over: what it is must be what it is called. */
static int take_over(int fd, const char *name, void *arg)
{
	struct listen_sockets *l = arg;
	/* The longest path is not terminated. */
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		char bytes[sizeof(struct sockaddr_un) + 1];
	} at = { .bytes = { 0 } };
	socklen_t n = sizeof(at.un);
	int role = role_of(name), flags;

	if (getsockname(fd, &at.any, &n) < 0)
		return -errno;
	if (at.un.sun_family != AF_UNIX || option(fd, SO_TYPE) != SOCK_STREAM ||
	    option(fd, SO_ACCEPTCONN) != 1)
		return -EINVAL;
	if (role < 0)
		role = role_of(at.un.sun_path);
	if (role < 0 || l->fd[role] >= 0)
		return -EINVAL;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	take_group(l, role, at.un.sun_path);
	l->fd[role] = fd;
	return 0;
}

static int find_groups(struct listen_sockets *l, const struct config *c, char *error, size_t size)
{
	for (int i = 0; i < NOLOG_ROLES; i++) {
		const struct group *g;

		if (!c->group[i])
			continue;
		g = getgrnam(c->group[i]);
		if (!g) {
			(void)snprintf(error, size, "[sockets] %s-group = %s: no such group",
				       names[i], c->group[i]);
			return -EINVAL;
		}
		l->group[i] = g->gr_gid;
		l->grouped[i] = true;
	}
	return 0;
}

static int make_directory(const char *path, uid_t owner)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* mkdir(2) is cut by the umask; the groups of the sockets must get through. */
	if (chmod(path, 0755) < 0 || (geteuid() == 0 && chown(path, owner, (gid_t)-1) < 0))
		return -errno;
	return 0;
}

/* -EADDRINUSE: somebody listens there.  Otherwise what is left of a socket goes. */
static int remove_stale(const struct sockaddr_un *at)
{
	struct stat st;
	int fd, r = 0;

	if (lstat(at->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 || errno == EAGAIN)
		r = -EADDRINUSE;
	else if (errno != ECONNREFUSED && errno != ENOENT)
		r = -errno; /* it may live: another user's, or of another type */
	close(fd);
	if (r == 0 && unlink(at->sun_path) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

static int make_socket(struct listen_sockets *l, int role, const char *directory, uid_t owner)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	gid_t group = l->grouped[role] ? l->group[role] : (gid_t)-1;
	int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s/%s.sock", directory, names[role]);
	int fd, r;
	mode_t mask;

	if (n < 0 || (size_t)n >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	r = remove_stale(&at);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mask = umask(0117); /* never wider than it will be, not for a moment */
	r = bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
	(void)umask(mask);
	if (r == 0)
		l->path[role] = strdup(at.sun_path);
	if (r == 0 && !l->path[role]) {
		(void)unlink(at.sun_path);
		r = -ENOMEM;
	}
	if (r == 0 && (owner != geteuid() || l->grouped[role]) &&
	    chown(at.sun_path, owner, group) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	l->fd[role] = fd;
	return 0;
}

int listen_open(struct listen_sockets *l, const struct config *c, uid_t owner, char *error,
		size_t error_size)
{
	int r;

	memset(l, 0, sizeof(*l));
	for (int i = 0; i < NOLOG_ROLES; i++)
		l->fd[i] = -1;
	r = find_groups(l, c, error, error_size);
	if (r < 0)
		return r;
	r = notify_listen_fds(take_over, l);
	if (r < 0) {
		(void)snprintf(error, error_size,
			       "LISTEN_FDS: what was handed over are not nologd's listening "
			       "sockets: %s",
			       strerror(-r));
		goto fail;
	}
	r = make_directory(c->run, owner);
	for (int i = 0; i < NOLOG_ROLES && r == 0; i++)
		if (l->fd[i] < 0)
			r = make_socket(l, i, c->run, owner);
	if (r == 0)
		return 0;
	(void)snprintf(error, error_size, "%s: the sockets cannot be made: %s", c->run,
		       r == -EADDRINUSE ? "another nologd listens there" : strerror(-r));
fail:
	listen_close(l);
	return r;
}

int listen_begin(struct listen_sockets *l)
{
	for (int i = 0; i < NOLOG_ROLES; i++)
		if (l->path[i] && listen(l->fd[i], BACKLOG) < 0)
			return -errno;
	return 0;
}

void listen_close(struct listen_sockets *l)
{
	for (int i = 0; i < NOLOG_ROLES; i++) {
		if (l->path[i])
			(void)unlink(l->path[i]);
		free(l->path[i]);
		l->path[i] = NULL;
		if (l->fd[i] >= 0)
			close(l->fd[i]);
		l->fd[i] = -1;
	}
}

static bool in_groups(int fd, gid_t group)
{
	gid_t *groups;
	socklen_t size = 64 * sizeof(*groups);
	bool found = false;
	int r;

	groups = malloc(size);
	if (!groups)
		return false;
	r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size);
	if (r < 0 && errno == ERANGE) {
		gid_t *more = realloc(groups, size);

		if (more) {
			groups = more;
			r = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size);
		}
	}
	for (size_t i = 0; r == 0 && i < size / sizeof(*groups); i++)
		found |= groups[i] == group;
	free(groups);
	return found;
}

bool listen_allows(const struct listen_sockets *l, enum nolog_role role, int fd, uid_t *uid)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return false;
	*uid = peer.uid;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	return l->grouped[role] && (peer.gid == l->group[role] || in_groups(fd, l->group[role]));
}
