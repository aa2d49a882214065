/* SPDX-License-Identifier: ISC */
/*
 * pagecheck: every file that LMDB writes is sound, after every commit; each
 * kind of damage is found and named.  (The fuzzer goes where this does not.)
 */
#include "pagecheck.h"

#include <nolog/frame.h>

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE ((size_t)4096)
#define BRANCH 1
#define LEAF 2
#define OVERFLOW 4

/* A file in memory with an environment on it. */
struct file {
	int fd;
	MDB_env *env;
	MDB_dbi dbi;
};

static uint64_t mix(uint64_t z)
{
	z += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static void env_open(struct file *f)
{
	char path[40];
	MDB_txn *txn;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	assert_int_equal(mdb_env_create(&f->env), 0);
	assert_int_equal(mdb_env_set_mapsize(f->env, (size_t)1 << 30), 0);
	assert_int_equal(mdb_env_open(f->env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOTLS, 0600),
			 0);
	assert_int_equal(mdb_txn_begin(f->env, NULL, 0, &txn), 0);
	assert_int_equal(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &f->dbi), 0);
	assert_int_equal(mdb_txn_commit(txn), 0);
}

static void file_open(struct file *f)
{
	f->fd = memfd_create("file", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	env_open(f);
}

static void file_close(struct file *f)
{
	mdb_env_close(f->env);
	assert_int_equal(close(f->fd), 0);
}

static MDB_txn *begin(struct file *f)
{
	MDB_txn *txn;

	assert_int_equal(mdb_txn_begin(f->env, NULL, 0, &txn), 0);
	return txn;
}

static void put(struct file *f, MDB_txn *txn, uint64_t number, size_t size)
{
	static uint8_t bytes[65536];
	MDB_val key = { sizeof(number), &number }, value = { size, bytes };

	memset(bytes, (int)(number & 0xff), size < 64 ? size : 64);
	assert_int_equal(mdb_put(txn, f->dbi, &key, &value, 0), 0);
}

/* Deletes the first at or after number; false when there is none. */
static bool del(struct file *f, MDB_txn *txn, uint64_t number)
{
	MDB_val key = { sizeof(number), &number }, value;
	MDB_cursor *cursor;
	int rc;

	assert_int_equal(mdb_cursor_open(txn, f->dbi, &cursor), 0);
	rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
	if (rc == 0)
		assert_int_equal(mdb_cursor_del(cursor, 0), 0);
	mdb_cursor_close(cursor);
	return rc == 0;
}

static void assert_sound(struct file *f)
{
	struct pagecheck_result shallow = { 0 }, deep = { 0 };
	struct fault fault = { 0 };
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t txn;

	assert_int_equal(mdb_env_info(f->env, &info), 0);
	assert_int_equal(mdb_env_stat(f->env, &stat), 0);
	if (pagecheck_fd(f->fd, "file", true, &deep, &fault) != 0)
		fail_msg("page %llu: %s", (unsigned long long)fault.block, fault.what);
	assert_int_equal(pagecheck_fd(f->fd, "file", false, &shallow, &fault), 0);
	assert_int_equal(pagecheck_txn(f->fd, &txn), 0);
	assert_int_equal(deep.last_page, info.me_last_pgno);
	assert_int_equal(deep.entries, stat.ms_entries);
	assert_int_equal(deep.txn, info.me_last_txnid);
	assert_int_equal(txn, info.me_last_txnid);
	assert_in_range(deep.pages,
			2 + stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages,
			info.me_last_pgno + 1);
	assert_in_range(shallow.pages, 2, deep.pages);
}

/* --- What LMDB writes --- */

static void an_empty_file_is_fine_and_gives_zeros(void **state)
{
	struct pagecheck_result result = { 1, 1, 1, 1 };
	int fd = memfd_create("file", MFD_CLOEXEC);
	uint64_t txn = 1;

	(void)state;
	assert_int_equal(pagecheck_fd(fd, "file", true, &result, NULL), 0);
	assert_int_equal(result.pages + result.last_page + result.entries + result.txn, 0);
	assert_int_equal(pagecheck_txn(fd, &txn), 0);
	assert_int_equal(txn, 0);
	assert_int_equal(close(fd), 0);
}

static void a_ring_is_sound_after_every_commit(void **state)
{
	struct file f;
	uint64_t next = 0;

	(void)state;
	file_open(&f);
	assert_sound(&f);
	for (unsigned c = 0; c < 1500; c++) {
		MDB_txn *txn = begin(&f);
		unsigned cuts = (unsigned)(mix(c) % 40), puts = (unsigned)(mix(c + 7777) % 40);

		if (c % 500 == 499)
			cuts = 100000; /* until nothing is left */
		for (unsigned i = 0; i < puts; i++) {
			next++;
			put(&f, txn, next, mix(next) % 3 ? 4044 : mix(next) % 3000);
		}
		while (cuts-- > 0 && del(&f, txn, 0))
			;
		assert_int_equal(mdb_txn_commit(txn), 0);
		assert_sound(&f);
	}
	file_close(&f);
}

static void scattered_changes_are_sound_after_every_commit(void **state)
{
	static const size_t sizes[] = { 8, 100, 2030, 20000 };
	struct file f;

	(void)state;
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		file_open(&f);
		for (unsigned c = 0; c < 300; c++) {
			MDB_txn *txn = begin(&f);
			/* grows at first, shrinks later */
			unsigned puts = c < 150 ? 40 : 10, cuts = c < 150 ? 10 : 40;

			for (unsigned i = 0; i < puts; i++)
				put(&f, txn, mix(c * 1000 + i), mix(c + i) % sizes[s]);
			for (unsigned i = 0; i < cuts; i++)
				(void)del(&f, txn, mix(c * 2000 + i));
			assert_int_equal(mdb_txn_commit(txn), 0);
			assert_sound(&f);
		}
		file_close(&f);
	}
}

static void deep_trees_and_long_free_lists_are_sound(void **state)
{
	struct file f;
	MDB_txn *txn;

	(void)state;
	file_open(&f);
	txn = begin(&f);
	for (uint64_t i = 1; i <= 200000; i++)
		put(&f, txn, mix(i), 40);
	assert_int_equal(mdb_txn_commit(txn), 0);
	assert_sound(&f); /* three levels */
	for (unsigned round = 0; round < 30; round++) {
		txn = begin(&f);
		for (unsigned i = 0; i < 20000 && del(&f, txn, mix(round) >> 8); i++)
			;
		assert_int_equal(mdb_txn_commit(txn), 0);
		assert_sound(&f);
		txn = begin(&f);
		for (unsigned i = 0; i < 300; i++)
			put(&f, txn, mix(round * 991 + i), round % 2 ? 4044 : 60000);
		assert_int_equal(mdb_txn_commit(txn), 0);
		assert_sound(&f);
	}
	file_close(&f);
}

/* --- Damage --- */

/* A ring of blocks with two levels, a free list and values inside leaves. */
static uint8_t *sample(size_t *size)
{
	struct stat st;
	struct file f;
	uint8_t *p;

	file_open(&f);
	for (uint64_t c = 0; c < 20; c++) {
		MDB_txn *txn = begin(&f);

		for (uint64_t i = 1; i <= 30; i++)
			put(&f, txn, c * 30 + i, i % 5 ? 4044 : i * 20);
		for (unsigned i = 0; i < 12; i++)
			(void)del(&f, txn, 0);
		assert_int_equal(mdb_txn_commit(txn), 0);
	}
	assert_sound(&f);
	assert_int_equal(fstat(f.fd, &st), 0);
	*size = (size_t)st.st_size;
	p = malloc(*size);
	assert_non_null(p);
	assert_int_equal(pread(f.fd, p, *size, 0), *size);
	file_close(&f);
	return p;
}

static int check(const uint8_t *bytes, size_t size, bool deep, struct fault *fault)
{
	int fd = memfd_create("file", MFD_CLOEXEC), r;

	memset(fault, 0, sizeof(*fault));
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	r = pagecheck_fd(fd, "days/2026-11-22.mdb", deep, NULL, fault);
	assert_int_equal(fault->error, r);
	if (r < 0)
		assert_string_equal(fault->file, "days/2026-11-22.mdb");
	assert_int_equal(close(fd), 0);
	return r;
}

/* The meta page that counts, and from it the root of the main tree and of the free list. */
static uint8_t *meta_of(uint8_t *p)
{
	return nolog_get64(p + 144) < nolog_get64(p + PAGE + 144) ? p + PAGE : p;
}

static uint8_t *main_root(uint8_t *p)
{
	return p + nolog_get64(meta_of(p) + 128) * PAGE;
}

static uint8_t *free_root(uint8_t *p)
{
	return p + nolog_get64(meta_of(p) + 80) * PAGE;
}

static uint8_t *node(uint8_t *page, unsigned i)
{
	return page + nolog_get16(page + 16 + (size_t)2 * i);
}

static uint8_t *child(uint8_t *p, uint8_t *branch, unsigned i)
{
	return p + nolog_get32(node(branch, i)) * PAGE;
}

/* The first leaf's node whose value is (or is not) on a page of its own. */
static uint8_t *leaf_node(uint8_t *p, bool big)
{
	uint8_t *leaf = child(p, main_root(p), 0);

	for (unsigned i = 0;; i++) {
		assert_in_range(i, 0, (nolog_get16(leaf + 12) - 16) / 2 - 1);
		if ((nolog_get16(node(leaf, i) + 4) & 1) == big)
			return node(leaf, i);
	}
}

static void put16(uint8_t *at, unsigned v)
{
	nolog_put16(at, (uint16_t)v);
}

/* clang-format off: a table */
#define DAMAGE(name) static void name(uint8_t *p)
DAMAGE(meta_mark)
{
	p[16] ^= 1;
}
DAMAGE(meta_version)
{
	meta_of(p)[20] = 2;
}
DAMAGE(older_meta_mark)
{
	(meta_of(p) == p ? p + PAGE : p)[16] ^= 1;
}
DAMAGE(older_meta_kind)
{
	(meta_of(p) == p ? p + PAGE : p)[10] = 2;
}
DAMAGE(meta_page_size)
{
	nolog_put32(p + 40, 8192);
}
DAMAGE(meta_txn)
{
	meta_of(p)[146] ^= 4;
}
DAMAGE(metas_swapped)
{
	uint8_t copy[PAGE];

	memcpy(copy, p, PAGE);
	memcpy(p, p + PAGE, PAGE);
	memcpy(p + PAGE, copy, PAGE);
	nolog_put64(p, 0);
	nolog_put64(p + PAGE, 1);
}
DAMAGE(meta_last_small)
{
	nolog_put64(meta_of(p) + 136, 5);
}
DAMAGE(meta_last_huge)
{
	nolog_put64(meta_of(p) + 136, UINT64_C(1) << 60);
}
DAMAGE(meta_last_zero)
{
	nolog_put64(meta_of(p) + 136, 0);
}
DAMAGE(root_is_meta)
{
	nolog_put64(meta_of(p) + 128, 1);
}
DAMAGE(root_far)
{
	nolog_put64(meta_of(p) + 128, UINT64_C(1) << 47);
}
DAMAGE(root_gone)
{
	nolog_put64(meta_of(p) + 128, UINT64_MAX);
}
DAMAGE(free_root_gone)
{
	nolog_put64(meta_of(p) + 80, UINT64_MAX);
}
DAMAGE(roots_same)
{
	nolog_put64(meta_of(p) + 80, nolog_get64(meta_of(p) + 128));
}
DAMAGE(tree_flags)
{
	meta_of(p)[92] ^= 4;
}
DAMAGE(tree_depth)
{
	meta_of(p)[94] += 1;
}
DAMAGE(tree_too_deep)
{
	meta_of(p)[94] = 200;
}
DAMAGE(tree_entries)
{
	meta_of(p)[120] += 1;
}
DAMAGE(tree_leaves)
{
	meta_of(p)[104] += 1;
}
DAMAGE(tree_branches)
{
	meta_of(p)[96] += 1;
}
DAMAGE(tree_overflows)
{
	meta_of(p)[112] += 1;
}
DAMAGE(page_number)
{
	main_root(p)[0] ^= 1;
}
DAMAGE(page_kind)
{
	main_root(p)[10] = LEAF;
}
DAMAGE(leaf_kind)
{
	child(p, main_root(p), 0)[10] = BRANCH;
}
DAMAGE(leaf_dirty)
{
	child(p, main_root(p), 0)[10] |= 0x10;
}
DAMAGE(bounds_lower)
{
	put16(child(p, main_root(p), 1) + 12, 14);
}
DAMAGE(bounds_odd)
{
	child(p, main_root(p), 1)[12] ^= 1;
}
DAMAGE(bounds_crossed)
{
	put16(child(p, main_root(p), 1) + 12, 4090);
}
DAMAGE(bounds_upper)
{
	put16(child(p, main_root(p), 1) + 14, 4098);
}
DAMAGE(leaf_empty)
{
	put16(child(p, main_root(p), 1) + 12, 16);
}
DAMAGE(branch_of_one)
{
	put16(main_root(p) + 12, 18);
}
DAMAGE(node_offset_low)
{
	put16(main_root(p) + 18, 2);
}
DAMAGE(node_offset_high)
{
	put16(main_root(p) + 18, 4094);
}
DAMAGE(node_offset_odd)
{
	main_root(p)[18] ^= 1;
}
DAMAGE(nodes_same)
{
	memcpy(main_root(p) + 20, main_root(p) + 18, 2);
}
DAMAGE(key_size)
{
	put16(leaf_node(p, true) + 6, 16);
}
DAMAGE(key_size_none)
{
	put16(leaf_node(p, true) + 6, 0);
}
DAMAGE(value_size)
{
	nolog_put32(leaf_node(p, false), 5000);
}
DAMAGE(value_flags)
{
	leaf_node(p, false)[4] ^= 1;
}
DAMAGE(value_subdb)
{
	leaf_node(p, false)[4] ^= 2;
}
DAMAGE(key_changed)
{
	leaf_node(p, true)[12] ^= 0x80;
}
DAMAGE(separator_changed)
{
	node(main_root(p), 1)[15] ^= 0x40;
}
DAMAGE(keys_swapped)
{
	uint8_t *leaf = child(p, main_root(p), 0), copy[2];

	memcpy(copy, leaf + 16, 2);
	memcpy(leaf + 16, leaf + 18, 2);
	memcpy(leaf + 18, copy, 2);
}
DAMAGE(child_is_root)
{
	nolog_put32(node(main_root(p), 1), (uint32_t)nolog_get64(main_root(p)));
}
DAMAGE(child_twice)
{
	memcpy(node(main_root(p), 1), node(main_root(p), 0), 4);
}
DAMAGE(child_far)
{
	put16(node(main_root(p), 1) + 4, 0x7000);
}
DAMAGE(value_page_far)
{
	leaf_node(p, true)[22] = 0x55;
}
DAMAGE(value_page_is_leaf)
{
	nolog_put64(leaf_node(p, true) + 16, nolog_get64(child(p, main_root(p), 0)));
}
DAMAGE(value_too_long)
{
	nolog_put32(leaf_node(p, true), 40000);
}
DAMAGE(free_used)
{
	uint8_t *list = node(free_root(p), 0);

	nolog_put64(list + 16 + 8, nolog_get64(main_root(p)));
}
DAMAGE(free_count)
{
	nolog_put64(node(free_root(p), 0) + 16, 5000);
}
DAMAGE(free_later)
{
	nolog_put64(node(free_root(p), 0) + 8, UINT64_C(1) << 40);
}
DAMAGE(free_order)
{
	uint8_t *list = node(free_root(p), 0) + 16, copy[8];

	assert_in_range(nolog_get64(list), 2, 500);
	memcpy(copy, list + 8, 8);
	memcpy(list + 8, list + 16, 8);
	memcpy(list + 16, copy, 8);
}
DAMAGE(free_meta)
{
	uint8_t *list = node(free_root(p), 0) + 16;

	nolog_put64(list + nolog_get64(list) * 8, 1);
}
DAMAGE(free_kind)
{
	free_root(p)[10] = OVERFLOW;
}
/* clang-format on */

static void each_kind_of_damage_is_found(void **state)
{
	static void (*const kinds[])(uint8_t *) = {
		meta_mark,	  meta_version,	     older_meta_mark, older_meta_kind,
		meta_page_size,	  meta_txn,	     metas_swapped,   meta_last_small,
		meta_last_huge,	  meta_last_zero,    root_is_meta,    root_far,
		root_gone,	  free_root_gone,    roots_same,      tree_flags,
		tree_depth,	  tree_too_deep,     tree_entries,    tree_leaves,
		tree_branches,	  page_number,	     page_kind,	      leaf_kind,
		leaf_dirty,	  bounds_lower,	     bounds_odd,      bounds_crossed,
		bounds_upper,	  leaf_empty,	     branch_of_one,   node_offset_low,
		node_offset_high, node_offset_odd,   nodes_same,      key_size,
		key_size_none,	  value_size,	     value_flags,     value_subdb,
		key_changed,	  separator_changed, keys_swapped,    child_is_root,
		child_twice,	  child_far,	     value_page_far,  value_page_is_leaf,
		value_too_long,	  free_used,	     free_count,      free_later,
		free_order,	  free_meta,	     free_kind,
	};
	struct fault fault;
	size_t size;
	uint8_t *bytes = sample(&size), *copy = malloc(size);

	(void)state;
	assert_non_null(copy);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		memcpy(copy, bytes, size);
		kinds[i](copy);
		for (int deep = 0; deep <= 1; deep++) {
			if (check(copy, size, deep, &fault) != -EBADMSG)
				fail_msg("damage %u is not found", i);
			assert_non_null(fault.what);
		}
	}
	/* this one needs every value's page to be counted */
	memcpy(copy, bytes, size);
	tree_overflows(copy);
	assert_int_equal(check(copy, size, true, &fault), -EBADMSG);
	free(bytes);
	free(copy);
}

static void headers_of_values_pages_are_read_when_deep(void **state)
{
	struct fault fault;
	size_t size;
	uint8_t *bytes = sample(&size);
	uint64_t number = nolog_get64(leaf_node(bytes, true) + 16);
	uint8_t *page = bytes + number * PAGE;

	(void)state;
	for (unsigned at = 0; at < 16; at++) {
		if (at == 8 || at == 9)
			continue; /* padding that nobody reads */
		page[at] ^= 2;
		assert_int_equal(check(bytes, size, false, &fault), 0);
		assert_int_equal(check(bytes, size, true, &fault), -EBADMSG);
		page[at] ^= 2;
	}
	assert_int_equal(check(bytes, size, true, &fault), 0);
	free(bytes);
}

static void a_file_cut_short_anywhere_is_damaged(void **state)
{
	struct fault fault;
	size_t size, used;
	uint8_t *bytes = sample(&size);

	(void)state;
	for (used = size; used > 0 && check(bytes, used - PAGE, true, &fault) == 0;)
		used -= PAGE; /* free pages at the end may be missing */
	assert_in_range(used, size / 2, size);
	for (size_t cut = 1; cut < used; cut += cut < 9000 ? 1000 : 4095)
		assert_int_equal(check(bytes, cut, true, &fault), -EBADMSG);
	assert_int_equal(check(bytes, used - 1, true, &fault), -EBADMSG);
	free(bytes);
}

static void free_pages_that_were_never_written_are_fine(void **state)
{
	off_t whole, kept;
	uint8_t last[PAGE];
	struct stat st;
	struct file f;
	MDB_txn *txn;

	(void)state;
	file_open(&f);
	txn = begin(&f);
	for (uint64_t i = 1; i < 50; i++)
		put(&f, txn, i, 4044);
	assert_int_equal(mdb_txn_commit(txn), 0);
	txn = begin(&f);
	for (uint64_t i = 1; i < 40; i++)
		(void)del(&f, txn, 11);
	assert_int_equal(mdb_txn_commit(txn), 0);
	for (uint64_t i = 0; i < 10; i++) { /* the tree moves to the lowest free pages */
		txn = begin(&f);
		put(&f, txn, 1000, 10 + i);
		assert_int_equal(mdb_txn_commit(txn), 0);
	}
	mdb_env_close(f.env);
	assert_int_equal(fstat(f.fd, &st), 0);
	whole = kept = st.st_size;
	while (pagecheck_fd(f.fd, "file", true, NULL, NULL) == 0) {
		kept -= (off_t)PAGE;
		assert_int_equal(pread(f.fd, last, PAGE, kept), PAGE);
		assert_int_equal(ftruncate(f.fd, kept), 0);
	}
	assert_int_equal(pwrite(f.fd, last, PAGE, kept), PAGE);
	assert_in_range(kept, PAGE, whole - 10 * (off_t)PAGE);
	env_open(&f);
	for (uint64_t i = 100; i < 110; i++) {
		txn = begin(&f);
		for (uint64_t k = 0; k < 20; k++)
			put(&f, txn, i * 20 + k, 4044);
		assert_int_equal(mdb_txn_commit(txn), 0);
		assert_sound(&f);
	}
	file_close(&f);
}

static void what_cannot_be_read_is_told_with_its_error(void **state)
{
	struct fault fault = { 0 };
	uint64_t txn;

	(void)state;
	assert_int_equal(pagecheck_fd(-1, "file", true, NULL, &fault), -EBADF);
	assert_int_equal(fault.error, -EBADF);
	assert_int_equal(pagecheck_txn(-1, &txn), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_is_fine_and_gives_zeros),
		cmocka_unit_test(a_ring_is_sound_after_every_commit),
		cmocka_unit_test(scattered_changes_are_sound_after_every_commit),
		cmocka_unit_test(deep_trees_and_long_free_lists_are_sound),
		cmocka_unit_test(each_kind_of_damage_is_found),
		cmocka_unit_test(headers_of_values_pages_are_read_when_deep),
		cmocka_unit_test(a_file_cut_short_anywhere_is_damaged),
		cmocka_unit_test(free_pages_that_were_never_written_are_fine),
		cmocka_unit_test(what_cannot_be_read_is_told_with_its_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
