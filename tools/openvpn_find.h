/* SPDX-License-Identifier: ISC */
/*
 * openvpn_find: where an OpenVPN server writes its status file, from what the
 * system tells of its process: the command line, the configuration files that
 * are named there, and the files it has open.
 *
 * It reads of all these what is about the status file, and keeps nothing else:
 * a configuration may hold keys, and is wiped.
 */
#ifndef OPENVPN_FIND_H
#define OPENVPN_FIND_H

#include "openvpn_agent.h"

struct openvpn_found {
	char path[OPENVPN_PATH_MAX]; /* absolute */
	int64_t tick_ms;	     /* how often OpenVPN writes it, 0: not told */
};

/*
 * proc is the server's directory in /proc; config is its first configuration
 * file as its hooks are told (NULL: not told).  Relative names start at the
 * server's directory, or where that cannot be told at this process's, which a
 * hook has from its server.  0; -ENOENT: there is none, it cannot be read by
 * this process, or it is of a version that openvpn_status does not read.
 */
int openvpn_find_status(struct openvpn_found *out, const char *proc, const char *config);

#endif
