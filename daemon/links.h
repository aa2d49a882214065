/* SPDX-License-Identifier: ISC */
/*
 * links: the reporters' connections as their writer sees them, and the rule of
 * their sequence numbers.  Pure.
 *
 * A link takes its stream's next number and no other; what repeats a number
 * already taken is acknowledged and not applied.  Of two links with one
 * stream the newer wins.
 */
#ifndef LINKS_H
#define LINKS_H

#include "writer.h"

struct link {
	uint64_t id; /* as in struct request */
	struct writer_link who;
	uint8_t stream_id[16]; /* if who.stream */
	uint8_t generation;    /* of the key of stream_id */
	bool dead;	       /* refused or replaced: nothing more is taken */
	bool closed;	       /* gone: confirm when nothing of it waits */
	bool dirty;	       /* to be acknowledged up to next - 1 at the end of the batch */
	bool moved;	       /* its stream's position changed in this batch */
	bool first;	       /* no frame yet: may begin anywhere up to taken_to + 1 */
	uint32_t waiting;      /* its frames in the batch in the making */
	uint64_t coming;       /* if any: the number that has to come behind them */
	uint32_t done;	       /* requests finished since the last answer that said so */
	uint64_t taken_to;     /* the last number taken */
	uint64_t next;	       /* the number that has to come */
};

struct links;
int links_new(struct links **out, size_t max);
void links_free(struct links *l);
/* The live entry of a link; NULL when there is none (never said HELLO, replaced by a newer one in its slot). */
struct link *links_get(struct links *l, uint64_t id);
/* A fresh entry; NULL: no memory or slot out of range. */
struct link *links_add(struct links *l, uint64_t id);
void links_remove(struct links *l, uint64_t id);
/* The living link with this stream, other than but. */
struct link *links_with_stream(struct links *l, const uint8_t stream_id[16],
			       const struct link *but);
/* Every entry, in slot order: NULL begins, NULL ends. */
struct link *links_next(struct links *l, const struct link *after);

enum link_verdict { LINK_TAKE, LINK_REPEAT, LINK_REFUSE };
/* Judges and takes a number. */
enum link_verdict link_sequence(struct link *k, uint64_t seq);
/* The number taken last comes once more: there is more of its event. */
void link_again(struct link *k);
/*
 * A frame with that number waits now behind the others of its link.  False: it
 * will be refused when its turn comes.
 */
bool link_wait(struct link *k, uint64_t seq);

#endif
