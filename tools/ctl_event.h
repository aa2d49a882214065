/* SPDX-License-Identifier: ISC */
/*
 * ctl_event: one event, from a command's options or from a line of `report`.
 *
 * Pure: no socket, no clock, no file.  The words of a line are those of the
 * command of the same name without --server; `usage` is shorter, since a line
 * may name its account: usage ACCOUNT RX TX [METER [first] [last]].
 */
#ifndef CTL_EVENT_H
#define CTL_EVENT_H

#include "ctl_args.h"

#define CTL_LINE_BYTES 4096 /* the longest line, without its end */

/* The options of each event, for its line and for the command of its name. */
#define CTL_START_NEEDS (CTL_BIT(HANDLE) | CTL_BIT(IP))
#define CTL_START_MAY CTL_BIT(AT)
#define CTL_END_NEEDS CTL_BIT(HANDLE)
#define CTL_END_MAY CTL_BIT(AT)
#define CTL_SESSION_NEEDS (CTL_BIT(IP) | CTL_BIT(FROM) | CTL_BIT(TO))
#define CTL_SESSION_MAY 0
#define CTL_ALIVE_NEEDS CTL_BIT(HANDLE)
#define CTL_ALIVE_MAY CTL_BIT(AT)
#define CTL_RESTART_NEEDS 0
#define CTL_RESTART_MAY CTL_BIT(AT)
#define CTL_USAGE_NEEDS (CTL_BIT(RX) | CTL_BIT(TX))
#define CTL_USAGE_MAY (CTL_BIT(METER) | CTL_BIT(FIRST) | CTL_BIT(LAST))

struct ctl_event {
	const char *name;
	uint8_t type;	/* of its frame */
	unsigned needs; /* CTL_BIT */
	unsigned may;
};

/* The event of a name, NULL: there is none. */
const struct ctl_event *ctl_event_named(const char *name);
/* The name of an event's frame; "event" for others. */
const char *ctl_event_name(uint8_t type);

/* Its frame; now_ms is the time of an event that does not say when it was. */
void ctl_event_frame(struct nolog_frame *out, const struct ctl_event *event,
		     const struct ctl_args *args, const uint8_t account[NOLOG_ACCOUNT_SIZE],
		     int64_t now_ms);

/*
 * Reads a line of len bytes, which line[len] = '\0' ends; it is taken apart.
 * 0; 1: blank, or a comment; -EINVAL: error says what is wrong, in words that
 * repeat nothing of the line.
 */
int ctl_event_line(struct nolog_frame *out, char *line, size_t len, int64_t now_ms,
		   char error[CTL_ERROR_TEXT]);

/* The role that an event's frame is reported in. */
enum nolog_role ctl_event_role(const struct nolog_frame *event);

#endif
