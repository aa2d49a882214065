/* SPDX-License-Identifier: ISC */
/*
 * openvpn_event: see the header.  Every variable that is read is named here,
 * and each once; what is not named here is not read.
 */
#include "openvpn_event.h"

#include <nolog/client.h>
#include <nolog/text.h>

struct reader {
	openvpn_getenv_fn *get;
	void *arg;
	const char *what;
};

static int bad(struct reader *r, const char *name)
{
	r->what = name;
	return -EINVAL;
}

/* OpenVPN sets some variables to nothing rather than not at all: both are "not set". */
static const char *value(struct reader *r, const char *name)
{
	const char *text = r->get(name, r->arg);

	return text && *text ? text : NULL;
}

/* 0 and *out, 0 without a change when it is not set, or -EINVAL. */
static int number(struct reader *r, const char *name, uint64_t max, uint64_t *out)
{
	const char *text = value(r, name);
	uint64_t v;

	if (!text)
		return 0;
	if (nolog_u64_parse(&v, text) < 0 || v > max)
		return bad(r, name);
	*out = v;
	return 0;
}

/* 1 and out when it is set, 0 when not, or -EINVAL. */
static int address(struct reader *r, const char *name, uint8_t out[NOLOG_IP_SIZE])
{
	const char *text = value(r, name);

	if (!text)
		return 0;
	if (nolog_ip_parse(out, text) < 0)
		return bad(r, name);
	return 1;
}

/* IPv4 before IPv6: OpenVPN has a variable for each family. */
static int either(struct reader *r, const char *v4, const char *v6, uint8_t out[NOLOG_IP_SIZE])
{
	int n = address(r, v4, out);

	return n != 0 ? n : address(r, v6, out);
}

static int read_times(struct reader *r, struct openvpn_event *e)
{
	uint64_t start = 0, duration = 0, daemon_start = 0, pid = 0;
	const char *text;

	if (!value(r, "time_unix"))
		return bad(r, "time_unix");
	if (number(r, "time_unix", OPENVPN_TIME_MAX, &start) < 0 ||
	    number(r, "daemon_start_time", OPENVPN_TIME_MAX, &daemon_start) < 0 ||
	    number(r, "daemon_pid", INT32_MAX, &pid) < 0)
		return -EINVAL;
	e->start_ms = (int64_t)start * 1000;
	e->daemon_start_ms = (int64_t)daemon_start * 1000;
	e->daemon_pid = (int32_t)pid;
	if (e->kind == OPENVPN_CONNECT)
		return 0;
	text = value(r, "time_duration");
	if (!text)
		return bad(r, "time_duration");
	/* A clock that was set back makes it negative; the session is over all the same. */
	if (text[0] == '-' && nolog_u64_parse(&duration, text + 1) == 0)
		duration = 0;
	else if (number(r, "time_duration", OPENVPN_TIME_MAX - start, &duration) < 0)
		return -EINVAL;
	e->end_ms = e->start_ms + (int64_t)duration * 1000;
	return 0;
}

static int read_addresses(struct reader *r, struct openvpn_event *e,
			  enum openvpn_session_ip session_ip)
{
	int n = either(r, "ifconfig_pool_remote_ip", "ifconfig_pool_remote_ip6", e->pool);

	if (n < 0)
		return n;
	e->has_pool = n == 1;
	if (session_ip == OPENVPN_IP_CLIENT) {
		/* At the end trusted_ip is where it has roamed to: the session keeps its address. */
		n = e->kind == OPENVPN_DISCONNECT
			    ? either(r, "untrusted_ip", "untrusted_ip6", e->ip)
			    : 0;
		if (n == 0)
			n = either(r, "trusted_ip", "trusted_ip6", e->ip);
		return n == 0 ? bad(r, "trusted_ip") : n < 0 ? n : 0;
	}
	if (!e->has_pool)
		return bad(r, "ifconfig_pool_remote_ip");
	memcpy(e->ip, e->pool, sizeof(e->ip));
	return 0;
}

static int read_usage(struct reader *r, struct openvpn_event *e, enum openvpn_account account)
{
	const char *name = account == OPENVPN_USERNAME ? "username" : "common_name";
	const char *text = value(r, name);

	if (text) {
		size_t len = strnlen(text, OPENVPN_NAME_MAX + 1);

		if (len > OPENVPN_NAME_MAX)
			return bad(r, name);
		nolog_account(e->account, text, len);
		e->has_account = true;
	}
	if (e->kind == OPENVPN_CONNECT)
		return 0;
	if (number(r, "bytes_received", UINT64_MAX, &e->rx) < 0 ||
	    number(r, "bytes_sent", UINT64_MAX, &e->tx) < 0)
		return -EINVAL;
	e->has_bytes = value(r, "bytes_received") && value(r, "bytes_sent");
	return 0;
}

/*
 * The handle: 64 bits of a hash of what stays the same from connect to
 * disconnect.  The untrusted address is the one the client first came from;
 * trusted_ip follows it when it roams, and is not used.
 */
static int make_handle(struct reader *r, struct openvpn_event *e)
{
	uint8_t in[14 + NOLOG_IP_SIZE + 8 + 8 + 8 + 8 + NOLOG_IP_SIZE] = "nolog-openvpn";
	uint8_t from[NOLOG_IP_SIZE] = { 0 }, hash[NOLOG_ACCOUNT_SIZE];
	uint8_t *p = in + 14;
	uint64_t port = 0;

	if (either(r, "untrusted_ip", "untrusted_ip6", from) < 0 ||
	    number(r, "untrusted_port", UINT16_MAX, &port) < 0)
		return -EINVAL;
	memcpy(p, from, NOLOG_IP_SIZE);
	nolog_put64(p + 16, port);
	nolog_put64(p + 24, (uint64_t)e->start_ms);
	nolog_put64(p + 32, (uint64_t)e->daemon_pid);
	nolog_put64(p + 40, (uint64_t)e->daemon_start_ms);
	memcpy(p + 48, e->pool, NOLOG_IP_SIZE);
	nolog_account(hash, in, sizeof(in));
	e->handle = nolog_get64(hash);
	return 0;
}

int openvpn_event_read(struct openvpn_event *out, enum openvpn_session_ip session_ip,
		       enum openvpn_account account, openvpn_getenv_fn *get, void *arg,
		       const char **what)
{
	struct reader r = { .get = get, .arg = arg };
	struct openvpn_event e = { 0 };
	const char *type = value(&r, "script_type");

	if (type && strcmp(type, "client-connect") == 0)
		e.kind = OPENVPN_CONNECT;
	else if (type && strcmp(type, "client-disconnect") == 0)
		e.kind = OPENVPN_DISCONNECT;
	else
		return -ENOENT;
	if (read_times(&r, &e) < 0 || read_addresses(&r, &e, session_ip) < 0 ||
	    read_usage(&r, &e, account) < 0 || make_handle(&r, &e) < 0) {
		*what = r.what;
		return -EINVAL;
	}
	*out = e;
	return 0;
}
