/* SPDX-License-Identifier: ISC */
/*
 * nologctl: nologd from the command line, nologctl(8).
 *
 *     ctl_args      options: one table, for command lines and event lines
 *     ctl_event     an event, from options or from a line of `report`
 *     ctl_reporter  start, end, session, usage: one event
 *     ctl_report    report: many, each once
 *     ctl_lookup    lookup: sessions by address, server and time
 *     ctl_quota     quota: a month's total
 *     ctl_status    status, metrics; ctl_metrics prints them
 *     ctl_policy    policy: what is kept, from the schema in the code
 *     ctl_audit     audit: is the store what the policy says?
 *     ctl_ask       asking nologd, reading an account's name
 *     ctl_out       messages, times, sizes
 *
 * Here is the table of commands.  A command's needs and options are bits of
 * ctl_args.h; one row says everything about it.
 */
#include "ctl.h"
#include "ctl_event.h"
#include "ctl_out.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

struct command {
	const char *name;
	ctl_command_fn *run;
	unsigned needs, may;
	const char *synopsis; /* NULL: made of needs and may */
	const char *summary;
	const char *more; /* for its --help */
};

#define EVENT_WHEN "Without --at it happened now.\n"
#define ACCOUNT                                                                        \
	"The account's name is the one line on standard input; only its hash leaves\n" \
	"this process.\n"

static const struct command commands[] = {
	{ "start", ctl_one_event, CTL_BIT(SERVER) | CTL_START_NEEDS, CTL_START_MAY, NULL,
	  "a session begins", EVENT_WHEN },
	{ "end", ctl_one_event, CTL_BIT(SERVER) | CTL_END_NEEDS, CTL_END_MAY, NULL, "it ends",
	  EVENT_WHEN },
	{ "session", ctl_one_event, CTL_BIT(SERVER) | CTL_SESSION_NEEDS, CTL_SESSION_MAY, NULL,
	  "a session that is over already", "" },
	{ "usage", ctl_one_event, CTL_BIT(SERVER) | CTL_USAGE_NEEDS, CTL_USAGE_MAY, NULL,
	  "bytes of an account, named on standard input", ACCOUNT },
	{ "report", ctl_report, CTL_BIT(SERVER), CTL_BIT(STREAM), NULL,
	  "many events from standard input, each once",
	  "Lines: start --handle H --ip IP [--at TIME]      end --handle H [--at TIME]\n"
	  "       session --ip IP --from TIME --to TIME     alive --handle H [--at TIME]\n"
	  "       usage ACCOUNT RX TX [METER [first] [last]]     restart [--at TIME]\n"
	  "Blank lines and those that begin with # are passed over.\n" },
	{ "lookup", ctl_lookup, 0,
	  CTL_BIT(PREFIX) | CTL_BIT(SERVER) | CTL_BIT(AT) | CTL_BIT(SLACK) | CTL_BIT(FROM) |
		  CTL_BIT(TO),
	  " IP[/LEN] | --server S [IP[/LEN]]\n"
	  "       [--at TIME [--slack DURATION] | --from TIME --to TIME]",
	  "sessions by address, server and time; exit 1: none",
	  "Without a time: everything kept.\n" },
	{ "quota", ctl_quota, 0, CTL_BIT(LIMIT), NULL,
	  "the month's total of the account named on standard input", ACCOUNT },
	{ "status", ctl_status, 0, 0, NULL, "how nologd is", "" },
	{ "metrics", ctl_metrics, 0, 0, NULL, "the same as OpenMetrics text", "" },
	{ "policy", ctl_policy, 0, 0, NULL, "what is kept, where, for what, for how long", "" },
	{ "audit", ctl_audit, 0, CTL_BIT(STATE) | CTL_BIT(KEYRING), NULL,
	  "verifies the whole store, live or a copy; exit 1: a finding", "" },
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *command_named(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void help(void)
{
	(void)puts("usage: nologctl [--run DIR] [--json] COMMAND [OPTIONS]\n");
	for (size_t i = 0; i < COMMANDS; i++)
		(void)printf("  %-8s  %s\n", commands[i].name, commands[i].summary);
	(void)puts("");
	ctl_args_describe(stdout, CTL_GLOBAL | CTL_BIT(VERSION));
	(void)puts("\nnologctl COMMAND --help says more.\n"
		   "Exit status: 0 yes, 1 a negative answer, 2 error.");
}

static void command_help(const struct command *c)
{
	int n = printf("usage: nologctl [--run DIR] [--json] %s", c->name);

	if (c->synopsis)
		(void)fputs(c->synopsis, stdout);
	else
		ctl_args_synopsis(stdout, c->needs, c->may, n > 0 ? (size_t)n : 0);
	(void)printf("\n%s\n\n", c->summary);
	ctl_args_describe(stdout, c->needs | c->may | CTL_GLOBAL);
	if (*c->more)
		(void)printf("\n%s", c->more);
}

/* What stands behind the command's name, then the command. */
static enum ctl_exit run(const struct command *c, struct ctl_args *args, char *const words[], int n)
{
	char error[CTL_ERROR_TEXT];
	int taken = ctl_args_read(args, c->needs | c->may | CTL_GLOBAL, words, n, error);

	if (taken >= 0 && ctl_given(args, CTL_BIT(HELP))) {
		command_help(c);
		return CTL_YES;
	}
	if (taken >= 0 && taken < n) {
		ctl_say("%s: '%.64s' does not belong here; see nologctl %s --help", c->name,
			words[taken], c->name);
		return CTL_ERROR;
	}
	if (taken < 0 || ctl_args_check(args, c->needs, error) < 0) {
		ctl_say("%s: %s", c->name, error);
		return CTL_ERROR;
	}
	return c->run(args, c->name);
}

static enum ctl_exit start(char *const words[], int n)
{
	struct ctl_args args = { 0 };
	const struct command *c;
	char error[CTL_ERROR_TEXT];
	int taken = ctl_args_read(&args, CTL_GLOBAL | CTL_BIT(VERSION), words, n, error);

	if (taken < 0) {
		ctl_say("%s; options of a command stand behind it", error);
		return CTL_ERROR;
	}
	if (ctl_given(&args, CTL_BIT(VERSION))) {
		(void)puts("nologctl " NOLOG_VERSION_TEXT);
		return CTL_YES;
	}
	if (taken == n && ctl_given(&args, CTL_BIT(HELP))) {
		help();
		return CTL_YES;
	}
	if (taken == n) {
		ctl_say("a command is missing; nologctl --help names them");
		return CTL_ERROR;
	}
	c = command_named(words[taken]);
	if (!c) {
		ctl_say("'%.64s' is no command; nologctl --help names them", words[taken]);
		return CTL_ERROR;
	}
	return run(c, &args, words + taken + 1, n - taken - 1);
}

int main(int argc, char *argv[])
{
	/* A reader that has gone is an error like a full disk, not a silent end. */
	(void)signal(SIGPIPE, SIG_IGN);
	return (int)ctl_out_end(start(argv + 1, argc > 0 ? argc - 1 : 0));
}
