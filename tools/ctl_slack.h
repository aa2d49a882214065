/* SPDX-License-Identifier: ISC */
/*
 * ctl_slack: what lies in the store's files where nothing of a record lies:
 * behind the last page that LMDB uses, and in its lock files.  There is room
 * for a text that nobody would miss, so the audit looks.
 *
 * Knows LMDB's layout, and refuses to know what is in a page that is in use:
 * pagecheck.h and whoever opens the blocks do that.
 */
#ifndef CTL_SLACK_H
#define CTL_SLACK_H

/*
 * Behind the last used page of the data file are zeros, reserved, or pages
 * that a commit wrote which did not come to its end: each says that it is one.
 * NULL: nothing else is there, or the file is none (others say so); else what
 * is wrong.  A file that is written to meanwhile is judged by its newest state.
 */
const char *ctl_slack_data(int fd);

/* NULL: a lock file as nologd and LMDB make it, or one that was just begun; else what is wrong. */
const char *ctl_slack_lock(int fd);

#endif
