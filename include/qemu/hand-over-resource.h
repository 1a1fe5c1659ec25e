/*
 * What two QEMUs on one host can't hold at the same time: listening
 * sockets, the PID file, forwarded ports.
 *
 * A hand-over (see migration/hand-over.h) that starts the new QEMU itself
 * passes these on: the destination leaves them alone while it starts, the
 * source lets go of them at the commit, the destination takes them before
 * it acknowledges, and the source gets them back where the hand-over fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_HAND_OVER_RESOURCE_H
#define QEMU_HAND_OVER_RESOURCE_H

#include "qapi/qapi-types-sockets.h"

/*
 * HandOverResourceOps: a kind of resource.
 *
 * @name: for messages, e.g. "PID file"
 * @release: source, main thread, guest stopped: let go, so that another
 *           process can have it
 * @restore: source, BQL held, after @release, when the hand-over failed and the
 *           destination is gone: get it back.  What can't be had back is
 *           reported (error_report), not fatal: the guest is worth more.
 * @take: destination, main thread, guest not running: make it ours.
 *        Returns false with @errp set if that can't be.
 *
 * Each may be NULL.
 */
typedef struct HandOverResourceOps {
    const char *name;
    bool (*release)(void *opaque, Error **errp);
    void (*restore)(void *opaque);
    bool (*take)(void *opaque, Error **errp);
} HandOverResourceOps;

void hand_over_resource_register(const HandOverResourceOps *ops, void *opaque);
void hand_over_resource_unregister(const HandOverResourceOps *ops,
                                   void *opaque);

/*
 * Source: release everything, listening sockets included.  @claimed holds
 * the indices (uint32_t) of those sockets of hand_over_listeners_collect()
 * that the destination takes.  On failure all is restored and false returned.
 */
bool hand_over_resources_release(const uint32_t *claimed, size_t n_claimed,
                                 Error **errp);

/* Source: get everything back.  No-op where nothing was released. */
void hand_over_resources_restore(void);

/*
 * Who listens on a stream socket says so, BQL held: from when it is there until
 * just before @fd is closed.  @changed is called in the main thread when
 * hand_over_listener_is_held() may have changed.
 */
void hand_over_listener_add(int fd, void (*changed)(void *opaque),
                            void *opaque);
void hand_over_listener_remove(int fd);

/* Does somebody here listen on @fd? */
bool hand_over_is_listener(int fd);

/* Is it another process that accepts on @fd?  Then don't poll it. */
bool hand_over_listener_is_held(int fd);

/*
 * @fd, a listening socket, is going to be closed.  False: another process
 * listens there, and what leads to it must stay.
 */
bool hand_over_listener_owns_path(int fd);

/*
 * @fd: a duplicate of a listening socket's descriptor
 * @number: the descriptor's own number
 */
typedef struct HandOverListening {
    int fd;
    int number;
} HandOverListening;

/*
 * Source, BQL held: this process's listening sockets, an array of
 * HandOverListening that closes the duplicates when it is freed.  Its order is
 * what @claimed of hand_over_resources_release() refers to.
 * Remembered until the next call.
 */
GArray *hand_over_listeners_collect(void);

/*
 * Destination.  True from the start of a QEMU that a hand-over started,
 * until it has taken everything: who wants such a resource must leave it
 * alone now, and take it in its take().
 */
bool hand_over_inheriting(void);

/* Destination, before any option is acted upon */
void hand_over_inherit_begin(void);

/*
 * Destination: @fd (ownership passes) is a listening socket of the source,
 * where its number was @source_fd.
 */
void hand_over_inherit_listener(int fd, int source_fd);

/*
 * Destination, before anything is opened: keep all numbers that @argv names
 * from being taken by files of QEMU's own, until hand_over_inherit_numbers().
 */
void hand_over_inherit_reserve(char **argv);

/*
 * Destination, all of them are there: give them the numbers that they had in
 * the source, by which a command line may name them.  *@sock, a descriptor, may
 * be moved out of the way.
 */
void hand_over_inherit_numbers(int *sock);

/*
 * Destination, for who is about to bind and listen: the number of a socket
 * to use instead, which is inherited, and is the caller's; or -1 if there is
 * none at @addr.  It is held until all is taken.
 */
int hand_over_inherit_socket(const SocketAddress *addr);

/* As above; @more: so many ports after the one in @sa will do as well */
int hand_over_inherit_socket_at(const struct sockaddr *sa, socklen_t salen,
                                uint16_t more);

/*
 * Destination, all devices and monitors created: indices of the inherited
 * sockets that somebody here listens on, in a new array of uint32_t; closes
 * the others.
 */
GArray *hand_over_inherit_claimed(void);

/*
 * Destination: take everything but the listening sockets.
 * Returns false with @errp set when something can't be taken.
 */
bool hand_over_resources_take(Error **errp);

/*
 * Destination, the guest is ours: take the listening sockets, clients that
 * wait there included.  hand_over_inheriting() is false afterwards.
 */
void hand_over_listeners_take(void);

#endif
