/*
 * Hand-over: requests that the guest makes just before it is stopped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_REQUESTS_H
#define MIGRATION_HAND_OVER_REQUESTS_H

/* All of these: BQL held */

/* To be called once, before there is a guest */
void hand_over_requests_init(void);

/*
 * The guest is about to leave this process, or to come to it: from here on the
 * main loop acts on no request, and hand_over_in_flight() is true.  May release
 * the BQL for a while (qemu_system_requests_hold()).
 */
void hand_over_requests_hold(void);

/* Source: the guest is stopped.  Its pending requests go with its state. */
void hand_over_requests_collect(void);

/*
 * Source: the guest has left, along with its requests.  They are remembered in
 * case the guest comes back.
 */
void hand_over_requests_gone(void);

/*
 * Source: the hand-over failed, or the guest has come back.  Submit its
 * requests when it runs (@will_run: it will run next, or on command), or else
 * at once.
 */
void hand_over_requests_here(bool will_run);

/* The same for the destination that has the guest now */
void hand_over_requests_arrived(bool will_run);

/*
 * Submit at once the requests that wait for the guest to run here: it leaves by
 * a migration that does not take them along.
 */
void hand_over_requests_put_now(void);

/* Drop all requests: no guest has arrived, or it has been replaced */
void hand_over_requests_drop(void);

#endif
