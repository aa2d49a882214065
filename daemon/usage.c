/* SPDX-License-Identifier: ISC */
/*
 * usage: the month's totals and the meters' last readings, by tag; the rules
 * of the contract's "Usage" in pure form.  Refuses to know whose they are.
 *
 * Totals take 32 bytes and meters 40, in many small tables that grow by a
 * fifth: 38 to 46 bytes an account.  All that can fail comes before the first
 * change.
 */
#include "usage.h"

#include "tags.h"

#include <errno.h>
#include <stdlib.h>

/* A total: tag, rx, tx.  rx stays below 2^63, so its top bit marks an entry that is there. */
#define TOTAL_RX 16
#define TOTAL_TX 24
static const struct tags_shape total_shape = { .size = 32, .mark = TOTAL_RX + 7 };
#define TOTAL_MARK USAGE_TOTAL_END

/* A meter: tag, rx, tx, running time of the last reading, key generation, state. */
#define METER_RX 16
#define METER_TX 24
#define METER_TOUCHED 32
#define METER_GENERATION 38
#define METER_STATE 39
static const struct tags_shape meter_shape = { .size = 40, .mark = METER_STATE };

struct usage {
	size_t accounts, meters;
	struct tags totals[USAGE_SLICES];
	struct tags readings[USAGE_SLICES];
};

struct amount {
	uint64_t rx, tx;
};

static unsigned slice_of(const uint8_t tag[16])
{
	return nolog_get16(tag) % USAGE_SLICES;
}

static struct amount total_get(const uint8_t *e)
{
	if (!e)
		return (struct amount){ 0 };
	return (struct amount){ nolog_get64(e + TOTAL_RX) & ~TOTAL_MARK,
				nolog_get64(e + TOTAL_TX) };
}

static uint8_t *total_find(const struct usage *u, const uint8_t tag[16])
{
	return tags_find(&u->totals[slice_of(tag)], total_shape, tag);
}

/* Room must have been made when the account is new. */
static void total_set(struct usage *u, const uint8_t tag[16], struct amount total)
{
	uint8_t *e = total_find(u, tag);

	if (!e) {
		e = tags_add(&u->totals[slice_of(tag)], total_shape, tag);
		u->accounts++;
	}
	nolog_put64(e + TOTAL_RX, total.rx | TOTAL_MARK);
	nolog_put64(e + TOTAL_TX, total.tx);
}

static uint8_t *meter_find(const struct usage *u, const uint8_t tag[16])
{
	return tags_find(&u->readings[slice_of(tag)], meter_shape, tag);
}

static bool meter_is_old(const uint8_t *m, int64_t running_ms)
{
	int64_t age_ms = running_ms - effect_get_ms(m + METER_TOUCHED);

	return age_ms >=
	       (m[METER_STATE] == METER_CLOSED ? USAGE_METER_CLOSED_MS : USAGE_METER_IDLE_MS);
}

static void meter_remove(struct usage *u, uint8_t *m)
{
	tags_remove(&u->readings[slice_of(m)], meter_shape, m);
	u->meters--;
}

struct reading {
	struct amount amount;
	int64_t touched_ms;
	uint8_t generation, state;
};

static struct reading meter_get(const uint8_t *m)
{
	return (struct reading){
		.amount = { nolog_get64(m + METER_RX), nolog_get64(m + METER_TX) },
		.touched_ms = effect_get_ms(m + METER_TOUCHED),
		.generation = m[METER_GENERATION],
		.state = m[METER_STATE],
	};
}

/* Room must have been made when the meter is new. */
static void meter_set(struct usage *u, const uint8_t tag[16], struct reading r)
{
	uint8_t *m = meter_find(u, tag);

	if (!m) {
		m = tags_add(&u->readings[slice_of(tag)], meter_shape, tag);
		u->meters++;
	}
	nolog_put64(m + METER_RX, r.amount.rx);
	nolog_put64(m + METER_TX, r.amount.tx);
	effect_put_ms(m + METER_TOUCHED, r.touched_ms < 0 ? 0 : r.touched_ms);
	m[METER_GENERATION] = r.generation;
	m[METER_STATE] = r.state;
}

static void emit_total(const uint8_t tag[16], struct amount total, struct effects *out)
{
	struct effect effect = { .type = EFFECT_TOTAL };

	memcpy(effect.u.total.account, tag, 16);
	effect.u.total.rx = total.rx;
	effect.u.total.tx = total.tx;
	effects_add(out, &effect);
}

static void emit_meter(const uint8_t tag[16], struct reading r, struct effects *out)
{
	struct effect effect = { .type = EFFECT_METER };

	memcpy(effect.u.meter.meter, tag, 16);
	effect.u.meter.rx = r.amount.rx;
	effect.u.meter.tx = r.amount.tx;
	effect.u.meter.generation = r.generation;
	effect.u.meter.state = r.state;
	effects_add(out, &effect);
}

static void meter_forget(struct usage *u, uint8_t *m, struct effects *out)
{
	struct reading gone = { .generation = m[METER_GENERATION], .state = METER_FORGOTTEN };

	emit_meter(m, gone, out);
	meter_remove(u, m);
}

/* --- deciding --- */

/* What a reading comes to, before anything is changed. */
struct outcome {
	struct amount count;  /* to be added to the account's total */
	struct reading meter; /* as it will be */
	bool meter_new;	      /* under its tag, which a moved one is too */
	bool meter_moved;     /* from its old tag */
	bool meter_changed;   /* has an effect */
};

/* The meter under its tag or, *moved, under its old one; NULL when it is unknown. */
static const uint8_t *known_meter(const struct usage *u, const struct usage_event *event,
				  bool *moved)
{
	const uint8_t *m = meter_find(u, event->meter);

	*moved = false;
	if (!m && event->old_generation != 0) {
		m = meter_find(u, event->old_meter);
		*moved = m != NULL;
	}
	return m;
}

static struct outcome judge_reading(const struct usage *u, const struct usage_event *event,
				    int64_t running_ms)
{
	struct amount now = { event->rx, event->tx };
	struct outcome o = { 0 };
	const uint8_t *m = known_meter(u, event, &o.meter_moved);
	struct reading old = m ? meter_get(m) : (struct reading){ 0 };

	o.meter_new = !m || o.meter_moved;
	if (m && meter_is_old(m, running_ms))
		m = NULL; /* forgotten by now, only not yet swept away */
	o.meter = old;
	if (!m || old.state == METER_RUNNING) {
		o.meter.amount = now;
		o.meter.touched_ms = running_ms;
		o.meter.state = event->flags & NOLOG_USAGE_LAST ? METER_CLOSED : METER_RUNNING;
	}
	o.meter.generation = event->generation;
	if (!m)
		o.count = event->flags & NOLOG_USAGE_FIRST ? now : (struct amount){ 0 };
	else if (old.state == METER_CLOSED)
		o.count = (struct amount){ 0 };
	else if (now.rx < old.amount.rx || now.tx < old.amount.tx)
		o.count = now; /* it began again */
	else
		o.count = (struct amount){ now.rx - old.amount.rx, now.tx - old.amount.tx };
	o.meter_changed = o.meter_new || !m || o.meter.state != old.state ||
			  o.meter.amount.rx != old.amount.rx || o.meter.amount.tx != old.amount.tx;
	return o;
}

static bool total_fits(struct amount total, struct amount count)
{
	return count.rx < USAGE_TOTAL_END - total.rx && count.tx < USAGE_TOTAL_END - total.tx;
}

/* Room for the account's total and the meter, or -ENOMEM. */
static int make_room(struct usage *u, const struct usage_rules *rules,
		     const struct usage_event *event, const struct outcome *o, bool account_new)
{
	if (account_new) {
		if (u->accounts >= rules->max_accounts ||
		    tags_room(&u->totals[slice_of(event->account)], total_shape) < 0)
			return -ENOMEM;
	}
	if (o->meter_new) {
		if ((!o->meter_moved && u->meters >= rules->max_meters) ||
		    tags_room(&u->readings[slice_of(event->meter)], meter_shape) < 0)
			return -ENOMEM;
	}
	return 0;
}

enum nolog_refusal usage_decide(struct usage *u, const struct usage_rules *rules,
				const struct usage_event *event, int64_t running_ms,
				struct effects *out)
{
	struct outcome o = { .count = { event->rx, event->tx } };
	const uint8_t *e = total_find(u, event->account);
	struct amount total = total_get(e);
	bool counts;

	if (event->metered)
		o = judge_reading(u, event, running_ms);
	counts = o.count.rx != 0 || o.count.tx != 0;
	if (!total_fits(total, o.count) || effects_reserve(out, 3) < 0 ||
	    make_room(u, rules, event, &o, counts && !e) < 0)
		return NOLOG_OVER_CAPACITY;
	if (counts) {
		total.rx += o.count.rx;
		total.tx += o.count.tx;
		total_set(u, event->account, total);
		emit_total(event->account, total, out);
	}
	if (!event->metered)
		return NOLOG_OK;
	if (o.meter_moved)
		meter_forget(u, meter_find(u, event->old_meter), out);
	meter_set(u, event->meter, o.meter);
	if (o.meter_changed)
		emit_meter(event->meter, o.meter, out);
	return NOLOG_OK;
}

void usage_total(const struct usage *u, const uint8_t account[16], uint64_t *rx, uint64_t *tx)
{
	struct amount total = total_get(total_find(u, account));

	*rx = total.rx;
	*tx = total.tx;
}

/* --- what time does --- */

void usage_refresh(const struct usage *u, unsigned slice, struct effects *out)
{
	const struct tags *totals = &u->totals[slice], *readings = &u->readings[slice];
	const uint8_t *e;

	for (uint32_t pos = 0; pos < totals->cap; pos++)
		if ((e = tags_entry(totals, total_shape, pos)) != NULL)
			emit_total(e, total_get(e), out);
	for (uint32_t pos = 0; pos < readings->cap; pos++)
		if ((e = tags_entry(readings, meter_shape, pos)) != NULL)
			emit_meter(e, meter_get(e), out);
}

void usage_expire(struct usage *u, unsigned slice, int64_t running_ms, struct effects *out)
{
	const struct tags *readings = &u->readings[slice];
	uint32_t pos = 0;

	while (pos < readings->cap) {
		uint8_t *m = tags_entry(readings, meter_shape, pos);

		if (m && meter_is_old(m, running_ms))
			meter_forget(u, m, out);
		else
			pos++;
	}
}

void usage_drop_generation(struct usage *u, unsigned slice, uint8_t generation, struct effects *out)
{
	const struct tags *readings = &u->readings[slice];
	uint32_t pos = 0;

	while (pos < readings->cap) {
		uint8_t *m = tags_entry(readings, meter_shape, pos);

		if (m && m[METER_GENERATION] == generation)
			meter_forget(u, m, out);
		else
			pos++;
	}
}

static void totals_clear(struct usage *u)
{
	for (unsigned i = 0; i < USAGE_SLICES; i++)
		tags_clear(&u->totals[i], total_shape);
	u->accounts = 0;
}

void usage_turn(struct usage *u, uint32_t month, struct effects *out)
{
	struct effect effect = { .type = EFFECT_TURN, .u.turn.month = month };

	totals_clear(u);
	effects_add(out, &effect);
}

/* --- replay --- */

static int apply_total(struct usage *u, const struct effect *e)
{
	const uint8_t *tag = e->u.total.account;
	struct amount total = { e->u.total.rx, e->u.total.tx };

	if (total.rx >= USAGE_TOTAL_END || total.tx >= USAGE_TOTAL_END)
		return -EBADMSG;
	if (tags_room(&u->totals[slice_of(tag)], total_shape) < 0)
		return -ENOMEM;
	total_set(u, tag, total);
	return 0;
}

static int apply_meter(struct usage *u, const struct effect *e, int64_t running_ms)
{
	const uint8_t *tag = e->u.meter.meter;
	struct reading r = {
		.amount = { e->u.meter.rx, e->u.meter.tx },
		.touched_ms = running_ms,
		.generation = e->u.meter.generation,
		.state = e->u.meter.state,
	};
	uint8_t *m;

	switch (e->u.meter.state) {
	case METER_RUNNING:
	case METER_CLOSED:
		if (tags_room(&u->readings[slice_of(tag)], meter_shape) < 0)
			return -ENOMEM;
		meter_set(u, tag, r);
		return 0;
	case METER_FORGOTTEN:
		m = meter_find(u, tag);
		if (m)
			meter_remove(u, m);
		return 0;
	default:
		return -EBADMSG;
	}
}

int usage_apply(struct usage *u, const struct effect *e, int64_t running_ms)
{
	switch (e->type) {
	case EFFECT_TOTAL:
		return apply_total(u, e);
	case EFFECT_METER:
		return apply_meter(u, e, running_ms);
	case EFFECT_TURN:
		totals_clear(u);
		return 0;
	default:
		return -EBADMSG;
	}
}

size_t usage_accounts(const struct usage *u)
{
	return u->accounts;
}

size_t usage_meters(const struct usage *u)
{
	return u->meters;
}

int usage_new(struct usage **out)
{
	struct usage *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	*out = u;
	return 0;
}

void usage_free(struct usage *u)
{
	if (!u)
		return;
	for (unsigned i = 0; i < USAGE_SLICES; i++) {
		tags_clear(&u->totals[i], total_shape);
		tags_clear(&u->readings[i], meter_shape);
	}
	free(u);
}
