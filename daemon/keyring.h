/* SPDX-License-Identifier: ISC */
/*
 * keyring: the only secret of the store, and its forgetting.
 *
 * A file of two slots of 4,096 bytes, overwritten in place one after the other
 * and fsynced each, with generation and checksum; never renamed, never in
 * LMDB, both of which would leave an old key on the disk.  It holds random
 * keys: one per day, one per month for account tags, two (new and old) per
 * journal and for meters; the newest day seen, and how long the clock has been
 * held.  A start rewrites both slots (keyring_settle()).
 *
 * A new key is handed out only once it is durable in both slots; a destroyed
 * key is gone from memory and both slots when the call returns 0.  A function that
 * changes the file may fail with the errno of the write or sync: memory then
 * holds what it held, the file holds that or the change, and every further
 * change fails with -EIO; the process should end, and the next opening makes
 * the file whole again.  After any other error (-EBUSY, -ESTALE, ...) nothing
 * has changed.  Nothing is written when there is nothing to change.
 *
 * Threads: any.  Changes are serialised by a lock that is held across the
 * writes; reading a key takes another, which never is, so no reader waits for
 * a disk.  The key memory is locked, not dumped, and wiped on close.  Copies
 * that are handed out are wiped by whoever took them.
 *
 * seal_init() comes first.  Outputs are written only on success.
 */
#ifndef KEYRING_H
#define KEYRING_H

#include "fault.h"
#include "seal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keyring;

enum keyring_book { KEYRING_SESSIONS, KEYRING_USAGE };

/*
 * Makes a new keyring file (never over another one: -EEXIST; mode 0600, file
 * and directory synced) with a random store ID, newest day today, month's tag
 * key, meter key and both journals' first keys, created at now_ms.  -EINVAL: no
 * such day or month.  A crash leaves a whole keyring or none (on file systems
 * with O_TMPFILE; elsewhere perhaps a damaged one).
 */
int keyring_create(struct keyring **out, const char *path, int32_t today, uint32_t month,
		   int64_t now_ms, struct fault *fault);
/*
 * Opens one: -ENOENT; -EBADMSG both slots damaged, or another size; -EPROTO
 * another format version; -EACCES open to others than its owner, of another
 * owner, or no plain file under one name; -EBUSY open in another process (a
 * flock of its own, as a keyring may lie apart from its store); -ENOMEM, also
 * when RLIMIT_MEMLOCK is too low.  The file is as it was also after success: a
 * start that fails later on has changed nothing.  keyring_repaired() says that
 * a slot is damaged.
 */
int keyring_open(struct keyring **out, const char *path, struct fault *fault);
/*
 * To be called once what is sealed under these keys is found sound, and before
 * anything new is sealed: writes both slots again, unless a change has done so
 * since.  What a crash between two slots has left in one of them only is then
 * in both, or in none; a damaged slot beside a good one is repaired.  Fails
 * like a change.
 */
int keyring_settle(struct keyring *k);
/*
 * The same without a write or a lock, for audits, also of a keyring in use.
 * Every change then fails with -EROFS; keyring_repaired() says that a slot is
 * damaged.
 */
int keyring_open_readonly(struct keyring **out, const char *path, struct fault *fault);
/* Wipes and frees.  NULL is fine. */
void keyring_close(struct keyring *k);

bool keyring_repaired(const struct keyring *k);
/* True when overwriting in place may not overwrite here (keyringfs.c). */
bool keyring_weak(const struct keyring *k);
uint64_t keyring_generation(struct keyring *k);
/* The store's ID, for seal_place. */
void keyring_store(struct keyring *k, uint8_t out[SEAL_STORE_SIZE]);

/* --- Days --- */
int32_t keyring_newest_day(struct keyring *k);
/* The newest day ever forgotten plus one: days below it never come back. */
int32_t keyring_first_day(struct keyring *k);
/*
 * Moves on: newest day becomes today (never back), and the keys of all days
 * before horizon are destroyed, for good; in any case those of days more than
 * 89 before the newest.  -ERANGE: horizon after the newest day, or no such day.
 */
int keyring_forget_days(struct keyring *k, int32_t today, int32_t horizon);
/* The day's key; -ENOKEY when there is none. */
int keyring_day(struct keyring *k, int32_t day, struct seal_key *out);
/*
 * The same, making it when there is none.  -ESTALE: forgotten; -ERANGE: more
 * than a day after the newest; -ENOSPC: 92 days have keys.
 */
int keyring_day_make(struct keyring *k, int32_t day, struct seal_key *out);
/*
 * A day's mark is kept where nobody can put back an older one with the day's
 * file: how often that file had been written (modulo 2^31; 0: never) at
 * keyring_days_written(), and whether rows of the day are known to be lost.
 */
#define KEYRING_DAYS_MAX 92 /* days that have keys at a time */
#define KEYRING_TIMES_MAX UINT32_C(0x7fffffff)
struct keyring_written {
	int32_t day;
	uint32_t times;
};
/* In one write; of days without a key nothing is kept. */
int keyring_days_written(struct keyring *k, const struct keyring_written *days, size_t n);
/* It stays said for as long as the day has a key. */
int keyring_day_lost_set(struct keyring *k, int32_t day);
/* False when the day has no key. */
bool keyring_day_mark(struct keyring *k, int32_t day, uint32_t *times, bool *lost);
/* All days with a key, ascending; returns their number (at most max written). */
size_t keyring_days(struct keyring *k, int32_t *days, size_t max);

/* --- Journals --- */
struct keyring_journal {
	uint32_t epoch;	    /* of the key in use, from 1 */
	int64_t created_ms; /* wall clock at its making */
	uint32_t old_epoch; /* 0: none */
	int64_t old_created_ms;
};
void keyring_journal_info(struct keyring *k, enum keyring_book book, struct keyring_journal *out);
/* The key of an epoch, current or old; -ENOKEY. */
int keyring_journal(struct keyring *k, enum keyring_book book, uint32_t epoch,
		    struct seal_key *out);
/* A new key: current becomes old.  -EBUSY while an old one lives: drop it first. */
int keyring_journal_renew(struct keyring *k, enum keyring_book book, int64_t now_ms);
/* Destroys the old one; 0 also when there is none. */
int keyring_journal_drop(struct keyring *k, enum keyring_book book);

/* --- Months and meters --- */
/* The month whose tag key is current, YYYYMM. */
uint32_t keyring_month(struct keyring *k);
/* True between keyring_month_begin() and keyring_month_finish(). */
bool keyring_month_turning(struct keyring *k);
/*
 * Begins the month's turn in one write: a tag key for month, the one before is
 * destroyed; a new meter key (the one before becomes the old one; an older old
 * one is destroyed).  From here on no tag of a total can be made or tested any
 * more, whether or not there is room to finish the turn.  -EBUSY while a turn
 * is not finished; -ESTALE: month is not after the current one.
 */
int keyring_month_begin(struct keyring *k, uint32_t month, int64_t now_ms);
/*
 * Ends it, once no living key of the usage journal has sealed a total of the
 * old month (-EBUSY while it has an old one).  0, and nothing is done, when no
 * turn has begun.
 */
int keyring_month_finish(struct keyring *k);

struct keyring_meters {
	uint8_t generation;	/* 1..255 and round again, never 0 */
	uint8_t old_generation; /* 0: none */
	int64_t created_ms;
};
void keyring_meters(struct keyring *k, struct keyring_meters *out);
/* Destroys the old meter key; 0 also when there is none. */
int keyring_meters_drop(struct keyring *k);

/* The tag of an account's total under the current month's key. */
void keyring_total_tag(struct keyring *k, const uint8_t account[32], uint8_t out[SEAL_TAG_SIZE]);
/* The tag of a meter, and of a usage stream, under a meter key generation; -ENOKEY. */
int keyring_meter_tag(struct keyring *k, uint8_t generation, const uint8_t server[16],
		      const uint8_t account[32], uint32_t meter, uint8_t out[SEAL_TAG_SIZE]);
int keyring_stream_tag(struct keyring *k, uint8_t generation, const uint8_t server[16],
		       uint64_t stream, uint8_t out[SEAL_TAG_SIZE]);

/* --- The clock's hold: clock_held_ms(); 0 again when the newest day moves --- */
int64_t keyring_held_ms(struct keyring *k);
/* Two syncs a call: not for every tick. */
int keyring_held_set(struct keyring *k, int64_t held_ms);

#endif
