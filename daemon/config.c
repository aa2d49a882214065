/* SPDX-License-Identifier: ISC */
/* config: see config.h.  Includes <ini.h>, and is the only file that does. */
#include "config.h"

#include "calendar.h"

#include <nolog/text.h>

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <ini.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

/* libinih 55 cuts longer lines without a word: they are refused instead. */
#define LINE_MAX_CHARS (INI_MAX_LINE - 2)
#define RUN_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("/sessions.sock"))
/* What a line can hold so that it is read again as it was. */
#define ONE_LINE \
	"short enough for a line, without control characters, a blank at an end, ' ;' or ' #'"

enum kind { PATH, WORD, COUNT, BYTES, DURATION, TRUST, PREFIXES };

/* One row says everything about one key. */
static const struct key {
	const char *section, *name;
	enum kind kind;
	size_t offset; /* in struct config */
	int64_t min, max;
	const char *preset; /* its default, as it would be written; NULL: none */
	const char *allowed;
	bool fixed; /* cannot change while running */
} keys[] = {
#define AT(field) offsetof(struct config, field)
	{ "store", "path", PATH, AT(state), 0, 0, CONFIG_STATE, "an absolute path, " ONE_LINE,
	  true },
	{ "store", "keyring", PATH, AT(keyring), 0, 0, NULL,
	  "an absolute path of a file, " ONE_LINE, true },
	{ "store", "retention-days", COUNT, AT(retention_days), 1, CALENDAR_RETENTION_MAX, "90",
	  "1 to 90; 90 days is the most that nologd can keep", true },
	{ "store", "user", WORD, AT(user), 0, 0, NULL, "a user name", true },
	{ "sockets", "directory", PATH, AT(run), 0, 0, CONFIG_RUN,
	  "an absolute path of at most 93 bytes, " ONE_LINE, true },
	{ "sockets", "sessions-group", WORD, AT(group[NOLOG_ROLE_SESSIONS]), 0, 0, NULL,
	  "a group name", true },
	{ "sockets", "usage-group", WORD, AT(group[NOLOG_ROLE_USAGE]), 0, 0, NULL, "a group name",
	  true },
	{ "sockets", "lookup-group", WORD, AT(group[NOLOG_ROLE_LOOKUP]), 0, 0, NULL, "a group name",
	  true },
	{ "sockets", "quota-group", WORD, AT(group[NOLOG_ROLE_QUOTA]), 0, 0, NULL, "a group name",
	  true },
	{ "sockets", "admin-group", WORD, AT(group[NOLOG_ROLE_ADMIN]), 0, 0, NULL, "a group name",
	  true },
	{ "sessions", "allow", PREFIXES, AT(allow), 0, 0, NULL,
	  "prefixes like 10.8.0.0/16 or fd00::/8, separated by commas", false },
	{ "sessions", "max-silence", DURATION, AT(max_silence_ms), 0, INT64_C(90) * CALENDAR_DAY_MS,
	  "0s", "a duration of at most 90d, 0s for never", false },
	{ "usage", "tick", DURATION, AT(tick_ms), 50, 60000, "5s", "a duration from 50ms to 60s",
	  false },
	{ "clock", "trust", TRUST, AT(trust), 0, 0, "kernel", "kernel or always", true },
	{ "limits", "connections", COUNT, AT(connections), 1, 1000000, "16384", "1 to 1000000",
	  true },
	{ "limits", "open-sessions", COUNT, AT(open_sessions), 1, 1000000000, "16000000",
	  "1 to 1000000000", false },
	{ "limits", "accounts", COUNT, AT(accounts), 1, 1000000000, "64000000", "1 to 1000000000",
	  false },
	{ "limits", "memory", BYTES, AT(memory), 1 << 20, INT64_C(1) << 40, "512M",
	  "bytes, or with K, M or G, at least 1M", false },
	{ "limits", "lookups", COUNT, AT(lookups), 0, 1000000000, "0",
	  "look-ups per user and minute, 0 for no limit", false },
	{ "limits", "records", COUNT, AT(records), 1, 100000000, "2000000",
	  "records per look-up, 1 to 100000000", false },
#undef AT
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

/* The fields of a key; offsetof() keeps them aligned. */
static char **text_at(struct config *c, const struct key *k)
{
	void *at = (char *)c + k->offset;

	return at;
}

static const char *text_of(const struct config *c, const struct key *k)
{
	const void *at = (const char *)c + k->offset;

	return *(char *const *)at;
}

static uint64_t number_of(const struct config *c, const struct key *k)
{
	const void *at = (const char *)c + k->offset;

	return *(const uint64_t *)at;
}

struct reading {
	struct config *config;
	FILE *file;
	const char *path;
	unsigned line;
	bool seen[KEYS];
	char *error;
	size_t error_size;
	bool failed;
};

__attribute__((format(printf, 2, 3))) static void fail(struct reading *r, const char *format, ...)
{
	va_list ap;
	int n;

	if (r->failed)
		return; /* the first mistake is the one to mend */
	r->failed = true;
	if (r->line) /* what was never read has no line */
		n = snprintf(r->error, r->error_size, "%s:%u: ", r->path, r->line);
	else
		n = snprintf(r->error, r->error_size, "%s: ", r->path);
	if (n < 0 || (size_t)n >= r->error_size)
		return;
	va_start(ap, format);
	(void)vsnprintf(r->error + n, r->error_size - (size_t)n, format, ap);
	va_end(ap);
}

/* '#' or ';' at the beginning or behind a blank. */
static bool comment_begins(const char *line, const char *at)
{
	return (*at == '#' || *at == ';') && (at == line || isspace((unsigned char)at[-1]));
}

static bool section_known(const char *name)
{
	if (strcmp(name, "servers") == 0)
		return true;
	for (size_t i = 0; i < KEYS; i++)
		if (strcmp(keys[i].section, name) == 0)
			return true;
	return false;
}

static void section_begins(struct reading *r, const char *line)
{
	char name[INI_MAX_LINE];
	const char *end;

	if (*line != '[')
		return;
	end = strchr(++line, ']');
	if (!end) { /* libinih would go on, and complain of what follows */
		fail(r, "neither \"[section]\" nor \"key = value\"");
		return;
	}
	(void)snprintf(name, sizeof(name), "%.*s", (int)(end - line), line);
	if (!section_known(name))
		fail(r,
		     "[%s]: no such section; there are store, sockets, servers, sessions, "
		     "usage, clock and limits",
		     name);
	while (isspace((unsigned char)*++end))
		;
	if (*end) /* libinih would drop it, be it a key or a typing error */
		fail(r,
		     "[%s]: followed by more than blanks or a comment; a key stands on a line "
		     "of its own",
		     name);
	/* A section without a line in it is not reported by libinih. */
	if (strcmp(name, "servers") == 0)
		r->config->any_server = false;
}

/*
 * A line as libinih is to have it.  Of a mark at the beginning of the file it
 * would tell nobody, an indented line it would take for more of the key
 * before, and only ';' begins a comment behind a value.
 */
static void trim_line(const struct reading *r, char *line)
{
	static const char mark[] = "\xef\xbb\xbf";
	const char *from = line;

	if (r->line == 1 && strncmp(from, mark, strlen(mark)) == 0)
		from += strlen(mark);
	while (isspace((unsigned char)*from))
		from++;
	memmove(line, from, strlen(from) + 1);
	for (char *c = line; *c; c++)
		if (comment_begins(line, c))
			*c = 0;
}

/* As fgets(3), but what that would cut, or end at a NUL byte, is refused. */
static char *read_line(char *out, int size, void *arg)
{
	struct reading *r = arg;
	int n = 0, c = 0;

	while (c != '\n' && (c = fgetc(r->file)) != EOF) {
		if (n == 0)
			r->line++;
		if (n == size - 1 || c == 0) {
			fail(r,
			     "the line is too long or holds a NUL byte; at most %d characters "
			     "are allowed (a repeated key adds)",
			     LINE_MAX_CHARS);
			return NULL;
		}
		out[n++] = (char)c;
	}
	if (n == 0)
		return NULL;
	out[n] = 0;
	trim_line(r, out);
	section_begins(r, out);
	return r->failed ? NULL : out;
}

static bool bytes_parse(uint64_t *out, const char *value)
{
	static const char units[] = "KMG";
	char number[32];
	size_t n = strlen(value);
	unsigned shift = 0;
	const char *unit;

	if (n == 0 || n >= sizeof(number))
		return false;
	memcpy(number, value, n + 1);
	unit = strchr(units, number[n - 1]);
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		number[n - 1] = 0;
	}
	if (nolog_u64_parse(out, number) != 0 || *out > (UINT64_MAX >> shift))
		return false;
	*out <<= shift;
	return true;
}

static bool in_range(const struct key *k, uint64_t v)
{
	return v >= (uint64_t)k->min && v <= (uint64_t)k->max;
}

/* Calls each for every trimmed, comma separated word; false from each stops. */
static bool each_word(const char *value, bool (*each)(const char *word, void *arg), void *arg)
{
	char copy[INI_MAX_LINE], *rest = copy, *word;

	(void)snprintf(copy, sizeof(copy), "%s", value);
	while ((word = strsep(&rest, ","))) {
		size_t n;

		while (isspace((unsigned char)*word))
			word++;
		for (n = strlen(word); n && isspace((unsigned char)word[n - 1]); n--)
			word[n - 1] = 0;
		if (!each(word, arg))
			return false;
	}
	return true;
}

static bool grow(void **array, size_t n, size_t size)
{
	void *more;

	if (n & (n - 1))
		return true; /* room until the next power of two */
	more = reallocarray(*array, n ? 2 * n : 1, size);
	if (!more)
		return false;
	*array = more;
	return true;
}

static bool add_prefix(const char *word, void *arg)
{
	struct config *c = arg;
	unsigned length;
	struct sessions_prefix *p;

	if (!grow((void **)&c->allow, c->allow_count, sizeof(*c->allow)))
		return false;
	p = &c->allow[c->allow_count];
	if (nolog_prefix_parse(p->ip, &length, word) != 0)
		return false;
	p->length = (uint8_t)length;
	c->allow_count++;
	return true;
}

static size_t line_length(const struct key *k, const char *value)
{
	return strlen(k->name) + strlen(" = ") + strlen(value);
}

/* Could this be written behind the key, and be read again as it is? */
static bool fits_line(const struct key *k, const char *value)
{
	size_t n = strlen(value);

	if (n == 0 || line_length(k, value) > LINE_MAX_CHARS)
		return false;
	if (isspace((unsigned char)*value) || isspace((unsigned char)value[n - 1]))
		return false;
	for (const char *c = value; *c; c++)
		if (iscntrl((unsigned char)*c) || comment_begins(value, c))
			return false;
	return true;
}

/* Sets a key from its text; false when the text is not allowed. */
static bool set(struct config *c, const struct key *k, const char *value)
{
	void *at = (char *)c + k->offset;
	uint64_t number;
	int64_t duration;
	char *copy;

	switch (k->kind) {
	case PATH:
	case WORD:
		if (!fits_line(k, value) || (k->kind == PATH && *value != '/'))
			return false;
		copy = strdup(value);
		if (!copy)
			return false;
		free(*(char **)at);
		*(char **)at = copy;
		return true;
	case COUNT:
		if (nolog_u64_parse(&number, value) != 0 || !in_range(k, number))
			return false;
		*(uint64_t *)at = number;
		return true;
	case BYTES:
		if (!bytes_parse(&number, value) || !in_range(k, number))
			return false;
		*(uint64_t *)at = number;
		return true;
	case DURATION:
		if (nolog_duration_parse(&duration, value) != 0 || duration < k->min ||
		    duration > k->max)
			return false;
		*(int64_t *)at = duration;
		return true;
	case TRUST:
		if (strcmp(value, "kernel") == 0)
			*(uint64_t *)at = CLOCK_TRUST_KERNEL;
		else if (strcmp(value, "always") == 0)
			*(uint64_t *)at = CLOCK_TRUST_ALWAYS;
		else
			return false;
		return true;
	case PREFIXES:
		return each_word(value, add_prefix, c);
	}
	return false;
}

struct exit_adding {
	struct config *config;
	struct server_key server;
};

static bool add_exit(const char *word, void *arg)
{
	struct exit_adding *a = arg;
	struct config *c = a->config;
	struct exits_entry *e;

	if (!grow((void **)&c->exit_entries, c->exit_count, sizeof(*c->exit_entries)))
		return false;
	e = &c->exit_entries[c->exit_count];
	if (nolog_ip_parse(e->ip, word) != 0)
		return false;
	e->server = a->server;
	c->exit_count++;
	return true;
}

static int compare_servers(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct config_server));
}

static void add_server(struct reading *r, const char *name, const char *value)
{
	struct config *c = r->config;
	struct exit_adding adding = { .config = c };
	struct config_server s;
	size_t i;

	c->any_server = false; /* whatever became of the section's line */
	if (nolog_server_parse(s.id, name) != 0) {
		fail(r, "[servers] %s: not a server ID; 1 to 16 of a-z, 0-9, '.' and '-'", name);
		return;
	}
	for (i = 0; i < c->server_count; i++)
		if (compare_servers(&c->servers[i], &s) == 0)
			break;
	if (i == c->server_count) {
		if (!grow((void **)&c->servers, c->server_count, sizeof(*c->servers))) {
			fail(r, "out of memory");
			return;
		}
		c->servers[c->server_count++] = s;
	}
	server_pack(&adding.server, s.id);
	if (*value && !each_word(value, add_exit, &adding))
		fail(r,
		     "[servers] %s = %s: not a list of addresses; write 203.0.113.7, "
		     "2001:db8::7 or nothing",
		     name, value);
}

static void no_such_key(struct reading *r, const char *section, const char *name)
{
	char there[160] = "";
	size_t n = 0;

	for (size_t i = 0; i < KEYS; i++)
		if (strcmp(keys[i].section, section) == 0 && n < sizeof(there))
			n += (size_t)snprintf(there + n, sizeof(there) - n, "%s%s", n ? ", " : "",
					      keys[i].name);
	fail(r, "[%s] %s: no such key; there are %s", section, name, there);
}

/* libinih's: one key; 0 makes it remember the line, the error is ours. */
static int handle(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;

	if (r->failed)
		return 0;
	if (strcmp(section, "servers") == 0) {
		add_server(r, name, value);
		return !r->failed;
	}
	for (size_t i = 0; i < KEYS; i++) {
		const struct key *k = &keys[i];

		if (strcmp(k->section, section) != 0 || strcmp(k->name, name) != 0)
			continue;
		if (r->seen[i] && k->kind != PREFIXES)
			fail(r, "[%s] %s: given twice; once only", section, name);
		else if (!set(r->config, k, value))
			fail(r, "[%s] %s = %s: not allowed; %s", section, name, value, k->allowed);
		r->seen[i] = true;
		r->config->lines[i] = r->line;
		return !r->failed;
	}
	if (!*section)
		fail(r, "%s: stands before the first [section]", name);
	else
		no_such_key(r, section, name);
	return 0;
}

static int parse(struct reading *r)
{
	int line = ini_parse_stream(read_line, r, handle, r);

	if (!r->failed && ferror(r->file))
		fail(r, "cannot be read: %s", strerror(errno));
	if (!r->failed && line != 0) {
		r->line = line > 0 ? (unsigned)line : r->line;
		fail(r, "neither \"[section]\" nor \"key = value\"");
	}
	return r->failed ? -EINVAL : 0;
}

static bool set_defaults(struct config *c)
{
	c->any_server = true;
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].preset && !set(c, &keys[i], keys[i].preset))
			return false;
	return true;
}

static const struct key *key_named(const char *section, const char *name)
{
	const struct key *k = keys;

	while (strcmp(k->section, section) != 0 || strcmp(k->name, name) != 0)
		k++;
	return k;
}

/* A word of the command line wins over the file, and is no freer than that. */
static bool take_option(struct config *c, const char *option, const char *value,
			const char *section, const char *name, char *error, size_t size)
{
	const struct key *k = key_named(section, name);

	if (!value || set(c, k, value))
		return true;
	(void)snprintf(
		error, size, "%s %.100s%s: %s; %s", option, value, strlen(value) > 100 ? "..." : "",
		line_length(k, value) > LINE_MAX_CHARS ? "too long" : "not allowed", k->allowed);
	return false;
}

/* What is checked once everything is known. */
static int finish(struct config *c, const char *path, char *error, size_t size)
{
	c->keyring_named = c->keyring != NULL;
	if (!c->keyring && asprintf(&c->keyring, "%s/keyring", c->state) < 0) {
		c->keyring = NULL;
		return -ENOMEM;
	}
	if (strlen(c->run) > RUN_MAX) {
		(void)snprintf(error, size,
			       "%s: [sockets] directory = %s: too long; at most %zu bytes, since "
			       "a socket's path has no more",
			       path, c->run, RUN_MAX);
		return -EINVAL;
	}
	if (c->server_count)
		qsort(c->servers, c->server_count, sizeof(*c->servers), compare_servers);
	c->exits = exits_new(c->exit_entries, c->exit_count);
	return c->exits ? 0 : -ENOMEM;
}

/* Nothing is read from a file that may be absent, and is. */
static FILE *open_file(const char *path, bool may_be_absent, bool *absent, char *error, size_t size)
{
	FILE *f = fopen(path, "re");

	*absent = false;
	if (!f && errno == ENOENT && may_be_absent) {
		*absent = true;
		f = fopen("/dev/null", "re");
	}
	if (!f)
		(void)snprintf(error, size, "%s: %s", path, strerror(errno));
	return f;
}

int config_read(struct config **out, const char *path, bool may_be_absent, const char *state,
		const char *run, char *error, size_t error_size)
{
	struct reading r = { .path = path, .error = error, .error_size = error_size };
	int result = -EINVAL;
	bool absent;

	(void)snprintf(error, error_size, "out of memory");
	r.file = open_file(path, may_be_absent, &absent, error, error_size);
	if (!r.file)
		return errno ? -errno : -EINVAL;
	r.config = calloc(1, sizeof(*r.config));
	if (r.config)
		r.config->lines = calloc(KEYS, sizeof(*r.config->lines));
	if (!r.config || !r.config->lines || !set_defaults(r.config)) {
		result = -ENOMEM;
		goto out;
	}
	r.config->absent = absent;
	result = parse(&r);
	if (result < 0)
		goto out;
	if (!take_option(r.config, "--state", state, "store", "path", error, error_size) ||
	    !take_option(r.config, "--run", run, "sockets", "directory", error, error_size)) {
		result = -EINVAL;
		goto out;
	}
	result = finish(r.config, path, error, error_size);
	if (result < 0)
		goto out;
	*out = r.config;
	r.config = NULL;
	*error = 0;
out:
	config_free(r.config);
	(void)fclose(r.file);
	return result;
}

/* True when the system knows the name that the key holds. */
static bool name_exists(const struct key *k, const char *name)
{
	return k->offset == offsetof(struct config, user) ? getpwnam(name) != NULL
							  : getgrnam(name) != NULL;
}

int config_check_names(const struct config *c, const char *path, char *error, size_t error_size)
{
	for (size_t i = 0; i < KEYS; i++) {
		const struct key *k = &keys[i];

		if (k->kind != WORD || !text_of(c, k) || name_exists(k, text_of(c, k)))
			continue;
		(void)snprintf(error, error_size, "%s:%u: [%s] %s = %s: no such %s", path,
			       c->lines[i], k->section, k->name, text_of(c, k),
			       k->offset == offsetof(struct config, user) ? "user" : "group");
		return -EINVAL;
	}
	return 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].kind == PATH || keys[i].kind == WORD)
			free(*text_at(c, &keys[i]));
	free(c->lines);
	free(c->servers);
	free(c->exit_entries);
	free(c->allow);
	exits_unref(c->exits);
	free(c);
}

static void print_prefixes(const struct config *c, FILE *to)
{
	char text[NOLOG_PREFIX_TEXT];

	for (size_t i = 0; i < c->allow_count; i++)
		if (nolog_prefix_format(text, c->allow[i].ip, c->allow[i].length) == 0)
			(void)fprintf(to, "allow = %s\n", text);
}

static void print_key(const struct config *c, const struct key *k, FILE *to)
{
	const void *at = (const char *)c + k->offset;
	char text[NOLOG_DURATION_TEXT];

	switch (k->kind) {
	case PATH:
	case WORD:
		if (text_of(c, k) && (text_of(c, k) != c->keyring || c->keyring_named))
			(void)fprintf(to, "%s = %s\n", k->name, text_of(c, k));
		break;
	case COUNT:
	case BYTES:
		(void)fprintf(to, "%s = %llu\n", k->name, (unsigned long long)number_of(c, k));
		break;
	case DURATION:
		if (nolog_duration_format(text, *(const int64_t *)at) == 0)
			(void)fprintf(to, "%s = %s\n", k->name, text);
		break;
	case TRUST:
		(void)fprintf(to, "%s = %s\n", k->name,
			      number_of(c, k) == CLOCK_TRUST_ALWAYS ? "always" : "kernel");
		break;
	case PREFIXES:
		print_prefixes(c, to);
		break;
	}
}

static void print_servers(const struct config *c, FILE *to)
{
	char ip[NOLOG_IP_TEXT];

	if (c->any_server)
		return;
	(void)fprintf(to, "\n[servers]\n");
	for (size_t i = 0; i < c->server_count; i++) {
		struct server_key key;
		bool printed = false;

		server_pack(&key, c->servers[i].id);
		/* A line an address: a line has only so many characters. */
		for (size_t j = 0; j < c->exit_count; j++) {
			if (memcmp(&c->exit_entries[j].server, &key, sizeof(key)) != 0 ||
			    nolog_ip_format(ip, c->exit_entries[j].ip) != 0)
				continue;
			(void)fprintf(to, "%.16s = %s\n", (const char *)c->servers[i].id, ip);
			printed = true;
		}
		if (!printed)
			(void)fprintf(to, "%.16s =\n", (const char *)c->servers[i].id);
	}
}

int config_print(const struct config *c, FILE *to)
{
	const char *section = "";

	for (size_t i = 0; i < KEYS; i++) {
		if (strcmp(section, keys[i].section) != 0) {
			section = keys[i].section;
			(void)fprintf(to, "%s[%s]\n", i ? "\n" : "", section);
		}
		print_key(c, &keys[i], to);
	}
	print_servers(c, to);
	return fflush(to) == 0 && !ferror(to) ? 0 : -EIO;
}

bool config_server_allowed(const struct config *c, const uint8_t id[NOLOG_SERVER_SIZE])
{
	struct config_server s;

	if (c->any_server)
		return true;
	memcpy(s.id, id, sizeof(s.id));
	return c->server_count && bsearch(&s, c->servers, c->server_count, sizeof(*c->servers),
					  compare_servers) != NULL;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

const char *config_fixed_difference(const struct config *a, const struct config *b)
{
	for (size_t i = 0; i < KEYS; i++) {
		const struct key *k = &keys[i];
		bool same = k->kind == PATH || k->kind == WORD
				    ? same_text(text_of(a, k), text_of(b, k))
				    : number_of(a, k) == number_of(b, k);

		if (k->fixed && !same)
			return k->name;
	}
	return NULL;
}
