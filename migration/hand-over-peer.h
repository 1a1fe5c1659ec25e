/*
 * Hand-over: the process at the other end: its credentials, and whether it is
 * alive
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_PEER_H
#define MIGRATION_HAND_OVER_PEER_H

#include "hand-over-wire.h"
#include "hand-over-internal.h"

/*
 * @pidfd: descriptor that becomes readable when the peer has died, or -1
 * @pid: its process ID
 */
typedef struct HandOverPeer {
    int pidfd;
    int64_t pid;
} HandOverPeer;

#define HAND_OVER_PEER_INIT ((HandOverPeer) { .pidfd = -1 })

/*
 * How long an exiting peer may take until it is dead, in ns.  A process closes
 * its descriptors some time before it is dead: tearing down a large guest may
 * come in between.
 */
#define HAND_OVER_DEATH_TIMEOUT_NS (30 * NANOSECONDS_PER_SECOND)

/* Is @ioc local, so that descriptors and guest memory may be sent over it? */
bool hand_over_channel_is_local(QIOChannel *ioc);

/*
 * A dummy descriptor, to prove that descriptors can pass through @ioc; -1 if
 * none can be sent.  The caller closes it.
 */
int hand_over_peer_token(QIOChannel *ioc);

/*
 * Check the peer's credentials: may it receive and send what goes over @ioc?
 * Its user must be one of -machine hand-over-peers (default: this process's
 * own user, and root).  False with @errp set if not, or if @ioc is not a UNIX
 * socket.
 *
 * The kernel reports the credentials of the process that listened to the one
 * that connected, and vice versa (unix(7), SO_PEERCRED), as of that time.  A
 * source that was passed a connected socket by a management tool sees the QEMU
 * that is to get the guest; the destination sees the management tool.
 */
bool hand_over_peer_check(QIOChannel *ioc, Error **errp);

/*
 * Can socket @path only have been created by, and connected to by, this
 * process's user and root?  True as well if it is not a socket.
 */
bool hand_over_peer_check_path(const char *path, Error **errp);

/* Send "hello"; @claimed (array of uint32_t) may be NULL */
bool hand_over_peer_send_hello(HandOverWire *wire, GArray *claimed,
                               Error **errp);

/*
 * Receive "hello", fill in @peer, and settle the protocol version to use from
 * here on.  @deadline and @eof as for hand_over_recv().
 */
HandOverMessage *coroutine_mixed_fn
hand_over_peer_recv_hello(HandOverWire *wire, HandOverPeer *peer,
                          int64_t deadline, bool *eof, Error **errp);

/*
 * The peer has closed the connection: has it died?  If it is exiting, wait
 * until it has.
 */
bool hand_over_peer_wait_death(const HandOverPeer *peer);

/* Kill the peer if it is alive */
void hand_over_peer_kill(const HandOverPeer *peer);

/*
 * The same, and wait until it is dead.  False if it may still be alive: this
 * process may lack permission to signal it.
 */
bool hand_over_peer_end(const HandOverPeer *peer);

void hand_over_peer_clear(HandOverPeer *peer);

#endif
