/* SPDX-License-Identifier: ISC */
/*
 * server: the loop thread's world: the stations, the connections, the clock's
 * tick, reloading and the orderly end.
 *
 * Everything in here belongs to the loop thread.  Private to the loop's files:
 * server.c (life), conn.c (connections), status.c (metrics).
 */
#ifndef SERVER_H
#define SERVER_H

#include "clock.h"
#include "config.h"
#include "days.h"
#include "journal.h"
#include "keyring.h"
#include "listen.h"
#include "sessionbook.h"
#include "usagebook.h"
#include "writer.h"

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct event;
struct event_base;

enum { BOOK_SESSIONS, BOOK_USAGE, BOOKS };

struct server {
	struct event_base *base;
	struct config *config;
	const char *config_path, *state_option, *run_option;
	struct listen_sockets sockets;
	struct event *accepting[NOLOG_ROLES];
	struct event *answering[BOOKS], *answered, *tick, *signals[3];
	int state_fd; /* locked */

	struct keyring *keyring;
	struct clock *clock;
	struct days *days;
	char *days_dir;
	struct journal *journals[BOOKS];
	struct sessionbook *sessionbook;
	struct usagebook *usagebook;
	struct writer *writers[BOOKS];

	/* connections by slot; a slot is free again when its writer has confirmed */
	struct conn **conns;
	uint32_t slots, free_hint, conn_count, generation;
	struct conn *dirty; /* have something to write */
	uint32_t paused;    /* reading waits for room, or is over */
	uint32_t lingering; /* closed, their writer not yet told */
	bool accept_paused;

	/* look-ups that days has answered; days puts, the loop takes */
	struct lookup_box *box;
	uint64_t result_bytes; /* of answers waiting to be read */
	uint32_t asked;	       /* look-ups on their way */
	uint32_t scans;	       /* those of them that collect more than one address's sessions */
	struct lookup *later, **later_last; /* that wait for one of these to end */
	struct lookup_user *users;
	size_t user_count;

	bool stopping, clock_was_held, said_too_many;
	bool narrowed; /* fewer days are to be kept than the store was made with */
	int32_t said_day;
	int exit_status;

	/* counters of the loop */
	uint64_t connections_total, turned_away_total, lookups_total, quotas_total;
	uint64_t refused[32];
};

/* Remembers how it was called, for reloading; s is zeros but for its config. */
void server_init(struct server *s, const char *config_path, const char *state, const char *run);
/*
 * The state directory: made when absent, owner's alone, and no other nologd's
 * while this process lives.  Says what is wrong in one line.
 */
int server_lock(struct server *s, uid_t owner);
/*
 * Opens everything from the keyring upward: says what is wrong in one line and
 * returns a negative errno.  The listening sockets are bound before.
 */
int server_open(struct server *s);
/* Runs until SIGTERM or SIGINT; 0 or 1, the exit status. */
int server_run(struct server *s);
void server_close(struct server *s);

/* --- conn.c --- */
int conns_init(struct server *s);
void conns_free(struct server *s);
/* A connection was accepted on a role's socket; owns fd from now on. */
void conn_accepted(struct server *s, enum nolog_role role, int fd);
/* Takes what a writer has answered. */
void conns_take_answers(struct server *s, int book);
/* Takes the look-ups that days has answered. */
void conns_take_lookups(struct server *s);
/* No more is read from anybody. */
void conns_stop_reading(struct server *s);
/* Writes what can be written without waiting; true when nothing is left. */
bool conns_flush(struct server *s);
/* After a reload: those whose server may no longer report are closed. */
void conns_check_servers(struct server *s);
/* While answers that nobody reads hold all memory of look-ups: their time runs out soon. */
void conns_hurry(struct server *s);
/* Tries again what had no room. */
void conns_resume(struct server *s);

struct lookup_box;
struct lookup_box *lookup_box_new(void);
void lookup_box_free(struct lookup_box *b);
int lookup_box_fd(const struct lookup_box *b);
/* Any thread. */
void lookup_box_put(struct lookup_box *b, struct lookup *l);

/* --- status.c --- */
/* Calls fn for every metric, in a fixed order; returns their number. */
typedef void status_fn(const char *name, uint64_t value, void *arg);
size_t status_each(struct server *s, status_fn *fn, void *arg);

#endif
