/*
 * Hand-over: what the guest has asked for just before it is stopped
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_REQUESTS_H
#define MIGRATION_HAND_OVER_REQUESTS_H

/* All of these: BQL held */

/* Once, before there is a guest */
void hand_over_requests_init(void);

/*
 * The guest is about to leave this process, or to come to it: from here on the
 * main loop acts on no request, and hand_over_in_flight() is true.  May release
 * the BQL for a while (qemu_system_requests_hold()).
 */
void hand_over_requests_hold(void);

/* Source: the guest stands still.  What it has asked for goes with its state. */
void hand_over_requests_collect(void);

/*
 * Source: the guest has gone, with all of that.  It is remembered, should the
 * guest come back.
 */
void hand_over_requests_gone(void);

/*
 * Source: the hand-over failed, or the guest has come back.  What it has asked for
 * is asked for when it runs (@will_run: it does so next, or when somebody says
 * so), or at once.
 */
void hand_over_requests_here(bool will_run);

/* The same for the destination that has the guest now */
void hand_over_requests_arrived(bool will_run);

/*
 * What waits for the guest to run here is asked for at once: it leaves by a
 * migration that does not take it along.
 */
void hand_over_requests_put_now(void);

/* No guest has come, or it has become another one */
void hand_over_requests_drop(void);

#endif
