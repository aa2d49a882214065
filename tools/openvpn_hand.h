/* SPDX-License-Identifier: ISC */
/*
 * openvpn_hand: hands a hook's event to the background process, and starts it
 * when there is none.
 *
 * The two find each other by a name in the abstract namespace, which is no
 * file.  It is made from the run directory, the server ID and the user; whoever
 * else takes the name is told nothing, since both ends ask the kernel who the
 * other is.
 */
#ifndef OPENVPN_HAND_H
#define OPENVPN_HAND_H

#include "openvpn_agent.h"

/*
 * True when the process that the environment calls the server has started this
 * one, perhaps through a shell.  Else it may be anybody: the variables come
 * from a test, or from a server that is gone.
 */
bool openvpn_called_by(int32_t server);

/*
 * run_dir and m->status are absolute; an agent is started only if m->watch.
 * Returns within a second, usually within milliseconds; *answer says what has
 * become of the event.  Sets m->counted when the bytes of a session that ends are
 * left out, since an agent that is gone may have counted them in part.
 */
void openvpn_hand_over(const char *run_dir, const char *server, struct openvpn_message *m,
		       struct openvpn_answer *answer);

#endif
