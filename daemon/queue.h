/* SPDX-License-Identifier: ISC */
/*
 * queue: a bounded ring between two threads, one that puts and one that takes.
 *
 * Items are of one fixed size.  Neither side ever blocks in here; a side that
 * finds the ring full or empty waits for the other's bell, an eventfd that is
 * rung only when somebody may be waiting.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct queue;

/* capacity: a power of two. -ENOMEM, or the errno of eventfd(2). */
int queue_new(struct queue **out, size_t item_size, size_t capacity);
void queue_free(struct queue *q); /* NULL is fine */

/* --- the putting side --- */
/* Items that can be put now. */
size_t queue_room(struct queue *q);
/* The next free place; only while queue_room() > i, i the number put since queue_push(). */
void *queue_place(struct queue *q, size_t i);
/* Publishes n placed items. */
void queue_push(struct queue *q, size_t n);
/* Rings the taker's bell, if it may be asleep.  Once per lot of pushes. */
void queue_ring(struct queue *q);

/* --- the taking side --- */
/* Items that can be taken now. */
size_t queue_ready(struct queue *q);
/* The i-th of these; valid until queue_pop(). */
void *queue_item(struct queue *q, size_t i);
void queue_pop(struct queue *q, size_t n);

/* A descriptor that becomes readable when the bell was rung. */
int queue_fd(const struct queue *q);
/* Before sleeping: true when there is nothing and the bell will ring; reads the bell empty. */
bool queue_may_sleep(struct queue *q);
/* Rings the bell in any case; any thread. */
void queue_wake(struct queue *q);

#endif
