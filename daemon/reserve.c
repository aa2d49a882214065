/* SPDX-License-Identifier: ISC */
/*
 * reserve: writes zeros where a file will grow, before it has to.  Knows no
 * format: it writes only where the file reads as zeros or ends.
 */
#include "reserve.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((off_t)1 << 17)

static const char zeros[PIECE];

static bool no_room(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

/* Zeros from at to end; *at tells how far it came. */
static int write_zeros(int fd, off_t *at, off_t end)
{
	while (*at < end) {
		off_t left = end - *at;
		ssize_t n = pwrite(fd, zeros, (size_t)(left < PIECE ? left : PIECE), *at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		*at += n;
	}
	return 0;
}

/* Gives the file's holes their space; a hole reads as zeros before and after. */
static int fill_holes(int fd, off_t size)
{
	off_t at = 0;

	while (at < size) {
		off_t hole = lseek(fd, at, SEEK_HOLE);
		off_t data;
		int r;

		if (hole < 0)
			return errno == EINVAL || errno == ENXIO ? 0 : -errno; /* it cannot tell */
		if (hole >= size)
			return 0;
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0 && errno != ENXIO)
			return -errno;
		if (data < 0 || data > size)
			data = size; /* a hole to the end */
		at = hole;
		r = write_zeros(fd, &at, data);
		if (r < 0)
			return r;
	}
	return 0;
}

int reserve_upto(int fd, off_t *have, off_t upto, off_t step)
{
	struct stat st;
	off_t at = *have, target;
	int r;

	if (at >= upto)
		return 0;
	if (at == 0) {
		if (fstat(fd, &st) < 0)
			return -errno;
		r = fill_holes(fd, st.st_size);
		if (r < 0)
			return r;
		at = st.st_size;
	}
	target = step > 0 ? (upto + step - 1) / step * step : upto;
	r = at < upto ? write_zeros(fd, &at, target) : 0;
	if (r < 0 && !(no_room(r) && at >= upto))
		return r;
	/* a delayed allocation may find no room only now */
	if (fdatasync(fd) < 0)
		return -errno;
	*have = at;
	return 0;
}
