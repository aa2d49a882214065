/* SPDX-License-Identifier: ISC */
/*
 * ctl_ask: asking nologd and reading an account's name.  Prints no name and
 * keeps none.
 */
#include "ctl_ask.h"

#include "ctl_out.h"

#include <errno.h>
#include <unistd.h>

const char *ctl_run_dir(const struct ctl_args *args)
{
	return args->run ? args->run : NOLOG_RUN_DIR;
}

void ctl_ask_failed(const struct ctl_args *args, enum nolog_role role, int error)
{
	const char *dir = ctl_run_dir(args), *name = nolog_socket_name(role);

	switch (-error) {
	case ENOENT:
	case ENOTDIR:
	case ECONNREFUSED:
		ctl_say("%s/%s: no nologd answers there (%s); is it running? --run names another "
			"directory",
			dir, name, strerror(-error));
		break;
	case EACCES:
	case EPERM:
		ctl_say("%s/%s: permission denied; its group in nologd.conf may connect", dir,
			name);
		break;
	case EPIPE:
		ctl_say("%s/%s: nologd closed the connection before it had answered; it does so "
			"when this user is not in the socket's group, and when it ends",
			dir, name);
		break;
	case ETIMEDOUT:
		ctl_say("%s/%s: nologd does not answer", dir, name);
		break;
	case EPROTO:
		ctl_say("%s/%s: what answers there is not nologd, or not of this version", dir,
			name);
		break;
	default:
		ctl_say("%s/%s: %s", dir, name, strerror(-error));
		break;
	}
}

int ctl_ask(const struct ctl_args *args, enum nolog_role role, const struct nolog_frame *request,
	    nolog_answer_fn *answer, void *arg, struct nolog_frame *end, int timeout_ms)
{
	struct nolog_query *q;
	int r;

	memset(end, 0, sizeof(*end));
	r = nolog_query_open(&q, ctl_run_dir(args), role);
	if (r < 0) {
		ctl_ask_failed(args, role, r);
		return r;
	}
	r = nolog_query_ask(q, request, answer, arg, end, timeout_ms);
	nolog_query_close(q);
	if (r == 0)
		return 0;
	if (end->type == NOLOG_REFUSED)
		ctl_say("%s/%s: nologd refuses: %s (%u)", ctl_run_dir(args),
			nolog_socket_name(role), nolog_refusal_text(end->code), end->code);
	else
		ctl_ask_failed(args, role, r);
	return r;
}

/* Reads to the end, at most size bytes. */
static ssize_t read_all(int fd, char *at, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = read(fd, at + n, size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
		/* A user at a terminal ends the line, not the file. */
		if (isatty(fd) && at[n - 1] == '\n')
			break;
	}
	return (ssize_t)n;
}

int ctl_ask_account(uint8_t out[NOLOG_ACCOUNT_SIZE], int fd)
{
	char name[CTL_ACCOUNT_BYTES + 2]; /* its newline, and one byte to see that it is too long */
	const char *wrong = NULL;
	ssize_t n;

	if (isatty(fd))
		(void)fputs("account: ", stderr);
	n = read_all(fd, name, sizeof(name));
	if (n < 0) {
		ctl_say("standard input: %s", strerror((int)-n));
		return (int)n;
	}
	if (n > 0 && name[n - 1] == '\n')
		n--;
	if (n == 0)
		wrong = "is empty; the account's name is expected there, in one line";
	else if (memchr(name, '\n', (size_t)n))
		wrong = "has more than one line; one account's name is expected";
	else if (n > CTL_ACCOUNT_BYTES)
		wrong = "has a line of more than 4096 bytes; that is no account's name";
	else
		nolog_account(out, name, (size_t)n);
	explicit_bzero(name, sizeof(name));
	if (!wrong)
		return 0;
	ctl_say("standard input %s", wrong);
	return -EINVAL;
}
