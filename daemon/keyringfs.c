/* SPDX-License-Identifier: ISC */
/*
 * keyringfs: does overwriting a file in place overwrite it here?
 *
 * Asks the kernel only: type of the file system, flags of the inode, options
 * of the mount, extents of the file.  Knows nothing of keys.
 */
#include "keyringfs.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Not in linux/magic.h of every kernel. */
#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
/* Not in linux/fs.h: EXT4_INLINE_DATA_FL of fs/ext4/ext4.h. */
#define EXT4_INLINE_DATA_FLAG 0x10000000

/* A keyring is two blocks; more extents than this are suspicious enough. */
#define EXTENTS_MAX 8
#define EXTENT_WEAK (FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_UNKNOWN)

static bool inode_weak(int fd)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return true;
	return (flags & (EXT4_INLINE_DATA_FLAG | FS_JOURNAL_DATA_FL)) != 0;
}

static bool extents_weak(int fd)
{
	union {
		struct fiemap map;
		uint8_t room[sizeof(struct fiemap) + EXTENTS_MAX * sizeof(struct fiemap_extent)];
	} u;
	const struct fiemap_extent *extents = u.map.fm_extents;

	memset(&u, 0, sizeof(u));
	u.map.fm_length = FIEMAP_MAX_OFFSET;
	u.map.fm_flags = FIEMAP_FLAG_SYNC; /* what is delayed has no place yet */
	u.map.fm_extent_count = EXTENTS_MAX;
	if (ioctl(fd, FS_IOC_FIEMAP, &u.map) < 0)
		return true;
	if (u.map.fm_mapped_extents == 0 || u.map.fm_mapped_extents >= EXTENTS_MAX)
		return true;
	for (uint32_t i = 0; i < u.map.fm_mapped_extents; i++)
		if (extents[i].fe_flags & EXTENT_WEAK)
			return true;
	return false;
}

/* The next field, and its length; NULL at the end of the line. */
static const char *field_next(const char **at, size_t *len)
{
	const char *field;

	while (**at == ' ')
		(*at)++;
	if (**at == '\0' || **at == '\n')
		return NULL;
	field = *at;
	*len = strcspn(field, " \n");
	*at += *len;
	return field;
}

static bool device_equal(const char *field, size_t len, unsigned int major, unsigned int minor)
{
	char want[32];
	int n = snprintf(want, sizeof(want), "%u:%u", major, minor);

	return n > 0 && (size_t)n == len && memcmp(field, want, len) == 0;
}

static bool has_option(const char *options, size_t len, const char *want)
{
	size_t want_len = strlen(want);

	while (len > 0) {
		const char *comma = memchr(options, ',', len);
		size_t n = comma ? (size_t)(comma - options) : len;

		if (n == want_len && memcmp(options, want, n) == 0)
			return true;
		n += comma ? 1 : 0;
		options += n;
		len -= n;
	}
	return false;
}

enum keyringfs_mount keyringfs_mount_line(const char *line, unsigned int major, unsigned int minor)
{
	const char *field = NULL;
	size_t len = 0;
	bool ext3;

	/* mount ID, parent ID, major:minor, root, mount point, options, tags ... */
	for (int i = 0; i < 6; i++) {
		field = field_next(&line, &len);
		if (!field || (i == 2 && !device_equal(field, len, major, minor)))
			return KEYRINGFS_OTHER;
	}
	/* ... and after a hyphen: type, source, options of the file system. */
	do
		field = field_next(&line, &len);
	while (field && !(len == 1 && *field == '-'));
	field = field ? field_next(&line, &len) : NULL;
	if (!field)
		return KEYRINGFS_OTHER;
	ext3 = len == 4 && memcmp(field, "ext3", len) == 0;
	if (!field_next(&line, &len))
		return KEYRINGFS_OTHER;
	field = field_next(&line, &len);
	if (!field)
		return KEYRINGFS_OTHER;
	if (has_option(field, len, "data=journal"))
		return KEYRINGFS_DATA_JOURNAL;
	/*
	 * Options that are the superblock's default (tune2fs -o journal_data) are
	 * not shown.  What journalled data make ext4 switch off is; ext3 has none
	 * of that.
	 */
	if (ext3 || has_option(field, len, "nodelalloc") ||
	    has_option(field, len, "nodioread_nolock"))
		return KEYRINGFS_DOUBTFUL;
	return KEYRINGFS_PLAIN;
}

/* Where ext4 tells all its options, one a line; a sandbox may hide it. */
static bool options_weak(dev_t dev)
{
	char link[64], target[256], path[320], line[128];
	const char *name;
	bool journal = false;
	ssize_t n;
	FILE *f;

	(void)snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return true;
	target[n] = '\0';
	name = strrchr(target, '/');
	(void)snprintf(path, sizeof(path), "/proc/fs/ext4/%s/options", name ? name + 1 : target);
	f = fopen(path, "re");
	if (!f)
		return true;
	while (fgets(line, sizeof(line), f))
		journal |= strcmp(line, "data=journal\n") == 0;
	(void)fclose(f); /* was only read */
	return journal;
}

static bool mount_weak(int fd)
{
	enum keyringfs_mount found = KEYRINGFS_OTHER;
	struct stat st;
	char *line = NULL;
	size_t room = 0;
	FILE *f;

	if (fstat(fd, &st) < 0)
		return true;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return true;
	while (found == KEYRINGFS_OTHER && getline(&line, &room, f) >= 0)
		found = keyringfs_mount_line(line, major(st.st_dev), minor(st.st_dev));
	free(line);
	(void)fclose(f); /* was only read */
	if (found == KEYRINGFS_DOUBTFUL)
		return options_weak(st.st_dev);
	return found != KEYRINGFS_PLAIN;
}

bool keyringfs_weak(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return true;
	/* A magic is 32 bits in a signed word of whatever size. */
	switch ((uint32_t)fs.f_type) {
	case TMPFS_MAGIC: /* memory; where it may be swapped, swap is the operator's to encrypt */
		return false;
	case EXT4_SUPER_MAGIC: /* ext2 and ext3 too */
		return inode_weak(fd) || mount_weak(fd) || extents_weak(fd);
	case XFS_SUPER_MAGIC:
		return extents_weak(fd);
	default:
		return true;
	}
}
