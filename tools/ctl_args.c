/* SPDX-License-Identifier: ISC */
/*
 * ctl_args: the table of options, and reading by it.  Refuses to guess: no
 * abbreviations, nothing twice, no value that is only almost one.
 */
#include "ctl_args.h"

#include <nolog/text.h>

#include <errno.h>
#include <stdarg.h>

#define COLUMNS 80

/* How the text of an option is read; out is the member of struct ctl_args. */
struct kind {
	int (*read)(void *out, const char *text); /* 0, -EINVAL, -ERANGE */
	const char *wrong;			  /* -EINVAL: "... is no address; write ..." */
	const char *none;			  /* -ERANGE */
};

static int read_text(void *out, const char *text)
{
	if (!*text)
		return -EINVAL;
	*(const char **)out = text;
	return 0;
}

static int read_server(void *out, const char *text)
{
	return nolog_server_parse(out, text);
}

static int read_u64(void *out, const char *text)
{
	return nolog_u64_parse(out, text);
}

static int read_stream(void *out, const char *text)
{
	uint64_t v;
	int r = nolog_u64_parse(&v, text);

	if (r < 0)
		return r;
	if (v == 0)
		return -ERANGE;
	*(uint64_t *)out = v;
	return 0;
}

static int read_meter(void *out, const char *text)
{
	uint64_t v;
	int r = nolog_u64_parse(&v, text);

	if (r < 0)
		return r;
	if (v == 0 || v > UINT32_MAX)
		return -ERANGE;
	*(uint32_t *)out = (uint32_t)v;
	return 0;
}

static int read_ip(void *out, const char *text)
{
	return nolog_ip_parse(out, text);
}

static int read_prefix(void *out, const char *text)
{
	struct ctl_prefix *p = out;

	return nolog_prefix_parse(p->ip, &p->len, text);
}

static int read_time(void *out, const char *text)
{
	return nolog_time_parse(out, text);
}

static int read_duration(void *out, const char *text)
{
	return nolog_duration_parse(out, text);
}

static const struct kind flag = { NULL, NULL, NULL };
static const struct kind path = { read_text, "is empty; name a directory", "" };
static const struct kind file = { read_text, "is empty; name a file", "" };
static const struct kind server_id = {
	read_server, "is no server ID; 1 to 16 of a-z, 0-9, '.' and '-' are expected", ""
};
static const struct kind number = { read_u64, "is no whole number",
				    "is too large; 0 to 18446744073709551615 are possible" };
static const struct kind stream_number = { read_stream, "is no whole number",
					   "is no stream; 1 to 18446744073709551615 are possible" };
static const struct kind meter_number = { read_meter, "is no whole number",
					  "is no meter; 1 to 4294967295 are possible" };
static const struct kind address = { read_ip,
				     "is no address; one like 10.8.0.2 or 2001:db8::7 is expected",
				     "" };
static const struct kind prefix = {
	read_prefix, "is no address or prefix; 10.8.0.2, 10.8.0.0/16 or 2001:db8::/32 are",
	"is longer than its address; /0 to /32 for IPv4, /0 to /128 for IPv6"
};
static const struct kind instant = {
	read_time, "is no time; 2026-11-22T08:00:00Z, 2026-11-22T09:00:00+01:00 or @1795334400 are",
	"is not in the calendar"
};
static const struct kind duration = {
	read_duration, "is no duration; a whole number and ms, s, min, h or d is expected (10min)",
	"is too long"
};

struct option {
	const char *name; /* NULL: a word of its own */
	const char *value;
	const struct kind *kind;
	size_t member;	  /* offset in struct ctl_args */
	unsigned with;	  /* makes sense only with one of these */
	unsigned against; /* and with none of these */
	const char *help;
};

#define MEMBER(m) offsetof(struct ctl_args, m)

static const struct option options[CTL_OPTIONS] = {
	[CTL_RUN] = { "--run", "DIR", &path, MEMBER(run), 0, 0,
		      "nologd's sockets are there (/run/nologd)" },
	[CTL_JSON] = { "--json", NULL, &flag, 0, 0, 0, "one JSON object a line" },
	[CTL_HELP] = { "--help", NULL, &flag, 0, 0, 0, "says this; so does -h" },
	[CTL_VERSION] = { "--version", NULL, &flag, 0, 0, 0, "the version" },
	[CTL_SERVER] = { "--server", "S", &server_id, MEMBER(server), 0, 0, "the VPN server's ID" },
	[CTL_HANDLE] = { "--handle", "H", &number, MEMBER(handle), 0, 0,
			 "the server's number for the open session" },
	[CTL_IP] = { "--ip", "IP", &address, MEMBER(ip), 0, 0, "the session IP" },
	[CTL_AT] = { "--at", "TIME", &instant, MEMBER(at_ms), 0, CTL_BIT(FROM) | CTL_BIT(TO),
		     "when it was; RFC 3339 with its offset, or @seconds" },
	[CTL_SLACK] = { "--slack", "DURATION", &duration, MEMBER(slack_ms), CTL_BIT(AT), 0,
			"as much before and after --at: 500ms, 5s, 10min, 2h, 90d" },
	[CTL_FROM] = { "--from", "TIME", &instant, MEMBER(from_ms), 0, 0, "first instant" },
	[CTL_TO] = { "--to", "TIME", &instant, MEMBER(to_ms), 0, 0, "last instant" },
	[CTL_RX] = { "--rx", "BYTES", &number, MEMBER(rx), 0, 0, "bytes in" },
	[CTL_TX] = { "--tx", "BYTES", &number, MEMBER(tx), 0, 0, "bytes out" },
	[CTL_METER] = { "--meter", "M", &meter_number, MEMBER(meter), 0, 0,
			"the bytes are this meter's cumulative reading" },
	[CTL_FIRST] = { "--first", NULL, &flag, 0, CTL_BIT(METER), 0,
			"first reading: counts from zero" },
	[CTL_LAST] = { "--last", NULL, &flag, 0, CTL_BIT(METER), 0,
		       "last reading: closes the meter" },
	[CTL_STREAM] = { "--stream", "N", &stream_number, MEMBER(stream), 0, 0,
			 "resumes this stream: what is durable is not sent again" },
	[CTL_LIMIT] = { "--limit", "BYTES", &number, MEMBER(limit), 0, 0,
			"exit status 1 when the total is over it" },
	[CTL_STATE] = { "--state", "DIR", &path, MEMBER(state), 0, 0,
			"the store, live or a copy (/var/lib/nologd)" },
	[CTL_KEYRING] = { "--keyring", "FILE", &file, MEMBER(keyring), 0, 0,
			  "its keyring, where that lies elsewhere" },
	[CTL_PREFIX] = { NULL, "IP[/LEN]", &prefix, MEMBER(prefix), 0, 0,
			 "the address or prefix that is looked up" },
};

__attribute__((format(printf, 2, 3))) static int wrong(char error[CTL_ERROR_TEXT], const char *fmt,
						       ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(error, CTL_ERROR_TEXT, fmt, ap); /* cut, never overrun */
	va_end(ap);
	return -EINVAL;
}

/* A time that would be one if it had an offset: the one mistake everybody makes. */
static bool lacks_offset(const char *text)
{
	char with[64];
	int64_t ms;
	int n = snprintf(with, sizeof(with), "%sZ", text);

	return n > 0 && (size_t)n < sizeof(with) && nolog_time_parse(&ms, with) == 0;
}

int ctl_args_value(struct ctl_args *a, enum ctl_option option, const char *what, const char *text,
		   char error[CTL_ERROR_TEXT])
{
	const struct option *o = &options[option];
	int r = o->kind->read((char *)a + o->member, text);

	if (r == 0) {
		a->given |= 1u << option;
		return 0;
	}
	if (o->kind == &instant && r == -EINVAL && lacks_offset(text)) {
		if (a->quiet)
			return wrong(error, "%s: has no offset; write Z or +01:00 behind it", what);
		return wrong(error, "%s: '%s' has no offset; write %sZ or +01:00", what, text,
			     text);
	}
	if (a->quiet)
		return wrong(error, "%s: %s", what, r == -ERANGE ? o->kind->none : o->kind->wrong);
	return wrong(error, "%s: '%.64s' %s", what, text,
		     r == -ERANGE ? o->kind->none : o->kind->wrong);
}

/* The option that word names, with its value if that is glued to it; CTL_OPTIONS: none. */
static unsigned find(const char *word, const char **value)
{
	if (strcmp(word, "-h") == 0)
		return CTL_HELP;
	for (unsigned i = 0; i < CTL_OPTIONS; i++) {
		size_t n = options[i].name ? strlen(options[i].name) : 0;

		if (n == 0 || strncmp(word, options[i].name, n) != 0)
			continue;
		if (word[n] == '\0' || word[n] == '=') {
			*value = word[n] ? word + n + 1 : NULL;
			return i;
		}
	}
	return CTL_OPTIONS;
}

/* One option at words[0]; returns how many words it took. */
static int read_option(struct ctl_args *a, unsigned allowed, char *const words[], int n,
		       char error[CTL_ERROR_TEXT])
{
	const char *value = NULL;
	unsigned i = find(words[0], &value);
	const struct option *o;
	int r;

	if (i == CTL_OPTIONS || !(allowed & 1u << i)) {
		if (a->quiet)
			return wrong(error, "an option that does not belong here");
		return wrong(error, "'%.64s' does not belong here", words[0]);
	}
	o = &options[i];
	if (a->given & 1u << i)
		return wrong(error, "%s is there twice", o->name);
	if (!o->value) {
		if (value)
			return wrong(error, "%s takes no value", o->name);
		a->given |= 1u << i;
		return 1;
	}
	if (!value && n < 2)
		return wrong(error, "%s: %s is missing behind it", o->name, o->value);
	r = ctl_args_value(a, (enum ctl_option)i, o->name, value ? value : words[1], error);
	return r < 0 ? r : value ? 1 : 2;
}

int ctl_args_read(struct ctl_args *a, unsigned allowed, char *const words[], int n,
		  char error[CTL_ERROR_TEXT])
{
	bool only_words = false;
	int i = 0;

	while (i < n) {
		int r = 1;

		if (!only_words && strcmp(words[i], "--") == 0)
			only_words = true;
		else if (!only_words && words[i][0] == '-' && words[i][1])
			r = read_option(a, allowed, words + i, n - i, error);
		else if (!(allowed & ~a->given & CTL_BIT(PREFIX)))
			break;
		else if (ctl_args_value(a, CTL_PREFIX, "address", words[i], error) < 0)
			r = -EINVAL;
		if (r < 0)
			return r;
		i += r;
	}
	return i;
}

int ctl_args_check(const struct ctl_args *a, unsigned needs, char error[CTL_ERROR_TEXT])
{
	for (unsigned i = 0; i < CTL_OPTIONS; i++) {
		const struct option *o = &options[i];

		if (!(a->given & 1u << i)) {
			if (!(needs & 1u << i))
				continue;
			return wrong(error, "%s%s%s is missing", o->name ? o->name : "",
				     o->name && o->value ? " " : "", o->value ? o->value : "");
		}
		for (unsigned j = 0; j < CTL_OPTIONS; j++) {
			if ((o->with & 1u << j) && !(a->given & o->with))
				return wrong(error, "%s needs %s beside it", o->name,
					     options[j].name);
			if (o->against & a->given & 1u << j)
				return wrong(error, "%s and %s exclude each other", o->name,
					     options[j].name);
		}
	}
	return 0;
}

void ctl_args_synopsis(FILE *out, unsigned needs, unsigned may, size_t column)
{
	static const char indent[] = "\n      ";

	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < CTL_OPTIONS; i++) {
			const struct option *o = &options[i];
			char word[48];

			if (!((pass ? may & ~needs : needs) & 1u << i))
				continue;
			(void)snprintf(word, sizeof(word), " %s%s%s%s%s", pass ? "[" : "",
				       o->name ? o->name : "", o->name && o->value ? " " : "",
				       o->value ? o->value : "", pass ? "]" : "");
			if (column + strlen(word) > COLUMNS) {
				(void)fputs(indent, out);
				column = sizeof(indent) - 2;
			}
			(void)fputs(word, out);
			column += strlen(word);
		}
}

void ctl_args_describe(FILE *out, unsigned set)
{
	for (unsigned i = 0; i < CTL_OPTIONS; i++) {
		const struct option *o = &options[i];
		char left[32];

		if (!(set & 1u << i))
			continue;
		(void)snprintf(left, sizeof(left), "%s%s%s", o->name ? o->name : "",
			       o->name && o->value ? " " : "", o->value ? o->value : "");
		(void)fprintf(out, "  %-18s %s\n", left, o->help);
	}
}
