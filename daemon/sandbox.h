/* SPDX-License-Identifier: ISC */
/*
 * sandbox: what the process gives up.  Fails closed: no sandbox, no daemon.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stddef.h>
#include <sys/types.h>

/* Not dumpable, no core file, no new privileges; as many descriptors as allowed.  First thing. */
int sandbox_harden(void);
/*
 * Becomes uid and gid (with no other groups) when they are not what it is
 * already, and gives up every capability, for good.
 */
int sandbox_drop(uid_t uid, gid_t gid);
/*
 * From now on, for all threads: a list of system calls, and death for any
 * other (no new socket, no exec, no ptrace).  Not in builds with a sanitizer,
 * whose runtime has needs of its own.
 */
int sandbox_enter(void);

#endif
