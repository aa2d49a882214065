/* SPDX-License-Identifier: ISC */
/*
 * nolog-openvpn's decisions: what a hook's variables mean, what a status file
 * says, and what is reported of both.  The environments and status files are
 * those that a real OpenVPN 2.6.14 produced, with an invented user.
 */
#include "openvpn_book.h"
#include "openvpn_find.h"
#include "openvpn_statusfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <nolog/client.h>
#include <nolog/text.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define START_S 1795337341
#define DAEMON_S 1795337340

/* --- Environments -------------------------------------------------------- */

/* As it was, except for some of the digests, of which one says enough. */
static const char captured_connect[] =
	"PWD=/etc/openvpn\n"
	"X509_0_CN=alice\n"
	"X509_1_CN=test-ca\n"
	"client_connect_config_file=/tmp/openvpn_cc_4a4ef55f532d046d4599d7472099745f.tmp\n"
	"client_connect_deferred_file=/tmp/openvpn_ccr_260a21250f9d9cce39a9a7b4e0b3873d.tmp\n"
	"common_name=alice\n"
	"config=s.conf\n"
	"daemon=0\n"
	"daemon_log_redirect=0\n"
	"daemon_pid=18350\n"
	"daemon_start_time=1795337340\n"
	"dev=tun0\n"
	"dev_type=tun\n"
	"ifconfig_ipv6_local=fd00:8::1\n"
	"ifconfig_ipv6_netbits=64\n"
	"ifconfig_ipv6_remote=fd00:8::2\n"
	"ifconfig_local=10.8.0.1\n"
	"ifconfig_netmask=255.255.255.0\n"
	"ifconfig_pool_ip6_netbits=64\n"
	"ifconfig_pool_local_ip6=fd00:8::1\n"
	"ifconfig_pool_netmask=255.255.255.0\n"
	"ifconfig_pool_remote_ip6=fd00:8::1000\n"
	"ifconfig_pool_remote_ip=10.8.0.2\n"
	"local_port_1=1194\n"
	"proto_1=udp6\n"
	"redirect_gateway=0\n"
	"remote_port_1=1194\n"
	"script_context=init\n"
	"script_type=client-connect\n"
	"time_ascii=2026-11-22 08:49:01\n"
	"time_unix=1795337341\n"
	"tls_digest_0=7d:5d:15:21:b5:f6:2d:5f:38:da:cc:77:0b:20:99:2e:50:b2:9d:7e\n"
	"tls_id_0=CN=alice\n"
	"tls_serial_0=30894287877068652884309468903861041725262381998\n"
	"trusted_ip=203.0.113.77\n"
	"trusted_port=46099\n"
	"tun_mtu=1500\n"
	"untrusted_ip=203.0.113.77\n"
	"untrusted_port=46099\n"
	"verb=4\n";

static const char captured_disconnect[] = "bytes_received=7426\n"
					  "bytes_sent=7463\n"
					  "common_name=alice\n"
					  "config=s.conf\n"
					  "daemon=0\n"
					  "daemon_log_redirect=0\n"
					  "daemon_pid=18350\n"
					  "daemon_start_time=1795337340\n"
					  "dev=tun0\n"
					  "ifconfig_pool_remote_ip6=fd00:8::1000\n"
					  "ifconfig_pool_remote_ip=10.8.0.2\n"
					  "script_context=init\n"
					  "script_type=client-disconnect\n"
					  "time_ascii=2026-11-22 08:49:01\n"
					  "time_duration=9\n"
					  "time_unix=1795337341\n"
					  "trusted_ip=203.0.113.77\n"
					  "trusted_port=46099\n"
					  "untrusted_ip=203.0.113.77\n"
					  "untrusted_port=46099\n";

#define VARS_MAX 64

/* An environment of its own: a captured one, with some variables changed. */
struct env {
	char *line[VARS_MAX];
	size_t count;
	char asked[VARS_MAX][40]; /* what was read */
	size_t asked_count;
};

static void env_set(struct env *e, const char *line)
{
	size_t name = (size_t)(strchr(line, '=') - line) + 1;
	size_t i = 0;

	while (i < e->count && strncmp(e->line[i], line, name) != 0)
		i++;
	if (i < e->count)
		free(e->line[i]);
	else
		e->count++;
	assert_true(e->count <= VARS_MAX);
	e->line[i] = strdup(line);
	assert_non_null(e->line[i]);
}

static void env_unset(struct env *e, const char *name)
{
	for (size_t i = 0; i < e->count; i++)
		if (strncmp(e->line[i], name, strlen(name)) == 0 &&
		    e->line[i][strlen(name)] == '=') {
			free(e->line[i]);
			e->line[i] = e->line[--e->count];
			return;
		}
}

static struct env *env_new(const char *text)
{
	struct env *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	while (*text) {
		size_t len = strcspn(text, "\n");
		char *line = strndup(text, len);

		assert_non_null(line);
		env_set(e, line);
		free(line);
		text += len + 1;
	}
	return e;
}

static void env_free(struct env *e)
{
	for (size_t i = 0; i < e->count; i++)
		free(e->line[i]);
	free(e);
}

static const char *env_get(const char *name, void *arg)
{
	struct env *e = arg;

	assert_true(e->asked_count < VARS_MAX);
	(void)snprintf(e->asked[e->asked_count++], sizeof(e->asked[0]), "%s", name);
	for (size_t i = 0; i < e->count; i++)
		if (strncmp(e->line[i], name, strlen(name)) == 0 && e->line[i][strlen(name)] == '=')
			return e->line[i] + strlen(name) + 1;
	return NULL;
}

static int env_read(struct env *e, struct openvpn_event *out)
{
	const char *what = NULL;
	int r = openvpn_event_read(out, OPENVPN_IP_POOL, OPENVPN_COMMON_NAME, env_get, e, &what);

	assert_int_equal(what != NULL, r == -EINVAL);
	return r;
}

/* The event of a captured environment with changes, a NULL-terminated list of lines. */
static struct openvpn_event event_of(const char *captured, ...)
{
	struct env *e = env_new(captured);
	struct openvpn_event out;
	const char *line;
	va_list ap;

	va_start(ap, captured);
	while ((line = va_arg(ap, const char *)))
		env_set(e, line);
	va_end(ap);
	assert_int_equal(env_read(e, &out), 0);
	env_free(e);
	return out;
}

static void assert_ip(const uint8_t ip[NOLOG_IP_SIZE], const char *text)
{
	uint8_t want[NOLOG_IP_SIZE];

	assert_int_equal(nolog_ip_parse(want, text), 0);
	assert_memory_equal(ip, want, sizeof(want));
}

static void a_captured_connect_is_read(void **state)
{
	struct openvpn_event e = event_of(captured_connect, NULL);
	uint8_t account[NOLOG_ACCOUNT_SIZE];

	(void)state;
	nolog_account(account, "alice", 5);
	assert_int_equal(e.kind, OPENVPN_CONNECT);
	assert_int_equal(e.start_ms, INT64_C(1795337341000));
	assert_int_equal(e.daemon_start_ms, INT64_C(1795337340000));
	assert_int_equal(e.daemon_pid, 18350);
	assert_ip(e.ip, "10.8.0.2");
	assert_ip(e.pool, "10.8.0.2");
	assert_true(e.has_account && e.has_pool && !e.has_bytes);
	assert_memory_equal(e.account, account, sizeof(account));
}

static void a_captured_disconnect_ends_at_its_start_and_duration(void **state)
{
	struct openvpn_event e = event_of(captured_disconnect, NULL);

	(void)state;
	assert_int_equal(e.kind, OPENVPN_DISCONNECT);
	assert_int_equal(e.end_ms, INT64_C(1795337350000));
	assert_true(e.has_bytes);
	assert_int_equal(e.rx, 7426);
	assert_int_equal(e.tx, 7463);
}

static void only_the_documented_variables_are_read(void **state)
{
	static const char *const documented[] = {
		"script_type",
		"time_unix",
		"time_duration",
		"common_name",
		"bytes_received",
		"bytes_sent",
		"ifconfig_pool_remote_ip",
		"ifconfig_pool_remote_ip6",
		"untrusted_ip",
		"untrusted_ip6",
		"untrusted_port",
		"daemon_pid",
		"daemon_start_time",
	};
	const char *const texts[] = { captured_connect, captured_disconnect };

	(void)state;
	for (size_t t = 0; t < 2; t++) {
		struct env *e = env_new(texts[t]);
		struct openvpn_event out;

		assert_int_equal(env_read(e, &out), 0);
		for (size_t i = 0; i < e->asked_count; i++) {
			bool known = false;

			for (size_t k = 0; k < sizeof(documented) / sizeof(documented[0]); k++)
				known = known || strcmp(e->asked[i], documented[k]) == 0;
			if (!known)
				fail_msg("%s is read", e->asked[i]);
		}
		env_free(e);
	}
}

static void connect_and_disconnect_have_one_handle(void **state)
{
	struct openvpn_event a = event_of(captured_connect, NULL);
	struct openvpn_event b = event_of(captured_disconnect, NULL);

	(void)state;
	assert_int_equal(a.handle, b.handle);
}

static void roaming_does_not_change_the_handle(void **state)
{
	struct openvpn_event a = event_of(captured_connect, NULL);
	struct openvpn_event b = event_of(captured_disconnect, "trusted_ip=198.51.100.9",
					  "trusted_port=9", "bytes_sent=1", "common_name=bob",
					  NULL);
	struct openvpn_event c = event_of(captured_disconnect, "trusted_ip6=2001:db8::9", NULL);

	(void)state;
	assert_int_equal(a.handle, b.handle);
	assert_int_equal(a.handle, c.handle);
}

static void each_part_of_a_session_s_identity_changes_the_handle(void **state)
{
	static const char *const changes[] = {
		"untrusted_ip=203.0.113.78",	"untrusted_port=46098",
		"time_unix=1795337342",		"daemon_pid=18351",
		"daemon_start_time=1795337339", "ifconfig_pool_remote_ip=10.8.0.3",
	};
	struct openvpn_event a = event_of(captured_connect, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		struct openvpn_event b = event_of(captured_connect, changes[i], NULL);

		assert_int_not_equal(a.handle, b.handle);
	}
}

static void a_session_over_ipv6_is_read(void **state)
{
	struct env *e = env_new(captured_connect);
	struct openvpn_event out, other;

	(void)state;
	env_unset(e, "ifconfig_pool_remote_ip");
	env_unset(e, "untrusted_ip");
	env_unset(e, "trusted_ip");
	env_set(e, "untrusted_ip6=2001:db8:5::77");
	assert_int_equal(env_read(e, &out), 0);
	assert_ip(out.ip, "fd00:8::1000");
	env_set(e, "untrusted_ip6=2001:db8:5::78");
	assert_int_equal(env_read(e, &other), 0);
	assert_int_not_equal(out.handle, other.handle);
	env_free(e);
}

static void the_session_ip_can_be_the_client_s(void **state)
{
	struct env *e = env_new(captured_connect);
	struct openvpn_event pool, client;
	const char *what = NULL;

	(void)state;
	assert_int_equal(env_read(e, &pool), 0);
	assert_int_equal(openvpn_event_read(&client, OPENVPN_IP_CLIENT, OPENVPN_COMMON_NAME,
					    env_get, e, &what),
			 0);
	assert_ip(client.ip, "203.0.113.77");
	assert_ip(client.pool, "10.8.0.2");
	assert_int_equal(client.handle, pool.handle);
	env_free(e);
}

static void a_client_that_roams_keeps_its_session_ip(void **state)
{
	struct env *e = env_new(captured_disconnect);
	struct openvpn_event out;
	const char *what = NULL;

	(void)state;
	env_set(e, "trusted_ip=198.51.100.9");
	assert_int_equal(
		openvpn_event_read(&out, OPENVPN_IP_CLIENT, OPENVPN_COMMON_NAME, env_get, e, &what),
		0);
	assert_ip(out.ip, "203.0.113.77");
	env_free(e);
}

static void the_account_can_be_the_username(void **state)
{
	struct env *e = env_new(captured_connect);
	uint8_t account[NOLOG_ACCOUNT_SIZE];
	struct openvpn_event out;
	const char *what = NULL;

	(void)state;
	/* As with management-client-auth: set, to nothing. */
	env_set(e, "username=");
	assert_int_equal(
		openvpn_event_read(&out, OPENVPN_IP_POOL, OPENVPN_USERNAME, env_get, e, &what), 0);
	assert_false(out.has_account);
	env_set(e, "username=Bob ");
	assert_int_equal(
		openvpn_event_read(&out, OPENVPN_IP_POOL, OPENVPN_USERNAME, env_get, e, &what), 0);
	nolog_account(account, "Bob ", 4);
	assert_true(out.has_account);
	assert_memory_equal(out.account, account, sizeof(account));
	env_free(e);
}

static void other_hooks_are_none_of_ours(void **state)
{
	static const char *const types[] = { "script_type=learn-address", "script_type=up",
					     "script_type=", "script_type=client-connect-v2" };
	struct env *e = env_new(captured_connect);
	struct openvpn_event out;

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		env_set(e, types[i]);
		assert_int_equal(env_read(e, &out), -ENOENT);
	}
	env_unset(e, "script_type");
	assert_int_equal(env_read(e, &out), -ENOENT);
	env_free(e);
}

static void hostile_values_are_refused_by_name(void **state)
{
	static const struct {
		const char *name;
		const char *value;
	} bad[] = {
		{ "time_unix", "" },
		{ "time_unix", "-1" },
		{ "time_unix", "0x10" },
		{ "time_unix", "1795337341 " },
		{ "time_unix", "1795337341.5" },
		{ "time_unix", "253402300800" },
		{ "time_unix", "99999999999999999999999999999999999999999" },
		{ "time_duration", "" },
		{ "time_duration", "--1" },
		{ "time_duration", "-x" },
		{ "time_duration", "253402300799" },
		{ "time_duration", "18446744073709551615" },
		{ "daemon_pid", "-5" },
		{ "daemon_pid", "2147483648" },
		{ "daemon_pid", "1e3" },
		{ "daemon_start_time", "253402300800" },
		{ "daemon_start_time", "yesterday" },
		{ "bytes_received", "-1" },
		{ "bytes_received", "18446744073709551616" },
		{ "bytes_sent", "7463k" },
		{ "ifconfig_pool_remote_ip", "" },
		{ "ifconfig_pool_remote_ip", "10.8.0.256" },
		{ "ifconfig_pool_remote_ip", "10.8.0.2/24" },
		{ "ifconfig_pool_remote_ip", "10.8.0.2; reboot" },
		{ "untrusted_ip", "localhost" },
		{ "untrusted_port", "65536" },
		{ "untrusted_port", "+1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct env *e = env_new(captured_disconnect);
		struct openvpn_event out = { .handle = 7 };
		const char *what = NULL;
		char line[128];

		env_unset(e, "ifconfig_pool_remote_ip6");
		(void)snprintf(line, sizeof(line), "%s=%s", bad[i].name, bad[i].value);
		env_set(e, line);
		assert_int_equal(openvpn_event_read(&out, OPENVPN_IP_POOL, OPENVPN_COMMON_NAME,
						    env_get, e, &what),
				 -EINVAL);
		assert_string_equal(what, bad[i].name);
		assert_int_equal(out.handle, 7);
		env_free(e);
	}
}

static void a_name_that_is_too_long_is_refused(void **state)
{
	struct env *e = env_new(captured_connect);
	struct openvpn_event out;
	char line[OPENVPN_NAME_MAX + 32] = "common_name=";
	size_t at = strlen(line);

	(void)state;
	memset(line + at, 'a', OPENVPN_NAME_MAX);
	env_set(e, line);
	assert_int_equal(env_read(e, &out), 0);
	line[at + OPENVPN_NAME_MAX] = 'a';
	env_set(e, line);
	assert_int_equal(env_read(e, &out), -EINVAL);
	env_free(e);
}

static void a_clock_that_was_set_back_makes_an_empty_session(void **state)
{
	struct openvpn_event e = event_of(captured_disconnect, "time_duration=-3600", NULL);

	(void)state;
	assert_int_equal(e.end_ms, e.start_ms);
}

static void the_largest_byte_counts_are_read(void **state)
{
	struct openvpn_event e = event_of(captured_disconnect,
					  "bytes_received=18446744073709551615", NULL);

	(void)state;
	assert_true(e.rx == UINT64_MAX);
}

/* --- Status files -------------------------------------------------------- */

#define HEADER3                                                               \
	"HEADER\tCLIENT_LIST\tCommon Name\tReal Address\tVirtual Address\t"   \
	"Virtual IPv6 Address\tBytes Received\tBytes Sent\tConnected Since\t" \
	"Connected Since (time_t)\tUsername\tClient ID\tPeer ID\tData Channel Cipher\n"
#define CLIENT3                                                                        \
	"CLIENT_LIST\talice\t203.0.113.77:37358\t10.8.0.2\tfd00:8::1000\t7248\t7277\t" \
	"2026-11-22 08:49:04\t1795337344\tUNDEF\t0\t0\tAES-256-GCM\n"
#define TITLE3 "TITLE\tOpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL (OpenSSL)]\n"
#define TIME3 "TIME\t2026-11-22 08:49:07\t1795337347\n"
#define TAIL3                                                                                   \
	"HEADER\tROUTING_TABLE\tVirtual Address\tCommon Name\tReal Address\tLast Ref\t"         \
	"Last Ref (time_t)\n"                                                                   \
	"ROUTING_TABLE\t10.8.0.2\talice\t203.0.113.77:37358\t2026-11-22 08:49:05\t1795337345\n" \
	"GLOBAL_STATS\tMax bcast/mcast queue length\t0\nGLOBAL_STATS\tdco_enabled\t0\nEND\n"

#define VERSION1                                             \
	"OpenVPN CLIENT LIST\nUpdated,2026-11-22 08:49:07\n" \
	"Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since\nEND\n"

struct seen {
	size_t count;
	struct openvpn_client last;
	char name[64];
};

static void see(const struct openvpn_client *c, void *arg)
{
	struct seen *s = arg;

	s->count++;
	s->last = *c;
	assert_true(c->name_len < sizeof(s->name));
	if (c->name)
		memcpy(s->name, c->name, c->name_len);
	s->name[c->name_len] = '\0';
	s->last.name = NULL;
}

static int status_of(const char *text, enum openvpn_account account, struct seen *s)
{
	*s = (struct seen){ 0 };
	return openvpn_status_read(text, strlen(text), account, see, s);
}

/* The same file in version 2: commas for tabs. */
static char *commas(const char *text)
{
	char *copy = strdup(text);

	assert_non_null(copy);
	for (char *p = copy; *p; p++)
		if (*p == '\t')
			*p = ',';
	return copy;
}

static void a_captured_status_file_is_read_in_both_versions(void **state)
{
	char *v2 = commas(TITLE3 TIME3 HEADER3 CLIENT3 TAIL3);
	const char *const texts[] = { TITLE3 TIME3 HEADER3 CLIENT3 TAIL3, v2 };
	struct seen s;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(status_of(texts[i], OPENVPN_COMMON_NAME, &s), 0);
		assert_int_equal(s.count, 1);
		assert_ip(s.last.pool, "10.8.0.2");
		assert_int_equal(s.last.start_ms, INT64_C(1795337344000));
		assert_int_equal(s.last.rx, 7248);
		assert_int_equal(s.last.tx, 7277);
		assert_string_equal(s.name, "alice");
		assert_int_equal(status_of(texts[i], OPENVPN_USERNAME, &s), 0);
		assert_int_equal(s.last.name_len, 0); /* UNDEF is nobody */
	}
	free(v2);
}

static void columns_are_found_by_their_titles(void **state)
{
	struct seen s;

	(void)state;
	assert_int_equal(status_of("TITLE,x\n"
				   "HEADER,CLIENT_LIST,Bytes Sent,Username,Virtual IPv6 Address,"
				   "Connected Since (time_t),New,Virtual Address,Common Name,"
				   "Bytes Received\n"
				   "CLIENT_LIST,22,carol,fd00::9,77,x,,c,11\nEND\n",
				   OPENVPN_USERNAME, &s),
			 0);
	assert_int_equal(s.count, 1);
	assert_ip(s.last.pool, "fd00::9");
	assert_int_equal(s.last.rx, 11);
	assert_int_equal(s.last.tx, 22);
	assert_int_equal(s.last.start_ms, 77000);
	assert_string_equal(s.name, "carol");
}

static void a_name_with_a_separator_moves_no_bytes(void **state)
{
	char *text = commas(TITLE3 TIME3 HEADER3
			    "CLIENT_LIST\ta,1,10.8.0.2,,5\t203.0.113.77:1\t10.8.0.3\t\t1\t2\tx\t9\t"
			    "UNDEF\t0\t0\tAES\n" CLIENT3 TAIL3);
	struct seen s;

	(void)state;
	assert_int_equal(status_of(text, OPENVPN_COMMON_NAME, &s), 0);
	assert_int_equal(s.count, 1);
	assert_ip(s.last.pool, "10.8.0.2");
	assert_int_equal(s.last.rx, 7248);
	free(text);
}

static void unfinished_and_foreign_files_are_not_read(void **state)
{
	static const char whole[] = TITLE3 TIME3 HEADER3 CLIENT3 TAIL3;
	static const char *const bad[] = {
		"",
		"END\n",
		"TITLE\n",
		TITLE3 "END\n",			      /* no header */
		TITLE3 HEADER3 HEADER3 CLIENT3 TAIL3, /* two */
		TITLE3 HEADER3 CLIENT3 TAIL3 "x\n",   /* more behind the end */
		VERSION1,
		"TITLE\tx\nHEADER\tCLIENT_LIST\tCommon Name\tBytes Sent\nEND\n",
	};
	struct seen s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(status_of(bad[i], OPENVPN_COMMON_NAME, &s), -EBADMSG);
		assert_int_equal(s.count, 0);
	}
	for (size_t n = 0; n + 1 < sizeof(whole); n++) {
		s = (struct seen){ 0 };
		assert_int_equal(openvpn_status_read(whole, n, OPENVPN_COMMON_NAME, see, &s),
				 -EBADMSG);
		assert_int_equal(s.count, 0);
	}
}

static void hostile_figures_in_a_status_file_are_passed_over(void **state)
{
	static const char *const figures[] = {
		"10.8.0.2\t\t-1\t2\tx\t9",
		"10.8.0.2\t\t1\t18446744073709551616\tx\t9",
		"10.8.0.2\t\t1\t999999999999999999999999999999\tx\t9",
		"10.8.0.2\t\t1\t2\tx\t253402300800",
		"10.8.0.2\t\t\t2\tx\t9",
		"10.8.0.999\t\t1\t2\tx\t9",
		"\t\t1\t2\tx\t9",
	};
	struct seen s;

	(void)state;
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		char text[2048];

		(void)snprintf(text, sizeof(text),
			       "%sCLIENT_LIST\talice\t203.0.113.77:1\t%s\tUNDEF\t0\t0\tAES\n%s",
			       TITLE3 HEADER3, figures[i], TAIL3);
		assert_int_equal(status_of(text, OPENVPN_COMMON_NAME, &s), 0);
		assert_int_equal(s.count, 0);
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void a_status_file_counts_once_it_rests(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct openvpn_statusfile f = { 0 };
	char dir[PATH_MAX], path[PATH_MAX + 16];
	const char *text;
	size_t len;
	int64_t now = 1000;

	(void)state;
	(void)snprintf(dir, sizeof(dir), "%s/openvpn-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/status", dir);
	assert_true(openvpn_statusfile_due(&f) == INT64_MAX);
	openvpn_statusfile_set(&f, path, 60000, now);
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), -ENOENT);
	assert_true(openvpn_statusfile_due(&f) == now + 60000);
	now += 60000;
	write_file(path, "half");
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 0);
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 0); /* not due */
	now += OPENVPN_SETTLE_MS;
	write_file(path, "whole");
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 0);
	now += OPENVPN_SETTLE_MS;
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 1);
	assert_int_equal(len, 5);
	assert_memory_equal(text, "whole", 5);
	openvpn_statusfile_done(&f);
	assert_true(openvpn_statusfile_due(&f) == now + 60000);
	assert_true(f.written_ms > INT64_C(1000000000000));
	/* Of the first read nothing is kept that names anybody. */
	openvpn_statusfile_hurry(&f, now);
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 0);
	assert_null(f.text);
	now += OPENVPN_SETTLE_MS;
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 1);
	openvpn_statusfile_done(&f);
	assert_null(f.text);
	/* The server has died: at once, and busy until it is read. */
	openvpn_statusfile_hurry(&f, now);
	assert_true(openvpn_statusfile_busy(&f));
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), 0);
	assert_int_equal(openvpn_statusfile_step(&f, now + OPENVPN_SETTLE_MS, &text, &len), 1);
	assert_false(openvpn_statusfile_busy(&f));
	openvpn_statusfile_done(&f);
	/* Nothing that is no file stops it. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	openvpn_statusfile_hurry(&f, now);
	assert_int_equal(openvpn_statusfile_step(&f, now, &text, &len), -EINVAL);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* --- Where the status file is -------------------------------------------- */

/* A server's directory in /proc, and the directory it runs in. */
struct proc {
	char dir[PATH_MAX];
	char path[PATH_MAX + 64];
};

static const char *in_proc(struct proc *p, const char *name)
{
	(void)snprintf(p->path, sizeof(p->path), "%s/%s", p->dir, name);
	return p->path;
}

static void proc_new(struct proc *p)
{
	const char *tmp = getenv("TMPDIR");
	char target[PATH_MAX + 64];

	(void)snprintf(p->dir, sizeof(p->dir), "%s/proc-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(mkdir(in_proc(p, "fd"), 0700), 0);
	assert_int_equal(mkdir(in_proc(p, "work"), 0700), 0);
	(void)snprintf(target, sizeof(target), "%s/work", p->dir);
	assert_int_equal(symlink(target, in_proc(p, "cwd")), 0);
	write_file(in_proc(p, "work/s"), TITLE3 HEADER3 TAIL3);
	write_file(in_proc(p, "work/s2"), "TITLE,x\n");
	write_file(in_proc(p, "work/s1"), VERSION1);
	write_file(in_proc(p, "work/empty"), "");
}

static void proc_free(struct proc *p)
{
	static const char *const files[] = {
		"cmdline", "fd/3",    "fd/4",	    "cwd",    "work/s",
		"work/s1", "work/s2", "work/empty", "work/c", "work/d"
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		(void)unlink(in_proc(p, files[i]));
	assert_int_equal(rmdir(in_proc(p, "fd")), 0);
	assert_int_equal(rmdir(in_proc(p, "work")), 0);
	assert_int_equal(rmdir(p->dir), 0);
}

/* The words of the command line, with a space between. */
static void set_cmdline(struct proc *p, const char *words)
{
	FILE *f = fopen(in_proc(p, "cmdline"), "w");

	assert_non_null(f);
	for (; *words; words++)
		assert_true(fputc(*words == ' ' ? '\0' : *words, f) != EOF);
	assert_int_equal(fputc('\0', f), 0);
	assert_int_equal(fclose(f), 0);
}

/* Expects this file of the server's directory, and this tick. */
static void assert_found(struct proc *p, const char *config, const char *name, int64_t tick_ms)
{
	struct openvpn_found found = { 0 };
	char want[32];

	assert_int_equal(openvpn_find_status(&found, p->dir, config), 0);
	(void)snprintf(want, sizeof(want), "work/%s", name);
	assert_string_equal(found.path, in_proc(p, want));
	assert_int_equal(found.tick_ms, tick_ms);
}

static void assert_not_found(struct proc *p, const char *config)
{
	struct openvpn_found found;

	assert_int_equal(openvpn_find_status(&found, p->dir, config), -ENOENT);
}

static void a_status_file_is_found_on_the_server_s_command_line(void **state)
{
	struct proc p;
	char words[PATH_MAX * 2];

	(void)state;
	proc_new(&p);
	assert_not_found(&p, NULL); /* no command line, as where /proc hides it */
	set_cmdline(&p, "openvpn --dev tun --status s 5 --verb 3");
	assert_found(&p, NULL, "s", 5000);
	(void)snprintf(words, sizeof(words), "openvpn --status %s --status-version 2",
		       in_proc(&p, "work/s"));
	set_cmdline(&p, words);
	assert_found(&p, NULL, "s", 0);
	/* The last one wins. */
	set_cmdline(&p, "openvpn --status s 5 --status s2 7");
	assert_found(&p, NULL, "s2", 7000);
	/* OpenVPN has not written it yet. */
	set_cmdline(&p, "openvpn --status empty");
	assert_found(&p, NULL, "empty", 0);
	/* Of a version that cannot be read, missing, or not said. */
	set_cmdline(&p, "openvpn --status s1");
	assert_not_found(&p, NULL);
	set_cmdline(&p, "openvpn --status none 5");
	assert_not_found(&p, NULL);
	set_cmdline(&p, "openvpn --status --verb 3");
	assert_not_found(&p, NULL);
	set_cmdline(&p, "openvpn --status s 99999999999999999999");
	assert_found(&p, NULL, "s", 0);
	proc_free(&p);
}

static void a_status_file_is_found_in_the_server_s_configuration(void **state)
{
	static const struct {
		const char *text, *name; /* NULL: not found */
		int64_t tick_ms;
	} configs[] = {
		{ "status s 3\n", "s", 3000 },
		{ "verb 3\r\n\t status\t's' 3 # often\r\n", "s", 3000 },
		{ "status \"s\"\n", "s", 0 },
		{ "status s 3", "s", 3000 },
		{ "status \\s\n", "s", 0 },
		{ "status s1\nstatus s2 9\n", "s2", 9000 },
		{ "<ca>\nstatus s2\n</ca>\nstatus s\n", "s", 0 },
		{ "<ca>\n-----BEGIN\n </ca>\nstatus s\n<key>\nstatus s2\n", "s", 0 },
		{ "#status s\n;status s\nstatus-version 3\nstatus\n", NULL, 0 },
		{ "status \"s\n", NULL, 0 },
		{ "", NULL, 0 },
		{ "config d\n", "s2", 2000 },
		{ "config c\n", NULL, 0 }, /* itself */
		{ "config none\nstatus s\n", "s", 0 },
	};
	struct proc p;

	(void)state;
	proc_new(&p);
	write_file(in_proc(&p, "work/d"), "status s2 2\n");
	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++) {
		write_file(in_proc(&p, "work/c"), configs[i].text);
		for (unsigned way = 0; way < 3; way++) {
			/* Named with or without an option, or only told by the hook's variable. */
			set_cmdline(&p, way == 0   ? "openvpn --cd /x --config c --verb 3"
					: way == 1 ? "openvpn c"
						   : "openvpn");
			if (configs[i].name)
				assert_found(&p, "c", configs[i].name, configs[i].tick_ms);
			else
				assert_not_found(&p, way < 2 ? "d" : "c");
		}
	}
	/* What stands behind it on the command line wins, and what stands before does not. */
	write_file(in_proc(&p, "work/c"), "status s\n");
	set_cmdline(&p, "openvpn --config c --status s2 4");
	assert_found(&p, NULL, "s2", 4000);
	set_cmdline(&p, "openvpn --status s2 4 --config c");
	assert_found(&p, NULL, "s", 0);
	proc_free(&p);
}

static void a_status_file_is_found_among_the_server_s_open_files(void **state)
{
	char target[PATH_MAX + 64];
	struct proc p;

	(void)state;
	proc_new(&p);
	set_cmdline(&p, "openvpn --config unreadable");
	assert_int_equal(symlink("pipe:[7]", in_proc(&p, "fd/3")), 0);
	assert_not_found(&p, NULL);
	(void)snprintf(target, sizeof(target), "%s", in_proc(&p, "work/s"));
	assert_int_equal(symlink(target, in_proc(&p, "fd/4")), 0);
	assert_found(&p, NULL, "s", 0);
	proc_free(&p);
}

/* --- What is reported ---------------------------------------------------- */

#define SENT_MAX 64

/* A nologd that takes everything down, and answers when it is told to. */
struct world {
	struct openvpn_book *book;
	struct nolog_frame sent[SENT_MAX];
	size_t count;
	uint64_t number[2]; /* last given: sessions, usage */
	uint32_t random;
	int send_error;
	size_t settled;
	uint64_t settled_handle;
	unsigned settled_code;
};

static int world_send(const struct nolog_frame *f, uint64_t *number, void *arg)
{
	struct world *w = arg;
	uint64_t *last = &w->number[f->type == NOLOG_USAGE];

	if (w->send_error)
		return w->send_error;
	assert_true(w->count < SENT_MAX);
	*number = ++*last;
	w->sent[w->count] = *f;
	w->sent[w->count++].seq = *last;
	return 0;
}

static void world_settled(uint64_t handle, unsigned code, void *arg)
{
	struct world *w = arg;

	w->settled++;
	w->settled_handle = handle;
	w->settled_code = code;
}

static uint32_t world_random(void *arg)
{
	struct world *w = arg;

	return ++w->random;
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	struct openvpn_book_ops ops = { world_send, world_settled, world_random, w };

	assert_non_null(w);
	assert_int_equal(openvpn_book_new(&w->book, &ops), 0);
	return w;
}

static void world_free(struct world *w)
{
	openvpn_book_free(w->book);
	free(w);
}

/* What has been sent since the last call, one word a frame, with what matters of it. */
static const char *sent(struct world *w)
{
	static char text[4096];
	char *p = text;

	*p = '\0';
	for (size_t i = 0; i < w->count; i++) {
		const struct nolog_frame *f = &w->sent[i];
		size_t room = sizeof(text) - (size_t)(p - text);
		int n = 0;

		if (i > 0) {
			*p++ = ' ';
			room--;
		}
		switch (f->type) {
		case NOLOG_START:
			n = snprintf(p, room, "START@%" PRId64, f->u.start.start_ms / 1000);
			break;
		case NOLOG_END:
			n = snprintf(p, room, "END@%" PRId64, f->u.end.end_ms / 1000);
			break;
		case NOLOG_SESSION:
			n = snprintf(p, room, "SESSION@%" PRId64 "-%" PRId64,
				     f->u.session.start_ms / 1000, f->u.session.end_ms / 1000);
			break;
		case NOLOG_ALIVE:
			n = snprintf(p, room, "ALIVE@%" PRId64, f->u.alive.at_ms / 1000);
			break;
		case NOLOG_RESTART:
			n = snprintf(p, room, "RESTART@%" PRId64, f->u.restart.at_ms / 1000);
			break;
		case NOLOG_USAGE:
			n = snprintf(p, room, "USAGE:%u:%u:%" PRIu64 "/%" PRIu64, f->aux, f->code,
				     f->u.usage.rx, f->u.usage.tx);
			break;
		default:
			fail();
		}
		p += n;
	}
	w->count = 0;
	return text;
}

/* nologd has all that was sent. */
static void acknowledge(struct world *w)
{
	openvpn_book_acked(w->book, w->number[0], w->number[1]);
}

/* nologd refuses the last frame of this type. */
static void refuse(struct world *w, enum nolog_type type, unsigned code)
{
	for (size_t i = w->count; i-- > 0;)
		if (w->sent[i].type == type) {
			struct nolog_frame f = w->sent[i];

			w->count = 0;
			openvpn_book_refused(w->book, &f, code);
			return;
		}
	fail();
}

static struct openvpn_event connect_event(void)
{
	return event_of(captured_connect, NULL);
}

static struct openvpn_event disconnect_event(void)
{
	return event_of(captured_disconnect, NULL);
}

static int hook(struct world *w, struct openvpn_event e)
{
	return openvpn_book_event(w->book, &e, OPENVPN_ALONE, e.start_ms + 300);
}

static struct openvpn_client reading(uint64_t rx, uint64_t tx)
{
	struct openvpn_client c = { .start_ms = INT64_C(1000) * START_S,
				    .rx = rx,
				    .tx = tx,
				    .name = "alice",
				    .name_len = 5 };

	assert_int_equal(nolog_ip_parse(c.pool, "10.8.0.2"), 0);
	return c;
}

/* A file of this second, read in that one (0: after the server's death). */
static void read_status_at(struct world *w, uint64_t rx, uint64_t tx, int64_t now_ms,
			   int64_t written_s, int64_t alive_s)
{
	struct openvpn_client c = reading(rx, tx);

	openvpn_book_readings_begin(w->book, INT64_C(1000) * written_s + 999,
				    INT64_C(1000) * alive_s);
	openvpn_book_reading(w->book, &c, now_ms);
	openvpn_book_readings_end(w->book);
}

static void read_status(struct world *w, uint64_t rx, uint64_t tx, int64_t now_ms)
{
	read_status_at(w, rx, tx, now_ms, START_S + 1, 0);
}

static void a_session_is_reported_from_connect_to_disconnect(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	assert_string_equal(sent(w), "RESTART@1795337340 START@1795337341");
	assert_int_equal(w->settled, 0);
	acknowledge(w);
	assert_int_equal(w->settled, 1);
	assert_int_equal(w->settled_code, 0);
	assert_int_equal(openvpn_book_open(w->book), 1);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:3:7426/7463");
	assert_int_equal(openvpn_book_pending(w->book), 1);
	/* The session's end is durable before its bytes are. */
	openvpn_book_acked(w->book, w->number[0], 0);
	assert_int_equal(w->settled, 2);
	assert_int_equal(openvpn_book_pending(w->book), 1);
	acknowledge(w);
	assert_int_equal(openvpn_book_open(w->book), 0);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void an_end_whose_start_was_lost_becomes_a_session(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, disconnect_event()), 0);
	refuse(w, NOLOG_END, NOLOG_UNKNOWN_HANDLE);
	assert_string_equal(sent(w), "SESSION@1795337341-1795337350");
	acknowledge(w);
	assert_int_equal(w->settled, 1);
	assert_int_equal(w->settled_code, 0);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void a_refusal_reaches_the_hook(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	refuse(w, NOLOG_START, NOLOG_IP_NOT_ALLOWED);
	acknowledge(w);
	assert_int_equal(w->settled_code, NOLOG_IP_NOT_ALLOWED);
	world_free(w);
}

static void a_repeated_hook_reports_nothing_twice(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	assert_int_equal(hook(w, connect_event()), 0); /* waits for the first one's answer */
	assert_string_equal(sent(w), "RESTART@1795337340 START@1795337341");
	acknowledge(w);
	assert_int_equal(hook(w, connect_event()), 1);
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:3:7426/7463");
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "");
	acknowledge(w);
	world_free(w);
}

static void a_start_that_nologd_has_already_is_heard(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	refuse(w, NOLOG_START, NOLOG_HANDLE_OPEN);
	acknowledge(w);
	assert_int_equal(w->settled_code, NOLOG_OK);
	world_free(w);
}

static void what_nologd_had_no_room_for_is_sent_again(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	acknowledge(w);
	(void)sent(w);
	assert_int_equal(hook(w, disconnect_event()), 0);
	refuse(w, NOLOG_END, NOLOG_OVER_CAPACITY);
	acknowledge(w);
	assert_int_equal(w->settled_code, NOLOG_OVER_CAPACITY);
	assert_int_equal(openvpn_book_pending(w->book), 1);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "END@1795337350");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void what_could_not_be_queued_is_sent_later(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	acknowledge(w);
	(void)sent(w);
	w->send_error = -EAGAIN;
	assert_false(openvpn_book_full(w->book));
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_true(openvpn_book_full(w->book));
	openvpn_book_retry(w->book);
	assert_true(openvpn_book_full(w->book));
	w->send_error = 0;
	openvpn_book_retry(w->book);
	assert_false(openvpn_book_full(w->book));
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:3:7426/7463");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void a_restart_that_could_not_be_queued_is_sent_later(void **state)
{
	struct world *w = world_new();

	(void)state;
	w->send_error = -EAGAIN;
	assert_int_equal(hook(w, connect_event()), 0);
	w->send_error = 0;
	assert_int_equal(openvpn_book_pending(w->book), 2);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "RESTART@1795337340 START@1795337341");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void an_end_that_is_ahead_of_nologd_s_clock_is_sent_until_it_is_not(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	acknowledge(w);
	(void)sent(w);
	assert_int_equal(hook(w, disconnect_event()), 0);
	for (unsigned i = 0; i < 3; i++) {
		refuse(w, NOLOG_END, NOLOG_TIME_RANGE);
		acknowledge(w);
		assert_int_equal(w->settled_code, NOLOG_TIME_RANGE);
		assert_int_equal(openvpn_book_pending(w->book), 1);
		openvpn_book_retry(w->book);
		assert_int_equal(w->count, 1);
	}
	/* By now nologd does not know of its start any more: the same of SESSION. */
	refuse(w, NOLOG_END, NOLOG_UNKNOWN_HANDLE);
	refuse(w, NOLOG_SESSION, NOLOG_TIME_RANGE);
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 1);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "END@1795337350");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void a_restart_ahead_of_nologd_s_clock_ends_nothing_that_begins_meanwhile(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337341", NULL)),
			 0);
	refuse(w, NOLOG_RESTART, NOLOG_TIME_RANGE);
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 1);
	/* The clock has been set back. */
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337341",
					  "time_unix=1795330000", NULL)),
			 0);
	acknowledge(w);
	(void)sent(w);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "RESTART@1795330000");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void a_new_daemon_start_time_is_a_restart_once(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	acknowledge(w);
	(void)sent(w);
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337400",
					  "daemon_pid=2", "time_unix=1795337410", NULL)),
			 0);
	assert_string_equal(sent(w), "RESTART@1795337400 START@1795337410");
	assert_int_equal(openvpn_book_open(w->book), 1);
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337400",
					  "daemon_pid=2", "time_unix=1795337411", NULL)),
			 0);
	assert_string_equal(sent(w), "START@1795337411");
	acknowledge(w);
	world_free(w);
}

static void a_hook_of_an_older_server_is_no_restart(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337400",
					  "time_unix=1795337410", NULL)),
			 0);
	(void)sent(w);
	assert_int_equal(hook(w, connect_event()), 0);
	assert_string_equal(sent(w), "START@1795337341");
	world_free(w);
}

static void a_server_beside_one_that_lives_is_no_restart(void **state)
{
	struct openvpn_event e = event_of(captured_connect, "daemon_start_time=1795337400",
					  "daemon_pid=2", "time_unix=1795337410", NULL);
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	(void)sent(w);
	assert_int_equal(openvpn_book_event(w->book, &e, 0, e.start_ms + 300), 0);
	assert_string_equal(sent(w), "START@1795337410");
	assert_int_equal(openvpn_book_open(w->book), 2);
	world_free(w);
}

static void a_restart_within_a_second_ends_that_second_s_sessions_by_name(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337341", NULL)),
			 0);
	(void)sent(w);
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795337341",
					  "daemon_pid=2", "untrusted_port=1", NULL)),
			 0);
	assert_string_equal(sent(w), "RESTART@1795337341 END@1795337341 START@1795337341");
	assert_int_equal(openvpn_book_open(w->book), 1);
	world_free(w);
}

static void a_clock_that_was_set_back_never_ends_a_session_that_begins(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, event_of(captured_connect, "daemon_start_time=1795340000", NULL)),
			 0);
	assert_string_equal(sent(w), "RESTART@1795337341 START@1795337341");
	world_free(w);
}

static void the_death_of_the_server_ends_what_it_left_open(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	read_status(w, 100, 200, 0);
	acknowledge(w);
	(void)sent(w);
	openvpn_book_died(w->book, INT64_C(1000) * (START_S + 60));
	assert_string_equal(sent(w), "RESTART@1795337401 USAGE:1:1:100/200");
	assert_int_equal(openvpn_book_open(w->book), 0);
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	openvpn_book_died(w->book, INT64_C(1000) * (START_S + 61));
	assert_string_equal(sent(w), "");
	world_free(w);
}

static void the_death_of_a_server_ends_no_later_session(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	(void)sent(w);
	openvpn_book_died(w->book, INT64_C(1000) * (START_S - 1));
	assert_int_equal(openvpn_book_open(w->book), 1);
	world_free(w);
}

static void readings_are_one_meter_from_first_to_last(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	acknowledge(w);
	(void)sent(w);
	read_status(w, 100, 200, 0);
	assert_string_equal(sent(w), "USAGE:1:2:100/200");
	/* One at a time: nologd has not answered. */
	read_status(w, 150, 250, 1000);
	assert_string_equal(sent(w), "");
	acknowledge(w);
	read_status(w, 160, 260, 2000);
	assert_string_equal(sent(w), "USAGE:1:0:160/260");
	acknowledge(w);
	/* Unchanged is not said again, before a quarter of a day. */
	read_status(w, 160, 260, 3000);
	assert_string_equal(sent(w), "");
	read_status(w, 160, 260, 2000 + OPENVPN_READ_MAX_MS);
	assert_string_equal(sent(w), "USAGE:1:0:160/260");
	acknowledge(w);
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:1:7426/7463");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void every_session_has_a_meter_of_its_own(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_int_equal(hook(w, event_of(captured_disconnect, "untrusted_port=1", NULL)), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:3:7426/7463 "
				     "END@1795337350 USAGE:2:3:7426/7463");
	world_free(w);
}

static void a_reading_never_falls(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	read_status(w, 9000, 200, 0);
	acknowledge(w);
	(void)sent(w);
	/* The status file is older than what is known, in one part. */
	read_status(w, 100, 300, 1000);
	assert_string_equal(sent(w), "USAGE:1:0:9000/300");
	acknowledge(w);
	/* And the last figures are less than others before: known of DCO. */
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:1:9000/7463");
	world_free(w);
}

static void a_refused_first_reading_leaves_the_next_one_first(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	read_status(w, 100, 200, 0);
	refuse(w, NOLOG_USAGE, NOLOG_OVER_CAPACITY);
	acknowledge(w);
	read_status(w, 110, 200, 1000);
	assert_string_equal(sent(w), "USAGE:1:2:110/200");
	world_free(w);
}

static void a_last_reading_behind_a_refused_first_one_counts_on_another_meter(void **state)
{
	struct nolog_frame first;
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	read_status(w, 100, 200, 0);
	assert_int_equal(w->count, 3);
	first = w->sent[2];
	assert_int_equal(hook(w, disconnect_event()), 0);
	assert_string_equal(sent(w), "RESTART@1795337340 START@1795337341 USAGE:1:2:100/200 "
				     "END@1795337350 USAGE:1:1:7426/7463");
	/* nologd has no room for the first; the last counts nothing there. */
	openvpn_book_refused(w->book, &first, NOLOG_OVER_CAPACITY);
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 1);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "USAGE:2:3:7426/7463");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void the_same_when_both_are_refused(void **state)
{
	struct nolog_frame first;
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	read_status(w, 100, 200, 0);
	first = w->sent[2];
	assert_int_equal(hook(w, disconnect_event()), 0);
	openvpn_book_refused(w->book, &first, NOLOG_OVER_CAPACITY);
	refuse(w, NOLOG_USAGE, NOLOG_OVER_CAPACITY);
	acknowledge(w);
	openvpn_book_retry(w->book);
	assert_string_equal(sent(w), "USAGE:2:3:7426/7463");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void sessions_in_the_status_file_are_alive(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	/* Not before nologd has heard of it. */
	read_status_at(w, 100, 200, 0, START_S + 1, START_S + 2);
	assert_string_equal(sent(w), "RESTART@1795337340 START@1795337341 USAGE:1:2:100/200");
	acknowledge(w);
	read_status_at(w, 100, 200, 1000, START_S + 1, START_S + 3);
	assert_string_equal(sent(w), "ALIVE@1795337344");
	/* The file of a server that is dead says nothing of the sort. */
	read_status_at(w, 100, 200, 2000, START_S + 1, 0);
	assert_string_equal(sent(w), "");
	/* An unknown handle: its silence was too long, and its START is said again. */
	read_status_at(w, 100, 200, 3000, START_S + 1, START_S + 5);
	refuse(w, NOLOG_ALIVE, NOLOG_UNKNOWN_HANDLE);
	assert_string_equal(sent(w), "START@1795337341");
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	assert_int_equal(hook(w, disconnect_event()), 0);
	(void)sent(w);
	read_status_at(w, 100, 200, 4000, START_S + 1, START_S + 9);
	assert_string_equal(sent(w), "");
	world_free(w);
}

static void a_refused_session_is_not_kept_alive(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	refuse(w, NOLOG_START, NOLOG_IP_NOT_ALLOWED);
	acknowledge(w);
	read_status_at(w, 100, 200, 0, START_S + 1, START_S + 2);
	assert_string_equal(sent(w), "USAGE:1:2:100/200");
	world_free(w);
}

/* Somebody leaves and somebody comes, in one second, and gets that address. */
static void a_line_from_before_a_session_s_connect_is_another_s(void **state)
{
	struct openvpn_event e = event_of(captured_connect, "untrusted_port=5", NULL);
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	assert_int_equal(hook(w, event_of(captured_disconnect, "time_duration=0", NULL)), 0);
	assert_int_equal(openvpn_book_event(w->book, &e, 0, INT64_C(1000) * START_S + 1999), 0);
	acknowledge(w);
	(void)sent(w);
	read_status_at(w, 7426, 7463, 0, START_S, START_S + 2);
	assert_string_equal(sent(w), "");
	read_status_at(w, 7426, 7463, 1000, START_S + 1, START_S + 2);
	assert_string_equal(sent(w), "");
	read_status_at(w, 10, 20, 2000, START_S + 2, 0);
	assert_string_equal(sent(w), "USAGE:2:2:10/20");
	world_free(w);
}

static void who_leaves_the_sessions_to_another_tells_what_it_has_counted(void **state)
{
	struct world *w = world_new();

	(void)state;
	assert_int_equal(hook(w, connect_event()), 0);
	assert_int_equal(hook(w, event_of(captured_connect, "untrusted_port=5",
					  "ifconfig_pool_remote_ip=10.8.0.9", NULL)),
			 0);
	read_status(w, 100, 200, 0);
	acknowledge(w);
	(void)sent(w);
	openvpn_book_leave(w->book);
	assert_string_equal(sent(w), "USAGE:1:1:100/200");
	assert_int_equal(openvpn_book_open(w->book), 0);
	acknowledge(w);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void a_session_without_name_has_no_usage(void **state)
{
	struct world *w = world_new();
	struct openvpn_event e = disconnect_event();

	(void)state;
	e.has_account = false;
	assert_int_equal(hook(w, e), 0);
	assert_string_equal(sent(w), "END@1795337350");
	world_free(w);
}

static void a_session_that_was_there_before_counts_from_its_baseline(void **state)
{
	struct openvpn_event e = disconnect_event();
	struct world *w = world_new();

	(void)state;
	/* This process has not heard its connect: another has counted some of it. */
	read_status(w, 7000, 7000, 0);
	assert_string_equal(sent(w), "USAGE:1:0:7000/7000");
	acknowledge(w);
	assert_int_equal(openvpn_book_event(w->book, &e, OPENVPN_COUNTED, e.start_ms + 300), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:1:7426/7463");
	acknowledge(w);
	assert_int_equal(openvpn_book_open(w->book), 0);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void an_unknown_session_s_bytes_are_news_only_when_nobody_counted(void **state)
{
	struct openvpn_event e = disconnect_event();
	struct world *w = world_new();

	(void)state;
	assert_int_equal(openvpn_book_event(w->book, &e, OPENVPN_COUNTED, e.start_ms + 300), 0);
	assert_string_equal(sent(w), "END@1795337350 USAGE:1:1:7426/7463");
	world_free(w);
}

static void a_status_file_older_than_an_end_begins_nothing(void **state)
{
	struct openvpn_event e = disconnect_event();
	struct world *w = world_new();

	(void)state;
	openvpn_book_readings_begin(w->book, INT64_C(1000) * (START_S + 1), 0);
	openvpn_book_readings_end(w->book);
	assert_int_equal(hook(w, connect_event()), 0);
	assert_int_equal(hook(w, e), 0);
	acknowledge(w);
	(void)sent(w);
	read_status(w, 7000, 7000, 0);
	assert_string_equal(sent(w), "");
	assert_int_equal(openvpn_book_open(w->book), 0);
	world_free(w);
}

static void an_adopted_session_that_leaves_the_file_is_forgotten(void **state)
{
	struct world *w = world_new();

	(void)state;
	read_status(w, 7000, 7000, 0);
	acknowledge(w);
	(void)sent(w);
	openvpn_book_readings_begin(w->book, INT64_C(1000) * (START_S + 1), 0);
	openvpn_book_readings_end(w->book);
	assert_string_equal(sent(w), "USAGE:1:1:7000/7000");
	acknowledge(w);
	assert_int_equal(openvpn_book_open(w->book), 0);
	assert_int_equal(openvpn_book_pending(w->book), 0);
	world_free(w);
}

static void sessions_are_bounded(void **state)
{
	struct openvpn_event e = connect_event();
	struct world *w = world_new();

	(void)state;
	for (size_t i = 0; i < OPENVPN_SESSIONS_MAX; i++) {
		e.handle = i;
		assert_int_equal(hook(w, e), 0);
		w->count = 0;
		acknowledge(w);
	}
	e.handle = OPENVPN_SESSIONS_MAX;
	assert_int_equal(hook(w, e), -ENOSPC);
	assert_int_equal(openvpn_book_open(w->book), OPENVPN_SESSIONS_MAX);
	world_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_captured_connect_is_read),
		cmocka_unit_test(a_captured_disconnect_ends_at_its_start_and_duration),
		cmocka_unit_test(only_the_documented_variables_are_read),
		cmocka_unit_test(connect_and_disconnect_have_one_handle),
		cmocka_unit_test(roaming_does_not_change_the_handle),
		cmocka_unit_test(each_part_of_a_session_s_identity_changes_the_handle),
		cmocka_unit_test(a_session_over_ipv6_is_read),
		cmocka_unit_test(the_session_ip_can_be_the_client_s),
		cmocka_unit_test(a_client_that_roams_keeps_its_session_ip),
		cmocka_unit_test(the_account_can_be_the_username),
		cmocka_unit_test(other_hooks_are_none_of_ours),
		cmocka_unit_test(hostile_values_are_refused_by_name),
		cmocka_unit_test(a_name_that_is_too_long_is_refused),
		cmocka_unit_test(a_clock_that_was_set_back_makes_an_empty_session),
		cmocka_unit_test(the_largest_byte_counts_are_read),
		cmocka_unit_test(a_captured_status_file_is_read_in_both_versions),
		cmocka_unit_test(columns_are_found_by_their_titles),
		cmocka_unit_test(a_name_with_a_separator_moves_no_bytes),
		cmocka_unit_test(unfinished_and_foreign_files_are_not_read),
		cmocka_unit_test(hostile_figures_in_a_status_file_are_passed_over),
		cmocka_unit_test(a_status_file_counts_once_it_rests),
		cmocka_unit_test(a_status_file_is_found_on_the_server_s_command_line),
		cmocka_unit_test(a_status_file_is_found_in_the_server_s_configuration),
		cmocka_unit_test(a_status_file_is_found_among_the_server_s_open_files),
		cmocka_unit_test(a_session_is_reported_from_connect_to_disconnect),
		cmocka_unit_test(an_end_whose_start_was_lost_becomes_a_session),
		cmocka_unit_test(a_refusal_reaches_the_hook),
		cmocka_unit_test(a_repeated_hook_reports_nothing_twice),
		cmocka_unit_test(a_start_that_nologd_has_already_is_heard),
		cmocka_unit_test(what_nologd_had_no_room_for_is_sent_again),
		cmocka_unit_test(what_could_not_be_queued_is_sent_later),
		cmocka_unit_test(a_restart_that_could_not_be_queued_is_sent_later),
		cmocka_unit_test(an_end_that_is_ahead_of_nologd_s_clock_is_sent_until_it_is_not),
		cmocka_unit_test(
			a_restart_ahead_of_nologd_s_clock_ends_nothing_that_begins_meanwhile),
		cmocka_unit_test(a_new_daemon_start_time_is_a_restart_once),
		cmocka_unit_test(a_hook_of_an_older_server_is_no_restart),
		cmocka_unit_test(a_server_beside_one_that_lives_is_no_restart),
		cmocka_unit_test(a_restart_within_a_second_ends_that_second_s_sessions_by_name),
		cmocka_unit_test(a_clock_that_was_set_back_never_ends_a_session_that_begins),
		cmocka_unit_test(the_death_of_the_server_ends_what_it_left_open),
		cmocka_unit_test(the_death_of_a_server_ends_no_later_session),
		cmocka_unit_test(readings_are_one_meter_from_first_to_last),
		cmocka_unit_test(every_session_has_a_meter_of_its_own),
		cmocka_unit_test(a_reading_never_falls),
		cmocka_unit_test(a_refused_first_reading_leaves_the_next_one_first),
		cmocka_unit_test(a_last_reading_behind_a_refused_first_one_counts_on_another_meter),
		cmocka_unit_test(the_same_when_both_are_refused),
		cmocka_unit_test(sessions_in_the_status_file_are_alive),
		cmocka_unit_test(a_refused_session_is_not_kept_alive),
		cmocka_unit_test(a_line_from_before_a_session_s_connect_is_another_s),
		cmocka_unit_test(who_leaves_the_sessions_to_another_tells_what_it_has_counted),
		cmocka_unit_test(a_session_without_name_has_no_usage),
		cmocka_unit_test(a_session_that_was_there_before_counts_from_its_baseline),
		cmocka_unit_test(an_unknown_session_s_bytes_are_news_only_when_nobody_counted),
		cmocka_unit_test(a_status_file_older_than_an_end_begins_nothing),
		cmocka_unit_test(an_adopted_session_that_leaves_the_file_is_forgotten),
		cmocka_unit_test(sessions_are_bounded),
	};

	return cmocka_run_group_tests_name("openvpn", tests, NULL, NULL);
}
