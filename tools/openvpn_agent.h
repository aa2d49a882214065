/* SPDX-License-Identifier: ISC */
/*
 * openvpn_agent: the background process of nolog-openvpn.  It takes events from
 * the hooks, keeps them in memory until nologd has them, reads the status file
 * on its tick, and watches the OpenVPN server: it ends after it.
 *
 * It writes no file and prints nothing; it decides nothing about sessions,
 * which is openvpn_book's.
 */
#ifndef OPENVPN_AGENT_H
#define OPENVPN_AGENT_H

#include "openvpn_event.h"

#define OPENVPN_PATH_MAX 512

/*
 * What a hook hands over.  Both ends are the same program on the same machine,
 * but it may have been upgraded while the agent was running.  So fields are only
 * added, behind the others, and an agent passes over those it does not know; an
 * agent that is told another version makes room for one that understands it.
 */
struct openvpn_message {
	uint64_t version; /* OPENVPN_MESSAGE_VERSION */
	struct openvpn_event event;
	bool watch;		       /* event.daemon_pid is the server that runs this hook */
	bool counted;		       /* an agent may have counted some of the session's bytes */
	enum openvpn_account account;  /* whose column of the status file */
	int64_t tick_ms;	       /* how often it is read */
	char status[OPENVPN_PATH_MAX]; /* the status file, "" for none, or for the one before */
};

/* In the upper half what no other program says; in the lower one the layout. */
#define OPENVPN_MESSAGE_MAGIC 0x6e6f766eu
#define OPENVPN_MESSAGE_VERSION                  \
	((uint64_t)OPENVPN_MESSAGE_MAGIC << 32 | \
	 (uint64_t)offsetof(struct openvpn_message, status) << 8 | 2)

/* What has become of it so far. */
enum openvpn_outcome {
	OPENVPN_DONE,	 /* nologd has it */
	OPENVPN_REFUSED, /* nologd refused it: code */
	OPENVPN_LATE,	 /* nologd has not acknowledged it yet */
	OPENVPN_AWAY,	 /* no nologd there; it will be sent later */
	OPENVPN_DENIED,	 /* nologd does not take this server's reports, or not this user's */
	OPENVPN_STRANGE, /* what answers is not nologd */
	OPENVPN_FULL,	 /* not taken: too many sessions, or no memory */
	OPENVPN_UNHEARD, /* not taken: there is no agent, or it does not answer */
};

struct openvpn_answer {
	uint32_t sessions;   /* enum openvpn_outcome */
	uint32_t usage;	     /* the same, of what counts; DONE also for what waits for the tick */
	uint32_t code;	     /* of sessions OPENVPN_REFUSED */
	uint32_t shared;     /* another OpenVPN server that lives reports as this one */
	uint32_t usage_code; /* of usage OPENVPN_REFUSED, which is said once: of any session */
	uint32_t blind;	     /* no status file can be read, which is said once */
};

struct openvpn_agent_config {
	const char *run_dir;
	const char *server;
	int listen_fd;	 /* where hooks come to; -1: there is only the one at peer_fd */
	int peer_fd;	 /* a hook that is connected already, or -1 */
	int64_t life_ms; /* without listen_fd: the most time to spend */
};

/* Runs until there is nothing left to do; takes the descriptors.  0 or -errno. */
int openvpn_agent_run(const struct openvpn_agent_config *config);

#endif
