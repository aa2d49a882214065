/* SPDX-License-Identifier: ISC */
/*
 * log: lines on standard error, for the operator.
 *
 * While the daemon runs, a line is one of the messages below and numbers:
 * there is no free text, so an address, an account, a handle or a key has no
 * road into a log line.  Only what is wrong with the command line or the
 * configuration is said in words that the operator typed himself.
 *
 * Under the service manager (JOURNAL_STREAM) lines carry a priority prefix,
 * sd-daemon(3).  Any thread; a line is written by one write(2).
 */
#ifndef LOG_H
#define LOG_H

#include "fault.h"

/* LOG_MESSAGES(X): X(NAME, priority, format with at most three %lld) */
#define LOG_MESSAGES(X)                                                                          \
	X(STARTED, 6, "started: %lld open sessions, %lld accounts, %lld days held")              \
	X(READY, 6, "ready")                                                                     \
	X(STOPPING, 6, "stopping: taking no more, writing what was read")                        \
	X(STOPPED, 6, "stopped: everything that was acknowledged is in its file")                \
	X(STOP_UNWRITTEN, 4,                                                                     \
	  "stopped with unacknowledged events dropped: there was no space for them")             \
	X(RELOADED, 6, "configuration reread")                                                   \
	X(RELOAD_FAILED, 3, "configuration not reread: the one in use stays")                    \
	X(STALLED_SPACE, 3, "no space for the journal: nothing is acknowledged until there is")  \
	X(STALLED_DAYS, 3, "no space for the day files: nothing is acknowledged until there is") \
	X(SHORT_DAYS, 4, "no space for the day files: finished sessions wait in the journal")    \
	X(RESUMED, 5, "space again: going on")                                                   \
	X(CLOCK_HELD, 3,                                                                         \
	  "the clock does not fit the newest day seen and nobody vouches for it: held")          \
	X(CLOCK_FREE, 5, "the clock is trusted again")                                           \
	X(DAY_FORGOTTEN, 5, "day %lld begins: %lld days forgotten, %lld held")                   \
	X(MONTH_TURNED, 5, "month %lld begins: all totals are zero")                             \
	X(KEY_LATE, 4, "a journal key is late: it is %lld minutes old")                          \
	X(KEYRING_NEW, 5, "a new keyring was made")                                              \
	X(KEYRING_WEAK, 4, "keyring_weak: this file system may keep an overwritten keyring")     \
	X(KEYRING_REPAIRED, 4, "keyring: a damaged slot was written again from the good one")    \
	X(RUN_AS_ROOT, 4, "running as root without capabilities; set [store] user")              \
	X(TOO_MANY, 4, "connection refused: limit of %lld connections")                          \
	X(NO_DESCRIPTORS, 3, "connection refused: out of file descriptors")                      \
	X(NO_MEMORY, 2, "out of memory")                                                         \
	X(WATCHDOG_LATE, 4, "a writer has not answered for %lld s")

#define LOG_X(name, priority, text) LOG_##name,
enum log_message { LOG_MESSAGES(LOG_X) LOG_MESSAGE_COUNT };
#undef LOG_X

/* Once, before threads. */
void log_init(void);
/* Messages take as many numbers as their text has; missing ones are 0. */
void log_say(enum log_message m, long long a, long long b, long long c);
/* What is wrong with the store: file, block and a fixed text. */
void log_fault(const struct fault *f);
/* Command line, configuration and start-up: words the operator typed. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
