/* SPDX-License-Identifier: ISC */
/* openvpn_status: see the header. */
#include "openvpn_status.h"

#include <nolog/text.h>

#define FIELDS_MAX 32
#define NUMBER_MAX 21 /* digits of 2^64, and a zero */

struct span {
	const char *at;
	size_t len;
};

enum column { NAME, POOL4, POOL6, RX, TX, SINCE, COLUMNS };

struct status {
	char separator;
	size_t fields; /* of a CLIENT_LIST line; 0: no header yet */
	size_t column[COLUMNS];
};

static bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* The next line without its end; false when there is none.  The last one must end as well. */
static bool next_line(const char **text, const char *end, struct span *line)
{
	const char *nl = *text < end ? memchr(*text, '\n', (size_t)(end - *text)) : NULL;

	if (!nl)
		return false;
	line->at = *text;
	line->len = (size_t)(nl - *text);
	if (line->len > 0 && nl[-1] == '\r')
		line->len--;
	*text = nl + 1;
	return true;
}

/* Splits a line; more than FIELDS_MAX fields are counted as FIELDS_MAX + 1. */
static size_t split(struct span line, char separator, struct span field[FIELDS_MAX])
{
	const char *p = line.at, *end = line.at + line.len;

	for (size_t n = 0; n < FIELDS_MAX; n++) {
		const char *stop = memchr(p, separator, (size_t)(end - p));

		field[n].at = p;
		field[n].len = (size_t)((stop ? stop : end) - p);
		if (!stop)
			return n + 1;
		p = stop + 1;
	}
	return FIELDS_MAX + 1;
}

/* HEADER,CLIENT_LIST,Common Name,...: a line of data has one field less. */
static int read_header(struct status *s, const struct span *field, size_t n,
		       enum openvpn_account account)
{
	const char *const title[COLUMNS] = {
		[NAME] = account == OPENVPN_USERNAME ? "Username" : "Common Name",
		[POOL4] = "Virtual Address",
		[POOL6] = "Virtual IPv6 Address",
		[RX] = "Bytes Received",
		[TX] = "Bytes Sent",
		[SINCE] = "Connected Since (time_t)",
	};

	for (size_t c = 0; c < COLUMNS; c++) {
		s->column[c] = 0;
		for (size_t i = 2; i < n && i < FIELDS_MAX; i++)
			if (span_is(field[i], title[c]))
				s->column[c] = i - 1;
		if (s->column[c] == 0)
			return -EBADMSG;
	}
	s->fields = n - 1;
	return 0;
}

static bool to_number(struct span s, uint64_t *out)
{
	char text[NUMBER_MAX];

	if (s.len >= sizeof(text))
		return false;
	memcpy(text, s.at, s.len);
	text[s.len] = '\0';
	return nolog_u64_parse(out, text) == 0;
}

static bool to_address(struct span s, uint8_t out[NOLOG_IP_SIZE])
{
	char text[NOLOG_IP_TEXT];

	if (s.len == 0 || s.len >= sizeof(text))
		return false;
	memcpy(text, s.at, s.len);
	text[s.len] = '\0';
	return nolog_ip_parse(out, text) == 0;
}

static bool to_client(const struct status *s, const struct span *field, struct openvpn_client *c)
{
	struct span name = field[s->column[NAME]];
	uint64_t since;

	if (!to_address(field[s->column[POOL4]], c->pool) &&
	    !to_address(field[s->column[POOL6]], c->pool))
		return false;
	if (!to_number(field[s->column[RX]], &c->rx) || !to_number(field[s->column[TX]], &c->tx) ||
	    !to_number(field[s->column[SINCE]], &since) || since > OPENVPN_TIME_MAX)
		return false;
	c->start_ms = (int64_t)since * 1000;
	if (name.len == 0 || name.len > OPENVPN_NAME_MAX || span_is(name, "UNDEF"))
		name = (struct span){ 0 };
	c->name = name.at;
	c->name_len = name.len;
	return true;
}

/* One pass over the lines; fn NULL only judges. */
static int walk(const char *text, size_t len, enum openvpn_account account, openvpn_client_fn *fn,
		void *arg)
{
	const char *end = text + len;
	struct status s = { 0 };
	struct span line, field[FIELDS_MAX];

	if (!next_line(&text, end, &line) || line.len < 6 || memcmp(line.at, "TITLE", 5) != 0)
		return -EBADMSG;
	s.separator = line.at[5];
	if (s.separator != ',' && s.separator != '\t')
		return -EBADMSG;
	while (next_line(&text, end, &line)) {
		struct openvpn_client c;
		size_t n = split(line, s.separator, field);

		if (n == 1 && span_is(field[0], "END"))
			return s.fields > 0 && text == end ? 0 : -EBADMSG;
		if (n > 2 && span_is(field[0], "HEADER") && span_is(field[1], "CLIENT_LIST")) {
			if (s.fields > 0 || n > FIELDS_MAX ||
			    read_header(&s, field, n, account) < 0)
				return -EBADMSG;
		} else if (fn && n == s.fields && span_is(field[0], "CLIENT_LIST") &&
			   to_client(&s, field, &c)) {
			fn(&c, arg);
		}
	}
	return -EBADMSG;
}

int openvpn_status_read(const char *text, size_t len, enum openvpn_account account,
			openvpn_client_fn *fn, void *arg)
{
	int r = walk(text, len, account, NULL, NULL);

	return r < 0 ? r : walk(text, len, account, fn, arg);
}
