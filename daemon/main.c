/* SPDX-License-Identifier: ISC */
/*
 * nologd: the no-log VPN session accounting daemon.
 *
 * The map.  Data flows downward; a lower file never includes a higher one.
 *
 *   main         the command line and the order of starting
 *   config       nologd.conf(5)                       sandbox   what we give up
 *   listen       the five sockets, who may connect    notify    the service manager
 *   server       the loop thread: opening, the clock's tick, reloading, ending
 *   conn         connections: frames in, checked; answers out
 *   status       the metrics
 *     writer     a thread per book: decide a batch, commit, hand on, answer
 *     links      sequence numbers of the reporters' connections
 *     sessionbook, usagebook    the two books at their writers
 *       sessions, usage         the ledgers, pure: events in, effects out
 *       streams, refresh        positions; which slices to log again, pure
 *       servers                 which a day's list may have to name, pure
 *       effect                  what is stored, field by field
 *       journal                 the log: sealed blocks in LMDB
 *         days, dayfile, merge  finished sessions by day, sorted sealed runs
 *         lookup, exits         a question and its joining, pure
 *           pagecheck, reserve  files that can be mapped; space ahead
 *           seal, keyring       sealing; keys and their destruction
 *           clock, calendar     time and trust; days, months, the horizon
 *   queue, log, fault, sort     between threads; lines; what was wrong; order
 */
#include "config.h"
#include "log.h"
#include "notify.h"
#include "sandbox.h"
#include "seal.h"
#include "server.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct options {
	const char *config, *state, *run; /* NULL: not named */
	bool print;
};

static const char usage_text[] =
	"usage: nologd [-c FILE] [--state DIR] [--run DIR] [-n]\n"
	"\n"
	"Keeps VPN session accounting for as long as it may, and no longer.\n"
	"\n"
	"  -c, --config FILE  configuration; the default, " CONFIG_FILE ",\n"
	"                     may be absent\n"
	"      --state DIR    where the store is (default " CONFIG_STATE ")\n"
	"      --run DIR      where the sockets are (default " CONFIG_RUN ")\n"
	"  -n                 print the effective configuration and exit\n"
	"  -h, --help         this text\n"
	"      --version      the version\n"
	"\n"
	"Runs in the foreground and logs on standard error.  See nologd(8).\n";

/* NULL: said what is wrong. */
static const char *value_of(const char *option, const char *value)
{
	if (*value)
		return value;
	(void)fprintf(stderr, "nologd: %s: the value is empty\n", option);
	return NULL;
}

/* 0 go on, 1 done, 2 wrong usage. */
static int read_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "state", required_argument, NULL, 's' },
		{ "run", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:nh", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = value_of("-c", optarg);
			if (!o->config)
				return 2;
			break;
		case 's':
			o->state = value_of("--state", optarg);
			if (!o->state)
				return 2;
			break;
		case 'r':
			o->run = value_of("--run", optarg);
			if (!o->run)
				return 2;
			break;
		case 'n':
			o->print = true;
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return 1;
		case 'V':
			(void)puts("nologd " NOLOG_VERSION_TEXT);
			return 1;
		default:
			(void)fputs(usage_text, stderr);
			return 2;
		}
	}
	if (optind < argc) {
		(void)fprintf(stderr, "nologd: %s: unexpected; nologd takes options only\n",
			      argv[optind]);
		return 2;
	}
	return 0;
}

/* Who nologd is to be: the configured user, or who started it. */
static int find_user(const struct config *c, uid_t *uid, gid_t *gid)
{
	const struct passwd *p;

	*uid = geteuid();
	*gid = getegid();
	if (!c->user)
		return 0;
	p = getpwnam(c->user);
	if (!p) {
		log_error("[store] user = %s: no such user", c->user);
		return -EINVAL;
	}
	if (geteuid() != 0 && p->pw_uid != geteuid()) {
		log_error("[store] user = %s: only root can become another user", c->user);
		return -EPERM;
	}
	*uid = p->pw_uid;
	*gid = p->pw_gid;
	return 0;
}

/*
 * A relative path is meant from here: made absolute while that can be asked
 * for, and because what -n prints is read from elsewhere.  Kept for good.
 */
static int make_absolute(const char **path)
{
	char *here, *made = NULL;

	if (!*path || **path == '/')
		return 0;
	here = getcwd(NULL, 0);
	if (!here || asprintf(&made, "%s/%s", here, *path) < 0)
		made = NULL;
	free(here);
	*path = made;
	return made ? 0 : -ENOENT;
}

/* The order of starting, from the most privileged to the most confined. */
static int start(struct server *s)
{
	char error[512] = "";
	uid_t uid;
	gid_t gid;
	int r = find_user(s->config, &uid, &gid);

	if (r < 0)
		return r;
	r = server_lock(s, uid);
	if (r < 0)
		return r;
	r = listen_open(&s->sockets, s->config, uid, error, sizeof(error));
	if (r < 0) {
		log_error("%s", error);
		return r;
	}
	r = sandbox_drop(uid, gid);
	if (r < 0) {
		log_error("cannot give up its privileges: %s", strerror(-r));
		return r;
	}
	r = server_open(s);
	/* Not beside the one line that says why it does not start. */
	if (r == 0 && uid == 0)
		log_say(LOG_RUN_AS_ROOT, 0, 0, 0);
	return r;
}

/* SIGHUP and the signals to stop, from now on for later: until open_loop() takes them. */
static void hold(const int *signals, size_t n)
{
	sigset_t set;

	(void)sigemptyset(&set); /* none of these can fail */
	for (size_t i = 0; i < n; i++)
		(void)sigaddset(&set, signals[i]);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

int main(int argc, char **argv)
{
	static const int reload[] = { SIGHUP }, stop[] = { SIGTERM, SIGINT };
	static struct options o;
	static struct server server;
	const char *path;
	char error[512];
	int r;

	hold(reload, 1);
	log_init();
	r = read_options(argc, argv, &o);
	if (r)
		return r == 1 ? 0 : 1;
	if (make_absolute(&o.state) < 0 || make_absolute(&o.run) < 0) {
		log_error("the current directory, which a relative path begins at, cannot be told");
		return 1;
	}
	path = o.config ? o.config : CONFIG_FILE;
	r = config_read(&server.config, path, !o.config, o.state, o.run, error, sizeof(error));
	/* -n may be asked where the file is written, not where it is used: there it only says so. */
	if (r == 0 && config_check_names(server.config, path, error, sizeof(error)) < 0) {
		r = o.print ? 0 : -EINVAL;
		if (o.print)
			log_error("%s", error);
	}
	if (r < 0) {
		log_error("%s", error);
		config_free(server.config);
		return 1;
	}
	if (o.print) {
		r = config_print(server.config, stdout);
		config_free(server.config);
		return r < 0;
	}
	hold(stop, 2); /* not before: the file may be a pipe that somebody waits at */
	(void)umask(077);
	(void)signal(SIGPIPE, SIG_IGN);
	notify_init();
	server_init(&server, path, o.state, o.run);
	r = sandbox_harden();
	if (r == 0)
		r = seal_init();
	if (r < 0)
		log_error("cannot prepare itself: %s", strerror(-r));
	else
		r = start(&server);
	r = r < 0 ? 1 : server_run(&server);
	server_close(&server);
	return r;
}
