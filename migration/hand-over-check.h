/*
 * Hand-over: what is in the way
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_HAND_OVER_CHECK_H
#define MIGRATION_HAND_OVER_CHECK_H

#include "qapi/qapi-types-hand-over.h"

/*
 * Main thread: append what makes a hand-over of this guest impossible now to
 * the list at @tail.
 */
void hand_over_check_guest(HandOverBlockerList ***tail);

/* The same, of a migration that has begun, and may become a hand-over */
void hand_over_check_switch(HandOverBlockerList ***tail);

/*
 * Append a blocker to the list at @tail: a reason for people, and the command
 * line option (NULL: none) that would remove it, or that it comes from.
 */
void G_GNUC_PRINTF(3, 4)
hand_over_block(HandOverBlockerList ***tail, const char *option,
                const char *fmt, ...);

/* False if @list is empty; else true, with @errp set to what it says */
bool hand_over_blockers_to_error(const HandOverBlockerList *list,
                                 Error **errp);

/*
 * Main thread: append to the list at @tail what this process can't pass on
 * to a QEMU that it starts, each with the option that it comes from.
 *
 * @own_command_line: it is to be started with this process's command line,
 *                    and so with nothing that came later
 */
void hand_over_check_exec(bool own_command_line, HandOverBlockerList ***tail);

#endif
