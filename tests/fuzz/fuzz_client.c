/* SPDX-License-Identifier: ISC */
/*
 * The client library with a daemon that says and does anything.  The input is a
 * list of moves of both sides; whatever they are, no event is lost sight of,
 * none is handed back twice, and only the documented errors come out.
 */
#include <nolog/client.h>

#include "fakeserver.h"
#include "fuzz.h"

#define QUEUE 5
#define FATES 65536 /* numbers that are watched; inputs are shorter */

static struct fake reporters, queries;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void finish(void)
{
	fake_close(&reporters);
	fake_close(&queries);
}

static void begin(void)
{
	static bool begun;

	if (begun)
		return;
	begun = true;
	fake_open(&reporters, NOLOG_ROLE_USAGE);
	fake_open(&queries, NOLOG_ROLE_LOOKUP);
	must(atexit(finish) == 0);
}

struct input {
	const uint8_t *p;
	size_t n;
};

static uint8_t take(struct input *in)
{
	if (in->n == 0)
		return 0;
	in->n--;
	return *in->p++;
}

struct seen {
	struct nolog_reporter *r;
	uint64_t lost;
	bool send;
	uint8_t fate[FATES]; /* 1: the event of this number has been handed back */
};

static void lost(const struct nolog_frame *event, enum nolog_lost what, unsigned code, void *arg)
{
	struct seen *seen = arg;
	uint64_t number = event->seq;

	/* Each event carries its own number, so it is known whose fate this is. */
	must(event->type == NOLOG_USAGE && event->u.usage.rx == number);
	must(what == NOLOG_LOST_REFUSED ? code != 0 : code == 0 && event->aux == 0);
	must(number > 0 && seen->fate[number % FATES]++ == 0);
	seen->lost++;
	if (seen->send) {
		struct nolog_reporter_stats st;
		static const uint8_t account[NOLOG_ACCOUNT_SIZE];

		nolog_reporter_stats(seen->r, &st);
		(void)nolog_report_usage(seen->r, account, st.sent + 1, 0, 1, 0);
	}
}

static void check(const struct seen *seen)
{
	struct nolog_reporter_stats st;

	nolog_reporter_stats(seen->r, &st);
	must(st.sent == st.acknowledged + st.dropped + st.queued);
	must(st.queued <= QUEUE && st.refused + st.dropped == seen->lost);
	must(nolog_reporter_fd(seen->r) >= 0 || !nolog_reporter_welcomed(seen->r));
}

/* A frame that is nearly always well-formed: small numbers meet what was sent. */
static void say_something(struct input *in)
{
	static const uint8_t types[] = { NOLOG_ACK, NOLOG_ACK, NOLOG_WELCOME, NOLOG_REFUSED };
	uint8_t type = take(in), code = take(in);
	uint64_t seq = take(in);

	if (type >= 0xf0)
		seq = UINT64_MAX - seq;
	type = types[type % 4];
	fake_say(&reporters, type, seq, type == NOLOG_REFUSED ? code % 24 : 0);
}

static void move(struct input *in, struct seen *seen)
{
	static const uint8_t account[NOLOG_ACCOUNT_SIZE];
	struct nolog_reporter_stats st;
	uint8_t buf[256];
	int r;

	nolog_reporter_stats(seen->r, &st);
	switch (take(in) % 8) {
	case 0:
		r = nolog_report_usage(seen->r, account, st.sent + 1, 0, take(in) % 2, 0);
		must(r == 0 || r == -EAGAIN || r == -EPIPE);
		must(r != -EAGAIN || st.queued == QUEUE);
		break;
	case 1:
		(void)fake_accept(&reporters);
		break;
	case 2:
		while (reporters.fd >= 0 && fake_read(&reporters, buf, sizeof(buf)) > 0)
			;
		break;
	case 3:
	case 4:
		if (reporters.fd >= 0)
			say_something(in);
		break;
	case 5:
		r = take(in);
		for (int i = 0; i < r; i++)
			buf[i] = take(in);
		if (reporters.fd >= 0)
			fake_write(&reporters, buf, (size_t)r);
		break;
	case 6:
		fake_hangup(&reporters);
		break;
	default:
		fake_clock_advance(5000);
		break;
	}
	r = nolog_reporter_step(seen->r);
	must(r == 0 || r == -EPROTO || r == -EACCES || r == -EPIPE);
	check(seen);
}

static void fuzz_reporter(struct input *in, uint8_t mode)
{
	static struct seen seen;
	const struct nolog_reporter_options o = {
		.run_dir = reporters.dir,
		.role = NOLOG_ROLE_USAGE,
		.server = "a",
		.one_shot = mode & 8,
		.stream = mode & 16 && !(mode & 8) ? 7 : 0,
		.queue_events = QUEUE,
		.lost = lost,
		.arg = &seen,
	};

	memset(&seen, 0, sizeof(seen));
	seen.send = mode & 4;
	must(nolog_reporter_new(&seen.r, &o) == 0);
	while (in->n > 0)
		move(in, &seen);
	nolog_reporter_free(seen.r);
	while (fake_accept(&reporters))
		;
	fake_hangup(&reporters);
}

static int answer(const struct nolog_frame *f, void *arg)
{
	unsigned *count = arg;

	must(f->type == NOLOG_RECORD && nolog_server_valid(f->u.record.server));
	++*count;
	return 0;
}

static void fuzz_query(struct input *in)
{
	struct nolog_frame end, request = { .type = NOLOG_LOOKUP };
	struct nolog_query *q;
	unsigned count = 0;
	int r;

	must(nolog_query_open(&q, queries.dir, NOLOG_ROLE_LOOKUP) == 0);
	must(fake_accept(&queries));
	fake_write(&queries, in->p, in->n < 100000 ? in->n : 100000);
	fake_hangup(&queries);
	do {
		count = 0;
		r = nolog_query_ask(q, &request, answer, &count, &end, 0);
		must(r == 0 || r == -EPROTO || r == -EPIPE || r == -ENOTCONN);
		must(r != 0 || (end.type == NOLOG_DONE && end.u.done.count == count));
		must(r == 0 || end.type == (end.code ? NOLOG_REFUSED : 0));
	} while (r == 0);
	must(nolog_query_ask(q, &request, NULL, NULL, NULL, 0) == -ENOTCONN);
	nolog_query_close(q);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size < FATES / 2 ? size : FATES / 2 };
	uint8_t mode = take(&in);

	begin();
	if (mode & 1)
		fuzz_query(&in);
	else
		fuzz_reporter(&in, mode);
	return 0;
}

/* Histories that get somewhere: welcomed, sent, acknowledged, cut off, forgotten, refused. */
size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	static const uint8_t moves[] = {
		0, 0, 0,    1, 1, 3, 2, 0, 0, /* two events, accept, WELCOME 0 */
		0, 0, 3,    0, 0, 2,	      /* another, ACK 2 */
		6, 7, 1,    3, 2, 0, 0, 1,    /* cut off; WELCOME 0: forgotten; the new stream */
		3, 2, 0,    0, 0, 0, 3, 3, 16, 1, 3, 0, 0, 1, /* WELCOME, REFUSED 16 of 1, ACK 1 */
		3, 3, 1,    2, 7, 1, 3, 2, 0,  1,	      /* REFUSED 1 of 2; WELCOME 1 */
		5, 3, 0x80, 1, 0, 6, 7,			      /* a part of a frame */
	};
	static const uint8_t modes[] = { 0, 4, 8, 16, 20 };
	struct nolog_frame f = { .type = NOLOG_RECORD, .seq = 1 };

	if (max < 1 + sizeof(moves) || max < 1 + 3 * NOLOG_FRAME_SIZE)
		return 0;
	if (n < sizeof(modes)) {
		out[0] = modes[n];
		memcpy(out + 1, moves, sizeof(moves));
		return 1 + sizeof(moves);
	}
	if (n > sizeof(modes))
		return 0;
	out[0] = 1;
	f.u.record.server[0] = 'a';
	nolog_frame_encode(out + 1, &f);
	f = (struct nolog_frame){ .type = NOLOG_DONE, .seq = 1 };
	f.u.done.count = 1;
	nolog_frame_encode(out + 1 + NOLOG_FRAME_SIZE, &f);
	f = (struct nolog_frame){ .type = NOLOG_REFUSED, .seq = 2, .code = NOLOG_OVER_CAPACITY };
	nolog_frame_encode(out + 1 + 2 * NOLOG_FRAME_SIZE, &f);
	return 1 + 3 * NOLOG_FRAME_SIZE;
}
