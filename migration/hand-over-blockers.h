/*
 * Hand-over: blockers of any hand-over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_BLOCKERS_H
#define MIGRATION_HAND_OVER_BLOCKERS_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Main thread: append everything that currently prevents a hand-over of this
 * guest to the list at @tail.
 */
void hand_over_check_guest(HandOverBlockerList ***tail);

/* The same, for a migration that has begun and may become a hand-over */
void hand_over_check_switch(HandOverBlockerList ***tail);

/*
 * Append a blocker to the list at @tail: a human-readable reason, and the
 * command line option (NULL: none) that would remove it or that causes it.
 */
void G_GNUC_PRINTF(3, 4)
hand_over_block(HandOverBlockerList ***tail, const char *option,
                const char *fmt, ...);

/* False if @list is empty; else true, with @errp set to its first reason */
bool hand_over_blockers_to_error(const HandOverBlockerList *list,
                                 Error **errp);

#endif
