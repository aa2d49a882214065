/* SPDX-License-Identifier: ISC */
/*
 * ctl_reporter: making a reporter that has been welcomed, and start, end,
 * session and usage, which report one event over it and wait for its
 * acknowledgement.  Keeps no position: what was not acknowledged may or may
 * not have been kept, and is said to be so.
 */
#include "ctl_reporter.h"

#include "ctl_ask.h"
#include "ctl_event.h"
#include "ctl_out.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_MS 5000
#define ACKNOWLEDGE_MS 120000 /* nologd may commit usage once a minute only */

int64_t ctl_now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail */
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void ctl_json_refusal(FILE *out, unsigned code)
{
	(void)fprintf(out, ",\"code\":%u,\"reason\":", code);
	ctl_json_text(out, nolog_refusal_text(code));
}

/* True when nothing is there at all: then waiting for it would only look like work. */
static bool nobody(const struct ctl_args *args, enum nolog_role role)
{
	char path[128];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", ctl_run_dir(args), nolog_socket_name(role));

	return n > 0 && (size_t)n < sizeof(path) && stat(path, &st) < 0 &&
	       (errno == ENOENT || errno == ENOTDIR);
}

enum ctl_exit ctl_reporter_failed(const struct nolog_reporter *r, const struct ctl_args *args,
				  enum nolog_role role, int error)
{
	struct nolog_reporter_stats stats;

	nolog_reporter_stats(r, &stats);
	if (error == -EACCES && stats.connects > 0) {
		ctl_say("nologd refuses: this server may not report: %s (%u)",
			nolog_refusal_text(NOLOG_SERVER_NOT_ALLOWED), NOLOG_SERVER_NOT_ALLOWED);
		return CTL_NO;
	}
	if (error == -ETIMEDOUT && stats.connects == 0)
		error = -ECONNREFUSED; /* which is why it was tried again and again */
	else if (error == -ETIMEDOUT && stats.connects > 1)
		error = -EPIPE;
	ctl_ask_failed(args, role, error);
	return CTL_ERROR;
}

int ctl_reporter_open(struct nolog_reporter **out, const struct ctl_args *args,
		      enum nolog_role role, const struct nolog_reporter_options *options,
		      enum ctl_exit *exit_status)
{
	struct nolog_reporter_options o = *options;
	char server[NOLOG_SERVER_TEXT];
	struct nolog_reporter *r;
	int error;

	(void)nolog_server_format(server, args->server); /* was parsed: cannot fail */
	o.run_dir = ctl_run_dir(args);
	o.role = role;
	o.server = server;
	*exit_status = CTL_ERROR;
	error = nobody(args, role) ? -ENOENT : nolog_reporter_new(&r, &o);
	if (error < 0) {
		ctl_ask_failed(args, role, error);
		return error;
	}
	error = nolog_reporter_connect(r, CONNECT_MS);
	if (error < 0) {
		*exit_status = ctl_reporter_failed(r, args, role, error);
		nolog_reporter_free(r);
		return error;
	}
	*out = r;
	return 0;
}

static void refused(const struct nolog_frame *event, enum nolog_lost what, unsigned code, void *arg)
{
	(void)event;
	(void)what; /* nothing is lost otherwise without a stream */
	*(unsigned *)arg = code;
}

/* The answer to one event; code 0: it was taken. */
static void print_answer(const char *name, unsigned code, bool json)
{
	if (json) {
		(void)printf("{\"event\":\"%s\",\"accepted\":%s", name, code ? "false" : "true");
		if (code)
			ctl_json_refusal(stdout, code);
		(void)puts("}");
	} else if (code) {
		ctl_say("%s: refused: %s (%u)", name, nolog_refusal_text(code), code);
	}
}

static enum ctl_exit send_one(struct nolog_reporter *r, const struct ctl_args *args,
			      const struct nolog_frame *event, const char *name,
			      const unsigned *code)
{
	int error = nolog_reporter_send(r, event, NULL);

	if (error == 0)
		error = nolog_reporter_flush(r, ACKNOWLEDGE_MS);
	if (error == -EPIPE || error == -ETIMEDOUT) {
		ctl_say("%s: nologd %s: whether it was kept cannot be told", name,
			error == -EPIPE ? "closed the connection before it had acknowledged"
					: "did not acknowledge within two minutes");
		return CTL_ERROR;
	}
	if (error < 0)
		return ctl_reporter_failed(r, args, ctl_event_role(event), error);
	print_answer(name, *code, ctl_given(args, CTL_BIT(JSON)));
	return *code ? CTL_NO : CTL_YES;
}

enum ctl_exit ctl_one_event(const struct ctl_args *args, const char *name)
{
	const struct ctl_event *event = ctl_event_named(name);
	uint8_t account[NOLOG_ACCOUNT_SIZE] = { 0 };
	struct nolog_reporter *r;
	struct nolog_frame f;
	enum ctl_exit status;
	unsigned code = 0;
	const struct nolog_reporter_options options = {
		.one_shot = true, .queue_events = 1, .lost = refused, .arg = &code
	};

	if (event->type == NOLOG_USAGE && ctl_ask_account(account, STDIN_FILENO) < 0)
		return CTL_ERROR;
	ctl_event_frame(&f, event, args, account, ctl_now_ms());
	if (ctl_reporter_open(&r, args, ctl_event_role(&f), &options, &status) < 0) {
		if (status == CTL_NO && ctl_given(args, CTL_BIT(JSON)))
			print_answer(name, NOLOG_SERVER_NOT_ALLOWED, true);
		return status;
	}
	status = send_one(r, args, &f, name, &code);
	nolog_reporter_free(r);
	return status;
}
