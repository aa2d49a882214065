/* SPDX-License-Identifier: ISC */
/*
 * listen: the five listening sockets, made here or handed over by the service
 * manager, and who may connect to each.  Reads nothing from a connection.
 */
#ifndef LISTEN_H
#define LISTEN_H

#include "config.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct listen_sockets {
	int fd[NOLOG_ROLES];	   /* -1: not open */
	char *path[NOLOG_ROLES];   /* of those made here, to be removed; else NULL */
	bool grouped[NOLOG_ROLES]; /* a group may connect besides the daemon's user and root */
	gid_t group[NOLOG_ROLES];
};

/*
 * Takes over what the service manager hands (LISTEN_FDS), each with the group
 * of its file if that may write and none is configured, and makes the others
 * in the run directory (made, 0755, when absent): mode 0660, the configured
 * group, a stale socket file replaced.  Bound, but not yet listening: until
 * listen_begin() nobody can connect to a daemon that may yet fail to start.
 * On failure error holds one line and nothing is left open.
 */
int listen_open(struct listen_sockets *l, const struct config *c, uid_t owner, char *error,
		size_t error_size);
int listen_begin(struct listen_sockets *l);
/* Closes all; removes the files of those made here. */
void listen_close(struct listen_sockets *l);
/* May the peer of this connection speak to this socket?  By SO_PEERCRED and SO_PEERGROUPS. */
bool listen_allows(const struct listen_sockets *l, enum nolog_role role, int fd, uid_t *uid);

/* "sessions", "usage", ...: the socket's name without ".sock". */
const char *listen_role_name(enum nolog_role role);

#endif
