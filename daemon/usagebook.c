/* SPDX-License-Identifier: ISC */
/* usagebook: see usagebook.h. */
#include "usagebook.h"

#include "calendar.h"
#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_EVENTS (1u << 16)
#define PASS_MS (INT64_C(5) * 60 * 1000)
#define KEY_MS (INT64_C(10) * 60 * 1000)
#define EXPIRE_PASS_MS (INT64_C(3600) * 1000)
/*
 * A stream or meter without a frame for 7 days of running time is forgotten;
 * those of the key before the turn go with it.  It does not wait longer than
 * this for a daemon that is seldom up.
 */
#define OLD_METERS_MS (INT64_C(7) * CALENDAR_DAY_MS)
#define OLD_METERS_LAST_MS (INT64_C(14) * CALENDAR_DAY_MS)
#define DROP_EFFECTS (1u << 16) /* of one transaction while they are dropped */

struct usagebook {
	struct writer_book writer;
	struct usage *usage;
	struct keyring *keyring;
	struct clock *clock;
	struct writer *attached;
	struct usage_rules rules;
	struct keyring_meters meters; /* as of the last upkeep */
	int64_t turned_ms;	      /* running time at the turn, or at the start */
	unsigned drop_next;	      /* slice, while old meters are dropped */
	_Atomic uint64_t accounts, meter_count, turns;
	_Atomic uint32_t month;
};

static void show(struct usagebook *b)
{
	atomic_store_explicit(&b->accounts, usage_accounts(b->usage), memory_order_relaxed);
	atomic_store_explicit(&b->meter_count, usage_meters(b->usage), memory_order_relaxed);
	atomic_store_explicit(&b->month, keyring_month(b->keyring), memory_order_relaxed);
}

static int stream_id(void *arg, const struct writer_link *link, uint8_t *generation, uint8_t id[16])
{
	struct usagebook *b = arg;

	if (*generation == 0)
		*generation = b->meters.generation;
	return keyring_stream_tag(b->keyring, *generation, link->server, link->stream, id);
}

static uint8_t old_generation(void *arg)
{
	const struct usagebook *b = arg;

	return b->meters.old_generation;
}

static enum nolog_refusal decide(void *arg, const struct writer_link *link,
				 const struct sessions_time *t, const struct nolog_frame *event,
				 struct effects *out)
{
	struct usagebook *b = arg;
	struct usage_event u = { .flags = event->code, .metered = event->aux != 0 };
	const uint8_t *account = event->u.usage.account;
	int r = 0;

	u.rx = event->u.usage.rx;
	u.tx = event->u.usage.tx;
	keyring_total_tag(b->keyring, account, u.account);
	if (u.metered) {
		u.generation = b->meters.generation;
		u.old_generation = b->meters.old_generation;
		r = keyring_meter_tag(b->keyring, u.generation, link->server, account, event->aux,
				      u.meter);
		if (r == 0 && u.old_generation)
			r = keyring_meter_tag(b->keyring, u.old_generation, link->server, account,
					      event->aux, u.old_meter);
		if (r < 0)
			return NOLOG_OVER_CAPACITY;
	}
	return usage_decide(b->usage, &b->rules, &u, t->running_ms, out);
}

static void refresh(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	const struct usagebook *b = arg;

	(void)t;
	usage_refresh(b->usage, slice, out);
}

static void expire(void *arg, const struct sessions_time *t, unsigned slice, struct effects *out)
{
	struct usagebook *b = arg;

	usage_expire(b->usage, slice, t->running_ms, out);
}

static int64_t expire_ms(void *arg)
{
	(void)arg;
	return EXPIRE_PASS_MS;
}

static size_t live(void *arg)
{
	const struct usagebook *b = arg;

	return usage_accounts(b->usage) + usage_meters(b->usage);
}

static int apply(void *arg, const struct effect *e, int64_t running_ms)
{
	struct usagebook *b = arg;

	return usage_apply(b->usage, e, running_ms);
}

static int replayed(void *arg, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n)
{
	(void)batch;
	(void)effects;
	(void)n;
	show(arg);
	return 0;
}

static void committed(void *arg, uint64_t batch, const struct effects *effects)
{
	(void)arg;
	(void)batch;
	(void)effects;
}

static uint64_t flushed(void *arg)
{
	(void)arg;
	return UINT64_MAX - 1; /* nothing waits for a day file */
}

static void flush(void *arg)
{
	(void)arg;
}

static bool room(void *arg)
{
	(void)arg;
	return true;
}

static bool work(void *arg, const struct sessions_time *t)
{
	(void)t;
	show(arg);
	return false;
}

/* --- Totals --- */

/* The month that a total asked for now belongs to. */
static uint32_t month_now(struct usagebook *b, const struct sessions_time *t)
{
	uint32_t kept = keyring_month(b->keyring), now = calendar_month(calendar_day(t->now_ms));

	return now > kept && !clock_held(b->clock) ? now : kept;
}

/* 00:00 of the first after a month. */
static int64_t resets_ms(uint32_t month)
{
	char first[CALENDAR_NAME_SIZE];
	int32_t day = 0;

	(void)snprintf(first, sizeof(first), "%04u-%02u-01", month / 100 % 10000, month % 100);
	if (calendar_parse(&day, first) < 0)
		return 0; /* the keyring takes no such month */
	return calendar_day_start(calendar_next_month(day));
}

static void total(struct usagebook *b, const struct nolog_frame *question,
		  const struct sessions_time *t, struct nolog_frame *f)
{
	uint8_t tag[SEAL_TAG_SIZE];
	uint32_t month = month_now(b, t);

	f->type = NOLOG_TOTAL;
	f->u.total.month = month;
	f->u.total.resets_ms = resets_ms(month); /* a held clock may be in another */
	/* From midnight on it is zero, also in the moment before the turn is done. */
	if (month != keyring_month(b->keyring))
		return;
	keyring_total_tag(b->keyring, question->u.quota.account, tag);
	usage_total(b->usage, tag, &f->u.total.rx, &f->u.total.tx);
}

static void query(void *arg, const struct request *r, const struct sessions_time *t)
{
	struct usagebook *b = arg;
	struct answer a = { .link = r->link, .taken = 1 };
	struct nolog_frame question, f = { 0 };

	if (r->kind == REQUEST_RULES) {
		b->rules = *(const struct usage_rules *)r->u.pointer;
		free(r->u.pointer);
		return;
	}
	nolog_frame_decode(&question, r->u.frame);
	if (r->kind == REQUEST_REFUSE) {
		writer_count_refused(b->attached, r->code);
		f.type = NOLOG_REFUSED;
		f.code = r->code;
		a.close = true;
	} else {
		total(b, &question, t, &f);
	}
	f.seq = question.seq;
	nolog_frame_encode(a.frame, &f);
	writer_answer(b->attached, &a);
}

/* --- The month's turn --- */

/*
 * What waits is committed to the month it came in, if there is room for it.
 * Then, room or not, the old month's tag key dies: whose the totals were, which
 * are zero from here on, nobody can tell any more.  All totals zero and all
 * meters again under a new key of the log, the log cut, and the old one dies
 * too.  A crash anywhere in between begins again at keyring_month_turning(),
 * before a socket opens.
 */
static int begin_turn(struct usagebook *b, struct writer *w, uint32_t month,
		      const struct sessions_time *t, struct fault *fault)
{
	int r = writer_commit_waiting(w, t, false, fault);

	if (r == -ENOSPC) {
		if (fault)
			fault->error = 0;
		r = 0;
	}
	return r < 0 ? r : keyring_month_begin(b->keyring, month, t->now_ms);
}

static int turn(struct usagebook *b, struct writer *w, uint32_t month,
		const struct sessions_time *t, struct fault *fault)
{
	struct journal *j = writer_journal(w);
	int r = 0;

	/* Begun before: what would be committed now is the old totals. */
	if (!keyring_month_turning(b->keyring))
		r = begin_turn(b, w, month, t, fault);
	if (r < 0)
		return r;
	keyring_meters(b->keyring, &b->meters);
	r = writer_rename_streams(w);
	if (r == 0) {
		usage_turn(b->usage, month, writer_effects(w));
		show(b);
		if (journal_old_key(j))
			r = writer_relog(w, fault);
	}
	if (r == 0)
		r = journal_renew(j, t->now_ms);
	if (r == 0) {
		usage_turn(b->usage, month, writer_effects(w)); /* that the log says so again */
		r = writer_relog(w, fault);
	}
	if (r == 0)
		r = keyring_month_finish(b->keyring);
	if (r < 0)
		return r;
	b->turned_ms = t->running_ms;
	b->drop_next = 0;
	atomic_fetch_add(&b->turns, 1);
	show(b);
	log_say(LOG_MONTH_TURNED, month, 0, 0);
	return 0;
}

static bool old_meters_over(const struct usagebook *b, const struct sessions_time *t)
{
	int64_t age_ms = t->now_ms - b->meters.created_ms;

	return b->meters.old_generation != 0 &&
	       (age_ms >= OLD_METERS_LAST_MS ||
		(age_ms >= OLD_METERS_MS && t->running_ms - b->turned_ms >= OLD_METERS_MS));
}

/* The meters that nobody read since the turn go with their key, some at a time. */
static int drop_old_meters(struct usagebook *b, struct writer *w, const struct sessions_time *t,
			   struct fault *fault)
{
	/* Apart from what waits, whose positions stand in one transaction with it. */
	int r = writer_commit_waiting(w, t, true, fault);

	if (r < 0)
		return r;
	while (b->drop_next < USAGE_SLICES + STREAMS_SLICES &&
	       writer_effects(w)->n < DROP_EFFECTS) {
		unsigned s = b->drop_next++;

		if (s < USAGE_SLICES)
			usage_drop_generation(b->usage, s, b->meters.old_generation,
					      writer_effects(w));
		else
			streams_drop_generation(writer_streams(w), s - USAGE_SLICES,
						b->meters.old_generation, writer_effects(w));
	}
	r = writer_commit_waiting(w, t, true, fault);
	if (r < 0 || b->drop_next < USAGE_SLICES + STREAMS_SLICES)
		return r;
	b->drop_next = 0;
	r = keyring_meters_drop(b->keyring);
	if (r == 0)
		keyring_meters(b->keyring, &b->meters);
	return r;
}

static int upkeep(void *arg, struct writer *w, const struct sessions_time *t, struct fault *fault)
{
	struct usagebook *b = arg;
	int32_t today = calendar_day(t->now_ms);
	uint32_t month = calendar_month(today);
	int r = 0;

	if (keyring_month_turning(b->keyring))
		r = turn(b, w, keyring_month(b->keyring), t, fault);
	if (r == 0 && month > keyring_month(b->keyring))
		r = turn(b, w, month, t, fault);
	if (r == 0 && old_meters_over(b, t))
		r = drop_old_meters(b, w, t, fault);
	if (r < 0 && fault && !fault->error)
		(void)fault_set(fault, r, "usage.mdb", 0, "the month's turn failed");
	return r;
}

void usagebook_free(struct usagebook *b)
{
	if (!b)
		return;
	usage_free(b->usage);
	free(b);
}

int usagebook_new(struct usagebook **out, struct keyring *keyring, struct clock *clock,
		  const struct usage_rules *rules)
{
	struct usagebook *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	r = usage_new(&b->usage);
	if (r < 0) {
		free(b);
		return r;
	}
	b->keyring = keyring;
	b->clock = clock;
	b->rules = *rules;
	keyring_meters(keyring, &b->meters);
	show(b);
	b->writer = (struct writer_book){
		.book = KEYRING_USAGE,
		.slices = USAGE_SLICES,
		.batch_events = BATCH_EVENTS,
		.pass_ms = PASS_MS,
		.key_ms = KEY_MS,
		.arg = b,
		.stream_id = stream_id,
		.old_generation = old_generation,
		.decide = decide,
		.refresh = refresh,
		.expire = expire,
		.expire_ms = expire_ms,
		.live = live,
		.apply = apply,
		.replayed = replayed,
		.committed = committed,
		.flushed = flushed,
		.flush = flush,
		.room = room,
		.query = query,
		.work = work,
		.upkeep = upkeep,
	};
	*out = b;
	return 0;
}

void usagebook_attach(struct usagebook *b, struct writer *w)
{
	b->attached = w;
}

const struct writer_book *usagebook_writer(const struct usagebook *b)
{
	return &b->writer;
}

void usagebook_stats(const struct usagebook *b, struct usagebook_stats *out)
{
	out->accounts = atomic_load_explicit(&b->accounts, memory_order_relaxed);
	out->meters = atomic_load_explicit(&b->meter_count, memory_order_relaxed);
	out->turns = atomic_load_explicit(&b->turns, memory_order_relaxed);
	out->month = atomic_load_explicit(&b->month, memory_order_relaxed);
}
