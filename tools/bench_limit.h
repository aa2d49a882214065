/* SPDX-License-Identifier: ISC */
/* bench_limit: what this machine could do at most, measured in the same run. */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stddef.h>
#include <stdint.h>

struct bench_limits {
	double lmdb_events_s;	/* 48-byte records appended to LMDB, one durable commit per 1,000 */
	double fdatasync_us;	/* median of one 4 KiB overwrite and fdatasync */
	double socket_frames_s; /* 64-byte frames through a Unix socket to another thread */
	double seal_mib_s;	/* XChaCha20-Poly1305 over 4,000-byte blocks */
};

/*
 * Measures all of them in files below dir, which are removed.  seconds is
 * about how long each takes.  0 or -errno.
 */
int bench_limits(struct bench_limits *out, const char *dir, double seconds);

#endif
