/* SPDX-License-Identifier: ISC */
/*
 * A reporter's queue: the events that nologd has not acknowledged, encoded as
 * they go to the socket, in a ring that is allocated once.  It knows which of
 * them were sent, on this connection and ever, and which wire number each has;
 * it knows no socket, no stream and no time.  An event that leaves the queue
 * leaves nothing in it: its slot is wiped.
 *
 * Positions count the events of the ring; head <= next <= tail and
 * head <= sent <= tail.  The event at position p has the wire's seq p + shift
 * (modulo 2^64: shift may be "negative") and the user's number numbers[p].
 */
#ifndef NOLOG_CLIENT_QUEUE_H
#define NOLOG_CLIENT_QUEUE_H

#include "client_internal.h"

struct nolog_queue {
	uint8_t *frames;   /* mask + 1 encoded frames */
	uint64_t *numbers; /* and the number the user was told of each, */
	uint16_t *codes;   /* and why nologd refused it, 0: it did not */
	uint64_t mask;
	uint64_t limit;
	uint64_t head; /* the oldest that is not acknowledged */
	uint64_t next; /* the next to send on this connection */
	uint64_t sent; /* the first that was never wholly sent, on any */
	uint64_t tail; /* where the next event goes */
	uint64_t shift;
	uint64_t accepted; /* the last number given */
	size_t refused;	   /* how many codes are not 0 */
	size_t reserved;   /* events for which there must be room besides the next */
};

/* limit: how many events there may be at a time.  0 or -ENOMEM. */
NOLOG_HIDDEN int nolog_queue_init(struct nolog_queue *q, size_t limit);
NOLOG_HIDDEN void nolog_queue_done(struct nolog_queue *q);

/* Encodes one event behind the others: -EAGAIN when full, -EINVAL when role has no such event. */
NOLOG_HIDDEN int nolog_queue_push(struct nolog_queue *q, const struct nolog_frame *event,
				  enum nolog_role role);

/* The seq of the last event that left the queue (or would have been before the first). */
NOLOG_HIDDEN uint64_t nolog_queue_acknowledged(const struct nolog_queue *q);
/* Gives the oldest event this seq, and those behind it the following ones. */
NOLOG_HIDDEN void nolog_queue_renumber(struct nolog_queue *q, uint64_t first_seq);

/*
 * The bytes to be sent next, as many as lie together; 0 when there are none.
 * part: how many of the first frame's bytes are gone already.
 */
NOLOG_HIDDEN size_t nolog_queue_pending(const struct nolog_queue *q, size_t part,
					const uint8_t **bytes);
/* n frames more have been sent whole on this connection. */
NOLOG_HIDDEN void nolog_queue_advance(struct nolog_queue *q, uint64_t n);
/* A new connection: everything is to be sent, though some has been before. */
NOLOG_HIDDEN void nolog_queue_rewind(struct nolog_queue *q);

/* Notes why the event of this seq was refused; -EPROTO when it is not one sent here. */
NOLOG_HIDDEN int nolog_queue_refuse(struct nolog_queue *q, uint64_t seq, uint16_t code);

/* Takes the oldest event, which there must be, out of the queue. */
NOLOG_HIDDEN void nolog_queue_pop(struct nolog_queue *q, struct nolog_frame *event, uint16_t *code);
/* Takes all events out that are before end, none of which was refused. */
NOLOG_HIDDEN void nolog_queue_pop_until(struct nolog_queue *q, uint64_t end);

/*
 * The stream they were sent on is gone.  Takes out the first of those that may
 * have been applied and must not be again (plain usage differences) and of those
 * that were refused already, and returns how many they are.  0: there are none
 * left, and the rest is marked as never sent.
 */
#define NOLOG_QUEUE_DROP_MAX 32
struct nolog_queue_dropped {
	struct nolog_frame event;
	uint16_t code;
};
NOLOG_HIDDEN size_t nolog_queue_restart(struct nolog_queue *q,
					struct nolog_queue_dropped out[NOLOG_QUEUE_DROP_MAX]);

#endif
