/*
 * Listening sockets that are passed on: what the files about them share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef UTIL_HAND_OVER_LISTENER_H
#define UTIL_HAND_OVER_LISTENER_H

/*
 * Source: listeners @claimed (indices of what was collected) are held from now
 * on.  False with @errp set if one of them can't be.
 */
bool hand_over_listeners_release(const uint32_t *claimed, size_t n_claimed,
                                 Error **errp);

/* Source: no listener is held any more */
void hand_over_listeners_restore(void);

/* Destination: no inherited socket is held any more */
void hand_over_listeners_drop_inherited(void);

/* Is it inherited socket @fd, whose number in the source is @source_fd? */
typedef bool HandOverMatch(int fd, int source_fd, const void *opaque);

/*
 * Destination: claim the first inherited socket that @match accepts and that
 * nobody has claimed.  Its descriptor, or -1.
 */
int hand_over_inherit_claim(HandOverMatch *match, const void *opaque);

#endif
