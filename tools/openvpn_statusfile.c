/* SPDX-License-Identifier: ISC */
/* openvpn_statusfile: see the header. */
#include "openvpn_statusfile.h"

#include <errno.h>
#include <fcntl.h>
#include <nolog/client.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES_MAX 20 /* a file that never rests is left alone until the next tick */

void openvpn_statusfile_set(struct openvpn_statusfile *s, const char *path, int64_t tick_ms,
			    int64_t now_ms)
{
	size_t len = strnlen(path, sizeof(s->path) - 1);

	s->tick_ms = tick_ms;
	if (strcmp(path, s->path) == 0) {
		/* A shorter tick counts from now, not after a longer one. */
		if (s->path[0] && s->due_ms > now_ms + tick_ms)
			s->due_ms = now_ms + tick_ms;
		return;
	}
	openvpn_statusfile_done(s);
	s->has_seen = false;
	s->tries = 0;
	memcpy(s->path, path, len);
	s->path[len] = '\0';
	s->due_ms = now_ms;
}

void openvpn_statusfile_hurry(struct openvpn_statusfile *s, int64_t now_ms)
{
	s->due_ms = now_ms;
	s->hurried = s->path[0] != '\0';
}

bool openvpn_statusfile_busy(const struct openvpn_statusfile *s)
{
	return s->hurried;
}

int64_t openvpn_statusfile_due(const struct openvpn_statusfile *s)
{
	return s->path[0] ? s->due_ms : INT64_MAX;
}

static void wipe(char *text, size_t len)
{
	if (text)
		explicit_bzero(text, len);
	free(text);
}

void openvpn_statusfile_done(struct openvpn_statusfile *s)
{
	wipe(s->text, s->len);
	s->text = NULL;
	s->len = 0;
}

/* Reads fd to its end, which it must reach within size bytes. */
static int read_all(int fd, char *text, size_t size, size_t *len)
{
	size_t n = 0;

	while (n < size) {
		ssize_t r = read(fd, text + n, size - n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0) {
			*len = n;
			return 0;
		}
		n += (size_t)r;
	}
	return -EAGAIN; /* it has grown since */
}

static int read_file(struct openvpn_statusfile *s, char **text, size_t *len)
{
	/* A FIFO of that name must not stop us. */
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	size_t size;
	char *buffer;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > OPENVPN_STATUS_MAX) {
		(void)close(fd);
		return -EINVAL;
	}
	size = (size_t)st.st_size + 1;
	buffer = malloc(size);
	r = buffer ? read_all(fd, buffer, size, len) : -ENOMEM;
	(void)close(fd);
	if (r < 0) {
		wipe(buffer, size);
		return r;
	}
	s->written_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
	*text = buffer;
	return 0;
}

/* Nothing more before the next tick. */
static void rest(struct openvpn_statusfile *s, int64_t now_ms)
{
	s->due_ms = now_ms + s->tick_ms;
	s->hurried = false;
	s->has_seen = false;
	s->tries = 0;
}

/* Whether this is what was read before; takes it down for the next time. */
static bool seen_before(struct openvpn_statusfile *s, const char *text, size_t len)
{
	uint8_t hash[NOLOG_ACCOUNT_SIZE];
	bool same;

	nolog_account(hash, text, len); /* a hash as good as any */
	same = s->has_seen && memcmp(s->seen, hash, sizeof(hash)) == 0;
	memcpy(s->seen, hash, sizeof(hash));
	s->has_seen = true;
	return same;
}

int openvpn_statusfile_step(struct openvpn_statusfile *s, int64_t now_ms, const char **text,
			    size_t *len)
{
	char *read = NULL;
	size_t read_len = 0;
	int r;

	if (now_ms < openvpn_statusfile_due(s))
		return 0;
	openvpn_statusfile_done(s);
	r = read_file(s, &read, &read_len);
	if (r < 0 && r != -EAGAIN) {
		rest(s, now_ms);
		return r;
	}
	if (r == 0 && seen_before(s, read, read_len)) {
		rest(s, now_ms);
		*text = s->text = read;
		*len = s->len = read_len;
		return 1;
	}
	s->has_seen = r == 0;
	wipe(read, read_len);
	s->due_ms = now_ms + OPENVPN_SETTLE_MS;
	if (++s->tries < TRIES_MAX)
		return 0;
	rest(s, now_ms);
	return -EBUSY;
}
