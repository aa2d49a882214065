/* SPDX-License-Identifier: ISC */
/*
 * streams: how far each reporter's stream has been taken.  Pure: no I/O, no
 * clock; used once per book.
 *
 * A stream is known by a 16-byte keyed hash of server and stream number, and
 * lies in the slice that the hash's first byte names.
 */
#ifndef STREAMS_H
#define STREAMS_H

#include "effect.h"

#define STREAMS_SLICES 256
#define STREAMS_IDLE_MS (INT64_C(7) * 24 * 3600 * 1000)

struct streams;
int streams_new(struct streams **out);
void streams_free(struct streams *s);
size_t streams_count(const struct streams *s);
/* The last number taken; 0 when unknown. */
uint64_t streams_get(const struct streams *s, const uint8_t id[16]);
/* Takes seq; makes the stream when unknown (-ENOMEM). */
int streams_set(struct streams *s, const uint8_t id[16], uint8_t generation, uint64_t seq,
		int64_t running_ms);
/*
 * The key of its hash was renewed: the same stream under its new id.  Emits
 * both effects; 0 and none when from is unknown; -ENOMEM.
 */
int streams_move(struct streams *s, const uint8_t from[16], const uint8_t to[16],
		 uint8_t generation, struct effects *out);
/* Emits a STREAM effect for id as it stands now; none when it is unknown. */
void streams_emit(const struct streams *s, const uint8_t id[16], struct effects *out);
/* Emits the whole slice. */
void streams_refresh(const struct streams *s, unsigned slice, struct effects *out);
/* Forgets, with effects, those of the slice that took nothing for STREAMS_IDLE_MS. */
void streams_expire(struct streams *s, unsigned slice, int64_t running_ms, struct effects *out);
/* Forgets, with effects, all of a slice under this generation (its key died). */
void streams_drop_generation(struct streams *s, unsigned slice, uint8_t generation,
			     struct effects *out);
/* Replay of a STREAM effect. */
int streams_apply(struct streams *s, const struct effect *e, int64_t running_ms);

#endif
