/* SPDX-License-Identifier: ISC */
/* queue: see queue.h.  One producer, one consumer, positions that only grow. */
#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CACHE_LINE 64

struct queue {
	uint8_t *items;
	size_t size, mask;
	int fd;
	/* Each side's position on a cache line of its own, with its memory of the other's. */
	_Alignas(CACHE_LINE) _Atomic size_t tail; /* written by the putter */
	size_t head_seen;
	_Alignas(CACHE_LINE) _Atomic size_t head; /* written by the taker */
	size_t tail_seen;
	_Alignas(CACHE_LINE) atomic_bool asleep;
};

int queue_new(struct queue **out, size_t item_size, size_t capacity)
{
	struct queue *q;

	assert(capacity && !(capacity & (capacity - 1)));
	q = aligned_alloc(CACHE_LINE, sizeof(*q)); /* a multiple, by its alignment */
	if (!q)
		return -ENOMEM;
	q->items = calloc(capacity, item_size);
	if (!q->items) {
		free(q);
		return -ENOMEM;
	}
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0) {
		int r = -errno;

		free(q->items);
		free(q);
		return r;
	}
	q->size = item_size;
	q->mask = capacity - 1;
	q->head_seen = q->tail_seen = 0;
	atomic_init(&q->head, 0);
	atomic_init(&q->tail, 0);
	atomic_init(&q->asleep, true);
	*out = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	close(q->fd);
	free(q->items);
	free(q);
}

static void *slot(struct queue *q, size_t position)
{
	return q->items + (position & q->mask) * q->size;
}

size_t queue_room(struct queue *q)
{
	size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	q->head_seen = atomic_load_explicit(&q->head, memory_order_acquire);
	return q->mask + 1 - (tail - q->head_seen);
}

void *queue_place(struct queue *q, size_t i)
{
	return slot(q, atomic_load_explicit(&q->tail, memory_order_relaxed) + i);
}

void queue_push(struct queue *q, size_t n)
{
	size_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	/* Ordered before the look at asleep in queue_ring(). */
	atomic_store_explicit(&q->tail, tail + n, memory_order_seq_cst);
}

void queue_wake(struct queue *q)
{
	uint64_t one = 1;

	/* EAGAIN means the bell is ringing already. */
	if (write(q->fd, &one, sizeof(one)) < 0)
		return;
}

void queue_ring(struct queue *q)
{
	if (atomic_exchange(&q->asleep, false))
		queue_wake(q);
}

size_t queue_ready(struct queue *q)
{
	size_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

	q->tail_seen = atomic_load_explicit(&q->tail, memory_order_acquire);
	return q->tail_seen - head;
}

void *queue_item(struct queue *q, size_t i)
{
	return slot(q, atomic_load_explicit(&q->head, memory_order_relaxed) + i);
}

void queue_pop(struct queue *q, size_t n)
{
	size_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

	/* Addresses and accounts went through here: a quiet daemon must not keep them. */
	for (size_t i = 0; i < n; i++)
		explicit_bzero(slot(q, head + i), q->size);
	atomic_store_explicit(&q->head, head + n, memory_order_release);
}

int queue_fd(const struct queue *q)
{
	return q->fd;
}

bool queue_may_sleep(struct queue *q)
{
	uint64_t rung;

	if (read(q->fd, &rung, sizeof(rung)) < 0) {
		/* EAGAIN: it was silent. */
	}
	/* Announce first, look second: the putter pushes first and looks second. */
	atomic_store(&q->asleep, true);
	return atomic_load(&q->tail) == atomic_load_explicit(&q->head, memory_order_relaxed);
}
