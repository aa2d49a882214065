/* SPDX-License-Identifier: ISC */
/*
 * keyringfs: does overwriting a file in place overwrite it here?
 *
 * Not on copy-on-write and log-structured file systems (btrfs, ZFS, F2FS,
 * bcachefs, NILFS2), not through overlayfs before the copy-up is done, not on
 * ext4 with data=journal or inline data, not in extents shared by reflinks.
 * ext2, ext3, ext4, XFS and tmpfs do it; a file system that is not known here
 * counts as one that does not.  What a drive does below the file system, or a
 * logical volume with snapshots, cannot be seen from here.
 *
 * Only looks, changes nothing, and never fails: what cannot be told is weak.
 */
#ifndef KEYRINGFS_H
#define KEYRINGFS_H

#include <stdbool.h>

/*
 * True when overwriting the blocks of fd may leave the old content on the disk;
 * also when it cannot be told.
 */
bool keyringfs_weak(int fd);

/*
 * Pure: judges one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
 * OTHER: another device, or no line of that file; DOUBTFUL: its data may be
 * journalled by the superblock's default, which is not shown there.
 */
enum keyringfs_mount {
	KEYRINGFS_OTHER,
	KEYRINGFS_PLAIN,
	KEYRINGFS_DATA_JOURNAL,
	KEYRINGFS_DOUBTFUL,
};
enum keyringfs_mount keyringfs_mount_line(const char *line, unsigned int major, unsigned int minor);

#endif
