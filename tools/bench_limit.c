/* SPDX-License-Identifier: ISC */
/*
 * bench_limit: see bench_limit.h.  The only tool that includes <lmdb.h>: the
 * physical limit that DESIGN's targets are held against is LMDB's own.
 */
#include "bench_limit.h"

#include "seal.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECORD 48
#define PER_COMMIT 1000
#define VALUE 4080 /* one page, as the daemon's blocks are */
#define SYNCS 400
#define CHUNK (64 * 1024)
#define BLOCK 4000

static double now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int from_mdb(int r)
{
	return r > 0 ? -r : r < 0 ? -EIO : 0;
}

/* One commit of PER_COMMIT records in one-page values, appended. */
static int append(MDB_env *env, MDB_dbi dbi, uint64_t *key, const uint8_t *value)
{
	size_t left = (size_t)PER_COMMIT * RECORD;
	MDB_txn *txn;
	int r = mdb_txn_begin(env, NULL, 0, &txn);

	if (r)
		return from_mdb(r);
	while (left && r == 0) {
		size_t n = left < VALUE ? left : VALUE;
		MDB_val k = { sizeof(*key), key }, v = { n, NULL };

		r = mdb_put(txn, dbi, &k, &v, MDB_APPEND | MDB_RESERVE);
		if (r == 0)
			memcpy(v.mv_data, value, n);
		(*key)++;
		left -= n;
	}
	if (r) {
		mdb_txn_abort(txn);
		return from_mdb(r);
	}
	return from_mdb(mdb_txn_commit(txn));
}

static int open_env(MDB_env **env, MDB_dbi *dbi, const char *path)
{
	MDB_txn *txn;
	int r = mdb_env_create(env);

	if (r)
		return from_mdb(r);
	if ((r = mdb_env_set_mapsize(*env, (size_t)16 << 30)) ||
	    (r = mdb_env_open(*env, path, MDB_NOSUBDIR, 0600)) ||
	    (r = mdb_txn_begin(*env, NULL, 0, &txn))) {
		mdb_env_close(*env);
		return from_mdb(r);
	}
	r = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, dbi);
	if (r == 0)
		r = mdb_txn_commit(txn);
	else
		mdb_txn_abort(txn);
	if (r)
		mdb_env_close(*env);
	return from_mdb(r);
}

static int measure_lmdb(double *events_s, const char *dir, double seconds)
{
	static uint8_t value[VALUE];
	char path[4096], lock[4110];
	uint64_t key = 1, commits = 0;
	MDB_env *env = NULL;
	MDB_dbi dbi = 0;
	double began;
	int r;

	(void)snprintf(path, sizeof(path), "%s/bench-limit.mdb", dir);
	(void)snprintf(lock, sizeof(lock), "%s-lock", path);
	seal_random(value, sizeof(value));
	r = open_env(&env, &dbi, path);
	if (r == 0) {
		began = now_s();
		while (r == 0 && now_s() - began < seconds) {
			r = append(env, dbi, &key, value);
			commits++;
		}
		*events_s = (double)commits * PER_COMMIT / (now_s() - began);
		mdb_env_close(env);
	}
	(void)unlink(path);
	(void)unlink(lock);
	return r;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int measure_sync(double *us, const char *dir)
{
	static double times[SYNCS];
	static uint8_t page[4096];
	char path[4096];
	int fd, r = 0;

	(void)snprintf(path, sizeof(path), "%s/bench-limit.sync", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < SYNCS && r == 0; i++) {
		double began = now_s();

		page[0] = (uint8_t)i;
		if (pwrite(fd, page, sizeof(page), 0) != (ssize_t)sizeof(page) || fdatasync(fd) < 0)
			r = -errno;
		times[i] = (now_s() - began) * 1e6;
	}
	close(fd);
	(void)unlink(path);
	qsort(times, SYNCS, sizeof(times[0]), compare);
	*us = times[SYNCS / 2];
	return r;
}

static void *drain(void *arg)
{
	static uint8_t buffer[CHUNK];
	int fd = *(int *)arg;

	while (recv(fd, buffer, sizeof(buffer), 0) > 0) {
	}
	return NULL;
}

static int measure_socket(double *frames_s, double seconds)
{
	static uint8_t chunk[CHUNK];
	double began, sent = 0;
	pthread_t reader;
	int fd[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return -errno;
	r = pthread_create(&reader, NULL, drain, &fd[1]);
	if (r == 0) {
		began = now_s();
		while (now_s() - began < seconds) {
			ssize_t n = send(fd[0], chunk, sizeof(chunk), MSG_NOSIGNAL);

			if (n < 0)
				break;
			sent += (double)n;
		}
		*frames_s = sent / 64 / (now_s() - began);
		(void)shutdown(fd[0], SHUT_WR);
		(void)pthread_join(reader, NULL);
	}
	close(fd[0]);
	close(fd[1]);
	return -r;
}

static void measure_seal(double *mib_s, double seconds)
{
	static uint8_t in[BLOCK], out[BLOCK + SEAL_OVERHEAD];
	struct seal_place place = { .file = SEAL_FILE_SESSIONS };
	struct seal_key key;
	double began = now_s(), bytes = 0;

	seal_random(&key, sizeof(key));
	while (now_s() - began < seconds) {
		for (int i = 0; i < 100; i++) {
			place.block++;
			seal_block(out, &key, &place, in, sizeof(in));
		}
		bytes += 100.0 * BLOCK;
	}
	*mib_s = bytes / (1024 * 1024) / (now_s() - began);
}

int bench_limits(struct bench_limits *out, const char *dir, double seconds)
{
	int r;

	memset(out, 0, sizeof(*out));
	r = measure_lmdb(&out->lmdb_events_s, dir, seconds);
	if (r == 0)
		r = measure_sync(&out->fdatasync_us, dir);
	if (r == 0)
		r = measure_socket(&out->socket_frames_s, seconds / 4);
	if (r == 0)
		measure_seal(&out->seal_mib_s, seconds / 4);
	return r;
}
