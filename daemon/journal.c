/* SPDX-License-Identifier: ISC */
/*
 * journal: sealed blocks of effects in an LMDB file, by number.
 *
 *	key 0                    u32 format, u32 ~format, u32 book: plain numbers
 *	key batch << 16 | index  u32 epoch in clear, sealed (u64 batch, u16 index,
 *	                         u16 blocks in the batch, u16 count, u16 0, effects)
 *
 * A value of at most 4,080 bytes takes exactly one of LMDB's overflow pages.
 * Blocks are appended at one end and deleted at the other, so the file is a
 * ring that keeps its size.  It refuses to know what an effect means.
 */
#include "journal.h"

#include "pagecheck.h"
#include "reserve.h"
#include "seal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_EFFECTS 83
#define BLOCKS_MAX 65535 /* of a batch; JOURNAL_BATCH_MAX */
#define EPOCH_SIZE 4
#define HEADER_SIZE 16
#define BLOCK_LEAST (EPOCH_SIZE + SEAL_OVERHEAD + HEADER_SIZE)
#define PLAIN_MAX (HEADER_SIZE + BLOCK_EFFECTS * EFFECT_SIZE)
#define BATCH_MAX ((UINT64_C(1) << 48) - 1)
#define FIRST_KEY (UINT64_C(1) << 16)
#define FORMAT_SIZE 12

#define READERS 16
#define LOCK_BYTES 4096 /* more than LMDB's lock file for so many */
#define MAP_BYTES ((size_t)64 << 30)
#define RESERVE_BYTES ((size_t)4 << 20)
#define CUT_LEAST 256	 /* blocks that one commit may always delete */
#define READ_BLOCKS 256	 /* in one read transaction */
#define TRIM_BLOCKS 4096 /* LMDB keeps the memory of the largest commit */
#define CHECK_TRIES 3	 /* of a file that is being written */

static_assert(BLOCK_LEAST + BLOCK_EFFECTS * EFFECT_SIZE <= 4080, "a block is one page");
static_assert(JOURNAL_BATCH_MAX == (size_t)BLOCKS_MAX * BLOCK_EFFECTS, "as journal.h says");

struct journal {
	MDB_env *env;
	MDB_dbi dbi;
	char *path;
	char name[32];
	struct keyring *keyring;
	enum keyring_book book;
	size_t map, step;
	bool readonly, live, replayed, failed;
	off_t have;	      /* reserved so far */
	uint64_t first, last; /* batches, 0: none */
	uint64_t old_last;    /* the newest batch not under epoch, 0: none */
	uint64_t effects;
	uint32_t epoch; /* of new blocks */
	struct seal_place place;
	uint8_t plain[PLAIN_MAX];
};

/* LMDB's codes end here. */
static int translate(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
		return -ENOSPC;
	case MDB_TXN_FULL:
		return -E2BIG;
	case MDB_READERS_FULL:
		return -EBUSY;
	case MDB_VERSION_MISMATCH:
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
		return -EBADMSG;
	default:
		return rc > 0 ? -rc : -EIO;
	}
}

static size_t blocks_of(size_t n)
{
	return (n + BLOCK_EFFECTS - 1) / BLOCK_EFFECTS;
}

/* --- Opening --- */

/*
 * LMDB writes into its lock file through a mapping, where a full disk is a
 * SIGBUS: its space must be there before.
 */
static int lock_prepare(const char *path)
{
	char lock[PATH_MAX];
	off_t have = 0;
	int fd, r;

	if (snprintf(lock, sizeof(lock), "%s-lock", path) >= (int)sizeof(lock))
		return -ENAMETOOLONG;
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = reserve_upto(fd, &have, LOCK_BYTES, LOCK_BYTES);
	(void)close(fd); /* synced */
	return r;
}

static int env_open(struct journal *j, const char *path, unsigned flags)
{
	int rc;

	if (!(flags & (MDB_RDONLY | MDB_NOLOCK))) {
		rc = lock_prepare(path);
		if (rc < 0)
			return rc;
	}
	rc = mdb_env_create(&j->env);
	if (rc == 0)
		rc = mdb_env_set_maxreaders(j->env, READERS);
	if (rc == 0)
		rc = mdb_env_set_mapsize(j->env, j->map);
	if (rc == 0)
		rc = mdb_env_open(j->env, path, MDB_NOSUBDIR | MDB_NOTLS | flags, 0600);
	if (rc != 0) {
		mdb_env_close(j->env);
		j->env = NULL;
	}
	return translate(rc);
}

static int dir_sync(const char *path)
{
	char copy[PATH_MAX];
	int fd, r;

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, strlen(path) + 1);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	(void)close(fd); /* only read */
	return r;
}

static int format_write(struct journal *j)
{
	uint8_t record[FORMAT_SIZE];
	uint64_t number = 0;
	MDB_val key = { sizeof(number), &number }, value = { sizeof(record), record };
	MDB_txn *txn = NULL;
	int rc = mdb_txn_begin(j->env, NULL, 0, &txn);

	if (rc != 0)
		return translate(rc);
	nolog_put32(record, SEAL_FORMAT);
	nolog_put32(record + 4, ~(uint32_t)SEAL_FORMAT);
	nolog_put32(record + 8, j->book);
	rc = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &j->dbi);
	if (rc == 0)
		rc = mdb_put(txn, j->dbi, &key, &value, 0);
	if (rc == 0)
		return translate(mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return translate(rc);
}

/* Made under another name, so that a file of this name is always whole. */
static int file_make(struct journal *j)
{
	char made[PATH_MAX];
	int r;

	if (snprintf(made, sizeof(made), "%s.new", j->path) >= (int)sizeof(made))
		return -ENAMETOOLONG;
	if (unlink(made) < 0 && errno != ENOENT)
		return -errno;
	r = env_open(j, made, MDB_NOLOCK); /* nobody else knows it, and no lock file stays */
	if (r == 0)
		r = format_write(j);
	if (r == 0)
		r = translate(mdb_env_sync(j->env, 1));
	mdb_env_close(j->env);
	j->env = NULL;
	if (r == 0 && rename(made, j->path) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlink(made); /* r says what was wrong */
		return r;
	}
	return dir_sync(j->path);
}

static int format_check(struct journal *j, MDB_txn *txn, struct fault *fault)
{
	uint64_t number = 0;
	MDB_val key = { sizeof(number), &number }, value;
	const uint8_t *record;
	int rc = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &j->dbi);

	if (rc == 0)
		rc = mdb_get(txn, j->dbi, &key, &value);
	if (rc == MDB_NOTFOUND)
		return fault_set(fault, -EBADMSG, j->name, 0, "it does not say its format");
	if (rc != 0)
		return fault_set(fault, translate(rc), j->name, 0, "cannot be read");
	record = value.mv_data;
	if (value.mv_size < 8 || nolog_get32(record) != ~nolog_get32(record + 4))
		return fault_set(fault, -EBADMSG, j->name, 0, "damaged number of its format");
	if (nolog_get32(record) != SEAL_FORMAT)
		return fault_set(fault, -EPROTO, j->name, 0, "another format version");
	if (value.mv_size != FORMAT_SIZE || nolog_get32(record + 8) != j->book)
		return fault_set(fault, -EBADMSG, j->name, 0, "it is another book's");
	return 0;
}

/* Epochs count from 1: a damaged number must not find the place of no key. */
static int key_of(const struct journal *j, uint32_t epoch, struct seal_key *out)
{
	return epoch ? keyring_journal(j->keyring, j->book, epoch, out) : -ENOKEY;
}

/* The number of the block at op, and whether its key is known.  -ENOENT: none. */
static int end_check(struct journal *j, MDB_cursor *cursor, MDB_cursor_op op, uint64_t *batch,
		     struct fault *fault)
{
	uint64_t number = 1;
	MDB_val key = { sizeof(number), &number }, value;
	struct seal_key unused = { 0 };
	int r = translate(mdb_cursor_get(cursor, &key, &value, op));

	if (r == -ENOENT)
		return r;
	if (r < 0)
		return fault_set(fault, r, j->name, 0, "cannot be read");
	memcpy(&number, key.mv_data, sizeof(number));
	if (number == 0)
		return -ENOENT; /* nothing but the format's record */
	if (number < FIRST_KEY || value.mv_size < BLOCK_LEAST)
		return fault_set(fault, -EBADMSG, j->name, number, "block that cannot be one");
	r = key_of(j, nolog_get32(value.mv_data), &unused);
	seal_wipe(&unused, sizeof(unused));
	if (r == -ENOKEY)
		return fault_set(fault, r, j->name, number, "block under an unknown key");
	*batch = number >> 16;
	return r;
}

static int contents_check(struct journal *j, struct fault *fault)
{
	MDB_cursor *cursor = NULL;
	MDB_txn *txn = NULL;
	int r = translate(mdb_txn_begin(j->env, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return fault_set(fault, r, j->name, 0, "cannot be read");
	r = format_check(j, txn, fault);
	if (r == 0)
		r = translate(mdb_cursor_open(txn, j->dbi, &cursor));
	if (r == 0)
		r = end_check(j, cursor, MDB_SET_RANGE, &j->first, fault);
	if (r == 0)
		r = end_check(j, cursor, MDB_LAST, &j->last, fault);
	if (r == -ENOENT)
		r = 0;
	if (cursor)
		mdb_cursor_close(cursor);
	mdb_txn_abort(txn);
	return r;
}

/*
 * Checks the pages of a file that is being written.  While a reader holds one
 * state, no page of that or of a later one is used again.  Only a meta page may
 * be met half written, so damage must be seen every time.
 */
static int check_pinned(struct journal *j, int fd, struct fault *fault)
{
	MDB_txn *txn = NULL;
	int r = translate(mdb_txn_begin(j->env, NULL, MDB_RDONLY, &txn));

	if (r < 0)
		return fault_set(fault, r, j->name, 0, "cannot be read");
	for (unsigned i = 0; i < CHECK_TRIES; i++) {
		r = pagecheck_fd(fd, j->name, true, NULL, fault);
		if (r != -EBADMSG)
			break;
	}
	mdb_txn_abort(txn);
	return r;
}

/* The same without LMDB.  -EAGAIN: it moved on meanwhile, damage is not proven. */
static int check_still(struct journal *j, int fd, struct fault *fault)
{
	struct pagecheck_result before = { 0 }, after = { 0 };
	int r = pagecheck_fd(fd, j->name, true, &before, fault);
	uint64_t newest;

	if (r != -EBADMSG)
		return r;
	r = pagecheck_fd(fd, j->name, true, &after, fault);
	if (r != -EBADMSG)
		return r;
	if (pagecheck_txn(fd, &newest) < 0)
		newest = after.txn;
	return before.txn == after.txn && newest == after.txn ? r : -EAGAIN;
}

static bool lock_file_there(const char *path)
{
	char lock[PATH_MAX];

	return snprintf(lock, sizeof(lock), "%s-lock", path) < (int)sizeof(lock) &&
	       access(lock, F_OK) == 0;
}

static int open_readonly(struct journal *j, int fd, struct fault *fault)
{
	bool locked = lock_file_there(j->path);
	struct stat st;
	int checked, r;

	if (fstat(fd, &st) == 0 && st.st_size == 0) /* to LMDB it would be a new one */
		return fault_set(fault, -EBADMSG, j->name, 0, "empty file");
	checked = check_still(j, fd, fault);

	if (checked == -EAGAIN && !locked)
		return fault_set(fault, -EBUSY, j->name, 0, "it is being written by others");
	if (checked < 0 && checked != -EAGAIN)
		return checked;
	r = env_open(j, j->path, MDB_RDONLY | (locked ? 0 : MDB_NOLOCK));
	if (locked && (r == -EACCES || r == -EPERM || r == -EROFS)) {
		locked = false; /* a copy that we may only read */
		r = env_open(j, j->path, MDB_RDONLY | MDB_NOLOCK);
	}
	if (r < 0)
		return fault_set(fault, r, j->name, 0, "cannot be opened");
	j->live = locked;
	return checked == -EAGAIN ? check_pinned(j, fd, fault) : 0;
}

static int open_file(struct journal *j, struct fault *fault)
{
	struct pagecheck_result pages = { 0 };
	/* Nonblocking, so that a FIFO in its place is refused and not waited for. */
	int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(j->path, flags);
	int r;

	if (fd < 0 && errno == ENOENT && !j->readonly) {
		r = file_make(j);
		if (r < 0)
			return fault_set(fault, r, j->name, 0, "cannot be made");
		fd = open(j->path, flags);
	}
	if (fd < 0)
		return fault_set(fault, -errno, j->name, 0, "cannot be opened");
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED); /* all of it is read at once */
	if (j->readonly) {
		r = open_readonly(j, fd, fault);
	} else {
		r = pagecheck_fd(fd, j->name, true, &pages, fault);
		if (r == 0 && pages.pages == 0)
			r = fault_set(fault, -EBADMSG, j->name, 0, "empty file");
		if (r == 0) {
			r = env_open(j, j->path, 0);
			if (r < 0)
				(void)fault_set(fault, r, j->name, 0, "cannot be opened");
		}
	}
	(void)close(fd); /* only read */
	return r < 0 ? r : contents_check(j, fault);
}

int journal_open(struct journal **out, const struct journal_options *options, struct fault *fault)
{
	struct journal *j = calloc(1, sizeof(*j));
	struct keyring_journal info;
	int r;

	if (!j)
		return -ENOMEM;
	j->keyring = options->keyring;
	j->book = options->book;
	j->map = options->map_bytes ? options->map_bytes : MAP_BYTES;
	j->step = options->reserve_bytes ? options->reserve_bytes : RESERVE_BYTES;
	j->readonly = options->readonly;
	j->path = strdup(options->path);
	(void)snprintf(j->name, sizeof(j->name), "%s", options->name);
	keyring_store(j->keyring, j->place.store);
	j->place.file = j->book == KEYRING_SESSIONS ? SEAL_FILE_SESSIONS : SEAL_FILE_USAGE;
	keyring_journal_info(j->keyring, j->book, &info);
	j->epoch = info.epoch;
	r = j->path ? open_file(j, fault) : -ENOMEM;
	if (r < 0) {
		journal_close(j);
		return r;
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	mdb_env_close(j->env); /* NULL is fine */
	free(j->path);
	seal_wipe(j->plain, sizeof(j->plain));
	free(j);
}

/* --- Replay --- */

struct replay {
	struct journal *j;
	journal_fn *fn;
	void *arg;
	struct fault *fault;
	struct seal_key key;
	uint32_t key_epoch; /* 0: none yet */
	uint64_t next;	    /* look from this number on */
	uint64_t batch;	    /* the last block's, 0: none yet */
	unsigned index, blocks;
	uint64_t first, old_last, effects;
	bool done;
};

static int replay_bad(const struct replay *r, uint64_t number, const char *what)
{
	return fault_set(r->fault, -EBADMSG, r->j->name, number, what);
}

static int replay_key(struct replay *r, uint32_t epoch, uint64_t number)
{
	int rc;

	if (epoch && epoch == r->key_epoch)
		return 0;
	rc = key_of(r->j, epoch, &r->key);
	if (rc == -ENOKEY)
		return fault_set(r->fault, rc, r->j->name, number, "block under an unknown key");
	if (rc == 0 && epoch < r->key_epoch)
		return replay_bad(r, number, "block under an older key than the one before");
	r->key_epoch = epoch;
	return rc;
}

/* Nothing may be missing between the first block and the last. */
static int replay_follows(struct replay *r, uint64_t number, unsigned blocks)
{
	uint64_t batch = number >> 16;
	unsigned index = number & 0xffff;
	bool complete = r->batch && r->index + 1 == r->blocks;

	if (!r->batch) {
		r->first = batch;
	} else if (complete) {
		if (batch != r->batch + 1)
			return replay_bad(r, number, "a batch before it is missing");
		if (index != 0)
			return replay_bad(r, number, "a block before it is missing");
	} else if (batch != r->batch || index != r->index + 1 || blocks != r->blocks) {
		return replay_bad(r, number, "a block before it is missing");
	}
	r->batch = batch;
	r->index = index;
	r->blocks = blocks;
	return 0;
}

static int replay_block(struct replay *r, uint64_t number, const uint8_t *value, size_t size)
{
	struct journal *j = r->j;
	const uint8_t(*effects)[EFFECT_SIZE] = (const uint8_t(*)[EFFECT_SIZE])(j->plain +
									       HEADER_SIZE);
	size_t count = (size - BLOCK_LEAST) / EFFECT_SIZE;
	unsigned blocks;
	int rc;

	if (number < FIRST_KEY || size < BLOCK_LEAST || (size - BLOCK_LEAST) % EFFECT_SIZE ||
	    count > BLOCK_EFFECTS)
		return replay_bad(r, number, "block that cannot be one");
	rc = replay_key(r, nolog_get32(value), number);
	if (rc < 0)
		return rc;
	j->place.epoch = r->key_epoch;
	j->place.block = number;
	if (seal_open(j->plain, &r->key, &j->place, value + EPOCH_SIZE, size - EPOCH_SIZE) < 0)
		return replay_bad(r, number, "block that was changed");
	blocks = nolog_get16(j->plain + 10);
	if (nolog_get64(j->plain) != number >> 16 ||
	    nolog_get16(j->plain + 8) != (number & 0xffff) || blocks <= (number & 0xffff) ||
	    nolog_get16(j->plain + 12) != count || nolog_get16(j->plain + 14) != 0)
		return replay_bad(r, number, "block that contradicts itself");
	rc = replay_follows(r, number, blocks);
	if (rc < 0)
		return rc;
	if (r->key_epoch != j->epoch)
		r->old_last = number >> 16;
	r->effects += count;
	return count ? r->fn(number >> 16, effects, count, r->arg) : 0;
}

/*
 * Beside a running daemon: may the next block be this one?  What was cut off
 * since we looked last cannot be read any more; then we begin anew at the front.
 */
static int replay_resume(struct replay *r, MDB_cursor *cursor, uint64_t number)
{
	uint64_t front = 1;
	MDB_val key = { sizeof(front), &front }, value;
	bool complete = r->batch && r->index + 1 == r->blocks;
	int rc;

	if (!r->j->live || number == r->next || (complete && number == (r->batch + 1) << 16))
		return 0;
	rc = translate(mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE));
	if (rc < 0)
		return rc;
	memcpy(&front, key.mv_data, sizeof(front));
	if (front == number)
		r->batch = 0;
	return 0;
}

/* Some blocks, in a read transaction of their own. */
static int replay_some(struct replay *r, MDB_txn *txn)
{
	uint64_t number = r->next;
	MDB_val key = { sizeof(number), &number }, value;
	MDB_cursor *cursor = NULL;
	int rc = translate(mdb_cursor_open(txn, r->j->dbi, &cursor));

	for (unsigned i = 0; i < READ_BLOCKS && rc == 0; i++) {
		rc = translate(mdb_cursor_get(cursor, &key, &value, i ? MDB_NEXT : MDB_SET_RANGE));
		if (rc == 0) {
			memcpy(&number, key.mv_data, sizeof(number));
			rc = i ? 0 : replay_resume(r, cursor, number);
		}
		if (rc < 0)
			break;
		rc = replay_block(r, number, value.mv_data, value.mv_size);
		r->next = number + 1;
		if (rc != 0)
			goto out; /* the fault is told, or fn's to tell */
	}
	if (rc == -ENOENT) {
		r->done = true;
		rc = 0;
	} else if (rc < 0) {
		(void)fault_set(r->fault, rc, r->j->name, r->next, "cannot be read");
	}
out:
	if (cursor)
		mdb_cursor_close(cursor);
	return rc;
}

static int drop_old(struct journal *j)
{
	struct keyring_journal info;

	keyring_journal_info(j->keyring, j->book, &info);
	if (j->readonly || !info.old_epoch || (j->first && j->first <= j->old_last))
		return 0;
	return keyring_journal_drop(j->keyring, j->book);
}

static int replay_finish(struct journal *j, const struct replay *r)
{
	if (r->batch && r->index + 1 != r->blocks)
		return replay_bad(r, r->next, "a block after the last one is missing");
	j->first = r->first;
	j->last = r->batch;
	j->effects = r->effects;
	j->old_last = r->old_last;
	j->replayed = true;
	return drop_old(j);
}

int journal_replay(struct journal *j, journal_fn *fn, void *arg, struct fault *fault)
{
	struct replay r = { .j = j, .fn = fn, .arg = arg, .fault = fault, .next = 1 };
	MDB_txn *txn = NULL;
	int rc = translate(mdb_txn_begin(j->env, NULL, MDB_RDONLY, &txn));

	if (rc < 0)
		return fault_set(fault, rc, j->name, 0, "cannot be read");
	while (rc == 0) {
		rc = replay_some(&r, txn);
		mdb_txn_reset(txn);
		if (rc != 0 || r.done)
			break;
		rc = translate(mdb_txn_renew(txn));
	}
	mdb_txn_abort(txn);
	seal_wipe(&r.key, sizeof(r.key));
	return rc == 0 ? replay_finish(j, &r) : rc;
}

/* --- What there is --- */

uint64_t journal_first(const struct journal *j)
{
	return j->first;
}

uint64_t journal_last(const struct journal *j)
{
	return j->last;
}

uint64_t journal_effects(const struct journal *j)
{
	return j->effects;
}

static uint64_t last_page(const struct journal *j, size_t *psize)
{
	MDB_envinfo info;
	MDB_stat stat;

	/* these fail only without an environment */
	(void)mdb_env_info(j->env, &info);
	(void)mdb_env_stat(j->env, &stat);
	*psize = stat.ms_psize;
	return info.me_last_pgno;
}

uint64_t journal_bytes(const struct journal *j)
{
	size_t psize;
	uint64_t last = last_page(j, &psize);

	return (last + 1) * psize;
}

/* --- Committing --- */

static size_t cut_most(size_t blocks)
{
	return 4 * blocks > CUT_LEAST ? 4 * blocks : CUT_LEAST;
}

/*
 * The pages that one commit can need if no free page can be used again: its
 * blocks; the leaves and branches above them and above what is deleted, which
 * hold 150 entries and are copied when they change; the free list, 8 bytes for
 * each page that is free now or by this commit, in one piece; and the paths
 * down to all these.
 */
static uint64_t pages_needed(uint64_t last, size_t blocks)
{
	size_t cut = cut_most(blocks);

	return blocks + (blocks + cut) / 32 + (last + blocks + cut) / 256 + 64;
}

static int reserve_pages(struct journal *j, size_t n, uint64_t spare, struct fault *fault)
{
	size_t psize;
	uint64_t last = last_page(j, &psize);
	uint64_t need = last + 1 + pages_needed(last, blocks_of(n) + 1) + spare;
	off_t upto = (off_t)(need * psize);
	mdb_filehandle_t fd;
	int dead, r;

	assert(!j->readonly);
	if (n > JOURNAL_BATCH_MAX)
		return -E2BIG;
	if (need >= j->map / psize)
		return fault_set(fault, -ENOSPC, j->name, need, "the file is at its largest size");
	if (upto <= j->have)
		return 0;
	/* it grows: has an audit died that holds back free pages? */
	(void)mdb_reader_check(j->env, &dead); /* if this fails it grows on */
	r = translate(mdb_env_get_fd(j->env, &fd));
	if (r == 0)
		r = reserve_upto(fd, &j->have, upto, (off_t)j->step);
	if (r == -ENOSPC || r == -EDQUOT)
		return fault_set(fault, -ENOSPC, j->name, need, "no space left on the disk");
	if (r < 0) {
		j->failed = true;
		return fault_set(fault, r, j->name, need, "space cannot be reserved");
	}
	return 0;
}

/*
 * What is logged again frees as much at the other end, but for the first few
 * commits: LMDB uses a page again in the second commit after the one that has
 * freed it.  Free pages that are there already come on top.
 */
static uint64_t spare_pages(const struct journal *j)
{
	size_t psize;
	uint64_t last = last_page(j, &psize);

	return 4 * pages_needed(last, blocks_of(JOURNAL_SPARE_EFFECTS));
}

int journal_reserve(struct journal *j, size_t n, struct fault *fault)
{
	return reserve_pages(j, n, spare_pages(j), fault);
}

int journal_reserve_spare(struct journal *j, size_t n, struct fault *fault)
{
	return reserve_pages(j, n, 0, fault);
}

int journal_release(struct journal *j)
{
	size_t psize;
	uint64_t last = last_page(j, &psize);
	off_t least = (off_t)((last + 1 + spare_pages(j)) * psize);
	mdb_filehandle_t fd;
	int r;

	assert(!j->readonly);
	r = translate(mdb_env_get_fd(j->env, &fd));
	if (r < 0 || j->have <= least)
		return r;
	/* LMDB looks at no page behind the last, and its own writes make the file longer again. */
	if (ftruncate(fd, least) < 0 || fdatasync(fd) < 0) {
		j->failed = true;
		return -errno;
	}
	j->have = least;
	return 0;
}

/* What a commit changes, in memory once it is durable. */
struct change {
	size_t blocks; /* appended */
	uint64_t first, last;
	uint64_t removed, removed_effects;
};

static int append(struct journal *j, MDB_cursor *cursor, const struct change *c,
		  const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	struct seal_key sealing;
	int r = key_of(j, j->epoch, &sealing);

	j->place.epoch = j->epoch;
	for (size_t i = 0; r == 0 && i < c->blocks; i++) {
		size_t count = n < BLOCK_EFFECTS ? n : BLOCK_EFFECTS;
		uint64_t number = c->last << 16 | i;
		MDB_val key = { sizeof(number), &number };
		MDB_val value = { BLOCK_LEAST + count * EFFECT_SIZE, NULL };

		r = translate(mdb_cursor_put(cursor, &key, &value, MDB_APPEND | MDB_RESERVE));
		if (r < 0)
			break;
		nolog_put64(j->plain, c->last);
		nolog_put16(j->plain + 8, (uint16_t)i);
		nolog_put16(j->plain + 10, (uint16_t)c->blocks);
		nolog_put16(j->plain + 12, (uint16_t)count);
		nolog_put16(j->plain + 14, 0);
		if (count) { /* an empty batch may come from nowhere */
			memcpy(j->plain + HEADER_SIZE, effects, count * EFFECT_SIZE);
			effects += count;
		}
		nolog_put32(value.mv_data, j->epoch);
		j->place.block = number;
		seal_block((uint8_t *)value.mv_data + EPOCH_SIZE, &sealing, &j->place, j->plain,
			   HEADER_SIZE + count * EFFECT_SIZE);
		n -= count;
	}
	seal_wipe(&sealing, sizeof(sealing));
	seal_wipe(j->plain, sizeof(j->plain));
	return r;
}

static int cut_front(MDB_cursor *cursor, struct change *c, uint64_t cut)
{
	uint64_t number = 1;
	MDB_val key = { sizeof(number), &number }, value;
	size_t most = cut_most(c->blocks);
	int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);

	while (rc == 0) {
		memcpy(&number, key.mv_data, sizeof(number));
		c->first = number >> 16;
		if (c->first >= cut || c->removed == most)
			break;
		c->removed++;
		c->removed_effects += (value.mv_size - BLOCK_LEAST) / EFFECT_SIZE;
		rc = mdb_cursor_del(cursor, 0);
		if (rc == 0)
			rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
	}
	return translate(rc);
}

static int transact(struct journal *j, struct change *c, const uint8_t (*effects)[EFFECT_SIZE],
		    size_t n, uint64_t cut)
{
	MDB_cursor *cursor = NULL;
	MDB_txn *txn = NULL;
	int r = translate(mdb_txn_begin(j->env, NULL, 0, &txn));

	if (r < 0)
		return r;
	r = translate(mdb_cursor_open(txn, j->dbi, &cursor));
	if (r == 0 && c->blocks > 0)
		r = append(j, cursor, c, effects, n);
	if (r == 0)
		r = cut_front(cursor, c, cut);
	if (cursor)
		mdb_cursor_close(cursor);
	if (r == 0)
		return translate(mdb_txn_commit(txn));
	mdb_txn_abort(txn);
	return r;
}

/* LMDB keeps the pages of its largest transaction allocated until it is closed. */
static int env_trim(struct journal *j)
{
	MDB_txn *txn = NULL;
	int r;

	mdb_env_close(j->env);
	j->env = NULL;
	r = env_open(j, j->path, 0);
	if (r == 0)
		r = translate(mdb_txn_begin(j->env, NULL, MDB_RDONLY, &txn));
	if (r < 0)
		return r;
	r = format_check(j, txn, NULL);
	mdb_txn_abort(txn);
	return r;
}

int journal_commit(struct journal *j, const uint8_t (*effects)[EFFECT_SIZE], size_t n, uint64_t cut,
		   uint64_t *batch)
{
	struct change c = { .blocks = blocks_of(n) };
	int r;

	assert(j->replayed && !j->readonly);
	if (j->failed)
		return -EIO;
	if (n > JOURNAL_BATCH_MAX)
		return -E2BIG;
	journal_epoch_changed(j);
	if (n == 0 && j->last && j->old_last == j->last)
		c.blocks = 1; /* an empty batch, to take the place of the newest */
	c.last = j->last + (c.blocks > 0);
	assert(c.last <= BATCH_MAX);
	if (cut > c.last)
		cut = c.last;
	if (c.blocks == 0 && j->first >= cut) {
		*batch = j->last;
		return 0;
	}
	r = transact(j, &c, effects, n, cut);
	if (r == 0) {
		j->first = c.first;
		j->last = c.last;
		j->effects += n - c.removed_effects;
		r = drop_old(j);
	}
	if (r == 0 && c.blocks > TRIM_BLOCKS)
		r = env_trim(j);
	if (r < 0) {
		j->failed = true; /* LMDB would go on after a failed sync */
		return r;
	}
	*batch = c.last;
	return 0;
}

/* --- Keys --- */

bool journal_old_key(const struct journal *j)
{
	struct keyring_journal info;

	keyring_journal_info(j->keyring, j->book, &info);
	return info.old_epoch != 0;
}

int64_t journal_oldest_key_ms(const struct journal *j)
{
	struct keyring_journal info;

	keyring_journal_info(j->keyring, j->book, &info);
	return info.old_epoch ? info.old_created_ms : info.created_ms;
}

void journal_epoch_changed(struct journal *j)
{
	struct keyring_journal info;

	keyring_journal_info(j->keyring, j->book, &info);
	if (info.epoch == j->epoch)
		return;
	j->epoch = info.epoch;
	j->old_last = j->last;
}

int journal_renew(struct journal *j, int64_t now_ms)
{
	int r;

	assert(j->replayed && !j->readonly);
	r = keyring_journal_renew(j->keyring, j->book, now_ms);
	if (r < 0)
		return r;
	journal_epoch_changed(j);
	return drop_old(j); /* at once when there is no block at all */
}
