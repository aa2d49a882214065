/* SPDX-License-Identifier: ISC */
/*
 * pagecheck: walks an LMDB file with plain reads before anything maps it.
 *
 * The data format of LMDB 0.9, version 1, 64 bit and little-endian: pages of
 * the machine's page size; pages 0 and 1 are meta pages, of which the newer
 * counts; each names the roots of two B+trees, the free list (transaction →
 * numbers of the pages it freed, highest first) and the main database.  A page
 * begins with its number and its kind; nodes lie packed against its end, their
 * offsets, sorted by key, behind the header.  A value too long for a node lies
 * on overflow pages, of which only the first has a header.
 *
 * What is checked is what LMDB would otherwise trust.  Memory: one page per
 * level and one bit per page; no recursion.  It refuses to know what the
 * values mean.
 */
#include "pagecheck.h"

#include <nolog/frame.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(size_t) == 8,
	      "LMDB's files have the machine's byte order and word size");

#define MAGIC UINT32_C(0xbeefc0de)
#define DATA_VERSION 1
#define METAS 2
#define NO_PAGE UINT64_MAX /* the root of an empty tree */
#define DEPTH_MAX 31	   /* LMDB's cursors hold 32 pages */
#define PSIZE_MAX 32768	   /* so that offsets fit 16 bits */

#define PAGE_HEADER 16
#define KIND_BRANCH 0x01
#define KIND_LEAF 0x02
#define KIND_OVERFLOW 0x04
#define KIND_META 0x08

#define NODE_HEADER 8
#define NODE_BIG 0x01 /* the value is the number of an overflow page */
#define KEY_SIZE 8

#define FLAG_INTEGERKEY 0x08
#define FLAG_NOSUBDIR 0x4000 /* of the environment, kept beside the free list's flags */

/* Offsets in a meta page, behind the page header. */
#define META_MAGIC (PAGE_HEADER + 0)
#define META_VERSION (PAGE_HEADER + 4)
#define META_FREE (PAGE_HEADER + 24)
#define META_MAIN (META_FREE + 48)
#define META_LAST (META_MAIN + 48)
#define META_TXN (META_LAST + 8)
#define META_END (META_TXN + 8)

/* A tree as its meta page tells it. */
struct tree {
	uint32_t pad; /* the page size, in the free list's */
	uint16_t flags, depth;
	uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
	struct tree free, main;
	uint64_t last, txn;
};

/* A page on the way down, with the bounds that its keys must keep. */
struct level {
	uint8_t *page;
	uint64_t number;
	unsigned nodes, next;
	bool leaf, below_set;
	uint64_t from, below;
};

struct walk {
	int fd;
	const char *name;
	bool deep;
	struct fault *fault;
	size_t psize;
	uint64_t file_pages; /* whole ones */
	uint64_t last, txn;
	uint64_t used;
	uint8_t *seen;	/* a bit per page, up to last */
	uint8_t *pages; /* one for each level, one for the free list's values */
	struct level levels[DEPTH_MAX];
	/* of the tree being walked */
	const struct tree *tree;
	bool is_free;
	uint64_t branches, leaves, overflows, entries;
};

struct node {
	uint64_t key;	/* 0 when it has none */
	uint64_t child; /* of a branch */
	uint32_t size;	/* of a leaf's value */
	bool big;
	const uint8_t *data;
};

static int bad(const struct walk *w, uint64_t page, const char *what)
{
	return fault_set(w->fault, -EBADMSG, w->name, page, what);
}

/* Exactly len bytes at offset of a page; short files are damaged ones. */
static int read_at(const struct walk *w, uint64_t page, size_t offset, void *out, size_t len)
{
	uint8_t *to = out;
	off_t at = (off_t)(page * w->psize + offset);

	while (len > 0) {
		ssize_t n = pread(w->fd, to, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_set(w->fault, -errno, w->name, page, "cannot be read");
		if (n == 0)
			return bad(w, page, "page beyond the end of the file");
		to += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Takes n pages from first; each page of the file has one place only. */
static int take(struct walk *w, uint64_t by, uint64_t first, uint64_t n)
{
	if (first < METAS || first > w->last || n > w->last - first + 1)
		return bad(w, by, "number of a page that does not exist");
	for (uint64_t p = first; p < first + n; p++) {
		if (w->seen[p / 8] & 1u << p % 8)
			return bad(w, p, "page in two places");
		w->seen[p / 8] = (uint8_t)(w->seen[p / 8] | 1u << p % 8);
	}
	return 0;
}

/* The same for pages that hold something: these must lie in the file. */
static int take_used(struct walk *w, uint64_t by, uint64_t first, uint64_t n)
{
	int r = take(w, by, first, n);

	if (r < 0)
		return r;
	if (first + n > w->file_pages)
		return bad(w, first, "page beyond the end of the file");
	w->used += n;
	return 0;
}

static void tree_decode(struct tree *t, const uint8_t *p)
{
	t->pad = nolog_get32(p);
	t->flags = nolog_get16(p + 4);
	t->depth = nolog_get16(p + 6);
	t->branches = nolog_get64(p + 8);
	t->leaves = nolog_get64(p + 16);
	t->overflows = nolog_get64(p + 24);
	t->entries = nolog_get64(p + 32);
	t->root = nolog_get64(p + 40);
}

static int meta_read(const struct walk *w, uint64_t number, struct meta *m)
{
	uint8_t buf[META_END];
	int r = read_at(w, number, 0, buf, sizeof(buf));

	if (r < 0)
		return r;
	if (nolog_get64(buf) != number || nolog_get16(buf + 10) != KIND_META)
		return bad(w, number, "not a meta page");
	if (nolog_get32(buf + META_MAGIC) != MAGIC)
		return bad(w, number, "meta page without LMDB's mark");
	if (nolog_get32(buf + META_VERSION) != DATA_VERSION)
		return bad(w, number, "meta page of another LMDB format");
	tree_decode(&m->free, buf + META_FREE);
	tree_decode(&m->main, buf + META_MAIN);
	m->last = nolog_get64(buf + META_LAST);
	m->txn = nolog_get64(buf + META_TXN);
	if (m->free.pad != w->psize)
		return bad(w, number, "meta page of another page size");
	return 0;
}

/*
 * Transaction n is told by meta page n % 2, so the two differ by one, except
 * in a file in which nothing was written yet.
 */
static int metas_read(const struct walk *w, struct meta *newer)
{
	struct meta m[METAS];
	int r;

	for (unsigned i = 0; i < METAS; i++) {
		r = meta_read(w, i, &m[i]);
		if (r < 0)
			return r;
	}
	if (m[0].txn % 2 != 0 || (m[1].txn % 2 != 1 && m[0].txn + m[1].txn != 0))
		return bad(w, m[0].txn % 2 != 0 ? 0 : 1, "meta page in the other's place");
	if (m[0].txn + m[1].txn != 0 && m[0].txn + 1 != m[1].txn && m[1].txn + 1 != m[0].txn)
		return bad(w, 0, "meta pages that do not follow each other");
	*newer = m[m[0].txn < m[1].txn];
	return 0;
}

static int tree_check(const struct walk *w, const struct tree *t, bool is_free)
{
	uint16_t flags = is_free ? (uint16_t)(t->flags & ~FLAG_NOSUBDIR) : t->flags;

	if (t->root == NO_PAGE) {
		if (t->depth || t->branches || t->leaves || t->overflows || t->entries)
			return bad(w, w->txn % 2, "empty tree that is not empty");
		if (flags != FLAG_INTEGERKEY && (flags || is_free))
			return bad(w, w->txn % 2, "tree of another kind");
		return 0;
	}
	if (flags != FLAG_INTEGERKEY)
		return bad(w, w->txn % 2, "tree of another kind");
	if (t->depth < 1 || t->depth > DEPTH_MAX)
		return bad(w, w->txn % 2, "depth of a tree");
	return 0;
}

static void node_decode(struct node *n, const struct level *l, unsigned i)
{
	const uint8_t *at = l->page + nolog_get16(l->page + PAGE_HEADER + (size_t)2 * i);
	uint16_t flags = nolog_get16(at + 4);
	uint16_t key_size = nolog_get16(at + 6);

	n->size = nolog_get32(at);
	n->child = n->size | (uint64_t)flags << 32;
	n->big = (flags & NODE_BIG) != 0;
	n->key = key_size ? nolog_get64(at + NODE_HEADER) : 0;
	n->data = at + NODE_HEADER + key_size;
}

/* The bytes that node i takes, or 0 when it cannot be. */
static size_t node_extent(const struct walk *w, const struct level *l, unsigned i, size_t upper)
{
	size_t offset = nolog_get16(l->page + PAGE_HEADER + (size_t)2 * i);
	const uint8_t *at;
	size_t len, key_size;

	if (offset < upper || offset % 2 || offset + NODE_HEADER > w->psize)
		return 0;
	at = l->page + offset;
	key_size = nolog_get16(at + 6);
	/* the first key of a branch is never looked at and mostly left out */
	if (key_size != KEY_SIZE && (key_size != 0 || l->leaf || i > 0))
		return 0;
	len = NODE_HEADER + key_size;
	if (l->leaf) {
		unsigned flags = nolog_get16(at + 4);

		if (flags & ~(unsigned)NODE_BIG)
			return 0;
		len += flags & NODE_BIG ? sizeof(uint64_t) : nolog_get32(at);
	}
	len += len % 2;
	return len <= w->psize - offset ? len : 0;
}

/* Nodes are packed: none over another, no gap between them and the page's end. */
static int nodes_check(const struct walk *w, const struct level *l, size_t upper)
{
	uint64_t taken[PSIZE_MAX / 2 / 64] = { 0 };
	size_t sum = 0;

	for (unsigned i = 0; i < l->nodes; i++) {
		size_t len = node_extent(w, l, i, upper);
		size_t half = nolog_get16(l->page + PAGE_HEADER + (size_t)2 * i) / 2u;

		if (len == 0)
			return bad(w, l->number, "entry that does not fit its page");
		for (size_t h = half; h < half + len / 2; h++) {
			if (taken[h / 64] & UINT64_C(1) << h % 64)
				return bad(w, l->number, "entries over each other");
			taken[h / 64] |= UINT64_C(1) << h % 64;
		}
		sum += len;
	}
	if (sum != w->psize - upper)
		return bad(w, l->number, "gap between entries");
	return 0;
}

static int keys_check(const struct walk *w, const struct level *l)
{
	uint64_t before = 0;

	for (unsigned i = l->leaf ? 0 : 1; i < l->nodes; i++) {
		struct node n;

		node_decode(&n, l, i);
		if (n.key < l->from || (l->below_set && n.key >= l->below))
			return bad(w, l->number, "key outside its page's range");
		if (i > (l->leaf ? 0u : 1u) && n.key <= before)
			return bad(w, l->number, "keys out of order");
		before = n.key;
	}
	return 0;
}

static int page_check(struct walk *w, struct level *l)
{
	uint16_t kind = nolog_get16(l->page + 10);
	size_t lower = nolog_get16(l->page + 12);
	size_t upper = nolog_get16(l->page + 14);
	unsigned least;
	int r;

	if (nolog_get64(l->page) != l->number)
		return bad(w, l->number, "page with another's number");
	if (kind != (l->leaf ? KIND_LEAF : KIND_BRANCH))
		return bad(w, l->number, "page of another kind");
	if (lower < PAGE_HEADER || lower % 2 || lower > upper || upper > w->psize)
		return bad(w, l->number, "bounds of a page");
	l->nodes = (unsigned)(lower - PAGE_HEADER) / 2;
	/* the free list's branches may be left with one child for a while */
	least = l->leaf || w->is_free ? 1 : 2;
	if (l->nodes < least)
		return bad(w, l->number, "page with too few entries");
	r = nodes_check(w, l, upper);
	if (r < 0)
		return r;
	/* LMDB looks at the second child's key size whether there is one or not */
	if (!l->leaf && l->nodes == 1 &&
	    nolog_get16(l->page + PAGE_HEADER + 2) > w->psize - NODE_HEADER)
		return bad(w, l->number, "page with too few entries");
	return keys_check(w, l);
}

/* Down to a page: reads and checks it, and counts it. */
static int descend(struct walk *w, unsigned depth, uint64_t number, uint64_t by)
{
	struct level *l = &w->levels[depth];
	int r = take_used(w, by, number, 1);

	if (r < 0)
		return r;
	l->page = w->pages + depth * w->psize;
	l->number = number;
	l->next = 0;
	l->leaf = depth + 1u == w->tree->depth;
	r = read_at(w, number, 0, l->page, w->psize);
	if (r < 0)
		return r;
	*(l->leaf ? &w->leaves : &w->branches) += 1;
	return page_check(w, l);
}

/* A value on pages of its own: first is their number. */
static int overflow_check(struct walk *w, uint64_t by, uint64_t first, uint32_t size)
{
	uint64_t need = (PAGE_HEADER - 1 + (uint64_t)size) / w->psize + 1;
	uint64_t n = need;
	uint8_t header[PAGE_HEADER];
	int r;

	if (first < METAS || first > w->last)
		return bad(w, by, "number of a page that does not exist");
	if (w->deep || w->is_free) {
		r = read_at(w, first, 0, header, sizeof(header));
		if (r < 0)
			return r;
		n = nolog_get32(header + 12);
		if (nolog_get64(header) != first)
			return bad(w, first, "page with another's number");
		if (nolog_get16(header + 10) != KIND_OVERFLOW)
			return bad(w, first, "page of another kind");
		if (n < need) /* more is fine: a shorter value may stay in its place */
			return bad(w, first, "value longer than its pages");
	}
	w->overflows += n;
	return take_used(w, by, first, n);
}

/* One record of the free list: how many, then page numbers, highest first. */
static int freed_check(struct walk *w, const struct level *l, const struct node *n)
{
	uint8_t *buf = w->pages + (size_t)DEPTH_MAX * w->psize;
	uint64_t first = n->big ? nolog_get64(n->data) : 0;
	uint64_t count = 0, before = UINT64_MAX;
	uint64_t words = n->size / 8;
	int r;

	if (n->key == 0 || n->key > w->txn)
		return bad(w, l->number, "free list of a transaction to come");
	if (n->size < 8 || n->size % 8)
		return bad(w, l->number, "length of a free list");
	for (uint64_t i = 0; i < words && i <= count; i++) {
		uint64_t word;

		if (n->big && i % (w->psize / 8) == 0) {
			size_t left = n->size - (size_t)i * 8;

			r = read_at(w, first, PAGE_HEADER + (size_t)i * 8, buf,
				    left < w->psize ? left : w->psize);
			if (r < 0)
				return r;
		}
		word = nolog_get64(n->big ? buf + i % (w->psize / 8) * 8 : n->data + i * 8);
		if (i == 0) {
			count = word;
			if (count > words - 1)
				return bad(w, l->number, "length of a free list");
			continue;
		}
		if (word >= before)
			return bad(w, l->number, "free list out of order");
		before = word;
		r = take(w, l->number, word, 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int leaf_check(struct walk *w, const struct level *l)
{
	int r = 0;

	for (unsigned i = 0; i < l->nodes && r == 0; i++) {
		struct node n;

		node_decode(&n, l, i);
		if (n.big)
			r = overflow_check(w, l->number, nolog_get64(n.data), n.size);
		if (r == 0 && w->is_free)
			r = freed_check(w, l, &n);
	}
	w->entries += l->nodes;
	return r;
}

/* The next child of a branch, with the range of keys it may hold. */
static int next_child(struct walk *w, unsigned depth)
{
	const struct level *l = &w->levels[depth];
	struct level *child = &w->levels[depth + 1];
	struct node n, after;
	unsigned i = w->levels[depth].next++;

	node_decode(&n, l, i);
	child->from = i == 0 ? l->from : n.key;
	child->below = l->below;
	child->below_set = l->below_set;
	if (i + 1 < l->nodes) {
		node_decode(&after, l, i + 1);
		child->below = after.key;
		child->below_set = true;
	}
	return descend(w, depth + 1, n.child, l->number);
}

static int counts_check(const struct walk *w)
{
	const struct tree *t = w->tree;

	if (w->entries != t->entries)
		return bad(w, w->txn % 2, "number of entries");
	if (w->branches != t->branches || w->leaves != t->leaves)
		return bad(w, w->txn % 2, "number of pages");
	if (w->deep || w->is_free ? w->overflows != t->overflows : w->overflows > t->overflows)
		return bad(w, w->txn % 2, "number of overflow pages");
	return 0;
}

static int tree_walk(struct walk *w, const struct tree *t, bool is_free)
{
	unsigned depth = 0;
	int r = tree_check(w, t, is_free);

	if (r < 0 || t->root == NO_PAGE)
		return r;
	w->tree = t;
	w->is_free = is_free;
	w->branches = w->leaves = w->overflows = w->entries = 0;
	w->levels[0].from = 0;
	w->levels[0].below_set = false;
	r = descend(w, 0, t->root, w->txn % 2);
	while (r == 0) {
		struct level *l = &w->levels[depth];

		if (l->leaf) {
			r = leaf_check(w, l);
		} else if (l->next < l->nodes) {
			r = next_child(w, depth++);
			continue;
		}
		if (depth-- == 0)
			break;
	}
	return r == 0 ? counts_check(w) : r;
}

static int walk_begin(struct walk *w, int fd, const char *name, struct fault *fault)
{
	struct stat st;
	long psize = sysconf(_SC_PAGESIZE);

	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->name = name;
	w->fault = fault;
	if (psize < 512 || psize > PSIZE_MAX)
		return fault_set(fault, -ENOTSUP, name, 0, "page size of this machine");
	w->psize = (size_t)psize;
	if (fstat(fd, &st) < 0)
		return fault_set(fault, -errno, name, 0, "cannot be read");
	if (!S_ISREG(st.st_mode))
		return bad(w, 0, "not a plain file");
	w->file_pages = (uint64_t)st.st_size / w->psize;
	if (st.st_size > 0 && w->file_pages < METAS)
		return bad(w, 0, "file too short");
	return st.st_size > 0;
}

static int walk_both(struct walk *w, const struct meta *m)
{
	int r;

	w->last = m->last;
	w->txn = m->txn;
	if (m->last < METAS - 1)
		return bad(w, w->txn % 2, "number of the last page");
	/*
	 * Free pages may lie beyond the end of the file, never written.  But
	 * the free list that names them, 8 bytes each, must be in it.
	 */
	if (m->last / (w->psize / 8 + 1) >= w->file_pages)
		return bad(w, w->txn % 2, "number of the last page");
	w->seen = calloc(1, m->last / 8 + 1);
	w->pages = malloc((DEPTH_MAX + 1) * w->psize);
	if (!w->seen || !w->pages)
		return fault_set(w->fault, -ENOMEM, w->name, 0, "no memory to check it");
	r = tree_walk(w, &m->main, false);
	return r < 0 ? r : tree_walk(w, &m->free, true);
}

int pagecheck_fd(int fd, const char *name, bool deep, struct pagecheck_result *out,
		 struct fault *fault)
{
	struct pagecheck_result result = { 0 };
	struct walk w;
	struct meta m;
	int r = walk_begin(&w, fd, name, fault);

	w.deep = deep;
	if (r > 0) {
		r = metas_read(&w, &m);
		if (r == 0) {
			result.txn = m.txn;
			r = walk_both(&w, &m);
			result.pages = METAS + w.used;
			result.last_page = m.last;
			result.entries = m.main.entries;
		}
	}
	free(w.seen);
	free(w.pages);
	if (out && (r == 0 || result.txn))
		*out = result;
	return r;
}

int pagecheck_txn(int fd, uint64_t *txn)
{
	uint64_t unused;

	return pagecheck_newest(fd, txn, &unused);
}

int pagecheck_newest(int fd, uint64_t *txn, uint64_t *last_page)
{
	struct walk w;
	struct meta m = { 0 };
	int r = walk_begin(&w, fd, "", NULL);

	if (r > 0)
		r = metas_read(&w, &m);
	if (r == 0) {
		*txn = m.txn;
		*last_page = m.last;
	}
	return r;
}
