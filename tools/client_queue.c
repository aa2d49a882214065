/* SPDX-License-Identifier: ISC */
/*
 * The ring behind a reporter.  Nothing is allocated or copied per event but its
 * 64 bytes, and what is to be sent lies in the ring as send(2) wants it.
 */
#include "client_queue.h"

#include <errno.h>
#include <stdlib.h>

#define QUEUE_MAX \
	((size_t)1 << 28)     /* far above what memory is good for; keeps sizes from wrapping */
#define QUEUE_DROP UINT16_MAX /* a code for nolog_queue_restart() alone */

static uint8_t *queue_frame(const struct nolog_queue *q, uint64_t position)
{
	return q->frames + (position & q->mask) * NOLOG_FRAME_SIZE;
}

int nolog_queue_init(struct nolog_queue *q, size_t limit)
{
	size_t slots = 1;

	memset(q, 0, sizeof(*q));
	if (limit > QUEUE_MAX)
		return -ENOMEM;
	while (slots < limit)
		slots *= 2;
	q->frames = calloc(slots, NOLOG_FRAME_SIZE);
	q->numbers = calloc(slots, sizeof(*q->numbers));
	q->codes = calloc(slots, sizeof(*q->codes));
	if (!q->frames || !q->numbers || !q->codes) {
		nolog_queue_done(q);
		return -ENOMEM;
	}
	q->mask = slots - 1;
	q->limit = limit;
	q->shift = 1;
	return 0;
}

void nolog_queue_done(struct nolog_queue *q)
{
	free(q->frames);
	free(q->numbers);
	free(q->codes);
	memset(q, 0, sizeof(*q));
}

int nolog_queue_push(struct nolog_queue *q, const struct nolog_frame *event, enum nolog_role role)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];

	nolog_frame_encode(bytes, event);
	if (event->type == NOLOG_HELLO || nolog_frame_check(bytes, role, true) != NOLOG_OK)
		return -EINVAL;
	if (q->tail - q->head >= q->limit)
		return -EAGAIN;
	nolog_put64(bytes + 8, q->tail + q->shift);
	memcpy(queue_frame(q, q->tail), bytes, sizeof(bytes));
	q->numbers[q->tail & q->mask] = ++q->accepted;
	q->codes[q->tail & q->mask] = 0;
	q->tail++;
	return 0;
}

uint64_t nolog_queue_acknowledged(const struct nolog_queue *q)
{
	return q->head + q->shift - 1;
}

void nolog_queue_renumber(struct nolog_queue *q, uint64_t first_seq)
{
	q->shift = first_seq - q->head;
	for (uint64_t p = q->head; p != q->tail; p++)
		nolog_put64(queue_frame(q, p) + 8, p + q->shift);
}

size_t nolog_queue_pending(const struct nolog_queue *q, size_t part, const uint8_t **bytes)
{
	uint64_t slot = q->next & q->mask, n = q->tail - q->next;

	if (n > q->mask + 1 - slot)
		n = q->mask + 1 - slot; /* the rest stands at the ring's beginning */
	if (n == 0)
		return 0;
	*bytes = queue_frame(q, q->next) + part;
	return n * NOLOG_FRAME_SIZE - part;
}

void nolog_queue_advance(struct nolog_queue *q, uint64_t n)
{
	q->next += n;
	if (q->next - q->head > q->sent - q->head)
		q->sent = q->next;
}

void nolog_queue_rewind(struct nolog_queue *q)
{
	q->next = q->head;
}

int nolog_queue_refuse(struct nolog_queue *q, uint64_t seq, uint16_t code)
{
	uint64_t position = seq - q->shift;

	if (position - q->head >= q->next - q->head)
		return -EPROTO;
	q->refused += q->codes[position & q->mask] == 0;
	q->codes[position & q->mask] = code;
	return 0;
}

void nolog_queue_pop(struct nolog_queue *q, struct nolog_frame *event, uint16_t *code)
{
	uint64_t slot = q->head & q->mask;

	nolog_frame_decode(event, queue_frame(q, q->head));
	event->seq = q->numbers[slot];
	*code = q->codes[slot];
	q->refused -= *code != 0;
	nolog_queue_pop_until(q, q->head + 1);
}

void nolog_queue_pop_until(struct nolog_queue *q, uint64_t end)
{
	if (q->next - q->head < end - q->head)
		q->next = end;
	if (q->sent - q->head < end - q->head)
		q->sent = end;
	q->head = end;
}

/* Hands over what must not be sent again, in order, and leaves a code on it. */
static void queue_mark(struct nolog_queue *q, nolog_queue_drop_fn *drop, void *arg)
{
	/* drop may push, which moves tail, never what is before it. */
	for (uint64_t p = q->head, end = q->sent; p != end; p++) {
		uint16_t *code = &q->codes[p & q->mask];
		struct nolog_frame event;

		nolog_frame_decode(&event, queue_frame(q, p));
		if (*code == 0 && !(event.type == NOLOG_USAGE && event.aux == 0))
			continue;
		event.seq = q->numbers[p & q->mask];
		drop(&event, *code, arg);
		*code = QUEUE_DROP;
	}
}

void nolog_queue_restart(struct nolog_queue *q, nolog_queue_drop_fn *drop, void *arg)
{
	uint64_t to = q->sent;

	queue_mark(q, drop, arg);
	/* From the back, so that what stays closes up to what was never sent. */
	for (uint64_t p = q->sent; p != q->head;) {
		uint64_t from = --p & q->mask;

		if (q->codes[from] == QUEUE_DROP)
			continue;
		to--;
		memmove(queue_frame(q, to), q->frames + from * NOLOG_FRAME_SIZE, NOLOG_FRAME_SIZE);
		q->numbers[to & q->mask] = q->numbers[from];
		q->codes[to & q->mask] = 0;
	}
	q->head = q->next = q->sent = to;
	q->refused = 0;
}
