/*
 * What two QEMUs on one host can't hold at the same time: listening
 * sockets, the PID file, forwarded ports.
 *
 * A hand-over (see migration/hand-over.h) that starts the new QEMU itself
 * passes these on: the destination leaves them alone while it starts, the
 * source releases them at the commit, the destination takes them before it
 * acknowledges, and the source takes them back if the hand-over fails.
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
 * @release: source, main thread, guest stopped: release the resource, so that
 *           another process can have it
 * @restore: source, BQL held, after @release, when the hand-over has failed and
 *           the destination is gone: take it back.  Failure is reported
 *           (error_report), but not fatal: the guest is worth more.
 * @take: destination, main thread, guest not running: acquire the resource.
 *        Returns false with @errp set on failure.
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

/* Source: take everything back.  No-op if nothing was released. */
void hand_over_resources_restore(void);

/*
 * Every listener on a stream socket must be registered, BQL held: from the
 * moment that it listens until just before @fd is closed.  @changed is called
 * in the main thread when hand_over_listener_is_held() may have changed.
 */
void hand_over_listener_add(int fd, void (*changed)(void *opaque),
                            void *opaque);
void hand_over_listener_remove(int fd);

/* Is @fd registered as a listener? */
bool hand_over_is_listener(int fd);

/* Does another process accept clients on @fd?  Then it must not be polled. */
bool hand_over_listener_is_held(int fd);

/*
 * @fd, a listening socket, is going to be closed.  False: another process
 * listens on the socket, and its path must not be unlinked.
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
 * HandOverListening that closes the duplicates when it is freed.  @claimed of
 * hand_over_resources_release() has indices into the array of the last call.
 */
GArray *hand_over_listeners_collect(void);

/*
 * Destination.  True in a QEMU started by a hand-over, until it has taken
 * everything: such a resource must not be acquired yet, but in its @take
 * function.
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
 * Find the next decimal number in *@text, which is moved behind it.  UINT64_MAX
 * stands for one that is too large.  False if there is none.
 */
bool hand_over_next_number(const char **text, uint64_t *number);

/*
 * Destination, before anything is opened: reserve all numbers that @argv names,
 * so that QEMU's own files don't get them, until hand_over_inherit_numbers().
 */
void hand_over_inherit_reserve(char **argv);

/*
 * Destination, all listeners inherited: give them the numbers that they had in
 * the source, by which a command line may name them.  *@sock, a descriptor, may
 * be moved out of the way.
 */
void hand_over_inherit_numbers(int *sock);

/*
 * Destination, instead of bind() and listen(): an inherited listening socket at
 * @addr, whose ownership passes to the caller; or -1 if there is none.  It is
 * held until everything is taken.
 */
int hand_over_inherit_socket(const SocketAddress *addr);

/* As above; @more: this many ports after the one in @sa are acceptable, too */
int hand_over_inherit_socket_at(const struct sockaddr *sa, socklen_t salen,
                                uint16_t more);

/*
 * Destination, all devices and monitors created: indices of the inherited
 * sockets that this process listens on, in a new array of uint32_t; closes
 * the others.
 */
GArray *hand_over_inherit_claimed(void);

/*
 * Destination: take everything but the listening sockets.
 * Returns false with @errp set if something can't be taken.
 */
bool hand_over_resources_take(Error **errp);

/*
 * Destination, the guest is ours: take the listening sockets, including the
 * clients in their backlogs.  hand_over_inheriting() is false afterwards.
 */
void hand_over_listeners_take(void);

#endif
