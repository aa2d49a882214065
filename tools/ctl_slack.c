/* SPDX-License-Identifier: ISC */
/* ctl_slack: see ctl_slack.h. */
#include "ctl_slack.h"

#include "pagecheck.h"

#include <nolog/frame.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_MAX 32768
#define PAGE_HEADER 16
#define KIND_BRANCH 0x01
#define KIND_LEAF 0x02
#define KIND_OVERFLOW 0x04

/* Bytes read, fewer only at the end of the file, or -1. */
static ssize_t read_at(int fd, uint8_t *out, size_t len, uint64_t offset)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, out + have, len - have, (off_t)(offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static bool zeros(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* A page of a free list that is longer than one: numbers of pages, highest first, then nothing. */
static bool free_list(const uint8_t *p, size_t n)
{
	uint64_t before = UINT32_MAX;
	size_t i = 0;

	for (; i + 8 <= n && nolog_get64(p + i) != 0; i += 8) {
		if (nolog_get64(p + i) >= before)
			return false;
		before = nolog_get64(p + i);
	}
	return zeros(p + i, n - i);
}

static bool begins_page(const uint8_t *p, uint64_t number)
{
	uint16_t kind = nolog_get16(p + 10);

	return nolog_get64(p) == number &&
	       (kind == KIND_BRANCH || kind == KIND_LEAF || kind == KIND_OVERFLOW);
}

/* The first page from `from` on that nobody wrote who writes pages; 0: none. */
static uint64_t strange_page(int fd, uint64_t from, size_t psize)
{
	uint8_t page[PAGE_MAX];

	for (uint64_t number = from;; number++) {
		ssize_t n = read_at(fd, page, psize, number * psize);

		if (n <= 0)
			return 0;
		if (zeros(page, (size_t)n) || free_list(page, (size_t)n))
			continue;
		if ((size_t)n < psize || !begins_page(page, number))
			return number;
	}
}

const char *ctl_slack_data(int fd)
{
	long psize = sysconf(_SC_PAGESIZE);
	uint64_t last, strange, txn;

	if (psize < 512 || psize > PAGE_MAX || pagecheck_newest(fd, &txn, &last) < 0 || txn == 0)
		return NULL;
	strange = strange_page(fd, last + 1, (size_t)psize);
	/* Pages are written before the meta page says that they are used. */
	while (strange && pagecheck_newest(fd, &txn, &last) == 0 && last >= strange)
		strange = strange_page(fd, last + 1, (size_t)psize);
	return strange ? "something stands behind its last used page" : NULL;
}

/* --- Lock files --- */

/*
 * LMDB's lock region: what it is and the readers' mutex, the writer's mutex,
 * each rounded to a cache line, and a line for each reader: transaction,
 * process, thread.
 */
#define LOCK_SIZE 4096 /* as journal.c and dayfile.c make it */
#define LINE 64
#define MAGIC UINT32_C(0xbeefc0de)
#define TO_LINE(n) (((n) + LINE - 1) / LINE * LINE)
#define FIRST_END (8 + sizeof(pthread_mutex_t) + 12)
#define SECOND TO_LINE(FIRST_END)
#define SECOND_END (SECOND + sizeof(pthread_mutex_t))
#define READERS TO_LINE(SECOND_END)
#define READER_END 24

const char *ctl_slack_lock(int fd)
{
	static const char strange[] = "is no lock file of LMDB: something else stands in it";
	uint8_t bytes[LOCK_SIZE + 1];
	ssize_t n = read_at(fd, bytes, sizeof(bytes), 0);

	if (n < 0)
		return "cannot be read";
	if (n > LOCK_SIZE)
		return strange;
	if (zeros(bytes, (size_t)n))
		return NULL;
	if (n < LOCK_SIZE || nolog_get32(bytes) != MAGIC)
		return strange;
	if (!zeros(bytes + FIRST_END, SECOND - FIRST_END) ||
	    !zeros(bytes + SECOND_END, READERS - SECOND_END))
		return strange;
	for (size_t at = READERS; at < LOCK_SIZE; at += LINE)
		if (!zeros(bytes + at + READER_END, LINE - READER_END))
			return strange;
	return NULL;
}
