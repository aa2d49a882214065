/* SPDX-License-Identifier: ISC */
/*
 * The client library's common ground: names, the account hash, sockets.
 * Knows nothing of streams, queues or answers; see client_reporter.c and
 * client_query.c for those.
 */
#include "client_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

const char *nolog_socket_name(enum nolog_role role)
{
	static const char *const names[NOLOG_ROLES] = {
		[NOLOG_ROLE_SESSIONS] = "sessions.sock", [NOLOG_ROLE_USAGE] = "usage.sock",
		[NOLOG_ROLE_LOOKUP] = "lookup.sock",	 [NOLOG_ROLE_QUOTA] = "quota.sock",
		[NOLOG_ROLE_ADMIN] = "admin.sock",
	};

	return (unsigned)role < NOLOG_ROLES ? names[role] : NULL;
}

const char *nolog_refusal_text(unsigned code)
{
	static const char *const texts[] = {
		[NOLOG_OK] = "not refused",
		[NOLOG_MALFORMED] = "malformed",
		[NOLOG_UNKNOWN_TYPE] = "unknown type",
		[NOLOG_BAD_VERSION] = "unknown version",
		[NOLOG_WRONG_SOCKET] = "not on this socket",
		[NOLOG_BAD_SEQUENCE] = "out of sequence",
		[NOLOG_UNKNOWN_HANDLE] = "unknown handle",
		[NOLOG_HANDLE_OPEN] = "handle already open",
		[NOLOG_TIME_RANGE] = "time out of range",
		[NOLOG_IP_NOT_ALLOWED] = "address not allowed",
		[NOLOG_SERVER_NOT_ALLOWED] = "server not allowed",
		[NOLOG_DAY_FORGOTTEN] = "that day is forgotten",
		[NOLOG_OVER_CAPACITY] = "over capacity",
	};

	if (code < sizeof(texts) / sizeof(texts[0]) && texts[code])
		return texts[code];
	return "refused for a reason unknown here";
}

void nolog_account(uint8_t out[NOLOG_ACCOUNT_SIZE], const void *name, size_t len)
{
	static_assert(NOLOG_ACCOUNT_SIZE >= crypto_generichash_BYTES_MIN &&
			      NOLOG_ACCOUNT_SIZE <= crypto_generichash_BYTES_MAX,
		      "an account is one hash");

	/* Fails only for lengths that the assertion has excluded. */
	(void)crypto_generichash(out, NOLOG_ACCOUNT_SIZE, name, len, NULL, 0);
}

int nolog_socket_address(struct sockaddr_un *out, const char *run_dir, enum nolog_role role)
{
	const char *name = nolog_socket_name(role);
	size_t dir_len, name_len;

	if (!name)
		return -EINVAL;
	if (!run_dir)
		run_dir = NOLOG_RUN_DIR;
	dir_len = strlen(run_dir);
	name_len = strlen(name);
	/* A path that is cut would be another socket. */
	if (dir_len == 0)
		return -EINVAL;
	if (dir_len + 1 + name_len + 1 > sizeof(out->sun_path))
		return -ENAMETOOLONG;
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	memcpy(out->sun_path, run_dir, dir_len);
	out->sun_path[dir_len] = '/';
	memcpy(out->sun_path + dir_len + 1, name, name_len);
	return 0;
}

int nolog_socket_connect(const struct sockaddr_un *address, int wait_ms)
{
	/* For Unix sockets connect(2) waits while the backlog is full, as long as a send may. */
	struct timeval wait = { .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	int fd, r;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait_ms > 0 ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0)
		return -errno;
	if (wait_ms > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		goto fail;
	do
		r = connect(fd, (const struct sockaddr *)address, sizeof(*address));
	while (r < 0 && errno == EINTR);
	if (r < 0 || (wait_ms > 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0))
		goto fail;
	return fd;
fail:
	r = -errno;
	(void)close(fd);
	return r;
}

int64_t nolog_monotonic_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail: the clock exists */
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
