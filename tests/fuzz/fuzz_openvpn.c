/* SPDX-License-Identifier: ISC */
/*
 * Fuzzes what nolog-openvpn reads: hooks' environments and status files, and
 * then what the book makes of them, in any order.
 *
 * An input is records of one byte of kind, two bytes of length (little-endian)
 * and that many bytes of text.
 */
#include "fuzz.h"
#include "openvpn_book.h"

#include <errno.h>
#include <stdlib.h>

#define MUST(condition)           \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

#define TEXT_MAX 65536

enum kind { ENVIRONMENT, STATUS_FILE, ACKNOWLEDGE, REFUSE, DIE, RETRY, KINDS };

/* Takes every frame, and checks that nologd would. */
struct sink {
	struct openvpn_book *book;
	uint64_t number[2];
	struct nolog_frame last;
	uint32_t random;
	int64_t now_ms;
};

static int sink_send(const struct nolog_frame *f, uint64_t *number, void *arg)
{
	enum nolog_role role = f->type == NOLOG_USAGE ? NOLOG_ROLE_USAGE : NOLOG_ROLE_SESSIONS;
	uint8_t wire[NOLOG_FRAME_SIZE];
	struct sink *s = arg;

	s->last = *f;
	s->last.seq = *number = ++s->number[role == NOLOG_ROLE_USAGE];
	nolog_frame_encode(wire, &s->last);
	MUST(nolog_frame_check(wire, role, true) == NOLOG_OK);
	MUST(f->type != NOLOG_USAGE || f->aux != 0);
	MUST(f->type != NOLOG_SESSION || f->u.session.start_ms <= f->u.session.end_ms);
	return 0;
}

static void sink_settled(uint64_t handle, unsigned code, void *arg)
{
	(void)handle;
	(void)code;
	(void)arg;
}

static uint32_t sink_random(void *arg)
{
	struct sink *s = arg;

	return ++s->random;
}

/* The text's lines are the variables. */
static const char *line_of(const char *name, void *arg)
{
	const char *text = arg;
	size_t len = strlen(name);
	static char value[TEXT_MAX + 1];

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, name, len) == 0 && text[len] == '=') {
			size_t n = strcspn(text + len + 1, "\n");

			memcpy(value, text + len + 1, n);
			value[n] = '\0';
			return value;
		}
		if (!*text)
			break;
	}
	return NULL;
}

static void environment(struct sink *s, char *text, unsigned flags)
{
	struct openvpn_event e;
	const char *what = NULL;
	int r = openvpn_event_read(&e, flags & 4 ? OPENVPN_IP_CLIENT : OPENVPN_IP_POOL,
				   flags & 8 ? OPENVPN_USERNAME : OPENVPN_COMMON_NAME, line_of,
				   text, &what);

	MUST(r == 0 || r == -ENOENT || (r == -EINVAL && what));
	if (r < 0)
		return;
	MUST(e.start_ms >= 0 && e.start_ms <= OPENVPN_TIME_MAX * 1000);
	MUST(e.kind == OPENVPN_CONNECT || e.end_ms >= e.start_ms);
	MUST(!nolog_all_zero(e.ip, sizeof(e.ip)) || line_of("script_type", text));
	r = openvpn_book_event(s->book, &e, flags & 3, e.start_ms);
	MUST(r == 0 || r == 1);
}

static void client(const struct openvpn_client *c, void *arg)
{
	struct sink *s = arg;

	MUST(c->start_ms >= 0 && c->start_ms <= OPENVPN_TIME_MAX * 1000);
	MUST(c->name || c->name_len == 0);
	openvpn_book_reading(s->book, c, s->now_ms);
}

static void status_file(struct sink *s, const char *text, size_t len, unsigned flags)
{
	/* A copy of just that size: what lies behind it must not be touched. */
	char *exact = malloc(len ? len : 1);

	MUST(exact);
	memcpy(exact, text, len);
	openvpn_book_readings_begin(s->book, flags & 16 ? 0 : INT64_MAX,
				    flags & 32 ? 0 : INT64_C(1795337399000));
	if (openvpn_status_read(exact, len, flags & 8 ? OPENVPN_USERNAME : OPENVPN_COMMON_NAME,
				client, s) == 0)
		openvpn_book_readings_end(s->book);
	s->now_ms += INT64_C(3600) * 1000 * (flags & 7);
	free(exact);
}

static void record(struct sink *s, enum kind kind, unsigned flags, char *text, size_t len)
{
	switch (kind) {
	case ENVIRONMENT:
		environment(s, text, flags);
		break;
	case STATUS_FILE:
		status_file(s, text, len, flags);
		break;
	case ACKNOWLEDGE:
		openvpn_book_acked(s->book, s->number[0], s->number[1]);
		break;
	case REFUSE:
		if (s->last.seq)
			openvpn_book_refused(s->book, &s->last, flags);
		break;
	case DIE:
		openvpn_book_died(s->book, INT64_C(1795337400000));
		break;
	case RETRY:
	case KINDS:
		openvpn_book_retry(s->book);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[TEXT_MAX + 1];
	struct sink s = { 0 };
	const struct openvpn_book_ops ops = { sink_send, sink_settled, sink_random, &s };
	size_t open;

	MUST(openvpn_book_new(&s.book, &ops) == 0);
	while (size >= 3) {
		size_t len = nolog_get16(data + 1);
		unsigned kind = data[0];

		data += 3;
		size -= 3;
		len = len < size ? len : size;
		memcpy(text, data, len);
		text[len] = '\0';
		record(&s, kind % KINDS, kind / KINDS, text, len);
		data += len;
		size -= len;
	}
	/* Once nologd has everything and the server is dead, nothing is left. */
	openvpn_book_died(s.book, INT64_MAX);
	for (unsigned i = 0; i < 3; i++) {
		openvpn_book_acked(s.book, s.number[0], s.number[1]);
		openvpn_book_retry(s.book);
	}
	open = openvpn_book_open(s.book);
	MUST(open == 0 && openvpn_book_pending(s.book) == 0);
	openvpn_book_free(s.book);
	return 0;
}

static const char connect_text[] =
	"script_type=client-connect\ntime_unix=1795337341\ndaemon_pid=18350\n"
	"daemon_start_time=1795337340\ncommon_name=alice\nusername=bob\n"
	"ifconfig_pool_remote_ip=10.8.0.2\nifconfig_pool_remote_ip6=fd00:8::1000\n"
	"trusted_ip=203.0.113.77\nuntrusted_ip=203.0.113.77\nuntrusted_port=46099\n";
static const char disconnect_text[] =
	"script_type=client-disconnect\ntime_unix=1795337341\ntime_duration=9\ndaemon_pid=18350\n"
	"daemon_start_time=1795337340\ncommon_name=alice\nusername=bob\nbytes_received=7426\n"
	"bytes_sent=7463\nifconfig_pool_remote_ip=10.8.0.2\ntrusted_ip6=2001:db8::9\n"
	"untrusted_ip=203.0.113.77\nuntrusted_port=46099\n";
static const char status_text[] =
	"TITLE,OpenVPN 2.6.14\nTIME,2026-11-22 08:49:07,1795337347\n"
	"HEADER,CLIENT_LIST,Common Name,Real Address,Virtual Address,Virtual IPv6 Address,"
	"Bytes Received,Bytes Sent,Connected Since,Connected Since (time_t),Username,Client ID,"
	"Peer ID,Data Channel Cipher\n"
	"CLIENT_LIST,alice,203.0.113.77:37358,10.8.0.2,fd00:8::1000,7248,7277,"
	"2026-11-22 08:49:01,1795337341,UNDEF,0,0,AES-256-GCM\nGLOBAL_STATS,dco_enabled,0\nEND\n";

static size_t put(uint8_t *out, size_t at, size_t max, unsigned kind, const char *text)
{
	size_t len = strlen(text);

	if (at + 3 + len > max)
		return at;
	out[at] = (uint8_t)kind;
	nolog_put16(out + at + 1, (uint16_t)len);
	for (size_t i = 0; i < len; i++)
		out[at + 3 + i] = (uint8_t)text[i];
	return at + 3 + len;
}

size_t fuzz_seed(unsigned n, uint8_t *out, size_t max)
{
	/* A life of a session, more of it in each seed; odd seeds with other flags. */
	static const struct {
		unsigned kind;
		const char *text;
	} life[] = {
		{ ENVIRONMENT, connect_text },
		{ ACKNOWLEDGE, "" },
		{ STATUS_FILE, status_text },
		{ ACKNOWLEDGE, "" },
		{ ENVIRONMENT, disconnect_text },
		{ REFUSE, "" },
		{ ACKNOWLEDGE, "" },
		{ DIE, "" },
	};
	size_t count = sizeof(life) / sizeof(life[0]), at = 0;

	if (n >= 2 * count)
		return 0;
	for (size_t i = n / 2; i < count; i++)
		at = put(out, at, max, life[i].kind + (n % 2 ? KINDS * 8 : KINDS), life[i].text);
	return at;
}
