/* SPDX-License-Identifier: ISC */
/*
 * nolog-bench: loads over the real sockets, and the machine's own limit in the
 * same run.
 *
 * It reports as any VPN server would, through the client library, and counts
 * an event when nologd has acknowledged it, which is when it is durable.  The
 * addresses it reports are of 198.18.0.0/15, which RFC 2544 keeps for this.
 */
#include "bench_limit.h"

#include "seal.h"

#include <nolog/client.h>
#include <nolog/text.h>

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define BURST 1024 /* events queued between two looks at the sockets */

struct options {
	const char *run, *dir;
	bool json, limit_only;
	uint64_t connections, events, open, repeat;
	double seconds; /* of each limit */
};

/* One simulated VPN server on one connection. */
struct server {
	struct nolog_reporter *reporter;
	uint64_t to_send, sent;
	uint64_t started, ended; /* handles are counted from 1 */
	uint64_t open;		 /* sessions it keeps open */
};

static const char usage_text[] =
	"usage: nolog-bench [--run DIR] [--json] sessions [options]\n"
	"       nolog-bench [--json] --limit\n"
	"\n"
	"Loads:\n"
	"  sessions           START and END of sessions, durable and acknowledged\n"
	"\n"
	"Options:\n"
	"  --run DIR          nologd's sockets (default " NOLOG_RUN_DIR ")\n"
	"  --connections N    reporters at the same time (default 1)\n"
	"  --events N         events in all (default 2000000)\n"
	"  --open N           sessions kept open (default 100000)\n"
	"  --repeat N         measure N times, give the median (default 3)\n"
	"  --dir DIR          where the limit is measured: the store's disk (default .)\n"
	"  --seconds N        how long each limit is measured (default 3)\n"
	"  --limit            measure the machine's own limit only\n"
	"  --json             one object a line\n"
	"  --help, --version\n";

static double now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int64_t wall_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void address(uint8_t ip[NOLOG_IP_SIZE], uint64_t n)
{
	const uint8_t v4[4] = { 198, (uint8_t)(18 + (n >> 16) % 2), (uint8_t)(n >> 8), (uint8_t)n };

	nolog_ip_from_v4(ip, v4);
}

/* Queues the next events of a server; 0, or -EAGAIN when its queue is full. */
static int load(struct server *s, int64_t now)
{
	uint8_t ip[NOLOG_IP_SIZE];
	int r = 0;

	for (unsigned i = 0; i < BURST && s->sent < s->to_send && r == 0; i++) {
		if (s->started - s->ended < s->open) {
			address(ip, s->started);
			r = nolog_report_start(s->reporter, s->started + 1, now, ip);
			s->started += r == 0;
		} else {
			r = nolog_report_end(s->reporter, s->ended + 1, now);
			s->ended += r == 0;
		}
		s->sent += r == 0;
	}
	return r;
}

static uint64_t acknowledged(const struct server *s, uint64_t *refused)
{
	struct nolog_reporter_stats stats;

	nolog_reporter_stats(s->reporter, &stats);
	*refused += stats.refused + stats.dropped;
	return stats.acknowledged;
}

/* Drives all servers until everything is acknowledged. */
static int drive(struct server *servers, size_t n)
{
	struct pollfd fds[CONNECTIONS_MAX];

	for (;;) {
		bool busy = false, full = true;
		uint64_t refused = 0;

		for (size_t i = 0; i < n; i++) {
			struct server *s = &servers[i];
			int r = load(s, wall_ms());

			if (r < 0 && r != -EAGAIN)
				return r;
			full &= r == -EAGAIN || s->sent == s->to_send;
			r = nolog_reporter_step(s->reporter);
			if (r < 0)
				return r;
			busy |= acknowledged(s, &refused) < s->to_send;
			fds[i].fd = nolog_reporter_fd(s->reporter);
			fds[i].events = nolog_reporter_events(s->reporter);
		}
		if (!busy)
			return refused ? -EBADMSG : 0;
		if (full && poll(fds, n, 100) < 0 && errno != EINTR)
			return -errno;
	}
}

static int run_sessions(const struct options *o, double *events_s)
{
	static struct server servers[CONNECTIONS_MAX];
	uint64_t events = o->events / o->connections * o->connections;
	char name[NOLOG_SERVER_TEXT];
	double began;
	int r = 0;

	memset(servers, 0, sizeof(servers));
	for (size_t i = 0; i < o->connections && r == 0; i++) {
		struct nolog_reporter_options ro = { .run_dir = o->run, .server = name };
		uint16_t id;

		/* A new server every time, so that no run meets another's open sessions. */
		seal_random(&id, sizeof(id));
		(void)snprintf(name, sizeof(name), "bench-%04x-%u", id, (unsigned)(i % 1000));
		r = nolog_reporter_new(&servers[i].reporter, &ro);
		servers[i].to_send = o->events / o->connections;
		servers[i].open = o->open / o->connections + 1;
	}
	began = now_s();
	if (r == 0)
		r = drive(servers, o->connections);
	*events_s = (double)events / (now_s() - began);
	/* What is left open is ended, outside the measured time. */
	for (size_t i = 0; i < o->connections; i++) {
		if (r == 0)
			r = nolog_report_restart(servers[i].reporter, wall_ms() + 1);
		if (r == 0)
			r = nolog_reporter_flush(servers[i].reporter, 60000);
		nolog_reporter_free(servers[i].reporter);
	}
	return r;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_limits(const struct options *o, const struct bench_limits *l)
{
	if (o->json) {
		(void)printf("{\"limit\":{\"lmdb_events_per_second\":%.0f,\"fdatasync_us\":%.0f,"
			     "\"socket_frames_per_second\":%.0f,\"seal_mib_per_second\":%.0f}}\n",
			     l->lmdb_events_s, l->fdatasync_us, l->socket_frames_s, l->seal_mib_s);
		return;
	}
	(void)printf("limit of this machine\n"
		     "  LMDB, 48 bytes an event, a durable commit per 1,000   %12.0f events/s\n"
		     "  4 KiB overwrite and fdatasync, median                 %12.0f us\n"
		     "  Unix socket, 64-byte frames                           %12.0f frames/s\n"
		     "  sealing                                               %12.0f MiB/s\n",
		     l->lmdb_events_s, l->fdatasync_us, l->socket_frames_s, l->seal_mib_s);
}

static void print_load(const struct options *o, const double *v, const struct bench_limits *l)
{
	double median = v[o->repeat / 2], least = v[0], most = v[o->repeat - 1];

	if (o->json) {
		(void)printf("{\"load\":\"sessions\",\"connections\":%llu,\"events\":%llu,"
			     "\"open\":%llu,\"runs\":%llu,\"events_per_second\":%.0f,"
			     "\"min\":%.0f,\"max\":%.0f,\"of_limit\":%.3f}\n",
			     (unsigned long long)o->connections, (unsigned long long)o->events,
			     (unsigned long long)o->open, (unsigned long long)o->repeat, median,
			     least, most, median / l->lmdb_events_s);
		return;
	}
	(void)printf("sessions: START and END, durable and acknowledged\n"
		     "  %llu connections, %llu events, %llu open, %llu runs\n"
		     "  median %.0f events/s (%.0f to %.0f), %.0f %% of the limit\n",
		     (unsigned long long)o->connections, (unsigned long long)o->events,
		     (unsigned long long)o->open, (unsigned long long)o->repeat, median, least,
		     most, 100 * median / l->lmdb_events_s);
}

static int number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	if (nolog_u64_parse(out, text) == 0 && *out >= min && *out <= max)
		return 0;
	(void)fprintf(stderr, "nolog-bench: --%s %s: a whole number from %llu to %llu is wanted\n",
		      option, text, (unsigned long long)min, (unsigned long long)max);
	return -EINVAL;
}

/* 0 go on, 1 done, 2 wrong usage. */
static int read_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "run", required_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ "connections", required_argument, NULL, 'c' },
		{ "events", required_argument, NULL, 'e' },
		{ "open", required_argument, NULL, 'o' },
		{ "repeat", required_argument, NULL, 'n' },
		{ "dir", required_argument, NULL, 'd' },
		{ "seconds", required_argument, NULL, 's' },
		{ "limit", no_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t seconds = 3;
	int c, r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'r':
			o->run = optarg;
			break;
		case 'd':
			o->dir = optarg;
			break;
		case 'j':
			o->json = true;
			break;
		case 'l':
			o->limit_only = true;
			break;
		case 'c':
			r = number("connections", optarg, 1, CONNECTIONS_MAX, &o->connections);
			break;
		case 'e':
			r = number("events", optarg, 1, UINT64_C(1) << 40, &o->events);
			break;
		case 'o':
			r = number("open", optarg, 1, UINT64_C(1) << 32, &o->open);
			break;
		case 'n':
			r = number("repeat", optarg, 1, 99, &o->repeat);
			break;
		case 's':
			r = number("seconds", optarg, 1, 3600, &seconds);
			break;
		case 'h':
			(void)fputs(usage_text, stdout);
			return 1;
		case 'V':
			(void)puts("nolog-bench " NOLOG_VERSION_TEXT);
			return 1;
		default:
			(void)fputs(usage_text, stderr);
			return 2;
		}
	}
	o->seconds = (double)seconds;
	if (r < 0)
		return 2;
	if (!o->limit_only && (optind + 1 != argc || strcmp(argv[optind], "sessions") != 0)) {
		(void)fputs(usage_text, stderr);
		return 2;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct options o = {
		.dir = ".",
		.connections = 1,
		.events = 2000000,
		.open = 100000,
		.repeat = 3,
	};
	struct bench_limits limits = { 0 };
	double results[99];
	int r = read_options(argc, argv, &o);

	if (r)
		return r == 1 ? 0 : 2;
	r = seal_init();
	if (r == 0)
		r = bench_limits(&limits, o.dir, o.seconds);
	if (r < 0) {
		(void)fprintf(stderr, "nolog-bench: %s: the limit cannot be measured there: %s\n",
			      o.dir, strerror(-r));
		return 2;
	}
	print_limits(&o, &limits);
	if (o.limit_only)
		return 0;
	for (uint64_t i = 0; i < o.repeat; i++) {
		r = run_sessions(&o, &results[i]);
		if (r < 0) {
			(void)fprintf(stderr, "nolog-bench: the load failed: %s\n",
				      r == -EBADMSG ? "events were refused" : strerror(-r));
			return 2;
		}
	}
	qsort(results, o.repeat, sizeof(results[0]), compare);
	print_load(&o, results, &limits);
	return 0;
}
