/* SPDX-License-Identifier: ISC */
/*
 * openvpn_find: see the header.  Options are read as OpenVPN's own parser does
 * (options_parse.c): the last one wins, wherever it stands.
 */
#include "openvpn_find.h"

#include <nolog/text.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CMDLINE_MAX (128u * 1024) /* Linux's own limit of one argument */
#define CONFIG_MAX (1024u * 1024) /* with keys and certificates in it */
#define DEPTH_MAX 10		  /* configuration files within each other, as OpenVPN has it */
#define WORDS_MAX 3		  /* of a line; there are more, of which none matters */
#define WORD_MAX 512
#define FDS_MAX 4096
#define SECONDS_MAX (24 * 3600)

struct finder {
	const char *proc;
	char path[OPENVPN_PATH_MAX]; /* what the last option said, "" for nothing yet */
	uint64_t seconds;
	unsigned depth;
	bool configured; /* there was a configuration file */
};

static void read_config(struct finder *f, const char *name);

/* --- Files --------------------------------------------------------------- */

/* A file that is read whole, with a zero behind it; NULL when it cannot be, or is too long. */
static char *slurp(const char *path, size_t max, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = fd < 0 ? NULL : malloc(max + 1);
	ssize_t n = -1;

	*len = 0;
	while (text && *len < max && (n = read(fd, text + *len, max - *len)) > 0)
		*len += (size_t)n;
	if (fd >= 0)
		(void)close(fd);
	if (text && (n < 0 || *len == max)) {
		explicit_bzero(text, *len);
		free(text);
		return NULL;
	}
	if (text)
		text[*len] = '\0';
	return text;
}

static void wipe(char *text, size_t len)
{
	explicit_bzero(text, len);
	free(text);
}

/* An absolute path, or -ENAMETOOLONG, or -errno where the directory cannot be told. */
static int resolve(const struct finder *f, char out[OPENVPN_PATH_MAX], const char *name)
{
	char link[PATH_MAX], here[PATH_MAX];
	ssize_t n;
	int len;

	if (name[0] == '/') {
		len = snprintf(out, OPENVPN_PATH_MAX, "%s", name);
	} else {
		(void)snprintf(link, sizeof(link), "%s/cwd", f->proc);
		n = readlink(link, here, sizeof(here) - 1);
		if (n > 0)
			here[n] = '\0';
		else if (!getcwd(here, sizeof(here)))
			return -errno;
		len = snprintf(out, OPENVPN_PATH_MAX, "%s/%s", here, name);
	}
	return len < 0 || len >= OPENVPN_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* How a status file of version 2 or 3 begins: 1; 0: nothing is in it yet; -1: it is none. */
static int looks_right(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char head[6];
	struct stat st;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = read(fd, head, sizeof(head));
	(void)close(fd);
	if (n == 0)
		return 0;
	return n == sizeof(head) && memcmp(head, "TITLE", 5) == 0 &&
			       (head[5] == ',' || head[5] == '\t')
		       ? 1
		       : -1;
}

/* --- Options ------------------------------------------------------------- */

static void take(struct finder *f, const char *const word[WORDS_MAX], size_t n)
{
	if (n >= 2 && strcmp(word[0], "config") == 0) {
		read_config(f, word[1]);
	} else if (n >= 2 && strcmp(word[0], "status") == 0) {
		if (resolve(f, f->path, word[1]) < 0)
			f->path[0] = '\0';
		if (n < 3 || nolog_u64_parse(&f->seconds, word[2]) < 0)
			f->seconds = 0;
	}
}

/*
 * The next word of a line, as OpenVPN's parse_line() has it: 'as it is', "with
 * \" in it", or bare.  False at the end, at a comment, and of what is no word.
 */
static bool next_word(const char **line, char out[WORD_MAX])
{
	const char *p = *line;
	size_t n = 0;
	char quote = '\0';

	p += strspn(p, " \t\r");
	if (*p == '\0' || *p == '#' || *p == ';')
		return false;
	if (*p == '"' || *p == '\'')
		quote = *p++;
	while (*p && *p != quote && (quote || !strchr(" \t\r", *p)) && n < WORD_MAX - 1) {
		if (*p == '\\' && quote != '\'' && p[1])
			p++;
		out[n++] = *p++;
	}
	if (n == WORD_MAX - 1 || (quote && *p != quote))
		return false;
	out[n] = '\0';
	*line = p + (quote != '\0');
	return true;
}

/* Reads one line; inside is the tag of what it lies in, such as "</ca>", or empty. */
static void read_line(struct finder *f, const char *line, char inside[WORD_MAX])
{
	char text[WORDS_MAX][WORD_MAX];
	const char *word[WORDS_MAX];
	size_t n = 0;

	if (inside[0]) {
		line += strspn(line, " \t");
		if (strncmp(line, inside, strlen(inside)) == 0)
			inside[0] = '\0';
		return;
	}
	while (n < WORDS_MAX && next_word(&line, text[n])) {
		word[n] = text[n];
		n++;
	}
	if (n == 1 && text[0][0] == '<' && text[0][strlen(text[0]) - 1] == '>')
		(void)snprintf(inside, WORD_MAX, "</%.*s", WORD_MAX - 3, text[0] + 1);
	else
		take(f, word, n);
}

static void read_config(struct finder *f, const char *name)
{
	char path[OPENVPN_PATH_MAX], inside[WORD_MAX] = "";
	char *text, *line, *next;
	size_t len;

	f->configured = true;
	if (f->depth >= DEPTH_MAX || resolve(f, path, name) < 0)
		return;
	text = slurp(path, CONFIG_MAX, &len);
	if (!text)
		return;
	f->depth++;
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		read_line(f, line, inside);
	}
	f->depth--;
	wipe(text, len);
}

/* One option and its arguments: all words up to the next that begins with two hyphens. */
static const char *read_option(struct finder *f, const char *p, const char *end)
{
	const char *word[WORDS_MAX] = { p + 2 };
	size_t n = 1;

	for (p += strlen(p) + 1; p < end && strncmp(p, "--", 2) != 0; p += strlen(p) + 1)
		if (n < WORDS_MAX)
			word[n++] = p;
	take(f, word, n);
	return p;
}

static void read_cmdline(struct finder *f)
{
	char path[PATH_MAX];
	const char *p, *end;
	char *text;
	size_t len;

	(void)snprintf(path, sizeof(path), "%s/cmdline", f->proc);
	text = slurp(path, CMDLINE_MAX, &len);
	if (!text)
		return;
	end = text + len;
	p = text + strlen(text) + 1;
	/* "openvpn FILE" is "openvpn --config FILE". */
	if (p < end && strncmp(p, "--", 2) != 0) {
		read_config(f, p);
		p += strlen(p) + 1;
	}
	while (p < end)
		p = strncmp(p, "--", 2) == 0 ? read_option(f, p, end) : p + strlen(p) + 1;
	wipe(text, len);
}

/* --- Open files ---------------------------------------------------------- */

/* The first of the server's open files that begins as a status file does. */
static void read_descriptors(struct finder *f)
{
	char path[PATH_MAX + NAME_MAX + 8], name[OPENVPN_PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/fd", f->proc);
	dir = opendir(path);
	if (!dir)
		return; /* not ours to see, as it is for a server that has become another user */
	for (unsigned i = 0; i < FDS_MAX && (entry = readdir(dir)); i++) {
		ssize_t n;

		(void)snprintf(path, sizeof(path), "%s/fd/%s", f->proc, entry->d_name);
		n = readlink(path, name, sizeof(name));
		if (n <= 0 || (size_t)n >= sizeof(name))
			continue;
		name[n] = '\0';
		if (name[0] == '/' && looks_right(name) == 1) {
			memcpy(f->path, name, (size_t)n + 1);
			break;
		}
	}
	(void)closedir(dir);
}

int openvpn_find_status(struct openvpn_found *out, const char *proc, const char *config)
{
	struct finder f = { .proc = proc };

	read_cmdline(&f);
	if (!f.configured && config && config[0])
		read_config(&f, config);
	if (f.path[0] && looks_right(f.path) < 0)
		f.path[0] = '\0';
	if (!f.path[0]) {
		f.seconds = 0;
		read_descriptors(&f);
	}
	if (!f.path[0])
		return -ENOENT;
	memcpy(out->path, f.path, sizeof(out->path));
	out->tick_ms = f.seconds <= SECONDS_MAX ? (int64_t)f.seconds * 1000 : 0;
	return 0;
}
