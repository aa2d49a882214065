/* SPDX-License-Identifier: ISC */
/*
 * The client library against a scripted nologd: what reaches the daemon, once,
 * in order and with the right numbers, whatever happens to the connection.
 */
#include "client_queue.h"

#include <nolog/client.h>
#include <nolog/text.h>

#include "fakeserver.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static const uint8_t ip[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 8, [15] = 2 };
static const uint8_t account[32] = { 1, 2, 3 };

/* --- What the callbacks saw -------------------------------------------- */

#define LOST_MAX 64
struct lost {
	size_t n;
	struct nolog_frame event[LOST_MAX];
	enum nolog_lost what[LOST_MAX];
	unsigned code[LOST_MAX];
	struct nolog_reporter *answer_with_session; /* NULL: only noted */
	int answered;
};

static void note_lost(const struct nolog_frame *event, enum nolog_lost what, unsigned code,
		      void *arg)
{
	struct lost *l = arg;

	assert_true(l->n < LOST_MAX);
	l->event[l->n] = *event;
	l->what[l->n] = what;
	l->code[l->n++] = code;
	if (l->answer_with_session)
		l->answered = nolog_report_session(l->answer_with_session, 1, 2, ip);
}

static struct nolog_reporter *reporter(const struct fake *s, struct lost *lost, size_t queue,
				       uint64_t stream, bool one_shot)
{
	const struct nolog_reporter_options o = {
		.run_dir = s->dir,
		.role = s->role,
		.server = "nl-ams-03",
		.stream = stream,
		.one_shot = one_shot,
		.queue_events = queue,
		.lost = lost ? note_lost : NULL,
		.arg = lost,
	};
	struct nolog_reporter *r = NULL;

	assert_int_equal(nolog_reporter_new(&r, &o), 0);
	return r;
}

static void step(struct nolog_reporter *r)
{
	assert_int_equal(nolog_reporter_step(r), 0);
}

/* Connects, takes HELLO and says WELCOME; the reporter has read it afterwards. */
static struct nolog_frame welcome(struct fake *s, struct nolog_reporter *r, uint64_t seq)
{
	struct nolog_frame hello;

	step(r);
	assert_true(fake_accept(s));
	assert_true(fake_next(s, &hello));
	assert_int_equal(hello.type, NOLOG_HELLO);
	assert_int_equal(hello.seq, 0);
	fake_say(s, NOLOG_WELCOME, seq, 0);
	step(r);
	return hello;
}

/* The connection ends, and the reporter has noticed and may try again. */
static void cut(struct fake *s, struct nolog_reporter *r)
{
	fake_hangup(s);
	(void)nolog_reporter_step(r);
	assert_int_equal(nolog_reporter_fd(r), -1);
	fake_clock_advance(5000);
}

static void expect_event(struct fake *s, uint8_t type, uint64_t seq)
{
	struct nolog_frame f;

	assert_true(fake_next(s, &f));
	assert_int_equal(f.type, type);
	assert_int_equal(f.seq, seq);
}

static void expect_nothing(struct fake *s)
{
	struct nolog_frame f;

	assert_false(fake_next(s, &f));
	assert_int_equal(s->have, 0);
}

static struct nolog_reporter_stats stats(const struct nolog_reporter *r)
{
	struct nolog_reporter_stats st;

	nolog_reporter_stats(r, &st);
	assert_int_equal(st.sent, st.acknowledged + st.dropped + st.queued);
	assert_true(st.refused <= st.acknowledged);
	return st;
}

/* --- Names and making -------------------------------------------------- */

static void sockets_and_refusals_have_their_names(void **state)
{
	(void)state;
	assert_string_equal(nolog_socket_name(NOLOG_ROLE_SESSIONS), "sessions.sock");
	assert_string_equal(nolog_socket_name(NOLOG_ROLE_USAGE), "usage.sock");
	assert_string_equal(nolog_socket_name(NOLOG_ROLE_LOOKUP), "lookup.sock");
	assert_string_equal(nolog_socket_name(NOLOG_ROLE_QUOTA), "quota.sock");
	assert_string_equal(nolog_socket_name(NOLOG_ROLE_ADMIN), "admin.sock");
	assert_null(nolog_socket_name((enum nolog_role)NOLOG_ROLES));
	assert_string_equal(nolog_refusal_text(16), "unknown handle");
	for (unsigned code = 0; code < 70000; code++)
		assert_non_null(nolog_refusal_text(code));
}

static void an_account_is_the_unkeyed_blake2b_256_of_its_bytes(void **state)
{
	/* Of nothing, and of "abc", by another implementation (b2sum -l 256). */
	static const uint8_t none[32] = { 0x0e, 0x57, 0x51, 0xc0, 0x26, 0xe5, 0x43, 0xb2,
					  0xe8, 0xab, 0x2e, 0xb0, 0x60, 0x99, 0xda, 0xa1,
					  0xd1, 0xe5, 0xdf, 0x47, 0x77, 0x8f, 0x77, 0x87,
					  0xfa, 0xab, 0x45, 0xcd, 0xf1, 0x2f, 0xe3, 0xa8 };
	static const uint8_t abc[32] = { 0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72,
					 0x31, 0x71, 0xef, 0x3f, 0xee, 0x98, 0x57, 0x9b,
					 0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb, 0x3e, 0x42,
					 0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19 };
	uint8_t out[32], other[32];

	(void)state;
	nolog_account(out, NULL, 0);
	assert_memory_equal(out, none, 32);
	nolog_account(out, "abc", 3);
	assert_memory_equal(out, abc, 32);
	nolog_account(other, "abc ", 4);
	assert_memory_not_equal(out, other, 32);
	nolog_account(other, "ABC", 3);
	assert_memory_not_equal(out, other, 32);
}

static void a_reporter_is_not_made_of_bad_options(void **state)
{
	char dir[200];
	struct nolog_reporter_options o = { .role = NOLOG_ROLE_SESSIONS, .server = "a" };
	struct nolog_reporter *r = NULL;

	(void)state;
	o.role = NOLOG_ROLE_LOOKUP;
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.role = (enum nolog_role)77;
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.role = NOLOG_ROLE_USAGE;
	o.server = NULL;
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.server = "NL";
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.server = "abcdefghijklmnopq";
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.server = "a";
	o.one_shot = true;
	o.stream = 1;
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	o.one_shot = false;
	memset(dir, 'd', sizeof(dir) - 1);
	dir[sizeof(dir) - 1] = '\0';
	o.run_dir = dir;
	assert_int_equal(nolog_reporter_new(&r, &o), -ENAMETOOLONG);
	/* The longest that fits: 108 bytes with "/usage.sock" and the zero. */
	dir[108 - 12] = '\0';
	assert_int_equal(nolog_reporter_new(&r, &o), 0);
	nolog_reporter_free(r);
	r = NULL;
	memcpy(dir + 108 - 12, "d", 2);
	assert_int_equal(nolog_reporter_new(&r, &o), -ENAMETOOLONG);
	o.run_dir = "";
	assert_int_equal(nolog_reporter_new(&r, &o), -EINVAL);
	assert_null(r);
	nolog_reporter_free(NULL);
	nolog_query_close(NULL);
}

/* --- The plain case ---------------------------------------------------- */

static void every_kind_of_event_reaches_nologd_with_rising_seq(void **state)
{
	struct nolog_frame f, hello;
	struct nolog_reporter *r;
	uint64_t number = 0;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_start(r, 7, 1000, ip), 0);
	assert_int_equal(nolog_report_alive(r, 7, 1500), 0);
	hello = welcome(&s, r, 0);
	assert_memory_equal(hello.u.hello.server, "nl-ams-03\0\0\0\0\0\0", 16);
	assert_true(hello.u.hello.stream != 0);
	assert_true(hello.u.hello.stream == nolog_reporter_stream(r));
	assert_true(nolog_reporter_welcomed(r));
	assert_int_equal(nolog_report_end(r, 7, 2000), 0);
	assert_int_equal(nolog_report_session(r, 1, 2, ip), 0);
	assert_int_equal(nolog_report_restart(r, 3000), 0);
	f = (struct nolog_frame){ .type = NOLOG_END, .seq = 999 };
	assert_int_equal(nolog_reporter_send(r, &f, &number), 0);
	assert_int_equal(number, 6);
	step(r);
	assert_true(fake_next(&s, &f));
	assert_true(f.type == NOLOG_START && f.seq == 1 && f.u.start.handle == 7);
	assert_true(f.u.start.start_ms == 1000);
	assert_memory_equal(f.u.start.ip, ip, 16);
	assert_true(fake_next(&s, &f));
	assert_true(f.type == NOLOG_ALIVE && f.seq == 2 && f.u.alive.at_ms == 1500);
	assert_true(fake_next(&s, &f));
	assert_true(f.type == NOLOG_END && f.seq == 3 && f.u.end.end_ms == 2000);
	assert_true(fake_next(&s, &f));
	assert_true(f.type == NOLOG_SESSION && f.seq == 4 && f.u.session.end_ms == 2);
	assert_true(fake_next(&s, &f));
	assert_true(f.type == NOLOG_RESTART && f.seq == 5 && f.u.restart.at_ms == 3000);
	expect_event(&s, NOLOG_END, 6);
	fake_say(&s, NOLOG_ACK, 4, 0);
	step(r);
	assert_int_equal(stats(r).queued, 2);
	fake_say(&s, NOLOG_ACK, 6, 0);
	assert_int_equal(nolog_reporter_flush(r, -1), 0);
	assert_int_equal(stats(r).acknowledged, 6);
	assert_int_equal(stats(r).connects, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void usage_carries_its_meter_and_bits(void **state)
{
	struct nolog_reporter *r;
	struct nolog_frame f;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_usage(r, account, 1, 2, 0, 0), 0);
	assert_int_equal(nolog_report_usage(r, account, 3, 4, 9, NOLOG_USAGE_FIRST), 0);
	assert_int_equal(nolog_report_usage(r, account, 3, 4, 0, NOLOG_USAGE_LAST), -EINVAL);
	assert_int_equal(nolog_report_usage(r, account, 3, 4, 9, 4), -EINVAL);
	assert_int_equal(nolog_report_usage(r, account, 3, 4, 9, 0x10000), -EINVAL);
	(void)welcome(&s, r, 0);
	assert_true(fake_next(&s, &f));
	assert_true(f.code == 0 && f.aux == 0 && f.u.usage.rx == 1 && f.u.usage.tx == 2);
	assert_memory_equal(f.u.usage.account, account, 32);
	assert_true(fake_next(&s, &f));
	assert_true(f.code == NOLOG_USAGE_FIRST && f.aux == 9 && f.seq == 2);
	expect_nothing(&s);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void what_is_not_an_event_of_the_role_is_not_queued(void **state)
{
	static const uint8_t types[] = { 0,    0x01, 0x18, 0x20, 0x30, 0x40,
					 0x55, 0x80, 0x81, 0x8f, 0xa0, 0xff };
	struct nolog_reporter *r;
	struct nolog_frame f;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	for (size_t i = 0; i < sizeof(types); i++) {
		memset(&f, 0, sizeof(f));
		f.type = types[i];
		f.u.hello.server[0] = 'a';
		assert_int_equal(nolog_reporter_send(r, &f, NULL), -EINVAL);
	}
	memset(&f, 0, sizeof(f));
	f.type = NOLOG_START;
	f.code = 1;
	assert_int_equal(nolog_reporter_send(r, &f, NULL), -EINVAL);
	f.code = 0;
	f.aux = 1;
	assert_int_equal(nolog_reporter_send(r, &f, NULL), -EINVAL);
	assert_int_equal(stats(r).sent, 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void the_queue_is_bounded_and_goes_round(void **state)
{
	struct nolog_reporter *r;
	uint64_t seq = 0, number;
	struct fake s;

	(void)state;
	for (size_t limit = 1; limit <= 9; limit++) {
		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, NULL, limit, 0, false);
		seq = 0;
		for (size_t i = 0; i < limit; i++)
			assert_int_equal(nolog_report_end(r, i, 0), 0);
		assert_int_equal(nolog_report_end(r, 0, 0), -EAGAIN);
		(void)welcome(&s, r, 0);
		for (unsigned round = 0; round < 20; round++) {
			for (size_t i = 0; i < limit; i++)
				expect_event(&s, NOLOG_END, ++seq);
			expect_nothing(&s);
			assert_int_equal(nolog_report_end(r, 0, 0), -EAGAIN);
			fake_say(&s, NOLOG_ACK, seq, 0);
			step(r);
			for (size_t i = 0; i < limit; i++) {
				const struct nolog_frame f = { .type = NOLOG_END };

				assert_int_equal(nolog_reporter_send(r, &f, &number), 0);
				assert_int_equal(number, seq + i + 1);
			}
			assert_int_equal(nolog_report_end(r, 0, 0), -EAGAIN);
			step(r);
		}
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

static void descriptor_events_and_timeout_follow_the_connection(void **state)
{
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_reporter_fd(r), -1);
	assert_int_equal(nolog_reporter_events(r), 0);
	assert_int_equal(nolog_reporter_timeout_ms(r), 0);
	(void)welcome(&s, r, 0);
	assert_true(nolog_reporter_fd(r) >= 0);
	assert_true(fcntl(nolog_reporter_fd(r), F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(nolog_reporter_fd(r), F_GETFL) & O_NONBLOCK);
	assert_int_equal(nolog_reporter_events(r), POLLIN);
	assert_int_equal(nolog_reporter_timeout_ms(r), -1);
	assert_int_equal(nolog_report_end(r, 1, 1), 0);
	assert_int_equal(nolog_reporter_events(r), POLLIN | POLLOUT);
	step(r);
	assert_int_equal(nolog_reporter_events(r), POLLIN);
	fake_hangup(&s);
	step(r);
	assert_int_equal(nolog_reporter_fd(r), -1);
	assert_int_equal(nolog_reporter_events(r), 0);
	assert_int_equal(nolog_reporter_timeout_ms(r), 100);
	assert_false(nolog_reporter_welcomed(r));
	nolog_reporter_free(r);
	fake_close(&s);
}

static void reconnecting_is_tried_after_100_ms_doubling_to_5_s(void **state)
{
	static const int waits[] = { 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000 };
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	fake_unlisten(&s);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_end(r, 1, 1), 0);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		step(r);
		assert_int_equal(nolog_reporter_timeout_ms(r), waits[i]);
		fake_clock_advance(waits[i] - 1);
		step(r); /* too early: nothing is tried */
		assert_int_equal(nolog_reporter_timeout_ms(r), 1);
		fake_clock_advance(1);
	}
	assert_int_equal(stats(r).connects, 0);
	fake_listen(&s);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_END, 1);
	fake_say(&s, NOLOG_ACK, 1, 0);
	step(r);
	fake_hangup(&s);
	step(r);
	/* It went on, so it begins anew. */
	assert_int_equal(nolog_reporter_timeout_ms(r), 100);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void a_connection_that_achieves_nothing_does_not_shorten_the_wait(void **state)
{
	struct nolog_reporter *r;
	struct fake s;
	int wait = 100;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	for (unsigned i = 0; i < 5; i++, wait *= 2) {
		(void)welcome(&s, r, 0);
		fake_hangup(&s);
		step(r);
		assert_int_equal(nolog_reporter_timeout_ms(r), wait);
		fake_clock_advance(wait);
	}
	/* One that stood long does. */
	(void)welcome(&s, r, 0);
	fake_clock_advance(5000);
	fake_hangup(&s);
	step(r);
	assert_int_equal(nolog_reporter_timeout_ms(r), 100);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* --- A nologd that keeps positions ------------------------------------- */

#define APPLIED_MAX 64
struct model {
	uint64_t stream, durable;
	size_t n;
	uint64_t applied[APPLIED_MAX]; /* handles of the ENDs, in order */
	uint8_t answer[NOLOG_FRAME_SIZE * 4 * APPLIED_MAX];
	size_t answers;
};

static void model_say(struct model *m, enum nolog_type type, uint64_t seq)
{
	struct nolog_frame f = { .type = (uint8_t)type, .seq = seq };

	assert_true(m->answers + NOLOG_FRAME_SIZE <= sizeof(m->answer));
	nolog_frame_encode(m->answer + m->answers, &f);
	m->answers += NOLOG_FRAME_SIZE;
}

static void model_frame(struct model *m, const struct nolog_frame *f)
{
	if (f->type == NOLOG_HELLO) {
		if (m->stream != f->u.hello.stream)
			m->durable = 0;
		m->stream = f->u.hello.stream;
		model_say(m, NOLOG_WELCOME, m->durable);
		return;
	}
	assert_true(f->seq > 0 && f->seq <= m->durable + 1); /* never a gap */
	if (f->seq == m->durable + 1) {
		assert_true(m->n < APPLIED_MAX);
		m->applied[m->n++] = f->u.end.handle;
		m->durable++;
	}
	model_say(m, NOLOG_ACK, m->durable);
}

/* Reads up to `in` bytes more of the client and writes up to `out` of the answers. */
static void model_run(struct model *m, struct fake *s, size_t *in, size_t *out)
{
	uint8_t byte;

	while (*in > 0 && fake_read(s, &byte, 1) == 1) {
		(*in)--;
		s->part[s->have++] = byte;
		if (s->have == NOLOG_FRAME_SIZE) {
			struct nolog_frame f;

			nolog_frame_decode(&f, s->part);
			s->have = 0;
			model_frame(m, &f);
		}
	}
	if (m->answers > 0) {
		size_t n = m->answers < *out ? m->answers : *out;

		fake_write(s, m->answer, n);
		*out -= n;
		m->answers -= n;
		memmove(m->answer, m->answer + n, m->answers);
	}
}

#define CUT_EVENTS 6

/* One history: the first connection ends after so many bytes in and out. */
static void run_cut(struct fake *s, size_t in, size_t out, bool one_at_a_time)
{
	struct model m = { 0 };
	struct nolog_reporter *r;

	r = reporter(s, NULL, CUT_EVENTS, 0, false);
	for (uint64_t i = 0; i < CUT_EVENTS; i++) {
		assert_int_equal(nolog_report_end(r, i, 0), 0);
		if (!one_at_a_time)
			continue;
		for (unsigned k = 0; k < 4 && in > 0 && out > 0; k++) {
			step(r);
			(void)fake_accept(s);
			model_run(&m, s, &in, &out);
		}
	}
	for (unsigned k = 0; k < 8; k++) {
		step(r);
		(void)fake_accept(s);
		model_run(&m, s, &in, &out);
	}
	fake_hangup(s);
	m.answers = 0;
	step(r);
	fake_clock_advance(5000);
	in = out = SIZE_MAX;
	for (unsigned k = 0; k < 8; k++) {
		step(r);
		(void)fake_accept(s);
		model_run(&m, s, &in, &out);
	}
	assert_int_equal(m.n, CUT_EVENTS);
	for (uint64_t i = 0; i < CUT_EVENTS; i++)
		assert_int_equal(m.applied[i], i);
	assert_int_equal(stats(r).acknowledged, CUT_EVENTS);
	assert_int_equal(stats(r).queued, 0);
	nolog_reporter_free(r);
	while (fake_accept(s))
		; /* nothing may wait there for the next history */
	fake_hangup(s);
}

static void cut_off_at_any_byte_every_event_is_applied_once_in_order(void **state)
{
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	for (size_t in = 0; in <= NOLOG_FRAME_SIZE * (1 + CUT_EVENTS); in++) {
		run_cut(&s, in, SIZE_MAX, false);
		run_cut(&s, in, NOLOG_FRAME_SIZE, false); /* applied, but never acknowledged */
	}
	for (size_t out = 0; out <= NOLOG_FRAME_SIZE * (1 + CUT_EVENTS); out++) {
		run_cut(&s, SIZE_MAX, out, false);
		run_cut(&s, SIZE_MAX, out, true);
	}
	fake_close(&s);
}

static void many_cuts_under_load_lose_and_double_nothing(void **state)
{
	uint64_t random = 88172645463325252, sent = 0, applied = 0, durable = 0, stream = 0;
	struct nolog_reporter *r;
	struct nolog_frame f;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 100, 0, false);
	while (applied < 20000) {
		unsigned frames;

		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		while (sent < 20000 && nolog_report_end(r, sent, 0) == 0)
			sent++;
		step(r);
		fake_clock_advance(1000);
		(void)fake_accept(&s);
		for (frames = 0; s.fd >= 0 && frames < random % 160 && fake_next(&s, &f);
		     frames++) {
			if (f.type == NOLOG_HELLO) {
				assert_true(stream == 0 || stream == f.u.hello.stream);
				stream = f.u.hello.stream;
				fake_say(&s, NOLOG_WELCOME, durable, 0);
			} else if (f.seq == durable + 1) {
				durable++;
				assert_int_equal(f.u.end.handle, applied++);
			} else {
				assert_true(f.seq <= durable);
			}
		}
		if (s.fd >= 0 && frames > 0 && random >> 32 & 1)
			fake_say(&s, NOLOG_ACK, durable, 0);
		if ((random >> 45) % 5 == 0)
			fake_hangup(&s);
	}
	nolog_reporter_free(r);
	fake_close(&s);
}

/* --- Streams ----------------------------------------------------------- */

static void reconnecting_sends_again_what_lies_after_welcome(void **state)
{
	struct nolog_frame first, again;
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	first = welcome(&s, r, 0);
	for (uint64_t i = 1; i <= 5; i++)
		assert_int_equal(nolog_report_end(r, i, 0), 0);
	step(r);
	fake_say(&s, NOLOG_ACK, 2, 0);
	step(r);
	cut(&s, r);
	again = welcome(&s, r, 4);
	assert_true(first.u.hello.stream == again.u.hello.stream);
	expect_event(&s, NOLOG_END, 5);
	expect_nothing(&s);
	assert_int_equal(stats(r).acknowledged, 4);
	assert_int_equal(stats(r).connects, 2);
	assert_int_equal(nolog_reporter_welcome_seq(r), 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void a_resumed_stream_goes_on_after_welcome_while_numbers_rise_from_1(void **state)
{
	struct lost lost = { 0 };
	struct nolog_reporter *r;
	struct nolog_frame hello, f = { .type = NOLOG_END };
	uint64_t number;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, &lost, 0, 4711, false);
	assert_int_equal(nolog_reporter_stream(r), 4711);
	assert_int_equal(nolog_reporter_send(r, &f, &number), 0);
	assert_int_equal(number, 1);
	hello = welcome(&s, r, 1000);
	assert_int_equal(hello.u.hello.stream, 4711);
	assert_int_equal(nolog_reporter_welcome_seq(r), 1000);
	assert_int_equal(stats(r).acknowledged, 0);
	assert_int_equal(nolog_reporter_send(r, &f, &number), 0);
	assert_int_equal(number, 2);
	step(r);
	expect_event(&s, NOLOG_END, 1001);
	expect_event(&s, NOLOG_END, 1002);
	fake_say(&s, NOLOG_REFUSED, 1002, NOLOG_UNKNOWN_HANDLE);
	fake_say(&s, NOLOG_ACK, 1002, 0);
	step(r);
	assert_int_equal(lost.n, 1);
	assert_int_equal(lost.event[0].seq, 2);
	assert_int_equal(stats(r).acknowledged, 2);
	cut(&s, r);
	(void)welcome(&s, r, 1002);
	assert_int_equal(nolog_reporter_welcome_seq(r), 1000);
	assert_int_equal(nolog_reporter_stream(r), 4711);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void a_forgotten_stream_is_begun_anew_without_plain_differences_sent(void **state)
{
	struct lost lost = { 0 };
	struct nolog_frame old, hello, f;
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, &lost, 0, 0, false);
	old = welcome(&s, r, 0);
	assert_int_equal(nolog_report_usage(r, account, 1, 0, 0, 0), 0); /* acknowledged */
	assert_int_equal(nolog_report_usage(r, account, 2, 0, 0, 0), 0); /* sent: dropped */
	assert_int_equal(nolog_report_usage(r, account, 3, 0, 9, 0), 0); /* metered: again */
	assert_int_equal(nolog_report_usage(r, account, 4, 0, 0, 0), 0); /* sent: dropped */
	step(r);
	fake_say(&s, NOLOG_ACK, 1, 0);
	step(r);
	cut(&s, r);
	assert_int_equal(nolog_report_usage(r, account, 5, 0, 0, 0), 0); /* never sent */
	step(r);
	assert_true(fake_accept(&s));
	assert_true(fake_next(&s, &hello));
	assert_true(hello.u.hello.stream == old.u.hello.stream);
	fake_say(&s, NOLOG_WELCOME, 0, 0);
	hello = welcome(&s, r, 0); /* comes back at once, with another */
	assert_true(hello.u.hello.stream != old.u.hello.stream && hello.u.hello.stream != 0);
	assert_true(hello.u.hello.stream == nolog_reporter_stream(r));
	assert_int_equal(lost.n, 2);
	assert_true(lost.what[0] == NOLOG_LOST_STREAM && lost.what[1] == NOLOG_LOST_STREAM);
	assert_true(lost.code[0] == 0 && lost.event[0].u.usage.rx == 2 && lost.event[0].seq == 2);
	assert_true(lost.event[1].u.usage.rx == 4 && lost.event[1].seq == 4);
	assert_true(fake_next(&s, &f));
	assert_true(f.seq == 1 && f.u.usage.rx == 3 && f.aux == 9);
	assert_true(fake_next(&s, &f));
	assert_true(f.seq == 2 && f.u.usage.rx == 5);
	expect_nothing(&s);
	fake_say(&s, NOLOG_REFUSED, 2, NOLOG_OVER_CAPACITY);
	fake_say(&s, NOLOG_ACK, 2, 0);
	step(r);
	assert_true(lost.n == 3 && lost.event[2].seq == 5 && lost.code[2] == NOLOG_OVER_CAPACITY);
	assert_int_equal(stats(r).dropped, 2);
	assert_int_equal(stats(r).acknowledged, 3);
	assert_int_equal(stats(r).refused, 1);
	assert_int_equal(stats(r).queued, 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void welcome_0_to_a_stream_never_acknowledged_keeps_it(void **state)
{
	struct lost lost = { 0 };
	struct nolog_frame old, hello;
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, &lost, 0, 0, false);
	old = welcome(&s, r, 0);
	assert_int_equal(nolog_report_usage(r, account, 1, 0, 0, 0), 0);
	step(r);
	cut(&s, r);
	hello = welcome(&s, r, 0);
	assert_true(hello.u.hello.stream == old.u.hello.stream);
	expect_event(&s, NOLOG_USAGE, 1);
	assert_int_equal(lost.n, 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void a_position_that_was_never_sent_or_is_behind_is_a_lost_stream(void **state)
{
	static const uint64_t positions[] = { 0, 1, 6, 7, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
		struct nolog_frame hello;
		struct nolog_reporter *r;
		struct fake s;
		uint64_t stream;

		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, NULL, 0, 0, false);
		stream = welcome(&s, r, 0).u.hello.stream;
		for (unsigned k = 0; k < 5; k++)
			assert_int_equal(nolog_report_end(r, k, 0), 0);
		step(r);
		fake_say(&s, NOLOG_ACK, 2, 0);
		step(r);
		cut(&s, r);
		step(r);
		assert_true(fake_accept(&s));
		fake_say(&s, NOLOG_WELCOME, positions[i], 0);
		hello = welcome(&s, r, 0);
		assert_true(hello.u.hello.stream != stream);
		for (uint64_t seq = 1; seq <= 3; seq++)
			expect_event(&s, NOLOG_END, seq);
		expect_nothing(&s);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

static void sequence_refused_to_a_forgotten_stream_drops_nothing(void **state)
{
	struct lost lost = { 0 };
	struct nolog_reporter *r;
	struct nolog_frame hello;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, &lost, 0, 0, false);
	(void)welcome(&s, r, 0);
	assert_int_equal(nolog_report_usage(r, account, 1, 0, 0, 0), 0);
	step(r);
	fake_say(&s, NOLOG_ACK, 1, 0);
	step(r);
	/* Idle for a week; then these come out of sequence, so none of them was applied. */
	assert_int_equal(nolog_report_usage(r, account, 2, 0, 0, 0), 0);
	assert_int_equal(nolog_report_usage(r, account, 3, 0, 0, 0), 0);
	step(r);
	fake_say(&s, NOLOG_REFUSED, 2, NOLOG_BAD_SEQUENCE);
	cut(&s, r);
	step(r);
	assert_true(fake_accept(&s));
	fake_say(&s, NOLOG_WELCOME, 0, 0);
	hello = welcome(&s, r, 0);
	assert_true(hello.u.hello.stream == nolog_reporter_stream(r));
	expect_event(&s, NOLOG_USAGE, 1);
	expect_event(&s, NOLOG_USAGE, 2);
	assert_int_equal(lost.n, 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* --- Refusals ---------------------------------------------------------- */

static void a_refused_event_is_handed_back_when_its_ack_has_come(void **state)
{
	struct lost lost = { 0 };
	struct nolog_reporter *r;
	struct nolog_frame f;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, &lost, 3, 0, false);
	lost.answer_with_session = r;
	(void)welcome(&s, r, 0);
	assert_int_equal(nolog_report_start(r, 1, 1, ip), 0);
	assert_int_equal(nolog_report_end(r, 2, 5), 0);
	assert_int_equal(nolog_report_end(r, 3, 6), 0);
	step(r);
	for (uint64_t seq = 1; seq <= 3; seq++)
		assert_true(fake_next(&s, &f));
	fake_say(&s, NOLOG_REFUSED, 2, NOLOG_UNKNOWN_HANDLE);
	step(r);
	assert_int_equal(lost.n, 0);
	fake_say(&s, NOLOG_ACK, 1, 0);
	step(r);
	assert_int_equal(lost.n, 0);
	fake_say(&s, NOLOG_ACK, 3, 0);
	step(r);
	assert_int_equal(lost.n, 1);
	assert_true(lost.what[0] == NOLOG_LOST_REFUSED && lost.code[0] == NOLOG_UNKNOWN_HANDLE);
	assert_true(lost.event[0].type == NOLOG_END && lost.event[0].u.end.handle == 2);
	assert_int_equal(lost.event[0].seq, 2);
	/* From within, SESSION was sent instead, into a queue that was full. */
	assert_int_equal(lost.answered, 0);
	expect_event(&s, NOLOG_SESSION, 4);
	assert_int_equal(stats(r).refused, 1);
	assert_int_equal(stats(r).queued, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* What each callback saw of the statistics, and whether there was room. */
struct room {
	struct nolog_reporter *r;
	size_t calls;
	size_t sent;   /* how many events each callback sends, */
	size_t taken;  /* and how many were taken in all */
	uint64_t last; /* the number of the last event handed over */
	bool adds_up;
};

static void send_instead(const struct nolog_frame *event, enum nolog_lost what, unsigned code,
			 void *arg)
{
	struct room *room = arg;
	struct nolog_reporter_stats st;

	(void)what;
	(void)code;
	nolog_reporter_stats(room->r, &st);
	room->adds_up = room->adds_up && st.sent == st.acknowledged + st.dropped + st.queued;
	assert_true(event->seq > room->last); /* in order */
	room->last = event->seq;
	for (size_t i = 0; i < room->sent; i++)
		if (event->type == NOLOG_USAGE)
			room->taken += nolog_report_usage(room->r, account, 0, 0, 9,
							  NOLOG_USAGE_LAST) == 0;
		else
			room->taken += nolog_report_session(room->r, 1, 2, ip) == 0;
	room->calls++;
}

static struct nolog_reporter *full_reporter(const struct fake *s, struct room *room, size_t events)
{
	const struct nolog_reporter_options o = {
		.run_dir = s->dir,
		.role = s->role,
		.server = "s",
		.queue_events = events,
		.lost = send_instead,
		.arg = room,
	};

	*room = (struct room){ .adds_up = true };
	assert_int_equal(nolog_reporter_new(&room->r, &o), 0);
	return room->r;
}

static void a_full_queue_has_room_for_what_a_lost_stream_makes_necessary(void **state)
{
	struct nolog_reporter *r;
	struct room room;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = full_reporter(&s, &room, 2);
	room.sent = 1;
	assert_int_equal(nolog_report_start(r, 1, 1000, ip), 0);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_START, 1);
	fake_say(&s, NOLOG_ACK, 1, 0);
	step(r);
	assert_int_equal(nolog_report_end(r, 7, 2000), 0);
	assert_int_equal(nolog_report_end(r, 1, 2000), 0);
	step(r);
	fake_say(&s, NOLOG_REFUSED, 2, NOLOG_UNKNOWN_HANDLE);
	step(r);
	assert_int_equal(room.calls, 0);
	cut(&s, r);
	/* Neither acknowledged nor known: the stream is forgotten. */
	(void)welcome(&s, r, 0);
	assert_int_equal(room.calls, 1);
	assert_int_equal(room.taken, 1);
	assert_true(room.adds_up);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_END, 1);
	expect_event(&s, NOLOG_SESSION, 2);
	expect_nothing(&s);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* Whatever is dropped between what stays, for more of it than is taken out at a time. */
static void everything_a_lost_stream_drops_leaves_room_and_is_counted(void **state)
{
	enum { EVENTS = 150 };
	struct nolog_reporter *r;
	struct nolog_frame f;
	struct room room;
	struct fake s;

	(void)state;
	for (size_t sent = 1; sent <= 3; sent++) {
		size_t plain = 0, metered = 0;

		fake_open(&s, NOLOG_ROLE_USAGE);
		r = full_reporter(&s, &room, EVENTS);
		room.sent = sent;
		assert_int_equal(nolog_report_usage(r, account, 0, 0, 0, 0), 0);
		(void)welcome(&s, r, 0);
		expect_event(&s, NOLOG_USAGE, 1);
		fake_say(&s, NOLOG_ACK, 1, 0);
		step(r);
		for (unsigned i = 0; i < EVENTS; i++) {
			bool meter = i % 3 == 1 || i % 7 == 0;

			assert_int_equal(nolog_report_usage(r, account, i, 0, meter ? 9 : 0, 0), 0);
			plain += !meter;
			metered += meter;
		}
		step(r);
		cut(&s, r);
		(void)welcome(&s, r, 0);
		assert_int_equal(room.calls, plain);
		assert_int_equal(room.taken, plain); /* one each: the queue was full */
		assert_true(room.adds_up);
		assert_int_equal(stats(r).dropped, plain);
		assert_int_equal(stats(r).queued, EVENTS);
		(void)welcome(&s, r, 0);
		for (uint64_t i = 0, seq = 1; i < EVENTS; i++)
			if (i % 3 == 1 || i % 7 == 0) {
				assert_true(fake_next(&s, &f));
				assert_true(f.seq == seq++ && f.u.usage.rx == i && f.code == 0);
			}
		for (uint64_t i = 0; i < plain; i++) {
			assert_true(fake_next(&s, &f));
			assert_true(f.seq == metered + 1 + i && f.code == NOLOG_USAGE_LAST);
		}
		expect_nothing(&s);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

/* --- Memory and processes ---------------------------------------------- */

/* How often an address can be found in the ring. */
static size_t in_ring(const struct nolog_queue *q)
{
	size_t n = 0;

	for (uint64_t slot = 0; slot <= q->mask; slot++)
		for (size_t at = 0; at < NOLOG_FRAME_SIZE; at++)
			n += at + sizeof(ip) <= NOLOG_FRAME_SIZE &&
			     memcmp(q->frames + slot * NOLOG_FRAME_SIZE + at, ip, sizeof(ip)) == 0;
	return n;
}

static void what_leaves_the_queue_leaves_nothing_in_it(void **state)
{
	struct nolog_frame f = { .type = NOLOG_SESSION };
	struct nolog_queue_dropped dropped[NOLOG_QUEUE_DROP_MAX];
	struct nolog_queue q;
	uint16_t code;

	(void)state;
	assert_int_equal(nolog_queue_init(&q, 5), 0);
	memcpy(f.u.session.ip, ip, sizeof(ip));
	for (unsigned round = 0; round < 20; round++) {
		for (size_t i = 0; i < 5; i++)
			assert_int_equal(nolog_queue_push(&q, &f, NOLOG_ROLE_SESSIONS), 0);
		assert_int_equal(in_ring(&q), 5);
		nolog_queue_advance(&q, 4);
		nolog_queue_pop(&q, &(struct nolog_frame){ 0 }, &code);
		assert_int_equal(in_ring(&q), 4);
		assert_int_equal(nolog_queue_refuse(&q, q.head + q.shift + 1, 16), 0);
		assert_int_equal(nolog_queue_restart(&q, dropped), 1);
		assert_int_equal(in_ring(&q), 3);
		assert_int_equal(nolog_queue_restart(&q, dropped), 0);
		nolog_queue_pop_until(&q, q.tail);
		assert_int_equal(in_ring(&q), 0);
	}
	nolog_queue_done(&q);
}

static void a_child_does_not_speak_for_its_parent(void **state)
{
	struct nolog_reporter *r;
	struct fake s;
	pid_t child;
	int status;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_restart(r, 1), 0);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_RESTART, 1);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		bool good = nolog_report_restart(r, 2) == 0;

		good = good && nolog_reporter_flush(r, 1000) == -ECHILD;
		good = good && nolog_reporter_step(r) == -ECHILD && nolog_reporter_fd(r) == -1;
		good = good && nolog_report_restart(r, 2) == -ECHILD;
		nolog_reporter_free(r);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* The parent has lost nothing by it, not even its connection. */
	expect_nothing(&s);
	assert_int_equal(nolog_report_restart(r, 3), 0);
	step(r);
	expect_event(&s, NOLOG_RESTART, 2);
	fake_say(&s, NOLOG_ACK, 2, 0);
	assert_int_equal(nolog_reporter_flush(r, -1), 0);
	assert_int_equal(stats(r).acknowledged, 2);
	assert_int_equal(stats(r).connects, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void a_refusal_whose_ack_was_cut_off_is_handed_back_by_welcome_or_a_lost_stream(void **state)
{
	(void)state;
	for (uint64_t position = 0; position <= 3; position += 3) {
		struct lost lost = { 0 };
		struct nolog_reporter *r;
		struct fake s;

		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, &lost, 0, 5, false);
		(void)welcome(&s, r, 1);
		assert_int_equal(nolog_report_end(r, 1, 5), 0);
		assert_int_equal(nolog_report_end(r, 2, 5), 0);
		step(r);
		fake_say(&s, NOLOG_REFUSED, 2, NOLOG_UNKNOWN_HANDLE);
		step(r);
		cut(&s, r);
		step(r);
		assert_true(fake_accept(&s));
		fake_say(&s, NOLOG_WELCOME, position, 0);
		step(r);
		assert_int_equal(lost.n, 1);
		assert_true(lost.what[0] == NOLOG_LOST_REFUSED && lost.event[0].seq == 1);
		assert_int_equal(stats(r).refused, 1);
		assert_int_equal(stats(r).queued, position == 0 ? 1 : 0);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

static void an_event_nologd_cannot_read_does_not_block_those_behind_it(void **state)
{
	(void)state;
	for (uint16_t code = NOLOG_MALFORMED; code <= NOLOG_WRONG_SOCKET; code++) {
		struct lost lost = { 0 };
		struct nolog_reporter *r;
		struct fake s;

		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, &lost, 0, 0, false);
		(void)welcome(&s, r, 0);
		assert_int_equal(nolog_report_end(r, 1, 5), 0);
		assert_int_equal(nolog_report_restart(r, 5), 0);
		assert_int_equal(nolog_report_start(r, 3, 5, ip), 0);
		step(r);
		fake_say(&s, NOLOG_ACK, 1, 0);
		fake_say(&s, NOLOG_REFUSED, 2, code); /* takes no seq */
		cut(&s, r);
		assert_true(lost.n == 1 && lost.event[0].type == NOLOG_RESTART);
		assert_true(lost.event[0].seq == 2 && lost.code[0] == code);
		(void)welcome(&s, r, 1);
		expect_event(&s, NOLOG_START, 2);
		expect_nothing(&s);
		fake_say(&s, NOLOG_ACK, 2, 0);
		step(r);
		assert_int_equal(stats(r).acknowledged, 3);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

static void a_refused_hello_is_an_error_each_time_and_keeps_the_queue(void **state)
{
	static const struct {
		uint16_t code;
		int error;
	} cases[] = { { NOLOG_SERVER_NOT_ALLOWED, -EACCES },
		      { NOLOG_MALFORMED, -EPROTO },
		      { NOLOG_UNKNOWN_TYPE, -EPROTO },
		      { NOLOG_BAD_VERSION, -EPROTO },
		      { NOLOG_WRONG_SOCKET, -EPROTO },
		      { NOLOG_BAD_SEQUENCE, -EPROTO },
		      { NOLOG_OVER_CAPACITY, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct nolog_reporter *r;
		struct fake s;

		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, NULL, 0, 0, false);
		assert_int_equal(nolog_report_end(r, 1, 5), 0);
		for (unsigned round = 0; round < 2; round++) {
			step(r);
			assert_true(fake_accept(&s));
			fake_say(&s, NOLOG_REFUSED, 0, cases[i].code);
			fake_hangup(&s);
			assert_int_equal(nolog_reporter_step(r), cases[i].error);
			assert_int_equal(nolog_reporter_fd(r), -1);
			if (cases[i].error)
				assert_int_equal(nolog_reporter_timeout_ms(r), 5000);
			step(r);
			fake_clock_advance(5000);
		}
		(void)welcome(&s, r, 0); /* the server's list has been mended */
		expect_event(&s, NOLOG_END, 1);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

/* --- One-shot ---------------------------------------------------------- */

static void one_shot_uses_stream_0_and_counts_from_1(void **state)
{
	struct nolog_reporter *r;
	struct nolog_frame hello;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, NULL, 0, 0, true);
	assert_int_equal(nolog_report_usage(r, account, 1, 2, 0, 0), 0);
	hello = welcome(&s, r, 0);
	assert_int_equal(hello.u.hello.stream, 0);
	assert_int_equal(nolog_reporter_stream(r), 0);
	expect_event(&s, NOLOG_USAGE, 1);
	fake_say(&s, NOLOG_ACK, 1, 0);
	assert_int_equal(nolog_reporter_flush(r, 0), 0);
	/* Nothing is owed, so another connection may follow; it counts anew. */
	cut(&s, r);
	assert_int_equal(nolog_report_usage(r, account, 1, 2, 0, 0), 0);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_USAGE, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void one_shot_cut_off_after_sending_fails_for_good(void **state)
{
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_USAGE);
	r = reporter(&s, NULL, 0, 0, true);
	assert_int_equal(nolog_report_usage(r, account, 1, 2, 0, 0), 0);
	step(r);
	assert_true(fake_accept(&s));
	fake_hangup(&s); /* before anything was sent: harmless */
	step(r);
	fake_clock_advance(5000);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_USAGE, 1);
	fake_hangup(&s);
	assert_int_equal(nolog_reporter_step(r), -EPIPE);
	fake_clock_advance(5000);
	assert_int_equal(nolog_reporter_step(r), -EPIPE);
	assert_int_equal(nolog_reporter_flush(r, -1), -EPIPE);
	assert_int_equal(nolog_report_usage(r, account, 1, 2, 0, 0), -EPIPE);
	assert_int_equal(nolog_reporter_timeout_ms(r), -1);
	assert_false(fake_accept(&s));
	assert_int_equal(stats(r).queued, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* --- Garbage ----------------------------------------------------------- */

static void expect_protocol_error(const uint8_t *bytes, size_t n, bool welcomed)
{
	struct nolog_reporter *r;
	struct fake s;

	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_end(r, 1, 1), 0);
	if (welcomed) {
		(void)welcome(&s, r, 0);
	} else {
		step(r);
		assert_true(fake_accept(&s));
	}
	fake_write(&s, bytes, n);
	assert_int_equal(nolog_reporter_step(r), -EPROTO);
	assert_int_equal(nolog_reporter_fd(r), -1);
	assert_int_equal(nolog_reporter_step(r), 0);
	assert_int_equal(stats(r).queued, 1);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void what_nologd_never_says_is_a_protocol_error(void **state)
{
	static const struct {
		struct nolog_frame frame;
		bool welcomed;
	} cases[] = {
		{ { .type = NOLOG_ACK, .seq = 0 }, false },    /* before WELCOME */
		{ { .type = NOLOG_WELCOME, .seq = 0 }, true }, /* a second one */
		{ { .type = NOLOG_WELCOME, .code = 1 }, false },
		{ { .type = NOLOG_ACK, .seq = 2 }, true }, /* never sent */
		{ { .type = NOLOG_ACK, .seq = UINT64_MAX }, true },
		{ { .type = NOLOG_ACK, .seq = 1, .aux = 1 }, true },
		{ { .type = NOLOG_REFUSED, .seq = 2, .code = 16 }, true },
		{ { .type = NOLOG_REFUSED, .seq = 0, .code = 16 }, true },
		{ { .type = NOLOG_REFUSED, .seq = 1, .code = 0 }, true },
		{ { .type = NOLOG_REFUSED, .seq = 2, .code = 1 }, true },
		{ { .type = NOLOG_REFUSED, .seq = 1, .code = 20 }, false },
		{ { .type = NOLOG_REFUSED, .seq = 0, .code = 0 }, false },
		{ { .type = NOLOG_DONE }, true },
		{ { .type = NOLOG_START }, true },
		{ { .type = 0xfe }, true },
	};
	static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
				   "and something more, to fill it";
	uint8_t bytes[NOLOG_FRAME_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		nolog_frame_encode(bytes, &cases[i].frame);
		expect_protocol_error(bytes, sizeof(bytes), cases[i].welcomed);
	}
	expect_protocol_error((const uint8_t *)http, sizeof(http), false);
	/* Another version, a body where there is none, all ones. */
	nolog_frame_encode(bytes, &(struct nolog_frame){ .type = NOLOG_WELCOME });
	bytes[1] = 2;
	expect_protocol_error(bytes, sizeof(bytes), false);
	nolog_frame_encode(bytes, &(struct nolog_frame){ .type = NOLOG_ACK, .seq = 1 });
	bytes[63] = 1;
	expect_protocol_error(bytes, sizeof(bytes), true);
	memset(bytes, 0xff, sizeof(bytes));
	expect_protocol_error(bytes, sizeof(bytes), true);
}

static void an_old_ack_changes_nothing(void **state)
{
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	(void)welcome(&s, r, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(nolog_report_end(r, i, 1), 0);
	step(r);
	fake_say(&s, NOLOG_ACK, 2, 0);
	fake_say(&s, NOLOG_ACK, 1, 0);
	fake_say(&s, NOLOG_ACK, 0, 0);
	fake_say(&s, NOLOG_ACK, 2, 0);
	step(r);
	assert_int_equal(stats(r).acknowledged, 2);
	nolog_reporter_free(r);
	fake_close(&s);
}

static void half_a_frame_at_the_end_is_nothing(void **state)
{
	struct nolog_frame ack = { .type = NOLOG_ACK, .seq = 1 };
	uint8_t bytes[NOLOG_FRAME_SIZE];
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	nolog_frame_encode(bytes, &ack);
	for (size_t n = 1; n < NOLOG_FRAME_SIZE; n++) {
		fake_open(&s, NOLOG_ROLE_SESSIONS);
		r = reporter(&s, NULL, 0, 0, false);
		assert_int_equal(nolog_report_end(r, 1, 1), 0);
		(void)welcome(&s, r, 0);
		fake_write(&s, bytes, n);
		cut(&s, r);
		assert_int_equal(stats(r).acknowledged, 0);
		(void)welcome(&s, r, 0); /* and is not put before what comes now */
		expect_event(&s, NOLOG_END, 1);
		fake_say(&s, NOLOG_ACK, 1, 0);
		step(r);
		assert_int_equal(stats(r).acknowledged, 1);
		nolog_reporter_free(r);
		fake_close(&s);
	}
}

static void what_was_said_before_the_end_is_read_though_sending_fails(void **state)
{
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_report_end(r, 1, 1), 0);
	(void)welcome(&s, r, 0);
	expect_event(&s, NOLOG_END, 1);
	assert_int_equal(nolog_report_end(r, 2, 1), 0);
	fake_say(&s, NOLOG_ACK, 1, 0);
	fake_hangup(&s);
	step(r);
	assert_int_equal(stats(r).acknowledged, 1);
	assert_int_equal(nolog_reporter_fd(r), -1);
	nolog_reporter_free(r);
	fake_close(&s);
}

/* --- Flush, and both directions at once -------------------------------- */

static void flush_and_connect_end_when_their_time_is_over(void **state)
{
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_reporter_flush(r, 0), 0); /* nothing to do */
	assert_int_equal(nolog_report_end(r, 1, 1), 0);
	assert_int_equal(nolog_reporter_connect(r, 0), -ETIMEDOUT);
	assert_int_equal(nolog_reporter_flush(r, 0), -ETIMEDOUT);
	assert_true(fake_accept(&s));
	fake_say(&s, NOLOG_WELCOME, 0, 0);
	assert_int_equal(nolog_reporter_connect(r, -1), 0);
	assert_int_equal(nolog_reporter_flush(r, 0), -ETIMEDOUT);
	fake_say(&s, NOLOG_ACK, 1, 0);
	assert_int_equal(nolog_reporter_flush(r, -1), 0);
	nolog_reporter_free(r);
	fake_close(&s);
}

#define LOAD_EVENTS 50000

/* Acknowledges each frame by one of its own, and reads no further until it is rid of it. */
static void *serve_load(void *arg)
{
	struct fake *s = arg;
	uint64_t next = 0;

	while (next <= LOAD_EVENTS) {
		struct pollfd p = { .fd = s->fd >= 0 ? s->fd : s->listener, .events = POLLIN };
		uint8_t out[NOLOG_FRAME_SIZE];
		struct nolog_frame f;

		if (poll(&p, 1, 10000) != 1)
			return NULL;
		if (s->fd < 0)
			(void)fake_accept(s);
		while (next <= LOAD_EVENTS && fake_next(s, &f)) {
			if (f.seq != next++)
				return NULL;
			f = (struct nolog_frame){ .type = f.seq ? NOLOG_ACK : NOLOG_WELCOME,
						  .seq = f.seq };
			nolog_frame_encode(out, &f);
			while (send(s->fd, out, sizeof(out), MSG_NOSIGNAL) < 0) {
				p = (struct pollfd){ .fd = s->fd, .events = POLLOUT };
				if (errno != EAGAIN || poll(&p, 1, 10000) != 1)
					return NULL;
			}
		}
	}
	return arg;
}

static void a_daemon_that_must_be_read_to_go_on_reading_is_served(void **state)
{
	struct nolog_reporter *r;
	pthread_t thread;
	void *result;
	struct fake s;

	(void)state;
	fake_clock_runs = true;
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	assert_int_equal(pthread_create(&thread, NULL, serve_load, &s), 0);
	r = reporter(&s, NULL, 0, 0, false);
	for (uint64_t i = 0; i < LOAD_EVENTS; i++) {
		int err;

		while ((err = nolog_report_end(r, i, 0)) == -EAGAIN)
			step(r);
		assert_int_equal(err, 0);
	}
	assert_int_equal(nolog_reporter_flush(r, 60000), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_ptr_equal(result, &s);
	assert_int_equal(stats(r).acknowledged, LOAD_EVENTS);
	nolog_reporter_free(r);
	fake_close(&s);
	fake_clock_runs = false;
}

/* --- Queries ----------------------------------------------------------- */

struct answers {
	size_t n, stop_at;
	struct nolog_frame last;
};

static int note_answer(const struct nolog_frame *f, void *arg)
{
	struct answers *a = arg;

	a->last = *f;
	return ++a->n == a->stop_at ? 77 : 0;
}

static struct nolog_query *query(struct fake *s, enum nolog_role role)
{
	struct nolog_query *q = NULL;

	fake_open(s, role);
	assert_int_equal(nolog_query_open(&q, s->dir, role), 0);
	assert_true(fake_accept(s));
	return q;
}

static void say_record(struct fake *s, uint64_t seq)
{
	struct nolog_frame f = { .type = NOLOG_RECORD, .seq = seq };

	memcpy(f.u.record.ip, ip, 16);
	f.u.record.server[0] = 'a';
	f.u.record.end_ms = 5;
	fake_send(s, &f);
}

static void say_done(struct fake *s, uint64_t seq, uint64_t count, uint16_t code)
{
	struct nolog_frame f = { .type = NOLOG_DONE, .seq = seq, .code = code };

	f.u.done.count = count;
	fake_send(s, &f);
}

static void a_lookup_gives_its_records_and_done(void **state)
{
	struct nolog_frame f, end, request = { .type = NOLOG_LOOKUP, .code = 128 };
	struct answers a = { 0 };
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_LOOKUP);
	memcpy(request.u.lookup.ip, ip, 16);
	for (uint64_t seq = 1; seq <= 3; seq++) {
		a.n = 0;
		for (uint64_t i = 0; i < seq * 50; i++)
			say_record(&s, seq);
		say_done(&s, seq, seq * 50, NOLOG_DONE_LIMIT);
		assert_int_equal(nolog_query_ask(q, &request, note_answer, &a, &end, -1), 0);
		assert_int_equal(a.n, seq * 50);
		assert_true(end.type == NOLOG_DONE && end.code == NOLOG_DONE_LIMIT);
		assert_int_equal(end.u.done.count, seq * 50);
		assert_true(fake_next(&s, &f));
		assert_true(f.type == NOLOG_LOOKUP && f.seq == seq && f.code == 128);
		assert_memory_equal(f.u.lookup.ip, ip, 16);
	}
	say_done(&s, 4, 0, 0);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, NULL, -1), 0);
	nolog_query_close(q);
	fake_close(&s);
}

static void quota_is_one_total_and_status_metrics_and_done(void **state)
{
	struct nolog_frame total = { .type = NOLOG_TOTAL, .seq = 1 }, end;
	struct nolog_frame metric = { .type = NOLOG_METRIC, .seq = 1 };
	struct nolog_frame quota = { .type = NOLOG_QUOTA }, status = { .type = NOLOG_STATUS };
	struct answers a = { 0 };
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_QUOTA);
	total.u.total.rx = 10;
	total.u.total.month = 202611;
	fake_send(&s, &total);
	assert_int_equal(nolog_query_ask(q, &quota, note_answer, &a, &end, -1), 0);
	assert_true(a.n == 1 && end.type == NOLOG_TOTAL && end.u.total.rx == 10);
	nolog_query_close(q);
	fake_close(&s);

	q = query(&s, NOLOG_ROLE_ADMIN);
	memcpy(metric.u.metric.name, "stalled", 7);
	metric.u.metric.value = 1;
	fake_send(&s, &metric);
	say_done(&s, 1, 1, 0);
	assert_int_equal(nolog_query_ask(q, &status, note_answer, &a, &end, -1), 0);
	assert_true(a.n == 2 && a.last.u.metric.value == 1 && end.type == NOLOG_DONE);
	nolog_query_close(q);
	fake_close(&s);
}

static void a_refused_query_tells_why_and_is_over(void **state)
{
	struct nolog_frame end, request = { .type = NOLOG_QUOTA };
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_QUOTA);
	fake_say(&s, NOLOG_REFUSED, 1, NOLOG_OVER_CAPACITY);
	fake_hangup(&s); /* the request is not even taken */
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, &end, -1), -EPROTO);
	assert_true(end.type == NOLOG_REFUSED && end.code == NOLOG_OVER_CAPACITY);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, &end, -1), -ENOTCONN);
	assert_int_equal(end.type, 0);
	nolog_query_close(q);
	fake_close(&s);
}

static void an_answer_cut_off_at_any_byte_is_not_taken_for_whole(void **state)
{
	struct nolog_frame end, request = { .type = NOLOG_LOOKUP };
	uint8_t bytes[3 * NOLOG_FRAME_SIZE];
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_LOOKUP);
	say_record(&s, 1);
	say_record(&s, 1);
	say_done(&s, 1, 2, 0);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, NULL, -1), 0);
	nolog_query_close(q);
	fake_close(&s);
	for (size_t n = 0; n < sizeof(bytes); n++) {
		struct nolog_frame f = { .type = NOLOG_RECORD, .seq = 1 };
		struct answers a = { 0 };

		f.u.record.server[0] = 'a';
		nolog_frame_encode(bytes, &f);
		nolog_frame_encode(bytes + NOLOG_FRAME_SIZE, &f);
		f = (struct nolog_frame){ .type = NOLOG_DONE, .seq = 1 };
		f.u.done.count = 2;
		nolog_frame_encode(bytes + 2 * NOLOG_FRAME_SIZE, &f);
		q = query(&s, NOLOG_ROLE_LOOKUP);
		fake_write(&s, bytes, n);
		fake_hangup(&s);
		assert_int_equal(nolog_query_ask(q, &request, note_answer, &a, &end, -1), -EPIPE);
		assert_int_equal(a.n, n / NOLOG_FRAME_SIZE);
		assert_int_equal(end.type, 0);
		nolog_query_close(q);
		fake_close(&s);
	}
}

static void expect_bad_answer(enum nolog_role role, const struct nolog_frame *request,
			      const struct nolog_frame *answer, unsigned version)
{
	struct nolog_frame end;
	struct answers a = { 0 };
	struct nolog_query *q;
	uint8_t bytes[NOLOG_FRAME_SIZE];
	struct fake s;

	q = query(&s, role);
	nolog_frame_encode(bytes, answer);
	bytes[1] = (uint8_t)version;
	fake_write(&s, bytes, sizeof(bytes));
	assert_int_equal(nolog_query_ask(q, request, note_answer, &a, &end, -1), -EPROTO);
	assert_true(a.n == 0 && end.type == 0);
	nolog_query_close(q);
	fake_close(&s);
}

static void what_is_no_answer_to_the_question_is_a_protocol_error(void **state)
{
	const struct nolog_frame lookup = { .type = NOLOG_LOOKUP }, quota = { .type = NOLOG_QUOTA };
	const struct nolog_frame status = { .type = NOLOG_STATUS };
	struct nolog_frame f = { .type = NOLOG_DONE, .seq = 2 };

	(void)state;
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1); /* another request's */
	f.seq = 1;
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 2);
	f.u.done.count = 1; /* but none was sent */
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1);
	expect_bad_answer(NOLOG_ROLE_QUOTA, &quota, &f, 1);
	f = (struct nolog_frame){ .type = NOLOG_RECORD, .seq = 1 };
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1); /* no server */
	f.u.record.server[0] = 'a';
	f.u.record.end_ms = -1;
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1);
	f.u.record.end_ms = 1;
	f.code = NOLOG_RECORD_OPEN;
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1);
	f = (struct nolog_frame){ .type = NOLOG_METRIC, .seq = 1 };
	expect_bad_answer(NOLOG_ROLE_ADMIN, &status, &f, 1); /* no name */
	memcpy(f.u.metric.name, "Stalled", 7);
	expect_bad_answer(NOLOG_ROLE_ADMIN, &status, &f, 1);
	memcpy(f.u.metric.name, "a\0b", 3);
	expect_bad_answer(NOLOG_ROLE_ADMIN, &status, &f, 1);
	f = (struct nolog_frame){ .type = NOLOG_TOTAL, .seq = 1 };
	expect_bad_answer(NOLOG_ROLE_QUOTA, &quota, &f, 1); /* no month */
	f = (struct nolog_frame){ .type = NOLOG_REFUSED, .seq = 1 };
	expect_bad_answer(NOLOG_ROLE_QUOTA, &quota, &f, 1); /* no reason */
	f = (struct nolog_frame){ .type = NOLOG_ACK, .seq = 1 };
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &f, 1);
	expect_bad_answer(NOLOG_ROLE_LOOKUP, &lookup, &lookup, 1);
}

static void a_malformed_question_is_not_sent(void **state)
{
	struct nolog_frame f = { .type = NOLOG_LOOKUP, .code = 129 };
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_LOOKUP);
	assert_int_equal(nolog_query_ask(q, &f, NULL, NULL, NULL, -1), -EINVAL);
	f.code = 0;
	f.u.lookup.from_ms = 1;
	assert_int_equal(nolog_query_ask(q, &f, NULL, NULL, NULL, -1), -EINVAL);
	f = (struct nolog_frame){ .type = NOLOG_QUOTA };
	assert_int_equal(nolog_query_ask(q, &f, NULL, NULL, NULL, -1), -EINVAL);
	expect_nothing(&s);
	f = (struct nolog_frame){ .type = NOLOG_LOOKUP };
	say_done(&s, 1, 0, 0); /* it is still open, and this is its first question */
	assert_int_equal(nolog_query_ask(q, &f, NULL, NULL, NULL, -1), 0);
	nolog_query_close(q);
	fake_close(&s);
}

static void silence_and_stopping_end_a_query(void **state)
{
	struct nolog_frame end, request = { .type = NOLOG_LOOKUP };
	struct answers a = { .stop_at = 1 };
	struct nolog_query *q;
	struct fake s;

	(void)state;
	q = query(&s, NOLOG_ROLE_LOOKUP);
	say_record(&s, 1);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, &end, 0), -ETIMEDOUT);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, &end, 0), -ENOTCONN);
	nolog_query_close(q);
	fake_close(&s);
	q = query(&s, NOLOG_ROLE_LOOKUP);
	say_record(&s, 1);
	say_record(&s, 1);
	assert_int_equal(nolog_query_ask(q, &request, note_answer, &a, &end, -1), 77);
	assert_true(a.n == 1 && end.type == 0);
	assert_int_equal(nolog_query_ask(q, &request, NULL, NULL, &end, -1), -ENOTCONN);
	nolog_query_close(q);
	fake_close(&s);
}

static void opening_a_query_says_what_is_wrong(void **state)
{
	struct nolog_query *q = NULL;
	char dir[120];
	struct fake s;

	(void)state;
	fake_open(&s, NOLOG_ROLE_LOOKUP);
	assert_int_equal(nolog_query_open(&q, s.dir, NOLOG_ROLE_SESSIONS), -EINVAL);
	assert_int_equal(nolog_query_open(&q, s.dir, (enum nolog_role)9), -EINVAL);
	assert_int_equal(nolog_query_open(&q, s.dir, NOLOG_ROLE_QUOTA), -ENOENT);
	memset(dir, 'd', sizeof(dir) - 1);
	dir[sizeof(dir) - 1] = '\0';
	assert_int_equal(nolog_query_open(&q, dir, NOLOG_ROLE_LOOKUP), -ENAMETOOLONG);
	(void)close(s.listener);
	s.listener = -1;
	assert_int_equal(nolog_query_open(&q, s.dir, NOLOG_ROLE_LOOKUP), -ECONNREFUSED);
	assert_null(q);
	fake_close(&s);
}

static void a_socket_that_may_not_be_connected_to_is_an_error(void **state)
{
	struct nolog_query *q = NULL;
	struct nolog_reporter *r;
	struct fake s;

	(void)state;
	if (geteuid() == 0)
		skip(); /* root may connect to anything */
	fake_open(&s, NOLOG_ROLE_SESSIONS);
	assert_int_equal(chmod(s.address.sun_path, 0), 0);
	r = reporter(&s, NULL, 0, 0, false);
	assert_int_equal(nolog_reporter_step(r), -EACCES);
	assert_int_equal(nolog_reporter_step(r), 0);
	nolog_reporter_free(r);
	fake_close(&s);
	fake_open(&s, NOLOG_ROLE_LOOKUP);
	assert_int_equal(chmod(s.address.sun_path, 0), 0);
	assert_int_equal(nolog_query_open(&q, s.dir, NOLOG_ROLE_LOOKUP), -EACCES);
	fake_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sockets_and_refusals_have_their_names),
		cmocka_unit_test(an_account_is_the_unkeyed_blake2b_256_of_its_bytes),
		cmocka_unit_test(a_reporter_is_not_made_of_bad_options),
		cmocka_unit_test(every_kind_of_event_reaches_nologd_with_rising_seq),
		cmocka_unit_test(usage_carries_its_meter_and_bits),
		cmocka_unit_test(what_is_not_an_event_of_the_role_is_not_queued),
		cmocka_unit_test(the_queue_is_bounded_and_goes_round),
		cmocka_unit_test(descriptor_events_and_timeout_follow_the_connection),
		cmocka_unit_test(reconnecting_is_tried_after_100_ms_doubling_to_5_s),
		cmocka_unit_test(a_connection_that_achieves_nothing_does_not_shorten_the_wait),
		cmocka_unit_test(cut_off_at_any_byte_every_event_is_applied_once_in_order),
		cmocka_unit_test(many_cuts_under_load_lose_and_double_nothing),
		cmocka_unit_test(reconnecting_sends_again_what_lies_after_welcome),
		cmocka_unit_test(a_resumed_stream_goes_on_after_welcome_while_numbers_rise_from_1),
		cmocka_unit_test(a_forgotten_stream_is_begun_anew_without_plain_differences_sent),
		cmocka_unit_test(welcome_0_to_a_stream_never_acknowledged_keeps_it),
		cmocka_unit_test(a_position_that_was_never_sent_or_is_behind_is_a_lost_stream),
		cmocka_unit_test(sequence_refused_to_a_forgotten_stream_drops_nothing),
		cmocka_unit_test(a_full_queue_has_room_for_what_a_lost_stream_makes_necessary),
		cmocka_unit_test(everything_a_lost_stream_drops_leaves_room_and_is_counted),
		cmocka_unit_test(what_leaves_the_queue_leaves_nothing_in_it),
		cmocka_unit_test(a_child_does_not_speak_for_its_parent),
		cmocka_unit_test(a_refused_event_is_handed_back_when_its_ack_has_come),
		cmocka_unit_test(
			a_refusal_whose_ack_was_cut_off_is_handed_back_by_welcome_or_a_lost_stream),
		cmocka_unit_test(an_event_nologd_cannot_read_does_not_block_those_behind_it),
		cmocka_unit_test(a_refused_hello_is_an_error_each_time_and_keeps_the_queue),
		cmocka_unit_test(one_shot_uses_stream_0_and_counts_from_1),
		cmocka_unit_test(one_shot_cut_off_after_sending_fails_for_good),
		cmocka_unit_test(what_nologd_never_says_is_a_protocol_error),
		cmocka_unit_test(an_old_ack_changes_nothing),
		cmocka_unit_test(half_a_frame_at_the_end_is_nothing),
		cmocka_unit_test(what_was_said_before_the_end_is_read_though_sending_fails),
		cmocka_unit_test(flush_and_connect_end_when_their_time_is_over),
		cmocka_unit_test(a_daemon_that_must_be_read_to_go_on_reading_is_served),
		cmocka_unit_test(a_lookup_gives_its_records_and_done),
		cmocka_unit_test(quota_is_one_total_and_status_metrics_and_done),
		cmocka_unit_test(a_refused_query_tells_why_and_is_over),
		cmocka_unit_test(an_answer_cut_off_at_any_byte_is_not_taken_for_whole),
		cmocka_unit_test(what_is_no_answer_to_the_question_is_a_protocol_error),
		cmocka_unit_test(a_malformed_question_is_not_sent),
		cmocka_unit_test(silence_and_stopping_end_a_query),
		cmocka_unit_test(opening_a_query_says_what_is_wrong),
		cmocka_unit_test(a_socket_that_may_not_be_connected_to_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
