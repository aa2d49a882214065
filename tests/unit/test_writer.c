/* SPDX-License-Identifier: ISC */
/*
 * writer: the real thread, journal and keyring with a small book of our own:
 * one value a handle, under the handle that START names.  What was
 * acknowledged is kept, in order, whatever stops it.
 */
#include "writer.h"

#include "calendar.h"
#include "childtest.h"

#include <nolog/frame.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDLES 4096u
#define SLICES 16u
#define WAIT_MS 60000 /* for what has to come */
#define BAD 13	      /* a start that the book refuses */
#define MANY 17	      /* one that is decided in PIECES */
#define PIECES 5
#define LIVE_AT 1000 /* any other start */
#define HOUR (INT64_C(3600) * 1000)

/* --- A book: the value of a handle is its start --- */

struct book {
	struct writer_book book;
	int64_t value[HANDLES]; /* 0: none */
	size_t live;
	_Atomic uint64_t decided;
	atomic_int allowed; /* decisions until there is no room; negative: any number */
	int pieces;	    /* of MANY, that were decided */
	int asked;	    /* eventfd: a query was served */
	atomic_bool room, no_space, blind; /* blind: F does not move */
	atomic_int generation, old_generation;
	atomic_bool turn;     /* upkeep: to a new generation */
	_Atomic int64_t seen; /* by the last query: the value of handle 1 */
	uint64_t last_batch;
	bool gap; /* batches that did not come one after the other */
};

static int stream_id(void *arg, const struct writer_link *link, uint8_t *generation, uint8_t id[16])
{
	struct book *b = arg;

	if (*generation == 0)
		*generation = (uint8_t)atomic_load(&b->generation);
	memset(id, 0, 16);
	nolog_put64(id, link->stream);
	id[8] = link->server[0];
	id[9] = *generation;
	return 0;
}

static uint8_t old_generation(void *arg)
{
	struct book *b = arg;

	return (uint8_t)atomic_load(&b->old_generation);
}

static void emit(const struct writer_link *link, uint64_t handle, int64_t value,
		 struct effects *out)
{
	struct effect e = { .type = EFFECT_OPEN };

	if (link)
		e.u.open.server = link->server_key;
	else
		server_pack(&e.u.open.server, (const uint8_t[NOLOG_SERVER_SIZE]){ 's' });
	e.u.open.handle = handle;
	e.u.open.start_ms = value;
	effects_add(out, &e);
}

static void set(struct book *b, uint64_t handle, int64_t value)
{
	int64_t *at = &b->value[handle % HANDLES];

	b->live += (*at == 0 && value != 0);
	*at = value;
}

static enum nolog_refusal decide(void *arg, const struct writer_link *link,
				 const struct sessions_time *t, const struct nolog_frame *event,
				 struct effects *out)
{
	struct book *b = arg;

	(void)t;
	atomic_fetch_add(&b->decided, 1);
	if (atomic_load(&b->allowed) > 0)
		atomic_fetch_sub(&b->allowed, 1);
	if (event->u.start.start_ms == BAD)
		return NOLOG_TIME_RANGE;
	if (event->u.start.start_ms == MANY && ++b->pieces < PIECES) {
		emit(link, 4000 + (uint64_t)b->pieces, MANY, out);
		return NOLOG_OK;
	}
	set(b, event->u.start.handle, event->u.start.start_ms);
	emit(link, event->u.start.handle, event->u.start.start_ms, out);
	return NOLOG_OK;
}

static bool more(void *arg)
{
	struct book *b = arg;

	if (b->pieces == PIECES)
		b->pieces = 0;
	return b->pieces > 0;
}

static void refresh(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	struct book *b = arg;

	(void)t;
	for (uint64_t h = slice; h < HANDLES; h += SLICES)
		if (b->value[h])
			emit(NULL, h, b->value[h], out);
}

static void expire(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	(void)arg;
	(void)t;
	(void)slice;
	(void)out;
}

static int64_t expire_ms(void *arg)
{
	(void)arg;
	return 0;
}

static size_t live(void *arg)
{
	const struct book *b = arg;

	return b->live;
}

static int apply(void *arg, const struct effect *e, int64_t running_ms)
{
	(void)running_ms;
	if (e->type != EFFECT_OPEN)
		return -EBADMSG;
	set(arg, e->u.open.handle, e->u.open.start_ms);
	return 0;
}

static void committed(void *arg, uint64_t batch, const struct effects *effects)
{
	struct book *b = arg;

	(void)effects;
	if (b->last_batch && batch != b->last_batch + 1)
		b->gap = true;
	b->last_batch = batch;
}

static uint64_t flushed(void *arg)
{
	struct book *b = arg;

	return atomic_load(&b->blind) ? 0 : UINT64_MAX - 1;
}

static void flush(void *arg)
{
	struct book *b = arg;

	atomic_store(&b->blind, false);
}

static bool room(void *arg)
{
	struct book *b = arg;

	return atomic_load(&b->room) && atomic_load(&b->allowed) != 0;
}

static bool no_space(void *arg)
{
	struct book *b = arg;

	return atomic_load(&b->no_space);
}

static void query(void *arg, const struct request *r, const struct sessions_time *t)
{
	struct book *b = arg;
	uint64_t one = 1;

	(void)r;
	(void)t;
	atomic_store(&b->seen, b->value[1]);
	assert_int_equal(write(b->asked, &one, sizeof(one)), sizeof(one));
}

static bool work(void *arg, const struct sessions_time *t)
{
	(void)arg;
	(void)t;
	return false;
}

static int upkeep(void *arg, struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	struct book *b = arg;

	(void)t;
	(void)fault;
	if (!atomic_exchange(&b->turn, false))
		return 0;
	atomic_store(&b->old_generation, atomic_load(&b->generation));
	atomic_fetch_add(&b->generation, 1);
	return writer_rename_streams(w);
}

/* --- A store with its writer --- */

struct place {
	char dir[200], ring[256], path[256];
	struct keyring *keyring;
	struct clock *clock;
	struct clock_reading now; /* the clock's running time is ours to move */
	struct journal *journal;
	struct writer *writer;
	struct book book;
	struct fault fault;
	_Atomic int failed;
	char failed_file[32];
};

static void failed(const struct fault *fault, void *arg)
{
	struct place *p = arg;

	memcpy(p->failed_file, fault->file, sizeof(p->failed_file));
	atomic_store(&p->failed, fault->error);
}

static void book_init(struct book *b)
{
	int asked = b->asked > 0 ? b->asked : eventfd(0, EFD_CLOEXEC);

	memset(b, 0, sizeof(*b));
	assert_true(asked > 0);
	b->asked = asked;
	atomic_store(&b->room, true);
	atomic_store(&b->allowed, -1);
	atomic_store(&b->no_space, false);
	atomic_store(&b->generation, 1);
	b->book = (struct writer_book){
		.book = KEYRING_SESSIONS,
		.slices = SLICES,
		.batch_events = 4096,
		.pass_ms = 30 * 60 * 1000,
		.key_ms = HOUR,
		.arg = b,
		.stream_id = stream_id,
		.old_generation = old_generation,
		.decide = decide,
		.more = more,
		.refresh = refresh,
		.expire = expire,
		.expire_ms = expire_ms,
		.live = live,
		.apply = apply,
		.committed = committed,
		.flushed = flushed,
		.flush = flush,
		.room = room,
		.no_space = no_space,
		.query = query,
		.work = work,
		.upkeep = upkeep,
	};
}

static void tick_on(struct place *p, int64_t ms)
{
	p->now.mono_ms += ms;
	(void)clock_tick(p->clock, &p->now);
}

static void open_store(struct place *p, int64_t tick_ms)
{
	struct journal_options jo = { .path = p->path,
				      .name = "sessions.mdb",
				      .book = p->book.book.book,
				      .map_bytes = (size_t)1 << 30,
				      .reserve_bytes = 1 << 18 };
	struct writer_options o = { .book = &p->book.book,
				    .retention_days = 90,
				    .links = 64,
				    .tick_ms = tick_ms,
				    .events = { failed, p } };

	if (!p->keyring)
		assert_int_equal(keyring_open(&p->keyring, p->ring, NULL), 0);
	clock_read(&p->now);
	p->now.vouched = true;
	p->now.mono_ms += HOUR; /* ahead of the machine's, so that only tick_on() moves it */
	assert_int_equal(
		clock_new(&p->clock, CLOCK_TRUST_ALWAYS, keyring_newest_day(p->keyring), 0), 0);
	(void)clock_tick(p->clock, &p->now);
	jo.keyring = o.keyring = p->keyring;
	assert_int_equal(journal_open(&p->journal, &jo, &p->fault), 0);
	o.journal = p->journal;
	o.clock = p->clock;
	assert_int_equal(writer_new(&p->writer, &o), 0);
	assert_int_equal(writer_replay(p->writer, &p->fault), 0);
}

static void close_store(struct place *p)
{
	writer_free(p->writer);
	journal_close(p->journal);
	clock_free(p->clock);
	keyring_close(p->keyring);
	p->writer = NULL;
	p->journal = NULL;
	p->clock = NULL;
	p->keyring = NULL;
}

/* Ends and begins again: a new book, from the log alone. */
static void reopen(struct place *p, int64_t tick_ms)
{
	close_store(p);
	book_init(&p->book);
	open_store(p, tick_ms);
}

static void create(struct place *p, int32_t today, int64_t made_ms)
{
	const char *tmp = getenv("TMPDIR");

	assert_int_equal(seal_init(), 0);
	(void)snprintf(p->dir, sizeof(p->dir), "%.150s/writer-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	(void)snprintf(p->ring, sizeof(p->ring), "%s/keyring", p->dir);
	(void)snprintf(p->path, sizeof(p->path), "%s/sessions.mdb", p->dir);
	assert_int_equal(
		keyring_create(&p->keyring, p->ring, today, calendar_month(today), made_ms, NULL),
		0);
	book_init(&p->book);
}

static int64_t wall(void)
{
	struct clock_reading r;

	clock_read(&r);
	return r.wall_ms;
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	int64_t now = wall();

	assert_non_null(p);
	create(p, calendar_day(now), now);
	*state = p;
	return 0;
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int teardown(void **state)
{
	struct place *p = *state;

	if (p->writer) {
		writer_stop(p->writer);
		writer_join(p->writer);
	}
	close_store(p);
	close(p->book.asked);
	assert_int_equal(nftw(p->dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS), 0);
	free(p);
	return 0;
}

/* --- The loop's side --- */

static void put(struct place *p, size_t i, uint64_t link, uint8_t kind, uint8_t code,
		const struct nolog_frame *f)
{
	struct request *r = queue_place(writer_requests(p->writer), i);

	memset(r, 0, sizeof(*r));
	r->link = link;
	r->kind = kind;
	r->code = code;
	if (f)
		nolog_frame_encode(r->u.frame, f);
}

static void push(struct place *p, size_t n)
{
	queue_push(writer_requests(p->writer), n);
	queue_ring(writer_requests(p->writer));
}

static struct nolog_frame hello_frame(uint64_t stream)
{
	struct nolog_frame f = { .type = NOLOG_HELLO };

	f.u.hello.server[0] = 's';
	f.u.hello.stream = stream;
	return f;
}

static struct nolog_frame start_frame(uint64_t seq, uint64_t handle, int64_t value)
{
	struct nolog_frame f = { .type = NOLOG_START, .seq = seq };

	f.u.start.handle = handle;
	f.u.start.start_ms = value;
	return f;
}

static void hello(struct place *p, uint64_t link, uint64_t stream)
{
	struct nolog_frame f = hello_frame(stream);

	put(p, 0, link, REQUEST_FRAME, 0, &f);
	push(p, 1);
}

/* Frames first to last, in one push; the handle is the number. */
static void report(struct place *p, uint64_t link, uint64_t first, uint64_t last)
{
	size_t n = 0;

	for (uint64_t seq = first; seq <= last; seq++) {
		struct nolog_frame f = start_frame(seq, seq % HANDLES, LIVE_AT + (int64_t)seq);

		put(p, n++, link, REQUEST_FRAME, 0, &f);
	}
	push(p, n);
}

static void next(struct place *p, struct answer *a, struct nolog_frame *f)
{
	struct queue *q = writer_answers(p->writer);

	while (!queue_ready(q)) {
		struct pollfd at = { .fd = queue_fd(q), .events = POLLIN };

		if (queue_may_sleep(q))
			assert_int_equal(poll(&at, 1, WAIT_MS), 1);
	}
	memcpy(a, queue_item(q, 0), sizeof(*a));
	queue_pop(q, 1);
	nolog_frame_decode(f, a->frame);
}

static void expect_welcome(struct place *p, uint64_t link, uint64_t position)
{
	struct nolog_frame f;
	struct answer a;

	next(p, &a, &f);
	assert_int_equal(a.kind, ANSWER_FRAME);
	assert_int_equal(f.type, NOLOG_WELCOME);
	assert_int_equal(a.link, link);
	assert_int_equal(a.taken, 1);
	assert_int_equal(f.seq, position);
	assert_in_range(f.u.welcome.now_ms, wall() - 60000, wall());
}

/* Until everything up to seq is acknowledged; adds up what was taken. */
static void expect_ack(struct place *p, uint64_t link, uint64_t seq, uint32_t taken)
{
	struct nolog_frame f;
	struct answer a;
	uint32_t sum = 0;

	do {
		next(p, &a, &f);
		assert_int_equal(a.kind, ANSWER_ACK);
		assert_int_equal(f.type, NOLOG_ACK);
		assert_int_equal(a.link, link);
		assert_false(a.close);
		sum += a.taken;
	} while (f.seq < seq);
	assert_int_equal(f.seq, seq);
	assert_int_equal(sum, taken);
}

static void expect_refused(struct place *p, uint64_t link, unsigned code, uint64_t seq, bool close)
{
	struct nolog_frame f;
	struct answer a;

	next(p, &a, &f);
	assert_int_equal(a.kind, ANSWER_FRAME);
	assert_int_equal(f.type, NOLOG_REFUSED);
	assert_int_equal(a.link, link);
	assert_int_equal(f.code, code);
	assert_int_equal(f.seq, seq);
	assert_int_equal(a.close, close);
}

static void expect_kind(struct place *p, uint64_t link, enum answer_kind kind)
{
	struct nolog_frame f;
	struct answer a;

	next(p, &a, &f);
	assert_int_equal(a.kind, kind);
	assert_int_equal(a.link, link);
}

static void ask(struct place *p)
{
	struct queue *q = writer_queries(p->writer);
	struct pollfd at = { .fd = p->book.asked, .events = POLLIN };
	struct request *r = queue_place(q, 0);
	uint64_t served;

	memset(r, 0, sizeof(*r));
	r->kind = REQUEST_LOOKUP;
	queue_push(q, 1);
	queue_ring(q);
	assert_int_equal(poll(&at, 1, WAIT_MS), 1);
	assert_int_equal(read(p->book.asked, &served, sizeof(served)), sizeof(served));
}

/* When it returns the writer has made a whole round with all that was put before. */
static void settle(struct place *p)
{
	for (int i = 0; i < 3; i++) {
		writer_wake(p->writer);
		ask(p);
	}
}

static void expect_nothing(struct place *p)
{
	settle(p);
	assert_int_equal(queue_ready(writer_answers(p->writer)), 0);
}

static void stop(struct place *p)
{
	writer_stop(p->writer);
	writer_join(p->writer);
	assert_true(writer_stopped(p->writer));
}

static void start(struct place *p, int64_t tick_ms)
{
	open_store(p, tick_ms);
	assert_int_equal(writer_start(p->writer), 0);
}

static void holds(const struct place *p, uint64_t handle, int64_t value)
{
	assert_int_equal(p->book.value[handle], value);
}

/* What report()s from 1 to last come to. */
static void holds_all(const struct place *p, uint64_t last)
{
	for (uint64_t h = 0; h < HANDLES; h++) {
		uint64_t seq = last - (last - h) % HANDLES; /* the last one of its handle */

		holds(p, h, h <= last && seq > 0 ? LIVE_AT + (int64_t)seq : 0);
	}
}

/* --- Greeting, taking, refusing --- */

static void an_unknown_stream_begins_at_zero_and_is_acknowledged(void **state)
{
	struct place *p = *state;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 3);
	expect_ack(p, 1, 3, 3);
	stop(p);
	assert_false(writer_dropped(p->writer));
	holds(p, 3, LIVE_AT + 3);
}

static void a_refusal_goes_before_the_ack_that_covers_it(void **state)
{
	struct place *p = *state;
	struct nolog_frame f[3] = { start_frame(1, 1, 5), start_frame(2, 2, BAD),
				    start_frame(3, 3, 5) };
	struct writer_stats stats;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	for (size_t i = 0; i < 3; i++)
		put(p, i, 1, REQUEST_FRAME, 0, &f[i]);
	push(p, 3);
	expect_refused(p, 1, NOLOG_TIME_RANGE, 2, false);
	expect_ack(p, 1, 3, 1); /* the refusal told of two */
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.refused[NOLOG_TIME_RANGE], 1);
	stop(p);
	holds(p, 2, 0);
}

static void a_closing_refusal_goes_behind_the_ack_of_what_came_before(void **state)
{
	struct place *p = *state;
	struct nolog_frame f[4] = { hello_frame(7), start_frame(1, 1, 5), start_frame(2, 2, 5),
				    start_frame(3, 3, 5) };

	start(p, 60000); /* it does not wait for the tick */
	for (size_t i = 0; i < 4; i++)
		put(p, i, 1, i == 3 ? REQUEST_REFUSE : REQUEST_FRAME, NOLOG_BAD_VERSION, &f[i]);
	push(p, 4);
	expect_welcome(p, 1, 0);
	expect_ack(p, 1, 2, 2);
	expect_refused(p, 1, NOLOG_BAD_VERSION, 3, true);
	report(p, 1, 3, 9); /* nothing is taken after it */
	expect_nothing(p);
	stop(p);
	holds(p, 3, 0);
}

static void a_frame_that_cannot_be_is_refused_before_any_greeting(void **state)
{
	struct place *p = *state;
	struct nolog_frame f = start_frame(1, 1, 5);

	start(p, 0);
	put(p, 0, 1, REQUEST_REFUSE, NOLOG_MALFORMED, &f);
	put(p, 1, 1, REQUEST_CLOSED, 0, NULL);
	push(p, 2);
	expect_kind(p, 1, ANSWER_GONE); /* goes ahead: the loop must not wait for a commit */
	expect_refused(p, 1, NOLOG_MALFORMED, 1, true);
}

static void gaps_and_zero_are_out_of_sequence(void **state)
{
	static const uint64_t wrong[] = { 4, 0, 2, UINT64_MAX };
	struct place *p = *state;

	start(p, 0);
	for (uint64_t i = 0; i < 4; i++) {
		uint64_t link = i + 1, stream = i + 100;
		struct nolog_frame f = start_frame(wrong[i], 1, 5);

		hello(p, link, stream);
		expect_welcome(p, link, 0);
		report(p, link, 1, 2);
		expect_ack(p, link, 2, 2);
		put(p, 0, link, REQUEST_FRAME, 0, &f);
		push(p, 1);
		expect_refused(p, link, NOLOG_BAD_SEQUENCE, wrong[i], true);
	}
}

/* Logs that a stream was taken up to seq, and handle's value, by another writer. */
static void log_before(struct place *p, uint64_t stream, uint64_t seq, uint64_t handle,
		       int64_t value)
{
	struct writer_link link = { .server = { 's' }, .stream = stream };
	struct effect e = { .type = EFFECT_STREAM };
	struct effects effects = { 0 };
	uint64_t batch;

	server_pack(&link.server_key, link.server);
	assert_int_equal(stream_id(&p->book, &link, &e.u.stream.generation, e.u.stream.stream), 0);
	e.u.stream.seq = seq;
	effects_add(&effects, &e);
	emit(&link, handle, value, &effects);
	open_store(p, 0);
	assert_int_equal(journal_reserve(p->journal, 2, NULL), 0);
	assert_int_equal(
		journal_commit(p->journal, (const uint8_t(*)[EFFECT_SIZE])effects.at, 2, 0, &batch),
		0);
	effects_free(&effects);
	reopen(p, 0);
}

static void after_the_last_number_there_is_none(void **state)
{
	struct place *p = *state;
	struct nolog_frame f = start_frame(UINT64_MAX, 1, 5);

	log_before(p, 7, UINT64_MAX - 1, 1, LIVE_AT);
	assert_int_equal(writer_start(p->writer), 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, UINT64_MAX - 1);
	put(p, 0, 1, REQUEST_FRAME, 0, &f);
	f.seq = 0;
	put(p, 1, 1, REQUEST_FRAME, 0, &f);
	push(p, 2);
	expect_ack(p, 1, UINT64_MAX, 2);
	expect_refused(p, 1, NOLOG_BAD_SEQUENCE, 0, true);
}

static void what_is_repeated_is_only_acknowledged(void **state)
{
	struct place *p = *state;
	struct nolog_frame bad = start_frame(3, 3, BAD);
	struct writer_stats stats;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 2);
	expect_ack(p, 1, 2, 2);
	put(p, 0, 1, REQUEST_FRAME, 0, &bad);
	push(p, 1);
	expect_refused(p, 1, NOLOG_TIME_RANGE, 3, false);
	expect_ack(p, 1, 3, 0);
	put(p, 0, 1, REQUEST_CLOSED, 0, NULL);
	push(p, 1);
	expect_kind(p, 1, ANSWER_GONE);

	hello(p, 2, 7);
	expect_welcome(p, 2, 3);
	report(p, 2, 2, 2);
	put(p, 0, 2, REQUEST_FRAME, 0, &bad); /* was refused: not once more */
	push(p, 1);
	report(p, 2, 4, 4);
	expect_ack(p, 2, 4, 3);
	assert_int_equal(atomic_load(&p->book.decided), 4);
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.repeats, 2);
	assert_int_equal(stats.frames, 4);
	assert_int_equal(stats.streams, 1);
}

static void stream_zero_keeps_no_position(void **state)
{
	struct place *p = *state;

	start(p, 0);
	for (uint64_t link = 1; link <= 2; link++) {
		hello(p, link, 0);
		expect_welcome(p, link, 0);
		report(p, link, 1, 2);
		expect_ack(p, link, 2, 2);
	}
	stop(p);
	assert_int_equal(atomic_load(&p->book.decided), 4);
}

static void what_is_out_of_sequence_behind_others_does_not_wait_for_the_tick(void **state)
{
	struct place *p = *state;

	start(p, 60000);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 2);
	report(p, 1, 3, 4);
	expect_nothing(p);
	report(p, 1, 6, 7);
	expect_ack(p, 1, 4, 5); /* and that it is done with the one that is refused */
	expect_refused(p, 1, NOLOG_BAD_SEQUENCE, 6, true);
	hello(p, 2, 8); /* numbers that are repeated are in sequence */
	expect_welcome(p, 2, 0);
	report(p, 2, 1, 3);
	expect_nothing(p);
	report(p, 2, 3, 3);
	expect_ack(p, 2, 3, 4);
	expect_refused(p, 2, NOLOG_BAD_SEQUENCE, 3, true);
}

/* --- Two links with one stream --- */

static void the_newer_link_of_a_stream_wins(void **state)
{
	struct place *p = *state;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 2);
	expect_ack(p, 1, 2, 2);
	hello(p, 2, 7);
	expect_kind(p, 1, ANSWER_CLOSE);
	expect_welcome(p, 2, 2);
	report(p, 1, 3, 5); /* on the older one: nothing is taken */
	report(p, 2, 3, 3);
	expect_ack(p, 2, 3, 1);
	stop(p);
	assert_int_equal(atomic_load(&p->book.decided), 3);
	holds(p, 4, 0);
}

static void a_greeting_forces_the_commit_of_what_its_stream_has_waiting(void **state)
{
	struct place *p = *state;

	start(p, 60000);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 4);
	expect_nothing(p);
	hello(p, 2, 8); /* another stream does not */
	expect_welcome(p, 2, 0);
	expect_nothing(p);
	hello(p, 3, 7);
	expect_ack(p, 1, 4, 4);
	expect_kind(p, 1, ANSWER_CLOSE);
	expect_welcome(p, 3, 4);
}

/* --- The tick --- */

static void nothing_is_committed_before_its_tick(void **state)
{
	struct place *p = *state;

	start(p, 9000);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 2);
	expect_nothing(p);
	for (int i = 0; i < 2; i++) { /* idle work is done meanwhile, without it */
		tick_on(p, 4000);
		expect_nothing(p);
		assert_int_equal(atomic_load(&p->book.decided), 0);
	}
	report(p, 1, 3, 3); /* the first counts */
	tick_on(p, 1000);
	writer_wake(p->writer);
	expect_ack(p, 1, 3, 3);
}

static void a_full_batch_does_not_wait_for_its_tick(void **state)
{
	struct place *p = *state;

	p->book.book.batch_events = 8;
	start(p, 60000);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 19);
	expect_ack(p, 1, 16, 16);
	expect_nothing(p);
	writer_tick_set(p->writer, 0);
	expect_ack(p, 1, 19, 3);
}

/* --- Links that go --- */

static void a_slot_is_free_when_nothing_of_its_link_waits(void **state)
{
	struct place *p = *state;
	uint64_t again = (uint64_t)2 << 32 | 1;

	start(p, 60000);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	put(p, 0, 5, REQUEST_CLOSED, 0, NULL); /* was never heard of */
	push(p, 1);
	expect_kind(p, 5, ANSWER_GONE);
	report(p, 1, 1, 2);
	put(p, 0, 1, REQUEST_CLOSED, 0, NULL);
	push(p, 1);
	expect_nothing(p);
	writer_tick_set(p->writer, 0);
	expect_kind(p, 1, ANSWER_GONE);
	expect_ack(p, 1, 2, 2); /* nobody reads it: it carries the old generation */
	hello(p, again, 7);
	expect_welcome(p, again, 2);
	report(p, 1, 3, 3); /* of the old one: too late */
	report(p, again, 3, 3);
	expect_ack(p, again, 3, 1);
}

/* --- Stopping --- */

static void stop_commits_and_acknowledges_everything(void **state)
{
	struct place *p = *state;
	struct nolog_frame f;
	struct answer a;
	uint32_t taken = 0;

	start(p, 60000);
	hello(p, 1, 7);
	for (uint64_t i = 0; i < 10; i++)
		report(p, 1, i * 2000 + 1, i * 2000 + 2000);
	stop(p);
	assert_false(writer_dropped(p->writer));
	expect_welcome(p, 1, 0);
	while (queue_ready(writer_answers(p->writer))) {
		next(p, &a, &f);
		assert_int_equal(a.kind, ANSWER_ACK);
		taken += a.taken;
	}
	assert_int_equal(f.seq, 20000);
	assert_int_equal(taken, 20000);
	assert_false(p->book.gap);
	reopen(p, 0);
	holds_all(p, 20000);
}

static void stop_is_heard_at_once(void **state)
{
	struct place *p = *state;

	/* A bell that is lost between looking and sleeping costs seconds. */
	for (int i = 0; i < 40; i++) {
		int64_t began = wall();

		start(p, 0);
		settle(p);
		stop(p);
		assert_true(wall() - began < 1500);
		close_store(p);
		book_init(&p->book);
	}
}

static void without_room_further_down_it_waits_and_goes_on(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;

	atomic_store(&p->book.room, false);
	start(p, 0);
	hello(p, 1, 7);
	report(p, 1, 1, 5);
	expect_nothing(p); /* but questions are answered */
	writer_stats(p->writer, &stats);
	assert_false(stats.stalled_room); /* it is only busy further down */
	atomic_store(&p->book.no_space, true);
	do
		writer_stats(p->writer, &stats);
	while (!stats.stalled_room); /* it looks again within its time */
	atomic_store(&p->book.no_space, false);
	atomic_store(&p->book.room, true);
	writer_wake(p->writer);
	expect_welcome(p, 1, 0);
	expect_ack(p, 1, 5, 5);
	settle(p);
	writer_stats(p->writer, &stats);
	assert_false(stats.stalled_room);
}

static void when_there_is_no_more_room_within_a_batch_the_rest_waits(void **state)
{
	struct place *p = *state;

	atomic_store(&p->book.allowed, 5);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 12);
	expect_ack(p, 1, 5, 5);
	expect_nothing(p);
	assert_int_equal(atomic_load(&p->book.decided), 5);
	report(p, 1, 13, 14); /* come behind them */
	atomic_store(&p->book.allowed, 4);
	writer_wake(p->writer);
	expect_ack(p, 1, 9, 4);
	/* What it is when it is killed here: position and effects agree. */
	writer_stop(p->writer);
	while (!writer_stopped(p->writer)) {
		writer_wake(p->writer);
		(void)poll(NULL, 0, 1);
	}
	writer_join(p->writer);
	assert_true(writer_dropped(p->writer));
	assert_false(p->book.gap);
	reopen(p, 60000);
	holds_all(p, 9);
	atomic_store(&p->book.allowed, 2);
	assert_int_equal(writer_start(p->writer), 0);
	hello(p, 2, 7);
	expect_welcome(p, 2, 9);
	report(p, 2, 10, 14);
	expect_nothing(p);
	writer_tick_set(p->writer, 0);
	expect_ack(p, 2, 11, 2);
	writer_tick_set(p->writer, 60000); /* they were due and go on being so */
	atomic_store(&p->book.allowed, -1);
	writer_wake(p->writer);
	expect_ack(p, 2, 14, 3);
	stop(p);
	assert_false(writer_dropped(p->writer));
	reopen(p, 0);
	holds_all(p, 14);
}

/* An event with more effects than there is room for is taken when the last of them is. */
static void an_event_may_be_decided_in_pieces(void **state)
{
	struct place *p = *state;
	struct nolog_frame many = start_frame(2, 2, MANY);
	struct writer_stats stats;

	atomic_store(&p->book.allowed, 3);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 1);
	put(p, 0, 1, REQUEST_FRAME, 0, &many);
	push(p, 1);
	report(p, 1, 3, 3);
	expect_ack(p, 1, 1, 1);
	settle(p);
	assert_int_equal(p->book.pieces, 2);
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.frames, 1);
	atomic_store(&p->book.allowed, 1);
	writer_wake(p->writer);
	expect_nothing(p);
	assert_int_equal(p->book.pieces, 3);
	atomic_store(&p->book.allowed, -1);
	writer_wake(p->writer);
	expect_ack(p, 1, 3, 2);
	stop(p);
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.frames, 3);
	reopen(p, 0);
	holds(p, 2, MANY);
	holds(p, 4000 + PIECES - 1, MANY);
	holds(p, 3, LIVE_AT + 3);
}

/* A reporter that repeats it is not told that it was taken. */
static void an_event_of_which_a_piece_is_missing_was_not_taken(void **state)
{
	struct place *p = *state;
	struct nolog_frame many = start_frame(1, 2, MANY);

	atomic_store(&p->book.allowed, 2);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	put(p, 0, 1, REQUEST_FRAME, 0, &many);
	push(p, 1);
	expect_nothing(p);
	writer_stop(p->writer);
	while (!writer_stopped(p->writer)) {
		writer_wake(p->writer);
		(void)poll(NULL, 0, 1);
	}
	writer_join(p->writer);
	reopen(p, 0);
	assert_int_equal(writer_start(p->writer), 0);
	hello(p, 2, 7);
	expect_welcome(p, 2, 0);
}

static void stop_without_room_says_that_something_was_dropped(void **state)
{
	struct place *p = *state;

	atomic_store(&p->book.room, false);
	start(p, 0);
	hello(p, 1, 7);
	report(p, 1, 1, 5);
	settle(p);
	writer_stop(p->writer);
	while (!writer_stopped(p->writer)) { /* its patience is counted in rounds */
		writer_wake(p->writer);
		(void)poll(NULL, 0, 1);
	}
	writer_join(p->writer);
	assert_true(writer_dropped(p->writer));
	assert_int_equal(queue_ready(writer_answers(p->writer)), 0);
}

static void stop_without_room_and_without_events_dropped_nothing(void **state)
{
	struct place *p = *state;

	atomic_store(&p->book.room, false);
	start(p, 0);
	settle(p);
	writer_stop(p->writer);
	while (!writer_stopped(p->writer)) {
		writer_wake(p->writer);
		(void)poll(NULL, 0, 1);
	}
	writer_join(p->writer);
	assert_false(writer_dropped(p->writer));
}

/* --- Crashes --- */

struct victim {
	struct place *place;
	uint64_t from, to;
	int out;
};

/* In a child: reports until it is killed, telling what was acknowledged. */
static void report_until_killed(void **state)
{
	struct victim *v = *state;
	struct place *p = v->place;
	struct nolog_frame f;
	struct answer a;

	start(p, 0);
	hello(p, 1, 7);
	report(p, 1, v->from, v->from + 999);
	for (uint64_t sent = v->from + 1000;;) {
		next(p, &a, &f);
		if (a.kind != ANSWER_ACK)
			continue;
		assert_int_equal(write(v->out, &f.seq, sizeof(f.seq)), sizeof(f.seq));
		if (f.seq >= v->to)
			(void)raise(SIGKILL);
		if (sent < f.seq + 1000) {
			report(p, 1, sent, sent + 99);
			sent += 100;
		}
	}
}

static uint64_t crash_after(struct place *p, uint64_t from, uint64_t to)
{
	struct victim v = { p, from, to, -1 };
	uint64_t acked = 0, seq;
	int fd[2], status;

	assert_int_equal(pipe(fd), 0);
	v.out = fd[1];
	status = child_status(report_until_killed, &v);
	close(fd[1]);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	while (read(fd[0], &seq, sizeof(seq)) == sizeof(seq))
		acked = seq;
	close(fd[0]);
	return acked;
}

static void after_a_crash_positions_and_effects_agree(void **state)
{
	struct place *p = *state;
	struct writer_link link = { .server = { 's' }, .stream = 7 };
	uint64_t position = 0;

	for (unsigned round = 0; round < 8; round++) {
		uint8_t generation = 0, id[16];
		uint64_t acked;

		close_store(p);
		book_init(&p->book);
		acked = crash_after(p, position + 1, position + 1 + round * 137);
		book_init(&p->book);
		open_store(p, 0);
		assert_int_equal(stream_id(&p->book, &link, &generation, id), 0);
		position = streams_get(writer_streams(p->writer), id);
		assert_true(position >= acked); /* acknowledged means kept */
		holds_all(p, position);		/* and what is kept, all of it */
		assert_int_equal(atomic_load(&p->book.decided), 0);
	}
}

/* --- The log's length --- */

static void the_log_stays_short_over_many_batches(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;
	struct nolog_frame f;
	struct answer a;
	uint64_t sent = 0, most = 0;
	const uint64_t all = 1500000;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	for (uint64_t acked = 0; acked < all;) {
		while (sent < all && sent - acked < 16000) {
			report(p, 1, sent + 1, sent + 1000);
			sent += 1000;
		}
		next(p, &a, &f);
		acked = f.seq;
		writer_stats(p->writer, &stats);
		if (stats.journal_effects > most)
			most = stats.journal_effects;
	}
	/* One and a half times what lives, and the constant with its slack. */
	assert_true(most < 3 * 262144);
	stop(p);
	writer_stats(p->writer, &stats);
	assert_true(stats.passes >= 2);
	assert_false(p->book.gap);
	reopen(p, 0);
	holds_all(p, all);
}

static void an_idle_log_is_refreshed_and_cut_by_time(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;

	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	for (uint64_t round = 0; round < 5; round++) {
		for (uint64_t h = 1; h <= 100; h++) {
			struct nolog_frame f = start_frame(round * 100 + h, h, LIVE_AT);

			put(p, h - 1, 1, REQUEST_FRAME, 0, &f);
		}
		push(p, 100);
		expect_ack(p, 1, round * 100 + 100, 100);
	}
	for (int i = 0; i < 3 * 30 * 60 / 4; i++) {
		tick_on(p, 4000);
		writer_wake(p->writer);
		ask(p);
	}
	settle(p);
	writer_stats(p->writer, &stats);
	assert_true(stats.passes >= 1);
	assert_in_range(stats.journal_effects, 101, 250); /* 500 were logged */
	stop(p);
	reopen(p, 0);
	holds(p, 100, LIVE_AT);
}

static void what_is_in_no_day_file_yet_is_not_cut(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;

	atomic_store(&p->book.blind, true);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 1000);
	expect_ack(p, 1, 1000, 1000);
	for (int i = 0; i < 2 * 30 * 60 / 4; i++) {
		tick_on(p, 4000);
		writer_wake(p->writer);
		ask(p);
	}
	settle(p);
	writer_stats(p->writer, &stats);
	assert_true(stats.passes >= 1);
	assert_true(stats.journal_effects >= 2000);
	assert_int_equal(journal_first(writer_journal(p->writer)), 1);
}

/* --- Keys --- */

static uint32_t epoch_of(const struct place *p)
{
	struct keyring_journal info;

	keyring_journal_info(p->keyring, KEYRING_SESSIONS, &info);
	assert_int_equal(info.old_epoch, 0);
	return info.epoch;
}

static void a_key_is_renewed_when_it_is_old_enough(void **state)
{
	struct place *p = *state;
	struct keyring_journal info;
	struct writer_stats stats;
	uint32_t epoch;

	p->book.book.key_ms = 0; /* as soon as the one before is gone */
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 10);
	expect_ack(p, 1, 10, 10);
	settle(p);
	keyring_journal_info(p->keyring, KEYRING_SESSIONS, &info);
	epoch = info.epoch;
	assert_int_equal(info.old_epoch, epoch - 1); /* lives while blocks are under it */
	for (int i = 0; i < 30 * 60 / 4 + 20; i++) {
		tick_on(p, 4000);
		writer_wake(p->writer);
		ask(p);
	}
	settle(p);
	writer_stats(p->writer, &stats);
	keyring_journal_info(p->keyring, KEYRING_SESSIONS, &info);
	assert_true(info.epoch > epoch);
	assert_true(stats.renewals >= 2);
	stop(p);
	reopen(p, 0);
	holds(p, 10, LIVE_AT + 10);
}

static void a_late_key_is_replaced_before_anything_else(void **state)
{
	struct place *p = *state;
	int64_t now = wall();
	uint32_t epoch;

	/* Two days ago a nologd was killed. */
	close_store(p);
	assert_int_equal(unlink(p->ring), 0);
	assert_int_equal(keyring_create(&p->keyring, p->ring, calendar_day(now) - 2,
					calendar_month(calendar_day(now) - 2), now - 49 * HOUR,
					NULL),
			 0);
	log_before(p, 7, 10, 10, LIVE_AT + 10);
	p->book.book.key_ms = 100 * HOUR; /* it is not the age that counts here */
	assert_int_equal(keyring_forget_days(p->keyring, calendar_day(now), calendar_day(now) - 89),
			 0);
	atomic_store(&p->book.blind, true); /* until it asks for a flush */
	epoch = epoch_of(p);
	assert_int_equal(writer_catch_up(p->writer, &p->fault), 0);
	assert_true(epoch_of(p) > epoch);
	epoch = epoch_of(p);
	assert_int_equal(writer_catch_up(p->writer, &p->fault), 0);
	assert_int_equal(epoch_of(p), epoch);
	holds(p, 10, LIVE_AT + 10);
	reopen(p, 0);
	holds(p, 10, LIVE_AT + 10);
	assert_int_equal(journal_effects(p->journal), 2);
}

static void a_newest_day_ahead_of_the_clock_does_not_make_every_key_late(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;
	int32_t today = calendar_day(wall());

	assert_int_equal(keyring_forget_days(p->keyring, today + 3, today + 3 - 89), 0);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	report(p, 1, 1, 10);
	expect_ack(p, 1, 10, 10);
	settle(p);
	settle(p);
	assert_true(epoch_of(p) <= 2);
	writer_stats(p->writer, &stats);
	assert_false(stats.key_late);
}

static void streams_follow_the_key_of_their_names(void **state)
{
	struct place *p = *state;
	struct writer_stats stats;

	start(p, 0);
	for (uint64_t link = 1; link <= 2; link++) {
		hello(p, link, link);
		expect_welcome(p, link, 0);
		report(p, link, 1, 3);
		expect_ack(p, link, 3, 3);
	}
	put(p, 0, 2, REQUEST_CLOSED, 0, NULL);
	push(p, 1);
	expect_kind(p, 2, ANSWER_GONE);
	atomic_store(&p->book.turn, true);
	settle(p);
	report(p, 1, 4, 4); /* the living link goes on */
	expect_ack(p, 1, 4, 1);
	assert_int_equal(atomic_load(&p->book.decided), 7);
	hello(p, 3, 2); /* the other is found under its old name, and moves */
	expect_welcome(p, 3, 3);
	settle(p);
	writer_stats(p->writer, &stats);
	assert_int_equal(stats.streams, 2);
	stop(p);

	reopen(p, 0);
	atomic_store(&p->book.generation, 2); /* and the old key is gone */
	assert_int_equal(writer_start(p->writer), 0);
	hello(p, 1, 1);
	expect_welcome(p, 1, 4);
	hello(p, 2, 2);
	expect_welcome(p, 2, 3);
}

/* --- Space and failure, in a child: mounts and limits are a process's own --- */

static bool own_mounts(void)
{
	return unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
}

static void fill_disk(const char *path)
{
	static char block[4096];
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	memset(block, 1, sizeof(block));
	while (write(fd, block, sizeof(block)) == sizeof(block))
		;
	close(fd);
}

static void in_a_full_disk(void **state)
{
	struct place *p = *state;
	struct writer_stats stats = { 0 };
	char filler[256];
	uint64_t sent = 0;

	if (!own_mounts() || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", p->dir, "tmpfs", 0, "size=4m") < 0)
		_exit(CHILD_SKIP);
	assert_int_equal(keyring_create(&p->keyring, p->ring, calendar_day(wall()),
					calendar_month(calendar_day(wall())), wall(), NULL),
			 0);
	book_init(&p->book);
	start(p, 0);
	hello(p, 1, 7);
	expect_welcome(p, 1, 0);
	(void)snprintf(filler, sizeof(filler), "%s/filler", p->dir);
	fill_disk(filler);
	while (!stats.stalled_space) {
		struct nolog_frame f = start_frame(sent + 1, 1, (int64_t)sent + 1 + LIVE_AT);

		sent++;
		put(p, 0, 1, REQUEST_FRAME, 0, &f);
		push(p, 1);
		settle(p);
		writer_stats(p->writer, &stats);
		assert_true(sent < 100000);
	}
	/* Questions are answered, with what was acknowledged, and without spinning. */
	ask(p);
	assert_int_equal(atomic_load(&p->book.seen), LIVE_AT + (int64_t)sent - 1);
	assert_int_equal(unlink(filler), 0);
	writer_wake(p->writer);
	for (struct answer a = { 0 };;) {
		struct nolog_frame f;

		next(p, &a, &f);
		if (f.seq == sent)
			break;
	}
	settle(p);
	writer_stats(p->writer, &stats);
	assert_false(stats.stalled_space);
	fill_disk(filler);
	stop(p);
	assert_int_equal(atomic_load(&p->failed), 0);
	close_store(p);
}

static void with_keyring_writes_that_fail(void **state)
{
	struct place *p = *state;
	struct rlimit limit = { 4096, 4096 }; /* the keyring's second slot is beyond it */

	p->book.book.key_ms = 0;
	open_store(p, 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(writer_start(p->writer), 0);
	hello(p, 1, 7);
	report(p, 1, 1, 5);
	while (!writer_stopped(p->writer))
		(void)poll(NULL, 0, 1);
	writer_join(p->writer);
	assert_true(atomic_load(&p->failed) < 0);
	assert_string_equal(p->failed_file, "keyring");
	assert_int_equal(queue_ready(writer_answers(p->writer)), 0); /* nothing was promised */
}

static void a_full_disk_stalls_and_loses_nothing(void **state)
{
	close_store(*state);
	child_run(in_a_full_disk, *state);
}

static void a_keyring_that_cannot_be_written_ends_it_without_an_answer(void **state)
{
	close_store(*state);
	child_run(with_keyring_writes_that_fail, *state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_unknown_stream_begins_at_zero_and_is_acknowledged),
		TEST(a_refusal_goes_before_the_ack_that_covers_it),
		TEST(a_closing_refusal_goes_behind_the_ack_of_what_came_before),
		TEST(a_frame_that_cannot_be_is_refused_before_any_greeting),
		TEST(gaps_and_zero_are_out_of_sequence),
		TEST(after_the_last_number_there_is_none),
		TEST(what_is_out_of_sequence_behind_others_does_not_wait_for_the_tick),
		TEST(what_is_repeated_is_only_acknowledged),
		TEST(stream_zero_keeps_no_position),
		TEST(the_newer_link_of_a_stream_wins),
		TEST(a_greeting_forces_the_commit_of_what_its_stream_has_waiting),
		TEST(nothing_is_committed_before_its_tick),
		TEST(a_full_batch_does_not_wait_for_its_tick),
		TEST(a_slot_is_free_when_nothing_of_its_link_waits),
		TEST(stop_commits_and_acknowledges_everything),
		TEST(stop_is_heard_at_once),
		TEST(without_room_further_down_it_waits_and_goes_on),
		TEST(when_there_is_no_more_room_within_a_batch_the_rest_waits),
		TEST(an_event_may_be_decided_in_pieces),
		TEST(an_event_of_which_a_piece_is_missing_was_not_taken),
		TEST(stop_without_room_says_that_something_was_dropped),
		TEST(stop_without_room_and_without_events_dropped_nothing),
		TEST(after_a_crash_positions_and_effects_agree),
		TEST(the_log_stays_short_over_many_batches),
		TEST(an_idle_log_is_refreshed_and_cut_by_time),
		TEST(what_is_in_no_day_file_yet_is_not_cut),
		TEST(a_key_is_renewed_when_it_is_old_enough),
		TEST(a_late_key_is_replaced_before_anything_else),
		TEST(a_newest_day_ahead_of_the_clock_does_not_make_every_key_late),
		TEST(streams_follow_the_key_of_their_names),
		TEST(a_full_disk_stalls_and_loses_nothing),
		TEST(a_keyring_that_cannot_be_written_ends_it_without_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
