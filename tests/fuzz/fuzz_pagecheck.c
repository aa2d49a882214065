/* SPDX-License-Identifier: ISC */
/*
 * pagecheck: whatever the file, no fault of memory; and what it calls sound,
 * LMDB can read to the end, change and read again, without a crash.
 *
 * The seeds are real files.  Under libFuzzer the mutator aims at what gives a
 * page its structure; blind changes would mostly meet values.
 */
#include "fuzz.h"
#include "pagecheck.h"

#include <nolog/frame.h>

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define MAP_SIZE ((size_t)64 << 20)

static void must(int ok)
{
	if (!ok)
		abort();
}

static MDB_env *env_of(int fd, unsigned flags)
{
	char path[40];
	MDB_env *env;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must(mdb_env_create(&env) == 0);
	must(mdb_env_set_mapsize(env, MAP_SIZE) == 0);
	must(mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | flags, 0600) == 0);
	return env;
}

/* Reads every byte of every value; returns how many entries there are. */
static uint64_t read_all(MDB_txn *txn, MDB_dbi dbi)
{
	MDB_val key, value;
	MDB_cursor *cursor;
	uint64_t n = 0;
	uint8_t sum = 0;
	int rc;

	must(mdb_cursor_open(txn, dbi, &cursor) == 0);
	for (rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0; n++) {
		MDB_val again, same = key;

		for (size_t i = 0; i < value.mv_size; i++)
			sum = (uint8_t)(sum + ((const uint8_t *)value.mv_data)[i]);
		must(mdb_get(txn, dbi, &same, &again) == 0 && again.mv_data == value.mv_data);
		rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	must(rc == MDB_NOTFOUND);
	mdb_cursor_close(cursor);
	__asm__ volatile("" : : "r"(sum)); /* it was read */
	return n;
}

/* A change such as nologd makes: one end grows, the other is cut. */
static void change(MDB_env *env)
{
	uint8_t block[4044] = { 1 };
	uint64_t number = UINT64_MAX;
	MDB_val key = { sizeof(number), &number }, value = { sizeof(block), block };
	MDB_cursor *cursor;
	MDB_txn *txn;
	MDB_dbi dbi;

	must(mdb_txn_begin(env, NULL, 0, &txn) == 0);
	must(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &dbi) == 0);
	must(mdb_put(txn, dbi, &key, &value, 0) == 0);
	must(mdb_cursor_open(txn, dbi, &cursor) == 0);
	for (int i = 0; i < 3; i++)
		if (mdb_cursor_get(cursor, &key, &value, MDB_FIRST) == 0)
			must(mdb_cursor_del(cursor, 0) == 0);
	mdb_cursor_close(cursor);
	must(mdb_txn_commit(txn) == 0);
}

static void use(int fd, uint64_t entries)
{
	MDB_env *env = env_of(fd, 0);
	MDB_txn *txn;
	MDB_dbi dbi;

	must(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) == 0);
	must(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &dbi) == 0);
	must(read_all(txn, dbi) == entries);
	mdb_txn_abort(txn);
	for (int i = 0; i < 3; i++)
		change(env);
	must(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) == 0);
	(void)read_all(txn, dbi);
	mdb_txn_abort(txn);
	mdb_env_close(env);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pagecheck_result result = { 0 };
	struct fault fault = { 0 };
	int fd = memfd_create("pagecheck", MFD_CLOEXEC);
	int shallow, deep;

	must(fd >= 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	shallow = pagecheck_fd(fd, "seed", false, &result, &fault);
	deep = pagecheck_fd(fd, "seed", true, &result, &fault);
	must(deep == 0 || (deep < 0 && fault.error == deep && fault.what));
	must(deep < 0 || shallow == 0); /* deep finds more, never less */
	if (deep == 0 && size > 0)
		use(fd, result.entries);
	(void)close(fd); /* memory */
	return 0;
}

/* --- Seeds: real files of every shape --- */

struct shape {
	unsigned commits, puts; /* in each */
	size_t value;		/* bytes, up to */
	unsigned cut;		/* deleted at the front in each commit */
	int scattered;		/* not appended */
};

static const struct shape shapes[] = {
	{ 0, 0, 0, 0, 0 },	  /* nothing written yet */
	{ 1, 1, 12, 0, 0 },	  /* one leaf */
	{ 3, 2, 4044, 0, 0 },	  /* blocks */
	{ 12, 4, 4044, 3, 0 },	  /* a ring with a free list */
	{ 4, 60, 100, 20, 0 },	  /* values inside leaves, two levels */
	{ 30, 3, 12000, 3, 1 },	  /* values of several pages */
	{ 3, 2000, 24, 100, 1 },  /* pages half full */
	{ 2, 9000, 4, 0, 1 },	  /* three levels */
	{ 2, 120, 4044, 119, 0 }, /* a long free list */
	{ 6, 1, 20, 1, 0 },	  /* emptied again and again */
};

static void shape_commit(MDB_env *env, const struct shape *s, uint64_t *number)
{
	static uint8_t bytes[16384];
	MDB_cursor *cursor;
	MDB_val key, value;
	MDB_txn *txn;
	MDB_dbi dbi;

	must(mdb_txn_begin(env, NULL, 0, &txn) == 0);
	must(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &dbi) == 0);
	for (unsigned i = 0; i < s->puts; i++) {
		uint64_t n = ++*number;

		if (s->scattered)
			n = n * UINT64_C(0x9e3779b97f4a7c15);
		memset(bytes, (int)n & 0xff, sizeof(bytes));
		key = (MDB_val){ sizeof(n), &n };
		value = (MDB_val){ s->scattered ? 1 + n % s->value : s->value, bytes };
		must(mdb_put(txn, dbi, &key, &value, s->scattered ? 0 : MDB_APPEND) == 0);
	}
	must(mdb_cursor_open(txn, dbi, &cursor) == 0);
	for (unsigned i = 0; i < s->cut; i++)
		if (mdb_cursor_get(cursor, &key, &value, MDB_FIRST) == 0)
			must(mdb_cursor_del(cursor, 0) == 0);
	mdb_cursor_close(cursor);
	must(mdb_txn_commit(txn) == 0);
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	uint64_t number = 0;
	struct stat st;
	MDB_env *env;
	int fd;

	if (n >= sizeof(shapes) / sizeof(shapes[0]))
		return 0;
	fd = memfd_create("seed", MFD_CLOEXEC);
	must(fd >= 0);
	env = env_of(fd, 0);
	for (unsigned i = 0; i < shapes[n].commits; i++)
		shape_commit(env, &shapes[n], &number);
	mdb_env_close(env);
	must(fstat(fd, &st) == 0 && (size_t)st.st_size <= max);
	must(pread(fd, out, (size_t)st.st_size, 0) == st.st_size);
	(void)close(fd); /* memory */
	return (size_t)st.st_size;
}

/* --- libFuzzer's hook --- */

__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);

/* A place in a page that LMDB trusts. */
static size_t trusted_place(const uint8_t *page, unsigned random)
{
	size_t nodes = nolog_get16(page + 12) / 2u;
	size_t node;

	if (random % 4 == 0 || nodes <= 8 || nodes > PAGE / 2)
		return random / 4 % 160; /* headers, meta pages */
	node = 16 + random / 4 % (nodes - 8) * 2;
	if (random % 4 == 1)
		return node;
	return (nolog_get16(page + node) + random / 4096 % 24) % PAGE;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
	unsigned state = seed;
	size_t pages = size / PAGE, at;

	if (pages < 2 || seed % 8 == 0)
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(data, size, max) : size;
	for (unsigned i = 0; i <= seed % 3; i++) {
		unsigned kind = (unsigned)rand_r(&state) % 4, value = (unsigned)rand_r(&state);
		uint8_t *page = data + (unsigned)rand_r(&state) % pages * PAGE;

		at = trusted_place(page, (unsigned)rand_r(&state) ^ (unsigned)rand_r(&state) << 15);
		if (kind == 0)
			page[at] = (uint8_t)value;
		else if (kind == 1)
			page[at] = (uint8_t)(value % (pages + 2));
		else if (kind == 2)
			page[at] ^= (uint8_t)(1u << value % 8);
		else
			memmove(page + at, data + value % (size - 8),
				PAGE - at < 8 ? PAGE - at : 8);
	}
	return size;
}
