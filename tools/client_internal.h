/* SPDX-License-Identifier: ISC */
/*
 * What the files of the client library share and nobody else sees: finding and
 * connecting a socket.  Hidden, so that neither the shared library exports it
 * nor the version script has to know.
 */
#ifndef NOLOG_CLIENT_INTERNAL_H
#define NOLOG_CLIENT_INTERNAL_H

#include <nolog/client.h>

#include <sys/un.h>

#define NOLOG_HIDDEN __attribute__((visibility("hidden")))

/* The address of a role's socket in run_dir (NULL: the default); -ENAMETOOLONG. */
NOLOG_HIDDEN int nolog_socket_address(struct sockaddr_un *out, const char *run_dir,
				      enum nolog_role role);

/*
 * A connected socket, non-blocking and closed on exec, or a negative errno.
 * wait_ms 0: at once or -EAGAIN; else -EAGAIN if nologd has not taken the
 * connection in that time.
 */
NOLOG_HIDDEN int nolog_socket_connect(const struct sockaddr_un *address, int wait_ms);

/* Milliseconds of CLOCK_MONOTONIC. */
NOLOG_HIDDEN int64_t nolog_monotonic_ms(void);

#endif
