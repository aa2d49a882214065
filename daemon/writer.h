/* SPDX-License-Identifier: ISC */
/*
 * writer: the thread that makes events durable, once per book.
 *
 * It takes frames from the loop's queue, checks that each is its stream's
 * next, lets the book's ledger decide the batch, commits the effects together
 * with the streams' positions and some slices logged again, hands the effects
 * on, and only then lets the answers go.  It renews journal keys, and tells
 * what is late.  It knows frames, streams, effects and the journal; what an
 * event means is the book's business, which it reaches through the functions
 * it was given.
 *
 * Requests for look-ups and totals come through a second queue, so that they
 * are answered also while nothing can be committed.
 */
#ifndef WRITER_H
#define WRITER_H

#include "clock.h"
#include "effect.h"
#include "fault.h"
#include "journal.h"
#include "keyring.h"
#include "queue.h"
#include "sessions.h"
#include "streams.h"

#include <nolog/frame.h>

#include <stdbool.h>
#include <stdint.h>

/* From the loop. */
enum request_kind {
	REQUEST_FRAME,	/* a checked frame of a link */
	REQUEST_REFUSE, /* refuse code in its turn, then close */
	REQUEST_CLOSED, /* the link is gone: confirm with ANSWER_GONE */
	REQUEST_LOOKUP, /* pointer: a struct lookup, the book's now (query queue) */
	REQUEST_RULES,	/* pointer: new rules, the book's now (query queue) */
};
struct request {
	uint64_t link; /* slot in the low half, generation in the high */
	uint8_t kind, code;
	union {
		uint8_t frame[NOLOG_FRAME_SIZE];
		void *pointer;
	} u;
};

/* To the loop. */
enum answer_kind { ANSWER_FRAME, ANSWER_ACK, ANSWER_CLOSE, ANSWER_GONE };
struct answer {
	uint64_t link;
	uint32_t taken; /* requests of this link that are done with */
	uint8_t kind;
	bool close; /* afterwards */
	uint8_t frame[NOLOG_FRAME_SIZE];
};

/* The connection of a reporter, as the book sees it. */
struct writer_link {
	uint8_t server[NOLOG_SERVER_SIZE];
	struct server_key server_key;
	uint64_t stream; /* 0: none is kept */
};

struct writer;

/* What a book gives its writer.  All are called on the writer's thread. */
struct writer_book {
	enum keyring_book book;
	unsigned slices;
	size_t batch_events; /* at most, a power of two */
	int64_t pass_ms;     /* a refresh pass, also when idle */
	int64_t key_ms;	     /* a journal key's age at renewal */
	void *arg;
	/* The keyed hash that a stream is known by under a key generation (0: the one in use; says which). */
	int (*stream_id)(void *arg, const struct writer_link *link, uint8_t *generation,
			 uint8_t id[16]);
	/* The generation before, 0: none. */
	uint8_t (*old_generation)(void *arg);
	enum nolog_refusal (*decide)(void *arg, const struct writer_link *link,
				     const struct sessions_time *t, const struct nolog_frame *event,
				     struct effects *out);
	/*
	 * True: there is more of the event that was decided last, which is to be
	 * decided again before any other; NULL: never.
	 */
	bool (*more)(void *arg);
	void (*refresh)(void *arg, const struct sessions_time *t, unsigned slice,
			struct effects *out);
	/* Silence and age: one slice; a pass shall take expire_ms(), 0: nothing to do. */
	void (*expire)(void *arg, const struct sessions_time *t, unsigned slice,
		       struct effects *out);
	int64_t (*expire_ms)(void *arg);
	size_t (*live)(void *arg); /* entries of the ledger */
	int (*apply)(void *arg, const struct effect *e, int64_t running_ms);
	/* A block of the journal during replay, after apply; may be NULL. */
	int (*replayed)(void *arg, uint64_t batch, const uint8_t (*effects)[EFFECT_SIZE], size_t n);
	/* A durable batch (in order, each once), before its answers go. */
	void (*committed)(void *arg, uint64_t batch, const struct effects *effects);
	/* Effects up to this batch are needed in the journal by nobody but the ledger (F). */
	uint64_t (*flushed)(void *arg);
	/* Ask that F move soon, with what is kept back for that if there is no room else. */
	void (*flush)(void *arg);
	/*
	 * False: no more until there is room further down, for what was decided and
	 * is not yet committed too.  Asked after every event.
	 */
	bool (*room)(void *arg);
	/* ... and that is for want of space, not because it is busy; NULL: never. */
	bool (*no_space)(void *arg);
	/* A request of the query queue. */
	void (*query)(void *arg, const struct request *r, const struct sessions_time *t);
	/* Work between commits (slices of scans); true: there is more. */
	bool (*work)(void *arg, const struct sessions_time *t);
	/* Housekeeping by the clock, before a batch is decided: the month's turn. */
	int (*upkeep)(void *arg, struct writer *w, const struct sessions_time *t,
		      struct fault *fault);
};

/* What a writer reports upward. */
struct writer_events {
	void (*failed)(const struct fault *fault, void *arg); /* end the process */
	void *arg;
};

struct writer_options {
	const struct writer_book *book;
	struct journal *journal; /* replayed by writer_replay() */
	struct keyring *keyring;
	struct clock *clock;
	int retention_days;
	bool narrowed;	 /* it was more when the log was written: its keys must not stay */
	size_t links;	 /* at most */
	int64_t tick_ms; /* what waits is committed at least this often; 0: at once */
	struct writer_events events;
};

struct writer_stats {
	uint64_t frames, repeats, batches, effects;
	uint64_t refused[32]; /* by code */
	uint64_t commit_us;   /* all commits together */
	uint64_t journal_bytes, journal_effects, streams;
	uint64_t passes, renewals;
	int64_t key_age_ms; /* of the oldest living journal key */
	bool stalled_space, stalled_room, key_late;
	int64_t heard_ms; /* running time of its last sign of life */
};

int writer_new(struct writer **out, const struct writer_options *options);
void writer_free(struct writer *w); /* the thread must have ended; NULL is fine */

/* Replays the journal into the book; then finishes what start-up has to finish. */
int writer_replay(struct writer *w, struct fault *fault);
/* The month's turn or a late key, before any socket opens; without room for it, later. */
int writer_catch_up(struct writer *w, struct fault *fault);
int writer_start(struct writer *w);
/* Takes no more once its queue is empty, commits and answers what is there, and ends. */
void writer_stop(struct writer *w);
bool writer_stopped(const struct writer *w);
/* True when it had to stop with unacknowledged events for want of space. */
bool writer_dropped(const struct writer *w);
void writer_join(struct writer *w);

/* The loop's ends of the queues. */
struct queue *writer_requests(struct writer *w);
struct queue *writer_queries(struct writer *w);
struct queue *writer_answers(struct writer *w);
void writer_tick_set(struct writer *w, int64_t tick_ms);
/* There is room again, or something to do: look. Any thread. */
void writer_wake(struct writer *w);
void writer_stats(const struct writer *w, struct writer_stats *out);

/* --- for books, on the writer's thread --- */
/* A question that was refused counts like an event. */
void writer_count_refused(struct writer *w, unsigned code);
/* Lets an answer go at once (totals); order among answers is kept. */
void writer_answer(struct writer *w, const struct answer *a);
/*
 * Logs everything live again under the journal key in use and cuts what was
 * before, until no old key lives; on a full disk from the room that the
 * journal keeps back for it.  Before the start -ENOSPC when there is no room;
 * then some of it is logged twice, which is harmless.
 */
int writer_relog(struct writer *w, struct fault *fault);
/*
 * Decides, commits and answers what waits for its tick.  Without room it waits,
 * or where it is not to, nothing happens: -ENOSPC.
 */
int writer_commit_waiting(struct writer *w, const struct sessions_time *t, bool wait,
			  struct fault *fault);
/* The key of the streams' hashes was renewed: those of living links move to their new names. */
int writer_rename_streams(struct writer *w);
/* The effects of the batch in the making, for upkeep to append to. */
struct effects *writer_effects(struct writer *w);
struct journal *writer_journal(struct writer *w);
struct streams *writer_streams(struct writer *w);

#endif
