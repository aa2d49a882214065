/* SPDX-License-Identifier: ISC */
/*
 * dayfile: LMDB and sealing, for one day.  Knows numbers, keys and lengths, not
 * what a block holds.
 */
#include "dayfile.h"

#include "pagecheck.h"
#include "reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PAGE 4096
#define OVERFLOW_HEADER 16
#define OVERFLOW_FLAG 0x04
/* LMDB 0.9: a node of more than this goes to pages of its own. */
#define NODE_HEADER 8
#define NODE_MAX ((((PAGE - OVERFLOW_HEADER) / 2) & ~1) - 2)
/* Space is reserved in pieces of this size. */
#define RESERVE_STEP ((off_t)256 << 10)
/* A few readers: this daemon's two threads, audits. */
#define READERS 30
/* More than LMDB's lock file takes with so many. */
#define LOCK_SIZE 4096
/* Less than this free: what LMDB calls an I/O error may have been a full disk. */
#define SPACE_LOW ((unsigned long long)4 << 20)
/* LMDB's list of dirty pages holds 131,071. */
#define PUTS_MAX 100000

struct dayfile {
	struct dayfile_home home;
	int32_t day;
	enum dayfile_mode mode;
	MDB_env *env;
	MDB_dbi dbi;
	off_t reserved; /* changed inside write transactions only */
	char path[];
};

struct daywrite {
	struct dayfile *file;
	MDB_txn *txn;
};

/* LMDB's codes; what says that the file's structure is wrong is -EBADMSG. */
static int mdb_error(int rc)
{
	switch (rc) {
	case MDB_SUCCESS:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_VERSION_MISMATCH:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
	case MDB_BAD_VALSIZE:
		return -EBADMSG;
	case MDB_READERS_FULL:
		return -EAGAIN;
	default:
		return rc > 0 ? dayfile_errno(rc) : -EIO;
	}
}

/* In a transaction no space may be missing any more: then it is a failure. */
static int write_error(int rc)
{
	int r = mdb_error(rc);

	return r == -ENOSPC || r == -EDQUOT || r == -ENOENT ? -EIO : r;
}

void dayfile_name(char out[DAYFILE_NAME_SIZE], int32_t day, bool temporary)
{
	char name[CALENDAR_NAME_SIZE];

	if (calendar_name(name, day) < 0)
		(void)snprintf(name, sizeof(name), "no-day");
	(void)snprintf(out, DAYFILE_NAME_SIZE, "%s%s.mdb", temporary ? "." : "", name);
}

void dayfile_aside_name(char out[DAYFILE_NAME_SIZE], int32_t day, unsigned n)
{
	char name[CALENDAR_NAME_SIZE];

	if (calendar_name(name, day) < 0)
		(void)snprintf(name, sizeof(name), "no-day");
	if (n < 2)
		(void)snprintf(out, DAYFILE_NAME_SIZE, "%s.damaged", name);
	else
		(void)snprintf(out, DAYFILE_NAME_SIZE, "%s.damaged-%u", name,
			       n <= DAYFILE_ASIDE_MAX ? n : DAYFILE_ASIDE_MAX);
}

void dayfile_fault_name(char out[32], int32_t day)
{
	char name[DAYFILE_NAME_SIZE];

	dayfile_name(name, day, false);
	(void)snprintf(out, 32, "days/%s", name);
}

static int new_file(struct dayfile **out, const struct dayfile_home *home, int32_t day,
		    enum dayfile_mode mode)
{
	size_t len = strlen(home->dir) + 1 + DAYFILE_NAME_SIZE;
	char name[DAYFILE_NAME_SIZE];
	struct dayfile *f = calloc(1, sizeof(*f) + len);

	if (!f)
		return -ENOMEM;
	f->home = *home;
	f->home.dir = NULL; /* borrowed for the call */
	if (f->home.map_bytes == 0)
		f->home.map_bytes = DAYFILE_MAP;
	f->day = day;
	f->mode = mode;
	dayfile_name(name, day, mode == DAYFILE_TEMPORARY);
	(void)snprintf(f->path, len, "%s/%s", home->dir, name);
	*out = f;
	return 0;
}

static int walk(struct dayfile *f, const char *name, struct fault *fault)
{
	struct pagecheck_result result;
	/* Nonblocking, so that a FIFO in its place is refused and not waited for. */
	int fd = open(f->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0)
		return fault_set(fault, dayfile_errno(errno), name, 0, "cannot be opened");
	r = pagecheck_fd(fd, name, false, &result, fault);
	(void)close(fd); /* only read */
	if (r == 0 && result.pages == 0)
		r = fault_set(fault, -EBADMSG, name, 0, "is empty");
	return r;
}

/*
 * LMDB writes into its lock file through a mapping, where a full disk is a
 * SIGBUS: its space must be there before.  Not when another process has made
 * it already.
 */
static int prepare_lock(struct dayfile *f)
{
	static const char zeros[LOCK_SIZE];
	size_t len = strlen(f->path) + sizeof("-lock");
	char *path = malloc(len);
	struct stat st;
	int fd, r = 0;

	if (!path)
		return -ENOMEM;
	(void)snprintf(path, len, "%s-lock", f->path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st) < 0)
		r = dayfile_errno(errno);
	else if (st.st_size == 0) {
		ssize_t n = pwrite(fd, zeros, sizeof(zeros), 0);

		if (n < 0)
			r = dayfile_errno(errno);
		else if (n < (ssize_t)sizeof(zeros) || fdatasync(fd) < 0)
			r = n < (ssize_t)sizeof(zeros) ? -ENOSPC : dayfile_errno(errno);
		if (r < 0 && ftruncate(fd, 0) < 0) /* so that the next try begins again */
			r = dayfile_errno(errno);
	}
	if (fd >= 0)
		(void)close(fd); /* synced */
	free(path);
	return r;
}

static bool has_lock(const struct dayfile *f)
{
	size_t len = strlen(f->path) + sizeof("-lock");
	char *path = malloc(len);
	bool found;

	if (!path)
		return true;
	(void)snprintf(path, len, "%s-lock", f->path);
	found = access(path, F_OK) == 0;
	free(path);
	return found;
}

static int open_main(struct dayfile *f)
{
	bool readonly = f->mode == DAYFILE_READONLY;
	MDB_txn *txn;
	int rc = mdb_txn_begin(f->env, NULL, readonly ? MDB_RDONLY : 0, &txn);

	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | (readonly ? 0 : MDB_CREATE), &f->dbi);
	if (rc) {
		mdb_txn_abort(txn);
		return rc;
	}
	/* Nothing is written by this commit unless the file is new. */
	return mdb_txn_commit(txn);
}

static int open_env(struct dayfile *f)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS;
	int rc = mdb_env_create(&f->env), dead;

	if (rc)
		return mdb_error(rc);
	if (f->mode == DAYFILE_READONLY)
		flags |= MDB_RDONLY | (has_lock(f) ? 0 : MDB_NOLOCK);
	rc = mdb_env_set_maxreaders(f->env, READERS);
	if (!rc)
		rc = mdb_env_set_mapsize(f->env, f->home.map_bytes);
	if (!rc)
		rc = mdb_env_open(f->env, f->path, flags, 0600);
	if (!rc && f->mode == DAYFILE_LIVE)
		(void)mdb_reader_check(f->env, &dead); /* slots of audits that were killed */
	if (!rc)
		rc = open_main(f);
	return mdb_error(rc);
}

/* A new file that could not be made for want of space is nothing worse. */
static int new_file_error(const struct dayfile *f, int r)
{
	struct statvfs fs;

	if (r == -EDQUOT)
		return -ENOSPC;
	if (r == -EIO && f->mode == DAYFILE_TEMPORARY && statvfs(f->path, &fs) == 0 &&
	    (unsigned long long)fs.f_bavail * fs.f_frsize < SPACE_LOW)
		return -ENOSPC;
	return r;
}

int dayfile_open(struct dayfile **out, const struct dayfile_home *home, int32_t day,
		 enum dayfile_mode mode, struct fault *fault)
{
	char name[32];
	struct dayfile *f;
	int r;

	dayfile_fault_name(name, day);
	r = new_file(&f, home, day, mode);
	if (r < 0)
		return fault_set(fault, r, name, 0, "no memory");
	if (mode != DAYFILE_TEMPORARY) {
		r = walk(f, name, fault);
		if (r < 0)
			goto fail;
	}
	if (mode != DAYFILE_READONLY) {
		r = prepare_lock(f);
		if (r < 0) {
			r = fault_set(fault, r, name, 0, "no lock file");
			goto fail;
		}
	}
	r = new_file_error(f, open_env(f));
	if (r < 0) {
		r = fault_set(fault, r, name, 0, "cannot be opened by LMDB");
		goto fail;
	}
	*out = f;
	return 0;
fail:
	dayfile_close(f);
	return r;
}

void dayfile_close(struct dayfile *f)
{
	if (!f)
		return;
	if (f->env)
		mdb_env_close(f->env);
	free(f);
}

int dayfile_seal_temporary(struct dayfile *f)
{
	MDB_envinfo info;
	int fd, r = 0;

	(void)mdb_env_info(f->env, &info); /* fails for NULL only */
	mdb_env_close(f->env);
	f->env = NULL;
	fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || ftruncate(fd, (off_t)(info.me_last_pgno + 1) * PAGE) < 0 || fsync(fd) < 0)
		r = dayfile_errno(errno);
	if (fd >= 0)
		(void)close(fd); /* synced */
	dayfile_close(f);
	return r;
}

int dayfile_count(struct dayfile *f, uint64_t *out)
{
	MDB_stat st;
	int rc = mdb_env_stat(f->env, &st);

	if (rc)
		return mdb_error(rc);
	*out = st.ms_entries;
	return 0;
}

uint64_t dayfile_bytes(struct dayfile *f)
{
	struct stat st;
	int fd;

	if (mdb_env_get_fd(f->env, &fd) || fstat(fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_size;
}

/* --- Reading --- */

int dayread_begin(struct dayread *r, struct dayfile *f)
{
	MDB_txn *txn = NULL;
	int rc = mdb_txn_begin(f->env, NULL, MDB_RDONLY, &txn);

	*r = (struct dayread){ .file = f, .txn = txn, .dbi = f->dbi };
	return mdb_error(rc);
}

void dayread_end(struct dayread *r)
{
	if (r->txn)
		mdb_txn_abort(r->txn);
	r->txn = NULL;
}

static struct seal_place place_of(const struct dayfile *f, uint64_t number)
{
	struct seal_place place = {
		.file = SEAL_FILE_DAY(f->day),
		.epoch = (uint64_t)(int64_t)f->day,
		.block = number,
	};

	memcpy(place.store, f->home.store, sizeof(place.store));
	return place;
}

int dayread_get(struct dayread *r, uint64_t number, uint8_t *out, size_t max)
{
	struct seal_place place = place_of(r->file, number);
	MDB_val key = { .mv_size = sizeof(number), .mv_data = &number }, value;
	struct seal_key secret;
	int rc = mdb_get(r->txn, r->dbi, &key, &value);

	if (rc)
		return mdb_error(rc);
	if (value.mv_size < SEAL_OVERHEAD || value.mv_size - SEAL_OVERHEAD > max)
		return -EBADMSG;
	rc = keyring_day(r->file->home.keyring, r->file->day, &secret);
	if (rc < 0)
		return rc;
	rc = seal_open(out, &secret, &place, value.mv_data, value.mv_size);
	seal_wipe(&secret, sizeof(secret));
	return rc < 0 ? rc : (int)(value.mv_size - SEAL_OVERHEAD);
}

int dayread_next(struct dayread *r, uint64_t *number)
{
	MDB_val key = { .mv_size = sizeof(*number), .mv_data = number };
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(r->txn, r->dbi, &cursor);

	if (rc)
		return mdb_error(rc);
	rc = mdb_cursor_get(cursor, &key, NULL, MDB_SET_RANGE);
	if (!rc && key.mv_size == sizeof(*number))
		memcpy(number, key.mv_data, sizeof(*number));
	else if (!rc)
		rc = MDB_CORRUPTED;
	mdb_cursor_close(cursor);
	return rc == MDB_NOTFOUND ? 0 : rc ? mdb_error(rc) : 1;
}

/* --- Writing --- */

/*
 * The pages a change can take at most: its blocks, the leaves it touches
 * (a leaf holds some 150 blocks' numbers, half of that after a split), the way
 * to them, and the list of the pages it frees.  In a transaction, so that the
 * other writer's reserve is not taken for this one's.
 */
static int reserve(struct dayfile *f, uint64_t puts, uint64_t dels)
{
	uint64_t pages = puts + (puts + dels) / 32 + (puts + dels) * 16 / PAGE + 64;
	MDB_envinfo info;
	off_t used;
	int fd, r, rc = mdb_env_info(f->env, &info);

	if (!rc)
		rc = mdb_env_get_fd(f->env, &fd);
	if (rc)
		return mdb_error(rc);
	used = (off_t)(info.me_last_pgno + 1) * PAGE;
	if ((uint64_t)used / PAGE + pages > f->home.map_bytes / PAGE)
		return -ENOSPC;
	/* Never zeros over what is in use, however far the reserve is thought to reach. */
	if (f->reserved != 0 && f->reserved < used)
		f->reserved = used;
	r = reserve_upto(fd, &f->reserved, used + (off_t)pages * PAGE, RESERVE_STEP);
	return r == -EDQUOT ? -ENOSPC : r < 0 ? dayfile_errno(-r) : 0;
}

int daywrite_begin(struct daywrite **out, struct dayfile *f, uint64_t puts, uint64_t dels)
{
	struct daywrite *w;
	int r;

	if (puts > PUTS_MAX || dels > PUTS_MAX)
		return -E2BIG;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->file = f;
	r = write_error(mdb_txn_begin(f->env, NULL, 0, &w->txn));
	if (r < 0) {
		free(w);
		return r;
	}
	r = reserve(f, puts, dels);
	if (r < 0) {
		daywrite_abort(w);
		return r;
	}
	*out = w;
	return 0;
}

/*
 * Before a block is replaced or deleted: LMDB believes the page count in the
 * header of its overflow page, and would free as many.  To walk all of these
 * headers when a file is opened would read every page of it; here only those
 * are looked at that are about to be believed.  (struct MDB_page of format 1:
 * number u64, pad u16, flags u16, pages u32; behind these 16 bytes a value
 * begins that is too large for a leaf, in the map as well as in a page that
 * this transaction has written.)
 */
static int check_overflow(struct daywrite *w, MDB_val *key)
{
	uint8_t header[OVERFLOW_HEADER];
	MDB_val value;
	const size_t page = PAGE;
	int rc = mdb_get(w->txn, w->file->dbi, key, &value);
	uint16_t flags;
	uint32_t pages;

	if (rc == MDB_NOTFOUND)
		return 0;
	if (rc)
		return write_error(rc);
	if (NODE_HEADER + key->mv_size + value.mv_size <= NODE_MAX)
		return 0; /* it stands in a leaf */
	memcpy(header, (const uint8_t *)value.mv_data - OVERFLOW_HEADER, sizeof(header));
	memcpy(&flags, header + 10, sizeof(flags));
	memcpy(&pages, header + 12, sizeof(pages));
	if (!(flags & OVERFLOW_FLAG) ||
	    pages != (OVERFLOW_HEADER + value.mv_size + page - 1) / page)
		return -EBADMSG;
	return 0;
}

int daywrite_put(struct daywrite *w, uint64_t number, const void *in, size_t len)
{
	struct seal_place place = place_of(w->file, number);
	MDB_val key = { .mv_size = sizeof(number), .mv_data = &number };
	MDB_val value = { .mv_size = len + SEAL_OVERHEAD };
	struct seal_key secret;
	int r = keyring_day(w->file->home.keyring, w->file->day, &secret);

	if (r < 0)
		return r;
	r = check_overflow(w, &key);
	if (r == 0)
		r = write_error(mdb_put(w->txn, w->file->dbi, &key, &value, MDB_RESERVE));
	if (r == 0)
		seal_block(value.mv_data, &secret, &place, in, len);
	seal_wipe(&secret, sizeof(secret));
	return r;
}

int daywrite_del(struct daywrite *w, uint64_t number)
{
	MDB_val key = { .mv_size = sizeof(number), .mv_data = &number };
	int rc = check_overflow(w, &key);

	if (rc < 0)
		return rc;
	rc = mdb_del(w->txn, w->file->dbi, &key, NULL);
	return rc == MDB_NOTFOUND ? 0 : write_error(rc);
}

int daywrite_commit(struct daywrite *w)
{
	int r = write_error(mdb_txn_commit(w->txn));

	free(w);
	return r;
}

void daywrite_abort(struct daywrite *w)
{
	if (!w)
		return;
	if (w->txn)
		mdb_txn_abort(w->txn);
	free(w);
}
