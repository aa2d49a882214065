/* SPDX-License-Identifier: ISC */
/*
 * reserve: space on the disk before it is needed.
 *
 * LMDB reports a full disk as EIO in the middle of a commit.  So the space a
 * commit may need is there before it begins: zeros written past the file's
 * last used page, and synced.  (fallocate is not enough where writing into an
 * unwritten extent may need space of its own.)
 */
#ifndef RESERVE_H
#define RESERVE_H

#include <stdint.h>
#include <sys/types.h>

/*
 * Makes sure that fd has written space from 0 to at least upto bytes; *have is
 * the caller's memory of how far it reaches (0 at first) and moves with it.
 * The first call fills holes in what is there (a restored copy may have them);
 * the contents of the file do not change.  Grows by step bytes at a time, less
 * when there is only room for what is needed.  0; -ENOSPC or -EDQUOT: no room,
 * nothing harmed, try again later; another errno: a real failure.
 *
 * Only for the one thread that writes the file: nobody else may write into its
 * holes meanwhile, or rely on the descriptor's position.
 */
int reserve_upto(int fd, off_t *have, off_t upto, off_t step);

#endif
