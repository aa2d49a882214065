/* SPDX-License-Identifier: ISC */
/*
 * openvpn_status: the byte counts of connected clients from OpenVPN's status
 * file (status-version 2 or 3).
 *
 * Pure: bytes in, a call for each client out.  It looks at the CLIENT_LIST
 * only, and there at six columns, which it finds by the file's own header; it
 * refuses to know where a client comes from.
 */
#ifndef OPENVPN_STATUS_H
#define OPENVPN_STATUS_H

#include "openvpn_event.h"

/* One connected client.  name is borrowed for the call; NULL: it has none. */
struct openvpn_client {
	uint8_t pool[NOLOG_IP_SIZE];
	int64_t start_ms;
	uint64_t rx;
	uint64_t tx;
	const char *name;
	size_t name_len;
};

typedef void openvpn_client_fn(const struct openvpn_client *client, void *arg);

/*
 * Calls fn for every client in text.  A line that is not what the header
 * promises is passed over: names can be chosen by users, and one with a
 * separator in it must not move another's bytes.  -EBADMSG, and no call: this
 * is not a whole file of version 2 or 3 (it may be half written).
 */
int openvpn_status_read(const char *text, size_t len, enum openvpn_account account,
			openvpn_client_fn *fn, void *arg);

#endif
