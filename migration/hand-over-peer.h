/*
 * Hand-over: who is at the other end, and does it live?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_PEER_H
#define MIGRATION_HAND_OVER_PEER_H

#include "hand-over-wire.h"
#include "hand-over-internal.h"

/*
 * @pidfd: descriptor that can be read when the peer has died, or -1
 * @pid: its process ID
 */
typedef struct HandOverPeer {
    int pidfd;
    int64_t pid;
} HandOverPeer;

#define HAND_OVER_PEER_INIT ((HandOverPeer) { .pidfd = -1 })

/*
 * How long a peer that is ending may take to be dead, in ns.  Closing its
 * descriptors and being dead are two moments; tearing down a big guest may lie
 * between them.
 */
#define HAND_OVER_DEATH_TIMEOUT_NS (30 * NANOSECONDS_PER_SECOND)

/* May descriptors and a guest's memory be sent over @ioc: is it local? */
bool hand_over_channel_is_local(QIOChannel *ioc);

/*
 * A descriptor of nothing, to show that descriptors come through @ioc; -1 if
 * none can be sent.  The caller closes it.
 */
int hand_over_peer_token(QIOChannel *ioc);

/*
 * Is it allowed to have, and to give, what is sent over @ioc?  Its user must be
 * one of -machine hand-over-peers: ours, or root, where that is not set.  False
 * with @errp set if not, or if @ioc is no UNIX socket.
 *
 * The kernel tells the credentials of who listens to who connects, and the other
 * way round (unix(7), SO_PEERCRED), as they were then.  A source that was given
 * a connected socket by a management tool sees the QEMU that is to have the
 * guest; that one sees the management tool.
 */
bool hand_over_peer_check(QIOChannel *ioc, Error **errp);

/*
 * Is socket @path one that only we and root can have made, and connect to?
 * What is no socket is not our concern.
 */
bool hand_over_peer_check_path(const char *path, Error **errp);

/* Send "hello"; @claimed (array of uint32_t) may be NULL */
bool hand_over_peer_send_hello(HandOverWire *wire, GArray *claimed,
                               Error **errp);

/*
 * Receive "hello", fill in @peer, and settle which version is spoken from
 * here on.  @deadline and @eof as for hand_over_recv().
 */
HandOverMessage *coroutine_mixed_fn
hand_over_peer_recv_hello(HandOverWire *wire, HandOverPeer *peer,
                          int64_t deadline, bool *eof, Error **errp);

/*
 * It has closed the connection: has it died?  If it is about to, wait for
 * that.
 */
bool hand_over_peer_wait_death(const HandOverPeer *peer);

/* End it, if it lives */
void hand_over_peer_kill(const HandOverPeer *peer);

/*
 * The same, and wait until it has ended.  False if it may live: we may not be
 * allowed to send it a signal.
 */
bool hand_over_peer_end(const HandOverPeer *peer);

void hand_over_peer_clear(HandOverPeer *peer);

#endif
