/* SPDX-License-Identifier: ISC */
/*
 * openvpn_event: what one call of OpenVPN's client-connect or client-disconnect
 * hook means, from the few environment variables it needs.
 *
 * Pure: no I/O, no clock, no global environment; the variables come through a
 * function.  It refuses to know the many others (certificates, digests, peer
 * info, roamed addresses), and what it was told as a name leaves here as the
 * account's hash only.
 */
#ifndef OPENVPN_EVENT_H
#define OPENVPN_EVENT_H

#include <nolog/frame.h>

/* Longer names are no accounts: OpenVPN's own limits are 64 and 4,096 bytes. */
#define OPENVPN_NAME_MAX 4096

/* Times beyond the year 9999 are nonsense, and could not be printed either. */
#define OPENVPN_TIME_MAX 253402300799

enum openvpn_kind {
	OPENVPN_CONNECT = 1,
	OPENVPN_DISCONNECT = 2,
};

/* Which address is the session's: the one given to the client, or the client's own. */
enum openvpn_session_ip {
	OPENVPN_IP_POOL,
	OPENVPN_IP_CLIENT,
};

/* Whose traffic it is. */
enum openvpn_account {
	OPENVPN_COMMON_NAME,
	OPENVPN_USERNAME,
};

struct openvpn_event {
	enum openvpn_kind kind;
	int32_t daemon_pid;	 /* 0: not told */
	int64_t daemon_start_ms; /* 0: not told */
	uint64_t handle; /* the same in both hooks, whatever the client's address is by now */
	int64_t start_ms;
	int64_t end_ms; /* of a disconnect */
	uint64_t rx;	/* of a disconnect: bytes from the client, when has_bytes */
	uint64_t tx;	/* bytes to the client */
	bool has_bytes;
	bool has_account;
	bool has_pool;
	uint8_t ip[NOLOG_IP_SIZE];   /* the session IP */
	uint8_t pool[NOLOG_IP_SIZE]; /* the address in the tunnel, IPv4 before IPv6 */
	uint8_t account[NOLOG_ACCOUNT_SIZE];
};

/* The value of a variable, NULL when it is not set.  Borrowed until the next call. */
typedef const char *openvpn_getenv_fn(const char *name, void *arg);

/*
 * Reads an event.  0; -ENOENT: this is neither of the two hooks; -EINVAL: a
 * variable is missing or is not what OpenVPN writes, and *what is its name.
 */
int openvpn_event_read(struct openvpn_event *out, enum openvpn_session_ip session_ip,
		       enum openvpn_account account, openvpn_getenv_fn *get, void *arg,
		       const char **what);

#endif
