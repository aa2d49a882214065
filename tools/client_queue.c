/* SPDX-License-Identifier: ISC */
/*
 * The ring behind a reporter.  Nothing is allocated or copied per event but its
 * 64 bytes, and what is to be sent lies in the ring as send(2) wants it.
 */
#include "client_queue.h"

#include <errno.h>
#include <stdlib.h>

/* Far above what memory is good for; keeps sizes from wrapping. */
#define QUEUE_MAX ((size_t)1 << 28)

static uint8_t *queue_frame(const struct nolog_queue *q, uint64_t position)
{
	return q->frames + (position & q->mask) * NOLOG_FRAME_SIZE;
}

/* Wipes the slots from position begin to position end. */
static void queue_wipe(struct nolog_queue *q, uint64_t begin, uint64_t end)
{
	uint64_t slot = begin & q->mask, n = end - begin, room = q->mask + 1 - slot;
	uint64_t first = n < room ? n : room;

	explicit_bzero(queue_frame(q, begin), first * NOLOG_FRAME_SIZE);
	explicit_bzero(q->frames, (n - first) * NOLOG_FRAME_SIZE);
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
	if (q->frames)
		queue_wipe(q, q->head, q->tail);
	free(q->frames);
	free(q->numbers);
	free(q->codes);
	memset(q, 0, sizeof(*q));
}

int nolog_queue_push(struct nolog_queue *q, const struct nolog_frame *event, enum nolog_role role)
{
	uint8_t bytes[NOLOG_FRAME_SIZE];
	int r = 0;

	nolog_frame_encode(bytes, event);
	if (event->type == NOLOG_HELLO || nolog_frame_check(bytes, role, true) != NOLOG_OK)
		r = -EINVAL;
	else if (q->tail - q->head + q->reserved >= q->limit)
		r = -EAGAIN;
	if (r == 0)
		memcpy(queue_frame(q, q->tail), bytes, sizeof(bytes));
	explicit_bzero(bytes, sizeof(bytes));
	if (r < 0)
		return r;
	nolog_put64(queue_frame(q, q->tail) + 8, q->tail + q->shift);
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
	queue_wipe(q, q->head, end);
	q->head = end;
}

/* One that was sent: what nologd made of it is not known, or is known and needs no repeat. */
static bool queue_drops(const struct nolog_queue *q, uint64_t position)
{
	const uint8_t *frame = queue_frame(q, position);

	return q->codes[position & q->mask] != 0 ||
	       (frame[0] == NOLOG_USAGE && nolog_get32(frame + 4) == 0);
}

/* The event at from, and what belongs to it, goes to where another has left. */
static void queue_move(struct nolog_queue *q, uint64_t to, uint64_t from)
{
	if (to == from)
		return;
	memcpy(queue_frame(q, to), queue_frame(q, from), NOLOG_FRAME_SIZE);
	q->numbers[to & q->mask] = q->numbers[from & q->mask];
	q->codes[to & q->mask] = q->codes[from & q->mask];
}

size_t nolog_queue_restart(struct nolog_queue *q,
			   struct nolog_queue_dropped out[NOLOG_QUEUE_DROP_MAX])
{
	uint64_t end = q->head, to;
	size_t n = 0;

	for (; end != q->sent && n < NOLOG_QUEUE_DROP_MAX; end++) {
		if (!queue_drops(q, end))
			continue;
		nolog_frame_decode(&out[n].event, queue_frame(q, end));
		out[n].event.seq = q->numbers[end & q->mask];
		out[n].code = q->codes[end & q->mask];
		q->refused -= out[n++].code != 0;
	}
	/* From the back, so that what stays closes up to what comes behind it. */
	to = end;
	for (uint64_t p = end; p != q->head;)
		if (!queue_drops(q, --p))
			queue_move(q, --to, p);
	queue_wipe(q, q->head, to);
	q->head = to;
	q->next = q->head;
	if (n == 0)
		q->sent = q->head;
	return n;
}
