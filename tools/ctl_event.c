/* SPDX-License-Identifier: ISC */
/*
 * ctl_event: the events that can be reported, and how their lines are read.
 * Knows no socket; what it says about a line never quotes the line.
 */
#include "ctl_event.h"

#include <nolog/client.h>
#include <nolog/text.h>

#include <errno.h>
#include <stdio.h>

#define WORDS_MAX 16 /* a line of more is none of ours */

static const struct ctl_event events[] = {
	{ "start", NOLOG_START, CTL_START_NEEDS, CTL_START_MAY },
	{ "end", NOLOG_END, CTL_END_NEEDS, CTL_END_MAY },
	{ "session", NOLOG_SESSION, CTL_SESSION_NEEDS, CTL_SESSION_MAY },
	{ "alive", NOLOG_ALIVE, CTL_ALIVE_NEEDS, CTL_ALIVE_MAY },
	{ "restart", NOLOG_RESTART, CTL_RESTART_NEEDS, CTL_RESTART_MAY },
	{ "usage", NOLOG_USAGE, CTL_USAGE_NEEDS, CTL_USAGE_MAY },
};
#define EVENTS (sizeof(events) / sizeof(events[0]))

const struct ctl_event *ctl_event_named(const char *name)
{
	for (size_t i = 0; i < EVENTS; i++)
		if (strcmp(events[i].name, name) == 0)
			return &events[i];
	return NULL;
}

const char *ctl_event_name(uint8_t type)
{
	for (size_t i = 0; i < EVENTS; i++)
		if (events[i].type == type)
			return events[i].name;
	return "event";
}

enum nolog_role ctl_event_role(const struct nolog_frame *event)
{
	return event->type == NOLOG_USAGE ? NOLOG_ROLE_USAGE : NOLOG_ROLE_SESSIONS;
}

void ctl_event_frame(struct nolog_frame *out, const struct ctl_event *event,
		     const struct ctl_args *args, const uint8_t account[NOLOG_ACCOUNT_SIZE],
		     int64_t now_ms)
{
	int64_t at_ms = ctl_given(args, CTL_BIT(AT)) ? args->at_ms : now_ms;

	memset(out, 0, sizeof(*out));
	out->type = event->type;
	switch (event->type) {
	case NOLOG_START:
		out->u.start.handle = args->handle;
		out->u.start.start_ms = at_ms;
		memcpy(out->u.start.ip, args->ip, NOLOG_IP_SIZE);
		break;
	case NOLOG_END:
		out->u.end.handle = args->handle;
		out->u.end.end_ms = at_ms;
		break;
	case NOLOG_SESSION:
		out->u.session.start_ms = args->from_ms;
		out->u.session.end_ms = args->to_ms;
		memcpy(out->u.session.ip, args->ip, NOLOG_IP_SIZE);
		break;
	case NOLOG_ALIVE:
		out->u.alive.handle = args->handle;
		out->u.alive.at_ms = at_ms;
		break;
	case NOLOG_RESTART:
		out->u.restart.at_ms = at_ms;
		break;
	case NOLOG_USAGE:
		if (ctl_given(args, CTL_BIT(FIRST)))
			out->code |= NOLOG_USAGE_FIRST;
		if (ctl_given(args, CTL_BIT(LAST)))
			out->code |= NOLOG_USAGE_LAST;
		out->aux = args->meter;
		memcpy(out->u.usage.account, account, NOLOG_ACCOUNT_SIZE);
		out->u.usage.rx = args->rx;
		out->u.usage.tx = args->tx;
		break;
	default:
		assert(0 && "an event of no known type");
		break;
	}
}

/* Takes the line apart at its blanks; -E2BIG: more words than any event has. */
static int split(char *line, char *words[WORDS_MAX])
{
	static const char blanks[] = " \t\r";
	int n = 0;

	for (line += strspn(line, blanks); *line; line += strspn(line, blanks)) {
		if (n == WORDS_MAX)
			return -E2BIG;
		words[n++] = line;
		line += strcspn(line, blanks);
		if (*line)
			*line++ = '\0';
	}
	return n;
}

static int fail(char error[CTL_ERROR_TEXT], const char *text)
{
	(void)snprintf(error, CTL_ERROR_TEXT, "%s", text);
	return -EINVAL;
}

/* The words behind "usage": ACCOUNT RX TX [METER [first] [last]]. */
static int usage_words(struct ctl_args *args, uint8_t account[NOLOG_ACCOUNT_SIZE],
		       char *const words[], int n, char error[CTL_ERROR_TEXT])
{
	static const struct {
		enum ctl_option option;
		const char *what;
	} numbers[] = { { CTL_RX, "RX" }, { CTL_TX, "TX" }, { CTL_METER, "METER" } };

	if (n < 3)
		return fail(error, "usage ACCOUNT RX TX [METER [first] [last]] is expected");
	nolog_account(account, words[0], strlen(words[0]));
	for (int i = 1; i < n && i < 4; i++)
		if (ctl_args_value(args, numbers[i - 1].option, numbers[i - 1].what, words[i],
				   error) < 0)
			return -EINVAL;
	for (int i = 4; i < n; i++) {
		unsigned bit = strcmp(words[i], "first") == 0  ? CTL_BIT(FIRST)
			       : strcmp(words[i], "last") == 0 ? CTL_BIT(LAST)
							       : 0;

		if (bit == 0 || (args->given & bit))
			return fail(error,
				    "usage: only first and last may follow METER, each once");
		args->given |= bit;
	}
	return 0;
}

int ctl_event_line(struct nolog_frame *out, char *line, size_t len, int64_t now_ms,
		   char error[CTL_ERROR_TEXT])
{
	struct ctl_args args = { .quiet = true };
	uint8_t account[NOLOG_ACCOUNT_SIZE] = { 0 };
	const struct ctl_event *event;
	char *words[WORDS_MAX];
	int n, r;

	if (memchr(line, '\0', len))
		return fail(error, "a zero byte is no text");
	if (line[strspn(line, " \t\r")] == '#')
		return 1;
	n = split(line, words);
	if (n == 0)
		return 1;
	if (n < 0)
		return fail(error, "too many words");
	event = ctl_event_named(words[0]);
	if (!event)
		return fail(error,
			    "no such event; start, end, session, alive, restart and usage are");
	if (event->type == NOLOG_USAGE)
		r = usage_words(&args, account, words + 1, n - 1, error);
	else
		r = ctl_args_read(&args, event->needs | event->may, words + 1, n - 1, error);
	if (r < 0)
		return r;
	if (event->type != NOLOG_USAGE && r < n - 1)
		return fail(error, "a word that does not belong here");
	r = ctl_args_check(&args, event->needs, error);
	if (r < 0)
		return r;
	ctl_event_frame(out, event, &args, account, now_ms);
	return 0;
}
