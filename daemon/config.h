/* SPDX-License-Identifier: ISC */
/*
 * config: the configuration file, nologd.conf(5), read with libinih.
 *
 * Every key is one row of a table in config.c: section, name, kind, where it
 * goes, what is allowed.  A configuration is complete and checked, or it is
 * not there.  Immutable once read.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include "clock.h"
#include "exits.h"
#include "sessions.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_FILE "/etc/nologd/nologd.conf"
#define CONFIG_STATE "/var/lib/nologd"
#define CONFIG_RUN "/run/nologd"

struct config_server {
	uint8_t id[NOLOG_SERVER_SIZE];
};

struct config {
	/* [store] */
	char *state;	    /* path */
	char *keyring;	    /* path of the file */
	bool keyring_named; /* else it lies where the state is */
	uint64_t retention_days;
	char *user; /* NULL: stay who we are */
	/* [sockets] */
	char *run;		  /* directory */
	char *group[NOLOG_ROLES]; /* NULL: the daemon's user and root only */
	/* [servers] */
	bool any_server;
	struct config_server *servers; /* ascending */
	size_t server_count;
	struct exits_entry *exit_entries;
	size_t exit_count;
	struct exits *exits;
	/* [sessions] */
	struct sessions_prefix *allow;
	size_t allow_count;
	int64_t max_silence_ms;
	/* [usage] */
	int64_t tick_ms;
	/* [clock] */
	uint64_t trust; /* enum clock_trust */
	/* [limits] */
	uint64_t connections;
	uint64_t open_sessions;
	uint64_t accounts;
	uint64_t memory;  /* bytes of answers waiting to be read */
	uint64_t lookups; /* per user and minute, 0: no limit */
	uint64_t records; /* per look-up */

	bool absent;	 /* there was no file: all of it are defaults */
	unsigned *lines; /* of the keys in the file, 0: not there */
};

/*
 * Reads path.  state and run, if not NULL, win over the file; a text that the
 * file could not hold is refused of them, too.  may_be_absent: a file that is
 * not there is an empty one.  On failure *out is untouched,
 * -EINVAL (or the errno of reading) is returned and error holds one line that
 * says file, line, what was found and what is allowed.
 */
int config_read(struct config **out, const char *path, bool may_be_absent, const char *state,
		const char *run, char *error, size_t error_size);
void config_free(struct config *c); /* NULL is fine */
/*
 * -EINVAL, with one line in error, when it names a user or a group that the
 * system does not know.  Asks the system, so not while nologd is confined.
 */
int config_check_names(const struct config *c, const char *path, char *error, size_t error_size);
/* The effective configuration, as a file that reads back to the same. -errno of writing. */
int config_print(const struct config *c, FILE *to);
/* True when this server may report. */
bool config_server_allowed(const struct config *c, const uint8_t id[NOLOG_SERVER_SIZE]);
/* The first key that differs although it cannot change while running, or NULL. */
const char *config_fixed_difference(const struct config *a, const struct config *b);

#endif
