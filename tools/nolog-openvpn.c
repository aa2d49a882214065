/* SPDX-License-Identifier: ISC */
/*
 * nolog-openvpn: the client-connect and client-disconnect hook of an OpenVPN
 * server, nolog-openvpn(8).
 *
 *	hook's variables		openvpn_event
 *	where is the status file	openvpn_find
 *	  | event
 *	hand it over			openvpn_hand	(starts the agent)
 *	  | socket in memory
 *	background process		openvpn_agent	one for each server ID
 *	  status file			openvpn_statusfile, openvpn_status
 *	  what to report		openvpn_book
 *	  | frames
 *	nologd				the client library
 *
 * OpenVPN waits for its hooks, and refuses a client whose hook fails.  So this
 * one returns as soon as the event is in other hands, and as a hook it ends with
 * 0 whatever happens: accounting is not worth a user's connection.
 */
#include "openvpn_find.h"
#include "openvpn_hand.h"
#include "openvpn_status.h"
#include "openvpn_statusfile.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <nolog/client.h>
#include <nolog/text.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef NOLOG_VERSION_TEXT
#error "NOLOG_VERSION_TEXT comes from the Makefile"
#endif

#define TICK_DEFAULT_MS 60000
#define TICK_MIN_MS 1000
#define TICK_MAX_MS (INT64_C(12) * 3600 * 1000) /* a meter must be read daily */
#define CHECK_MS 2000

struct options {
	const char *server;
	enum openvpn_session_ip session_ip;
	enum openvpn_account account;
	int64_t tick_ms; /* 0: not given */
	bool check;
	char run_dir[PATH_MAX];
	char status[OPENVPN_PATH_MAX];
};

static const char usage[] =
	"usage: nolog-openvpn [--run DIR] --server S [--session-ip pool|client]\n"
	"                     [--account common_name|username] [--status FILE] [--tick DURATION]\n"
	"                     [ARGUMENT ...]\n"
	"       nolog-openvpn --check ...the same options\n"
	"       nolog-openvpn --help | --version\n";

static const char help[] =
	"\n"
	"OpenVPN's client-connect and client-disconnect hook: reports sessions and bytes\n"
	"to nologd.\n"
	"\n"
	"  --run DIR         directory of nologd's sockets (default " NOLOG_RUN_DIR ")\n"
	"  --server S        this OpenVPN server's ID; each has its own\n"
	"  --session-ip W    what a session's address is: the one given to the client\n"
	"                    (pool, the default) or the one it comes from (client)\n"
	"  --account W       whose bytes they are: common_name (the default) or username\n"
	"  --status FILE     OpenVPN's status file, version 2 or 3, from which bytes are\n"
	"                    reported while a session lasts (by default it is looked for)\n"
	"  --tick DURATION   how often that is read (1s to 12h; by default as often as\n"
	"                    OpenVPN writes it, if that is known, or 60s)\n"
	"  --check           try whether all this works, say so, and change nothing\n"
	"\n"
	"In the server's configuration:\n"
	"  script-security 2\n"
	"  client-connect \"/usr/local/sbin/nolog-openvpn --server nl-ams-03\"\n"
	"  client-disconnect \"/usr/local/sbin/nolog-openvpn --server nl-ams-03\"\n";

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	char line[1024];
	va_list ap;

	/* One write, so that lines of several hooks do not mix in OpenVPN's log. */
	va_start(ap, format);
	(void)vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	(void)fprintf(stderr, "nolog-openvpn: %s\n", line);
}

/* --- Options ------------------------------------------------------------- */

enum option_id { RUN = 256, SERVER, SESSION_IP, ACCOUNT, STATUS, TICK, CHECK, HELP, VERSION };

static const struct option long_options[] = {
	{ "run", required_argument, NULL, RUN },
	{ "server", required_argument, NULL, SERVER },
	{ "session-ip", required_argument, NULL, SESSION_IP },
	{ "account", required_argument, NULL, ACCOUNT },
	{ "status", required_argument, NULL, STATUS },
	{ "tick", required_argument, NULL, TICK },
	{ "check", no_argument, NULL, CHECK },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ 0 },
};

/* An absolute path: the background process leaves the directory that OpenVPN runs in. */
static int set_path(char *out, size_t size, const char *path, const char *option)
{
	char here[PATH_MAX];
	int n;

	if (path[0] == '\0') {
		complain("%s needs a path", option);
		return -EINVAL;
	}
	if (path[0] == '/') {
		n = snprintf(out, size, "%s", path);
	} else if (getcwd(here, sizeof(here))) {
		n = snprintf(out, size, "%s/%s", here, path);
	} else {
		complain("%s: no current directory for %s: %s", option, path, strerror(errno));
		return -EINVAL;
	}
	if (n < 0 || (size_t)n >= size) {
		complain("%s: the path is too long (at most %zu bytes)", option, size - 1);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* The index of text among n words, or -EINVAL after a line about it. */
static int set_word(const char *text, const char *const words[2], const char *option)
{
	for (int i = 0; i < 2; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	complain("%s is %s or %s, not %s", option, words[0], words[1], text);
	return -EINVAL;
}

static int set_tick(struct options *o, const char *text)
{
	if (nolog_duration_parse(&o->tick_ms, text) == 0 && o->tick_ms >= TICK_MIN_MS &&
	    o->tick_ms <= TICK_MAX_MS)
		return 0;
	complain("--tick is a duration from 1s to 12h, not %s", text);
	return -EINVAL;
}

static int set_option(struct options *o, int id, const char *value)
{
	static const char *const ips[] = { "pool", "client" };
	static const char *const accounts[] = { "common_name", "username" };
	uint8_t server[NOLOG_SERVER_SIZE];
	/* sun_path, with the longest socket's name behind it. */
	size_t run_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - strlen("/sessions.sock");
	int r;

	switch (id) {
	case RUN:
		return set_path(o->run_dir, run_max, value, "--run");
	case SERVER:
		o->server = value;
		if (nolog_server_parse(server, value) == 0)
			return 0;
		complain("--server is 1 to 16 of a-z, 0-9, dot and hyphen, not %s", value);
		return -EINVAL;
	case SESSION_IP:
		r = set_word(value, ips, "--session-ip");
		o->session_ip = r == 1 ? OPENVPN_IP_CLIENT : OPENVPN_IP_POOL;
		return r < 0 ? r : 0;
	case ACCOUNT:
		r = set_word(value, accounts, "--account");
		o->account = r == 1 ? OPENVPN_USERNAME : OPENVPN_COMMON_NAME;
		return r < 0 ? r : 0;
	case STATUS:
		return set_path(o->status, sizeof(o->status), value, "--status");
	case TICK:
		return set_tick(o, value);
	case CHECK:
		o->check = true;
		return 0;
	default:
		return -EINVAL; /* getopt has said why */
	}
}

/* 0; 1: help or version was printed; -EINVAL after a line about it. */
static int read_options(struct options *o, int argc, char **argv)
{
	int id;

	*o = (struct options){ .run_dir = NOLOG_RUN_DIR };
	/* "+": OpenVPN's own arguments follow, and are not looked at. */
	while ((id = getopt_long(argc, argv, "+", long_options, NULL)) != -1) {
		if (id == HELP || id == VERSION) {
			if (id == HELP)
				(void)printf("%s%s", usage, help);
			else
				(void)printf("nolog-openvpn %s\n", NOLOG_VERSION_TEXT);
			return 1;
		}
		if (set_option(o, id, optarg) < 0)
			return -EINVAL;
	}
	if (!o->server) {
		complain("--server is missing");
		return -EINVAL;
	}
	return 0;
}

/* --- The hook ------------------------------------------------------------ */

static void complain_sessions(const struct options *o, const struct openvpn_answer *a)
{
	switch ((enum openvpn_outcome)a->sessions) {
	case OPENVPN_DONE:
		break;
	case OPENVPN_REFUSED:
		complain("nologd refuses the session: %s", nolog_refusal_text(a->code));
		break;
	case OPENVPN_LATE:
		complain("nologd in %s is slow; the session is kept in memory until it answers",
			 o->run_dir);
		break;
	case OPENVPN_AWAY:
		complain("no nologd in %s; the session is kept in memory and sent later",
			 o->run_dir);
		break;
	case OPENVPN_DENIED:
		complain("nologd in %s takes no reports of server %s from this user", o->run_dir,
			 o->server);
		break;
	case OPENVPN_STRANGE:
		complain("what answers in %s is not nologd", o->run_dir);
		break;
	case OPENVPN_FULL:
		complain("too many sessions, or no memory: this one is not reported");
		break;
	case OPENVPN_UNHEARD:
		complain("the background process does not answer");
		break;
	}
}

static void complain_usage(const struct options *o, const struct openvpn_answer *a)
{
	if (a->sessions != OPENVPN_DONE && a->sessions != OPENVPN_REFUSED)
		return; /* one line is enough */
	if (a->usage == OPENVPN_AWAY)
		complain("no nologd on %s/usage.sock; bytes are kept in memory and sent later",
			 o->run_dir);
	else if (a->usage == OPENVPN_REFUSED)
		complain("nologd refuses byte counts: %s", nolog_refusal_text(a->usage_code));
	else if (a->usage != OPENVPN_DONE)
		complain("nologd in %s takes no byte counts of server %s from this user",
			 o->run_dir, o->server);
}

static const char *from_environment(const char *name, void *arg)
{
	(void)arg;
	return getenv(name);
}

/* The status file and its tick: as the options say, else as the server's process does. */
static void set_status(struct openvpn_message *m, const struct options *o)
{
	struct openvpn_found found = { 0 };
	char proc[32];

	memcpy(m->status, o->status, sizeof(m->status));
	m->tick_ms = o->tick_ms;
	if (m->watch && !m->status[0]) {
		(void)snprintf(proc, sizeof(proc), "/proc/%d", (int)m->event.daemon_pid);
		if (openvpn_find_status(&found, proc, getenv("config")) == 0)
			memcpy(m->status, found.path, sizeof(m->status));
		if (m->tick_ms == 0 && found.tick_ms >= TICK_MIN_MS && found.tick_ms <= TICK_MAX_MS)
			m->tick_ms = found.tick_ms;
	}
	if (m->tick_ms == 0)
		m->tick_ms = TICK_DEFAULT_MS;
}

static void run_hook(const struct options *o)
{
	struct openvpn_message m = { .account = o->account };
	struct openvpn_answer answer;
	const char *what = NULL;
	int r = openvpn_event_read(&m.event, o->session_ip, o->account, from_environment, NULL,
				   &what);

	if (r == -ENOENT) {
		complain("this is a hook for client-connect and client-disconnect only");
		return;
	}
	if (r < 0) {
		complain("%s is missing or is nothing OpenVPN writes: not reported", what);
		return;
	}
	if (!m.event.has_account && m.event.kind == OPENVPN_CONNECT)
		complain("%s is not set: this session's bytes are not counted",
			 o->account == OPENVPN_USERNAME ? "username" : "common_name");
	m.watch = openvpn_called_by(m.event.daemon_pid);
	set_status(&m, o);
	openvpn_hand_over(o->run_dir, o->server, &m, &answer);
	complain_sessions(o, &answer);
	complain_usage(o, &answer);
	if (answer.blind)
		complain("no status file of OpenVPN's can be read: bytes count at a session's end");
	if (m.counted && m.event.has_account)
		complain(
			"no background process knows this session: its bytes may have been counted "
			"before and are left out");
	if (answer.shared)
		complain("another running OpenVPN server reports as %s: give each its own --server",
			 o->server);
}

/* --- --check ------------------------------------------------------------- */

/* Says HELLO and nothing else. */
static int check_socket(const struct options *o, enum nolog_role role)
{
	struct nolog_reporter_options options = {
		.run_dir = o->run_dir, .role = role, .server = o->server, .one_shot = true
	};
	const char *name = nolog_socket_name(role);
	struct nolog_reporter *reporter;
	int r = nolog_reporter_new(&reporter, &options);

	if (r == 0) {
		r = nolog_reporter_connect(reporter, CHECK_MS);
		nolog_reporter_free(reporter);
	}
	if (r == 0)
		(void)printf("%s/%s: takes reports of server %s\n", o->run_dir, name, o->server);
	else
		complain("%s/%s: %s", o->run_dir, name,
			 r == -EACCES	   ? "takes no reports of this server from this user"
			 : r == -ETIMEDOUT ? "no nologd there, or it does not answer"
			 : r == -EPROTO	   ? "what answers is not nologd"
					   : strerror(-r));
	return r;
}

static void count_client(const struct openvpn_client *client, void *arg)
{
	size_t *count = arg;

	(void)client;
	(*count)++;
}

static int check_status(const struct options *o)
{
	struct openvpn_statusfile file = { 0 };
	const char *text;
	size_t len, count = 0;
	int64_t now = 0; /* a clock that runs by waiting */
	int r;

	openvpn_statusfile_set(&file, o->status, TICK_DEFAULT_MS, now);
	while ((r = openvpn_statusfile_step(&file, now, &text, &len)) == 0) {
		(void)poll(NULL, 0, OPENVPN_SETTLE_MS);
		now += OPENVPN_SETTLE_MS;
	}
	if (r == 1)
		r = openvpn_status_read(text, len, o->account, count_client, &count);
	openvpn_statusfile_done(&file);
	if (r == 0)
		(void)printf("%s: %zu clients\n", o->status, count);
	else
		complain("%s: %s", o->status,
			 r == -EBADMSG ? "no status file of version 2 or 3 (status-version 2)"
				       : strerror(-r));
	return r;
}

static int run_check(const struct options *o)
{
	int bad = check_socket(o, NOLOG_ROLE_SESSIONS) < 0;

	bad |= check_socket(o, NOLOG_ROLE_USAGE) < 0;
	if (o->status[0])
		bad |= check_status(o) < 0;
	return bad;
}

/*
 * Whoever calls this with standard input, output or error closed would have what
 * is opened next in their place: a socket, which a message is printed to, or which
 * the background process closes.  In a chroot without /dev/null a directory serves.
 */
static void fill_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			fd = open("/", O_RDONLY | O_DIRECTORY);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}

int main(int argc, char **argv)
{
	struct options o;
	bool hook = getenv("script_type") != NULL;
	int r;

	fill_standard_descriptors();
	r = read_options(&o, argc, argv);
	if (r == 1)
		return fflush(stdout) == 0 ? 0 : 2;
	if (r < 0) {
		/* A slip in the server's configuration must not shut its users out. */
		if (!hook)
			(void)fputs(usage, stderr);
		return hook ? 0 : 2;
	}
	if (o.check)
		return run_check(&o);
	if (!hook) {
		complain("OpenVPN calls this program; try --check or --help");
		return 2;
	}
	run_hook(&o);
	return 0;
}
