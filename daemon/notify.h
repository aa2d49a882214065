/* SPDX-License-Identifier: ISC */
/*
 * notify: the two small protocols of the service manager, sd_notify(3) and
 * sd_listen_fds(3), spoken directly: they are stable and a few lines, and
 * libsystemd would bring its compressors into a process that holds keys.
 */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and removes them from
 * the environment.  Before threads, once.  Nothing to notify is fine.
 */
void notify_init(void);
/* Sends "READY=1" and the like; without a manager it does nothing. */
void notify_send(const char *state);
/* Milliseconds within which the watchdog wants to hear of us; 0: none. */
int64_t notify_watchdog_ms(void);

/*
 * The listening sockets handed over: calls fn with each descriptor and its
 * name ("" when it has none).  Sets close-on-exec, removes the variables.
 * Returns how many, 0 when they are not meant for this process; -EINVAL when
 * the variables cannot be read.
 */
typedef int notify_fd_fn(int fd, const char *name, void *arg);
int notify_listen_fds(notify_fd_fn *fn, void *arg);

#endif
